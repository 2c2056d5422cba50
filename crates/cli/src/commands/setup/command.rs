//! The command: its parts, one after the other.

use std::{process::ExitCode, sync::Arc};

use super::{
    firecracker::{self, FirecrackerArgs},
    kernel::{self, KernelArgs},
    packages,
};
use crate::{data_owner::Owner, failure::Failure, output::Steps, settings::Global, signals::blocking};

/// Arguments of `setup`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  infra.operator setup
  infra.operator setup --skip-packages --kernel vmlinuz --modules lib/modules/6.12.1
  infra.operator setup --release-url https://mirror.example/firecracker-v1.16.1-x86_64.tgz

Firecracker is installed where KVM can be used, or where a flag says where it is. Without such a flag a download \
that fails is a warning: QEMU does without.")]
pub(crate) struct SetupArgs {
    /// Installs no Debian packages
    #[arg(long)]
    skip_packages: bool,

    /// Makes no kernel bundle
    #[arg(long)]
    skip_kernel: bool,

    #[command(flatten)]
    kernel: KernelArgs,

    #[command(flatten)]
    firecracker: FirecrackerArgs,
}

/// Makes the kernel bundle where there is none, or one of another release: for commands that cannot do without.
pub(in super::super) async fn kernel_bundle(global: &Global, steps: &Arc<Steps>) -> Result<(), Failure> {
    let (progress, directory) = (Arc::clone(steps), global.data().kernel());
    blocking(move || kernel::prepare(&KernelArgs::default(), &directory, &*progress)).await
}

/// Does it.
pub(in super::super) async fn run(args: SetupArgs, global: &Global) -> Result<ExitCode, Failure> {
    let steps = Arc::new(Steps::new());
    if !args.skip_packages {
        let progress = Arc::clone(&steps);
        blocking(move || packages::install(&*progress)).await?;
    }
    if let Some(owner) = Owner::other(global) {
        // What root alone can do is done.
        steps.finish();
        let arguments = std::env::args_os().skip(1);
        let skip = (!args.skip_packages).then(|| "--skip-packages".into());
        owner.go_on(global, arguments.chain(skip))?;
    }
    if !args.skip_kernel {
        let progress = Arc::clone(&steps);
        let directory = global.data().kernel();
        blocking(move || kernel::prepare(&args.kernel, &directory, &*progress)).await?;
    }
    firecracker::run(args.firecracker, global, &steps).await?;
    steps.finish();
    Ok(ExitCode::SUCCESS)
}
