//! `infra.operator jobs`: what the operator does about the jobs of the service. Jobs themselves are asked for over HTTP.

use std::{fs, process::ExitCode};

use anyhow::Context as _;
use server::jobs::{SigningSecret, signing_secret};

use crate::{
    config::Config,
    failure::{Failure, OrFail as _},
    output,
    settings::Global,
};

/// What to do about jobs.
#[derive(clap::Subcommand)]
pub(crate) enum JobsCommand {
    /// Prints the secret with which callbacks are signed, for those who receive them
    Secret(SecretArgs),
}

/// Arguments of `jobs secret`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  infra.operator jobs secret

The end of a job is told by a POST with the headers webhook-id, webhook-timestamp and webhook-signature
of Standard Webhooks (https://www.standardwebhooks.com), whose libraries check them with this secret.
It is made once and kept with the jobs, unless jobs.callback_secret_file names another.")]
pub(crate) struct SecretArgs {}

/// Does it.
pub(super) fn run(command: &JobsCommand, global: &Global) -> Result<ExitCode, Failure> {
    match command {
        JobsCommand::Secret(SecretArgs {}) => {
            let secret = match configured_secret(&global.config)? {
                Some(secret) => secret,
                None => signing_secret(&global.data().jobs_database()).or_fail()?,
            };
            output::line(&secret.reveal())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The secret in the file that the configuration names, where it names one.
pub(super) fn configured_secret(config: &Config) -> Result<Option<SigningSecret>, Failure> {
    let Some(path) = &config.jobs.callback_secret_file else { return Ok(None) };
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read {}", path.display()))
        .map_err(|error| Failure::usage(error).hint("see jobs.callback_secret_file".to_owned()))?;
    let secret = text.trim().parse::<SigningSecret>();
    let secret = secret.with_context(|| format!("{} cannot be used", path.display()));
    secret.map(Some).map_err(|error| {
        Failure::usage(error).hint("make one: echo whsec_$(head -c 32 /dev/urandom | base64)".to_owned())
    })
}
