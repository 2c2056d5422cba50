//! Puts a finished image in its place, with what is noted beside it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::details::{RootfsDetails, details_path};
use crate::digest::Sha256Digest;
use crate::staging::{io_hint, replace_file, write_synced};

/// A finished image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootfsImage {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub size_bytes: u64,
    /// Its digest.
    pub sha256: Sha256Digest,
}

/// An image could not be put in place.
#[derive(Debug, thiserror::Error)]
pub enum PublishImageError {
    /// A file cannot be written, synced or renamed.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl PublishImageError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let Self::Write { path, source } = self;
        io_hint(path, source)
    }
}

/// Puts the file `staged` in the place of the image `output`, and then what is noted beside it: at no time do notes lie
/// beside another image than theirs. The caller holds the image's [`OutputLock`](crate::staging::OutputLock), and
/// `staged` lies in a temporary directory of it. [`RootfsDetails::size_bytes`] is filled in here.
pub fn publish_image(
    staged: &Path,
    output: &Path,
    mut details: RootfsDetails,
) -> Result<RootfsImage, PublishImageError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| PublishImageError::Write { path, source }
    };
    let image = File::open(staged).map_err(failed(staged))?;
    image.sync_all().map_err(failed(staged))?;
    details.size_bytes = image.metadata().map_err(failed(staged))?.len();
    let path = details_path(output);
    let text = serde_json::to_vec_pretty(&details).map_err(|error| failed(&path)(error.into()))?;
    let staged_details = staged.with_extension("json");
    write_synced(&staged_details, &text).map_err(failed(&path))?;
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&path)(error)),
        _ => {}
    }
    replace_file(staged, output).map_err(failed(output))?;
    replace_file(&staged_details, &path).map_err(failed(&path))?;
    Ok(RootfsImage { path: output.to_owned(), size_bytes: details.size_bytes, sha256: details.sha256 })
}

/// The same for an image of which nothing is known but its contents.
pub fn publish_bare_image(staged: &Path, output: &Path) -> Result<(), PublishImageError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| PublishImageError::Write { path, source }
    };
    File::open(staged).and_then(|image| image.sync_all()).map_err(failed(staged))?;
    let path = details_path(output);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&path)(error)),
        _ => replace_file(staged, output).map_err(failed(output)),
    }
}
