//! Puts the two programs in place, together and at once.
//!
//! ```text
//! <data>/.tmp-bin-XXXXXX/bin/{firecracker,jailer,archive.sha256}    staged: on disk, and run once
//! <data>/bin/                                                       published: the directory is exchanged
//! ```
//!
//! So there are the old two or the new two, never one of each. What was there before goes with the temporary
//! directory.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use images::{
    Sha256Digest,
    staging::{OutputLock, replace_directory, write_synced},
};
use store::DataDirectory;
use tempfile::TempDir;

use super::{
    files::{Program, Programs},
    release,
    version::{Version, ask},
};

/// The digest of the archive that the programs came from, where they came from one.
const ARCHIVE_DIGEST: &str = "archive.sha256";

/// How long a program may take to say its version: a disk may be slow.
pub(super) const VERSION_PATIENCE: Duration = Duration::from_secs(10);

/// What is installed.
pub(super) struct Installed {
    /// Its version.
    pub(super) version: Version,
    /// The archive that it came from.
    pub(super) archive: Option<Sha256Digest>,
}

impl Installed {
    /// What is installed in `data`, if it works.
    pub(super) async fn find(data: &DataDirectory) -> Option<Self> {
        let directory = data.programs();
        let version = version(&directory, VERSION_PATIENCE).await.ok()?;
        let archive = fs::read_to_string(directory.join(ARCHIVE_DIGEST)).ok();
        Some(Self { version, archive: archive.and_then(|text| text.trim_end().parse().ok()) })
    }
}

/// The version of both programs in `directory`, which must be the same.
async fn version(directory: &Path, patience: Duration) -> Result<Version> {
    let [firecracker, jailer] = Program::BOTH.map(|program| directory.join(program.name()));
    let version = ask(&firecracker, Program::Firecracker.title(), patience).await?;
    let jailer = ask(&jailer, Program::Jailer.title(), patience).await?;
    ensure!(version == jailer, "Firecracker is {version}, and its jailer {jailer}");
    Ok(version)
}

/// Programs that are on disk, and not in place yet. Dropped, they are gone.
pub(super) struct Staged {
    // Before the lock: it goes while nobody else can be making another.
    directory: TempDir,
    destination: PathBuf,
    _lock: OutputLock,
}

impl Staged {
    /// Writes the programs beside their destination.
    pub(super) fn write(
        data: &DataDirectory,
        programs: &Programs,
        archive: Option<&Sha256Digest>,
    ) -> Result<Self> {
        let destination = data.programs();
        let root = data.root();
        let failed = || format!("cannot write to {}", root.display());
        fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
        let lock = OutputLock::acquire(&destination)
            .with_context(|| format!("cannot lock {}: is another setup at work?", destination.display()))?;
        let directory = lock.temporary_directory().with_context(failed)?;
        let staged = Self { directory, destination, _lock: lock };
        staged.fill(programs, archive).with_context(failed)?;
        Ok(staged)
    }

    fn fill(&self, programs: &Programs, archive: Option<&Sha256Digest>) -> std::io::Result<()> {
        let place = self.place();
        fs::create_dir(&place)?;
        let contents = [&programs.firecracker, &programs.jailer];
        for (program, bytes) in Program::BOTH.into_iter().zip(contents) {
            let path = place.join(program.name());
            write_synced(&path, bytes)?;
            // Whatever the umask.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        if let Some(archive) = archive {
            write_synced(&place.join(ARCHIVE_DIGEST), format!("{archive}\n").as_bytes())?;
        }
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755))
    }

    fn place(&self) -> PathBuf {
        self.directory.path().join("bin")
    }

    /// Runs both and refuses what does not work or is too old.
    pub(super) async fn check(&self, patience: Duration) -> Result<Version> {
        let version = version(&self.place(), patience).await?;
        let oldest = release::VERSION;
        ensure!(version >= oldest, "Firecracker {version} is too old: {oldest} or newer is needed");
        Ok(version)
    }

    /// Puts them in place.
    pub(super) fn publish(self) -> Result<()> {
        replace_directory(&self.place(), &self.destination)
            .with_context(|| format!("cannot replace {}", self.destination.display()))
    }
}
