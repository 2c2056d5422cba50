//! `cargo xtask dependencies`: what may be depended on, judged from the lock files and the sources that cargo has already, without
//! the network. The judgement is data, in `deny.toml`; each part of it has a module.
//!
//! Advisories are not here: they need a database that is not of this tree (`advisories`).

mod duplicates;
mod licences;
mod policy;
mod registry;
mod unused;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use cargo_metadata::{Metadata, MetadataCommand};
use rustsec::Lockfile;

pub(crate) use licences::expression;
pub(crate) use policy::Policy;

/// The one target that is built.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Our lock files, each beside its manifest.
pub(crate) const LOCK_FILES: [&str; 2] = ["Cargo.lock", "fuzz/Cargo.lock"];

/// Checks everything and reports every fault, with what mends it.
pub(crate) fn check() -> Result<()> {
    let root = crate::workspace_root()?;
    let policy = Policy::read(root)?;
    let mut faults = policy.faults()?;
    let mut index = registry::Index::default();
    let locks: Vec<_> = LOCK_FILES.iter().map(|file| lock_file(root, file)).collect::<Result<_>>()?;
    faults.extend(registry::exception_faults(&locks, &policy));
    for (file, lock) in LOCK_FILES.into_iter().zip(&locks) {
        let mut found = registry::source_faults(lock, &policy);
        found.extend(registry::ban_faults(lock, &policy));
        found.extend(index.yanked_faults(lock)?);
        faults.extend(found.into_iter().map(|fault| format!("{file}: {fault}")));
    }
    let workspace = metadata(&root.join("Cargo.toml"))?;
    faults.extend(licences::faults(&packages(&workspace), &policy));
    faults.extend(licences::needless(&packages(&workspace), &policy));
    faults.extend(duplicates::faults(&packages(&workspace), &policy)?);
    faults.extend(unused::faults(root, &workspace)?);
    // Of the fuzz targets, of which no release is made, the sources may be missing.
    match metadata(&root.join("fuzz/Cargo.toml")) {
        Ok(fuzz) => {
            faults.extend(licences::faults(&packages(&fuzz), &policy));
            faults.extend(unused::faults(root, &fuzz)?);
        }
        Err(error) if format!("{error:#}").contains("--locked") => {
            faults.push(
                "fuzz/Cargo.lock: is old\nhint: cargo update --manifest-path fuzz/Cargo.toml --workspace"
                    .to_owned(),
            );
        }
        Err(_) => eprintln!(
            "fuzz: not all of its sources are here, and so their licences are NOT checked\n\
             hint: cargo fetch --locked --manifest-path fuzz/Cargo.toml --target {TARGET}"
        ),
    }
    for fault in &faults {
        eprintln!("{fault}");
    }
    eprintln!("{}", index.summary());
    ensure!(faults.is_empty(), "{} faults of dependencies", faults.len());
    Ok(())
}

/// A lock file of this tree.
pub(crate) fn lock_file(root: &Path, name: &str) -> Result<Lockfile> {
    Lockfile::load(root.join(name)).with_context(|| format!("cannot read {name}"))
}

/// What cargo knows of a manifest's dependencies for our target. It may ask nobody for it, and may not change the lock file.
pub(crate) fn metadata(manifest: &Path) -> Result<Metadata> {
    MetadataCommand::new()
        .manifest_path(manifest)
        .other_options(["--offline", "--locked", "--filter-platform", TARGET].map(str::to_owned))
        .exec()
        .with_context(|| {
            format!("cargo knows too little of {}; run `cargo fetch --locked`", manifest.display())
        })
}

/// Those of others that are built for our target.
fn packages(metadata: &Metadata) -> Vec<&cargo_metadata::Package> {
    let nodes = metadata.resolve.as_ref().map(|resolve| resolve.nodes.as_slice()).unwrap_or_default();
    let built = nodes.iter().map(|node| &metadata[&node.id]);
    built.filter(|package| package.source.is_some()).collect()
}

/// Where cargo keeps what it has fetched.
pub(crate) fn cargo_home() -> Result<PathBuf> {
    let set = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    set.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).context("neither CARGO_HOME nor HOME is set")
}
