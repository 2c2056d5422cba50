//! Ctrl-C and its kin: what runs is dropped, which takes away all that it had, and what it has started is ended.

use std::{
    collections::HashSet,
    fs,
    future::Future,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use tokio::signal::unix::{SignalKind, signal};

/// How work ended.
pub(crate) enum Ended<T> {
    /// By itself.
    Done(T),
    /// By this signal.
    Signal(u8),
}

/// How long work on another thread may take to notice that its programs were ended, and to clean up.
const CLEAN_UP_PATIENCE: Duration = Duration::from_secs(20);

/// How often is looked for programs that such work has started since.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Works until it is done, or until SIGINT, SIGTERM or SIGHUP.
pub(crate) async fn until_signal<T>(work: impl Future<Output = T>) -> Ended<T> {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds.map(signal) else {
        // Without handlers the signals do what they do.
        return Ended::Done(work.await);
    };
    let mut work = Box::pin(work);
    let signal = tokio::select! {
        done = &mut work => return Ended::Done(done),
        _ = interrupt.recv() => Signal::INT,
        _ = terminate.recv() => Signal::TERM,
        _ = hangup.recv() => Signal::HUP,
    };
    let number = u8::try_from(signal.as_raw()).unwrap_or_default();
    INTERRUPTED.store(true, std::sync::atomic::Ordering::SeqCst);
    if BLOCKING.load(std::sync::atomic::Ordering::SeqCst) {
        // Work on a thread cannot be dropped. It ends with an error once the program that it waits for is ended,
        // and removes what it has begun. It may be about to start a program only now.
        let mut told = HashSet::new();
        let deadline = Instant::now() + CLEAN_UP_PATIENCE;
        while Instant::now() < deadline {
            end_children(signal, &mut told);
            if tokio::time::timeout(LOOK_INTERVAL, &mut work).await.is_ok() {
                break;
            }
        }
    }
    drop(work);
    Ended::Signal(number)
}

/// Whether a signal has come.
static INTERRUPTED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Whether the command is to end: for work on a thread that waits for no program.
pub(crate) fn is_interrupted() -> bool {
    INTERRUPTED.load(std::sync::atomic::Ordering::SeqCst)
}

/// Whether the command does its work on a thread, with programs of others.
static BLOCKING: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Does work that blocks, on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    BLOCKING.store(true, std::sync::atomic::Ordering::SeqCst);
    let done = tokio::task::spawn_blocking(work).await;
    BLOCKING.store(false, std::sync::atomic::Ordering::SeqCst);
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// Passes a signal on to all children that have not been `told` yet.
fn end_children(signal: Signal, told: &mut HashSet<Pid>) {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return };
    for thread in threads.flatten() {
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|child| Pid::from_raw(child.parse().ok()?)) {
            let name = fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
            // Becomes another program at once, and is told when it has.
            if name.trim_end() == "setpriv" || !told.insert(child) {
                continue;
            }
            // unshare(1) ignores SIGINT and SIGTERM. Killed, it takes with it all that runs in its namespaces.
            let signal = if name.trim_end() == "unshare" { Signal::KILL } else { signal };
            // It may have ended by itself.
            let _ = kill_process(child, signal);
        }
    }
}

/// Waits for the children that the dropped work has left: supervisors, which end by themselves and take their VMMs
/// with them.
pub(crate) fn wait_for_children() {
    while wait(WaitOptions::empty()).is_ok() {}
}
