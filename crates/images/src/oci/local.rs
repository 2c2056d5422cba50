//! Images in files: OCI's layout as a directory or an archive, and what `docker save` writes. Archives are not
//! unpacked: what is needed of them is read where it lies.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::document::{self, Blob, Descriptor, DocumentError, Manifest};
use super::image::{Image, Section, StoredLayer};
use super::layer::{Allowance, EntryKind, ReadLayerError, read_entries};
use super::limits::{MAX_DOCUMENT_BYTES, MAX_LAYERS};
use super::reference::ImageSource;
use super::spool::{ContentAllowance, SpoolError, spool};
use crate::digest::Sha256Digest;
use crate::progress::Progress;
use crate::staging::{io_hint, open_regular};

/// How deep indexes may be nested.
const MAX_INDEXES: usize = 3;

/// An image could not be read from files.
#[derive(Debug, thiserror::Error)]
pub enum OpenImageError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is an archive that cannot be uncompressed.
    #[error("cannot uncompress {}", path.display())]
    Uncompress {
        /// The archive.
        path: PathBuf,
        /// Why.
        #[source]
        source: SpoolError,
    },
    /// It is no archive.
    #[error("cannot read {}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ReadLayerError,
    },
    /// It has neither `index.json` nor `manifest.json`.
    #[error("{} holds no image", path.display())]
    NoImage {
        /// The directory or archive.
        path: PathBuf,
    },
    /// There is no image of this name, or more than one of no name.
    #[error("{} holds {count} images{}", path.display(), name.as_deref().map(|name| format!(" that go by {name}")).unwrap_or_default())]
    Which {
        /// The directory or archive.
        path: PathBuf,
        /// The name, if one was given.
        name: Option<String>,
        /// How many.
        count: usize,
    },
    /// Something of it is missing.
    #[error("{} lacks {member:?}", path.display())]
    Missing {
        /// The directory or archive.
        path: PathBuf,
        /// What.
        member: String,
    },
    /// A document of it cannot be used.
    #[error("cannot use {member:?} of {}", path.display())]
    Document {
        /// The directory or archive.
        path: PathBuf,
        /// Which.
        member: String,
        /// Why.
        #[source]
        source: DocumentError,
    },
    /// A document of it is not what its name says.
    #[error("{member} of {} is damaged: its SHA-256 is {found}", path.display())]
    Digest {
        /// The directory or archive.
        path: PathBuf,
        /// Which.
        member: String,
        /// What it is.
        found: Sha256Digest,
    },
}

impl OpenImageError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { path, source } => io_hint(path, source),
            Self::Uncompress { source, .. } => source.hint(),
            Self::Which { path, name: None, .. } => {
                Some(format!("say which, by its name after a colon: {}:NAME", path.display()))
            }
            Self::Which { name: Some(_), .. } => Some("check the name after the colon".to_owned()),
            Self::NoImage { .. } => {
                Some("an image is what skopeo copy or docker save has written".to_owned())
            }
            _ => None,
        }
    }
}

/// Opens the image in OCI's layout in `directory`.
pub(super) fn open_layout(directory: &Path, name: Option<&str>, said: &str) -> Result<Image, OpenImageError> {
    let store = Store { path: directory.to_owned(), members: None, compressed: None };
    store.open_layout(name, said)
}

/// Opens the image in the archive `file`, of either kind. What has to be uncompressed goes to the file system of
/// `scratch`.
pub(super) fn open_archive(
    file: &Path,
    name: Option<&str>,
    said: &str,
    scratch: &Path,
    progress: &dyn Progress,
) -> Result<Image, OpenImageError> {
    let failed = |source| OpenImageError::Read { path: file.to_owned(), source };
    let opened = open_regular(file).map_err(failed)?;
    let length = opened.metadata().map_err(failed)?.len();
    let mut magic = [0; 4];
    let count = std::os::unix::fs::FileExt::read_at(&opened, &mut magic, 0).map_err(failed)?;
    let is_compressed = magic[..count].starts_with(&[0x1f, 0x8b]) || magic == [0x28, 0xb5, 0x2f, 0xfd];
    let archive = if is_compressed {
        progress.step(&format!("uncompressing {}", file.display()));
        let spooled = spool(opened, &ContentAllowance::of(length), scratch, progress);
        spooled.map_err(|source| OpenImageError::Uncompress { path: file.to_owned(), source })?.file
    } else {
        opened
    };
    let entries = read_entries(&archive, &mut Allowance::default())
        .map_err(|source| OpenImageError::Archive { path: file.to_owned(), source })?;
    let mut members = BTreeMap::new();
    let mut links = Vec::new();
    for entry in entries {
        let Ok(path) = String::from_utf8(entry.path) else { continue };
        let path = path.trim_start_matches("./").to_owned();
        match entry.kind {
            EntryKind::File { offset, length } => {
                members.insert(path, (offset, length));
            }
            // Docker once linked layers that two images share.
            EntryKind::SymbolicLink(target) => {
                links.extend(String::from_utf8(target).ok().map(|target| (path, target)));
            }
            _ => {}
        }
    }
    for (path, target) in links {
        let target = target.trim_start_matches("../").to_owned();
        if let Some(section) = members.get(&target).copied() {
            members.entry(path).or_insert(section);
        }
    }
    let compressed = is_compressed.then_some(length);
    let store = Store { path: file.to_owned(), members: Some((Arc::new(archive), members)), compressed };
    // Docker writes both; of the two, the layout has digests of the layers as they are stored. But it may lack the name.
    if store.has("manifest.json") { store.open_docker(name, said) } else { store.open_layout(name, said) }
}

type Members = (Arc<File>, BTreeMap<String, (u64, u64)>);

/// A directory, or an archive with the places of its members.
struct Store {
    path: PathBuf,
    members: Option<Members>,
    /// How long the archive is, where it is compressed.
    compressed: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Store {
    fn has(&self, member: &str) -> bool {
        self.members.as_ref().is_some_and(|(_, members)| members.contains_key(member))
    }

    fn section(&self, member: &str) -> Result<Section, OpenImageError> {
        let missing = || OpenImageError::Missing { path: self.path.clone(), member: member.to_owned() };
        if let Some((file, members)) = &self.members {
            let (offset, length) = *members.get(member).ok_or_else(missing)?;
            return Ok(Section { file: Arc::clone(file), offset, end: offset + length });
        }
        let path = self.path.join(member);
        let file = match open_regular(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
            opened => opened.map_err(|source| OpenImageError::Read { path: path.clone(), source })?,
        };
        let end = file.metadata().map_err(|source| OpenImageError::Read { path, source })?.len();
        Ok(Section { file: Arc::new(file), offset: 0, end })
    }

    fn document(&self, member: &str) -> Result<Vec<u8>, OpenImageError> {
        let mut text = Vec::new();
        self.section(member)?
            .take(MAX_DOCUMENT_BYTES)
            .read_to_end(&mut text)
            .map_err(|source| OpenImageError::Read { path: self.path.join(member), source })?;
        Ok(text)
    }

    fn blob(&self, blob: &Blob) -> Result<Vec<u8>, OpenImageError> {
        let member = member_of(blob);
        let text = self.document(&member)?;
        let found = Sha256Digest::of_bytes(&text);
        if found == blob.digest {
            return Ok(text);
        }
        Err(OpenImageError::Digest { path: self.path.clone(), member, found })
    }

    fn unusable(&self, member: &str) -> impl FnOnce(DocumentError) -> OpenImageError {
        let (path, member) = (self.path.clone(), member.to_owned());
        move |source| OpenImageError::Document { path, member, source }
    }

    fn which(&self, name: Option<&str>, count: usize) -> OpenImageError {
        OpenImageError::Which { path: self.path.clone(), name: name.map(str::to_owned), count }
    }

    fn open_layout(&self, name: Option<&str>, said: &str) -> Result<Image, OpenImageError> {
        const INDEX: &str = "index.json";
        let text = match self.document(INDEX) {
            Err(OpenImageError::Missing { path, .. }) => return Err(OpenImageError::NoImage { path }),
            text => text?,
        };
        let Manifest::Index(manifests) = document::manifest(&text).map_err(self.unusable(INDEX))? else {
            return Err(self.unusable(INDEX)(DocumentError::NoImage));
        };
        let named = document::named(&manifests, name);
        let mut chosen = if let [only] = named.as_slice() {
            document::blob(only).map_err(self.unusable(INDEX))?
        } else {
            // Several without a name may be one for each platform.
            let candidates: Vec<Descriptor> = named.iter().map(|one| (*one).clone()).collect();
            document::for_this_platform(&candidates).map_err(|_| self.which(name, named.len()))?
        };
        for _ in 0..MAX_INDEXES {
            let member = member_of(&chosen);
            let text = self.blob(&chosen)?;
            match document::manifest(&text).map_err(self.unusable(&member))? {
                Manifest::Index(manifests) => {
                    chosen = document::for_this_platform(&manifests).map_err(self.unusable(&member))?;
                }
                Manifest::Image { config, layers } => {
                    let configuration = document::configuration(&self.blob(&config)?)
                        .map_err(self.unusable(&member_of(&config)))?;
                    let layers = layers.iter().map(|layer| {
                        Ok(StoredLayer::part(Some(layer.digest.clone()), self.section(&member_of(layer))?))
                    });
                    let layers = layers.collect::<Result<_, OpenImageError>>()?;
                    return Ok(Image {
                        name: said.to_owned(),
                        manifest: chosen.digest,
                        configuration,
                        layers,
                        compressed: self.compressed,
                    });
                }
            }
        }
        Err(self.unusable(INDEX)(DocumentError::NoImage))
    }

    fn open_docker(&self, name: Option<&str>, said: &str) -> Result<Image, OpenImageError> {
        const MANIFEST: &str = "manifest.json";
        let malformed = |source| self.unusable(MANIFEST)(DocumentError::Malformed(source));
        let images: Vec<DockerImage> =
            serde_json::from_slice(&self.document(MANIFEST)?).map_err(malformed)?;
        let goes_by = |image: &&DockerImage| {
            let tags = image.repo_tags.as_deref().unwrap_or_default();
            // Programs write names in full that users shorten: what counts is what they name.
            let image = |name: &str| name.parse::<ImageSource>().ok();
            name.is_none_or(|name| {
                tags.iter().any(|tag| tag == name || image(tag).is_some_and(|tag| Some(tag) == image(name)))
            })
        };
        let named: Vec<&DockerImage> = images.iter().filter(goes_by).collect();
        let [image] = named.as_slice() else { return Err(self.which(name, named.len())) };
        if image.layers.len() > MAX_LAYERS {
            return Err(self.unusable(MANIFEST)(DocumentError::TooManyLayers(image.layers.len())));
        }
        let text = self.document(&image.config)?;
        let configuration = document::configuration(&text).map_err(self.unusable(&image.config))?;
        // Its layers are known by the digests that the configuration has of them uncompressed.
        let layers = image.layers.iter().map(|layer| Ok(StoredLayer::part(None, self.section(layer)?)));
        let layers = layers.collect::<Result<_, OpenImageError>>()?;
        let manifest = Sha256Digest::of_bytes(&text);
        Ok(Image { name: said.to_owned(), manifest, configuration, layers, compressed: self.compressed })
    }
}

fn member_of(blob: &Blob) -> String {
    format!("blobs/sha256/{}", blob.digest)
}
