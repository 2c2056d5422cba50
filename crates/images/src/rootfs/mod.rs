//! Rootfs images: the ext4 files, one per language, in which programs run.
//!
//! [`create`] makes one from Debian packages, [`list`] and [`inspect`] look at those that exist, and
//! [`map_packages`] finds the Debian names of a language's libraries. Images hold nothing of this product: the guest
//! agent comes with the initramfs.

mod adopt;
mod create;
mod customize;
mod details;
mod filesystem;
mod filter;
mod inside;
mod list;
mod masks;
mod packages;
mod publish;
mod tree;

pub use adopt::{AdoptImageError, adopt_image, copy_image};
pub use create::{CreateRootfs, CreateRootfsError, create};
pub use customize::{CustomizeRootfs, CustomizeRootfsError, Step, StepsFile, customize};
pub use details::{
    ImageConfig, MAX_DETAILS_BYTES, ReadDetailsError, RootfsDetails, RootfsSource, details_path,
};
pub(crate) use filesystem::{IMAGE_TIME, IMAGE_UUID, ROOM_MIB};
pub use filesystem::{InspectImageError, MakeFilesystemError, inspect};
pub use inside::take_steps_inside;
pub use list::{ListRootfsError, RootfsSummary, image_path, list};
pub use packages::{InvalidPackageName, MapPackagesError, check_package_name, map_packages};
pub use publish::{PublishImageError, RootfsImage, publish_bare_image, publish_image};
pub use tree::MakeTreeError;
