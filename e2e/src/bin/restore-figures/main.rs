//! What a restore costs: its phases, the processor time that is our own, system calls, memory; and, for Firecracker, how it
//! compares with its API called by hand.
//!
//! ```text
//! restore-figures                     on this host: Firecracker's stand-in, and QEMU with emulation
//! restore-figures BACKEND DATA RUNS   one backend, with the snapshot in the data directory DATA
//! restore-figures BACKEND DATA once   one restore, to be looked at from outside
//! ```
//!
//! A backend is `qemu-tcg`, `qemu-kvm`, or the path of a Firecracker. `make figures` runs the first form, `make test-kvm` the
//! second, in the lab. What is printed are the tables of `docs/performance.md`.

mod backend;
mod by_hand;
mod calls;
mod cost;
mod memory;
mod processes;
mod table;

use std::{path::Path, process::ExitCode};

use anyhow::{Context as _, Result, bail, ensure};
use e2e::{TestHost, stand_in};

use crate::backend::Backend;

/// How many restores are measured natively, where each takes a tenth of a second.
const NATIVE_RUNS: u32 = 50;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    e2e::exit_code(run(&arguments).map(|()| true))
}

fn run(arguments: &[&str]) -> Result<()> {
    match arguments {
        [] => native(),
        [backend, data, "once"] => calls::once(&Backend::new(backend, Path::new(data))),
        [backend, data, runs] => {
            figures(&Backend::new(backend, Path::new(data)), runs.parse().context("RUNS is a number")?)
        }
        _ => bail!("usage: restore-figures [BACKEND DATA RUNS]"),
    }
}

/// Firecracker's backend over its stand-in, whose guest takes no time, so that what is ours stands alone; and QEMU.
fn native() -> Result<()> {
    let host = TestHost::with_image().copy();
    let firecracker = stand_in::installation().program;
    let firecracker = Backend::new(&firecracker.to_string_lossy(), host.data());
    firecracker.create_snapshot()?;
    figures(&firecracker, NATIVE_RUNS)?;
    figures(&Backend::new("qemu-tcg", TestHost::prepared().data()), NATIVE_RUNS)
}

fn figures(backend: &Backend, runs: u32) -> Result<()> {
    println!("\n## {}\n", backend.title());
    eprintln!("restoring");
    let samples = cost::samples(backend, runs)?;
    table::phases(&samples);
    table::processor(&samples);
    // In a host that is emulated, time says nothing.
    let is_native = backend.is_native();
    ensure!(
        !is_native || samples.are_within_bar(),
        "a restore takes more processor time of ours than its bar"
    );
    eprintln!("counting system calls");
    let calls = calls::count(backend)?;
    table::calls(&calls);
    ensure!(calls.api <= 6 && calls.forks == 0 && calls.copies == 0, "a restore does more than it may");
    eprintln!("measuring memory");
    table::memory(&memory::proportional(backend)?);
    eprintln!("calling by hand, where that is possible");
    if let Some(by_hand) = by_hand::compared(backend, runs)? {
        table::by_hand(&by_hand);
    }
    Ok(())
}
