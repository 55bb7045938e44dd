//! Backends that fail: what is said, and that nothing of it stays.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use doge_queries::testing::PackageBuilder;

use crate::site::PLATFORM;
use crate::sources::{Sources, git};

fn failing(configuration: &str) -> Sources {
    let sources = Sources::new();
    sources.package("a", "", configuration);
    sources
}

#[test]
fn a_backend_that_complains_is_quoted() {
    let sources = failing("fail = 'error'\nstderr = ['the last line']");
    sources.run(&["install"]).assert_fails_with(&["doge-test-backend", "failed in `conda/outputs`", "the last line"]);
    let sources = failing("fail = 'error'\nfail_in = 'build'\nstderr = ['the last line']");
    sources.run(&["install"]).assert_fails_with(&["failed in `conda/build_v1`", "the last line"]);
}

#[test]
fn a_backend_that_dies_is_told_with_its_last_words() {
    let sources = failing("fail = 'die'\nfail_in = 'build'\nstderr = ['the last line']");
    sources.run(&["install"]).assert_fails_with(&["ended before it answered", "exit status: 3", "the last line"]);
}

#[test]
fn a_backend_that_prints_rubbish_is_told() {
    failing("fail = 'rubbish'").run(&["install"]).assert_fails_with(&["something that is no message"]);
}

#[test]
fn a_backend_that_answers_in_a_wrong_shape_is_told() {
    failing("fail = 'wrong_shape'").run(&["install"]).assert_fails_with(&["in a shape that is not the protocol's"]);
}

#[test]
fn a_backend_that_floods_is_not_kept_in_memory_and_its_last_lines_are_shown() {
    let sources = failing("fail = 'flood'\nfail_in = 'build'\nflood_bytes = 3000000");
    let ran = sources.run(&["install"]);
    assert!(ran.stderr.len() < 200_000, "{} bytes", ran.stderr.len());
}

#[test]
fn a_backend_that_hangs_is_given_up() {
    let sources = failing("fail = 'hang'\nstderr = ['still here']");
    let mut command = sources.command(&["install"]);
    let ran = crate::site::Ran::of(command.env("DOGE_BACKEND_TIMEOUT", "1s").output().expect("it can be started"));
    ran.assert_fails_with(&["did not answer `conda/outputs` within 1s", "DOGE_BACKEND_TIMEOUT"]);
}

/// Whether a process is there and not only its remains, which wait for somebody to ask how it ended.
#[cfg(target_os = "linux")]
fn lives(id: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(id).join("stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

#[cfg(target_os = "linux")]
#[test]
fn a_backend_that_hangs_when_its_run_is_killed_is_ended_by_the_next_run_whatever_that_builds() {
    for place in ["outputs", "build"] {
        let sources = Sources::new();
        let log = format!("log = '{}'", sources.log().display());
        sources.package("a", "", &format!("fail = 'hang'\nfail_in = '{place}'\n{log}"));
        let mut command = sources.command(&["install"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut run = command.spawn().expect("it can be started");
        let running = sources.site.path(".pixi/doge/running");
        let began = Instant::now();
        let hanging = loop {
            let notes = || std::fs::read_dir(&running).into_iter().flatten().flatten();
            let names = notes().map(|note| note.file_name().to_string_lossy().into_owned());
            let ids: Vec<String> = names.filter_map(|name| Some(name.split_once('-')?.0.to_owned())).collect();
            let said = std::fs::read_to_string(sources.log()).unwrap_or_default();
            let asked = said.lines().any(|line| line.starts_with(&format!("{place} a")));
            if let ([id], true) = (ids.as_slice(), asked) {
                break id.clone();
            }
            assert!(began.elapsed() < Duration::from_secs(30), "{ids:?} {said}");
            std::thread::sleep(Duration::from_millis(10));
        };
        run.kill().expect("it can be killed");
        run.wait().expect("it ends");
        assert!(lives(&hanging), "it hangs");
        sources.site.needs("b = { path = 'b' }");
        sources.install();
        assert!(!lives(&hanging), "nobody is left to wait for it");
        assert_eq!(std::fs::read_dir(&running).expect("it is there").count(), 0);
    }
}

/// One that may be asked again is kept as long as the run lasts, and not longer.
#[test]
fn a_run_leaves_no_note_of_a_backend_behind() {
    let sources = Sources::new();
    let repository = sources.site.root().join("repository");
    sources.package("kept", "", "");
    std::fs::create_dir_all(repository.join("content")).expect("it can be made");
    std::fs::copy(sources.site.path("kept/pixi.toml"), repository.join("pixi.toml")).expect("it is there");
    std::fs::write(repository.join("content/file"), "x\n").expect("it can be written");
    git(&repository, &["init", "-q", "-b", "main", "."]);
    git(&repository, &["add", "--all"]);
    git(&repository, &["commit", "-q", "-m", "as it is"]);
    sources.site.needs(&format!("kept = {{ git = 'file://{}', branch = 'main' }}", repository.display()));
    sources.assert_builds(1);
    assert_eq!(std::fs::read_dir(sources.site.path(".pixi/doge/running")).expect("it is there").count(), 0);
}

#[test]
fn a_backend_that_builds_something_else_is_refused() {
    failing("fail = 'wrong_package'")
        .run(&["install"])
        .assert_fails_with(&["was asked for `a` 1.0", "and built `a-other` 99"]);
    failing("fail = 'no_file'").run(&["install"]).assert_fails_with(&["says to have built", "which is no package"]);
    failing("fail = 'damaged_file'").run(&["install"]).assert_fails_with(&["which is no package"]);
}

#[test]
fn a_backend_that_is_not_there_is_told() {
    let sources = Sources::new();
    let mut command = sources.command(&["install"]);
    command.env("PIXI_BUILD_BACKEND_OVERRIDE", "doge-test-backend=/nowhere/backend");
    let ran = crate::site::Ran::of(command.output().expect("it can be started"));
    ran.assert_fails_with(&["the program `/nowhere/backend`", "cannot be found"]);
}

#[test]
fn what_failed_is_tried_again_and_what_was_done_before_is_kept() {
    let sources = Sources::new();
    sources.package(
        "a",
        "[package.host-dependencies]\nb = { path = '../b' }\n",
        "fail = 'error'\nfail_in = 'build'\nfail_while = '../broken'",
    );
    sources.site.write("broken", "");
    assert_eq!(sources.run(&["install"]).code, 1);
    assert_eq!(sources.run(&["install"]).code, 1);
    std::fs::remove_file(sources.site.path("broken")).expect("it is there");
    // `b` was built before `a` failed.
    sources.assert_builds(1);
    sources.assert_settled();
}

#[test]
fn a_source_that_is_not_there_or_is_no_package_is_told() {
    let sources = Sources::new();
    sources.site.needs("a = { path = 'nowhere' }");
    sources.run(&["install"]).assert_fails_with(&["there is no source at nowhere"]);
    sources.site.write("empty/readme.txt", "nothing");
    sources.site.needs("a = { path = 'empty' }");
    sources.run(&["install"]).assert_fails_with(&["nothing at empty says how to build a package", "pixi.toml"]);
    sources.site.write("ros/package.xml", "<package/>");
    sources.site.needs("a = { path = 'ros' }");
    sources.run(&["install"]).assert_fails_with(&["ros/package.xml"]);
    sources.site.write("plain/pixi.toml", &super::other_workspace());
    sources.site.needs("a = { path = 'plain' }");
    sources.run(&["install"]).assert_fails_with(&["describes no package"]);
    sources.site.needs("other-name = { path = 'a' }");
    sources.run(&["install"]).assert_fails_with(&["offers no package `other-name`", "it offers a"]);
}

/// Reading it would last until somebody writes to it.
#[cfg(unix)]
#[test]
fn a_pipe_in_place_of_a_manifest_is_none() {
    let sources = Sources::new();
    let manifest = sources.site.path("a/pixi.toml");
    std::fs::remove_file(&manifest).expect("it is there");
    assert!(std::process::Command::new("mkfifo").arg(&manifest).status().expect("it is installed").success());
    sources.run(&["install"]).assert_fails_with(&["nothing at a says how to build a package"]);
}

#[test]
fn a_manifest_that_is_no_text_is_told_with_the_line() {
    let sources = Sources::new();
    let manifest = sources.site.path("a/pixi.toml");
    let mut bytes = std::fs::read(&manifest).expect("it is there");
    bytes.extend_from_slice(b"# M\xfcller\n");
    let line = bytes.iter().filter(|byte| **byte == b'\n').count();
    std::fs::write(&manifest, bytes).expect("it can be written");
    let said = format!("it is not UTF-8, as TOML has to be, in line {line}");
    sources.run(&["install"]).assert_fails_with(&["a/pixi.toml` cannot be read", &said]);
}

/// Something that passes for a Python.
fn python() -> PackageBuilder {
    PackageBuilder::new("python", "3.12.1").subdir(PLATFORM).file("bin/python", "")
}

#[test]
fn a_package_for_any_python_without_one_is_told_before_anything_is_built() {
    let mut sources = Sources::new();
    let all = "noarch = 'python'\nembed = false";
    sources.package("a", "", all);
    sources.site.needs("a = { path = 'a' }");
    let parts = ["environment `default` has no `python` to install `a` for, which is `noarch: python`", "add `python`"];
    let ran = sources.run(&["install"]);
    ran.assert_fails_with(&parts);
    assert!(!ran.stderr.contains("built a"), "{}", ran.stderr);
    sources.package("b", "", all);
    sources.package("a", "[package.host-dependencies]\nb = { path = '../b' }\n", "");
    sources.run(&["install"]).assert_fails_with(&["the host environment of `a` has no `python` to install `b` for"]);
    sources.site.channel.add(python()).expect("it can be written");
    sources.site.index();
    sources.package("b", "[package.run-dependencies]\npython = '*'\n", all);
    sources.install();
    sources.assert_settled();
}

#[test]
fn an_environment_that_loses_its_python_stays_as_it_was_while_packages_need_one() {
    let mut site = crate::site::Site::new();
    let pure = PackageBuilder::new("pure", "1.0").noarch_python().file("site-packages/pure.py", "x = 1\n");
    for package in [pure, python()] {
        site.channel.add(package).expect("it can be written");
    }
    site.index();
    site.needs("pure = '*'\npython = '*'");
    site.install();
    site.needs("pure = '*'");
    site.run(&["install"]).assert_fails_with(&["environment `default` has no `python` to install `pure` for"]);
    assert!(site.prefix("bin/python").is_file());
    assert!(site.prefix("lib/python3.12/site-packages/pure.py").is_file());
}
