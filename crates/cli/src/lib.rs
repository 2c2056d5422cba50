//! `infra.operator`: the command line of LLM-Firecracker.
//!
//! Reads arguments and environment, wires the VMM backend to the engine, and prints. What the commands do is in
//! `commands`, one file each; how they end in `failure`. A library only so that `fuzz/` can read configurations as it does.

mod administration;
mod alone;
mod backend;
mod bucket;
mod commands;
mod config;
mod data_owner;
#[cfg(test)]
mod documentation;
mod failure;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod host;
mod logs;
mod output;
mod service_manager;
mod settings;
mod signals;
mod telemetry;

use std::process::ExitCode;

use clap::Parser as _;

use crate::commands::Command;

/// The whole program.
pub fn main() -> ExitCode {
    // Before anything else, and before there is a second thread: this process may be a VMM's supervisor.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == host::SUPERVISOR_ARGUMENT) {
        return host::supervise();
    }
    if std::env::args_os().nth(1).is_some_and(|argument| argument == host::STEPS_ARGUMENT) {
        return host::take_steps();
    }
    if std::env::args_os().nth(1).is_some_and(|argument| argument == data_owner::ADOPT_ARGUMENT) {
        return data_owner::adopt();
    }
    let arguments = match administration::attached::arguments() {
        Ok(arguments) => Arguments::parse_from(arguments),
        Err(failure) => return failure.report(),
    };
    // Whatever speaks HTTPS uses it. Fails where there is one already, which then is the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let Err(failure) = arguments.flags.all_of(std::env::args_os()) {
        return failure.report();
    }
    let is_service = arguments.command.is_service();
    // The service begins when it knows how it is to log.
    if !is_service {
        output::start_logging(arguments.flags.verbose);
    }
    // Before there are other threads, and before anything was made.
    if let Err(failure) = arguments.command.yield_to_owner(&arguments.flags) {
        return failure.report();
    }
    // While this is the one thread: it changes the environment.
    let sockets = match is_service.then(service_manager::Sockets::take).transpose() {
        Ok(sockets) => sockets.unwrap_or_default(),
        Err(failure) => return failure.report(),
    };
    let mut builder = if is_service {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return failure::Failure::host(anyhow::Error::new(error).context("cannot start")).report();
        }
    };
    let work = commands::run(arguments.command, arguments.flags, sockets);
    // A service ends itself: what runs is finished first.
    let ended = if is_service {
        signals::Ended::Done(runtime.block_on(work))
    } else {
        runtime.block_on(signals::until_signal(work))
    };
    // A thread that still waits for a lock must not keep the process.
    runtime.shutdown_background();
    if is_service {
        // Supervisors of microVMs that were given up while they started end by themselves, and are waited for.
        signals::wait_for_children();
    }
    match ended {
        signals::Ended::Done(Ok(code)) => code,
        signals::Ended::Done(Err(failure)) => failure.report(),
        signals::Ended::Signal(signal) => {
            signals::wait_for_children();
            ExitCode::from(128 + signal)
        }
    }
}

/// Runs untrusted code in microVMs, each request in one of its own, restored from a snapshot in milliseconds.
///
/// Exit status: 0 answered or done; 2 the command line or the request is wrong; 3 this host cannot do it (a hint
/// says what would help); 128+N ended by signal N.
#[derive(clap::Parser)]
#[command(name = "infra.operator", version, max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    flags: settings::Flags,
    #[command(subcommand)]
    command: Command,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }

    /// clap tells arguments apart by their ids alone, and takes the type of one for that of the other.
    #[test]
    fn no_argument_of_a_command_goes_by_the_id_of_a_flag_of_all() {
        fn check(command: &clap::Command, flags: &[&clap::Arg]) {
            for argument in command.get_arguments() {
                let same = flags.iter().find(|flag| flag.get_id() == argument.get_id());
                let is_another = same.is_some_and(|flag| flag.get_long() != argument.get_long());
                assert!(!is_another, "{} of {}", argument.get_id(), command.get_name());
            }
            command.get_subcommands().for_each(|command| check(command, flags));
        }
        let command = super::Arguments::command();
        let flags: Vec<_> = command.get_arguments().filter(|argument| argument.is_global_set()).collect();
        assert!(!flags.is_empty());
        check(&command, &flags);
    }
}
