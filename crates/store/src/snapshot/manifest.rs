//! The manifest of a snapshot.

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use images::{Sha256Digest, rootfs::ImageConfig, staging::open_regular};
use serde::{Deserialize, Serialize};

use super::MANIFEST;
use crate::Language;

/// The version of the format that this build reads and writes.
pub const FORMAT_VERSION: u32 = 3;

/// The largest manifest, in bytes. One is about 1 kB.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 64 << 10;

/// What a snapshot is, and what has to be the same where it is restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT_VERSION`] when it was written.
    pub format_version: u32,
    /// The language that it was prepared for.
    pub language: Language,
    /// The microVM's size.
    pub size: Size,
    /// Whether an initialised interpreter waits inside.
    pub initialised: bool,
    /// The generation of the protocol that the guest agent inside speaks.
    pub protocol_generation: u32,
    /// The VMM and the host.
    pub host: HostRecord,
    /// The kernel bundle.
    pub kernel: KernelRecord,
    /// The rootfs image.
    pub rootfs: FileRecord,
    /// What the image added to the environment of its programs: the interpreter inside has it.
    pub environment: BTreeMap<String, String>,
    /// The device state.
    pub device_state: FileRecord,
    /// The guest memory.
    pub memory: FileRecord,
    /// When it was made, in seconds since the Unix epoch.
    pub created_unix: u64,
}

/// A microVM's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// Memory, in MiB.
    pub memory_mib: u32,
    /// Virtual processors.
    pub vcpus: u32,
}

impl std::fmt::Display for Size {
    /// The name of its directory: `512m-1c`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}m-{}c", self.memory_mib, self.vcpus)
    }
}

impl Size {
    /// The size whose [`Display`](std::fmt::Display) is `name`.
    pub fn from_directory(name: &str) -> Option<Self> {
        let (memory, vcpus) = name.split_once("m-")?;
        let size = Self { memory_mib: memory.parse().ok()?, vcpus: vcpus.strip_suffix('c')?.parse().ok()? };
        // "+5" and "007" are numbers too, and no names of ours.
        (size.to_string() == name).then_some(size)
    }
}

/// The VMM and the host that a snapshot was made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRecord {
    /// The VMM: `firecracker`, `qemu`.
    pub vmm: String,
    /// Its version.
    pub vmm_version: String,
    /// `kvm` or `tcg`.
    pub acceleration: String,
    /// The processor that the guest saw.
    pub cpu: String,
    /// The rate of the time-stamp counter, in MHz; nothing where the VMM gives each clone the one it was saved with.
    pub tsc_mhz: Option<u32>,
}

/// The kernel bundle that a snapshot was booted from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelRecord {
    /// The kernel's release.
    pub release: String,
    /// The digest of `vmlinux`.
    pub vmlinux: Sha256Digest,
    /// The digest of the initramfs, and so of the guest agent.
    pub initramfs: Sha256Digest,
}

/// The contents of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// Its digest.
    pub sha256: Sha256Digest,
    /// Its length, holes included.
    pub bytes: u64,
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not what a manifest is.
    #[error("{} is no manifest of a snapshot", .path.display())]
    Malformed {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// It is larger than any manifest.
    #[error("{} is too large for a manifest", .path.display())]
    TooLarge {
        /// Its path.
        path: PathBuf,
    },
    /// It was written by another release.
    #[error("{} has format {found}, this release reads {FORMAT_VERSION}", .path.display())]
    Version {
        /// Its path.
        path: PathBuf,
        /// The format that it has.
        found: u64,
    },
    /// It is about something else than the directory that it lies in says.
    #[error("{} describes {language} {size}", .path.display())]
    Misplaced {
        /// Its path.
        path: PathBuf,
        /// The language that it is about.
        language: Language,
        /// The size that it is about.
        size: Size,
    },
}

impl Manifest {
    /// Reads the manifest in `directory`.
    pub fn read(directory: &Path) -> Result<Self, ManifestError> {
        let path = directory.join(MANIFEST);
        let failed = |source| ManifestError::Read { path: path.clone(), source };
        let mut text = Vec::new();
        open_regular(&path)
            .and_then(|file| file.take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut text))
            .map_err(failed)?;
        Self::parse_bounded(&text, &path)
    }

    /// The same as [`Self::parse`] of a text that may be larger than any manifest.
    pub(crate) fn parse_bounded(text: &[u8], path: &Path) -> Result<Self, ManifestError> {
        if text.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLarge { path: path.to_owned() });
        }
        Self::parse(text, path)
    }

    /// Reads the manifest in `directory`, which must be about this language and this size.
    pub fn read_for(directory: &Path, language: &Language, size: Size) -> Result<Self, ManifestError> {
        let manifest = Self::read(directory)?;
        if manifest.language == *language && manifest.size == size {
            return Ok(manifest);
        }
        let path = directory.join(MANIFEST);
        Err(ManifestError::Misplaced { path, language: manifest.language, size: manifest.size })
    }

    /// The manifest that `text` is; `path` is where it came from.
    pub(crate) fn parse(text: &[u8], path: &Path) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u64,
        }
        let malformed = |source| ManifestError::Malformed { path: path.to_owned(), source };
        // The version first: another one may have other fields.
        let Version { format_version: found } = serde_json::from_slice(text).map_err(malformed)?;
        if found != u64::from(FORMAT_VERSION) {
            return Err(ManifestError::Version { path: path.to_owned(), found });
        }
        let manifest: Self = serde_json::from_slice(text).map_err(malformed)?;
        let Self { host, kernel, .. } = &manifest;
        let texts = [&host.vmm, &host.vmm_version, &host.acceleration, &host.cpu, &kernel.release];
        if texts.iter().any(|text| text.len() > MAX_TEXT_BYTES || !text.chars().all(is_showable)) {
            let reason = "a text that cannot be shown, or is too long";
            return Err(malformed(serde::de::Error::custom(reason)));
        }
        let config = ImageConfig { environment: manifest.environment, ..ImageConfig::default() };
        if !config.is_sound() {
            let reason = "an environment that no program could be given";
            return Err(malformed(serde::de::Error::custom(reason)));
        }
        Ok(Self { environment: config.environment, ..manifest })
    }
}

/// The longest text of a manifest, in bytes. A processor's model is some 80.
const MAX_TEXT_BYTES: usize = 256;

/// Whether a character does nothing but be seen: these texts are shown in tables and errors.
pub(crate) fn is_showable(c: char) -> bool {
    let is_about_direction =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !is_about_direction
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn example() -> Manifest {
        let record = FileRecord { sha256: Sha256Digest::of_bytes(b""), bytes: 0 };
        Manifest {
            format_version: FORMAT_VERSION,
            language: "python".parse().unwrap(),
            size: Size { memory_mib: 512, vcpus: 1 },
            initialised: true,
            protocol_generation: 1,
            host: HostRecord {
                vmm: "qemu".to_owned(),
                vmm_version: "7.2.22".to_owned(),
                acceleration: "tcg".to_owned(),
                cpu: "max".to_owned(),
                tsc_mhz: Some(2445),
            },
            kernel: KernelRecord {
                release: "6.12".to_owned(),
                vmlinux: record.sha256.clone(),
                initramfs: record.sha256.clone(),
            },
            rootfs: record.clone(),
            environment: BTreeMap::new(),
            device_state: record.clone(),
            memory: record,
            created_unix: 1_700_000_000,
        }
    }

    #[test]
    fn a_manifest_of_another_version_is_told_from_a_malformed_one() {
        let text = serde_json::to_string(&example()).unwrap();
        let path = Path::new("manifest.json");
        assert_eq!(Manifest::parse(text.as_bytes(), path).unwrap(), example());
        let with = |fields: &str| text.replace(&format!("\"format_version\":{FORMAT_VERSION}"), fields);
        let newer = with("\"format_version\":4,\"more\":0");
        assert!(matches!(
            Manifest::parse(newer.as_bytes(), path),
            Err(ManifestError::Version { found: 4, .. })
        ));
        let more = with(&format!("\"format_version\":{FORMAT_VERSION},\"more\":0"));
        assert_ne!(more, text);
        assert!(matches!(Manifest::parse(more.as_bytes(), path), Err(ManifestError::Malformed { .. })));
    }

    #[test]
    fn texts_that_would_move_a_terminal_make_a_manifest_malformed() {
        let path = Path::new("manifest.json");
        for text in ["\u{1b}[31mEVIL", "a\nhint: run: x", "a\u{202e}b", "\u{9b}31m", &"x".repeat(300)] {
            let mut manifest = example();
            manifest.host.cpu = text.to_owned();
            let written = serde_json::to_string(&manifest).unwrap();
            let refused = Manifest::parse(written.as_bytes(), path);
            assert!(matches!(refused, Err(ManifestError::Malformed { .. })), "{text:?}");
        }
    }

    #[test]
    fn a_language_that_leads_elsewhere_makes_a_manifest_malformed() {
        let text = serde_json::to_string(&example()).unwrap().replace("\"python\"", "\"../../etc\"");
        let parsed = Manifest::parse(text.as_bytes(), Path::new("manifest.json"));
        assert!(matches!(parsed, Err(ManifestError::Malformed { .. })));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_manifest_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Manifest::parse(&bytes, Path::new("manifest.json"));
        }

        #[test]
        fn sizes_come_back_from_their_directories(memory_mib: u32, vcpus: u32) {
            let size = Size { memory_mib, vcpus };
            prop_assert_eq!(Size::from_directory(&size.to_string()), Some(size));
        }
    }

    #[test]
    fn what_is_no_regular_file_is_no_manifest_and_nobody_waits_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(MANIFEST);
        let refused = || matches!(Manifest::read(directory.path()), Err(ManifestError::Read { .. }));
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .unwrap();
        assert!(refused(), "a fifo");
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert!(refused(), "a link");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(refused(), "a directory");
    }
}
