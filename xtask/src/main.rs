//! `cargo xtask lint`: what a reviewer should not have to look for. `cargo xtask openapi`: what the code says of the HTTP API,
//! written down.

mod links;
mod rules;

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail, ensure};

fn main() -> ExitCode {
    let task = std::env::args().nth(1);
    let done = match task.as_deref() {
        Some("lint") => lint(),
        Some("openapi") => openapi(),
        _ => Err(anyhow::anyhow!("usage: cargo xtask lint|openapi")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn lint() -> Result<()> {
    cargo(&["fmt", "--all", "--check"], &[])?;
    cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"], &[])?;
    cargo(&["doc", "--quiet", "--workspace", "--no-deps"], &[("RUSTDOCFLAGS", "--deny warnings")])?;
    no_banned_dependencies()?;
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

/// Two TLS stacks or a C library that nobody asked for come with a feature, unseen.
fn no_banned_dependencies() -> Result<()> {
    const BANNED: [&str; 2] = ["aws-lc-sys", "openssl-sys"];
    let output = Command::new("cargo")
        .args(["tree", "--workspace", "--edges", "normal,build", "--prefix", "none"])
        .output()
        .context("cannot run cargo tree")?;
    ensure!(output.status.success(), "cargo tree failed");
    let tree = String::from_utf8(output.stdout).context("cargo tree printed no UTF-8")?;
    for banned in BANNED {
        if tree.lines().any(|line| line.split(' ').next() == Some(banned)) {
            bail!("{banned} is among the dependencies");
        }
    }
    Ok(())
}
