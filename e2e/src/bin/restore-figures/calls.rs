//! System calls of a restore, by whose they are, counted with strace.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use engine::Engine;

use crate::{
    backend::{Backend, MACHINE, python, runtime},
    cost,
};

/// Parts of a restore, each begun by a look at a file of its name that is not there: a system call that strace shows.
const PARTS: [&str; 4] = ["process", "restore", "run", "end"];

const MARK: &str = "/restore-figures/";

/// Whose a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Role {
    /// The process that asks.
    Host,
    /// Ours for one VMM: the supervisor, and what it forks.
    Supervisor,
    /// Firecracker's jailer.
    Jailer,
    /// The VMM.
    Vmm,
}

/// What was counted.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// System calls, by the part and whose they are.
    pub(crate) counts: BTreeMap<(&'static str, Role), u32>,
    /// Requests to the VMM's API from the asking process.
    pub(crate) api: u32,
    /// Those of them that are the restore, and not the start of the VMM.
    pub(crate) api_of_restore: u32,
    /// Forks of the asking process that copy its memory.
    pub(crate) forks: u32,
    /// Files copied by our processes.
    pub(crate) copies: u32,
}

/// Restores and runs once, with marks.
pub(crate) fn once(backend: &Backend) -> Result<()> {
    let (runtime, engine) = (runtime()?, backend.engine()?);
    runtime.block_on(async {
        marked(&engine).await?;
        marked(&engine).await
    })
}

async fn marked(engine: &Engine) -> Result<()> {
    mark(PARTS[0]);
    let standby = engine.stand_by(&python().name, MACHINE).await?;
    mark(PARTS[1]);
    let session = standby.restore().await?;
    mark(PARTS[2]);
    cost::answered(session).await?;
    mark(PARTS[3]);
    Ok(())
}

fn mark(part: &str) {
    // It is not there: the call is all that is wanted.
    let _ = fs::metadata(format!("{MARK}{part}"));
}

/// Has strace count.
pub(crate) fn count(backend: &Backend) -> Result<Calls> {
    let trace = tempfile::NamedTempFile::new().context("make a temporary file")?;
    let output = Command::new("strace")
        .args(["-f", "-qq", "--pidns-translation", "-s", "64", "-o"])
        .arg(trace.path())
        .arg(std::env::current_exe().context("find this program")?)
        .args(backend.arguments())
        .arg("once")
        .output()
        .context("run strace (apt-get install strace)")?;
    ensure!(output.status.success(), "strace: {}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read(trace.path()).context("read what strace wrote")?;
    Ok(counted(&String::from_utf8_lossy(&text)))
}

/// Counts in the last marked restore of a trace: the first brings files into the page cache.
fn counted(trace: &str) -> Calls {
    let lines: Vec<(u32, &str)> = trace.lines().filter_map(numbered).collect();
    let parents = parents(&lines);
    let first = format!("{MARK}{}", PARTS[0]);
    let begin = lines.iter().rposition(|(_, call)| call.contains(&first)).unwrap_or(0);
    let mut calls = Calls::default();
    let mut part = None;
    let mut roles: HashMap<u32, Role> = HashMap::new();
    for (index, (process, call)) in lines.iter().enumerate() {
        let role = match executed(call) {
            Some(program) => role_of(program),
            // Until it executes something it is what its parent was when it was made, and has not changed since.
            None => role_now(*process, &roles, &parents),
        };
        roles.insert(*process, role);
        // A call that waited is told twice: when it began, and when it went on.
        if index < begin || !call.starts_with(|first: char| first.is_ascii_lowercase()) {
            continue;
        }
        if let Some(mark) = PARTS.iter().find(|part| call.contains(&format!("{MARK}{part}"))) {
            part = Some(*mark);
            continue;
        }
        match part {
            Some(part) if part != PARTS[3] => calls.add(part, role, call),
            _ => {}
        }
    }
    calls
}

impl Calls {
    fn add(&mut self, part: &'static str, role: Role, call: &str) {
        *self.counts.entry((part, role)).or_default() += 1;
        let name = call.split('(').next().unwrap_or_default();
        if role == Role::Host {
            let sends = ["write", "writev", "sendto", "sendmsg"].contains(&name);
            let asks = u32::from(sends && (call.contains("PUT /") || call.contains("PATCH /")));
            self.api += asks;
            self.api_of_restore += if part == PARTS[1] { asks } else { 0 };
            let shares_memory = call.contains("CLONE_VM");
            self.forks += u32::from(name == "fork" || name.starts_with("clone") && !shares_memory);
        }
        if matches!(role, Role::Host | Role::Supervisor) {
            self.copies += u32::from(["copy_file_range", "sendfile", "splice"].contains(&name));
        }
    }
}

/// A line of the trace: the process, and what it did.
fn numbered(line: &str) -> Option<(u32, &str)> {
    let (process, call) = line.split_once(' ')?;
    Some((process.parse().ok()?, call.trim_start()))
}

/// Which process or thread was made by which. strace numbers those of other pid namespaces as they are in its own, in a
/// comment behind the result.
fn parents(lines: &[(u32, &str)]) -> HashMap<u32, u32> {
    let makes = |call: &str| {
        let name = call.strip_prefix("<... ").unwrap_or(call);
        ["clone", "fork", "vfork"].iter().any(|maker| name.starts_with(maker))
    };
    let made = lines.iter().filter(|(_, call)| makes(call)).filter_map(|(parent, call)| {
        let result = call.rsplit_once(" = ")?.1;
        let number = result.split_once("/* ").map_or(result, |(_, comment)| comment);
        Some((number.split(' ').next()?.parse().ok()?, *parent))
    });
    made.collect()
}

fn role_now(process: u32, roles: &HashMap<u32, Role>, parents: &HashMap<u32, u32>) -> Role {
    let mut line = std::iter::successors(Some(process), |process| parents.get(process).copied());
    line.find_map(|process| roles.get(&process).copied()).unwrap_or(Role::Host)
}

fn executed(call: &str) -> Option<&Path> {
    call.strip_prefix("execve(\"")?.split('"').next().map(Path::new)
}

fn role_of(program: &Path) -> Role {
    match program.file_name().and_then(|name| name.to_str()).unwrap_or_default() {
        "infra-operator" | "infra.operator" => Role::Supervisor,
        "jailer" => Role::Jailer,
        "restore-figures" => Role::Host,
        _ => Role::Vmm,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = r#"100 execve("/b/restore-figures", ["restore-figures"], 0x7) = 0
100 statx(AT_FDCWD, "/restore-figures/process", 0) = -1 ENOENT
100 statx(AT_FDCWD, "/restore-figures/end", 0) = -1 ENOENT
100 statx(AT_FDCWD, "/restore-figures/process", 0) = -1 ENOENT
100 clone3({flags=CLONE_VM|CLONE_VFORK} <unfinished ...>
101 execve("/b/infra-operator", ["infra-operator", "vmm-supervisor"], 0x7 <unfinished ...>
100 <... clone3 resumed>) = 101
101 <... execve resumed>) = 0
101 clone(child_stack=NULL, flags=SIGCHLD) = 102
102 clone(child_stack=NULL, flags=SIGCHLD <unfinished ...>
103 getpid() = 2
102 <... clone resumed>) = 2 /* 103 in strace's PID NS */
103 execve("/jailer", ["jailer"], 0x7) = 0
103 execve("/firecracker", ["firecracker"], 0x7) = 0
100 statx(AT_FDCWD, "/restore-figures/restore", 0) = -1 ENOENT
100 write(9, "PUT /snapshot/load HTTP/1.1"..., 300) = 300
103 clone3({flags=CLONE_VM|CLONE_THREAD}) = 3 /* 104 in strace's PID NS */
104 ioctl(5, KVM_RUN, 0) = 0
100 statx(AT_FDCWD, "/restore-figures/run", 0) = -1 ENOENT
100 statx(AT_FDCWD, "/restore-figures/end", 0) = -1 ENOENT
101 exit_group(0) = ?
"#;

    #[test]
    fn calls_are_counted_by_part_and_role() {
        let calls = counted(TRACE);
        let count = |part, role| calls.counts.get(&(part, role)).copied().unwrap_or(0);
        assert_eq!(count("process", Role::Host), 1);
        // Two of the supervisor, one of its child that stays, one of the child's before it is the jailer.
        assert_eq!(count("process", Role::Supervisor), 4);
        assert_eq!(count("process", Role::Jailer), 1);
        assert_eq!(count("process", Role::Vmm), 1);
        assert_eq!(count("restore", Role::Vmm), 2);
        assert_eq!((calls.api, calls.api_of_restore, calls.forks, calls.copies), (1, 1, 0, 0));
    }
}
