//! The machine that the lab runs on: gathers what is to be tried, boots the lab, and tells what came of it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use e2e::{
    TestHost, build_directory,
    lab::{Ended, Lab, LabDisk, Processor, Stage},
    program,
};
use serde_json::Value;
use store::{DataDirectory, layout::SYSTEM_DIRECTORY};
use vmm::firecracker::{self, Installation};

use crate::{description, report::Line, steps::TEST_PROGRAMS};

/// How long one boot of the lab may take, on a busy machine. Where there is nothing else to do it takes a third.
const PATIENCE: Duration = Duration::from_secs(2400);

/// The longest step makes a snapshot.
const SILENCE: Duration = Duration::from_secs(420);

/// Emulated, the kernel sometimes dies of a race in the emulator that no host has.
const ATTEMPTS: u32 = 3;

/// The boots of the lab: what is tried in each, whether it needs a Firecracker, and on which processor. The last finds the
/// snapshots that the first has made.
const STAGES: [(&str, bool, Processor); 3] = [
    ("firecracker", true, Processor::USUAL),
    ("qemu", false, Processor::USUAL),
    ("elsewhere", true, Processor::LATER),
];

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
            Some(Line::Figures(text)) => println!("{text}"),
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

    fn add(&mut self, later: Self) {
        self.planned.extend(later.planned);
        self.passed += later.passed;
        self.failed.extend(later.failed);
    }
}

/// Runs everything, or only the stages of these names; whether all was well, and nothing left out.
pub(crate) fn run(only: &[&str]) -> Result<bool> {
    if let Some(unknown) = only.iter().find(|only| STAGES.iter().all(|(name, ..)| name != *only)) {
        bail!("there is no stage {unknown}, but {}", STAGES.map(|(name, ..)| name).join(", "));
    }
    let started = Instant::now();
    let firecracker = find_firecracker();
    let mut outcome = Outcome::default();
    let mut left_out = Vec::new();
    match &firecracker {
        Ok(installation) => match description::step(&installation.program)? {
            Some(step) => outcome.take(&Line::Step(step).text()),
            None => left_out.push(
                "the comparison with Firecracker's own description of its API, for there is none beside it: name one with \
                 FIRECRACKER_SPEC",
            ),
        },
        Err(error) => {
            println!("there is no Firecracker: {error:#}");
            left_out.push(
                "every step with Firecracker: infra.operator setup installs one, or FIRECRACKER_BIN names one, with the \
                 jailer of the same release beside it",
            );
        }
    }
    let target = build_directory();
    let system = LabDisk::prepared(&target.join("lab"))?;
    let scratch = tempfile::tempdir_in(&target).context("make a temporary directory")?;
    let payload = scratch.path().join("payload");
    gather(&payload, firecracker.as_ref().ok())?;
    let disk = scratch.path().join("payload.ext4");
    Lab::payload_disk(&payload, &disk)?;
    let lab = Lab { system, patience: PATIENCE, silence: SILENCE };
    for (name, needs_firecracker, processor) in STAGES {
        if !only.is_empty() && !only.contains(&name) {
            println!("LEFT OUT: {name}, which was not asked for");
            continue;
        }
        if !needs_firecracker || firecracker.is_ok() {
            outcome.add(attempts(&lab, Stage { disk: &disk, name, processor }, scratch.path())?);
        }
    }

    for name in &outcome.planned {
        println!("FAIL {name}: not reached");
    }
    let failed = outcome.failed.len() + outcome.planned.len();
    let time = started.elapsed().as_secs();
    println!("{} steps passed, {failed} failed, in {time} s", outcome.passed);
    for what in &left_out {
        println!("LEFT OUT: {what}");
    }
    Ok(failed == 0 && outcome.passed > 0 && firecracker.is_ok())
}

fn attempts(lab: &Lab, stage: Stage<'_>, scratch: &Path) -> Result<Outcome> {
    // Each attempt begins with what the stage before has left: a crash leaves half of something.
    let tried = scratch.join("attempt.ext4");
    for attempt in 1..=ATTEMPTS {
        let mut outcome = Outcome::default();
        copy_sparse(stage.disk, &tried)?;
        println!("booting the lab: {}", stage.name);
        match lab.run(Stage { disk: &tried, ..stage }, scratch, |line| outcome.take(line))? {
            Ended::Exited(_) => {
                fs::rename(&tried, stage.disk).context("keep the lab's disk")?;
                return Ok(outcome);
            }
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
    for name in ["kvm-lab", "restore-figures"] {
        copy(&build_directory().join(name), &payload.join("bin").join(name))?;
    }
    copy(&program(), &payload.join("bin/infra-operator"))?;
    for (name, test) in test_programs()? {
        copy(&test, &payload.join("bin/deps").join(name))?;
    }
    for directory in ["kernel", "images"] {
        copy_sparse(&prepared.data().join(directory), &payload.join(directory))?;
    }
    if let Some(installation) = firecracker {
        copy(&installation.program, &payload.join("firecracker/firecracker"))?;
        copy(&installation.jailer, &payload.join("firecracker/jailer"))?;
        println!("with Firecracker {} ({})", installation.version, installation.program.display());
    }
    let command = "exec ./bin/kvm-lab inside \"$LAB_STAGE\"\n";
    fs::write(payload.join("command"), command).context("write the lab's command")
}

/// Builds the test programs, as this one is built. Cargo alone knows where they are then.
fn test_programs() -> Result<Vec<(&'static str, PathBuf)>> {
    let mut cargo = Command::new("cargo");
    cargo.args(["test", "--locked", "--no-run", "--quiet", "--package", "e2e", "--message-format", "json"]);
    cargo.args(TEST_PROGRAMS.iter().flat_map(|name| ["--test", name]));
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let output = cargo.stderr(Stdio::inherit()).output().context("run cargo")?;
    ensure!(output.status.success(), "cargo could not build the test programs");
    let built = String::from_utf8(output.stdout).context("cargo prints JSON")?;
    let programs = TEST_PROGRAMS.map(|name| {
        let path = built.lines().find_map(|line| {
            let message: Value = serde_json::from_str(line).ok()?;
            let is_it = message["target"]["name"] == name && message["executable"].is_string();
            is_it.then(|| message["executable"].as_str().unwrap_or_default().into())
        });
        Ok((name, path.with_context(|| format!("cargo has built no {name}"))?))
    });
    programs.into_iter().collect()
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().context("it has one")?)?;
    fs::copy(from, to).with_context(|| format!("copy {}", from.display())).map(drop)
}

fn copy_sparse(from: &Path, to: &Path) -> Result<()> {
    let mut copying = Command::new("cp");
    copying.args(["--recursive", "--sparse=always", "--reflink=auto"]).arg(from).arg(to);
    ensure!(copying.status().context("run cp")?.success(), "cannot copy {}", from.display());
    Ok(())
}
