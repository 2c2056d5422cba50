//! The kernel bundle: made where there is none, refreshed where it has another release's guest agent.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use images::{KernelBundle, KernelSource, Progress};

use crate::failure::{Failure, OrFail as _};

/// Which kernel.
#[derive(clap::Args, Default)]
pub(crate) struct KernelArgs {
    /// A guest kernel (vmlinux or bzImage) to be used instead of Debian's
    #[arg(long, value_name = "FILE", requires = "modules")]
    kernel: Option<PathBuf>,

    /// The modules directory of that kernel
    #[arg(long, value_name = "DIR", requires = "kernel")]
    modules: Option<PathBuf>,

    /// The Debian package of the guest kernel [default: the newest cloud kernel]
    #[arg(long, value_name = "NAME", conflicts_with = "kernel")]
    kernel_package: Option<String>,

    /// Makes the kernel bundle again, also where there is one
    #[arg(long)]
    renew: bool,
}

/// Makes the bundle at `directory`.
pub(super) fn prepare(args: &KernelArgs, directory: &Path, progress: &dyn Progress) -> Result<(), Failure> {
    let chosen = args.kernel.is_some() || args.kernel_package.is_some();
    if !args.renew && !chosen {
        match KernelBundle::open(directory) {
            Ok(bundle) if bundle.is_current() => return Ok(()),
            // The kernel is good, the guest agent another release's.
            Ok(_) => {
                KernelBundle::refresh(directory, progress).or_fail()?;
                return Ok(());
            }
            Err(_) => {}
        }
    }
    let source = match (&args.kernel, &args.modules) {
        (Some(kernel), Some(modules)) => {
            KernelSource::Files { kernel: kernel.clone(), modules: modules.clone() }
        }
        _ => KernelSource::Debian { package: args.kernel_package.clone() },
    };
    if let Some(parent) = directory.parent() {
        std::fs::create_dir_all(parent)
            .with_context(|| format!("cannot make {}", parent.display()))
            .map_err(Failure::host)?;
    }
    KernelBundle::prepare(&source, directory, progress).or_fail()?;
    Ok(())
}
