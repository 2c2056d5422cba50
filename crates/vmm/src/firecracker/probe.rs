//! Which Firecracker a host has.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::first_line;

/// The program's name.
const PROGRAM: &str = "firecracker";

/// The jailer's name, beside it.
const JAILER: &str = "jailer";

/// The oldest version that does what is asked of it: 1.16.0 leaves a restored guest's vsock dead.
pub const OLDEST: (u32, u32, u32) = (1, 16, 1);

/// The longest version, in bytes.
const MAX_VERSION_BYTES: usize = 64;

/// A Firecracker and its jailer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installation {
    /// Firecracker's program.
    pub program: PathBuf,
    /// The jailer's, beside it.
    pub jailer: PathBuf,
    /// Firecracker's version, without the `v`.
    pub version: String,
}

impl Installation {
    /// Whether a guest's vsock still works after it was paused and resumed without being saved: before 1.17 the device
    /// waits then, for good, for the guest to acknowledge a reset that it was never told of.
    pub fn resumes_vsock(&self) -> bool {
        numbers(&self.version).is_some_and(|version| version >= (1, 17, 0))
    }
}

/// Why there is no Firecracker to be used.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// There is none.
    #[error("{PROGRAM} is not installed")]
    Missing,
    /// There is no jailer beside it.
    #[error("there is no {JAILER} beside {}", .program.display())]
    NoJailer {
        /// Firecracker's program.
        program: PathBuf,
    },
    /// It cannot be run.
    #[error("cannot run {}", .program.display())]
    Unusable {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It does not say which version it is.
    #[error("{} --version printed {printed:?}", .program.display())]
    Unknown {
        /// The program.
        program: PathBuf,
        /// What it printed.
        printed: String,
    },
    /// It is too old.
    #[error(
        "Firecracker {version} is too old: {}.{}.{} or newer is needed (older ones lose a restored guest's vsock)",
        OLDEST.0, OLDEST.1, OLDEST.2
    )]
    TooOld {
        /// Its version.
        version: String,
    },
}

/// Finds Firecracker in `directories` and then in those of `path`, a `PATH`.
pub fn find(directories: &[PathBuf], path: Option<&OsStr>) -> Result<PathBuf, ProbeError> {
    let path = path.unwrap_or_default();
    directories
        .iter()
        .cloned()
        .chain(std::env::split_paths(path))
        .chain([PathBuf::from("/usr/bin"), PathBuf::from("/usr/local/bin")])
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(PROGRAM))
        .find(|program| program.is_file())
        .ok_or(ProbeError::Missing)
}

/// Where the jailer of the Firecracker at `program` is to be.
pub fn jailer_of(program: &Path) -> PathBuf {
    program.with_file_name(JAILER)
}

/// Asks `program` for its version, and looks for the jailer beside it.
pub fn version(program: &Path) -> Result<Installation, ProbeError> {
    let jailer = jailer_of(program);
    if !jailer.is_file() {
        return Err(ProbeError::NoJailer { program: program.to_owned() });
    }
    let printed = first_line::of_version(program)
        .map_err(|source| ProbeError::Unusable { program: program.to_owned(), source })?;
    let unknown = || ProbeError::Unknown { program: program.to_owned(), printed: printed.clone() };
    let first = printed.lines().next().unwrap_or_default();
    let version = first.strip_prefix("Firecracker v").ok_or_else(unknown)?.trim().to_owned();
    // It is shown, and written down.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-+".contains(c);
    if version.len() > MAX_VERSION_BYTES || !version.chars().all(is_plain) {
        return Err(unknown());
    }
    match numbers(&version) {
        Some(numbers) if numbers >= OLDEST => {
            Ok(Installation { program: program.to_owned(), jailer, version })
        }
        Some(_) => Err(ProbeError::TooOld { version }),
        None => Err(unknown()),
    }
}

/// The three numbers of a version; what follows a `-` says how it was built.
fn numbers(version: &str) -> Option<(u32, u32, u32)> {
    let mut numbers = version.split('-').next()?.split('.').map(|part| part.parse::<u32>().ok());
    let three = (numbers.next()??, numbers.next()??, numbers.next()??);
    numbers.next().is_none().then_some(three)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    /// A directory with a program that prints `text` when it is asked for its version.
    fn printing(text: &str, with_jailer: bool) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let names: &[&str] = if with_jailer { &[PROGRAM, JAILER] } else { &[PROGRAM] };
        for name in names {
            let program = directory.path().join(name);
            fs::write(&program, format!("#!/bin/sh\necho '{text}'\n")).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        directory
    }

    fn asked(text: &str) -> Result<Installation, ProbeError> {
        let directory = printing(text, true);
        version(&find(&[directory.path().to_owned()], None).unwrap())
    }

    #[test]
    fn versions_that_lose_vsock_are_refused() {
        assert_eq!(asked("Firecracker v1.16.1").unwrap().version, "1.16.1");
        assert_eq!(asked("Firecracker v1.17.0-dev").unwrap().version, "1.17.0-dev");
        assert_eq!(asked("Firecracker v2.0.0").unwrap().version, "2.0.0");
        assert!(!asked("Firecracker v1.16.1").unwrap().resumes_vsock());
        assert!(asked("Firecracker v1.17.0").unwrap().resumes_vsock());
        for old in ["1.16.0", "1.9.9", "0.25.2"] {
            let error = asked(&format!("Firecracker v{old}")).unwrap_err();
            assert!(matches!(error, ProbeError::TooOld { .. }), "{old}: {error}");
        }
    }

    #[test]
    fn what_is_no_firecracker_is_told() {
        let escapes = "Firecracker v1.16.1-\u{1b}[31m";
        for text in [
            escapes,
            "",
            "Firecracker",
            "Firecracker v1.16",
            "Cloud Hypervisor v1.16.1",
            "Firecracker v1.x.1",
        ] {
            assert!(matches!(asked(text), Err(ProbeError::Unknown { .. })), "{text}");
        }
        let alone = printing("Firecracker v1.16.1", false);
        let program = alone.path().join(PROGRAM);
        assert!(matches!(version(&program), Err(ProbeError::NoJailer { .. })));
        assert!(matches!(version(Path::new("/nonexistent/firecracker")), Err(ProbeError::NoJailer { .. })));
    }
}
