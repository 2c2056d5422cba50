//! What holds for all commands: their flags, and with them the configuration.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use clap::{ValueHint, builder::RangedU64ValueParser};
use store::{DataDirectory, layout::SYSTEM_DIRECTORY};
use vmm::{MachineSpec, firecracker::CpuTemplate};

use crate::{
    config::{self, Config, Origin, Value},
    failure::Failure,
};

/// Flags of all commands. Those about one key of the configuration take their help and checks from it.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Flags {
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        help = "The configuration file, which must be there [default: /etc/llm-firecracker/config.toml for root, else \
                $XDG_CONFIG_HOME/llm-firecracker/config.toml, where there is one] [env: LLM_FIRECRACKER_CONFIG]"
    )]
    pub(crate) config: Option<PathBuf>,

    /// Sets a key of the configuration, as in --set api.port=8081; can be repeated. See: infra.operator config reference
    #[arg(long, global = true, value_name = "SECTION.KEY=VALUE", hide_short_help = true)]
    pub(crate) set: Vec<String>,

    #[arg(
        long,
        global = true,
        value_name = "DIR",
        value_hint = ValueHint::DirPath,
        help = config::help("data.directory"),
        value_parser = config::parser("data.directory")
    )]
    data_dir: Option<Value>,

    #[arg(
        long,
        global = true,
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        hide_short_help = true,
        help = config::help("vmm.qemu"),
        value_parser = config::parser("vmm.qemu")
    )]
    qemu: Option<Value>,

    #[arg(
        long,
        global = true,
        hide_short_help = true,
        help = config::help("vmm.name"),
        value_parser = config::parser("vmm.name")
    )]
    vmm: Option<Value>,

    #[arg(
        long,
        global = true,
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        hide_short_help = true,
        help = config::help("vmm.firecracker"),
        value_parser = config::parser("vmm.firecracker")
    )]
    firecracker_bin: Option<Value>,

    #[arg(
        long,
        global = true,
        value_name = "NAME|FILE",
        hide_short_help = true,
        help = config::help("vmm.cpu_template"),
        value_parser = config::parser("vmm.cpu_template")
    )]
    cpu_template: Option<Value>,

    #[arg(
        long,
        global = true,
        hide_short_help = true,
        help = config::help("vmm.acceleration"),
        value_parser = config::parser("vmm.acceleration")
    )]
    accel: Option<Value>,

    #[arg(
        long,
        global = true,
        value_name = "N",
        hide_short_help = true,
        help = config::help("vmm.slots"),
        value_parser = config::parser("vmm.slots")
    )]
    slots: Option<Value>,

    #[arg(
        long,
        global = true,
        value_name = "SECONDS",
        hide_short_help = true,
        help = config::help("vmm.slot_wait"),
        value_parser = config::parser("vmm.slot_wait")
    )]
    slot_wait: Option<Value>,

    #[arg(
        long,
        global = true,
        value_name = "UID",
        hide_short_help = true,
        help = config::help("vmm.first_uid"),
        value_parser = config::parser("vmm.first_uid")
    )]
    first_uid: Option<Value>,

    /// Says what is being done; twice, in detail
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// What flags of one command alone say of keys: the flag, and the key with its value.
    #[arg(skip)]
    of_command: Vec<(&'static str, &'static str, Value)>,
}

impl Flags {
    /// The same with what flags of the command say of keys.
    pub(crate) fn and_about(mut self, keys: Vec<(&'static str, &'static str, Value)>) -> Self {
        self.of_command = keys;
        self
    }

    /// What flags of the command say of keys: the flag, and the key with its value.
    pub(crate) fn of_command(&self) -> &[(&'static str, &'static str, Value)] {
        &self.of_command
    }

    /// Fails where the command line has a `--set` that did not come through: of a flag that stands before the command
    /// and behind it, clap keeps what stands behind alone.
    pub(crate) fn all_of(&self, arguments: impl Iterator<Item = OsString>) -> Result<(), Failure> {
        let is_set =
            |argument: &OsString| argument == "--set" || argument.as_encoded_bytes().starts_with(b"--set=");
        if arguments.filter(is_set).count() > self.set.len() && !self.set.is_empty() {
            let error = anyhow::anyhow!("--set stands both before the command and behind it");
            return Err(Failure::usage(error).hint("put all of them behind the command".to_owned()));
        }
        Ok(())
    }

    /// Nothing but these assignments.
    #[cfg(test)]
    pub(crate) fn setting(assignments: &[&str]) -> Self {
        Self { set: assignments.iter().map(ToString::to_string).collect(), ..Self::default() }
    }

    /// What flags say of keys.
    pub(crate) fn of_keys(&self) -> [(&'static str, Option<&Value>); 9] {
        [
            ("data.directory", self.data_dir.as_ref()),
            ("vmm.name", self.vmm.as_ref()),
            ("vmm.acceleration", self.accel.as_ref()),
            ("vmm.qemu", self.qemu.as_ref()),
            ("vmm.firecracker", self.firecracker_bin.as_ref()),
            ("vmm.cpu_template", self.cpu_template.as_ref()),
            ("vmm.slots", self.slots.as_ref()),
            ("vmm.slot_wait", self.slot_wait.as_ref()),
            ("vmm.first_uid", self.first_uid.as_ref()),
        ]
    }
}

/// What holds for all commands, as flags, environment, file and defaults say together.
#[derive(Clone, Debug)]
pub(crate) struct Global {
    flags: Flags,
    /// The configuration, as it was when the command began.
    pub(crate) config: Config,
}

impl Global {
    /// Reads the configuration.
    pub(crate) fn load(flags: Flags) -> Result<Self, Failure> {
        let config = Config::of_flags(&flags)?;
        Ok(Self { flags, config })
    }

    /// The flags alone.
    pub(crate) fn flags(&self) -> &Flags {
        &self.flags
    }

    /// The data directory.
    pub(crate) fn data(&self) -> DataDirectory {
        DataDirectory::new(self.config.data.directory.clone())
    }

    /// Whether a flag of this command says what this key holds.
    pub(crate) fn is_flag(&self, key: &str) -> bool {
        matches!(self.config.origin(key), Some(Origin::Flag(_)))
    }

    /// Flags that another command needs to work on the same data, as a shell reads them.
    pub(crate) fn flags_about_data(&self) -> String {
        let mut flags = String::new();
        if let Some(file) = &self.flags.config {
            flags.push_str(" --config ");
            flags.push_str(&quote(file));
        }
        if self.is_flag("data.directory") {
            flags.push_str(" --data-dir ");
            flags.push_str(&quote(&self.config.data.directory));
        }
        flags
    }

    /// A text with "run: COMMAND" as that is to be typed: with the file and the data directory, where flags named them.
    pub(crate) fn typed(&self, text: &str) -> String {
        const RUN: &str = "run: infra.operator ";
        let Some(start) = text.find(RUN) else { return text.to_owned() };
        let end = text[start..].find(')').map_or(text.len(), |length| start + length);
        format!("{}{}{}", &text[..end], self.flags_about_data(), &text[end..])
    }

    /// How many microVMs may run at the same time.
    pub(crate) fn slots(&self) -> u32 {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.config.vmm.slots.unwrap_or_else(|| u32::try_from(2 * processors).unwrap_or(u32::MAX))
    }

    /// How long a command waits for room.
    pub(crate) fn slot_patience(&self) -> Duration {
        self.config.vmm.slot_wait
    }
}

/// The template of this name, else the one in the file of this name.
pub(crate) fn cpu_template(text: &str) -> Result<CpuTemplate, String> {
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

/// Where things are that nobody has said a place for.
pub(crate) fn default_data_directory() -> PathBuf {
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
    use crate::config::{Environment, Source, resolve};

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        flags: Flags,
    }

    fn global(arguments: &[&str]) -> Result<Global, String> {
        let arguments = [&["test"], arguments].concat();
        let flags = Arguments::try_parse_from(arguments).map_err(|error| error.to_string())?.flags;
        let resolution = resolve(&flags, &Environment::of(&[]), &Source::Nowhere);
        let config = Config::of(resolution).map_err(|failure| format!("{failure:?}"))?;
        Ok(Global { flags, config })
    }

    #[test]
    fn a_cpu_template_is_a_name_or_a_file() {
        let template =
            |value: &str| global(&["--cpu-template", value]).map(|global| global.config.vmm.cpu_template);
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
    fn commands_are_told_with_the_file_and_the_data_directory_that_flags_named() {
        let typed = |arguments: &[&str], text: &str| global(arguments).unwrap().typed(text);
        let named = ["--data-dir", "/a b"];
        assert_eq!(typed(&named, "run: infra.operator setup"), "run: infra.operator setup --data-dir '/a b'");
        assert_eq!(
            typed(&named, "no (run: infra.operator x -y)"),
            "no (run: infra.operator x -y --data-dir '/a b')"
        );
        assert_eq!(typed(&named, "free some disk space"), "free some disk space");
        assert_eq!(typed(&[], "run: infra.operator setup"), "run: infra.operator setup");
        let set = ["--set", "data.directory=/a", "--config", "/dev/null"];
        assert_eq!(
            typed(&set, "run: infra.operator setup"),
            "run: infra.operator setup --config /dev/null --data-dir /a"
        );
    }

    #[test]
    fn assignments_before_and_behind_the_command_are_refused_and_not_dropped() {
        let flags = Flags::setting(&["api.port=1"]);
        let all_of = |line: &str| flags.all_of(line.split(' ').map(OsString::from)).is_ok();
        assert!(all_of("operator --set api.port=1 run"));
        assert!(all_of("operator run --set=api.port=1"));
        assert!(!all_of("operator --set pool.minimum=2 run --set=api.port=1"));
    }

    #[test]
    fn flags_are_refused_with_what_is_allowed() {
        let refused = |arguments: &[&str]| global(arguments).unwrap_err();
        assert!(
            refused(&["--slots", "0"])
                .contains("'--slots <N>': 0 is not allowed: give a whole number from 1 to 10000")
        );
        assert!(refused(&["--vmm", "xen"]).contains("[possible values: firecracker, qemu, auto]"));
        assert_eq!(global(&["--accel", "auto"]).unwrap().config.vmm.acceleration, None);
    }

    #[test]
    fn a_data_directory_needs_no_unicode() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
        let path = OsStr::from_bytes(b"/srv/\xff");
        let arguments = [OsStr::new("test"), OsStr::new("--data-dir"), path];
        let flags = Arguments::try_parse_from(arguments).unwrap().flags;
        let config = Config::of(resolve(&flags, &Environment::of(&[]), &Source::Nowhere)).unwrap();
        assert_eq!(config.data.directory, Path::new(path));
    }
}
