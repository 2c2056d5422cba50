//! What of the kernel a VMM does not get that is not a launcher's to filter: QEMU, whose own sandbox forbids new processes and
//! changes of privileges, and leaves much else.
//!
//! A list of what is forbidden: what it forgets is there, as without it. The walls are namespaces, users and capabilities; this
//! closes the doors that are in none of them.

use std::{collections::BTreeMap, io};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

/// Whatever the arguments are, and why.
const FORBIDDEN: [i64; 45] = [
    // Keys belong to no namespace, and the session's keyring is that of whoever started the host process.
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    // A VMM is born with its sockets. Vsocks belong to no network namespace.
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_listen,
    // As an unprivileged user's, a VMM has that user's rights to the files that it was given descriptors of.
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    SYS_FCHMODAT2,
    libc::SYS_chown,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_lchown,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    SYS_SETXATTRAT,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    SYS_REMOVEXATTRAT,
    SYS_FILE_SETATTR,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_utimensat,
    libc::SYS_flock,
    // Far into the kernel, and of no use to a VMM.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_open_tree,
    SYS_OPEN_TREE_ATTR,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_ptrace,
];

/// `fchmodat2(2)`, of Linux 6.6.
const SYS_FCHMODAT2: i64 = 452;

/// `setxattrat(2)` and `removexattrat(2)`, of Linux 6.13.
const SYS_SETXATTRAT: i64 = 463;
const SYS_REMOVEXATTRAT: i64 = 466;

/// `open_tree_attr(2)`, of Linux 6.15, and `file_setattr(2)`, of Linux 6.17.
const SYS_OPEN_TREE_ATTR: i64 = 467;
const SYS_FILE_SETATTR: i64 = 469;

/// Requests of `ioctl(2)` that change a file's attributes (`linux/fs.h`): `FS_IOC_SETFLAGS`, also of 32 bits, and
/// `FS_IOC_FSSETXATTR`.
const FILE_ATTRIBUTES: [u64; 3] = [0x4008_6602, 0x4004_6602, 0x401c_5820];

/// `ioctl` and `ptrace` have others there than their usual numbers (`syscall_64.tbl` of Linux).
const X32_OTHERS: [(i64, i64); 2] = [(libc::SYS_ioctl, 514), (libc::SYS_ptrace, 521)];

/// The same calls by their numbers of x86-64 with short pointers (`__X32_SYSCALL_BIT` of Linux).
const X32: i64 = 0x4000_0000;

/// The filter of a VMM, made before there is a process for it.
pub(super) struct Filter(BpfProgram);

impl Filter {
    /// Makes it.
    pub(super) fn new() -> Result<Self, seccompiler::Error> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
            FORBIDDEN.iter().map(|call| (*call, Vec::new())).collect();
        let is = |argument, value| {
            let condition =
                SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)?;
            SeccompRule::new(vec![condition])
        };
        // That it dies with its supervisor is not for it to undo.
        rules.insert(libc::SYS_prctl, vec![is(0, u64::from(libc::PR_SET_PDEATHSIG.cast_unsigned()))?]);
        rules.insert(libc::SYS_fcntl, vec![is(1, u64::from(libc::F_SETLEASE.cast_unsigned()))?]);
        let attributes =
            FILE_ATTRIBUTES.into_iter().map(|request| is(1, request)).collect::<Result<_, _>>()?;
        rules.insert(libc::SYS_ioctl, attributes);
        if cfg!(target_arch = "x86_64") {
            let short = |call: i64| {
                X32_OTHERS.into_iter().find(|(usual, _)| *usual == call).map_or(call, |other| other.1)
            };
            let short: Vec<_> =
                rules.iter().map(|(call, rules)| (short(*call) | X32, rules.clone())).collect();
            rules.extend(short);
        }
        let architecture = std::env::consts::ARCH.try_into()?;
        let refusal = SeccompAction::Errno(libc::EPERM.cast_unsigned());
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refusal, architecture)?;
        Ok(Self(filter.try_into()?))
    }

    /// Filters the calls of this process from now on. It has to have given up new privileges, and has nothing left to do that
    /// is forbidden. Allocates nothing: for between fork and exec.
    pub(super) fn apply(&self) -> io::Result<()> {
        apply_filter(&self.0).map_err(|error| match error {
            seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => error,
            _ => io::ErrorKind::InvalidInput.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt as _, process::Command};

    use super::*;
    use crate::sys;

    #[test]
    fn what_it_forbids_is_refused_and_the_rest_is_not() {
        // Python, for it can call everything by its number, and does what a large program does.
        let program = "import ctypes, errno, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def refused(*call):
    ctypes.set_errno(0)
    return libc.syscall(*call) == -1 and ctypes.get_errno() == errno.EPERM
calls = {'keyctl': (250, 0, -3, 0), 'socket': (41, 40, 1, 0), 'fchmod': (91, 0, 0), 'pdeathsig': (157, 1, 0),
         'flock': (73, 0, 2), 'userfaultfd': (323, 0), 'x32 keyctl': (0x40000000 | 250, 0, -3, 0),
         'futimesat': (261, 0, 0, 0), 'setxattrat': (463, 0, 0, 0x1000, 0), 'lease': (72, 0, 1024, 1),
         'flags': (16, 0, 0x40086602, 0), 'x32 flags': (0x40000000 | 514, 0, 0x40086602, 0),
         'ptrace': (101, 0, 0, 0), 'x32 ptrace': (0x40000000 | 521, 0, 0, 0)}
print([name for name, call in calls.items() if not refused(*call)], os.getpid() > 0, libc.syscall(157, 16, 0) >= -1)
";
        let mut command = Command::new("python3");
        let filter = Filter::new().unwrap();
        command.args(["-c", program]);
        sys::before_exec(&mut command, move || {
            rustix::thread::set_no_new_privs(true)?;
            filter.apply()
        });
        let output = command.output().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert_eq!(stdout, "[] True True\n", "{output:?} {:?}", output.status.signal());
    }
}
