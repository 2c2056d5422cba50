//! The manifests in a bucket: of an image, and of a snapshot.
//!
//! What is read here may come from anybody. It is bounded before it is parsed, and judged in full before anything is
//! asked for or written because of it.

use std::path::Path;

use images::{
    Sha256Digest,
    rootfs::{MAX_DETAILS_BYTES, RootfsDetails},
};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::value::RawValue;

use super::chunk;
use crate::{
    Language,
    snapshot::{FileRecord, Manifest, ManifestError, Size, manifest::is_showable},
};

/// The version of the format that this build reads and writes.
pub const REMOTE_FORMAT_VERSION: u32 = 1;

/// The largest manifest, in bytes: a chunk takes 120 of them, and the largest image has 131072.
pub(super) const MAX_MANIFEST_BYTES: usize = 16 << 20;

/// The largest image.
const MAX_IMAGE_BYTES: u64 = 1 << 40;

/// The unit in which disks are attached.
const SECTOR_BYTES: u64 = 512;

/// The largest device state: QEMU's is 60 kB and Firecracker's less.
const MAX_DEVICE_STATE_BYTES: u64 = 256 << 20;

/// The largest microVM.
const MAX_MEMORY_MIB: u32 = 65_536;

/// The longest text of an image's details.
const MAX_DETAIL_BYTES: usize = 16 << 10;

/// A chunk of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChunkRecord {
    /// Which of the file's, from 0.
    pub(super) index: u32,
    /// Its name.
    pub(super) sha256: Sha256Digest,
    /// How many pages it holds.
    pub(super) pages: u32,
    /// How many bytes its object has; informative.
    pub(super) stored: u64,
}

/// An image in a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RemoteImage {
    pub(super) format_version: u32,
    pub(super) language: Language,
    pub(super) image: FileRecord,
    pub(super) chunks: Vec<ChunkRecord>,
    /// What is noted beside it where it came from.
    #[serde(deserialize_with = "bounded")]
    pub(super) details: Option<RootfsDetails>,
}

/// A snapshot in a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct RemoteSnapshot {
    pub(super) format_version: u32,
    /// Its own manifest, as it lies on a disk.
    pub(super) snapshot: Manifest,
    pub(super) device_state: Vec<ChunkRecord>,
    pub(super) memory: Vec<ChunkRecord>,
}

/// Why a manifest in a bucket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RemoteManifestError {
    /// It is no manifest.
    #[error("{object} is no manifest")]
    Malformed {
        /// The object.
        object: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// It was written by another release.
    #[error("{object} has format {found}, this release reads {REMOTE_FORMAT_VERSION}")]
    Version {
        /// The object.
        object: String,
        /// The format that it has.
        found: u64,
    },
    /// The snapshot's own manifest cannot be used.
    #[error("{object} holds a snapshot that cannot be used")]
    Snapshot {
        /// The object.
        object: String,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// It says what cannot be.
    #[error("{object} is not to be believed: {what}")]
    Implausible {
        /// The object.
        object: String,
        /// What.
        what: &'static str,
    },
}

impl RemoteManifestError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Version { found, .. } if *found > u64::from(REMOTE_FORMAT_VERSION) => {
                Some("use a newer release of infra.operator".to_owned())
            }
            _ => Some("upload it again from a host that has it".to_owned()),
        }
    }
}

impl RemoteImage {
    /// The manifest that `text` is. It must be that of this image.
    pub(super) fn parse(
        text: &[u8],
        object: &str,
        language: &Language,
        sha256: &Sha256Digest,
    ) -> Result<Self, RemoteManifestError> {
        check_version(text, object)?;
        let manifest: Self = serde_json::from_slice(text).map_err(malformed(object))?;
        manifest.judge(language, sha256).map_err(implausible(object))?;
        Ok(manifest)
    }

    fn judge(&self, language: &Language, sha256: &Sha256Digest) -> Result<(), &'static str> {
        if self.language != *language || self.image.sha256 != *sha256 {
            return Err("it is about another image than its name says");
        }
        judge_image(&self.image)?;
        judge_chunks(&self.chunks, self.image.bytes)?;
        match &self.details {
            Some(details) if !details.config.is_sound() || !can_be_shown(details) => {
                Err("its details hold what cannot be used or shown")
            }
            _ => Ok(()),
        }
    }
}

impl RemoteSnapshot {
    /// The manifest that `text` is. It must be that of a snapshot of this language and size.
    pub(super) fn parse(
        text: &[u8],
        object: &str,
        language: &Language,
        size: Size,
    ) -> Result<Self, RemoteManifestError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Written {
            format_version: u32,
            snapshot: Box<RawValue>,
            device_state: Vec<ChunkRecord>,
            memory: Vec<ChunkRecord>,
        }
        check_version(text, object)?;
        let Written { format_version, snapshot, device_state, memory } =
            serde_json::from_slice(text).map_err(malformed(object))?;
        // By its own rules, and with its own version.
        let snapshot = Manifest::parse_bounded(snapshot.get().as_bytes(), Path::new(object))
            .map_err(|source| RemoteManifestError::Snapshot { object: object.to_owned(), source })?;
        let manifest = Self { format_version, snapshot, device_state, memory };
        manifest.judge(language, size).map_err(implausible(object))?;
        Ok(manifest)
    }

    fn judge(&self, language: &Language, size: Size) -> Result<(), &'static str> {
        let Self { snapshot, device_state, memory, .. } = self;
        if snapshot.language != *language || snapshot.size != size {
            return Err("it is about another snapshot than its name says");
        }
        if size.memory_mib > MAX_MEMORY_MIB || snapshot.memory.bytes != u64::from(size.memory_mib) << 20 {
            return Err("its memory is not as long as it is large");
        }
        if snapshot.device_state.bytes == 0 || snapshot.device_state.bytes > MAX_DEVICE_STATE_BYTES {
            return Err("its device state has a length that no device state has");
        }
        let (state, memory_file, image) =
            (&snapshot.device_state.sha256, &snapshot.memory.sha256, &snapshot.rootfs.sha256);
        // Of each there is one download at a time, and this one would wait for itself.
        if state == memory_file || state == image || memory_file == image {
            return Err("two of its files are one");
        }
        judge_image(&snapshot.rootfs)?;
        judge_chunks(device_state, snapshot.device_state.bytes)?;
        judge_chunks(memory, snapshot.memory.bytes)
    }
}

/// Reads details only where they are no larger than any: what is understood takes many times its length.
fn bounded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<RootfsDetails>, D::Error> {
    let Some(text) = Option::<Box<RawValue>>::deserialize(deserializer)? else { return Ok(None) };
    if text.get().len() as u64 > MAX_DETAILS_BYTES {
        return Err(D::Error::custom("its details are too large"));
    }
    serde_json::from_str(text.get()).map(Some).map_err(D::Error::custom)
}

fn check_version(text: &[u8], object: &str) -> Result<(), RemoteManifestError> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u64,
    }
    // The version first: another one may have other fields.
    let Version { format_version: found } = serde_json::from_slice(text).map_err(malformed(object))?;
    if found == u64::from(REMOTE_FORMAT_VERSION) {
        Ok(())
    } else {
        Err(RemoteManifestError::Version { object: object.to_owned(), found })
    }
}

fn malformed(object: &str) -> impl FnOnce(serde_json::Error) -> RemoteManifestError + use<> {
    let object = object.to_owned();
    |source| {
        // Its texts may repeat what was read, which may move a terminal.
        let shown: String = source.to_string().chars().filter(|c| is_showable(*c)).take(300).collect();
        RemoteManifestError::Malformed { object, source: serde_json::Error::custom(shown) }
    }
}

fn implausible(object: &str) -> impl FnOnce(&'static str) -> RemoteManifestError + use<> {
    let object = object.to_owned();
    |what| RemoteManifestError::Implausible { object, what }
}

fn judge_image(image: &FileRecord) -> Result<(), &'static str> {
    if image.bytes == 0 || image.bytes > MAX_IMAGE_BYTES || !image.bytes.is_multiple_of(SECTOR_BYTES) {
        return Err("its image has a length that no image has");
    }
    Ok(())
}

/// Chunks in order, none twice, none beyond the end of a file of this length.
fn judge_chunks(chunks: &[ChunkRecord], bytes: u64) -> Result<(), &'static str> {
    if !chunks.is_sorted_by(|one, next| one.index < next.index) {
        return Err("its chunks are not in order");
    }
    for record in chunks {
        let part = chunk::part(record.index, bytes);
        if u64::from(record.index) >= chunk::count(bytes) {
            return Err("it has a chunk beyond the end of its file");
        }
        let pages = (part.end - part.start).div_ceil(chunk::PAGE_BYTES as u64);
        if record.pages == 0 || u64::from(record.pages) > pages {
            return Err("it has a chunk with as many pages as no chunk has");
        }
        if record.stored > chunk::MAX_STORED_BYTES as u64 {
            return Err("it has a chunk that is larger than any");
        }
    }
    Ok(())
}

/// Whether all texts of an image's details do nothing but be seen, whatever fields it has.
fn can_be_shown(details: &RootfsDetails) -> bool {
    fn holds(value: &serde_json::Value) -> bool {
        let is_sound = |text: &str| text.len() <= MAX_DETAIL_BYTES && text.chars().all(is_showable);
        match value {
            serde_json::Value::String(text) => is_sound(text),
            serde_json::Value::Array(values) => values.iter().all(holds),
            serde_json::Value::Object(fields) => {
                fields.iter().all(|(name, value)| is_sound(name) && holds(value))
            }
            _ => true,
        }
    }
    // As it will be written beside the image, which is longer: no more of it than this is read there.
    let text = serde_json::to_vec_pretty(details);
    text.is_ok_and(|text| text.len() as u64 <= MAX_DETAILS_BYTES)
        && serde_json::to_value(details).is_ok_and(|value| holds(&value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::manifest::tests::example;

    fn record() -> FileRecord {
        FileRecord { sha256: Sha256Digest::of_bytes(b"image"), bytes: 4096 }
    }

    fn image(details: &str) -> Result<RemoteImage, RemoteManifestError> {
        let (language, image): (Language, FileRecord) = ("python".parse().unwrap(), record());
        let image_json = serde_json::to_string(&image).unwrap();
        let text = format!(
            r#"{{"format_version":1,"language":"python","image":{image_json},"chunks":[],"details":{details}}}"#
        );
        RemoteImage::parse(text.as_bytes(), "object", &language, &image.sha256)
    }

    #[test]
    fn details_that_are_larger_than_any_are_refused_before_they_are_understood() {
        assert!(image("null").is_ok());
        let packages = |count: usize| {
            let packages = vec![r#""a""#; count].join(",");
            let digest = Sha256Digest::of_bytes(b"");
            format!(
                r#"{{"source":{{"kind":"debian","packages":[{packages}],"suite":"x"}},"created":1,"sha256":"{digest}","size_bytes":0}}"#
            )
        };
        assert!(image(&packages(1000)).is_ok());
        let most = usize::try_from(MAX_DETAILS_BYTES).unwrap();
        let error = image(&packages(most / 4)).unwrap_err();
        assert!(matches!(error, RemoteManifestError::Malformed { .. }), "{error}");
        // Not too long here, but where it is written beside the image, with a line for each.
        let error = image(&packages(most / 5)).unwrap_err();
        assert!(matches!(error, RemoteManifestError::Implausible { .. }), "{error}");
    }

    #[test]
    fn a_snapshots_manifest_that_is_larger_than_any_is_refused_before_it_is_understood() {
        let (language, size) = (example().language, example().size);
        let parsed = |snapshot: &str| {
            let text =
                format!(r#"{{"format_version":1,"snapshot":{snapshot},"device_state":[],"memory":[]}}"#);
            RemoteSnapshot::parse(text.as_bytes(), "object", &language, size).unwrap_err()
        };
        let snapshot = serde_json::to_string(&example()).unwrap();
        // It was understood, and is not to be believed.
        assert!(matches!(parsed(&snapshot), RemoteManifestError::Implausible { .. }));
        let large = format!("[{}0]", "0,".repeat(64 << 10));
        let error = parsed(&large);
        assert!(
            matches!(error, RemoteManifestError::Snapshot { source: ManifestError::TooLarge { .. }, .. }),
            "{error}"
        );
    }
}
