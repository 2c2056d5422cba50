//! Layers merged to one tree, in memory: nothing of an image touches the host's file system before it is an image.
//!
//! Paths are followed as in a root of their own: `..` of the root is the root, and the symbolic links in directories lead
//! where they would inside the image. So there is nowhere to break out to. What a layer removes
//! (OCI image specification, `layer.md`, whiteouts) it removes from the layers below alone: whiteouts are applied before
//! the layer's own entries, wherever they stand in the archive.

use std::collections::{BTreeMap, VecDeque};

use super::layer::{Attributes, Entry, EntryKind, shown};
use super::limits::{MAX_DEPTH, MAX_LINKS_FOLLOWED, MAX_NAME_BYTES, MAX_NODES, MAX_STEPS};

/// The prefix of names that remove the rest of the name.
const WHITEOUT: &str = ".wh.";

/// The name that removes all that a directory has in lower layers.
const OPAQUE: &str = ".wh..wh..opq";

/// Other names with this prefix are notes of a storage driver (aufs) to itself.
const DRIVER_NOTE: &str = ".wh..wh.";

/// What `mkfs.ext4` and `e2fsck` keep in the root, and nobody else.
const LOST_AND_FOUND: &str = "lost+found";

/// One file of the tree, known by its number. Hard links are two names with one number.
pub(super) type NodeId = usize;

/// The number of the root directory.
pub(super) const ROOT: NodeId = 0;

/// A file.
#[derive(Debug)]
pub(super) struct Node {
    /// What it is.
    pub(super) kind: Kind,
    /// Its metadata.
    pub(super) attributes: Attributes,
}

/// What a file is.
#[derive(Debug)]
pub(super) enum Kind {
    /// A directory, with its names.
    Directory(BTreeMap<Box<str>, NodeId>),
    /// A regular file.
    File(Content),
    /// A symbolic link to this target.
    SymbolicLink(Box<str>),
    /// A named pipe.
    Fifo,
}

/// Where the contents of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    /// The number of the layer.
    pub(super) layer: usize,
    /// Where in its archive they begin.
    pub(super) offset: u64,
    /// How long they are.
    pub(super) length: u64,
}

/// All layers so far.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// What a directory gets that no layer has an entry of.
    implied: Attributes,
    /// How many names have been looked up.
    steps: u64,
}

/// A layer cannot be applied to those below it.
#[derive(Debug, thiserror::Error)]
#[error("its entry {path:?} {problem}")]
pub struct ApplyLayerError {
    /// The start of the entry's path.
    pub path: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl Tree {
    /// An empty tree. Directories that no layer has an entry of are dated `time`, in seconds since 1970.
    pub(super) fn new(time: i64) -> Self {
        let implied = Attributes { mode: 0o755, modified: (time, 0), ..Attributes::default() };
        let root = Node { kind: Kind::Directory(BTreeMap::new()), attributes: implied.clone() };
        Self { nodes: vec![root], implied, steps: 0 }
    }

    /// One of its files.
    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }

    /// How many files there are, those that were removed again included.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Applies the layer with this number, which are its entries.
    pub(super) fn apply(&mut self, layer: usize, entries: Vec<Entry>) -> Result<(), ApplyLayerError> {
        let (mut whiteouts, mut others) = (Vec::new(), Vec::with_capacity(entries.len()));
        let mut directories = Directories::default();
        for entry in entries {
            let wrong = |problem| ApplyLayerError { path: shown(&entry.path), problem };
            let path = components(&entry.path).map_err(wrong)?;
            if path.last().is_some_and(|name| name.starts_with(WHITEOUT)) {
                whiteouts.push(entry);
            } else {
                if entry.kind == EntryKind::Directory {
                    directories.add(&path);
                }
                others.push(entry);
            }
        }
        for entry in whiteouts {
            let wrong = |problem| ApplyLayerError { path: shown(&entry.path), problem };
            let path = components(&entry.path).map_err(wrong)?;
            self.white_out(&path, &directories).map_err(wrong)?;
        }
        for entry in others {
            let shown_path = shown(&entry.path);
            self.add(layer, entry).map_err(|problem| ApplyLayerError { path: shown_path, problem })?;
        }
        Ok(())
    }

    /// Removes what a whiteout says from what the layers below have. The layer itself has entries of these `directories`.
    fn white_out(&mut self, path: &[&str], directories: &Directories) -> Result<(), &'static str> {
        let (whiteout, parents) = path.split_last().ok_or("removes the root")?;
        let name = whiteout.strip_prefix(WHITEOUT).unwrap_or_default();
        let Some(directory) = self.walk(parents, false, Some(directories))? else { return Ok(()) };
        let names = self.names(directory);
        if *whiteout == OPAQUE {
            names.clear();
        } else if whiteout.starts_with(DRIVER_NOTE) {
        } else if name.is_empty() || name == "." || name == ".." {
            return Err("removes something without a name");
        } else {
            names.remove(name);
        }
        Ok(())
    }

    fn add(&mut self, layer: usize, entry: Entry) -> Result<(), &'static str> {
        let path = components(&entry.path)?;
        let Some((name, parents)) = path.split_last() else {
            return match entry.kind {
                EntryKind::Directory => {
                    self.nodes[ROOT].attributes = entry.attributes;
                    Ok(())
                }
                _ => Err("would be the root and is no directory"),
            };
        };
        // Whatever lies in that one, which the file system has of its own.
        let Some(parent) = self.directory(parents, true)? else { return Ok(()) };
        let name = *name;
        if parent == ROOT && name == LOST_AND_FOUND {
            return Ok(());
        }
        let kind = match entry.kind {
            EntryKind::Directory => {
                if let Some(existing) = self.names(parent).get(name).copied()
                    && matches!(self.nodes[existing].kind, Kind::Directory(_))
                {
                    self.nodes[existing].attributes = entry.attributes;
                    return Ok(());
                }
                Kind::Directory(BTreeMap::new())
            }
            EntryKind::File { offset, length } => Kind::File(Content { layer, offset, length }),
            EntryKind::SymbolicLink(target) => {
                let target = String::from_utf8(target).map_err(|_| "is a link to what is not UTF-8")?;
                Kind::SymbolicLink(target.into())
            }
            EntryKind::HardLink(target) => {
                let linked = self.link_target(&target)?;
                self.names(parent).insert(name.into(), linked);
                return Ok(());
            }
            EntryKind::Fifo => Kind::Fifo,
            EntryKind::Device => {
                self.names(parent).remove(name);
                return Ok(());
            }
        };
        let id = self.push(kind, entry.attributes)?;
        self.names(parent).insert(name.into(), id);
        Ok(())
    }

    fn push(&mut self, kind: Kind, attributes: Attributes) -> Result<NodeId, &'static str> {
        // One entry with a long path makes hundreds of directories.
        if self.nodes.len() >= MAX_NODES {
            return Err("is one more than any image has, with the directories that it needs");
        }
        self.nodes.push(Node { kind, attributes });
        Ok(self.nodes.len() - 1)
    }

    /// The file that a hard link's target names: a path from the root of the image.
    fn link_target(&mut self, target: &[u8]) -> Result<NodeId, &'static str> {
        const MISSING: &str = "is a hard link to a file that is not there";
        let path = components(target)?;
        let (name, parents) = path.split_last().ok_or(MISSING)?;
        let directory = self.directory(parents, false)?.ok_or(MISSING)?;
        let linked = *self.names(directory).get(*name).ok_or(MISSING)?;
        match self.nodes[linked].kind {
            Kind::Directory(_) => Err("is a hard link to a directory"),
            _ => Ok(linked),
        }
    }

    /// The directory at `path`. With `make`, what is missing of it is made, but for `lost+found`; without, there is none then.
    fn directory(&mut self, path: &[&str], make: bool) -> Result<Option<NodeId>, &'static str> {
        self.walk(path, make, None)
    }

    /// The same. A link that stands in `path` where one of `instead` will stand is not followed: there is none then.
    fn walk(
        &mut self,
        path: &[&str],
        make: bool,
        instead: Option<&Directories>,
    ) -> Result<Option<NodeId>, &'static str> {
        let mut place = instead.map(Directories::root);
        // How many names are those of links, and not of the path.
        let mut foreign = 0_usize;
        let mut ahead: VecDeque<Box<str>> = path.iter().map(|name| (*name).into()).collect();
        let mut behind = vec![ROOT];
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            self.steps += 1;
            if self.steps > MAX_STEPS {
                return Err("is one of too many with long paths");
            }
            let is_own = foreign == 0;
            foreign = foreign.saturating_sub(1);
            if is_own {
                place = place.and_then(|place| place.enter(&name));
            }
            let here = behind.last().copied().unwrap_or(ROOT);
            match &*name {
                "" | "." => continue,
                ".." => {
                    // The parent of the root is the root.
                    if behind.len() > 1 {
                        behind.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let next = match self.names(here).get(&name).copied() {
                Some(next) => next,
                None if make && !(here == ROOT && &*name == LOST_AND_FOUND) => {
                    check_name(&name)?;
                    let id = self.push(Kind::Directory(BTreeMap::new()), self.implied.clone())?;
                    self.names(here).insert(name, id);
                    id
                }
                None => return Ok(None),
            };
            match &self.nodes[next].kind {
                Kind::Directory(_) if behind.len() >= MAX_DEPTH => return Err("is nested too deeply"),
                Kind::Directory(_) => behind.push(next),
                Kind::SymbolicLink(_) if is_own && place.is_some_and(Place::is_directory) => return Ok(None),
                Kind::SymbolicLink(target) => {
                    links += 1;
                    if links > MAX_LINKS_FOLLOWED {
                        return Err("leads through too many symbolic links");
                    }
                    if target.starts_with('/') {
                        behind.truncate(1);
                    }
                    // Each counts, whether it is looked up or not: putting it there is work too.
                    for name in target.split('/').rev() {
                        self.steps += 1;
                        ahead.push_front(name.into());
                        foreign += 1;
                    }
                }
                _ if make => return Err("lies in something that is no directory"),
                _ => return Ok(None),
            }
        }
        Ok(behind.last().copied())
    }

    /// The names in a directory; no names in anything else.
    fn names(&mut self, directory: NodeId) -> &mut BTreeMap<Box<str>, NodeId> {
        match &mut self.nodes[directory].kind {
            Kind::Directory(names) => names,
            _ => unreachable!("only directories are asked for their names"),
        }
    }
}

/// The directories that a layer has entries of.
#[derive(Debug)]
struct Directories {
    /// Which is which one's, by its name.
    children: BTreeMap<(usize, Box<str>), usize>,
    /// Whether there is an entry of each, and not only of one beneath it.
    are_entries: Vec<bool>,
}

impl Default for Directories {
    fn default() -> Self {
        Self { children: BTreeMap::new(), are_entries: vec![true] }
    }
}

impl Directories {
    fn add(&mut self, path: &[&str]) {
        let mut here = 0;
        for name in path {
            let next = self.are_entries.len();
            here = *self.children.entry((here, (*name).into())).or_insert(next);
            if here == next {
                self.are_entries.push(false);
            }
        }
        self.are_entries[here] = true;
    }

    fn root(&self) -> Place<'_> {
        Place { directories: self, number: 0 }
    }
}

/// One of a layer's directories, or of those above them.
#[derive(Clone, Copy, Debug)]
struct Place<'a> {
    directories: &'a Directories,
    number: usize,
}

impl Place<'_> {
    fn enter(self, name: &str) -> Option<Self> {
        let number = *self.directories.children.get(&(self.number, name.into()))?;
        Some(Self { number, ..self })
    }

    fn is_directory(self) -> bool {
        self.directories.are_entries[self.number]
    }
}

/// The names that a path consists of. A leading slash says nothing: all paths begin at the root.
fn components(path: &[u8]) -> Result<Vec<&str>, &'static str> {
    let path = std::str::from_utf8(path).map_err(|_| "has a name that is not UTF-8")?;
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    names.iter().try_for_each(|name| check_name(name))?;
    if names.len() > MAX_DEPTH { Err("is nested too deeply") } else { Ok(names) }
}

fn check_name(name: &str) -> Result<(), &'static str> {
    if name == ".." {
        Err("has .. in its path")
    } else if name.len() > MAX_NAME_BYTES {
        Err("has a name that is too long")
    } else {
        Ok(())
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
