//! The id under which everything speaks of a request.

use axum::http::{HeaderMap, HeaderName};
use uuid::Uuid;

/// The header that brings an id, and takes it back.
pub(crate) const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");

/// What else a client may call it.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The W3C's trace context: `00-<32 hex digits>-<16 hex digits>-<flags>`.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// A span of a client's that a request belongs to, as `traceparent` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParentSpan {
    /// The trace; never 0.
    pub trace_id: u128,
    /// The span; never 0.
    pub span_id: u64,
    /// Whether the client has its part of the trace recorded.
    pub sampled: bool,
}

impl ParentSpan {
    /// Of a request, where it names one as the W3C wants it.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut parts = headers.get(TRACEPARENT)?.to_str().ok()?.split('-');
        let mut part = |length: usize| {
            let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            parts.next().filter(|part| part.len() == length && part.bytes().all(is_hex))
        };
        let (version, trace_id, span_id, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        let trace_id = u128::from_str_radix(trace_id, 16).ok()?;
        let span_id = u64::from_str_radix(span_id, 16).ok()?;
        let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        // Later versions may have more parts; ff is none.
        let is_valid = version != "ff" && trace_id != 0 && span_id != 0;
        is_valid.then_some(Self { trace_id, span_id, sampled })
    }
}

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
        if let Some(parent) = ParentSpan::of(headers) {
            return Self(format!("{:032x}", parent.trace_id));
        }
        let named = [TRACE_ID, REQUEST_ID].into_iter().find_map(value);
        let harmless = |id: &&str| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            (1..=MAX_BYTES).contains(&id.len()) && id.bytes().all(is_plain)
        };
        match named.filter(harmless) {
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
            let value = axum::http::HeaderValue::from_bytes(value.as_bytes()).unwrap();
            (HeaderName::from_static(name), value)
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
    fn a_parent_is_taken_as_the_w3c_writes_it_or_not_at_all() {
        let parent = |text: &'static str| {
            ParentSpan::of(&HeaderMap::from_iter([(TRACEPARENT, axum::http::HeaderValue::from_static(text))]))
        };
        let expected =
            ParentSpan { trace_id: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, span_id: 0xb7, sampled: true };
        assert_eq!(parent("00-4bf92f3577b34da6a3ce929d0e0e4736-00000000000000b7-01"), Some(expected));
        assert_eq!(
            parent("01-4bf92f3577b34da6a3ce929d0e0e4736-00000000000000b7-02-more"),
            Some(ParentSpan { sampled: false, ..expected })
        );
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00000000000000b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00000000000000b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00000000000000b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00000000000000b7-01",
            "00-00000000000000000000000000000000-00000000000000b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert_eq!(parent(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn two_requests_never_have_the_same_new_id() {
        assert_ne!(of(&[]), of(&[]));
    }
}
