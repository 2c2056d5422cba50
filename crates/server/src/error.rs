//! Errors as clients see them: the page's JSON with a fitting status, and never more than concerns them.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header::RETRY_AFTER, header::WWW_AUTHENTICATE},
    response::{IntoResponse, Response},
};
use engine::{
    Failure, RequestError, RunError, chain,
    pool::{PoolError, Refusal},
};

use crate::{
    jobs::AskError,
    keeper::NoAnswer,
    operations::{AdministrationError, SubmitError},
    tokens::{AdmitError, AuthError, NotAllowed, QuotaExceeded},
    trace::TraceId,
};

/// Why a request is not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// It is not what it may be.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Its body is longer than any request.
    #[error("E007: invalid request: the body is longer than {0} bytes")]
    BodyTooLong(usize),
    /// Its body did not come in time.
    #[error("E001: operation timed out: the body did not come within {} s", .0.as_secs())]
    BodyTimedOut(Duration),
    /// Its body broke off.
    #[error("E007: invalid request: the body broke off")]
    BodyBroken,
    /// Bodies of others take all the memory that there is for them.
    #[error("E008: server busy")]
    BodiesBusy,
    /// It has run, and answers that their clients do not take fill all the memory that there is for them.
    #[error("E008: server busy: too many answers wait for their clients")]
    AnswersBusy,
    /// There is a token missing.
    #[error("E004: access_token missing")]
    TokenMissing,
    /// The token is no good.
    #[error("E003: invalid access_token")]
    TokenInvalid,
    /// The token's quota is used up.
    #[error(transparent)]
    Quota(QuotaExceeded),
    /// The token does not allow it.
    #[error("E011: not allowed: {0}")]
    NotAllowed(String),
    /// Tokens cannot be looked up, or their quotas not be kept.
    #[error("E010: internal error: the tokens' database cannot be used{}", .0.reason())]
    Authority(#[source] NoAnswer),
    /// There is no such language.
    #[error("E006: unsupported language {0}")]
    NoSuchLanguage(String),
    /// There is no such thing.
    #[error("E012: not found: {0}")]
    NotFound(String),
    /// There is, but not by this method.
    #[error("E012: not found: no such method here")]
    NoSuchMethod,
    /// An operation was not taken.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// Images or snapshots could not be listed.
    #[error(transparent)]
    Administration(#[from] AdministrationError),
    /// The pool has not served it.
    #[error("the pool did not serve the request")]
    Pool(#[source] PoolError),
    /// A job was not taken.
    #[error(transparent)]
    Job(#[from] AskError),
    /// Something is wrong with us.
    #[error("E010: internal error")]
    Internal(String),
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Missing => Self::TokenMissing,
            AuthError::Invalid => Self::TokenInvalid,
            AuthError::Unavailable(source) => Self::Authority(source),
        }
    }
}

impl From<NoAnswer> for ApiError {
    fn from(error: NoAnswer) -> Self {
        Self::Job(AskError::Store(error))
    }
}

impl From<AdmitError> for ApiError {
    fn from(error: AdmitError) -> Self {
        match error {
            AdmitError::Quota(quota) => Self::Quota(quota),
            AdmitError::Invalid => Self::TokenInvalid,
            AdmitError::Unavailable(source) => Self::Authority(source),
        }
    }
}

impl From<NotAllowed> for ApiError {
    fn from(error: NotAllowed) -> Self {
        Self::NotAllowed(error.to_string())
    }
}

impl ApiError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Request(RequestError::StdinTooLong) | Self::BodyTooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Request(_) | Self::BodyBroken | Self::Administration(AdministrationError::Invalid(_)) => {
                StatusCode::BAD_REQUEST
            }
            Self::BodyTimedOut(_) => StatusCode::REQUEST_TIMEOUT,
            Self::TokenMissing | Self::TokenInvalid => StatusCode::UNAUTHORIZED,
            Self::Job(AskError::OtherBody) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Quota(_) | Self::Job(AskError::CallerFull(_)) => StatusCode::TOO_MANY_REQUESTS,
            Self::NotAllowed(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) | Self::NoSuchLanguage(_) => StatusCode::NOT_FOUND,
            Self::NoSuchMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::Authority(_)
            | Self::BodiesBusy
            | Self::AnswersBusy
            | Self::Job(AskError::Full(_) | AskError::Store(_))
            | Self::Submit(_)
            | Self::Administration(AdministrationError::TimedOut | AdministrationError::Cancelled) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Internal(_) | Self::Administration(AdministrationError::Failed(_)) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Self::Pool(error) => pool_status(error),
        }
    }

    /// When another attempt may be worth it.
    fn retry_after(&self) -> Option<Duration> {
        /// Where nobody knows.
        const SOON: Duration = Duration::from_secs(1);
        match self {
            Self::Quota(quota) => Some(quota.retry_after()),
            Self::Job(AskError::CallerFull(_)) => Some(SOON),
            Self::Pool(PoolError::Refused(Refusal::Busy { retry_after })) => Some(*retry_after),
            _ if self.status() == StatusCode::SERVICE_UNAVAILABLE => Some(SOON),
            _ => None,
        }
    }

    /// What the client is told.
    pub(crate) fn page(&self, trace_id: &str) -> String {
        match self {
            Self::Pool(PoolError::Refused(refusal)) => match refusal {
                Refusal::Busy { .. } => "E008: server busy".to_owned(),
                Refusal::Stopping => "E008: server busy: it is being stopped".to_owned(),
                Refusal::TimedOut => "E001: operation timed out".to_owned(),
                Refusal::TooLarge => {
                    "E007: invalid request: memory_mb: more than this service has".to_owned()
                }
                Refusal::Failed => format!("E010: internal error (trace id {trace_id})"),
            },
            // Not the command that would help: it is for the operator, who finds it in the log.
            Self::Pool(PoolError::Run(RunError::NotPrepared { language, .. })) => not_prepared(language),
            Self::Pool(PoolError::Start(error)) => match &**error {
                RunError::NotPrepared { language, .. } => not_prepared(language),
                error => error.page(trace_id),
            },
            Self::Pool(PoolError::Run(error)) => error.page(trace_id),
            Self::Internal(_) => format!("E010: internal error (trace id {trace_id})"),
            told => told.to_string(),
        }
    }

    /// What the client is told, without a code where it is about what the client said: for APIs of others.
    pub(crate) fn plain(&self, trace_id: &TraceId) -> String {
        match self {
            Self::Request(RequestError::Invalid(what)) => what.clone(),
            other => other.page(&trace_id.0),
        }
    }

    /// The code of its message, for metrics.
    pub(crate) fn code(&self) -> String {
        self.page("").chars().take_while(|c| *c != ':').collect()
    }

    /// Whether it is ours to mend, and neither the client's fault nor a matter of load.
    pub(crate) fn is_fault(&self) -> bool {
        let is_load = matches!(
            self,
            Self::Pool(PoolError::Refused(_))
                | Self::BodiesBusy
                | Self::AnswersBusy
                | Self::Submit(_)
                | Self::Job(AskError::Full(_))
        );
        self.status().is_server_error() && !is_load
    }

    /// As an answer. Logged in the span of the request, which has its id.
    pub(crate) fn respond(&self, trace_id: &TraceId) -> Response {
        let status = self.status();
        let failure = self.failure(trace_id);
        let mut response = (status, Json(failure)).into_response();
        if let Some(after) = self.retry_after() {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(Refused { code: self.code() });
        response
    }

    /// As the page says it, for an answer whose status has been told. Logged like an answer.
    pub(crate) fn failure(&self, trace_id: &TraceId) -> Failure {
        let mut error = chain(self);
        if let Self::Internal(reason) = self {
            error = format!("{error}: {reason}");
        }
        if self.is_fault() {
            let hint = self.hint();
            tracing::error!(error, hint, "a request failed");
        } else {
            tracing::debug!(error, "a request was refused");
        }
        Failure::new(&self.page(&trace_id.0), &trace_id.0)
    }

    /// What the operator can do about it.
    fn hint(&self) -> Option<String> {
        match self {
            Self::Pool(PoolError::Run(error)) => error.hint(),
            Self::Pool(PoolError::Start(error)) => error.hint(),
            Self::Authority(error) | Self::Job(AskError::Store(error)) => error.hint(),
            _ => None,
        }
    }
}

/// Goes with the answer to a request that was refused, for metrics.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    /// `E007` and its like.
    pub(crate) code: String,
}

fn pool_status(error: &PoolError) -> StatusCode {
    let run = match error {
        PoolError::Refused(Refusal::TooLarge) => return StatusCode::BAD_REQUEST,
        PoolError::Refused(Refusal::Failed) => return StatusCode::INTERNAL_SERVER_ERROR,
        PoolError::Refused(_) => return StatusCode::SERVICE_UNAVAILABLE,
        PoolError::Start(error) => &**error,
        PoolError::Run(error) => error,
    };
    match run {
        RunError::NotPrepared { .. } => StatusCode::SERVICE_UNAVAILABLE,
        error if error.shortage().is_some() || error.page("").starts_with("E001") => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn not_prepared(language: &store::Language) -> String {
    format!("E009: language not prepared: {language}")
}
