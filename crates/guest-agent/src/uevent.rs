//! Waiting for devices without polling: the kernel announces every change on a netlink socket.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags},
    net::{
        AddressFamily, RecvFlags, SocketFlags, SocketType, bind,
        netlink::{KOBJECT_UEVENT, SocketAddrNetlink},
        recv, socket_with,
    },
};

use crate::{
    fault::{Doing, Fault},
    wait,
};

/// The multicast group of the kernel's own events, as opposed to those that udev passes on.
const KERNEL_EVENTS: u32 = 1;

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
            if !wait::ready(&mut [PollFd::new(&self.0, PollFlags::IN)], deadline)
                .doing("wait for a device event")?
            {
                return Err(Fault::new(format!("no {what} within {} s", timeout.as_secs())));
            }
            // What the event says does not matter: `find` looks for itself. ENOBUFS tells that events were lost,
            // which is as good a reason to look again.
            let mut event = [0; 8192];
            match recv(&self.0, &mut event[..], RecvFlags::empty()) {
                Ok(_) | Err(rustix::io::Errno::NOBUFS) => {}
                Err(error) => return Err(error).doing("read a device event"),
            }
        }
    }
}
