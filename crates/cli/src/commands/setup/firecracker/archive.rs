//! Takes the two programs out of a release's archive.
//!
//! ```text
//! release-v1.16.1-x86_64/firecracker-v1.16.1-x86_64
//! release-v1.16.1-x86_64/jailer-v1.16.1-x86_64
//! …                                                    (ignored)
//! ```
//!
//! The archive is data that came from outside, also after its digest was right: no path of it is opened, no link of
//! it followed, and no more is read than a release can hold.

use std::io::Read;

use anyhow::{Context as _, Result, ensure};
use flate2::read::GzDecoder;

use super::files::{Program, Programs};

/// What one program may take. Those of 1.16 take 3 MiB.
pub(super) const MAX_PROGRAM_BYTES: u64 = 64 << 20;

/// What the whole archive may unpack to. That of 1.16 has some 25 MiB.
const MAX_UNPACKED_BYTES: u64 = 256 << 20;

/// The programs in a release's archive.
pub(super) fn unpack(archive: &[u8]) -> Result<Programs> {
    read(GzDecoder::new(archive).take(MAX_UNPACKED_BYTES)).context("cannot unpack the archive")
}

fn read(unpacked: impl Read) -> Result<Programs> {
    let mut found: [Option<Vec<u8>>; 2] = [None, None];
    let mut archive = tar::Archive::new(unpacked);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path_bytes();
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let Some(program) = Program::BOTH.into_iter().find(|program| program.is_named(name)) else {
            continue;
        };
        let shown = String::from_utf8_lossy(name).into_owned();
        ensure!(entry.header().entry_type().is_file(), "{shown} is no regular file");
        let size = entry.size();
        ensure!(size <= MAX_PROGRAM_BYTES, "{shown} is larger than {MAX_PROGRAM_BYTES} bytes");
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).with_context(|| format!("cannot read {shown}"))?;
        ensure!(bytes.len() as u64 == size, "{shown} is cut off");
        let slot = &mut found[program as usize];
        ensure!(slot.is_none(), "there is more than one {}", program.name());
        *slot = Some(bytes);
    }
    let [firecracker, jailer] = found;
    let firecracker = firecracker.context("there is no firecracker in it")?;
    let jailer = jailer.context("there is no jailer in it")?;
    Ok(Programs { firecracker, jailer })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(archive: &mut tar::Builder<Vec<u8>>, path: &str, kind: tar::EntryType, bytes: &[u8]) {
        let mut header = tar::Header::new_gnu();
        // The crate refuses to write such paths; an archive may have them all the same.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        archive.append(&header, bytes).expect("memory can be written");
    }

    fn unpacked(entries: &[(&str, tar::EntryType, &[u8])]) -> Result<Programs> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, kind, bytes) in entries {
            entry(&mut archive, path, *kind, bytes);
        }
        read(archive.into_inner().expect("memory can be written").as_slice())
    }

    const FILE: tar::EntryType = tar::EntryType::Regular;
    const LINK: tar::EntryType = tar::EntryType::Symlink;

    #[test]
    fn only_the_two_programs_are_taken_wherever_they_lie() {
        let programs = unpacked(&[
            ("/etc/passwd", FILE, b"no"),
            ("release/firecracker-v1.16.1-x86_64.debug", FILE, b"no"),
            ("../../firecracker-v1.16.1-x86_64", FILE, b"vmm"),
            ("release/seccompiler-bin-v1.16.1-x86_64", LINK, b""),
            ("/usr/bin/jailer-v1.16.1-x86_64", FILE, b"jail"),
        ]);
        let programs = programs.expect("both are there");
        assert_eq!(
            (programs.firecracker.as_slice(), programs.jailer.as_slice()),
            (&b"vmm"[..], &b"jail"[..])
        );
    }

    #[test]
    fn links_duplicates_and_absences_are_refused() {
        let (vmm, jailer) = ("r/firecracker-v1.16.1-x86_64", "r/jailer-v1.16.1-x86_64");
        let refused = |entries: &[(&str, tar::EntryType, &[u8])]| {
            format!("{:#}", unpacked(entries).err().expect("it is refused"))
        };
        assert_eq!(
            refused(&[(vmm, LINK, b""), (jailer, FILE, b"x")]),
            "firecracker-v1.16.1-x86_64 is no regular file"
        );
        assert_eq!(
            refused(&[(vmm, FILE, b"1"), (vmm, FILE, b"2"), (jailer, FILE, b"x")]),
            "there is more than one firecracker"
        );
        assert_eq!(refused(&[(vmm, FILE, b"1")]), "there is no jailer in it");
        assert_eq!(refused(&[]), "there is no firecracker in it");
    }

    #[test]
    fn a_size_beyond_bounds_is_refused_before_it_is_read() {
        let mut header = tar::Header::new_gnu();
        header.set_path("r/firecracker-v1.16.1-x86_64").expect("a short path");
        header.set_size(MAX_PROGRAM_BYTES + 1);
        header.set_cksum();
        let error = read(header.as_bytes().as_slice()).err().expect("it is refused");
        assert!(error.to_string().contains("is larger than"), "{error:#}");
    }

    #[test]
    fn what_is_cut_off_or_no_archive_is_refused() {
        assert!(unpack(b"<html>").is_err());
        assert!(unpack(b"").is_err());
        let mut archive = tar::Builder::new(Vec::new());
        entry(&mut archive, "r/firecracker-v1.16.1-x86_64", FILE, &[7; 4096]);
        let whole = archive.into_inner().expect("memory can be written");
        assert!(read(&whole[..1024]).is_err());
    }
}
