//! The channel to the host: a named virtio-serial port.

use std::{
    fs::{self, File},
    time::Duration,
};

use protocol::{
    SERIAL_PORT_NAME,
    frame::{self, FrameError},
    message::{GuestMessage, HostMessage},
};

use crate::{
    fault::{Doing, Fault},
    uevent::DeviceEvents,
};

/// Where the kernel lists the ports of virtio-serial devices with their names.
const PORTS: &str = "/sys/class/virtio-ports";

/// The connection to the host.
pub(crate) struct Channel(File);

impl Channel {
    /// Opens the port, waiting for the kernel to announce it.
    pub(crate) fn open(events: &DeviceEvents) -> Result<Self, Fault> {
        let device = events.wait_for("virtio-serial port of the host", Duration::from_secs(30), find_port)?;
        let port = File::options().read(true).write(true).open(&device).doing(format!("open {device}"))?;
        Ok(Self(port))
    }

    /// The next message of the host; nothing when the host has closed the channel.
    pub(crate) fn receive(&mut self) -> Result<Option<HostMessage>, Fault> {
        match frame::read(&mut self.0) {
            Ok(message) => Ok(Some(message)),
            Err(FrameError::Closed) => Ok(None),
            Err(error) => Err(error).doing("read a message of the host"),
        }
    }

    /// Answers the host.
    pub(crate) fn send(&mut self, message: &GuestMessage) -> Result<(), Fault> {
        frame::write(&mut self.0, message).doing("write a message to the host")
    }
}

impl From<File> for Channel {
    fn from(port: File) -> Self {
        Self(port)
    }
}

impl From<Channel> for File {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

/// The device node of the port that has our name.
fn find_port() -> Result<Option<String>, Fault> {
    // The directory is there as soon as the console driver is.
    for port in fs::read_dir(PORTS).doing(format!("list {PORTS}"))?.flatten() {
        // A port gets its name a moment after its directory, with an event of its own.
        let Ok(name) = fs::read_to_string(port.path().join("name")) else { continue };
        if name.trim_end() == SERIAL_PORT_NAME {
            return Ok(Some(format!("/dev/{}", port.file_name().to_string_lossy())));
        }
    }
    Ok(None)
}
