//! File systems that a test mounts: small ones, and read-only ones.

use std::{path::Path, process::Command};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};

/// Something mounted at a directory of its own. Dropping it unmounts it.
pub struct Mounted(tempfile::TempDir);

impl Mounted {
    /// A small file system in memory.
    pub fn small(mebibytes: u32) -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let options = format!("size={mebibytes}m,mode=0755");
        let options = std::ffi::CString::new(options).expect("no zero bytes");
        mount("e2e", directory.path(), "tmpfs", MountFlags::empty(), options.as_c_str()).expect("mount");
        Self(directory)
    }

    /// Another directory, read-only.
    pub fn read_only(of: &Path) -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        mount_bind(of, directory.path()).expect("mount");
        let mounted = Self(directory);
        mount_remount(mounted.0.path(), MountFlags::BIND | MountFlags::RDONLY, c"").expect("mount");
        mounted
    }

    /// The file system in an image, read-only, by way of a loop device that goes with it.
    pub fn image(image: &Path) -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let output = Command::new("mount").args(["-o", "loop,ro"]).args([image, directory.path()]).output();
        let output = output.expect("there is mount");
        assert!(output.status.success(), "cannot mount {}: {output:?}", image.display());
        Self(directory)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(self.0.path(), UnmountFlags::DETACH).expect("it was mounted");
    }
}
