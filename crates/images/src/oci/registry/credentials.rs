//! Who the user is at a registry: what `docker login` and `podman login` have written.
//!
//! `config.json` of Docker and `auth.json` of podman and skopeo (containers-auth.json(5)) have the same form: `auths` by
//! registry, or by registry and path; helper programs for one registry (`credHelpers`) or for all (`credsStore`).

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use serde::Deserialize;

use crate::staging::read_bounded;

/// The largest of these files, and the longest answer of a helper, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Docker Hub, by its name in these files.
const DOCKER_HUB: &str = "index.docker.io";

/// The files, of which the first that knows a registry counts. Those that do not exist say nothing.
#[derive(Debug, Clone, Default)]
pub struct CredentialFiles(pub Vec<PathBuf>);

/// Who somebody is at a registry.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    /// A name and a password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that others are had for.
    IdentityToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credentials(…)")
    }
}

/// Credentials cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is malformed. What it holds is not shown.
    #[error("{} is malformed at line {line}", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Where.
        line: usize,
    },
    /// A helper program cannot be used.
    #[error("cannot ask {helper} for the credentials of {registry}: {reason}")]
    Helper {
        /// The program.
        helper: String,
        /// The registry.
        registry: String,
        /// Why.
        reason: String,
    },
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
struct Auth {
    #[serde(rename = "auth")]
    encoded: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// The credentials for a repository of a registry; none where the user has none.
pub(super) fn credentials(
    registry: &str,
    repository: &str,
    files: &CredentialFiles,
) -> Result<Option<Credentials>, CredentialsError> {
    let registry = match registry {
        "docker.io" | "registry-1.docker.io" => DOCKER_HUB,
        registry => registry,
    };
    let mut failed = None;
    for path in &files.0 {
        let file = read(path)?;
        let helper = file.cred_helpers.iter().find(|(key, _)| host_of(&normal(key)) == registry);
        if let Some(helper) = helper.map(|(_, helper)| helper).or(file.creds_store.as_ref()) {
            match ask(helper, registry) {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                // Another file may know; and what is public is had without.
                Err(error) => failed = Some(error),
            }
        }
        if let Some(auth) = best(&file.auths, registry, repository)
            && let Some(found) = auth.credentials()
        {
            return Ok(Some(found));
        }
    }
    failed.map_or(Ok(None), Err)
}

fn read(path: &Path) -> Result<File, CredentialsError> {
    let text = match read_bounded(path, MAX_BYTES) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(File::default()),
        Err(source) => return Err(CredentialsError::Read { path: path.to_owned(), source }),
    };
    serde_json::from_slice(&text)
        .map_err(|error| CredentialsError::Malformed { path: path.to_owned(), line: error.line() })
}

/// Keys are `host`, `host/path`, or URLs as Docker once wrote them (`https://index.docker.io/v1/`). Docker Hub has a name
/// of its own in each program's files.
fn normal(key: &str) -> String {
    let plain = key.split_once("://").map_or(key, |(_, rest)| rest).trim_end_matches('/');
    let (host, path) = plain.split_once('/').map_or((plain, None), |(host, path)| (host, Some(path)));
    let host = if ["docker.io", "registry-1.docker.io"].contains(&host) { DOCKER_HUB } else { host };
    path.map_or_else(|| host.to_owned(), |path| format!("{host}/{path}"))
}

fn host_of(key: &str) -> &str {
    key.split_once('/').map_or(key, |(host, _)| host)
}

/// The entry with the longest path that fits.
fn best<'a>(auths: &'a BTreeMap<String, Auth>, registry: &str, repository: &str) -> Option<&'a Auth> {
    let whole = format!("{registry}/{repository}");
    let fits = |key: &str| {
        let plain = normal(key);
        let path =
            whole.strip_prefix(plain.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let versioned = ["/v1", "/v2"].iter().any(|end| plain.strip_suffix(end) == Some(registry));
        path || versioned
    };
    auths.iter().filter(|(key, _)| fits(key)).max_by_key(|(key, _)| key.len()).map(|(_, auth)| auth)
}

impl Auth {
    fn credentials(&self) -> Option<Credentials> {
        if let Some(token) = self.identitytoken.as_ref().filter(|token| !token.is_empty()) {
            return Some(Credentials::IdentityToken(token.clone()));
        }
        if let (Some(user), Some(password)) = (&self.username, &self.password)
            && !user.is_empty()
        {
            return Some(Credentials::Password { user: user.clone(), password: password.clone() });
        }
        let decoded = base64::engine::general_purpose::STANDARD.decode(self.encoded.as_ref()?.trim()).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        let (user, password) = text.split_once(':')?;
        let password = password.trim_end_matches('\0').to_owned();
        (!user.is_empty()).then(|| Credentials::Password { user: user.to_owned(), password })
    }
}

/// Asks a helper program (docker-credential-helpers): the registry on its stdin, JSON on its stdout.
fn ask(helper: &str, registry: &str) -> Result<Option<Credentials>, CredentialsError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let program = format!("docker-credential-{helper}");
    let failed = |reason: String| CredentialsError::Helper {
        helper: program.clone(),
        registry: registry.to_owned(),
        reason,
    };
    if helper.contains('/') {
        return Err(failed("a helper's name has no path".to_owned()));
    }
    let url = if registry == DOCKER_HUB { "https://index.docker.io/v1/" } else { registry };
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read says why in its answer.
        let _ = stdin.write_all(url.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        // The one answer that is no fault, in the words of the helpers' own library.
        if said.contains("credentials not found") {
            return Ok(None);
        }
        return Err(failed(format!("it ended with {}", output.status)));
    }
    let answer: Answer = serde_json::from_slice(&output.stdout)
        .map_err(|_| failed("its answer is no JSON with a name and a secret".to_owned()))?;
    Ok(Some(match answer.username.as_str() {
        "<token>" => Credentials::IdentityToken(answer.secret),
        _ => Credentials::Password { user: answer.username, password: answer.secret },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, registry: &str, repository: &str) -> Option<Credentials> {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("config.json");
        std::fs::write(&path, text).expect("write");
        let missing = directory.path().join("none.json");
        credentials(registry, repository, &CredentialFiles(vec![missing, path])).expect("readable")
    }

    fn password(user: &str, password: &str) -> Credentials {
        Credentials::Password { user: user.to_owned(), password: password.to_owned() }
    }

    #[test]
    fn logins_of_docker_and_podman_are_found_by_registry_and_path() {
        // "hub:pw", "tester:secret:with:colons", "team:pw"
        let text = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnB3"},
            "127.0.0.1:5001": {"auth": "dGVzdGVyOnNlY3JldDp3aXRoOmNvbG9ucw=="},
            "ghcr.io/team": {"auth": "dGVhbTpwdw=="},
            "ghcr.io": {"username": "all", "password": "pw"},
            "azure.example": {"auth": "", "identitytoken": "refresh"},
            "empty.example": {}
        }, "HttpHeaders": {}}"#;
        assert_eq!(found(text, "docker.io", "library/python"), Some(password("hub", "pw")));
        assert_eq!(found(text, "registry-1.docker.io", "library/python"), Some(password("hub", "pw")));
        assert_eq!(found(text, "127.0.0.1:5001", "a"), Some(password("tester", "secret:with:colons")));
        assert_eq!(found(text, "ghcr.io", "team/a"), Some(password("team", "pw")));
        assert_eq!(found(text, "ghcr.io", "teammate/a"), Some(password("all", "pw")));
        let token = Some(Credentials::IdentityToken("refresh".to_owned()));
        assert_eq!(found(text, "azure.example", "a"), token);
        assert_eq!(found(text, "empty.example", "a"), None);
        assert_eq!(found(text, "127.0.0.1:50", "a"), None);
    }

    #[test]
    fn docker_hub_is_known_by_all_its_names() {
        for key in ["docker.io", "docker.io/library", "registry-1.docker.io", "https://index.docker.io/v1/"] {
            let text = format!(r#"{{"auths": {{"{key}": {{"auth": "aHViOnB3"}}}}}}"#);
            assert_eq!(found(&text, "docker.io", "library/python"), Some(password("hub", "pw")), "{key}");
        }
    }

    #[test]
    fn a_helper_that_fails_is_told_only_where_nobody_else_knows() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (one, other) = (directory.path().join("one.json"), directory.path().join("other.json"));
        std::fs::write(&one, r#"{"credsStore": "no-such-helper-of-anybody"}"#).expect("write");
        std::fs::write(&other, r#"{"auths": {"a.example": {"auth": "aHViOnB3"}}}"#).expect("write");
        let files = CredentialFiles(vec![one, other]);
        assert_eq!(credentials("a.example", "x", &files).expect("known"), Some(password("hub", "pw")));
        assert!(matches!(credentials("b.example", "x", &files), Err(CredentialsError::Helper { .. })));
    }

    #[test]
    fn a_malformed_file_is_named_and_its_secrets_are_not() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("config.json");
        std::fs::write(&path, "{\"auths\":\n {\"a\": \"hunter2\"}}").expect("write");
        let error = credentials("a", "b", &CredentialFiles(vec![path])).expect_err("malformed");
        let text = format!("{error} {error:?}");
        assert!(text.contains("is malformed at line 2") && !text.contains("hunter2"), "{text}");
        assert!(!format!("{:?}", password("a", "hunter2")).contains("hunter2"));
    }

    #[test]
    fn a_helper_that_is_not_there_is_named() {
        let error = ask("no-such-helper-of-anybody", "a.example").expect_err("missing");
        assert!(error.to_string().contains("docker-credential-no-such-helper-of-anybody"), "{error}");
        assert!(ask("../x", "a.example").is_err());
    }
}
