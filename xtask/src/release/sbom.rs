//! The bill of materials, in `CycloneDX` 1.6: <https://cyclonedx.org/docs/1.6/json/>. Our own crates are one with the program that they
//! make; the guest agent, another program, is a part of it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use rustsec::Lockfile;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    AGENT, Contents,
    bundled::{Part, hexadecimal, percent_encoded},
    cargo_tree::{Crate, Crates, Id},
};
use crate::dependencies::expression;

/// How the program is named among its parts.
const ROOT: &str = "infra.operator";

/// The bill of what is in the program. It has no number of its own and, unless one is given, no time: the same parts give the same
/// bill.
pub(super) fn bill(
    contents: &Contents,
    lock: &Lockfile,
    program: Option<&[u8]>,
    time: Option<jiff::Timestamp>,
) -> Result<Value> {
    let bundled = &contents.bundled;
    let mut components = BTreeMap::from([(AGENT.to_owned(), own(AGENT, AGENT, &contents.version, None))]);
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (user, crates) in [(ROOT, &contents.program), (AGENT, &contents.agent)] {
        let direct = uses.entry(user.to_owned()).or_default();
        direct.extend(crates.used_directly.iter().map(purl));
        direct.insert(bundled.standard_library.purl.clone());
        for (id, used) in &crates.crates {
            uses.entry(purl(id)).or_default().extend(used.uses.iter().map(purl));
        }
    }
    for (id, used) in merged([&contents.program, &contents.agent]) {
        components.insert(purl(&id), library(&id, &used, lock)?);
    }
    let loose = bundled.npm.iter().chain(&bundled.agent).chain([&bundled.standard_library]);
    for one in loose.chain(bundled.c.iter().map(|(_, library)| library)) {
        components.insert(one.purl.clone(), part(one));
        uses.entry(one.purl.clone()).or_default();
    }
    let root = uses.entry(ROOT.to_owned()).or_default();
    root.insert(AGENT.to_owned());
    root.extend(bundled.npm.iter().map(|one| one.purl.clone()));
    uses.entry(AGENT.to_owned()).or_default().extend(bundled.agent.iter().map(|one| one.purl.clone()));
    for (brought_by, library) in &bundled.c {
        uses.entry(purl(brought_by)).or_default().insert(library.purl.clone());
    }
    let mut metadata = json!({
        "authors": [{ "name": "The LLM-Firecracker authors" }],
        "component": own(ROOT, "llm-firecracker", &contents.version, program),
        "lifecycles": [{ "phase": "build" }],
    });
    if let Some(time) = time {
        metadata["timestamp"] = json!(time.to_string());
    }
    let uses = uses.into_iter().map(|(user, used)| json!({ "ref": user, "dependsOn": used }));
    Ok(json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": metadata,
        "components": components.into_values().collect::<Vec<_>>(),
        "dependencies": uses.collect::<Vec<_>>(),
    }))
}

/// A crate that is in both is there with the features of both.
fn merged(programs: [&Crates; 2]) -> BTreeMap<Id, Crate> {
    let mut all: BTreeMap<Id, Crate> = BTreeMap::new();
    for (id, one) in programs.into_iter().flat_map(|program| &program.crates) {
        let entry = all.entry(id.clone()).or_default();
        one.licence.clone_into(&mut entry.licence);
        entry.features.extend(one.features.iter().cloned());
    }
    all
}

fn purl(id: &Id) -> String {
    format!("pkg:cargo/{}@{}", id.name, percent_encoded(&id.version))
}

fn own(reference: &str, name: &str, version: &str, program: Option<&[u8]>) -> Value {
    let mut component = json!({
        "type": "application",
        "bom-ref": reference,
        "name": name,
        "version": version,
        "licenses": [{ "expression": "Apache-2.0" }],
    });
    if let Some(program) = program {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": hexadecimal(&Sha256::digest(program)) }]);
    }
    component
}

fn library(id: &Id, used: &Crate, lock: &Lockfile) -> Result<Value> {
    let mut locked = lock.packages.iter();
    let locked = locked
        .find(|package| package.name.as_str() == id.name && package.version.to_string() == id.version)
        .and_then(|package| package.checksum.as_ref())
        .with_context(|| format!("the lock file has no checksum of {} {}", id.name, id.version))?;
    let licence = expression(&used.licence).map_err(|fault| anyhow::anyhow!("{}: {fault}", id.name))?;
    let features: Vec<_> = used.features.iter().map(String::as_str).collect();
    Ok(json!({
        "type": "library",
        "bom-ref": purl(id),
        "name": id.name,
        "version": id.version,
        "scope": "required",
        "hashes": [{ "alg": "SHA-256", "content": locked.to_string() }],
        "licenses": [{ "expression": licence.to_string() }],
        "purl": purl(id),
        "properties": [{ "name": "llm-firecracker:cargo-features", "value": features.join(",") }],
    }))
}

fn part(one: &Part) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": one.purl,
        "name": one.name,
        "version": one.version,
        "scope": "required",
        "licenses": [{ "expression": one.licence }],
        "purl": one.purl,
    });
    if let Some(sha512) = &one.sha512 {
        component["hashes"] = json!([{ "alg": "SHA-512", "content": sha512 }]);
    }
    component
}

/// What the format demands of a bill such as ours, and what we demand: every part has a version, a licence that can be read and, but
/// for what has no archive of its own, a digest; every part is reached from the program.
pub(super) fn check(bill: &Value) -> Result<()> {
    ensure!(bill["bomFormat"] == "CycloneDX" && bill["specVersion"] == "1.6", "it is no CycloneDX 1.6");
    ensure!(bill["version"].as_u64().is_some_and(|version| version >= 1), "its version is no number from 1");
    let components = bill["components"].as_array().context("it has no components")?;
    let all = || components.iter().chain([&bill["metadata"]["component"]]);
    let mut known = BTreeSet::new();
    for component in all() {
        let reference = component["bom-ref"].as_str().context("a component has no bom-ref")?;
        ensure!(known.insert(reference), "{reference} is there twice");
        check_component(component).with_context(|| reference.to_owned())?;
    }
    let mut edges: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for dependency in bill["dependencies"].as_array().context("it has no dependencies")? {
        let from = dependency["ref"].as_str().context("a dependency has no ref")?;
        let to: Vec<_> =
            dependency["dependsOn"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for reference in to.iter().chain([&from]) {
            ensure!(known.contains(reference), "{reference} is used, and is no component");
        }
        ensure!(edges.insert(from, to).is_none(), "what {from} uses is there twice");
    }
    let mut reached = BTreeSet::new();
    let mut waiting: Vec<_> = bill["metadata"]["component"]["bom-ref"].as_str().into_iter().collect();
    while let Some(reference) = waiting.pop() {
        if reached.insert(reference) {
            waiting.extend(edges.get(reference).into_iter().flatten());
        }
    }
    let lost = known.iter().find(|reference| !reached.contains(**reference));
    ensure!(lost.is_none(), "{} is used by nobody", lost.unwrap_or(&""));
    Ok(())
}

fn check_component(component: &Value) -> Result<()> {
    let text = |name: &str| component[name].as_str().filter(|text| !text.is_empty());
    ensure!(matches!(text("type"), Some("application" | "library")), "its type is unknown");
    ensure!(text("name").is_some() && text("version").is_some(), "it has no name or no version");
    let licence = component["licenses"][0]["expression"].as_str().context("it has no licence")?;
    spdx::Expression::parse(licence)
        .map_err(|error| anyhow::anyhow!("its licence {licence}: {}", error.reason))?;
    let purl = text("purl");
    if text("type") == Some("library") {
        ensure!(purl.is_some_and(|purl| purl.starts_with("pkg:")), "it has no package URL");
    }
    let archived = purl.is_some_and(|purl| purl.starts_with("pkg:cargo/") || purl.starts_with("pkg:npm/"));
    let hashes = component["hashes"].as_array().map(Vec::as_slice).unwrap_or_default();
    ensure!(!(archived && hashes.is_empty()), "it has no digest");
    for hash in hashes {
        let length = match hash["alg"].as_str() {
            Some("SHA-256") => 64,
            Some("SHA-512") => 128,
            other => anyhow::bail!("it has a digest of the kind {other:?}"),
        };
        let content = hash["content"].as_str().unwrap_or_default();
        let is_digest = content.len() == length && content.bytes().all(|byte| byte.is_ascii_hexdigit());
        ensure!(is_digest, "its digest is none: {content}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Value {
        json!({
            "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
            "metadata": { "component": own(ROOT, "llm-firecracker", "1.0.0", Some(b"program")) },
            "components": [{
                "type": "library", "bom-ref": "pkg:cargo/a@1.0.0", "name": "a", "version": "1.0.0", "purl": "pkg:cargo/a@1.0.0",
                "licenses": [{ "expression": "MIT OR Apache-2.0" }], "hashes": [{ "alg": "SHA-256", "content": "0".repeat(64) }],
            }],
            "dependencies": [
                { "ref": ROOT, "dependsOn": ["pkg:cargo/a@1.0.0"] }, { "ref": "pkg:cargo/a@1.0.0", "dependsOn": [] },
            ],
        })
    }

    #[test]
    fn a_bill_that_lacks_something_is_not_written() {
        check(&good()).unwrap();
        let faults: [(&str, Value, &str); 9] = [
            ("/specVersion", json!("1.2"), "no CycloneDX 1.6"),
            ("/components/0/version", json!(""), "no version"),
            ("/components/0/licenses", json!([]), "no licence"),
            ("/components/0/licenses/0/expression", json!("MIT/Apache-2.0"), "its licence"),
            ("/components/0/purl", json!("a"), "no package URL"),
            ("/components/0/hashes", json!([]), "no digest"),
            ("/components/0/hashes/0/content", json!("0123"), "its digest is none"),
            ("/dependencies/0/dependsOn/0", json!("pkg:cargo/b@1.0.0"), "is no component"),
            ("/dependencies/0/dependsOn", json!([]), "used by nobody"),
        ];
        for (place, value, fault) in faults {
            let mut bill = good();
            *bill.pointer_mut(place).unwrap() = value;
            let error = format!("{:#}", check(&bill).unwrap_err());
            assert!(error.contains(fault), "{place}: {error}");
        }
        let mut twice = good();
        let component = twice["components"][0].clone();
        twice["components"].as_array_mut().unwrap().push(component);
        assert!(check(&twice).unwrap_err().to_string().contains("is there twice"));
    }

    #[test]
    fn the_program_is_known_by_its_digest() {
        let digest = good()["metadata"]["component"]["hashes"][0]["content"].as_str().unwrap().to_owned();
        assert_eq!(digest, hexadecimal(&Sha256::digest(b"program")));
    }
}
