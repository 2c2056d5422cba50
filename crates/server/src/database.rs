//! Files that the service keeps: how one is made, opened, and brought up to date.
//!
//! It is `SQLite` with a write-ahead log, so that the service and commands may have it open at once. A new one is made
//! beside its place and put there whole, so nobody ever finds half a one.

use std::{
    fs, io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use images::staging::OutputLock;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

/// What is kept in a file, and how it came to be as it is.
#[derive(Debug)]
pub(crate) struct Schema {
    /// What is kept, as in "the tokens".
    pub(crate) what: &'static str,
    /// What has to be done where it is lost.
    pub(crate) loss: &'static str,
    /// Each with the version that it leads to; the first makes what there is in an empty one. Those that were released are
    /// never changed.
    pub(crate) migrations: &'static [(i64, &'static str)],
}

impl Schema {
    /// The version that this release writes, and the newest that it reads.
    pub(crate) fn version(&self) -> i64 {
        self.migrations.last().map_or(0, |(version, _)| *version)
    }

    /// What `SQLite` says of the file at `path`.
    pub(crate) fn failed(&self, path: &Path, source: rusqlite::Error) -> OpenError {
        OpenError::Database { what: self.what, loss: self.loss, path: path.to_owned(), source }
    }
}

/// To be read and written by its owner alone: whoever reads it learns secrets, whoever writes it lets himself in.
const MODE: u32 = 0o600;

/// How long to wait for another process that makes the file, which takes some milliseconds.
const CREATION_DEADLINE: Duration = Duration::from_secs(10);
const CREATION_POLL: Duration = Duration::from_millis(5);

/// What an end of the machine may take away. The end of the process takes nothing away, with either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// What was committed stays: for tokens and jobs.
    Full,
    /// The last moments' commits: for counts, of which there are thousands in a second.
    Recent,
}

/// Why the file cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file system refuses.
    #[error("cannot {doing} {}", .path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// `SQLite` refuses.
    #[error("cannot open {what} in {}", .path.display())]
    Database {
        /// What is kept there.
        what: &'static str,
        /// What has to be done where it is lost.
        loss: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rusqlite::Error,
    },
    /// A newer release wrote it.
    #[error("{} is of version {version}, and this release knows versions up to {known}", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: i64,
        /// The newest that is known.
        known: i64,
    },
    /// The worker could not be started.
    #[error("cannot start a thread for {what} in {}", .path.display())]
    Thread {
        /// What is kept there.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl OpenError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("free some disk space".to_owned())
            }
            Self::Io { .. } => Some("check the permissions of the data directory".to_owned()),
            Self::Database { path, source, loss, .. } => hint(path, loss, source),
            Self::Newer { .. } => Some("use the newer release of infra.operator that wrote it".to_owned()),
            Self::Thread { .. } => None,
        }
    }

    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }
}

/// What the user can do about a failure of the database at `path`.
pub(crate) fn hint(path: &Path, loss: &str, error: &rusqlite::Error) -> Option<String> {
    Some(match error.sqlite_error_code()? {
        ErrorCode::DiskFull => "free some disk space".to_owned(),
        // Of a file system that is full, too, where SQLite has asked for room in another way.
        ErrorCode::SystemIoFailure => {
            "free some disk space, or see what the kernel says of the disk".to_owned()
        }
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
            "another process is writing to it: try again".to_owned()
        }
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen => {
            "check the permissions of the data directory".to_owned()
        }
        ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt => {
            format!("put a backup in its place, or move {} away and {loss}", path.display())
        }
        _ => return None,
    })
}

/// Whether a failure is one of a disk that is full, or of a user's share of it.
pub(crate) fn is_full(error: &rusqlite::Error) -> bool {
    // The latter is what a share looks like.
    matches!(error.sqlite_error_code(), Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure))
}

/// Opens the file, and makes it where there is none. Waits no longer than `patience` for others that are writing.
pub(crate) fn open(
    path: &Path,
    schema: &Schema,
    durability: Durability,
    patience: Duration,
) -> Result<Connection, OpenError> {
    match fs::metadata(path) {
        Ok(metadata) => restrict(path, &metadata)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path, schema)?,
        Err(error) => return Err(OpenError::io("open", path)(error)),
    }
    connect(path, schema, durability, patience)
}

fn connect(
    path: &Path,
    schema: &Schema,
    durability: Durability,
    patience: Duration,
) -> Result<Connection, OpenError> {
    let failed = |source| schema.failed(path, source);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    configure(&connection, durability, patience).map_err(failed)?;
    let version = migrate(&mut connection, schema).map_err(failed)?;
    let known = schema.version();
    if version == known {
        Ok(connection)
    } else {
        Err(OpenError::Newer { path: path.to_owned(), version, known })
    }
}

fn configure(connection: &Connection, durability: Durability, patience: Duration) -> rusqlite::Result<()> {
    connection.busy_timeout(patience)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let synchronous = if durability == Durability::Full { "FULL" } else { "NORMAL" };
    connection.pragma_update(None, "synchronous", synchronous)
}

/// Brings the file up to date and gives its version, which is another than the schema's where that cannot be.
fn migrate(connection: &mut Connection, schema: &Schema) -> rusqlite::Result<i64> {
    let version =
        |connection: &Connection| connection.pragma_query_value(None, "user_version", |row| row.get(0));
    let found: i64 = version(connection)?;
    if !(0..schema.version()).contains(&found) {
        return Ok(found);
    }
    // A newer file is left as it is, so not before that is known.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have been faster.
    let found: i64 = version(&transaction)?;
    for (version, migration) in schema.migrations.iter().filter(|(version, _)| *version > found) {
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", version)?;
    }
    let reached = version(&transaction)?;
    transaction.commit()?;
    Ok(reached)
}

/// Takes permissions away that others should not have.
///
/// By its path, for the file must not be opened and closed but by `SQLite`: closing any descriptor of it would release
/// the locks of all connections that this process has to it.
fn restrict(path: &Path, metadata: &fs::Metadata) -> Result<(), OpenError> {
    if !metadata.is_file() {
        return Err(OpenError::io("open", path)(io::Error::other("not a regular file")));
    }
    if metadata.permissions().mode() & 0o777 & !MODE == 0 {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))
        .map_err(OpenError::io("restrict the permissions of", path))
}

fn create(path: &Path, schema: &Schema) -> Result<(), OpenError> {
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(OpenError::io("make", parent))?;
    let Some(lock) = creation_lock(path)? else { return Ok(()) };
    let staged = lock.temporary_directory().map_err(OpenError::io("make a directory beside", path))?;
    let file = staged.path().join("new");
    let new = fs::OpenOptions::new().write(true).create_new(true).mode(MODE).open(&file);
    drop(new.map_err(OpenError::io("make", &file))?);
    let connection =
        connect(&file, schema, Durability::Full, CREATION_DEADLINE).map_err(|error| match error {
            // The user knows it by the place that it will have.
            OpenError::Database { source, .. } => schema.failed(path, source),
            error => error,
        })?;
    // Moves everything from the log into the file, and removes the log.
    connection.close().map_err(|(_, source)| schema.failed(path, source))?;
    remove_logs(path)?;
    fs::rename(&file, path).map_err(OpenError::io("make", path))?;
    fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(OpenError::io("make", path))
}

/// The right to make the file; nothing where somebody else just has made it.
fn creation_lock(path: &Path) -> Result<Option<OutputLock>, OpenError> {
    let deadline = Instant::now() + CREATION_DEADLINE;
    loop {
        match OutputLock::acquire(path) {
            Ok(lock) => return Ok((!path.exists()).then_some(lock)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                std::thread::sleep(CREATION_POLL);
            }
            Err(error) => return Err(OpenError::io("lock", path)(error)),
        }
    }
}

/// The logs of a file that somebody has removed would be taken for those of the new one.
fn remove_logs(path: &Path) -> Result<(), OpenError> {
    for suffix in ["-wal", "-shm"] {
        let mut log = path.as_os_str().to_owned();
        log.push(suffix);
        match fs::remove_file(&log) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(OpenError::io("remove", Path::new(&log))(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Makes room where a disk is full: the log begins anew once what it holds is in the file, which seldom grows.
/// Whether that may have helped against the error.
pub(crate) fn empty_log(connection: &Connection, error: &rusqlite::Error) -> bool {
    is_full(error) && connection.execute_batch("PRAGMA wal_checkpoint(PASSIVE)").is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::SCHEMA;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data/service.sqlite3");
        (directory, path)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_file_and_its_logs_are_its_owners_alone() {
        let (_directory, path) = place();
        let connection = open(&path, &SCHEMA, Durability::Full, PATIENCE).unwrap();
        connection.execute("UPDATE token_changes SET number = 1", []).unwrap();
        assert_eq!([mode(&path), mode(&path.with_extension("sqlite3-wal"))], [MODE, MODE]);
        drop(connection);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
        open(&path, &SCHEMA, Durability::Full, PATIENCE).unwrap();
        assert_eq!(mode(&path), MODE);
    }

    #[test]
    fn nothing_unfinished_is_left_beside_the_file() {
        let (_directory, path) = place();
        drop(open(&path, &SCHEMA, Durability::Full, PATIENCE).unwrap());
        let beside = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut beside: Vec<_> = beside.collect();
        beside.sort();
        assert_eq!(beside, [".lock-service.sqlite3", "service.sqlite3"]);
    }

    #[test]
    fn many_may_open_it_first() {
        let (_directory, path) = place();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| open(&path, &SCHEMA, Durability::Full, PATIENCE).map(drop)))
                .collect();
            for thread in threads {
                thread.join().unwrap().unwrap();
            }
        });
    }

    #[test]
    fn a_file_of_a_newer_release_is_refused_and_left_as_it_is() {
        let (_directory, path) = place();
        let connection = open(&path, &SCHEMA, Durability::Full, PATIENCE).unwrap();
        connection.pragma_update(None, "user_version", SCHEMA.version() + 1).unwrap();
        connection.close().unwrap();
        let before = fs::read(&path).unwrap();
        let error = open(&path, &SCHEMA, Durability::Full, PATIENCE).unwrap_err();
        assert!(
            matches!(error, OpenError::Newer { version, .. } if version == SCHEMA.version() + 1),
            "{error:?}"
        );
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn what_is_no_database_is_refused_with_a_hint() {
        let (_directory, path) = place();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "tokens: none\n".repeat(1000)).unwrap();
        let error = open(&path, &SCHEMA, Durability::Full, PATIENCE).unwrap_err();
        assert!(error.hint().unwrap().contains("move"), "{error:?}");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(open(&path, &SCHEMA, Durability::Full, PATIENCE), Err(OpenError::Io { .. })));
    }

    #[test]
    fn the_log_of_a_file_that_was_removed_does_not_get_into_the_new_one() {
        let (_directory, path) = place();
        let connection = open(&path, &SCHEMA, Durability::Full, PATIENCE).unwrap();
        connection.execute("UPDATE token_changes SET number = 41", []).unwrap();
        let log = path.with_extension("sqlite3-wal");
        let kept = fs::read(&log).unwrap();
        drop(connection);
        fs::remove_file(&path).unwrap();
        fs::write(&log, kept).unwrap();
        let connection = open(&path, &SCHEMA, Durability::Full, PATIENCE).unwrap();
        let number: i64 =
            connection.query_row("SELECT number FROM token_changes", [], |row| row.get(0)).unwrap();
        assert_eq!(number, 0);
    }
}
