//! Who asks: the token of a request, and what it allows.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{HeaderMap, HeaderName, Uri, header::AUTHORIZATION, request::Parts},
    response::Response,
};
use engine::{Request, pool::Tenant};
use vmm::spec::MachineSpec;

use crate::{
    error::ApiError,
    service::Shared,
    tokens::{Caller, Permit},
    trace::TraceId,
};

/// A header for a token, beside `Authorization: Bearer`.
const ACCESS_TOKEN: HeaderName = HeaderName::from_static("x-access-token");

/// The parameter for one in the query.
const ACCESS_TOKEN_PARAMETER: &str = "access_token";

/// How a request came, besides its body.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    pub(crate) headers: HeaderMap,
    pub(crate) uri: Uri,
    pub(crate) peer: Option<IpAddr>,
}

impl Envelope {
    /// Of a request whose head is at hand.
    pub(crate) fn of(parts: &Parts) -> Self {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
        Self { headers: parts.headers.clone(), uri: parts.uri.clone(), peer }
    }
}

impl<S: Sync> FromRequestParts<S> for Envelope {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) enum Asker {
    /// Whoever has this token.
    Token(Arc<Caller>),
    /// Anybody, where no tokens are asked for. Told apart by their address, so that one does not take the turn of
    /// another.
    Anybody(Option<IpAddr>),
}

/// For routes that anybody with a token may ask.
impl FromRequestParts<Arc<Shared>> for Asker {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Response> {
        let asked = Self::of(shared, &Envelope::of(parts)).await;
        asked.map_err(|error| {
            let trace_id = parts.extensions.get::<TraceId>().cloned().unwrap_or_else(TraceId::new);
            error.respond(&trace_id)
        })
    }
}

impl Asker {
    /// Of a request.
    pub(crate) async fn of(shared: &Shared, envelope: &Envelope) -> Result<Self, ApiError> {
        let Some(authority) = &shared.authority else { return Ok(Self::Anybody(envelope.peer)) };
        let presented = presented(&envelope.headers, &envelope.uri);
        Ok(Self::Token(Arc::new(authority.authenticate(presented.as_deref()).await?)))
    }

    /// Counts a request that is to run so much, or refuses it.
    pub(crate) async fn admit(
        &self,
        shared: &Shared,
        request: &Request,
        machine: MachineSpec,
    ) -> Result<Option<Permit>, ApiError> {
        let (Some(authority), Self::Token(caller)) = (&shared.authority, self) else { return Ok(None) };
        caller.allows(&request.language.name, machine.memory_mib, request.timeout)?;
        Ok(Some(authority.admit(caller, request.executions()).await?))
    }

    /// On whose behalf its requests wait.
    pub(crate) fn tenant(&self) -> Tenant {
        match self {
            Self::Token(caller) => Tenant(Arc::from(caller.id().as_str())),
            Self::Anybody(Some(address)) => Tenant(Arc::from(address.to_string())),
            Self::Anybody(None) => Tenant(Arc::from("")),
        }
    }
}

/// The token that a request presents: the first that there is of `Authorization`, `X-Access-Token` and `access_token`.
pub(crate) fn presented(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let bearer = text(AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    let in_query = || {
        let mut parameters = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
        // Tokens hold nothing that a query has to escape.
        parameters.find(|(name, _)| *name == ACCESS_TOKEN_PARAMETER).map(|(_, token)| token.to_owned())
    };
    bearer.or_else(|| text(ACCESS_TOKEN)).or_else(in_query)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn token(headers: &[(&'static str, &'static str)], uri: &'static str) -> Option<String> {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        presented(&headers.collect(), &Uri::from_static(uri))
    }

    #[test]
    fn a_token_is_found_wherever_clients_put_it() {
        assert_eq!(token(&[("authorization", "Bearer abc")], "/").as_deref(), Some("abc"));
        assert_eq!(token(&[("authorization", "bearer  abc ")], "/").as_deref(), Some("abc"));
        assert_eq!(token(&[("x-access-token", "abc")], "/").as_deref(), Some("abc"));
        assert_eq!(token(&[], "/x?a=b&access_token=abc").as_deref(), Some("abc"));
        assert_eq!(token(&[("authorization", "Basic abc")], "/?access_token="), Some(String::new()));
        assert_eq!(token(&[("authorization", "Basic abc")], "/"), None);
    }
}
