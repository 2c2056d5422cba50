//! Cgroups of microVMs that have ended.
//!
//! A supervisor removes its VMM's cgroup; one that was killed cannot.

use std::{path::PathBuf, time::Duration};

use super::{
    finding::Finding,
    fix::{Shell, quote},
};

/// A cgroup without processes that is younger than this may still be waiting for its VMM.
const AGE: Duration = Duration::from_secs(60);

/// How many a single command removes; the next `doctor` names the rest.
const MOST_NAMED: usize = 20;

/// A microVM's cgroup.
pub(super) struct Group {
    /// Where it is.
    pub(super) path: PathBuf,
    /// How long it has been there.
    pub(super) age: Duration,
    /// Whether a process is in it.
    pub(super) is_used: bool,
}

/// What is left.
pub(super) fn leftovers(groups: &[Group], shell: &Shell) -> Finding {
    const NAME: &str = "leftover cgroups";
    let dead: Vec<_> = groups.iter().filter(|group| !group.is_used && group.age > AGE).collect();
    if dead.is_empty() {
        return Finding::ok(NAME, "none");
    }
    let named: Vec<_> = dead.iter().take(MOST_NAMED).map(|group| quote(&group.path)).collect();
    let fix = shell.as_root(&format!("rmdir {}", named.join(" ")));
    Finding::warning(NAME, format!("{} of microVMs that have ended", dead.len()), fix)
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Status, *};

    #[test]
    fn only_old_cgroups_without_processes_are_left_over() {
        let group = |name: &str, seconds, is_used| Group {
            path: format!("/sys/fs/cgroup/llm-firecracker/{name}").into(),
            age: Duration::from_secs(seconds),
            is_used,
        };
        let shell = Shell { is_root: true, flags: String::new() };
        let alive = [group("a", 600, true), group("b", 59, false)];
        assert_eq!(leftovers(&alive, &shell).status, Status::Ok);
        let finding = leftovers(&[group("a", 600, true), group("c", 61, false)], &shell);
        assert_eq!(
            (finding.status, finding.detail.as_str()),
            (Status::Warning, "1 of microVMs that have ended")
        );
        assert_eq!(finding.fix.as_deref(), Some("rmdir /sys/fs/cgroup/llm-firecracker/c"));
    }
}
