//! What is noted beside an image, `rootfs-<language>.json`: where it came from, and what its programs find in their
//! environment.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::customize::Step;
use crate::digest::Sha256Digest;
use crate::staging::read_regular;

/// The longest note, in bytes. One is some 2 kB, mostly the digests of layers.
pub const MAX_DETAILS_BYTES: u64 = 1 << 20;

/// How many variables an image's environment may have. Images have some ten.
const MAX_VARIABLES: usize = 256;

/// How long all of them may be together, in bytes. Images have some 500, and a snapshot's manifest holds a copy.
const MAX_ENVIRONMENT_BYTES: usize = 16 << 10;

/// What is noted beside an image when it is made. An image without it works, but its programs get no environment of its
/// own. One that was edited by hand keeps the environment; its digest is another one then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootfsDetails {
    /// What the image was made from.
    pub source: RootfsSource,
    /// When the image was made, in seconds since 1970.
    pub created: u64,
    /// The image's digest then.
    pub sha256: Sha256Digest,
    /// The image's size then.
    pub size_bytes: u64,
    /// How programs are meant to run in it.
    #[serde(default)]
    pub config: ImageConfig,
    /// What `rootfs customize` has done to it since, in order.
    #[serde(default)]
    pub steps: Vec<Step>,
}

/// What an image was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum RootfsSource {
    /// Debian packages.
    Debian {
        /// Those that were asked for.
        packages: Vec<String>,
        /// The Debian release.
        suite: String,
    },
    /// Nobody has noted it.
    Unknown,
    /// An OCI or Docker image.
    Oci {
        /// How the user named it.
        image: String,
        /// The digest of its manifest, after the platform was chosen.
        manifest: Sha256Digest,
        /// The digests of its layers as they are stored, lowest first.
        layers: Vec<Sha256Digest>,
    },
}

/// How programs are meant to run in an image (OCI image specification, `config.md`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageConfig {
    /// The environment. `PATH` above all: it is where an interpreter is looked for.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The working directory; empty for the root. Jobs have one of their own: this is for steps of `customize`.
    #[serde(default)]
    pub working_directory: String,
    /// The user. Jobs run as `nobody`, whatever this is.
    #[serde(default)]
    pub user: String,
}

/// What is noted beside an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadDetailsError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is not what is noted beside an image", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// Where details of `image` are kept.
pub fn details_path(image: &Path) -> PathBuf {
    image.with_extension("json")
}

impl RootfsDetails {
    /// What is noted beside `image`; nothing where there is no such file.
    pub fn of_image(image: &Path) -> Result<Option<Self>, ReadDetailsError> {
        let path = details_path(image);
        match read_regular(&path, MAX_DETAILS_BYTES) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ReadDetailsError::Read { path, source }),
            Ok(text) => match Self::parse(&text) {
                Ok(details) => Ok(Some(details)),
                Err(source) => Err(ReadDetailsError::Malformed { path, source }),
            },
        }
    }

    /// What `text` notes.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        let details: Self = serde_json::from_slice(text)?;
        if details.config.is_sound() {
            Ok(details)
        } else {
            Err(serde::de::Error::custom("an environment that no program could be given"))
        }
    }
}

impl ImageConfig {
    /// Whether programs can be started so. What comes from elsewhere is judged by this before it is used.
    pub fn is_sound(&self) -> bool {
        let is_variable = |(name, value): (&String, &String)| {
            !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
        };
        let bytes: usize = self.environment.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
        self.environment.len() <= MAX_VARIABLES
            && bytes <= MAX_ENVIRONMENT_BYTES
            && self.environment.iter().all(is_variable)
            && [&self.working_directory, &self.user]
                .iter()
                .all(|text| text.len() <= 4096 && !text.contains('\0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, value: &str) -> ImageConfig {
        ImageConfig { environment: [(name.to_owned(), value.to_owned())].into(), ..ImageConfig::default() }
    }

    #[test]
    fn an_environment_that_no_program_could_be_given_is_unsound() {
        assert!(config("PATH", "/usr/local/bin").is_sound() && ImageConfig::default().is_sound());
        for (name, value) in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "x\0y")] {
            assert!(!config(name, value).is_sound(), "{name:?} {value:?}");
        }
        assert!(!config("A", &"x".repeat(MAX_ENVIRONMENT_BYTES)).is_sound());
    }

    #[test]
    fn notes_come_back_from_the_disk_and_are_judged() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let image = directory.path().join("rootfs-python.ext4");
        assert!(RootfsDetails::of_image(&image).expect("absent").is_none());
        let mut details = RootfsDetails {
            source: RootfsSource::Debian {
                packages: vec!["python3".to_owned()],
                suite: "bookworm".to_owned(),
            },
            created: 1,
            sha256: Sha256Digest::of_bytes(b""),
            size_bytes: 0,
            config: config("PATH", "/opt/bin"),
            steps: Vec::new(),
        };
        let write = |details: &RootfsDetails| {
            std::fs::write(details_path(&image), serde_json::to_vec(details).expect("JSON")).expect("write");
        };
        write(&details);
        assert_eq!(RootfsDetails::of_image(&image).expect("read"), Some(details.clone()));
        details.config = config("A=B", "x");
        write(&details);
        assert!(matches!(RootfsDetails::of_image(&image), Err(ReadDetailsError::Malformed { .. })));
    }
}
