//! Unsafe code: in four files, and nowhere else. Every other crate forbids it, which no attribute can undo; these four deny it, and
//! open it in one module each. That each operation is argued for is clippy's to check, by lints that their manifests name.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result};
use toml::Table;

use crate::{rules::sources, tokens};

/// The crates that have unsafe code, each in its `src/sys.rs`. The last two are for tests alone.
const CRATES: [&str; 4] = ["crates/guest-agent", "crates/vmm", "e2e/firecracker-stand-in", "fuzz"];

/// Those of them whose lints are the workspace's otherwise; cargo cannot take these over but for one.
const COPIES: [&str; 2] = ["crates/guest-agent", "crates/vmm"];

/// What clippy must be asked for where there is unsafe code.
const ARGUED: [&str; 3] =
    ["multiple_unsafe_ops_per_block", "undocumented_unsafe_blocks", "unnecessary_safety_comment"];

/// All that breaks this in the tree at `root`.
pub(crate) fn faults(root: &Path) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    let allowed: Vec<_> = CRATES.iter().map(|name| Path::new(name).join("src/sys.rs")).collect();
    for directory in ["crates", "e2e", "fuzz", "xtask"] {
        for file in sources(&root.join(directory))? {
            let relative = file.strip_prefix(root)?;
            if relative.components().any(|part| part.as_os_str() == "target") {
                continue;
            }
            let is_allowed = allowed.iter().any(|allowed| allowed == relative);
            faults.extend(file_fault(relative, is_allowed, &tokens::words_of(&file)?));
        }
    }
    let workspace = manifest(root, "")?;
    let shared = workspace["workspace"]["lints"].as_table().context("the workspace has lints")?;
    for directory in crates(root)? {
        let own = manifest(root, &directory)?;
        let opens = CRATES.contains(&directory.as_str());
        faults.extend(
            manifest_fault(shared, &own, opens).map(|fault| format!("{directory}/Cargo.toml: {fault}")),
        );
        if COPIES.contains(&directory.as_str()) {
            let own = own["lints"].as_table().context("a crate with unsafe code has lints of its own")?;
            let lints = differing(shared, own);
            faults.extend(
                lints
                    .iter()
                    .map(|lint| format!("{directory}/Cargo.toml: {lint} is another than the workspace's")),
            );
        }
    }
    Ok(faults)
}

/// The directories of our crates.
fn crates(root: &Path) -> Result<Vec<String>> {
    let mut found: Vec<String> =
        ["e2e", "e2e/firecracker-stand-in", "fuzz", "xtask"].map(str::to_owned).into();
    for entry in fs::read_dir(root.join("crates")).context("cannot list crates")? {
        found.push(format!("crates/{}", entry?.file_name().to_string_lossy()));
    }
    found.sort();
    Ok(found)
}

fn manifest(root: &Path, directory: &str) -> Result<Table> {
    let path = root.join(directory).join("Cargo.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    text.parse().with_context(|| format!("{} is at fault", path.display()))
}

fn file_fault(file: &Path, is_allowed: bool, words: &BTreeSet<String>) -> Option<String> {
    let has = words.contains("unsafe");
    match (is_allowed, has || words.contains("unsafe_code")) {
        (false, true) => Some(format!(
            "{}: has unsafe code, or lets some in\nhint: there is a safe crate for it, or it belongs into the sys.rs of vmm or guest-agent",
            file.display()
        )),
        (true, _) if !has => Some(format!("{}: has no unsafe code any more: forbid it", file.display())),
        _ => None,
    }
}

/// Lints that are not the same in both, but for the one on unsafe code.
fn differing(shared: &Table, own: &Table) -> Vec<String> {
    let flat = |lints: &Table| -> BTreeMap<String, toml::Value> {
        let tools = lints.values().filter_map(toml::Value::as_table);
        tools.flatten().map(|(lint, level)| (lint.clone(), level.clone())).collect()
    };
    let (shared, own) = (flat(shared), flat(own));
    let names: BTreeSet<_> = shared.keys().chain(own.keys()).filter(|name| *name != "unsafe_code").collect();
    names.into_iter().filter(|name| shared.get(*name) != own.get(*name)).cloned().collect()
}

/// Whether a crate's lints forbid unsafe code, or else demand that it is argued for and are the workspace's in all else.
fn manifest_fault(shared: &Table, own: &Table, opens: bool) -> Option<String> {
    let own = own.get("lints").and_then(toml::Value::as_table);
    let inherits = own.is_some_and(|own| own.get("workspace").and_then(toml::Value::as_bool) == Some(true));
    let empty = Table::new();
    let lints = if inherits { shared } else { own.unwrap_or(&empty) };
    let level = |tool: &str, lint: &str| Some(lints.get(tool)?.get(lint)?.as_str()?.to_owned());
    let opened = level("rust", "unsafe_code");
    if !opens {
        let forbidden = opened.as_deref() == Some("forbid");
        return (!forbidden)
            .then(|| "does not forbid unsafe code\nhint: unsafe_code = \"forbid\"".to_owned());
    }
    if opened.as_deref() != Some("deny") {
        return Some("does not deny unsafe code outside sys.rs\nhint: unsafe_code = \"deny\"".to_owned());
    }
    let missing = ARGUED.into_iter().find(|lint| level("clippy", lint).as_deref() != Some("warn"));
    missing.map(|lint| format!("does not ask clippy for {lint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_code_outside_its_files_is_a_fault() {
        let found =
            |code: &str, is_allowed| file_fault(Path::new("x.rs"), is_allowed, &tokens::words(code).unwrap());
        assert_eq!(found("fn f() {} // unsafe", false), None);
        for bad in ["fn f() { unsafe { g() } }", "unsafe impl Send for S {}", "#![allow(unsafe_code)]"] {
            assert!(
                found(bad, false).is_some_and(|fault| fault.starts_with("x.rs: has unsafe code")),
                "{bad}"
            );
        }
        assert_eq!(found("fn f() { unsafe { g() } }", true), None);
        assert!(
            found("#![expect(unsafe_code)]\nfn f() {}", true).is_some_and(|fault| fault.contains("any more"))
        );
    }

    #[test]
    fn manifests_forbid_unsafe_code_or_have_it_argued_for() {
        let table = |text: &str| text.parse::<Table>().unwrap();
        let shared = table("[rust]\nunsafe_code = \"forbid\"\n");
        let fault = |own: &str, opens| manifest_fault(&shared, &table(own), opens);
        let argued = "[lints.rust]\nunsafe_code = \"deny\"\n[lints.clippy]\nmultiple_unsafe_ops_per_block = \"warn\"\n\
                      undocumented_unsafe_blocks = \"warn\"\nunnecessary_safety_comment = \"warn\"\n";
        assert_eq!(fault("[lints]\nworkspace = true\n", false), None);
        assert_eq!(fault(argued, true), None);
        assert!(fault(argued, false).is_some());
        assert!(fault("[lints]\nworkspace = true\n", true).is_some());
        assert!(fault("[lints.rust]\nmissing_docs = \"warn\"\n", false).is_some());
        assert!(fault("[package]\nname = \"without\"\n", false).is_some());
        let unargued = argued.replace("undocumented_unsafe_blocks", "other");
        assert_eq!(fault(&unargued, true).unwrap(), "does not ask clippy for undocumented_unsafe_blocks");
    }

    #[test]
    fn the_lints_of_crates_with_unsafe_code_are_the_workspaces_in_all_else() {
        let shared = "[rust]\nunsafe_code = \"forbid\"\nmissing_docs = \"warn\"\n";
        assert_eq!(
            differing(&shared.parse().unwrap(), &shared.replace("forbid", "deny").parse().unwrap()),
            [""; 0]
        );
        let other = "[rust]\nunsafe_code = \"deny\"\n[clippy]\ntodo = \"warn\"\n";
        assert_eq!(differing(&shared.parse().unwrap(), &other.parse().unwrap()), ["missing_docs", "todo"]);
    }
}
