//! Firecracker's own description of its API, and ours, by which the stand-in judges what the backend sends.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result};
use firecracker_stand_in::description::Description;

use crate::report::Step;

/// How its file is named in a release, before the version.
const NAME: &str = "firecracker_spec";

/// Compares the two; nothing where there is no published one.
pub(crate) fn step(firecracker: &Path) -> Result<Option<Step>> {
    let started = Instant::now();
    let Some(path) = find(firecracker)? else { return Ok(None) };
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let published = Description::published(&text).with_context(|| path.display().to_string())?;
    let differences = Description::ours().differences(&published);
    let detail = match &differences[..] {
        [] => path.display().to_string(),
        differences => differences.join("; "),
    };
    let name = "what the backend sends is what Firecracker's description of its API says".to_owned();
    let seconds = started.elapsed().as_secs_f64();
    Ok(Some(Step { name, ok: differences.is_empty(), detail, seconds }))
}

/// The one that `FIRECRACKER_SPEC` names, or that lies beside the program, as in an unpacked release.
fn find(firecracker: &Path) -> Result<Option<PathBuf>> {
    if let Some(named) = env::var_os("FIRECRACKER_SPEC") {
        return Ok(Some(named.into()));
    }
    let directory = firecracker.parent().context("a program is in a directory")?;
    let entries = fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
    let is_description = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(NAME))
            && path.extension().is_some_and(|extension| extension == "yaml")
    };
    Ok(entries.flatten().map(|entry| entry.path()).find(is_description))
}
