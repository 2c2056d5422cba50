//! The crate's only unsafe code: seccomp's user notification, a scratch virtual machine, the time-stamp counter.
#![expect(unsafe_code, reason = "system calls and instructions that no safe crate offers")]

use std::{
    ffi::c_void,
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::Command,
    time::{Duration, Instant},
};

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use rustix::{
    ioctl::{self, Ioctl, IoctlOutput, Opcode, opcode},
    mm::{MapFlags, ProtFlags, mmap_anonymous, munmap},
    thread::UnshareFlags,
};

/// Has `step` run in the child between fork and exec. Only for processes with one thread.
pub(crate) fn before_exec(
    command: &mut Command,
    step: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    // SAFETY: the callers are processes with one thread, so the child may call anything that the parent may.
    unsafe { command.pre_exec(step) };
}

/// Moves this process (or, for a pid namespace, its children) into new namespaces.
pub(crate) fn unshare(namespaces: UnshareFlags) -> rustix::io::Result<()> {
    if namespaces.contains(UnshareFlags::FILES) {
        return Err(rustix::io::Errno::INVAL);
    }
    // SAFETY: unsafe for `CLONE_FILES` alone, which may close other owners' descriptors, and is not among them.
    unsafe { rustix::thread::unshare_unsafe(namespaces) }
}

/// Forks. The child's process in the parent, nothing in the child. Only for processes with one thread.
pub(crate) fn fork() -> io::Result<Option<rustix::process::Pid>> {
    // SAFETY: the callers are processes with one thread, so the child may call anything that the parent may.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        child => Ok(rustix::process::Pid::from_raw(child)),
    }
}

/// The same, with the child in the cgroup (of version 2) whose directory this is, from its first instruction on. Nobody is
/// moved, which takes the kernel tens of milliseconds (`clone3(2)`, `CLONE_INTO_CGROUP`; Linux 5.7).
pub(crate) fn fork_into(cgroup: BorrowedFd<'_>) -> io::Result<Option<rustix::process::Pid>> {
    let cgroup = u64::try_from(cgroup.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let arguments = CloneArguments {
        flags: CLONE_INTO_CGROUP,
        exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
        cgroup,
        ..CloneArguments::default()
    };
    // SAFETY: without CLONE_VM the child has memory and a stack of its own, as after fork(2); the kernel reads as much of
    // the structure as it is told there is. What glibc would do at a fork concerns other threads, and there are none.
    let child = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<CloneArguments>()) };
    match i32::try_from(child) {
        Ok(-1) | Err(_) => Err(io::Error::last_os_error()),
        Ok(child) => Ok(rustix::process::Pid::from_raw(child)),
    }
}

/// From `linux/sched.h`.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` of `linux/sched.h`, as it is since Linux 5.7.
#[derive(Default)]
#[repr(C, align(8))]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Ends this process without running anything that would run at its end: that belongs to its parent.
pub(crate) fn exit_at_once(status: i32) -> ! {
    // SAFETY: it never returns and touches no memory.
    unsafe { libc::_exit(status) }
}

/// Has all descriptors from this number on closed when this process becomes another program.
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: nothing is closed now, and no memory is touched.
    match unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Closes all descriptors from this number on. Nothing that owns one of them may be used or dropped after this.
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: no caller has made any of them its own.
    match unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has the signals by which processes are asked to end wait, for good.
pub(crate) fn ignore_requests_to_end() -> io::Result<()> {
    let mut signals = MaybeUninit::uninit();
    // SAFETY: the set is written, whatever was in it, and there is room for one.
    unsafe { libc::sigemptyset(signals.as_mut_ptr()) };
    // SAFETY: the call before has made the set; it cannot fail.
    let mut signals: libc::sigset_t = unsafe { signals.assume_init() };
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
        // SAFETY: the set is one, and ours alone.
        unsafe { libc::sigaddset(&raw mut signals, signal) };
    }
    // SAFETY: the set is read during the call; the former one is not asked for.
    let failed = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const signals, std::ptr::null_mut()) };
    if failed == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(failed)) }
}

/// Closes all descriptors but this one. Nothing that owns one of the others may be used or dropped after this.
pub(crate) fn close_all_but(kept: &impl std::os::fd::AsRawFd) -> io::Result<()> {
    let kept = u32::try_from(kept.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let close = |first: u32, last: u32| {
        if first > last {
            return Ok(());
        }
        // SAFETY: the caller goes on with the one descriptor alone, until it ends this process.
        match unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    if let Some(last) = kept.checked_sub(1) {
        close(0, last)?;
    }
    close(kept + 1, u32::MAX)
}

/// The rate of the time-stamp counter in kHz, measured against the monotonic clock.
pub(crate) fn measure_tsc_khz(over: Duration) -> u64 {
    let (first_ticks, start) = read_tsc();
    std::thread::sleep(over);
    let (last_ticks, end) = read_tsc();
    let micros = u64::try_from((end - start).as_micros()).unwrap_or(u64::MAX).max(1);
    last_ticks.saturating_sub(first_ticks) * 1000 / micros
}

/// The counter, and the time at which it was read: the tightest of several pairs, for this thread may lose the
/// processor between the two.
fn read_tsc() -> (u64, Instant) {
    const PAIRS: u32 = 50;
    let mut best = (Duration::MAX, 0, Instant::now());
    for _ in 0..PAIRS {
        let before = Instant::now();
        // SAFETY: the instruction reads a counter and is there on every x86-64 processor.
        let ticks = unsafe { core::arch::x86_64::_rdtsc() };
        let width = before.elapsed();
        if width < best.0 {
            best = (width, ticks, before);
        }
    }
    (best.1, best.2)
}

/// Guest memory of a scratch virtual machine, at guest address 0.
pub(crate) struct ScratchMemory {
    pointer: *mut c_void,
    length: usize,
}

impl ScratchMemory {
    /// One page that holds `code` at its start.
    pub(crate) fn with_code(code: &[u8]) -> io::Result<Self> {
        let length = 4096;
        assert!(code.len() <= length, "the code fits a page");
        // SAFETY: a fresh anonymous mapping aliases nothing.
        let pointer = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        // SAFETY: the mapping is writable and, by the assertion, long enough.
        unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), pointer.cast(), code.len()) };
        Ok(Self { pointer, length })
    }

    /// Makes it the memory of `vm`, which must be dropped before it.
    pub(crate) fn give_to(&self, vm: &VmFd) -> Result<(), kvm_ioctls::Error> {
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: self.length as u64,
            userspace_addr: self.pointer as u64,
        };
        // SAFETY: the mapping lives as long as `self`, which the caller keeps longer than `vm`.
        unsafe { vm.set_user_memory_region(region) }
    }
}

impl Drop for ScratchMemory {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length and nothing refers to it any more.
        let _ = unsafe { munmap(self.pointer, self.length) };
    }
}

/// Installs a filter that asks the holder of the returned descriptor about every `openat` for reading *and* writing
/// of this process and its children. Needs `no_new_privs`.
#[expect(clippy::cast_possible_truncation, reason = "constants of the kernel's interface")]
pub(crate) fn ask_about_writable_opens() -> io::Result<OwnedFd> {
    use libc::{
        BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW,
        SECCOMP_RET_USER_NOTIF,
    };
    const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
    // Offsets in `struct seccomp_data` (seccomp(2)): system call, architecture, third argument.
    const NUMBER: u32 = 0;
    const ARCHITECTURE: u32 = 4;
    const FLAGS: u32 = 32;
    let instruction = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = |offset| instruction(BPF_LD | BPF_W | BPF_ABS, 0, 0, offset);
    // Goes on where equal, else skips so many instructions.
    let skip_unless = |value, skipped| instruction(BPF_JMP | BPF_JEQ | BPF_K, 0, skipped, value);
    let give = |action| instruction(BPF_RET | BPF_K, 0, 0, action);
    let mut filter = [
        load(ARCHITECTURE),
        skip_unless(AUDIT_ARCH_X86_64, 6),
        load(NUMBER),
        skip_unless(libc::SYS_openat as u32, 4),
        load(FLAGS),
        instruction(BPF_ALU | BPF_AND | BPF_K, 0, 0, libc::O_ACCMODE as u32),
        skip_unless(libc::O_RDWR as u32, 1),
        give(SECCOMP_RET_USER_NOTIF),
        give(SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program points to `filter`, which outlives the call and has the length that it says.
    let descriptor = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    match i32::try_from(descriptor) {
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A system call that waits for an answer on the descriptor of [`ask_about_writable_opens`].
pub(crate) struct PendingOpen {
    /// Identifies the question.
    pub(crate) id: u64,
    /// The asking process.
    pub(crate) process: u32,
    /// Address of the path in its memory.
    pub(crate) path: u64,
}

/// An ioctl of seccomp(2) whose structure is read and written in place.
struct Exchange<T, const OPCODE: Opcode>(T);

// SAFETY: each opcode below is used with the structure that it belongs to alone.
unsafe impl<T, const OPCODE: Opcode> Ioctl for Exchange<T, OPCODE> {
    type Output = (T, i32);
    const IS_MUTATING: bool = true;
    fn opcode(&self) -> Opcode {
        OPCODE
    }
    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut self.0).cast()
    }
    unsafe fn output_from_ptr(result: IoctlOutput, pointer: *mut c_void) -> rustix::io::Result<Self::Output> {
        // SAFETY: the pointer is the one of `as_ptr`, which holds a `T`.
        Ok((unsafe { pointer.cast::<T>().read() }, result))
    }
}

const RECEIVE: Opcode = opcode::read_write::<libc::seccomp_notif>(b'!', 0);
const SEND: Opcode = opcode::read_write::<libc::seccomp_notif_resp>(b'!', 1);
const ADD_DESCRIPTOR: Opcode = opcode::write::<libc::seccomp_notif_addfd>(b'!', 3);

/// Takes the next question.
pub(crate) fn receive_open(listener: BorrowedFd<'_>) -> rustix::io::Result<PendingOpen> {
    // SAFETY: the structure holds integers alone, and the kernel demands that it be zero.
    let empty: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: see the implementation of `Ioctl`.
    let (question, _) = unsafe { ioctl::ioctl(listener, Exchange::<_, RECEIVE>(empty))? };
    Ok(PendingOpen { id: question.id, process: question.pid, path: question.data.args[1] })
}

/// Lets the kernel carry the system call out as if nobody had asked.
#[expect(clippy::cast_possible_truncation, reason = "a constant of the kernel's interface")]
pub(crate) fn let_open_continue(listener: BorrowedFd<'_>, id: u64) -> rustix::io::Result<()> {
    let flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
    let answer = libc::seccomp_notif_resp { id, val: 0, error: 0, flags };
    // SAFETY: see the implementation of `Ioctl`.
    unsafe { ioctl::ioctl(listener, Exchange::<_, SEND>(answer)) }.map(drop)
}

/// Has the system call fail.
pub(crate) fn refuse_open(
    listener: BorrowedFd<'_>,
    id: u64,
    error: rustix::io::Errno,
) -> rustix::io::Result<()> {
    let answer = libc::seccomp_notif_resp { id, val: 0, error: -error.raw_os_error(), flags: 0 };
    // SAFETY: see the implementation of `Ioctl`.
    unsafe { ioctl::ioctl(listener, Exchange::<_, SEND>(answer)) }.map(drop)
}

/// Has the system call return a copy of `file`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "constants of the kernel's interface"
)]
pub(crate) fn answer_open(listener: BorrowedFd<'_>, id: u64, file: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let answer = libc::seccomp_notif_addfd {
        id,
        flags: libc::SECCOMP_ADDFD_FLAG_SEND as u32,
        srcfd: file.as_raw_fd() as u32,
        newfd: 0,
        newfd_flags: libc::O_CLOEXEC as u32,
    };
    // SAFETY: see the implementation of `Ioctl`.
    unsafe { ioctl::ioctl(listener, Exchange::<_, ADD_DESCRIPTOR>(answer)) }.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_into_the_structure_of_an_ioctl_is_what_is_read() {
        // SAFETY: the structure holds integers alone.
        let empty: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        let mut exchange = Exchange::<_, RECEIVE>(empty);
        let pointer = exchange.as_ptr();
        // SAFETY: as the kernel does it: the pointer is to a whole structure, which nobody else uses meanwhile.
        unsafe { (*pointer.cast::<libc::seccomp_notif>()).id = 7 };
        // SAFETY: the pointer is the one of `as_ptr`.
        let (question, result) =
            unsafe { Exchange::<libc::seccomp_notif, RECEIVE>::output_from_ptr(3, pointer) }.unwrap();
        assert_eq!((question.id, question.pid, result), (7, 0, 3));
    }

    #[test]
    fn the_structures_have_the_sizes_that_the_kernel_knows_them_by() {
        // CLONE_ARGS_SIZE_VER2 of `linux/sched.h`.
        assert_eq!(size_of::<CloneArguments>(), 88);
        // A part of the numbers, so of what is asked for: SECCOMP_IOCTL_NOTIF_RECV, _SEND and _ADDFD of `linux/seccomp.h`.
        assert_eq!([RECEIVE, SEND, ADD_DESCRIPTOR], [0xc050_2100, 0xc018_2101, 0x4018_2103]);
    }
}
