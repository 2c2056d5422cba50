//! The initramfs: the guest agent as `/init`, and the kernel modules that it loads, as a cpio archive.
//!
//! The archive is the same, bit for bit, for the same agent and modules: snapshots are tied to its digest. It is not
//! compressed, because the guest would spend more time on that than the host saves.
//!
//! A "newc" archive is a row of entries, each of a header of 110 ASCII characters, the NUL-terminated name and the
//! contents, both padded to four bytes (`Documentation/driver-api/early-userspace/buffer-format.rst`).

use crate::modules::{KernelModule, MAX_MODULES};

/// The guest agent that this binary was built with: a static x86-64 executable.
pub const GUEST_AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/guest-agent"));

/// The agent lies in the memory of every microVM.
const GUEST_AGENT_LIMIT_BYTES: usize = 2 << 20;

const _: () = assert!(GUEST_AGENT.len() <= GUEST_AGENT_LIMIT_BYTES, "the guest agent has outgrown its limit");

/// Mount points that the agent uses, in the order of the archive.
const DIRECTORIES: [&str; 8] = ["dev", "lower", "modules", "newroot", "overlay", "proc", "run", "sys"];

const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;
const REGULAR_FILE: u32 = 0o100_644;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// The archive cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InitramfsError {
    /// More modules than the two digits of their file names can order.
    #[error("{count} kernel modules are more than an initramfs can order")]
    TooManyModules {
        /// How many.
        count: usize,
    },
    /// A file is larger than the archive's format allows.
    #[error("{name} is too large for an initramfs")]
    TooLarge {
        /// Which.
        name: String,
    },
}

impl InitramfsError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some("use one of Debian's cloud kernels".to_owned())
    }
}

/// File names of modules in load order, `NN-name.ko`: the agent loads them sorted by name.
pub fn module_file_names(modules: &[KernelModule]) -> Result<Vec<String>, InitramfsError> {
    if modules.len() > MAX_MODULES {
        return Err(InitramfsError::TooManyModules { count: modules.len() });
    }
    Ok(modules.iter().enumerate().map(|(index, module)| format!("{index:02}-{}.ko", module.name)).collect())
}

/// Packs `agent` and `modules`, which are in load order.
pub fn build_initramfs(agent: &[u8], modules: &[KernelModule]) -> Result<Vec<u8>, InitramfsError> {
    let mut archive = Archive::default();
    for directory in DIRECTORIES {
        archive.add(directory, DIRECTORY, (0, 0), &[])?;
    }
    // Without `/dev/console` PID 1 starts without any output.
    archive.add("dev/console", CHARACTER_DEVICE, (5, 1), &[])?;
    archive.add("dev/null", CHARACTER_DEVICE | 0o066, (1, 3), &[])?;
    archive.add("init", EXECUTABLE, (0, 0), agent)?;
    for (name, module) in module_file_names(modules)?.iter().zip(modules) {
        archive.add(&format!("modules/{name}"), REGULAR_FILE, (0, 0), &module.bytes)?;
    }
    archive.finish()
}

#[derive(Debug, Default)]
struct Archive {
    bytes: Vec<u8>,
    last_inode: u32,
}

impl Archive {
    fn add(
        &mut self,
        name: &str,
        mode: u32,
        device: (u32, u32),
        contents: &[u8],
    ) -> Result<(), InitramfsError> {
        self.last_inode += 1;
        let links = if mode & 0o170_000 == 0o040_000 { 2 } else { 1 };
        self.write_entry(name, [self.last_inode, mode, links], device, contents)
    }

    fn finish(mut self) -> Result<Vec<u8>, InitramfsError> {
        self.write_entry("TRAILER!!!", [0, 0, 1], (0, 0), &[])?;
        Ok(self.bytes)
    }

    fn write_entry(
        &mut self,
        name: &str,
        [inode, mode, links]: [u32; 3],
        (major, minor): (u32, u32),
        contents: &[u8],
    ) -> Result<(), InitramfsError> {
        let too_large = |_| InitramfsError::TooLarge { name: name.to_owned() };
        let size = u32::try_from(contents.len()).map_err(too_large)?;
        let name_size = u32::try_from(name.len() + 1).map_err(too_large)?;
        // inode, mode, uid, gid, links, mtime, size, device of the file system, device, name size, checksum
        let fields = [inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Entry {
        name: String,
        mode: u32,
        mtime: u32,
        device: (u32, u32),
        contents: Vec<u8>,
    }

    fn parse(mut bytes: &[u8]) -> Vec<Entry> {
        let mut entries = Vec::new();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let field = |index: usize| {
                let digits = std::str::from_utf8(&bytes[6 + index * 8..14 + index * 8]).expect("ASCII");
                u32::from_str_radix(digits, 16).expect("hexadecimal")
            };
            let name_end = 110 + field(11) as usize;
            let contents_start = name_end.next_multiple_of(4);
            let contents_end = contents_start + field(6) as usize;
            let name = String::from_utf8(bytes[110..name_end - 1].to_vec()).expect("UTF-8");
            assert_eq!(bytes[name_end - 1], 0);
            if name == "TRAILER!!!" {
                assert_eq!(contents_end.next_multiple_of(4), bytes.len());
                return entries;
            }
            entries.push(Entry {
                name,
                mode: field(1),
                mtime: field(5),
                device: (field(9), field(10)),
                contents: bytes[contents_start..contents_end].to_vec(),
            });
            bytes = &bytes[contents_end.next_multiple_of(4)..];
        }
    }

    fn modules() -> Vec<KernelModule> {
        ["virtio", "overlay"].map(|name| KernelModule { name: name.to_owned(), bytes: name.into() }).to_vec()
    }

    #[test]
    fn the_archive_holds_agent_devices_directories_and_ordered_modules() {
        let entries = parse(&build_initramfs(b"agent", &modules()).expect("archive"));
        let find = |name: &str| entries.iter().find(|entry| entry.name == name).expect("entry");
        assert_eq!((find("init").mode, &find("init").contents[..]), (0o100_755, &b"agent"[..]));
        assert_eq!((find("dev/console").mode, find("dev/console").device), (0o020_600, (5, 1)));
        assert_eq!((find("dev/null").mode, find("dev/null").device), (0o020_666, (1, 3)));
        for directory in ["dev", "proc", "sys", "run", "lower", "overlay", "newroot", "modules"] {
            assert_eq!(find(directory).mode, 0o040_755, "{directory}");
        }
        assert_eq!(find("modules/00-virtio.ko").contents, b"virtio");
        assert_eq!(find("modules/01-overlay.ko").contents, b"overlay");
    }

    #[test]
    fn parents_precede_their_children_and_time_stamps_are_zero() {
        let entries = parse(&build_initramfs(b"agent", &modules()).expect("archive"));
        for (index, entry) in entries.iter().enumerate() {
            assert_eq!(entry.mtime, 0);
            if let Some((parent, _)) = entry.name.rsplit_once('/') {
                assert!(entries[..index].iter().any(|earlier| earlier.name == parent), "{}", entry.name);
            }
        }
    }

    #[test]
    fn the_same_input_gives_the_same_archive() {
        let build = || build_initramfs(GUEST_AGENT, &modules()).expect("archive");
        assert!(build() == build());
    }

    #[test]
    fn more_modules_than_two_digits_can_order_are_refused() {
        let many = vec![modules().remove(0); 101];
        assert_eq!(build_initramfs(b"", &many), Err(InitramfsError::TooManyModules { count: 101 }));
    }

    #[test]
    fn the_agent_names_no_directory_of_the_machine_that_built_it() {
        let named = |path: &str| GUEST_AGENT.windows(path.len()).any(|window| window == path.as_bytes());
        let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/").replace("crates/images/", "");
        assert!(!named(&workspace), "{workspace}");
        // Messages of panics do name files: those of other crates under the name that Cargo's directory gets.
        let registry = "/registry/src/";
        let positions = GUEST_AGENT.windows(registry.len()).enumerate();
        let mut prefixes = positions
            .filter(|(_, window)| *window == registry.as_bytes())
            .map(|(at, _)| &GUEST_AGENT[at.saturating_sub("/cargo".len())..at])
            .peekable();
        assert!(prefixes.peek().is_some(), "no file of another crate is named at all");
        assert!(prefixes.all(|prefix| prefix == b"/cargo"), "the agent names Cargo's own directory");
    }

    #[test]
    fn the_guest_agent_is_a_static_executable() {
        let elf = crate::elf::Elf::parse(GUEST_AGENT).expect("elf");
        assert_eq!(elf.machine(), Some(crate::elf::MACHINE_X86_64));
        assert_eq!(elf.section(".interp"), None, "the agent must not need a dynamic linker");
    }
}
