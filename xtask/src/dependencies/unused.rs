//! Dependencies that no code names. A crate that is there for one of its features alone stands in its user's manifest under
//! `package.metadata.cargo-machete`, where the tool of that name looks, too.
//!
//! A name is found wherever it stands in code: one that something else has as well hides a fault. Compilers know better, but only
//! after they have compiled everything.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use cargo_metadata::{Dependency, DependencyKind, Metadata, Package, TargetKind};

use crate::{rules::sources, tokens};

/// What the crates of this workspace declare, and do not use.
pub(super) fn faults(root: &Path, metadata: &Metadata) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    let mut declared = BTreeSet::new();
    for package in metadata.workspace_packages() {
        let names: Vec<_> = package.dependencies.iter().map(|one| (one, name_in_code(one))).collect();
        declared.extend(package.dependencies.iter().map(|one| one.name.clone()));
        let used = Words::of(package)?;
        let unused = names.iter().filter(|(dependency, name)| !used.of_kind(dependency.kind).contains(name));
        let unused: BTreeSet<_> = unused.map(|(dependency, _)| dependency.name.as_str()).collect();
        let manifest = package.manifest_path.strip_prefix(root).unwrap_or(&package.manifest_path);
        faults.extend(
            judge(&unused, &ignored(package)).into_iter().map(|fault| format!("{manifest}: {fault}")),
        );
    }
    // What the workspace offers is wanted by somebody. The fuzz targets' has no such list.
    let manifest = metadata.workspace_root.join("Cargo.toml");
    let offered =
        offered(&fs::read_to_string(&manifest).with_context(|| format!("cannot read {manifest}"))?)?;
    let unwanted = offered.into_iter().filter(|name| !declared.contains(name));
    faults.extend(unwanted.map(|name| {
        format!("Cargo.toml: no crate wants {name}\nhint: take it out of the workspace's dependencies")
    }));
    Ok(faults)
}

fn judge(unused: &BTreeSet<&str>, ignored: &BTreeSet<String>) -> Vec<String> {
    let faults = unused.iter().filter(|name| !ignored.contains(**name));
    let faults = faults.map(|name| format!("no code names {name}\nhint: cargo remove {name}"));
    let used = ignored.iter().filter(|name| !unused.contains(name.as_str()));
    faults
        .chain(used.map(|name| {
            format!(
                "{name} is named by code, or no dependency\nhint: take it off package.metadata.cargo-machete"
            )
        }))
        .collect()
}

/// The words of a package's code, by who may use what.
struct Words {
    program: BTreeSet<String>,
    tests: BTreeSet<String>,
    build: BTreeSet<String>,
}

impl Words {
    fn of(package: &Package) -> Result<Self> {
        let directory = package.manifest_path.parent().context("a manifest lies in a directory")?;
        let build: BTreeSet<PathBuf> = package
            .targets
            .iter()
            .filter(|target| target.kind.contains(&TargetKind::CustomBuild))
            .map(|target| target.src_path.clone().into())
            .collect();
        let mut words = Self { program: BTreeSet::new(), tests: BTreeSet::new(), build: BTreeSet::new() };
        // In a package's directory there may be another one.
        let inside = |file: &Path| {
            let mut above = file.ancestors().skip(1).take_while(|above| *above != directory.as_std_path());
            !above.any(|above| above.join("Cargo.toml").exists() || above.ends_with("target"))
        };
        for file in sources(directory.as_std_path())?.into_iter().filter(|file| inside(file)) {
            let found = tokens::words_of(&file)?;
            let first = file.strip_prefix(directory.as_std_path()).ok().and_then(|file| file.iter().next());
            let tests = ["tests", "examples", "benches"].iter().any(|name| first == Some(name.as_ref()));
            let into = if build.contains(&file) {
                &mut words.build
            } else if tests {
                &mut words.tests
            } else {
                &mut words.program
            };
            into.extend(found);
        }
        // Tests stand in the program's own files, too.
        words.tests.extend(words.program.iter().cloned());
        Ok(words)
    }

    fn of_kind(&self, kind: DependencyKind) -> &BTreeSet<String> {
        match kind {
            DependencyKind::Build => &self.build,
            DependencyKind::Development => &self.tests,
            _ => &self.program,
        }
    }
}

fn name_in_code(dependency: &Dependency) -> String {
    dependency.rename.as_ref().unwrap_or(&dependency.name).replace('-', "_")
}

fn ignored(package: &Package) -> BTreeSet<String> {
    let names = &package.metadata["cargo-machete"]["ignored"];
    names.as_array().into_iter().flatten().filter_map(|name| name.as_str()).map(str::to_owned).collect()
}

fn offered(manifest: &str) -> Result<Vec<String>> {
    let manifest: toml::Table = manifest.parse().context("the workspace's manifest is at fault")?;
    let offered = manifest.get("workspace").and_then(|workspace| workspace.get("dependencies"));
    Ok(offered.and_then(toml::Value::as_table).into_iter().flatten().map(|(name, _)| name.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_code_names_is_a_fault_unless_it_is_there_for_its_features() {
        let unused = BTreeSet::from(["reqwest", "tempfile"]);
        let ignored = BTreeSet::from(["reqwest", "serde"].map(str::to_owned));
        let faults = judge(&unused, &ignored);
        assert!(faults.len() == 2 && faults[0].starts_with("no code names tempfile"), "{faults:?}");
        assert!(faults[1].starts_with("serde is named by code"), "{faults:?}");
    }

    #[test]
    fn what_the_workspace_offers_is_read_from_its_manifest() {
        let text = "[workspace.dependencies]\nserde = \"1\"\nlibc = { version = \"0.2\" }\n[profile.dev]\ndebug = true\n";
        assert_eq!(offered(text).unwrap(), ["libc", "serde"]);
        assert_eq!(offered("[package]\nname = \"fuzz\"\n").unwrap(), [""; 0]);
    }

    #[test]
    fn this_crate_uses_what_it_declares_and_not_what_it_does_not() {
        let root = crate::workspace_root().unwrap();
        let metadata = super::super::metadata(&root.join("xtask/Cargo.toml")).unwrap();
        let package =
            metadata.workspace_packages().into_iter().find(|package| *package.name == "xtask").unwrap();
        let words = Words::of(package).unwrap();
        assert!(words.of_kind(DependencyKind::Normal).contains("anyhow"));
        assert!(!words.of_kind(DependencyKind::Normal).contains("hyper"));
        assert!(!words.of_kind(DependencyKind::Build).contains("anyhow"));
    }
}
