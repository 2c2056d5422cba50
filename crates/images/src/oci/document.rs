//! The documents of an image: index, manifest, configuration (OCI image specification; Docker's manifest version 2,
//! schema 2, has the same fields). Only what is used is read, and nothing of it is believed before its digest is checked.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::limits::MAX_LAYERS;
use crate::digest::Sha256Digest;
use crate::rootfs::ImageConfig;

/// The architecture of guests, by OCI's name.
const ARCHITECTURE: &str = "amd64";

/// The operating system of guests, by OCI's name.
const SYSTEM: &str = "linux";

/// What a manifest may be, for registries.
pub(super) const MANIFEST_TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// Names something by its contents.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
}

/// An index or a manifest, whichever a registry has under a name.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyManifest {
    schema_version: u32,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

/// An index or a manifest.
#[derive(Debug)]
pub(super) enum Manifest {
    /// Several images, of which one is for this platform.
    Index(Vec<Descriptor>),
    /// One image.
    Image {
        /// Its configuration.
        config: Blob,
        /// Its layers, lowest first.
        layers: Vec<Blob>,
    },
}

/// A blob: what its digest and its length are to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blob {
    /// Its digest.
    pub(super) digest: Sha256Digest,
    /// Its length, in bytes.
    pub(super) size: u64,
}

/// What a configuration says.
#[derive(Debug)]
pub(super) struct Configuration {
    /// The digests of the layers, uncompressed, lowest first.
    pub(super) diff_ids: Vec<Sha256Digest>,
    /// How programs are meant to run.
    pub(super) config: ImageConfig,
}

/// A document is none that can be used.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is not JSON, or has not the fields that it must have.
    #[error("it is malformed")]
    Malformed(
        /// Why.
        #[source]
        serde_json::Error,
    ),
    /// It is of a version that nobody makes any more.
    #[error("it is of schema version {0}, which is not supported")]
    Version(
        /// Its version.
        u32,
    ),
    /// It is neither an index nor an image.
    #[error("it is no image")]
    NoImage,
    /// It names something by a digest that is no SHA-256.
    #[error("it has a digest that is no SHA-256: {0:?}")]
    Digest(
        /// The start of it.
        String,
    ),
    /// It has more layers than any image.
    #[error("it has {0} layers, more than any image")]
    TooManyLayers(
        /// How many.
        usize,
    ),
    /// A layer is something else.
    #[error("it has a layer of type {0:?}, which is not supported")]
    LayerType(
        /// The start of its type.
        String,
    ),
    /// Its images are for other machines.
    #[error("it is for {found}, not for {SYSTEM}/{ARCHITECTURE}")]
    Platform {
        /// Those that there are.
        found: String,
    },
    /// Programs cannot be started as it says.
    #[error("it has an environment that no program could be given")]
    Environment,
}

/// Reads an index or a manifest.
pub(super) fn manifest(text: &[u8]) -> Result<Manifest, DocumentError> {
    let any: AnyManifest = serde_json::from_slice(text).map_err(DocumentError::Malformed)?;
    if any.schema_version != 2 {
        return Err(DocumentError::Version(any.schema_version));
    }
    match (any.manifests, any.config, any.layers) {
        (Some(manifests), None, None) => Ok(Manifest::Index(manifests)),
        (None, Some(config), Some(layers)) => {
            if layers.len() > MAX_LAYERS {
                return Err(DocumentError::TooManyLayers(layers.len()));
            }
            let layers = layers.iter().map(layer).collect::<Result<_, _>>()?;
            Ok(Manifest::Image { config: blob(&config)?, layers })
        }
        _ => Err(DocumentError::NoImage),
    }
}

fn layer(descriptor: &Descriptor) -> Result<Blob, DocumentError> {
    let kind = &descriptor.media_type;
    // Encrypted ones, and what is no layer at all (artifacts), have other types.
    let is_layer =
        ["tar", "tar+gzip", "tar+zstd", "tar.gzip", "tar.zstd"].iter().any(|end| kind.ends_with(end));
    if is_layer { blob(descriptor) } else { Err(DocumentError::LayerType(start(kind))) }
}

/// The blob that a descriptor names.
pub(super) fn blob(descriptor: &Descriptor) -> Result<Blob, DocumentError> {
    Ok(Blob { digest: digest(&descriptor.digest)?, size: descriptor.size })
}

/// The digest in `sha256:…`.
pub(super) fn digest(text: &str) -> Result<Sha256Digest, DocumentError> {
    let digits = text.strip_prefix("sha256:").and_then(|digits| digits.parse().ok());
    digits.ok_or_else(|| DocumentError::Digest(start(text)))
}

/// Of an index, what is for the machine that guests have.
pub(super) fn for_this_platform(manifests: &[Descriptor]) -> Result<Blob, DocumentError> {
    let fits = |platform: &Platform| platform.os == SYSTEM && platform.architecture == ARCHITECTURE;
    let mut fitting: Vec<_> = manifests
        .iter()
        .filter_map(|descriptor| Some((descriptor, descriptor.platform.as_ref()?)))
        .filter(|(_, platform)| fits(platform))
        .collect();
    // Levels of the instruction set: the lowest runs everywhere.
    fitting.sort_by(|(_, one), (_, other)| one.variant.cmp(&other.variant));
    match (fitting.first(), manifests) {
        (Some((descriptor, _)), _) => blob(descriptor),
        (None, [only]) if only.platform.is_none() => blob(only),
        _ => {
            let mut found: Vec<String> = manifests
                .iter()
                .filter_map(|descriptor| descriptor.platform.as_ref())
                // What builders attest of an image stands beside it as one for no machine.
                .filter(|platform| platform.os != "unknown")
                .map(|platform| start(&format!("{}/{}", platform.os, platform.architecture)))
                .collect();
            found.dedup();
            found.truncate(16);
            let found = if found.is_empty() { "no platform at all".to_owned() } else { found.join(", ") };
            Err(DocumentError::Platform { found })
        }
    }
}

/// Of an index in a layout or archive, what goes by `name`; all of it where there is no name.
pub(super) fn named<'a>(manifests: &'a [Descriptor], name: Option<&str>) -> Vec<&'a Descriptor> {
    const NAMES: [&str; 2] = ["org.opencontainers.image.ref.name", "io.containerd.image.name"];
    let Some(name) = name else { return manifests.iter().collect() };
    let goes_by = |descriptor: &&Descriptor| {
        let annotations = descriptor.annotations.as_ref();
        NAMES.iter().any(|key| annotations.and_then(|all| all.get(*key)).is_some_and(|value| value == name))
    };
    manifests.iter().filter(goes_by).collect()
}

/// Reads a configuration.
pub(super) fn configuration(text: &[u8]) -> Result<Configuration, DocumentError> {
    #[derive(Deserialize)]
    struct Document {
        #[serde(default)]
        os: String,
        #[serde(default)]
        architecture: String,
        config: Option<Config>,
        rootfs: Rootfs,
    }
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "PascalCase")]
    struct Config {
        env: Option<Vec<String>>,
        working_dir: Option<String>,
        user: Option<String>,
    }
    #[derive(Deserialize)]
    struct Rootfs {
        diff_ids: Vec<String>,
    }
    let document: Document = serde_json::from_slice(text).map_err(DocumentError::Malformed)?;
    let is_for_others = |found: &str, ours: &str| !found.is_empty() && found != ours;
    if is_for_others(&document.os, SYSTEM) || is_for_others(&document.architecture, ARCHITECTURE) {
        let found = start(&format!("{}/{}", document.os, document.architecture));
        return Err(DocumentError::Platform { found });
    }
    let diff_ids = document.rootfs.diff_ids;
    if diff_ids.len() > MAX_LAYERS {
        return Err(DocumentError::TooManyLayers(diff_ids.len()));
    }
    let said = document.config.unwrap_or_default();
    let variables = said.env.unwrap_or_default();
    let variables = variables.iter().filter_map(|variable| variable.split_once('='));
    let config = ImageConfig {
        environment: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        working_directory: said.working_dir.unwrap_or_default(),
        user: said.user.unwrap_or_default(),
    };
    if !config.is_sound() {
        return Err(DocumentError::Environment);
    }
    Ok(Configuration { diff_ids: diff_ids.iter().map(|id| digest(id)).collect::<Result<_, _>>()?, config })
}

/// The start of a text from elsewhere, for errors.
fn start(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
