//! The only unsafe code: what Firecracker does with signals of faults.
#![expect(unsafe_code, reason = "no safe crate installs a handler that ends the process")]

/// The exit status by which Firecracker tells that it has caught SIGSEGV.
const SEGV_STATUS: i32 = 150;

extern "C" fn end(_signal: libc::c_int) {
    // SAFETY: it may be called from a handler, and never returns.
    unsafe { libc::_exit(SEGV_STATUS) }
}

/// Ends on SIGSEGV as Firecracker does: by itself, with an exit status.
pub(crate) fn catch_faults() {
    let handler: extern "C" fn(libc::c_int) = end;
    // SAFETY: the handler calls nothing that must not be called there.
    let before = unsafe { libc::signal(libc::SIGSEGV, handler as libc::sighandler_t) };
    assert_ne!(before, libc::SIG_ERR, "SIGSEGV can be caught");
}
