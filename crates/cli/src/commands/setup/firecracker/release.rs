//! Which release is installed where nobody chooses.
//!
//! WHEN CHANGING THE VERSION: change all three constants. The digest has to come from several independent sources,
//! and to equal the one that the release publishes beside the archive (`….tgz.sha256.txt`).

use images::Sha256Digest;

use super::version::Version;

/// The version, and the oldest that can be used: what is older has other snapshots and known holes.
pub(super) const VERSION: Version = Version { major: 1, minor: 16, patch: 1 };

/// The archive of that release.
pub(super) const URL: &str = "https://github.com/firecracker-microvm/firecracker/releases/download/v1.16.1/firecracker-v1.16.1-x86_64.tgz";

/// Its SHA-256.
const SHA256: &str = "382a02a869e4d6d5cb14c40577f9545e8458021ea8b0b2d3fc10ec14d9c242e6";

/// The digest of the archive.
pub(super) fn digest() -> Sha256Digest {
    SHA256.parse().expect("a test parses it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_and_url_are_those_of_the_version() {
        assert_eq!(digest().as_str(), SHA256);
        assert!(URL.ends_with(&format!("/v{VERSION}/firecracker-v{VERSION}-x86_64.tgz")), "{URL}");
    }
}
