//! What is well meant.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::*;

#[test]
fn each_kind_gives_back_what_was_packed() {
    let long = format!("top/{}", "a-long-name-".repeat(12));
    let entries = [
        entry("top/", DIRECTORY, ""),
        entry("top/file", FILE, "some text"),
        entry("top/bin/program", PROGRAM, "#!"),
        entry("top/empty", FILE, ""),
        entry("top/nothing/", DIRECTORY, ""),
        entry("top/link", LINK, "bin/program"),
        entry("top/bin/up", LINK, "../file"),
        entry("top/to-directory", LINK, "bin"),
        entry(&long, FILE, "x".repeat(100_000)),
        entry("top/ü", FILE, "not ASCII"),
    ];
    for kind in KINDS {
        let place = Place::new();
        place.unpack(kind, &pack(kind, &entries)).unwrap();
        let found = contents(&place.target());
        let long_content = "x".repeat(100_000);
        let expected = tree([
            ("bin", "/"),
            ("bin/program", "#!"),
            ("bin/up", "-> ../file"),
            ("empty", ""),
            ("file", "some text"),
            ("link", "-> bin/program"),
            ("nothing", "/"),
            ("to-directory", "-> bin"),
            (&long[4..], &long_content),
            ("ü", "not ASCII"),
        ]);
        assert_eq!(found, expected, "{kind:?}");
        let modified = place.target().join("file").metadata().unwrap().modified().unwrap();
        assert_eq!(modified, UNIX_EPOCH + Duration::from_secs(1_000_000_000), "{kind:?}");
    }
}

#[cfg(unix)]
#[test]
fn whether_a_file_is_executable_is_all_that_its_mode_says() {
    use std::os::unix::fs::PermissionsExt;

    for kind in KINDS {
        let entries = [
            entry("d/", 0o042_000, ""),
            entry("d/program", 0o106_711, ""),
            entry("d/secret", 0o100_000, ""),
            entry("other", FILE, ""),
        ];
        let place = Place::new();
        place.unpack(kind, &pack(kind, &entries)).unwrap();
        let mode = |name| place.target().join(name).metadata().unwrap().permissions().mode() & 0o7777;
        // That of a file which is made here, by the same umask.
        let made = place.directory.path().join("made");
        std::fs::write(&made, "").unwrap();
        let plain = made.metadata().unwrap().permissions().mode() & 0o7777;
        std::fs::remove_file(&made).unwrap();
        std::fs::create_dir(&made).unwrap();
        let full = made.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("d/program"), full, "{kind:?}");
        assert_eq!(mode("d/secret"), plain, "{kind:?}");
        assert_eq!(mode("d") & 0o777, full, "{kind:?}");
        assert_eq!(mode("") & 0o777, full, "{kind:?}");
    }
}

#[test]
fn two_directories_at_the_top_stay_where_they_are() {
    for kind in KINDS {
        let packed = pack(kind, &[entry("a/x", FILE, "1"), entry("b/y", FILE, "2")]);
        assert_eq!(unpacked(kind, &packed), tree([("a", "/"), ("a/x", "1"), ("b", "/"), ("b/y", "2")]), "{kind:?}");
    }
}

#[test]
fn only_a_directory_is_stripped() {
    for kind in KINDS {
        let packed = pack(kind, &[entry("file", FILE, "1")]);
        assert_eq!(unpacked(kind, &packed), tree([("file", "1")]), "{kind:?}");
        let packed = pack(kind, &[entry("a/x", FILE, "1"), entry("link", LINK, "a")]);
        assert_eq!(unpacked(kind, &packed), tree([("a", "/"), ("a/x", "1"), ("link", "-> a")]), "{kind:?}");
        let packed = pack(kind, &[entry("link", LINK, "nowhere")]);
        assert_eq!(unpacked(kind, &packed), tree([("link", "-> nowhere")]), "{kind:?}");
    }
}

#[test]
fn only_one_directory_is_stripped() {
    for kind in KINDS {
        let packed = pack(kind, &[entry("a/b/c", FILE, "1")]);
        assert_eq!(unpacked(kind, &packed), tree([("b", "/"), ("b/c", "1")]), "{kind:?}");
    }
}

#[test]
fn what_git_writes_about_a_commit_is_no_entry_at_the_top() {
    let tar = Tar::default().pax(b'g', "comment", b"0123456789").entry(&entry("top/file", FILE, "1")).end();
    assert_eq!(unpacked(TAR, &tar), tree([("file", "1")]));
}

#[test]
fn dots_in_names_mean_nothing() {
    for kind in KINDS {
        let packed = pack(kind, &[entry("./", DIRECTORY, ""), entry("./a//./b", FILE, "1")]);
        assert_eq!(unpacked(kind, &packed), tree([("b", "1")]), "{kind:?}");
    }
}

#[test]
fn a_time_to_come_becomes_now() {
    for kind in KINDS {
        let mut late = entry("file", FILE, "");
        late.modified = 8_000_000_000;
        let before = SystemTime::now();
        let place = Place::new();
        place.unpack(kind, &pack(kind, &[late])).unwrap();
        let modified = place.target().join("file").metadata().unwrap().modified().unwrap();
        // The file systems of some have coarse clocks.
        assert!(modified <= SystemTime::now(), "{kind:?}");
        assert!(kind == ArchiveKind::Zip || modified + Duration::from_secs(2) >= before, "{kind:?}");
    }
}

#[test]
fn a_tar_may_say_a_thing_twice_and_the_later_counts() {
    let tar = pack(TAR, &[entry("a", FILE, "long ago"), entry("b", FILE, ""), entry("./a", PROGRAM, "now")]);
    assert_eq!(unpacked(TAR, &tar), tree([("a", "now"), ("b", "")]));
}

#[test]
fn hard_links_are_one_file() {
    let tar = Tar::default().entry(&entry("top/a", FILE, "1")).hard_link("top/b/c", "top/a").end();
    let place = Place::new();
    place.unpack(TAR, &tar).unwrap();
    assert_eq!(contents(&place.target()), tree([("a", "1"), ("b", "/"), ("b/c", "1")]));
    std::fs::write(place.target().join("a"), "2").unwrap();
    assert_eq!(std::fs::read_to_string(place.target().join("b/c")).unwrap(), "2");
}

#[test]
fn a_hard_link_to_a_link_is_that_link_again() {
    let tar = Tar::default().entry(&entry("a", LINK, "x")).hard_link("b", "a").hard_link("c", "a").end();
    assert_eq!(unpacked(TAR, &tar), tree([("a", "-> x"), ("b", "-> x"), ("c", "-> x")]));
}

#[test]
fn a_file_that_replaces_a_hard_link_leaves_the_other_alone() {
    let tar = Tar::default().entry(&entry("a", FILE, "1")).hard_link("b", "a").hard_link("b", "b");
    assert_eq!(unpacked(TAR, &tar.entry(&entry("b", FILE, "2")).end()), tree([("a", "1"), ("b", "2")]));
}

#[test]
fn directories_and_empty_files_among_the_files_of_a_7z_lose_none() {
    let archive = raw_seven_z(COPY, &[]);
    assert_eq!(unpacked(ArchiveKind::SevenZ, &archive), tree([("a", "one"), ("b", "two!"), ("d", "/")]));
}

#[test]
fn a_deflated_zip_is_inflated() {
    use zip::write::SimpleFileOptions;

    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    writer.start_file("top/file", options).unwrap();
    writer.write_all(&[b'x'; 100_000]).unwrap();
    let zip = writer.finish().unwrap().into_inner();
    assert!(zip.len() < 10_000);
    assert_eq!(unpacked(ArchiveKind::Zip, &zip)["file"].len(), 100_000);
}

#[test]
fn a_zip_from_windows_has_directories_too() {
    let zip = zip(&[entry(r"top\bin\", 0, ""), entry(r"top\bin\program", 0, "1")]);
    assert_eq!(unpacked(ArchiveKind::Zip, &zip), tree([("bin", "/"), ("bin/program", "1")]));
}

#[test]
fn compressions_in_several_pieces_are_read_to_the_end() {
    let tar = pack(TAR, &[entry("a", FILE, "x".repeat(5000)), entry("b", FILE, "2")]);
    let (first, second) = tar.split_at(3000);
    for kind in [Compression::Gzip, Compression::Bzip2, Compression::Xz, Compression::Zstd] {
        let pieces = [compress(kind, first), compress(kind, second)].concat();
        assert_eq!(unpacked(ArchiveKind::Tar(kind), &pieces)["b"], "2", "{kind:?}");
    }
}

#[test]
fn the_ending_tells_the_kind() {
    for (name, kind) in [
        ("a-1.0.tar", TAR),
        ("a.tar.gz", ArchiveKind::Tar(Compression::Gzip)),
        ("A.TGZ", ArchiveKind::Tar(Compression::Gzip)),
        ("a.tar.bz2", ArchiveKind::Tar(Compression::Bzip2)),
        ("a.tbz", ArchiveKind::Tar(Compression::Bzip2)),
        ("a.tar.xz", ArchiveKind::Tar(Compression::Xz)),
        ("a.txz", ArchiveKind::Tar(Compression::Xz)),
        ("a.tar.lzma", ArchiveKind::Tar(Compression::Lzma)),
        ("a.tlz", ArchiveKind::Tar(Compression::Lzma)),
        ("a.tar.zst", ArchiveKind::Tar(Compression::Zstd)),
        ("a.Zip", ArchiveKind::Zip),
        ("a.7z", ArchiveKind::SevenZ),
    ] {
        assert_eq!(ArchiveKind::of(name).unwrap(), kind, "{name}");
    }
}

#[test]
fn other_endings_are_refused_with_those_that_are_known() {
    for (name, said) in [
        ("a.tar.lz", "`a.tar.lz` cannot be unpacked: lzip is not supported"),
        ("a.tar.lzo", "`a.tar.lzo` cannot be unpacked: lzo is not supported"),
        ("a.tar.Z", "`a.tar.Z` cannot be unpacked: compress is not supported"),
        ("a.gz", "`a.gz` cannot be unpacked: its ending is not that of an archive"),
        ("tar", "`tar` cannot be unpacked: its ending is not that of an archive"),
        ("", "`` cannot be unpacked: its ending is not that of an archive"),
    ] {
        let error = ArchiveKind::of(name).unwrap_err();
        assert_eq!(error.to_string(), said);
        let help = miette::Diagnostic::help(&error).unwrap().to_string();
        for ending in [".tar.gz", ".tar.bz2", ".tar.xz", ".tar.lzma", ".tar.zst", ".zip", ".7z"] {
            assert!(help.contains(ending), "{help}");
        }
    }
}
