//! Disks for tests: small ones, which fill up, and others that cannot be written.

use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};

/// Something mounted at a directory of its own. Dropping it unmounts it.
pub struct Mounted(tempfile::TempDir);

impl Mounted {
    /// A small file system in memory.
    pub fn small(mebibytes: u32) -> Self {
        let directory = directory();
        let options = format!("size={mebibytes}m,mode=0755");
        let options = std::ffi::CString::new(options).expect("it has no NUL");
        mount("e2e", directory.path(), "tmpfs", MountFlags::empty(), options.as_c_str())
            .expect("tests run as root, who may mount");
        Self(directory)
    }

    /// Another directory, read-only.
    pub fn read_only(of: &Path) -> Self {
        let directory = directory();
        mount_bind(of, directory.path()).expect("tests run as root, who may mount");
        let mounted = Self(directory);
        mount_remount(mounted.0.path(), MountFlags::BIND | MountFlags::RDONLY, c"")
            .expect("tests run as root, who may mount");
        mounted
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("temporary directories can be made")
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(self.0.path(), UnmountFlags::DETACH).expect("it was mounted");
    }
}
