//! Changes an image: packages, `pip`, commands. All or nothing: steps work on a copy, which takes the image's place when
//! the last one has succeeded.
//!
//! Steps are programs of the image, and run on the host, like those of a container: as root in mount, pid, ipc and uts
//! namespaces of their own, in the image's file system and no other, with a container's capabilities and no way to more
//! ([`super::inside`]). They have the host's network. That is a weaker wall than a microVM: it is for images that the
//! user has reason to trust.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::create::{CreateRootfs, CreateRootfsError, create};
use super::details::{ImageConfig, ReadDetailsError, RootfsDetails, RootfsSource};
use super::filesystem::{InspectImageError, ROOM_MIB, free_mib, inspect};
use super::packages::{InvalidPackageName, check_package_name};
use super::publish::{PublishImageError, RootfsImage, publish_image};
use crate::digest::{DigestError, Sha256Digest};
use crate::program::{Program, ProgramError};
use crate::progress::Progress;
use crate::staging::{OutputLock, io_hint};

const MIB: u64 = 1 << 20;

/// One thing to be done to an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "what", rename_all = "lowercase")]
pub enum Step {
    /// Installs packages of the image's distribution: Debian's and Alpine's, and what is like them.
    Packages(Vec<String>),
    /// Installs Python packages with `pip`.
    Pip(Vec<String>),
    /// Runs a command line with the image's `/bin/sh`.
    Run(String),
}

impl std::fmt::Display for Step {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Packages(names) => write!(formatter, "packages {}", names.join(" ")),
            Self::Pip(names) => write!(formatter, "pip install {}", names.join(" ")),
            Self::Run(command) => write!(formatter, "run {command}"),
        }
    }
}

/// What to do to which image.
#[derive(Debug, Clone)]
pub struct CustomizeRootfs {
    /// The image.
    pub image: PathBuf,
    /// What is to be done, in this order.
    pub steps: Vec<Step>,
    /// The new size of the image; if absent, it grows as far as it takes to have room.
    pub size_mib: Option<u64>,
    /// The program that does the work inside, when it is given the path of a [`StepsFile`]: this one.
    pub inside: (PathBuf, &'static str),
}

/// What the program inside is told.
#[derive(Debug, Serialize, Deserialize)]
pub struct StepsFile {
    /// The image: mounted, and written to.
    pub(super) image: PathBuf,
    /// Where it is mounted: an empty directory.
    pub(super) mount_point: PathBuf,
    /// What is to be done.
    pub(super) steps: Vec<Step>,
    /// How programs are meant to run in it.
    pub(super) config: ImageConfig,
}

/// An image could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum CustomizeRootfsError {
    /// The process may not do what it takes.
    #[error("only root can change an image")]
    NotRoot,
    /// There is nothing to do.
    #[error("there is nothing to be done")]
    NoSteps,
    /// A package's name cannot be one.
    #[error("cannot install a package")]
    Package(
        /// Why.
        #[from]
        InvalidPackageName,
    ),
    /// What `pip` is to install could be an option of it.
    #[error("{name:?} is nothing that pip could install")]
    Requirement {
        /// What was given.
        name: String,
    },
    /// The image cannot be used.
    #[error("cannot use the image")]
    Image(
        /// Why.
        #[from]
        InspectImageError,
    ),
    /// What is noted beside the image cannot be used.
    #[error("cannot use the image")]
    Details(
        /// Why.
        #[from]
        ReadDetailsError,
    ),
    /// The image is in use, or nothing can be written beside it.
    #[error("cannot begin to change {}", image.display())]
    Stage {
        /// The image.
        image: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It would have to be made anew, and what somebody has done to it by hand would be gone.
    #[error("{} was changed by hand, and has no package manager", image.display())]
    Edited {
        /// The image.
        image: PathBuf,
    },
    /// It shall become smaller.
    #[error("the image has {has_mib} MiB and cannot be made smaller")]
    Shrink {
        /// What it has.
        has_mib: u64,
    },
    /// The copy could not be made, or not be made larger.
    #[error("cannot copy the image")]
    Copy(
        /// Why.
        #[source]
        ProgramError,
    ),
    /// The file system is damaged.
    #[error("the image's file system has errors")]
    Damaged(
        /// Why.
        #[source]
        ProgramError,
    ),
    /// The base could not be made anew.
    #[error("cannot make the image with more packages")]
    Base(
        /// Why.
        #[source]
        Box<CreateRootfsError>,
    ),
    /// What takes the steps could not be started.
    #[error("cannot take the steps")]
    Start(
        /// Why.
        #[source]
        ProgramError,
    ),
    /// A step failed.
    #[error("a step failed, and the image stays as it was:\n{said}")]
    Step {
        /// The end of what it said.
        said: String,
    },
    /// The changed file system is damaged.
    #[error("the changed file system has errors")]
    Check(
        /// Why.
        #[source]
        ProgramError,
    ),
    /// The changed image could not be read.
    #[error("cannot compute the image's digest")]
    Digest(
        /// Why.
        #[from]
        DigestError,
    ),
    /// The changed image cannot be put in place.
    #[error("cannot put the image in place")]
    Publish(
        /// Why.
        #[from]
        PublishImageError,
    ),
}

impl CustomizeRootfsError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotRoot => Some("run with sudo".to_owned()),
            Self::NoSteps => Some("say what to do with --run, --pip or --packages".to_owned()),
            Self::Package(source) => source.hint(),
            Self::Requirement { .. } => {
                Some("give names, with versions where that matters: numpy, pandas==2.2.3".to_owned())
            }
            Self::Image(source) => source.hint(),
            Self::Details(_) => None,
            Self::Stage { image, source } => io_hint(image, source),
            Self::Edited { .. } => Some(
                "use --pip or --run; or make it anew, without what was done by hand: rootfs create --packages"
                    .to_owned(),
            ),
            Self::Shrink { has_mib } => Some(format!("use --size {has_mib} or more, or none")),
            Self::Copy(source) | Self::Damaged(source) | Self::Check(source) | Self::Start(source) => {
                source.hint()
            }
            Self::Base(source) => source.hint(),
            Self::Step { said } => {
                let is_full = said.contains("No space left");
                is_full.then(|| "give the image more room with --size".to_owned())
            }
            Self::Digest(source) => source.hint(),
            Self::Publish(source) => source.hint(),
        }
    }
}

/// Changes an image.
pub fn customize(
    request: &CustomizeRootfs,
    progress: &dyn Progress,
) -> Result<RootfsImage, CustomizeRootfsError> {
    check(&request.steps)?;
    if !rustix::process::geteuid().is_root() {
        return Err(CustomizeRootfsError::NotRoot);
    }
    let image = request.image.as_path();
    let has_mib = inspect(image)? / MIB;
    let failed = |source| CustomizeRootfsError::Stage { image: image.to_owned(), source };
    let lock = OutputLock::acquire(image).map_err(failed)?;
    let directory = lock.temporary_directory().map_err(failed)?;
    let details = RootfsDetails::of_image(image)?;
    let staged = directory.path().join("image");
    let (mut details, steps) =
        if let Some((made, details, steps)) = base(details.as_ref(), request, directory.path(), progress)? {
            fs::rename(made, &staged).map_err(failed)?;
            (details, steps)
        } else {
            progress.step("copying the image");
            let copied = Program::new("cp", "coreutils")
                .arguments(["--sparse=always", "--reflink=auto"])
                .arguments([image, &staged])
                .run();
            copied.map_err(CustomizeRootfsError::Copy)?;
            (details, request.steps.clone())
        };
    // Also before the kernel reads it, and before resize2fs does, which wants to see that it was checked.
    let checked = Program::new("e2fsck", "e2fsprogs").arguments(["-f", "-p"]).argument(&staged).run();
    checked.map_err(CustomizeRootfsError::Damaged)?;
    // What was made anew is to be no smaller than it was.
    let made_anew_smaller = inspect(&staged)? / MIB < has_mib;
    grow(&staged, request.size_mib.or(made_anew_smaller.then_some(has_mib)))?;
    let config = details.as_ref().map(|details| details.config.clone()).unwrap_or_default();
    take_steps(request, directory.path(), &staged, &steps, config, progress)?;
    progress.step("checking the image");
    let check = Program::new("e2fsck", "e2fsprogs").arguments(["-f", "-n"]).argument(&staged);
    check.run().map_err(CustomizeRootfsError::Check)?;
    progress.step("computing the image's digest");
    let sha256 = Sha256Digest::of_file(&staged, progress)?;
    if let Some(details) = &mut details {
        details.steps.extend(request.steps.iter().cloned());
    }
    let details = details.unwrap_or_else(|| RootfsDetails {
        source: RootfsSource::Unknown,
        created: super::create::seconds_since_1970(),
        sha256: sha256.clone(),
        size_bytes: 0,
        config: ImageConfig::default(),
        steps: request.steps.clone(),
    });
    Ok(publish_image(&staged, image, RootfsDetails { sha256, ..details })?)
}

/// What takes the place of a copy, its notes, and the steps that are left.
type Base = (PathBuf, Option<RootfsDetails>, Vec<Step>);

/// Images of ours have no package manager. One that is to get more packages is made anew with them, and what was done to
/// it since is done again.
fn base(
    details: Option<&RootfsDetails>,
    request: &CustomizeRootfs,
    directory: &Path,
    progress: &dyn Progress,
) -> Result<Option<Base>, CustomizeRootfsError> {
    let wanted: Vec<String> = request
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Packages(names) => Some(names.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    let Some(details) = details.filter(|_| !wanted.is_empty()) else { return Ok(None) };
    let RootfsSource::Debian { packages, suite } = &details.source else { return Ok(None) };
    progress.step("looking whether the image is as it was made");
    if Sha256Digest::of_file(&request.image, progress)? != details.sha256 {
        return Err(CustomizeRootfsError::Edited { image: request.image.clone() });
    }
    let mut all = packages.clone();
    all.extend(wanted.into_iter().filter(|name| !packages.contains(name)));
    let output = directory.join("base.ext4");
    let base = CreateRootfs {
        packages: all.clone(),
        size_mib: None,
        output: output.clone(),
        suite: suite.clone(),
        mirror: None,
    };
    create(&base, progress).map_err(|error| CustomizeRootfsError::Base(Box::new(error)))?;
    let source = RootfsSource::Debian { packages: all, suite: suite.clone() };
    let steps = details.steps.iter().chain(&request.steps);
    let steps = steps.filter(|step| !matches!(step, Step::Packages(_))).cloned().collect();
    Ok(Some((output, Some(RootfsDetails { source, ..details.clone() }), steps)))
}

/// Checks what becomes an argument of a program.
fn check(steps: &[Step]) -> Result<(), CustomizeRootfsError> {
    if steps.is_empty() {
        return Err(CustomizeRootfsError::NoSteps);
    }
    for step in steps {
        match step {
            Step::Packages(names) => {
                for name in names {
                    check_package_name(name)?;
                }
            }
            Step::Pip(names) => {
                let is_sound = |name: &&String| {
                    !name.is_empty() && !name.starts_with('-') && !name.contains(char::is_control)
                };
                if let Some(name) = names.iter().find(|name| !is_sound(name)) {
                    return Err(CustomizeRootfsError::Requirement { name: name.clone() });
                }
            }
            Step::Run(_) => {}
        }
    }
    Ok(())
}

/// Makes the file system as large as asked for, else large enough to have room.
fn grow(image: &Path, size_mib: Option<u64>) -> Result<(), CustomizeRootfsError> {
    let has_mib = inspect(image)? / MIB;
    let size_mib = match size_mib {
        Some(size_mib) if size_mib < has_mib => return Err(CustomizeRootfsError::Shrink { has_mib }),
        Some(size_mib) => size_mib,
        None => has_mib + ROOM_MIB.saturating_sub(free_mib(image)?),
    };
    if size_mib == has_mib {
        return Ok(());
    }
    let grown = Program::new("resize2fs", "e2fsprogs").argument(image).argument(format!("{size_mib}M")).run();
    grown.map(|_| ()).map_err(CustomizeRootfsError::Copy)
}

fn take_steps(
    request: &CustomizeRootfs,
    directory: &Path,
    staged: &Path,
    steps: &[Step],
    config: ImageConfig,
    progress: &dyn Progress,
) -> Result<(), CustomizeRootfsError> {
    let failed = |source| CustomizeRootfsError::Stage { image: request.image.clone(), source };
    let mount_point = directory.join("root");
    fs::create_dir(&mount_point).map_err(failed)?;
    let file = StepsFile { image: staged.to_owned(), mount_point, steps: steps.to_vec(), config };
    let path = directory.join("steps.json");
    let text = serde_json::to_vec(&file).map_err(|error| failed(error.into()))?;
    fs::write(&path, text).map_err(failed)?;
    let (program, argument) = &request.inside;
    let ran =
        Program::ours(program.clone()).argument(argument).argument(&path).isolated().run_with(&|line| {
            let line: String = line.chars().filter(|c| !c.is_control()).take(160).collect();
            if !line.trim().is_empty() {
                progress.step(line.trim());
            }
        });
    ran.map(|_| ()).map_err(|error| match error.stderr() {
        Some(said) => CustomizeRootfsError::Step { said: shown(said) },
        None => CustomizeRootfsError::Start(error),
    })
}

/// The last lines of what a program of the image has said: of it, text alone reaches the terminal.
fn shown(said: &str) -> String {
    const LINES: usize = 12;
    let lines: Vec<&str> = said.trim_end().lines().collect();
    let lines = lines[lines.len().saturating_sub(LINES)..].iter();
    let text = |line: &&str| format!("  {}", line.chars().filter(|c| !c.is_control()).collect::<String>());
    lines.map(text).collect::<Vec<_>>().join("\n")
}
