//! The images of a directory, `rootfs-<language>.ext4`, and what is noted beside each, `rootfs-<language>.json`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::details::RootfsDetails;
use super::filesystem::inspect;

/// One image of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootfsSummary {
    /// `<language>` in the file's name.
    pub language: String,
    /// The image.
    pub path: PathBuf,
    /// Its size now.
    pub size_bytes: u64,
    /// What is noted beside it, if that can be read.
    pub details: Option<RootfsDetails>,
    /// Why the image cannot be used, if it cannot.
    pub problem: Option<String>,
}

/// The images could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum ListRootfsError {
    /// The directory cannot be read.
    #[error("cannot read the images in {}", directory.display())]
    Read {
        /// Which.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ListRootfsError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let Self::Read { directory, source } = self;
        crate::staging::io_hint(directory, source)
    }
}

/// Where the image of `language` is kept.
pub fn image_path(images_directory: &Path, language: &str) -> PathBuf {
    images_directory.join(format!("rootfs-{language}.ext4"))
}

/// The images in a directory, sorted by language. A directory that does not exist holds none.
pub fn list(images_directory: &Path) -> Result<Vec<RootfsSummary>, ListRootfsError> {
    let failed = |source| ListRootfsError::Read { directory: images_directory.to_owned(), source };
    let entries = match fs::read_dir(images_directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut images = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let language = name
            .to_str()
            .and_then(|name| name.strip_prefix("rootfs-"))
            .and_then(|name| name.strip_suffix(".ext4"))
            .filter(|language| !language.is_empty());
        if let Some(language) = language {
            images.push(summarise(language, entry.path()));
        }
    }
    images.sort_by(|one, other| one.language.cmp(&other.language));
    Ok(images)
}

fn summarise(language: &str, path: PathBuf) -> RootfsSummary {
    let problem = inspect(&path).err().map(|error| error.to_string());
    let size_bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
    let details = RootfsDetails::of_image(&path).ok().flatten();
    RootfsSummary { language: language.to_owned(), path, size_bytes, details, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_images_are_listed_and_damaged_ones_say_so() {
        let directory = tempfile::tempdir().expect("temporary directory");
        for name in
            ["rootfs-ruby.ext4", "rootfs-.ext4", "rootfs-c.img", "other.ext4", ".lock-rootfs-ruby.ext4"]
        {
            fs::write(directory.path().join(name), "no image").expect("write");
        }
        let images = list(directory.path()).expect("list");
        assert_eq!(images.len(), 1);
        assert_eq!((images[0].language.as_str(), images[0].size_bytes), ("ruby", 8));
        assert!(images[0].problem.as_ref().expect("problem").contains("not an ext4 image"));
        assert_eq!(images[0].details, None);
    }

    #[test]
    fn a_directory_that_does_not_exist_holds_no_images() {
        assert_eq!(list(Path::new("/nonexistent/images")).expect("list"), []);
    }
}
