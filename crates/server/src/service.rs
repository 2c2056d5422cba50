//! The service: what its routes share, and what happens around each of them.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use axum::{
    Extension, Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, Method},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use engine::pool::Pool;
use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, field::Empty};

use crate::{
    answers::Answers,
    body::Bodies,
    compatible::Versions,
    error::{ApiError, Refused},
    jobs::Jobs,
    metrics::{HttpAnswered, Metrics, Traces},
    operations::Operations,
    routes,
    settings::{Compatible, Connections, Policy, Settings},
    tokens::Authority,
    trace::{TRACE_ID, TraceId},
};

/// What the routes share.
pub(crate) struct Shared {
    pub(crate) pool: Pool,
    pub(crate) authority: Option<Authority>,
    pub(crate) bodies: Bodies,
    pub(crate) answers: Answers,
    pub(crate) connections: Connections,
    pub(crate) operations: Option<Operations>,
    pub(crate) jobs: Option<Jobs>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) traces: Option<Arc<dyn Traces>>,
    pub(crate) since: Instant,
    pub(crate) compatible: Compatible,
    pub(crate) versions: Versions,
    /// Ends conversations that outlive their request.
    pub(crate) cut: CancellationToken,
    pub(crate) page: bool,
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
            answers: Answers::new(),
            connections: settings.connections,
            operations,
            jobs: settings.jobs,
            metrics: settings.metrics,
            traces: settings.traces,
            since: Instant::now(),
            compatible: settings.compatible,
            versions: Versions::default(),
            cut: CancellationToken::new(),
            page: settings.page,
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

    /// Cuts off what goes on after its request: `WebSocket`s.
    pub fn cut(&self) {
        self.shared.cut.cancel();
    }

    /// Begins no more jobs, and waits until none runs, for so long.
    pub async fn stop_jobs(&self, patience: Duration) {
        if let Some(jobs) = &self.shared.jobs {
            jobs.stop(patience).await;
        }
    }

    /// Interrupts jobs that run, and waits until that is noted: each is run again, or fails, as it was asked for.
    pub async fn end_jobs(&self) {
        if let Some(jobs) = &self.shared.jobs {
            jobs.end().await;
        }
    }

    /// All routes.
    pub fn router(&self) -> Router {
        let (router, _) = routes::served(&self.shared.compatible).split_for_parts();
        router
            .fallback(not_found)
            .method_not_allowed_fallback(no_such_method)
            .layer(from_fn_with_state(Arc::clone(&self.shared), around))
            .with_state(Arc::clone(&self.shared))
    }
}

/// What happens around each request: it gets its id, and is logged and counted.
async fn around(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let since = Instant::now();
    let trace_id = TraceId::of(request.headers());
    let method = request.method().clone();
    // Not the path itself: it may hold anything, and the query a token.
    let route = request.extensions().get::<MatchedPath>().map(|path| Arc::from(path.as_str()));
    request.extensions_mut().insert(trace_id.clone());
    // Of the highest level, or lines of higher ones would come without it where others are not wanted. What is not known
    // yet is recorded by `metrics::Recorded`.
    let span = tracing::error_span!(
        "request",
        trace_id = trace_id.0,
        language = Empty,
        outcome = Empty,
        queue_micros = Empty,
        run_micros = Empty
    );
    // A fault of ours ends one request, not the service.
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span.clone()).await;
    let answered = answered.unwrap_or_else(|panic| span.in_scope(|| panicked(&*panic, &trace_id)));
    answer(&shared, &span, &trace_id, Answered { method, route, since, response: answered })
}

/// An answer that is about to leave.
struct Answered {
    method: Method,
    route: Option<Arc<str>>,
    since: Instant,
    response: Response,
}

fn answer(shared: &Shared, span: &Span, trace_id: &TraceId, answered: Answered) -> Response {
    let Answered { method, route, since, mut response } = answered;
    if let Ok(value) = HeaderValue::from_str(&trace_id.0) {
        response.headers_mut().insert(TRACE_ID, value);
    }
    let (status, took) = (response.status(), since.elapsed());
    let refused = response.extensions().get::<Refused>().map(|refused| refused.code.as_str());
    let name = route.as_deref().unwrap_or("none");
    span.in_scope(|| {
        tracing::info!(
            %method,
            route = name,
            status = status.as_u16(),
            refused,
            micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            "answered"
        );
    });
    shared.metrics.answered(HttpAnswered { route, method, status, took }, &trace_id.0);
    response
}

async fn not_found(Extension(trace_id): Extension<TraceId>) -> Response {
    ApiError::NotFound("no such path".to_owned()).respond(&trace_id)
}

async fn no_such_method(Extension(trace_id): Extension<TraceId>) -> Response {
    ApiError::NoSuchMethod.respond(&trace_id)
}

fn panicked(panic: &(dyn std::any::Any + Send), trace_id: &TraceId) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
    ApiError::Internal(text.to_owned()).respond(trace_id)
}
