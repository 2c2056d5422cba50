//! How users name images: as Docker and skopeo have it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::digest::Sha256Digest;

/// The registry of names without one.
const DEFAULT_REGISTRY: &str = "docker.io";

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// A registry.
    Registry(Reference),
    /// A directory in OCI's layout (`oci:DIR[:NAME]`).
    Layout {
        /// The directory.
        directory: PathBuf,
        /// Which of its images, where it has several.
        name: Option<String>,
    },
    /// The same as a tar archive (`oci-archive:FILE[:NAME]`), or what `docker save` writes
    /// (`docker-archive:FILE[:NAME]`).
    Archive {
        /// The file.
        file: PathBuf,
        /// Which of its images, where it has several.
        name: Option<String>,
    },
}

/// An image in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The registry's host, with a port where it is not the usual one: `docker.io`, `127.0.0.1:5000`.
    pub registry: String,
    /// The repository: `library/python`.
    pub repository: String,
    /// Which of its images.
    pub version: Version,
}

/// Which image of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// The one that has this tag now.
    Tag(String),
    /// The one with this digest. A tag beside it says nothing more.
    Digest(Sha256Digest),
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => formatter.write_str(tag),
            Self::Digest(digest) => write!(formatter, "sha256:{digest}"),
        }
    }
}

/// A text names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} names no image: {problem}")]
pub struct ParseReferenceError {
    /// The text.
    text: String,
    /// What is wrong with it.
    problem: &'static str,
}

impl FromStr for ImageSource {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, ParseReferenceError> {
        let wrong = |problem| ParseReferenceError { text: text.chars().take(200).collect(), problem };
        let split = |rest: &str| -> Result<(PathBuf, Option<String>), ParseReferenceError> {
            // As skopeo has it: what comes after the first colon is a name.
            let (path, name) = rest.split_once(':').map_or((rest, None), |(path, name)| (path, Some(name)));
            if path.is_empty() {
                return Err(wrong("it has no path"));
            }
            Ok((PathBuf::from(path), name.filter(|name| !name.is_empty()).map(str::to_owned)))
        };
        if let Some(rest) = text.strip_prefix("oci:") {
            let (directory, name) = split(rest)?;
            return Ok(Self::Layout { directory, name });
        }
        for transport in ["oci-archive:", "docker-archive:"] {
            if let Some(rest) = text.strip_prefix(transport) {
                let (file, name) = split(rest)?;
                return Ok(Self::Archive { file, name });
            }
        }
        let reference = text.strip_prefix("docker://").unwrap_or(text);
        parse(reference).map(Self::Registry).map_err(wrong)
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => {
            let digits = digest.strip_prefix("sha256:").ok_or("its digest is no SHA-256")?;
            (rest, Some(digits.parse().map_err(|_| "its digest is no SHA-256")?))
        }
        None => (text, None),
    };
    // The colon of a port has a slash after it.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    let (registry, repository) = match name.split_once('/') {
        Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => (first, path.to_owned()),
        _ => (DEFAULT_REGISTRY, name.to_owned()),
    };
    let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
    let repository = match repository {
        short if registry == DEFAULT_REGISTRY && !short.contains('/') => format!("library/{short}"),
        repository => repository,
    };
    if !is_host(registry) {
        return Err("its registry is no host");
    }
    if repository.len() > 255 || !repository.split('/').all(is_path_component) {
        return Err("a repository has lower-case letters, digits and ._-/");
    }
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err("a tag has at most 128 letters, digits and ._-");
    }
    let version = match digest {
        Some(digest) => Version::Digest(digest),
        None => Version::Tag(tag.unwrap_or("latest").to_owned()),
    };
    Ok(Reference { registry: registry.to_owned(), repository, version })
}

/// A host with or without a port. An IPv6 address is in brackets.
pub(super) fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(|address| {
        !address.is_empty() && address.chars().all(|c| c.is_ascii_hexdigit() || c == ':')
    });
    let is_name = !host.is_empty()
        && host.starts_with(|c: char| c.is_ascii_alphanumeric())
        && host.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-');
    text.len() <= 255 && (is_address || is_name) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

fn is_path_component(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(is_plain)
        && text.ends_with(is_plain)
        && text.chars().all(|c| is_plain(c) || matches!(c, '.' | '_' | '-'))
}

fn is_tag(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(text: &str) -> (String, String, String) {
        match text.parse() {
            Ok(ImageSource::Registry(reference)) => {
                (reference.registry, reference.repository, reference.version.to_string())
            }
            other => unreachable!("{text:?} became {other:?}"),
        }
    }

    #[test]
    fn short_names_are_completed_as_docker_does() {
        let digest = "ab".repeat(32);
        for (text, expected) in [
            ("python", ("docker.io", "library/python", "latest")),
            ("python:3.12-alpine", ("docker.io", "library/python", "3.12-alpine")),
            ("docker.io/python", ("docker.io", "library/python", "latest")),
            ("index.docker.io/bitnami/python:3", ("docker.io", "bitnami/python", "3")),
            ("bitnami/python", ("docker.io", "bitnami/python", "latest")),
            ("docker://ghcr.io/a/b/c:v1", ("ghcr.io", "a/b/c", "v1")),
            ("localhost/python", ("localhost", "python", "latest")),
            ("localhost:5000/python:3", ("localhost:5000", "python", "3")),
            ("[::1]:5000/python", ("[::1]:5000", "python", "latest")),
            ("127.0.0.1:5000/library/python", ("127.0.0.1:5000", "library/python", "latest")),
        ] {
            let (registry, repository, version) = registry(text);
            assert_eq!((registry.as_str(), repository.as_str(), version.as_str()), expected, "{text}");
        }
        let (_, repository, version) = registry(&format!("python:3.12@sha256:{digest}"));
        assert_eq!((repository.as_str(), version), ("library/python", format!("sha256:{digest}")));
    }

    #[test]
    fn files_are_named_as_skopeo_does() {
        let parse = |text: &str| text.parse::<ImageSource>().expect("a source");
        let (directory, file) = (PathBuf::from("/a/b"), PathBuf::from("x.tar"));
        assert_eq!(
            parse("oci:/a/b:3.12"),
            ImageSource::Layout { directory: directory.clone(), name: Some("3.12".to_owned()) }
        );
        assert_eq!(parse("oci:/a/b"), ImageSource::Layout { directory, name: None });
        assert_eq!(parse("oci-archive:x.tar"), ImageSource::Archive { file: file.clone(), name: None });
        let name = Some("python:3".to_owned());
        assert_eq!(parse("docker-archive:x.tar:python:3"), ImageSource::Archive { file, name });
    }

    #[test]
    fn what_could_change_a_request_names_no_image() {
        for text in [
            "",
            "Python",
            "a//b",
            "../x",
            "a/../b",
            "python:",
            "python:a b",
            "python@sha256:12",
            "python@md5:x",
            "host.example:99999/a",
            "a.example/b?c",
            "a.example/b#c",
            "user@a.example/b",
            "https://a.example/b",
            "oci:",
            "a\nb",
            "-x",
            ".example/a",
        ] {
            assert!(text.parse::<ImageSource>().is_err(), "{text:?}");
        }
    }
}
