//! The job directory: `/tmp/job-<id>/`, written by the agent, owned by the job.

use std::{fs::File, io::Write as _, os::fd::OwnedFd};

use protocol::message;
use rustix::{
    fs::{
        CWD, Gid, Mode, OFlags, RawMode, ResolveFlags, Uid, fchmod, fchown, mkdirat, open, openat, openat2,
    },
    io::Errno,
};

use crate::{
    credentials::JOB_USER,
    fault::{Doing, Fault},
};

const FILE_MODE: RawMode = 0o644;
const DIRECTORY_MODE: RawMode = 0o755;

/// Makes the job directory at `path` and writes `files` into it.
pub(crate) fn create(path: &str, files: &[message::File]) -> Result<(), Fault> {
    mkdirat(CWD, path, Mode::from_raw_mode(DIRECTORY_MODE)).doing(format!("make {path}"))?;
    let directory = open(path, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .doing(format!("open {path}"))?;
    give_to_job(&directory, DIRECTORY_MODE)?;
    for file in files {
        write_file(&directory, file).doing(format!("write the file {:?}", file.name))?;
    }
    Ok(())
}

/// Writes one file beneath `directory`, with the directories that its name has.
fn write_file(directory: &OwnedFd, file: &message::File) -> Result<(), Fault> {
    let (parents, name) = match file.name.rsplit_once('/') {
        Some((parents, name)) => (Some(parents), name),
        None => (None, file.name.as_str()),
    };
    let mut parent = directory.try_clone().doing("copy a descriptor")?;
    for component in parents.into_iter().flat_map(|parents| parents.split('/')) {
        parent = enter_directory(&parent, component)?;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(FILE_MODE);
    let mut created: File = openat2(&parent, name, flags, mode, beneath()).doing("create it")?.into();
    give_to_job(&created, FILE_MODE)?;
    created.write_all(&file.content.0).doing("fill it")
}

/// Opens the directory `name` in `parent`, making it where it is missing.
fn enter_directory(parent: &OwnedFd, name: &str) -> Result<OwnedFd, Fault> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat2(parent, name, flags, Mode::empty(), beneath()) {
        Err(Errno::NOENT) => {}
        opened => return opened.doing(format!("open the directory {name:?}")),
    }
    mkdirat(parent, name, Mode::from_raw_mode(DIRECTORY_MODE))
        .doing(format!("make the directory {name:?}"))?;
    let made = openat(parent, name, flags | OFlags::NOFOLLOW, Mode::empty()).doing("open it")?;
    give_to_job(&made, DIRECTORY_MODE)?;
    Ok(made)
}

/// The host has checked the names. This makes a name that it let through by mistake an error and no way out.
fn beneath() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
}

fn give_to_job(file: &impl std::os::fd::AsFd, mode: RawMode) -> Result<(), Fault> {
    fchown(file, Some(Uid::from_raw(JOB_USER)), Some(Gid::from_raw(JOB_USER))).doing("give it to the job")?;
    fchmod(file, Mode::from_raw_mode(mode)).doing("set its mode")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn file(name: &str) -> message::File {
        message::File { name: name.to_owned(), content: "x".into() }
    }

    /// Runs as whoever runs the tests: giving files away needs root, which CI is.
    fn created(files: &[message::File]) -> (tempfile::TempDir, String, Result<(), Fault>) {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("job").to_str().unwrap().to_owned();
        let result = create(&path, files);
        (scratch, path, result)
    }

    #[test]
    fn files_land_beneath_the_job_directory_with_their_parents() {
        let (_scratch, path, result) = created(&[file("main.py"), file("a/b/c.py"), file("a/b/d.py")]);
        result.unwrap();
        for name in ["main.py", "a/b/c.py", "a/b/d.py"] {
            assert_eq!(fs::read_to_string(format!("{path}/{name}")).unwrap(), "x");
        }
    }

    #[test]
    fn names_that_lead_out_of_the_job_directory_are_refused() {
        for name in ["../x", "a/../../x", "/x", "..", ".", "", "a//../../x"] {
            let (scratch, _, result) = created(&[file(name)]);
            assert!(result.is_err(), "{name:?} was written");
            assert!(!scratch.path().join("x").exists());
        }
    }

    #[test]
    fn a_name_given_twice_is_refused() {
        let (_scratch, _, result) = created(&[file("main.py"), file("main.py")]);
        assert!(result.is_err());
    }
}
