//! `deny.toml`: the part of cargo-deny's format that we use. A key that is not judged here is an error, or someone would rely on it.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

const FILE: &str = "deny.toml";

/// What dependencies may be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Policy {
    graph: Graph,
    pub(crate) licenses: Licences,
    pub(crate) bans: Bans,
    pub(crate) sources: Sources,
    pub(crate) advisories: Advisories,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Graph {
    targets: Vec<String>,
}

/// Which licences a dependency may have.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Licences {
    pub(crate) allow: Vec<String>,
    pub(crate) exceptions: Vec<LicenceException>,
}

/// A crate that may have licences that others may not.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LicenceException {
    #[serde(rename = "crate")]
    pub(crate) name: String,
    pub(crate) allow: Vec<String>,
}

/// What may not be there, or not twice.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Bans {
    multiple_versions: Deny,
    // Judged by cargo-deny alone: cargo itself refuses to publish what has wildcards, and a lock file has none.
    #[serde(rename = "wildcards")]
    _wildcards: Deny,
    #[serde(rename = "allow-wildcard-paths")]
    _allow_wildcard_paths: bool,
    pub(crate) deny: Vec<Exception>,
    pub(crate) skip: Vec<Exception>,
}

/// Where dependencies may come from.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Sources {
    #[serde(rename = "unknown-registry")]
    _unknown_registry: Deny,
    #[serde(rename = "unknown-git")]
    _unknown_git: Deny,
    pub(crate) allow_registry: Vec<String>,
}

/// Which advisories do not concern us.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Advisories {
    pub(crate) ignore: Vec<IgnoredAdvisory>,
}

/// The one strictness that this check has.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Deny {
    Deny,
}

/// A crate, or one version of it (`name@1.2.3`), and why it is named.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exception {
    #[serde(rename = "crate")]
    pub(crate) name: String,
    pub(crate) reason: String,
}

/// An advisory, and why it does not concern us.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IgnoredAdvisory {
    pub(crate) id: String,
    pub(crate) reason: String,
}

impl Policy {
    /// The policy of the tree at `root`.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let text = fs::read_to_string(root.join(FILE)).with_context(|| format!("cannot read {FILE}"))?;
        Self::parse(&text)
    }

    /// The policy that `text` states.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let policy: Self = toml::from_str(text).with_context(|| format!("{FILE} is at fault"))?;
        let Deny::Deny = policy.bans.multiple_versions;
        ensure!(policy.graph.targets == [super::TARGET], "{FILE}: what is built is {} alone", super::TARGET);
        Ok(policy)
    }

    /// What the policy may not say.
    pub(crate) fn faults(&self) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        let exceptions = self.licenses.exceptions.iter().flat_map(|exception| &exception.allow);
        for name in self.licenses.allow.iter().chain(exceptions) {
            let id = spdx::license_id(name).with_context(|| format!("{FILE}: there is no licence {name}"))?;
            if id.is_copyleft() {
                faults.push(format!("{FILE}: {name} is copyleft, which no dependency may be"));
            }
        }
        let exceptions = self.bans.deny.iter().chain(&self.bans.skip).map(|one| (&one.name, &one.reason));
        let ignored = self.advisories.ignore.iter().map(|one| (&one.id, &one.reason));
        for (name, reason) in exceptions.chain(ignored) {
            if reason.trim().is_empty() {
                faults.push(format!("{FILE}: {name} is named without a reason"));
            }
        }
        Ok(faults)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A policy for tests, with these licences and skipped versions.
    pub(in crate::dependencies) fn policy(licences: &[&str], skipped: &[&str]) -> Policy {
        let skip: Vec<_> =
            skipped.iter().map(|name| format!("{{ crate = \"{name}\", reason = \"because\" }}")).collect();
        let text = format!(
            "[graph]\ntargets = [\"x86_64-unknown-linux-gnu\"]\n[licenses]\nallow = {licences:?}\nexceptions = [{{ crate = \"odd\", allow = [\"NCSA\"] }}]\n[bans]\n\
             multiple-versions = \"deny\"\nwildcards = \"deny\"\nallow-wildcard-paths = true\n\
             deny = [{{ crate = \"openssl-sys\", reason = \"C\" }}]\nskip = [{}]\n[sources]\nunknown-registry = \"deny\"\n\
             unknown-git = \"deny\"\nallow-registry = [\"https://github.com/rust-lang/crates.io-index\"]\n\
             [advisories]\nignore = []\n",
            skip.join(", ")
        );
        Policy::parse(&text).unwrap()
    }

    #[test]
    fn copyleft_may_not_even_be_listed_and_exceptions_have_reasons() {
        assert_eq!(policy(&["MIT"], &[]).faults().unwrap(), [""; 0]);
        let faults = policy(&["MIT", "GPL-3.0-only", "MPL-2.0"], &[]).faults().unwrap();
        assert!(faults.len() == 2 && faults[0].contains("GPL-3.0-only is copyleft"), "{faults:?}");
        assert!(policy(&["MTI"], &[]).faults().is_err());
        let mut without_reason = policy(&["MIT"], &["base64@0.22.1"]);
        without_reason.bans.skip[0].reason = " ".to_owned();
        assert!(without_reason.faults().unwrap()[0].contains("base64@0.22.1 is named without a reason"));
    }

    #[test]
    fn what_is_not_judged_may_not_be_asked_for() {
        let text = "[graph]\ntargets = [\"x86_64-unknown-linux-gnu\"]\nall-features = true\n";
        assert!(Policy::parse(text).is_err());
    }
}
