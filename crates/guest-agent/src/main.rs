//! The guest agent: PID 1 of the microVM, and the runner that it starts.
//!
//! ```text
//! PID 1 (this binary as /init)            boots the guest, then only waits for the runner
//! └─ runner (this binary, PID 1 of the    talks to the host, reseeds, runs jobs
//!    jobs' pid namespace, root)
//!    ├─ initialised interpreter           waits for a job, see initialised.rs
//!    └─ job (nobody, no capabilities, its own cgroup)
//! ```
//!
//! Host and agent trust each other; a job is hostile to both. It shares a pid and mount namespace with the
//! runner, which it can neither signal nor trace (another user, and PID 1 of the namespace), and nothing else.
//!
//! No async and one thread only: `fork` without `exec` is safe, and a snapshot finds every part of the agent at
//! a known place, blocked in a read, or in waiting for a connection to read from.

mod boot;
mod cgroup;
mod channel;
mod credentials;
mod exits;
mod fault;
mod fetch;
mod fresh;
mod in_flight;
mod initialised;
mod job_directory;
mod live;
mod output;
mod own_pages;
mod reseed;
mod root;
mod runner;
mod scratch;
mod supervise;
mod sys;
mod timer;
mod uevent;
mod vsock;
mod wait;

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(boot::RUNNER_ROLE) {
        return match runner::run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(fault) => {
                boot::log(&format!("runner: {fault}"));
                ExitCode::FAILURE
            }
        };
    }
    if std::process::id() != 1 {
        eprintln!("this is the guest agent of LLM-Firecracker: it runs as PID 1 of a microVM");
        return ExitCode::FAILURE;
    }
    boot::boot()
}
