//! The vsock port on which the agent listens where its machine has vsock and no virtio-serial port.
//!
//! Any process of a guest can open vsocks, so there are two rules: the port is taken before there is a job, and who
//! connects is served only if it is the host.

use std::{fs::File, os::fd::OwnedFd};

use protocol::{VSOCK_PORT, VSOCK_READY_PORT};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketAddrAny, SocketFlags, SocketType, acceptfrom_with, bind, connect,
        listen as start_listening, socket_with,
    },
};

use crate::{
    fault::{Doing, Fault},
    sys::VsockAddress,
};

/// `VMADDR_CID_HOST` of vsock(7).
const HOST: u32 = 2;
/// `VMADDR_CID_ANY` of vsock(7): whichever the machine has. Clones of a snapshot may have one each.
const ANY: u32 = u32::MAX;

/// How many connections may wait for theirs to be the next. The host has one at a time, and may have given up
/// some before the agent has seen that.
const BACKLOG: i32 = 8;

/// Takes the agent's port.
pub(crate) fn listen() -> Result<OwnedFd, Fault> {
    let socket = socket_with(AddressFamily::VSOCK, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .doing("open a vsock")?;
    bind(&socket, &VsockAddress::new(ANY, VSOCK_PORT)).doing(format!("bind vsock port {VSOCK_PORT}"))?;
    start_listening(&socket, BACKLOG).doing("listen on a vsock")?;
    announce();
    Ok(socket)
}

/// Tells the host that the agent listens. It needs to know only once: after a restore the agent listens already.
fn announce() {
    let told = socket_with(AddressFamily::VSOCK, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .and_then(|socket| connect(&socket, &VsockAddress::new(HOST, VSOCK_READY_PORT)));
    // A host that does not listen there tries until it is served.
    let _ = told;
}

/// The host's next connection. Others are closed.
pub(crate) fn accept(listener: &OwnedFd) -> Result<File, Fault> {
    loop {
        match acceptfrom_with(listener, SocketFlags::CLOEXEC) {
            Ok((connection, peer)) if is_host(peer.as_ref()) => return Ok(connection.into()),
            Ok(_) | Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(error) => return Err(error).doing("accept a connection of the host"),
        }
    }
}

fn is_host(peer: Option<&SocketAddrAny>) -> bool {
    peer.and_then(VsockAddress::read).is_some_and(|peer| peer.cid() == HOST)
}

#[cfg(test)]
mod tests {
    use rustix::net::{SocketAddrUnix, addr::SocketAddrArg as _};

    use super::*;

    #[test]
    fn only_the_host_is_served() {
        assert!(is_host(Some(&VsockAddress::new(HOST, 1024).as_any())));
        // The hypervisor, the loopback, the guest itself, and nobody in particular.
        for cid in [0, 1, 3, ANY] {
            assert!(!is_host(Some(&VsockAddress::new(cid, 1024).as_any())), "{cid}");
        }
        assert!(!is_host(Some(&SocketAddrUnix::new("/host").unwrap().as_any())));
        assert!(!is_host(None));
    }
}
