//! How a Firecracker ended, read from its exit status and its log.

use rustix::process::Signal;

use crate::backend::Exit;

/// What its log says when a guest's processor has shut down by a triple fault, which is how our guests' kernels panic.
const TRIPLE_FAULT: &str = "Unexpected exit reason on vcpu run: Shutdown";

/// Exit statuses by which Firecracker tells that it has caught a signal (`FcExitCode` of its sources). 148 is a system call
/// that its filter does not allow.
const CAUGHT: [(i32, Signal); 8] = [
    (148, Signal::SYS),
    (149, Signal::BUS),
    (150, Signal::SEGV),
    (151, Signal::XFSZ),
    (154, Signal::XCPU),
    (155, Signal::PIPE),
    (156, Signal::HUP),
    (157, Signal::ILL),
];

/// What the end of the process means, after what it has logged.
pub(super) fn told(exit: Exit, log: &str) -> Exit {
    match exit {
        // With either status: Firecracker's is that of whichever of its threads has ended first.
        Exit::GuestShutdown | Exit::Failed { .. } if log.contains(TRIPLE_FAULT) => Exit::GuestPanic,
        Exit::Failed { code } => match CAUGHT.iter().find(|(status, _)| *status == code) {
            Some((_, signal)) => Exit::by_signal(signal.as_raw()),
            None => exit,
        },
        exit => exit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_apart() {
        let log = format!("2026-11-24T12:00:00 [vm:fc_vcpu 0] {TRIPLE_FAULT}");
        let failed = |code| Exit::Failed { code };
        assert_eq!(told(failed(1), &log), Exit::GuestPanic);
        assert_eq!(told(Exit::GuestShutdown, &log), Exit::GuestPanic);
        assert_eq!(told(Exit::by_signal(9), &log), Exit::Killed { signal: 9 });
        assert_eq!(told(failed(1), ""), failed(1));
        assert_eq!(told(Exit::GuestShutdown, ""), Exit::GuestShutdown);
        assert_eq!(told(failed(148), ""), Exit::Crashed { signal: 31 });
        assert_eq!(told(failed(150), ""), Exit::Crashed { signal: 11 });
        assert_eq!(told(failed(156), ""), Exit::Killed { signal: 1 });
        assert_eq!(told(Exit::by_signal(9), ""), Exit::Killed { signal: 9 });
    }
}
