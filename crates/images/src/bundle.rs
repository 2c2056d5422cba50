//! The kernel bundle: a directory with all that a microVM boots from, except the rootfs image.
//!
//! ```text
//! <directory>/
//!   vmlinux            ELF kernel
//!   initramfs.cpio     guest agent and modules
//!   modules/NN-name.ko modules in load order, kept to rebuild the initramfs when only the agent changed
//!   bundle.json        BundleManifest; written last
//! ```
//!
//! A bundle is replaced as a whole, by an exchange of directories: no reader sees a kernel with another kernel's
//! modules.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::debian_kernel::{self, DebianKernelError};
use crate::digest::Sha256Digest;
use crate::initramfs::{GUEST_AGENT, InitramfsError, build_initramfs, module_file_names};
use crate::kernel::{KernelError, extract_vmlinux};
use crate::modules::{GUEST_MODULES, KernelModule, ModulesError, collect_modules};
use crate::progress::Progress;
use crate::staging::{
    OutputLock, io_hint, parent, read_regular, replace_directory, sync_directory, write_synced,
};

const FORMAT_VERSION: u32 = 1;

const VMLINUX: &str = "vmlinux";
const INITRAMFS: &str = "initramfs.cpio";
const MODULES: &str = "modules";
const MANIFEST: &str = "bundle.json";

/// The longest kernel image, in bytes. One with all modules built in is some 60 MB.
const KERNEL_LIMIT_BYTES: u64 = 512 << 20;

/// The longest manifest, in bytes. One is some 600.
const MAX_MANIFEST_BYTES: u64 = 64 << 10;

/// What `bundle.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleManifest {
    /// Version of the layout of the directory and of this file.
    pub format_version: u32,
    /// As `uname -r` prints it in the guest.
    pub kernel_release: String,
    /// Where the kernel came from, for people to read.
    pub source: String,
    /// Digest of `vmlinux`.
    pub vmlinux_sha256: Sha256Digest,
    /// Size of `vmlinux`.
    pub vmlinux_bytes: u64,
    /// Digest of `initramfs.cpio`.
    pub initramfs_sha256: Sha256Digest,
    /// Size of `initramfs.cpio`.
    pub initramfs_bytes: u64,
    /// Digest of the guest agent in the initramfs.
    pub agent_sha256: Sha256Digest,
}

impl BundleManifest {
    /// The manifest that `text` is; `path` is where it came from.
    pub(crate) fn parse(text: &[u8], path: &Path) -> Result<Self, OpenKernelError> {
        let malformed = |source| OpenKernelError::Manifest { path: path.to_owned(), source };
        let manifest: Self = serde_json::from_slice(text).map_err(malformed)?;
        if manifest.format_version == FORMAT_VERSION {
            Ok(manifest)
        } else {
            Err(OpenKernelError::Version { path: path.to_owned(), found: manifest.format_version })
        }
    }
}

/// Where a kernel is taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelSource {
    /// A package of the Debian release that `apt` is set up for. It is downloaded, not installed.
    Debian {
        /// A kernel package or metapackage; one of Debian's cloud kernels if absent.
        package: Option<String>,
    },
    /// Files that exist already.
    Files {
        /// A `vmlinux` or a `bzImage`.
        kernel: PathBuf,
        /// The directory `lib/modules/<release>` that belongs to it.
        modules: PathBuf,
    },
}

/// A directory that holds a guest kernel and the initramfs made for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelBundle {
    directory: PathBuf,
    manifest: BundleManifest,
}

impl KernelBundle {
    /// Opens the bundle in `directory`. Presence and sizes are checked, digests are not: use [`Self::verify`].
    pub fn open(directory: &Path) -> Result<Self, OpenKernelError> {
        let path = directory.join(MANIFEST);
        let text = match read_regular(&path, MAX_MANIFEST_BYTES) {
            Ok(text) => text,
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                return Err(OpenKernelError::Absent { directory: directory.to_owned() });
            }
            Err(source) => return Err(OpenKernelError::Read { path, source }),
        };
        let manifest = BundleManifest::parse(&text, &path)?;
        let sizes = [(VMLINUX, manifest.vmlinux_bytes), (INITRAMFS, manifest.initramfs_bytes)];
        for (name, expected) in sizes {
            let path = directory.join(name);
            let found = match fs::metadata(&path) {
                Ok(metadata) => metadata.len(),
                Err(source) => return Err(OpenKernelError::Read { path, source }),
            };
            if found != expected {
                return Err(OpenKernelError::Size { path, found, expected });
            }
        }
        Ok(Self { directory: directory.to_owned(), manifest })
    }

    /// Makes a bundle from `source` and puts it at `directory`, in the place of an earlier one.
    ///
    /// Takes some seconds with a Debian kernel, most of them for the download.
    pub fn prepare(
        source: &KernelSource,
        directory: &Path,
        progress: &dyn Progress,
    ) -> Result<Self, PrepareKernelError> {
        let staging = Staging::begin(directory)?;
        let files = match source {
            KernelSource::Debian { package } => {
                let unpacked = staging.path().join("package");
                debian_kernel::download(package.as_deref(), &unpacked, progress)?
            }
            KernelSource::Files { kernel, modules } => {
                let description = format!("{} and {}", kernel.display(), modules.display());
                debian_kernel::KernelFiles { kernel: kernel.clone(), modules: modules.clone(), description }
            }
        };
        let kernel_release = release_of(&files.modules)?;
        progress.step("unpacking the kernel");
        let image = read_regular(&files.kernel, KERNEL_LIMIT_BYTES)
            .map_err(|source| PrepareKernelError::Read { path: files.kernel.clone(), source })?;
        let vmlinux = extract_vmlinux(&image)
            .map_err(|source| PrepareKernelError::Kernel { path: files.kernel.clone(), source })?;
        progress.step("collecting kernel modules");
        let modules = collect_modules(&files.modules, &GUEST_MODULES)?;
        progress.step("writing the kernel bundle");
        let bundle = staging.bundle()?;
        let written = |path: PathBuf, outcome: io::Result<()>| {
            outcome.map_err(|source| PrepareKernelError::Write { path, source })
        };
        written(bundle.join(VMLINUX), write_synced(&bundle.join(VMLINUX), &vmlinux))?;
        written(bundle.join(MODULES), fs::create_dir(bundle.join(MODULES)))?;
        for (name, module) in module_file_names(&modules)?.iter().zip(&modules) {
            let path = bundle.join(MODULES).join(name);
            let outcome = write_synced(&path, &module.bytes);
            written(path, outcome)?;
        }
        let kernel = KernelIdentity {
            kernel_release,
            source: files.description,
            vmlinux_sha256: Sha256Digest::of_bytes(&vmlinux),
            vmlinux_bytes: vmlinux.len() as u64,
        };
        staging.finish(directory, kernel, &modules)
    }

    /// Rebuilds the initramfs in `directory` with this program's agent, if it holds another one, from the modules
    /// that the bundle keeps. Needs no network.
    pub fn refresh(directory: &Path, progress: &dyn Progress) -> Result<Self, PrepareKernelError> {
        let staging = Staging::begin(directory)?;
        let current = Self::open(directory)?;
        if current.is_current() {
            return Ok(current);
        }
        progress.step("rebuilding the initramfs");
        let bundle = staging.bundle()?;
        let link = |name: &Path| {
            let path = bundle.join(name);
            fs::hard_link(directory.join(name), &path)
                .map_err(|source| PrepareKernelError::Write { path, source })
        };
        link(Path::new(VMLINUX))?;
        let path = bundle.join(MODULES);
        fs::create_dir(&path).map_err(|source| PrepareKernelError::Write { path, source })?;
        let mut modules = Vec::new();
        for name in module_files(&directory.join(MODULES))? {
            let path = directory.join(MODULES).join(&name);
            let bytes = fs::read(&path).map_err(|source| PrepareKernelError::Read { path, source })?;
            link(&Path::new(MODULES).join(&name))?;
            let name = name.get(3..).and_then(|name| name.strip_suffix(".ko")).unwrap_or(&name);
            modules.push(KernelModule { name: name.to_owned(), bytes });
        }
        let BundleManifest { kernel_release, source, vmlinux_sha256, vmlinux_bytes, .. } = current.manifest;
        let kernel = KernelIdentity { kernel_release, source, vmlinux_sha256, vmlinux_bytes };
        staging.finish(directory, kernel, &modules)
    }

    /// Reads kernel and initramfs and compares their digests with the manifest.
    pub fn verify(&self, progress: &dyn Progress) -> Result<(), OpenKernelError> {
        let digests = [
            (self.vmlinux(), &self.manifest.vmlinux_sha256),
            (self.initramfs(), &self.manifest.initramfs_sha256),
        ];
        for (path, expected) in digests {
            progress.step(&format!("checking {}", path.display()));
            let found = Sha256Digest::of_file(&path, progress)?;
            if found != *expected {
                return Err(OpenKernelError::Digest { path });
            }
        }
        Ok(())
    }

    /// Whether the initramfs was built with the guest agent of this program.
    pub fn is_current(&self) -> bool {
        self.manifest.agent_sha256 == *agent_digest()
    }

    /// The bundle's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The ELF kernel.
    pub fn vmlinux(&self) -> PathBuf {
        self.directory.join(VMLINUX)
    }

    /// The initramfs.
    pub fn initramfs(&self) -> PathBuf {
        self.directory.join(INITRAMFS)
    }

    /// What the bundle says of itself.
    pub fn manifest(&self) -> &BundleManifest {
        &self.manifest
    }
}

fn agent_digest() -> &'static Sha256Digest {
    static DIGEST: OnceLock<Sha256Digest> = OnceLock::new();
    DIGEST.get_or_init(|| Sha256Digest::of_bytes(GUEST_AGENT))
}

/// The release is the name of the directory of modules, by which the kernel itself finds them.
fn release_of(modules: &Path) -> Result<String, PrepareKernelError> {
    let failed = |source| PrepareKernelError::Read { path: modules.to_owned(), source };
    // Resolved, so that `.` and symbolic links have a name too.
    let resolved = modules.canonicalize().map_err(failed)?;
    let name = resolved.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))
}

/// Names of the kept modules, in load order.
fn module_files(directory: &Path) -> Result<Vec<String>, PrepareKernelError> {
    let failed = |source| PrepareKernelError::Read { path: directory.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        names.push(name.into_string().map_err(|_| failed(io::ErrorKind::InvalidData.into()))?);
    }
    names.sort();
    Ok(names)
}

/// What a manifest says of the kernel alone.
struct KernelIdentity {
    kernel_release: String,
    source: String,
    vmlinux_sha256: Sha256Digest,
    vmlinux_bytes: u64,
}

/// A bundle that is being written beside its destination. Removed when dropped.
struct Staging {
    directory: tempfile::TempDir,
    _lock: OutputLock,
}

impl Staging {
    fn begin(destination: &Path) -> Result<Self, PrepareKernelError> {
        let directory = parent(destination);
        fs::create_dir_all(directory)
            .map_err(|source| PrepareKernelError::Write { path: directory.to_owned(), source })?;
        let failed = |source| PrepareKernelError::Stage { destination: destination.to_owned(), source };
        let lock = OutputLock::acquire(destination).map_err(failed)?;
        let directory = lock.temporary_directory().map_err(failed)?;
        Ok(Self { directory, _lock: lock })
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The new bundle's directory, created.
    fn bundle(&self) -> Result<PathBuf, PrepareKernelError> {
        let path = self.path().join("bundle");
        match fs::create_dir(&path) {
            Ok(()) => Ok(path),
            Err(source) => Err(PrepareKernelError::Write { path, source }),
        }
    }

    /// Adds initramfs and manifest, and puts the bundle in place.
    fn finish(
        self,
        destination: &Path,
        kernel: KernelIdentity,
        modules: &[KernelModule],
    ) -> Result<KernelBundle, PrepareKernelError> {
        let bundle = self.path().join("bundle");
        let initramfs = build_initramfs(GUEST_AGENT, modules)?;
        let manifest = BundleManifest {
            format_version: FORMAT_VERSION,
            kernel_release: kernel.kernel_release,
            source: kernel.source,
            vmlinux_sha256: kernel.vmlinux_sha256,
            vmlinux_bytes: kernel.vmlinux_bytes,
            initramfs_sha256: Sha256Digest::of_bytes(&initramfs),
            initramfs_bytes: initramfs.len() as u64,
            agent_sha256: agent_digest().clone(),
        };
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| PrepareKernelError::Write { path, source }
        };
        let path = bundle.join(INITRAMFS);
        write_synced(&path, &initramfs).map_err(failed(&path))?;
        let path = bundle.join(MANIFEST);
        let text = serde_json::to_vec_pretty(&manifest).map_err(|error| failed(&path)(error.into()))?;
        write_synced(&path, &text).map_err(failed(&path))?;
        let path = bundle.join(MODULES);
        sync_directory(&path).map_err(failed(&path))?;
        replace_directory(&bundle, destination).map_err(failed(destination))?;
        Ok(KernelBundle { directory: destination.to_owned(), manifest })
    }
}

/// A bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenKernelError {
    /// There is none.
    #[error("no kernel bundle in {}", directory.display())]
    Absent {
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The manifest is damaged.
    #[error("cannot understand {}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The bundle was made by another version of this program.
    #[error("{} has format version {found}, not {FORMAT_VERSION}", path.display())]
    Version {
        /// The manifest.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// A file is truncated or was replaced.
    #[error("{} has {found} bytes instead of {expected}", path.display())]
    Size {
        /// Which.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// The size in the manifest.
        expected: u64,
    },
    /// A file was changed.
    #[error("{} differs from what was prepared", path.display())]
    Digest {
        /// Which.
        path: PathBuf,
    },
    /// A file's digest cannot be computed.
    #[error("cannot check the kernel bundle")]
    Verify(
        /// Why.
        #[from]
        crate::digest::DigestError,
    ),
}

impl OpenKernelError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { path, source } if source.kind() != io::ErrorKind::NotFound => io_hint(path, source),
            Self::Verify(source) => source.hint(),
            Self::Absent { .. } => Some("prepare a kernel first".to_owned()),
            _ => Some("prepare the kernel again".to_owned()),
        }
    }
}

/// A bundle could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PrepareKernelError {
    /// Debian's package could not be had.
    #[error("cannot get a kernel from Debian")]
    Debian(
        /// Why.
        #[from]
        DebianKernelError,
    ),
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel cannot be used.
    #[error("cannot use the kernel {}", path.display())]
    Kernel {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: KernelError,
    },
    /// The modules cannot be used.
    #[error("cannot collect the kernel's modules")]
    Modules(
        /// Why.
        #[from]
        ModulesError,
    ),
    /// The initramfs cannot be built.
    #[error("cannot build the initramfs")]
    Initramfs(
        /// Why.
        #[from]
        InitramfsError,
    ),
    /// The bundle to refresh cannot be used.
    #[error("cannot refresh the kernel bundle")]
    Open(
        /// Why.
        #[from]
        OpenKernelError,
    ),
    /// The destination is in use, or nothing can be written beside it.
    #[error("cannot begin to write {}", destination.display())]
    Stage {
        /// The bundle's directory.
        destination: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of the bundle cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl PrepareKernelError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Debian(source) => source.hint(),
            Self::Kernel { source, .. } => source.hint(),
            Self::Modules(source) => source.hint(),
            Self::Initramfs(source) => source.hint(),
            Self::Open(source) => source.hint(),
            Self::Read { path, source } | Self::Write { path, source } => io_hint(path, source),
            Self::Stage { destination, source } => io_hint(destination, source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::{MACHINE_X86_64, synthetic::elf};
    use crate::kernel::synthetic::{bz_image, vmlinux};
    use crate::progress::Quiet;

    /// A kernel and its modules, as files.
    fn source(directory: &Path) -> KernelSource {
        let modules = directory.join("lib/modules/6.1.0-test");
        fs::create_dir_all(&modules).expect("directories");
        fs::write(modules.join("modules.builtin"), "kernel/virtio_console.ko\n").expect("write");
        for (name, depends) in
            [("virtio", ""), ("virtio_mmio", "virtio"), ("virtio_blk", "virtio"), ("overlay", "")]
        {
            let module = elf(MACHINE_X86_64, None, format!("depends={depends}\0").as_bytes());
            fs::write(modules.join(format!("{name}.ko")), module).expect("write");
        }
        let kernel = directory.join("vmlinuz");
        fs::write(&kernel, bz_image(&vmlinux())).expect("write");
        KernelSource::Files { kernel, modules }
    }

    fn visible(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .expect("directory")
            .map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_prepared_bundle_can_be_opened_verified_and_prepared_again() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let source = source(directory.path());
        let destination = directory.path().join("out/kernel");
        for _ in 0..2 {
            let bundle = KernelBundle::prepare(&source, &destination, &Quiet).expect("prepare");
            assert_eq!(bundle, KernelBundle::open(&destination).expect("open"));
            bundle.verify(&Quiet).expect("verify");
            assert!(bundle.is_current());
            assert_eq!(bundle.manifest().kernel_release, "6.1.0-test");
        }
        assert_eq!(fs::read(destination.join("vmlinux")).expect("vmlinux"), vmlinux());
        assert_eq!(
            visible(&destination.join("modules")),
            ["00-virtio.ko", "01-virtio_mmio.ko", "02-virtio_blk.ko", "03-overlay.ko"]
        );
        assert_eq!(visible(&directory.path().join("out")), [".lock-kernel", "kernel"]);
    }

    #[test]
    fn refreshing_replaces_another_agent_and_nothing_else() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let destination = directory.path().join("kernel");
        let fresh = KernelBundle::prepare(&source(directory.path()), &destination, &Quiet).expect("prepare");
        let mut manifest = fresh.manifest().clone();
        manifest.agent_sha256 = Sha256Digest::of_bytes(b"older agent");
        manifest.initramfs_bytes = 3;
        fs::write(destination.join("initramfs.cpio"), "old").expect("write");
        fs::write(destination.join("bundle.json"), serde_json::to_vec(&manifest).expect("JSON"))
            .expect("write");
        assert!(!KernelBundle::open(&destination).expect("open").is_current());
        let refreshed = KernelBundle::refresh(&destination, &Quiet).expect("refresh");
        assert_eq!(refreshed, fresh);
        refreshed.verify(&Quiet).expect("verify");
        assert_eq!(visible(&destination.join("modules")).len(), 4);
    }

    #[test]
    fn damaged_bundles_are_refused_with_the_reason() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let destination = directory.path().join("kernel");
        assert!(matches!(KernelBundle::open(&destination), Err(OpenKernelError::Absent { .. })));
        let bundle = KernelBundle::prepare(&source(directory.path()), &destination, &Quiet).expect("prepare");
        let mut bytes = vmlinux();
        bytes[70] ^= 1;
        fs::write(bundle.vmlinux(), &bytes).expect("write");
        assert!(matches!(bundle.verify(&Quiet), Err(OpenKernelError::Digest { .. })));
        fs::write(bundle.vmlinux(), &bytes[1..]).expect("write");
        assert!(matches!(KernelBundle::open(&destination), Err(OpenKernelError::Size { .. })));
        fs::write(destination.join("bundle.json"), "{}").expect("write");
        assert!(matches!(KernelBundle::open(&destination), Err(OpenKernelError::Manifest { .. })));
    }

    #[test]
    fn a_failure_leaves_the_earlier_bundle_and_no_temporary_files() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let destination = directory.path().join("out/kernel");
        let source = source(directory.path());
        KernelBundle::prepare(&source, &destination, &Quiet).expect("prepare");
        fs::remove_file(directory.path().join("lib/modules/6.1.0-test/overlay.ko")).expect("remove");
        let error = KernelBundle::prepare(&source, &destination, &Quiet).expect_err("no overlay");
        assert!(error.hint().expect("hint").contains("overlay"));
        KernelBundle::open(&destination).expect("open").verify(&Quiet).expect("verify");
        assert_eq!(visible(&directory.path().join("out")), [".lock-kernel", "kernel"]);
    }
}
