//! Who a job is: user and group `nobody`, no capabilities, no way back.

use std::{fs::File, io, io::Write as _};

use rustix::{
    process::setsid,
    thread::{
        CapabilitySet, Gid, Uid, remove_capability_from_bounding_set, set_thread_groups, set_thread_res_gid,
        set_thread_res_uid,
    },
};

/// The user and group of every job: `nobody`, which images have in their user database.
pub(crate) const JOB_USER: u32 = 65_534;

/// Becomes the job's user for good. Runs between fork and exec.
pub(crate) fn become_job() -> io::Result<()> {
    enter_job_session()?;
    bound_capabilities(CapabilitySet::empty())?;
    let (user, group) = (Uid::from_raw(JOB_USER), Gid::from_raw(JOB_USER));
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    // Leaving uid 0 drops every capability (capabilities(7)).
    set_thread_res_uid(user, user, user)?;
    Ok(())
}

/// Becomes a process that can do nothing as root but become the job's user later. Runs between fork and exec.
pub(crate) fn become_job_to_be() -> io::Result<()> {
    enter_job_session()?;
    bound_capabilities(CapabilitySet::SETUID | CapabilitySet::SETGID)
}

/// What both have in common.
fn enter_job_session() -> io::Result<()> {
    setsid()?;
    // The runner is exempt from the out-of-memory killer, its children are not.
    File::options().write(true).open("/proc/self/oom_score_adj")?.write_all(b"0")
}

/// Takes all capabilities but `kept` from what this process and its children can ever have. For root the
/// bounding set is what execve(2) leaves of its capabilities.
fn bound_capabilities(kept: CapabilitySet) -> io::Result<()> {
    for bit in 0..64 {
        let Some(capability) = CapabilitySet::from_bits(1 << bit) else { continue };
        if kept.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            // A capability that this kernel does not know.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
