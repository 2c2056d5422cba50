//! `/api/v1/jobs`: requests that are accepted now and run when there is room.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    body::Body,
    extract::{
        FromRequestParts, Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::LOCATION, request::Parts},
    response::{IntoResponse as _, Response},
};
use engine::{Request, request};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::{
    bad_query,
    run::check_policy,
    wait::{Wait, wait},
};
use crate::{
    administrator::{invalid, no_site_of_others},
    body::Received,
    caller::Asker,
    error::ApiError,
    jobs::{Asked, Filter, IfInterrupted, Job, JobPage, JobState, Jobs, Key, Removed, Taken, Viewer},
    service::Shared,
    tokens::Permit,
    trace::TraceId,
    types::Failed,
};

/// Under which a client may ask for a job again without getting another.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The longest key, in bytes.
const MAX_KEY_BYTES: usize = 255;

/// The most jobs of one page of a list.
const MAX_PAGE: u32 = 1000;

/// And where nobody says how many.
const USUAL_PAGE: u32 = 100;

/// A job that is asked for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateJob {
    /// What is to be run: a request of `run`.
    #[schema(value_type = crate::openapi::RunRequest)]
    request: Box<RawValue>,
    /// Whom its end is told: a POST with the job, signed as Standard Webhooks has it. An http or https URL of a public
    /// address; at most 2048 bytes.
    #[schema(max_length = 2048)]
    callback_url: Option<String>,
    /// What is to become of it if the process dies while it runs: `rerun`, so that its program may run more than once, or
    /// `fail`. Default: `rerun`.
    if_interrupted: Option<IfInterrupted>,
    /// For how many seconds it is kept once it has ended. Default: what the service is configured to.
    #[serde(default, deserialize_with = "seconds")]
    #[schema(minimum = 1)]
    expires_after: Option<u64>,
}

fn seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    request::whole_number(deserializer)
}

/// Accepts a request, to be run when there is room.
///
/// The answer comes when the job is on disk: from then on it is run, whatever becomes of the process. With an
/// `Idempotency-Key` the same request gets the same job, however often it is sent.
#[utoipa::path(
    post,
    path = "/api/v1/jobs",
    operation_id = "create_job",
    tag = "jobs",
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[!-~]+$",
        description = "The same key, from the same caller, with the same body gets the same job, as long as that is kept")),
    request_body(content = CreateJob, content_type = "application/json"),
    responses(
        (status = 200, description = "The job that was accepted under this key before", body = Job),
        (status = 202, description = "It is accepted", body = Job,
         headers(("Location" = String, description = "Where it can be followed"))),
        (status = 400, description = "E006, E007: not a request that can be run, or not a URL that can be told", body = Failed),
        (status = 401, description = "E003, E004: token invalid or missing", body = Failed),
        (status = 403, description = "E011: the token does not allow it; or, where none is asked for, it may come from a web page of others", body = Failed),
        (status = 404, description = "E012: there are no jobs here", body = Failed),
        (status = 408, description = "E001: the body did not come in time", body = Failed),
        (status = 413, description = "E005, E007: stdin, or the whole request, too long", body = Failed),
        (status = 422, description = "E007: the key was used with another body", body = Failed),
        (status = 429, description = "E002: a quota of the token, or the caller's part of the queue, is used up", body = Failed),
        (status = 500, description = "E010: internal error", body = Failed),
        (status = 503, description = "E008, E010: too many jobs, or they cannot be kept now", body = Failed),
    )
)]
pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    Extension(trace_id): Extension<TraceId>,
    JobAsker(asker): JobAsker,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match take(&shared, &asker, &trace_id, &headers, body).await {
        Ok(Taken { job, was_known: true }) => Json(job).into_response(),
        Ok(Taken { job, was_known: false }) => accepted(job),
        Err(error) => error.respond(&trace_id),
    }
}

/// Whoever asks about jobs: without tokens that is everybody, and jobs are kept, hold what others asked for, and are told of
/// to other hosts. So no web page of others is let in.
pub(super) struct JobAsker(Asker);

impl FromRequestParts<Arc<Shared>> for JobAsker {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Response> {
        let asker = Asker::from_request_parts(parts, shared).await?;
        let may = match asker {
            Asker::Token(_) => Ok(()),
            Asker::Anybody(_) => no_site_of_others(&parts.uri, &parts.headers),
        };
        may.map(|()| Self(asker)).map_err(|error| {
            let trace_id = parts.extensions.get::<TraceId>().cloned().unwrap_or_else(TraceId::new);
            error.respond(&trace_id)
        })
    }
}

fn accepted(job: Job) -> Response {
    let location = format!("/api/v1/jobs/{}", job.summary.id);
    let mut response = (StatusCode::ACCEPTED, Json(job)).into_response();
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

async fn take(
    shared: &Shared,
    asker: &Asker,
    trace_id: &TraceId,
    headers: &HeaderMap,
    body: Body,
) -> Result<Taken, ApiError> {
    let jobs = jobs(shared)?;
    let key = key(headers)?;
    let Received { bytes, room: _room } =
        shared.bodies.receive(body, shared.connections.body_timeout).await?;
    let created: CreateJob = request::from_json_object(&bytes)?;
    let key = key.map(|text| Key::new(text, &bytes));
    let owner = asker.owner();
    // Before it is judged and counted: it was, when it came first.
    if let Some(key) = &key
        && let Some(known) = jobs.known(&owner, key).await?
    {
        return Ok(known);
    }
    let text = created.request.get().as_bytes();
    let request = Request::from_json(text, shared.pool.engine().languages())?;
    let policy = shared.policy();
    check_policy(&request, &policy)?;
    if let Some(url) = &created.callback_url {
        jobs.check_callback(url).map_err(|error| invalid("callback_url", error))?;
    }
    let longest = jobs.longest_lifetime();
    let lifetime = created.expires_after.map(Duration::from_secs);
    if lifetime.is_some_and(|lifetime| lifetime.is_zero() || lifetime > longest) {
        return Err(invalid("expires_after", format_args!("1 to {} seconds", longest.as_secs())));
    }
    let machine = shared.pool.machine_for(&request.language.name, request.memory_mib, policy.usual_machine);
    let permit = asker.admit(shared, &request, machine).await?;
    let job = Asked {
        owner,
        tenant: asker.tenant().0.to_string(),
        trace_id: trace_id.0.clone(),
        language: request.language.name.to_string(),
        machine,
        executions: request.executions(),
        request: text.to_vec(),
        if_interrupted: created.if_interrupted.unwrap_or_default(),
        lifetime,
        callback_url: created.callback_url,
        key,
    };
    let taken = jobs.take(job).await;
    // It is run without a request that waits for it.
    match &taken {
        Ok(Taken { was_known: false, .. }) => {}
        Ok(_) | Err(_) => take_back(permit).await,
    }
    Ok(taken?)
}

/// Takes back what was counted for a job that there will not be.
async fn take_back(permit: Option<Permit>) {
    if let Some(permit) = permit
        && let Err(error) = permit.refund().await
    {
        // It stays counted, which is the lesser fault.
        tracing::warn!(error = engine::chain(&error), "cannot take back a count");
    }
}

fn key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(invalid("Idempotency-Key", "there are several"));
    }
    let is_key =
        (1..=MAX_KEY_BYTES).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic);
    match value.to_str() {
        Ok(text) if is_key => Ok(Some(text.to_owned())),
        _ => Err(invalid("Idempotency-Key", format_args!("1 to {MAX_KEY_BYTES} visible ASCII characters"))),
    }
}

/// Reads a body, for `fuzz/`.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_body(body: &[u8], languages: &engine::Languages) -> Option<Request> {
    let created: CreateJob = request::from_json_object(body).ok()?;
    Request::from_json(created.request.get().as_bytes(), languages).ok()
}

/// Reads a head, for `fuzz/`.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_head(uri: &axum::http::Uri, headers: &HeaderMap) {
    if let Ok(Some(key)) = key(headers) {
        assert!((1..=MAX_KEY_BYTES).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()));
    }
    let _ = (Query::<Which>::try_from_uri(uri), Query::<Wait>::try_from_uri(uri));
    let _ = no_site_of_others(uri, headers);
}

/// Which jobs are to be listed.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Those in this state.
    state: Option<JobState>,
    /// Those that were accepted after this time, as in 2027-01-01T12:00:00Z.
    #[param(value_type = Option<String>, format = DateTime)]
    created_after: Option<Timestamp>,
    /// Those that were accepted before it.
    #[param(value_type = Option<String>, format = DateTime)]
    created_before: Option<Timestamp>,
    /// Those behind the page that gave it as `next`.
    #[param(value_type = Option<String>, pattern = "^[0-9]{1,18}$")]
    cursor: Option<u64>,
    /// How many at most. Default: 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// A token, where it is not in a header.
    #[param(ignore)]
    #[serde(rename = "access_token")]
    _access_token: Option<String>,
}

/// Lists jobs, newest first, without their results: the caller's own, and for administrators all.
#[utoipa::path(
    get,
    path = "/api/v1/jobs",
    operation_id = "list_jobs",
    tag = "jobs",
    params(Which),
    responses(
        (status = 200, description = "A page of jobs", body = JobPage),
        (status = 400, description = "E007: not a filter", body = Failed),
        (status = 401, description = "E003, E004: token invalid or missing", body = Failed),
        (status = 403, description = "E011: where no token is asked for, it may come from a web page of others", body = Failed),
        (status = 404, description = "E012: there are no jobs here", body = Failed),
        (status = 503, description = "E010: jobs, or tokens, cannot be read now", body = Failed),
    )
)]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Extension(trace_id): Extension<TraceId>,
    JobAsker(asker): JobAsker,
    query: Result<Query<Which>, QueryRejection>,
) -> Response {
    let answer = async {
        let Query(which) = query.map_err(bad_query)?;
        let limit = which.limit.unwrap_or(USUAL_PAGE);
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(invalid("limit", format_args!("1 to {MAX_PAGE}")));
        }
        let filter = Filter {
            state: which.state,
            created_after: which.created_after.map(Timestamp::as_millisecond),
            created_before: which.created_before.map(Timestamp::as_millisecond),
            cursor: which.cursor.map(|cursor| i64::try_from(cursor).unwrap_or(i64::MAX)),
            limit,
        };
        Ok(jobs(&shared)?.list(asker.viewer(), filter).await?)
    };
    match answer.await {
        Ok(page) => Json(page).into_response(),
        Err(error) => error.respond(&trace_id),
    }
}

/// Shows a job with its result, at once or when its state has changed.
#[utoipa::path(
    get,
    path = "/api/v1/jobs/{id}",
    operation_id = "show_job",
    tag = "jobs",
    params(
        ("id" = String, Path, description = "The job"),
        ("wait" = Option<u64>, Query, maximum = 60,
         description = "For how many seconds to wait for a change of its state. One that has ended changes no more."),
    ),
    responses(
        (status = 200, description = "The job", body = Job),
        (status = 400, description = "E007: not a number of seconds", body = Failed),
        (status = 401, description = "E003, E004: token invalid or missing", body = Failed),
        (status = 403, description = "E011: where no token is asked for, it may come from a web page of others", body = Failed),
        (status = 404, description = "E012: there is none of the caller's, or it was forgotten", body = Failed),
        (status = 503, description = "E010: jobs, or tokens, cannot be read now", body = Failed),
    )
)]
pub(super) async fn one(
    State(shared): State<Arc<Shared>>,
    Extension(trace_id): Extension<TraceId>,
    JobAsker(asker): JobAsker,
    id: Result<Path<String>, PathRejection>,
    query: Result<Query<Wait>, QueryRejection>,
) -> Response {
    let answer = async {
        let wait = wait(query)?;
        let (Path(id), jobs) = (id.map_err(|_| unknown())?, jobs(&shared)?);
        let job = jobs.get(&asker.viewer(), &id, wait).await?.ok_or_else(unknown)?;
        shared.answers.json(job).await
    };
    answer.await.unwrap_or_else(|error| error.respond(&trace_id))
}

/// Cancels a job that waits or runs; forgets one that has ended, with its result.
#[utoipa::path(
    delete,
    path = "/api/v1/jobs/{id}",
    operation_id = "cancel_job",
    tag = "jobs",
    params(("id" = String, Path, description = "The job")),
    responses(
        (status = 200, description = "It is cancelled; its microVM ends now, if it has one", body = Job),
        (status = 204, description = "It had ended, and is forgotten"),
        (status = 401, description = "E003, E004: token invalid or missing", body = Failed),
        (status = 403, description = "E011: where no token is asked for, it may come from a web page of others", body = Failed),
        (status = 404, description = "E012: there is none of the caller's, or it was forgotten", body = Failed),
        (status = 503, description = "E010: jobs, or tokens, cannot be read now", body = Failed),
    )
)]
pub(super) async fn remove(
    State(shared): State<Arc<Shared>>,
    Extension(trace_id): Extension<TraceId>,
    JobAsker(asker): JobAsker,
    id: Result<Path<String>, PathRejection>,
) -> Response {
    let answer = async {
        let (Path(id), jobs) = (id.map_err(|_| unknown())?, jobs(&shared)?);
        jobs.remove(&asker.viewer(), &id).await?.ok_or_else(unknown)
    };
    match answer.await {
        Ok(Removed::Cancelled(job)) => Json(*job).into_response(),
        Ok(Removed::Forgotten) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => error.respond(&trace_id),
    }
}

impl Asker {
    /// Whose the jobs are that it asks for.
    fn owner(&self) -> String {
        match self {
            Self::Token(caller) => caller.id().to_string(),
            Self::Anybody(_) => String::new(),
        }
    }

    /// Which jobs it may see. Where no tokens are asked for, everybody may do everything.
    fn viewer(&self) -> Viewer {
        match self {
            Self::Token(caller) if caller.allows_administration().is_err() => Viewer::Owner(self.owner()),
            Self::Token(_) | Self::Anybody(_) => Viewer::Administrator,
        }
    }
}

fn jobs(shared: &Shared) -> Result<&Jobs, ApiError> {
    shared.jobs.as_ref().ok_or_else(|| ApiError::NotFound("there are no jobs here".to_owned()))
}

fn unknown() -> ApiError {
    ApiError::NotFound("no such job".to_owned())
}
