//! `infra.operator manual-pages`: for those who make packages, and hidden from others.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Command, CommandFactory as _, ValueHint};
use clap_mangen::Man;

use crate::failure::Failure;

/// Arguments of `manual-pages`.
#[derive(clap::Args)]
pub(crate) struct ManualPagesArgs {
    /// The directory to write to
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    directory: PathBuf,
    /// The date that stands on the pages
    #[arg(long, value_name = "YYYY-MM-DD")]
    date: jiff::civil::Date,
}

/// Writes a page for each command that is not hidden: `infra.operator.1`, `infra.operator-run.1` and so on.
pub(super) fn run(args: &ManualPagesArgs) -> Result<ExitCode, Failure> {
    let directory = &args.directory;
    let mut command = whole(crate::Arguments::command().disable_help_subcommand(true));
    command.build();
    fs::create_dir_all(directory)
        .and_then(|()| write(&command, &args.date.to_string(), directory))
        .with_context(|| format!("cannot write to {}", directory.display()))
        .map_err(Failure::host)?;
    Ok(ExitCode::SUCCESS)
}

/// A page has room for what the short help leaves out.
fn whole(command: Command) -> Command {
    command.mut_args(|argument| argument.hide_short_help(false)).mut_subcommands(whole)
}

fn write(command: &Command, date: &str, directory: &Path) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    fs::write(directory.join(format!("{name}.1")), page(command, date)?)?;
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    shown.into_iter().try_for_each(|command| write(command, date, directory))
}

fn page(command: &Command, date: &str) -> io::Result<String> {
    let mut page = Vec::new();
    let version = concat!("infra.operator ", env!("CARGO_PKG_VERSION"));
    Man::new(command.clone()).date(date).source(version).manual("LLM-Firecracker").render(&mut page)?;
    let page = String::from_utf8(page).map_err(io::Error::other)?;
    // Examples and what else stands behind the help; and where values are listed, one end of the paragraph is enough.
    Ok(page.replace("\n.SH EXTRA\n", "\n.SH NOTES\n").replace("\n.br\n\n.br\n", "\n.sp\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_every_flag_its_words_there() {
        let directory = tempfile::tempdir().unwrap();
        let date = jiff::civil::date(2026, 1, 2);
        run(&ManualPagesArgs { directory: directory.path().to_owned(), date }).unwrap();
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        let page = read("infra.operator-snapshot-create.1");
        assert!(page.contains(r#"infra.operator-snapshot-create 1 2026-01-02 "infra.operator "#), "{page}");
        for entry in fs::read_dir(directory.path()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.contains("manual-pages") && !name.contains("help"), "{name}");
            let page = read(&name);
            let mut lines = page.lines();
            while let Some(line) = lines.next() {
                let is_flag =
                    line == ".TP" && lines.next().is_some_and(|header| header.starts_with("\\fB\\-"));
                assert!(!is_flag || lines.next().is_some_and(|words| !words.is_empty()), "{name}:\n{page}");
            }
        }
        assert!(read("infra.operator.1").contains("Sets a key of the configuration"));
    }
}
