//! SHA-256 digests of files and buffers: how images, kernels and the agent are identified.
//!
//! A digest is written as 64 lower-case hexadecimal digits everywhere, in memory and in JSON, so that there is one
//! spelling to compare.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::progress::Progress;
use crate::staging::open_named;

/// Large enough that system calls do not matter next to hashing, small enough for any stack of callers.
const CHUNK_BYTES: usize = 256 << 10;

/// Progress is reported in steps of this size: often enough for a bar, seldom enough to cost nothing.
const REPORT_BYTES: u64 = 8 << 20;

/// A SHA-256 digest as 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256Digest(String);

impl Sha256Digest {
    /// The digest of `bytes`.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self::from_hasher(Sha256::new_with_prefix(bytes))
    }

    /// The digest of the file at `path`, read once from start to end.
    pub fn of_file(path: &Path, progress: &dyn Progress) -> Result<Self, DigestError> {
        let failed = |source| DigestError::Read { path: path.to_owned(), source };
        let file = open_named(path).map_err(failed)?;
        Self::of_open_file(&file, path, progress)
    }

    /// The digest of a file that was opened at its beginning; `path` is what it is called in errors. Of one that grows
    /// meanwhile, a byte more than it had is read.
    pub fn of_open_file(file: &File, path: &Path, progress: &dyn Progress) -> Result<Self, DigestError> {
        let failed = |source| DigestError::Read { path: path.to_owned(), source };
        let total = file.metadata().map_err(failed)?.len();
        let mut file = file.take(total.saturating_add(1));
        let mut hasher = Sha256::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut done = 0_u64;
        let mut reported = 0_u64;
        loop {
            let count = match file.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error)),
            };
            hasher.update(&chunk[..count]);
            done += count as u64;
            if done - reported >= REPORT_BYTES {
                progress.bytes(done, Some(total));
                reported = done;
            }
        }
        progress.bytes(done, Some(done));
        Ok(Self::from_hasher(hasher))
    }

    /// The 64 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The digest that `hasher` has computed.
    pub(crate) fn from_hasher(hasher: Sha256) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(64);
        for byte in hasher.finalize() {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        Self(text)
    }
}

/// Computes the digest of what comes in pieces.
#[derive(Debug, Clone, Default)]
pub struct Sha256Hasher(Sha256);

impl Sha256Hasher {
    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all pieces.
    pub fn finish(self) -> Sha256Digest {
        Sha256Digest::from_hasher(self.0)
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for Sha256Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for Sha256Digest {
    type Error = ParseDigestError;

    fn try_from(text: String) -> Result<Self, ParseDigestError> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 64 && text.bytes().all(is_digit) {
            Ok(Self(text))
        } else {
            // What was given may be hostile and long: the message holds no more than a digest's worth of it.
            Err(ParseDigestError { text: text.chars().take(64).collect() })
        }
    }
}

impl From<Sha256Digest> for String {
    fn from(digest: Sha256Digest) -> Self {
        digest.0
    }
}

/// A text is not a SHA-256 digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a SHA-256 digest in lower-case hexadecimal: {text:?}")]
pub struct ParseDigestError {
    /// The start of what was given instead.
    pub text: String,
}

/// A file's digest could not be computed.
#[derive(Debug, thiserror::Error)]
pub enum DigestError {
    /// The file could not be opened or read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl DigestError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let Self::Read { path, source } = self;
        crate::staging::io_hint(path, source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Quiet;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn digest_of_bytes_is_the_published_test_vector() {
        assert_eq!(Sha256Digest::of_bytes(b"abc").as_str(), ABC);
    }

    #[test]
    fn digest_of_a_file_equals_the_digest_of_its_bytes() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("file");
        let bytes: Vec<u8> = (0..=250).cycle().take(CHUNK_BYTES * 3 + 17).collect();
        std::fs::write(&path, &bytes).expect("write");
        let digest = Sha256Digest::of_file(&path, &Quiet).expect("digest");
        assert_eq!(digest, Sha256Digest::of_bytes(&bytes));
    }

    #[test]
    fn only_sixty_four_lower_case_digits_are_a_digest() {
        assert!(ABC.parse::<Sha256Digest>().is_ok());
        for text in ["", "abc", &ABC.to_uppercase(), &format!("{ABC}0"), &ABC.replace('b', "g")] {
            assert!(text.parse::<Sha256Digest>().is_err(), "{text:?}");
        }
        assert!(serde_json::from_str::<Sha256Digest>("\"../../etc\"").is_err());
    }

    #[test]
    fn a_missing_file_is_named_in_the_error() {
        let error = Sha256Digest::of_file(Path::new("/nonexistent/file"), &Quiet).expect_err("missing");
        assert_eq!(error.to_string(), "cannot read /nonexistent/file");
    }
}
