//! `infra.operator config`: whether the configuration is right, what it says, and what it could say.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::anyhow;
use clap::ValueHint;
use serde::Serialize;

use crate::{
    config::{self, Config, Environment, Fault, Resolution, SECTIONS, Source, Value, nearest, resolve},
    failure::{DONE, Failure, USAGE},
    output,
    settings::Flags,
};

/// What to do with the configuration.
#[derive(clap::Subcommand)]
pub(crate) enum ConfigCommand {
    /// Tells all that is wrong in the file, the environment and the flags, each with its place
    Check(CheckArgs),
    /// Shows each value, and where it comes from
    Show(ShowArgs),
    /// Prints what can be configured: a file with every key, or a page about them
    Reference(ReferenceArgs),
}

/// Arguments of `config check`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  infra.operator config check
  infra.operator config check config.toml && mv config.toml /etc/llm-firecracker/

Exit status: 0 nothing is wrong; 2 something is. A variable that begins with LLM_FIRECRACKER_ and
means nothing is a warning.")]
pub(crate) struct CheckArgs {
    /// The file [default: the one that commands read]
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: Option<PathBuf>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `config show`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  infra.operator config show
  infra.operator config show pool queue
  infra.operator config show api --set api.port=8081
  infra.operator config show --json --config config.toml")]
pub(crate) struct ShowArgs {
    /// Only these sections
    #[arg(value_name = "SECTION")]
    sections: Vec<String>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `config reference`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  infra.operator config reference > config.toml
  infra.operator config reference --format markdown | less")]
pub(crate) struct ReferenceArgs {
    /// The form
    #[arg(long, value_enum, default_value_t = Format::Toml)]
    format: Format,
}

/// A form of what can be configured.
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Format {
    /// A file in which every key stands commented out, with its default
    Toml,
    /// The page docs/configuration.md
    Markdown,
}

/// Does it.
pub(super) fn run(command: ConfigCommand, flags: &Flags) -> Result<ExitCode, Failure> {
    match command {
        ConfigCommand::Check(args) => check(&args, flags),
        ConfigCommand::Show(args) => show(&args, flags),
        ConfigCommand::Reference(args) => {
            let text = match args.format {
                Format::Toml => config::example(),
                Format::Markdown => config::markdown(),
            };
            output::line(text.trim_end())?;
            Ok(ExitCode::from(DONE))
        }
    }
}

fn resolution(flags: &Flags, file: Option<&Path>) -> Resolution {
    let environment = Environment::of_process();
    let is_root = rustix::process::geteuid().is_root();
    let file = file.or(flags.config.as_deref());
    resolve(flags, &environment, &Source::choose(file, &environment, is_root))
}

fn check(args: &CheckArgs, flags: &Flags) -> Result<ExitCode, Failure> {
    #[derive(Serialize)]
    struct Report {
        ok: bool,
        file: Option<PathBuf>,
        faults: Vec<config::FaultRow>,
        warnings: Vec<config::FaultRow>,
    }
    let found = resolution(flags, args.file.as_deref());
    let ok = found.faults.is_empty();
    if args.json {
        let rows = |faults: &[Fault]| faults.iter().map(Fault::row).collect();
        let (faults, warnings) = (rows(&found.faults), rows(&found.warnings));
        output::json(&Report { ok, file: found.file, faults, warnings })?;
    } else {
        found.warnings.iter().for_each(|warning| crate::output::say!("warning: {warning}"));
        found.faults.iter().try_for_each(|fault| output::line(&fault.to_string()))?;
        match (&found.file, ok) {
            (Some(file), true) => output::line(&format!("ok: {}", file.display()))?,
            (None, true) => output::line("ok: there is no file, and none is needed")?,
            (_, false) => {}
        }
    }
    Ok(ExitCode::from(if ok { DONE } else { USAGE }))
}

fn show(args: &ShowArgs, flags: &Flags) -> Result<ExitCode, Failure> {
    #[derive(Serialize)]
    struct Row {
        key: &'static str,
        value: Value,
        origin: String,
    }
    args.sections.iter().try_for_each(|section| known(section))?;
    let config = Config::of(resolution(flags, None))?;
    let wanted = |key: &str| {
        let section = key.split('.').next().unwrap_or(key);
        args.sections.is_empty() || args.sections.iter().any(|wanted| wanted == section)
    };
    let rows = config.entries().filter(|(key, _)| wanted(key));
    let rows: Vec<Row> =
        rows.map(|(key, entry)| Row { key, value: entry.value, origin: entry.origin.to_string() }).collect();
    if args.json {
        output::json(&rows)?;
    } else {
        let cells = |row: &Row| vec![row.key.to_owned(), row.value.to_string(), row.origin.clone()];
        let table: Vec<Vec<String>> = rows.iter().map(cells).collect();
        output::table(&["KEY", "VALUE", "FROM"], &table)?;
    }
    Ok(ExitCode::from(DONE))
}

fn known(section: &str) -> Result<(), Failure> {
    let names = SECTIONS.iter().map(|section| section.name);
    if names.clone().any(|name| name == section) {
        return Ok(());
    }
    let hint = nearest(section, names.clone()).map_or_else(
        || format!("there are: {}", names.collect::<Vec<_>>().join(", ")),
        |name| format!("did you mean {name}?"),
    );
    Err(Failure::usage(anyhow!("there is no section {section:?}")).hint(hint))
}
