//! Crates that are there in two versions: more to compile, more to trust, and types that do not fit each other. Each older version
//! that cannot be had without stands in `deny.toml`, with who needs it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use cargo_metadata::Package;

use super::Policy;

/// What these break.
pub(super) fn faults(packages: &[&Package], policy: &Policy) -> Result<Vec<String>> {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages {
        versions.entry(package.name.to_string()).or_default().insert(package.version.to_string());
    }
    judge(&versions, policy)
}

fn judge(versions: &BTreeMap<String, BTreeSet<String>>, policy: &Policy) -> Result<Vec<String>> {
    let mut remaining = versions.clone();
    let mut faults = Vec::new();
    for skipped in &policy.bans.skip {
        let (name, version) = skipped
            .name
            .split_once('@')
            .with_context(|| format!("deny.toml: {} names no version", skipped.name))?;
        let is_duplicate = versions.get(name).is_some_and(|versions| versions.len() > 1);
        let was_there = remaining.get_mut(name).is_some_and(|versions| versions.remove(version));
        if !(is_duplicate && was_there) {
            faults.push(format!(
                "deny.toml: {} is not there beside another version\nhint: take it off the list",
                skipped.name
            ));
        }
    }
    for (name, versions) in remaining {
        if versions.len() > 1 {
            let versions: Vec<_> = versions.into_iter().collect();
            faults.push(format!(
                "{name} is there in the versions {}\nhint: `cargo tree --workspace --invert {name}@{}` tells who needs it: raise \
                 that, or list the older version in deny.toml with the reason",
                versions.join(" and "),
                versions[0]
            ));
        }
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::{super::policy::tests::policy, *};

    fn versions(of: &[(&str, &[&str])]) -> BTreeMap<String, BTreeSet<String>> {
        of.iter()
            .map(|(name, versions)| (String::from(*name), versions.iter().map(ToString::to_string).collect()))
            .collect()
    }

    #[test]
    fn a_second_version_is_a_fault_unless_it_is_listed() {
        let there = versions(&[("base64", &["0.22.1", "0.23.1"]), ("libc", &["0.2.1"])]);
        let faults = judge(&there, &policy(&["MIT"], &[])).unwrap();
        assert!(
            faults.len() == 1 && faults[0].starts_with("base64 is there in the versions 0.22.1 and 0.23.1")
        );
        assert_eq!(judge(&there, &policy(&["MIT"], &["base64@0.22.1"])).unwrap(), [""; 0]);
    }

    #[test]
    fn what_is_listed_must_be_there_twice() {
        for there in [
            versions(&[("base64", &["0.22.1"])]),
            versions(&[("base64", &["0.23.1", "0.24.0"])]),
            versions(&[]),
        ] {
            let faults = judge(&there, &policy(&["MIT"], &["base64@0.22.1"])).unwrap();
            assert!(faults[0].contains("base64@0.22.1 is not there beside another version"), "{faults:?}");
        }
        assert!(judge(&versions(&[]), &policy(&["MIT"], &["base64"])).is_err());
    }
}
