//! HTTP beneath the object store: what a server refuses becomes an error that says how.
//!
//! The object store keeps of a refusal its text. What to do about one is decided by its status, by the code in its XML
//! and by two headers, so they are read here, where they pass by.

use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use futures_util::StreamExt as _;
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
        HttpService, ReqwestConnector,
    },
};

use crate::snapshot::manifest::is_showable;

/// How much of a refusal's text is looked at, in bytes.
const MAX_REFUSAL_BYTES: usize = 64 << 10;

/// The longest answer that is no object, in bytes: a page of a listing has a thousand names of a kilobyte at most.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// How much of a text of the server is shown.
const MAX_SHOWN_CHARACTERS: usize = 200;

/// A server said no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server answered {status}{}{}", prefixed(" ", code.as_deref()), prefixed(": ", message.as_deref()))]
pub struct Refused {
    /// HTTP's status.
    pub status: u16,
    /// S3's code, such as `SlowDown`.
    pub code: Option<String>,
    /// S3's message.
    pub message: Option<String>,
    /// The region in which the bucket is.
    pub region: Option<String>,
    /// How long it wants to be left alone.
    pub retry_after: Option<Duration>,
}

fn prefixed(prefix: &str, text: Option<&str>) -> String {
    text.map(|text| format!("{prefix}{text}")).unwrap_or_default()
}

/// Connects like the object store itself, and sees what passes.
#[derive(Debug)]
pub(super) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Observed(client)))
    }
}

#[derive(Debug)]
struct Observed(HttpClient);

#[async_trait]
impl HttpService for Observed {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let asks_for_credentials = !is_signed(&request);
        let is_get = request.method().as_str() == "GET";
        let is_object = is_get && !asks_for_credentials && request.uri().query().is_none();
        let failed = |error: HttpError| {
            if asks_for_credentials { NoCredentials::because(innermost(&error)) } else { error }
        };
        let response = self.0.execute(request).await.map_err(failed)?;
        if response.status().is_success() {
            // Objects come in pieces, and who reads them counts. All else is taken whole by the object store, however long.
            return if is_object { Ok(response) } else { bounded(response).await };
        }
        let refused = refusal(response).await;
        if asks_for_credentials {
            return Err(NoCredentials::because(refused.to_string()));
        }
        // "Unknown" is what nobody beneath us tries again.
        Err(HttpError::new(HttpErrorKind::Unknown, refused))
    }
}

/// An answer is longer than any.
#[derive(Debug, thiserror::Error)]
#[error("the answer is longer than {MAX_ANSWER_BYTES} bytes")]
pub(super) struct AnswerTooLong;

impl AnswerTooLong {
    /// How long it may be.
    pub(super) const LIMIT: u64 = MAX_ANSWER_BYTES as u64;
}

/// The same answer, which is no longer than any.
async fn bounded(response: HttpResponse) -> Result<HttpResponse, HttpError> {
    let (head, body) = response.into_parts();
    let mut text = BytesMut::new();
    // What length is announced does not matter: nothing is allocated for it.
    let mut pieces = body.bytes_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        if text.len() + piece.len() > MAX_ANSWER_BYTES {
            return Err(HttpError::new(HttpErrorKind::Unknown, AnswerTooLong));
        }
        text.extend_from_slice(&piece);
    }
    Ok(HttpResponse::from_parts(head, text.freeze().into()))
}

/// Whoever was asked for credentials gave none.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub(super) struct NoCredentials {
    pub(super) cause: String,
}

impl NoCredentials {
    fn because(cause: String) -> HttpError {
        HttpError::new(HttpErrorKind::Unknown, Self { cause })
    }
}

/// Requests to the bucket are signed; those for the credentials to do so are not.
fn is_signed(request: &HttpRequest) -> bool {
    let authorization = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    authorization.is_some_and(|value| value.starts_with("AWS4-"))
}

/// The cause of all causes.
pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

async fn refusal(response: HttpResponse) -> Refused {
    let header = |name: &str| {
        response
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(showable)
            .filter(|text| !text.is_empty())
    };
    let mut refused = Refused {
        status: response.status().as_u16(),
        code: None,
        message: None,
        region: header("x-amz-bucket-region"),
        // Also a date may stand there: no S3 that we know sends one, and our own waits do for it.
        retry_after: header("retry-after")
            .and_then(|text| Some(Duration::from_secs(text.trim().parse().ok()?))),
    };
    let announced = header("content-length").and_then(|length| length.parse::<usize>().ok());
    if announced.is_none_or(|length| length <= MAX_REFUSAL_BYTES)
        && let Some(text) = text_of(response.into_body()).await
    {
        refused.code = element(&text, "Code");
        refused.message = element(&text, "Message");
        refused.region = refused.region.or_else(|| element(&text, "Region"));
    }
    refused
}

async fn text_of(body: HttpResponseBody) -> Option<String> {
    let mut text = Vec::new();
    let mut pieces = body.bytes_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.ok()?;
        if text.len() + piece.len() > MAX_REFUSAL_BYTES {
            return None;
        }
        text.extend_from_slice(&piece);
    }
    String::from_utf8(text).ok()
}

/// The text of an element of S3's small XML documents: no attributes, no nesting of the same name.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(showable(text)).filter(|text| !text.is_empty())
}

fn showable(text: &str) -> String {
    text.chars().filter(|c| is_showable(*c)).take(MAX_SHOWN_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_message_of_a_refusal_are_found_and_can_be_shown() {
        let xml = "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>Please\u{1b}[31m reduce</Message></Error>";
        assert_eq!(element(xml, "Code").as_deref(), Some("SlowDown"));
        assert_eq!(element(xml, "Message").as_deref(), Some("Please[31m reduce"));
        assert_eq!(element(xml, "Region"), None);
        assert_eq!(element("<Code>", "Code"), None);
        assert_eq!(element(&format!("<Code>{}</Code>", "x".repeat(9999)), "Code").unwrap().len(), 200);
    }

    #[test]
    fn a_refusal_says_what_is_known_of_it() {
        let mut refused = Refused { status: 503, code: None, message: None, region: None, retry_after: None };
        assert_eq!(refused.to_string(), "the server answered 503");
        refused.code = Some("SlowDown".to_owned());
        refused.message = Some("Please reduce".to_owned());
        assert_eq!(refused.to_string(), "the server answered 503 SlowDown: Please reduce");
    }
}
