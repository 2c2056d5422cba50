//! Whether a snapshot may be restored here and now.
//!
//! Everything that it depends on is compared with its manifest: cheap facts always, digests of files only when a file
//! is not the one that was checked last. For that the host keeps a note beside the snapshot: which file (device,
//! inode), how long, and when it was last changed (mtime, and ctime, which no program can set).

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use images::{
    DigestError, Progress, Sha256Digest,
    staging::{open_named, open_regular},
};
use serde::{Deserialize, Serialize};

use super::{Entry, FileRecord, HostRecord, KernelRecord, Manifest, VERIFIED};

/// The longest note of what was checked, in bytes.
const MAX_NOTE_BYTES: u64 = 64 << 10;

/// What there is on this host now.
#[derive(Clone, Debug)]
pub struct Current {
    /// The VMM that would restore it.
    pub host: HostRecord,
    /// The kernel bundle.
    pub kernel: Option<KernelRecord>,
    /// The rootfs image.
    pub rootfs: PathBuf,
    /// What the image adds to the environment of its programs.
    pub environment: BTreeMap<String, String>,
    /// The protocol's generation of this build.
    pub protocol_generation: u32,
}

/// How a snapshot and the host differ.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Made by another VMM.
    #[error("it was made with {was}, this host has {is}")]
    Vmm {
        /// The snapshot's.
        was: String,
        /// The host's.
        is: String,
    },
    /// Made on another processor.
    #[error("it was made for the processor {was}, this host has {is}")]
    Cpu {
        /// The snapshot's.
        was: String,
        /// The host's.
        is: String,
    },
    /// Made with another kernel or guest agent.
    #[error("the kernel bundle has changed since: {what}")]
    Kernel {
        /// What of it.
        what: &'static str,
    },
    /// Made by another release.
    #[error("its guest agent speaks protocol generation {was}, this release {is}")]
    Protocol {
        /// The snapshot's.
        was: u32,
        /// This build's.
        is: u32,
    },
    /// The image is another one now.
    #[error("the image {} has changed since", .path.display())]
    Rootfs {
        /// The image.
        path: PathBuf,
    },
    /// The image is meant to be used otherwise now.
    #[error("the environment of the image's programs has changed since")]
    Environment,
    /// A file of the snapshot is not what was saved.
    #[error("{} is damaged: {what}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// In what way.
        what: String,
    },
}

/// Why a snapshot could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file cannot be looked at.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("cannot check a file's contents")]
    Digest(#[source] DigestError),
}

/// Which version of a file was checked, and what it was found to hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Checked {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    sha256: Sha256Digest,
}

impl Checked {
    fn same_file(&self, metadata: &fs::Metadata) -> bool {
        self.device == metadata.dev()
            && self.inode == metadata.ino()
            && self.bytes == metadata.len()
            && self.modified == (metadata.mtime(), metadata.mtime_nsec())
            && self.changed == (metadata.ctime(), metadata.ctime_nsec())
    }

    fn new(metadata: &fs::Metadata, sha256: Sha256Digest) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            sha256,
        }
    }
}

impl Entry {
    /// Compares the snapshot with what there is. The first difference is returned; nothing where it may be restored.
    ///
    /// With `thorough` every file is read; without, those that are not known to be the ones that were read before.
    pub fn check(
        &self,
        manifest: &Manifest,
        current: &Current,
        thorough: bool,
        progress: &dyn Progress,
    ) -> Result<Option<Mismatch>, VerifyError> {
        if let Some(mismatch) = manifest.compare(current) {
            return Ok(Some(mismatch));
        }
        let note = self.directory.join(VERIFIED);
        let before: BTreeMap<PathBuf, Checked> = match read_note(&note) {
            Ok(text) if !thorough => serde_json::from_slice(&text).unwrap_or_default(),
            _ => BTreeMap::new(),
        };
        let mut after = BTreeMap::new();
        for (path, record) in [
            (self.device_state(), &manifest.device_state),
            (self.memory(), &manifest.memory),
            (current.rootfs.clone(), &manifest.rootfs),
        ] {
            // The image is the host's own, and may be a link. What lies in the snapshot's directory is anybody's.
            let is_trusted = path == current.rootfs;
            let file = if is_trusted { open_named(&path) } else { open_regular(&path) };
            let checked = match contents(file, &path, record, before.get(&path), progress)? {
                Contents::Expected(checked) => checked,
                Contents::Other(_) if path == current.rootfs => return Ok(Some(Mismatch::Rootfs { path })),
                Contents::Other(what) => return Ok(Some(Mismatch::Damaged { path, what })),
            };
            after.insert(path, checked);
        }
        if before != after {
            // Where it cannot be kept (a read-only store, a full disk), the next check reads everything again.
            let _ = keep(&note, &after);
        }
        Ok(None)
    }
}

impl Manifest {
    /// Compares all that can be compared without reading a file.
    pub fn compare(&self, current: &Current) -> Option<Mismatch> {
        compare(self, current)
    }
}

fn compare(manifest: &Manifest, current: &Current) -> Option<Mismatch> {
    let (was, is) = (&manifest.host, &current.host);
    let vmm = |host: &HostRecord| format!("{} {} with {}", host.vmm, host.vmm_version, host.acceleration);
    if vmm(was) != vmm(is) {
        return Some(Mismatch::Vmm { was: vmm(was), is: vmm(is) });
    }
    let cpu = |host: &HostRecord| match host.tsc_mhz {
        Some(mhz) => format!("{} at {mhz} MHz", host.cpu),
        None => host.cpu.clone(),
    };
    let same_rate = match (was.tsc_mhz, is.tsc_mhz) {
        // The rate is measured, and the guest's clock runs by it: one percent is a second in a hundred.
        (Some(was), Some(is)) => was.abs_diff(is) <= is / 100,
        (was, is) => was == is,
    };
    if was.cpu != is.cpu || !same_rate {
        return Some(Mismatch::Cpu { was: cpu(was), is: cpu(is) });
    }
    if manifest.protocol_generation != current.protocol_generation {
        let (was, is) = (manifest.protocol_generation, current.protocol_generation);
        return Some(Mismatch::Protocol { was, is });
    }
    if manifest.environment != current.environment {
        return Some(Mismatch::Environment);
    }
    // A snapshot can be restored without the bundle: it holds the kernel that was booted.
    let bundle = current.kernel.as_ref()?;
    if bundle.vmlinux != manifest.kernel.vmlinux {
        return Some(Mismatch::Kernel { what: "another kernel" });
    }
    (bundle.initramfs != manifest.kernel.initramfs)
        .then_some(Mismatch::Kernel { what: "another guest agent or other modules" })
}

/// A file that was read, at the time when it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadFile(Checked);

impl ReadFile {
    /// What was found in a file that is, and was while it was read, `metadata`.
    pub fn new(metadata: &fs::Metadata, sha256: Sha256Digest) -> Self {
        Self(Checked::new(metadata, sha256))
    }

    /// Its digest.
    pub fn sha256(&self) -> &Sha256Digest {
        &self.0.sha256
    }

    /// The same file at `path`, where a rename has put it: that changes its ctime and nothing else.
    fn moved_to(self, path: &Path) -> io::Result<Checked> {
        let metadata = fs::metadata(path)?;
        let now = Checked::new(&metadata, self.0.sha256.clone());
        let same = Checked { changed: now.changed, ..self.0 } == now;
        if same { Ok(now) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

impl Entry {
    /// Notes that these files of the snapshot, and this image, have just been read, so that the first check need not.
    /// Where that fails, the first check reads them.
    pub fn note_read(&self, files: impl IntoIterator<Item = (PathBuf, ReadFile)>) -> io::Result<()> {
        let checked: io::Result<BTreeMap<PathBuf, Checked>> = files
            .into_iter()
            .map(|(path, file)| file.moved_to(&path).map(|checked| (path, checked)))
            .collect();
        keep(&self.directory.join(VERIFIED), &checked?)
    }
}

/// The note of what was checked, which is some 1 kB. No link, nor what would be waited for.
fn read_note(note: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    open_regular(note)?.take(MAX_NOTE_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

enum Contents {
    Expected(Checked),
    Other(String),
}

fn contents(
    file: io::Result<File>,
    path: &Path,
    record: &FileRecord,
    before: Option<&Checked>,
    progress: &dyn Progress,
) -> Result<Contents, VerifyError> {
    let failed = |source| VerifyError::Read { path: path.to_owned(), source };
    let file = match file {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Contents::Other("it is missing".to_owned()));
        }
        Err(error) if is_no_file(&error) => {
            return Ok(Contents::Other("it is no regular file".to_owned()));
        }
        file => file.map_err(failed)?,
    };
    let metadata = file.metadata().map_err(failed)?;
    if metadata.len() != record.bytes {
        return Ok(Contents::Other(format!("it has {} bytes instead of {}", metadata.len(), record.bytes)));
    }
    if let Some(checked) =
        before.filter(|checked| checked.same_file(&metadata) && checked.sha256 == record.sha256)
    {
        return Ok(Contents::Expected(checked.clone()));
    }
    progress.step(&format!("checking {}", path.display()));
    let sha256 = Sha256Digest::of_open_file(&file, path, progress).map_err(VerifyError::Digest)?;
    if sha256 != record.sha256 {
        return Ok(Contents::Other("its contents have changed".to_owned()));
    }
    Ok(Contents::Expected(Checked::new(&metadata, sha256)))
}

/// Whether what was to be opened is a link, or something that is no file.
fn is_no_file(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput
        || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
        || error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error())
}

fn keep(note: &Path, checked: &BTreeMap<PathBuf, Checked>) -> io::Result<()> {
    let directory = note.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    serde_json::to_writer(&mut file, checked)?;
    file.flush()?;
    file.persist(note)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use images::Quiet;

    use super::{super::manifest::tests::example, *};

    /// How a snapshot of the host `was` differs from the host `is`.
    fn between(was: (&str, Option<u32>), is: (&str, Option<u32>)) -> Option<Mismatch> {
        let mut manifest = example();
        (manifest.host.cpu, manifest.host.tsc_mhz) = (was.0.to_owned(), was.1);
        let mut host = manifest.host.clone();
        (host.cpu, host.tsc_mhz) = (is.0.to_owned(), is.1);
        let current = Current {
            host,
            kernel: None,
            rootfs: PathBuf::new(),
            environment: BTreeMap::new(),
            protocol_generation: manifest.protocol_generation,
        };
        compare(&manifest, &current)
    }

    #[test]
    fn a_snapshot_is_of_one_processor_or_of_one_template() {
        let (naples, milan) = ("AMD EPYC 7571", "AMD EPYC 7R13");
        assert_eq!(between((naples, None), (naples, None)), None);
        let refused = between((naples, None), (milan, None)).unwrap().to_string();
        assert_eq!(refused, "it was made for the processor AMD EPYC 7571, this host has AMD EPYC 7R13");
        let template = "AuthenticAMD under the template T2A";
        assert_eq!(between((template, None), (template, None)), None);
        assert!(between((template, None), (milan, None)).is_some());
        assert!(between((template, None), ("GenuineIntel under the template T2A", None)).is_some());
    }

    #[test]
    fn the_rate_of_the_counter_may_differ_by_what_measuring_it_does() {
        assert_eq!(between(("max", Some(2445)), ("max", Some(2450))), None);
        let refused = between(("max", Some(2445)), ("max", Some(2600))).unwrap().to_string();
        assert_eq!(refused, "it was made for the processor max at 2445 MHz, this host has max at 2600 MHz");
    }

    /// A directory with the files of a snapshot, all of them empty, and what there is on its host.
    fn on_disk() -> (tempfile::TempDir, Entry, Manifest, Current) {
        let directory = tempfile::tempdir().unwrap();
        let manifest = example();
        let rootfs = directory.path().join("rootfs.ext4");
        let entry = Entry {
            language: manifest.language.clone(),
            size: manifest.size,
            directory: directory.path().to_owned(),
            manifest: Ok(manifest.clone()),
        };
        for path in [entry.device_state(), entry.memory(), rootfs.clone()] {
            fs::write(path, "").unwrap();
        }
        let current = Current {
            host: manifest.host.clone(),
            kernel: None,
            rootfs,
            environment: BTreeMap::new(),
            protocol_generation: manifest.protocol_generation,
        };
        (directory, entry, manifest, current)
    }

    fn fifo(path: &Path) {
        let _ = fs::remove_file(path);
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
            .unwrap();
    }

    #[test]
    fn files_of_a_snapshot_that_are_no_files_are_damaged_and_nobody_waits_for_them() {
        let (directory, entry, manifest, current) = on_disk();
        assert_eq!(entry.check(&manifest, &current, false, &Quiet).unwrap(), None);
        let elsewhere = directory.path().join("elsewhere");
        fs::write(&elsewhere, "").unwrap();
        for path in [entry.device_state(), entry.memory()] {
            let damaged = || {
                let found = entry.check(&manifest, &current, true, &Quiet).unwrap();
                matches!(found, Some(Mismatch::Damaged { path: of, .. }) if of == path)
            };
            fifo(&path);
            assert!(damaged(), "a fifo");
            fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
            assert!(damaged(), "a link");
            fs::remove_file(&path).unwrap();
            fs::write(&path, "").unwrap();
        }
        // The image is the host's own.
        fs::rename(&current.rootfs, directory.path().join("image")).unwrap();
        std::os::unix::fs::symlink("image", &current.rootfs).unwrap();
        assert_eq!(entry.check(&manifest, &current, true, &Quiet).unwrap(), None);
    }

    #[test]
    fn a_note_that_is_no_note_is_neither_waited_for_nor_followed_nor_read_to_its_end() {
        let (directory, entry, manifest, current) = on_disk();
        let note = directory.path().join(VERIFIED);
        let is_sound = || entry.check(&manifest, &current, false, &Quiet).unwrap().is_none();
        fifo(&note);
        assert!(read_note(&note).is_err() && is_sound(), "a fifo");
        fs::remove_file(&note).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &note).unwrap();
        assert!(read_note(&note).is_err() && is_sound(), "a link");
        fs::remove_file(&note).unwrap();
        fs::File::create(&note).unwrap().set_len(1 << 40).unwrap();
        assert!(is_sound(), "a long one");
        assert!(fs::metadata(&note).unwrap().len() < MAX_NOTE_BYTES, "it was replaced by a true one");
    }
}
