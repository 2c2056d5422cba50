//! The two programs: their names, and those of them that are on this host already.

use std::{
    ffi::OsStr,
    fs,
    io::Read as _,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use super::archive::MAX_PROGRAM_BYTES;

/// How a release's files end, behind the version.
const ARCHITECTURE: &[u8] = b"-x86_64";

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// The VMM.
    Firecracker,
    /// What puts it into its jail.
    Jailer,
}

impl Program {
    /// Both of them.
    pub(super) const BOTH: [Self; 2] = [Self::Firecracker, Self::Jailer];

    /// The name of its file.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Firecracker => "firecracker",
            Self::Jailer => "jailer",
        }
    }

    /// What it calls itself.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Firecracker => "Firecracker",
            Self::Jailer => "Jailer",
        }
    }

    /// Whether a file of this name is it: `firecracker`, or `firecracker-v1.16.1-x86_64` as in releases.
    pub(super) fn is_named(self, name: &[u8]) -> bool {
        self.suffix(name).is_some_and(|suffix| {
            suffix.is_empty() || (suffix.starts_with(b"-v") && suffix.ends_with(ARCHITECTURE))
        })
    }

    fn suffix(self, name: &[u8]) -> Option<&[u8]> {
        name.strip_prefix(self.name().as_bytes())
    }
}

/// Both programs' contents.
pub(super) struct Programs {
    pub(super) firecracker: Vec<u8>,
    pub(super) jailer: Vec<u8>,
}

/// The programs at `path`: a directory that holds both, or Firecracker's file with the jailer beside it.
pub(super) fn read(path: &Path) -> Result<Programs> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot use {}", path.display()))?;
    let firecracker = if metadata.is_dir() { find(path)? } else { path.to_owned() };
    let name = firecracker.file_name().unwrap_or_default().as_bytes();
    // `firecracker-v1.16.1-x86_64` has `jailer-v1.16.1-x86_64` beside it.
    let suffix = Program::Firecracker.suffix(name).unwrap_or_default();
    let jailer_name = [Program::Jailer.name().as_bytes(), suffix].concat();
    let jailer = firecracker.with_file_name(OsStr::from_bytes(&jailer_name));
    Ok(Programs { firecracker: contents(&firecracker)?, jailer: contents(&jailer)? })
}

fn find(directory: &Path) -> Result<PathBuf> {
    let plain = directory.join(Program::Firecracker.name());
    if plain.exists() {
        return Ok(plain);
    }
    let entries = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| Program::Firecracker.is_named(entry.file_name().as_bytes()))
        .map(|entry| entry.path())
        .collect();
    ensure!(found.len() < 2, "{} holds more than one firecracker: name one of them", directory.display());
    found.pop().with_context(|| format!("there is no firecracker in {}", directory.display()))
}

fn contents(path: &Path) -> Result<Vec<u8>> {
    let failed = || format!("cannot read {}", path.display());
    // Asked before it is opened: opening a pipe would wait for somebody to write to it.
    ensure!(fs::metadata(path).with_context(failed)?.is_file(), "{} is no regular file", path.display());
    let file = fs::File::open(path).with_context(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_PROGRAM_BYTES + 1).read_to_end(&mut bytes).with_context(failed)?;
    ensure!(
        bytes.len() as u64 <= MAX_PROGRAM_BYTES,
        "{} is larger than {MAX_PROGRAM_BYTES} bytes",
        path.display()
    );
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(names: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("temporary directory");
        for name in names {
            fs::write(directory.path().join(name), name).expect("file");
        }
        directory
    }

    fn found(path: &Path) -> Result<(String, String)> {
        let text = |bytes| String::from_utf8(bytes).expect("a name");
        read(path).map(|programs| (text(programs.firecracker), text(programs.jailer)))
    }

    #[test]
    fn both_programs_are_found_under_either_name() {
        for suffix in ["", "-v1.16.1-x86_64"] {
            let names = [format!("firecracker{suffix}"), format!("jailer{suffix}")];
            let place = directory(&[&names[0], &names[1], "firecracker-v1.16.1-x86_64.debug"]);
            let expected = (names[0].clone(), names[1].clone());
            assert_eq!(found(place.path()).expect("the directory"), expected);
            assert_eq!(found(&place.path().join(&names[0])).expect("the file"), expected);
        }
    }

    #[test]
    fn what_is_missing_or_ambiguous_is_named() {
        let refused = |path: &Path| format!("{:#}", found(path).expect_err("it is refused"));
        assert!(refused(Path::new("/nonexistent")).starts_with("cannot use /nonexistent: "));
        assert!(refused(directory(&["jailer"]).path()).starts_with("there is no firecracker in "));
        let alone = directory(&["firecracker"]);
        let jailer = alone.path().join("jailer");
        assert!(refused(alone.path()).starts_with(&format!("cannot read {}: ", jailer.display())));
        fs::create_dir(&jailer).expect("directory");
        assert_eq!(refused(alone.path()), format!("{} is no regular file", jailer.display()));
        let two = directory(&["firecracker-v1.16.1-x86_64", "firecracker-v1.17.0-x86_64"]);
        assert!(refused(two.path()).contains("more than one"));
    }
}
