//! The snapshots of a data directory: finding, publishing and removing them.
//!
//! One is published by a rename of its whole directory, so a reader sees all of it or nothing. Work in progress has
//! a name that starts with `.tmp-`; what an interrupted command left under such a name is removed by the next one that
//! publishes.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use tempfile::TempDir;

use super::{DEVICE_STATE, MANIFEST, MEMORY, Manifest, ManifestError, Size};
use crate::Language;

const TEMPORARY_PREFIX: &str = ".tmp-";

/// Why the catalogue cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// A file or directory cannot be used.
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
    /// Somebody else is making the same snapshot.
    #[error("another process is making a snapshot in {}", .path.display())]
    Locked {
        /// Where.
        path: PathBuf,
    },
}

impl CatalogueError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }
}

/// All snapshots beneath one directory.
#[derive(Clone, Debug)]
pub struct Catalogue(PathBuf);

/// A snapshot that lies where one should.
#[derive(Debug)]
pub struct Entry {
    /// Its language, from its place.
    pub language: Language,
    /// Its size, from its place.
    pub size: Size,
    /// Its directory.
    pub directory: PathBuf,
    /// Its manifest, or why that cannot be used.
    pub manifest: Result<Manifest, ManifestError>,
}

impl Entry {
    /// Its device state.
    pub fn device_state(&self) -> PathBuf {
        self.directory.join(DEVICE_STATE)
    }

    /// Its memory.
    pub fn memory(&self) -> PathBuf {
        self.directory.join(MEMORY)
    }

    /// Marks it as in use for as long as the value lives: see [`Catalogue::remove_unused`]. Nothing where it is just
    /// being removed.
    pub fn in_use(&self) -> Option<File> {
        let manifest = File::open(self.directory.join(MANIFEST)).ok()?;
        flock(&manifest, FlockOperation::NonBlockingLockShared).ok()?;
        Some(manifest)
    }
}

impl Catalogue {
    /// The catalogue beneath `root`, which need not exist.
    pub fn new(root: PathBuf) -> Self {
        Self(root)
    }

    /// The snapshot of a language and a size, if there is one.
    pub fn find(&self, language: &Language, size: Size) -> Option<Entry> {
        let directory = self.directory(language, size);
        directory.is_dir().then(|| entry(language.clone(), size, directory))
    }

    /// All snapshots, by language and size.
    pub fn list(&self) -> Result<Vec<Entry>, CatalogueError> {
        let mut entries = Vec::new();
        for (name, languages) in subdirectories(&self.0)? {
            let Ok(language) = name.parse::<Language>() else { continue };
            for (name, directory) in subdirectories(&languages)? {
                if let Some(size) = Size::from_directory(&name) {
                    entries.push(entry(language.clone(), size, directory));
                }
            }
        }
        entries.sort_by(|a, b| (&a.language, a.size).cmp(&(&b.language, b.size)));
        Ok(entries)
    }

    /// Begins a snapshot: a place for its files, which vanishes unless it is published.
    pub fn stage(&self, language: &Language, size: Size) -> Result<Staged, CatalogueError> {
        let destination = self.directory(language, size);
        let parent = self.0.join(language.as_str());
        fs::create_dir_all(&parent).map_err(CatalogueError::io("make", &parent))?;
        let lock = lock(&parent)?;
        remove_leftovers(&parent)?;
        let directory = tempfile::Builder::new()
            .prefix(TEMPORARY_PREFIX)
            .tempdir_in(&parent)
            .map_err(CatalogueError::io("make a directory in", &parent))?;
        Ok(Staged { destination, directory, _lock: lock })
    }

    /// Removes a snapshot. False if there is none.
    pub fn remove(&self, language: &Language, size: Size) -> Result<bool, CatalogueError> {
        self.remove_where(language, size, |_| Ok(true))
    }

    /// Removes a snapshot that no microVM was restored from that still runs. False if there is one, or no snapshot.
    pub fn remove_unused(&self, language: &Language, size: Size) -> Result<bool, CatalogueError> {
        self.remove_where(language, size, |directory| {
            // Who uses it has locked its manifest. Without one nobody can.
            let Ok(manifest) = File::open(directory.join(MANIFEST)) else { return Ok(true) };
            match flock(&manifest, FlockOperation::NonBlockingLockExclusive) {
                Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
                locked => locked.map(|()| true).map_err(io::Error::from),
            }
        })
    }

    fn remove_where(
        &self,
        language: &Language,
        size: Size,
        may_be_removed: impl FnOnce(&Path) -> io::Result<bool>,
    ) -> Result<bool, CatalogueError> {
        let directory = self.directory(language, size);
        let parent = self.0.join(language.as_str());
        if !directory.exists() {
            return Ok(false);
        }
        let _lock = lock(&parent)?;
        if !may_be_removed(&directory).map_err(CatalogueError::io("lock", &directory))? {
            return Ok(false);
        }
        // Away from its name at once, then piece by piece: nobody finds half of it.
        let doomed = parent.join(format!("{TEMPORARY_PREFIX}removed-{size}"));
        remove_leftovers(&parent)?;
        match fs::rename(&directory, &doomed) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            renamed => renamed.map_err(CatalogueError::io("move away", &directory))?,
        }
        fs::remove_dir_all(&doomed).map_err(CatalogueError::io("remove", &doomed))?;
        Ok(true)
    }

    fn directory(&self, language: &Language, size: Size) -> PathBuf {
        self.0.join(language.as_str()).join(size.to_string())
    }
}

/// A snapshot that is being made. Dropping it removes it.
pub struct Staged {
    destination: PathBuf,
    directory: TempDir,
    _lock: File,
}

impl Staged {
    /// Where its device state belongs.
    pub fn device_state(&self) -> PathBuf {
        self.directory.path().join(DEVICE_STATE)
    }

    /// Where its memory belongs.
    pub fn memory(&self) -> PathBuf {
        self.directory.path().join(MEMORY)
    }

    /// Where it lies for now.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Puts it in the place of the one that may be there, with this manifest.
    pub fn publish(self, manifest: &Manifest) -> Result<PathBuf, CatalogueError> {
        let staged = self.directory.path();
        let path = staged.join(MANIFEST);
        let mut text = serde_json::to_vec_pretty(manifest).unwrap_or_default();
        text.push(b'\n');
        let write = || {
            let mut file = File::create_new(&path)?;
            file.write_all(&text)?;
            file.sync_all()?;
            for name in [DEVICE_STATE, MEMORY] {
                let path = staged.join(name);
                fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o444))?;
            }
            fs::set_permissions(staged, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
            File::open(staged)?.sync_all()
        };
        write().map_err(CatalogueError::io("write", &path))?;
        let renamed = match renameat_with(CWD, staged, CWD, &self.destination, RenameFlags::NOREPLACE) {
            // What was there takes the temporary name, and goes with it.
            Err(rustix::io::Errno::EXIST) => {
                renameat_with(CWD, staged, CWD, &self.destination, RenameFlags::EXCHANGE)
            }
            renamed => renamed,
        };
        renamed.map_err(io::Error::from).map_err(CatalogueError::io("publish", &self.destination))?;
        if let Some(parent) = self.destination.parent() {
            File::open(parent)
                .and_then(|parent| parent.sync_all())
                .map_err(CatalogueError::io("publish", &self.destination))?;
        }
        Ok(self.destination)
    }
}

fn entry(language: Language, size: Size, directory: PathBuf) -> Entry {
    let manifest = Manifest::read_for(&directory, &language, size);
    Entry { language, size, directory, manifest }
}

fn subdirectories(directory: &Path) -> Result<Vec<(String, PathBuf)>, CatalogueError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(CatalogueError::io("list", directory))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(CatalogueError::io("list", directory))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Ok(name) = entry.file_name().into_string()
        {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

fn lock(parent: &Path) -> Result<File, CatalogueError> {
    let path = parent.join(".lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(CatalogueError::io("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(CatalogueError::Locked { path: parent.to_owned() }),
        Err(error) => Err(CatalogueError::io("lock", &path)(error.into())),
    }
}

/// The lock is held: what has a temporary name is nobody's.
fn remove_leftovers(parent: &Path) -> Result<(), CatalogueError> {
    for (name, path) in subdirectories(parent)? {
        if name.starts_with(TEMPORARY_PREFIX) {
            fs::remove_dir_all(&path).map_err(CatalogueError::io("remove", &path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::manifest::tests::example;

    fn publish(catalogue: &Catalogue, memory: &str) -> PathBuf {
        let manifest = example();
        let staged = catalogue.stage(&manifest.language, manifest.size).unwrap();
        fs::write(staged.device_state(), "state").unwrap();
        fs::write(staged.memory(), memory).unwrap();
        staged.publish(&manifest).unwrap()
    }

    #[test]
    fn a_published_snapshot_is_found_listed_replaced_and_removed() {
        let root = tempfile::tempdir().unwrap();
        let catalogue = Catalogue::new(root.path().join("snapshots"));
        let (language, size) = (example().language, example().size);
        assert!(catalogue.list().unwrap().is_empty());
        for memory in ["first", "second"] {
            let directory = publish(&catalogue, memory);
            let found = catalogue.find(&language, size).unwrap();
            assert_eq!(found.directory, directory);
            assert_eq!(fs::read_to_string(found.memory()).unwrap(), memory);
            assert_eq!(found.manifest.unwrap(), example());
        }
        let parent = root.path().join("snapshots/python");
        assert_eq!(subdirectories(&parent).unwrap().len(), 1, "nothing temporary is left");
        assert_eq!(catalogue.list().unwrap().len(), 1);
        assert!(catalogue.remove(&language, size).unwrap());
        assert!(!catalogue.remove(&language, size).unwrap());
        assert!(catalogue.find(&language, size).is_none());
    }

    #[test]
    fn what_is_not_published_vanishes_and_leftovers_are_removed_by_the_next() {
        let root = tempfile::tempdir().unwrap();
        let catalogue = Catalogue::new(root.path().to_owned());
        let (language, size) = (example().language, example().size);
        let staged = catalogue.stage(&language, size).unwrap();
        fs::write(staged.memory(), "half").unwrap();
        drop(staged);
        let leftover = root.path().join("python/.tmp-killed");
        fs::create_dir(&leftover).unwrap();
        assert!(catalogue.find(&language, size).is_none());
        drop(catalogue.stage(&language, size).unwrap());
        assert!(!leftover.exists());
    }

    #[test]
    fn two_processes_do_not_make_the_same_snapshot() {
        let root = tempfile::tempdir().unwrap();
        let catalogue = Catalogue::new(root.path().to_owned());
        let _staged = catalogue.stage(&example().language, example().size).unwrap();
        let second = catalogue.stage(&example().language, example().size);
        assert!(matches!(second, Err(CatalogueError::Locked { .. })));
    }

    #[test]
    fn a_manifest_in_the_wrong_place_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let catalogue = Catalogue::new(root.path().to_owned());
        let directory = publish(&catalogue, "memory");
        fs::rename(&directory, directory.with_file_name("256m-1c")).unwrap();
        let found = catalogue.find(&example().language, Size { memory_mib: 256, vcpus: 1 }).unwrap();
        assert!(matches!(found.manifest, Err(ManifestError::Misplaced { .. })));
    }
}
