//! `infra.operator rootfs upload`, `download` and `list --remote`.

use std::{process::ExitCode, sync::Arc};

use images::{Progress, Sha256Digest};
use indicatif::HumanBytes;
use serde::Serialize;
use store::{Language, remote};

use super::{UploadedRow, fetched, language, told};
use crate::{
    bucket::{BucketArgs, Make},
    failure::{Failure, OrFail as _},
    output::{self, Steps},
    settings::Global,
};

/// Arguments of `rootfs upload`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  infra.operator rootfs upload --lang python --bucket llm-firecracker
  infra.operator rootfs upload --lang python --bucket s3://team/llm --endpoint https://s3.example")]
pub(crate) struct UploadArgs {
    /// The language
    #[arg(long, value_name = "LANGUAGE")]
    lang: String,
    #[command(flatten)]
    bucket: BucketArgs,
    /// Sends also what is in the bucket already
    #[arg(long)]
    again: bool,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `rootfs download`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  infra.operator rootfs download --lang python --bucket llm-firecracker
  infra.operator rootfs download --lang python --bucket file:///srv/bucket --digest SHA256 --force")]
pub(crate) struct DownloadArgs {
    /// The language
    #[arg(long, value_name = "LANGUAGE")]
    lang: String,
    #[command(flatten)]
    bucket: BucketArgs,
    /// The image with this SHA-256 [default: the one that was uploaded last]
    #[arg(long, value_name = "SHA256")]
    digest: Option<Sha256Digest>,
    /// Replaces another image that is there
    #[arg(long)]
    force: bool,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Runs `rootfs upload`.
pub(crate) async fn upload(args: UploadArgs, global: &Global) -> Result<ExitCode, Failure> {
    #[derive(Serialize)]
    struct Row {
        language: Language,
        sha256: Sha256Digest,
        #[serde(flatten)]
        uploaded: UploadedRow,
    }
    let language = language(&args.lang)?;
    let data = global.data();
    let image = data.image(&language);
    if !image.exists() {
        let error = anyhow::anyhow!("there is no image {}", image.display());
        let hint = format!("run: infra.operator rootfs create --lang {language}");
        return Err(Failure::host(error).hint(hint));
    }
    let bucket = args.bucket.open(Make::Directory, global)?;
    let steps = Arc::new(Steps::new());
    let progress: Arc<dyn Progress> = Arc::clone(&steps) as _;
    let (sha256, uploaded) =
        remote::upload_image(&bucket, &data, &language, args.again, &progress).await.or_fail()?;
    steps.finish();
    crate::output::say!("uploaded the image of {language} to {} ({})", bucket.address(), told(&uploaded));
    if args.json {
        output::json(&Row { language, sha256, uploaded: (&uploaded).into() })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `rootfs download`.
pub(crate) async fn download(args: DownloadArgs, global: &Global) -> Result<ExitCode, Failure> {
    #[derive(Serialize)]
    struct Row {
        language: Language,
        sha256: Sha256Digest,
        path: std::path::PathBuf,
        bytes: u64,
        fetched_bytes: u64,
    }
    let language = language(&args.lang)?;
    let data = global.data();
    let bucket = args.bucket.open(Make::Nothing, global)?;
    let steps = Arc::new(Steps::new());
    let progress: Arc<dyn Progress> = Arc::clone(&steps) as _;
    let (wanted, force) = (args.digest.as_ref(), args.force);
    let done = remote::download_image(&bucket, &data, &language, wanted, force, &progress).await.or_fail()?;
    steps.finish();
    let path = data.image(&language);
    crate::output::say!("downloaded {} ({})", path.display(), fetched(done.bytes, done.fetched_bytes));
    if args.json {
        let fetched_bytes = done.fetched_bytes.unwrap_or_default();
        output::json(&Row { language, sha256: done.sha256, path, bytes: done.bytes, fetched_bytes })?;
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Row {
    language: Language,
    sha256: Sha256Digest,
    bytes: Option<u64>,
    stored_bytes: Option<u64>,
    uploaded: Option<String>,
    /// Whether it is the one that is downloaded where no digest is named.
    current: bool,
    problem: Option<String>,
}

/// Runs `rootfs list --remote`.
pub(crate) async fn list(
    bucket: &BucketArgs,
    lang: Option<&str>,
    json: bool,
    global: &Global,
) -> Result<ExitCode, Failure> {
    let language = lang.map(language).transpose()?;
    let bucket = bucket.open(Make::Nothing, global)?;
    let images = remote::list_images(&bucket, language.as_ref()).await.or_fail()?;
    let rows: Vec<Row> = images
        .into_iter()
        .map(|image| Row {
            language: image.language,
            sha256: image.sha256,
            bytes: image.sizes.as_ref().ok().map(|sizes| sizes.0),
            stored_bytes: image.sizes.as_ref().ok().map(|sizes| sizes.1),
            uploaded: output::time(image.uploaded_unix),
            current: image.is_current,
            problem: image.sizes.err().map(|error| error.to_string()),
        })
        .collect();
    if json {
        output::json(&rows)?;
        return Ok(ExitCode::SUCCESS);
    }
    let size = |bytes: Option<u64>| bytes.map_or("-".to_owned(), |bytes| HumanBytes(bytes).to_string());
    let table: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let current = if row.current { "current" } else { "older" };
            vec![
                row.language.to_string(),
                size(row.bytes),
                size(row.stored_bytes),
                row.uploaded.clone().unwrap_or_else(|| "-".to_owned()),
                row.problem.clone().unwrap_or_else(|| current.to_owned()),
                row.sha256.to_string(),
            ]
        })
        .collect();
    output::table(&["LANGUAGE", "SIZE", "STORED", "UPLOADED", "STATE", "SHA256"], &table)?;
    Ok(ExitCode::SUCCESS)
}
