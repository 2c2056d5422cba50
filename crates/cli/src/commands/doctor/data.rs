//! What lies in the data directory, but for snapshots: the directory itself, disk, kernel bundle, images.

use std::{
    io,
    path::{Path, PathBuf},
};

use images::{BundleManifest, OpenKernelError};

use super::{
    finding::{Finding, chain},
    fix::{Shell, quote},
};
use crate::settings::DEFAULT_MACHINE;

/// What a snapshot of the usual size takes beyond its memory, in MiB, with room for its image.
const DISK_RESERVE_MIB: u64 = 512;

/// What locks and notes need, in MiB, generously.
const DISK_LEAST_MIB: u64 = 64;

/// Files that may still be made, at least: a snapshot has four.
const LEAST_FILES: u64 = 64;

/// The data directory.
pub(super) struct DirectoryFacts {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Who asks.
    pub(super) user: u32,
    /// What is there.
    pub(super) state: DirectoryState,
}

/// What lies where the data directory belongs.
pub(super) enum DirectoryState {
    /// Nothing; and whether it can be made.
    Missing {
        /// Why not.
        obstacle: Option<io::Error>,
    },
    /// It cannot be looked at.
    Hidden(io::Error),
    /// Something else.
    NoDirectory,
    /// A directory.
    Present {
        /// Whose it is.
        owner: u32,
        /// Its permissions.
        mode: u32,
        /// The first place in it that this user cannot write to, and why.
        obstacle: Option<(PathBuf, io::Error)>,
    },
}

/// The data directory can be used.
pub(super) fn directory(facts: &DirectoryFacts, shell: &Shell) -> Finding {
    const NAME: &str = "data directory";
    const GROUP_AND_OTHERS_WRITE: u32 = 0o022;
    let quoted = quote(&facts.path);
    let path = facts.path.display();
    let take = shell.as_root(&format!("chown -R \"$(id -u):$(id -g)\" {quoted}"));
    match &facts.state {
        DirectoryState::Missing { obstacle: None } => {
            Finding::warning(NAME, format!("{path} does not exist yet"), shell.operator("setup"))
        }
        DirectoryState::Missing { obstacle: Some(error) } => {
            let make = "install --directory --owner=\"$(id -u)\" --group=\"$(id -g)\"";
            let fix = shell.as_root(&format!("{make} {quoted}"));
            Finding::problem(NAME, format!("{path} does not exist and cannot be made: {error}"), fix)
        }
        DirectoryState::Hidden(error) => Finding::problem(
            NAME,
            format!("{path} cannot be looked at: {error}"),
            "choose another with --data-dir".to_owned(),
        ),
        DirectoryState::NoDirectory => {
            let fix = "move it away, or choose another with --data-dir".to_owned();
            Finding::problem(NAME, format!("{path} is no directory"), fix)
        }
        DirectoryState::Present { owner, obstacle: Some((place, error)), .. } => {
            let whose = if *owner == facts.user {
                String::new()
            } else {
                format!(" ({path} belongs to user {owner})")
            };
            let fix = if error.kind() == io::ErrorKind::ReadOnlyFilesystem {
                shell.as_root(&format!("mount -o remount,rw \"$(findmnt -n -o TARGET -T {quoted})\""))
            } else {
                take
            };
            Finding::problem(NAME, format!("{} cannot be written: {error}{whose}", place.display()), fix)
        }
        DirectoryState::Present { owner, .. } if *owner != facts.user => {
            let detail =
                format!("{path} belongs to user {owner}, who will not be able to change what is made now");
            Finding::warning(NAME, detail, take)
        }
        DirectoryState::Present { mode, .. } if mode & GROUP_AND_OTHERS_WRITE != 0 => {
            let detail = format!("others may write to {path}, and so replace images and snapshots");
            Finding::warning(NAME, detail, format!("chmod go-w {quoted}"))
        }
        DirectoryState::Present { .. } => Finding::ok(NAME, path.to_string()),
    }
}

/// Room on the disk of the data directory.
#[derive(Clone, Copy)]
pub(super) struct DiskFacts {
    /// Free, in MiB.
    pub(super) free_mib: u64,
    /// How many files may still be made; nothing where there is no limit.
    pub(super) free_files: Option<u64>,
}

/// The disk has room.
pub(super) fn disk(facts: Option<DiskFacts>, path: &Path, shell: &Shell) -> Finding {
    const NAME: &str = "disk";
    let quoted = quote(path);
    let fix = shell.as_root(&format!("du -x -h --max-depth=2 {quoted} | sort -h | tail"));
    let Some(DiskFacts { free_mib, free_files }) = facts else {
        return Finding::warning(
            NAME,
            format!("cannot tell the free space of {}", path.display()),
            format!("df {quoted}"),
        );
    };
    let needed_mib = u64::from(DEFAULT_MACHINE.memory_mib) + DISK_RESERVE_MIB;
    if free_files.is_some_and(|files| files < LEAST_FILES) {
        let detail = format!("nearly full: the disk of {} has no room for more files", path.display());
        return Finding::problem(
            NAME,
            detail,
            shell.as_root(&format!("du -x --inodes --max-depth=2 {quoted} | sort -n | tail")),
        );
    }
    if free_mib < DISK_LEAST_MIB {
        return Finding::problem(NAME, format!("full: {free_mib} MiB free"), fix);
    }
    if free_mib < needed_mib {
        let detail = format!(
            "nearly full: {free_mib} MiB free, one more image and snapshot may need {needed_mib} MiB"
        );
        return Finding::warning(NAME, detail, fix);
    }
    Finding::ok(NAME, format!("{free_mib} MiB free"))
}

/// The kernel bundle, and whether its guest agent is this release's.
pub(super) fn bundle(opened: Result<(&BundleManifest, bool), &OpenKernelError>, shell: &Shell) -> Finding {
    const NAME: &str = "kernel bundle";
    match opened {
        Ok((manifest, true)) => Finding::ok(NAME, format!("Linux {}", manifest.kernel_release)),
        Ok((_, false)) => Finding::problem(
            NAME,
            "made by another release: its guest agent is not this one's",
            shell.operator("setup"),
        ),
        Err(error) => {
            let fix = match error {
                OpenKernelError::Read { path, source }
                    if source.kind() == io::ErrorKind::PermissionDenied =>
                {
                    shell.as_root(&format!("chmod a+r {}", quote(path)))
                }
                // `setup` looks at sizes alone and would leave it as it is.
                OpenKernelError::Digest { .. } => shell.operator("setup --renew"),
                _ => shell.operator("setup"),
            };
            Finding::problem(NAME, chain(error), fix)
        }
    }
}

/// An image.
pub(super) struct ImageFacts {
    /// The language in its name.
    pub(super) language: String,
    /// Whether this release knows that.
    pub(super) is_known: bool,
    /// Where it is.
    pub(super) path: PathBuf,
    /// Its size.
    pub(super) bytes: u64,
    /// Why it cannot be used.
    pub(super) problem: Option<String>,
}

/// The images. `first` is the language to begin with.
pub(super) fn images(images: &[ImageFacts], first: &str, shell: &Shell) -> Vec<Finding> {
    if images.is_empty() {
        let fix = shell.operator(&format!("rootfs create --lang {first}"));
        return vec![Finding::warning("images", "there are none: no program can be run", fix)];
    }
    images.iter().map(|facts| image(facts, shell)).collect()
}

fn image(facts: &ImageFacts, shell: &Shell) -> Finding {
    let name = format!("image {}", facts.language);
    let path = facts.path.display();
    if !facts.is_known {
        let detail = format!("{path} is of no language that this release has");
        return Finding::warning(name, detail, format!("rm {}", quote(&facts.path)));
    }
    match &facts.problem {
        None => Finding::ok(name, format!("{path}, {} MiB", facts.bytes >> 20)),
        Some(problem) => {
            let fix = shell.operator(&format!("rootfs create --lang {}", facts.language));
            Finding::problem(name, problem.clone(), fix)
        }
    }
}

/// Files that VMMs have to read and cannot.
pub(super) fn readable(closed: &[PathBuf], shell: &Shell) -> Finding {
    const NAME: &str = "permissions";
    if closed.is_empty() {
        return Finding::ok(NAME, "VMMs can read what they boot from");
    }
    let paths: Vec<_> = closed.iter().map(|path| path.display().to_string()).collect();
    let quoted: Vec<_> = closed.iter().map(|path| quote(path)).collect();
    let fix = shell.as_root(&format!("chmod a+r {}", quoted.join(" ")));
    Finding::problem(
        NAME,
        format!("VMMs, which have users of their own, cannot read {}", paths.join(" and ")),
        fix,
    )
}

#[cfg(test)]
#[path = "data_tests.rs"]
mod tests;
