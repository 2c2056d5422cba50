//! How a job is accepted: within its bounds, and once for each key.

use rusqlite::{Connection, OptionalExtension as _, params};
use vmm::spec::MachineSpec;

use crate::jobs::job::{IfInterrupted, Millis};

/// A key of a client's under which a job is accepted once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(in crate::jobs) text: String,
    /// Of the body that came with it.
    pub(in crate::jobs) body_sha256: [u8; 32],
}

/// A job that is to be accepted.
#[derive(Clone, Debug)]
pub(in crate::jobs) struct NewJob {
    pub(in crate::jobs) id: String,
    /// Whose it is: a token's id; empty where none are asked for.
    pub(in crate::jobs) owner: String,
    /// On whose behalf it waits.
    pub(in crate::jobs) tenant: String,
    pub(in crate::jobs) trace_id: String,
    pub(in crate::jobs) language: String,
    pub(in crate::jobs) machine: MachineSpec,
    pub(in crate::jobs) executions: u32,
    pub(in crate::jobs) request: Vec<u8>,
    pub(in crate::jobs) if_interrupted: IfInterrupted,
    /// How long it is kept once it has ended, in milliseconds.
    pub(in crate::jobs) lifetime: i64,
    pub(in crate::jobs) key: Option<Key>,
    pub(in crate::jobs) callback_url: Option<String>,
}

/// How many jobs there may be. One caller alone has half of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::jobs) struct Bounds {
    pub(in crate::jobs) queued: u64,
    pub(in crate::jobs) kept: u64,
    /// Of requests and results, together.
    pub(in crate::jobs) bytes: u64,
}

/// Which bound is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    /// The caller's part of those that wait.
    #[error("{limit} queued jobs")]
    CallersQueue {
        /// The limit.
        limit: u64,
    },
    /// The caller's part of those that are kept.
    #[error("{limit} jobs that are kept; remove some: DELETE /api/v1/jobs/ID")]
    CallersKept {
        /// The limit.
        limit: u64,
    },
    /// The caller's part of the bytes.
    #[error("{limit} bytes of jobs; remove some: DELETE /api/v1/jobs/ID")]
    CallersBytes {
        /// The limit.
        limit: u64,
    },
    /// All that may wait.
    #[error("too many jobs wait")]
    Queue,
    /// All that may be kept.
    #[error("too many jobs are kept")]
    Kept,
    /// All of the bytes.
    #[error("the jobs that are kept are too large")]
    Bytes,
}

impl Full {
    /// Whether it is the caller who has too many.
    pub(crate) fn is_callers(self) -> bool {
        matches!(self, Self::CallersQueue { .. } | Self::CallersKept { .. } | Self::CallersBytes { .. })
    }
}

/// What has become of a job that was to be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::jobs) enum Acceptance {
    /// Under this id.
    Accepted(String),
    /// There is one under its key already, of this id.
    Known(String),
    /// There is one under its key, which came with another body.
    OtherBody,
    Refused(Full),
}

/// What is known of a key.
pub(in crate::jobs) fn known(
    connection: &Connection,
    owner: &str,
    key: &Key,
) -> rusqlite::Result<Option<Acceptance>> {
    let query = "SELECT id, body_sha256 FROM job WHERE owner = ?1 AND idempotency_key = ?2";
    let found = connection
        .prepare_cached(query)?
        .query_row(params![owner, key.text], |row| Ok((row.get::<_, String>(0)?, row.get::<_, [u8; 32]>(1)?)))
        .optional()?;
    Ok(found.map(
        |(id, sha256)| {
            if sha256 == key.body_sha256 { Acceptance::Known(id) } else { Acceptance::OtherBody }
        },
    ))
}

/// Accepts a job, or says why not.
pub(in crate::jobs) fn accept(
    connection: &Connection,
    job: &NewJob,
    bounds: Bounds,
    now: Millis,
) -> rusqlite::Result<Acceptance> {
    if let Some(key) = &job.key
        && let Some(known) = known(connection, &job.owner, key)?
    {
        return Ok(known);
    }
    if let Some(full) = full(connection, &job.tenant, job.request.len() as u64, bounds)? {
        return Ok(Acceptance::Refused(full));
    }
    let insert = "INSERT INTO job (id, owner, tenant, trace_id, state, language, memory_mib, vcpus, executions, request, \
        rerun, created, lifetime, bytes, idempotency_key, body_sha256, callback_url) \
        VALUES (?1, ?2, ?3, ?4, 'queued', ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";
    connection.prepare_cached(insert)?.execute(params![
        job.id,
        job.owner,
        job.tenant,
        job.trace_id,
        job.language,
        job.machine.memory_mib,
        job.machine.vcpus,
        job.executions,
        job.request,
        job.if_interrupted == IfInterrupted::Rerun,
        now,
        job.lifetime,
        job.request.len(),
        job.key.as_ref().map(|key| &key.text),
        job.key.as_ref().map(|key| &key.body_sha256),
        job.callback_url,
    ])?;
    Ok(Acceptance::Accepted(job.id.clone()))
}

fn full(connection: &Connection, tenant: &str, bytes: u64, bounds: Bounds) -> rusqlite::Result<Option<Full>> {
    let query = "SELECT coalesce(sum(queued), 0), coalesce(sum(kept), 0), coalesce(sum(bytes), 0), \
        coalesce(sum(queued) FILTER (WHERE tenant = ?1), 0), coalesce(sum(kept) FILTER (WHERE tenant = ?1), 0), \
        coalesce(sum(bytes) FILTER (WHERE tenant = ?1), 0) FROM tally";
    let [queued, kept, all, callers_queued, callers_kept, callers_bytes]: [u64; 6] =
        connection.prepare_cached(query)?.query_row([tenant], |row| {
            Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?])
        })?;
    // A bound of one is everybody's.
    let share = |all: u64| all.div_ceil(2);
    let bounds_reached = [
        (callers_queued >= share(bounds.queued), Full::CallersQueue { limit: share(bounds.queued) }),
        (callers_kept >= share(bounds.kept), Full::CallersKept { limit: share(bounds.kept) }),
        (callers_bytes + bytes > share(bounds.bytes), Full::CallersBytes { limit: share(bounds.bytes) }),
        (queued >= bounds.queued, Full::Queue),
        (kept >= bounds.kept, Full::Kept),
        (all + bytes > bounds.bytes, Full::Bytes),
    ];
    Ok(bounds_reached.into_iter().find_map(|(is_reached, full)| is_reached.then_some(full)))
}
