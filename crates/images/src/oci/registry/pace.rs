//! How slow a host may be. One that sends a byte now and then is never silent, and would never be done.

use std::time::{Duration, Instant};

/// The slowest host that is waited for, in bytes for each second. A modem is faster.
const LEAST_BYTES_PER_SECOND: u64 = 1 << 10;

/// Over what time that is an average. A busy host may fall silent for half of it.
const WINDOW: Duration = Duration::from_secs(60);

/// Measures one answer.
#[derive(Debug)]
pub(super) struct Pace {
    began: Instant,
    bytes: u64,
}

impl Pace {
    /// Nothing has come so far.
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, bytes: 0 }
    }

    /// So much more has come. False where it is too little for the time that it took.
    pub(super) fn is_kept(&mut self, bytes: u64, now: Instant) -> bool {
        self.bytes += bytes;
        let elapsed = now.duration_since(self.began);
        if elapsed < WINDOW {
            return true;
        }
        let is_kept = self.bytes >= LEAST_BYTES_PER_SECOND * elapsed.as_secs();
        *self = Self::new(now);
        is_kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many seconds an answer lasts in which so many bytes come every ten.
    fn lasts(bytes: u64) -> Option<u64> {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        (1..1000)
            .map(|ten| ten * 10)
            .find(|second| !pace.is_kept(bytes, start + Duration::from_secs(*second)))
    }

    #[test]
    fn a_byte_now_and_then_is_not_enough() {
        assert_eq!(lasts(1), Some(60));
        assert_eq!(lasts(10 * LEAST_BYTES_PER_SECOND - 1), Some(60));
        assert_eq!(lasts(10 * LEAST_BYTES_PER_SECOND), None);
    }

    #[test]
    fn a_host_that_was_fast_once_is_not_waited_for_for_ever() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert!(pace.is_kept(1 << 40, start + Duration::from_secs(60)));
        assert!(!pace.is_kept(1, start + Duration::from_secs(120)));
    }
}
