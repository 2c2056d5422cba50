//! Files that a program left and its request asks for.
//!
//! The program has ended, and what it left is its work: links, fifos, files that grow, directories without end. Nothing is
//! followed out of the job directory, nothing but a regular file is read, and all that is looked at is bounded.

use std::{
    collections::{BTreeSet, VecDeque},
    fs::File,
    io::Read as _,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use protocol::{
    Bytes,
    limits::{MAX_FETCHED, MAX_FETCHED_BYTES, MAX_FILE_NAME_BYTES, MAX_OMITTED},
    message::{Content, Fetched, Omitted},
};
use rustix::{
    fs::{Dir, FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2},
    io::Errno,
};

use crate::fault::{Doing, Fault};

/// How many entries of directories are looked at, and for how long.
const MOST_ENTRIES: usize = 20_000;
const MOST_TIME: Duration = Duration::from_secs(2);

/// What makes a path a glob.
const SPECIAL: [char; 5] = ['*', '?', '[', '{', '\\'];

/// Tells `send` of every file beneath `directory` that one of `globs` names, in order of their names, as files of execution
/// `index`.
pub(crate) fn collect(
    directory: &str,
    index: u32,
    globs: &[String],
    mut send: impl FnMut(Fetched) -> Result<(), Fault>,
) -> Result<(), Fault> {
    if globs.is_empty() {
        return Ok(());
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = match open(directory, flags, Mode::empty()) {
        Ok(root) => root,
        // The program may have removed it, or put something else in its place.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        Err(error) => return Err(error).doing("open the job directory"),
    };
    let (names, complete) = matching(&root, globs);
    let (mut files, mut omitted, mut bytes) = (0, 0, 0);
    for name in names {
        let found = look(&root, &name, files, MAX_FETCHED_BYTES - bytes);
        let Some((size, content)) = found else { continue };
        match &content {
            Content::Bytes(content) => {
                files += 1;
                bytes += content.0.len();
            }
            Content::Omitted(_) => omitted += 1,
        }
        if omitted > MAX_OMITTED {
            return Ok(());
        }
        send(Fetched { index, name, size, content })?;
    }
    if !complete && omitted < MAX_OMITTED {
        send(Fetched { index, name: ".".to_owned(), size: 0, content: Content::Omitted(Omitted::TooMany) })?;
    }
    Ok(())
}

/// The names that one of `globs` matches, and whether all were looked at. A path without anything special is among them
/// whether there is such a file or not.
fn matching(root: &OwnedFd, globs: &[String]) -> (BTreeSet<String>, bool) {
    let is_glob = |glob: &&String| glob.contains(SPECIAL);
    let mut names: BTreeSet<String> = globs.iter().filter(|glob| !is_glob(glob)).cloned().collect();
    let globs: Vec<&String> = globs.iter().filter(is_glob).collect();
    // How deep a file may lie that is matched.
    let depth = |glob: &&String| {
        if glob.contains("**") { usize::MAX } else { glob.matches('/').count() }
    };
    let Some(depth) = globs.iter().map(depth).max() else { return (names, true) };
    let deadline = Instant::now() + MOST_TIME;
    let mut entries = 0;
    let mut directories = VecDeque::from([(String::new(), 0)]);
    while let Some((directory, level)) = directories.pop_front() {
        for (name, kind) in listed(root, &directory) {
            entries += 1;
            if entries > MOST_ENTRIES || Instant::now() > deadline {
                return (names, false);
            }
            let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            if path.len() > MAX_FILE_NAME_BYTES {
                continue;
            }
            match kind {
                FileType::Directory if level < depth => directories.push_back((path, level + 1)),
                FileType::RegularFile if globs.iter().any(|glob| fast_glob::glob_match(glob, &path)) => {
                    names.insert(path);
                }
                _ => {}
            }
        }
    }
    (names, true)
}

/// What lies in a directory beneath `root`, as far as it can be read and its names are text.
fn listed(root: &OwnedFd, directory: &str) -> impl Iterator<Item = (String, FileType)> {
    let path = if directory.is_empty() { "." } else { directory };
    let opened = openat2(root, path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), beneath());
    let entries = opened.and_then(Dir::new).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let name = entry.file_name().to_str().ok()?;
        (name != "." && name != "..").then(|| (name.to_owned(), entry.file_type()))
    })
}

/// The size of a file beneath `root` and what it holds, unless there are as many already or it has more than `most` bytes;
/// nothing where there is no file.
fn look(root: &OwnedFd, name: &str, files: usize, most: usize) -> Option<(u64, Content)> {
    // A fifo would keep whoever opens it waiting.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let omitted = |size, why| Some((size, Content::Omitted(why)));
    let file = match openat2(root, name, flags, Mode::empty(), beneath()) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return None,
        Err(_) => return omitted(0, Omitted::Unreadable),
    };
    let size = match fstat(&file) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
            u64::try_from(stat.st_size).unwrap_or_default()
        }
        _ => return omitted(0, Omitted::Unreadable),
    };
    if files == MAX_FETCHED {
        return omitted(size, Omitted::TooMany);
    }
    if size > most as u64 {
        return omitted(size, Omitted::TooLarge);
    }
    let mut content = Vec::new();
    match File::from(file).take(most as u64 + 1).read_to_end(&mut content) {
        Ok(length) if length > most => omitted(size, Omitted::TooLarge),
        Ok(length) => Some((length as u64, Content::Bytes(Bytes(content)))),
        Err(_) => omitted(size, Omitted::Unreadable),
    }
}

fn beneath() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use rustix::fs::{CWD, mkfifoat};

    use super::*;

    fn fetched(directory: &tempfile::TempDir, globs: &[&str]) -> Vec<Fetched> {
        let globs: Vec<String> = globs.iter().map(|&glob| glob.to_owned()).collect();
        let mut files = Vec::new();
        let path = directory.path().to_str().unwrap();
        collect(path, 3, &globs, |file| {
            files.push(file);
            Ok(())
        })
        .unwrap();
        assert!(files.iter().all(|file| file.index == 3));
        files
    }

    fn names(directory: &tempfile::TempDir, globs: &[&str]) -> Vec<String> {
        fetched(directory, globs).into_iter().map(|file| file.name).collect()
    }

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for file in files {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        directory
    }

    #[test]
    fn globs_match_as_shells_do() {
        // But that `?` is one byte, and that a name may begin with a dot.
        let tree = tree(&["a.png", "b.txt", "out/c.png", "out/deep/d.png", ".hidden.png", "ü.png"]);
        assert_eq!(names(&tree, &["*.png"]), [".hidden.png", "a.png", "ü.png"]);
        assert_eq!(
            names(&tree, &["**/*.png"]),
            [".hidden.png", "a.png", "out/c.png", "out/deep/d.png", "ü.png"]
        );
        assert_eq!(names(&tree, &["out/*"]), ["out/c.png"]);
        assert_eq!(names(&tree, &["?.{txt,png}", "a.*"]), ["a.png", "b.txt"]);
        assert_eq!(names(&tree, &["[ab].*"]), ["a.png", "b.txt"]);
        assert_eq!(names(&tree, &["out/deep/d.png", "none.png", "b.txt/x"]), ["out/deep/d.png"]);
        assert_eq!(names(&tree, &[]), [""; 0]);
    }

    #[test]
    fn a_file_comes_as_it_is() {
        let tree = tree(&["a.bin"]);
        fs::write(tree.path().join("a.bin"), [0, 159, 255]).unwrap();
        let content = Content::Bytes(Bytes(vec![0, 159, 255]));
        assert_eq!(
            fetched(&tree, &["a.bin"]),
            [Fetched { index: 3, name: "a.bin".to_owned(), size: 3, content }]
        );
    }

    #[test]
    fn nothing_is_followed_and_nothing_but_files_is_read() {
        let outside = tree(&["secret"]);
        let tree = tree(&["ok"]);
        symlink(outside.path().join("secret"), tree.path().join("link")).unwrap();
        symlink(outside.path(), tree.path().join("directory")).unwrap();
        symlink("/", tree.path().join("root")).unwrap();
        mkfifoat(CWD, tree.path().join("fifo"), Mode::from_raw_mode(0o644)).unwrap();
        fs::create_dir(tree.path().join("empty")).unwrap();
        assert_eq!(names(&tree, &["**/*", "*"]), ["ok"]);
        for name in ["link", "directory/secret", "root/etc/passwd", "fifo", "empty"] {
            let files = fetched(&tree, &[name]);
            assert!(
                matches!(files[..], [Fetched { content: Content::Omitted(Omitted::Unreadable), .. }]),
                "{name}"
            );
        }
        let name = format!("../{}/secret", outside.path().file_name().unwrap().to_str().unwrap());
        assert!(matches!(fetched(&tree, &[&name])[..], [Fetched { content: Content::Omitted(_), .. }]));
    }

    #[test]
    fn what_is_too_large_or_too_many_is_told_and_not_sent() {
        let names: Vec<String> = (0..MAX_FETCHED + 2).map(|number| format!("{number:03}")).collect();
        let tree = tree(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let big = File::create(tree.path().join("001")).unwrap();
        big.set_len(MAX_FETCHED_BYTES as u64 + 1).unwrap();
        let files = fetched(&tree, &["*"]);
        assert_eq!(files.len(), names.len());
        assert_eq!(files[1].content, Content::Omitted(Omitted::TooLarge));
        assert_eq!(files[1].size, MAX_FETCHED_BYTES as u64 + 1);
        assert!(matches!(files[MAX_FETCHED].content, Content::Bytes(_)));
        assert_eq!(files[MAX_FETCHED + 1].content, Content::Omitted(Omitted::TooMany));
    }

    #[test]
    fn directories_without_end_are_given_up_and_that_is_told() {
        let tree = tree(&["z/a.png"]);
        for number in 0..MOST_ENTRIES {
            fs::write(tree.path().join(format!("{number}")), "").unwrap();
        }
        let files = fetched(&tree, &["**/*.png"]);
        assert_eq!(files.last().unwrap().content, Content::Omitted(Omitted::TooMany));
        assert_eq!(files.last().unwrap().name, ".");
    }
}
