//! `infra.operator snapshot`.

use std::{process::ExitCode, sync::Arc, time::Instant};

use engine::{Engine, Languages, SnapshotStatus, size};
use indicatif::HumanBytes;
use serde::Serialize;
use store::{Language, snapshot::Entry};
use vmm::MachineSpec;

use super::{
    rootfs::unknown_language,
    setup,
    storage::{DownloadSnapshotArgs, UploadSnapshotArgs, download_snapshot, list_snapshots, upload_snapshot},
};
use crate::{
    bucket::BucketArgs,
    failure::{Failure, HOST, OrFail as _},
    host::engine,
    output::{self, Steps},
    settings::{Global, Machine},
};

/// What to do with snapshots.
#[derive(clap::Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Boots a microVM, warms its interpreter up, and saves it; tries the result before it replaces an older one
    Create(CreateArgs),
    /// Lists the snapshots, each with whether it can be restored here and now
    List(ListArgs),
    /// Reads every file of the snapshots and compares it with the manifest
    Verify(VerifyArgs),
    /// Removes snapshots
    Rm(RemoveArgs),
    /// Puts the snapshots of a language into a bucket, and the image that they need
    Upload(UploadSnapshotArgs),
    /// Gets the snapshots of a language out of a bucket, those that can be restored here, and the image that they need
    Download(DownloadSnapshotArgs),
}

/// Arguments of `snapshot create`.
#[derive(clap::Args)]
pub(crate) struct CreateArgs {
    /// The language
    #[arg(long, value_name = "LANGUAGE")]
    lang: String,
    #[command(flatten)]
    machine: Machine,
    /// Does nothing where there is one that can be restored
    #[arg(long)]
    if_needed: bool,
}

/// Arguments of `snapshot list`.
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

/// Arguments of `snapshot verify`.
#[derive(clap::Args)]
pub(crate) struct VerifyArgs {
    /// Only those of this language
    #[arg(long, value_name = "LANGUAGE")]
    lang: Option<String>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `snapshot rm`.
#[derive(clap::Args)]
pub(crate) struct RemoveArgs {
    /// The language
    #[arg(long, value_name = "LANGUAGE")]
    lang: String,
    #[command(flatten)]
    machine: Machine,
    /// Removes those of all sizes
    #[arg(long, conflicts_with_all = ["mem", "vcpus"])]
    all: bool,
}

/// Does it.
pub(super) async fn run(command: SnapshotCommand, global: &Global) -> Result<ExitCode, Failure> {
    match command {
        SnapshotCommand::Create(args) => create(&args, global).await,
        SnapshotCommand::List(args) if args.remote => {
            list_snapshots(&args.bucket, args.lang.as_deref(), args.json, global).await
        }
        SnapshotCommand::List(args) => list(&args, global).await,
        SnapshotCommand::Verify(args) => verify(&args, global).await,
        SnapshotCommand::Rm(args) => remove(&args, global),
        SnapshotCommand::Upload(args) => upload_snapshot(args, global).await,
        SnapshotCommand::Download(args) => download_snapshot(args, global).await,
    }
}

async fn create(args: &CreateArgs, global: &Global) -> Result<ExitCode, Failure> {
    let languages = Languages::built_in();
    let spec = languages.find(&args.lang).ok_or_else(|| unknown_language(&args.lang, &languages))?;
    let engine = engine(global)?;
    let machine: MachineSpec = args.machine.into();
    let steps = Arc::new(Steps::new());
    if args.if_needed
        && let Some(entry) = engine.catalogue().find(&spec.name, size(machine))
    {
        let status = engine.check_snapshot(entry, false, Arc::clone(&steps) as _).await;
        match status.problem {
            None => return Ok(ExitCode::SUCCESS),
            Some(problem) => crate::output::say!("the snapshot has to be made again: {}", reason(&problem)),
        }
    }
    // Whoever has an image wants to run programs in it, and has no kernel of their own in mind.
    let image = global.data().image(&spec.name);
    if image.is_file() {
        images::rootfs::inspect(&image).or_fail()?;
        setup::kernel_bundle(global, &steps).await?;
    }
    let since = Instant::now();
    let (manifest, directory) =
        engine.create_snapshot(spec, machine, Arc::clone(&steps) as _).await.or_fail()?;
    steps.finish();
    crate::output::say!(
        "made {} in {:.1} s{}",
        directory.display(),
        since.elapsed().as_secs_f64(),
        if manifest.initialised { ", with an initialised interpreter" } else { "" }
    );
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Row {
    language: Language,
    memory_mib: u32,
    vcpus: u32,
    created: Option<String>,
    /// What its files take on the disk.
    disk_bytes: u64,
    vmm: Option<String>,
    initialised: Option<bool>,
    /// Whether it can be restored here and now.
    usable: bool,
    problem: Option<String>,
    fix: Option<String>,
    directory: std::path::PathBuf,
}

impl Row {
    fn new(status: SnapshotStatus) -> Self {
        let SnapshotStatus { entry, problem } = status;
        let manifest = entry.manifest.as_ref().ok();
        Self {
            memory_mib: entry.size.memory_mib,
            vcpus: entry.size.vcpus,
            created: manifest.and_then(|manifest| output::time(manifest.created_unix)),
            disk_bytes: disk_bytes(&entry),
            vmm: manifest.map(|manifest| {
                format!(
                    "{} {} ({})",
                    manifest.host.vmm, manifest.host.vmm_version, manifest.host.acceleration
                )
            }),
            initialised: manifest.map(|manifest| manifest.initialised),
            usable: problem.is_none(),
            problem: problem.as_ref().map(reason),
            fix: problem.map(|problem| problem.command()),
            language: entry.language,
            directory: entry.directory,
        }
    }
}

/// A problem in one line, with its causes.
pub(super) fn reason(problem: &engine::NotPrepared) -> String {
    let mut reason = problem.to_string();
    let mut cause = std::error::Error::source(problem);
    while let Some(error) = cause {
        reason = format!("{reason}: {error}");
        cause = error.source();
    }
    reason
}

fn disk_bytes(entry: &Entry) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    const BLOCK: u64 = 512;
    [entry.device_state(), entry.memory()]
        .iter()
        .filter_map(|path| std::fs::metadata(path).ok())
        .map(|metadata| metadata.blocks() * BLOCK)
        .sum()
}

async fn list(args: &ListArgs, global: &Global) -> Result<ExitCode, Failure> {
    let engine = engine(global)?;
    let rows = rows(&engine, None, false).await?;
    print(&rows, args.json)?;
    Ok(ExitCode::SUCCESS)
}

async fn verify(args: &VerifyArgs, global: &Global) -> Result<ExitCode, Failure> {
    let engine = engine(global)?;
    let rows = rows(&engine, args.lang.as_deref(), true).await?;
    if let (Some(lang), true) = (&args.lang, rows.is_empty()) {
        let hint = format!("infra.operator snapshot create --lang {lang}");
        return Err(Failure::host(anyhow::anyhow!("there is no snapshot of {lang}")).hint(hint));
    }
    print(&rows, args.json)?;
    let good = rows.iter().all(|row| row.usable);
    Ok(ExitCode::from(if good { 0 } else { HOST }))
}

async fn rows(engine: &Engine, language: Option<&str>, thorough: bool) -> Result<Vec<Row>, Failure> {
    let steps = Arc::new(Steps::new());
    let name = language.and_then(|name| engine.languages().find(name)).map(|spec| spec.name.as_str());
    let mut rows = Vec::new();
    for entry in engine.catalogue().list().or_fail()? {
        if language.is_none() || Some(entry.language.as_str()) == name.or(language) {
            rows.push(Row::new(engine.check_snapshot(entry, thorough, Arc::clone(&steps) as _).await));
        }
    }
    Ok(rows)
}

fn print(rows: &[Row], json: bool) -> Result<(), Failure> {
    if json {
        return output::json(&rows);
    }
    let table: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            vec![
                row.language.to_string(),
                format!("{} MiB", row.memory_mib),
                row.vcpus.to_string(),
                HumanBytes(row.disk_bytes).to_string(),
                or_dash(&row.created),
                or_dash(&row.vmm),
                row.problem.clone().unwrap_or_else(|| "ok".to_owned()),
            ]
        })
        .collect();
    output::table(&["LANGUAGE", "MEMORY", "VCPUS", "DISK", "CREATED", "VMM", "STATE"], &table)?;
    for fix in rows.iter().filter_map(|row| row.fix.as_ref()) {
        crate::output::say!("hint: {fix}");
    }
    Ok(())
}

fn remove(args: &RemoveArgs, global: &Global) -> Result<ExitCode, Failure> {
    let languages = Languages::built_in();
    let spec = languages.find(&args.lang).ok_or_else(|| unknown_language(&args.lang, &languages))?;
    // Works without QEMU: what cannot be used can be removed all the same.
    let catalogue = store::snapshot::Catalogue::new(global.data().snapshots());
    let wanted = size(args.machine.into());
    let mut removed = 0;
    for entry in catalogue.list().or_fail()? {
        if entry.language == spec.name && (args.all || entry.size == wanted) {
            removed += u32::from(catalogue.remove(&entry.language, entry.size).or_fail()?);
        }
    }
    if removed == 0 {
        let hint = "infra.operator snapshot list shows those that there are".to_owned();
        return Err(Failure::host(anyhow::anyhow!("there is no such snapshot")).hint(hint));
    }
    crate::output::say!("removed {removed}");
    Ok(ExitCode::SUCCESS)
}
