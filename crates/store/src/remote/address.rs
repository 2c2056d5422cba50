//! Where a bucket is, as users name it.

use std::path::{Path, PathBuf};

/// The longest prefix, in bytes. S3's keys have at most 1024, and ours need some 160 of them.
const MAX_PREFIX_BYTES: usize = 512;

/// A bucket, or a directory that is used as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BucketAddress {
    /// A bucket of S3, or of a store that speaks its protocol.
    S3 {
        /// Its name.
        name: String,
        /// What the names of all objects begin with; empty, or without a slash at either end.
        prefix: String,
    },
    /// A directory.
    Directory(PathBuf),
}

/// What names no bucket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseBucketError {
    /// The name cannot be one.
    #[error("{name:?} is no name of a bucket (3 to 63 lower-case letters, digits, dots and hyphens)")]
    Name {
        /// The start of what was given.
        name: String,
    },
    /// The prefix cannot be one.
    #[error("{prefix:?} is no prefix (letters, digits and !-_.*'() between single slashes)")]
    Prefix {
        /// The start of what was given.
        prefix: String,
    },
    /// The directory's path is not absolute.
    #[error("{path:?} is no absolute path, as in file:///srv/bucket")]
    Relative {
        /// The start of what was given.
        path: String,
    },
    /// Nobody knows how to talk to it.
    #[error("{scheme:?} is not known: name a bucket, or give s3://bucket/prefix or file:///directory")]
    Scheme {
        /// The start of what was given.
        scheme: String,
    },
}

impl std::str::FromStr for BucketAddress {
    type Err = ParseBucketError;

    fn from_str(text: &str) -> Result<Self, ParseBucketError> {
        match text.split_once("://") {
            None => Self::s3(text, ""),
            Some(("s3", rest)) => {
                let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                Self::s3(name, prefix.strip_suffix('/').unwrap_or(prefix))
            }
            Some(("file", path)) if Path::new(path).is_absolute() => Ok(Self::Directory(path.into())),
            Some(("file", path)) => Err(ParseBucketError::Relative { path: start_of(path) }),
            Some((scheme, _)) => Err(ParseBucketError::Scheme { scheme: start_of(scheme) }),
        }
    }
}

impl BucketAddress {
    fn s3(name: &str, prefix: &str) -> Result<Self, ParseBucketError> {
        // https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
        let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let is_name = (3..=63).contains(&name.len())
            && name.starts_with(alphanumeric)
            && name.ends_with(alphanumeric)
            && name.chars().all(|c| alphanumeric(c) || c == '-' || c == '.')
            && !name.contains("..");
        if !is_name {
            return Err(ParseBucketError::Name { name: start_of(name) });
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "!-_.*'()".contains(c);
        let is_part = |part: &str| !part.is_empty() && part != "." && part != ".." && part.chars().all(plain);
        if prefix.len() > MAX_PREFIX_BYTES || !(prefix.is_empty() || prefix.split('/').all(is_part)) {
            return Err(ParseBucketError::Prefix { prefix: start_of(prefix) });
        }
        Ok(Self::S3 { name: name.to_owned(), prefix: prefix.to_owned() })
    }
}

impl std::fmt::Display for BucketAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::S3 { name, prefix } if prefix.is_empty() => write!(f, "s3://{name}"),
            Self::S3 { name, prefix } => write!(f, "s3://{name}/{prefix}"),
            Self::Directory(path) => write!(f, "file://{}", path.display()),
        }
    }
}

fn start_of(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<BucketAddress, ParseBucketError> {
        text.parse()
    }

    #[test]
    fn a_bucket_is_a_name_or_an_address_of_s3_or_a_directory() {
        let s3 = |name: &str, prefix: &str| {
            Ok(BucketAddress::S3 { name: name.to_owned(), prefix: prefix.to_owned() })
        };
        assert_eq!(parsed("llm-firecracker"), s3("llm-firecracker", ""));
        assert_eq!(parsed("s3://llm-firecracker"), s3("llm-firecracker", ""));
        assert_eq!(parsed("s3://llm-firecracker/team/a/"), s3("llm-firecracker", "team/a"));
        assert_eq!(parsed("file:///srv/bucket"), Ok(BucketAddress::Directory("/srv/bucket".into())));
        for text in ["llm-firecracker", "s3://llm-firecracker/team/a", "file:///srv/bucket"] {
            let shown = parsed(text).unwrap().to_string();
            assert_eq!(parsed(&shown), parsed(text));
        }
    }

    #[test]
    fn what_is_none_says_what_is_wrong_with_it() {
        for name in
            ["", "ab", "UPPER", "a_b", "-ab", "ab.", "a..b", "a b", "s3://", "s3:///x", "../etc", "a/b"]
        {
            assert!(matches!(parsed(name), Err(ParseBucketError::Name { .. })), "{name:?}");
        }
        for prefix in ["s3://abc/a//b", "s3://abc/..", "s3://abc/a/../b", "s3://abc/a b", "s3://abc/ä"] {
            assert!(matches!(parsed(prefix), Err(ParseBucketError::Prefix { .. })), "{prefix:?}");
        }
        assert!(matches!(parsed("file://relative"), Err(ParseBucketError::Relative { .. })));
        assert!(matches!(parsed("gs://bucket"), Err(ParseBucketError::Scheme { .. })));
        assert!(matches!(parsed("https://bucket"), Err(ParseBucketError::Scheme { .. })));
    }
}
