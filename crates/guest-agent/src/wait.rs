//! Waiting for descriptors, with a deadline.

use std::time::Instant;

use rustix::{
    event::{PollFd, Timespec, poll},
    io::Errno,
};

/// Waits until one of `descriptors` is ready, or until `deadline`. False when none is.
pub(crate) fn ready(descriptors: &mut [PollFd<'_>], deadline: Instant) -> rustix::io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // No deadline of ours is so far away that it could not be told.
        let left = Timespec::try_from(left).map_err(|_| Errno::INVAL)?;
        match poll(descriptors, Some(&left)) {
            Ok(count) => return Ok(count > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}
