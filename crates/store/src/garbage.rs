//! What a data directory holds and nobody needs: layers of no image, downloads that were interrupted, unfinished work of
//! commands that were killed.
//!
//! Finding and removing are two steps, and between them something may be taken into use. So whatever is removed is locked
//! first, by the lock of those who use it; what is locked stays. Snapshots are judged by who knows the host
//! (`engine`), and removed by their [`Catalogue`](crate::snapshot::Catalogue).

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use images::{
    Sha256Digest,
    oci::registry::{PARTIAL, lock_cache},
    rootfs::{ListRootfsError, RootfsSource},
    staging::{self, OutputLock},
};
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;

use crate::DataDirectory;

/// Something that nobody needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Garbage {
    /// What it is.
    pub kind: Kind,
    /// The file or directory.
    pub path: PathBuf,
    /// What it takes on the disk.
    pub disk_bytes: u64,
}

/// Kinds of what nobody needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A layer of which no image is made.
    Layer,
    /// The beginning of a layer, or of what was to come from a bucket.
    Download,
    /// What a command that was killed was working on.
    Unfinished,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Layer => "unused layer",
            Self::Download => "interrupted download",
            Self::Unfinished => "unfinished work",
        })
    }
}

/// Why it cannot be found or removed.
#[derive(Debug, thiserror::Error)]
pub enum GarbageError {
    /// A directory cannot be listed, or a file be removed.
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
    /// Without the images nobody knows which layers are needed.
    #[error("cannot tell which layers are in use")]
    Images(#[from] ListRootfsError),
}

impl GarbageError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Io { .. } => Some("check the permissions of the data directory".to_owned()),
            Self::Images(source) => source.hint(),
        }
    }
}

/// All that nobody needs, but for snapshots.
pub fn find(data: &DataDirectory) -> Result<Vec<Garbage>, GarbageError> {
    let needed = needed_layers(data)?;
    let mut found = Vec::new();
    for path in entries(&data.layers())? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if let Ok(digest) = name.parse::<Sha256Digest>() {
            if !needed.contains(&digest) {
                found.push(garbage(Kind::Layer, path));
            }
        } else if path.extension().is_some_and(|extension| extension == PARTIAL) {
            found.push(garbage(Kind::Download, path));
        }
    }
    for path in entries(&data.downloads())? {
        if path.extension().is_some_and(|extension| extension == PARTIAL) {
            found.push(garbage(Kind::Download, path));
        }
    }
    for directory in [data.root().to_owned(), data.images()] {
        let leftovers = staging::leftovers(&directory).map_err(GarbageError::io("list", &directory))?;
        found.extend(leftovers.into_iter().map(|path| garbage(Kind::Unfinished, path)));
    }
    found.sort_by(|one, other| (one.kind, &one.path).cmp(&(other.kind, &other.path)));
    Ok(found)
}

/// Removes it. False where it is in use, or gone by now.
pub fn remove(data: &DataDirectory, garbage: &Garbage) -> Result<bool, GarbageError> {
    let path = &garbage.path;
    let failed = |source| GarbageError::io("remove", path)(source);
    match garbage.kind {
        Kind::Layer => {
            let Some(_lock) = not_busy(lock_cache(&data.layers(), FlockOperation::NonBlockingLockExclusive))
                .map_err(failed)?
            else {
                return Ok(false);
            };
            // An image may have come to need it.
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_needed =
                name.parse().is_ok_and(|digest| needed_layers(data).is_ok_and(|all| all.contains(&digest)));
            if is_needed { Ok(false) } else { gone(fs::remove_file(path)).map_err(failed) }
        }
        Kind::Download => {
            let Ok(file) = File::options().read(true).write(true).open(path) else { return Ok(false) };
            let locked = flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(io::Error::from);
            match not_busy(locked).map_err(failed)? {
                Some(()) => gone(fs::remove_file(path)).map_err(failed),
                None => Ok(false),
            }
        }
        Kind::Unfinished => {
            let Some(destination) = staging::destination_of_leftover(path) else { return Ok(false) };
            match not_busy(OutputLock::acquire(&destination)).map_err(failed)? {
                Some(lock) => lock.remove_leftovers().map(|()| true).map_err(failed),
                None => Ok(false),
            }
        }
    }
}

/// The layers of which the images here are made.
fn needed_layers(data: &DataDirectory) -> Result<BTreeSet<Sha256Digest>, GarbageError> {
    let images = images::rootfs::list(&data.images())?;
    let layers = images.into_iter().filter_map(|image| match image.details?.source {
        RootfsSource::Oci { layers, .. } => Some(layers),
        _ => None,
    });
    Ok(layers.flatten().collect())
}

fn garbage(kind: Kind, path: PathBuf) -> Garbage {
    Garbage { kind, disk_bytes: disk_bytes(&path), path }
}

/// What a file, or a directory with all that it holds, takes on the disk.
pub fn disk_bytes(path: &Path) -> u64 {
    const BLOCK: u64 = 512;
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    let own = metadata.blocks() * BLOCK;
    if !metadata.is_dir() {
        return own;
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    own + entries.map(|entry| disk_bytes(&entry.path())).sum::<u64>()
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, GarbageError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(GarbageError::io("list", directory))?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    paths.collect::<io::Result<_>>().map_err(GarbageError::io("list", directory))
}

/// Nothing where somebody else has the lock.
fn not_busy<T>(locked: io::Result<T>) -> io::Result<Option<T>> {
    match locked {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        locked => locked.map(Some),
    }
}

/// False where it was gone.
fn gone(removed: io::Result<()>) -> io::Result<bool> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        removed => removed.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use images::rootfs::{ImageConfig, RootfsDetails, details_path};

    use super::*;

    fn data() -> (tempfile::TempDir, DataDirectory) {
        let root = tempfile::tempdir().unwrap();
        let data = DataDirectory::new(root.path().join("data"));
        for directory in [data.layers(), data.downloads(), data.images()] {
            fs::create_dir_all(directory).unwrap();
        }
        (root, data)
    }

    fn digest(text: &str) -> Sha256Digest {
        Sha256Digest::of_bytes(text.as_bytes())
    }

    fn layer(data: &DataDirectory, name: &str) -> PathBuf {
        let path = data.layers().join(digest(name).as_str());
        fs::write(&path, name).unwrap();
        path
    }

    fn image_of(data: &DataDirectory, layers: &[&str]) {
        let image = data.image(&"python".parse().unwrap());
        fs::write(&image, "").unwrap();
        let details = RootfsDetails {
            source: RootfsSource::Oci {
                image: "python".to_owned(),
                manifest: digest("manifest"),
                layers: layers.iter().map(|name| digest(name)).collect(),
            },
            created: 0,
            sha256: digest(""),
            size_bytes: 0,
            config: ImageConfig::default(),
            steps: Vec::new(),
        };
        fs::write(details_path(&image), serde_json::to_vec(&details).unwrap()).unwrap();
    }

    fn found(data: &DataDirectory) -> Vec<(Kind, PathBuf)> {
        find(data).unwrap().into_iter().map(|garbage| (garbage.kind, garbage.path)).collect()
    }

    #[test]
    fn layers_of_no_image_and_what_was_interrupted_go_and_all_else_stays() {
        let (_root, data) = data();
        let (kept, unused) = (layer(&data, "kept"), layer(&data, "unused"));
        image_of(&data, &["kept"]);
        let partial = data.downloads().join(format!("{}.partial", digest("x")));
        fs::write(&partial, "half").unwrap();
        let leftover = data.images().join(".tmp-rootfs-python.ext4-abcdef");
        fs::create_dir(&leftover).unwrap();
        for other in
            [data.layers().join(".lock"), data.downloads().join("notes"), data.images().join(".tmp-mine")]
        {
            fs::write(other, "").unwrap();
        }
        let expected = [
            (Kind::Layer, unused.clone()),
            (Kind::Download, partial.clone()),
            (Kind::Unfinished, leftover.clone()),
        ];
        assert_eq!(found(&data), expected);
        for garbage in find(&data).unwrap() {
            assert!(remove(&data, &garbage).unwrap(), "{garbage:?}");
        }
        assert!(found(&data).is_empty() && kept.exists());
        assert!(!unused.exists() && !partial.exists() && !leftover.exists());
    }

    #[test]
    fn what_is_in_use_stays() {
        let (_root, data) = data();
        layer(&data, "layer");
        let partial = data.downloads().join(format!("{}.partial", digest("x")));
        fs::write(&partial, "half").unwrap();
        let output = data.image(&"python".parse().unwrap());
        let lock = OutputLock::acquire(&output).unwrap();
        let work = lock.temporary_directory().unwrap();
        let layers = lock_cache(&data.layers(), FlockOperation::LockShared).unwrap();
        let download = File::open(&partial).unwrap();
        flock(&download, FlockOperation::LockExclusive).unwrap();
        let all = find(&data).unwrap();
        assert_eq!(all.len(), 3);
        for garbage in &all {
            assert!(!remove(&data, garbage).unwrap(), "{garbage:?}");
            assert!(garbage.path.exists());
        }
        drop(work);
        // Nor is a layer that an image has come to need since it was found.
        drop(layers);
        image_of(&data, &["layer"]);
        assert!(!remove(&data, &all[0]).unwrap());
        assert!(all[0].path.exists());
    }
}
