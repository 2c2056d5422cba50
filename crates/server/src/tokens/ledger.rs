//! What was counted of each token, in the database. What it amounts to is said in [`quota`](super::quota).

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    grant::Grant,
    quota::{DayCount, Moment, QuotaExceeded, RateLimit},
    text::TokenId,
};

/// How many days are kept of each token.
///
/// Days of a clock that was far ahead are among them for good. They must not push out those that are counted on, so
/// there is room for many more than can be; and the current day is kept in any case.
const KEPT_DAYS: u32 = 64;

/// Counts a request with `executions`, and gives the day that they are counted on. Where a quota is used up it counts
/// nothing. To be called in a transaction.
pub(super) fn charge(
    connection: &Connection,
    token: &TokenId,
    grant: &Grant,
    executions: u32,
    now: Moment,
) -> rusqlite::Result<Result<i64, QuotaExceeded>> {
    let arrival = match grant.rate.map(RateLimit::new) {
        None => None,
        Some(limit) => match limit.admit(arrival(connection, token)?, now) {
            Ok(arrival) => Some(arrival),
            Err(early) => {
                if let Some(arrival) = early.arrival {
                    store_arrival(connection, token, arrival)?;
                }
                return Ok(Err(early.exceeded));
            }
        },
    };
    let newest = newest_day(connection, token, now)?;
    let count = match DayCount::current(now.day(), newest).admit(executions, grant.daily_executions, now) {
        Ok(count) => count,
        Err(exceeded) => return Ok(Err(exceeded)),
    };
    if let Some(arrival) = arrival {
        store_arrival(connection, token, arrival)?;
    }
    if executions > 0 {
        store_day(connection, token, count)?;
        if newest.is_none_or(|newest| newest.day != count.day) {
            forget_old_days(connection, token, count.day)?;
        }
    }
    Ok(Ok(count.day))
}

/// Takes back what [`charge`] has counted on `day`, but for the rate: the request was made.
pub(super) fn give_back(
    connection: &Connection,
    token: &TokenId,
    day: i64,
    executions: u32,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE daily_usage SET executions = max(0, executions - ?3) WHERE token = ?1 AND day = ?2",
        )?
        .execute(params![token.as_str(), day, executions])?;
    Ok(())
}

/// How many executions count for today.
pub(super) fn used_today(connection: &Connection, token: &TokenId, now: Moment) -> rusqlite::Result<u64> {
    let newest = newest_day(connection, token, now)?;
    Ok(DayCount::current(now.day(), newest).executions)
}

fn arrival(connection: &Connection, token: &TokenId) -> rusqlite::Result<Option<Moment>> {
    connection
        .prepare_cached("SELECT arrival FROM rate_state WHERE token = ?1")?
        .query_row([token.as_str()], |row| row.get(0).map(Moment::from_nanos))
        .optional()
}

fn store_arrival(connection: &Connection, token: &TokenId, arrival: Moment) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO rate_state VALUES (?1, ?2) ON CONFLICT (token) DO UPDATE SET arrival = excluded.arrival",
        )?
        .execute(params![token.as_str(), arrival.nanos()])?;
    Ok(())
}

fn newest_day(connection: &Connection, token: &TokenId, now: Moment) -> rusqlite::Result<Option<DayCount>> {
    connection
        .prepare_cached(
            "SELECT day, executions FROM daily_usage WHERE token = ?1 AND day <= ?2 ORDER BY day DESC LIMIT 1",
        )?
        .query_row(params![token.as_str(), DayCount::latest(now.day())], |row| {
            Ok(DayCount { day: row.get(0)?, executions: row.get(1)? })
        })
        .optional()
}

fn store_day(connection: &Connection, token: &TokenId, count: DayCount) -> rusqlite::Result<()> {
    let executions = i64::try_from(count.executions).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "INSERT INTO daily_usage VALUES (?1, ?2, ?3)
             ON CONFLICT (token, day) DO UPDATE SET executions = excluded.executions",
        )?
        .execute(params![token.as_str(), count.day, executions])?;
    Ok(())
}

fn forget_old_days(connection: &Connection, token: &TokenId, current: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM daily_usage WHERE token = ?1 AND day <> ?2 AND day NOT IN
                (SELECT day FROM daily_usage WHERE token = ?1 ORDER BY day DESC LIMIT ?3)",
        )?
        .execute(params![token.as_str(), current, KEPT_DAYS])?;
    Ok(())
}
