//! Who a job is: user and group `nobody`, no capabilities, no way back.

use std::{fs::File, io, io::Write as _};

use rustix::{
    process::{Pid, setsid},
    thread::{
        CapabilitySet, CapabilitySets, Gid, Uid, capabilities, configure_capability_in_ambient_set,
        remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_thread_groups,
        set_thread_res_gid, set_thread_res_uid,
    },
};

/// The user and group of every job: `nobody`, which images have in their user database.
pub(crate) const JOB_USER: u32 = 65_534;

/// What the initialised interpreter needs to become root, to be out of jobs' reach, and then the job's user.
const CHANGE_USER: CapabilitySet = CapabilitySet::SETUID.union(CapabilitySet::SETGID);

/// Becomes the job's user for good. Runs between fork and exec.
pub(crate) fn become_job() -> io::Result<()> {
    setsid()?;
    become_killable()?;
    // Of no use to anybody, for images' file capabilities count for nothing (no_new_privs); but the initialised
    // interpreter cannot get rid of them, and a program shall not see which of the two it runs in.
    make_inheritable()?;
    drop_bounding_set()?;
    // Leaving uid 0 drops every other capability (capabilities(7)).
    become_user()
}

/// Becomes the job's user as far as a program can tell, with the capabilities to become another one once it runs. Until then
/// it is the last that the out-of-memory killer takes, for other jobs need it: see [`make_killable`]. Runs between fork and
/// exec.
pub(crate) fn become_job_to_be() -> io::Result<()> {
    setsid()?;
    // The runner's -1000 would be never: where there is nobody else the kernel panics then.
    File::options().write(true).open("/proc/self/oom_score_adj")?.write_all(b"-999")?;
    make_inheritable()?;
    drop_bounding_set()?;
    set_keep_capabilities(true)?;
    become_user()?;
    let kept = CapabilitySets { effective: CHANGE_USER, permitted: CHANGE_USER, inheritable: CHANGE_USER };
    set_capabilities(None, kept)?;
    for capability in CHANGE_USER.iter() {
        // An ambient capability is one that execve(2) keeps for a user that is not root.
        configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}

/// Becomes a root that can do nothing as such. Runs between fork and exec.
pub(crate) fn become_powerless_root() -> io::Result<()> {
    setsid()?;
    become_killable()?;
    drop_bounding_set()
}

/// Makes [`CHANGE_USER`] inheritable, which is only possible while the bounding set has it.
fn make_inheritable() -> io::Result<()> {
    let all = capabilities(None)?;
    set_capabilities(None, CapabilitySets { inheritable: CHANGE_USER, ..all })?;
    Ok(())
}

fn become_user() -> io::Result<()> {
    let (user, group) = (Uid::from_raw(JOB_USER), Gid::from_raw(JOB_USER));
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)?;
    Ok(())
}

/// Has the out-of-memory killer treat this process as any other: the runner is exempt from it, its children are not.
fn become_killable() -> io::Result<()> {
    File::options().write(true).open("/proc/self/oom_score_adj")?.write_all(b"0")
}

/// The same of another process, which cannot take it back: it takes a capability to be treated better than root has said.
pub(crate) fn make_killable(process: Pid) -> io::Result<()> {
    let path = format!("/proc/{}/oom_score_adj", process.as_raw_nonzero());
    File::options().write(true).open(path)?.write_all(b"0")
}

/// Takes from this process and its children all capabilities that execve(2) could give.
fn drop_bounding_set() -> io::Result<()> {
    for capability in CapabilitySet::all().iter() {
        match remove_capability_from_bounding_set(capability) {
            // A capability that this kernel does not know.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
