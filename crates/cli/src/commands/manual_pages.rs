//! `infra.operator manual-pages`: for those who make packages, and hidden from others.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{CommandFactory as _, ValueHint};

use crate::failure::Failure;

/// Arguments of `manual-pages`.
#[derive(clap::Args)]
pub(crate) struct ManualPagesArgs {
    /// The directory to write to
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    directory: PathBuf,
}

/// Writes a page for each command that is not hidden: `infra.operator.1`, `infra.operator-run.1` and so on.
pub(super) fn run(args: &ManualPagesArgs) -> Result<ExitCode, Failure> {
    let directory = &args.directory;
    fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(crate::Arguments::command(), directory))
        .with_context(|| format!("cannot write to {}", directory.display()))
        .map_err(Failure::host)?;
    Ok(ExitCode::SUCCESS)
}
