//! `infra.operator rootfs from-docker`: rootfs images from images of others, without Docker.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Context as _;
use clap::builder::RangedU64ValueParser;
use engine::Languages;
use images::{
    Progress,
    oci::{
        self, CreateFromImage, ImageSource,
        registry::{self, CredentialFiles, HostFiles, Mirror, RegistrySettings},
    },
};
use indicatif::HumanBytes;
use store::Language;

use crate::{
    failure::{Failure, OrFail as _},
    output::Steps,
    settings::Global,
    signals::blocking,
};

/// Arguments of `rootfs from-docker`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  infra.operator rootfs from-docker --name python --image python:3.12-alpine --size 150
  infra.operator rootfs from-docker --name python --image ghcr.io/team/python@sha256:…
  infra.operator rootfs from-docker --name python --image docker-archive:python.tar

Private registries: what docker login or podman login has written is used. Mirrors: those of
/etc/containers/registries.conf and of Docker's daemon.json are asked first.")]
pub(crate) struct FromDockerArgs {
    /// The language whose image it becomes
    #[arg(long, value_name = "LANGUAGE")]
    name: Language,

    /// The image: as docker pull has it, or oci:DIR, oci-archive:FILE, docker-archive:FILE, each with :NAME where it
    /// holds several
    #[arg(long, value_name = "IMAGE")]
    image: String,

    /// The size of the new image, in MiB [default: what its contents need, and room for more]
    #[arg(long, value_name = "MIB", value_parser = RangedU64ValueParser::<u64>::new().range(1..=1_048_576))]
    size: Option<u64>,

    /// Where to put it [default: images/rootfs-LANGUAGE.ext4 in the data directory]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    #[arg(
        long,
        value_name = "URL",
        value_delimiter = ',',
        help = "A mirror of Docker Hub that is asked first, or of another registry: REGISTRY=URL [default: those of \
                registry.mirrors in the configuration] [env: LLM_FIRECRACKER_REGISTRY_MIRROR]"
    )]
    registry_mirror: Vec<Mirror>,

    /// Speaks to the registry without encryption. On this machine that is done where it does not speak TLS
    #[arg(long)]
    plain_http: bool,
}

/// Does it.
pub(super) async fn run(args: FromDockerArgs, global: &Global) -> Result<ExitCode, Failure> {
    let source: ImageSource = args.image.parse().map_err(|error: oci::ParseReferenceError| {
        Failure::usage(error)
            .hint("name it as in: python:3.12-alpine, ghcr.io/team/image:tag, oci:DIR".to_owned())
    })?;
    let language = if let Some(spec) = Languages::built_in().find(args.name.as_str()) {
        spec.name.clone()
    } else {
        let name = &args.name;
        crate::output::say!(
            "warning: no language of this release goes by {name}: nothing will run in this image"
        );
        args.name
    };
    let data = global.data();
    let output = args.output.unwrap_or_else(|| data.image(&language));
    let steps = Arc::new(Steps::new());
    let progress: Arc<dyn Progress> = Arc::clone(&steps) as _;
    let layers = data.layers();
    let image = if let ImageSource::Registry(reference) = &source {
        let named = args.registry_mirror;
        let mirrors = if named.is_empty() { global.config.registry.mirrors.clone() } else { named };
        let settings = RegistrySettings {
            mirrors,
            plain_http: args.plain_http,
            host_files: host_files(),
            credential_files: credential_files(),
        };
        registry::pull(reference, &args.image, &settings, &layers, &progress).await.or_fail()?
    } else {
        let (said, progress) = (args.image.clone(), Arc::clone(&progress));
        // Not where temporary files are: that may be memory.
        let scratch = data.root().to_owned();
        std::fs::create_dir_all(&scratch)
            .with_context(|| format!("cannot make {}", scratch.display()))
            .map_err(Failure::host)?;
        let opened = blocking(move || oci::open_local(&source, &said, &scratch, &*progress)).await;
        opened.ok_or_else(|| Failure::usage(anyhow::anyhow!("{} is in no file", args.image)))?.or_fail()?
    };
    let request = CreateFromImage { size_mib: args.size, output };
    let made = blocking(move || oci::create_from_image(&image, &request, &*progress)).await.or_fail()?;
    steps.finish();
    crate::output::say!("made {} ({})", made.path.display(), HumanBytes(made.size_bytes));
    Ok(ExitCode::SUCCESS)
}

/// A path of the user's own.
fn home(rest: &str) -> Option<PathBuf> {
    std::env::var_os("HOME").map(|home| PathBuf::from(home).join(rest))
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Where podman, skopeo and Docker look for their registries.
fn host_files() -> HostFiles {
    let registries = match variable("CONTAINERS_REGISTRIES_CONF") {
        Some(file) => vec![file],
        None => home(".config/containers/registries.conf")
            .into_iter()
            .chain([PathBuf::from("/etc/containers/registries.conf")])
            .collect(),
    };
    let drop_ins = [
        Some(PathBuf::from("/etc/containers/registries.conf.d")),
        home(".config/containers/registries.conf.d"),
    ];
    HostFiles {
        registries,
        drop_ins: drop_ins.into_iter().flatten().collect(),
        docker_daemon: Some(PathBuf::from("/etc/docker/daemon.json")),
    }
}

/// Where podman, skopeo and Docker look for logins.
fn credential_files() -> CredentialFiles {
    // Where it is not set, as with sudo, podman has a directory of its own.
    let user = rustix::process::geteuid().as_raw();
    let runtime = variable("XDG_RUNTIME_DIR").map_or_else(
        || PathBuf::from(format!("/run/containers/{user}/auth.json")),
        |directory| directory.join("containers/auth.json"),
    );
    let docker = variable("DOCKER_CONFIG").or_else(|| home(".docker"));
    let files = [
        variable("REGISTRY_AUTH_FILE"),
        Some(runtime),
        home(".config/containers/auth.json"),
        docker.map(|directory| directory.join("config.json")),
    ];
    CredentialFiles(files.into_iter().flatten().collect())
}
