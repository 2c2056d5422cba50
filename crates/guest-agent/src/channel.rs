//! The channel to the host: a named virtio-serial port, or a vsock port that the host connects to.
//!
//! ```text
//! virtio-serial port ──▶ its end is the end of the conversation, and of the microVM
//! vsock port ──▶ connection ──▶ its end ──▶ the next connection, with everything that the agent has prepared
//! ```
//!
//! A restore of the microVM breaks vsock connections (the device's transport reset); the port that listens stays.

use std::{
    fs::{self, File},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
    time::Duration,
};

use protocol::{
    SERIAL_PORT_NAME,
    frame::{self, FrameError},
    message::{GuestMessage, HostMessage},
};
use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::Errno,
    net::sockopt::socket_acceptconn,
};

use crate::{
    fault::{Doing, Fault},
    uevent::DeviceEvents,
    vsock,
};

/// Kinds of virtio devices ("Device Types" of the virtio specification).
const CONSOLE: u32 = 3;
const VSOCK: u32 = 19;

/// How long the kernel may take to find its devices.
const PATIENCE: Duration = Duration::from_secs(30);

/// Opens what the machine has of the two, waiting for the kernel to announce it.
pub(crate) fn open(events: &DeviceEvents) -> Result<OwnedFd, Fault> {
    let sys = Path::new("/sys");
    match events.wait_for("virtio-serial port of the host, or vsock", PATIENCE, || Ok(find(sys))) {
        Ok(Found::Port(name)) => {
            let device = format!("/dev/{name}");
            let port = File::options().read(true).write(true).open(&device);
            Ok(port.doing(format!("open {device}"))?.into())
        }
        Ok(Found::Vsock) => vsock::listen(),
        // Its console has no port of the host.
        Err(_) if has_device(sys, VSOCK) => vsock::listen(),
        Err(fault) => Err(fault),
    }
}

/// Where the host will be heard.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// The virtio-serial port of this name.
    Port(String),
    /// The vsock port.
    Vsock,
}

/// What of the two there is. `sys` is where sysfs is mounted.
fn find(sys: &Path) -> Option<Found> {
    if let Some(port) = find_port(sys) {
        return Some(Found::Port(port));
    }
    // The ports of a console come a while after it, one by one.
    (has_device(sys, VSOCK) && !has_device(sys, CONSOLE)).then_some(Found::Vsock)
}

/// The virtio-serial port that has our name.
fn find_port(sys: &Path) -> Option<String> {
    fs::read_dir(sys.join("class/virtio-ports")).ok()?.flatten().find_map(|port| {
        // A port gets its name a moment after its directory, with an event of its own.
        let name = fs::read_to_string(port.path().join("name")).ok()?;
        (name.trim_end() == SERIAL_PORT_NAME).then(|| port.file_name().to_string_lossy().into_owned())
    })
}

/// Whether there is a virtio device of this kind, and a driver for it.
fn has_device(sys: &Path, kind: u32) -> bool {
    let Ok(devices) = fs::read_dir(sys.join("bus/virtio/devices")) else { return false };
    devices.flatten().any(|device| {
        let is = fs::read_to_string(device.path().join("device")).ok();
        let is = is.and_then(|number| u32::from_str_radix(number.trim_end().strip_prefix("0x")?, 16).ok());
        is == Some(kind) && device.path().join("driver").exists()
    })
}

/// The conversation with the host.
pub(crate) struct Channel(Medium);

enum Medium {
    Port(File),
    Connections { accept: Box<dyn FnMut() -> Result<File, Fault>>, current: Option<File> },
}

impl Channel {
    /// The channel over what [`open`] has opened.
    pub(crate) fn over(opened: OwnedFd) -> Self {
        if matches!(socket_acceptconn(&opened), Ok(true)) {
            Self::over_connections(move || vsock::accept(&opened))
        } else {
            Self(Medium::Port(opened.into()))
        }
    }

    fn over_connections(accept: impl FnMut() -> Result<File, Fault> + 'static) -> Self {
        Self(Medium::Connections { accept: Box::new(accept), current: None })
    }

    /// The next message of the host; nothing when the host has closed the channel for good.
    pub(crate) fn receive(&mut self) -> Result<Option<HostMessage>, Fault> {
        let received = match &mut self.0 {
            Medium::Port(port) => match frame::read(port) {
                Err(FrameError::Closed) => return Ok(None),
                received => received,
            },
            Medium::Connections { accept, current } => loop {
                let connection = match current {
                    Some(connection) => connection,
                    None => current.insert(accept()?),
                };
                match frame::read(connection) {
                    // What had come of a message is nothing without the rest.
                    Err(FrameError::Closed | FrameError::Io(_)) => *current = None,
                    received => break received,
                }
            },
        };
        received.map(Some).doing("read a message of the host")
    }

    /// The same of this connection alone: nothing when it has ended.
    pub(crate) fn receive_here(&mut self) -> Result<Option<HostMessage>, Fault> {
        let received = match &mut self.0 {
            Medium::Port(port) => frame::read(port),
            Medium::Connections { current: None, .. } => return Ok(None),
            Medium::Connections { current: Some(connection), .. } => frame::read(connection),
        };
        match (received, &mut self.0) {
            (Err(FrameError::Closed | FrameError::Io(_)), Medium::Connections { current, .. }) => {
                *current = None;
                Ok(None)
            }
            (Err(FrameError::Closed), Medium::Port(_)) => Ok(None),
            (received, _) => received.map(Some).doing("read a message of the host"),
        }
    }

    /// Answers the host. An answer on a connection that has ended is nobody's.
    pub(crate) fn send(&mut self, message: &GuestMessage) -> Result<(), Fault> {
        let sent = match &mut self.0 {
            Medium::Port(port) => frame::write(port, message),
            Medium::Connections { current, .. } => {
                match current.as_mut().map_or(Ok(()), |connection| frame::write(connection, message)) {
                    Err(FrameError::Io(_)) => {
                        *current = None;
                        Ok(())
                    }
                    sent => sent,
                }
            }
        };
        sent.doing("write a message to the host")
    }

    /// The descriptor of the conversation; nothing between two connections.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.0 {
            Medium::Port(port) => Some(port.as_fd()),
            Medium::Connections { current, .. } => current.as_ref().map(File::as_fd),
        }
    }

    /// Has writes to the conversation return at once, or wait.
    pub(crate) fn set_nonblocking(&self, nonblocking: bool) -> Result<(), Fault> {
        let Some(descriptor) = self.descriptor() else { return Ok(()) };
        let mut flags = fcntl_getfl(descriptor).doing("read the channel's flags")?;
        flags.set(OFlags::NONBLOCK, nonblocking);
        fcntl_setfl(descriptor, flags).doing("set the channel's flags")
    }

    /// Writes as much of a frame as the channel takes without waiting. The rest is to follow before anything else.
    /// Everything, as with [`Channel::send`], where the connection has ended.
    pub(crate) fn write_some(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        loop {
            let Some(descriptor) = self.descriptor() else { return Ok(bytes.len()) };
            match (rustix::io::write(descriptor, bytes), &mut self.0) {
                (Ok(written), _) => return Ok(written),
                (Err(Errno::AGAIN), _) => return Ok(0),
                (Err(Errno::INTR), _) => {}
                (Err(_), Medium::Connections { current, .. }) => *current = None,
                (Err(error), Medium::Port(_)) => return Err(error).doing("write to the host"),
            }
        }
    }

    /// Whether answers are nobody's until the next message comes.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.0, Medium::Connections { current: None, .. })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::Shutdown,
        os::unix::{fs::symlink, net::UnixStream},
    };

    use super::*;

    /// A sysfs with virtio devices of these kinds and names of ports.
    fn sysfs(devices: &[(&str, bool)], ports: &[(&str, Option<&str>)]) -> tempfile::TempDir {
        let sys = tempfile::tempdir().unwrap();
        for (index, (kind, driven)) in devices.iter().enumerate() {
            let device = sys.path().join(format!("bus/virtio/devices/virtio{index}"));
            fs::create_dir_all(&device).unwrap();
            fs::write(device.join("device"), format!("{kind}\n")).unwrap();
            if *driven {
                symlink(sys.path(), device.join("driver")).unwrap();
            }
        }
        for (port, name) in ports {
            let port = sys.path().join("class/virtio-ports").join(port);
            fs::create_dir_all(&port).unwrap();
            if let Some(name) = name {
                fs::write(port.join("name"), format!("{name}\n")).unwrap();
            }
        }
        sys
    }

    fn found(devices: &[(&str, bool)], ports: &[(&str, Option<&str>)]) -> Option<Found> {
        find(sysfs(devices, ports).path())
    }

    const DISK: (&str, bool) = ("0x0002", true);
    const A_CONSOLE: (&str, bool) = ("0x0003", true);
    const A_VSOCK: (&str, bool) = ("0x0013", true);

    #[test]
    fn the_port_with_our_name_is_the_channel_whatever_else_there_is() {
        let ports = [("vport0p0", Some("org.example")), ("vport0p1", Some(SERIAL_PORT_NAME))];
        for devices in [&[DISK, A_CONSOLE][..], &[A_VSOCK, DISK, A_CONSOLE]] {
            assert_eq!(found(devices, &ports), Some(Found::Port("vport0p1".to_owned())));
        }
    }

    #[test]
    fn a_machine_with_vsock_and_no_console_waits_for_no_port() {
        assert_eq!(found(&[DISK, A_VSOCK], &[]), Some(Found::Vsock));
    }

    #[test]
    fn what_is_not_there_yet_is_waited_for() {
        for devices in [&[][..], &[DISK], &[DISK, A_CONSOLE], &[A_CONSOLE, A_VSOCK]] {
            assert_eq!(found(devices, &[]), None, "{devices:?}");
        }
        assert_eq!(found(&[A_CONSOLE], &[("vport0p1", None), ("vport0p2", Some(""))]), None);
        // The module of its driver is missing.
        assert_eq!(found(&[DISK, ("0x0013", false)], &[]), None);
    }

    /// A channel over these connections, and then a fault.
    fn over(connections: Vec<UnixStream>) -> Channel {
        let mut connections = connections.into_iter();
        Channel::over_connections(move || {
            let connection = connections.next().ok_or_else(|| Fault::new("no connection"))?;
            Ok(File::from(OwnedFd::from(connection)))
        })
    }

    fn hello() -> HostMessage {
        HostMessage::Hello { generation: 1 }
    }

    #[test]
    fn the_next_connection_follows_one_that_has_ended_even_within_a_message() {
        let (mut whole, first) = UnixStream::pair().unwrap();
        let (mut half, second) = UnixStream::pair().unwrap();
        let (unused, third) = UnixStream::pair().unwrap();
        let (mut last, fourth) = UnixStream::pair().unwrap();
        let mut channel = over(vec![first, second, third, fourth]);
        let frame = frame::encode(&hello()).unwrap();
        whole.write_all(&frame).unwrap();
        half.write_all(&frame[..7]).unwrap();
        last.write_all(&frame).unwrap();
        drop((half, unused));

        assert_eq!(channel.receive().unwrap(), Some(hello()));
        channel.send(&GuestMessage::Reseeded).unwrap();
        whole.shutdown(Shutdown::Write).unwrap();
        assert_eq!(channel.receive().unwrap(), Some(hello()));
        channel.send(&GuestMessage::Finished).unwrap();
        assert_eq!(frame::read::<GuestMessage>(&mut whole).unwrap(), GuestMessage::Reseeded);
        assert_eq!(whole.read(&mut [0]).unwrap(), 0, "an answer to somebody else");
        assert_eq!(frame::read::<GuestMessage>(&mut last).unwrap(), GuestMessage::Finished);
    }

    #[test]
    fn an_answer_that_nobody_takes_is_no_fault() {
        let (mut host, guest) = UnixStream::pair().unwrap();
        let mut channel = over(vec![guest]);
        frame::write(&mut host, &hello()).unwrap();
        channel.receive().unwrap();
        assert!(!channel.is_lost());
        drop(host);
        for _ in 0..2 {
            channel.send(&GuestMessage::Finished).unwrap();
            assert!(channel.is_lost());
        }
        assert!(channel.receive().is_err(), "there is no other connection");
    }

    #[test]
    fn nonsense_ends_the_conversation_on_every_medium() {
        for connected in [true, false] {
            let (mut host, guest) = UnixStream::pair().unwrap();
            let mut channel = if connected { over(vec![guest]) } else { Channel::over(OwnedFd::from(guest)) };
            host.write_all(&[0; 4]).unwrap();
            assert!(channel.receive().is_err());
        }
    }

    #[test]
    fn the_end_of_a_port_is_the_end() {
        let (mut host, guest) = UnixStream::pair().unwrap();
        let mut channel = Channel::over(OwnedFd::from(guest));
        frame::write(&mut host, &hello()).unwrap();
        assert_eq!(channel.receive().unwrap(), Some(hello()));
        assert!(!channel.is_lost());
        drop(host);
        assert_eq!(channel.receive().unwrap(), None);
    }
}
