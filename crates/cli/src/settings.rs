//! What holds for all commands: flags, and the environment behind them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use clap::builder::RangedU64ValueParser;
use store::{DataDirectory, layout::SYSTEM_DIRECTORY};
use vmm::{MachineSpec, firecracker::CpuTemplate};

/// Flags of all commands.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Global {
    /// Where images, snapshots and the kernel bundle are [default: /srv/firecracker for root, else
    /// $XDG_DATA_HOME/llm-firecracker]
    #[arg(long, global = true, value_name = "DIR", env = "LLM_FIRECRACKER_DATA_DIR")]
    data_dir: Option<PathBuf>,

    /// QEMU to be used instead of the one in PATH
    #[arg(long, global = true, value_name = "FILE", env = "LLM_FIRECRACKER_QEMU", hide_short_help = true)]
    pub(crate) qemu: Option<PathBuf>,

    /// The VMM, instead of Firecracker where there is one and KVM is usable, and QEMU elsewhere
    #[arg(long, global = true, value_enum, env = "LLM_FIRECRACKER_VMM", hide_short_help = true)]
    pub(crate) vmm: Option<VmmName>,

    /// Firecracker to be used instead of the one that setup installed or that is in PATH; its jailer lies beside it
    #[arg(
        long = "firecracker-bin",
        global = true,
        value_name = "FILE",
        env = "FIRECRACKER_BIN",
        hide_short_help = true
    )]
    pub(crate) firecracker: Option<PathBuf>,

    /// What guests see of the processor under Firecracker, so that snapshots can be restored on other hosts that the
    /// template fits: one that Firecracker has built in (C3, T2, T2A, T2CL, T2S) or a file with one in JSON
    #[arg(
        long,
        global = true,
        value_name = "NAME|FILE",
        env = "LLM_FIRECRACKER_CPU_TEMPLATE",
        hide_short_help = true,
        value_parser = cpu_template
    )]
    pub(crate) cpu_template: Option<CpuTemplate>,

    /// How microVMs execute code, instead of the best that this host has
    #[arg(long, global = true, value_enum, env = "LLM_FIRECRACKER_ACCEL", hide_short_help = true)]
    pub(crate) accel: Option<Acceleration>,

    /// How many microVMs may run at the same time, in all commands together [default: two for each processor]
    #[arg(
        long,
        global = true,
        value_name = "N",
        env = "LLM_FIRECRACKER_SLOTS",
        hide_short_help = true,
        value_parser = RangedU64ValueParser::<u32>::new().range(1..=10_000)
    )]
    slots: Option<u32>,

    /// How long a command waits for room for its microVM, in seconds
    #[arg(
        long,
        global = true,
        value_name = "SECONDS",
        default_value_t = 600,
        env = "LLM_FIRECRACKER_SLOT_WAIT",
        hide_short_help = true
    )]
    slot_wait: u64,

    /// The first of the users (and groups) that VMMs run as, one for each slot, when started by root
    #[arg(
        long,
        global = true,
        value_name = "UID",
        default_value_t = 700_000,
        env = "LLM_FIRECRACKER_FIRST_UID",
        hide_short_help = true,
        value_parser = RangedU64ValueParser::<u32>::new().range(1000..=4_000_000_000)
    )]
    pub(crate) first_uid: u32,

    /// Says what is being done; twice, in detail
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// A VMM.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VmmName {
    /// Firecracker, under its jailer; needs KVM
    Firecracker,
    /// QEMU's microvm machine
    Qemu,
}

/// How microVMs execute code.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acceleration {
    /// The processor's virtualization
    Kvm,
    /// Emulation in software
    Tcg,
}

impl Global {
    /// The data directory.
    pub(crate) fn data(&self) -> DataDirectory {
        DataDirectory::new(self.data_dir.clone().unwrap_or_else(default_data_directory))
    }

    /// A text with "run: COMMAND" as that is to be typed: with the data directory, where a flag named it.
    pub(crate) fn typed(&self, text: &str) -> String {
        const RUN: &str = "run: infra.operator ";
        let from_environment = std::env::var_os("LLM_FIRECRACKER_DATA_DIR").map(PathBuf::from);
        let named = self.data_dir.as_ref().filter(|directory| from_environment.as_ref() != Some(directory));
        let (Some(directory), Some(start)) = (named, text.find(RUN)) else { return text.to_owned() };
        let end = text[start..].find(')').map_or(text.len(), |length| start + length);
        format!("{} --data-dir {}{}", &text[..end], quote(directory), &text[end..])
    }

    /// How many microVMs may run at the same time.
    pub(crate) fn slots(&self) -> u32 {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.slots.unwrap_or_else(|| u32::try_from(2 * processors).unwrap_or(u32::MAX))
    }

    /// How long a command waits for room.
    pub(crate) fn slot_patience(&self) -> Duration {
        Duration::from_secs(self.slot_wait)
    }
}

/// The template of this name, else the one in the file of this name.
fn cpu_template(text: &str) -> Result<CpuTemplate, String> {
    if let Some(named) = CpuTemplate::named(text) {
        return Ok(named);
    }
    let template = read_template(Path::new(text));
    let parsed = template.and_then(|text| Ok(CpuTemplate::parse(&text)?));
    // Of an error's sources, the command line shows none.
    parsed.map_err(|error| format!("{error:#}"))
}

fn read_template(path: &Path) -> anyhow::Result<Vec<u8>> {
    /// The longest request that Firecracker takes.
    const MAX_BYTES: u64 = 51_200;
    let metadata = std::fs::metadata(path).with_context(|| {
        format!("Firecracker has no template {} built in, and there is no such file", path.display())
    })?;
    // Asked before it is opened: opening a pipe would wait for somebody to write to it.
    anyhow::ensure!(metadata.is_file(), "{} is no regular file", path.display());
    anyhow::ensure!(metadata.len() <= MAX_BYTES, "{} is larger than {MAX_BYTES} bytes", path.display());
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn default_data_directory() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return SYSTEM_DIRECTORY.into();
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .unwrap_or_else(|| PathBuf::from("/var/lib"))
        .join("llm-firecracker")
}

/// A path as a shell reads it.
pub(crate) fn quote(path: &Path) -> String {
    let path = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    if !path.is_empty() && path.chars().all(plain) {
        path.into_owned()
    } else {
        format!("'{}'", path.replace('\'', r"'\''"))
    }
}

/// The size of a microVM.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct Machine {
    /// Memory of the microVM, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = RangedU64ValueParser::<u32>::new().range(128..=65_536))]
    mem: u32,

    /// Virtual processors of the microVM
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = RangedU64ValueParser::<u32>::new().range(1..=16))]
    vcpus: u32,
}

impl From<Machine> for MachineSpec {
    fn from(machine: Machine) -> Self {
        Self { memory_mib: machine.mem, vcpus: machine.vcpus }
    }
}

/// The size that is chosen where nobody chooses.
pub(crate) const DEFAULT_MACHINE: MachineSpec = MachineSpec { memory_mib: 512, vcpus: 1 };

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        global: Global,
    }

    #[test]
    fn a_cpu_template_is_a_name_or_a_file() {
        let template = |value: &str| {
            let arguments = Arguments::try_parse_from(["test", "--cpu-template", value]);
            arguments.map(|arguments| arguments.global.cpu_template).map_err(|error| error.to_string())
        };
        assert_eq!(template("T2").unwrap(), CpuTemplate::named("T2"));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, r#"{ "cpuid_modifiers": [] }"#).unwrap();
        let path = file.path().to_string_lossy();
        assert!(matches!(template(&path), Ok(Some(CpuTemplate::Custom(_)))));
        std::fs::write(&file, r#"{ "cpu": 1 }"#).unwrap();
        assert!(template(&path).unwrap_err().contains("no \"cpu\""));
        assert!(template("/dev/zero").unwrap_err().contains("no regular file"));
        assert!(template("T9").unwrap_err().contains("no template T9 built in"));
    }

    #[test]
    fn commands_are_told_with_the_data_directory_that_a_flag_named() {
        let typed = |arguments: &[&str], text: &str| {
            Arguments::try_parse_from([&["test"], arguments].concat()).unwrap().global.typed(text)
        };
        let named = ["--data-dir", "/a b"];
        assert_eq!(typed(&named, "run: infra.operator setup"), "run: infra.operator setup --data-dir '/a b'");
        assert_eq!(
            typed(&named, "no (run: infra.operator x -y)"),
            "no (run: infra.operator x -y --data-dir '/a b')"
        );
        assert_eq!(typed(&named, "free some disk space"), "free some disk space");
        assert_eq!(typed(&[], "run: infra.operator setup"), "run: infra.operator setup");
    }
}
