//! What is measured as programs of the host: the native interpreter, and this program's `host --snapshot`.
//!
//! A sample lasts from the start of the process to its end and the end of its output. A program that is still running
//! when the benchmark is given up is killed.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use clap::ValueEnum as _;
use engine::LanguageSpec;
use tempfile::TempDir;
use tokio::process::Command;
use vmm::MachineSpec;

use super::subjects::Hello;
use crate::settings::Global;

/// Where an interpreter is looked for first. The first one in PATH may be a version manager's script, which takes
/// longer to find the interpreter than that takes to start: a comparison with it would flatter us.
const USUAL_DIRECTORY: &str = "/usr/bin";

/// How long a program may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The interpreter of this host, and the program that it runs.
pub(super) struct Native {
    pub(super) interpreter: PathBuf,
    arguments: Vec<String>,
    /// Holds the program.
    directory: TempDir,
}

impl Native {
    /// The interpreter of `language`; nothing where this host has none.
    pub(super) fn find(language: &LanguageSpec, hello: Hello) -> anyhow::Result<Option<Self>> {
        let Some((name, arguments)) = language.command.split_first() else { return Ok(None) };
        let Some(interpreter) = find(name) else { return Ok(None) };
        let write = || -> io::Result<TempDir> {
            let directory = tempfile::tempdir()?;
            fs::write(directory.path().join(&language.main_file), hello.code)?;
            Ok(directory)
        };
        let directory = write().context("cannot write the program for the native interpreter")?;
        Ok(Some(Self { interpreter, arguments: arguments.to_vec(), directory }))
    }

    /// Runs it once, and says how long that took.
    pub(super) async fn run(&self, hello: Hello) -> anyhow::Result<Duration> {
        let mut command = Command::new(&self.interpreter);
        command.args(&self.arguments).current_dir(self.directory.path());
        let (stdout, took) = timed(command).await?;
        let answer = String::from_utf8_lossy(&stdout);
        ensure!(answer == hello.answer, "{} answered wrongly: {answer:?}", self.interpreter.display());
        Ok(took)
    }
}

/// This program's command that answers one request from a snapshot.
pub(super) struct HostCommand {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl HostCommand {
    /// With the same settings as this process.
    pub(super) fn new(
        global: &Global,
        language: &LanguageSpec,
        machine: MachineSpec,
        hello: Hello,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program: is /proc mounted?")?;
        let mut arguments = vec!["host".into(), "--snapshot".into()];
        let mut add = |flag: &str, value: OsString| arguments.extend([flag.into(), value]);
        add("--lang", language.name.as_str().into());
        add("--code", hello.code.into());
        add("--mem", machine.memory_mib.to_string().into());
        add("--vcpus", machine.vcpus.to_string().into());
        add("--data-dir", global.data().root().into());
        add("--slots", global.slots().to_string().into());
        add("--slot-wait", global.slot_patience().as_secs().to_string().into());
        let vmm = &global.config.vmm;
        add("--first-uid", vmm.first_uid.to_string().into());
        if let Some(file) = &global.flags().config {
            add("--config", file.into());
        }
        for assignment in &global.flags().set {
            add("--set", assignment.into());
        }
        if let Some(qemu) = &vmm.qemu {
            add("--qemu", qemu.into());
        }
        if let Some(acceleration) = vmm.acceleration.and_then(|acceleration| acceleration.to_possible_value())
        {
            add("--accel", acceleration.get_name().into());
        }
        Ok(Self { program, arguments })
    }

    /// Runs it once, and says how long that took.
    pub(super) async fn run(&self, hello: Hello) -> anyhow::Result<Duration> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        let (stdout, took) = timed(command).await?;
        let answer: serde_json::Value =
            serde_json::from_slice(&stdout).context("host did not answer in JSON")?;
        ensure!(answer["stdout"] == hello.answer, "host answered wrongly: {answer}");
        Ok(took)
    }
}

/// Runs a program that has to succeed: what it printed, and how long it took.
async fn timed(mut command: Command) -> anyhow::Result<(Vec<u8>, Duration)> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let program = command.as_std().get_program().to_owned();
    let program = Path::new(&program).display();
    let since = Instant::now();
    let Ok(output) = tokio::time::timeout(PATIENCE, command.output()).await else {
        bail!("{program} took longer than {} s", PATIENCE.as_secs());
    };
    let took = since.elapsed();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} failed ({}): {}", output.status, said.trim());
    Ok((output.stdout, took))
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(PathBuf::from(USUAL_DIRECTORY))
        .chain(std::env::split_paths(&path))
        .map(|directory| directory.join(name))
        .find(|program| is_program(program))
}

fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}
