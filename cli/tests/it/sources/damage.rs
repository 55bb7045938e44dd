//! What was made and is lost or damaged is made again, and never taken for what it was.

use std::path::{Path, PathBuf};

use crate::sources::Sources;

/// The files below a directory that have this name.
fn named(directory: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut stack = vec![directory.to_owned()];
    while let Some(directory) = stack.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten() {
            let path = entry.expect("it can be listed").path();
            if path.is_dir() {
                stack.push(path);
            } else if path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name)) {
                found.push(path);
            }
        }
    }
    found
}

/// A workspace that needs the last of `count` packages, each built against these that come so many before it.
fn row(count: usize, before: &[usize]) -> Sources {
    let sources = Sources::new();
    for number in 0..count {
        let needed = before.iter().filter_map(|before| number.checked_sub(*before));
        let lines: String = needed.map(|other| format!("p{other} = {{ path = '../p{other}' }}\n")).collect();
        sources.package(&format!("p{number}"), &format!("[package.host-dependencies]\n{lines}"), "");
        sources.site.write(&format!("p{number}/content/share/p{number}/own.txt"), "content\n");
    }
    sources.site.needs(&format!("p{0} = {{ path = 'p{0}' }}", count - 1));
    sources
}

fn forget_archives(sources: &Sources) {
    std::fs::remove_dir_all(sources.site.path(".pixi/doge/artifacts")).expect("it is there");
    std::fs::remove_dir_all(sources.site.cache().join("pkgs")).expect("it is there");
}

#[test]
fn many_archives_that_are_gone_are_built_again_in_one_run() {
    let sources = row(7, &[1]);
    let all: String = (0..7).map(|number| format!("p{number} = {{ path = 'p{number}' }}\n")).collect();
    sources.site.needs(&all);
    sources.install();
    forget_archives(&sources);
    std::fs::remove_dir_all(sources.site.path(".pixi/envs")).expect("it is there");
    let ran = sources.install();
    // One that began before it was known that what it is built with is gone, too, begins twice.
    assert!((7..14).contains(&ran.executed()["backend_build"]), "{:?}", ran.executed());
    for number in 0..7 {
        assert!(sources.site.prefix(&format!("share/p{number}/own.txt")).is_file());
    }
    sources.assert_settled();
}

#[test]
fn all_archives_that_one_build_needs_and_that_are_gone_are_built_again() {
    let sources = row(6, &[1, 2, 3, 4, 5]);
    sources.install();
    forget_archives(&sources);
    sources.site.write("p5/content/share/p5/own.txt", "another\n");
    let ran = sources.install();
    assert!((6..9).contains(&ran.executed()["backend_build"]), "{:?}", ran.executed());
    // What was computed while archives were missing is looked at once more.
    sources.assert_builds(0);
    sources.assert_settled();
}

#[test]
fn packages_that_are_reached_in_several_ways_are_found_again_by_another_process() {
    let sources = row(6, &[1, 3]);
    sources.install();
    for path in ["pixi.lock", ".pixi"] {
        let path = sources.site.path(path);
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.expect("it is there");
        sources.install();
        sources.assert_settled();
    }
}

#[test]
fn an_archive_that_is_damaged_and_as_long_as_before_is_built_again() {
    let sources = Sources::new();
    sources.install();
    std::fs::remove_dir_all(sources.site.cache().join("pkgs")).expect("it is there");
    std::fs::remove_dir_all(sources.site.path(".pixi/envs")).expect("it is there");
    let archives = named(&sources.site.path(".pixi/doge/artifacts"), "a-1.0");
    let [archive] = archives.as_slice() else { panic!("there is one: {archives:?}") };
    let mut bytes = std::fs::read(archive).expect("it can be read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(archive, bytes).expect("it can be written");
    let ran = sources.install();
    assert_eq!(ran.executed()["backend_build"], 1, "{:?}", ran.executed());
    assert!(sources.site.prefix("bin/a").is_file());
    sources.assert_settled();
}

#[test]
fn what_became_of_the_prefix_of_an_earlier_build_is_no_input_of_the_next() {
    let sources = Sources::new();
    sources.install();
    let of_b = named(&sources.site.path(".pixi/doge/bld/a"), "stamp.txt");
    let [stamp] = of_b.as_slice() else { panic!("there is one: {of_b:?}") };
    std::fs::remove_file(stamp).expect("it is there");
    let before = sources.site.read(".pixi/envs/default/share/a/inputs.txt");
    let told = before.lines().find(|line| line.starts_with("host b")).expect("it names what it was built with");
    sources.site.write("a/content/bin/a", "#!/bin/sh\necho changed\n");
    sources.assert_builds(1);
    let after = sources.site.read(".pixi/envs/default/share/a/inputs.txt");
    assert!(after.lines().any(|line| line == told), "{told}\n{after}");
}

#[test]
fn a_package_is_handed_out_whole_even_if_its_archive_is_lost() {
    let sources = Sources::new();
    let build = ["build", "a", "--output-dir", "out"];
    sources.json(&build);
    let packages = || named(&sources.site.path("out"), "a-1.0");
    let first = std::fs::read(&packages()[0]).expect("it is there");
    std::fs::remove_dir_all(sources.site.path("out")).expect("it is there");
    std::fs::remove_dir_all(sources.site.path(".pixi/doge/artifacts")).expect("it is there");
    sources.json(&build);
    assert!(first == std::fs::read(&packages()[0]).expect("it is there"), "it is the same");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&packages()[0]).expect("it is there").permissions().mode();
        assert_ne!(mode & 0o044, 0, "others may read it: {mode:o}");
    }
}

#[test]
fn what_builds_leave_is_collected_and_made_again_when_it_is_needed() {
    let sources = Sources::new();
    sources.install();
    let count = |ran: &crate::site::Ran, kind: &str, what: &str| ran.value()["kinds"][kind][what].clone();
    let info = sources.json(&["cache", "info"]);
    assert_eq!(count(&info, "artifacts", "count"), 2, "{}", info.stdout);
    assert_eq!(count(&info, "builds", "count"), 2, "{}", info.stdout);
    let kept = sources.json(&["cache", "gc", "--older-than=1h"]);
    assert_eq!(count(&kept, "artifacts", "removed")["count"], 0, "{}", kept.stdout);
    let gone = sources.json(&["cache", "gc", "--older-than=0s"]);
    assert_eq!(count(&gone, "artifacts", "removed")["count"], 2, "{}", gone.stdout);
    assert_eq!(count(&gone, "builds", "removed")["count"], 2, "{}", gone.stdout);
    let left = sources.json(&["cache", "info"]);
    assert_eq!(count(&left, "artifacts", "count"), serde_json::Value::Null, "{}", left.stdout);
    sources.site.write("a/content/bin/a", "#!/bin/sh\necho changed\n");
    sources.install();
    sources.assert_settled();
}

/// To list a folder is to read it: to be looked at by a collection is no use.
#[test]
fn what_a_collection_looks_at_does_not_become_younger() {
    let sources = Sources::new();
    sources.install();
    let uses = || sources.json(&["cache", "info"]).value()["kinds"]["builds"]["newest_use"].clone();
    let before = uses();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    sources.json(&["cache", "gc", "--dry-run"]);
    assert_eq!(uses(), before);
}
