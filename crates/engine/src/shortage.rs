//! What a host can run out of, told from the errors that it then gives.

use std::{error::Error, fmt, io};

use rustix::io::Errno;

/// What there is no more of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// File descriptors.
    Descriptors,
    /// Processes and threads.
    Processes,
    /// Memory.
    Memory,
    /// Namespaces, or cgroups.
    Namespaces,
    /// Room on the disk.
    Disk,
}

impl Shortage {
    /// What an error of the kernel among the causes of `error` says. What is no room on a disk elsewhere is no room for a namespace
    /// or a cgroup where a jail is built.
    pub fn of(error: &(dyn Error + 'static), in_jail: bool) -> Option<Self> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            let number = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
            match number.map(Errno::from_raw_os_error) {
                Some(Errno::MFILE | Errno::NFILE) => return Some(Self::Descriptors),
                Some(Errno::AGAIN) => return Some(Self::Processes),
                Some(Errno::NOMEM) => return Some(Self::Memory),
                Some(Errno::NOSPC | Errno::DQUOT) if in_jail => return Some(Self::Namespaces),
                Some(Errno::NOSPC | Errno::DQUOT) => return Some(Self::Disk),
                _ => cause = error.source(),
            }
        }
        None
    }

    /// What the operator can do about it.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Descriptors => "raise the limit of open files: LimitNOFILE= of the unit, or ulimit -n",
            Self::Processes => {
                "raise the limit of processes: TasksMax= of the unit, pids.max of the cgroup, or ulimit -u"
            }
            Self::Memory => "free some memory, or set pool.memory to less",
            Self::Namespaces => {
                "raise the limits of namespaces and cgroups: user.max_mnt_namespaces and its like (sysctl), cgroup.max.descendants"
            }
            Self::Disk => "free some disk space",
        }
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Descriptors => "file descriptors",
            Self::Processes => "processes",
            Self::Memory => "memory",
            Self::Namespaces => "namespaces",
            Self::Disk => "disk space",
        })
    }
}

#[cfg(test)]
mod tests {
    use vmm::{RestoreError, jail::LaunchError};

    use super::*;
    use crate::RunError;

    fn jail(errno: Errno) -> RunError {
        RunError::Restore(RestoreError::Launch(LaunchError::Jail {
            step: "start the VMM".to_owned(),
            source: errno.into(),
        }))
    }

    #[test]
    fn what_the_kernel_says_is_told_as_what_to_raise() {
        for (errno, expected) in [
            (Errno::MFILE, Some(Shortage::Descriptors)),
            (Errno::AGAIN, Some(Shortage::Processes)),
            (Errno::NOMEM, Some(Shortage::Memory)),
            (Errno::NOSPC, Some(Shortage::Namespaces)),
            (Errno::PERM, None),
        ] {
            assert_eq!(jail(errno).shortage(), expected, "{errno:?}");
        }
        let error = jail(Errno::AGAIN);
        assert_eq!(error.page("id"), "E008: server busy: this host is out of processes");
        assert!(error.hint().unwrap().contains("TasksMax="));
        assert_eq!(jail(Errno::PERM).page("id"), "E010: internal error (trace id id)");
    }
}
