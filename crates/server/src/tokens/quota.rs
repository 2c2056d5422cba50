//! The arithmetic of quotas: what a request at a given moment does to what was counted so far.
//!
//! Without a clock and without I/O: `now` goes in. A clock may be set to any time between two calls, and both counters
//! say here what they make of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::grant::Rate;

const SECOND_NANOS: i64 = 1_000_000_000;
const DAY_SECONDS: i64 = 86_400;

/// Which quota is used up. Nothing was counted for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuotaExceeded {
    /// Too many requests in a short time.
    #[error("E002: API quota exceeded: {limit} requests")]
    Rate {
        /// The limit.
        limit: Rate,
        /// When the next one is let in.
        retry_after: Duration,
    },
    /// Too many requests at once.
    #[error("E002: API quota exceeded: {limit} requests at once")]
    Concurrency {
        /// The limit.
        limit: u32,
    },
    /// Too many executions today.
    #[error("E002: API quota exceeded: {limit} executions a day, of which {left} are left")]
    Daily {
        /// The limit.
        limit: u32,
        /// How many would still be let in.
        left: u32,
        /// When the next day begins.
        retry_after: Duration,
    },
}

impl QuotaExceeded {
    /// When to ask again. Of requests at once nobody knows when one ends: it is a moment then.
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::Rate { retry_after, .. } | Self::Daily { retry_after, .. } => *retry_after,
            Self::Concurrency { .. } => Duration::from_secs(1),
        }
    }
}

/// A time, in nanoseconds since 1970. What lies before, or after 2262, is taken for the nearest that can be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(i64);

impl Moment {
    pub(super) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }

    pub(super) fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    pub(super) fn nanos(self) -> i64 {
        self.0
    }

    pub(super) fn unix_seconds(self) -> u64 {
        u64::try_from(self.0 / SECOND_NANOS).unwrap_or(0)
    }

    /// Days since 1970, in UTC.
    pub(super) fn day(self) -> i64 {
        self.0.div_euclid(SECOND_NANOS * DAY_SECONDS)
    }

    fn plus(self, nanos: i64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// A rate as the generic cell rate algorithm (GCRA) has it: one moment is all the state.
///
/// ```text
/// now ├──────── window: requests × interval ────────┤
///          ▲ the arrival: when the bucket is full again. Each request moves it on by an interval,
///            and is let in if it then still lies within the window
/// ```
#[derive(Clone, Copy, Debug)]
pub(super) struct RateLimit {
    rate: Rate,
    interval: i64,
    window: i64,
}

/// A request that comes too early.
#[derive(Clone, Copy, Debug)]
pub(super) struct TooEarly {
    pub(super) exceeded: QuotaExceeded,
    /// The new state, where it changes although nothing was let in: see [`RateLimit::admit`].
    pub(super) arrival: Option<Moment>,
}

impl RateLimit {
    pub(super) fn new(rate: Rate) -> Self {
        let requests = i64::from(rate.requests());
        // Rounded up: a rate is never exceeded, not even by a nanosecond's worth.
        let interval = (i64::from(rate.period().seconds()) * SECOND_NANOS + requests - 1) / requests;
        Self { rate, interval, window: interval * requests }
    }

    /// Lets a request in and gives the new state, or says when to come again.
    ///
    /// An arrival that lies behind the window can only be there because the clock was set back. It is taken for the
    /// window's end: everything used up, and so the token waits no longer than for one of its intervals. That has to
    /// be stored although the request is refused, or the same would be found at the next one.
    pub(super) fn admit(self, stored: Option<Moment>, now: Moment) -> Result<Moment, TooEarly> {
        let end = now.plus(self.window);
        let arrival = stored.unwrap_or(now).max(now).min(end);
        let next = arrival.plus(self.interval);
        if next <= end {
            return Ok(next);
        }
        let exceeded = QuotaExceeded::Rate { limit: self.rate, retry_after: next.since(end) };
        Err(TooEarly { exceeded, arrival: (stored != Some(arrival)).then_some(arrival) })
    }
}

/// The executions of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DayCount {
    /// Days since 1970, in UTC.
    pub(super) day: i64,
    pub(super) executions: u64,
}

impl DayCount {
    /// The latest day that is counted on when it is `today`. What was counted for a later one is of a clock that was
    /// far ahead by mistake: it stays where it is until that day has come, and counts for nothing before.
    pub(super) fn latest(today: i64) -> i64 {
        today.saturating_add(1)
    }

    /// The day to count on, of the `newest` that there is up to [`DayCount::latest`].
    ///
    /// A clock that was set back by up to a day goes on with the later day: setting it back gives no second quota.
    pub(super) fn current(today: i64, newest: Option<Self>) -> Self {
        newest.filter(|newest| newest.day >= today).unwrap_or(Self { day: today, executions: 0 })
    }

    /// With more of them, all or none.
    pub(super) fn admit(
        self,
        executions: u32,
        limit: Option<u32>,
        now: Moment,
    ) -> Result<Self, QuotaExceeded> {
        let total = self.executions.saturating_add(executions.into());
        match limit {
            // What counts for nothing is let in even where nothing is left.
            Some(limit) if executions > 0 && total > limit.into() => {
                let left = u64::from(limit).saturating_sub(self.executions);
                let midnight = Moment(
                    self.day.saturating_add(1).saturating_mul(DAY_SECONDS).saturating_mul(SECOND_NANOS),
                );
                Err(QuotaExceeded::Daily {
                    limit,
                    left: u32::try_from(left).unwrap_or(limit),
                    retry_after: midnight.since(now),
                })
            }
            _ => Ok(Self { executions: total, ..self }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3600 * SECOND_NANOS;
    const DAY: i64 = DAY_SECONDS * SECOND_NANOS;
    const NOON: Moment = Moment(20_000 * DAY + 12 * HOUR);

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    /// A token's rate over time, stored as the ledger does.
    struct Stored {
        limit: RateLimit,
        arrival: Option<Moment>,
    }

    impl Stored {
        fn new(text: &str) -> Self {
            Self { limit: RateLimit::new(rate(text)), arrival: None }
        }

        fn admits(&mut self, now: Moment) -> Result<(), Duration> {
            match self.limit.admit(self.arrival, now) {
                Ok(arrival) => {
                    self.arrival = Some(arrival);
                    Ok(())
                }
                Err(early) => {
                    self.arrival = early.arrival.or(self.arrival);
                    Err(early.exceeded.retry_after())
                }
            }
        }

        fn burst(&mut self, now: Moment) -> usize {
            std::iter::from_fn(|| self.admits(now).ok()).take(10_000).count()
        }
    }

    #[test]
    fn a_rate_lets_all_of_them_in_at_once_and_then_one_by_one() {
        let mut stored = Stored::new("60/min");
        assert_eq!(stored.burst(NOON), 60);
        assert_eq!(stored.admits(NOON), Err(Duration::from_secs(1)));
        assert_eq!(stored.burst(NOON.plus(SECOND_NANOS)), 1);
        assert_eq!(stored.burst(NOON.plus(SECOND_NANOS + 30 * SECOND_NANOS)), 30);
        assert_eq!(stored.burst(NOON.plus(HOUR)), 60);
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_a_token_waiting_for_one_interval_at_most() {
        for back in [SECOND_NANOS, HOUR, DAY, 365 * DAY] {
            let mut stored = Stored::new("60/min");
            assert_eq!(stored.burst(NOON), 60);
            let before = NOON.plus(-back);
            let wait = stored.admits(before).expect_err("a clock that is set back refills nothing");
            assert!(wait <= Duration::from_secs(1), "{wait:?}");
            // Refused requests in between change nothing.
            assert!(stored.admits(before.plus(SECOND_NANOS / 2)).is_err());
            assert_eq!(stored.burst(before.plus(SECOND_NANOS)), 1);
        }
    }

    #[test]
    fn a_clock_at_the_end_of_time_overflows_nothing() {
        let mut stored = Stored::new("1/h");
        for moment in [Moment(i64::MAX), Moment(0), Moment(i64::MAX), NOON] {
            stored.burst(moment);
        }
        let count = DayCount { day: i64::MAX, executions: u64::MAX };
        assert!(count.admit(1, Some(1), NOON).is_err());
        assert_eq!(DayCount::latest(i64::MAX), i64::MAX);
    }

    #[test]
    fn a_day_begins_at_midnight_in_utc() {
        assert_eq!(Moment(DAY - 1).day(), 0);
        assert_eq!(Moment(DAY).day(), 1);
        let used = DayCount { day: 20_000, executions: 10 };
        let exceeded = used.admit(1, Some(10), NOON).unwrap_err();
        assert_eq!(exceeded.retry_after(), Duration::from_secs(12 * 3600));
        assert_eq!(DayCount::current(20_001, Some(used)), DayCount { day: 20_001, executions: 0 });
    }

    #[test]
    fn a_batch_is_let_in_whole_or_not_at_all() {
        let used = DayCount { day: 20_000, executions: 7 };
        assert!(used.admit(3, Some(10), NOON).is_ok());
        let exceeded = used.admit(4, Some(10), NOON).unwrap_err();
        assert_eq!(
            exceeded.to_string(),
            "E002: API quota exceeded: 10 executions a day, of which 3 are left"
        );
        assert_eq!(
            DayCount { executions: 12, ..used }.admit(0, Some(10), NOON).map(|new| new.executions),
            Ok(12)
        );
    }

    #[test]
    fn a_clock_that_is_set_back_by_up_to_a_day_goes_on_with_the_later_day() {
        let tomorrow = DayCount { day: 20_001, executions: 10 };
        let current = DayCount::current(20_000, Some(tomorrow));
        assert_eq!(current, tomorrow);
        assert!(current.admit(1, Some(10), NOON).is_err());
    }

    proptest! {
        #[test]
        fn a_rate_is_never_exceeded(
            requests in 1..200_u32,
            unit in prop::sample::select(vec!["s", "min", "h"]),
            steps in prop::collection::vec(0..5 * SECOND_NANOS, 1..300),
        ) {
            let mut stored = Stored::new(&format!("{requests}/{unit}"));
            let period = i128::from(stored.limit.rate.period().seconds()) * i128::from(SECOND_NANOS);
            let (mut now, mut admitted) = (NOON, Vec::new());
            for step in steps {
                now = now.plus(step);
                if stored.admits(now).is_ok() {
                    admitted.push(now);
                }
            }
            // Over every span between two of them: at most the burst, and what the span is worth.
            for (first, start) in admitted.iter().enumerate() {
                for (last, end) in admitted.iter().enumerate().skip(first) {
                    let count = (last - first + 1) as i128;
                    let worth = i128::from(requests) * i128::from(end.0 - start.0);
                    prop_assert!((count - i128::from(requests)) * period <= worth);
                }
            }
        }

        #[test]
        fn whatever_was_stored_a_token_is_let_in_within_one_interval(
            requests in 1..1000_u32, stored in any::<i64>(), now in 0..4 * NOON.0 / 3,
        ) {
            let mut stored = Stored { arrival: Some(Moment(stored)), ..Stored::new(&format!("{requests}/min")) };
            if let Err(wait) = stored.admits(Moment(now)) {
                let wait = i64::try_from(wait.as_nanos()).unwrap();
                prop_assert!(wait <= stored.limit.interval);
                prop_assert_eq!(stored.admits(Moment(now + wait)), Ok(()));
            }
        }

        #[test]
        fn no_day_gives_more_than_its_quota_however_the_clock_is_set(
            steps in prop::collection::vec((-40..40_i64, 1..5_u32), 1..200),
        ) {
            let mut counts = std::collections::BTreeMap::<i64, u64>::new();
            let mut hour = 24 * 20_000_i64;
            for (hours, executions) in steps {
                hour += hours;
                let now = Moment(hour * HOUR);
                let newest = counts.range(..=DayCount::latest(now.day())).next_back();
                let newest = newest.map(|(&day, &executions)| DayCount { day, executions });
                if let Ok(new) = DayCount::current(now.day(), newest).admit(executions, Some(10), now) {
                    prop_assert!((now.day()..=now.day() + 1).contains(&new.day));
                    counts.insert(new.day, new.executions);
                }
            }
            prop_assert!(counts.values().all(|&executions| executions <= 10));
        }
    }
}
