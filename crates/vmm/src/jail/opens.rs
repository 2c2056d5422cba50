//! Answers the VMM's opens for reading and writing.
//!
//! QEMU opens a memory file read-write even where it maps it privately and never writes it (before 8.2 there is no
//! option that says otherwise). A read-write descriptor of a snapshot's memory in the hands of a VMM that a guest has
//! taken over would be the end of every later clone. So the supervisor answers that one open, through seccomp's user
//! notification, with a read-only descriptor, which `MAP_PRIVATE` is content with.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::FileExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, openat},
    io::Errno,
};

use crate::sys;

/// The files that are opened read-only, whatever was asked for.
pub(super) struct ReadOnlyFiles {
    files: Vec<(PathBuf, File)>,
    /// The host's `/proc`, opened before the jail's root hid it.
    proc: OwnedFd,
}

impl ReadOnlyFiles {
    /// For `files`, by their paths in the jail, opened read-only.
    pub(super) fn new(files: Vec<(PathBuf, File)>) -> io::Result<Self> {
        let proc = rustix::fs::open("/proc", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { files, proc })
    }

    /// Answers the question that waits on `listener`.
    pub(super) fn answer(&self, listener: BorrowedFd<'_>) -> io::Result<()> {
        let open = match sys::receive_open(listener) {
            Ok(open) => open,
            // The asking process was killed meanwhile.
            Err(Errno::NOENT | Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let path = self.path(open.process, open.path).unwrap_or_default();
        let answered = match self.files.iter().find(|(jail, _)| *jail == path) {
            Some((_, file)) => match sys::answer_open(listener, open.id, file.as_fd()) {
                // It has as many descriptors as it may have: its own fault, and no end of ours.
                Err(error) if error != Errno::NOENT => sys::refuse_open(listener, open.id, error),
                answered => answered,
            },
            // The path may have changed since it was read, and that is no harm: the jail has nothing else that
            // may be written but what was meant to be.
            None => sys::let_open_continue(listener, open.id),
        };
        match answered {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The path at `address` of `process`.
    fn path(&self, process: u32, address: u64) -> io::Result<PathBuf> {
        const LONGEST: usize = 256;
        let memory =
            openat(&self.proc, format!("{process}/mem"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut bytes = [0; LONGEST];
        // It may end at the end of a page behind which nothing is mapped: then less than asked for is read.
        let length = File::from(memory).read_at(&mut bytes, address)?;
        let end = bytes[..length].iter().position(|byte| *byte == 0).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Path::new(OsStr::from_bytes(&bytes[..end])).to_owned())
    }
}
