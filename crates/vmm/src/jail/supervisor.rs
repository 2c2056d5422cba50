//! The supervisor: builds the jail, starts the VMM in it, watches both ends.

use std::{
    fs::{self, File},
    io::{self, IoSliceMut, Read as _, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, IntoRawFd as _, OwnedFd},
        unix::{fs::MetadataExt as _, net::UnixStream, process::ExitStatusExt as _},
    },
    process::{Command, ExitCode, ExitStatus, Stdio},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, recvmsg, sendmsg,
    },
    pipe::{PipeFlags, pipe_with},
    process::{
        PidfdFlags, Resource, Rlimit, Signal, getpid, getrlimit, pidfd_open, set_parent_process_death_signal,
        setrlimit, setsid,
    },
    thread::{
        CapabilitySet, CapabilitySets, Gid, Uid, UnshareFlags, remove_capability_from_bounding_set,
        set_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
    },
};

use super::{
    cgroup::{Entrance, Group},
    filter::Filter,
    keeper,
    opens::ReadOnlyFiles,
    process::Process,
    root,
    spec::{Access, FIRST_DESCRIPTOR, JailSpec, Report},
};
use crate::sys;

/// The longest specification, in bytes.
const MAX_SPEC_BYTES: usize = 1 << 20;

/// The first descriptor behind stdin, stdout and stderr.
const FIRST_OF_OURS: i32 = 3;

/// The most that a VMM may have open. It has some 30.
const DESCRIPTORS: u64 = 256;

/// What the kernel adds to the badness of a microVM's processes where the host's memory runs out, or that of the service's
/// cgroup: so much that it ends one of them before anything else (`oom_score_adj`, proc(5)). One request is lost then, and
/// not the service with all of them.
const FIRST_TO_GO: &str = "1000";

/// The most descriptors that a VMM can be given.
const MAX_DESCRIPTORS: usize = 8;

/// Runs as the supervisor of one VMM, told by the host process over `control`. To be called at the start of a
/// process that has done nothing else: it has one thread and keeps it.
///
/// The exit status says nothing; everything is reported over `control`.
pub fn supervise(control: UnixStream) -> ExitCode {
    let mut control = control;
    let report = match jailed(&mut control) {
        Ok(Some(report)) => report,
        // The host process is gone: there is nobody to report to.
        Ok(None) => return ExitCode::SUCCESS,
        Err(Failure { step, source }) => {
            Report::Failed { step: step.to_owned(), reason: source.to_string(), errno: source.raw_os_error() }
        }
    };
    match send(&mut control, &report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Closes what this process was born with besides stdin, stdout and stderr: whoever started it may have had a file of the
/// host open. To be called at the start of a process that has opened nothing.
pub fn close_inherited() -> io::Result<()> {
    sys::close_from(3)
}

/// A step that failed.
struct Failure {
    step: &'static str,
    source: io::Error,
}

trait Step<T> {
    fn step(self, step: &'static str) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: &'static str) -> Result<T, Failure> {
        self.map_err(|source| Failure { step, source: source.into() })
    }
}

fn send(control: &mut UnixStream, report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    control.write_all(&line)
}

/// Builds the jail and stays until the VMM ends. Nothing where the host process ended first.
fn jailed(control: &mut UnixStream) -> Result<Option<Report>, Failure> {
    // Out of the terminal's reach, and deaf to those who ask all of a service's processes to end: what ends this one is the
    // end of the host process. Else nobody would be left to remove the cgroup.
    setsid().step("start a session")?;
    sys::ignore_requests_to_end().step("start a session")?;
    fs::write("/proc/self/oom_score_adj", FIRST_TO_GO).step("be the first to go where memory runs out")?;
    let (spec, mut descriptors) = receive(control).step("read the specification")?;
    let group = match spec.cgroup {
        Some(limits) => Group::create(&spec.name, limits).step("make a cgroup")?,
        None => None,
    };
    let _remover = group.as_ref().map(Group::remover).transpose().step("open the cgroup")?;
    let entrance = group.as_ref().map(Group::entrance).transpose().step("open the cgroup")?;
    let read_only = read_only_files(&spec).step("open the memory file")?;
    enter_namespaces(&spec).step("enter namespaces")?;
    root::enter(&spec).step("build the root directory")?;
    if spec.run_directory {
        let directory = root::open_run_directory(&spec).step("open the run directory")?;
        let to =
            if descriptors.is_empty() { Err(io::ErrorKind::InvalidInput) } else { Ok(descriptors.remove(0)) };
        hand_over(&UnixStream::from(to.step("pass the run directory on")?), &directory)
            .step("pass the run directory on")?;
    }
    let Started { process, listener, status } =
        start(&spec, descriptors, entrance, read_only.is_some()).step("start the VMM")?;
    if spec.user.is_some() {
        let kept = if read_only.is_some() { WATCHING.union(ANSWERING) } else { WATCHING };
        give_up_capabilities(kept).step("give up capabilities")?;
        set_no_new_privs(true).step("give up capabilities")?;
    }
    if send(control, &Report::Started { process: process.id() }).is_err() {
        // The host process has ended meanwhile.
        return Ok(None);
    }
    // An error ends the VMM as well: it is dropped before the cgroup is removed.
    watch(control, &process, read_only.zip(listener), status)
}

/// The specification and the VMM's descriptors.
fn receive(control: &mut UnixStream) -> io::Result<(JailSpec, Vec<OwnedFd>)> {
    let mut header = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    // The descriptors come with the first byte.
    let received =
        recvmsg(&*control, &mut [IoSliceMut::new(&mut header)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            descriptors.extend(passed);
        }
    }
    control.read_exact(&mut header[received.bytes..])?;
    let length = u32::from_be_bytes(header) as usize;
    if length > MAX_SPEC_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut spec = vec![0; length];
    control.read_exact(&mut spec)?;
    Ok((serde_json::from_slice(&spec)?, descriptors))
}

fn read_only_files(spec: &JailSpec) -> io::Result<Option<ReadOnlyFiles>> {
    let mut files = Vec::new();
    for file in spec.files.iter().filter(|file| file.access == Access::ReadOnlyWhateverAsked) {
        files.push((file.jail.clone(), File::open(&file.host)?));
    }
    if files.is_empty() { Ok(None) } else { ReadOnlyFiles::new(files).map(Some) }
}

fn enter_namespaces(spec: &JailSpec) -> io::Result<()> {
    let all = UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWNET;
    if spec.user.is_some() {
        return Ok(sys::unshare(all)?);
    }
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    sys::unshare(all | UnshareFlags::NEWUSER)?;
    // A group map of one's own is only allowed once setgroups(2) is not (user_namespaces(7)).
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {} 1", user.as_raw()))?;
    fs::write("/proc/self/gid_map", format!("0 {} 1", group.as_raw()))
}

/// A VMM that was started.
struct Started {
    /// It, or its keeper.
    process: Process,
    /// On which it asks about its opens.
    listener: Option<OwnedFd>,
    /// Where its keeper tells how it ended.
    status: Option<OwnedFd>,
}

/// Starts the VMM.
fn start(
    spec: &JailSpec,
    descriptors: Vec<OwnedFd>,
    entrance: Option<Entrance>,
    ask: bool,
) -> io::Result<Started> {
    let (ours, theirs) = UnixStream::pair()?;
    let launched = spec.launcher.is_some();
    let (status, status_theirs) = if launched {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        (Some(ours), Some(theirs))
    } else {
        (None, None)
    };
    let (user, file_bytes) = (spec.user, spec.file_bytes);
    let device_groups = device_groups(spec)?;
    let mut command = Command::new(&spec.program);
    // Where our stderr goes the host process keeps the end of what is printed; nothing is read from its stdout.
    let output = fcntl_dupfd_cloexec(rustix::stdio::stderr(), FIRST_OF_OURS)?;
    command.args(&spec.args).env_clear().stdin(Stdio::null()).stdout(output);
    // One malloc arena: the VMM has few threads, and each arena costs every clone memory.
    command.env("MALLOC_ARENA_MAX", "1");
    let (birthplace, mut doors) = match entrance {
        Some(Entrance::Birth(directory)) => (Some(directory), Vec::new()),
        Some(Entrance::Move(files)) => (None, files),
        None => (None, Vec::new()),
    };
    let supervisor = pidfd_open(getpid(), PidfdFlags::empty())?;
    // One that makes sockets is Firecracker, which filters its own calls.
    let filter = if spec.run_directory { None } else { Some(Filter::new().map_err(io::Error::other)?) };
    sys::before_exec(&mut command, move || {
        // First of all, and with a look whether it came too late. A change of user forgets it, so it comes again below.
        die_with(&supervisor)?;
        // Whatever was inherited, down from whoever started the host process, is none of the VMM's.
        sys::close_on_exec_from(FIRST_OF_OURS.unsigned_abs())?;
        for door in &mut doors {
            door.write_all(b"0")?;
        }
        if let Some(status) = status_theirs.as_ref() {
            keeper::stay_behind(status)?;
            // The launcher does the rest. It keeps root's capabilities for that, and sets the other limits after it has
            // copied the VMM.
            limit(Resource::Core, 0)?;
            set_no_new_privs(true)?;
            return Ok(());
        }
        limit_resources(file_bytes)?;
        if let Some(user) = user {
            let (user, group) = (Uid::from_raw(user), Gid::from_raw(user));
            set_thread_groups(&device_groups)?;
            set_thread_res_gid(group, group, group)?;
            drop_bounding_set()?;
            set_thread_res_uid(user, user, user)?;
        } else {
            drop_bounding_set()?;
        }
        give_up_capabilities(CapabilitySet::empty())?;
        set_no_new_privs(true)?;
        die_with(&supervisor)?;
        for (number, descriptor) in (FIRST_DESCRIPTOR..).zip(&descriptors) {
            let passed = fcntl_dupfd_cloexec(descriptor, number)?;
            fcntl_setfd(&passed, FdFlags::empty())?;
            if passed.into_raw_fd() != number {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
        }
        if ask {
            hand_over(&theirs, &sys::ask_about_writable_opens()?)?;
        }
        filter.as_ref().map_or(Ok(()), Filter::apply)
    });
    let process = Process::start(command, birthplace.as_ref().map(AsFd::as_fd))?;
    let listener = if ask { Some(take_over(&ours)?) } else { None };
    Ok(Started { process, listener, status })
}

/// The groups that may use the devices that the VMM is given, where not everybody may: `kvm` as a rule.
fn device_groups(spec: &JailSpec) -> io::Result<Vec<Gid>> {
    const OTHERS: u32 = 0o006;
    let mut groups = Vec::new();
    for file in spec.files.iter().filter(|file| file.access == Access::Device) {
        let device = fs::metadata(&file.jail)?;
        if device.mode() & OTHERS != OTHERS {
            groups.push(Gid::from_raw(device.gid()));
        }
    }
    Ok(groups)
}

/// Has this process killed when its parent, the supervisor, ends, and ends it where that has happened already.
fn die_with(supervisor: &OwnedFd) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut [PollFd::new(supervisor, PollFlags::IN)], Some(&now))? {
        0 => Ok(()),
        _ => Err(Errno::SRCH.into()),
    }
}

/// Keeps no capabilities but these.
pub(super) fn give_up_capabilities(kept: CapabilitySet) -> io::Result<()> {
    let none = CapabilitySet::empty();
    Ok(set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: none })?)
}

/// What the supervisor still needs once the VMM is started: to kill another user's process.
const WATCHING: CapabilitySet = CapabilitySet::KILL;

/// And what it needs besides where the VMM asks about opens: to read the path in its memory, through the file
/// `/proc/<id>/mem`, which is the other user's.
const ANSWERING: CapabilitySet = CapabilitySet::SYS_PTRACE.union(CapabilitySet::DAC_READ_SEARCH);

fn limit_resources(file_bytes: u64) -> io::Result<()> {
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, file_bytes)?;
    // Nobody may raise what the host process was given as its most, but a process with a capability that it may lack.
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(DESCRIPTORS);
    limit(Resource::Nofile, DESCRIPTORS.min(most))
}

fn limit(resource: Resource, value: u64) -> io::Result<()> {
    Ok(setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })?)
}

fn drop_bounding_set() -> io::Result<()> {
    for bit in 0..64 {
        let Some(capability) = CapabilitySet::from_bits(1 << bit) else { continue };
        match remove_capability_from_bounding_set(capability) {
            // A capability that this kernel does not know.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn hand_over(to: &UnixStream, descriptor: &OwnedFd) -> io::Result<()> {
    let descriptors = [descriptor.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(to, &[io::IoSlice::new(b"!")], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

fn take_over(from: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    ancillary
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut passed) => passed.next(),
            _ => None,
        })
        .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Waits for the end of the VMM, or of the host process, which ends the VMM.
fn watch(
    control: &UnixStream,
    process: &Process,
    opens: Option<(ReadOnlyFiles, OwnedFd)>,
    status_of_kept: Option<OwnedFd>,
) -> Result<Option<Report>, Failure> {
    let mut opens = opens;
    loop {
        let mut descriptors = vec![
            PollFd::new(process, PollFlags::IN),
            // The host process says nothing more: what comes is its end.
            PollFd::new(control, PollFlags::IN),
        ];
        descriptors.extend(opens.as_ref().map(|(_, listener)| PollFd::new(listener, PollFlags::IN)));
        match poll(&mut descriptors, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).step("watch the VMM"),
        }
        let events: Vec<PollFlags> = descriptors.iter().map(PollFd::revents).collect();
        let over = !events[0].is_empty();
        let abandoned = !events[1].is_empty();
        if over || abandoned {
            if abandoned {
                process.kill().step("kill the VMM")?;
            }
            let mut status = process.wait().step("wait for the VMM")?;
            let mut kept = [0; 4];
            if let Some(Ok(())) = status_of_kept.map(|pipe| File::from(pipe).read_exact(&mut kept)) {
                status = ExitStatus::from_raw(i32::from_ne_bytes(kept));
            }
            let ended = match status.signal() {
                Some(signal) => Report::Signalled { signal },
                None => Report::Exited { code: status.code().unwrap_or(-1) },
            };
            return Ok((!abandoned).then_some(ended));
        }
        match events.get(2) {
            Some(event) if event.contains(PollFlags::IN) => {
                if let Some((files, listener)) = &opens {
                    files.answer(listener.as_fd()).step("answer an open")?;
                }
            }
            // All processes under the filter are gone; the pidfd will say so next.
            Some(event) if !event.is_empty() => opens = None,
            _ => {}
        }
    }
}
