//! Makes an image from Debian packages.
//!
//! All work happens in a temporary directory beside the image, which is put in place when it is whole. Interrupted by
//! Ctrl-C, the programs end (they are in our process group), [`create`] returns their failure, and the directory is
//! removed: callers that handle the signal wait for it to return. What a killed process leaves is removed by the
//! next one.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use super::details::{ImageConfig, RootfsDetails, RootfsSource};
use super::filesystem::{MakeFilesystemError, make_filesystem};
use super::packages::{InvalidPackageName, check_package_name};
use super::publish::{PublishImageError, RootfsImage, publish_image};
use super::tree::{MakeTreeError, make_tree};
use crate::digest::{DigestError, Sha256Digest};
use crate::progress::Progress;
use crate::staging::{OutputLock, io_hint, parent};

/// What image to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateRootfs {
    /// Names of Debian packages; those that they depend on come along.
    pub packages: Vec<String>,
    /// The image's size; if absent, what the files need and a little more.
    pub size_mib: Option<u64>,
    /// Where the image shall be, in the place of an earlier one.
    pub output: PathBuf,
    /// The Debian release, such as `bookworm`.
    pub suite: String,
    /// A Debian mirror's URL; if absent, Debian's own, with its security updates.
    pub mirror: Option<String>,
}

/// An image could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateRootfsError {
    /// The process may not do what it takes to make an image.
    #[error("only root can create an image from Debian packages")]
    NotRoot,
    /// A package's name cannot be one.
    #[error("cannot install a package")]
    Package(
        /// Why.
        #[from]
        InvalidPackageName,
    ),
    /// No packages were named.
    #[error("an image needs at least one package")]
    NoPackages,
    /// The release's name cannot be one.
    #[error("{suite:?} is not the name of a Debian release")]
    Suite {
        /// What was given.
        suite: String,
    },
    /// The mirror's address cannot be one.
    #[error("{mirror:?} is not the address of a Debian mirror")]
    Mirror {
        /// What was given.
        mirror: String,
    },
    /// The destination is in use, or nothing can be written beside it.
    #[error("cannot begin to write {}", output.display())]
    Stage {
        /// The image.
        output: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file tree could not be made.
    #[error("cannot make the image's file tree")]
    Tree(
        /// Why.
        #[from]
        MakeTreeError,
    ),
    /// The file system could not be made.
    #[error("cannot make the image's file system")]
    Filesystem(
        /// Why.
        #[from]
        MakeFilesystemError,
    ),
    /// The new image could not be read.
    #[error("cannot compute the image's digest")]
    Digest(
        /// Why.
        #[from]
        DigestError,
    ),
    /// The image, or what is noted beside it, cannot be put in place.
    #[error("cannot put the image in place")]
    Publish(
        /// Why.
        #[from]
        PublishImageError,
    ),
}

impl CreateRootfsError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotRoot => Some("run with sudo".to_owned()),
            Self::Package(source) => source.hint(),
            Self::NoPackages => Some("name packages such as base-files, bash and python3".to_owned()),
            Self::Suite { .. } => Some("use the name of a release, such as bookworm".to_owned()),
            Self::Mirror { .. } => {
                Some("give the address of a Debian mirror, as http://mirror.example/debian".to_owned())
            }
            Self::Stage { output, source } => io_hint(output, source),
            Self::Tree(source) => source.hint(),
            Self::Filesystem(source) => source.hint(),
            Self::Digest(source) => source.hint(),
            Self::Publish(source) => source.hint(),
        }
    }
}

/// Makes an image.
///
/// Takes some ten seconds for a plain interpreter and more with packages whose maintainer scripts have to run.
pub fn create(request: &CreateRootfs, progress: &dyn Progress) -> Result<RootfsImage, CreateRootfsError> {
    check(request)?;
    if !rustix::process::geteuid().is_root() {
        return Err(CreateRootfsError::NotRoot);
    }
    let output = request.output.as_path();
    let failed = |source| CreateRootfsError::Stage { output: output.to_owned(), source };
    fs::create_dir_all(parent(output)).map_err(failed)?;
    let lock = OutputLock::acquire(output).map_err(failed)?;
    let directory = lock.temporary_directory().map_err(failed)?;
    let started = seconds_since_1970();
    let tree = directory.path().join("tree");
    make_tree(&tree, &request.packages, &request.suite, request.mirror.as_deref(), progress)?;
    progress.step("writing the image");
    let staged = directory.path().join("image");
    let newest = i64::try_from(started).unwrap_or(i64::MAX);
    make_filesystem(&tree, &staged, request.size_mib, newest)?;
    progress.step("computing the image's digest");
    let sha256 = Sha256Digest::of_file(&staged, progress)?;
    let details = RootfsDetails {
        source: RootfsSource::Debian { packages: request.packages.clone(), suite: request.suite.clone() },
        created: started,
        sha256,
        size_bytes: 0,
        config: ImageConfig::default(),
        steps: Vec::new(),
    };
    Ok(publish_image(&staged, output, details)?)
}

/// Checks everything of a request that becomes an argument of a program.
fn check(request: &CreateRootfs) -> Result<(), CreateRootfsError> {
    for package in &request.packages {
        check_package_name(package)?;
    }
    if request.packages.is_empty() {
        return Err(CreateRootfsError::NoPackages);
    }
    let is_suite = request.suite.starts_with(|first: char| first.is_ascii_lowercase())
        && request.suite.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    if !is_suite {
        return Err(CreateRootfsError::Suite { suite: request.suite.clone() });
    }
    if let Some(mirror) = &request.mirror {
        let is_url = ["http://", "https://", "file:///"].iter().any(|scheme| mirror.starts_with(scheme));
        // `mmdebstrap` takes text with blanks for lines of a sources.list, with options that switch off signatures.
        if !is_url || !mirror.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(CreateRootfsError::Mirror { mirror: mirror.clone() });
        }
    }
    Ok(())
}

pub(super) fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |duration| duration.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> CreateRootfs {
        CreateRootfs {
            packages: vec!["python3".to_owned()],
            size_mib: None,
            output: PathBuf::from("/nonexistent/rootfs-python.ext4"),
            suite: "bookworm".to_owned(),
            mirror: None,
        }
    }

    #[test]
    fn requests_whose_parts_could_be_options_are_refused() {
        check(&request()).expect("a sound request");
        for suite in ["", "--help", "book worm", "/tmp"] {
            let request = CreateRootfs { suite: suite.to_owned(), ..request() };
            assert!(matches!(check(&request), Err(CreateRootfsError::Suite { .. })), "{suite:?}");
        }
        for mirror in ["", "-", "deb [trusted=yes] http://x y main", "http://a b", "http://a\nb"] {
            let request = CreateRootfs { mirror: Some(mirror.to_owned()), ..request() };
            assert!(matches!(check(&request), Err(CreateRootfsError::Mirror { .. })), "{mirror:?}");
        }
        let request = CreateRootfs { packages: vec!["--setup-hook=id".to_owned()], ..request() };
        assert!(matches!(check(&request), Err(CreateRootfsError::Package(_))));
        let request = CreateRootfs { packages: Vec::new(), ..request };
        assert!(matches!(check(&request), Err(CreateRootfsError::NoPackages)));
    }
}
