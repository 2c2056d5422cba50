//! The project's own rules: sizes of files, headers, who may depend on whom, where unsafe code is, and where the documentation
//! leads.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::{links, unsafety};

/// The most lines of code in one file, tests not counted.
const MAX_LINES: usize = 500;

/// Which of our crates each may use.
const EDGES: [(&str, &[&str]); 8] = [
    ("protocol", &[]),
    ("guest-agent", &["protocol"]),
    ("vmm", &["protocol"]),
    ("images", &[]),
    ("store", &["images"]),
    ("engine", &["images", "protocol", "store", "vmm"]),
    ("server", &["engine", "images", "store", "vmm"]),
    ("cli", &["engine", "images", "protocol", "server", "store", "vmm"]),
];

/// Checks all rules and reports every violation.
pub(crate) fn check() -> Result<()> {
    let root = crate::workspace_root()?;
    let mut faults = Vec::new();
    for directory in ["crates", "e2e/src", "e2e/tests", "xtask/src"] {
        for file in sources(&root.join(directory))? {
            faults.extend(file_faults(&file)?);
        }
    }
    faults.extend(links::faults(root)?);
    faults.extend(unsafety::faults(root)?);
    for (name, allowed) in EDGES {
        faults.extend(edge_faults(&root.join("crates").join(name), name, allowed)?);
    }
    for fault in &faults {
        eprintln!("{fault}");
    }
    ensure!(faults.is_empty(), "{} rules are broken", faults.len());
    Ok(())
}

/// All Rust sources beneath a directory.
pub(crate) fn sources(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

fn file_faults(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut faults = Vec::new();
    let is_snapshot = path.components().any(|component| component.as_os_str() == "snapshots");
    if !text.starts_with("//!") && !is_snapshot {
        faults.push(format!("{}: does not begin with what it is for (//!)", path.display()));
    }
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim().is_empty() && !line.trim().starts_with("//")).count();
    if lines > MAX_LINES {
        faults.push(format!("{}: {lines} lines of code, at most {MAX_LINES}", path.display()));
    }
    Ok(faults)
}

fn edge_faults(directory: &Path, name: &str, allowed: &[&str]) -> Result<Vec<String>> {
    let manifest = directory.join("Cargo.toml");
    let text =
        fs::read_to_string(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
    let dependencies = text.split("[dependencies]").nth(1).unwrap_or_default();
    let dependencies = dependencies.split("\n[").next().unwrap_or_default();
    let used = dependencies.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
    let ours = EDGES.map(|(name, _)| name);
    Ok(used
        .filter(|used| ours.contains(used) && !allowed.contains(used))
        .map(|used| format!("{name} may not depend on {used}"))
        .collect())
}
