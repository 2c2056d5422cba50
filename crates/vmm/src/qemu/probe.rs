//! Which QEMU a host has.

use std::{
    env,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::first_line;

/// The program's name.
const PROGRAM: &str = "qemu-system-x86_64";

/// The oldest version that is known to do what is asked of it: Debian 12's.
const OLDEST: (u32, u32) = (7, 2);

/// A QEMU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installation {
    /// Its program.
    pub program: PathBuf,
    /// Its version, as it prints it.
    pub version: String,
}

/// Why there is no QEMU to be used.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// There is none.
    #[error("{PROGRAM} is not installed")]
    Missing,
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
    #[error("QEMU {version} is too old: {}.{} or newer is needed", OLDEST.0, OLDEST.1)]
    TooOld {
        /// Its version.
        version: String,
    },
}

/// Finds QEMU in the directories of `path`, a `PATH`.
pub fn find(path: Option<&std::ffi::OsStr>) -> Result<PathBuf, ProbeError> {
    let path = path.unwrap_or_default();
    env::split_paths(path)
        .chain([PathBuf::from("/usr/bin"), PathBuf::from("/usr/local/bin")])
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(PROGRAM))
        .find(|program| program.is_file())
        .ok_or(ProbeError::Missing)
}

/// Asks `program` for its version. Takes some 30 ms.
pub fn version(program: &Path) -> Result<Installation, ProbeError> {
    let printed = first_line::of_version(program)
        .map_err(|source| ProbeError::Unusable { program: program.to_owned(), source })?;
    let unknown = || ProbeError::Unknown { program: program.to_owned(), printed: printed.clone() };
    let version = printed
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("QEMU emulator version "))
        .ok_or_else(unknown)?
        .trim()
        .to_owned();
    // It is shown, and written down.
    if version.chars().any(char::is_control) {
        return Err(unknown());
    }
    let mut numbers = version.split(['.', ' ']).map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) >= OLDEST => {
            Ok(Installation { program: program.to_owned(), version })
        }
        (Some(_), Some(_)) => Err(ProbeError::TooOld { version }),
        _ => Err(unknown()),
    }
}
