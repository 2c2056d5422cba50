//! The other half of [`super::customize`]: PID 1 of the namespaces in which steps run.
//!
//! ```text
//! read-only program ─▶ mount the image ─▶ pivot_root ─▶ /proc, /dev, /run, /tmp
//!   ─▶ step, step, … ─▶ end all processes ─▶ read-only image
//! ```
//!
//! After `pivot_root` there is one path back to the host's files: `/proc/<process>/exe`, where the process is this program
//! still, as it is when a step has made `/bin/sh` a link to `/proc/self/exe`. Steps could change the file's mode and owner
//! (CVE-2019-5736 is of the same kind). So this program runs from where it is read-only. The image is read-only before
//! this process ends, so that all of it is in its file by then.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{CWD, FileType, Mode, StatVfsMountFlags, makedev, mknodat};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};
use rustix::process::{Pid, Signal, WaitOptions, chdir, kill_process_group, pivot_root, wait};
use rustix::thread::{
    CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

use super::customize::{Step, StepsFile};
use super::{filter, masks};
use crate::program::Program;

/// What a container's root can do, and installing packages takes.
const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SYS_CHROOT);

/// Where the programs of an image are, if it does not say so itself.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The certificates that the host's administrator trusts, and where steps find them.
const CERTIFICATES: (&str, &str) = ("/etc/ssl/certs/ca-certificates.crt", "/run/host-certificates.crt");

/// Of the host's environment, what says how to reach the network.
const NETWORK_VARIABLES: [&str; 11] = [
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "PIP_DEFAULT_TIMEOUT",
    "PIP_PROXY",
];

/// Takes the steps in `file`. What went wrong is returned as text: it is for whoever reads our stderr.
///
/// It must be called in mount and pid namespaces of its own, as PID 1, by a process with one thread.
pub fn take_steps_inside(file: &Path) -> Result<(), String> {
    run_read_only().map_err(|error| format!("cannot make this program read-only: {error}"))?;
    let text = fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let file: StepsFile = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    let host = HostFiles::read();
    let said = |doing: &str| {
        let doing = doing.to_owned();
        move |error: io::Error| format!("cannot {doing}: {error}")
    };
    mount_image(&file).map_err(|error| format!("cannot mount the image: {error}"))?;
    enter(&file.mount_point).map_err(said("enter the image"))?;
    prepare(&host).map_err(said("prepare the image"))?;
    let names = provide_name_servers(&host.name_servers).map_err(said("provide name servers"))?;
    give_up_capabilities().map_err(said("give up capabilities"))?;
    let environment = environment(&file, host.certificates.is_some());
    let outcome = take_all(&file, &environment);
    end_all_processes();
    outcome?;
    names.take_away().map_err(said("take the name servers away"))?;
    // All of it is in the file then, and nothing follows.
    let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID;
    mount_remount("/", flags, c"").map_err(|error| format!("cannot finish the image: {error}"))
}

/// Becomes this program anew, where it is read-only, unless it is.
fn run_read_only() -> io::Result<()> {
    let mounted = rustix::fs::statvfs("/proc/self/exe")?;
    if mounted.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(());
    }
    let program = std::env::current_exe()?;
    mount_bind(&program, &program)?;
    mount_remount(&program, MountFlags::BIND | MountFlags::RDONLY, c"")?;
    Err(Command::new(program).args(std::env::args_os().skip(1)).exec())
}

/// What steps need of the host, read before its files are out of reach.
struct HostFiles {
    name_servers: Vec<u8>,
    certificates: Option<Vec<u8>>,
}

impl HostFiles {
    fn read() -> Self {
        Self {
            name_servers: fs::read("/etc/resolv.conf").unwrap_or_default(),
            certificates: fs::read(CERTIFICATES.0).ok(),
        }
    }
}

/// The program does what a loop mount takes. Devices and set-user-id programs of the image are nothing here. What an image
/// says itself is to be done about its errors may be a panic of the host.
fn mount_image(file: &StepsFile) -> Result<(), crate::program::ProgramError> {
    let mount = Program::new("mount", "mount")
        .arguments(["-t", "ext4", "-o", "loop,nodev,nosuid,errors=remount-ro"])
        .arguments([&file.image, &file.mount_point]);
    mount.run().map(|_| ())
}

fn enter(mount_point: &Path) -> io::Result<()> {
    chdir(mount_point)?;
    // With the same directory twice the old root lies over the new one, until it is unmounted (pivot_root(2)).
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(chdir("/")?)
}

/// Gives the image what programs expect of a running system.
fn prepare(host: &HostFiles) -> io::Result<()> {
    let plain = MountFlags::NODEV | MountFlags::NOSUID;
    for directory in ["/proc", "/dev", "/run", "/tmp"] {
        // Behind a link it could be anywhere: over another of them, and what is masked would be masked elsewhere.
        match fs::symlink_metadata(directory) {
            Ok(found) if !found.is_dir() => {
                return Err(io::Error::other(format!("{directory} is no directory there")));
            }
            Ok(_) => {}
            Err(_) => fs::create_dir(directory)?,
        }
    }
    // They are the host's memory, of which each may be half where nothing is said; one of them must do.
    mount_empty("proc", "/proc", plain | MountFlags::NOEXEC, "")?;
    mount_empty("tmpfs", "/run", plain, "mode=0755,size=64m")?;
    mount_empty("tmpfs", "/tmp", plain, "mode=1777")?;
    mount_empty("tmpfs", "/dev", MountFlags::NOSUID | MountFlags::NOEXEC, "mode=0755,size=1m")?;
    let nothing = Path::new("/run/nothing");
    fs::write(nothing, "")?;
    masks::mask(Path::new("/proc"), nothing)?;
    for (name, minor) in [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)] {
        let path = format!("/dev/{name}");
        mknodat(CWD, &path, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, minor))?;
        // mknod(2) takes the umask away from the mode.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, format!("/dev/{name}"))?;
    }
    fs::create_dir("/dev/shm")?;
    mount_empty("tmpfs", "/dev/shm", plain, "mode=1777,size=64m")?;
    if let Some(certificates) = &host.certificates {
        fs::write(CERTIFICATES.1, certificates)?;
    }
    Ok(())
}

/// Where programs look for name servers.
const NAME_SERVERS: &str = "/etc/resolv.conf";

/// The host's `resolv.conf` over the image's, which stays as it is.
struct NameServers {
    is_mounted: bool,
    /// Whether the image had none.
    is_ours: bool,
}

fn provide_name_servers(text: &[u8]) -> io::Result<NameServers> {
    const PROVIDED: &str = "/run/host-resolv.conf";
    fs::write(PROVIDED, text)?;
    fs::create_dir_all("/etc")?;
    let is_ours = fs::symlink_metadata(NAME_SERVERS).is_err();
    if is_ours {
        fs::write(NAME_SERVERS, "")?;
    } else if fs::metadata(NAME_SERVERS).is_err() {
        // A link to where nobody has put a file here.
        return Ok(NameServers { is_mounted: false, is_ours });
    }
    mount(PROVIDED, NAME_SERVERS, c"", MountFlags::BIND, None)?;
    Ok(NameServers { is_mounted: true, is_ours })
}

impl NameServers {
    fn take_away(&self) -> io::Result<()> {
        if self.is_mounted {
            unmount(NAME_SERVERS, UnmountFlags::DETACH)?;
        }
        if self.is_ours { fs::remove_file(NAME_SERVERS) } else { Ok(()) }
    }
}

fn mount_empty(kind: &str, target: &str, flags: MountFlags, options: &str) -> io::Result<()> {
    let options = CString::new(options)?;
    Ok(mount(kind, target, kind, flags, options.as_c_str())?)
}

fn give_up_capabilities() -> io::Result<()> {
    for capability in CapabilitySet::all().difference(CAPABILITIES).iter() {
        match remove_capability_from_bounding_set(capability) {
            // A capability that this kernel does not know.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    set_no_new_privs(true)?;
    // What this process itself needs until its end: to make the image read-only, and to end the others.
    let own = CAPABILITIES.union(CapabilitySet::SYS_ADMIN);
    Ok(set_capabilities(
        None,
        CapabilitySets { effective: own, permitted: own, inheritable: CapabilitySet::empty() },
    )?)
}

fn environment(file: &StepsFile, has_certificates: bool) -> BTreeMap<String, String> {
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let mut environment: BTreeMap<String, String> = [
        ("PATH", PATH),
        ("LANG", "C.UTF-8"),
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("PIP_BREAK_SYSTEM_PACKAGES", "1"),
        ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
        ("PIP_NO_CACHE_DIR", "1"),
        ("PIP_NO_INPUT", "1"),
        ("PIP_PROGRESS_BAR", "off"),
        ("PIP_ROOT_USER_ACTION", "ignore"),
    ]
    .map(owned)
    .into();
    if has_certificates {
        let names = ["SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE"];
        environment.extend(names.map(|name| owned((name, CERTIFICATES.1))));
    }
    environment.extend(file.config.environment.clone());
    environment.extend([owned(("HOME", "/root"))]);
    environment.extend(
        NETWORK_VARIABLES.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?))),
    );
    environment
}

/// A thread takes them, for filters are a thread's, and the main one still has mounts to change. It keeps the capabilities
/// of this process: who has as many as one of its threads may trace that one, and write what is all threads' memory.
fn take_all(file: &StepsFile, environment: &BTreeMap<String, String>) -> Result<(), String> {
    let taken = std::thread::scope(|scope| {
        let steps = scope.spawn(|| {
            filter::apply().map_err(|error| format!("cannot filter system calls: {error}"))?;
            file.steps.iter().try_for_each(|step| take(step, file, environment))
        });
        steps.join()
    });
    taken.unwrap_or_else(|_| Err("cannot take the steps".to_owned()))
}

fn take(step: &Step, file: &StepsFile, environment: &BTreeMap<String, String>) -> Result<(), String> {
    eprintln!("{step}");
    match step {
        Step::Run(command) => run(&["/bin/sh", "-c", command], file, environment),
        Step::Pip(names) => {
            let pip = ["python3", "-m", "pip", "install", "--no-cache-dir", "--"];
            run(&with(&pip, names), file, environment)
        }
        Step::Packages(names) => install(names, file, environment),
    }
}

/// Installs packages with what the image has for that.
fn install(names: &[String], file: &StepsFile, environment: &BTreeMap<String, String>) -> Result<(), String> {
    if Path::new("/usr/bin/apt-get").exists() {
        let lists = "/var/lib/apt/lists";
        // apt's sandbox wants a user that may not be allowed to read where it downloads to.
        let options = ["-o", "APT::Sandbox::User=root", "-o", "Dpkg::Use-Pty=0", "-q"];
        let update = [&["apt-get"], &options[..], &["update"]].concat();
        run(&update, file, environment)?;
        let install =
            [&["apt-get"], &options[..], &["install", "--yes", "--no-install-recommends", "--"]].concat();
        run(&with(&install, names), file, environment)?;
        run(&["apt-get", "clean"], file, environment)?;
        for entry in fs::read_dir(lists).map_err(|error| error.to_string())?.flatten() {
            // Lists that stay take space, and do no other harm.
            let _ = fs::remove_file(entry.path());
        }
        return Ok(());
    }
    if Path::new("/sbin/apk").exists() {
        return run(&with(&["apk", "add", "--no-cache", "--"], names), file, environment);
    }
    Err("the image has neither apt-get nor apk".to_owned())
}

fn with<'a>(command: &[&'a str], names: &'a [String]) -> Vec<&'a str> {
    command.iter().copied().chain(names.iter().map(String::as_str)).collect()
}

fn run(arguments: &[&str], file: &StepsFile, environment: &BTreeMap<String, String>) -> Result<(), String> {
    let [program, arguments @ ..] = arguments else { return Ok(()) };
    let directory = Path::new(&file.config.working_directory);
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(environment)
        .current_dir(if directory.is_dir() { directory } else { Path::new("/") })
        .process_group(0)
        .stdin(Stdio::null())
        // What it says is shown as it comes; nothing is data.
        .stdout(io::stderr());
    let status = command.status().map_err(|error| format!("cannot run {program}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{program} ended with {status}")) }
}

/// Ends what steps have left running: it would keep the image from becoming read-only.
fn end_all_processes() {
    // All but this one, as kill(2) has it for PID 1 of a namespace.
    // rustix has it as the group of process 1.
    let _ = kill_process_group(Pid::INIT, Signal::KILL);
    while wait(WaitOptions::empty()).is_ok() {}
}
