//! What the host and the guest agent say to each other, and how it is framed.
//!
//! Both ends are built from this crate, but one of them is hostile: a guest that ran foreign code may send
//! anything. So every length is bounded here ([`limits`]) before a byte is allocated for it ([`frame`]), and
//! unknown messages and unknown fields are errors, not extensions. A change of any message raises [`GENERATION`]
//! (`docs/protocol.md` says how).
//!
//! No I/O of its own beyond `Read` and `Write`, no async, no operating system.

mod bytes;
pub mod frame;
pub mod limits;
pub mod message;
mod tagged;

pub use bytes::Bytes;

/// The generation of the messages. Host and guest agent refuse to work with another one than their own; a
/// snapshot carries the generation that its agent speaks.
pub const GENERATION: u32 = 4;

/// The vsock port on which the guest agent listens, under VMMs that have no virtio-serial.
pub const VSOCK_PORT: u32 = 5000;

/// The vsock port of the host to which the guest agent connects, once, as soon as it listens: so that the host need not try
/// again and again. It says nothing there, and goes on where nobody listens.
pub const VSOCK_READY_PORT: u32 = 5001;

/// The name of the virtio-serial port that carries the same bytes under QEMU.
pub const SERIAL_PORT_NAME: &str = "llm-firecracker.agent";
