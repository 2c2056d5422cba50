//! Waiting for a change of what is asked for.

use std::time::Duration;

use axum::extract::{Query, rejection::QueryRejection};
use serde::Deserialize;

use super::bad_query;
use crate::{administrator::invalid, error::ApiError};

/// How long a change may be waited for, in seconds: less than what proxies give an answer.
const MAX_WAIT_SECONDS: u64 = 60;

/// How something is asked for.
#[derive(Deserialize)]
pub(super) struct Wait {
    wait: Option<u64>,
}

/// How long to wait; not at all where nobody says.
pub(super) fn wait(query: Result<Query<Wait>, QueryRejection>) -> Result<Duration, ApiError> {
    let Query(Wait { wait }) = query.map_err(bad_query)?;
    match wait.unwrap_or_default() {
        seconds if seconds > MAX_WAIT_SECONDS => {
            Err(invalid("wait", format_args!("at most {MAX_WAIT_SECONDS} seconds")))
        }
        seconds => Ok(Duration::from_secs(seconds)),
    }
}
