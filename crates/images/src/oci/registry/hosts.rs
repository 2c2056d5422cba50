//! Which hosts stand for a registry: its mirrors, and then itself.
//!
//! Read from what the user's other programs read: `registries.conf` of podman and skopeo
//! (containers-registries.conf(5): `[[registry]]` with `prefix`, `location`, `insecure`, `blocked`,
//! `mirror-by-digest-only` and `mirror`, which has `location`, `insecure` and `pull-from-mirror`), and Docker's `daemon.json` (`registry-mirrors`, `insecure-registries`).

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

use super::super::reference::{Reference, Version, is_host};
use crate::staging::read_bounded;

/// The largest of these files, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Docker Hub's registry by its name in references, and where it answers.
const DOCKER_HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// How to speak to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// HTTPS, and nothing else.
    Https,
    /// HTTP without encryption, as the user asked for.
    Http,
    /// HTTPS, else HTTP: on this machine, or where the user said that it may be.
    Either,
}

/// A host that may have an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name or address, with a port where it is not the usual one.
    pub name: String,
    /// How to speak to it.
    pub scheme: Scheme,
    /// The repository there.
    pub repository: String,
}

/// A mirror that the user named for us alone: `http://127.0.0.1:5000` for Docker Hub, `REGISTRY=URL` for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    registry: String,
    host: String,
    prefix: String,
    scheme: Scheme,
}

impl FromStr for Mirror {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (registry, url) = match text.split_once('=') {
            Some((registry, url)) if is_host(registry) => (registry, url),
            _ => (DOCKER_HUB.0, text),
        };
        let (host, prefix, scheme) = location(url).ok_or_else(|| {
            format!("{text:?} names no mirror: give its address, as https://mirror.example or docker.io=http://127.0.0.1:5000")
        })?;
        Ok(Self { registry: registry.to_owned(), host, prefix, scheme })
    }
}

/// Where the configuration is. Files that do not exist say nothing.
#[derive(Debug, Clone, Default)]
pub struct HostFiles {
    /// `registries.conf`, the first that exists counts.
    pub registries: Vec<PathBuf>,
    /// Directories with more of it (`*.conf`): what stands there about a prefix replaces what stood before.
    pub drop_ins: Vec<PathBuf>,
    /// Docker's `daemon.json`.
    pub docker_daemon: Option<PathBuf>,
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HostsError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is malformed.
    #[error("{} is malformed: {reason}", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// In what way.
        reason: String,
    },
    /// The user has forbidden this registry.
    #[error("{registry} is blocked by {}", path.display())]
    Blocked {
        /// The registry.
        registry: String,
        /// By which file.
        path: PathBuf,
    },
}

#[derive(Debug, Default, Deserialize)]
struct RegistriesFile {
    #[serde(default)]
    registry: Vec<RegistryTable>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RegistryTable {
    prefix: Option<String>,
    location: Option<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<MirrorTable>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct MirrorTable {
    location: String,
    #[serde(default)]
    insecure: bool,
    pull_from_mirror: Option<PullFromMirror>,
}

/// Which images a mirror is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PullFromMirror {
    All,
    DigestOnly,
    TagOnly,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct DockerDaemonFile {
    #[serde(default)]
    registry_mirrors: Vec<String>,
    #[serde(default)]
    insecure_registries: Vec<String>,
}

/// The hosts to be asked for `reference`, in order: the user's own mirrors, the mirrors of the files, the registry.
pub(super) fn hosts(
    reference: &Reference,
    mirrors: &[Mirror],
    plain_http: bool,
    files: &HostFiles,
) -> Result<Vec<Host>, HostsError> {
    let mut hosts: Vec<Host> = mirrors
        .iter()
        .filter(|mirror| mirror.registry == reference.registry)
        .map(|mirror| Host {
            name: mirror.host.clone(),
            scheme: mirror.scheme,
            repository: join(&mirror.prefix, &reference.repository),
        })
        .collect();
    let daemon: DockerDaemonFile = match &files.docker_daemon {
        Some(path) => read(path, |text| serde_json::from_str(text).map_err(|error| error.to_string()))?,
        None => DockerDaemonFile::default(),
    };
    let mut itself = Host {
        name: if reference.registry == DOCKER_HUB.0 { DOCKER_HUB.1 } else { &reference.registry }.to_owned(),
        scheme: if plain_http { Scheme::Http } else { scheme_of(&reference.registry, false) },
        repository: reference.repository.clone(),
    };
    let mut is_configured = false;
    let tables = tables(files)?;
    let whole = format!("{}/{}", reference.registry, reference.repository);
    if let Some((table, path, rest)) = longest_match(&tables, &whole) {
        if table.blocked {
            return Err(HostsError::Blocked { registry: reference.registry.clone(), path: path.to_owned() });
        }
        is_configured = true;
        let is_digest = matches!(reference.version, Version::Digest(_));
        for mirror in table.mirror.iter().filter(|mirror| table.asks(mirror, is_digest)) {
            hosts.extend(host_at(&mirror.location, mirror.insecure, rest));
        }
        if let Some(host) =
            table.location.as_deref().and_then(|location| host_at(location, table.insecure, rest))
        {
            let name = if host.name == DOCKER_HUB.0 { DOCKER_HUB.1.to_owned() } else { host.name };
            let scheme = if plain_http { Scheme::Http } else { host.scheme };
            itself = Host { name, scheme, ..host };
        } else if table.insecure && itself.scheme == Scheme::Https {
            itself.scheme = Scheme::Either;
        }
    }
    if !is_configured && reference.registry == DOCKER_HUB.0 {
        hosts.extend(daemon.registry_mirrors.iter().filter_map(|url| {
            let (name, prefix, scheme) = location(url)?;
            Some(Host { name, scheme, repository: join(&prefix, &reference.repository) })
        }));
    }
    if daemon.insecure_registries.contains(&reference.registry) && itself.scheme == Scheme::Https {
        itself.scheme = Scheme::Either;
    }
    hosts.push(itself);
    Ok(hosts)
}

/// The tables of all files, each with the file that it is of.
fn tables(files: &HostFiles) -> Result<Vec<(RegistryTable, PathBuf)>, HostsError> {
    let mut paths: Vec<PathBuf> =
        files.registries.iter().filter(|path| path.exists()).take(1).cloned().collect();
    for directory in &files.drop_ins {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut found: Vec<PathBuf> =
            entries.filter(|path| path.extension().is_some_and(|extension| extension == "conf")).collect();
        found.sort();
        paths.extend(found);
    }
    let mut tables: Vec<(RegistryTable, PathBuf)> = Vec::new();
    for path in paths {
        let file: RegistriesFile =
            read(&path, |text| toml::from_str(text).map_err(|error| error.to_string()))?;
        for table in file.registry {
            if table.mirror_by_digest_only
                && table.mirror.iter().any(|mirror| mirror.pull_from_mirror.is_some())
            {
                let reason = "mirror-by-digest-only and pull-from-mirror exclude each other".to_owned();
                return Err(HostsError::Malformed { path, reason });
            }
            tables.retain(|(earlier, _)| earlier.prefix() != table.prefix());
            tables.push((table, path.clone()));
        }
    }
    Ok(tables)
}

impl RegistryTable {
    fn prefix(&self) -> Option<&str> {
        let prefix = self.prefix.as_deref().filter(|prefix| !prefix.is_empty());
        prefix.or(self.location.as_deref()).map(|prefix| prefix.trim_end_matches('/'))
    }

    /// Whether this mirror is asked for an image that is named by its digest, or by a tag.
    fn asks(&self, mirror: &MirrorTable, is_digest: bool) -> bool {
        match mirror.pull_from_mirror {
            _ if self.mirror_by_digest_only => is_digest,
            Some(PullFromMirror::DigestOnly) => is_digest,
            Some(PullFromMirror::TagOnly) => !is_digest,
            Some(PullFromMirror::All) | None => true,
        }
    }
}

/// The table whose prefix is the longest that fits, its file, and what of the reference comes after the prefix.
fn longest_match<'a, 'b>(
    tables: &'a [(RegistryTable, PathBuf)],
    whole: &'b str,
) -> Option<(&'a RegistryTable, &'a Path, &'b str)> {
    tables
        .iter()
        .filter_map(|(table, path)| {
            let prefix = table.prefix()?;
            Some((prefix.len(), table, path.as_path(), after_prefix(whole, prefix)?))
        })
        .max_by_key(|(length, ..)| *length)
        .map(|(_, table, path, rest)| (table, path, rest))
}

/// What comes after a prefix: a whole part of a name, and also a port, as podman and skopeo have it. `*.example` is all
/// hosts beneath `example`, and not that one.
fn after_prefix<'a>(whole: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = match prefix.strip_prefix('*').filter(|suffix| suffix.starts_with('.')) {
        Some(suffix) => {
            // The name of a host may hold it twice: the last time counts, so that no host beneath escapes.
            let host_end = whole.find(['/', ':']).unwrap_or(whole.len());
            let (suffix_host, _) = suffix.split_at(suffix.find(['/', ':']).unwrap_or(suffix.len()));
            let start = whole[..host_end].len().checked_sub(suffix_host.len())?;
            (start > 0).then(|| whole.get(start..))??.strip_prefix(suffix)?
        }
        None => whole.strip_prefix(prefix)?,
    };
    (rest.is_empty() || rest.starts_with(['/', ':'])).then_some(rest)
}

/// `HOST[:PORT][/PATH]` with the rest of a name, which takes the place of what comes before that.
fn host_at(location: &str, insecure: bool, rest: &str) -> Option<Host> {
    let whole = format!("{}{rest}", location.trim_end_matches('/'));
    let (name, repository) = whole.split_once('/').unwrap_or((&whole, ""));
    let scheme = scheme_of(name, insecure);
    is_host(name).then(|| Host { name: name.to_owned(), scheme, repository: repository.to_owned() })
}

/// The parts of a URL: host, path, scheme.
fn location(url: &str) -> Option<(String, String, Scheme)> {
    let (scheme, rest) = match url.split_once("://") {
        Some(("http", rest)) => (Some(Scheme::Http), rest),
        Some(("https", rest)) => (Some(Scheme::Https), rest),
        Some(_) => return None,
        None => (None, url),
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let scheme = scheme.unwrap_or_else(|| scheme_of(host, false));
    is_host(host).then(|| (host.to_owned(), path.trim_matches('/').to_owned(), scheme))
}

fn join(prefix: &str, repository: &str) -> String {
    if prefix.is_empty() {
        repository.to_owned()
    } else {
        format!("{}/{repository}", prefix.trim_end_matches('/'))
    }
}

/// On this machine nobody listens in: there HTTP will do.
fn scheme_of(host: &str, insecure: bool) -> Scheme {
    if insecure || is_loopback(host) { Scheme::Either } else { Scheme::Https }
}

/// Whether a host, with or without a port, is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn read<T: Default>(path: &Path, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, HostsError> {
    let text = match read_bounded(path, MAX_FILE_BYTES) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
        Err(source) => return Err(HostsError::Read { path: path.to_owned(), source }),
    };
    let malformed = |reason| HostsError::Malformed { path: path.to_owned(), reason };
    let text = std::str::from_utf8(&text).map_err(|error| malformed(error.to_string()))?;
    parse(text).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(text: &str) -> Reference {
        match text.parse() {
            Ok(super::super::super::ImageSource::Registry(reference)) => reference,
            other => unreachable!("{other:?}"),
        }
    }

    fn asked(text: &str, mirrors: &[&str], files: &HostFiles) -> Vec<(String, Scheme, String)> {
        let mirrors: Vec<Mirror> = mirrors.iter().map(|mirror| mirror.parse().expect("a mirror")).collect();
        let hosts = hosts(&reference(text), &mirrors, false, files).expect("hosts");
        hosts.into_iter().map(|host| (host.name, host.scheme, host.repository)).collect()
    }

    fn host(name: &str, scheme: Scheme, repository: &str) -> (String, Scheme, String) {
        (name.to_owned(), scheme, repository.to_owned())
    }

    #[test]
    fn only_this_machine_is_spoken_to_without_encryption() {
        let none = HostFiles::default();
        let hub = host("registry-1.docker.io", Scheme::Https, "library/python");
        assert_eq!(asked("python", &[], &none), std::slice::from_ref(&hub));
        for name in ["localhost:5000", "127.0.0.2", "[::1]:5000"] {
            assert_eq!(asked(&format!("{name}/a"), &[], &none), [host(name, Scheme::Either, "a")]);
        }
        for name in ["127.0.0.1.example.com", "localhost.example", "10.0.0.1:5000"] {
            assert_eq!(asked(&format!("{name}/a"), &[], &none), [host(name, Scheme::Https, "a")]);
        }
        let mirror = host("127.0.0.1:5000", Scheme::Http, "library/python");
        assert_eq!(
            asked("python", &["http://127.0.0.1:5000", "ghcr.io=https://x.example"], &none),
            [mirror, hub]
        );
        for wrong in ["", "ftp://a", "http://a b", "=x"] {
            assert!(wrong.parse::<Mirror>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn mirrors_come_from_the_files_of_podman_and_docker() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (registries, daemon) =
            (directory.path().join("registries.conf"), directory.path().join("daemon.json"));
        std::fs::write(
            &registries,
            r#"
            unqualified-search-registries = ["docker.io"]
            [[registry]]
            prefix = "docker.io/library"
            location = "mirror.example/hub"
            [[registry.mirror]]
            location = "127.0.0.1:5000/library"
            insecure = true
            [[registry]]
            location = "docker.io"
            [[registry]]
            prefix = "evil.example"
            blocked = true
            "#,
        )
        .expect("write");
        std::fs::write(
            &daemon,
            r#"{"registry-mirrors": ["https://cache.example/"], "insecure-registries": ["10.0.0.1:5000"], "debug": true}"#,
        )
        .expect("write");
        let files =
            HostFiles { registries: vec![registries], drop_ins: Vec::new(), docker_daemon: Some(daemon) };
        assert_eq!(
            asked("python", &[], &files),
            [
                host("127.0.0.1:5000", Scheme::Either, "library/python"),
                host("mirror.example", Scheme::Https, "hub/python")
            ]
        );
        assert_eq!(asked("10.0.0.1:5000/a", &[], &files), [host("10.0.0.1:5000", Scheme::Either, "a")]);
        let blocked = hosts(&reference("evil.example/a"), &[], false, &files);
        assert!(matches!(blocked, Err(HostsError::Blocked { .. })));
        let drop_ins = directory.path().join("registries.conf.d");
        std::fs::create_dir(&drop_ins).expect("directory");
        let text = "[[registry]]\nlocation = \"docker.io/library\"\n[[registry.mirror]]\nlocation = \"localhost:5001\"\n";
        std::fs::write(drop_ins.join("mirror.conf"), text).expect("write");
        let more = HostFiles { drop_ins: vec![drop_ins], ..files.clone() };
        assert_eq!(asked("python", &[], &more)[0], host("localhost:5001", Scheme::Either, "python"));
        let docker = HostFiles { registries: Vec::new(), ..files };
        assert_eq!(
            asked("a/b", &[], &docker),
            [host("cache.example", Scheme::Https, "a/b"), host("registry-1.docker.io", Scheme::Https, "a/b")]
        );
    }

    fn written(directory: &tempfile::TempDir, text: &str) -> HostFiles {
        let path = directory.path().join("registries.conf");
        std::fs::write(&path, text).expect("write");
        HostFiles { registries: vec![path], ..HostFiles::default() }
    }

    #[test]
    fn hosts_beneath_a_blocked_domain_are_blocked() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let text = r#"
            [[registry]]
            prefix = "*.evil.example"
            blocked = true
            [[registry]]
            prefix = "good.evil.example"
            location = "good.evil.example"
            [[registry]]
            prefix = "bad.example"
            blocked = true
            [[registry]]
            prefix = "*.part.example/team"
            location = "mirror.example/all"
            "#;
        let files = written(&directory, text);
        let is_blocked = |text: &str| {
            matches!(hosts(&reference(text), &[], false, &files), Err(HostsError::Blocked { .. }))
        };
        for blocked in [
            "a.evil.example/b",
            "a.b.evil.example/c/d:tag",
            "a.evil.example:5000/b",
            "a.evil.example.evil.example/b",
            "bad.example/a",
            "bad.example:5000/a",
        ] {
            assert!(is_blocked(blocked), "{blocked}");
        }
        for allowed in [
            "evil.example/a",
            "notevil.example/a",
            "a.evil.example.org/b",
            "good.evil.example/a",
            "x.example/a.evil.example/b",
            "bad.example.org/a",
        ] {
            assert!(!is_blocked(allowed), "{allowed}");
        }
        let moved = host("mirror.example", Scheme::Https, "all/a");
        assert_eq!(asked("x.part.example/team/a", &[], &files), [moved]);
        let kept = host("x.part.example", Scheme::Https, "teams/a");
        assert_eq!(asked("x.part.example/teams/a", &[], &files), [kept]);
    }

    #[test]
    fn mirrors_are_asked_for_digests_or_tags_as_the_files_say() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let text = r#"
            [[registry]]
            location = "a.example"
            mirror-by-digest-only = true
            [[registry.mirror]]
            location = "digests.example"
            [[registry]]
            location = "b.example"
            [[registry.mirror]]
            location = "tags.example"
            pull-from-mirror = "tag-only"
            [[registry.mirror]]
            location = "digests.example"
            pull-from-mirror = "digest-only"
            [[registry.mirror]]
            location = "all.example"
            pull-from-mirror = "all"
            "#;
        let files = written(&directory, text);
        let names = |text: &str| -> Vec<String> {
            asked(text, &[], &files).into_iter().map(|(name, ..)| name).collect()
        };
        let digest = format!("@sha256:{}", "0".repeat(64));
        assert_eq!(names("a.example/x:1"), ["a.example"]);
        assert_eq!(names(&format!("a.example/x{digest}")), ["digests.example", "a.example"]);
        assert_eq!(names("b.example/x"), ["tags.example", "all.example", "b.example"]);
        let by_digest = names(&format!("b.example/x{digest}"));
        assert_eq!(by_digest, ["digests.example", "all.example", "b.example"]);
        for wrong in [
            text.replace("\"tag-only\"", "\"sometimes\""),
            text.replacen("\"digests.example\"", "\"digests.example\"\npull-from-mirror = \"all\"", 1),
        ] {
            let refused = hosts(&reference("c.example/x"), &[], false, &written(&directory, &wrong));
            assert!(matches!(refused, Err(HostsError::Malformed { .. })), "{refused:?}");
        }
    }
}
