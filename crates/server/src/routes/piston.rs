//! Piston's API: see [`crate::compatible::piston`].

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::Body,
    extract::{Request, State, ws::WebSocketUpgrade},
    http::{HeaderValue, header::AUTHORIZATION},
    response::{IntoResponse as _, Response},
};
use engine::{Answer, RequestError, live::Live};
use serde::Serialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::run::answer;
use crate::{
    administrator::is_of_other_origin,
    caller::{Asker, Envelope},
    compatible::{
        Runtime,
        piston::{
            Message, PackageInfo, RuntimeInfo,
            answer::{Executed, interleaved},
            connect::{MAX_MESSAGE_BYTES, Session},
            request::{Understood, understand},
        },
    },
    error::ApiError,
    listen::Held,
    service::Shared,
    trace::TraceId,
};

/// Where else clients look for it.
const PUBLIC: &str = "/api/v2/piston";

/// Its routes, under all the addresses that clients use.
pub(super) fn all() -> OpenApiRouter<Arc<Shared>> {
    use axum::routing::{any, get, post};
    let mut router = OpenApiRouter::new()
        .routes(routes!(runtimes))
        .routes(routes!(packages))
        .routes(routes!(execute))
        .routes(routes!(connect));
    for base in ["/api/v2", PUBLIC] {
        for end in ["", "/"] {
            if (base, end) == ("/api/v2", "") {
                continue;
            }
            let address = |what: &str| format!("{base}/{what}{end}");
            router = router
                .route(&address("runtimes"), get(runtimes))
                .route(&address("packages"), get(packages))
                .route(&address("execute"), post(execute))
                .route(&address("connect"), any(connect));
        }
    }
    router.layer(axum::middleware::map_request(with_scheme))
}

/// Clients of this API send their token without `Bearer`.
async fn with_scheme(mut request: Request) -> Request {
    let token = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(token) = token.filter(|token| !token.is_empty() && !token.contains(' '))
        && let Ok(value) = HeaderValue::try_from(format!("Bearer {token}"))
    {
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    request
}

/// Lists the languages that can be run, with their versions.
#[utoipa::path(
    get,
    path = "/api/v2/runtimes",
    operation_id = "piston_runtimes",
    tag = "piston",
    responses(
        (status = 200, description = "The languages", body = Vec<RuntimeInfo>),
        (status = 401, description = "Token invalid or missing", body = Message),
        (status = 500, description = "Internal error", body = Message),
        (status = 503, description = "Server busy", body = Message),
    )
)]
async fn runtimes(
    State(shared): State<Arc<Shared>>,
    Extension(trace_id): Extension<TraceId>,
    envelope: Envelope,
) -> Response {
    listed::<RuntimeInfo>(&shared, &trace_id, &envelope).await
}

/// Lists the same as packages, all of which are installed.
#[utoipa::path(
    get,
    path = "/api/v2/packages",
    operation_id = "piston_packages",
    tag = "piston",
    responses(
        (status = 200, description = "The languages", body = Vec<PackageInfo>),
        (status = 401, description = "Token invalid or missing", body = Message),
        (status = 500, description = "Internal error", body = Message),
        (status = 503, description = "Server busy", body = Message),
    )
)]
async fn packages(
    State(shared): State<Arc<Shared>>,
    Extension(trace_id): Extension<TraceId>,
    envelope: Envelope,
) -> Response {
    listed::<PackageInfo>(&shared, &trace_id, &envelope).await
}

/// Runs a program.
#[utoipa::path(
    post,
    path = "/api/v2/execute",
    operation_id = "piston_execute",
    tag = "piston",
    request_body(content = crate::openapi::PistonRequest, content_type = "application/json"),
    responses(
        (status = 200, description = "It ran, however it ended", body = Executed),
        (status = 400, description = "Not a request that can be run", body = Message),
        (status = 401, description = "Token invalid or missing", body = Message),
        (status = 403, description = "The token does not allow it", body = Message),
        (status = 408, description = "The body did not come in time", body = Message),
        (status = 413, description = "The request, or its stdin, is too long", body = Message),
        (status = 429, description = "A quota of the token is used up", body = Message),
        (status = 500, description = "Internal error", body = Message),
        (status = 503, description = "Server busy, or language not prepared", body = Message),
    )
)]
async fn execute(
    State(shared): State<Arc<Shared>>,
    Extension(trace_id): Extension<TraceId>,
    envelope: Envelope,
    body: Body,
) -> Response {
    let executed = async {
        let runtimes = known(&shared, &envelope).await?;
        let limits = shared.compatible.piston.clone().unwrap_or_default();
        let mut runtime = None;
        let understood = |body: &[u8], shared: &Shared| {
            let Understood { request, runtime: chosen } =
                understand(body, &runtimes, &limits, &shared.policy())?.with_line_end();
            runtime = Some(chosen);
            Ok(request)
        };
        let (mut live, events) = Live::watched();
        // Both come to their end together: the events with what tells of them.
        let (shared, trace_id, envelope) = (&shared, &trace_id, &envelope);
        let running =
            async move { answer(shared, trace_id, envelope, body, understood, Some(&mut live)).await };
        let (outcome, output) = tokio::join!(running, interleaved(events));
        match (outcome?.answer, &runtime) {
            (Answer::One(execution), Some(runtime)) => {
                let executed = Executed::new(&execution, output, runtime);
                drop(execution);
                shared.answers.json(executed).await
            }
            _ => Err(ApiError::Internal("an answer without an execution".to_owned())),
        }
    };
    executed.await.unwrap_or_else(|error| told(&error, &trace_id))
}

/// Runs a program on a WebSocket: its output as it is written, its input as it comes.
#[utoipa::path(
    get,
    path = "/api/v2/connect",
    operation_id = "piston_connect",
    tag = "piston",
    responses(
        (status = 101, description = "Now it is a WebSocket: `init`, `data` and `signal` one way, `runtime`, `stage`, `data`, \
            `exit` and `error` the other"),
        (status = 400, description = "No WebSocket was asked for", body = Message),
        (status = 401, description = "Token invalid or missing", body = Message),
        (status = 403, description = "It comes from a web page of others", body = Message),
    )
)]
async fn connect(
    State(shared): State<Arc<Shared>>,
    Extension(trace_id): Extension<TraceId>,
    held: Option<Extension<Arc<Held>>>,
    envelope: Envelope,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Response {
    if shared.authority.is_none() && is_of_other_origin(&envelope.headers) {
        // Browsers let pages of any site speak to any server in this way, and hear its answers.
        let error = ApiError::NotAllowed("without tokens no web page of others may run programs".to_owned());
        return told(&error, &trace_id);
    }
    if let Err(error) = Asker::of(&shared, &envelope).await {
        return told(&error, &trace_id);
    }
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => {
            return told(&ApiError::Request(RequestError::Invalid(rejection.to_string())), &trace_id);
        }
    };
    let limits = shared.compatible.piston.clone().unwrap_or_default();
    let session = Session { shared, trace_id, envelope, limits };
    upgrade.max_message_size(MAX_MESSAGE_BYTES).max_frame_size(MAX_MESSAGE_BYTES).on_upgrade(
        |socket| async move {
            let _kept = held;
            session.converse(socket).await;
        },
    )
}

/// The languages, as one of the lists has them.
async fn listed<T: Serialize + for<'a> From<&'a Runtime>>(
    shared: &Shared,
    trace_id: &TraceId,
    envelope: &Envelope,
) -> Response {
    match known(shared, envelope).await {
        Ok(runtimes) => Json(runtimes.iter().map(T::from).collect::<Vec<_>>()).into_response(),
        Err(error) => told(&error, trace_id),
    }
}

/// The languages, for whoever may ask.
async fn known(shared: &Shared, envelope: &Envelope) -> Result<Vec<Runtime>, ApiError> {
    Asker::of(shared, envelope).await?;
    shared.versions.runtimes(&shared.pool, shared.policy().usual_machine).await
}

/// The error as clients of Piston expect it, with the status that it has everywhere.
fn told(error: &ApiError, trace_id: &TraceId) -> Response {
    let (parts, _) = error.respond(trace_id).into_parts();
    let message = Json(Message { message: error.plain(trace_id) }).into_response();
    let mut response = Response::from_parts(parts, message.into_body());
    response.headers_mut().remove(axum::http::header::CONTENT_LENGTH);
    response
}
