//! The jailer: makes a root, puts the VMM and devices there, becomes another user, and becomes the VMM.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::{
    fs::{CWD, FileType, Mode, makedev, mknodat},
    process::{Resource, Rlimit, chdir, chroot, setrlimit},
};

use crate::arguments::Arguments;

const FLAGS: [&str; 6] = ["--id", "--exec-file", "--uid", "--gid", "--chroot-base-dir", "--resource-limit"];

/// The jailer's own choice of devices: name, major, minor.
const DEVICES: [(&str, u32, u32); 3] =
    [("dev/net/tun", 10, 200), ("dev/kvm", 10, 232), ("dev/urandom", 1, 9)];

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let end = arguments.iter().position(|argument| argument == "--").unwrap_or(arguments.len());
    let own = Arguments::parse(&arguments[..end], &FLAGS)?;
    let passed_on = arguments.get(end + 1..).unwrap_or_default();

    let id = own.one("--id")?;
    let is_fit = |c: char| c.is_ascii_alphanumeric() || c == '-';
    ensure!((1..=64).contains(&id.len()) && id.chars().all(is_fit), "Invalid instance ID: {id}");
    let program = fs::canonicalize(own.one("--exec-file")?).context("find the VMM")?;
    let name = program.file_name().context("the VMM has a name")?;
    let user: u32 = own.one("--uid")?.parse().context("a user is a number")?;
    let group: u32 = own.one("--gid")?.parse().context("a group is a number")?;
    ensure!(user != 0 && group != 0, "the VMM would be root");

    let base = fs::canonicalize(own.one("--chroot-base-dir")?).context("find the base directory")?;
    let root = base.join(name).join(id).join("root");
    fs::create_dir_all(&root).context("make the root")?;
    let copy = root.join(name);
    fs::copy(&program, &copy).context("copy the VMM")?;
    chown(&copy, Some(user), Some(group)).context("give the VMM to its user")?;
    for limit in own.all("--resource-limit") {
        set_limit(limit)?;
    }
    // As the jailer does where there is a /proc: a jail of ours has none to be found.
    ensure!(!Path::new("/proc/self").exists(), "the jail shows the host's processes");
    chroot(&root).context("change the root")?;
    chdir("/").context("enter the root")?;
    for directory in ["/", "/dev", "/dev/net", "/run"] {
        fs::create_dir_all(directory).with_context(|| format!("make {directory}"))?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
        chown(directory, Some(user), Some(group)).with_context(|| format!("give {directory} away"))?;
    }
    for (device, major, minor) in DEVICES {
        let path = Path::new("/").join(device);
        let mode = Mode::from_raw_mode(0o600);
        mknodat(CWD, &path, FileType::CharacterDevice, mode, makedev(major, minor))
            .with_context(|| format!("make {device}"))?;
        chown(&path, Some(user), Some(group)).with_context(|| format!("give {device} away"))?;
    }
    let vmm: PathBuf = Path::new("/").join(name);
    fs::write(vmm.with_extension("pid"), std::process::id().to_string()).context("note the process")?;
    let failed = Command::new(&vmm)
        .args(["--id", id, "--start-time-us", "0", "--start-time-cpu-us", "0", "--parent-cpu-time-us", "0"])
        .args(passed_on)
        .gid(group)
        .uid(user)
        .exec();
    Err(failed).context("become the VMM")
}

fn set_limit(limit: &str) -> Result<()> {
    let (name, value) = limit.split_once('=').context("a limit is NAME=VALUE")?;
    let value = Some(value.parse().context("a limit is a number")?);
    let resource = match name {
        "fsize" => Resource::Fsize,
        "no-file" => Resource::Nofile,
        _ => bail!("Invalid resource argument: {name}"),
    };
    setrlimit(resource, Rlimit { current: value, maximum: value }).with_context(|| format!("limit {name}"))
}
