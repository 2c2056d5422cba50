//! What only one command at a time may do on a data directory.

use std::{
    fs::{self, File},
    path::Path,
};

use anyhow::Context as _;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use crate::failure::Failure;

/// Takes the lock at `path`, which is given back when the file is closed. Where somebody has it, `taken` says who, and the hint
/// what to do.
pub(crate) fn lock(path: &Path, taken: &'static str, hint: &str) -> Result<File, Failure> {
    let failed = || format!("cannot lock {}", path.display());
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(failed).map_err(Failure::host)?;
    }
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(failed)
        .map_err(Failure::host)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(Errno::WOULDBLOCK) => Err(Failure::host(anyhow::anyhow!(taken)).hint(hint.to_owned())),
        Err(error) => Err(Failure::host(anyhow::Error::new(error).context(failed()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_had_once_and_given_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/some.lock");
        let held = lock(&path, "taken", "wait").unwrap();
        assert!(lock(&path, "taken", "wait").is_err());
        drop(held);
        assert!(lock(&path, "taken", "wait").is_ok());
    }
}
