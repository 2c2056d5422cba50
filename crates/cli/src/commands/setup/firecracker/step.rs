//! Whether Firecracker is installed, from where, and what it means when it cannot be.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use images::{Progress, Sha256Digest};
use store::DataDirectory;
use vmm::kvm::KvmVerdict;

use super::{
    archive::unpack,
    download::{Patience, download, host},
    files::{self, Programs},
    install::{Installed, Staged, VERSION_PATIENCE},
    release,
};
use crate::{
    config::Acceleration, failure::Failure, host, output::Steps, settings::Global, signals::blocking,
};

/// What an archive may take. That of 1.16.1 has 7 MiB.
const MAX_ARCHIVE_BYTES: u64 = 64 << 20;

/// Ten minutes are 7 MiB over the slowest line worth waiting for.
const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(15),
    progress: Duration::from_secs(30),
    all: Duration::from_secs(600),
};

/// Where Firecracker comes from.
#[derive(clap::Args)]
pub(crate) struct FirecrackerArgs {
    /// Installs no Firecracker
    #[arg(long, conflicts_with_all = ["firecracker", "release_url"])]
    pub(super) skip_firecracker: bool,

    /// A Firecracker that is on this host, to be copied: its file, with the jailer beside it, or the directory of
    /// both
    #[arg(long, value_name = "PATH", conflicts_with = "release_url")]
    pub(super) firecracker: Option<PathBuf>,

    /// A mirror's archive of the Firecracker release, to be downloaded instead of GitHub's
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    pub(super) release_url: Option<String>,

    /// The SHA-256 of that archive, where it is of another release than this program knows
    #[arg(long, value_name = "HEX", requires = "release_url", value_parser = parse_digest)]
    pub(super) release_sha256: Option<Sha256Digest>,
}

fn parse_url(text: &str) -> Result<String, &'static str> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    if rest.is_some_and(|rest| !rest.is_empty()) { Ok(text.to_owned()) } else { Err("not an http(s) URL") }
}

fn parse_digest(text: &str) -> Result<Sha256Digest, images::ParseDigestError> {
    text.to_ascii_lowercase().parse()
}

/// An archive to be downloaded.
pub(super) struct Archive {
    /// Where it is.
    pub(super) url: String,
    /// What it is.
    pub(super) sha256: Sha256Digest,
    /// How long its server may take.
    pub(super) patience: Patience,
}

/// Installs Firecracker where that is of use, or asked for.
///
/// What was asked for by a flag fails where it cannot be done. Without, QEMU does the work where there is no
/// Firecracker, so that is no failure.
pub(crate) async fn run(args: FirecrackerArgs, global: &Global, steps: &Arc<Steps>) -> Result<(), Failure> {
    if args.skip_firecracker {
        return Ok(());
    }
    let data = global.data();
    let progress: Arc<dyn Progress> = Arc::clone(steps) as _;
    if let Some(path) = args.firecracker {
        return copy(path, &data, &progress).await.map_err(|error| {
            Failure::host(error)
                .hint("name the file `firecracker` of a release, with its `jailer` beside it".to_owned())
        });
    }
    let is_wanted = args.release_url.is_some();
    let archive = Archive {
        url: args.release_url.unwrap_or_else(|| release::URL.to_owned()),
        sha256: args.release_sha256.unwrap_or_else(release::digest),
        patience: PATIENCE,
    };
    if is_wanted {
        return from_archive(archive, &data, &progress).await.map_err(|error| {
            Failure::host(error).hint(
                "an archive of another release needs --release-sha256; a copy on this host, --firecracker"
                    .to_owned(),
            )
        });
    }
    if let Some(reason) = useless(global).await {
        // Where all was there before, nothing is said.
        if steps.have_begun() {
            steps.finish();
            crate::output::say!(
                "Firecracker was not installed: {reason} (--firecracker or --release-url installs it all the same)"
            );
        }
        return Ok(());
    }
    if Installed::find(&data).await.is_some_and(|installed| installed.version >= release::VERSION) {
        return Ok(());
    }
    if let Err(error) = from_archive(archive, &data, &progress).await {
        steps.finish();
        Failure::host(error.context("Firecracker was not installed, and QEMU is used without it"))
            .hint("name a mirror with --release-url, or a copy on this host with --firecracker".to_owned())
            .warn();
    }
    Ok(())
}

/// Why Firecracker, which needs KVM, would be of no use.
async fn useless(global: &Global) -> Option<String> {
    match global.config.vmm.acceleration {
        Some(Acceleration::Kvm) => None,
        Some(Acceleration::Tcg) => Some("it needs KVM, and emulation was chosen".to_owned()),
        None => {
            let global = global.clone();
            match blocking(move || host::kvm(&global)).await {
                KvmVerdict::Usable => None,
                verdict => Some(format!("it needs KVM, and {verdict}")),
            }
        }
    }
}

/// Copies programs of this host.
pub(super) async fn copy(
    path: PathBuf,
    data: &DataDirectory,
    progress: &Arc<dyn Progress>,
) -> anyhow::Result<()> {
    progress.step(&format!("copying Firecracker from {}", path.display()));
    let programs = blocking(move || files::read(&path)).await?;
    install(data, programs, None).await
}

/// Downloads, verifies and installs an archive, unless it is what is installed.
pub(super) async fn from_archive(
    archive: Archive,
    data: &DataDirectory,
    progress: &Arc<dyn Progress>,
) -> anyhow::Result<()> {
    let Archive { url, sha256, patience } = archive;
    if Installed::find(data).await.is_some_and(|installed| installed.archive.as_ref() == Some(&sha256)) {
        return Ok(());
    }
    progress.step(&format!("downloading Firecracker from {}", host(&url)));
    let (reporter, expected) = (Arc::clone(progress), sha256.clone());
    // Not `signals::blocking`: an interrupt need not wait for a server, there is nothing to be cleaned up.
    let work = tokio::task::spawn_blocking(move || -> anyhow::Result<Programs> {
        let bytes = download(&url, MAX_ARCHIVE_BYTES, &patience, &reporter)?;
        let found = Sha256Digest::of_bytes(&bytes);
        ensure!(
            found == expected,
            "{} is not the expected archive: its SHA-256 is {found}, not {expected}",
            super::download::shown(&url)
        );
        unpack(&bytes)
    });
    let programs = work.await.context("the download broke off")??;
    progress.step("installing Firecracker");
    install(data, programs, Some(sha256)).await
}

async fn install(
    data: &DataDirectory,
    programs: Programs,
    archive: Option<Sha256Digest>,
) -> anyhow::Result<()> {
    let own_data = data.clone();
    let staged = blocking(move || Staged::write(&own_data, &programs, archive.as_ref())).await?;
    staged.check(VERSION_PATIENCE).await?;
    blocking(move || staged.publish()).await
}
