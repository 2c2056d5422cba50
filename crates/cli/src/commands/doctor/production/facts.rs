//! Reads what the kernel says of itself, its processor and its memory. Judges nothing.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use super::super::{
    finding::Finding,
    fix::{Shell, quote},
};

/// What a file says, without the space around it, or why that is not known.
pub(super) type Told = Result<String, Untold>;

/// A file that did not say anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Untold {
    /// The file, as users find it.
    pub(super) path: PathBuf,
    /// Why.
    pub(super) kind: io::ErrorKind,
}

impl Untold {
    /// Whether it is not there.
    pub(super) fn is_absent(&self) -> bool {
        self.kind == io::ErrorKind::NotFound
    }

    /// The finding where it was needed.
    pub(super) fn finding(&self, name: &str, shell: &Shell) -> Finding {
        let path = quote(&self.path);
        let fix = match self.kind {
            io::ErrorKind::PermissionDenied if !shell.is_root => shell.as_root(&format!("cat {path}")),
            io::ErrorKind::NotFound => {
                "look on the host itself, not in a container; boot a newer kernel if it is missing there too"
                    .to_owned()
            }
            _ => format!("cat {path}"),
        };
        Finding::unknown(name, self.to_string(), fix)
    }
}

impl fmt::Display for Untold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be read: {}", self.path.display(), self.kind)
    }
}

/// A place that memory is swapped to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Swap {
    /// The device or file.
    pub(super) path: String,
    /// Whether what is written there can be read later, by whoever has the disk.
    pub(super) lasts: bool,
}

/// All that was read. Each is the text of one file, unless it says otherwise.
pub(in super::super) struct ProductionFacts {
    /// Whether `/sys` is the kernel's: then a file that is not there says that the kernel lacks something.
    pub(super) has_sysfs: bool,
    /// `/proc/cpuinfo`.
    pub(super) cpuinfo: Told,
    /// `/proc/cmdline`.
    pub(super) command_line: Told,
    /// `/proc/sys/kernel/osrelease`.
    pub(super) release: Told,
    /// `smt/active` of the processors: 1 while threads share a core.
    pub(super) smt_active: Told,
    /// `smt/control` of the processors: why they do, or do not.
    pub(super) smt_control: Told,
    /// Each known vulnerability of processors, and what the kernel says of it here, in the order of names.
    pub(super) vulnerabilities: Result<Vec<(String, Told)>, Untold>,
    /// For which vendors' processors there is microcode that the kernel could load.
    pub(super) microcode_for: Vec<&'static str>,
    /// `/sys/kernel/mm/ksm/run`.
    pub(super) ksm_run: Told,
    /// `/sys/kernel/mm/ksm/pages_sharing`.
    pub(super) ksm_sharing: Told,
    /// Where memory is swapped to.
    pub(super) swaps: Result<Vec<Swap>, Untold>,
    /// How each memory module detects errors; none where no driver knows.
    pub(super) error_correction: Vec<Told>,
    /// KVM's parameter `nx_huge_pages`.
    pub(super) nx_huge_pages: Told,
    /// KVM's parameter `min_timer_period_us`.
    pub(super) min_timer_period: Told,
    /// `/proc/self/mounts`.
    pub(super) mounts: Told,
    /// `/proc/consoles`.
    pub(super) consoles: Told,
    /// `/proc/sys/kernel/printk`: the first number is the level below which messages go to consoles.
    pub(super) printk: Told,
}

impl ProductionFacts {
    /// Reads all. `root` is `/`, but in tests.
    pub(in super::super) fn read(root: &Path) -> Self {
        let files = Files { root };
        Self {
            has_sysfs: root.join("sys/kernel").is_dir(),
            cpuinfo: files.told("/proc/cpuinfo"),
            command_line: files.told("/proc/cmdline"),
            release: files.told("/proc/sys/kernel/osrelease"),
            smt_active: files.told("/sys/devices/system/cpu/smt/active"),
            smt_control: files.told("/sys/devices/system/cpu/smt/control"),
            vulnerabilities: files.vulnerabilities(),
            microcode_for: files.microcode_for(),
            ksm_run: files.told("/sys/kernel/mm/ksm/run"),
            ksm_sharing: files.told("/sys/kernel/mm/ksm/pages_sharing"),
            swaps: files.swaps(),
            error_correction: files.error_correction(),
            nx_huge_pages: files.told("/sys/module/kvm/parameters/nx_huge_pages"),
            min_timer_period: files.told("/sys/module/kvm/parameters/min_timer_period_us"),
            mounts: files.told("/proc/self/mounts"),
            consoles: files.told("/proc/consoles"),
            printk: files.told("/proc/sys/kernel/printk"),
        }
    }
}

/// The files of a host.
struct Files<'a> {
    root: &'a Path,
}

impl Files<'_> {
    fn place(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn told(&self, path: &str) -> Told {
        fs::read_to_string(self.place(path))
            .map(|text| text.trim().to_owned())
            .map_err(|error| Untold { path: path.into(), kind: error.kind() })
    }

    /// The names in a directory, in order.
    fn names(&self, path: &str) -> Result<Vec<String>, Untold> {
        let untold = |error: io::Error| Untold { path: path.into(), kind: error.kind() };
        let mut names = Vec::new();
        for entry in fs::read_dir(self.place(path)).map_err(untold)? {
            names.push(entry.map_err(untold)?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn vulnerabilities(&self) -> Result<Vec<(String, Told)>, Untold> {
        const DIRECTORY: &str = "/sys/devices/system/cpu/vulnerabilities";
        let read = |name: String| {
            let told = self.told(&format!("{DIRECTORY}/{name}"));
            (name, told)
        };
        Ok(self.names(DIRECTORY)?.into_iter().map(read).collect())
    }

    fn microcode_for(&self) -> Vec<&'static str> {
        // Where Debian's intel-microcode and amd64-microcode, and linux-firmware elsewhere, put it.
        let has_files = |directory: &str| {
            ["/lib/firmware", "/usr/lib/firmware"].iter().any(|parent| {
                self.names(&format!("{parent}/{directory}")).is_ok_and(|files| !files.is_empty())
            })
        };
        [("intel-ucode", "GenuineIntel"), ("amd-ucode", "AuthenticAMD")]
            .into_iter()
            .filter_map(|(directory, vendor)| has_files(directory).then_some(vendor))
            .collect()
    }

    fn swaps(&self) -> Result<Vec<Swap>, Untold> {
        let text = self.told("/proc/swaps")?;
        // The first line names the columns. A space in a path is written as \040.
        let paths = text.lines().skip(1).filter_map(|line| line.split_whitespace().next());
        Ok(paths.map(|path| Swap { path: path.to_owned(), lasts: self.lasts(path) }).collect())
    }

    /// Whether what is swapped to a device or file outlives this boot, readably.
    fn lasts(&self, path: &str) -> bool {
        let Some(device) = path.strip_prefix("/dev/").filter(|device| !device.contains('/')) else {
            // A file: that its file system is encrypted cannot be seen in one place.
            return true;
        };
        // Compressed memory, unless it is written back to a disk.
        if device.starts_with("zram") {
            let backing = self.told(&format!("/sys/block/{device}/backing_dev"));
            return backing.is_ok_and(|backing| backing != "none");
        }
        // The device mapper's name for what it encrypts, or for a volume upon something that it encrypts.
        let is_encrypted = |device: &str| {
            self.told(&format!("/sys/block/{device}/dm/uuid")).is_ok_and(|uuid| uuid.starts_with("CRYPT-"))
        };
        let beneath = self.names(&format!("/sys/block/{device}/slaves")).unwrap_or_default();
        let all_beneath = !beneath.is_empty() && beneath.iter().all(|device| is_encrypted(device));
        !is_encrypted(device) && !all_beneath
    }

    /// How errors of memory are detected, as the drivers of memory controllers (EDAC) know it.
    fn error_correction(&self) -> Vec<Told> {
        const DIRECTORY: &str = "/sys/devices/system/edac/mc";
        let mut modes = Vec::new();
        for controller in self.names(DIRECTORY).unwrap_or_default() {
            let modules = self.names(&format!("{DIRECTORY}/{controller}")).unwrap_or_default();
            for module in modules {
                if ["dimm", "rank"]
                    .iter()
                    .any(|kind| module.strip_prefix(kind).is_some_and(|number| number.parse::<u32>().is_ok()))
                {
                    modes.push(self.told(&format!("{DIRECTORY}/{controller}/{module}/dimm_edac_mode")));
                }
            }
        }
        modes
    }
}

#[cfg(test)]
#[path = "facts_tests.rs"]
mod tests;
