//! Images of others: from OCI registries and from files, to rootfs images of ours. No container engine, no root.
//!
//! ```text
//! reference ─▶ registry: manifest, configuration, layers into the cache ─┐
//!              local: the same from a directory or an archive            ─┴▶ image
//! image ─▶ spool: layers uncompressed ─▶ layer: their entries ─▶ tree: merged, in memory ─▶ ext4
//! ```
//!
//! All of an image is hostile until its digest is right, and its layers after that as well: nothing of them is ever
//! unpacked on the host. See `docs/adr/0016-oci-images.md`.

mod create;
mod document;
mod ext4;
mod image;
mod layer;
mod limits;
mod local;
mod reference;
pub mod registry;
mod spool;
mod tree;

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;

#[cfg(test)]
mod archives;
#[cfg(test)]
mod ext4_tests;
#[cfg(test)]
mod local_tests;
#[cfg(test)]
mod model_tests;

pub use create::{CreateFromImage, CreateFromImageError, create_from_image, open_local};
pub use document::DocumentError;
pub use ext4::WriteImageError;
pub use image::Image;
pub use layer::ReadLayerError;
pub use local::OpenImageError;
pub use reference::{ImageSource, ParseReferenceError, Reference, Version};
pub use spool::SpoolError;
pub use tree::ApplyLayerError;
