//! Makes a rootfs image from an image of others.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};

use super::ext4::{self, WriteImageError};
use super::image::{Image, StoredLayer};
use super::layer::{Allowance, ReadLayerError, read_entries};
use super::local::{OpenImageError, open_archive, open_layout};
use super::reference::ImageSource;
use super::spool::{ContentAllowance, SpoolError, Spooled, spool};
use super::tree::{ApplyLayerError, Tree};
use crate::digest::{DigestError, Sha256Digest};
use crate::program::{Program, ProgramError};
use crate::progress::Progress;
use crate::rootfs::{IMAGE_TIME, PublishImageError, RootfsDetails, RootfsImage, RootfsSource, publish_image};
use crate::staging::{OutputLock, io_hint, parent};

/// What image to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateFromImage {
    /// The image's size; if absent, what the files need, and room for more.
    pub size_mib: Option<u64>,
    /// Where the image shall be, in the place of an earlier one.
    pub output: PathBuf,
}

/// A rootfs image could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateFromImageError {
    /// The destination is in use, or nothing can be written beside it.
    #[error("cannot begin to write {}", output.display())]
    Stage {
        /// The rootfs image.
        output: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The image has as many layers as its configuration has not.
    #[error("{image} has {layers} layers and a configuration for {configured}")]
    LayerCount {
        /// The image.
        image: String,
        /// How many it has.
        layers: usize,
        /// How many it is to have.
        configured: usize,
    },
    /// A layer could not be uncompressed.
    #[error("cannot read layer {number} of {image}")]
    Spool {
        /// The image.
        image: String,
        /// Which layer, from 1, the lowest.
        number: usize,
        /// Why.
        #[source]
        source: SpoolError,
    },
    /// A layer is something else.
    #[error("layer {number} of {image} is damaged: its SHA-256 is {found}, not {expected}")]
    Digest {
        /// The image.
        image: String,
        /// Which layer, from 1, the lowest.
        number: usize,
        /// What it is to be.
        expected: Sha256Digest,
        /// What it is.
        found: Sha256Digest,
    },
    /// A layer is no archive of files.
    #[error("cannot use layer {number} of {image}")]
    Read {
        /// The image.
        image: String,
        /// Which layer, from 1, the lowest.
        number: usize,
        /// Why.
        #[source]
        source: ReadLayerError,
    },
    /// A layer does not fit those below it.
    #[error("cannot use layer {number} of {image}")]
    Apply {
        /// The image.
        image: String,
        /// Which layer, from 1, the lowest.
        number: usize,
        /// Why.
        #[source]
        source: ApplyLayerError,
    },
    /// The rootfs image could not be written.
    #[error("cannot make the image's file system")]
    Write(
        /// Why.
        #[from]
        WriteImageError,
    ),
    /// The new rootfs image is damaged.
    #[error("the new file system has errors")]
    Check(
        /// Why.
        #[source]
        ProgramError,
    ),
    /// The new rootfs image could not be read.
    #[error("cannot compute the image's digest")]
    NewDigest(
        /// Why.
        #[from]
        DigestError,
    ),
    /// The user has interrupted the command.
    #[error("interrupted")]
    Interrupted,
    /// The rootfs image, or what is noted beside it, cannot be put in place.
    #[error("cannot put the image in place")]
    Publish(
        /// Why.
        #[from]
        PublishImageError,
    ),
}

impl CreateFromImageError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Stage { output, source } => io_hint(output, source),
            Self::Spool { source, .. } => source.hint(),
            Self::Digest { .. } => Some("pull it again".to_owned()),
            Self::Write(source) => source.hint(),
            Self::Check(source) => source.hint(),
            Self::NewDigest(source) => source.hint(),
            Self::Publish(source) => source.hint(),
            Self::Interrupted => None,
            Self::LayerCount { .. } | Self::Read { .. } | Self::Apply { .. } => {
                Some("have the image made again, with another builder".to_owned())
            }
        }
    }
}

/// Opens an image in files; nothing for one in a registry, which is [pulled](super::registry::pull). What has to be
/// uncompressed for it goes to the file system of `scratch`.
pub fn open_local(
    source: &ImageSource,
    said: &str,
    scratch: &Path,
    progress: &dyn Progress,
) -> Option<Result<Image, OpenImageError>> {
    match source {
        ImageSource::Registry(_) => None,
        ImageSource::Layout { directory, name } => Some(open_layout(directory, name.as_deref(), said)),
        ImageSource::Archive { file, name } => {
            Some(open_archive(file, name.as_deref(), said, scratch, progress))
        }
    }
}

/// Makes a rootfs image of `image`. The same image gives the same bytes.
pub fn create_from_image(
    image: &Image,
    request: &CreateFromImage,
    progress: &dyn Progress,
) -> Result<RootfsImage, CreateFromImageError> {
    let output = request.output.as_path();
    let failed = |source| CreateFromImageError::Stage { output: output.to_owned(), source };
    fs::create_dir_all(parent(output)).map_err(failed)?;
    let lock = OutputLock::acquire(output).map_err(failed)?;
    let directory = lock.temporary_directory().map_err(failed)?;
    progress.step("uncompressing the layers");
    let layers = spool_all(image, directory.path(), progress)?;
    progress.step("merging the layers");
    let tree = merge(image, &layers, progress)?;
    progress.step("writing the image");
    let staged = directory.path().join("image");
    ext4::write(&tree, &layers, &staged, request.size_mib, progress)?;
    drop((tree, layers));
    check(&staged)?;
    progress.step("computing the image's digest");
    let sha256 = Sha256Digest::of_file(&staged, progress)?;
    // From here on it is done rather than not.
    go_on(progress)?;
    let details = RootfsDetails {
        source: RootfsSource::Oci {
            image: image.name.clone(),
            manifest: image.manifest.clone(),
            layers: image.layers.iter().filter_map(|layer| layer.digest.clone()).collect(),
        },
        created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        sha256,
        size_bytes: 0,
        config: image.configuration.config.clone(),
        steps: Vec::new(),
    };
    Ok(publish_image(&staged, output, details)?)
}

/// How many layers are uncompressed at the same time at most. Zstandard may look back on 128 MiB, which each of them holds.
const MAX_WORKERS: usize = 4;

/// How many threads uncompress so many layers.
fn workers(processors: usize, layers: usize) -> usize {
    processors.min(layers).min(MAX_WORKERS)
}

/// Uncompresses all layers, a few at a time, and checks every digest of them.
fn spool_all(
    image: &Image,
    scratch: &Path,
    progress: &dyn Progress,
) -> Result<Vec<Spooled>, CreateFromImageError> {
    let expected = &image.configuration.diff_ids;
    if expected.len() != image.layers.len() {
        return Err(CreateFromImageError::LayerCount {
            image: image.name.clone(),
            layers: image.layers.len(),
            configured: expected.len(),
        });
    }
    let allowance = ContentAllowance::of(image.stored_bytes());
    let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
    let spooled: Mutex<Vec<Option<Result<Spooled, CreateFromImageError>>>> =
        Mutex::new(image.layers.iter().map(|_| None).collect());
    let total: u64 = image.layers.iter().map(|layer| layer.length).fold(0, u64::saturating_add);
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(layer) = image.layers.get(number) else { return };
            let outcome = spool_one(image, number, layer, &allowance, scratch, progress);
            let failed = outcome.is_err();
            if let Ok(mut spooled) = spooled.lock() {
                spooled[number] = Some(outcome);
            }
            if failed {
                next.store(usize::MAX / 2, Ordering::Relaxed);
            }
            progress.bytes(done.fetch_add(layer.length, Ordering::Relaxed) + layer.length, Some(total));
        }
    };
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let workers = workers(processors, image.layers.len());
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    let outcomes = spooled.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut layers = Vec::with_capacity(outcomes.len());
    // A layer that was not begun comes after one that failed.
    for outcome in outcomes.into_iter().flatten() {
        layers.push(outcome?);
    }
    Ok(layers)
}

fn spool_one(
    image: &Image,
    number: usize,
    layer: &StoredLayer,
    allowance: &ContentAllowance,
    scratch: &Path,
    progress: &dyn Progress,
) -> Result<Spooled, CreateFromImageError> {
    let failed =
        |source| CreateFromImageError::Spool { image: image.name.clone(), number: number + 1, source };
    let mut stored = Hashing { reader: layer.reader(), hasher: Sha256::new() };
    let outcome = spool(&mut stored, allowance, scratch, progress);
    // What follows the end of the compressed data counts too.
    io::copy(&mut stored, &mut io::sink()).map_err(|source| failed(SpoolError::Read(source)))?;
    let compare = |expected: Option<&Sha256Digest>, found: Sha256Digest| match expected {
        Some(expected) if *expected != found => {
            // A damaged file of the cache would be damaged for ever.
            if let Some(cached) = &layer.cached {
                let _ = fs::remove_file(cached);
            }
            let expected = expected.clone();
            Err(CreateFromImageError::Digest {
                image: image.name.clone(),
                number: number + 1,
                expected,
                found,
            })
        }
        _ => Ok(()),
    };
    compare(layer.digest.as_ref(), Sha256Digest::from_hasher(stored.hasher))?;
    let spooled = outcome.map_err(failed)?;
    compare(image.configuration.diff_ids.get(number), spooled.digest.clone())?;
    Ok(spooled)
}

/// Computes the digest of what is read through it.
struct Hashing<R> {
    reader: R,
    hasher: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

/// Work on a thread is not stopped by a signal: it looks for one between its steps.
fn go_on(progress: &dyn Progress) -> Result<(), CreateFromImageError> {
    if progress.is_interrupted() { Err(CreateFromImageError::Interrupted) } else { Ok(()) }
}

fn merge(image: &Image, layers: &[Spooled], progress: &dyn Progress) -> Result<Tree, CreateFromImageError> {
    let mut tree = Tree::new(IMAGE_TIME);
    let mut allowance = Allowance::default();
    for (index, layer) in layers.iter().enumerate() {
        go_on(progress)?;
        let (image, number) = (image.name.clone(), index + 1);
        let entries = match read_entries(&layer.file, &mut allowance) {
            Ok(entries) => entries,
            Err(source) => return Err(CreateFromImageError::Read { image, number, source }),
        };
        tree.apply(index, entries).map_err(|source| CreateFromImageError::Apply { image, number, source })?;
    }
    Ok(tree)
}

/// Has somebody else look at it, where that program is at hand: the writer is young.
fn check(image: &Path) -> Result<(), CreateFromImageError> {
    match Program::new("e2fsck", "e2fsprogs").arguments(["-f", "-n"]).argument(image).run() {
        Err(error) if error.is_missing() => Ok(()),
        Err(error) => Err(CreateFromImageError::Check(error)),
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_machine_uncompresses_no_more_at_a_time_than_a_small_one_has_memory_for() {
        assert_eq!([workers(1, 9), workers(8, 2), workers(256, 512)], [1, 2, MAX_WORKERS]);
    }
}
