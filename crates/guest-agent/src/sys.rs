//! The agent's only unsafe code: ioctls that `rustix` does not have, and the step between fork and exec.
#![expect(unsafe_code, reason = "ioctls and the hook between fork and exec cannot be had without")]

use std::{
    ffi::c_void,
    io,
    os::{fd::AsFd, unix::process::CommandExt},
    process::Command,
};

use rustix::{
    ioctl::{self, Ioctl, IoctlOutput, Opcode, opcode},
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
    unsafe { ioctl::ioctl(random.as_fd(), ioctl::NoArg::<RNDRESEEDCRNG>::new()) }
}

/// `struct ifreq` of netdevice(7), as far as `SIOCSIFFLAGS` reads it.
#[repr(C)]
struct InterfaceFlags {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

/// The flag of netdevice(7) that brings a device up.
const IFF_UP: i16 = 1;

/// Brings the loopback device up: programs expect to reach themselves at 127.0.0.1.
pub(crate) fn bring_loopback_up(socket: impl AsFd) -> rustix::io::Result<()> {
    let mut name = [0; 16];
    name[..2].copy_from_slice(b"lo");
    let request = InterfaceFlags { name, flags: IFF_UP, rest: [0; 22] };
    // SAFETY: the structure has the kernel's layout and size, and the kernel only reads it.
    unsafe { ioctl::ioctl(socket.as_fd(), ioctl::Setter::<SIOCSIFFLAGS, InterfaceFlags>::new(request)) }
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
    // SAFETY: unsafe for `CLONE_FILES` alone, which may close other owners' descriptors; no caller passes it.
    unsafe { rustix::thread::unshare_unsafe(namespaces) }
}
