//! Tells when a process exits, before the kernel takes its memory down.
//!
//! A parent is told of its child's end last, when nothing is left of it. What is wanted here is decided long before:
//! the exit status, and every byte that it will have written. Between the two lies the release of its memory, which
//! takes milliseconds for an interpreter and a hundred for a large program, more under emulation. The kernel announces an
//! exit to listeners of taskstats just before (`Documentation/accounting/taskstats.rst`; `do_exit` sets the exit code,
//! announces, and only then lets go of the memory). What the announcement says is not used, for it numbers processes
//! otherwise than the runner does: it is the sign to look at `/proc/<pid>/stat`.
//!
//! Where a kernel has no taskstats, all ends are learnt of the usual way.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags},
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind,
        netlink::{self, SocketAddrNetlink},
        recv, send, socket_with,
    },
    process::Pid,
};

use crate::{
    fault::{Doing, Fault},
    wait,
};

/// `nlmsghdr` and `genlmsghdr` of netlink(7) and `linux/genetlink.h`, in bytes.
const HEADERS_BYTES: usize = 16 + 4;
const ATTRIBUTE_HEADER_BYTES: usize = 4;

const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST_AND_ACK: u16 = 1 | 4;
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

/// `linux/taskstats.h`.
const TASKSTATS_CMD_GET: u8 = 1;
const TASKSTATS_CMD_ATTR_REGISTER_CPUMASK: u16 = 3;

/// How long the kernel may take to answer, on a busy emulated processor.
const PATIENCE: Duration = Duration::from_secs(10);

/// A subscription to the announcements of all exits.
pub(crate) struct Exits(OwnedFd);

impl Exits {
    /// Subscribes, as the kernel wants it from the first pid namespace. Nothing where the kernel has no taskstats.
    pub(crate) fn subscribe() -> Result<Option<Self>, Fault> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::GENERIC),
        )
        .doing("open a generic netlink socket")?;
        bind(&socket, &SocketAddrNetlink::new(0, 0)).doing("bind a generic netlink socket")?;
        let Some(family) = family(&socket)? else { return Ok(None) };
        let processors =
            fs::read_to_string("/sys/devices/system/cpu/possible").doing("list the processors")?;
        let mask = [processors.trim_end().as_bytes(), b"\0"].concat();
        let request = request(family, TASKSTATS_CMD_GET, TASKSTATS_CMD_ATTR_REGISTER_CPUMASK, &mask);
        match ask(&socket, &request, |kind, payload| (kind == NLMSG_ERROR).then(|| error_number(payload)))? {
            0 => Ok(Some(Self(socket))),
            number => Err(io::Error::from_raw_os_error(number)).doing("subscribe to exits"),
        }
    }

    /// Whether there were any since this was last asked.
    pub(crate) fn any(&self) -> Result<bool, Fault> {
        let mut announcement = [0; 64];
        let mut any = false;
        loop {
            // What does not fit is cut off, and none of it is wanted. ENOBUFS tells that some were lost.
            match recv(&self.0, &mut announcement[..], RecvFlags::DONTWAIT) {
                Ok(_) | Err(Errno::NOBUFS) => any = true,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(any),
                Err(error) => return Err(error).doing("read an announcement of an exit"),
            }
        }
    }
}

impl From<OwnedFd> for Exits {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

impl From<Exits> for OwnedFd {
    fn from(exits: Exits) -> Self {
        exits.0
    }
}

impl AsFd for Exits {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The exit status of `process`, as wait(2) has it, where it is exiting and has no other thread left.
///
/// Fields of `/proc/<pid>/stat` are counted behind the name, which may hold anything (`proc_pid_stat(5)`).
pub(crate) fn status_of_exiting(process: Pid) -> Result<Option<i32>, Fault> {
    // The kernel takes the exit code first and the flags last, while the process goes on: a first look can pair the
    // code of a process that is not exiting with the flag of one that is. The flag never goes away, and was set after
    // the code: so what a second look finds belongs together.
    match look(process)? {
        Some(_) => look(process),
        None => Ok(None),
    }
}

/// One reading of [`status_of_exiting`].
fn look(process: Pid) -> Result<Option<i32>, Fault> {
    const STATE: usize = 0;
    const FLAGS: usize = 6;
    const THREADS: usize = 17;
    const EXIT_CODE: usize = 49;
    /// `PF_EXITING` of `linux/sched.h`.
    const EXITING: u32 = 4;
    let path = format!("/proc/{}/stat", process.as_raw_nonzero());
    let text = match fs::read(&path) {
        Ok(text) => text,
        // It is gone already.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => return Ok(None),
        Err(error) => return Err(error).doing(format!("read {path}")),
    };
    let behind_name = text.iter().rposition(|byte| *byte == b')').map_or(0, |position| position + 1);
    let text = String::from_utf8_lossy(&text[behind_name..]);
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let field = |index: usize| fields.get(index).copied().unwrap_or_default();
    let exiting = field(FLAGS).parse::<u32>().is_ok_and(|flags| flags & EXITING != 0);
    // A zombie's status is wait(2)'s to tell: its threads may have decided on another one since.
    if !exiting || field(THREADS) != "1" || field(STATE) == "Z" {
        return Ok(None);
    }
    Ok(field(EXIT_CODE).parse().ok())
}

/// The number of taskstats among the families of generic netlink.
fn family(socket: &OwnedFd) -> Result<Option<u16>, Fault> {
    let request = request(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, b"TASKSTATS\0");
    ask(socket, &request, |kind, payload| match kind {
        // Either there is no such family, or this acknowledges an answer in which it was not.
        NLMSG_ERROR => Some(None),
        GENL_ID_CTRL => attribute(payload.get(4..)?, CTRL_ATTR_FAMILY_ID).map(Some),
        _ => None,
    })
}

/// Sends `request` and returns what `find` finds in a message's kind and payload.
fn ask<T>(socket: &OwnedFd, request: &[u8], find: impl Fn(u16, &[u8]) -> Option<T>) -> Result<T, Fault> {
    send(socket, request, SendFlags::empty()).doing("write to generic netlink")?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answered = wait::ready(&mut [PollFd::new(socket, PollFlags::IN)], deadline);
        if !answered.doing("wait for generic netlink")? {
            return Err(Fault::new("generic netlink does not answer"));
        }
        let mut answer = [0; 4096];
        let (length, _) =
            recv(socket, &mut answer[..], RecvFlags::empty()).doing("read from generic netlink")?;
        let mut rest = answer.get(..length).unwrap_or_default();
        while let Some((kind, payload, others)) = message(rest) {
            if let Some(found) = find(kind, payload) {
                return Ok(found);
            }
            rest = others;
        }
    }
}

/// A generic netlink request with one attribute.
fn request(family: u16, command: u8, attribute: u16, value: &[u8]) -> Vec<u8> {
    let length = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX);
    let padded = value.len().next_multiple_of(4);
    let total = length(HEADERS_BYTES + ATTRIBUTE_HEADER_BYTES + padded);
    let mut bytes = Vec::with_capacity(total.into());
    bytes.extend(u32::from(total).to_ne_bytes());
    bytes.extend(family.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST_AND_ACK.to_ne_bytes());
    // No sequence number or sender: there is one conversation, and the kernel knows the socket.
    bytes.extend([0; 8]);
    bytes.extend([command, 1, 0, 0]);
    bytes.extend(length(ATTRIBUTE_HEADER_BYTES + value.len()).to_ne_bytes());
    bytes.extend(attribute.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(total.into(), 0);
    bytes
}

/// The first message's kind and payload, and what follows it.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let payload = bytes.get(16..length)?;
    Some((kind, payload, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// The value of the first attribute of this kind, which is a 16-bit number.
fn attribute(mut bytes: &[u8], wanted: u16) -> Option<u16> {
    loop {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?);
        if kind == wanted {
            return bytes
                .get(ATTRIBUTE_HEADER_BYTES..length)?
                .first_chunk()
                .map(|value| u16::from_ne_bytes(*value));
        }
        bytes = bytes.get(length.max(ATTRIBUTE_HEADER_BYTES).next_multiple_of(4)..)?;
    }
}

/// The error number in an `NLMSG_ERROR`; 0 where it is none, but says that all went well.
fn error_number(payload: &[u8]) -> i32 {
    payload
        .first_chunk()
        .map_or(Errno::PROTO.raw_os_error(), |code| i32::from_ne_bytes(*code).saturating_neg())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_as_long_as_it_says_and_padded() {
        let bytes = request(0x21, TASKSTATS_CMD_GET, TASKSTATS_CMD_ATTR_REGISTER_CPUMASK, b"0-3\0\0");
        let (kind, payload, rest) = message(&bytes).unwrap();
        assert_eq!((kind, bytes.len(), rest.len()), (0x21, 32, 0));
        assert_eq!(payload[..4], [TASKSTATS_CMD_GET, 1, 0, 0]);
        assert_eq!(payload[4..8], [9, 0, 3, 0]);
    }

    #[test]
    fn attributes_are_found_and_damaged_ones_are_not() {
        let attributes = [6, 0, 2, 0, 9, 9, 0, 0, 6, 0, 1, 0, 0x21, 0, 0, 0];
        assert_eq!(attribute(&attributes, CTRL_ATTR_FAMILY_ID), Some(0x21));
        for cut in 0..13 {
            assert_eq!(attribute(&attributes[..cut], CTRL_ATTR_FAMILY_ID), None, "{cut}");
        }
        // A length of nothing must not be read over and over.
        assert_eq!(attribute(&[0; 64], CTRL_ATTR_FAMILY_ID), None);
    }

    #[test]
    fn messages_that_lie_about_their_length_are_none() {
        assert!(message(&[200, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_none());
        assert!(message(&[4, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_none());
        assert!(message(&[]).is_none());
    }
}
