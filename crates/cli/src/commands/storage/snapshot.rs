//! `infra.operator snapshot upload`, `download` and `list --remote`.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use clap::builder::RangedU64ValueParser;
use engine::{Engine, NotPrepared};
use images::{Progress, Sha256Digest};
use indicatif::HumanBytes;
use serde::Serialize;
use store::{
    DataDirectory, Language,
    remote::{self, Bucket, DownloadError, SnapshotDownload, Wanted},
    snapshot::{Manifest, Size},
};

use super::{UploadedRow, fetched, language, told};
use crate::{
    bucket::{BucketArgs, Make},
    commands::snapshot::reason,
    failure::{Failure, OrFail as _},
    host::engine,
    output::{self, Steps},
    settings::Global,
};

/// Which sizes of a language's snapshots.
#[derive(clap::Args, Clone, Copy)]
struct Sizes {
    /// Only those with this much memory, in MiB
    #[arg(long, value_name = "MIB", value_parser = RangedU64ValueParser::<u32>::new().range(128..=65_536))]
    mem: Option<u32>,
    /// Only those with so many virtual processors
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u32>::new().range(1..=16))]
    vcpus: Option<u32>,
}

impl Sizes {
    fn hold(self, size: Size) -> bool {
        self.mem.is_none_or(|mem| mem == size.memory_mib)
            && self.vcpus.is_none_or(|vcpus| vcpus == size.vcpus)
    }
}

/// Arguments of `snapshot upload`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  infra.operator snapshot upload --lang python --bucket llm-firecracker
  infra.operator snapshot upload --lang python --mem 512 --bucket file:///srv/bucket")]
pub(crate) struct UploadArgs {
    /// The language
    #[arg(long, value_name = "LANGUAGE")]
    lang: String,
    #[command(flatten)]
    sizes: Sizes,
    #[command(flatten)]
    bucket: BucketArgs,
    /// Sends also what is in the bucket already
    #[arg(long)]
    again: bool,
    /// Passes over snapshots that cannot be restored, with a warning
    #[arg(long)]
    skip_stale: bool,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `snapshot download`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  infra.operator snapshot download --lang python --bucket llm-firecracker")]
pub(crate) struct DownloadArgs {
    /// The language
    #[arg(long, value_name = "LANGUAGE")]
    lang: String,
    #[command(flatten)]
    sizes: Sizes,
    #[command(flatten)]
    bucket: BucketArgs,
    /// Replaces another snapshot that is there
    #[arg(long)]
    force: bool,
    /// Succeeds, with a warning, where the bucket has none that can be restored here
    #[arg(long)]
    if_available: bool,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct UploadRow {
    language: Language,
    memory_mib: u32,
    vcpus: u32,
    #[serde(flatten)]
    uploaded: UploadedRow,
}

/// Runs `snapshot upload`.
pub(crate) async fn upload(args: UploadArgs, global: &Global) -> Result<ExitCode, Failure> {
    let language = language(&args.lang)?;
    let engine = engine(global)?;
    let steps = Arc::new(Steps::new());
    let progress: Arc<dyn Progress> = Arc::clone(&steps) as _;
    let mut fit = Vec::new();
    let mut passed_over = false;
    for entry in engine.catalogue().list().or_fail()? {
        if entry.language != language || !args.sizes.hold(entry.size) {
            continue;
        }
        let size = entry.size;
        let status = engine.check_snapshot(entry, false, Arc::clone(&progress)).await;
        match status.problem {
            None => fit.push(status.entry),
            Some(problem) if args.skip_stale => {
                passed_over = true;
                stale(&language, size, &problem).warn();
            }
            Some(problem) => return Err(stale(&language, size, &problem)),
        }
    }
    if fit.is_empty() && !passed_over {
        let hint = format!("run: infra.operator snapshot create --lang {language}");
        let missing = Failure::host(anyhow::anyhow!("there is no such snapshot of {language}")).hint(hint);
        if !args.skip_stale {
            return Err(missing);
        }
        missing.warn();
    }
    let mut rows = Vec::new();
    // A bucket is asked for nothing where there is nothing for it.
    let bucket = if fit.is_empty() { None } else { Some(args.bucket.open(Make::Directory, global)?) };
    for (entry, bucket) in fit.iter().zip(bucket.iter().cycle()) {
        let Ok(manifest) = &entry.manifest else { continue };
        let data = global.data();
        let uploaded =
            remote::upload_snapshot(bucket, &data, entry, manifest, args.again, &progress).await.or_fail()?;
        steps.finish();
        let (size, address) = (entry.size, bucket.address());
        crate::output::say!("uploaded the snapshot {language} {size} to {address} ({})", told(&uploaded));
        let Size { memory_mib, vcpus } = size;
        let uploaded = UploadedRow::from(&uploaded);
        rows.push(UploadRow { language: language.clone(), memory_mib, vcpus, uploaded });
    }
    if args.json {
        output::json(&rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn stale(language: &Language, size: Size, problem: &NotPrepared) -> Failure {
    let error = anyhow::anyhow!("the snapshot {language} {size} is not uploaded: {}", reason(problem));
    Failure::host(error).hint(format!("run: {}", problem.command()))
}

#[derive(Serialize)]
struct DownloadRow {
    language: Language,
    memory_mib: u32,
    vcpus: u32,
    directory: PathBuf,
    bytes: u64,
    fetched_bytes: u64,
}

/// Runs `snapshot download`.
pub(crate) async fn download(args: DownloadArgs, global: &Global) -> Result<ExitCode, Failure> {
    let language = language(&args.lang)?;
    let engine = engine(global)?;
    let bucket = args.bucket.open(Make::Nothing, global)?;
    let steps = Arc::new(Steps::new());
    let progress: Arc<dyn Progress> = Arc::clone(&steps) as _;
    let sizes = remote::list_sizes(&bucket, &language).await.or_fail()?;
    let sizes: Vec<Size> = sizes.into_iter().filter(|size| args.sizes.hold(*size)).collect();
    let (mut rows, mut unavailable) = (Vec::new(), Vec::new());
    if sizes.is_empty() {
        let (bucket, language) = (bucket.address().to_string(), language.clone());
        unavailable.push(DownloadError::NoSnapshot { bucket, language, size: None });
    }
    for size in sizes {
        match fetch(&engine, &bucket, &global.data(), (&language, size), args.force, &progress).await {
            Ok(done) => {
                steps.finish();
                crate::output::say!(
                    "downloaded {} ({})",
                    done.directory.display(),
                    fetched(done.bytes, done.fetched_bytes)
                );
                let Size { memory_mib, vcpus } = size;
                let fetched_bytes = done.fetched_bytes.unwrap_or_default();
                let SnapshotDownload { directory, bytes, .. } = done;
                let language = language.clone();
                rows.push(DownloadRow { language, memory_mib, vcpus, directory, bytes, fetched_bytes });
            }
            // One size may fit where another does not.
            Err(FetchError::Download(
                error @ (DownloadError::NoneFits { .. } | DownloadError::OtherImage { .. }),
            )) => unavailable.push(error),
            Err(error) => return Err(error.into()),
        }
    }
    if rows.is_empty()
        && !args.if_available
        && let Some(error) = unavailable.pop()
    {
        return Err(FetchError::Download(error).into());
    }
    for error in unavailable {
        Failure::from(FetchError::Download(error)).warn();
    }
    if args.json {
        output::json(&rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Why a snapshot was not fetched.
pub(super) enum FetchError {
    /// What is here cannot be compared with.
    NotPrepared(NotPrepared),
    /// It could not be downloaded.
    Download(DownloadError),
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::NotPrepared(problem) => {
                let hint = format!("run: {}", problem.command());
                Self::host(problem).hint(hint)
            }
            FetchError::Download(error) => {
                let hint = error.hint();
                Self::host(error).hint(hint)
            }
        }
    }
}

/// Fetches the newest snapshot of this size that can be restored here.
pub(super) async fn fetch(
    engine: &Engine,
    bucket: &Bucket,
    data: &DataDirectory,
    (language, size): (&Language, Size),
    force: bool,
    progress: &Arc<dyn Progress>,
) -> Result<SnapshotDownload, FetchError> {
    let current = engine.current(language).map_err(FetchError::NotPrepared)?;
    let wanted = Wanted { language: language.clone(), size, current, force };
    remote::download_snapshot(bucket, data, &wanted, progress).await.map_err(FetchError::Download)
}

#[derive(Serialize)]
struct Row {
    language: Language,
    memory_mib: u32,
    vcpus: u32,
    vmm: Option<String>,
    cpu: Option<String>,
    bytes: Option<u64>,
    stored_bytes: Option<u64>,
    uploaded: Option<String>,
    created: Option<String>,
    /// That of the memory.
    sha256: Option<Sha256Digest>,
    /// That of the image that it needs.
    rootfs_sha256: Option<Sha256Digest>,
    problem: Option<String>,
}

/// Runs `snapshot list --remote`.
pub(crate) async fn list(
    bucket: &BucketArgs,
    lang: Option<&str>,
    json: bool,
    global: &Global,
) -> Result<ExitCode, Failure> {
    let language = lang.map(language).transpose()?;
    let bucket = bucket.open(Make::Nothing, global)?;
    let snapshots = remote::list_snapshots(&bucket, language.as_ref()).await.or_fail()?;
    let rows: Vec<Row> = snapshots
        .into_iter()
        .map(|snapshot| {
            let known = snapshot.manifest.as_ref().ok();
            let manifest: Option<&Manifest> = known.map(|(manifest, _)| manifest);
            Row {
                language: snapshot.language,
                memory_mib: snapshot.size.memory_mib,
                vcpus: snapshot.size.vcpus,
                vmm: manifest.map(|manifest| {
                    let host = &manifest.host;
                    format!("{} {} ({})", host.vmm, host.vmm_version, host.acceleration)
                }),
                cpu: manifest.map(|manifest| manifest.host.cpu.clone()),
                bytes: manifest.map(|manifest| manifest.device_state.bytes + manifest.memory.bytes),
                stored_bytes: known.map(|(_, stored)| *stored),
                uploaded: output::time(snapshot.uploaded_unix),
                created: manifest.and_then(|manifest| output::time(manifest.created_unix)),
                sha256: manifest.map(|manifest| manifest.memory.sha256.clone()),
                rootfs_sha256: manifest.map(|manifest| manifest.rootfs.sha256.clone()),
                problem: snapshot.manifest.as_ref().err().map(ToString::to_string),
            }
        })
        .collect();
    if json {
        output::json(&rows)?;
        return Ok(ExitCode::SUCCESS);
    }
    let size = |bytes: Option<u64>| bytes.map_or("-".to_owned(), |bytes| HumanBytes(bytes).to_string());
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let table: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.language.to_string(),
                format!("{} MiB", row.memory_mib),
                row.vcpus.to_string(),
                or_dash(&row.vmm),
                size(row.bytes),
                size(row.stored_bytes),
                or_dash(&row.uploaded),
                row.sha256.as_ref().map_or_else(|| or_dash(&row.problem), ToString::to_string),
            ]
        })
        .collect();
    let head = ["LANGUAGE", "MEMORY", "VCPUS", "VMM", "SIZE", "STORED", "UPLOADED", "SHA256"];
    output::table(&head, &table)?;
    Ok(ExitCode::SUCCESS)
}
