//! A stand-in for Firecracker and, under the name `jailer`, for its jailer.
//!
//! ```text
//! jailer ─becomes─▶ firecracker ── API socket: judged by `api`
//!                                ├─ vsock socket: CONNECT 5000, then a guest agent's answers
//!                                ├─ metrics, log: lines of the same form
//!                                └─ files: opened as Firecracker opens them
//! ```
//!
//! It is stricter than what it stands in for: flags and fields that our backend has no need for are refused, and so is a
//! jail in which an image or a snapshot could be written. It has no guest: what would be one answers messages of the
//! protocol, and knows the output of two programs. It needs no KVM, and is static, for there is nothing in its jail.

mod arguments;
mod guest;
mod http;
mod jailer;
mod machine;
mod sys;
mod vmm;

use std::{path::Path, process::ExitCode};

/// What both programs call themselves.
const VERSION: &str = "1.16.1";

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let own = arguments.next().unwrap_or_default();
    let arguments: Vec<String> = arguments.collect();
    let is_jailer = Path::new(&own).file_name().is_some_and(|name| name == "jailer");
    if arguments == ["--version"] {
        println!("{} v{VERSION}", if is_jailer { "Jailer" } else { "Firecracker" });
        return ExitCode::SUCCESS;
    }
    let done = if is_jailer { jailer::run(&arguments) } else { vmm::run(&arguments) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // As Firecracker logs it, on stdout.
            println!("stand-in: {error:#}");
            ExitCode::FAILURE
        }
    }
}
