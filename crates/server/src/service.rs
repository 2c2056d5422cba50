//! The service: what its routes share, and what happens around each of them.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, PoisonError, RwLock},
    time::Instant,
};

use axum::{
    Extension, Router,
    extract::{ConnectInfo, MatchedPath, Request, State},
    http::HeaderValue,
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
};
use engine::pool::Pool;
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    body::Bodies,
    error::{ApiError, Refused},
    operations::Operations,
    routes,
    settings::{Connections, Policy, Settings},
    tokens::Authority,
    trace::{TRACE_ID, TraceId},
};

/// What the routes share.
pub(crate) struct Shared {
    pub(crate) pool: Pool,
    pub(crate) authority: Option<Authority>,
    pub(crate) bodies: Bodies,
    pub(crate) connections: Connections,
    pub(crate) operations: Option<Operations>,
    pub(crate) since: Instant,
    policy: RwLock<Arc<Policy>>,
}

impl Shared {
    /// What requests may ask for now.
    pub(crate) fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The HTTP service. Clones are the same one.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

impl Service {
    /// Over a pool.
    pub fn new(settings: Settings) -> Self {
        let pool = settings.pool;
        let operations =
            settings.administration.map(|administration| Operations::new(administration, pool.clone()));
        let shared = Shared {
            pool,
            authority: settings.authority,
            bodies: Bodies::new(),
            connections: settings.connections,
            operations,
            since: Instant::now(),
            policy: RwLock::new(Arc::new(settings.policy)),
        };
        Self { shared: Arc::new(shared) }
    }

    /// From now on requests may ask for this.
    pub fn set_policy(&self, policy: Policy) {
        *self.shared.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// Cancels operations, takes no more, and waits until none is performed. Whoever waits for a change is answered.
    pub async fn stop_operations(&self) {
        if let Some(operations) = &self.shared.operations {
            operations.stop().await;
        }
    }

    /// All routes.
    pub fn router(&self) -> Router {
        let (router, _) = routes::all().split_for_parts();
        router
            .fallback(not_found)
            .method_not_allowed_fallback(no_such_method)
            .layer(CatchPanicLayer::custom(panicked))
            .layer(from_fn_with_state(Arc::clone(&self.shared), around))
            .with_state(Arc::clone(&self.shared))
    }
}

/// What happens around each request: it gets its id, and is logged and counted.
async fn around(State(_shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let since = Instant::now();
    let trace_id = TraceId::of(request.headers());
    let method = request.method().clone();
    // Not the path itself: it may hold anything, and the query a token.
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    request.extensions_mut().insert(trace_id.clone());
    let mut response = next.run(request).await;
    if let Ok(value) = HeaderValue::from_str(&trace_id.0) {
        response.headers_mut().insert(TRACE_ID, value);
    }
    let refused = response.extensions().get::<Refused>().map(|refused| refused.code.clone());
    tracing::info!(
        trace_id = trace_id.0,
        %method,
        route = route.as_deref().unwrap_or("none"),
        status = response.status().as_u16(),
        refused,
        micros = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX),
        "answered"
    );
    response
}

/// The address of whoever asks.
pub(crate) fn peer(connection: Option<&ConnectInfo<SocketAddr>>) -> Option<IpAddr> {
    connection.map(|ConnectInfo(address)| address.ip())
}

async fn not_found(Extension(trace_id): Extension<TraceId>) -> Response {
    ApiError::NotFound("no such path".to_owned()).respond(&trace_id)
}

async fn no_such_method(Extension(trace_id): Extension<TraceId>) -> Response {
    ApiError::NoSuchMethod.respond(&trace_id)
}

/// A fault of ours ends one request, not the service.
#[expect(clippy::needless_pass_by_value, reason = "the layer passes it so")]
fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
    ApiError::Internal(text.to_owned()).respond(&TraceId::new()).into_response()
}
