//! Random layers over each other, against a model that knows nothing but whole paths, and as file systems.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use mkext4::reader::Fs;
use mkext4::spec::inode::FileType;
use proptest::prelude::*;
use tar::EntryType;

use super::archives::{Builder, part};
use super::ext4;
use super::limits::MAX_LINKS_FOLLOWED;
use super::spool::Spooled;
use super::tree::{Kind, ROOT, Tree};
use crate::progress::Quiet;

/// An entry of a random layer.
#[derive(Debug, Clone)]
struct Step {
    kind: EntryType,
    path: String,
    target: String,
}

/// What a file is, and a number that no other entry has.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Directory(u32),
    File(u32),
    SymbolicLink(u32, String),
    Fifo(u32),
}

/// Where a directory is.
enum Found {
    At(String),
    Nothing,
    Error,
}

impl Found {
    fn path(self) -> Option<String> {
        match self {
            Self::At(path) => Some(path),
            Self::Nothing | Self::Error => None,
        }
    }
}

/// All files of an image by their paths; the root's is empty.
#[derive(Debug, Clone)]
struct Model(BTreeMap<String, Seen>);

impl Model {
    fn apply(&mut self, layer: &[(u32, Step)]) -> Option<()> {
        let is_whiteout =
            |step: &Step| step.path.rsplit('/').next().is_some_and(|name| name.starts_with(".wh."));
        let names = |path: &str| -> Vec<String> {
            path.split('/').filter(|name| !matches!(*name, "" | ".")).map(str::to_owned).collect()
        };
        let directories: Vec<Vec<String>> = layer
            .iter()
            .filter(|(_, step)| step.kind == EntryType::Directory && !is_whiteout(step))
            .map(|(_, step)| names(&step.path))
            .collect();
        for (_, step) in layer.iter().filter(|(_, step)| is_whiteout(step)) {
            let (parent, name) = split(&step.path);
            let parents = names(parent);
            // Whether the layer puts a directory in the place of a link on the way there.
            let replaces = (1..=parents.len()).any(|count| {
                let (last, above) = parents[..count].split_last().expect("one at least");
                directories.iter().any(|directory| *directory == parents[..count])
                    && self.directory(&above.join("/"), None).path().is_some_and(|above| {
                        matches!(self.0.get(&format!("{above}/{last}")), Some(Seen::SymbolicLink(..)))
                    })
            });
            if replaces {
                continue;
            }
            let parent = match self.directory(parent, None) {
                Found::At(parent) => parent,
                Found::Nothing => continue,
                Found::Error => return None,
            };
            match name {
                ".wh..wh..opq" => self.0.retain(|path, _| !path.starts_with(&format!("{parent}/"))),
                ".wh..wh.plnk" => {}
                name => self.remove(&format!("{parent}/{}", name.trim_start_matches(".wh."))),
            }
        }
        for (number, step) in layer.iter().filter(|(_, step)| !is_whiteout(step)) {
            let (parent, name) = split(&step.path);
            let path = format!("{}/{name}", self.directory(parent, Some(0)).path()?);
            let seen = match step.kind {
                EntryType::Directory => Seen::Directory(*number),
                EntryType::Symlink => Seen::SymbolicLink(*number, step.target.clone()),
                EntryType::Fifo => Seen::Fifo(*number),
                EntryType::Link => {
                    let (parent, name) = split(&step.target);
                    let linked = format!("{}/{name}", self.directory(parent, None).path()?);
                    self.0.get(&linked).filter(|seen| !matches!(seen, Seen::Directory(_)))?.clone()
                }
                _ => Seen::File(*number),
            };
            if !matches!((&seen, self.0.get(&path)), (Seen::Directory(_), Some(Seen::Directory(_)))) {
                self.remove(&path);
            }
            if step.kind != EntryType::Char {
                self.0.insert(path, seen);
            }
        }
        Some(())
    }

    fn remove(&mut self, path: &str) {
        self.0.retain(|other, _| other != path && !other.starts_with(&format!("{path}/")));
    }

    /// The path of a directory without links in it.
    fn directory(&mut self, path: &str, make: Option<u32>) -> Found {
        let mut here = String::new();
        let mut ahead: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            match name.as_str() {
                "" | "." => continue,
                ".." => {
                    here.truncate(here.rfind('/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let next = format!("{here}/{name}");
            match (self.0.get(&next), make) {
                (Some(Seen::Directory(_)), _) => here = next,
                (Some(Seen::SymbolicLink(_, target)), _) => {
                    links += 1;
                    if links > MAX_LINKS_FOLLOWED {
                        return Found::Error;
                    }
                    if target.starts_with('/') {
                        here.clear();
                    }
                    ahead.extend(target.split('/').rev().map(str::to_owned));
                }
                (None, Some(number)) => {
                    self.0.insert(next.clone(), Seen::Directory(number));
                    here = next;
                }
                (Some(_), Some(_)) => return Found::Error,
                (_, None) => return Found::Nothing,
            }
        }
        Found::At(here)
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// A file's contents by its number: of all lengths, from none to more than two blocks.
fn contents(number: u32) -> Vec<u8> {
    let text = number.to_string();
    text.bytes().cycle().take(usize::try_from(number * 97 % 9000).unwrap_or_default()).collect()
}

fn archive(layer: &[(u32, Step)]) -> Builder {
    layer.iter().fold(Builder::default(), |archive, (number, step)| {
        let contents = if step.kind == EntryType::Regular { contents(*number) } else { Vec::new() };
        archive.entry(step.kind, &step.path, &contents, |header| {
            header.set_uid(u64::from(*number));
            let target = step.target.as_bytes();
            header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
        })
    })
}

/// The same layers merged by the code under test; nothing where it refuses them.
fn merged(layers: &[Vec<(u32, Step)>]) -> Option<(Tree, Vec<Spooled>)> {
    let mut tree = Tree::new(0);
    let mut spooled = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        tree.apply(number, archive(layer).read().expect("an archive")).ok()?;
        spooled.push(archive(layer).layer());
    }
    Some((tree, spooled))
}

fn seen_in_tree(tree: &Tree, layers: &[Spooled]) -> BTreeMap<String, Seen> {
    let mut found = BTreeMap::new();
    let mut ahead = vec![(String::new(), ROOT)];
    while let Some((path, id)) = ahead.pop() {
        let node = tree.node(id);
        let number = node.attributes.uid;
        let seen = match &node.kind {
            Kind::Directory(names) => {
                ahead.extend(names.iter().map(|(name, id)| (format!("{path}/{name}"), *id)));
                Seen::Directory(number)
            }
            Kind::File(content) => {
                let file = &layers[content.layer].file;
                assert_eq!(part(file, content.offset, content.length), contents(number), "{path}");
                Seen::File(number)
            }
            Kind::SymbolicLink(target) => Seen::SymbolicLink(number, target.to_string()),
            Kind::Fifo => Seen::Fifo(number),
        };
        found.insert(path, seen);
    }
    found
}

/// The same of a file system, which the reader of another author and `e2fsck` look at.
fn seen_on_disk(image: &Path) -> BTreeMap<String, Seen> {
    let checked = Command::new("/sbin/e2fsck").args(["-f", "-n"]).arg(image).output().expect("e2fsprogs");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    let reader = Fs::open(std::fs::File::open(image).expect("an image")).expect("a file system");
    assert_eq!(format!("{:?}", reader.verify().expect("it can be read")), "[]");
    let mut found = BTreeMap::new();
    let mut links: BTreeMap<u32, (u16, u16)> = BTreeMap::new();
    let mut ahead = vec![(String::new(), 2)];
    while let Some((path, number)) = ahead.pop() {
        let inode = reader.inode(number).expect("an inode");
        let seen = match inode.file_type() {
            FileType::Dir => {
                for entry in reader.read_dir(number).expect("a directory") {
                    let name = String::from_utf8(entry.name).expect("UTF-8");
                    if name != "." && name != ".." && (!path.is_empty() || name != "lost+found") {
                        ahead.push((format!("{path}/{name}"), entry.inode));
                    }
                }
                Seen::Directory(inode.uid)
            }
            FileType::Regular => {
                assert_eq!(reader.read_file(number).expect("a file"), contents(inode.uid), "{path}");
                Seen::File(inode.uid)
            }
            FileType::Symlink => {
                let target = reader.symlink_target(number).expect("a link");
                Seen::SymbolicLink(inode.uid, String::from_utf8(target).expect("UTF-8"))
            }
            _ => Seen::Fifo(inode.uid),
        };
        if !matches!(seen, Seen::Directory(_)) {
            links.entry(number).or_insert((inode.links_count, 0)).1 += 1;
        }
        found.insert(path, seen);
    }
    assert!(links.values().all(|(said, counted)| said == counted), "{links:?}");
    found
}

fn steps() -> impl Strategy<Value = Step> {
    let names = prop::sample::select(vec!["a", "b", "c", "lib"]);
    let directory = prop::collection::vec(names.clone(), 0..3).prop_map(|names| names.join("/"));
    let last = prop_oneof![
        8 => names.clone().prop_map(str::to_owned),
        2 => names.prop_map(|name| format!(".wh.{name}")),
        1 => prop::sample::select(vec![".wh..wh..opq".to_owned(), ".wh..wh.plnk".to_owned()]),
    ];
    let kind = prop_oneof![
        3 => Just(EntryType::Directory),
        3 => Just(EntryType::Regular),
        2 => Just(EntryType::Symlink),
        1 => Just(EntryType::Link),
        1 => Just(EntryType::Fifo),
        1 => Just(EntryType::Char),
    ];
    let up = prop::sample::select(vec!["", "/", "../", "../../", "./"]);
    (directory.clone(), last, kind, up, directory, prop::sample::select(vec!["a", "b", "lib"])).prop_map(
        |(directory, last, kind, up, elsewhere, name)| {
            let up = if kind == EntryType::Link { "" } else { up };
            let target =
                if elsewhere.is_empty() { format!("{up}{name}") } else { format!("{up}{elsewhere}/{name}") };
            let path = if directory.is_empty() { last } else { format!("{directory}/{last}") };
            Step { kind, path, target }
        },
    )
}

/// Layers, each entry with a number of its own.
fn stacks() -> impl Strategy<Value = Vec<Vec<(u32, Step)>>> {
    prop::collection::vec(prop::collection::vec(steps(), 0..8), 1..5).prop_map(|layers| {
        let mut number = 0;
        let mut numbered = |step| {
            number += 1;
            (number, step)
        };
        layers.into_iter().map(|layer| layer.into_iter().map(&mut numbered).collect()).collect()
    })
}

fn expected(layers: &[Vec<(u32, Step)>]) -> Option<BTreeMap<String, Seen>> {
    let mut model = Model(BTreeMap::from([(String::new(), Seen::Directory(0))]));
    layers.iter().try_for_each(|layer| model.apply(layer))?;
    Some(model.0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn layers_merge_as_the_model_does(layers in stacks()) {
        let seen = merged(&layers).map(|(tree, spooled)| seen_in_tree(&tree, &spooled));
        prop_assert_eq!(seen, expected(&layers));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn file_systems_hold_what_the_model_does(layers in stacks()) {
        let merged = merged(&layers);
        // Only so many may be refused before the test fails for having tested nothing.
        prop_assume!(merged.is_some());
        let (tree, spooled) = merged.expect("assumed");
        let directory = tempfile::tempdir().expect("temporary directory");
        let image = directory.path().join("image");
        ext4::write(&tree, &spooled, &image, Some(16), &Quiet).expect("it fits");
        prop_assert_eq!(Some(seen_on_disk(&image)), expected(&layers));
    }
}
