//! The commands.

mod api;
mod benchmark;
mod completions;
mod config;
mod customize;
mod doctor;
mod from_docker;
mod jobs;
mod manual_pages;
mod prune;
mod reference;
mod rootfs;
mod run;
mod selftest;
mod setup;
mod snapshot;
mod storage;
mod token;
mod top;

use std::process::ExitCode;

use crate::{
    data_owner::Owner,
    failure::Failure,
    service_manager::Sockets,
    settings::{Flags, Global},
};

/// What to do.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Configured(Box<ConfiguredCommand>),
    /// Checks the configuration, shows it, and tells what there is to configure
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Prints a script that completes this command line in a shell
    Completions(completions::CompletionsArgs),
    /// Writes a manual page for each command
    #[command(hide = true)]
    ManualPages(manual_pages::ManualPagesArgs),
    /// Prints a page of the documentation that is written by the code
    #[command(hide = true)]
    Reference(reference::ReferenceArgs),
}

impl Command {
    /// Whether it serves until it is told to end.
    pub(crate) fn is_service(&self) -> bool {
        matches!(self, Self::Configured(command) if matches!(**command, ConfiguredCommand::Api(_)))
    }

    /// Where root has started it, and the data directory belongs to another user: goes on as that user, and does not return.
    pub(crate) fn yield_to_owner(&self, flags: &Flags) -> Result<(), Failure> {
        let Self::Configured(command) = self else { return Ok(()) };
        if command.needs_root() || !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let global = Global::load(flags.clone())?;
        match Owner::other(&global) {
            Some(owner) => owner.go_on(&global, std::env::args_os().skip(1)).map(drop),
            None => Ok(()),
        }
    }
}

/// What cannot be done where the configuration is at fault.
#[derive(clap::Subcommand)]
pub(crate) enum ConfiguredCommand {
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
    /// Makes, lists and revokes the access tokens of the service, each with its own limits
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// What the operator does about the jobs of the service
    #[command(subcommand)]
    Jobs(jobs::JobsCommand),
    /// Shows what a service does, live: requests, times, pools, memory
    Top(top::TopArgs),
    /// Shows what takes space and serves nobody, and removes it: unused layers, stale snapshots, interrupted downloads
    Prune(prune::PruneArgs),
    /// Attacks this host's microVMs, and says whether they withstand: forks, floods, forgeries, clones
    Selftest(selftest::SelftestArgs),
    /// Measures boots, snapshots, restores and runs, beside the native interpreter
    Benchmark(benchmark::BenchmarkArgs),
}

impl ConfiguredCommand {
    /// Whether root has to do a part of it: see [`crate::data_owner`] for the rest.
    fn needs_root(&self) -> bool {
        match self {
            Self::Setup(_) => true,
            Self::Rootfs(command) => command.needs_root(),
            _ => false,
        }
    }
}

/// Does it. A service takes over `sockets`, where it was given some.
pub(crate) async fn run(command: Command, flags: Flags, sockets: Sockets) -> Result<ExitCode, Failure> {
    match command {
        Command::Configured(command) => {
            let flags = match &*command {
                ConfiguredCommand::Api(args) => flags.and_about(args.of_keys()),
                _ => flags,
            };
            let global = Global::load(flags)?;
            run_configured(*command, &global, sockets).await.map_err(|failure| failure.typed(&global))
        }
        Command::Config(command) => config::run(command, &flags),
        Command::Completions(args) => completions::run(&args),
        Command::ManualPages(args) => manual_pages::run(&args),
        Command::Reference(args) => reference::run(&args),
    }
}

async fn run_configured(
    command: ConfiguredCommand,
    global: &Global,
    sockets: Sockets,
) -> Result<ExitCode, Failure> {
    match command {
        ConfiguredCommand::Setup(args) => setup::run(args, global).await,
        ConfiguredCommand::Doctor(args) => doctor::run(args, global).await,
        ConfiguredCommand::Rootfs(command) => rootfs::run(command, global).await,
        ConfiguredCommand::Snapshot(command) => snapshot::run(command, global).await,
        ConfiguredCommand::Host(args) => run::host(args, global).await,
        ConfiguredCommand::Run(args) => run::run(args, global).await,
        ConfiguredCommand::Top(args) => top::run(args).await,
        ConfiguredCommand::Token(command) => token::run(command, global),
        ConfiguredCommand::Jobs(command) => jobs::run(&command, global),
        ConfiguredCommand::Api(args) => api::run(&args, global, sockets).await,
        ConfiguredCommand::Prune(args) => prune::run(&args, global).await,
        ConfiguredCommand::Selftest(args) => selftest::run(args, global).await,
        ConfiguredCommand::Benchmark(args) => benchmark::run(args, global).await,
    }
}
