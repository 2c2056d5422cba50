//! Creates images from Debian's archive and looks inside them, through a loop mount. Needs root and the network.

use std::path::{Path, PathBuf};
use std::process::Command;

use images::Quiet;
use images::rootfs::{self, CreateRootfs, CreateRootfsError, RootfsImage};

const PYTHON: [&str; 18] = [
    "libstdc++6",
    "ca-certificates",
    "libc-bin",
    "python3-pip",
    "base-files",
    "base-passwd",
    "bash",
    "coreutils",
    "dash",
    "findutils",
    "grep",
    "sed",
    "tzdata",
    "netbase",
    "media-types",
    "python3",
    "python3-distutils",
    "python3-lib2to3",
];

/// Imports every module of the standard library that Debian ships.
const IMPORT_ALL: &str = r#"
import importlib, pkgutil, sys, warnings
warnings.simplefilter("ignore")
# Not part of python3 in Debian, or not of this operating system.
absent = {"ensurepip", "idlelib", "tkinter", "turtle", "turtledemo", "_tkinter", "antigravity", "this", "msilib",
    "_msi", "msvcrt", "winreg", "winsound", "nt", "ntpath", "_winapi", "_overlapped", "_scproxy", "dbm", "_dbm", "_gdbm",
    "venv", "test"}
failed = []
for name in sorted(sys.stdlib_module_names - absent):
    try:
        importlib.import_module(name)
    except Exception as error:
        failed.append(f"{name}: {error!r}")
print("failed:", failed)
import sqlite3, ssl, ctypes, lzma, bz2, zoneinfo, multiprocessing, socket, uuid, decimal, curses, readline, pwd
assert sqlite3.connect(":memory:").execute("select 1").fetchone() == (1,)
assert zoneinfo.ZoneInfo("Europe/Berlin")
assert pwd.getpwnam("nobody").pw_uid == 65534
assert socket.gethostbyname("localhost") == "127.0.0.1"
assert not failed, failed
assert importlib.import_module("json").__cached__ and __import__("os").path.exists(importlib.import_module("json").__cached__)
"#;

/// A read-only mount, undone when dropped.
struct Mount {
    directory: tempfile::TempDir,
}

impl Mount {
    fn new(image: &Path) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let status = Command::new("mount").args(["-o", "loop,ro"]).arg(image).arg(directory.path()).status();
        assert!(status.expect("mount").success());
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output =
            Command::new("chroot").arg(self.directory.path()).args(arguments).output().expect("chroot");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _status = Command::new("umount").arg(self.directory.path()).status();
    }
}

fn request(output: &Path, extra: &[&str], size_mib: Option<u64>) -> CreateRootfs {
    CreateRootfs {
        packages: PYTHON.iter().chain(extra).map(|name| (*name).to_owned()).collect(),
        size_mib,
        output: output.to_owned(),
        suite: "bookworm".to_owned(),
        mirror: None,
    }
}

fn check_summary(directory: &Path, image: &RootfsImage) {
    let images = rootfs::list(directory).expect("list");
    assert_eq!(images.len(), 1);
    assert_eq!((images[0].language.as_str(), &images[0].problem), ("python", &None));
    let details = images[0].details.as_ref().expect("details");
    assert_eq!((&details.sha256, details.size_bytes), (&image.sha256, image.size_bytes));
    assert_eq!(rootfs::inspect(&image.path).expect("inspect"), image.size_bytes);
    let names: Vec<_> = std::fs::read_dir(directory)
        .expect("directory")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8"))
        .filter(|name| name.starts_with(".tmp-"))
        .collect();
    assert!(names.is_empty(), "temporary files are left: {names:?}");
}

#[test]
fn a_plain_python_image_has_the_whole_standard_library_and_a_shell() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let output = rootfs::image_path(directory.path(), "python");
    let image = rootfs::create(&request(&output, &[], None), &Quiet).expect("create");
    check_summary(directory.path(), &image);
    let mount = Mount::new(&image.path);
    mount.run(&["/usr/bin/python3", "-c", IMPORT_ALL]);
    assert!(mount.run(&["/bin/ls", "/"]).contains("usr"));
    assert_eq!(mount.run(&["/bin/sh", "-c", "date +%Z; id -un; echo a b | sed s/a/c/"]), "UTC\nroot\nc b\n");
    for link in ["bin", "lib", "lib64", "sbin"] {
        assert_eq!(std::fs::read_link(mount.path(link)).expect("link"), Path::new("usr").join(link));
    }
    // Without the marker that would keep pip from installing (PEP 668), and with certificates for its downloads.
    assert!(mount.run(&["/usr/bin/pip3", "list", "--disable-pip-version-check"]).contains("pip"));
    assert!(!mount.path("usr/lib/python3.11/EXTERNALLY-MANAGED").exists());
    let certificates =
        std::fs::read_to_string(mount.path("etc/ssl/certs/ca-certificates.crt")).expect("file");
    assert!(certificates.matches("BEGIN CERTIFICATE").count() > 100);
    assert_eq!(std::fs::read_dir(mount.path("dev")).expect("dev").count(), 0);
    assert_eq!(std::fs::read_to_string(mount.path("etc/hostname")).expect("file"), "sandbox\n");
}

#[test]
fn packages_that_need_their_maintainer_scripts_work() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let output = rootfs::image_path(directory.path(), "python");
    let extra = rootfs::map_packages("python", &["numpy".to_owned()]).expect("names");
    assert_eq!(extra, ["python3-numpy"]);
    let image = rootfs::create(&request(&output, &["python3-numpy"], Some(400)), &Quiet).expect("create");
    assert_eq!(image.size_bytes, 400 << 20);
    check_summary(directory.path(), &image);
    let mount = Mount::new(&image.path);
    mount.run(&["/usr/bin/python3", "-c", IMPORT_ALL]);
    let program = "import numpy; print(numpy.linalg.inv([[1, 2], [3, 4]])[1][1].round(3))";
    assert_eq!(mount.run(&["/usr/bin/python3", "-c", program]), "-0.5\n");
}

#[test]
fn an_unknown_package_fails_with_a_hint_and_leaves_nothing() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let output = rootfs::image_path(directory.path(), "python");
    let error = rootfs::create(&request(&output, &["no-such-package"], None), &Quiet).expect_err("unknown");
    assert!(matches!(error, CreateRootfsError::Tree(_)), "{error:?}");
    assert!(error.hint().expect("hint").contains("apt-cache search"), "{error:?}");
    let left = std::fs::read_dir(directory.path()).expect("directory").count();
    assert_eq!(left, 1, "only the lock file may be left");
}
