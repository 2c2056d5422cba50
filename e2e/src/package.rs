//! The Debian package, and a Debian that has what it depends on and nothing else, to install it in.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use images::Sha256Digest;
use rustix::fs::{FlockOperation, flock};

use crate::{build_directory, program, running::Ended};

const SUITE: &str = "bookworm";

/// Enters the root as a container has it: a new root of its own mount namespace (in one of chroot(2), nobody may make user
/// namespaces), with processes of its own, and this machine's network and devices.
const ENTER: &str = r#"
set -e
mount --make-rprivate /
mount --bind "$0" "$0"
cd "$0"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mkdir -p .outside
pivot_root . .outside
umount --lazy /.outside
rmdir /.outside
exec "$@"
"#;

/// Builds the package of the program that tests use, in this version, and returns its path in `directory`. It is quicker than
/// the one for users, for it is packed more loosely.
pub fn build(version: &str, directory: &Path) -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/make-deb");
    let output = Command::new(script)
        .args(["--version", version, "--program"])
        .arg(program())
        .arg("--output")
        .arg(directory)
        .env("DPKG_DEB_OPTIONS", "-Zgzip -z1")
        .output()
        .context("run scripts/make-deb")?;
    ensure!(output.status.success(), "no package: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout).context("a path")?.trim().into())
}

/// A field of a package.
pub fn field(package: &Path, name: &str) -> Result<String> {
    let output = Command::new("dpkg-deb").arg("--field").arg(package).arg(name).output()?;
    ensure!(output.status.success(), "no field {name}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout).context("a field is text")?.trim().to_owned())
}

/// A Debian of a test's own.
pub struct CleanRoot(tempfile::TempDir);

impl CleanRoot {
    /// Debian's smallest, and what `package` says that it depends on. Made once for each list of those, and unpacked for each
    /// test.
    pub fn for_package(package: &Path) -> Result<Self> {
        let archive = archive(&field(package, "Depends")?)?;
        let directory = tempfile::tempdir_in(build_directory()).context("make a directory")?;
        let unpacked =
            Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(directory.path()).output()?;
        ensure!(unpacked.status.success(), "tar: {}", String::from_utf8_lossy(&unpacked.stderr));
        Ok(Self(directory))
    }

    /// Where a file of it is for others.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.0.path().join(inside.trim_start_matches('/'))
    }

    /// Puts a file or directory there.
    pub fn copy(&self, from: &Path, inside: &str) -> Result<()> {
        let copied = Command::new("cp")
            .args(["--archive", "--sparse=always", "--reflink=auto"])
            .args([from, &self.path(inside)])
            .status()?;
        ensure!(copied.success(), "cannot copy {}", from.display());
        Ok(())
    }

    /// A program in it, run by root.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "sh", "-c", ENTER])
            .arg(self.0.path())
            .args(arguments)
            .env_clear()
            .envs([("HOME", "/root"), ("LC_ALL", "C.UTF-8"), ("DEBIAN_FRONTEND", "noninteractive")])
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// The same, run by this user of it.
    pub fn command_of(&self, user: &str, arguments: &[&str]) -> Command {
        let become_it = [&format!("--reuid={user}"), &format!("--regid={user}")];
        let mut all = vec!["setpriv", become_it[0], become_it[1], "--init-groups", "--no-new-privs", "--"];
        all.extend(arguments);
        self.command(&all)
    }

    /// Runs a program to its end.
    pub fn ended(&self, arguments: &[&str]) -> Ended {
        Ended::new(&self.command(arguments).output().expect("there is unshare"))
    }

    /// Runs a program, which must succeed, and returns what it says.
    pub fn expect_done(&self, arguments: &[&str]) -> String {
        let ended = self.ended(arguments);
        assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
        ended.stdout
    }
}

/// An archive of the Debian, made by whoever comes first.
fn archive(depends: &str) -> Result<PathBuf> {
    let names = depends.split(',').filter_map(|name| name.split('|').next()?.split_whitespace().next());
    let names = names.collect::<Vec<_>>().join(",");
    let key = Sha256Digest::of_bytes(format!("{SUITE} {names}").as_bytes());
    let archive = build_directory().join(format!("e2e-root-{}.tar", &key.as_str()[..16]));
    let lock = fs::File::create(archive.with_extension("lock")).context("make a lock")?;
    flock(&lock, FlockOperation::LockExclusive).context("lock the archive")?;
    if !archive.exists() {
        ensure!(rustix::process::geteuid().is_root(), "only root can make a Debian: run the tests as root");
        let staged = archive.with_extension("unfinished.tar");
        let made = Command::new("mmdebstrap")
            .args(["--quiet", "--mode=root", "--variant=minbase", "--dpkgopt=force-unsafe-io"])
            .arg(format!("--include={names}"))
            .arg(SUITE)
            .arg(&staged)
            .output()
            .context("run mmdebstrap")?;
        ensure!(made.status.success(), "mmdebstrap: {}", String::from_utf8_lossy(&made.stderr));
        fs::rename(&staged, &archive).context("put the archive in place")?;
    }
    Ok(archive)
}
