//! `infra.operator setup`: everything that this host needs besides this program.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    sync::Arc,
};

use anyhow::{Context as _, anyhow};
use images::{KernelBundle, KernelSource, Progress};

use crate::{
    failure::{Failure, OrFail as _},
    output::Steps,
    settings::Global,
    signals::blocking,
};

/// What is needed: programs, each with the Debian package that has it.
const PROGRAMS: [(&str, &str); 4] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mmdebstrap", "mmdebstrap"),
    ("dpkg-deb", "dpkg"),
];

/// Where Debian keeps its programs.
const DIRECTORIES: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Arguments of `setup`.
#[derive(clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
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

/// Does it.
pub(super) async fn run(args: SetupArgs, global: &Global) -> Result<ExitCode, Failure> {
    let steps = Arc::new(Steps::new());
    if !args.skip_packages {
        let progress = Arc::clone(&steps);
        blocking(move || install_packages(&*progress)).await?;
    }
    if !args.skip_kernel {
        let progress = Arc::clone(&steps);
        let directory = global.data().kernel();
        blocking(move || prepare_kernel(&args, &directory, &*progress)).await?;
    }
    steps.finish();
    Ok(ExitCode::SUCCESS)
}

fn install_packages(progress: &dyn Progress) -> Result<(), Failure> {
    let missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| !installed(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::host(anyhow!("{} is missing", missing.join(" and ")))
            .hint(format!("as root: apt-get install --no-install-recommends {}", missing.join(" "))));
    }
    progress.step("refreshing the package lists");
    apt_get(&["update"], progress)?;
    progress.step(&format!("installing {}", missing.join(" ")));
    apt_get(&[&["install", "--yes", "--no-install-recommends"], &missing[..]].concat(), progress)
}

fn installed(program: &str) -> bool {
    DIRECTORIES.iter().any(|directory| std::path::Path::new(directory).join(program).is_file())
}

/// Runs apt-get and shows what it says as progress; all of its last words when it fails.
fn apt_get(arguments: &[&str], progress: &dyn Progress) -> Result<(), Failure> {
    const KEPT_LINES: usize = 20;
    let failed = |error| Failure::host(error).hint("is this Debian, and can it reach its mirror?".to_owned());
    // Its stderr goes where its stdout goes: the order of the lines says more than the kind.
    let (reader, writer) = std::io::pipe().context("cannot make a pipe").map_err(failed)?;
    let mut command = Command::new("apt-get");
    command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stderr(writer.try_clone().context("cannot make a pipe").map_err(failed)?)
        .stdout(writer);
    let mut child = command.spawn().context("cannot run apt-get").map_err(failed)?;
    drop(command);
    let mut last = std::collections::VecDeque::new();
    for line in BufReader::new(reader).lines().map_while(Result::ok) {
        if let Some(what) = line.strip_prefix("Setting up ").or_else(|| line.strip_prefix("Unpacking ")) {
            progress.step(&format!("installing {}", what.trim_end_matches(" ...")));
        }
        last.push_back(line);
        if last.len() > KEPT_LINES {
            last.pop_front();
        }
    }
    let status = child.wait().context("cannot wait for apt-get").map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    let said = last.into_iter().collect::<Vec<_>>().join("\n");
    Err(failed(anyhow!("apt-get {} failed ({status}):\n{said}", arguments.join(" "))))
}

fn prepare_kernel(
    args: &SetupArgs,
    directory: &std::path::Path,
    progress: &dyn Progress,
) -> Result<(), Failure> {
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
