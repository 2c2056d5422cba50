//! Licences of dependencies: each must have one that the policy allows, of those that it leaves the choice of.

use cargo_metadata::Package;
use spdx::{Expression, LicenseReq};

use super::Policy;

/// What the licences of these break.
pub(super) fn faults(packages: &[&Package], policy: &Policy) -> Vec<String> {
    let mut faults = Vec::new();
    for package in packages {
        if let Err(fault) = judge(&package.name, package.license.as_deref(), policy) {
            faults.push(format!(
                "{} {}: {fault}\nhint: use another crate, or none; a licence that asks for notices alone may go into deny.toml",
                package.name, package.version
            ));
        }
    }
    faults
}

/// What the policy allows, and nobody has.
pub(super) fn needless(packages: &[&Package], policy: &Policy) -> Vec<String> {
    let mut faults = Vec::new();
    for name in &policy.licenses.allow {
        let used = packages.iter().filter_map(|package| expression(package.license.as_deref()?).ok());
        if !{ used }.any(|used| used.requirements().any(|one| is(&one.req, name))) {
            faults
                .push(format!("deny.toml: no dependency has the licence {name}\nhint: take it off the list"));
        }
    }
    faults
}

/// A licence as a crate states it, in SPDX's words: older crates write `MIT/Apache-2.0`.
pub(crate) fn expression(text: &str) -> Result<Expression, String> {
    let told = |error: spdx::ParseError| format!("the licence `{text}` cannot be read: {}", error.reason);
    match Expression::canonicalize(text).map_err(told)? {
        Some(canonical) => Expression::parse(&canonical).map_err(told),
        None => Expression::parse(text).map_err(told),
    }
}

fn is(required: &LicenseReq, name: &str) -> bool {
    required.license.id().is_some_and(|id| id.name == name) && required.addition.is_none()
}

fn judge(name: &str, licence: Option<&str>, policy: &Policy) -> Result<(), String> {
    let licence = licence.ok_or("it states no licence")?;
    let exceptions = policy.licenses.exceptions.iter().filter(|exception| exception.name == name);
    let allowed: Vec<_> =
        exceptions.flat_map(|exception| &exception.allow).chain(&policy.licenses.allow).collect();
    let fits = |required: &LicenseReq| allowed.iter().any(|name| is(required, name));
    if expression(licence)?.evaluate(fits) { Ok(()) } else { Err(format!("its licence is {licence}")) }
}

#[cfg(test)]
mod tests {
    use super::{super::policy::tests::policy, *};

    #[test]
    fn a_licence_is_judged_by_what_it_leaves_the_choice_of() {
        let policy = policy(&["MIT", "Apache-2.0", "ISC"], &[]);
        let judged = |text| judge("ordinary", Some(text), &policy).is_ok();
        for good in ["MIT", "MIT/Apache-2.0", "Unlicense OR MIT", "Apache-2.0 AND ISC", "GPL-2.0-only OR MIT"]
        {
            assert!(judged(good), "{good}");
        }
        for bad in [
            "GPL-3.0-or-later",
            "MIT AND GPL-2.0-only",
            "Unlicense",
            "Apache-2.0 WITH LLVM-exception",
            "MPL-2.0",
        ] {
            assert!(!judged(bad), "{bad}");
        }
        assert_eq!(judge("ordinary", None, &policy).unwrap_err(), "it states no licence");
        assert!(judge("ordinary", Some("My own"), &policy).unwrap_err().contains("cannot be read"));
        // What one crate may have, others may not.
        let llvm = Some("(MIT OR Apache-2.0) AND NCSA");
        assert_eq!(["odd", "ordinary"].map(|name| judge(name, llvm, &policy).is_ok()), [true, false]);
    }
}
