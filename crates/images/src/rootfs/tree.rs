//! The file tree of an image: Debian packages unpacked, and what their maintainer scripts would have made.
//!
//! `mmdebstrap --variant=extract` unpacks packages and runs none of their scripts, which takes five seconds for Python.
//! With packages that do not work so, scripts run too (`--variant=custom` and the tools they need): see
//! [`super::packages`]. The result is then finished here, the same way for both.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::packages::work_unconfigured;
use crate::program::{Program, ProgramError};
use crate::progress::Progress;
use crate::staging::parent;

/// What maintainer scripts take for granted: Debian's essential packages without those that a sandbox has no use for.
const SCRIPT_TOOLS: [&str; 14] = [
    "base-files",
    "base-passwd",
    "bash",
    "coreutils",
    "dash",
    "debconf",
    "diffutils",
    "dpkg",
    "gzip",
    "libc-bin",
    "mawk",
    "perl-base",
    "sed",
    "tar",
];

/// Merges `/bin` and its like into `/usr` before anything is unpacked, as Debian's installer does. The text is
/// constant: nothing of a request gets into the shell that runs it.
const MERGE_USR_HOOK: &str =
    "--setup-hook=for d in bin sbin lib lib64; do mkdir -p \"$1/usr/$d\" && ln -s \"usr/$d\" \"$1/$d\"; done";

/// What takes space and serves nobody in a sandbox. Translations need locales, of which there is only `C.UTF-8`.
const LEFT_OUT: [&str; 7] = [
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/cache/debconf",
    "var/lib/apt/lists",
];

/// Directories of the finished tree and their modes.
const DIRECTORIES: [(&str, u32); 19] = [
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("media", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr/local/bin", 0o755),
    ("usr/local/lib", 0o755),
    ("usr/local/share", 0o755),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/tmp", 0o1777),
];

/// Files that no package holds, or that `mmdebstrap` copies from the host. Nothing here is a secret or an identity. Guests have
/// no IPv6: an address of it for `localhost` would be tried last, and its error hide that of the first.
const FILES: [(&str, &str); 5] = [
    ("etc/hostname", "sandbox\n"),
    ("etc/hosts", "127.0.0.1\tlocalhost sandbox\n"),
    ("etc/timezone", "Etc/UTC\n"),
    (
        "etc/nsswitch.conf",
        "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nprotocols: files\nservices: files\n",
    ),
    // Without a network there are no name servers; who edits the image brings the host's file.
    ("etc/resolv.conf", ""),
];

/// Files that Debian's scripts copy when they first run.
const COPIES: [(&str, &str); 4] = [
    ("usr/share/base-passwd/passwd.master", "etc/passwd"),
    ("usr/share/base-passwd/group.master", "etc/group"),
    ("usr/share/base-files/profile", "etc/profile"),
    ("usr/share/base-files/dot.profile", "root/.profile"),
];

const LINKS: [(&str, &str); 2] =
    [("etc/localtime", "/usr/share/zoneinfo/Etc/UTC"), ("etc/mtab", "../proc/self/mounts")];

/// The tree could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeTreeError {
    /// The packages could not be fetched or unpacked.
    #[error("cannot unpack the packages")]
    Bootstrap(
        /// Why.
        #[source]
        ProgramError,
    ),
    /// A file of the tree cannot be written, moved or removed.
    #[error("cannot finish {}", path.display())]
    Finish {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The cache of shared libraries cannot be made.
    #[error("cannot register the shared libraries")]
    Libraries(
        /// Why.
        #[source]
        ProgramError,
    ),
    /// Python's standard library cannot be compiled.
    #[error("cannot compile Python's standard library")]
    Bytecode(
        /// Why.
        #[source]
        ProgramError,
    ),
}

impl MakeTreeError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Bootstrap(source) | Self::Libraries(source) | Self::Bytecode(source) => source.hint(),
            Self::Finish { path, source } => crate::staging::io_hint(path, source),
        }
    }
}

/// Makes the tree of `packages` at `tree`, which does not exist yet.
pub(super) fn make_tree(
    tree: &Path,
    packages: &[String],
    suite: &str,
    mirror: Option<&str>,
    progress: &dyn Progress,
) -> Result<(), MakeTreeError> {
    progress.step("starting mmdebstrap");
    bootstrap(tree, packages, suite, mirror)
        .run_with(&|line| {
            if let Some(message) = line.strip_prefix("I: ").filter(|message| message.ends_with("...")) {
                progress.step(message.trim_end_matches('.'));
            }
        })
        .map_err(MakeTreeError::Bootstrap)?;
    progress.step("finishing the file tree");
    leave_out(tree)?;
    finish(tree)?;
    Program::new("ldconfig", "libc-bin")
        .arguments([Path::new("-r"), tree])
        .run()
        .map_err(MakeTreeError::Libraries)?;
    // Made by `ldconfig` for its own next run; holds inode numbers of this machine.
    at(tree, "var/cache/ldconfig", |path| ignore_absent(fs::remove_dir_all(path)))?;
    serve_pip(tree)?;
    compile_python(tree, progress)?;
    empty_devices(tree)
}

fn bootstrap(tree: &Path, packages: &[String], suite: &str, mirror: Option<&str>) -> Program {
    let mut include: Vec<&str> = packages.iter().map(String::as_str).collect();
    let variant = if work_unconfigured(packages) {
        "extract"
    } else {
        include.extend(SCRIPT_TOOLS);
        "custom"
    };
    include.sort_unstable();
    include.dedup();
    Program::new("mmdebstrap", "mmdebstrap")
        .arguments(["--mode=root", "--format=directory", "--dpkgopt=force-unsafe-io", MERGE_USR_HOOK])
        .argument(format!("--variant={variant}"))
        .argument(format!("--include={}", include.join(",")))
        .argument("--")
        .argument(suite)
        .argument(tree)
        .arguments(mirror)
        // Killed, it leaves its temporary files: here they go with all the rest.
        .environment("TMPDIR", crate::staging::parent(tree))
        .isolated()
}

/// Removes [`LEFT_OUT`] and documentation other than licences, which must stay with what they license.
fn leave_out(tree: &Path) -> Result<(), MakeTreeError> {
    for directory in LEFT_OUT {
        let path = tree.join(directory);
        ignore_absent(fs::remove_dir_all(&path)).map_err(|source| MakeTreeError::Finish { path, source })?;
    }
    let documents = tree.join("usr/share/doc");
    if documents.is_dir() {
        keep_licences(&documents)?;
    }
    Ok(())
}

fn keep_licences(directory: &Path) -> Result<(), MakeTreeError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| MakeTreeError::Finish { path, source }
    };
    for entry in fs::read_dir(directory).map_err(failed(directory))? {
        let entry = entry.map_err(failed(directory))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(failed(&path))?;
        if kind.is_dir() {
            keep_licences(&path)?;
        } else if kind.is_file() && entry.file_name() != "copyright" {
            fs::remove_file(&path).map_err(failed(&path))?;
        }
    }
    // Fails, as it shall, where a licence is left.
    let _is_empty = fs::remove_dir(directory);
    Ok(())
}

fn finish(tree: &Path) -> Result<(), MakeTreeError> {
    for (name, mode) in DIRECTORIES {
        at(tree, name, |path| {
            fs::create_dir_all(path)?;
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
        })?;
    }
    for (name, contents) in FILES {
        at(tree, name, |path| {
            // Removed first: it may be a symbolic link, which must not lead out of the tree.
            ignore_absent(fs::remove_file(path))?;
            fs::write(path, contents)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o644))
        })?;
    }
    for (from, name) in COPIES {
        let from = tree.join(from);
        at(tree, name, |path| {
            if path.exists() || !from.exists() { Ok(()) } else { fs::copy(&from, path).map(|_| ()) }
        })?;
    }
    for (name, target) in LINKS {
        at(tree, name, |path| {
            ignore_absent(fs::remove_file(path))?;
            symlink(target, path)
        })?;
    }
    Ok(())
}

/// Compiles the standard library, because importing it takes twice as long without bytecode, and the image is
/// mounted read-only. `pip` and package scripts compile other libraries themselves.
fn compile_python(tree: &Path, progress: &dyn Progress) -> Result<(), MakeTreeError> {
    let libraries = tree.join("usr/lib");
    let failed = |source| MakeTreeError::Finish { path: libraries.clone(), source };
    let mut directories = Vec::new();
    for entry in fs::read_dir(&libraries).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if name.starts_with("python3.") {
            directories.push(format!("/usr/lib/{name}"));
        }
    }
    if directories.is_empty() || !tree.join("usr/bin/python3").exists() {
        return Ok(());
    }
    directories.sort();
    progress.step("compiling Python's standard library");
    Program::new("chroot", "coreutils")
        .argument(tree)
        .arguments(["/usr/bin/python3", "-I", "-S", "-m", "compileall", "-q", "-j0"])
        // By time stamp, Python's default: `unchecked-hash` saves nothing at import (the source is looked up all the
        // same) and would hide later edits of the library; `checked-hash` reads every source at every import.
        .arguments(["--invalidation-mode", "timestamp"])
        .arguments(&directories)
        .environment("PYTHONHASHSEED", "0")
        .isolated()
        .run()
        .map_err(MakeTreeError::Bytecode)?;
    Ok(())
}

/// All certificates of authorities for TLS, in one file.
const CERTIFICATES: &str = "etc/ssl/certs/ca-certificates.crt";

/// Has `pip` work in an image that somebody adds to: Debian marks its Python as one that `pip` keeps away from (PEP 668),
/// and what collects the certificates for TLS is a maintainer script: they are this host's. Without `distutils-precedence.pth` no interpreter
/// loads a part of setuptools when it starts.
fn serve_pip(tree: &Path) -> Result<(), MakeTreeError> {
    let libraries = tree.join("usr/lib");
    let failed = |source| MakeTreeError::Finish { path: libraries.clone(), source };
    for entry in fs::read_dir(&libraries).map_err(failed)? {
        let library = entry.map_err(failed)?.path();
        for name in ["EXTERNALLY-MANAGED", "dist-packages/distutils-precedence.pth"] {
            let path = library.join(name);
            let is_pythons =
                library.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python3"));
            if is_pythons && path.symlink_metadata().is_ok() {
                fs::remove_file(&path).map_err(|source| MakeTreeError::Finish { path, source })?;
            }
        }
    }
    let authorities = tree.join("usr/share/ca-certificates/mozilla");
    let bundle = tree.join(CERTIFICATES);
    if !authorities.is_dir() {
        return Ok(());
    }
    let collect = || {
        // Who adds to the image does so from this host, whose administrator may trust more than Debian does.
        let ours = Path::new("/").join(CERTIFICATES);
        if ours.is_file() {
            fs::create_dir_all(parent(&bundle))?;
            ignore_absent(fs::remove_file(&bundle))?;
            return fs::copy(&ours, &bundle).map(|_| ());
        }
        let mut paths: Vec<PathBuf> =
            fs::read_dir(&authorities)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        paths.sort();
        let mut all = Vec::new();
        for path in paths {
            all.extend(fs::read(path)?);
        }
        fs::create_dir_all(parent(&bundle))?;
        fs::write(&bundle, all)
    };
    collect().map_err(|source| MakeTreeError::Finish { path: bundle.clone(), source })
}

/// The guest mounts its own `/dev`; nodes in the image would only be something to worry about on the host.
fn empty_devices(tree: &Path) -> Result<(), MakeTreeError> {
    at(tree, "dev", |path| {
        fs::remove_dir_all(path)?;
        fs::create_dir(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
    })
}

fn at(tree: &Path, name: &str, action: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), MakeTreeError> {
    let path = tree.join(name);
    action(&path).map_err(|source| MakeTreeError::Finish { path, source })
}

fn ignore_absent(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finishing_never_writes_through_a_symbolic_link() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (tree, outside) = (directory.path().join("tree"), directory.path().join("outside"));
        fs::create_dir_all(tree.join("etc")).expect("directory");
        fs::write(&outside, "untouched").expect("file");
        symlink(&outside, tree.join("etc/resolv.conf")).expect("link");
        finish(&tree).expect("finish");
        assert_eq!(fs::read_to_string(&outside).expect("file"), "untouched");
        assert_eq!(fs::read_to_string(tree.join("etc/resolv.conf")).expect("file"), "");
        assert_eq!(fs::metadata(tree.join("tmp")).expect("tmp").permissions().mode() & 0o7777, 0o1777);
    }

    #[test]
    fn licences_stay_and_other_documents_go() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let documents = directory.path().join("usr/share/doc");
        for file in ["a/copyright", "a/README", "b/changelog"] {
            fs::create_dir_all(documents.join(file).parent().expect("parent")).expect("directory");
            fs::write(documents.join(file), "").expect("file");
        }
        leave_out(directory.path()).expect("leave out");
        assert!(documents.join("a/copyright").exists());
        assert!(!documents.join("a/README").exists() && !documents.join("b").exists());
    }
}
