//! What means harm.

use super::*;

/// Those which have all that these tests need; the compressions of tar are no different here.
const SOME: [ArchiveKind; 3] = [TAR, ArchiveKind::Zip, ArchiveKind::SevenZ];

#[track_caller]
fn assert_refused(entries: &[Entry], expected: &EntryProblem) {
    for kind in SOME {
        assert_eq!(problem(kind, &pack(kind, entries)), *expected, "{kind:?} {entries:?}");
    }
}

#[test]
fn names_that_lead_outside_are_refused() {
    for name in ["../x", "a/../../x", "a/..", "..", r"..\x", r"a\..\..\x", r"a/..\x", "a/../b"] {
        assert_refused(&[entry(name, FILE, "")], &EntryProblem::Parent);
    }
    for name in ["/x", "//x", "/", r"\x", r"\\server\share", "C:/x", r"c:\x", "C:x"] {
        assert_refused(&[entry(name, FILE, "")], &EntryProblem::Absolute);
    }
}

#[test]
fn directories_and_links_are_not_let_out_either() {
    for mode in [DIRECTORY, LINK] {
        assert_refused(&[entry("../x/", mode, "a")], &EntryProblem::Parent);
        assert_refused(&[entry("/x/", mode, "a")], &EntryProblem::Absolute);
    }
}

#[test]
fn names_that_are_none_are_refused() {
    for name in [".", "./.", "././"] {
        for mode in [LINK, if name.ends_with('/') { LINK } else { FILE }] {
            assert_refused(&[entry(name, mode, "x")], &EntryProblem::Nameless);
        }
    }
    for kind in [TAR, ArchiveKind::Zip] {
        assert_eq!(problem(kind, &pack(kind, &[entry("", FILE, "")])), EntryProblem::Nameless);
        assert_eq!(problem(kind, &pack(kind, &[entry("", DIRECTORY, "")])), EntryProblem::Nameless);
    }
}

#[test]
fn names_with_nul_are_refused() {
    for kind in [TAR, ArchiveKind::Zip] {
        assert_eq!(problem(kind, &pack(kind, &[entry("a\0b", FILE, "")])), EntryProblem::Nul);
    }
    let tar = Tar::default().pax(b'x', "path", b"a\0b").entry(&entry("c", FILE, "")).end();
    assert_eq!(problem(TAR, &tar), EntryProblem::Nul);
    let tar = Tar::default().pax(b'x', "linkpath", b"a\0b").entry(&entry("c", LINK, "d")).end();
    assert_eq!(problem(TAR, &tar), EntryProblem::Nul);
}

#[test]
fn what_an_extension_says_is_looked_at_as_well() {
    let tar = Tar::default().pax(b'x', "path", b"../x").entry(&entry("c", FILE, "")).end();
    assert_eq!(problem(TAR, &tar), EntryProblem::Parent);
    let long = format!("{}/../../../x", "a".repeat(150));
    assert_eq!(problem(TAR, &pack(TAR, &[entry(&long, FILE, "")])), EntryProblem::Parent);
    let tar = Tar::default().pax(b'x', "linkpath", b"../x").entry(&entry("c", LINK, "d")).end();
    assert_eq!(problem(TAR, &tar), EntryProblem::LinkOutside("../x".to_owned()));
}

#[test]
fn links_to_outside_are_refused() {
    for target in [
        "..",
        "../x",
        "/",
        "/etc/passwd",
        "//x",
        "a/../../x",
        "./../x",
        "x/../..",
        "C:/x",
        r"..\x",
        r"a\..\..\x",
        r"\x",
        r"a/\x",
        "d/../../d/x",
    ] {
        let entries = [entry("l", LINK, target), entry("d/x", FILE, "")];
        assert_refused(&entries, &EntryProblem::LinkOutside(target.to_owned()));
    }
}

#[test]
fn what_is_outside_is_decided_by_the_directory_that_is_left() {
    // It would be inside, were it not for the directory that is stripped.
    let entries = [entry("top/l", LINK, "../top/x"), entry("top/x", FILE, "")];
    assert_refused(&entries, &EntryProblem::LinkOutside("../top/x".to_owned()));
    for kind in SOME {
        let packed = pack(kind, &[entry("top/l", LINK, "../top/x"), entry("top/x", FILE, "1"), entry("y", FILE, "")]);
        assert_eq!(unpacked(kind, &packed)["top/l"], "-> ../top/x");
    }
}

#[test]
fn links_lead_outside_through_others() {
    // By its text, `m` leads to `d`. But from `d/e/l` one comes to the top, and from there further up.
    let entries = [entry("d/e/l", LINK, "../.."), entry("m", LINK, "d/e/l/.."), entry("x", FILE, "")];
    assert_refused(&entries, &EntryProblem::LinkOutside("d/e/l/..".to_owned()));
    // The same, with the links in the other order and a longer way.
    let entries = [
        entry("a", LINK, "b/.."),
        entry("b", LINK, "c"),
        entry("c", LINK, "d/e/l"),
        entry("d/e/l", LINK, "../../d/.."),
    ];
    assert_refused(&entries, &EntryProblem::LinkOutside("b/..".to_owned()));
    // Through what is not there, it would be outside as soon as it is.
    let entries = [entry("m", LINK, "missing/../.."), entry("x", FILE, "")];
    assert_refused(&entries, &EntryProblem::LinkOutside("missing/../..".to_owned()));
}

#[test]
fn links_through_others_are_fine_inside() {
    let entries = [entry("d/e/l", LINK, "../.."), entry("m", LINK, "d/e/l/d/../x"), entry("x", FILE, "1")];
    for kind in SOME {
        let place = Place::new();
        place.unpack(kind, &pack(kind, &entries)).unwrap();
        assert_eq!(std::fs::read_to_string(place.target().join("m")).unwrap(), "1");
    }
}

#[test]
fn links_in_circles_are_refused() {
    assert_refused(&[entry("a", LINK, "a")], &EntryProblem::LinkLoop("a".to_owned()));
    assert_refused(&[entry("a", LINK, "b/x"), entry("b", LINK, "a")], &EntryProblem::LinkLoop("b/x".to_owned()));
    // As many as the system follows, and one more.
    let chain = |length| {
        let links = (0..length).map(|n| entry(format!("l{n}"), LINK, format!("l{}", n + 1)));
        pack(TAR, &links.chain([entry(format!("l{length}"), FILE, "1")]).collect::<Vec<_>>())
    };
    let place = Place::new();
    place.unpack(TAR, &chain(40)).unwrap();
    assert_eq!(std::fs::read_to_string(place.target().join("l0")).unwrap(), "1");
    assert_eq!(problem(TAR, &chain(41)), EntryProblem::LinkLoop("l1".to_owned()));
    // Each doubles what is to be followed.
    let doubling: Vec<_> =
        (0..60).map(|n| entry(format!("l{n:02}"), LINK, format!("l{:02}/../l{:02}", n + 1, n + 1))).collect();
    assert_refused(&doubling, &EntryProblem::LinkLoop("l01/../l01".to_owned()));
}

#[test]
fn nothing_is_written_through_a_link() {
    for target in [".", "d", "../../..", "/tmp"] {
        let entries = [entry("d/x", FILE, "1"), entry("l", LINK, target), entry("l/x", FILE, "2")];
        for kind in SOME {
            let result = Place::new().unpack(kind, &pack(kind, &entries));
            assert!(matches!(result, Err(UnpackError::Refused { .. })), "{kind:?} {target} {result:?}");
        }
    }
    let below = [entry("l", LINK, "d"), entry("l/sub/", DIRECTORY, ""), entry("d/x", FILE, "1")];
    assert_refused_conflict(&SOME[..2], &below, "l");
}

#[test]
fn a_name_is_one_thing_only() {
    for (first, second) in [
        (entry("a", FILE, "1"), entry("./a", LINK, "b")),
        (entry("a", LINK, "b"), entry("./a", FILE, "1")),
        (entry("a/", DIRECTORY, ""), entry("./a", LINK, "b")),
        (entry("a", LINK, "b"), entry("./a/", DIRECTORY, "")),
        (entry("a/", DIRECTORY, ""), entry("./a", FILE, "1")),
        (entry("a", FILE, "1"), entry("./a/", DIRECTORY, "")),
        (entry("a", FILE, "1"), entry("./a/b", FILE, "1")),
    ] {
        let entries = [entry("b", FILE, ""), first, second];
        assert_refused_conflict(&SOME, &entries, "a");
    }
}

#[track_caller]
fn assert_refused_conflict(kinds: &[ArchiveKind], entries: &[Entry], with: &str) {
    for kind in kinds {
        assert_eq!(problem(*kind, &pack(*kind, entries)), EntryProblem::Conflict(with.to_owned()), "{kind:?}");
    }
}

#[test]
fn two_entries_of_one_name_are_refused_in_a_zip() {
    for second in [entry("a", FILE, "2"), entry("a", LINK, "b")] {
        let result = Place::new().unpack(ArchiveKind::Zip, &zip(&[entry("a", FILE, "1"), second]));
        assert!(matches!(result, Err(UnpackError::Corrupt { .. })), "{result:?}");
    }
}

#[test]
fn a_file_is_no_way_out_by_a_link_in_its_place() {
    let outside = tempfile::NamedTempFile::new().unwrap();
    let target = outside.path().to_str().unwrap();
    for entries in [
        [entry("a", FILE, "1"), entry("a", LINK, target), entry("a", FILE, "2")],
        [entry("a", LINK, target), entry("a", FILE, "2"), entry("b", FILE, "")],
    ] {
        assert!(Place::new().unpack(TAR, &pack(TAR, &entries)).is_err());
    }
    assert_eq!(outside.as_file().metadata().unwrap().len(), 0);
}

#[test]
fn hard_links_lead_to_files_of_the_archive_only() {
    let outside = tempfile::NamedTempFile::new().unwrap();
    let outside = outside.path().to_str().unwrap();
    for target in ["/etc/passwd", outside, "../../the-archive", "missing", "d", "", ".", r"..\..\the-archive", "l/x"] {
        let tar = Tar::default().entry(&entry("d/x", FILE, "")).entry(&entry("l", LINK, "d"));
        let tar = tar.hard_link("a", target).end();
        assert_eq!(problem(TAR, &tar), EntryProblem::HardLink(target.to_owned()));
    }
    let tar = Tar::default().entry(&entry("b", FILE, "")).hard_link("../a", "b").end();
    assert_eq!(problem(TAR, &tar), EntryProblem::Parent);
    let tar = Tar::default().entry(&entry("b", FILE, "")).entry(&entry("d", DIRECTORY, "")).hard_link("d", "b").end();
    assert_eq!(problem(TAR, &tar), EntryProblem::Conflict("d".to_owned()));
    let tar = Tar::default().entry(&entry("b", FILE, "")).entry(&entry("l", LINK, "b")).hard_link("l", "b").end();
    assert_eq!(problem(TAR, &tar), EntryProblem::Conflict("l".to_owned()));
}

#[test]
fn devices_and_the_like_are_refused() {
    for (mode, what) in [(0o020_000, "a device"), (0o060_000, "a device"), (0o010_000, "a pipe")] {
        assert_refused(&[entry("a", mode, "")], &EntryProblem::Kind(what));
    }
    for kind in [ArchiveKind::Zip, ArchiveKind::SevenZ] {
        let packed = pack(kind, &[entry("a", 0o140_000, "")]);
        assert_eq!(problem(kind, &packed), EntryProblem::Kind("a socket"));
    }
    for kind in *b"VMDNA" {
        let tar = Tar::default().raw(kind, b"a", b"", 0o644, 0, b"").entry(&entry("b", FILE, "")).end();
        assert_eq!(problem(TAR, &tar), EntryProblem::Kind("of a kind that is not known"));
    }
}

#[test]
fn a_sparse_file_of_pax_is_refused_rather_than_written_with_its_list_of_holes() {
    let tar = Tar::default().pax(b'x', "GNU.sparse.major", b"1").entry(&entry("a", FILE, "0\n")).end();
    assert_eq!(problem(TAR, &tar), EntryProblem::Kind("a sparse file in the format of pax"));
}

#[test]
fn links_of_windows_and_notes_to_remove_are_refused_in_a_7z() {
    let packed = |entry| {
        let mut writer = ArchiveWriter::new(std::io::Cursor::new(Vec::new())).unwrap();
        writer.push_archive_entry(entry, Some(&b"C:\\"[..])).unwrap();
        writer.finish().unwrap().into_inner()
    };
    let mut link = ArchiveEntry::new_file("a");
    (link.has_windows_attributes, link.windows_attributes) = (true, 0x400);
    assert_eq!(problem(ArchiveKind::SevenZ, &packed(link)), EntryProblem::Kind("a reparse point of Windows"));
    // Of the entries without content, which is one, this says which are such notes.
    let note = raw_seven_z(COPY, &[16, 1, 0b1000_0000]);
    assert_eq!(problem(ArchiveKind::SevenZ, &note), EntryProblem::Kind("a note to remove one"));
}

#[test]
fn a_name_that_steers_the_terminal_is_not_shown_as_it_is() {
    let name = format!("\x1b[2J{}/../x", "a".repeat(300));
    let error = Place::new().unpack(TAR, &pack(TAR, &[entry(name, FILE, "")])).unwrap_err().to_string();
    assert!(error.contains("\u{fffd}[2Jaaa") && !error.contains('\x1b'), "{error}");
    assert!(error.chars().count() < 350, "{error}");
}
