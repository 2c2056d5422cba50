//! Whose turn it is, and how a job that has had it ends.
//!
//! `attempt` counts the turns of a job, and tells a late word of an earlier one from that of the present.

use rusqlite::{Connection, OptionalExtension as _, params};
use vmm::spec::MachineSpec;

use crate::jobs::job::{JobState, Millis};

use super::look::Viewer;

/// No callback is put off for longer, in milliseconds.
const LONGEST_PAUSE_MILLIS: i64 = 2 * 3_600_000;

/// A job whose turn it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::jobs) struct Claimed {
    pub(in crate::jobs) id: String,
    pub(in crate::jobs) attempt: u32,
    /// How often the pool has refused it.
    pub(in crate::jobs) refusals: u32,
    pub(in crate::jobs) tenant: String,
    pub(in crate::jobs) trace_id: String,
    pub(in crate::jobs) machine: MachineSpec,
    pub(in crate::jobs) request: Vec<u8>,
}

/// How a job has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::jobs) enum End {
    /// With this answer.
    Done(Vec<u8>),
    /// For this reason.
    Failed(String),
}

/// What has become of a job that was to be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::jobs) enum Cancelled {
    /// It waited.
    Queued,
    /// It ran.
    Running,
    /// It had ended, and is forgotten.
    Removed,
    /// There is none that the viewer may see.
    Unknown,
}

/// What becomes of jobs that were interrupted.
#[derive(Clone, Copy, Debug)]
pub(in crate::jobs) struct Interruption {
    /// The most interruptions after which a job is run again.
    pub(in crate::jobs) most: u32,
}

/// Takes the next one: of those who have the fewest running, of whom has waited longest for a turn, the oldest.
pub(in crate::jobs) fn claim(connection: &Connection, now: Millis) -> rusqlite::Result<Option<Claimed>> {
    let query = "SELECT (SELECT number FROM job WHERE tenant = tally.tenant AND state = 'queued' AND not_before <= ?1 \
            ORDER BY number LIMIT 1) AS next, tenant \
        FROM tally WHERE queued > 0 AND next IS NOT NULL ORDER BY running, served, next LIMIT 1";
    let next = connection
        .prepare_cached(query)?
        .query_row([now], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))
        .optional()?;
    let Some((number, tenant)) = next else { return Ok(None) };
    let served = "UPDATE tally SET served = (SELECT max(served) + 1 FROM tally) WHERE tenant = ?1";
    connection.prepare_cached(served)?.execute([&tenant])?;
    let update = "UPDATE job SET state = 'running', attempt = attempt + 1, started = ?2 WHERE number = ?1 \
        RETURNING id, attempt, refusals, tenant, trace_id, memory_mib, vcpus, request";
    let claimed = connection.prepare_cached(update)?.query_row(params![number, now], |row| {
        Ok(Claimed {
            id: row.get(0)?,
            attempt: row.get(1)?,
            refusals: row.get(2)?,
            tenant: row.get(3)?,
            trace_id: row.get(4)?,
            machine: MachineSpec { memory_mib: row.get(5)?, vcpus: row.get(6)? },
            request: row.get(7)?,
        })
    })?;
    Ok(Some(claimed))
}

/// Whether an attempt is the present one, and runs.
pub(in crate::jobs) fn is_present(
    connection: &Connection,
    (id, attempt): (&str, u32),
) -> rusqlite::Result<bool> {
    let query = "SELECT count(*) FROM job WHERE id = ?1 AND attempt = ?2 AND state = 'running'";
    connection
        .prepare_cached(query)?
        .query_row(params![id, attempt], |row| row.get::<_, u32>(0))
        .map(|count| count == 1)
}

/// When there is a turn for those that are to wait.
pub(in crate::jobs) fn next_turn(connection: &Connection) -> rusqlite::Result<Option<Millis>> {
    let query = "SELECT min(not_before) FROM job WHERE state = 'queued'";
    connection.prepare_cached(query)?.query_row([], |row| row.get(0))
}

/// Ends an attempt. Whether it was still the present one, and ran.
pub(in crate::jobs) fn finish(
    connection: &Connection,
    (id, attempt): (&str, u32),
    end: &End,
    now: Millis,
) -> rusqlite::Result<bool> {
    let (state, result, error) = match end {
        End::Done(result) => (JobState::Done, Some(result), None),
        End::Failed(error) => (JobState::Failed, None, Some(error)),
    };
    let update = "UPDATE job SET state = ?3, request = NULL, result = ?4, error = ?5, bytes = ?6, finished = ?7, \
            expires = ?7 + lifetime, callback_due = iif(callback_url IS NULL, NULL, ?7) \
        WHERE id = ?1 AND state = 'running' AND attempt = ?2";
    let bytes = result.map_or(0, Vec::len);
    let changed =
        connection.prepare_cached(update)?.execute(params![id, attempt, state, result, error, bytes, now])?;
    Ok(changed == 1)
}

/// Puts an attempt back that was refused, to be tried again at `not_before`. Whether it was still the present one.
pub(in crate::jobs) fn requeue(
    connection: &Connection,
    (id, attempt): (&str, u32),
    not_before: Millis,
) -> rusqlite::Result<bool> {
    let update = "UPDATE job SET state = 'queued', not_before = ?3, refusals = refusals + 1 \
        WHERE id = ?1 AND state = 'running' AND attempt = ?2";
    Ok(connection.prepare_cached(update)?.execute(params![id, attempt, not_before])? == 1)
}

/// Ends an attempt that was interrupted, as its request chose. Whether it was still the present one.
pub(in crate::jobs) fn interrupt(
    connection: &Connection,
    (id, attempt): (&str, u32),
    interruption: Interruption,
    now: Millis,
) -> rusqlite::Result<bool> {
    Ok(interrupted(connection, Some((id, attempt)), interruption, now)? == 1)
}

/// Moves all times that lie ahead by as much as the clock was set, and with them those of jobs that have not ended: nothing is
/// due, or over, sooner or later than was said.
pub(in crate::jobs) fn shift(connection: &Connection, jump: Millis) -> rusqlite::Result<()> {
    for update in [
        "UPDATE job SET created = created + ?1, started = started + ?1, not_before = max(0, not_before + ?1) \
            WHERE finished IS NULL",
        "UPDATE job SET expires = expires + ?1 WHERE expires IS NOT NULL",
        "UPDATE job SET callback_due = callback_due + ?1 WHERE callback_due IS NOT NULL",
    ] {
        connection.prepare_cached(update)?.execute([jump])?;
    }
    Ok(())
}

/// Does so with all that ran when the process has died. How many there were.
pub(in crate::jobs) fn recover(
    connection: &Connection,
    interruption: Interruption,
    now: Millis,
) -> rusqlite::Result<usize> {
    // A clock that was set back keeps nobody waiting.
    connection.execute("UPDATE job SET not_before = ?1 WHERE state = 'queued' AND not_before > ?1", [now])?;
    let latest = now.saturating_add(LONGEST_PAUSE_MILLIS);
    connection.execute("UPDATE job SET callback_due = ?1 WHERE callback_due > ?1", [latest])?;
    // Nor is anything kept for longer than was asked for.
    connection.execute("UPDATE job SET expires = ?1 + lifetime WHERE expires > ?1 + lifetime", [now])?;
    interrupted(connection, None, interruption, now)
}

fn interrupted(
    connection: &Connection,
    one: Option<(&str, u32)>,
    Interruption { most }: Interruption,
    now: Millis,
) -> rusqlite::Result<usize> {
    let (id, attempt) = one.unzip();
    let again = "UPDATE job SET state = 'queued', not_before = ?4, interruptions = interruptions + 1 \
        WHERE state = 'running' AND (?1 IS NULL OR (id = ?1 AND attempt = ?2)) AND rerun AND interruptions < ?3";
    let again = connection.prepare_cached(again)?.execute(params![id, attempt, most, now])?;
    let failed = "UPDATE job SET state = 'failed', request = NULL, bytes = 0, finished = ?3, expires = ?3 + lifetime, \
            interruptions = interruptions + 1, callback_due = iif(callback_url IS NULL, NULL, ?3), \
            error = iif(rerun, 'E010: internal error: interrupted too often', 'E010: internal error: interrupted') \
        WHERE state = 'running' AND (?1 IS NULL OR (id = ?1 AND attempt = ?2))";
    let failed = connection.prepare_cached(failed)?.execute(params![id, attempt, now])?;
    Ok(again + failed)
}

/// Cancels a job, or removes one that has ended.
pub(in crate::jobs) fn cancel(
    connection: &Connection,
    viewer: &Viewer,
    id: &str,
    now: Millis,
) -> rusqlite::Result<Cancelled> {
    let query = "SELECT state FROM job WHERE id = ?1 AND (?2 IS NULL OR owner = ?2)";
    let state: Option<JobState> = connection
        .prepare_cached(query)?
        .query_row(params![id, viewer.owner()], |row| row.get(0))
        .optional()?;
    let cancelled = match state {
        None => return Ok(Cancelled::Unknown),
        Some(JobState::Queued) => Cancelled::Queued,
        Some(JobState::Running) => Cancelled::Running,
        Some(JobState::Done | JobState::Failed | JobState::Cancelled) => {
            connection.prepare_cached("DELETE FROM job WHERE id = ?1")?.execute([id])?;
            return Ok(Cancelled::Removed);
        }
    };
    let update = "UPDATE job SET state = 'cancelled', request = NULL, bytes = 0, finished = ?2, expires = ?2 + lifetime, \
        callback_due = iif(callback_url IS NULL, NULL, ?2) WHERE id = ?1";
    connection.prepare_cached(update)?.execute(params![id, now])?;
    Ok(cancelled)
}

/// Removes some of those that have expired, and of whose end nobody is still to be told. How many.
pub(in crate::jobs) fn sweep(connection: &Connection, most: u32, now: Millis) -> rusqlite::Result<usize> {
    let delete = "DELETE FROM job WHERE number IN \
        (SELECT number FROM job WHERE expires <= ?1 AND callback_due IS NULL ORDER BY expires LIMIT ?2)";
    connection.prepare_cached(delete)?.execute(params![now, most])
}
