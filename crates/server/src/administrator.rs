//! Who may make and exchange images and snapshots, and see them: a token that says so, or, where no tokens are asked for,
//! whoever has a program on this machine.
//!
//! A web page in a browser on this machine is no such program, though it can reach the same address: as a form or a script
//! of another site, or under a name that its owner has made lead here (DNS rebinding). What is asked of requests is what
//! such pages cannot give.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use axum::{
    body::Body,
    extract::FromRequestParts,
    http::{
        HeaderMap, HeaderName, Method, Uri,
        header::{CONTENT_TYPE, HOST, ORIGIN},
        request::Parts,
    },
    response::{IntoResponse as _, Response},
};
use engine::{RequestError, request::from_json_object};
use serde::de::DeserializeOwned;

use crate::{
    caller::{Asker, Envelope},
    error::ApiError,
    operations::{Operations, Task},
    service::Shared,
    trace::TraceId,
};

/// What browsers say of who asks, and pages cannot change.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Pages of others cannot send it unasked, and this service allows them nothing.
const REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");

/// Somebody who may, with what they may do it with.
pub(crate) struct Administrator {
    pub(crate) trace_id: TraceId,
    pub(crate) operations: Operations,
    shared: Arc<Shared>,
}

impl FromRequestParts<Arc<Shared>> for Administrator {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Response> {
        let trace_id = parts.extensions.get::<TraceId>().cloned().unwrap_or_else(TraceId::new);
        match check(parts, shared).await {
            Ok(operations) => Ok(Self { trace_id, operations, shared: Arc::clone(shared) }),
            Err(error) => Err(error.respond(&trace_id)),
        }
    }
}

impl Administrator {
    /// Reads a body; an empty one says nothing.
    pub(crate) async fn read<T: DeserializeOwned>(&self, body: Body) -> Result<T, ApiError> {
        let patience = self.shared.connections.body_timeout;
        let received = self.shared.bodies.receive(body, patience).await?;
        let text: &[u8] = if received.bytes.trim_ascii().is_empty() { b"{}" } else { &received.bytes };
        Ok(from_json_object(text)?)
    }

    /// The language of this name.
    pub(crate) fn language(&self, name: &str) -> Option<store::Language> {
        self.shared.pool.engine().languages().find(name).map(|spec| spec.name.clone())
    }

    /// The size that is meant where nobody says.
    pub(crate) fn usual_machine(&self) -> vmm::spec::MachineSpec {
        self.shared.policy().usual_machine
    }

    /// Queues a task, and says where it can be followed.
    pub(crate) fn submit(&self, task: Task) -> Result<Response, ApiError> {
        let operation = self.operations.submit(task, &self.trace_id.0)?;
        Ok(crate::routes::accepted(operation))
    }

    /// An answer, whichever it is.
    pub(crate) fn respond(&self, answer: Result<Response, ApiError>) -> Response {
        answer.unwrap_or_else(|error| error.respond(&self.trace_id)).into_response()
    }
}

async fn check(parts: &Parts, shared: &Shared) -> Result<Operations, ApiError> {
    match Asker::of(shared, &Envelope::of(parts)).await? {
        Asker::Token(caller) => caller.allows_administration()?,
        Asker::Anybody(_) => no_page_of_others(&parts.method, &parts.uri, &parts.headers)?,
    }
    let nobody = || ApiError::NotFound("this service makes and exchanges no images and snapshots".to_owned());
    shared.operations.clone().ok_or_else(nobody)
}

/// Fails where a browser may have sent it for a page that is not this service's own.
fn no_page_of_others(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    no_site_of_others(uri, headers)?;
    let media_type = text(headers, &CONTENT_TYPE).and_then(|value| value.split(';').next());
    let is_json = media_type.unwrap_or_default().trim().eq_ignore_ascii_case("application/json");
    if method == Method::POST && !is_json && !headers.contains_key(REQUESTED_WITH) {
        return refused("send Content-Type: application/json");
    }
    Ok(())
}

fn refused(what: &str) -> Result<(), ApiError> {
    Err(ApiError::NotAllowed(format!("without tokens only programs on this machine may do this: {what}")))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or_default())
}

/// The same, as far as browsers of today say where it comes from: whatever media type it has.
pub(crate) fn no_site_of_others(uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    let value = |name| text(headers, &name);
    let host = value(HOST).unwrap_or_default();
    let named = uri.authority().map(axum::http::uri::Authority::as_str);
    if ![Some(host), named].into_iter().flatten().all(is_own) {
        return refused("name the service by its address or as localhost");
    }
    if is_of_other_origin(headers) {
        return refused("web pages of others may not (Origin)");
    }
    if value(FETCH_SITE).is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return refused("web pages of others may not (Sec-Fetch-Site)");
    }
    Ok(())
}

/// Whether a browser says that it asks for a page that does not come from here.
pub(crate) fn is_of_other_origin(headers: &HeaderMap) -> bool {
    let host = text(headers, &HOST).unwrap_or_default();
    text(headers, &ORIGIN).is_some_and(|origin| {
        !["http://", "https://"].iter().any(|scheme| {
            origin.strip_prefix(scheme).is_some_and(|authority| authority.eq_ignore_ascii_case(host))
        })
    })
}

/// Whether `host[:port]` is a name that nobody else can make lead here.
fn is_own(authority: &str) -> bool {
    if let Some((address, _)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
}

/// A field of a request is not what it may be.
pub(crate) fn invalid(field: &str, reason: impl std::fmt::Display) -> ApiError {
    ApiError::Request(RequestError::Invalid(format!("{field}: {reason}")))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn refusal(
        method: &Method,
        uri: &'static str,
        headers: &[(&'static str, &'static str)],
    ) -> Option<String> {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let checked = no_page_of_others(method, &Uri::from_static(uri), &headers.collect());
        checked.err().map(|error| error.to_string())
    }

    const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

    #[test]
    fn programs_on_this_machine_may() {
        for host in
            ["localhost", "LocalHost:8080", "127.0.0.1:8080", "127.0.0.1", "[::1]:8080", "192.168.0.7:80"]
        {
            assert_eq!(refusal(&Method::GET, "/", &[("host", host)]), None, "{host}");
            assert_eq!(refusal(&Method::POST, "/", &[("host", host), JSON]), None, "{host}");
        }
        let host = ("host", "localhost:8080");
        assert_eq!(refusal(&Method::POST, "/", &[host, ("x-requested-with", "curl")]), None);
        assert_eq!(refusal(&Method::DELETE, "/", &[host]), None);
        let own_page = [host, ("origin", "http://localhost:8080"), ("sec-fetch-site", "same-origin"), JSON];
        assert_eq!(refusal(&Method::POST, "/", &own_page), None);
    }

    #[test]
    fn a_name_that_others_can_make_lead_here_is_refused() {
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "",
            "127.0.0.1.evil.example",
            "[x]",
        ] {
            let refusal = refusal(&Method::GET, "/", &[("host", host)]).expect(host);
            assert!(refusal.starts_with("E011: not allowed:") && refusal.contains("localhost"), "{refusal}");
        }
        assert!(refusal(&Method::GET, "/", &[]).is_some());
        assert!(refusal(&Method::GET, "http://evil.example/", &[("host", "localhost")]).is_some());
    }

    #[test]
    fn what_a_page_of_others_can_make_a_browser_send_is_refused() {
        let host = ("host", "127.0.0.1:8080");
        for origin in
            ["http://evil.example", "null", "http://127.0.0.1:8081", "https://127.0.0.1", "127.0.0.1:8080"]
        {
            assert!(refusal(&Method::POST, "/", &[host, JSON, ("origin", origin)]).is_some(), "{origin}");
        }
        for site in ["cross-site", "same-site"] {
            assert!(refusal(&Method::GET, "/", &[host, ("sec-fetch-site", site)]).is_some(), "{site}");
        }
        for form in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
        {
            let refusal = refusal(&Method::POST, "/", &[host, ("content-type", form)]).expect(form);
            assert!(refusal.contains("Content-Type: application/json"), "{refusal}");
        }
        assert!(refusal(&Method::POST, "/", &[host]).is_some());
    }
}
