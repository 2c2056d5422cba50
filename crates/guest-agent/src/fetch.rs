//! Files that a program left and its request asks for.
//!
//! The program has ended, and what it left is its work: links, fifos, files that grow, directories without end, names that
//! are no text. Nothing is followed out of the job directory, nothing but a regular file is read, and all that is looked at
//! is bounded, in number and in time.

use std::{
    collections::{BTreeMap, VecDeque},
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

/// How many entries of directories are looked at.
const MOST_ENTRIES: usize = 20_000;

/// How long that, and the reading of what was found, may take: it comes on top of the program's time, as do its end and the
/// way of what it wrote, and all of that is to be over 1.5 s later.
const MOST_TIME: Duration = Duration::from_millis(700);

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
    let deadline = Instant::now() + MOST_TIME;
    let (names, mut complete) = matching(&root, globs, deadline);
    let (mut files, mut omitted, mut bytes) = (0, 0, 0);
    for (name, called) in names {
        if Instant::now() > deadline {
            complete = false;
            break;
        }
        let found = match called {
            Called::This => look(&root, &name, files, MAX_FETCHED_BYTES - bytes),
            Called::Like => Some((0, Content::Omitted(Omitted::Unreadable))),
        };
        let Some((size, content)) = found else { continue };
        match &content {
            Content::Bytes(content) => {
                files += 1;
                bytes += content.0.len();
            }
            // The last note is for all that there is no other for.
            Content::Omitted(_) if omitted + 1 == MAX_OMITTED => {
                complete = false;
                if files == MAX_FETCHED {
                    break;
                }
                continue;
            }
            Content::Omitted(_) => omitted += 1,
        }
        send(Fetched { index, name, size, content })?;
    }
    if !complete {
        send(Fetched { index, name: ".".to_owned(), size: 0, content: Content::Omitted(Omitted::TooMany) })?;
    }
    Ok(())
}

/// Whether a name that is told is that of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Called {
    /// It is.
    This,
    /// It is what can be said of a name that is no text, or too long: of one file or several.
    Like,
}

/// The names that one of `globs` matches, and whether all were looked at. A path without anything special is among them
/// whether there is such a file or not.
fn matching(root: &OwnedFd, globs: &[String], deadline: Instant) -> (BTreeMap<String, Called>, bool) {
    let is_glob = |glob: &&String| glob.contains(SPECIAL);
    let mut names: BTreeMap<String, Called> =
        globs.iter().filter(|glob| !is_glob(glob)).map(|name| (name.clone(), Called::This)).collect();
    let globs: Vec<&String> = globs.iter().filter(is_glob).collect();
    // How deep a file may lie that is matched.
    let depth = |glob: &&String| {
        if glob.contains("**") { usize::MAX } else { glob.matches('/').count() }
    };
    let Some(depth) = globs.iter().map(depth).max() else { return (names, true) };
    let is_late = || Instant::now() > deadline;
    let (mut entries, mut complete) = (0, true);
    let mut directories = VecDeque::from([(Vec::new(), 0)]);
    while let Some((directory, level)) = directories.pop_front() {
        // Also of directories in which there is nothing.
        if is_late() {
            return (names, false);
        }
        for (name, kind) in listed(root, &directory) {
            entries += 1;
            if entries > MOST_ENTRIES || is_late() {
                return (names, false);
            }
            let path = if directory.is_empty() { name } else { [&directory, &b"/"[..], &name].concat() };
            match kind {
                // Nothing beneath it could be told.
                FileType::Directory if level < depth && path.len() > MAX_FILE_NAME_BYTES => complete = false,
                FileType::Directory if level < depth => directories.push_back((path, level + 1)),
                FileType::RegularFile => {
                    for glob in &globs {
                        if is_late() {
                            return (names, false);
                        }
                        if fast_glob::glob_match(glob, &path) {
                            let (name, called) = told(path);
                            let known = names.entry(name).or_insert(called);
                            // The name of a file is that of no other.
                            if called == Called::This {
                                *known = called;
                            }
                            break;
                        }
                    }
                }
                _ => {}
            }
        }
    }
    (names, complete)
}

/// A path as the protocol has names.
fn told(path: Vec<u8>) -> (String, Called) {
    match String::from_utf8(path) {
        Ok(name) if name.len() <= MAX_FILE_NAME_BYTES => (name, Called::This),
        Ok(name) => (beginning(&name), Called::Like),
        Err(error) => (beginning(&String::from_utf8_lossy(error.as_bytes())), Called::Like),
    }
}

/// What the protocol has room for of a name, and a sign that there was more.
fn beginning(name: &str) -> String {
    const MORE: &str = "…";
    if name.len() <= MAX_FILE_NAME_BYTES {
        return name.to_owned();
    }
    let most = MAX_FILE_NAME_BYTES - MORE.len();
    let end = (0..=most).rev().find(|&end| name.is_char_boundary(end)).unwrap_or_default();
    [&name[..end], MORE].concat()
}

/// What lies in a directory beneath `root`, as far as it can be read.
fn listed(root: &OwnedFd, directory: &[u8]) -> impl Iterator<Item = (Vec<u8>, FileType)> {
    let path = if directory.is_empty() { b"." } else { directory };
    let opened = openat2(root, path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), beneath());
    let entries = opened.and_then(Dir::new).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let name = entry.file_name().to_bytes();
        (name != b"." && name != b"..").then(|| (name.to_owned(), entry.file_type()))
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
    use std::{
        ffi::OsStr,
        fs,
        os::unix::{ffi::OsStrExt as _, fs::symlink},
    };

    use rustix::fs::{CWD, mkdirat, mkfifoat, openat};

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
    fn what_no_note_is_left_for_is_told_in_one_and_what_can_be_sent_is() {
        let many: Vec<String> = (0..MAX_FETCHED + 100).map(|number| format!("{number:03}")).collect();
        let files = fetched(&tree(&many.iter().map(String::as_str).collect::<Vec<_>>()), &["*"]);
        assert_eq!(files.len(), MAX_FETCHED + MAX_OMITTED);
        assert!(ends_with_the_note(&files));

        let tree = tree(&["z.txt"]);
        for number in 0..=MAX_OMITTED {
            let big = File::create(tree.path().join(format!("a{number:02}"))).unwrap();
            big.set_len(MAX_FETCHED_BYTES as u64 + 1).unwrap();
        }
        let files = fetched(&tree, &["*"]);
        assert_eq!(files.len(), MAX_OMITTED + 1);
        let [.., sent, _] = &files[..] else { panic!("{files:?}") };
        assert!(sent.name == "z.txt" && matches!(sent.content, Content::Bytes(_)), "{sent:?}");
        assert!(ends_with_the_note(&files));
    }

    fn ends_with_the_note(files: &[Fetched]) -> bool {
        let note =
            Fetched { index: 3, name: ".".to_owned(), size: 0, content: Content::Omitted(Omitted::TooMany) };
        files.last() == Some(&note)
    }

    #[test]
    fn directories_without_end_are_given_up_and_that_is_told() {
        let tree = tree(&["z/a.png"]);
        for number in 0..MOST_ENTRIES {
            fs::write(tree.path().join(format!("{number}")), "").unwrap();
        }
        assert!(ends_with_the_note(&fetched(&tree, &["**/*.png"])));
    }

    #[test]
    fn names_that_are_no_text_count_as_others_do() {
        let tree = tree(&["a.png"]);
        for number in 0..=u32::try_from(MOST_ENTRIES).unwrap() {
            let name = [&b"\xff"[..], format!("{number}").as_bytes()].concat();
            fs::write(tree.path().join(OsStr::from_bytes(&name)), "").unwrap();
        }
        assert!(ends_with_the_note(&fetched(&tree, &["*.png"])));
    }

    #[test]
    fn a_name_that_cannot_be_told_stands_with_what_can() {
        let tree = tree(&["a.png", "caf\u{fffd}.png"]);
        let write = |name: &[u8]| fs::write(tree.path().join(OsStr::from_bytes(name)), "x").unwrap();
        write(b"caf\xe9.png");
        write(b"caf\xe8.txt");
        write(b"\xff1.png");
        write(b"\xfe1.png");
        let long = format!("{}/{}", "d".repeat(200), "ü".repeat(60));
        fs::create_dir(tree.path().join("d".repeat(200))).unwrap();
        write(format!("{long}.png").as_bytes());
        let files = fetched(&tree, &["**/*.png"]);
        let told: Vec<_> = files.iter().map(|file| (file.name.as_str(), &file.content)).collect();
        let unreadable = Content::Omitted(Omitted::Unreadable);
        let cut = format!("{}/{}…", "d".repeat(200), "ü".repeat(25));
        assert_eq!(
            told,
            [
                ("a.png", &Content::Bytes("a.png".into())),
                // The name of a file comes before what is like it.
                ("caf\u{fffd}.png", &Content::Bytes("caf\u{fffd}.png".into())),
                (cut.as_str(), &unreadable),
                // Of two files.
                ("\u{fffd}1.png", &unreadable),
            ]
        );
    }

    #[test]
    fn what_lies_deeper_than_names_reach_is_told_of_as_a_whole() {
        let tree = tree(&["a.png"]);
        let mut directory: OwnedFd = File::open(tree.path()).unwrap().into();
        for _ in 0..40 {
            mkdirat(&directory, "directory", Mode::RWXU).unwrap();
            directory = openat(&directory, "directory", OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        let files = fetched(&tree, &["**/*.png"]);
        assert_eq!(files[0].name, "a.png");
        assert!(files.len() == 2 && ends_with_the_note(&files));
        assert_eq!(names(&tree, &["*.png"]), ["a.png"], "nobody asked for what lies deeper");
    }

    #[test]
    fn after_its_time_nothing_is_looked_at_whatever_there_is() {
        let tree = tree(&["a.png"]);
        for number in 0..100 {
            fs::create_dir(tree.path().join(format!("{number}"))).unwrap();
        }
        let root: OwnedFd = File::open(tree.path()).unwrap().into();
        let globs = ["**/*".to_owned(), "named".to_owned()];
        let past = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        let (names, complete) = matching(&root, &globs, past);
        assert_eq!(names.into_keys().collect::<Vec<_>>(), ["named"]);
        assert!(!complete);
    }

    #[test]
    fn patterns_that_multiply_end_in_time() {
        // The host lets in none of these.
        let name = "a".repeat(200);
        let tree = tree(&[&name]);
        for number in 0..100 {
            fs::write(tree.path().join(format!("{name}{number}")), "").unwrap();
        }
        let glob = format!("{}b", "{a,a,a}".repeat(12));
        let since = Instant::now();
        assert!(ends_with_the_note(&fetched(&tree, &[glob.as_str(); 32])));
        assert!(since.elapsed() < MOST_TIME * 10, "{:?}", since.elapsed());
    }
}
