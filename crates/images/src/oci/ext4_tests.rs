//! Trees written as file systems, and looked at by `e2fsck` and by the kernel, which mounts them (as root).

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{lgetxattr, llistxattr};

use super::ext4::{self, WriteImageError};
use super::layer::{Attributes, Entry, EntryKind};
use super::spool::Spooled;
use super::tree::{Kind, NodeId, ROOT, Tree};
use crate::digest::Sha256Digest;
use crate::progress::Quiet;

const LARGE_BYTES: u64 = 300 << 20;

/// Entries, and a layer that holds nothing but their contents.
struct Files {
    entries: Vec<Entry>,
    contents: File,
    length: u64,
}

impl Files {
    fn new() -> Self {
        let contents = tempfile::tempfile().expect("temporary files can be made");
        Self { entries: Vec::new(), contents, length: 0 }
    }

    fn add(&mut self, path: &str, kind: EntryKind, attributes: Attributes) {
        self.entries.push(Entry { path: path.as_bytes().to_vec(), kind, attributes });
    }

    /// A file of this length, whose contents are those of no other.
    fn file(&mut self, path: &str, length: u64, attributes: Attributes) {
        let offset = self.length;
        let mut number = offset;
        let mut chunk = Vec::with_capacity(1 << 20);
        while self.length < offset + length {
            chunk.clear();
            let most = (offset + length - self.length).min(1 << 20);
            while (chunk.len() as u64) < most {
                number =
                    number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                chunk.extend_from_slice(&number.to_le_bytes());
            }
            chunk.truncate(usize::try_from(most).expect("it is small"));
            self.contents.write_all_at(&chunk, self.length).expect("there is room");
            self.length += most;
        }
        self.add(path, EntryKind::File { offset, length }, attributes);
    }

    fn merged(self) -> (Tree, [Spooled; 1]) {
        let mut tree = Tree::new(1_600_000_000);
        tree.apply(0, self.entries).expect("applies");
        (tree, [Spooled { file: self.contents, digest: Sha256Digest::of_bytes(b"") }])
    }
}

fn attributes(mode: u16, uid: u32) -> Attributes {
    Attributes { mode, uid, gid: uid / 2, modified: (1_700_000_000, 123_456_789), xattrs: Vec::new() }
}

fn with_xattrs(xattrs: &[(&str, &[u8])]) -> Attributes {
    let xattrs = xattrs.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect();
    Attributes { xattrs, ..attributes(0o640, 1) }
}

/// Some of all that images have, and that file systems do in more than one way.
fn many_files(large_bytes: u64) -> Files {
    const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let mut files = Files::new();
    files.add("crowded", EntryKind::Directory, attributes(0o1777, 0));
    for number in 0..3000 {
        let path = format!("crowded/{number}-{}", "n".repeat(number % 200));
        files.file(&path, number as u64 % 30, attributes(0o644, 1));
    }
    for number in 0..2000 {
        files.file(
            &format!("tree/{}/{}/{number}", number % 17, number % 5),
            number * 13 % 9000,
            attributes(0o600, 2),
        );
    }
    for length in [0, 1, 4095, 4096, 4097, 8192] {
        files.file(&format!("length-{length}"), length, attributes(0o444, 3));
    }
    files.file("large", large_bytes, attributes(0o644, 70_000));
    files.file("set-user-id", 10, attributes(0o6755, 0));
    files.file("most-of-all-owners", 1, attributes(0o644, u32::MAX - 1));
    for length in [1, 58, 59, 60, 61, 255, 4095] {
        files.add(
            &format!("link-{length}"),
            EntryKind::SymbolicLink(vec![b't'; length]),
            attributes(0o777, 4),
        );
    }
    files.add("fifo", EntryKind::Fifo, attributes(0o622, 5));
    files.file("capable", 10, with_xattrs(&[("security.capability", CAPABILITY)]));
    let large = vec![b'x'; 3000];
    files.file(
        "described",
        10,
        with_xattrs(&[("trusted.t", b"\0\n"), ("user.empty", b""), ("user.large", &large)]),
    );
    files.add("described-directory", EntryKind::Directory, with_xattrs(&[("user.a", b"b")]));
    for name in ["hard/one", "hard/two", "three"] {
        files.add(name, EntryKind::HardLink(b"large".to_vec()), Attributes::default());
    }
    files.add("hard-link", EntryKind::HardLink(b"link-255".to_vec()), Attributes::default());
    let old = Attributes { modified: (0, 1), ..attributes(0o755, 0) };
    files.add(&"deep/".repeat(200), EntryKind::Directory, old);
    let new = Attributes { modified: (super::limits::MAX_TIME, 999_999_999), ..attributes(0o644, 0) };
    files.file("from-the-future", 1, new);
    files.file(&"é".repeat(127), 1, attributes(0o644, 0));
    files
}

fn is_clean(image: &Path) {
    let checked = Command::new("/sbin/e2fsck").args(["-f", "-n"]).arg(image).output().expect("e2fsprogs");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

/// An image that the kernel has mounted, until dropped.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new(image: &Path) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let mounted = Command::new("mount")
            .args(["-t", "ext4", "-o", "loop,ro"])
            .args([image, directory.path()])
            .output()
            .expect("there is mount");
        assert!(mounted.status.success(), "this test mounts, as root: {mounted:?}");
        Self(directory)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.path()).status();
        assert!(unmounted.expect("there is umount").success());
    }
}

fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let (mut names, mut value) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let length = llistxattr(path, &mut names[..]).expect("the kernel lists them");
    let names = String::from_utf8(names[..length].to_vec()).expect("UTF-8");
    let mut found: Vec<(String, Vec<u8>)> = names
        .split_terminator('\0')
        .map(|name| {
            let length = lgetxattr(path, name, &mut value[..]).expect("it was listed");
            (name.to_owned(), value[..length].to_vec())
        })
        .collect();
    found.sort();
    found
}

fn same_contents(path: &Path, contents: &File, mut offset: u64, length: u64) {
    let mut file = File::open(path).expect("it can be opened");
    let (mut found, mut expected) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let end = offset + length;
    loop {
        let count = file.read(&mut found).expect("it can be read");
        if count == 0 {
            break;
        }
        contents.read_exact_at(&mut expected[..count], offset).expect("no longer than it is to be");
        assert!(found[..count] == expected[..count], "{}", path.display());
        offset += count as u64;
    }
    assert_eq!(offset, end, "{}", path.display());
}

/// Compares a file, and all in it, with what the kernel says; returns how many there are.
fn same(tree: &Tree, id: NodeId, path: &Path, contents: &File) -> usize {
    let node = tree.node(id);
    let metadata =
        fs::symlink_metadata(path).unwrap_or_else(|error| unreachable!("{}: {error}", path.display()));
    let attributes = &node.attributes;
    let said = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
    let mode = if matches!(node.kind, Kind::SymbolicLink(_)) { 0o777 } else { u32::from(attributes.mode) };
    assert_eq!(said, (mode, attributes.uid, attributes.gid), "{}", path.display());
    let modified = (metadata.mtime(), u32::try_from(metadata.mtime_nsec()).expect("below a second"));
    assert_eq!(modified, attributes.modified, "{}", path.display());
    assert_eq!(xattrs(path), attributes.xattrs, "{}", path.display());
    match &node.kind {
        Kind::Directory(names) => {
            let mut found: Vec<String> = fs::read_dir(path)
                .expect("a directory")
                .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
                .filter(|name| id != ROOT || name != "lost+found")
                .collect();
            found.sort();
            let expected: Vec<&str> = names.keys().map(|name| &**name).collect();
            assert_eq!(found, expected, "{}", path.display());
            1 + names.iter().map(|(name, id)| same(tree, *id, &path.join(&**name), contents)).sum::<usize>()
        }
        Kind::File(content) => {
            assert_eq!(metadata.len(), content.length, "{}", path.display());
            same_contents(path, contents, content.offset, content.length);
            1
        }
        Kind::SymbolicLink(target) => {
            assert_eq!(fs::read_link(path).expect("a link"), PathBuf::from(&**target));
            1
        }
        Kind::Fifo => {
            assert!(metadata.file_type().is_fifo(), "{}", path.display());
            1
        }
    }
}

#[test]
fn the_kernel_finds_every_file_as_it_was_in_the_layers() {
    let (tree, layers) = many_files(LARGE_BYTES).merged();
    let directory = tempfile::tempdir().expect("temporary directory");
    let image = directory.path().join("image");
    ext4::write(&tree, &layers, &image, None, &Quiet).expect("written");
    is_clean(&image);
    let mounted = Mounted::new(&image);
    let count = same(&tree, ROOT, mounted.0.path(), &layers[0].file);
    assert!(count > 5000, "{count}");
    let inode = |name: &str| fs::symlink_metadata(mounted.0.path().join(name)).expect("it is there").ino();
    assert_eq!([inode("hard/one"), inode("hard/two"), inode("three")], [inode("large"); 3]);
    assert_eq!(inode("hard-link"), inode("link-255"));
    assert_eq!(fs::metadata(mounted.0.path().join("large")).expect("it is there").nlink(), 4);
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let digests = ["one", "two"].map(|name| {
        let (tree, layers) = many_files(1 << 20).merged();
        let image = directory.path().join(name);
        ext4::write(&tree, &layers, &image, Some(100), &Quiet).expect("written");
        assert_eq!(fs::metadata(&image).expect("an image").len(), 100 << 20);
        Sha256Digest::of_bytes(&fs::read(&image).expect("an image"))
    });
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn a_size_that_is_too_small_names_the_smallest_that_does() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut crowd = Files::new();
    for number in 0..20_000 {
        crowd.file(&format!("{number}"), 0, attributes(0o644, 0));
    }
    // More than a group of blocks has inodes, where it takes no more blocks than a group has.
    let mut small = Files::new();
    for number in 0..70_000 {
        small.add(&format!("{number}"), EntryKind::Fifo, attributes(0o644, 0));
    }
    let (tree, layers) = small.merged();
    let image = directory.path().join("small");
    ext4::write(&tree, &layers, &image, None, &Quiet).expect("there is a size that does");
    is_clean(&image);
    for (name, files) in [("many", many_files(40 << 20)), ("crowd", crowd), ("none", Files::new())] {
        let (tree, layers) = files.merged();
        let image = directory.path().join(name);
        let refused = ext4::write(&tree, &layers, &image, Some(1), &Quiet).expect_err("too small");
        let WriteImageError::TooSmall { requested_mib: 1, needed_mib } = refused else {
            unreachable!("{refused}")
        };
        assert!(!image.exists(), "nothing is written of what does not fit");
        ext4::write(&tree, &layers, &image, Some(needed_mib), &Quiet).expect("it fits");
        is_clean(&image);
        fs::remove_file(&image).expect("it is there");
        let refused =
            ext4::write(&tree, &layers, &image, Some(needed_mib - 1), &Quiet).expect_err("too small");
        let WriteImageError::TooSmall { needed_mib: again, .. } = refused else { unreachable!("{refused}") };
        assert_eq!(again, needed_mib, "{name}");
    }
}

#[test]
fn what_no_file_system_holds_is_refused() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let image = directory.path().join("image");
    let mut files = Files::new();
    files.file("a", 1, attributes(0o644, 0));
    for number in 0..65_001 {
        files.add(&format!("links/{number}"), EntryKind::HardLink(b"a".to_vec()), Attributes::default());
    }
    let (tree, layers) = files.merged();
    for size_mib in [None, Some(64)] {
        let refused = ext4::write(&tree, &layers, &image, size_mib, &Quiet).expect_err("too many links");
        assert!(matches!(refused, WriteImageError::Layout(_)), "{refused}");
    }
    let mut files = Files::new();
    files.add("huge", EntryKind::File { offset: 0, length: 1 << 50 }, attributes(0o644, 0));
    let (tree, layers) = files.merged();
    assert!(matches!(ext4::write(&tree, &layers, &image, None, &Quiet), Err(WriteImageError::TooLarge)));
    assert!(matches!(ext4::write(&tree, &layers, &image, Some(100), &Quiet), Err(WriteImageError::TooLarge)));
}

#[test]
fn more_directories_than_links_can_count_are_written() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let image = directory.path().join("image");
    let mut files = Files::new();
    for number in 0..66_000 {
        files.add(&format!("many/{number}"), EntryKind::Directory, attributes(0o755, 0));
    }
    let (tree, layers) = files.merged();
    ext4::write(&tree, &layers, &image, None, &Quiet).expect("written");
    is_clean(&image);
}
