//! What an execution has left in flight: files that were sent through a socket and not received are open though no process
//! has them, and sockets that are sent through each other stay until the kernel looks for such (Linux,
//! `net/unix/garbage.c`). It frees one of a chain in each of its rounds, some milliseconds each: all that time they keep
//! ports, memory and names that the next execution would find.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::fault::{Doing, Fault};

/// Every Unix socket of the guest, those in flight too: a line for each, after one that says what is what. Names need be no
/// UTF-8.
const SOCKETS: &str = "/proc/net/unix";

/// How long the sockets of an execution may stay after its last process. The longest chain that the limit of open files
/// allows takes about 15 seconds, with emulation.
const PATIENCE: Duration = Duration::from_secs(25);

/// How often is looked: nobody tells of a socket that is freed.
const PAUSE: Duration = Duration::from_millis(1);

/// What the last socket held is released by work that the kernel delays by a tick (`delayed_fput`), and that nobody tells
/// of.
const AFTER_THE_LAST: Duration = Duration::from_millis(20);

/// How many Unix sockets there are.
pub(crate) fn sockets() -> Result<usize, Fault> {
    let text = fs::read(SOCKETS).doing(format!("read {SOCKETS}"))?;
    Ok(text.split(|byte| *byte == b'\n').count().saturating_sub(2))
}

/// Waits until there are no more than `most`, and has the kernel look for those that nobody can reach. To be called as soon
/// as the last process is dead: whether it left any tells whether there may be more to wait for.
pub(crate) fn wait_for(most: usize) -> Result<(), Fault> {
    let deadline = Instant::now() + PATIENCE;
    let mut waited = false;
    while sockets()? > most {
        if Instant::now() >= deadline {
            return Err(Fault::new("an execution has left sockets that nobody has"));
        }
        // It looks whenever a socket is closed.
        drop(socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None));
        thread::sleep(PAUSE);
        waited = true;
    }
    if waited {
        thread::sleep(AFTER_THE_LAST);
    }
    Ok(())
}
