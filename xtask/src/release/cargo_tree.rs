//! The crates that are compiled into a program of ours, with the features that they have there. `cargo metadata` would mix them with
//! those of tests and of the other programs; `cargo tree` resolves them as a build of this one does.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::dependencies::TARGET;

/// A crate's name and version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    pub(super) name: String,
    pub(super) version: String,
}

/// A crate of others.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Crate {
    pub(super) licence: String,
    pub(super) features: BTreeSet<String>,
    pub(super) uses: BTreeSet<Id>,
}

/// What is in one program.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Crates {
    pub(super) crates: BTreeMap<Id, Crate>,
    /// What the program's own crates use, directly.
    pub(super) used_directly: BTreeSet<Id>,
}

/// The crates in the program of our crate `package`: neither macros, which run while it is compiled, nor build scripts.
pub(super) fn crates(root: &Path, package: &str) -> Result<Crates> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(root)
        .args(["tree", "--offline", "--locked", "--package", package, "--edges", "normal,no-proc-macro"])
        .args(["--target", TARGET, "--prefix", "depth", "--format", "|{p}|{l}|{f}|"])
        .output()
        .context("cannot run cargo tree")?;
    ensure!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr).trim());
    parse(&String::from_utf8(output.stdout).context("cargo tree printed no UTF-8")?)
}

/// Lines are `DEPTH|NAME vVERSION (DIRECTORY)|LICENCE|FEATURES|`: the directory is there for crates of ours. Where a crate comes
/// again, its line ends with `(*)` and what it uses is left out.
fn parse(tree: &str) -> Result<Crates> {
    let mut found = Crates::default();
    // The line above at each depth: of ours nothing.
    let mut above: Vec<Option<Id>> = Vec::new();
    for line in tree.lines() {
        let fields: Vec<_> = line.split('|').collect();
        let [depth, package, licence, features, _] = fields[..] else { bail!("cargo tree printed: {line}") };
        let depth: usize = depth.parse().with_context(|| format!("cargo tree printed: {line}"))?;
        let mut words = package.split(' ');
        let (name, version) =
            words.next().zip(words.next()).with_context(|| format!("cargo tree printed: {line}"))?;
        let version = version.strip_prefix('v').unwrap_or(version).to_owned();
        let id = Id { name: name.to_owned(), version };
        let is_ours = words.next().is_some_and(|word| word.starts_with("(/"));
        ensure!(depth <= above.len(), "cargo tree printed: {line}");
        above.truncate(depth);
        if is_ours {
            above.push(None);
            continue;
        }
        let user = match above.last().context("cargo tree began with a crate of others")? {
            Some(user) => &mut found.crates.get_mut(user).context("who uses it came before")?.uses,
            None => &mut found.used_directly,
        };
        user.insert(id.clone());
        let entry = found.crates.entry(id.clone()).or_default();
        licence.clone_into(&mut entry.licence);
        entry.features.extend(features.split(',').filter(|feature| !feature.is_empty()).map(str::to_owned));
        above.push(Some(id));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> Id {
        Id { name: name.to_owned(), version: "1.0.0".to_owned() }
    }

    #[test]
    fn crates_of_ours_count_as_the_program() {
        let tree = "0|program v0.1.0 (/tree/program)|Apache-2.0||\n\
                    1|a v1.0.0|MIT|default,std|\n\
                    2|b v1.0.0|MIT OR ISC||\n\
                    1|library v0.1.0 (/tree/library)|Apache-2.0||\n\
                    2|c v1.0.0|MIT||\n\
                    3|a v1.0.0|MIT|default,std| (*)\n";
        let found = parse(tree).unwrap();
        assert_eq!(found.used_directly, [id("a"), id("c")].into());
        assert_eq!(found.crates.len(), 3);
        assert_eq!(found.crates[&id("a")].features, ["default", "std"].map(str::to_owned).into());
        assert_eq!(found.crates[&id("a")].uses, [id("b")].into());
        assert_eq!(found.crates[&id("c")].uses, [id("a")].into());
        assert_eq!(found.crates[&id("b")].licence, "MIT OR ISC");
    }

    #[test]
    fn what_is_no_tree_is_an_error() {
        for bad in ["a v1.0.0", "0|a v1.0.0|MIT||", "0|p v1 (/p)|x||\n2|a v1.0.0|MIT||", "0|p|x||"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
