//! The agent's only unsafe code: ioctls and a socket address that `rustix` does not have, and the step between fork
//! and exec.
#![expect(
    unsafe_code,
    reason = "ioctls, socket addresses and the hook between fork and exec cannot be had without"
)]

use std::{
    ffi::c_void,
    io,
    os::{fd::AsFd, unix::process::CommandExt},
    process::Command,
};

use rustix::{
    ioctl::{self, Ioctl, IoctlOutput, Opcode, opcode},
    net::{
        AddressFamily, SocketAddrAny,
        addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque},
    },
    thread::UnshareFlags,
};

/// `RNDADDENTROPY` of random(4): credits entropy and mixes it in.
const RNDADDENTROPY: Opcode = opcode::write::<[i32; 2]>(b'R', 0x03);
/// `RNDRESEEDCRNG` of random(4): makes every later random byte depend on the entropy mixed in so far.
const RNDRESEEDCRNG: Opcode = opcode::none(b'R', 0x07);
/// `SIOCSIFFLAGS` of netdevice(7).
const SIOCSIFFLAGS: Opcode = 0x8914;

/// The length of a reseed's entropy, as the kernel takes it.
#[expect(clippy::cast_possible_wrap, clippy::cast_possible_truncation, reason = "it is 64")]
const ENTROPY_BYTES: i32 = protocol::limits::ENTROPY_BYTES as i32;

/// `struct rand_pool_info` with room for the entropy of one reseed.
#[repr(C)]
struct EntropyPool {
    entropy_bits: i32,
    size_bytes: i32,
    bytes: [u8; protocol::limits::ENTROPY_BYTES],
}

struct AddEntropy(EntropyPool);

// SAFETY: the kernel reads `size_bytes` bytes behind the two integers, and `bytes` is that long.
unsafe impl Ioctl for AddEntropy {
    type Output = ();
    const IS_MUTATING: bool = false;
    fn opcode(&self) -> Opcode {
        RNDADDENTROPY
    }
    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut self.0).cast()
    }
    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

/// Credits `bytes` to the kernel's entropy pool, and has its generator start from it at once.
pub(crate) fn reseed_kernel(
    random: impl AsFd,
    bytes: [u8; protocol::limits::ENTROPY_BYTES],
) -> rustix::io::Result<()> {
    let pool = EntropyPool { entropy_bits: 8 * ENTROPY_BYTES, size_bytes: ENTROPY_BYTES, bytes };
    // SAFETY: see the implementation of `Ioctl`.
    unsafe { ioctl::ioctl(random.as_fd(), AddEntropy(pool))? };
    // SAFETY: this ioctl takes no argument.
    let reseed = unsafe { ioctl::NoArg::<RNDRESEEDCRNG>::new() };
    // SAFETY: it touches nothing but the kernel's own state.
    unsafe { ioctl::ioctl(random.as_fd(), reseed) }
}

/// `struct ifreq` of netdevice(7), as far as `SIOCSIFFLAGS` reads it.
#[repr(C)]
struct InterfaceFlags {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

// `sizeof(struct ifreq)`: the kernel reads as much.
const _: () = assert!(size_of::<InterfaceFlags>() == 40);

/// The flag of netdevice(7) that brings a device up.
const IFF_UP: i16 = 1;

/// Brings the loopback device up: programs expect to reach themselves at 127.0.0.1.
pub(crate) fn bring_loopback_up(socket: impl AsFd) -> rustix::io::Result<()> {
    let mut name = [0; 16];
    name[..2].copy_from_slice(b"lo");
    let request = InterfaceFlags { name, flags: IFF_UP, rest: [0; 22] };
    // SAFETY: the structure has the layout and the size that the kernel takes with this ioctl.
    let request = unsafe { ioctl::Setter::<SIOCSIFFLAGS, InterfaceFlags>::new(request) };
    // SAFETY: the kernel only reads the structure, which lives during the call.
    unsafe { ioctl::ioctl(socket.as_fd(), request) }
}

/// `struct sockaddr_vm` of vsock(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct VsockAddress {
    family: u16,
    reserved: u16,
    port: u32,
    cid: u32,
    flags: u8,
    zero: [u8; 3],
}

impl VsockAddress {
    /// As the kernel takes it: `sizeof(struct sockaddr_vm)`.
    const BYTES: SocketAddrLen = 16;

    /// The port `port` of the machine `cid`.
    pub(crate) fn new(cid: u32, port: u32) -> Self {
        Self { family: AddressFamily::VSOCK.as_raw(), reserved: 0, port, cid, flags: 0, zero: [0; 3] }
    }

    /// `address`, where it is one of a vsock.
    pub(crate) fn read(address: &SocketAddrAny) -> Option<Self> {
        if address.address_family() != AddressFamily::VSOCK || address.addr_len() < Self::BYTES {
            return None;
        }
        // SAFETY: as many bytes as the structure has are initialised, and it consists of integers without padding.
        Some(unsafe { address.as_ptr().cast::<Self>().read_unaligned() })
    }

    /// Which machine it is.
    pub(crate) fn cid(self) -> u32 {
        self.cid
    }
}

const _: () = assert!(size_of::<VsockAddress>() == VsockAddress::BYTES as usize);

// SAFETY: the structure has the kernel's layout, and lives and is readable for its whole length during the call.
unsafe impl SocketAddrArg for VsockAddress {
    unsafe fn with_sockaddr<R>(&self, f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R) -> R {
        f((&raw const *self).cast(), Self::BYTES)
    }
}

/// Has `step` run in the child between fork and exec.
pub(crate) fn before_exec(
    command: &mut Command,
    step: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) -> &mut Command {
    // SAFETY: the agent has one thread, so the child may call anything that the parent may.
    unsafe { command.pre_exec(step) }
}

/// Moves this process (or, for a pid namespace, its children) into new namespaces.
pub(crate) fn unshare(namespaces: UnshareFlags) -> rustix::io::Result<()> {
    if namespaces.contains(UnshareFlags::FILES) {
        return Err(rustix::io::Errno::INVAL);
    }
    // SAFETY: unsafe for `CLONE_FILES` alone, which may close other owners' descriptors, and is not among them.
    unsafe { rustix::thread::unshare_unsafe(namespaces) }
}

#[cfg(test)]
mod tests {
    use rustix::net::SocketAddrUnix;

    use super::*;

    #[test]
    fn a_vsock_address_is_what_the_kernel_reads_and_comes_back() {
        let address = VsockAddress::new(2, 5000);
        let any = address.as_any();
        assert_eq!((any.address_family(), any.addr_len()), (AddressFamily::VSOCK, 16));
        assert_eq!(VsockAddress::read(&any), Some(address));
        let copy = |start: *const SocketAddrOpaque, length: SocketAddrLen| {
            // SAFETY: `with_sockaddr` gives what is readable for its length.
            unsafe { std::slice::from_raw_parts(start.cast::<u8>(), length as usize) }.to_vec()
        };
        // SAFETY: `copy` keeps no pointer.
        let bytes = unsafe { address.with_sockaddr(copy) };
        assert_eq!(bytes, [40, 0, 0, 0, 0x88, 0x13, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn other_addresses_are_no_vsock_addresses() {
        let path = SocketAddrUnix::new("/a/path/that/is/longer/than/an/address").unwrap();
        assert_eq!(VsockAddress::read(&path.as_any()), None);
    }
}
