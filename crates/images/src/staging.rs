//! Writing next to the destination and putting the result in place in one step.
//!
//! A reader sees the old state or the new one, never a part. What an interrupted run leaves behind carries
//! the prefix `.tmp-` and is removed by the next one, which can tell it from work in progress by a lock: see
//! [`OutputLock`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags, flock, renameat_with};
use tempfile::TempDir;

/// Starts the name of everything unfinished that this crate puts beside a destination.
const TEMPORARY_PREFIX: &str = ".tmp-";

/// How many random characters end the name of a temporary directory.
const RANDOM_CHARACTERS: usize = 6;

/// Exclusive right to replace one destination, held until dropped.
///
/// The lock file stays: removing it would let two processes lock two different files of the same name.
#[derive(Debug)]
pub struct OutputLock {
    destination: PathBuf,
    _file: File,
}

impl OutputLock {
    /// Locks `destination`, or returns [`io::ErrorKind::WouldBlock`] if another process has.
    pub fn acquire(destination: &Path) -> io::Result<Self> {
        let path = parent(destination).join(format!(".lock-{}", file_name(destination)?));
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o644).open(path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { destination: destination.to_owned(), _file: file })
    }

    /// Removes what killed commands have left for this destination.
    pub fn remove_leftovers(&self) -> io::Result<()> {
        for path in leftovers(parent(&self.destination))? {
            if destination_of_leftover(&path).is_some_and(|of| of.file_name() == self.destination.file_name())
            {
                refuse_mounts_below(&path)?;
                fs::remove_dir_all(path)?;
            }
        }
        Ok(())
    }

    /// A new temporary directory beside the destination, removed when dropped. What earlier runs for the same
    /// destination left is removed first: nobody else can be using it while this lock is held.
    pub fn temporary_directory(&self) -> io::Result<TempDir> {
        self.remove_leftovers()?;
        let directory = parent(&self.destination);
        let prefix = format!("{TEMPORARY_PREFIX}{}-", file_name(&self.destination)?);
        tempfile::Builder::new().prefix(&prefix).rand_bytes(RANDOM_CHARACTERS).tempdir_in(directory)
    }
}

/// The temporary directories that killed commands have left in `directory`, and those of commands that run.
pub fn leftovers(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() && destination_of_leftover(&entry.path()).is_some() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// What was being made in a temporary directory, by its name; nothing where that is none.
pub fn destination_of_leftover(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?.strip_prefix(TEMPORARY_PREFIX)?;
    let (destination, random) = name.rsplit_once('-')?;
    let is_ours = random.len() == RANDOM_CHARACTERS && !destination.is_empty();
    is_ours.then(|| path.with_file_name(destination))
}

/// Removing a directory would empty what is mounted in it too, which may be the host's `/dev`. We leave no mounts
/// behind, but somebody may have made some by hand.
fn refuse_mounts_below(directory: &Path) -> io::Result<()> {
    let directory = directory.canonicalize()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    // Fields: mount, parent, device, root, mount point.
    let mut points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    match points.find(|point| Path::new(&plain(point)).starts_with(&directory)) {
        Some(point) => {
            Err(io::Error::new(io::ErrorKind::ResourceBusy, format!("something is mounted at {point}")))
        }
        None => Ok(()),
    }
}

/// A path of `mountinfo`, where blanks, tabs, line ends and backslashes are written as three octal digits (proc(5)).
fn plain(point: &str) -> String {
    let (mut plain, mut rest) = (String::new(), point);
    while let Some((before, escaped)) = rest.split_once('\\') {
        plain.push_str(before);
        let byte = escaped.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(byte.map_or('\\', char::from));
        rest = if byte.is_some() { &escaped[3..] } else { escaped };
    }
    plain + rest
}

/// The directory that holds `path`.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Writes a new file and has it on disk before returning.
pub fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Opens a file that may have come from anywhere: no link to another place, no fifo that waits for a writer, no device
/// that never ends.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}

/// Opens a regular file, or what a link to one names: the user may have put that there.
pub fn open_named(path: &Path) -> io::Result<File> {
    open_regular(&path.canonicalize()?)
}

/// Reads one that is no longer than `limit` bytes.
pub fn read_regular(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    within(open_named(path)?, limit)
}

/// Reads a file of the user's that is no longer than `limit` bytes.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    within(File::open(path)?, limit)
}

fn within(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {limit} bytes")));
    }
    Ok(bytes)
}

/// Puts the directory `staged` in the place of `destination`. An earlier directory there ends up at `staged`, for
/// the caller to remove.
pub fn replace_directory(staged: &Path, destination: &Path) -> io::Result<()> {
    sync_directory(staged)?;
    match renameat_with(CWD, staged, CWD, destination, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => {
            renameat_with(CWD, staged, CWD, destination, RenameFlags::EXCHANGE)?;
        }
        Err(error) => return Err(error.into()),
    }
    sync_directory(parent(destination))
}

/// Puts the file `staged` in the place of `destination`.
pub(crate) fn replace_file(staged: &Path, destination: &Path) -> io::Result<()> {
    fs::rename(staged, destination)?;
    sync_directory(parent(destination))
}

/// Has the names in a directory on disk.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn file_name(path: &Path) -> io::Result<String> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    Ok(name.to_string_lossy().into_owned())
}

/// The usual remedy for an input or output error at `path`.
pub(crate) fn io_hint(path: &Path, error: &io::Error) -> Option<String> {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => Some(format!("check that {shown} exists")),
        io::ErrorKind::PermissionDenied => {
            Some(format!("run with sudo, or as a user who may access {shown}"))
        }
        io::ErrorKind::StorageFull => Some(format!("free some space on the file system of {shown}")),
        io::ErrorKind::ReadOnlyFilesystem => {
            Some(format!("{shown} is on a read-only file system: choose another"))
        }
        io::ErrorKind::ResourceBusy => Some("unmount it".to_owned()),
        io::ErrorKind::WouldBlock => Some("wait for the other process to finish".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_as_they_are_called() {
        for (written, called) in [
            ("/plain", "/plain"),
            (r"/a\040b\011c\134d\012e", "/a b\tc\\d\ne"),
            (r"/\", r"/\"),
            (r"/\9é", r"/\9é"),
        ] {
            assert_eq!(plain(written), called);
        }
    }

    #[test]
    fn leftovers_of_the_same_destination_only_are_removed() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let destination = directory.path().join("a");
        let (own, other) = (directory.path().join(".tmp-a-123456"), directory.path().join(".tmp-a-b-123456"));
        for leftover in [&own, &other] {
            fs::create_dir(leftover).expect("leftover");
            fs::write(leftover.join("file"), "").expect("file");
        }
        let lock = OutputLock::acquire(&destination).expect("lock");
        let temporary = lock.temporary_directory().expect("temporary directory");
        assert!(!own.exists() && other.exists() && temporary.path().exists());
        let path = temporary.path().to_owned();
        drop(temporary);
        assert!(!path.exists());
    }

    #[test]
    fn a_destination_is_locked_by_one_at_a_time() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let destination = directory.path().join("a");
        let lock = OutputLock::acquire(&destination).expect("lock");
        let second = OutputLock::acquire(&destination).expect_err("locked");
        assert_eq!(second.kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        OutputLock::acquire(&destination).expect("lock again");
    }

    #[test]
    fn replacing_a_directory_leaves_the_old_one_aside() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (staged, destination) = (directory.path().join("staged"), directory.path().join("destination"));
        for text in ["first", "second"] {
            fs::create_dir_all(&staged).expect("directory");
            fs::write(staged.join("file"), text).expect("file");
            replace_directory(&staged, &destination).expect("replace");
            assert_eq!(fs::read_to_string(destination.join("file")).expect("file"), text);
        }
        assert_eq!(fs::read_to_string(staged.join("file")).expect("file"), "first");
    }
}
