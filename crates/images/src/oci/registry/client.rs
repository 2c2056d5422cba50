//! Requests to one host, about one repository.
//!
//! Answers are bounded before they are read, silence has a deadline, and what may pass (cut connections, 429, 5xx) is
//! tried again, as long after as the host says. A name and a password go to the host that they are for, and to where it
//! itself sends them for a token: over HTTPS, or to the same machine where the host itself is spoken to without. Where a
//! host redirects to, nobody is told anything.

use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode, Url, redirect};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::challenge::{self, Challenge};
use super::credentials::Credentials;
use super::hosts::{Host, Scheme, is_loopback};

/// How long a connection may take to be made.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// How long a host may be silent in the middle of an answer.
const SILENCE_PATIENCE: Duration = Duration::from_secs(30);

/// How long the reading of a document may take: 4 MiB at most, of which one has some kilobytes.
const DOCUMENT_PATIENCE: Duration = Duration::from_secs(120);

/// How often a request is tried.
pub(super) const ATTEMPTS: u32 = 5;

/// The wait before the second attempt; twice as long before each further one.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// The longest wait that a host may ask for. One that asks for more is asked by the user later.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The longest answer to a request for a token, and the longest message of an error, in bytes.
const MAX_ANSWER_BYTES: u64 = 1 << 20;

/// A request failed, for good.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// There is no such thing.
    #[error("{host} does not have it")]
    NotFound {
        /// The host.
        host: String,
    },
    /// The host wants to know who is asking, or does not want them to have it.
    #[error("{host} refuses access{}", if *.had_credentials { " with these credentials" } else { "" })]
    Refused {
        /// The host.
        host: String,
        /// Whether it was told who is asking.
        had_credentials: bool,
    },
    /// The host wants fewer requests.
    #[error("{host} wants fewer requests (429 Too Many Requests)")]
    TooMany {
        /// The host.
        host: String,
    },
    /// The host has answered something else.
    #[error("{host} answered {status}{message}")]
    Status {
        /// The host.
        host: String,
        /// The status.
        status: StatusCode,
        /// What the host says about it.
        message: String,
    },
    /// The host could not be reached, or has hung up.
    #[error("cannot speak to {host}")]
    Connection {
        /// The host.
        host: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The answer is longer than it may be.
    #[error("{host} sent more than {limit} bytes")]
    TooLong {
        /// The host.
        host: String,
        /// What it may be.
        limit: u64,
    },
    /// The answer is shorter than it is to be.
    #[error("{host} has hung up too early")]
    TooShort {
        /// The host.
        host: String,
    },
    /// The answer comes more slowly than anybody waits for.
    #[error("{host} sends too slowly")]
    TooSlow {
        /// The host.
        host: String,
    },
    /// The host sends for a token to where none may be asked for.
    #[error("{host} sends for a token to {realm:?}, which is no HTTPS address, nor its own")]
    Realm {
        /// The host.
        host: String,
        /// Where it sends.
        realm: String,
    },
    /// The answer to a request for a token has none.
    #[error("{host} was given no token")]
    NoToken {
        /// The host.
        host: String,
    },
}

impl RequestError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { .. } => Some("check the image's name and tag".to_owned()),
            Self::Refused { host, had_credentials: false } => Some(format!(
                "check the image's name; if it is private: docker login {host}, as the user who runs this command"
            )),
            Self::Refused { host, .. } => {
                Some(format!("docker login {host} again, with an account that may pull it"))
            }
            Self::TooMany { host } => {
                Some(format!("wait a while, or docker login {host}: accounts may ask more often"))
            }
            Self::Connection { host, .. } => Some(format!(
                "check that {host} is right and can be reached; a mirror can be named with --registry-mirror, and a registry without TLS needs --plain-http"
            )),
            Self::TooSlow { .. } => {
                Some("try again later, or name a mirror with --registry-mirror".to_owned())
            }
            Self::Status { status, .. } if status.is_server_error() => Some("try again later".to_owned()),
            _ => None,
        }
    }

    /// Whether another attempt may succeed.
    fn may_pass(&self) -> bool {
        match self {
            Self::TooMany { .. } => true,
            Self::Status { status, .. } => status.is_server_error(),
            // Cut, reset, silent. What is wrong with a name, a certificate or a redirection stays so.
            Self::Connection { source, .. } => {
                !source.is_builder() && !source.is_redirect() && (!source.is_connect() || source.is_timeout())
            }
            _ => false,
        }
    }
}

/// Speaks to one host about one repository.
pub(super) struct Client {
    http: reqwest::Client,
    /// For requests that have a secret in their body, which redirections would repeat to whoever they name.
    undirected: reqwest::Client,
    host: Host,
    credentials: Option<Credentials>,
    document_patience: Duration,
    /// What works: found out by the first request.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    scheme: Option<&'static str>,
    authorization: Option<String>,
}

impl Client {
    /// A client. Nothing is sent before something is asked of it.
    pub(super) fn new(host: Host, credentials: Option<Credentials>) -> Result<Self, RequestError> {
        let policy = redirect::Policy::custom(|attempt| {
            let was_encrypted = attempt.previous().first().is_some_and(|url| url.scheme() == "https");
            if attempt.previous().len() > 5 {
                attempt.error("too many redirections")
            } else if was_encrypted && attempt.url().scheme() != "https" {
                attempt.error("a redirection to an address without encryption")
            } else {
                attempt.follow()
            }
        });
        let built = |policy| {
            let builder = reqwest::Client::builder();
            // A proxy has no business between this machine and itself.
            let builder = if is_loopback(&host.name) { builder.no_proxy() } else { builder };
            builder
                .user_agent(concat!("llm-firecracker/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT_PATIENCE)
                .read_timeout(SILENCE_PATIENCE)
                .redirect(policy)
                .build()
                .map_err(|source| RequestError::Connection { host: host.name.clone(), source })
        };
        let (http, undirected) = (built(policy)?, built(redirect::Policy::none())?);
        let document_patience = DOCUMENT_PATIENCE;
        Ok(Self { http, undirected, host, credentials, document_patience, state: Mutex::default() })
    }

    /// The host.
    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// The manifest of this version, at most `limit` bytes.
    pub(super) async fn manifest(
        &self,
        version: &str,
        accept: &str,
        limit: u64,
    ) -> Result<Vec<u8>, RequestError> {
        self.document(&format!("manifests/{version}"), accept, limit).await
    }

    /// A blob of at most `limit` bytes.
    pub(super) async fn small_blob(&self, digest: &str, limit: u64) -> Result<Vec<u8>, RequestError> {
        self.document(&format!("blobs/{digest}"), "*/*", limit).await
    }

    async fn document(&self, path: &str, accept: &str, limit: u64) -> Result<Vec<u8>, RequestError> {
        let mut patience = Patience::default();
        loop {
            let body = match self.get(path, accept, None).await {
                Ok(response) => self.body(response, limit).await,
                Err(error) => Err(error),
            };
            match body {
                Err(error) => patience.after(error).await?,
                body => return body,
            }
        }
    }

    /// A blob from `offset` on, to be read as it comes. True where the answer begins there, false where it begins at
    /// the beginning.
    pub(super) async fn blob_from(
        &self,
        digest: &str,
        offset: u64,
    ) -> Result<(Response, bool), RequestError> {
        let path = format!("blobs/{digest}");
        let range = (offset > 0).then_some(offset);
        let mut patience = Patience::default();
        loop {
            match self.get(&path, "*/*", range).await {
                Err(error) => patience.after(error).await?,
                Ok(response) => {
                    let continues = response.status() == StatusCode::PARTIAL_CONTENT;
                    return Ok((response, continues));
                }
            }
        }
    }

    /// The error of an answer in the middle of which the host has hung up.
    pub(super) fn hung_up(&self, mut source: reqwest::Error) -> RequestError {
        // Where a registry sends for its blobs, the query is what grants access to them.
        if let Some(url) = source.url_mut() {
            url.set_query(None);
        }
        RequestError::Connection { host: self.host.name.clone(), source }
    }

    /// Reads an answer of at most `limit` bytes, which has a deadline.
    async fn body(&self, response: Response, limit: u64) -> Result<Vec<u8>, RequestError> {
        let reading = tokio::time::timeout(self.document_patience, self.whole(response, limit));
        reading.await.unwrap_or_else(|_| Err(RequestError::TooSlow { host: self.host.name.clone() }))
    }

    async fn whole(&self, mut response: Response, limit: u64) -> Result<Vec<u8>, RequestError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|source| self.hung_up(source))? {
            if body.len() as u64 + chunk.len() as u64 > limit {
                return Err(RequestError::TooLong { host: self.host.name.clone(), limit });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    async fn get(&self, path: &str, accept: &str, from: Option<u64>) -> Result<Response, RequestError> {
        let scheme = self.scheme().await?;
        let url = format!("{scheme}://{}/v2/{}/{path}", self.host.name, self.host.repository);
        for attempt in 0..2 {
            let authorization = self.state.lock().await.authorization.clone();
            let mut request = self.http.get(&url).header(ACCEPT, accept);
            if let Some(authorization) = &authorization {
                request = request.header(AUTHORIZATION, authorization);
            }
            if let Some(from) = from {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            let response = request.send().await.map_err(|source| self.hung_up(source))?;
            if response.status() != StatusCode::UNAUTHORIZED || attempt > 0 {
                return self.judged(response).await;
            }
            // A redirection has led elsewhere. Who answers there is not whom the credentials are for.
            if !Url::parse(&url).is_ok_and(|asked| asked.origin() == response.url().origin()) {
                return Err(self.refused());
            }
            let challenge = response
                .headers()
                .get_all(WWW_AUTHENTICATE)
                .iter()
                .find_map(|value| challenge::parse(value.to_str().ok()?));
            let Some(challenge) = challenge else { return Err(self.refused()) };
            let authorization = self.authorize(challenge, scheme).await?;
            self.state.lock().await.authorization = Some(authorization);
        }
        Err(self.refused())
    }

    /// `https` or `http`, whichever the host speaks of those that it may.
    async fn scheme(&self) -> Result<&'static str, RequestError> {
        let mut state = self.state.lock().await;
        if let Some(scheme) = state.scheme {
            return Ok(scheme);
        }
        let scheme = match self.host.scheme {
            Scheme::Https => "https",
            Scheme::Http => "http",
            Scheme::Either => match self.http.get(format!("https://{}/v2/", self.host.name)).send().await {
                // Neither a name nor a password has been sent so far.
                Err(error) if error.is_connect() => "http",
                _ => "https",
            },
        };
        state.scheme = Some(scheme);
        Ok(scheme)
    }

    /// Whether an address is the host's own, on whatever port.
    fn is_same_machine(&self, url: &Url) -> bool {
        let own = Url::parse(&format!("http://{}", self.host.name));
        let own = own.as_ref().ok().and_then(Url::host_str);
        match (own, url.host_str()) {
            (Some(own), Some(other)) => own == other || (is_loopback(own) && is_loopback(other)),
            _ => false,
        }
    }

    fn refused(&self) -> RequestError {
        RequestError::Refused { host: self.host.name.clone(), had_credentials: self.credentials.is_some() }
    }

    async fn judged(&self, response: Response) -> Result<Response, RequestError> {
        let host = || self.host.name.clone();
        match response.status() {
            status if status.is_success() => Ok(response),
            StatusCode::NOT_FOUND => Err(RequestError::NotFound { host: host() }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.refused()),
            status => {
                if let Some(wait) = wanted_wait(response.headers()) {
                    tokio::time::sleep(wait.min(LONGEST_WAIT)).await;
                }
                if status == StatusCode::TOO_MANY_REQUESTS {
                    return Err(RequestError::TooMany { host: host() });
                }
                let body = self.body(response, MAX_ANSWER_BYTES).await.unwrap_or_default();
                Err(RequestError::Status { host: host(), status, message: message(&body) })
            }
        }
    }

    /// What to send with requests from now on.
    async fn authorize(&self, challenge: Challenge, scheme: &str) -> Result<String, RequestError> {
        let (realm, service, scope) = match (challenge, &self.credentials) {
            (Challenge::Basic, Some(Credentials::Password { user, password })) => {
                return Ok(basic(user, password));
            }
            (Challenge::Basic, _) => return Err(self.refused()),
            (Challenge::Bearer { realm, service, scope }, _) => (realm, service, scope),
        };
        let no_realm =
            || RequestError::Realm { host: self.host.name.clone(), realm: realm.chars().take(200).collect() };
        let mut url = Url::parse(&realm).map_err(|_| no_realm())?;
        let is_plain_too = scheme == "http" && url.scheme() == "http" && self.is_same_machine(&url);
        if url.scheme() != "https" && !is_plain_too {
            return Err(no_realm());
        }
        let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.host.repository));
        let mut fields = vec![("scope", scope.as_str())];
        fields.extend(service.as_deref().map(|service| ("service", service)));
        let request = match &self.credentials {
            Some(Credentials::IdentityToken(token)) => {
                fields.extend([
                    ("grant_type", "refresh_token"),
                    ("client_id", "llm-firecracker"),
                    ("refresh_token", token.as_str()),
                ]);
                let mut form = url::form_urlencoded::Serializer::new(String::new());
                form.extend_pairs(&fields);
                let form_type = "application/x-www-form-urlencoded";
                self.undirected.post(url).header(reqwest::header::CONTENT_TYPE, form_type).body(form.finish())
            }
            credentials => {
                url.query_pairs_mut().extend_pairs(&fields);
                let request = self.http.get(url);
                match credentials {
                    Some(Credentials::Password { user, password }) => {
                        request.header(AUTHORIZATION, basic(user, password))
                    }
                    _ => request,
                }
            }
        };
        let response = request.send().await.map_err(|source| self.hung_up(source))?;
        let body = self.body(self.judged(response).await?, MAX_ANSWER_BYTES).await?;
        token(&body)
            .map(|token| format!("Bearer {token}"))
            .ok_or_else(|| RequestError::NoToken { host: self.host.name.clone() })
    }
}

/// How often a request may still be tried.
struct Patience {
    left: u32,
    wait: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { left: ATTEMPTS - 1, wait: FIRST_WAIT }
    }
}

impl Patience {
    /// Waits after this error, or returns it where another attempt would be of no use.
    async fn after(&mut self, error: RequestError) -> Result<(), RequestError> {
        if self.left == 0 || !error.may_pass() {
            return Err(error);
        }
        tokio::time::sleep(self.wait).await;
        self.left -= 1;
        self.wait *= 2;
        Ok(())
    }
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

fn token(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    answer.token.or(answer.access_token).filter(|token| token.chars().all(|c| c.is_ascii_graphic()))
}

/// What the host says about an error (`{"errors": [{"message": …}]}`), as part of a sentence.
fn message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Answer {
        errors: Vec<Fault>,
    }
    #[derive(Deserialize)]
    struct Fault {
        message: String,
    }
    let said =
        serde_json::from_slice::<Answer>(body).ok().and_then(|answer| answer.errors.into_iter().next());
    said.map(|fault| {
        format!(": {}", fault.message.chars().filter(|c| !c.is_control()).take(200).collect::<String>())
    })
    .unwrap_or_default()
}

/// How long the host wants us to wait (RFC 9110, section 10.2.3), where it says so in seconds.
fn wanted_wait(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
