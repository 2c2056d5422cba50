//! What systemd, or another service manager that does as it does, gives the service, and is told of it.
//!
//! ```text
//! manager ──LISTEN_FDS──▶ sockets: they listen before the service starts, and go on when it ends
//!         ◀─NOTIFY_SOCKET── notify: ready, reloading, stopping, alive
//! ```

mod notify;
mod sockets;

pub(crate) use notify::Manager;
pub(crate) use sockets::Sockets;
