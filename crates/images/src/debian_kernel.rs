//! Gets a kernel from Debian's archive through the system's own `apt`, which checks signatures, without installing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::program::{Program, ProgramError};
use crate::progress::Progress;
use crate::rootfs::{InvalidPackageName, check_package_name};

/// Tried in this order. The 6.12 kernel comes first because it has virtio-console, virtio-pci and VMGENID built in.
const DEFAULT_PACKAGES: [&str; 2] = ["linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64"];

/// Metapackage, its metapackage, kernel: Debian has two steps at most.
const METAPACKAGE_DEPTH_LIMIT: usize = 3;

/// A kernel and its modules, as distributions ship them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KernelFiles {
    /// `vmlinux` or `bzImage`.
    pub(crate) kernel: PathBuf,
    /// `lib/modules/<release>`.
    pub(crate) modules: PathBuf,
    /// Where they came from.
    pub(crate) description: String,
}

/// A kernel could not be had from Debian.
#[derive(Debug, thiserror::Error)]
pub enum DebianKernelError {
    /// The package's name cannot be one.
    #[error("cannot look for the kernel package")]
    Name(
        /// Why.
        #[from]
        InvalidPackageName,
    ),
    /// `apt` knows no such package.
    #[error("apt knows no package {}", packages.join(" or "))]
    Unknown {
        /// Those that were tried.
        packages: Vec<String>,
    },
    /// The download failed.
    #[error("cannot download {package}")]
    Download {
        /// The kernel's package.
        package: String,
        /// Why.
        #[source]
        source: ProgramError,
    },
    /// The package cannot be unpacked.
    #[error("cannot unpack {}", path.display())]
    Unpack {
        /// The downloaded file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ProgramError,
    },
    /// The package manager could not be asked.
    #[error("cannot ask apt for {package}")]
    Ask {
        /// The package.
        package: String,
        /// Why.
        #[source]
        source: ProgramError,
    },
    /// The package has no kernel in it.
    #[error("package {package} holds no {what}")]
    NoKernel {
        /// The package.
        package: String,
        /// What is absent.
        what: &'static str,
    },
    /// The directory to work in cannot be used.
    #[error("cannot use {}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl DebianKernelError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Name(source) => source.hint(),
            Self::Unknown { .. } => Some(
                "refresh the package lists with `apt-get update`, or give a kernel and its modules as files"
                    .to_owned(),
            ),
            Self::Download { source, .. } => Some(
                source.hint().unwrap_or_else(|| "refresh the package lists with `apt-get update`".to_owned()),
            ),
            Self::Ask { source, .. } | Self::Unpack { source, .. } => source.hint(),
            Self::NoKernel { .. } => Some("name a package such as linux-image-cloud-amd64".to_owned()),
            Self::Directory { path, source } => crate::staging::io_hint(path, source),
        }
    }
}

/// Downloads and unpacks a kernel package below the new directory `directory`.
pub(crate) fn download(
    package: Option<&str>,
    directory: &Path,
    progress: &dyn Progress,
) -> Result<KernelFiles, DebianKernelError> {
    let candidates: Vec<&str> = package.map_or_else(|| DEFAULT_PACKAGES.to_vec(), |package| vec![package]);
    for candidate in &candidates {
        check_package_name(candidate)?;
    }
    progress.step("looking for a kernel package");
    let package = resolve(&candidates)?;
    fs::create_dir(directory)
        .map_err(|source| DebianKernelError::Directory { path: directory.to_owned(), source })?;
    progress.step(&format!("downloading {package}"));
    Program::new("apt-get", "apt")
        // The temporary directory is ours alone: `_apt` could not write there, and apt would warn.
        .arguments(["-q", "-o", "APT::Sandbox::User=root", "download"])
        .argument(&package)
        .directory(directory)
        .run()
        .map_err(|source| DebianKernelError::Download { package: package.clone(), source })?;
    let archive = only_entry(directory, |name| name.starts_with(&package))?
        .ok_or_else(|| DebianKernelError::NoKernel { package: package.clone(), what: "file" })?;
    progress.step(&format!("unpacking {package}"));
    let tree = directory.join("tree");
    Program::new("dpkg-deb", "dpkg")
        .argument("-x")
        .arguments([&archive, &tree])
        .run()
        .map_err(|source| DebianKernelError::Unpack { path: archive.clone(), source })?;
    let version =
        archive.file_stem().map(|stem| stem.to_string_lossy().replace("%3a", ":")).unwrap_or_default();
    find_files(&tree, &package, format!("Debian package {version}"))
}

/// The package with the kernel itself, for the first of `candidates` that `apt` knows.
fn resolve(candidates: &[&str]) -> Result<String, DebianKernelError> {
    for candidate in candidates {
        let mut package = (*candidate).to_owned();
        let mut is_known = false;
        for _ in 0..METAPACKAGE_DEPTH_LIMIT {
            let outcome = Program::new("apt-cache", "apt").arguments(["depends", "--", &package]).run();
            let depends = match outcome {
                Ok(depends) => depends,
                Err(error) if error.stderr().is_some_and(|said| said.contains("No packages found")) => break,
                Err(source) => return Err(DebianKernelError::Ask { package, source }),
            };
            is_known = true;
            match kernel_dependency(&depends) {
                Some(next) => package = next,
                None => return Ok(package),
            }
        }
        if is_known {
            return Ok(package);
        }
    }
    Err(DebianKernelError::Unknown { packages: candidates.iter().map(|name| (*name).to_owned()).collect() })
}

/// The kernel package that a metapackage depends on, in the output of `apt-cache depends`.
fn kernel_dependency(depends: &str) -> Option<String> {
    let names =
        depends.lines().filter_map(|line| line.trim_start_matches([' ', '|']).strip_prefix("Depends: "));
    names.map(str::trim).find(|name| name.starts_with("linux-image-")).map(str::to_owned)
}

fn find_files(tree: &Path, package: &str, description: String) -> Result<KernelFiles, DebianKernelError> {
    let absent = |what| DebianKernelError::NoKernel { package: package.to_owned(), what };
    let kernel = only_entry(&tree.join("boot"), |name| name.starts_with("vmlinuz-"))?
        .ok_or_else(|| absent("boot/vmlinuz-*"))?;
    for directory in ["lib/modules", "usr/lib/modules"] {
        if let Some(modules) = only_entry(&tree.join(directory), |_| true)? {
            return Ok(KernelFiles { kernel, modules, description });
        }
    }
    Err(absent("lib/modules/*"))
}

/// The first entry of a directory, by name, that `matches`.
fn only_entry(
    directory: &Path,
    matches: impl Fn(&str) -> bool,
) -> Result<Option<PathBuf>, DebianKernelError> {
    let failed = |source| DebianKernelError::Directory { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if matches(&entry.file_name().to_string_lossy()) {
            found.push(entry.path());
        }
    }
    Ok(found.into_iter().min())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Quiet;

    #[test]
    fn the_kernel_that_a_metapackage_depends_on_is_found() {
        let meta = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(kernel_dependency(meta).as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        let kernel =
            "linux-image-6.1.0-56-cloud-amd64\n  Depends: kmod\n |Depends: initramfs-tools\n  Breaks: x\n";
        assert_eq!(kernel_dependency(kernel), None);
    }

    #[test]
    fn options_are_no_package_names() {
        let directory = tempfile::tempdir().expect("temporary directory");
        for package in ["--help", "-o=Dir::Cache=/", "a b", ""] {
            let outcome = download(Some(package), &directory.path().join("package"), &Quiet);
            assert!(matches!(outcome, Err(DebianKernelError::Name(_))), "{package:?}");
        }
    }
}
