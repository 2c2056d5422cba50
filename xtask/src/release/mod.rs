//! `cargo xtask sbom`: what a release is made of, written down beside it: a bill of materials in the format `CycloneDX`, and the
//! licences that ask to be passed on. Both from the lock files, and from sources that cargo has already; nothing is asked over the
//! network, and the same sources and tools give the same bytes.

mod bundled;
mod cargo_tree;
mod notices;
mod sbom;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use cargo_metadata::{Metadata, Package};

use crate::dependencies;

/// The package of the program, and of the guest agent inside it.
const PROGRAM: &str = "infra-operator";
const AGENT: &str = "guest-agent";

/// Everything that is not ours and is in the program.
#[derive(Debug)]
struct Contents {
    version: String,
    /// Of the program itself, the guest agent aside.
    program: cargo_tree::Crates,
    agent: cargo_tree::Crates,
    bundled: bundled::Bundled,
}

impl Contents {
    fn gather(root: &Path, metadata: &Metadata) -> Result<Self> {
        let program = cargo_tree::crates(root, PROGRAM)?;
        let agent = cargo_tree::crates(root, AGENT)?;
        let bundled = bundled::Bundled::gather(root, metadata, &program)?;
        let version = package(metadata, PROGRAM, None)?.version.to_string();
        Ok(Self { version, program, agent, bundled })
    }
}

/// Writes both files into `directory`. Where the program is given, the bill names its digest.
pub(crate) fn write(program: Option<&Path>, directory: &Path) -> Result<()> {
    let root = crate::workspace_root()?;
    let metadata = dependencies::metadata(&root.join("Cargo.toml"))?;
    let lock = dependencies::lock_file(root, "Cargo.lock")?;
    let contents = Contents::gather(root, &metadata)?;
    let program = program
        .map(|program| fs::read(program).with_context(|| format!("cannot read {}", program.display())))
        .transpose()?;
    let bill = sbom::bill(&contents, &lock, program.as_deref(), build_time()?)?;
    sbom::check(&bill).context("the bill of materials is at fault")?;
    let text = serde_json::to_string_pretty(&bill).context("cannot write the bill of materials")? + "\n";
    put(&directory.join("infra.operator.cdx.json"), &text)?;
    put(&directory.join("THIRD-PARTY-LICENSES"), &notices::text(root, &metadata, &contents)?)
}

fn put(path: &Path, text: &str) -> Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}

/// The time that whoever builds wants to have built at. Without it none is stated: it would be another one each time.
fn build_time() -> Result<Option<jiff::Timestamp>> {
    let Ok(seconds) = std::env::var("SOURCE_DATE_EPOCH") else { return Ok(None) };
    let seconds = seconds.parse().with_context(|| format!("SOURCE_DATE_EPOCH is {seconds}, no number"))?;
    jiff::Timestamp::from_second(seconds).map(Some).context("SOURCE_DATE_EPOCH is no time")
}

/// A package, of any version where none is named.
fn package<'a>(metadata: &'a Metadata, name: &str, version: Option<&str>) -> Result<&'a Package> {
    let fits = |package: &&Package| {
        *package.name == name && version.is_none_or(|version| package.version.to_string() == version)
    };
    metadata
        .packages
        .iter()
        .find(fits)
        .with_context(|| format!("cargo knows no {name} {}", version.unwrap_or("")))
}

/// Where a package's sources lie.
fn directory_of(package: &Package) -> Result<PathBuf> {
    Ok(package.manifest_path.parent().context("a manifest lies in a directory")?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of this very tree, without the program.
    fn written(directory: &Path) -> (String, String) {
        write(None, directory).unwrap();
        let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
        (read("infra.operator.cdx.json"), read("THIRD-PARTY-LICENSES"))
    }

    #[test]
    fn the_bill_names_what_is_in_the_program_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let (bill, notices) = written(directory.path());
        for part in [
            "pkg:cargo/tokio@",
            "pkg:cargo/fast-glob@",
            "pkg:generic/sqlite@3.",
            "pkg:generic/zstd@1.",
            "pkg:npm/%40codemirror/state@6.",
            "pkg:generic/rust-std@1.",
            "glibc@",
        ] {
            assert!(
                bill.contains(&format!("\"purl\": \"{part}")) || part == "glibc@" && bill.contains(part),
                "{part}"
            );
        }
        // Tests, macros, build scripts and other systems' crates are not in it.
        for part in ["proptest", "insta", "serde_derive", "cc", "windows-sys", "s3s", "rustsec"] {
            assert!(!bill.contains(&format!("pkg:cargo/{part}@")), "{part}");
        }
        for text in [
            "Permission is hereby granted",
            "Apache License",
            "@codemirror/state",
            "The Rust standard library",
        ] {
            assert!(notices.contains(text), "{text}");
        }
        let again = tempfile::tempdir().unwrap();
        assert!((bill, notices) == written(again.path()), "the second time gave something else");
    }
}
