//! The lab's system: a disk with Debian on it, its kernel, and an initramfs that finds the disk. Made once.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use images::{
    Sha256Digest,
    kernel::extract_vmlinux,
    modules::{WantedModule, collect_modules},
};
use rustix::fs::{FlockOperation, flock};

const SUITE: &str = "bookworm";

/// What the lab is made of: the kernel that guests have too, what our program starts, and what the lab itself needs.
const PACKAGES: [&str; 10] = [
    "busybox-static",
    "cpio",
    "e2fsprogs",
    "kmod",
    "linux-image-6.12-cloud-amd64",
    "mount",
    "python3",
    "qemu-system-x86",
    "strace",
    "util-linux",
];

/// The module without which the kernel does not find its disk.
const DISK_DRIVER: WantedModule = WantedModule { name: "virtio_blk", required: true };

const INITRAMFS_INIT: &str = include_str!("../../lab/initramfs-init");
const LAB_INIT: &str = include_str!("../../lab/lab-init");

/// Packs the initramfs, in the lab's own tree, where the programs for it are.
const PACK_INITRAMFS: &str = "cd /initramfs && find . | cpio --quiet -o -H newc > /initramfs.cpio";

/// Free space on the system's disk, in KiB.
const ROOM_KIB: u64 = 256 << 10;

/// The lab's system.
#[derive(Clone, Debug)]
pub struct LabDisk(PathBuf);

impl LabDisk {
    /// The one in `directory`, made there unless it is there already.
    pub fn prepared(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        let lock = fs::File::create(directory.join("lock")).context("make the lab's lock")?;
        flock(&lock, FlockOperation::LockExclusive).context("lock the lab")?;
        let recipe = [SUITE, &PACKAGES.join(" "), INITRAMFS_INIT, LAB_INIT, PACK_INITRAMFS].join("\n");
        let key = Sha256Digest::of_bytes(recipe.as_bytes());
        let name = format!("system-{}", &key.as_str()[..16]);
        let system = Self(directory.join(&name));
        if !system.0.exists() {
            ensure!(
                rustix::process::geteuid().is_root(),
                "only root can make the lab: run make test-kvm as root"
            );
            for older in fs::read_dir(directory).context("list the lab's directory")?.flatten() {
                if older.path().is_dir() {
                    fs::remove_dir_all(older.path()).context("remove an older lab")?;
                }
            }
            eprintln!("making the lab's disk from Debian's packages, once");
            let staging = directory.join("unfinished");
            make(&staging)?;
            fs::rename(&staging, &system.0).context("put the lab's disk in place")?;
        }
        Ok(system)
    }

    /// The disk's image.
    pub(super) fn disk(&self) -> PathBuf {
        self.0.join("disk.ext4")
    }

    /// The kernel, as QEMU starts it soonest: uncompressed.
    pub(super) fn kernel(&self) -> PathBuf {
        self.0.join("vmlinux")
    }

    /// The initramfs.
    pub(super) fn initramfs(&self) -> PathBuf {
        self.0.join("initramfs.cpio")
    }
}

fn make(staging: &Path) -> Result<()> {
    let tree = staging.join("tree");
    fs::create_dir_all(staging).context("make the directory of the lab's disk")?;
    run(Command::new("mmdebstrap")
        .args(["--quiet", "--mode=root", "--format=directory", "--variant=apt"])
        .arg("--dpkgopt=force-unsafe-io")
        .arg(format!("--include={}", PACKAGES.join(",")))
        .arg(SUITE)
        .arg(&tree)
        .env("TMPDIR", staging))?;

    let release = only_entry(&tree.join("lib/modules"))?;
    let image =
        fs::read(tree.join("boot").join(format!("vmlinuz-{release}"))).context("read the lab's kernel")?;
    let vmlinux = extract_vmlinux(&image).context("unpack the lab's kernel")?;
    fs::write(staging.join("vmlinux"), vmlinux).context("write the lab's kernel")?;

    let initramfs = tree.join("initramfs");
    for directory in ["bin", "dev", "disk", "modules", "proc"] {
        fs::create_dir_all(initramfs.join(directory)).context("make the initramfs")?;
    }
    let modules = collect_modules(&tree.join("lib/modules").join(&release), &[DISK_DRIVER])?;
    for (index, module) in modules.iter().enumerate() {
        fs::write(initramfs.join(format!("modules/{index:02}-{}.ko", module.name)), &module.bytes)?;
    }
    fs::copy(tree.join("bin/busybox"), initramfs.join("bin/busybox")).context("copy busybox")?;
    write_program(&initramfs.join("init"), INITRAMFS_INIT)?;
    run(Command::new("chroot").arg(&tree).args(["sh", "-c", PACK_INITRAMFS]))?;
    fs::rename(tree.join("initramfs.cpio"), staging.join("initramfs.cpio")).context("keep the initramfs")?;

    write_program(&tree.join("sbin/lab-init"), LAB_INIT)?;
    fs::create_dir_all(tree.join("lab"))?;
    for needless in
        ["initramfs", "boot", "var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man"]
    {
        fs::remove_dir_all(tree.join(needless)).with_context(|| format!("remove {needless}"))?;
    }
    make_disk(&tree, &staging.join("disk.ext4"), ROOM_KIB)?;
    fs::remove_dir_all(&tree).context("remove the lab's tree")
}

/// Makes an ext4 image of a directory's files, with free space besides.
pub(super) fn make_disk(tree: &Path, disk: &Path, room_kib: u64) -> Result<()> {
    let measured =
        Command::new("du").args(["-sk", "--apparent-size"]).arg(tree).output().context("run du")?;
    let measured = String::from_utf8_lossy(&measured.stdout).into_owned();
    let used: u64 =
        measured.split_whitespace().next().and_then(|kib| kib.parse().ok()).context("du says nothing")?;
    // A tenth for what the file system itself takes.
    let size_kib = used + used / 10 + room_kib;
    run(Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-E", "root_owner=0:0", "-d"])
        .arg(tree)
        .arg(disk)
        .arg(format!("{size_kib}k"))
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"))
}

fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("run {name}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} failed ({}): {stderr}", output.status);
    Ok(())
}

fn only_entry(directory: &Path) -> Result<String> {
    let names: Vec<_> = fs::read_dir(directory)
        .with_context(|| format!("list {}", directory.display()))?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    ensure!(names.len() == 1, "{} holds {names:?} and not one kernel's modules", directory.display());
    Ok(names[0].clone())
}

fn write_program(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).context("make it executable")
}
