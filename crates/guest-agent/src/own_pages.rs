//! Gives a process the pages back that it has shared with forks.
//!
//! A fork leaves every page of its parent write-protected, also after the child is gone: the parent's next write to
//! each is a page fault, and a job that ends writes to most. That is cheap on a processor and dear under emulation. So
//! each page is written to beforehand, with what it holds. In a clone this also has the host copy the page beforehand.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
};

use rustix::process::Pid;

use crate::fault::{Doing, Fault};

const PAGE_BYTES: u64 = 4096;

/// Bits of an entry of `/proc/<pid>/pagemap` (`proc_pid_pagemap(5)`).
const PRESENT: u64 = 1 << 63;
const OF_A_FILE: u64 = 1 << 61;

/// Writes to every anonymous page that `process` has in writable memory. It must not run meanwhile.
pub(crate) fn take_back(process: Pid) -> Result<(), Fault> {
    let directory = format!("/proc/{}", process.as_raw_nonzero());
    let maps = fs::read_to_string(format!("{directory}/maps")).doing("read a process's mappings")?;
    let pages = File::open(format!("{directory}/pagemap")).doing("open a process's page map")?;
    let memory = File::options()
        .read(true)
        .write(true)
        .open(format!("{directory}/mem"))
        .doing("open a process's memory")?;
    for (start, end) in maps.lines().filter_map(writable_range) {
        let mut entries = vec![0; usize::try_from((end - start) / PAGE_BYTES * 8).doing("size a mapping")?];
        pages.read_exact_at(&mut entries, start / PAGE_BYTES * 8).doing("read a process's page map")?;
        let (entries, _) = entries.as_chunks::<8>();
        for (address, entry) in (start..end).step_by(4096).zip(entries) {
            if u64::from_ne_bytes(*entry) & (PRESENT | OF_A_FILE) == PRESENT {
                let mut byte = [0];
                memory.read_exact_at(&mut byte, address).doing("read a process's memory")?;
                memory.write_all_at(&byte, address).doing("write a process's memory")?;
            }
        }
    }
    Ok(())
}

/// The range of a line of `/proc/<pid>/maps`, where it is private and writable.
fn writable_range(line: &str) -> Option<(u64, u64)> {
    let permissions = line.split(' ').nth(1)?;
    (permissions.starts_with("rw") && permissions.ends_with('p')).then(|| range(line))?
}

/// The range of a line of `/proc/<pid>/maps`.
fn range(line: &str) -> Option<(u64, u64)> {
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_private_writable_mappings_are_taken() {
        let line = "7f00000-7f02000 rw-p 00000000 00:00 0      [heap]";
        assert_eq!(writable_range(line), Some((0x7f0_0000, 0x7f0_2000)));
        for line in ["7f00000-7f02000 r-xp 0 0:0 0", "7f00000-7f02000 rw-s 0 0:0 0", "garbage", ""] {
            assert_eq!(writable_range(line), None);
        }
    }
}
