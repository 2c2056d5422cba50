//! The commands.

mod api;
mod benchmark;
mod completions;
mod customize;
mod doctor;
mod from_docker;
mod prune;
mod rootfs;
mod run;
mod setup;
mod snapshot;
mod storage;
mod top;

use std::process::ExitCode;

use crate::{failure::Failure, settings::Global};

/// What to do.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Prepares this host: installs packages and Firecracker, makes the kernel bundle. Safe to repeat
    Setup(setup::SetupArgs),
    /// Says what this host has and lacks, each finding with its fix
    Doctor(doctor::DoctorArgs),
    /// Makes and lists rootfs images, and exchanges them with object storage
    #[command(subcommand)]
    Rootfs(rootfs::RootfsCommand),
    /// Makes, lists, checks and removes snapshots, and exchanges them with object storage
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    /// Runs a program in a microVM of a given size and prints the answer as JSON
    Host(run::HostArgs),
    /// Runs a program, or a whole request, in the best microVM there is and prints the answer as JSON
    Run(run::RunArgs),
    /// Serves the HTTP API, with microVMs that wait for requests
    Api(api::ApiArgs),
    /// Shows what a service does, live: requests, times, pools, memory
    Top(top::TopArgs),
    /// Shows what takes space and serves nobody, and removes it: unused layers, stale snapshots, interrupted downloads
    Prune(prune::PruneArgs),
    /// Measures boots, snapshots, restores and runs, beside the native interpreter
    Benchmark(benchmark::BenchmarkArgs),
    /// Prints a script that completes this command line in a shell
    Completions(completions::CompletionsArgs),
}

/// Does it.
pub(crate) async fn run(command: Command, global: &Global) -> Result<ExitCode, Failure> {
    match command {
        Command::Setup(args) => setup::run(args, global).await,
        Command::Doctor(args) => doctor::run(args, global).await,
        Command::Rootfs(command) => rootfs::run(command, global).await,
        Command::Snapshot(command) => snapshot::run(command, global).await,
        Command::Host(args) => run::host(args, global).await,
        Command::Run(args) => run::run(args, global).await,
        Command::Api(args) => api::run(args, global).await,
        Command::Top(args) => top::run(args).await,
        Command::Prune(args) => prune::run(&args, global).await,
        Command::Benchmark(args) => benchmark::run(args, global).await,
        Command::Completions(args) => completions::run(&args),
    }
}
