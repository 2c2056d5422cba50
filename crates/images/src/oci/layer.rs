//! One layer: a tar archive, read into a list of its entries. Nothing is unpacked; an entry says where in the archive
//! its contents are.
//!
//! The archive is read header by header (`raw`), so that what stands between the headers is bounded here: pax records
//! (POSIX.1-2024, pax Interchange Format), and the long names of GNU tar.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use tar::{Archive, EntryType, Header};

use super::limits::{
    ENTRY_BYTES, MAX_ENTRIES, MAX_EXTENSION_BYTES, MAX_METADATA_BYTES, MAX_PATH_BYTES, MAX_TIME,
    MAX_XATTR_BYTES, XATTR_BYTES,
};

/// What extended attributes of images may be about. Access control lists have another form on the disk than in an
/// archive.
const NAMESPACES: [&str; 3] = ["user.", "trusted.", "security."];

/// Seconds and nanoseconds since 1970.
pub(super) type Time = (i64, u32);

/// One entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its path, as the archive has it.
    pub(super) path: Vec<u8>,
    /// What it is.
    pub(super) kind: EntryKind,
    /// Its metadata.
    pub(super) attributes: Attributes,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EntryKind {
    /// A directory.
    Directory,
    /// A file, with its place in the archive.
    File {
        /// Where its contents begin.
        offset: u64,
        /// How long they are.
        length: u64,
    },
    /// A symbolic link to this target.
    SymbolicLink(Vec<u8>),
    /// Another name of the file with this path.
    HardLink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A device node, of which images get none.
    Device,
}

/// Metadata of an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    /// Permissions, with the set-user-id, set-group-id and sticky bits.
    pub(super) mode: u16,
    /// Owner.
    pub(super) uid: u32,
    /// Group.
    pub(super) gid: u32,
    /// When it was last modified.
    pub(super) modified: Time,
    /// Extended attributes, by name.
    pub(super) xattrs: Vec<(String, Vec<u8>)>,
}

/// A layer is no archive that can be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadLayerError {
    /// The archive is damaged, or cannot be read.
    #[error("it is no tar archive that can be read")]
    Archive(
        /// Why.
        #[source]
        io::Error,
    ),
    /// It has more entries than any image.
    #[error("it has more than {MAX_ENTRIES} entries")]
    TooManyEntries,
    /// The names and attributes of its entries are more than those of any image.
    #[error("its entries take more than {MAX_METADATA_BYTES} bytes with their names and attributes")]
    TooMuchMetadata,
    /// An entry cannot be one.
    #[error("its entry {path:?} {problem}")]
    Entry {
        /// The start of its path.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// What all archives of an image may have together, or what is left of it.
#[derive(Debug)]
pub(super) struct Allowance {
    entries: usize,
    metadata_bytes: usize,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { entries: MAX_ENTRIES, metadata_bytes: MAX_METADATA_BYTES }
    }
}

impl Allowance {
    fn take(&mut self, entry: &Entry) -> Result<(), ReadLayerError> {
        let link = match &entry.kind {
            EntryKind::SymbolicLink(target) | EntryKind::HardLink(target) => target.len(),
            _ => 0,
        };
        let xattrs = entry.attributes.xattrs.iter();
        let xattrs: usize = xattrs.map(|(name, value)| XATTR_BYTES + name.len() + value.len()).sum();
        let bytes = ENTRY_BYTES + entry.path.len() + link + xattrs;
        self.entries = self.entries.checked_sub(1).ok_or(ReadLayerError::TooManyEntries)?;
        self.metadata_bytes =
            self.metadata_bytes.checked_sub(bytes).ok_or(ReadLayerError::TooMuchMetadata)?;
        Ok(())
    }
}

/// The entries of the archive in `file`, which are taken from the allowance.
pub(super) fn read_entries(file: &File, allowance: &mut Allowance) -> Result<Vec<Entry>, ReadLayerError> {
    read_archive(Buffered(BufReader::with_capacity(16 << 10, file)), allowance)
}

/// The same of any archive: for tests and fuzzing too.
pub(super) fn read_archive(
    mut reader: impl Read + Seek,
    allowance: &mut Allowance,
) -> Result<Vec<Entry>, ReadLayerError> {
    let end = reader.seek(SeekFrom::End(0)).map_err(ReadLayerError::Archive)?;
    reader.rewind().map_err(ReadLayerError::Archive)?;
    let mut archive = Archive::new(reader);
    let mut entries = Vec::new();
    let mut pending = Extensions::default();
    let headers = archive.entries_with_seek().map_err(ReadLayerError::Archive)?.raw(true);
    for (count, header) in headers.enumerate() {
        let mut raw = header.map_err(|error| {
            // It quotes what the archive has, which may move a terminal.
            let quoted = error.to_string().escape_debug().to_string();
            ReadLayerError::Archive(io::Error::new(error.kind(), quoted))
        })?;
        // Records about the next entry count as well: each costs as much work.
        if count >= 2 * MAX_ENTRIES {
            return Err(ReadLayerError::TooManyEntries);
        }
        let kind = raw.header().entry_type();
        let (offset, length) = (raw.raw_file_position(), raw.size());
        // Nobody is to make room for what is not there.
        if end.saturating_sub(offset) < length {
            let path = shown(&raw.header().path_bytes());
            return Err(ReadLayerError::Entry { path, problem: "is cut off" });
        }
        if kind.is_gnu_longname() || kind.is_gnu_longlink() || kind.is_pax_local_extensions() {
            let text = bounded(&mut raw)?;
            match kind {
                kind if kind.is_gnu_longname() => pending.path = Some(until_nul(text)),
                kind if kind.is_gnu_longlink() => pending.link = Some(until_nul(text)),
                _ => pending.take_records(&text)?,
            }
        } else if !kind.is_pax_global_extensions() {
            let entry = entry(raw.header(), offset, length, std::mem::take(&mut pending))?;
            // Others take the next block for a header, whatever the size is: the same layer would be two.
            if !matches!(entry.kind, EntryKind::File { .. }) && length > 0 {
                let problem = "is no file and has contents";
                return Err(ReadLayerError::Entry { path: shown(&entry.path), problem });
            }
            allowance.take(&entry)?;
            entries.push(entry);
        }
    }
    Ok(entries)
}

/// Keeps what is buffered where a seek stays within it: from one header to the next it mostly does.
struct Buffered<R>(BufReader<R>);

impl<R: Read> Read for Buffered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read + Seek> Seek for Buffered<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match to {
            SeekFrom::Current(distance) => {
                self.0.seek_relative(distance)?;
                self.0.stream_position()
            }
            to => self.0.seek(to),
        }
    }
}

/// What records before an entry say about it.
#[derive(Debug, Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    modified: Option<Time>,
    xattrs: Vec<(String, Vec<u8>)>,
    xattr_bytes: usize,
    sparse: bool,
}

impl Extensions {
    /// Takes pax records: `LENGTH KEY=VALUE\n` each, where the length counts all of it.
    fn take_records(&mut self, text: &[u8]) -> Result<(), ReadLayerError> {
        let mut rest = text;
        while !rest.is_empty() {
            let (key, value, after) = record(rest).ok_or_else(|| {
                ReadLayerError::Archive(io::Error::new(io::ErrorKind::InvalidData, "a malformed pax record"))
            })?;
            rest = after;
            self.take_record(key, value);
            // One more is enough to refuse the entry. All that records could hold is not kept until then.
            if self.xattr_bytes > 2 * MAX_XATTR_BYTES {
                return Err(ReadLayerError::Entry {
                    path: shown(self.path.as_deref().unwrap_or_default()),
                    problem: TOO_MANY_XATTRS,
                });
            }
        }
        Ok(())
    }

    fn take_record(&mut self, key: &[u8], value: &[u8]) {
        let number = || std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = number(),
            b"uid" => self.uid = number(),
            b"gid" => self.gid = number(),
            b"mtime" => self.modified = time(value),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.")
                    && let Ok(name) = std::str::from_utf8(name)
                    && NAMESPACES.iter().any(|start| name.len() > start.len() && name.starts_with(start))
                {
                    self.xattrs.retain(|(earlier, _)| earlier != name);
                    self.xattr_bytes += xattr_bytes(name, value);
                    self.xattrs.push((name.to_owned(), value.to_vec()));
                }
                self.sparse |= key.starts_with(b"GNU.sparse.");
            }
        }
    }
}

const TOO_MANY_XATTRS: &str = "has more extended attributes than the file system holds";

/// What an extended attribute takes on the disk, at most.
fn xattr_bytes(name: &str, value: &[u8]) -> usize {
    name.len() + value.len() + 24
}

/// The first record of `text`: key, value, and what comes after.
fn record(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = text.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&text[..blank]).ok()?.parse().ok()?;
    let body = text.get(blank + 1..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    Some((&body[..equals], &body[equals + 1..], &text[length..]))
}

/// A pax time: seconds, with a fraction.
fn time(value: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(value).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().ok()?;
    if seconds < 0 || text.starts_with('-') {
        return Some((0, 0));
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    Some((seconds.min(MAX_TIME), digits.parse().ok()?))
}

fn bounded(reader: &mut impl Read) -> Result<Vec<u8>, ReadLayerError> {
    let mut text = Vec::new();
    reader.take(MAX_EXTENSION_BYTES + 1).read_to_end(&mut text).map_err(ReadLayerError::Archive)?;
    if text.len() as u64 > MAX_EXTENSION_BYTES {
        let reason = "a record about an entry that is longer than any";
        return Err(ReadLayerError::Archive(io::Error::new(io::ErrorKind::InvalidData, reason)));
    }
    Ok(text)
}

fn until_nul(mut text: Vec<u8>) -> Vec<u8> {
    text.truncate(text.iter().position(|byte| *byte == 0).unwrap_or(text.len()));
    text
}

fn entry(header: &Header, offset: u64, length: u64, said: Extensions) -> Result<Entry, ReadLayerError> {
    let path = said.path.unwrap_or_else(|| header.path_bytes().into_owned());
    let wrong = |problem| ReadLayerError::Entry { path: shown(&path), problem };
    let link = said.link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
    let target = || {
        let target = link.clone().filter(|target| !target.is_empty() && !target.contains(&0));
        target.filter(|target| target.len() <= MAX_PATH_BYTES).ok_or_else(|| wrong("is a link to nowhere"))
    };
    if path.len() > MAX_PATH_BYTES || path.contains(&0) {
        return Err(wrong("has a path that is too long, or has a NUL"));
    }
    if said.sparse {
        return Err(wrong("is a sparse file, which is not supported"));
    }
    let kind = match header.entry_type() {
        EntryType::Directory => EntryKind::Directory,
        // Old archives have directories that are files by their type and directories by their name.
        EntryType::Regular if path.ends_with(b"/") => EntryKind::Directory,
        EntryType::Regular | EntryType::Continuous if said.size.is_none_or(|size| size == length) => {
            EntryKind::File { offset, length }
        }
        EntryType::Regular | EntryType::Continuous => return Err(wrong("is larger than 8 GiB")),
        EntryType::Symlink => EntryKind::SymbolicLink(target()?),
        EntryType::Link => EntryKind::HardLink(target()?),
        EntryType::Fifo => EntryKind::Fifo,
        EntryType::Char | EntryType::Block => EntryKind::Device,
        EntryType::GNUSparse => return Err(wrong("is a sparse file, which is not supported")),
        _ => return Err(wrong("is of no kind that a file system has")),
    };
    let attributes = attributes(header, said.uid, said.gid, said.modified, said.xattrs);
    Ok(Entry { attributes: attributes.map_err(wrong)?, path, kind })
}

fn attributes(
    header: &Header,
    uid: Option<u64>,
    gid: Option<u64>,
    modified: Option<Time>,
    mut xattrs: Vec<(String, Vec<u8>)>,
) -> Result<Attributes, &'static str> {
    let number = |said: Option<u64>, field: io::Result<u64>| {
        // 2^32 - 1 says "leave as it is" to chown(2): no file can be owned by it.
        said.or(field.ok()).and_then(|number| u32::try_from(number).ok()).filter(|number| *number != u32::MAX)
    };
    let mode = header.mode().map_err(|_| "has a mode that is no number")?;
    xattrs.sort();
    let bytes: usize = xattrs.iter().map(|(name, value)| xattr_bytes(name, value)).sum();
    if bytes > MAX_XATTR_BYTES || xattrs.iter().any(|(name, _)| name.len() > 255 || name.contains('\0')) {
        return Err(TOO_MANY_XATTRS);
    }
    Ok(Attributes {
        mode: u16::try_from(mode & 0o7777).unwrap_or_default(),
        uid: number(uid, header.uid()).ok_or("has no owner")?,
        gid: number(gid, header.gid()).ok_or("has no group")?,
        modified: modified.unwrap_or_else(|| {
            let seconds = header.mtime().ok().and_then(|seconds| i64::try_from(seconds).ok());
            (seconds.unwrap_or_default().min(MAX_TIME), 0)
        }),
        xattrs,
    })
}

/// The start of a path, for errors.
pub(super) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().take(120).collect()
}

#[cfg(test)]
#[path = "layer_tests.rs"]
mod tests;
