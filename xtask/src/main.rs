//! `cargo xtask lint`: what a reviewer should not have to look for. `cargo xtask dependencies` and `advisories`: what we build upon.
//! `cargo xtask sbom`: what a release is made of. `cargo xtask openapi`: what the code says of the HTTP API, written down.

mod advisories;
mod dependencies;
mod links;
mod release;
mod rules;
mod tokens;
mod unsafety;

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail, ensure};

const USAGE: &str = "usage: cargo xtask TASK

  lint                                  all checks of the sources, these two among them
  rules                                 the project's own rules
  dependencies                          licences, sources, duplicates and use of dependencies, offline
  advisories [--database DIRECTORY]     known weaknesses of dependencies; status 3 where there is no database of them
  sbom [--program FILE] DIRECTORY       writes the bill of materials and the licences of a release
  openapi                               writes the document of the HTTP API";

/// How a task ends that could not be done for want of something on this machine.
const MISSING: u8 = 3;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["lint"] => lint(),
        ["openapi"] => openapi(),
        ["rules"] => rules::check(),
        ["dependencies"] => dependencies::check(),
        ["sbom", directory] => release::write(None, Path::new(directory)),
        ["sbom", "--program", program, directory] => {
            release::write(Some(Path::new(program)), Path::new(directory))
        }
        ["advisories", ref options @ ..] => match advisories_task(options) {
            Ok(advisories::Checked::WithoutDatabase) => return ExitCode::from(MISSING),
            Ok(advisories::Checked::All) => Ok(()),
            Err(error) => Err(error),
        },
        _ => Err(anyhow::anyhow!(USAGE)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn advisories_task(options: &[&str]) -> Result<advisories::Checked> {
    match options {
        [] => advisories::check(None),
        ["--database", directory] => advisories::check(Some(Path::new(directory))),
        _ => bail!(USAGE),
    }
}

/// Where the whole tree lies.
fn workspace_root() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace has a root")
}

fn lint() -> Result<()> {
    cargo(&["fmt", "--all", "--check"], &[])?;
    cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"], &[])?;
    cargo(&["doc", "--quiet", "--workspace", "--no-deps"], &[("RUSTDOCFLAGS", "--deny warnings")])?;
    dependencies::check()?;
    rules::check()
}

/// Writes the document that a test of `server` compares with the code.
fn openapi() -> Result<()> {
    let output = Command::new("cargo")
        .args(["run", "--quiet", "--package", "server", "--example", "openapi"])
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "the example openapi failed");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/server/openapi.json");
    fs::write(&path, &output.stdout).with_context(|| format!("cannot write {}", path.display()))
}

fn cargo(arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    eprintln!("cargo {}", arguments.join(" "));
    let status = Command::new("cargo")
        .args(arguments)
        .envs(environment.iter().copied())
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "cargo {} failed", arguments[0]);
    Ok(())
}
