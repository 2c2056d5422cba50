//! What is in the program and is no crate: C libraries whose sources crates bring along, the JavaScript of the service's page, and
//! what the compiler links.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use cargo_metadata::{DependencyKind, Metadata};

use super::{cargo_tree, directory_of, package};

/// Something that is no crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) version: String,
    /// Its address in the world of packages: <https://github.com/package-url/purl-spec>.
    pub(super) purl: String,
    /// As SPDX writes it.
    pub(super) licence: String,
    pub(super) sha512: Option<String>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Bundled {
    /// Each with the crate that brings it.
    pub(super) c: Vec<(cargo_tree::Id, Part)>,
    pub(super) npm: Vec<Part>,
    /// In the program and in the agent.
    pub(super) standard_library: Part,
    /// In the agent alone, which is linked statically.
    pub(super) agent: Vec<Part>,
    /// The licences of what is in the page's bundle, as it states them itself.
    pub(super) npm_notices: String,
}

/// A C library within a crate: where its version stands, and in what words.
struct Library {
    brought_by: &'static str,
    name: &'static str,
    licence: &'static str,
    header: &'static str,
    /// Names of the header's constants, whose values with dots between them are the version.
    version: &'static [&'static str],
}

const LIBRARIES: [Library; 2] = [
    Library {
        brought_by: "libsqlite3-sys",
        name: "sqlite",
        licence: "blessing",
        header: "sqlite3/sqlite3.h",
        version: &["SQLITE_VERSION"],
    },
    Library {
        brought_by: "zstd-sys",
        name: "zstd",
        // Or else GPL-2.0, of which nobody needs to make use.
        licence: "BSD-3-Clause",
        header: "zstd/lib/zstd.h",
        version: &["ZSTD_VERSION_MAJOR", "ZSTD_VERSION_MINOR", "ZSTD_VERSION_RELEASE"],
    },
];

/// Crates whose C or assembler code is their own, and has no version but theirs.
const OWN_C: [&str; 1] = ["ring"];

impl Bundled {
    pub(super) fn gather(root: &Path, metadata: &Metadata, program: &cargo_tree::Crates) -> Result<Self> {
        let mut c = Vec::new();
        for id in program.crates.keys().filter(|id| compiles_c(metadata, id)) {
            if OWN_C.contains(&id.name.as_str()) {
                continue;
            }
            let library =
                LIBRARIES.iter().find(|library| library.brought_by == id.name).with_context(|| {
                    format!("{} {} compiles C: say in xtask/src/release/bundled.rs what", id.name, id.version)
                })?;
            let directory = directory_of(package(metadata, &id.name, Some(&id.version))?)?;
            let header = read(&directory.join(library.header))?;
            let version = version_in(&header, library.version).with_context(|| {
                format!("{} does not tell the version of {}", library.header, library.name)
            })?;
            c.push((id.clone(), generic(library.name, &version, library.licence)));
        }
        let bundle = read(&root.join("crates/server/assets/page/editor.js"))?;
        let lock = read(&root.join("web/package-lock.json"))?;
        let npm_notices =
            leading_comment(&bundle).context("the page's bundle does not begin with its notices")?;
        Ok(Self {
            c,
            npm: npm_parts(npm_notices, &lock)?,
            standard_library: generic("rust-std", &rust_release()?, "MIT OR Apache-2.0"),
            agent: linked_by_compiler()?,
            npm_notices: npm_notices.to_owned(),
        })
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn generic(name: &str, version: &str, licence: &str) -> Part {
    Part {
        name: name.to_owned(),
        version: version.to_owned(),
        purl: format!("pkg:generic/{name}@{}", percent_encoded(version)),
        licence: licence.to_owned(),
        sha512: None,
    }
}

/// What may not stand in a purl as it is.
pub(super) fn percent_encoded(text: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-._~".contains(character);
    text.chars()
        .map(|character| match character {
            character if plain(character) => character.to_string(),
            character => {
                let bytes = character.to_string().into_bytes();
                bytes.iter().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat()
            }
        })
        .collect()
}

/// Whether its build script has a C compiler.
fn compiles_c(metadata: &Metadata, id: &cargo_tree::Id) -> bool {
    let nodes = metadata.resolve.iter().flat_map(|resolve| &resolve.nodes);
    let ours = |package: &cargo_metadata::Package| {
        *package.name == id.name && package.version.to_string() == id.version
    };
    let mut uses = nodes.filter(|node| ours(&metadata[&node.id])).flat_map(|node| &node.deps);
    uses.any(|used| {
        let at_build = used.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Build);
        at_build && *metadata[&used.pkg].name == "cc"
    })
}

/// `#define NAME value` of these names, with dots between them.
fn version_in(header: &str, names: &[&str]) -> Option<String> {
    let value = |name: &str| {
        let mut lines =
            header.lines().filter_map(|line| line.trim().strip_prefix("#define")?.trim().strip_prefix(name));
        let value = lines.find(|rest| rest.starts_with(char::is_whitespace))?;
        Some(value.split_whitespace().next()?.trim_matches('"').to_owned())
    };
    Some(names.iter().map(|name| value(name)).collect::<Option<Vec<_>>>()?.join("."))
}

/// A file's first comment, where it begins with one that is kept when the file is made smaller.
fn leading_comment(text: &str) -> Option<&str> {
    Some(text.strip_prefix("/*!")?.split_once("*/")?.0.trim())
}

/// The packages that the bundle names in its notices, with what the lock file knows of them.
fn npm_parts(notices: &str, lock: &str) -> Result<Vec<Part>> {
    #[derive(serde::Deserialize)]
    struct Lock {
        packages: std::collections::BTreeMap<String, Locked>,
    }
    #[derive(serde::Deserialize)]
    struct Locked {
        #[serde(default)]
        version: String,
        #[serde(default)]
        integrity: String,
        #[serde(default)]
        license: String,
    }
    let lock: Lock = serde_json::from_str(lock).context("package-lock.json cannot be read")?;
    let mut parts = Vec::new();
    for (name, version) in named(notices) {
        let locked = lock.packages.get(&format!("node_modules/{name}"));
        let locked = locked.filter(|locked| locked.version == version);
        let locked = locked.with_context(|| {
            format!("{name} {version} is in the page's bundle, and not in web/package-lock.json: make the bundle anew (web/build.mjs)")
        })?;
        let sha512 =
            locked.integrity.strip_prefix("sha512-").with_context(|| format!("{name} has no SHA-512"))?;
        let sha512 =
            base64::engine::general_purpose::STANDARD.decode(sha512).context("a digest is no base64")?;
        // The scope, which begins with an @, is a part of the path.
        let path: Vec<_> = name.split('/').map(percent_encoded).collect();
        parts.push(Part {
            name: name.to_owned(),
            version: version.to_owned(),
            purl: format!("pkg:npm/{}@{}", path.join("/"), percent_encoded(version)),
            licence: locked.license.clone(),
            sha512: Some(hexadecimal(&sha512)),
        });
    }
    ensure!(!parts.is_empty(), "the page's bundle names no packages in its notices");
    parts.sort_by(|one, other| one.purl.cmp(&other.purl));
    Ok(parts)
}

/// `name version, name version` of the lines that begin a notice: see web/build.mjs.
fn named(notices: &str) -> Vec<(&str, &str)> {
    let body = notices.split_once("\n\n").map_or("", |(_, body)| body);
    let heads = body.split("\n\n---\n\n").filter_map(|notice| notice.lines().next());
    heads.flat_map(|head| head.split(", ")).filter_map(|named| named.split_once(' ')).collect()
}

/// Bytes as text.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output =
        Command::new(program).args(arguments).output().with_context(|| format!("cannot run {program}"))?;
    ensure!(output.status.success(), "{program} {} failed", arguments.join(" "));
    Ok(String::from_utf8(output.stdout)
        .with_context(|| format!("{program} printed no UTF-8"))?
        .trim()
        .to_owned())
}

fn rust_release() -> Result<String> {
    let told = output("rustc", &["--version", "--verbose"])?;
    let release = told.lines().find_map(|line| line.strip_prefix("release: "));
    Ok(release.context("rustc does not tell its release")?.to_owned())
}

/// glibc, and gcc's own library beneath the standard library's panics.
fn linked_by_compiler() -> Result<Vec<Part>> {
    let archive = output("cc", &["-print-file-name=libc.a"])?;
    let archive = fs::read(&archive).with_context(|| format!("cannot read {archive}"))?;
    let glibc = glibc(&archive).context("libc.a does not tell its version")?;
    let gcc = output("cc", &["-dumpfullversion"])?;
    Ok(vec![glibc, generic("libgcc", &gcc, "GPL-3.0-or-later WITH GCC-exception-3.1")])
}

/// Of `GNU C Library (Debian GLIBC 2.36-9+deb12u10) stable release version 2.36.`, which is in the archive.
fn glibc(archive: &[u8]) -> Option<Part> {
    let begin = b"GNU C Library (";
    let at = archive.windows(begin.len()).position(|window| window == begin)?;
    let rest = archive.get(at + begin.len()..)?;
    let line = rest.split(|byte| *byte == b'\n').next()?;
    let (distribution, rest) = std::str::from_utf8(line).ok()?.split_once(") ")?;
    let mut part = generic("glibc", rest.rsplit(' ').next()?.trim_end_matches('.'), "LGPL-2.1-or-later");
    if let Some(version) = distribution.strip_prefix("Debian GLIBC ") {
        version.clone_into(&mut part.version);
        part.purl = format!("pkg:deb/debian/glibc@{}?arch=source", percent_encoded(version));
    }
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_headers() {
        let header = "#define SQLITE_VERSION_NUMBER 3054001\n#define SQLITE_VERSION        \"3.54.1\"\n#define A 1\n # define B\n#define B  5 /* x */\n";
        assert_eq!(version_in(header, &["SQLITE_VERSION"]).unwrap(), "3.54.1");
        assert_eq!(version_in(header, &["A", "B"]).unwrap(), "1.5");
        assert_eq!(version_in(header, &["A", "C"]), None);
    }

    #[test]
    fn the_bundles_packages_are_those_of_its_notices_and_of_the_lock_file() {
        let notices = "Made by x of these:\n\n@a/b 1.2.3, c 2.0.0\n\nMIT License\n\n---\n\nd 3.0.0\n\nMIT";
        let lock = |version: &str| {
            format!(
                "{{\"packages\": {{\"\": {{}}, \"node_modules/@a/b\": {{\"version\": \"1.2.3\", \"integrity\": \"sha512-AAE=\", \
                 \"license\": \"MIT\"}}, \"node_modules/c\": {{\"version\": \"2.0.0\", \"integrity\": \"sha512-AAE=\"}}, \
                 \"node_modules/d\": {{\"version\": \"{version}\", \"integrity\": \"sha512-AAE=\"}}}}}}"
            )
        };
        let parts = npm_parts(notices, &lock("3.0.0")).unwrap();
        let purls: Vec<_> = parts.iter().map(|part| part.purl.as_str()).collect();
        assert_eq!(purls, ["pkg:npm/%40a/b@1.2.3", "pkg:npm/c@2.0.0", "pkg:npm/d@3.0.0"]);
        assert_eq!(parts[0].sha512.as_deref(), Some("0001"));
        assert!(npm_parts(notices, &lock("3.0.1")).unwrap_err().to_string().contains("make the bundle anew"));
        assert!(npm_parts("nothing", &lock("3.0.0")).is_err());
        assert_eq!(leading_comment("/*! a */ b"), Some("a"));
        assert_eq!(leading_comment("/* a */ b"), None);
    }

    #[test]
    fn glibc_is_known_by_what_it_says_in_its_archive() {
        let debian =
            b"\0GNU C Library (Debian GLIBC 2.36-9+deb12u10) stable release version 2.36.\nCopyright"
                .as_slice();
        assert_eq!(glibc(debian).unwrap().purl, "pkg:deb/debian/glibc@2.36-9%2Bdeb12u10?arch=source");
        let other = b"GNU C Library (GNU libc) stable release version 2.40.\n".as_slice();
        assert_eq!(glibc(other).unwrap().purl, "pkg:generic/glibc@2.40");
        assert_eq!(glibc(b"nothing"), None);
    }
}
