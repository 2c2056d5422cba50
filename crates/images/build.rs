//! Builds the guest agent and hands it to the crate as `$OUT_DIR/guest-agent`.
//!
//! The agent is another binary, statically linked and built for size, so it cannot be an ordinary dependency
//! (artifact dependencies are unstable). A second cargo builds it, in a target directory of its own: the outer
//! cargo holds the lock of its own one until this script ends.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Variables by which the outer cargo, clippy or a wrapper would change how the inner one builds: the agent must
/// come out the same under `cargo build`, `cargo clippy` and `cargo llvm-cov`.
const INHERITED: [&str; 14] = [
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_MAKEFLAGS",
    "CARGO_TARGET_DIR",
    "CLIPPY_ARGS",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTFLAGS",
];

fn main() -> Result<(), Box<dyn Error>> {
    let crate_directory = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let workspace = crate_directory.join("../..").canonicalize()?;
    let output = PathBuf::from(env::var("OUT_DIR")?);
    for input in ["crates/guest-agent", "crates/protocol", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(input).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    let agent = build_agent(&workspace, &output.join("agent"))?;
    // Written only when it differs: its time stamp decides whether the crate is compiled again.
    let destination = output.join("guest-agent");
    let built = fs::read(&agent)?;
    if fs::read(&destination).ok().as_deref() != Some(&built) {
        fs::write(&destination, &built)?;
    }
    Ok(())
}

fn build_agent(workspace: &Path, target_directory: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        // Profile overrides of the outer build (`CARGO_PROFILE_DEV_DEBUG=…`) must not reach the agent either.
        if name.to_string_lossy().starts_with("CARGO_PROFILE_AGENT_") {
            cargo.env_remove(&name);
        }
    }
    for name in INHERITED {
        cargo.env_remove(name);
    }
    let status = cargo
        .current_dir(workspace)
        .args([
            "build",
            "--quiet",
            "--locked",
            "--package",
            "guest-agent",
            "--profile",
            "agent",
            "--target",
            TARGET,
        ])
        .arg("--manifest-path")
        .arg(workspace.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target_directory)
        .env("CARGO_ENCODED_RUSTFLAGS", agent_flags(workspace)?.join("\u{1f}"))
        .status()?;
    if !status.success() {
        return Err(format!("building the guest agent failed: {status}").into());
    }
    Ok(target_directory.join(TARGET).join("agent").join("guest-agent"))
}

/// How the agent is compiled. No path of this machine is left in it: a snapshot is tied to the agent's digest, and so can be
/// restored by whoever has built the same sources elsewhere.
fn agent_flags(workspace: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))
        .ok_or("neither CARGO_HOME nor HOME is set")?;
    let mut flags: Vec<String> =
        ["-Ctarget-feature=+crt-static", "-Crelocation-model=static"].map(str::to_owned).into();
    // Of two that fit, rustc takes the last. Cargo's directory may be named in two ways where a link leads to it.
    let resolved = cargo_home.canonicalize()?;
    for (directory, name) in
        [(workspace, "/llm-firecracker"), (cargo_home.as_path(), "/cargo"), (resolved.as_path(), "/cargo")]
    {
        flags.push(format!("--remap-path-prefix={}={name}", directory.display()));
    }
    Ok(flags)
}
