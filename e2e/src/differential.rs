//! The programs of `e2e/differential`, and how one is run both ways.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use engine::{Engine, Job, Languages, Request, Start, request::Stdin};
use protocol::message::{Execution, File, Outcome, Process};
use vmm::MachineSpec;

/// Where the programs are.
pub fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("differential")
}

/// Files that say how a program is run and are none of its own.
const SETTINGS: [&str; 3] = ["stdin", "args", "timeout"];

/// One program.
pub struct Program {
    /// Its name.
    pub name: String,
    files: Vec<File>,
    stdin: Vec<u8>,
    args: Vec<String>,
    timeout: Duration,
}

/// What a caller sees of an execution.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    outcome: Outcome,
    stdout: String,
    stdout_dropped: u64,
    stderr: String,
}

impl Program {
    /// Reads the program in `directory`.
    pub fn read(directory: &Path) -> Result<Self> {
        let name = directory.file_name().context("a program has a name")?.to_string_lossy().into_owned();
        let setting = |name: &str| fs::read(directory.join(name)).ok();
        let args = setting("args").map(String::from_utf8).transpose()?.unwrap_or_default();
        let timeout = setting("timeout").map(String::from_utf8).transpose()?;
        let seconds = timeout.map(|text| text.trim().parse::<u64>()).transpose()?.unwrap_or(60);
        let mut files = Vec::new();
        collect(directory, "", &mut files)?;
        Ok(Self {
            files,
            stdin: setting("stdin").unwrap_or_default(),
            args: args.lines().map(str::to_owned).collect(),
            timeout: Duration::from_secs(seconds),
            name,
        })
    }

    /// Runs it in the initialised interpreter and then in a fresh process of the same microVM.
    pub async fn run_both_ways(&self, engine: &Engine) -> Result<(Seen, Seen)> {
        let language = Languages::built_in().find("python").context("there is Python")?.clone();
        let machine = MachineSpec { memory_mib: 512, vcpus: 1 };
        let mut session = engine.open(&language.name, machine, Start::Snapshot).await?;
        let request = Request {
            language,
            files: self.files.clone(),
            args: self.args.clone(),
            stdin: Stdin::One(String::new()),
            timeout: self.timeout,
            memory_mib: None,
            fetch: Vec::new(),
            main_file: None,
            usage: false,
        };
        let stdins = vec![self.stdin.clone().into()];
        let job = |process| Job { trace_id: "differential", process };
        let initialised = session.run_bytes(&request, stdins.clone(), &job(Process::Initialised)).await?;
        let fresh = session.run_bytes(&request, stdins, &job(Process::Fresh)).await?;
        session.end().await;
        Ok((seen(initialised)?, seen(fresh)?))
    }
}

fn seen(executions: Vec<Execution>) -> Result<Seen> {
    let execution = executions.into_iter().next().context("one stdin has one execution")?;
    Ok(Seen {
        outcome: execution.outcome,
        stdout: execution.stdout.bytes.0.escape_ascii().to_string().replace("\\n", "\n"),
        stdout_dropped: execution.stdout.dropped,
        stderr: execution.stderr.bytes.0.escape_ascii().to_string().replace("\\n", "\n"),
    })
}

fn collect(directory: &Path, prefix: &str, files: &mut Vec<File>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().into_string().ok().context("a file's name is UTF-8")?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &format!("{prefix}{name}/"), files)?;
        } else if !(prefix.is_empty() && SETTINGS.contains(&name.as_str())) {
            let content = fs::read(entry.path())?.into();
            files.push(File { name: format!("{prefix}{name}"), content });
        }
    }
    Ok(())
}
