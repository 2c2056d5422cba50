//! What objects are called.
//!
//! ```text
//! rootfs/<language>/<sha256 of the image>.json
//! snapshots/<language>/<size>/<kind of host>.json
//! chunks/<sha256 of its content>
//! ```
//!
//! The kind of host is 16 hexadecimal digits of a digest of all that a snapshot and its host must have in common.

use images::{Sha256Digest, Sha256Hasher};

use crate::{
    Language,
    snapshot::{Current, HostRecord, KernelRecord, Manifest, Size},
};

/// The folder of image manifests.
pub(super) const IMAGES: &str = "rootfs";

/// The folder of snapshot manifests.
pub(super) const SNAPSHOTS: &str = "snapshots";

/// The name of an object, without the bucket's prefix. Made here alone, of parts that were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ObjectName(String);

impl ObjectName {
    /// A chunk's.
    pub(super) fn of_chunk(sha256: &Sha256Digest) -> Self {
        Self(format!("chunks/{sha256}"))
    }

    /// That of the manifest of an image.
    pub(super) fn of_image(language: &Language, sha256: &Sha256Digest) -> Self {
        Self(format!("{IMAGES}/{language}/{sha256}.json"))
    }

    /// That of the manifest of a snapshot.
    pub(super) fn of_snapshot(language: &Language, size: Size, key: &HostKey) -> Self {
        Self(format!("{SNAPSHOTS}/{language}/{size}/{}.json", key.0))
    }

    /// The name.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A kind of host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostKey(String);

/// How many digits tell kinds of hosts apart. There are a handful in a bucket.
const KEY_DIGITS: usize = 16;

impl HostKey {
    /// The kind of host for which a snapshot is.
    pub(super) fn of(manifest: &Manifest) -> Self {
        Self::made_of(&manifest.host, manifest.protocol_generation, &manifest.kernel)
    }

    /// This host's own kind; nothing where it has no kernel.
    pub(super) fn of_current(current: &Current) -> Option<Self> {
        let kernel = current.kernel.as_ref()?;
        Some(Self::made_of(&current.host, current.protocol_generation, kernel))
    }

    fn made_of(host: &HostRecord, protocol_generation: u32, kernel: &KernelRecord) -> Self {
        let mut hasher = Sha256Hasher::default();
        for part in [
            host.vmm.as_str(),
            &host.vmm_version,
            &host.acceleration,
            &host.cpu,
            &host.tsc_mhz.map(|mhz| mhz.to_string()).unwrap_or_default(),
            &protocol_generation.to_string(),
            kernel.vmlinux.as_str(),
            kernel.initramfs.as_str(),
        ] {
            hasher.update(part.as_bytes());
            // So that no two lists of parts are one text.
            hasher.update(b"\0");
        }
        Self(hasher.finish().as_str()[..KEY_DIGITS].to_owned())
    }

    fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == KEY_DIGITS && text.bytes().all(is_digit)).then(|| Self(text.to_owned()))
    }
}

/// What the name of an image's manifest says; nothing where it is none.
pub(super) fn parse_image(name: &str) -> Option<(Language, Sha256Digest)> {
    let mut parts = name.split('/');
    let (IMAGES, language, file, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
        return None;
    };
    Some((language.parse().ok()?, file.strip_suffix(".json")?.parse().ok()?))
}

/// What the name of a snapshot's manifest says; nothing where it is none.
pub(super) fn parse_snapshot(name: &str) -> Option<(Language, Size, HostKey)> {
    let mut parts = name.split('/');
    let (SNAPSHOTS, language, size) = (parts.next()?, parts.next()?, parts.next()?) else { return None };
    let (file, None) = (parts.next()?, parts.next()) else { return None };
    Some((language.parse().ok()?, Size::from_directory(size)?, HostKey::parse(file.strip_suffix(".json")?)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::manifest::tests::example;

    #[test]
    fn names_say_what_they_are_of_and_others_are_not_looked_at() {
        let digest = Sha256Digest::of_bytes(b"");
        let language: Language = "python".parse().unwrap();
        let name = ObjectName::of_image(&language, &digest);
        assert_eq!(parse_image(name.as_str()), Some((language.clone(), digest)));
        let manifest = example();
        let key = HostKey::of(&manifest);
        let name = ObjectName::of_snapshot(&language, manifest.size, &key);
        assert_eq!(parse_snapshot(name.as_str()), Some((language, manifest.size, key)));
        for other in ["", "rootfs", "rootfs/python/x.json", "rootfs/../x.json", "rootfs/a/b/c.json", "x/y/z"]
        {
            assert!(parse_image(other).is_none() && parse_snapshot(other).is_none(), "{other}");
        }
        for other in ["snapshots/python/512m-1c/../x.json", "snapshots/python/0m/0123456789abcdef.json"] {
            assert!(parse_snapshot(other).is_none(), "{other}");
        }
    }

    #[test]
    fn snapshots_of_hosts_that_differ_have_names_that_differ() {
        let key = HostKey::of(&example());
        let mut other = example();
        other.host.tsc_mhz = None;
        assert_ne!(HostKey::of(&other), key);
        let mut shifted = example();
        shifted.host.vmm = format!("{}{}", other.host.vmm, &other.host.vmm_version[..1]);
        shifted.host.vmm_version = other.host.vmm_version[1..].to_owned();
        assert_ne!(HostKey::of(&shifted), key);
        other = example();
        other.created_unix += 1;
        assert_eq!(HostKey::of(&other), key);
    }
}
