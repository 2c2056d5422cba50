//! How well the kernel has measured the timer of the local APIC.
//!
//! It does so once in its boot, in a tenth of a second by the processor's counter (Linux, `calibrate_APIC_clock`). Where
//! the host takes the virtual processor away at a bad moment then, all timers of this microVM, and of its clones, come too
//! late or too early ever after; or the kernel finds the result absurd and does without, and with it without a tick, for the
//! machine has no other timer: a program that never sleeps is never interrupted then.

use std::fs;

use crate::fault::{Doing, Fault};

/// The kernel's list of its timers (Linux, `kernel/time/timer_list.c`).
const TIMERS: &str = "/proc/timer_list";

/// What the timer counts, in hertz: with QEMU, as with KVM, its bus has one gigahertz, which Linux has divided by 16.
const APIC_HERTZ: u64 = 1_000_000_000 / 16;

/// How fast the kernel takes the timer to run, in thousandths of how fast it does.
pub(crate) fn permille() -> Result<u32, Fault> {
    let timers = fs::read_to_string(TIMERS).doing(format!("read {TIMERS}"))?;
    permille_of(&timers).ok_or_else(|| Fault::new(format!("{TIMERS} has no timer of a processor")))
}

/// The same, from the kernel's list: of the first processor, for the others have what was measured there.
fn permille_of(timers: &str) -> Option<u32> {
    let mut lines = timers.lines().skip_while(|line| !line.starts_with("Per CPU device:")).skip(1);
    let name = lines.next()?.strip_prefix("Clock Event Device:")?.trim();
    // One that counts with the processor's own counter has not been measured, nor has one of a paravirtualised machine.
    if name != "lapic" {
        return Some(1000);
    }
    let mut number = |name| {
        let value = lines.by_ref().find_map(|line| line.trim_start().strip_prefix(name))?;
        value.trim().parse::<u64>().ok()
    };
    // Nanoseconds are counts times `mult`, divided by two to the power of `shift`: one that is switched off has 1.
    let (mult, shift) = (number("mult:")?, number("shift:")?);
    let hertz = u128::from(mult).checked_mul(1_000_000_000)? >> shift.min(127);
    u32::try_from(hertz * 1000 / u128::from(APIC_HERTZ)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Linux 6.12 lists it, for the first of two processors.
    fn listed(name: &str, mult: u64) -> String {
        format!(
            "Timer List Version: v0.10\nHRTIMER_MAX_CLOCK_BASES: 8\n\nTick Device: mode:     1\nBroadcast device\nClock Event Device: \
             <NULL>\ntick_broadcast_mask: 0\n\nTick Device: mode:     1\nPer CPU device: 0\nClock Event Device: {name}\n \
             max_delta_ns:   34359670156\n min_delta_ns:   1000\n mult:           {mult}\n shift:          32\n mode:           \
             3\n\nTick Device: mode:     1\nPer CPU device: 1\nClock Event Device: {name}\n mult:           7\n"
        )
    }

    #[test]
    fn a_timer_is_compared_with_how_fast_it_runs() {
        for (mult, permille) in
            [(268_436_529, 1000), (322_122_548, 1200), (241_591_910, 899), (16_777_216, 62), (1, 0), (0, 0)]
        {
            assert_eq!(permille_of(&listed("lapic", mult)), Some(permille), "{mult}");
        }
    }

    #[test]
    fn what_is_not_measured_is_right() {
        assert_eq!(permille_of(&listed("lapic-deadline", 1_250_000)), Some(1000));
        assert_eq!(permille_of(&listed("hpet", 1)), Some(1000));
    }

    #[test]
    fn a_list_that_does_not_tell_is_none() {
        for text in [
            "",
            "Per CPU device: 0\n",
            "Per CPU device: 0\nClock Event Device: lapic\n mult: x\n shift: 32\n",
        ] {
            assert_eq!(permille_of(text), None, "{text}");
        }
        assert_eq!(permille_of(&listed("lapic", u64::MAX)), None);
    }
}
