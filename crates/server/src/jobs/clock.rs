//! Whether the wall clock was set: what is kept until some time is kept for as long as was said, whatever the clock does.
//!
//! Times in the file are of the wall clock, for they outlive the process. While it lives, the steady clock tells how far the
//! wall clock should have come.

use std::time::Instant;

use super::job::{Millis, now};

/// What the wall clock may be off without having been set, in milliseconds: it is slewed, and read a moment apart.
const TOLERANCE: Millis = 1000;

/// Both clocks, as they were read last.
#[derive(Clone, Copy, Debug)]
pub(super) struct WallClock {
    wall: Millis,
    steady: Instant,
}

impl WallClock {
    /// Now.
    pub(super) fn now() -> Self {
        Self { wall: now(), steady: Instant::now() }
    }

    /// By how much the wall clock was set since this was read, if it was.
    pub(super) fn jump_until(self, now: Self) -> Option<Millis> {
        let passed = now.steady.saturating_duration_since(self.steady).as_millis();
        let expected = self.wall.saturating_add(Millis::try_from(passed).unwrap_or(Millis::MAX));
        let jump = now.wall.saturating_sub(expected);
        (jump.abs() > TOLERANCE).then_some(jump)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_that_was_set_is_told_from_one_that_went_on() {
        let before = WallClock::now();
        let after = |wall: Millis| WallClock {
            wall: before.wall + wall,
            steady: before.steady + Duration::from_secs(60),
        };
        assert_eq!(before.jump_until(after(60_000)), None);
        assert_eq!(before.jump_until(after(60_900)), None);
        assert_eq!(before.jump_until(after(0)), Some(-60_000));
        assert_eq!(before.jump_until(after(60_000 + 86_400_000)), Some(86_400_000));
        assert_eq!(before.jump_until(after(60_000 - 86_400_000)), Some(-86_400_000));
    }
}
