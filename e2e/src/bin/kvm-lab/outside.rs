//! The machine that the lab runs on: gathers what is to be tried, boots the lab, and tells what came of it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use e2e::{
    TestHost, build_directory,
    lab::{Ended, Lab, LabDisk},
    program,
};
use store::{DataDirectory, layout::SYSTEM_DIRECTORY};
use vmm::firecracker::{self, Installation};

use crate::report::Line;

/// On a busy machine. Where there is nothing else to do it takes a third.
const PATIENCE: Duration = Duration::from_secs(2400);

/// The longest step makes a snapshot.
const SILENCE: Duration = Duration::from_secs(420);

/// Emulated, the kernel sometimes dies of a race in the emulator that no host has.
const ATTEMPTS: u32 = 2;

/// What was planned, and how it went.
#[derive(Default)]
struct Outcome {
    /// What has not been done yet.
    planned: Vec<String>,
    passed: usize,
    failed: Vec<String>,
}

impl Outcome {
    fn take(&mut self, line: &str) {
        match Line::parse(line) {
            Some(Line::Plan(names)) => self.planned = names,
            Some(Line::Step(step)) => {
                println!("{}", step.text());
                self.planned.retain(|name| *name != step.name);
                if step.ok {
                    self.passed += 1;
                } else {
                    self.failed.push(step.name);
                }
            }
            None => eprintln!("lab: {line}"),
        }
    }
}

/// Runs everything; whether all was well, and nothing left out.
pub(crate) fn run() -> Result<bool> {
    let started = Instant::now();
    let firecracker = find_firecracker();
    if let Err(error) = &firecracker {
        println!("LEFT OUT: every step with Firecracker, for there is none: {error:#}");
    }
    let target = build_directory();
    let system = LabDisk::prepared(&target.join("lab"))?;
    let scratch = tempfile::tempdir_in(&target).context("make a temporary directory")?;
    let payload = scratch.path().join("payload");
    gather(&payload, firecracker.as_ref().ok())?;
    let lab = Lab { system, patience: PATIENCE, silence: SILENCE };
    let outcome = attempts(&lab, &payload, scratch.path())?;

    for name in &outcome.planned {
        println!("FAIL {name}: not reached");
    }
    let failed = outcome.failed.len() + outcome.planned.len();
    let time = started.elapsed().as_secs();
    println!("{} steps passed, {failed} failed, in {time} s", outcome.passed);
    if firecracker.is_err() {
        println!("LEFT OUT: every step with Firecracker");
        println!(
            "fix: infra.operator setup, which installs one, or FIRECRACKER_BIN=/path/to/firecracker make test-kvm, \
             with the jailer of the same release beside it"
        );
    }
    Ok(failed == 0 && outcome.passed > 0 && firecracker.is_ok())
}

fn attempts(lab: &Lab, payload: &Path, scratch: &Path) -> Result<Outcome> {
    for attempt in 1..=ATTEMPTS {
        let mut outcome = Outcome::default();
        println!("booting the lab");
        match lab.run(payload, scratch, |line| outcome.take(line))? {
            Ended::Exited(_) => return Ok(outcome),
            Ended::Crashed => println!("the lab's own kernel crashed, in attempt {attempt} of {ATTEMPTS}"),
        }
    }
    bail!("the lab crashed {ATTEMPTS} times")
}

/// The one that `FIRECRACKER_BIN` names, or that `setup` has installed, or that is in `PATH`.
fn find_firecracker() -> Result<Installation> {
    let data = env::var_os("LLM_FIRECRACKER_DATA_DIR").map_or_else(|| SYSTEM_DIRECTORY.into(), PathBuf::from);
    let found = match env::var_os("FIRECRACKER_BIN") {
        Some(named) => PathBuf::from(named),
        None => firecracker::find(&[DataDirectory::new(data).programs()], env::var_os("PATH").as_deref())?,
    };
    Ok(firecracker::version(&found)?)
}

/// Puts together what the lab gets to see at `/lab`.
fn gather(payload: &Path, firecracker: Option<&Installation>) -> Result<()> {
    // Everything slow, and everything that needs a network, is done out here.
    let prepared = TestHost::with_image();
    copy(&env::current_exe().context("find this program")?, &payload.join("bin/kvm-lab"))?;
    copy(&program(), &payload.join("bin/infra-operator"))?;
    for directory in ["kernel", "images"] {
        let to = payload.join("data").join(directory);
        fs::create_dir_all(to.parent().context("it has one")?)?;
        let mut copying = Command::new("cp");
        copying.args(["--recursive", "--sparse=always"]).arg(prepared.data().join(directory)).arg(to);
        ensure!(copying.status().context("run cp")?.success(), "cannot copy {directory}");
    }
    let mut command = "exec ./bin/kvm-lab inside".to_owned();
    if let Some(installation) = firecracker {
        copy(&installation.program, &payload.join("firecracker/firecracker"))?;
        copy(&installation.jailer, &payload.join("firecracker/jailer"))?;
        command += " firecracker";
        println!("with Firecracker {} ({})", installation.version, installation.program.display());
    }
    command += " qemu\n";
    fs::write(payload.join("command"), command).context("write the lab's command")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().context("it has one")?)?;
    fs::copy(from, to).with_context(|| format!("copy {}", from.display())).map(drop)
}
