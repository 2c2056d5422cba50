//! The command: its parts, one after the other.

use std::{process::ExitCode, sync::Arc};

use super::{
    kernel::{self, KernelArgs},
    packages,
};
use crate::{failure::Failure, output::Steps, settings::Global, signals::blocking};

/// Arguments of `setup`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  infra.operator setup
  infra.operator setup --skip-packages --kernel vmlinuz --modules lib/modules/6.12.1")]
pub(crate) struct SetupArgs {
    /// Installs no Debian packages
    #[arg(long)]
    skip_packages: bool,

    /// Makes no kernel bundle
    #[arg(long)]
    skip_kernel: bool,

    /// Installs no Firecracker (this release has no Firecracker backend: there is nothing to skip yet)
    #[arg(long)]
    skip_firecracker: bool,

    #[command(flatten)]
    kernel: KernelArgs,
}

/// Does it.
pub(in super::super) async fn run(args: SetupArgs, global: &Global) -> Result<ExitCode, Failure> {
    let steps = Arc::new(Steps::new());
    if !args.skip_packages {
        let progress = Arc::clone(&steps);
        blocking(move || packages::install(&*progress)).await?;
    }
    if !args.skip_kernel {
        let progress = Arc::clone(&steps);
        let directory = global.data().kernel();
        blocking(move || kernel::prepare(&args.kernel, &directory, &*progress)).await?;
    }
    steps.finish();
    Ok(ExitCode::SUCCESS)
}
