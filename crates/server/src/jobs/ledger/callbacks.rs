//! Whom the end of a job is still to be told.

use rusqlite::{Connection, params};

use crate::jobs::job::Millis;

/// A callback whose time has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::jobs) struct DueCallback {
    pub(in crate::jobs) id: String,
    pub(in crate::jobs) tenant: String,
    pub(in crate::jobs) url: String,
    /// How often it was tried.
    pub(in crate::jobs) attempts: u32,
}

/// What has become of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::jobs) enum CallbackOutcome {
    Delivered,
    /// The next one is due then.
    Again {
        error: String,
        due: Millis,
    },
    GivenUp {
        error: String,
    },
}

/// Those that are due: of each tenant as many, and the oldest first.
pub(in crate::jobs) fn due_callbacks(
    connection: &Connection,
    of_each: u32,
    now: Millis,
) -> rusqlite::Result<Vec<DueCallback>> {
    let query = "SELECT id, tenant, callback_url, callback_attempts FROM \
            (SELECT id, tenant, callback_url, callback_attempts, callback_due, \
                row_number() OVER (PARTITION BY tenant ORDER BY callback_due) AS place \
             FROM job WHERE callback_due <= ?1) \
        WHERE place <= ?2 ORDER BY callback_due";
    let mut statement = connection.prepare_cached(query)?;
    let due = statement.query_map(params![now, of_each], |row| {
        Ok(DueCallback { id: row.get(0)?, tenant: row.get(1)?, url: row.get(2)?, attempts: row.get(3)? })
    })?;
    due.collect()
}

/// When the next one is due.
pub(in crate::jobs) fn next_callback(
    connection: &Connection,
    after: Millis,
) -> rusqlite::Result<Option<Millis>> {
    let query = "SELECT min(callback_due) FROM job WHERE callback_due > ?1";
    connection.prepare_cached(query)?.query_row([after], |row| row.get(0))
}

/// Notes what has become of an attempt. Whether its job is still there, and this was to be told.
pub(in crate::jobs) fn settle_callback(
    connection: &Connection,
    id: &str,
    outcome: &CallbackOutcome,
    now: Millis,
) -> rusqlite::Result<bool> {
    let (due, delivered, error) = match outcome {
        CallbackOutcome::Delivered => (None, Some(now), None),
        CallbackOutcome::Again { error, due } => (Some(*due), None, Some(error)),
        CallbackOutcome::GivenUp { error } => (None, None, Some(error)),
    };
    let update = "UPDATE job SET callback_attempts = callback_attempts + 1, callback_due = ?2, callback_delivered = ?3, \
        callback_error = ?4 WHERE id = ?1 AND callback_due IS NOT NULL";
    Ok(connection.prepare_cached(update)?.execute(params![id, due, delivered, error])? == 1)
}
