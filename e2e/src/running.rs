//! Commands that run in the background, and the processes that they have started.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::eventually;

/// How a command ended, and what it printed.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status, or 128 and the signal that ended it.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Ended {
    /// What a finished process has left.
    pub fn new(output: &Output) -> Self {
        let status = output.status;
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        Self {
            code: code.expect("a process ends by itself or by a signal"),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Its stdout, which must hold one JSON value and nothing else.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON on stdout: {error}: {self:?}"))
    }

    /// The value of `error` in the answer, for a request that did not run.
    pub fn error(&self) -> String {
        let answer = self.json();
        assert_eq!(answer["status"], "failed", "{self:?}");
        answer["error"].as_str().expect("an error is a string").to_owned()
    }
}

/// A command in the background. Dropping it kills it.
pub struct Running {
    child: Child,
    stdout: NamedTempFile,
    stderr: NamedTempFile,
}

impl Running {
    /// Starts `command`.
    pub fn start(command: &mut Command) -> Self {
        // Files and no pipes: nobody has to read them for the command to go on.
        let file = || NamedTempFile::new().expect("temporary files can be made");
        let (stdout, stderr) = (file(), file());
        let writer = |file: &NamedTempFile| Stdio::from(file.reopen().expect("it was just made"));
        let child = command.stdout(writer(&stdout)).stderr(writer(&stderr)).spawn();
        Self { child: child.expect("the program can be started"), stdout, stderr }
    }

    /// Its process.
    pub fn process(&self) -> Process {
        Process::find(self.child.id()).expect("it has not been waited for")
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.stderr.path()).unwrap_or_default()).into_owned()
    }

    /// Waits until it has written `text` to stderr.
    pub fn wait_until_said(&mut self, text: &str) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        while !self.stderr().contains(text) {
            let ended = self.child.try_wait().context("wait for the command")?;
            ensure!(ended.is_none(), "it ended ({ended:?}) before it said {text:?}: {}", self.stderr());
            ensure!(Instant::now() < deadline, "it never said {text:?}: {}", self.stderr());
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Waits until a VMM of this command has computed for `time`, which a guest that idles never does, and returns it.
    pub fn wait_for_busy_vmm(&self, time: Duration) -> Result<Process> {
        const VMMS: [&str; 2] = ["qemu-system", "firecracker"];
        let mut found = None;
        eventually("a VMM computes", Duration::from_secs(120), || {
            found = self.process().descendants().into_iter().find(|process| {
                VMMS.iter().any(|name| process.name.starts_with(name)) && process.processor_time() >= time
            });
            found.is_some()
        })?;
        found.context("the condition was that there is one")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process().signal(signal);
    }

    /// Waits for its end, which must come within `patience`.
    pub fn end_within(mut self, patience: Duration) -> Result<Ended> {
        let mut status = None;
        eventually("the command ends", patience, || {
            status = self.child.try_wait().expect("a child can be waited for");
            status.is_some()
        })
        .with_context(|| self.stderr())?;
        let read = |file: &NamedTempFile| fs::read(file.path()).context("read what it said");
        let (stdout, stderr) = (read(&self.stdout)?, read(&self.stderr)?);
        Ok(Ended::new(&Output { status: status.context("it has ended")?, stdout, stderr }))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended, and been waited for, by now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process, told from a later one with the same number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its number.
    pub id: u32,
    /// Its name, at most 15 bytes of it.
    pub name: String,
    started: u64,
}

/// The fields of `/proc/<id>/stat` (proc(5)) behind the name, which may hold blanks.
fn stat(id: u32) -> Option<(String, Vec<String>)> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (name, rest) = text.split_once('(')?.1.rsplit_once(')')?;
    Some((name.to_owned(), rest.split_whitespace().map(str::to_owned).collect()))
}

impl Process {
    /// The process with this number, unless it has ended.
    pub fn find(id: u32) -> Option<Self> {
        let (name, fields) = stat(id)?;
        Some(Self { id, name, started: fields.get(19)?.parse().ok()? })
    }

    /// Whether it still runs. One that only waits to be reaped does not.
    pub fn is_alive(&self) -> bool {
        let state = stat(self.id).map(|(_, fields)| fields[0].clone());
        Self::find(self.id).is_some_and(|now| now.started == self.started)
            && state.is_some_and(|state| state != "Z")
    }

    /// The number of its parent, unless it has ended.
    pub fn parent(&self) -> Option<u32> {
        stat(self.id)?.1.get(1)?.parse().ok()
    }

    /// Its children, their children, and so on.
    pub fn descendants(&self) -> Vec<Self> {
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc").expect("there is /proc").flatten() {
            let Ok(id) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            if let Some(parent) = stat(id).and_then(|(_, fields)| fields[1].parse::<u32>().ok()) {
                parents.push((id, parent));
            }
        }
        let mut family = BTreeSet::from([self.id]);
        let mut size = 0;
        while size < family.len() {
            size = family.len();
            family.extend(
                parents
                    .iter()
                    .filter(|(_, parent)| family.contains(parent))
                    .map(|(id, _)| *id)
                    .collect::<Vec<_>>(),
            );
        }
        family.remove(&self.id);
        family.into_iter().filter_map(Self::find).collect()
    }

    /// Its memory that is in use now, in bytes, unless it has ended.
    pub fn resident_bytes(&self) -> Option<u64> {
        self.status_bytes("VmRSS:")
    }

    /// That of it which is no file's, in bytes: pages of a snapshot that were only read are those of all who restore it.
    pub fn anonymous_bytes(&self) -> Option<u64> {
        self.status_bytes("RssAnon:")
    }

    /// See proc(5) on `/proc/<id>/status`.
    fn status_bytes(&self, field: &str) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
    }

    /// How long it has computed.
    pub fn processor_time(&self) -> Duration {
        const TICK: Duration = Duration::from_millis(10);
        let ticks = stat(self.id).map_or(0, |(_, fields)| {
            fields[11..13].iter().filter_map(|ticks| ticks.parse::<u32>().ok()).sum()
        });
        TICK * ticks
    }

    /// The directories of the cgroups that it is in beneath `llm-firecracker`.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", self.id)).unwrap_or_default();
        text.lines()
            .filter_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let (controllers, path) = (parts.next()?, parts.next()?);
                let directory =
                    Path::new("/sys/fs/cgroup").join(controllers).join(path.trim_start_matches('/'));
                path.contains("llm-firecracker").then_some(directory)
            })
            .collect()
    }

    /// Sends it a signal, unless it has ended.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.id).ok().and_then(Pid::from_raw).expect("processes have numbers");
        if self.is_alive() {
            // It may end right now.
            let _ = kill_process(id, signal);
        }
    }
}

/// The cgroups of microVMs that hold no process. Others may be at work on this machine: theirs are used, but for a
/// moment.
pub fn unused_cgroups() -> Vec<PathBuf> {
    ["llm-firecracker", "memory/llm-firecracker", "pids/llm-firecracker"]
        .iter()
        .filter_map(|name| fs::read_dir(format!("/sys/fs/cgroup/{name}")).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .filter(|group| fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|ids| ids.is_empty()))
        .filter(|group| group.is_dir())
        .collect()
}
