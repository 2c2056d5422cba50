//! Names of Debian packages: which are valid, which a language's library has, and which need their maintainer
//! scripts.

use crate::program::{Program, ProgramError};

/// Packages whose files alone work, with what [`super::tree`] adds to them; so do the packages that they depend on.
///
/// Everything else is installed in full, maintainer scripts included, which takes three times as long: they may make
/// what nobody else does (`libblas3` exists only as an alternative that its script registers). Whoever adds a name
/// proves it in `tests/rootfs.rs`.
const WORK_UNCONFIGURED: [&str; 18] = [
    "base-files",
    "base-passwd",
    "bash",
    "ca-certificates",
    "coreutils",
    "dash",
    "findutils",
    "grep",
    "libc-bin",
    "libstdc++6",
    "media-types",
    "netbase",
    "python3",
    "python3-distutils",
    "python3-lib2to3",
    "python3-pip",
    "sed",
    "tzdata",
];

/// Python distributions whose Debian package is not named after them.
const PYTHON_ALIASES: [(&str, &str); 8] = [
    ("attrs", "python3-attr"),
    ("beautifulsoup4", "python3-bs4"),
    ("opencv-python", "python3-opencv"),
    ("pillow", "python3-pil"),
    ("pycryptodome", "python3-pycryptodome"),
    ("python-dateutil", "python3-dateutil"),
    ("pyyaml", "python3-yaml"),
    ("scikit-learn", "python3-sklearn"),
];

/// A text cannot be the name of a Debian package.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not the name of a Debian package")]
pub struct InvalidPackageName {
    /// The start of what was given.
    pub name: String,
}

impl InvalidPackageName {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(
            "package names consist of lower-case letters, digits, and + - . after the first character"
                .to_owned(),
        )
    }
}

/// The names of a language's libraries could not be looked up.
#[derive(Debug, thiserror::Error)]
pub enum MapPackagesError {
    /// A name cannot be one.
    #[error("cannot look for a package")]
    Name(
        /// Why.
        #[from]
        InvalidPackageName,
    ),
    /// The package manager could not be asked.
    #[error("cannot ask apt for packages")]
    Ask(
        /// Why.
        #[from]
        ProgramError,
    ),
}

impl MapPackagesError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Name(source) => source.hint(),
            Self::Ask(source) => source.hint(),
        }
    }
}

/// Checks a package's name by the Debian Policy, section 5.6.1, so that it can be neither an option nor more than one
/// word of a command.
pub fn check_package_name(name: &str) -> Result<(), InvalidPackageName> {
    let is_alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_valid = (2..=128).contains(&name.len())
        && name.bytes().next().is_some_and(is_alphanumeric)
        && name.bytes().all(|byte| is_alphanumeric(byte) || b"+-.".contains(&byte))
        // `apt` takes these for requests to install or remove.
        && !name.ends_with(['+', '-']);
    // `g++` is the one family of names that ends so.
    if is_valid
        || (name.starts_with("g++")
            && name.bytes().all(|byte| is_alphanumeric(byte) || b"+-".contains(&byte)))
    {
        Ok(())
    } else {
        Err(InvalidPackageName { name: name.chars().take(128).collect() })
    }
}

/// Whether all of `packages` work without their maintainer scripts.
pub(super) fn work_unconfigured(packages: &[String]) -> bool {
    packages.iter().all(|package| WORK_UNCONFIGURED.contains(&package.as_str()))
}

/// The Debian packages of a language's libraries: for `python` and `numpy` it is `python3-numpy`. A name for which `apt`
/// knows no such package is taken for a Debian name itself.
pub fn map_packages(language: &str, names: &[String]) -> Result<Vec<String>, MapPackagesError> {
    let names: Vec<String> =
        names.iter().map(|name| name.trim().to_ascii_lowercase().replace('_', "-")).collect();
    for name in &names {
        check_package_name(name)?;
    }
    if language != "python" || names.is_empty() {
        return Ok(names);
    }
    let candidates: Vec<String> = names.iter().map(|name| python_package(name)).collect();
    let known = known_packages(&candidates)?;
    let choose =
        |(name, candidate): (String, String)| if known.contains(&candidate) { candidate } else { name };
    Ok(names.into_iter().zip(candidates).map(choose).collect())
}

fn python_package(name: &str) -> String {
    match PYTHON_ALIASES.iter().find(|(alias, _)| *alias == name) {
        Some((_, package)) => (*package).to_owned(),
        None if name.starts_with("python3-") => name.to_owned(),
        None => format!("python3-{}", name.strip_prefix("python-").unwrap_or(name)),
    }
}

/// Those of `packages` that `apt` can install.
fn known_packages(packages: &[String]) -> Result<Vec<String>, ProgramError> {
    // `policy` succeeds whatever it finds, and says "Candidate: (none)" of packages that only others mention.
    let output = Program::new("apt-cache", "apt").arguments(["policy", "--"]).arguments(packages).run()?;
    let mut known = Vec::new();
    let mut current = "";
    for line in output.lines() {
        if let Some(candidate) = line.strip_prefix("  Candidate: ") {
            if candidate != "(none)" {
                known.push(current.to_owned());
            }
        } else if let Some(name) = line.strip_suffix(':')
            && !line.starts_with(' ')
        {
            current = name;
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_names_follow_the_policy() {
        for name in ["python3", "libstdc++6", "g++", "g++-12", "0ad", "python3.11-minimal"] {
            assert_eq!(check_package_name(name), Ok(()), "{name}");
        }
        let long = "a".repeat(129);
        for name in [
            "",
            "a",
            "-o",
            "--help",
            "Python",
            "a b",
            "a,b",
            "a/b",
            "a;b",
            "\u{e9}t\u{e9}",
            "vim-",
            "vim+",
            &long,
        ] {
            assert!(check_package_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn libraries_are_looked_for_under_their_debian_names() {
        for (name, package) in
            [("numpy", "python3-numpy"), ("pillow", "python3-pil"), ("python3-tz", "python3-tz")]
        {
            assert_eq!(python_package(name), package);
        }
    }

    #[test]
    fn only_python_libraries_are_renamed() {
        let names = vec!["curl".to_owned()];
        assert_eq!(map_packages("bash", &names).expect("names"), names);
        assert!(map_packages("python", &["--help".to_owned()]).is_err());
    }

    #[test]
    fn the_base_of_a_python_image_needs_no_maintainer_scripts() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(work_unconfigured(&names(&["base-files", "python3", "tzdata"])));
        assert!(!work_unconfigured(&names(&["base-files", "python3", "python3-numpy"])));
    }
}
