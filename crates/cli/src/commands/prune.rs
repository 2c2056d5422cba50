//! `infra.operator prune`: shows what takes space and serves nobody, and removes it.

use std::{
    io::{BufRead as _, IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use indicatif::HumanBytes;
use serde::Serialize;
use store::{
    garbage::{self, Garbage},
    snapshot::{Catalogue, Entry},
};

use crate::{
    commands::snapshot::reason,
    failure::{Failure, OrFail as _},
    host::engine,
    output::{self, Steps},
    settings::Global,
};

/// Arguments of `prune`.
#[derive(clap::Args)]
#[command(
    after_help = "Removed are layers of which no image here is made, snapshots that cannot be restored any more
(the command that makes them again is in snapshot list), downloads that were interrupted, and unfinished work of
commands that were killed. What is in use stays. On a terminal it asks first."
)]
pub(crate) struct PruneArgs {
    /// Shows it and removes nothing
    #[arg(long)]
    dry_run: bool,
    /// Does not ask
    #[arg(long, short)]
    yes: bool,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// One thing to be removed.
enum Item {
    Garbage(Garbage),
    Snapshot(Box<Entry>, String),
}

#[derive(Serialize)]
struct Row {
    what: String,
    disk_bytes: u64,
    why: Option<String>,
    path: PathBuf,
    removed: bool,
}

impl Item {
    fn row(&self) -> Row {
        match self {
            Self::Garbage(garbage) => Row {
                what: garbage.kind.to_string(),
                disk_bytes: garbage.disk_bytes,
                why: None,
                path: garbage.path.clone(),
                removed: false,
            },
            Self::Snapshot(entry, why) => Row {
                what: "stale snapshot".to_owned(),
                disk_bytes: garbage::disk_bytes(&entry.directory),
                why: Some(why.clone()),
                path: entry.directory.clone(),
                removed: false,
            },
        }
    }

    /// False where it is in use, or gone by now.
    fn remove(&self, global: &Global) -> Result<bool, Failure> {
        match self {
            Self::Garbage(garbage) => garbage::remove(&global.data(), garbage).or_fail(),
            Self::Snapshot(entry, _) => {
                let catalogue = Catalogue::new(global.data().snapshots());
                catalogue.remove_unused(&entry.language, entry.size).or_fail()
            }
        }
    }
}

/// Does it.
pub(super) async fn run(args: &PruneArgs, global: &Global) -> Result<ExitCode, Failure> {
    let mut items: Vec<Item> =
        garbage::find(&global.data()).or_fail()?.into_iter().map(Item::Garbage).collect();
    items.extend(stale_snapshots(global).await?);
    let mut rows: Vec<Row> = items.iter().map(Item::row).collect();
    if !args.json {
        show(&rows)?;
    }
    if !args.dry_run && !items.is_empty() && (args.yes || confirmed()?) {
        for (item, row) in items.iter().zip(&mut rows) {
            row.removed = item.remove(global)?;
            if !row.removed {
                crate::output::say!("{} is in use, or gone by now", row.path.display());
            }
        }
        let removed = rows.iter().filter(|row| row.removed);
        let (count, bytes) = removed.fold((0, 0), |(count, bytes), row| (count + 1, bytes + row.disk_bytes));
        crate::output::say!("removed {count}, which took {}", HumanBytes(bytes));
    }
    if args.json {
        output::json(&rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Snapshots that cannot be restored any more, whatever is done but to make them again.
async fn stale_snapshots(global: &Global) -> Result<Vec<Item>, Failure> {
    let engine = match engine(global) {
        Ok(engine) => engine,
        Err(failure) => {
            crate::output::say!("snapshots are left out, for this host cannot judge them");
            failure.warn();
            return Ok(Vec::new());
        }
    };
    let steps = Arc::new(Steps::new());
    let mut stale = Vec::new();
    for entry in engine.catalogue().list().or_fail()? {
        let status = engine.check_snapshot(entry, false, Arc::clone(&steps) as _).await;
        if engine.is_stale(&status)
            && let Some(problem) = &status.problem
        {
            let why = reason(problem);
            stale.push(Item::Snapshot(Box::new(status.entry), why));
        }
    }
    Ok(stale)
}

fn show(rows: &[Row]) -> Result<(), Failure> {
    if rows.is_empty() {
        crate::output::say!("there is nothing to be removed");
        return Ok(());
    }
    let table: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let size = HumanBytes(row.disk_bytes).to_string();
            vec![row.what.clone(), size, row.path.display().to_string(), row.why.clone().unwrap_or_default()]
        })
        .collect();
    output::table(&["WHAT", "SIZE", "PATH", "WHY"], &table)
}

/// Asks, where there is somebody to ask.
fn confirmed() -> Result<bool, Failure> {
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Ok(true);
    }
    let ask = || {
        eprint!("remove all of it? [y/N] ");
        std::io::stderr().flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    };
    ask().map_err(|error: std::io::Error| Failure::host(error))
}
