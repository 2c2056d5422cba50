//! Just enough of the ELF format to recognise a kernel and to read a module's section.
//!
//! Input is hostile: every offset is checked, and what is out of bounds reads as absent.

/// The first bytes of every ELF file.
pub(crate) const MAGIC: &[u8; 4] = b"\x7fELF";

/// `EM_X86_64`.
pub(crate) const MACHINE_X86_64: u16 = 62;

/// `PT_NOTE`: a program header that describes notes.
const SEGMENT_NOTE: u32 = 4;

/// How many bytes of notes are looked at. A kernel has less than one kilobyte.
const MAX_NOTES_BYTES: usize = 1 << 20;

const PROGRAM_HEADER_BYTES: u64 = 56;
const SECTION_HEADER_BYTES: u64 = 64;

/// A 64-bit little-endian ELF file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Elf<'a> {
    bytes: &'a [u8],
}

impl<'a> Elf<'a> {
    /// `None` if `bytes` is not a 64-bit little-endian ELF file.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        const CLASS_64_LITTLE_ENDIAN: &[u8; 2] = &[2, 1];
        let is_elf =
            bytes.starts_with(MAGIC) && bytes.get(4..6)? == CLASS_64_LITTLE_ENDIAN && bytes.len() >= 64;
        is_elf.then_some(Self { bytes })
    }

    /// `e_machine`.
    pub(crate) fn machine(&self) -> Option<u16> {
        u16_at(self.bytes, 18)
    }

    /// Whether a note segment holds a note of this owner (with its terminating NUL) and type.
    pub(crate) fn has_note(&self, owner: &[u8], kind: u32) -> bool {
        self.note_segments().any(|(notes, align)| Notes { notes, align }.any(|note| note == (owner, kind)))
    }

    /// The contents of the section called `name`.
    pub(crate) fn section(&self, name: &str) -> Option<&'a [u8]> {
        let table = u64_at(self.bytes, 0x28)?;
        let count = u64::from(u16_at(self.bytes, 0x3c)?);
        let names_index = u64::from(u16_at(self.bytes, 0x3e)?);
        let names = self.section_at(table, names_index)?.1;
        (0..count).filter_map(|index| self.section_at(table, index)).find_map(|(name_offset, contents)| {
            let rest = names.get(usize::try_from(name_offset).ok()?..)?;
            // No further than the name that is looked for: all sections may have names that are megabytes long.
            let after = rest.strip_prefix(name.as_bytes())?;
            (after.first().is_none_or(|byte| *byte == 0)).then_some(contents)
        })
    }

    /// Offset of its name, and contents, of one section.
    fn section_at(&self, table: u64, index: u64) -> Option<(u32, &'a [u8])> {
        let header =
            slice(self.bytes, table.checked_add(index * SECTION_HEADER_BYTES)?, SECTION_HEADER_BYTES)?;
        let contents = slice(self.bytes, u64_at(header, 0x18)?, u64_at(header, 0x20)?)?;
        Some((u32_at(header, 0)?, contents))
    }

    /// Contents and alignment of each note segment.
    fn note_segments(&self) -> impl Iterator<Item = (&'a [u8], usize)> {
        let bytes = self.bytes;
        let table = u64_at(bytes, 0x20).unwrap_or(u64::MAX);
        let count = u64::from(u16_at(bytes, 0x38).unwrap_or(0));
        let mut left = MAX_NOTES_BYTES;
        (0..count)
            .map_while(move |index| {
                // The same notes may be described by every header.
                let found = Self::note_segment(bytes, table, index);
                left = left.checked_sub(found.map_or(0, |(notes, _)| notes.len()))?;
                Some(found)
            })
            .flatten()
    }

    fn note_segment(bytes: &'a [u8], table: u64, index: u64) -> Option<(&'a [u8], usize)> {
        let header = slice(bytes, table.checked_add(index * PROGRAM_HEADER_BYTES)?, PROGRAM_HEADER_BYTES)?;
        if u32_at(header, 0)? != SEGMENT_NOTE {
            return None;
        }
        let align = if u64_at(header, 48)? == 8 { 8 } else { 4 };
        Some((slice(bytes, u64_at(header, 8)?, u64_at(header, 32)?)?, align))
    }
}

/// Iterates over owner and type of the notes in a segment.
struct Notes<'a> {
    notes: &'a [u8],
    align: usize,
}

impl<'a> Iterator for Notes<'a> {
    type Item = (&'a [u8], u32);

    fn next(&mut self) -> Option<Self::Item> {
        let name_bytes = usize::try_from(u32_at(self.notes, 0)?).ok()?;
        let descriptor_bytes = usize::try_from(u32_at(self.notes, 4)?).ok()?;
        let kind = u32_at(self.notes, 8)?;
        let owner = self.notes.get(12..12_usize.checked_add(name_bytes)?)?;
        let descriptor = 12_usize.checked_add(name_bytes)?.checked_next_multiple_of(self.align)?;
        let end = descriptor.checked_add(descriptor_bytes)?.checked_next_multiple_of(self.align)?;
        // The last note may lack its padding.
        self.notes = self.notes.get(end..).unwrap_or_default();
        Some((owner, kind))
    }
}

/// `length` bytes from `offset`, if they exist.
pub(crate) fn slice(bytes: &[u8], offset: u64, length: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    bytes.get(start..start.checked_add(usize::try_from(length).ok()?)?)
}

/// The little-endian number at `offset`.
pub(crate) fn u16_at(bytes: &[u8], offset: u64) -> Option<u16> {
    Some(u16::from_le_bytes(slice(bytes, offset, 2)?.try_into().ok()?))
}

/// The little-endian number at `offset`.
pub(crate) fn u32_at(bytes: &[u8], offset: u64) -> Option<u32> {
    Some(u32::from_le_bytes(slice(bytes, offset, 4)?.try_into().ok()?))
}

/// The little-endian number at `offset`.
pub(crate) fn u64_at(bytes: &[u8], offset: u64) -> Option<u64> {
    Some(u64::from_le_bytes(slice(bytes, offset, 8)?.try_into().ok()?))
}

#[cfg(test)]
pub(crate) mod synthetic {
    //! Small ELF files for tests.

    /// An ELF file with one note segment and a section `.modinfo`.
    pub(crate) fn elf(machine: u16, note: Option<(&[u8], u32)>, modinfo: &[u8]) -> Vec<u8> {
        let mut notes = Vec::new();
        if let Some((owner, kind)) = note {
            notes.extend(u32::try_from(owner.len()).expect("short").to_le_bytes());
            notes.extend(4_u32.to_le_bytes());
            notes.extend(kind.to_le_bytes());
            notes.extend(owner);
            notes.resize(notes.len().next_multiple_of(4), 0);
            notes.extend([0; 4]);
        }
        let names = b"\0.modinfo\0.shstrtab\0";
        let notes_at = 64 + 56;
        let modinfo_at = notes_at + notes.len();
        let names_at = modinfo_at + modinfo.len();
        let sections_at = names_at + names.len();

        let mut file = vec![0; 64 + 56];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[18..20].copy_from_slice(&machine.to_le_bytes());
        put(&mut file, 0x20, 64);
        put(&mut file, 0x28, sections_at);
        file[0x38..0x3a].copy_from_slice(&1_u16.to_le_bytes());
        file[0x3c..0x3e].copy_from_slice(&3_u16.to_le_bytes());
        file[0x3e..0x40].copy_from_slice(&2_u16.to_le_bytes());
        file[64..68].copy_from_slice(&super::SEGMENT_NOTE.to_le_bytes());
        put(&mut file, 64 + 8, notes_at);
        put(&mut file, 64 + 32, notes.len());
        put(&mut file, 64 + 48, 4);
        file.extend(&notes);
        file.extend(modinfo);
        file.extend(names);
        for (name, offset, length) in
            [(0_u32, 0, 0), (1, modinfo_at, modinfo.len()), (10, names_at, names.len())]
        {
            let mut header = vec![0; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            put(&mut header, 0x18, offset);
            put(&mut header, 0x20, length);
            file.extend(header);
        }
        file
    }

    fn put(file: &mut [u8], offset: usize, value: usize) {
        file[offset..offset + 8].copy_from_slice(&(value as u64).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_and_sections_are_found_by_name() {
        let file = synthetic::elf(MACHINE_X86_64, Some((b"Xen\0", 18)), b"depends=a,b\0");
        let elf = Elf::parse(&file).expect("elf");
        assert_eq!(elf.machine(), Some(MACHINE_X86_64));
        assert!(elf.has_note(b"Xen\0", 18));
        assert!(!elf.has_note(b"Xen\0", 17));
        assert!(!elf.has_note(b"GNU\0", 18));
        assert_eq!(elf.section(".modinfo"), Some(&b"depends=a,b\0"[..]));
        assert_eq!(elf.section(".text"), None);
    }

    /// A file whose headers all say `header`, at 64, behind which the file has some megabytes of `filling`.
    fn repeated(table_field: usize, count_field: usize, header: &[u8], filling: u8) -> Vec<u8> {
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[table_field] = 64;
        file[count_field..count_field + 2].copy_from_slice(&u16::MAX.to_le_bytes());
        file.extend(header.repeat(usize::from(u16::MAX)));
        file.resize(file.len() + (8 << 20), filling);
        file
    }

    #[test]
    fn many_headers_about_the_same_megabytes_are_no_work() {
        let started = std::time::Instant::now();
        let (offset, length) = (64 * u64::from(u16::MAX) + 64, 8_u64 << 20);
        let mut section = vec![0; 64];
        section[0x18..0x20].copy_from_slice(&offset.to_le_bytes());
        section[0x20..0x28].copy_from_slice(&length.to_le_bytes());
        let file = repeated(0x28, 0x3c, &section, b'.');
        assert_eq!(Elf::parse(&file).expect("elf").section(".modinfo"), None);
        let mut segment = vec![0; 56];
        segment[..4].copy_from_slice(&SEGMENT_NOTE.to_le_bytes());
        segment[8..16].copy_from_slice(&(56 * u64::from(u16::MAX) + 64).to_le_bytes());
        segment[32..40].copy_from_slice(&length.to_le_bytes());
        let file = repeated(0x20, 0x38, &segment, 0);
        assert!(!Elf::parse(&file).expect("elf").has_note(b"Xen\0", 18));
        // Looking at all of it each time is half a terabyte.
        assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
    }

    proptest::proptest! {
        #[test]
        fn damaged_files_never_panic(position in 0_usize..500, byte: u8, keep in 0_usize..500) {
            let mut file = synthetic::elf(MACHINE_X86_64, Some((b"Xen\0", 18)), b"depends=a,b\0");
            let position = position % file.len();
            file[position] = byte;
            file.truncate(keep);
            if let Some(elf) = Elf::parse(&file) {
                elf.has_note(b"Xen\0", 19);
                elf.section(".none");
            }
        }
    }
}
