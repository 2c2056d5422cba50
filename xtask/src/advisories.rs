//! `cargo xtask advisories`: whether a known weakness is in one of the versions that our lock files name. Read from a copy of the
//! `RustSec` advisory database, which is never of this tree: it must be newer than the last build. Nothing is asked over the network.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use rustsec::{
    Database, Lockfile, Report,
    advisory::{Informational, Versions},
    report::Settings,
};

use crate::dependencies::{LOCK_FILES, Policy, cargo_home, lock_file};

/// How a check ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// All lock files were looked through.
    All,
    /// There was nothing to look into.
    WithoutDatabase,
}

/// Checks all lock files by the database in that directory, or where other tools keep theirs.
pub(crate) fn check(database: Option<&Path>) -> Result<Checked> {
    let root = crate::workspace_root()?;
    let policy = Policy::read(root)?;
    let kept = match database {
        Some(directory) => Some(directory.to_owned()),
        None => find(&cargo_home()?),
    };
    let Some(directory) = kept else {
        say_how_to_get_one(&cargo_home()?);
        return Ok(Checked::WithoutDatabase);
    };
    ensure!(is_database(&directory), "{} is no advisory database: it has no crates/", directory.display());
    let database =
        Database::open(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let newest = database.iter().map(|advisory| advisory.date().as_str()).max();
    let newest = newest.context("the database is empty")?;
    eprintln!("{} advisories in {}, the newest of {newest}", database.iter().count(), directory.display());
    let locks: Vec<_> =
        LOCK_FILES.iter().map(|file| Ok((*file, lock_file(root, file)?))).collect::<Result<_>>()?;
    let faults = judge(&database, &locks, &policy)?;
    for fault in &faults {
        eprintln!("{fault}");
    }
    ensure!(faults.is_empty(), "{} advisories concern us, or are ignored without need", faults.len());
    let packages: usize = locks.iter().map(|(_, lock)| lock.packages.len()).sum();
    eprintln!("none of them concerns the {packages} packages of {}", LOCK_FILES.join(" and "));
    Ok(Checked::All)
}

fn is_database(directory: &Path) -> bool {
    directory.join("crates").is_dir()
}

/// Where cargo-audit, or else cargo-deny, keeps its copy. The latter adds a hash of the address to its name.
fn find(cargo_home: &Path) -> Option<PathBuf> {
    let mut found = vec![cargo_home.join("advisory-db")];
    let deny = std::fs::read_dir(cargo_home.join("advisory-dbs")).into_iter().flatten();
    let mut deny: Vec<_> = deny.filter_map(|entry| Some(entry.ok()?.path())).collect();
    deny.sort();
    found.extend(deny);
    found.into_iter().find(|directory| is_database(directory))
}

fn say_how_to_get_one(cargo_home: &Path) {
    eprintln!(
        "advisories are NOT checked: there is no copy of the RustSec advisory database on this machine\n\
         hint: git clone --depth 1 https://github.com/rustsec/advisory-db {}\n\
         hint: or name one that lies elsewhere: cargo xtask advisories --database DIRECTORY",
        cargo_home.join("advisory-db").display()
    );
}

/// What concerns one of these lock files and is not ignored, and what is ignored and concerns none.
fn judge(database: &Database, locks: &[(&str, Lockfile)], policy: &Policy) -> Result<Vec<String>> {
    let settings = Settings {
        // All that is not about one's taste: weaknesses that nobody will mend are weaknesses, too.
        informational_warnings: vec![
            Informational::Unmaintained,
            Informational::Unsound,
            Informational::Notice,
        ],
        ..Settings::default()
    };
    let mut faults = Vec::new();
    let mut ignored: Vec<_> = policy.advisories.ignore.iter().map(|one| (one.id.as_str(), false)).collect();
    for (file, lock) in locks {
        let report = Report::generate(database, lock, &settings);
        let mut found = Vec::new();
        for weakness in &report.vulnerabilities.list {
            found.push((&weakness.advisory, &weakness.package, "vulnerable", weakness.versions.patched()));
        }
        for warning in report.warnings.values().flatten() {
            let Some(advisory) = &warning.advisory else {
                bail!("a warning without an advisory: {warning:?}")
            };
            let patched = warning.versions.as_ref().map(Versions::patched).unwrap_or_default();
            found.push((advisory, &warning.package, warning.kind.as_str(), patched));
        }
        for (advisory, package, kind, patched) in found {
            if let Some((_, needed)) = ignored.iter_mut().find(|(id, _)| *id == advisory.id.as_str()) {
                *needed = true;
                continue;
            }
            let patched: Vec<_> = patched.iter().map(ToString::to_string).collect();
            let remedy =
                if patched.is_empty() { "none: use another crate".to_owned() } else { patched.join(" or ") };
            faults.push(format!(
                "{file}: {} {}: {kind}: {}: {}\nhint: mended in: {remedy} (`cargo update {}`); what does not concern us may be \
                 ignored in deny.toml, with the reason",
                package.name, package.version, advisory.id, advisory.title, package.name
            ));
        }
    }
    let needless = ignored.into_iter().filter(|(_, needed)| !needed);
    faults.extend(
        needless
            .map(|(id, _)| format!("deny.toml: {id} concerns nothing of ours\nhint: take it off the list")),
    );
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A database of two advisories: one that is mended in 1.2.0, one on a crate that nobody looks after.
    fn database(directory: &Path) -> Database {
        for (id, package, rest, versions) in [
            ("RUSTSEC-2024-0001", "weak", "", "patched = [\">= 1.2.0\"]"),
            ("RUSTSEC-2024-0002", "orphan", "informational = \"unmaintained\"\n", "patched = []"),
        ] {
            let advisories = directory.join("crates").join(package);
            fs::create_dir_all(&advisories).unwrap();
            let text = format!(
                "```toml\n[advisory]\nid = \"{id}\"\npackage = \"{package}\"\ndate = \"2024-01-01\"\n{rest}\n[versions]\n{versions}\n```\n\n\
                 # It is at fault\n\nSomehow.\n"
            );
            fs::write(advisories.join(format!("{id}.md")), text).unwrap();
        }
        Database::open(directory).unwrap()
    }

    fn lock(packages: &[(&str, &str)]) -> Lockfile {
        let packages: Vec<_> = packages
            .iter()
            .map(|(name, version)| {
                format!(
                    "[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n\
                     source = \"registry+https://github.com/rust-lang/crates.io-index\"\nchecksum = \"{}\"\n",
                    "a".repeat(64)
                )
            })
            .collect();
        format!("version = 4\n{}", packages.concat()).parse().unwrap()
    }

    fn policy(ignored: &[&str]) -> Policy {
        let mut policy = Policy::read(crate::workspace_root().unwrap()).unwrap();
        policy.advisories.ignore = ignored
            .iter()
            .map(|id| toml::from_str(&format!("id = \"{id}\"\nreason = \"x\"")).unwrap())
            .collect();
        policy
    }

    #[test]
    fn weaknesses_and_abandoned_crates_are_found_by_version() {
        let directory = tempfile::tempdir().unwrap();
        let database = database(directory.path());
        let faults = |packages: &[(&str, &str)], ignored: &[&str]| {
            judge(&database, &[("Cargo.lock", lock(packages))], &policy(ignored)).unwrap()
        };
        let found = faults(&[("weak", "1.1.9"), ("orphan", "0.1.0"), ("fine", "1.0.0")], &[]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with("Cargo.lock: weak 1.1.9: vulnerable: RUSTSEC-2024-0001: It is at fault\n"),
            "{found:?}"
        );
        assert!(found[0].contains("mended in: >=1.2.0"), "{found:?}");
        assert!(
            found[1].starts_with("Cargo.lock: orphan 0.1.0: unmaintained: RUSTSEC-2024-0002"),
            "{found:?}"
        );
        assert_eq!(faults(&[("weak", "1.2.0"), ("fine", "1.0.0")], &[]), [""; 0]);
        assert_eq!(faults(&[("orphan", "0.1.0")], &["RUSTSEC-2024-0002"]), [""; 0]);
        let needless = faults(&[("fine", "1.0.0")], &["RUSTSEC-2024-0002"]);
        assert!(needless[0].contains("RUSTSEC-2024-0002 concerns nothing of ours"), "{needless:?}");
    }

    #[test]
    fn the_database_is_found_where_other_tools_keep_it() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(find(home.path()), None);
        let deny = home.path().join("advisory-dbs/advisory-db-3157b0e258782691");
        fs::create_dir_all(deny.join("crates")).unwrap();
        assert_eq!(find(home.path()), Some(deny));
        let audit = home.path().join("advisory-db");
        fs::create_dir_all(audit.join("crates")).unwrap();
        assert_eq!(find(home.path()), Some(audit));
    }
}
