//! How much is too much, and when it is over.

use std::cell::Cell;

use super::super::tree::FileFacts;
use super::*;

const ROOMY: Limits = Limits { entries: 1000, size: 1 << 20, header: 1 << 12, names: 1 << 12 };

#[track_caller]
fn limit(limits: Limits, kind: ArchiveKind, bytes: &[u8]) -> Option<Limit> {
    let place = Place::new();
    let result = unpack_within(limits, &place.archive(bytes), kind, &place.target(), &|| false);
    match result {
        Ok(()) => None,
        Err(UnpackError::TooLarge { limit, .. }) => {
            assert!(names(&place.directory.path().join("work")).is_empty());
            Some(limit)
        }
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn entries_are_counted_with_the_directories_they_imply() {
    for kind in KINDS {
        let packed = pack(kind, &[entry("a/b/c", FILE, ""), entry("a/d", FILE, ""), entry("a/l", LINK, "d")]);
        assert_eq!(limit(Limits { entries: 5, ..ROOMY }, kind, &packed), None, "{kind:?}");
        assert_eq!(limit(Limits { entries: 4, ..ROOMY }, kind, &packed), Some(Limit::Entries(4)), "{kind:?}");
    }
}

#[test]
fn a_bomb_is_no_larger_than_its_limit() {
    for kind in KINDS {
        let packed = pack(kind, &[entry("a", FILE, "x".repeat(300_000)), entry("b", FILE, "x".repeat(300_000))]);
        let limits = |size| Limits { size, ..ROOMY };
        assert_eq!(limit(limits(610_000), kind, &packed), None, "{kind:?}");
        assert_eq!(limit(limits(599_999), kind, &packed), Some(Limit::Size(599_999)), "{kind:?}");
    }
}

#[test]
fn a_size_that_is_too_large_is_reason_enough() {
    let mut tar = pack(TAR, &[entry("a", FILE, "1")]);
    tar[124..135].copy_from_slice(b"00010000000");
    correct_sum(&mut tar);
    assert_eq!(limit(ROOMY, TAR, &tar), Some(Limit::Size(1 << 20)));
}

#[test]
fn a_file_without_end_ends_where_it_should() {
    let place = Place::new();
    let mut tree = Tree::new(place.directory.path(), Path::new("archive"), ROOMY, &|| false).unwrap();
    let name = tree.name(b"a").unwrap();
    let facts = FileFacts { executable: false, modified: None };
    let result = tree.file(&name, &facts, 10, &mut std::io::repeat(0));
    assert!(matches!(result, Err(UnpackError::Corrupt { .. })), "{result:?}");
}

#[test]
fn what_comes_after_the_end_counts_too() {
    let mut tar = pack(TAR, &[entry("a", FILE, "1")]);
    tar.resize(3 << 20, 0);
    let packed = compress(Compression::Gzip, &tar);
    assert_eq!(limit(ROOMY, ArchiveKind::Tar(Compression::Gzip), &packed), Some(Limit::Size(1 << 20)));
}

#[test]
fn holes_count_as_what_they_are() {
    // One hole of a gigabyte, and nothing else.
    let mut header = *b"ustar  \0";
    let mut tar = Tar::default().raw(b'S', b"a", b"", 0o644, 0, b"").0;
    tar[257..265].swap_with_slice(&mut header);
    let size = b"10000000000\0";
    tar[386..398].copy_from_slice(size);
    tar[398..410].copy_from_slice(b"00000000000\0");
    tar[483..495].copy_from_slice(size);
    correct_sum(&mut tar);
    assert_eq!(limit(ROOMY, TAR, &Tar(tar).end()), Some(Limit::Size(1 << 20)));
}

#[test]
fn headers_are_not_held_without_end() {
    let long = "a/".repeat(4000);
    assert_eq!(limit(ROOMY, TAR, &pack(TAR, &[entry(&long, DIRECTORY, "")])), Some(Limit::Header(1 << 12)));
    let tar = Tar::default().pax(b'x', "comment", &[b'x'; 5000]).entry(&entry("a", FILE, "1")).end();
    assert_eq!(limit(ROOMY, TAR, &tar), Some(Limit::Header(1 << 12)));
    // What is skipped is no header.
    let tar = Tar::default().pax(b'g', "comment", &[b'x'; 5000]).entry(&entry("a", FILE, "1")).end();
    assert_eq!(limit(ROOMY, TAR, &tar), None);
}

#[test]
fn it_can_be_cancelled_at_any_time() {
    for kind in KINDS {
        let entries = [entry("a/b", FILE, "x".repeat(200_000)), entry("a/l", LINK, "b"), entry("c", FILE, "")];
        let packed = pack(kind, &entries);
        let mut is_done = false;
        for after in 0.. {
            let place = Place::new();
            let asked = Cell::new(0);
            let cancelled = || asked.replace(asked.get() + 1) >= after;
            let result = unpack(&place.archive(&packed), kind, &place.target(), &cancelled);
            let left = names(&place.directory.path().join("work"));
            if result.is_ok() {
                assert_eq!(left, ["target"]);
                is_done = after > 5;
                break;
            }
            assert!(matches!(result, Err(UnpackError::Cancelled { .. })), "{kind:?} after {after}: {result:?}");
            assert!(left.is_empty(), "{kind:?} after {after}: {left:?}");
        }
        assert!(is_done, "{kind:?}");
    }
}

#[test]
fn what_is_held_in_memory_of_links_and_directories_is_bounded() {
    let link = entry("l".repeat(200), LINK, "x".repeat(90));
    let directories = entry(format!("{0}/{0}/{0}/", "d".repeat(60)), DIRECTORY, "");
    for kind in [TAR, ArchiveKind::Zip, ArchiveKind::SevenZ] {
        for (entry, held) in [(&link, 290), (&directories, 60 + 121 + 182)] {
            let packed = pack(kind, std::slice::from_ref(entry));
            let limits = |names| Limits { names, ..ROOMY };
            assert_eq!(limit(limits(held), kind, &packed), None, "{kind:?}");
            assert_eq!(limit(limits(held - 1), kind, &packed), Some(Limit::Names(held - 1)), "{kind:?}");
        }
    }
}
