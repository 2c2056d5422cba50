//! One attempt to tell the end of a job: a signed POST, which goes nowhere but to addresses that were judged.

use std::{error::Error as _, sync::Arc, time::Duration};

use reqwest::{
    Client, Response, StatusCode, Url,
    header::{CONTENT_TYPE, LOCATION},
    redirect::Policy,
};
use url::Host;

use super::{
    resolver::{Forbidden, JudgingResolver, Lookup},
    signature::SigningSecret,
};
use crate::jobs::addresses::{Network, may_reach};

/// How often a callback is sent on.
const MAX_REDIRECTS: usize = 3;

/// What of an answer is read, so that its connection ends in order.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// The longest URL, in bytes.
const MAX_URL_BYTES: usize = 2048;

/// Why an attempt has failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SenderError {
    /// The URL is none that a callback can have.
    #[error("{0}")]
    Url(&'static str),
    /// It may not go there.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// It was not taken.
    #[error("answered with {0}")]
    Status(StatusCode),
    /// It was sent on too often.
    #[error("redirected more than {MAX_REDIRECTS} times")]
    Redirects,
    /// It did not get through.
    #[error("{0}")]
    Connection(String),
    /// It did not get through in time.
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
}

impl SenderError {
    /// Whether another attempt would be in vain. 410 means that nothing more is to be sent.
    pub(in crate::jobs) fn is_final(&self) -> bool {
        matches!(self, Self::Url(_) | Self::Forbidden(_) | Self::Status(StatusCode::GONE))
    }
}

/// What is told.
pub(super) struct Message<'a> {
    /// The same at every attempt.
    pub(super) id: &'a str,
    pub(super) timestamp: i64,
    pub(super) body: Vec<u8>,
}

/// Sends callbacks.
#[derive(Clone)]
pub(in crate::jobs) struct Sender {
    client: Client,
    allowed: Arc<[Network]>,
    secret: SigningSecret,
    deadline: Duration,
}

impl Sender {
    /// Which finds names by `lookup`, and may also go to `allowed`.
    pub(in crate::jobs) fn new(
        lookup: Arc<dyn Lookup>,
        allowed: Arc<[Network]>,
        secret: SigningSecret,
        deadline: Duration,
    ) -> Result<Self, reqwest::Error> {
        // Nothing where the program has installed one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let resolver = Arc::new(JudgingResolver { lookup, allowed: Arc::clone(&allowed) });
        let builder = || {
            Client::builder()
                .dns_resolver(Arc::clone(&resolver))
                // A proxy would connect to what nobody has judged.
                .no_proxy()
                .redirect(Policy::none())
                .referer(false)
                // Each attempt is judged anew.
                .pool_max_idle_per_host(0)
                .user_agent(concat!("llm-firecracker/", env!("CARGO_PKG_VERSION")))
        };
        let client = match builder().build() {
            // A host without certificates can do all else: there no server's name is believed.
            Err(error) => {
                let error = engine::chain(&error);
                let hint = "install ca-certificates, and start the service again";
                tracing::warn!(error, hint, "callbacks by https will fail");
                builder().tls_certs_only([]).build()?
            }
            Ok(client) => client,
        };
        Ok(Self { client, allowed, secret, deadline })
    }

    /// The URL of a callback, if it can be one. Names are looked up when there is something to be told.
    pub(in crate::jobs) fn check(&self, text: &str) -> Result<Url, SenderError> {
        if text.len() > MAX_URL_BYTES {
            return Err(SenderError::Url("the URL is longer than 2048 bytes"));
        }
        // They would be left out, or put in otherwise, and the URL be another than what is shown.
        if text.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err(SenderError::Url("a URL has no blanks, and no control characters"));
        }
        let url = Url::parse(text).map_err(|_| SenderError::Url("no URL"))?;
        self.judge(&url)?;
        Ok(url)
    }

    /// Tells it once.
    pub(super) async fn send(&self, url: &str, message: Message<'_>) -> Result<(), SenderError> {
        let sending = async {
            let mut url = self.check(url)?;
            for _ in 0..=MAX_REDIRECTS {
                let response = self.post(&url, &message).await?;
                let (status, next) = (response.status(), location(&url, &response));
                drop(read_some(response).await);
                match status {
                    status if status.is_success() => return Ok(()),
                    // To be asked for in another way, as after 303, is not to be told.
                    StatusCode::MOVED_PERMANENTLY
                    | StatusCode::FOUND
                    | StatusCode::TEMPORARY_REDIRECT
                    | StatusCode::PERMANENT_REDIRECT => {
                        let next = next.ok_or(SenderError::Status(status))?;
                        if url.scheme() == "https" && next.scheme() != "https" {
                            return Err(SenderError::Url("redirected from https to http"));
                        }
                        self.judge(&next)?;
                        url = next;
                    }
                    status => return Err(SenderError::Status(status)),
                }
            }
            Err(SenderError::Redirects)
        };
        tokio::time::timeout(self.deadline, sending)
            .await
            .unwrap_or(Err(SenderError::TimedOut(self.deadline)))
    }

    /// What the resolver does not see: an address needs no name.
    fn judge(&self, url: &Url) -> Result<(), SenderError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(SenderError::Url("the scheme is neither http nor https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(SenderError::Url("the URL holds a user or a password"));
        }
        let address = match url.host() {
            None => return Err(SenderError::Url("the URL names no host")),
            Some(Host::Domain(_)) => return Ok(()),
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
        };
        if may_reach(address, &self.allowed) {
            Ok(())
        } else {
            Err(Forbidden { host: url.host_str().unwrap_or_default().to_owned() }.into())
        }
    }

    async fn post(&self, url: &Url, message: &Message<'_>) -> Result<Response, SenderError> {
        let signature = self.secret.sign(message.id, message.timestamp, &message.body);
        let request = self
            .client
            .post(url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", message.id)
            .header("webhook-timestamp", message.timestamp)
            .header("webhook-signature", signature.unwrap_or_default())
            .body(message.body.clone());
        request.send().await.map_err(|error| failure(&error))
    }
}

/// Of the causes the last: the others say where to, which the job says already.
fn failure(error: &reqwest::Error) -> SenderError {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match cause.downcast_ref::<Forbidden>() {
        Some(forbidden) => SenderError::Forbidden(forbidden.clone()),
        None if error.source().is_none() => SenderError::Connection("the request failed".to_owned()),
        None => SenderError::Connection(cause.to_string()),
    }
}

fn location(url: &Url, response: &Response) -> Option<Url> {
    let text = response.headers().get(LOCATION)?.to_str().ok()?;
    if text.len() > MAX_URL_BYTES { None } else { url.join(text).ok() }
}

/// What an answer says is of no interest.
async fn read_some(mut response: Response) -> Result<(), reqwest::Error> {
    let mut read = 0;
    while read < MAX_ANSWER_BYTES
        && let Some(chunk) = response.chunk().await?
    {
        read += chunk.len();
    }
    Ok(())
}
