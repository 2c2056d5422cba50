//! `infra.operator rootfs`: the images that programs run in.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::anyhow;
use clap::builder::RangedU64ValueParser;
use engine::Languages;
use images::rootfs::{self, CreateRootfs, RootfsSource, Step};
use indicatif::HumanBytes;
use serde::Serialize;

use super::{
    customize::{self, CustomizeArgs},
    from_docker::{self, FromDockerArgs},
    storage::{DownloadRootfsArgs, UploadRootfsArgs, download_rootfs, list_rootfs, upload_rootfs},
};
use crate::{
    bucket::BucketArgs,
    data_owner::Workshop,
    failure::{Failure, OrFail as _},
    output::{self, Steps},
    settings::Global,
    signals::blocking,
};

/// The release of Debian that images are made of.
const SUITE: &str = "bookworm";

/// What to do with images.
#[derive(clap::Subcommand)]
pub(crate) enum RootfsCommand {
    /// Makes the image of a language from Debian packages
    Create(CreateArgs),
    /// Makes the image of a language from a Docker or OCI image, without Docker
    FromDocker(FromDockerArgs),
    /// Adds to the image of a language: packages, pip, commands. A step that fails leaves the image as it was
    Customize(CustomizeArgs),
    /// Lists the images
    List(ListArgs),
    /// Puts the image of a language into a bucket
    Upload(UploadRootfsArgs),
    /// Gets the image of a language out of a bucket
    Download(DownloadRootfsArgs),
}

/// Arguments of `rootfs create`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  infra.operator rootfs create --lang python
  infra.operator rootfs create --lang python --packages numpy,pandas --size 800")]
pub(crate) struct CreateArgs {
    /// The language
    #[arg(long, value_name = "LANGUAGE")]
    lang: String,

    /// More packages: Debian's, or libraries of the language that Debian has
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    packages: Vec<String>,

    /// The size of the image, in MiB [default: what its contents need]
    #[arg(long, value_name = "MIB", value_parser = RangedU64ValueParser::<u64>::new().range(1..=1_048_576))]
    size: Option<u64>,

    /// Where to put it [default: images/rootfs-LANGUAGE.ext4 in the data directory]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// The Debian mirror to be used instead of the default one
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
}

/// Arguments of `rootfs list`.
#[derive(clap::Args)]
pub(crate) struct ListArgs {
    /// Those of a bucket instead of those of this host
    #[arg(long)]
    remote: bool,
    /// Only those of this language
    #[arg(long, value_name = "LANGUAGE", requires = "remote")]
    lang: Option<String>,
    #[command(flatten)]
    bucket: BucketArgs,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

impl RootfsCommand {
    /// Whether root has to do it.
    pub(super) fn needs_root(&self) -> bool {
        matches!(self, Self::Create(_) | Self::Customize(_))
    }
}

/// Does it.
pub(super) async fn run(command: RootfsCommand, global: &Global) -> Result<ExitCode, Failure> {
    match command {
        RootfsCommand::Create(args) => create(args, global).await,
        RootfsCommand::FromDocker(args) => from_docker::run(args, global).await,
        RootfsCommand::Customize(args) => customize::run(args, global).await,
        RootfsCommand::List(args) if args.remote => {
            list_rootfs(&args.bucket, args.lang.as_deref(), args.json, global).await
        }
        RootfsCommand::List(args) => list(&args, global),
        RootfsCommand::Upload(args) => upload_rootfs(args, global).await,
        RootfsCommand::Download(args) => download_rootfs(args, global).await,
    }
}

async fn create(args: CreateArgs, global: &Global) -> Result<ExitCode, Failure> {
    let languages = Languages::built_in();
    let spec = languages.find(&args.lang).ok_or_else(|| unknown_language(&args.lang, &languages))?.clone();
    let place = args.output.unwrap_or_else(|| global.data().image(&spec.name));
    let workshop = Workshop::needed(global, &place)?;
    let output = workshop.as_ref().map_or_else(|| place.clone(), Workshop::image);
    let (wanted, size_mib, mirror) = (args.packages, args.size, args.mirror);
    let steps = Arc::new(Steps::new());
    let progress = Arc::clone(&steps);
    let image = blocking(move || {
        let mut packages = spec.packages.clone();
        if !wanted.is_empty() {
            packages.extend(rootfs::map_packages(spec.name.as_str(), &wanted).or_fail()?);
        }
        if let Some(parent) = output.parent() {
            std::fs::create_dir_all(parent).map_err(|error| {
                Failure::host(anyhow::Error::new(error).context(format!("cannot make {}", parent.display())))
            })?;
        }
        let request = CreateRootfs { packages, size_mib, output, suite: SUITE.to_owned(), mirror };
        rootfs::create(&request, &*progress).or_fail()
    })
    .await?;
    if let Some(workshop) = workshop {
        workshop.hand_over()?;
    }
    steps.finish();
    crate::output::say!("made {} ({})", place.display(), HumanBytes(image.size_bytes));
    Ok(ExitCode::SUCCESS)
}

/// The failure of a language that nobody knows.
pub(super) fn unknown_language(name: &str, languages: &Languages) -> Failure {
    let known: Vec<_> = languages.iter().map(|spec| spec.name.to_string()).collect();
    Failure::usage(anyhow!("E006: unsupported language {name}"))
        .hint(format!("there are: {}", known.join(", ")))
}

#[derive(Serialize)]
struct Row {
    language: String,
    path: PathBuf,
    size_bytes: u64,
    sha256: Option<String>,
    created: Option<String>,
    source: Option<RootfsSource>,
    steps: Vec<Step>,
    problem: Option<String>,
}

fn list(args: &ListArgs, global: &Global) -> Result<ExitCode, Failure> {
    let rows: Vec<Row> = rootfs::list(&global.data().images())
        .or_fail()?
        .into_iter()
        .map(|image| Row {
            language: image.language,
            path: image.path,
            size_bytes: image.size_bytes,
            sha256: image.details.as_ref().map(|details| details.sha256.to_string()),
            created: image.details.as_ref().and_then(|details| output::time(details.created)),
            source: image.details.as_ref().map(|details| details.source.clone()),
            steps: image.details.map(|details| details.steps).unwrap_or_default(),
            problem: image.problem,
        })
        .collect();
    if args.json {
        output::json(&rows)?;
    } else {
        let table: Vec<Vec<String>> = rows
            .iter()
            .map(|row| {
                vec![
                    row.language.clone(),
                    HumanBytes(row.size_bytes).to_string(),
                    row.created.clone().unwrap_or_else(|| "-".to_owned()),
                    row.problem.clone().unwrap_or_else(|| "ok".to_owned()),
                    row.path.display().to_string(),
                ]
            })
            .collect();
        output::table(&["LANGUAGE", "SIZE", "CREATED", "STATE", "PATH"], &table)?;
    }
    Ok(ExitCode::SUCCESS)
}
