//! What of the kernel steps do not get, though it takes no capability: keys, which are the host's root's; user namespaces,
//! in which they would have all capabilities and with them the larger part of the kernel; and what programs that install
//! packages have no use for.
//!
//! It is a list of what is forbidden: what it forgets is there, as without it. The wall are namespaces and capabilities.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

/// Whatever the arguments are.
const FORBIDDEN: [i64; 19] = [
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_request_key,
    libc::SYS_setns,
    libc::SYS_umount2,
    libc::SYS_userfaultfd,
];

/// The kinds of sockets that steps get: of this host, of the network, and to ask the kernel about the network.
const SOCKETS: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// The same calls by their numbers of x86-64 with short pointers (`__X32_SYSCALL_BIT` of Linux).
const X32: i64 = 0x4000_0000;

/// Filters the calls of this thread, and of all programs that it starts from now on.
pub(super) fn apply() -> Result<(), seccompiler::Error> {
    apply_filter(&program(rules()?, libc::EPERM)?)?;
    // Its flags are in memory, where no filter sees them. Without it programs use clone(2).
    apply_filter(&program([(libc::SYS_clone3, Vec::new())].into(), libc::ENOSYS)?)
}

fn rules() -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::Error> {
    let new_user = u64::from(libc::CLONE_NEWUSER.cast_unsigned());
    let with_new_user = condition(SeccompCmpOp::MaskedEq(new_user), new_user)?;
    let namespaces = vec![SeccompRule::new(vec![with_new_user])?];
    let other = SOCKETS.iter().map(|family| condition(SeccompCmpOp::Ne, u64::from(family.cast_unsigned())));
    let sockets = vec![SeccompRule::new(other.collect::<Result<_, _>>()?)?];
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        FORBIDDEN.iter().map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_clone, namespaces.clone());
    rules.insert(libc::SYS_unshare, namespaces);
    rules.insert(libc::SYS_socket, sockets);
    Ok(rules)
}

/// About the first argument.
fn condition(operation: SeccompCmpOp, value: u64) -> Result<SeccompCondition, seccompiler::Error> {
    Ok(SeccompCondition::new(0, SeccompCmpArgLen::Dword, operation, value)?)
}

fn program(
    mut rules: BTreeMap<i64, Vec<SeccompRule>>,
    refusal: i32,
) -> Result<BpfProgram, seccompiler::Error> {
    let architecture = std::env::consts::ARCH.try_into()?;
    if cfg!(target_arch = "x86_64") {
        let short: Vec<_> = rules.iter().map(|(call, rules)| (call | X32, rules.clone())).collect();
        rules.extend(short);
    }
    let refusal = SeccompAction::Errno(refusal.cast_unsigned());
    Ok(SeccompFilter::new(rules, SeccompAction::Allow, refusal, architecture)?.try_into()?)
}
