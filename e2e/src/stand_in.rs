//! The stand-in for Firecracker and its jailer, built and put where a Firecracker would be.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{FlockOperation, flock};
use vmm::firecracker::{self, Installation};

use crate::build_directory;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Variables by which the build of the tests would change this one.
const INHERITED: [&str; 6] = [
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTFLAGS",
];

/// An installation of the stand-in, made by whoever comes first.
pub fn installation() -> Installation {
    let directory = build_directory().join("stand-in");
    built(&directory).unwrap_or_else(|error| panic!("cannot build the stand-in for Firecracker: {error:#}"));
    firecracker::version(&directory.join("firecracker")).expect("it says which version it stands in for")
}

fn built(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).context("make its directory")?;
    let lock = fs::File::create(directory.join("lock")).context("make its lock")?;
    flock(&lock, FlockOperation::LockExclusive).context("lock it")?;
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace has a root")?;
    let target = directory.join("target");
    // Static, for in its jail there are no libraries; and so another build than that of the tests.
    let mut cargo = Command::new("cargo");
    for name in INHERITED {
        cargo.env_remove(name);
    }
    let output = cargo
        .args([
            "build",
            "--quiet",
            "--locked",
            "--release",
            "--package",
            "firecracker-stand-in",
            "--target",
            TARGET,
        ])
        .arg("--manifest-path")
        .arg(workspace.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-C target-feature=+crt-static")
        .output()
        .context("run cargo")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let program: PathBuf = target.join(TARGET).join("release/firecracker-stand-in");
    for name in ["firecracker", "jailer"] {
        let place = directory.join(name);
        if fs::read(&place).ok() != fs::read(&program).ok() {
            // It may be running in another test: replaced, not written to.
            let fresh = directory.join(format!(".{name}"));
            fs::copy(&program, &fresh).with_context(|| format!("copy it to {}", fresh.display()))?;
            fs::rename(&fresh, &place).with_context(|| format!("put it at {}", place.display()))?;
        }
    }
    Ok(())
}
