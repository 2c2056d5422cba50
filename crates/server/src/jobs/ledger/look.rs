//! How jobs are looked at.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, named_params, types::Type};
use serde_json::value::RawValue;

use crate::jobs::job::{Callback, CallbackState, IfInterrupted, Job, JobPage, JobState, JobSummary, Millis};

/// Who looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Viewer {
    /// Of one owner's.
    Owner(String),
    /// Of everybody's.
    Administrator,
}

impl Viewer {
    pub(super) fn owner(&self) -> Option<&str> {
        match self {
            Self::Owner(owner) => Some(owner),
            Self::Administrator => None,
        }
    }
}

/// Which jobs a list is of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) state: Option<JobState>,
    pub(crate) created_after: Option<Millis>,
    pub(crate) created_before: Option<Millis>,
    /// Behind the one of this number.
    pub(crate) cursor: Option<i64>,
    pub(crate) limit: u32,
}

/// How many jobs there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// That wait.
    pub(crate) queued: u64,
    /// That run.
    pub(crate) running: u64,
    /// In all.
    pub(crate) kept: u64,
    /// What they take.
    pub(crate) bytes: u64,
    /// Callbacks that are due, or will be.
    pub(crate) callbacks: u64,
}

const COLUMNS: &str = "number, id, tenant, trace_id, state, language, executions, rerun, attempt, created, started, \
    finished, expires, error, callback_url, callback_attempts, callback_due, callback_delivered, callback_error";

/// The job of this id, if it is one that `viewer` may see.
pub(in crate::jobs) fn job(
    connection: &Connection,
    viewer: &Viewer,
    id: &str,
) -> rusqlite::Result<Option<Job>> {
    let query =
        format!("SELECT {COLUMNS}, result FROM job WHERE id = :id AND (:owner IS NULL OR owner = :owner)");
    let found = connection
        .prepare_cached(&query)?
        .query_row(named_params! { ":id": id, ":owner": viewer.owner() }, |row| {
            let result: Option<String> = row.get::<_, Option<Vec<u8>>>("result")?.map(text).transpose()?;
            let result =
                result.map(RawValue::from_string).transpose().map_err(|error| wrong(Type::Blob, error))?;
            Ok((place(row)?, Job { summary: summary(row)?, result }))
        })
        .optional()?;
    let Some((place, mut job)) = found else { return Ok(None) };
    job.summary.position = position(connection, &place, job.summary.state)?;
    Ok(Some(job))
}

/// Those that `viewer` may see, newest first.
pub(in crate::jobs) fn list(
    connection: &Connection,
    viewer: &Viewer,
    filter: &Filter,
) -> rusqlite::Result<JobPage> {
    let query = format!(
        "SELECT {COLUMNS} FROM job WHERE (:owner IS NULL OR owner = :owner) AND (:state IS NULL OR state = :state) \
         AND (:after IS NULL OR created > :after) AND (:before IS NULL OR created < :before) \
         AND (:cursor IS NULL OR number < :cursor) ORDER BY number DESC LIMIT :limit"
    );
    let mut statement = connection.prepare_cached(&query)?;
    let parameters = named_params! {
        ":owner": viewer.owner(), ":state": filter.state, ":after": filter.created_after,
        ":before": filter.created_before, ":cursor": filter.cursor,
        // One more, to know whether there is one.
        ":limit": i64::from(filter.limit) + 1,
    };
    let found = statement.query_map(parameters, |row| Ok((place(row)?, summary(row)?)))?;
    let mut found: Vec<_> = found.collect::<rusqlite::Result<_>>()?;
    let is_all = found.len() <= filter.limit as usize;
    found.truncate(filter.limit as usize);
    let next = found.last().filter(|_| !is_all).map(|(place, _)| place.number.to_string());
    let mut jobs = Vec::with_capacity(found.len());
    for (place, mut summary) in found {
        summary.position = position(connection, &place, summary.state)?;
        jobs.push(summary);
    }
    Ok(JobPage { jobs, next })
}

/// How many there are.
pub(in crate::jobs) fn counts(connection: &Connection) -> rusqlite::Result<Counts> {
    let query = "SELECT coalesce(sum(queued), 0), coalesce(sum(running), 0), coalesce(sum(kept), 0), \
        coalesce(sum(bytes), 0), (SELECT count(*) FROM job WHERE callback_due IS NOT NULL) FROM tally";
    connection.prepare_cached(query)?.query_row([], |row| {
        Ok(Counts {
            queued: row.get(0)?,
            running: row.get(1)?,
            kept: row.get(2)?,
            bytes: row.get(3)?,
            callbacks: row.get(4)?,
        })
    })
}

/// With what callbacks are signed.
pub(in crate::jobs) fn secret(connection: &Connection) -> rusqlite::Result<[u8; 32]> {
    connection.query_row("SELECT secret FROM signing", [], |row| row.get(0))
}

/// Where a job stands.
struct Place {
    number: i64,
    tenant: String,
}

fn place(row: &Row<'_>) -> rusqlite::Result<Place> {
    Ok(Place { number: row.get("number")?, tenant: row.get("tenant")? })
}

/// Tenants take turns: before the one that has so many of its own tenant before it come as many of each other.
fn position(connection: &Connection, place: &Place, state: JobState) -> rusqlite::Result<Option<u64>> {
    if state != JobState::Queued {
        return Ok(None);
    }
    let query = "WITH mine AS (SELECT count(*) AS ahead FROM job \
            WHERE state = 'queued' AND tenant = :tenant AND number < :number) \
        SELECT 1 + mine.ahead + coalesce((SELECT sum(min(queued, mine.ahead)) FROM tally WHERE tenant <> :tenant), 0) \
        FROM mine";
    let parameters = named_params! { ":tenant": place.tenant, ":number": place.number };
    connection.prepare_cached(query)?.query_row(parameters, |row| row.get(0)).map(Some)
}

fn summary(row: &Row<'_>) -> rusqlite::Result<JobSummary> {
    let time = |name| row.get::<_, Option<Millis>>(name)?.map(timestamp).transpose();
    let state: JobState = row.get("state")?;
    let url: Option<String> = row.get("callback_url")?;
    let callback = url.map(|url| callback(row, url, state)).transpose()?;
    Ok(JobSummary {
        id: row.get("id")?,
        state,
        position: None,
        language: row.get("language")?,
        executions: row.get("executions")?,
        attempts: row.get("attempt")?,
        if_interrupted: if row.get("rerun")? { IfInterrupted::Rerun } else { IfInterrupted::Fail },
        created: timestamp(row.get("created")?)?,
        started: time("started")?,
        finished: time("finished")?,
        expires: time("expires")?,
        error: row.get("error")?,
        callback,
        trace_id: row.get("trace_id")?,
    })
}

fn callback(row: &Row<'_>, url: String, state: JobState) -> rusqlite::Result<Callback> {
    let due: Option<Millis> = row.get("callback_due")?;
    let delivered: Option<Millis> = row.get("callback_delivered")?;
    Ok(Callback {
        url,
        state: match (delivered, due) {
            (Some(_), _) => CallbackState::Delivered,
            (None, None) if state.is_final() => CallbackState::GivenUp,
            (None, _) => CallbackState::Waiting,
        },
        attempts: row.get("callback_attempts")?,
        next: due.map(timestamp).transpose()?,
        error: row.get("callback_error")?,
    })
}

fn timestamp(millis: Millis) -> rusqlite::Result<Timestamp> {
    Timestamp::from_millisecond(millis).map_err(|error| wrong(Type::Integer, error))
}

fn text(bytes: Vec<u8>) -> rusqlite::Result<String> {
    String::from_utf8(bytes).map_err(|error| wrong(Type::Blob, error))
}

fn wrong(of: Type, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, of, Box::new(error))
}
