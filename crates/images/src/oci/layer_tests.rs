//! Archives as builders write them, and as nobody but an attacker does.

use proptest::prelude::*;

use super::super::archives::{Builder, read, record};
use super::*;

/// What the error of an archive says.
fn refusal(archive: Builder) -> String {
    let error = archive.read().expect_err("refused");
    match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn only(archive: Builder) -> Entry {
    let entries = archive.read().expect("an archive");
    let [entry] = entries.as_slice() else { unreachable!("{entries:?}") };
    entry.clone()
}

#[test]
fn every_kind_of_entry_is_read_with_its_metadata() {
    let archive = Builder::default()
        .directory("bin/")
        .entry(EntryType::Regular, "bin/su", b"program", |header| {
            header.set_mode(0o104_755);
            header.set_uid(70_000);
            header.set_gid(12);
        })
        .symbolic_link("sh", "bin/su")
        .hard_link("bin/so", "bin/su")
        .entry(EntryType::Fifo, "pipe", b"", |_| {})
        .entry(EntryType::Char, "null", b"", |_| {})
        .entry(EntryType::Block, "disk", b"", |_| {})
        // As tar wrote directories before POSIX.
        .entry(EntryType::Regular, "old/", b"", |_| {});
    let bytes = archive.clone().end();
    let entries = archive.read().expect("an archive");
    let kinds: Vec<_> = entries.iter().map(|entry| (entry.path.as_slice(), entry.kind.clone())).collect();
    let program = EntryKind::File { offset: 1024, length: 7 };
    assert_eq!(
        kinds,
        [
            (&b"bin/"[..], EntryKind::Directory),
            (b"bin/su", program),
            (b"sh", EntryKind::SymbolicLink(b"bin/su".to_vec())),
            (b"bin/so", EntryKind::HardLink(b"bin/su".to_vec())),
            (b"pipe", EntryKind::Fifo),
            (b"null", EntryKind::Device),
            (b"disk", EntryKind::Device),
            (b"old/", EntryKind::Directory),
        ]
    );
    assert_eq!(&bytes[1024..1031], b"program");
    let attributes = &entries[1].attributes;
    assert_eq!((attributes.mode, attributes.uid, attributes.gid), (0o4755, 70_000, 12));
    assert_eq!(attributes.modified, (1_600_000_000, 0));
}

#[test]
fn what_the_tar_library_writes_is_read() {
    let mut builder = tar::Builder::new(Vec::new());
    let long = format!("{}/file", "directory".repeat(20));
    let target = "target/".repeat(30);
    let mut header = Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    builder.append_data(&mut header, &long, &b"hello"[..]).expect("append");
    header.set_size(0);
    header.set_entry_type(EntryType::Symlink);
    builder.append_link(&mut header, format!("{long}2"), &target).expect("append");
    let entries = read(&builder.into_inner().expect("an archive")).expect("an archive");
    assert_eq!(entries[0].path, long.as_bytes());
    assert_eq!(entries[1].path, format!("{long}2").as_bytes());
    assert_eq!(entries[1].kind, EntryKind::SymbolicLink(target.into_bytes()));
}

#[test]
fn pax_records_hold_any_bytes_and_count_for_the_next_entry_alone() {
    // A capability as the kernel writes it: NULs, and here a newline and what looks like a record too.
    let capability = b"\x01\0\0\x02\n20 SCHILY.xattr.a=b\n\0=\0";
    let path = format!("{}é", "x".repeat(300));
    let archive = Builder::default()
        .records(&[
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.user.empty", b""),
            ("SCHILY.xattr.user.twice", b"first"),
            ("SCHILY.xattr.user.twice", b"last"),
            // These are no attributes of a file on a disk.
            ("SCHILY.xattr.system.posix_acl_access", b"u::rwx"),
            ("SCHILY.xattr.user.", b"without a name"),
            ("path", path.as_bytes()),
            ("uid", b"4294967294"),
            ("gid", b"3000000000"),
            ("mtime", b"1700000000.123456789999"),
            ("comment", b"said to nobody"),
        ])
        .file("short", b"")
        .file("plain", b"");
    let entries = archive.read().expect("an archive");
    let attributes = &entries[0].attributes;
    assert_eq!(entries[0].path, path.as_bytes());
    assert_eq!((attributes.uid, attributes.gid), (4_294_967_294, 3_000_000_000));
    assert_eq!(attributes.modified, (1_700_000_000, 123_456_789));
    let xattrs: Vec<_> =
        attributes.xattrs.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    assert_eq!(
        xattrs,
        [("security.capability", &capability[..]), ("user.empty", b""), ("user.twice", b"last")]
    );
    assert_eq!((entries[1].path.as_slice(), &entries[1].attributes.xattrs), (&b"plain"[..], &Vec::new()));
}

#[test]
fn times_are_kept_within_what_a_file_system_holds() {
    for (text, expected) in [
        ("0", (0, 0)),
        ("-1.5", (0, 0)),
        ("1.5", (1, 500_000_000)),
        ("1.", (1, 0)),
        ("99999999999999.9", (MAX_TIME, 900_000_000)),
        // No times: the header's is left.
        ("1.x", (1_600_000_000, 0)),
        ("", (1_600_000_000, 0)),
        ("1e9", (1_600_000_000, 0)),
    ] {
        let archive = Builder::default().records(&[("mtime", text.as_bytes())]).file("a", b"");
        assert_eq!(only(archive).attributes.modified, expected, "{text:?}");
    }
}

#[test]
fn long_names_of_gnu_tar_end_at_their_nul() {
    let (path, link) = ("p".repeat(500), "l".repeat(400));
    let archive = Builder::default()
        .entry(EntryType::GNULongLink, "././@LongLink", format!("{link}\0rest").as_bytes(), |_| {})
        .entry(EntryType::GNULongName, "././@LongLink", format!("{path}\0").as_bytes(), |_| {})
        .symbolic_link("p", "l");
    let entry = only(archive);
    assert_eq!((entry.path, entry.kind), (path.into_bytes(), EntryKind::SymbolicLink(link.into_bytes())));
}

#[test]
fn records_for_all_entries_and_those_that_describe_nothing_are_ignored() {
    let archive = Builder::default()
        .entry(EntryType::XGlobalHeader, "pax_global_header", &record("path", b"evil"), |_| {})
        .file("a", b"")
        .records(&[("path", b"nobody")]);
    assert_eq!(only(archive).path, b"a");
}

#[test]
fn sparse_files_and_kinds_that_no_file_system_has_are_refused() {
    let sparse = "is a sparse file, which is not supported";
    let old = Builder::default().entry(EntryType::GNUSparse, "a", b"", |_| {});
    assert!(refusal(old).contains(sparse));
    for key in ["GNU.sparse.major", "GNU.sparse.map", "GNU.sparse.realsize"] {
        let new = Builder::default().records(&[(key, b"1")]).file("a", b"");
        assert!(refusal(new).contains(sparse), "{key}");
    }
    let unknown = Builder::default().entry(EntryType::new(b'V'), "a", b"", |_| {});
    assert!(refusal(unknown).contains("is of no kind that a file system has"));
    let larger = Builder::default().records(&[("size", b"9000000000")]).file("a", b"");
    assert!(refusal(larger).contains("is larger than 8 GiB"));
}

#[test]
fn what_is_no_file_has_no_contents_and_nothing_is_cut_off() {
    for kind in [EntryType::Directory, EntryType::Symlink, EntryType::Link, EntryType::Fifo, EntryType::Char]
    {
        let archive = || Builder::default().records(&[("linkpath", b"x")]);
        assert!(
            refusal(archive().entry(kind, "a", b"contents", |_| {})).contains("is no file and has contents")
        );
        let endless = archive().entry(kind, "a", b"", |header| header.set_size(8 << 30)).file("b", b"");
        assert!(refusal(endless).contains("is cut off"), "{kind:?}");
    }
    for kind in [EntryType::GNULongName, EntryType::XHeader, EntryType::XGlobalHeader] {
        let endless =
            Builder::default().entry(kind, "a", b"", |header| header.set_size(8 << 30)).file("b", b"");
        assert!(refusal(endless).contains("is cut off"), "{kind:?}");
    }
}

#[test]
fn no_layer_moves_a_terminal() {
    let odd = |header: &mut Header| header.as_old_mut().size = *b"\x1b[2Jzzz\0\0\0\0\0";
    let refusal = refusal(Builder::default().entry(EntryType::Regular, "\x1b[31mred", b"", odd));
    assert!(refusal.contains("[2Jzzz") && !refusal.contains('\x1b'), "{refusal:?}");
}

#[test]
fn names_and_links_that_lead_nowhere_are_refused() {
    let nul = Builder::default().records(&[("path", b"a\0b")]).file("a", b"");
    assert!(refusal(nul).contains("too long, or has a NUL"));
    let long = Builder::default().records(&[("path", &[b'a'; MAX_PATH_BYTES + 1])]).file("a", b"");
    assert!(refusal(long).contains("too long, or has a NUL"));
    for target in [&b""[..], b"a\0b", &[b'a'; MAX_PATH_BYTES + 1]] {
        for kind in [EntryType::Symlink, EntryType::Link] {
            let link = Builder::default().records(&[("linkpath", target)]).entry(kind, "a", b"", |_| {});
            assert!(refusal(link).contains("is a link to nowhere"), "{target:?}");
        }
    }
    let longest = Builder::default().records(&[("linkpath", &[b'a'; MAX_PATH_BYTES])]);
    only(longest.symbolic_link("a", "b"));
}

#[test]
fn owners_that_no_file_can_have_are_refused() {
    for id in ["4294967295", "4294967296", "18446744073709551615"] {
        let owned = Builder::default().records(&[("uid", id.as_bytes())]).file("a", b"");
        assert!(refusal(owned).contains("has no owner"), "{id}");
        let owned = Builder::default().records(&[("gid", id.as_bytes())]).file("a", b"");
        assert!(refusal(owned).contains("has no group"), "{id}");
    }
    let mode = Builder::default().entry(EntryType::Regular, "a", b"", |header| {
        header.as_old_mut().mode = *b"bad mode";
    });
    assert!(refusal(mode).contains("has a mode that is no number"));
}

#[test]
fn records_longer_than_any_are_refused_before_they_are_kept() {
    let limit = usize::try_from(MAX_EXTENSION_BYTES).expect("it is small");
    for kind in [EntryType::XHeader, EntryType::GNULongName, EntryType::GNULongLink] {
        let archive = Builder::default().entry(kind, "a", &vec![b'a'; limit + 1], |_| {}).file("a", b"");
        assert!(refusal(archive).contains("longer than any"), "{kind:?}");
    }
    // A length that the archive does not have.
    let mut claim = Builder::default().entry(EntryType::XHeader, "a", b"", |header| header.set_size(1 << 40));
    claim = claim.padded(&[b'a'; 4096]);
    assert!(claim.read().is_err());
}

#[test]
fn malformed_records_are_refused() {
    for text in [
        &b"x"[..],
        b"5 a=b",
        b"99 a=b\n",
        b"0 a=b\n",
        b"1 a=b\n",
        b"-6 a=b\n",
        b"6 a=b!",
        b"6 ab!\n",
        b" a=b\n",
        b"18446744073709551616 a=b\n",
        b"6 a=b\n\0",
    ] {
        let archive = Builder::default().entry(EntryType::XHeader, "x", text, |_| {}).file("a", b"");
        assert!(refusal(archive).contains("a malformed pax record"), "{text:?}");
    }
}

#[test]
fn more_attributes_than_a_file_can_have_are_refused_before_they_are_kept() {
    let value = vec![b'v'; MAX_XATTR_BYTES];
    let large = Builder::default().records(&[("SCHILY.xattr.user.a", &value)]).file("a", b"");
    assert!(refusal(large).contains(TOO_MANY_XATTRS));
    let fits = vec![b'v'; MAX_XATTR_BYTES - "user.a".len() - 24];
    only(Builder::default().records(&[("SCHILY.xattr.user.a", &fits)]).file("a", b""));
    let long = format!("SCHILY.xattr.user.{}", "n".repeat(251));
    let long = Builder::default().records(&[(&long, b"")]).file("a", b"");
    assert!(refusal(long).contains(TOO_MANY_XATTRS));
    // Records without end about an entry that never comes.
    let names: Vec<String> = (0..2000).map(|number| format!("SCHILY.xattr.user.{number}")).collect();
    let records: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let many = (0..100).fold(Builder::default(), |archive, _| archive.records(&records));
    assert!(refusal(many).contains(TOO_MANY_XATTRS));
}

#[test]
fn a_file_that_ends_before_its_contents_is_refused() {
    for length in [2048, 1 << 33, 1 << 62, (1 << 63) - 1] {
        let archive = Builder::default().entry(EntryType::Regular, "a", b"half of it", |header| {
            header.set_size(length);
        });
        let error = archive.read().expect_err("refused");
        assert!(error.to_string().contains("is cut off") || length > 1 << 61, "{length}: {error}");
    }
}

#[test]
fn all_archives_of_an_image_have_one_allowance() {
    let two = Builder::default().file("a", b"").symbolic_link("b", "c").end();
    let read = |entries, metadata_bytes| {
        let mut allowance = Allowance { entries, metadata_bytes };
        read_archive(io::Cursor::new(&two), &mut allowance)
            .and_then(|_| read_archive(io::Cursor::new(&two), &mut allowance))
    };
    let bytes = 6 + 4 * ENTRY_BYTES;
    assert!(read(4, bytes).is_ok());
    assert!(matches!(read(3, bytes), Err(ReadLayerError::TooManyEntries)));
    assert!(matches!(read(4, bytes - 1), Err(ReadLayerError::TooMuchMetadata)));
}

#[test]
fn attributes_are_charged_for_what_they_take_in_memory() {
    // As many as a file may have: each is six bytes in the archive's record, and many times that in memory.
    let names: Vec<String> = (0..100).map(|number| format!("SCHILY.xattr.user.{number}")).collect();
    let records: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let archive = Builder::default().records(&records).file("a", b"").end();
    let before = Allowance::default().metadata_bytes;
    let mut allowance = Allowance::default();
    let entries = read_archive(io::Cursor::new(&archive), &mut allowance).expect("an archive");
    assert_eq!(entries[0].attributes.xattrs.len(), 100);
    let held = entries[0].attributes.xattrs.len() * size_of::<(String, Vec<u8>)>() + size_of::<Entry>();
    let charged = before - allowance.metadata_bytes;
    assert!(charged >= held, "{charged} bytes are charged for {held}");
}

#[test]
fn a_damaged_header_is_refused_and_zeros_end_an_archive() {
    let mut bytes = Builder::default().file("a", b"1").file("b", b"2").end();
    bytes[1024] ^= 1;
    assert!(matches!(read(&bytes), Err(ReadLayerError::Archive(_))));
    assert_eq!(read(&[]).expect("an empty archive"), []);
    assert_eq!(read(&[0; 700]).expect("an empty archive"), []);
    assert!(matches!(read(&[1; 700]), Err(ReadLayerError::Archive(_))));
}

#[test]
fn a_file_is_read_through_its_buffer_to_the_same_entries() {
    let contents = vec![b'x'; 40_000];
    let archive = (0..50).fold(Builder::default(), |archive, number| {
        let length = (number * 997) % contents.len();
        archive.file(&format!("file-{number}"), &contents[..length]).directory(&format!("d{number}"))
    });
    let layer = archive.clone().layer();
    let entries = read_entries(&layer.file, &mut Allowance::default()).expect("an archive");
    assert_eq!(entries, archive.read().expect("an archive"));
    assert_eq!(entries.len(), 100);
}

/// Archives with faults: entries, some bytes of which are others.
fn almost_archives() -> impl Strategy<Value = Vec<u8>> {
    let kinds = prop::sample::select(b"0157236xgLKSV\0".to_vec());
    let entry = (kinds, "[a-c./]{0,12}", prop::collection::vec(any::<u8>(), 0..600));
    let faults = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (prop::collection::vec(entry, 0..6), faults, any::<bool>()).prop_map(|(entries, faults, seals)| {
        let mut archive = Builder::default();
        for (kind, path, contents) in entries {
            archive = archive.entry(EntryType::new(kind), &path, &contents, |_| {});
        }
        let mut bytes = archive.end();
        for (place, byte) in faults {
            let place = place.index(bytes.len());
            bytes[place] = byte;
            if seals && let Some(block) = bytes.get_mut(place / 512 * 512..place / 512 * 512 + 512) {
                let mut header = Header::new_old();
                header.as_mut_bytes().copy_from_slice(block);
                header.set_cksum();
                block.copy_from_slice(header.as_bytes());
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_are_entries_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        let _ = read(&bytes);
    }

    #[test]
    fn archives_with_faults_are_entries_or_an_error(bytes in almost_archives()) {
        if let Ok(entries) = read(&bytes) {
            for entry in entries {
                if let EntryKind::File { offset, length } = entry.kind {
                    prop_assert!(offset + length <= bytes.len() as u64);
                }
            }
        }
    }

    #[test]
    fn any_records_are_taken_or_an_error(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Extensions::default().take_records(&text);
    }

    #[test]
    fn records_are_what_was_written(key in "[A-Za-z.]{1,90}", value in prop::collection::vec(any::<u8>(), 0..120)) {
        let written = record(&key, &value);
        prop_assert_eq!(super::record(&written), Some((key.as_bytes(), &value[..], &b""[..])));
    }
}
