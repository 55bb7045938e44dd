//! What is broken, and what is in the way.

use std::collections::HashMap;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

fn sample(kind: ArchiveKind) -> Vec<u8> {
    // What cannot be compressed, so that there is content at each eighth.
    let mut state = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(20_000)
    .collect();
    pack(
        kind,
        &[
            entry("top/a", FILE, &noise[..9_000]),
            entry("top/d/", DIRECTORY, ""),
            entry("top/l", LINK, "a"),
            entry("top/b", PROGRAM, &noise[9_000..]),
        ],
    )
}

#[track_caller]
fn assert_corrupt(kind: ArchiveKind, bytes: &[u8]) {
    let error = Place::new().unpack(kind, bytes).unwrap_err();
    assert!(matches!(error, UnpackError::Corrupt { .. }), "{kind:?} {error:?}");
    assert!(error.to_string().contains("the-archive"), "{error}");
}

#[test]
fn what_is_cut_off_leaves_no_target() {
    for kind in KINDS {
        let whole = sample(kind);
        Place::new().unpack(kind, &whole).unwrap();
        for eighth in 1..8 {
            assert_corrupt(kind, &whole[..whole.len() * eighth / 8]);
        }
    }
}

#[test]
fn a_plain_tar_cut_between_two_entries_is_noticed() {
    let tar = Tar::default().entry(&entry("a", FILE, "1"));
    assert_corrupt(TAR, &tar.0);
    let whole = tar.end();
    for length in [513, 1023, 1024] {
        assert_corrupt(TAR, &whole[..length]);
    }
    Place::new().unpack(TAR, &whole[..1536]).unwrap();
}

#[test]
fn the_last_bytes_of_a_compression_are_wanted_too() {
    for kind in KINDS {
        let whole = sample(kind);
        if kind != TAR {
            assert_corrupt(kind, &whole[..whole.len() - 1]);
        }
    }
}

#[test]
fn a_changed_byte_is_noticed_where_there_is_a_sum() {
    for kind in KINDS {
        let mut changed = sample(kind);
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        if kind != TAR && kind != ArchiveKind::Tar(Compression::Lzma) {
            assert_corrupt(kind, &changed);
        }
    }
}

#[test]
fn a_file_has_the_size_that_is_said() {
    for size in [0, 3, 5, 1000] {
        assert_corrupt(ArchiveKind::Zip, &zip_of_size(size, "1234"));
    }
    Place::new().unpack(ArchiveKind::Zip, &zip_of_size(4, "1234")).unwrap();
}

#[test]
fn what_is_no_archive_is_said_to_be_none() {
    for kind in KINDS {
        assert_corrupt(kind, b"<!DOCTYPE html><html><body>404, not found</body></html>");
        assert_corrupt(kind, &[b'a'; 2000]);
    }
    for kind in KINDS {
        for other in KINDS.into_iter().filter(|other| *other != kind) {
            assert_corrupt(kind, &sample(other));
        }
    }
}

#[test]
fn an_archive_without_entries_is_empty() {
    for kind in KINDS {
        let result = Place::new().unpack(kind, &pack(kind, &[]));
        assert!(matches!(result, Err(UnpackError::Empty { .. })), "{kind:?} {result:?}");
        let result = Place::new().unpack(kind, &pack(kind, &[entry("./", DIRECTORY, "")]));
        assert!(matches!(result, Err(UnpackError::Empty { .. })), "{kind:?} {result:?}");
        assert!(Place::new().unpack(kind, b"").is_err(), "{kind:?}");
    }
}

#[test]
fn an_encrypted_archive_is_said_to_be_one() {
    let zip = zip_with(&[entry("a", FILE, "0123456789abcdef")], 1, 0);
    let error = Place::new().unpack(ArchiveKind::Zip, &zip).unwrap_err();
    assert!(matches!(error, UnpackError::Encrypted { .. }), "{error:?}");
    let archive = raw_seven_z(&[4, 6, 0xf1, 7, 1], &[]);
    let error = Place::new().unpack(ArchiveKind::SevenZ, &archive).unwrap_err();
    assert!(matches!(error, UnpackError::Encrypted { .. }), "{error:?}");
}

#[test]
fn a_compression_that_is_not_supported_is_named() {
    let zip = zip_with(&[entry("a", FILE, "0123456789abcdef")], 0, 14);
    let error = Place::new().unpack(ArchiveKind::Zip, &zip).unwrap_err();
    assert!(matches!(error, UnpackError::UnsupportedMethod { .. }), "{error:?}");
    assert!(error.to_string().contains("Lzma"), "{error}");
    let archive = raw_seven_z(&[3, 3, 4, 1], &[]);
    let error = Place::new().unpack(ArchiveKind::SevenZ, &archive).unwrap_err();
    assert!(matches!(error, UnpackError::UnsupportedMethod { .. }), "{error:?}");
    assert!(error.to_string().contains("PPMD"), "{error}");
}

#[test]
fn what_is_in_the_way_stays() {
    let packed = sample(TAR);
    let place = Place::new();
    let archive = place.archive(&packed);
    let occupied = || {
        let result = unpack(&archive, TAR, &place.target(), &|| false);
        assert!(matches!(result, Err(UnpackError::Occupied { .. })), "{result:?}");
    };
    std::fs::write(place.target(), "mine").unwrap();
    occupied();
    assert_eq!(std::fs::read_to_string(place.target()).unwrap(), "mine");
    std::fs::remove_file(place.target()).unwrap();
    std::fs::create_dir(place.target()).unwrap();
    occupied();
    std::fs::remove_dir(place.target()).unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("nowhere", place.target()).unwrap();
        occupied();
    }
}

#[test]
fn what_comes_into_the_way_meanwhile_stays_too() {
    let place = Place::new();
    let archive = place.archive(&sample(TAR));
    let come = || {
        let _ = std::fs::create_dir(place.target());
        false
    };
    let result = unpack(&archive, TAR, &place.target(), &come);
    assert!(matches!(result, Err(UnpackError::Occupied { .. })), "{result:?}");
    assert!(names(&place.target()).is_empty());
}

#[test]
fn what_is_not_there_cannot_be_read_or_written() {
    let place = Place::new();
    let result = unpack(Path::new("/missing/archive"), TAR, &place.target(), &|| false);
    assert!(matches!(result, Err(UnpackError::Read { .. })), "{result:?}");
    let target = place.directory.path().join("missing/target");
    let result = unpack(&place.archive(&sample(TAR)), TAR, &target, &|| false);
    assert!(matches!(result, Err(UnpackError::Write { .. })), "{result:?}");
}

/// What does not matter for a name, but for a tree.
fn names_to_try() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "a", "b", "a/b", "a/c", "b/a", "./a", "a/b/c", "..", "../a", "a/../..", "b/..", "/a", "c",
    ])
    .prop_map(str::to_owned)
}

fn entries_to_try() -> impl Strategy<Value = Vec<(u8, String, String)>> {
    prop::collection::vec((0_u8..4, names_to_try(), names_to_try()), 1..8)
}

/// Whether all that can be reached below a directory is in it.
fn is_closed(directory: &Path) -> bool {
    fn is_below(root: &Path, directory: &Path) -> bool {
        std::fs::read_dir(directory).unwrap().all(|entry| {
            let path = entry.unwrap().path();
            // What leads to nothing leads nowhere.
            path.canonicalize().map_or(true, |real| real.starts_with(root))
                && (!path.symlink_metadata().unwrap().is_dir() || is_below(root, &path))
        })
    }
    is_below(&directory.canonicalize().unwrap(), directory)
}

/// An archive of each kind.
static SMALL: LazyLock<HashMap<ArchiveKind, Vec<u8>>> = LazyLock::new(|| {
    let entries = [entry("a/b", FILE, "text"), entry("a/l", LINK, "b"), entry("c/", DIRECTORY, "")];
    KINDS.map(|kind| (kind, pack(kind, &entries))).into()
});

fn change(bytes: &mut [u8], changes: &[(u16, u8)]) {
    for (at, byte) in changes {
        bytes[usize::from(*at) % bytes.len()] = *byte;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_no_reason_to_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        for kind in KINDS {
            prop_assert!(Place::new().unpack(kind, &bytes).is_err());
        }
    }

    #[test]
    fn any_change_is_no_reason_to_panic(changes in prop::collection::vec((any::<u16>(), any::<u8>()), 1..4)) {
        for kind in KINDS {
            let mut bytes = SMALL[&kind].clone();
            change(&mut bytes, &changes);
            let place = Place::new();
            if place.unpack(kind, &bytes).is_ok() {
                prop_assert!(is_closed(&place.target()));
            }
        }
    }

    #[test]
    fn a_change_with_the_right_sums_is_no_reason_to_panic(
        changes in prop::collection::vec((any::<u16>(), any::<u8>()), 1..4),
    ) {
        let mut seven_z = raw_seven_z(COPY, &[]);
        change(&mut seven_z[39..], &changes);
        correct_sums(&mut seven_z, 39);
        let mut tar = SMALL[&TAR].clone();
        change(&mut tar[..512], &changes);
        correct_sum(&mut tar);
        for (kind, bytes) in [(ArchiveKind::SevenZ, seven_z), (TAR, tar)] {
            let place = Place::new();
            if place.unpack(kind, &bytes).is_ok() {
                prop_assert!(is_closed(&place.target()));
            }
        }
    }

    #[test]
    fn whatever_the_entries_nothing_leads_outside(entries in entries_to_try()) {
        let mut tar = Tar::default();
        let mut zip_entries = Vec::new();
        for (kind, name, other) in &entries {
            let entry = match kind {
                0 => entry(name, FILE, other),
                1 => entry(name, DIRECTORY, ""),
                _ => entry(name, LINK, other),
            };
            tar = if *kind == 3 { tar.hard_link(name, other) } else { tar.entry(&entry) };
            zip_entries.push(entry);
        }
        for (kind, bytes) in [(TAR, tar.end()), (ArchiveKind::Zip, zip(&zip_entries))] {
            let place = Place::new();
            if place.unpack(kind, &bytes).is_ok() {
                prop_assert!(is_closed(&place.target()), "{entries:?}");
            }
        }
    }
}
