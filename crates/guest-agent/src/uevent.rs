//! Waiting for devices without polling: the kernel announces every change on a netlink socket.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{
        AddressFamily, RecvFlags, SocketFlags, SocketType, bind,
        netlink::{KOBJECT_UEVENT, SocketAddrNetlink},
        recv, socket_with,
    },
};

use crate::fault::{Doing, Fault};

/// A subscription to the kernel's device events.
pub(crate) struct DeviceEvents(OwnedFd);

impl DeviceEvents {
    /// Subscribes. Look for the device after this, or an event can be missed.
    pub(crate) fn subscribe() -> Result<Self, Fault> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            Some(KOBJECT_UEVENT),
        )
        .doing("open the device event socket")?;
        const KERNEL_EVENTS: u32 = 1;
        bind(&socket, &SocketAddrNetlink::new(0, KERNEL_EVENTS)).doing("subscribe to device events")?;
        Ok(Self(socket))
    }

    /// Waits until `find` finds something, asking it again after every event.
    pub(crate) fn wait_for<T>(
        &self,
        what: &str,
        timeout: Duration,
        mut find: impl FnMut() -> Result<Option<T>, Fault>,
    ) -> Result<T, Fault> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(found) = find()? {
                return Ok(found);
            }
            let left = deadline
                .checked_duration_since(Instant::now())
                .ok_or_else(|| Fault::new(format!("no {what} within {} s", timeout.as_secs())))?;
            let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            let mut sockets = [PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut sockets, Some(&left)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => {
                    // What the event says does not matter: `find` looks for itself. ENOBUFS tells that
                    // events were lost, which is as good a reason to look again.
                    let mut event = [0; 8192];
                    match recv(&self.0, &mut event[..], RecvFlags::empty()) {
                        Ok(_) | Err(rustix::io::Errno::NOBUFS) => {}
                        Err(error) => return Err(error).doing("read a device event"),
                    }
                }
                Err(error) => return Err(error).doing("wait for a device event"),
            }
        }
    }
}
