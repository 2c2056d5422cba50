//! What can be expected: how long starts and runs take, and how many requests come.

use std::time::{Duration, Instant};

/// How much the newest value counts.
const WEIGHT: f64 = 0.2;

/// How fast what was asked for is forgotten: to a third within this time.
const MEMORY: Duration = Duration::from_secs(60);

/// A running mean that prefers what is new.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mean(Duration);

impl Mean {
    /// Begins with a guess.
    pub(super) const fn guess(guess: Duration) -> Self {
        Self(guess)
    }

    /// Takes a new value into account.
    pub(super) fn add(&mut self, value: Duration) {
        self.0 = self.0.mul_f64(1.0 - WEIGHT) + value.mul_f64(WEIGHT);
    }

    /// The mean.
    pub(super) fn get(self) -> Duration {
        self.0
    }
}

/// How many requests come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    /// Requests of late, the older ones less.
    recent: f64,
    updated: Instant,
}

impl Demand {
    /// None yet.
    pub(super) fn none(now: Instant) -> Self {
        Self { recent: 0.0, updated: now }
    }

    /// Another one.
    pub(super) fn add(&mut self, now: Instant) {
        self.recent = self.decayed(now) + 1.0;
        self.updated = now;
    }

    /// How many microVMs will be asked for while `time` passes, as things go.
    pub(super) fn within(self, time: Duration, now: Instant) -> u32 {
        let per_second = self.decayed(now) / MEMORY.as_secs_f64();
        let asked = (per_second * time.as_secs_f64()).ceil().clamp(0.0, f64::from(u32::MAX));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped above")]
        let asked = asked as u32;
        asked
    }

    fn decayed(self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.updated);
        let left = self.recent * (-passed.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        // Less than one request in some minutes is none.
        if left < 0.02 { 0.0 } else { left }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demand_follows_what_comes_and_is_forgotten_when_nothing_does() {
        let start = Instant::now();
        let mut demand = Demand::none(start);
        assert_eq!(demand.within(Duration::from_secs(1), start), 0);
        // Ten a second for five minutes.
        let at = |tenths: u32| start + Duration::from_millis(100) * tenths;
        for tenth in 0..3000 {
            demand.add(at(tenth));
        }
        let expected = demand.within(Duration::from_secs(1), at(3000));
        assert!((10..=11).contains(&expected), "{expected}");
        assert_eq!(demand.within(Duration::from_secs(1), at(3000) + Duration::from_secs(1200)), 0);
    }

    #[test]
    fn a_mean_comes_close_to_what_is_new() {
        let mut mean = Mean::guess(Duration::from_secs(1));
        for _ in 0..30 {
            mean.add(Duration::from_millis(100));
        }
        assert!(mean.get() < Duration::from_millis(102), "{:?}", mean.get());
    }
}
