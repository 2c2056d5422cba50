//! What the lock files say by themselves: where crates come from, which are banned, and which their owners have withdrawn, as
//! far as the part of the registry's index knows that cargo has kept on this machine.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use rustsec::{Lockfile, package::Package};

use super::Policy;

/// Crates from elsewhere than the registries of the policy, or that nothing is compared with.
pub(super) fn source_faults(lock: &Lockfile, policy: &Policy) -> Vec<String> {
    // Without a source it is a crate of this tree.
    let foreign = lock.packages.iter().filter(|package| package.source.is_some());
    foreign
        .filter_map(|package| {
            Some(format!("{} {}: {}", package.name, package.version, source_fault(package, policy)?))
        })
        .collect()
}

fn source_fault(package: &Package, policy: &Policy) -> Option<String> {
    let source = package.source.as_ref()?;
    let known = policy.sources.allow_registry.iter().any(|url| source.url().as_str() == url);
    if !(source.is_registry() && known) {
        return Some(format!(
            "comes from {source}\nhint: only what the registry keeps for good can be built in years"
        ));
    }
    package
        .checksum
        .is_none()
        .then(|| "has no checksum\nhint: `cargo generate-lockfile` writes it".to_owned())
}

/// Crates that may not be there.
pub(super) fn ban_faults(lock: &Lockfile, policy: &Policy) -> Vec<String> {
    let banned = policy
        .bans
        .deny
        .iter()
        .filter(|ban| lock.packages.iter().any(|package| package.name.as_str() == ban.name));
    banned
        .map(|ban| {
            format!(
                "{}: {}\nhint: `cargo tree --workspace --invert {}` tells who needs it",
                ban.name, ban.reason, ban.name
            )
        })
        .collect()
}

/// Crates that may have other licences than the rest, and are not there.
pub(super) fn exception_faults(locks: &[Lockfile], policy: &Policy) -> Vec<String> {
    let there = |name: &str| {
        locks.iter().any(|lock| lock.packages.iter().any(|package| package.name.as_str() == name))
    };
    let missing = policy.licenses.exceptions.iter().filter(|exception| !there(&exception.name));
    missing
        .map(|exception| {
            format!("deny.toml: {} is no dependency\nhint: take it off the exceptions", exception.name)
        })
        .collect()
}

/// The registry's index, as far as cargo has kept it.
#[derive(Debug, Default)]
pub(super) struct Index {
    told: usize,
    asked: usize,
}

impl Index {
    /// Crates that were withdrawn when cargo last asked.
    pub(super) fn yanked_faults(&mut self, lock: &Lockfile) -> Result<Vec<String>> {
        let root = super::cargo_home()?.join("registry/index");
        let mut kept = Vec::new();
        for entry in fs::read_dir(&root).into_iter().flatten() {
            let index =
                entry.with_context(|| format!("cannot list {}", root.display()))?.path().join(".cache");
            kept.extend(index.is_dir().then_some(index));
        }
        let mut faults = Vec::new();
        for package in lock.packages.iter().filter(|package| package.source.is_some()) {
            self.asked += 1;
            let files = kept.iter().map(|index| index.join(path_of(package.name.as_str())));
            let known = files.filter_map(|file| fs::read(file).ok());
            let version = package.version.to_string();
            let Some(yanked) = known.into_iter().find_map(|file| is_yanked(&file, &version)) else {
                continue;
            };
            self.told += 1;
            if yanked {
                faults.push(format!(
                    "{} {version}: its owners have withdrawn it\nhint: cargo update {}",
                    package.name, package.name
                ));
            }
        }
        Ok(faults)
    }

    /// How much was known.
    pub(super) fn summary(&self) -> String {
        format!("whether it was withdrawn is known here of {} of {} crates", self.told, self.asked)
    }
}

/// Where the index has a crate.
fn path_of(name: &str) -> PathBuf {
    let lower = name.to_lowercase();
    // Names of crates are ASCII.
    match lower.len() {
        1 | 2 => [lower.len().to_string().as_str(), &lower].iter().collect(),
        3 => ["3", &lower[..1], &lower].iter().collect(),
        _ => [&lower[..2], &lower[2..4], &lower].iter().collect(),
    }
}

/// Whether that version was withdrawn; nothing where the file does not say so. It holds, apart by zero bytes and after a few bytes
/// of cargo's own, a version and what the registry says of it in JSON, for each version.
fn is_yanked(file: &[u8], version: &str) -> Option<bool> {
    #[derive(serde::Deserialize)]
    struct Entry {
        vers: String,
        yanked: bool,
    }
    let entries = file.split(|byte| *byte == 0).filter_map(|part| serde_json::from_slice::<Entry>(part).ok());
    entries.into_iter().find(|entry| entry.vers == version).map(|entry| entry.yanked)
}

#[cfg(test)]
mod tests {
    use super::{super::policy::tests::policy, *};

    fn lock(packages: &str) -> Lockfile {
        format!("version = 4\n{packages}").parse().unwrap()
    }

    fn package(name: &str, source: &str) -> String {
        let checksum = "a".repeat(64);
        format!(
            "[[package]]\nname = \"{name}\"\nversion = \"1.0.0\"\nsource = \"{source}\"\nchecksum = \"{checksum}\"\n"
        )
    }

    #[test]
    fn crates_come_from_the_one_registry_and_have_checksums() {
        let good = package("good", "registry+https://github.com/rust-lang/crates.io-index");
        let ours = "[[package]]\nname = \"ours\"\nversion = \"1.0.0\"\n";
        assert_eq!(source_faults(&lock(&(good.clone() + ours)), &policy(&["MIT"], &[])), [""; 0]);
        let bare = good.lines().filter(|line| !line.starts_with("checksum")).collect::<Vec<_>>().join("\n");
        for (bad, why) in [
            (
                package("bad", "registry+https://example.com/index"),
                "comes from registry+https://example.com/index",
            ),
            (
                package("bad", "git+https://example.com/bad#0123456789012345678901234567890123456789"),
                "comes from git+",
            ),
            (bare, "has no checksum"),
        ] {
            let faults = source_faults(&lock(&bad), &policy(&["MIT"], &[]));
            assert!(faults.len() == 1 && faults[0].contains(why), "{faults:?}");
        }
    }

    #[test]
    fn a_banned_crate_is_found_by_its_whole_name() {
        let source = "registry+https://github.com/rust-lang/crates.io-index";
        let found = |name| ban_faults(&lock(&package(name, source)), &policy(&["MIT"], &[]));
        assert_eq!(found("openssl-sys-not"), [""; 0]);
        assert!(found("openssl-sys")[0].starts_with("openssl-sys: C\n"));
    }

    #[test]
    fn an_exception_is_made_for_what_is_there() {
        let source = "registry+https://github.com/rust-lang/crates.io-index";
        let found = |names: &[&str]| {
            let locks: Vec<_> = names.iter().map(|name| lock(&package(name, source))).collect();
            exception_faults(&locks, &policy(&["MIT"], &[]))
        };
        assert_eq!(found(&["other", "odd"]), [""; 0]);
        assert!(found(&["other"])[0].starts_with("deny.toml: odd is no dependency"));
    }

    #[test]
    fn the_index_says_which_version_was_withdrawn() {
        let file = b"\x03\x02\x00\x00\x00etag\x001.0.0\x00{\"name\":\"a\",\"vers\":\"1.0.0\",\"yanked\":true}\x001.0.1\x00{\"vers\":\"1.0.1\",\"yanked\":false}\x00";
        assert_eq!(
            ["1.0.0", "1.0.1", "1.0.2"].map(|version| is_yanked(file, version)),
            [Some(true), Some(false), None]
        );
        let paths = ["a", "ab", "Abc", "abcd", "serde_json"].map(|name| path_of(name).display().to_string());
        assert_eq!(paths, ["1/a", "2/ab", "3/a/abc", "ab/cd/abcd", "se/rd/serde_json"]);
    }
}
