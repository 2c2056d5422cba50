//! Debian packages: installs those whose programs are missing.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context as _, anyhow};
use images::Progress;

use crate::failure::Failure;

/// What is needed: programs, each with the Debian package that has it.
const PROGRAMS: [(&str, &str); 4] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mmdebstrap", "mmdebstrap"),
    ("dpkg-deb", "dpkg"),
];

/// Where Debian keeps its programs.
const DIRECTORIES: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Installs what is missing.
pub(super) fn install(progress: &dyn Progress) -> Result<(), Failure> {
    let missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| !installed(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::host(anyhow!("{} is missing", missing.join(" and ")))
            .hint(format!("as root: apt-get install --no-install-recommends {}", missing.join(" "))));
    }
    progress.step("refreshing the package lists");
    apt_get(&["update"], progress)?;
    progress.step(&format!("installing {}", missing.join(" ")));
    apt_get(&[&["install", "--yes", "--no-install-recommends"], &missing[..]].concat(), progress)
}

fn installed(program: &str) -> bool {
    DIRECTORIES.iter().any(|directory| std::path::Path::new(directory).join(program).is_file())
}

/// Runs apt-get and shows what it says as progress; all of its last words when it fails.
fn apt_get(arguments: &[&str], progress: &dyn Progress) -> Result<(), Failure> {
    const KEPT_LINES: usize = 20;
    let failed = |error| Failure::host(error).hint("is this Debian, and can it reach its mirror?".to_owned());
    // Its stderr goes where its stdout goes: the order of the lines says more than the kind.
    let (reader, writer) = std::io::pipe().context("cannot make a pipe").map_err(failed)?;
    let mut command = Command::new("apt-get");
    command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stderr(writer.try_clone().context("cannot make a pipe").map_err(failed)?)
        .stdout(writer);
    let mut child = command.spawn().context("cannot run apt-get").map_err(failed)?;
    drop(command);
    let mut last = std::collections::VecDeque::new();
    for line in BufReader::new(reader).lines().map_while(Result::ok) {
        if let Some(what) = line.strip_prefix("Setting up ").or_else(|| line.strip_prefix("Unpacking ")) {
            progress.step(&format!("installing {}", what.trim_end_matches(" ...")));
        }
        last.push_back(line);
        if last.len() > KEPT_LINES {
            last.pop_front();
        }
    }
    let status = child.wait().context("cannot wait for apt-get").map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    let said = last.into_iter().collect::<Vec<_>>().join("\n");
    Err(failed(anyhow!("apt-get {} failed ({status}):\n{said}", arguments.join(" "))))
}
