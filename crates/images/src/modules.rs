//! Collects the kernel modules that the guest needs, with their dependencies, in the order in which to load them.
//!
//! The directory is one that `dpkg-deb -x` unpacked: `depmod` never ran, so there is no `modules.dep`, and each
//! module's own `.modinfo` section tells what it depends on. Modules come out decompressed, because the guest's
//! `init_module` reads plain ELF only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::compression::Compression;
use crate::elf::Elf;
use crate::staging::read_regular;

/// A module has at most some megabytes.
const MODULE_LIMIT_BYTES: usize = 64 << 20;

/// And all that are collected a few more.
const MODULES_LIMIT_BYTES: usize = 256 << 20;

/// The longest list of what is built in, in bytes.
const BUILT_IN_LIMIT_BYTES: u64 = 4 << 20;

/// The most modules of a guest.
pub(crate) const MAX_MODULES: usize = 100;

/// Deeper than any directory of `lib/modules`; ends the search in a tree with a loop of symbolic links.
const DIRECTORY_DEPTH_LIMIT: usize = 16;

/// A module that the guest wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WantedModule {
    /// Its name; `-` and `_` are the same.
    pub name: &'static str,
    /// Whether the guest cannot work without it.
    pub required: bool,
}

/// What the guest agent needs to find its disk and its channel, and to lay a writable layer over the disk.
pub const GUEST_MODULES: [WantedModule; 5] = [
    WantedModule { name: "virtio_mmio", required: true },
    WantedModule { name: "virtio_blk", required: true },
    // Only Firecracker's channel is a vsock; QEMU's is a console port.
    WantedModule { name: "vmw_vsock_virtio_transport", required: false },
    WantedModule { name: "virtio_console", required: true },
    WantedModule { name: "overlay", required: true },
];

/// A kernel module, decompressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelModule {
    /// Its name, with `_`.
    pub name: String,
    /// The ELF file.
    pub bytes: Vec<u8>,
}

/// The modules could not be collected.
#[derive(Debug, thiserror::Error)]
pub enum ModulesError {
    /// A file or directory cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A module cannot be decompressed.
    #[error("cannot decompress {}", path.display())]
    Decompress {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A module is not an ELF file with a `.modinfo` section.
    #[error("{} is not a kernel module", path.display())]
    NotModule {
        /// Which.
        path: PathBuf,
    },
    /// A module is neither built in nor among the files.
    #[error("kernel module {name} is neither built in nor in {}", directory.display())]
    Missing {
        /// Which.
        name: String,
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// There are more than any guest needs.
    #[error("kernel module {name} is one of more than {MAX_MODULES}")]
    TooMany {
        /// One of them.
        name: String,
    },
    /// Modules depend on each other in a circle.
    #[error("kernel module {name} depends on itself")]
    Circular {
        /// One of them.
        name: String,
    },
}

impl ModulesError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { path, source } => crate::staging::io_hint(path, source),
            Self::Decompress { .. }
            | Self::NotModule { .. }
            | Self::Circular { .. }
            | Self::TooMany { .. } => Some("unpack the kernel's package again".to_owned()),
            Self::Missing { name, .. } => Some(format!(
                "use a kernel that has {name}, such as Debian's linux-image-cloud-amd64, and the lib/modules/<release> \
                 directory that belongs to it"
            )),
        }
    }
}

/// Returns the `wanted` modules and what they depend on, each after its own dependencies, without those that are
/// built into the kernel. `directory` is `lib/modules/<release>`.
pub fn collect_modules(directory: &Path, wanted: &[WantedModule]) -> Result<Vec<KernelModule>, ModulesError> {
    let mut collector = Collector {
        directory,
        built_in: read_built_in(directory)?,
        files: find_files(directory)?,
        pending: BTreeSet::new(),
        collected: Vec::new(),
        bytes_left: MODULES_LIMIT_BYTES,
    };
    for module in wanted {
        let name = normalise(module.name);
        if module.required || collector.files.contains_key(&name) {
            collector.collect(&name)?;
        }
    }
    Ok(collector.collected)
}

struct Collector<'a> {
    directory: &'a Path,
    built_in: BTreeSet<String>,
    files: BTreeMap<String, PathBuf>,
    /// Modules whose dependencies are being collected.
    pending: BTreeSet<String>,
    collected: Vec<KernelModule>,
    /// How much more there may be in all of them.
    bytes_left: usize,
}

impl Collector<'_> {
    fn collect(&mut self, name: &str) -> Result<(), ModulesError> {
        if self.built_in.contains(name) || self.collected.iter().any(|module| module.name == name) {
            return Ok(());
        }
        let Some(path) = self.files.get(name) else {
            return Err(ModulesError::Missing {
                name: name.to_owned(),
                directory: self.directory.to_owned(),
            });
        };
        if !self.pending.insert(name.to_owned()) {
            return Err(ModulesError::Circular { name: name.to_owned() });
        }
        // Those that wait for what they depend on are in memory as well, and on the stack.
        if self.pending.len() + self.collected.len() > MAX_MODULES {
            return Err(ModulesError::TooMany { name: name.to_owned() });
        }
        let bytes = read_module(path, self.bytes_left)?;
        self.bytes_left = self.bytes_left.saturating_sub(bytes.len());
        let dependencies =
            read_dependencies(&bytes).ok_or_else(|| ModulesError::NotModule { path: path.clone() })?;
        for dependency in dependencies {
            self.collect(&dependency)?;
        }
        self.pending.remove(name);
        self.collected.push(KernelModule { name: name.to_owned(), bytes });
        Ok(())
    }
}

fn normalise(name: &str) -> String {
    name.replace('-', "_")
}

/// The module's name in a path such as `kernel/fs/overlayfs/overlay.ko.xz`.
fn module_name(path: &Path) -> Option<String> {
    let file_name = path.file_name()?.to_str()?;
    let (stem, suffix) = file_name.split_once(".ko")?;
    matches!(suffix, "" | ".xz" | ".zst" | ".gz").then(|| normalise(stem))
}

fn read_built_in(directory: &Path) -> Result<BTreeSet<String>, ModulesError> {
    let path = directory.join("modules.builtin");
    let text =
        read_regular(&path, BUILT_IN_LIMIT_BYTES).map_err(|source| ModulesError::Read { path, source })?;
    Ok(String::from_utf8_lossy(&text).lines().filter_map(|line| module_name(Path::new(line))).collect())
}

fn find_files(directory: &Path) -> Result<BTreeMap<String, PathBuf>, ModulesError> {
    let mut files = BTreeMap::new();
    let mut directories = vec![(directory.to_owned(), 0)];
    while let Some((directory, depth)) = directories.pop() {
        let failed = |source| ModulesError::Read { path: directory.clone(), source };
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            // `build` and `source` are symbolic links to kernel headers: not followed.
            if entry.file_type().map_err(failed)?.is_dir() && depth < DIRECTORY_DEPTH_LIMIT {
                directories.push((path, depth + 1));
            } else if let Some(name) = module_name(&path) {
                files.insert(name, path);
            }
        }
    }
    Ok(files)
}

/// Reads a module that has no more than `left` bytes, in the file and decompressed.
fn read_module(path: &Path, left: usize) -> Result<Vec<u8>, ModulesError> {
    let limit = left.min(MODULE_LIMIT_BYTES);
    let bytes = read_regular(path, limit as u64)
        .map_err(|source| ModulesError::Read { path: path.to_owned(), source })?;
    match Compression::detect(&bytes) {
        None => Ok(bytes),
        Some(compression) => compression
            .decompress(&bytes, limit)
            .map_err(|source| ModulesError::Decompress { path: path.to_owned(), source }),
    }
}

/// The names in `depends=` of the section `.modinfo`, a list of NUL-terminated `key=value`.
pub(crate) fn read_dependencies(module: &[u8]) -> Option<Vec<String>> {
    let information = Elf::parse(module)?.section(".modinfo")?;
    let depends = information.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(b"depends="))?;
    let names = std::str::from_utf8(depends).ok()?;
    Some(names.split(',').filter(|name| !name.is_empty()).map(normalise).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compression::synthetic::compress;
    use crate::elf::{MACHINE_X86_64, synthetic::elf};

    fn wanted(name: &'static str, required: bool) -> WantedModule {
        WantedModule { name, required }
    }

    fn modules_directory(modules: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("temporary directory");
        fs::create_dir_all(directory.path().join("kernel/drivers")).expect("directories");
        fs::write(directory.path().join("modules.builtin"), "kernel/lib/crc-t10dif.ko\n").expect("write");
        for (file, depends) in modules {
            let module = elf(MACHINE_X86_64, None, format!("name=x\0depends={depends}\0").as_bytes());
            let bytes = match file.rsplit_once('.') {
                Some((_, "xz")) => compress(Compression::Xz, &module),
                Some((_, "zst")) => compress(Compression::Zstd, &module),
                Some((_, "gz")) => compress(Compression::Gzip, &module),
                _ => module,
            };
            fs::write(directory.path().join("kernel/drivers").join(file), bytes).expect("write");
        }
        directory
    }

    fn names(modules: &[KernelModule]) -> Vec<&str> {
        modules.iter().map(|module| module.name.as_str()).collect()
    }

    #[test]
    fn dependencies_come_before_the_modules_that_need_them() {
        let directory = modules_directory(&[
            ("disk-driver.ko.xz", "bus,crc_t10dif"),
            ("bus.ko.zst", "ring-buffer"),
            ("ring_buffer.ko.gz", ""),
            ("layer.ko", "ring_buffer"),
            ("unused.ko", "absent"),
        ]);
        let wanted = [wanted("disk_driver", true), wanted("layer", true), wanted("crc-t10dif", true)];
        let modules = collect_modules(directory.path(), &wanted).expect("modules");
        assert_eq!(names(&modules), ["ring_buffer", "bus", "disk_driver", "layer"]);
        assert!(modules.iter().all(|module| module.bytes.starts_with(b"\x7fELF")));
    }

    #[test]
    fn only_optional_modules_may_be_absent() {
        let directory = modules_directory(&[("layer.ko", "")]);
        let modules = collect_modules(directory.path(), &[wanted("vsock", false), wanted("layer", true)]);
        assert_eq!(names(&modules.expect("modules")), ["layer"]);
        let error = collect_modules(directory.path(), &[wanted("vsock", true)]).expect_err("missing");
        assert!(matches!(error, ModulesError::Missing { ref name, .. } if name == "vsock"), "{error}");
    }

    #[test]
    fn circles_and_damaged_modules_are_errors() {
        let directory = modules_directory(&[("a.ko", "b"), ("b.ko", "a"), ("c.ko", "")]);
        let outcome = collect_modules(directory.path(), &[wanted("a", true)]);
        assert!(matches!(outcome, Err(ModulesError::Circular { .. })));
        fs::write(directory.path().join("kernel/drivers/c.ko"), "text").expect("write");
        let outcome = collect_modules(directory.path(), &[wanted("c", true)]);
        assert!(matches!(outcome, Err(ModulesError::NotModule { .. })));
    }

    #[test]
    fn a_chain_of_any_length_and_modules_of_any_size_are_given_up() {
        let names: Vec<(String, String)> =
            (0..2000).map(|number| (format!("m{number}.ko"), format!("m{}", number + 1))).collect();
        let chain: Vec<(&str, &str)> =
            names.iter().map(|(file, next)| (file.as_str(), next.as_str())).collect();
        let directory = modules_directory(&chain);
        let outcome = collect_modules(directory.path(), &[wanted("m0", true)]);
        assert!(matches!(outcome, Err(ModulesError::TooMany { .. })), "{outcome:?}");
        // The last of them need nothing more than themselves.
        let last = directory.path().join("kernel/drivers/m1999.ko");
        fs::write(&last, elf(MACHINE_X86_64, None, b"depends=\0")).expect("write");
        let outcome = collect_modules(directory.path(), &[wanted("m1950", true)]);
        assert_eq!(outcome.expect("modules").len(), 50);

        assert!(read_module(&last, 100).is_err());
        assert!(read_module(&last, 100_000).is_ok());
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let directory = modules_directory(&[]);
        let path = directory.path().join("kernel/drivers/endless.ko");
        std::os::unix::fs::symlink("/dev/zero", &path).expect("link");
        let outcome = collect_modules(directory.path(), &[wanted("endless", true)]);
        assert!(matches!(outcome, Err(ModulesError::Read { .. })), "{outcome:?}");
    }
}
