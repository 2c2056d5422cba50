//! When a request is tried again. No clock and no waiting of its own.

use std::time::{Duration, Instant};

use super::{Fault, error::Again};

/// How often a request is tried.
const MAX_TRIES: u32 = 8;

/// The pause after the first try. Each is twice as long as the one before, and a random part of it shorter, so that those
/// who were refused together do not come back together.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The longest pause that we choose.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The longest that a server may ask for.
const LONGEST_WISH: Duration = Duration::from_secs(30);

/// How long there is hope where nobody answers. Twice it is tried whatever that takes.
const BRIEFLY: Duration = Duration::from_secs(20);

/// The tries of one request.
pub(super) struct Tries {
    began: Instant,
    made: u32,
}

impl Tries {
    /// None yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, made: 0 }
    }

    /// How many there were.
    pub(super) fn made(&self) -> u32 {
        self.made
    }

    /// One has failed by `fault`: how long to pause before the next. Nothing where there is to be none.
    pub(super) fn pause(&mut self, fault: &Fault, now: Instant) -> Option<Duration> {
        self.made += 1;
        let least = match fault.again() {
            Again::Never => return None,
            Again::After(least) => least.min(LONGEST_WISH),
            Again::Briefly if self.made > 1 && now.duration_since(self.began) >= BRIEFLY => return None,
            Again::Briefly => Duration::ZERO,
        };
        if self.made == MAX_TRIES {
            return None;
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << (self.made - 1)).min(LONGEST_PAUSE);
        Some(pause.mul_f64(random_half()).max(least))
    }
}

/// Between a half and one.
fn random_half() -> f64 {
    let mut byte = [u8::MAX];
    // Without it the pauses are the longest.
    let _ = getrandom::fill(&mut byte);
    0.5 + f64::from(byte[0]) / 510.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::Refused;

    fn refused(status: u16, retry_after: Option<u64>) -> Fault {
        let retry_after = retry_after.map(Duration::from_secs);
        Fault::Refused(Box::new(Refused { status, code: None, message: None, region: None, retry_after }))
    }

    #[test]
    fn pauses_grow_and_end() {
        let now = Instant::now();
        let mut tries = Tries::new(now);
        let pauses: Vec<Duration> = std::iter::from_fn(|| tries.pause(&refused(503, None), now)).collect();
        assert_eq!((pauses.len(), tries.made()), (7, 8));
        for (number, pause) in pauses.iter().enumerate() {
            let longest = FIRST_PAUSE.saturating_mul(1 << number).min(LONGEST_PAUSE);
            assert!(*pause <= longest && *pause >= longest / 2, "{number}: {pause:?}");
        }
    }

    #[test]
    fn what_a_server_asks_for_is_waited_but_not_without_end() {
        let now = Instant::now();
        assert_eq!(Tries::new(now).pause(&refused(429, Some(7)), now), Some(Duration::from_secs(7)));
        assert_eq!(Tries::new(now).pause(&refused(429, Some(86_400)), now), Some(LONGEST_WISH));
    }

    #[test]
    fn what_would_fail_again_is_not_tried_again() {
        let now = Instant::now();
        assert_eq!(Tries::new(now).pause(&refused(403, None), now), None);
        assert_eq!(Tries::new(now).pause(&Fault::Missing, now), None);
    }

    #[test]
    fn where_nobody_answers_there_is_an_end_soon() {
        let now = Instant::now();
        let silent = Fault::Silent { patience: Duration::from_secs(30) };
        let mut tries = Tries::new(now);
        assert!(tries.pause(&silent, now + Duration::from_secs(30)).is_some(), "twice in any case");
        assert_eq!(tries.pause(&silent, now + Duration::from_secs(60)), None);
    }
}
