//! A service over microVMs that are tasks, for tests that kill it: it takes jobs, and ends in no other way.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Parser;
use e2e::load::in_process::serve_jobs;
use server::jobs::JobSettings;

/// Serves jobs on a free port until it is killed.
#[derive(Parser)]
struct Options {
    /// What it keeps.
    #[arg(long)]
    data_dir: PathBuf,
    /// How many jobs run at the same time.
    #[arg(long, default_value_t = 8)]
    running: usize,
}

fn main() -> ExitCode {
    e2e::exit_code(run(&Options::parse()).map(|()| true))
}

fn run(Options { data_dir, running }: &Options) -> Result<()> {
    let mut jobs = JobSettings::new(data_dir.join("jobs.sqlite3"));
    jobs.running = *running;
    // What is interrupted is always run again: how often it is killed is up to the test.
    jobs.reruns = u32::MAX;
    // Who is told is on this machine.
    jobs.callback_networks = vec!["127.0.0.0/8".parse().context("a network of this machine")?];
    serve_jobs(data_dir, jobs)
}
