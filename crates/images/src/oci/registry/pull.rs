//! Pulls an image: its manifest, its configuration, and its layers into the cache.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use rustix::fs::{FlockOperation, flock};

use super::super::document::{self, DocumentError, MANIFEST_TYPES, Manifest};
use super::super::image::{Image, StoredLayer};
use super::super::limits::MAX_DOCUMENT_BYTES;
use super::super::reference::{Reference, Version};
use super::client::{Client, RequestError};
use super::credentials::{CredentialFiles, CredentialsError, credentials};
use super::hosts::{HostFiles, HostsError, Mirror, hosts};
use super::layers::{Downloads, FetchLayerError, fetch_all};
use crate::digest::Sha256Digest;
use crate::progress::Progress;
use crate::staging::{io_hint, open_regular};

/// How deep indexes may be nested: one for platforms, and one around it.
const MAX_INDEXES: usize = 3;

/// How registries are spoken to.
#[derive(Debug, Clone, Default)]
pub struct RegistrySettings {
    /// The user's mirrors, before all others.
    pub mirrors: Vec<Mirror>,
    /// Whether the registry itself is spoken to without encryption.
    pub plain_http: bool,
    /// Where other mirrors are configured.
    pub host_files: HostFiles,
    /// Where the user's logins are.
    pub credential_files: CredentialFiles,
}

/// An image could not be pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// Where registries are configured is something wrong.
    #[error("cannot tell which hosts to ask")]
    Hosts(
        /// Why.
        #[from]
        HostsError,
    ),
    /// The user's logins cannot be used.
    #[error("cannot log in")]
    Credentials(
        /// Why.
        #[from]
        CredentialsError,
    ),
    /// The only host there is does not deliver it.
    #[error("cannot pull {image}")]
    Request {
        /// The image.
        image: String,
        /// Why.
        #[source]
        source: RequestError,
    },
    /// None of several hosts delivers it.
    #[error("cannot pull {image}: {}", reasons.join("; "))]
    Nowhere {
        /// The image.
        image: String,
        /// What each of them said.
        reasons: Vec<String>,
        /// What the last one said.
        #[source]
        last: RequestError,
    },
    /// What a host delivers is something else.
    #[error("the {what} of {image} has the SHA-256 {found}, not {expected}")]
    Digest {
        /// The image.
        image: String,
        /// Manifest or configuration.
        what: &'static str,
        /// What it is to be.
        expected: Sha256Digest,
        /// What it is.
        found: Sha256Digest,
    },
    /// A document of it cannot be used.
    #[error("cannot use the {what} of {image}")]
    Document {
        /// The image.
        image: String,
        /// Manifest or configuration.
        what: &'static str,
        /// Why.
        #[source]
        source: DocumentError,
    },
    /// A layer of it could not be had.
    #[error("cannot pull {image}")]
    Layer {
        /// The image.
        image: String,
        /// Why.
        #[source]
        source: FetchLayerError,
    },
    /// The cache cannot be used.
    #[error("cannot use {}", path.display())]
    Cache {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl PullError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Request { source, .. } | Self::Nowhere { last: source, .. } => source.hint(),
            Self::Digest { .. } => {
                Some("try again; if it stays so, the registry or something before it is damaged".to_owned())
            }
            Self::Layer { source, .. } => source.hint(),
            Self::Cache { path, source } => io_hint(path, source),
            Self::Credentials(CredentialsError::Helper { helper, .. }) => Some(format!(
                "see that {helper} works, or take it out of Docker's config.json and docker login again"
            )),
            Self::Hosts(_) | Self::Credentials(_) => Some("mend the file".to_owned()),
            Self::Document { .. } => None,
        }
    }
}

/// Pulls the image of `reference`, which the user has named `name`, with its layers in the cache `directory`.
///
/// Dropping the future stops all downloads; what has come stays for the next time.
pub async fn pull(
    reference: &Reference,
    name: &str,
    settings: &RegistrySettings,
    directory: &Path,
    progress: &Arc<dyn Progress>,
) -> Result<Image, PullError> {
    progress.step(&format!("asking for {name}"));
    let pulling = Pulling { name: name.to_owned(), version: &reference.version };
    let (client, manifest, found) = pulling.resolve(reference, settings).await?;
    let Manifest::Image { config, layers } = manifest else {
        return Err(pulling.document("index", DocumentError::NoImage));
    };
    let failed = |source| pulling.request(source);
    let text = client
        .small_blob(&format!("sha256:{}", config.digest), config.size.min(MAX_DOCUMENT_BYTES))
        .await
        .map_err(failed)?;
    pulling.check("configuration", &text, &config.digest)?;
    let configuration =
        document::configuration(&text).map_err(|source| pulling.document("configuration", source))?;
    let cache = |source| PullError::Cache { path: directory.to_owned(), source };
    fs::create_dir_all(directory).map_err(cache)?;
    let in_use = lock_cache(directory, FlockOperation::LockShared).map_err(cache)?;
    let total = layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add);
    progress.step(&format!("downloading {} layers from {}", layers.len(), client.host().name));
    let downloads = Downloads {
        client,
        directory: directory.to_owned(),
        progress: Arc::clone(progress),
        done: AtomicU64::new(0),
        total,
    };
    fetch_all(downloads, &layers)
        .await
        .map_err(|source| PullError::Layer { image: name.to_owned(), source })?;
    let mut stored = Vec::with_capacity(layers.len());
    for layer in layers {
        let path = directory.join(layer.digest.as_str());
        let file = open_regular(&path).map_err(|source| PullError::Cache { path: path.clone(), source })?;
        stored.push(StoredLayer::cached(layer.digest, file, layer.size, path));
    }
    // All of them are open now: whatever is removed, stays as long as it is used.
    drop(in_use);
    Ok(Image { name: name.to_owned(), manifest: found, configuration, layers: stored, compressed: None })
}

/// Keeps the layers in the cache `directory` from being removed, or, exclusively, from being used.
pub fn lock_cache(directory: &Path, operation: FlockOperation) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(directory.join(".lock"))?;
    flock(&file, operation)?;
    Ok(file)
}

/// Why a host did not deliver, as part of a sentence about all of them.
fn reason(failure: &PullError) -> String {
    match failure {
        PullError::Request { source, .. } => source.to_string(),
        other => {
            let cause = std::error::Error::source(other).map(|cause| format!(": {cause}"));
            format!("{other}{}", cause.unwrap_or_default())
        }
    }
}

struct Pulling<'a> {
    name: String,
    version: &'a Version,
}

impl Pulling<'_> {
    /// The first host that has the image, its manifest for this platform, and the digest of that.
    async fn resolve(
        &self,
        reference: &Reference,
        settings: &RegistrySettings,
    ) -> Result<(Client, Manifest, Sha256Digest), PullError> {
        let hosts = hosts(reference, &settings.mirrors, settings.plain_http, &settings.host_files)?;
        let mut failures: Vec<PullError> = Vec::new();
        for host in hosts {
            let files = settings.credential_files.clone();
            let (registry, repository) = (host.name.clone(), host.repository.clone());
            // A helper program may ask the user, or the network.
            let login = tokio::task::spawn_blocking(move || credentials(&registry, &repository, &files));
            let login = login.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
            // What is public is had without: a helper that fails matters where the host wants to know who is asking.
            let (login, helper_failed) = match login {
                Err(error @ CredentialsError::Helper { .. }) => (None, Some(error)),
                login => (login?, None),
            };
            let client = Client::new(host, login).map_err(|source| self.request(source))?;
            match (self.manifest(&client, &self.version.to_string()).await, helper_failed) {
                (Ok((manifest, found)), _) => return Ok((client, manifest, found)),
                (Err(PullError::Request { source: RequestError::Refused { .. }, .. }), Some(helper)) => {
                    failures.push(PullError::Credentials(helper));
                }
                (Err(error), _) => failures.push(error),
            }
        }
        let reasons: Vec<String> = failures.iter().map(reason).collect();
        match failures.pop() {
            Some(PullError::Request { source: last, .. }) if !failures.is_empty() => {
                Err(PullError::Nowhere { image: self.name.clone(), reasons, last })
            }
            Some(last) => Err(last),
            None => Err(self.document("manifest", DocumentError::NoImage)),
        }
    }

    /// The manifest of this version, through indexes.
    async fn manifest(&self, client: &Client, version: &str) -> Result<(Manifest, Sha256Digest), PullError> {
        let mut version = version.to_owned();
        for _ in 0..MAX_INDEXES {
            let text = client
                .manifest(&version, &MANIFEST_TYPES.join(", "), MAX_DOCUMENT_BYTES)
                .await
                .map_err(|source| self.request(source))?;
            let found = Sha256Digest::of_bytes(&text);
            if let Ok(expected) = document::digest(&version) {
                self.check("manifest", &text, &expected)?;
            }
            match document::manifest(&text).map_err(|source| self.document("manifest", source))? {
                Manifest::Index(manifests) => {
                    let chosen = document::for_this_platform(&manifests)
                        .map_err(|source| self.document("index", source))?;
                    version = format!("sha256:{}", chosen.digest);
                }
                manifest @ Manifest::Image { .. } => return Ok((manifest, found)),
            }
        }
        Err(self.document("index", DocumentError::NoImage))
    }

    fn check(&self, what: &'static str, text: &[u8], expected: &Sha256Digest) -> Result<(), PullError> {
        let found = Sha256Digest::of_bytes(text);
        if found == *expected {
            return Ok(());
        }
        Err(PullError::Digest { image: self.name.clone(), what, expected: expected.clone(), found })
    }

    fn request(&self, source: RequestError) -> PullError {
        PullError::Request { image: self.name.clone(), source }
    }

    fn document(&self, what: &'static str, source: DocumentError) -> PullError {
        PullError::Document { image: self.name.clone(), what, source }
    }
}
