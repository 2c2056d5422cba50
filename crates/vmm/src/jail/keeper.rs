//! The first process of a jail's pid namespace, where the VMM cannot be that itself.
//!
//! A launcher that changes its user (Firecracker's jailer) loses the signal that is to end it with its parent: the
//! kernel forgets it with the change (`prctl(2)`, `PR_SET_PDEATHSIG`). So a process stands in between that changes nothing. It
//! is the namespace's PID 1: when it ends, however it ends, the kernel ends all others.

use std::{
    fs::File,
    io::{self, Write as _},
    os::fd::OwnedFd,
};

use rustix::{
    process::{Pid, WaitOptions, waitpid},
    thread::CapabilitySet,
};

use super::supervisor::give_up_capabilities;
use crate::sys;

/// Leaves this process as the keeper and returns in a child of it. To be called between fork and exec, as PID 1 of a
/// new namespace that dies with its parent. The keeper writes the child's wait status to `status`, and ends.
pub(super) fn stay_behind(status: &OwnedFd) -> io::Result<()> {
    let Some(child) = sys::fork()? else { return Ok(()) };
    let kept = keep(child, status);
    sys::exit_at_once(i32::from(kept.is_err()))
}

fn keep(child: Pid, status: &OwnedFd) -> io::Result<()> {
    // It waits for children of its own namespace, and for that needs no power.
    give_up_capabilities(CapabilitySet::empty())?;
    let mut status = File::from(status.try_clone()?);
    // What was inherited would be kept open: among it the pipe by which the parent waits for exec.
    sys::close_all_but(&status)?;
    loop {
        match waitpid(None, WaitOptions::empty()) {
            Ok(Some((pid, ended))) if pid == child => {
                return status.write_all(&ended.as_raw().to_ne_bytes());
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
