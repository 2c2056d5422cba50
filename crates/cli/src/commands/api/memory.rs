//! How much memory there is for microVMs where the configuration does not say.

use std::{
    fs,
    path::{Component, Path},
};

/// Where cgroups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// What there is where this host does not say how much memory is free, in MiB.
const UNKNOWN_MIB: u64 = 2048;

/// Memory for microVMs, in MiB: half of what the host has available, and no more than what the cgroups that this process is
/// in leave it. That of a unit with `MemoryMax=` or of a container may be far less.
pub(super) fn for_microvms() -> u64 {
    let host = of_host().map(|bytes| bytes / 2);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let room = left(Path::new(CGROUPS), &groups);
    host.into_iter().chain(room).min().map_or(UNKNOWN_MIB, |bytes| bytes >> 20)
}

/// What the host has available, in bytes, where it says so.
pub(in crate::commands) fn of_host() -> Option<u64> {
    available(&fs::read_to_string("/proc/meminfo").ok()?)
}

/// `MemAvailable` of `/proc/meminfo`, in bytes.
fn available(text: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    value.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// What the group that `groups`, a `/proc/<process>/cgroup`, names and those above it leave to use, in bytes; nothing where
/// none of them has a limit. See cgroups(7).
fn left(mounted: &Path, groups: &str) -> Option<u64> {
    let lines = groups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let rooms = lines.flat_map(|(controllers, path)| {
        let (directory, files) = match controllers {
            "" => (mounted.to_owned(), &UNIFIED),
            _ => (mounted.join("memory"), &SPLIT),
        };
        let is_of_memory = controllers.split(',').any(|name| matches!(name, "" | "memory"));
        // A container may see another part of the tree than the path is of: what is not there has no limit.
        let path = Path::new(path.trim_start_matches('/'));
        let is_beneath = path.components().all(|part| matches!(part, Component::Normal(_)));
        let path = if is_beneath { path } else { Path::new("") };
        let groups = path.ancestors().filter(move |_| is_of_memory);
        groups.filter_map(move |group| room(&directory.join(group), files))
    });
    rooms.min()
}

/// What files of a group tell.
struct Files {
    limit: &'static str,
    usage: &'static str,
    /// In `memory.stat`: what is kept of files, which the kernel drops before it lacks memory.
    cached: [&'static str; 2],
}

/// In version 2.
const UNIFIED: Files =
    Files { limit: "memory.max", usage: "memory.current", cached: ["active_file", "inactive_file"] };

/// In version 1, with the groups beneath.
const SPLIT: Files = Files {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cached: ["total_active_file", "total_inactive_file"],
};

/// What one group leaves to use, where it has a limit.
fn room(group: &Path, files: &Files) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(group.join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    // It says `max` where there is none.
    let limit = number(files.limit)?;
    let stat = read("memory.stat").unwrap_or_default();
    let cached = |key: &str| {
        stat.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse::<u64>().ok())
    };
    let cached: u64 = files.cached.into_iter().filter_map(cached).sum();
    Some(limit.saturating_sub(number(files.usage)?.saturating_sub(cached)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(root: &Path, path: &str, files: &[(&str, &str)]) {
        let directory = root.join(path);
        fs::create_dir_all(&directory).unwrap();
        for (name, content) in files {
            fs::write(directory.join(name), content).unwrap();
        }
    }

    #[test]
    fn the_least_that_a_group_or_one_above_it_leaves_counts() {
        let root = tempfile::tempdir().unwrap();
        group(root.path(), "system.slice", &[("memory.max", "1000\n"), ("memory.current", "700\n")]);
        let stat = "anon 10\nactive_file 100\ninactive_file 50\ninactive_file_of_others 9\n";
        let unit = [("memory.max", "500\n"), ("memory.current", "400\n"), ("memory.stat", stat)];
        group(root.path(), "system.slice/unit", &unit);
        assert_eq!(left(root.path(), "0::/system.slice/unit\n"), Some(250));
        assert_eq!(left(root.path(), "0::/system.slice\n"), Some(300));
        group(root.path(), "system.slice/free", &[("memory.max", "max\n"), ("memory.current", "1\n")]);
        assert_eq!(left(root.path(), "0::/system.slice/free\n"), Some(300));
    }

    #[test]
    fn in_version_1_the_memory_controller_has_a_tree_of_its_own() {
        let root = tempfile::tempdir().unwrap();
        let stat = "active_file 1\ntotal_active_file 20\ntotal_inactive_file 30\n";
        let unit =
            [("memory.limit_in_bytes", "500"), ("memory.usage_in_bytes", "450"), ("memory.stat", stat)];
        group(root.path(), "memory/unit", &unit);
        let groups = "9:cpu,cpuacct:/\n4:memory:/unit\n1:name=systemd:/unit\n0::/other\n";
        assert_eq!(left(root.path(), groups), Some(100));
    }

    #[test]
    fn what_is_used_beyond_the_limit_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        group(root.path(), "unit", &[("memory.max", "500"), ("memory.current", "600")]);
        assert_eq!(left(root.path(), "0::/unit\n"), Some(0));
    }

    #[test]
    fn without_a_limit_or_a_group_there_is_no_bound() {
        let root = tempfile::tempdir().unwrap();
        group(root.path(), "unit", &[("memory.max", "max"), ("memory.current", "600")]);
        for groups in ["", "0::/unit\n", "0::/gone\n", "garbage\n", "4:memory:/unit\n", "7:cpu:/unit\n"] {
            assert_eq!(left(root.path(), groups), None, "{groups:?}");
        }
    }

    #[test]
    fn a_container_is_bounded_by_what_it_sees_as_the_root() {
        let root = tempfile::tempdir().unwrap();
        group(root.path(), "", &[("memory.max", "500"), ("memory.current", "100")]);
        for groups in ["0::/\n", "0::/not/seen/here\n", "0::/../sibling\n"] {
            assert_eq!(left(root.path(), groups), Some(400), "{groups:?}");
        }
    }

    #[test]
    fn the_hosts_memory_is_read() {
        assert_eq!(available("MemTotal: 5 kB\nMemAvailable:       2048 kB\n"), Some(2 << 20));
        assert_eq!(available("MemAvailable: many\n"), None);
    }
}
