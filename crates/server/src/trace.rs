//! The id under which everything speaks of a request.

use axum::http::{HeaderMap, HeaderName};
use uuid::Uuid;

/// The header that brings an id, and takes it back.
pub(crate) const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");

/// What else a client may call it.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The W3C's trace context: `00-<32 hex digits>-<16 hex digits>-<flags>`.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The longest id that is taken from a client: what a guest agent takes.
const MAX_BYTES: usize = 64;

/// The id of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TraceId(pub(crate) String);

impl TraceId {
    /// A new one.
    pub(crate) fn new() -> Self {
        Self(Uuid::now_v7().simple().to_string())
    }

    /// The client's, where it brings one that is harmless in logs; else a new one.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let value = |name: HeaderName| headers.get(name)?.to_str().ok();
        let traced = value(TRACEPARENT).and_then(|parent| parent.split('-').nth(1));
        let traced = traced.filter(|id| id.len() == 32 && id.bytes().any(|byte| byte != b'0'));
        let named = || [TRACE_ID, REQUEST_ID].into_iter().find_map(value);
        let harmless = |id: &&str| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            (1..=MAX_BYTES).contains(&id.len()) && id.bytes().all(is_plain)
        };
        match traced.or_else(named).filter(harmless) {
            Some(id) => Self(id.to_owned()),
            None => Self::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headers: &[(&'static str, &'static str)]) -> String {
        let headers = headers.iter().map(|(name, value)| {
            (HeaderName::from_static(name), axum::http::HeaderValue::from_static(value))
        });
        TraceId::of(&headers.collect()).0
    }

    #[test]
    fn a_clients_id_is_kept_where_it_is_harmless() {
        let parent = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        assert_eq!(of(&[parent, ("x-trace-id", "mine")]), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(of(&[("x-trace-id", "mine-1")]), "mine-1");
        assert_eq!(of(&[("x-request-id", "theirs")]), "theirs");
        for bad in ["", "a b", "a\"b", "ü", "x".repeat(65).leak()] {
            assert_eq!(of(&[("x-trace-id", bad)]).len(), 32, "{bad:?}");
        }
        let zero = ("traceparent", "00-00000000000000000000000000000000-00f067aa0ba902b7-01");
        assert_ne!(of(&[zero]), "0".repeat(32));
    }

    #[test]
    fn two_requests_never_have_the_same_new_id() {
        assert_ne!(of(&[]), of(&[]));
    }
}
