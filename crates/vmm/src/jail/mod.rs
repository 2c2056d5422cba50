//! The jail of a VMM process.
//!
//! ```text
//! host process ──spec, descriptors──▶ supervisor (this binary again, one thread)
//!              ◀──started, ended────   │ namespaces, root directory, cgroup
//!                                      └─ VMM: own user, no capabilities, PID 1 of its pid namespace
//! ```
//!
//! The VMM gets mount, pid, ipc, uts and network namespaces of its own, a root directory that holds its program and
//! libraries and the files it was given, each read-only unless it is a file to be filled, a user of its own (where the
//! host process is root; else a user namespace), no capabilities, `no_new_privs`, resource limits, and a cgroup where
//! the host has one to give. The root directory exists in the namespace alone: nothing of it is on a disk, and it is
//! gone when the last process in it is.
//!
//! The supervisor lives as long as the VMM. When the host process ends, however it ends, the supervisor's socket
//! closes; it then kills the VMM and removes the cgroup. It exists besides because the host process has threads: a
//! step between fork and exec would cost it `posix_spawn`, and tens of milliseconds under load.

mod cgroup;
mod filter;
mod keeper;
mod launch;
mod opens;
mod process;
mod root;
mod spec;
mod supervisor;

pub use cgroup::{available as cgroup_available, parents as cgroup_parents, remove_all_left};
pub use launch::{Jailed, LaunchError, Supervisor};
pub use spec::{Access, CgroupLimits, FIRST_DESCRIPTOR, JailFile, JailSpec, Launcher};
pub use supervisor::{close_inherited, supervise};
