//! Makes a restored microVM differ from every other clone of its snapshot: the kernel's random numbers and its
//! clock. Interpreters follow in `initialised.rs`.

use std::fs::File;

use protocol::{Bytes, limits::ENTROPY_BYTES};
use rustix::time::{ClockId, Timespec, clock_settime};

use crate::{
    fault::{Doing, Fault},
    sys,
};

/// Reseeds the kernel's generator from `entropy` and sets its wall clock.
pub(crate) fn kernel(random: &File, entropy: &Bytes, realtime_unix_nanos: u64) -> Result<(), Fault> {
    let entropy: [u8; ENTROPY_BYTES] = entropy.0[..]
        .try_into()
        .map_err(|_| Fault::new(format!("reseed with {} bytes, not {ENTROPY_BYTES}", entropy.0.len())))?;
    sys::reseed_kernel(random, entropy).doing("reseed the kernel's random numbers")?;
    let now = Timespec {
        tv_sec: i64::try_from(realtime_unix_nanos / 1_000_000_000).doing("read the host's clock")?,
        tv_nsec: i64::try_from(realtime_unix_nanos % 1_000_000_000).doing("read the host's clock")?,
    };
    clock_settime(ClockId::Realtime, now).doing("set the clock")
}
