//! What is said while something goes on, and in which form.

use serde_json::Value;

use crate::site::Site;
use crate::sources::Sources;

#[test]
fn where_nobody_watches_each_step_is_a_line_and_the_slowest_come_last() {
    let site = Site::new();
    let ran = site.run(&["install"]).succeeded();
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert!(lines.iter().any(|line| line.starts_with("solved default@")), "{}", ran.stderr);
    assert!(lines.iter().any(|line| line.starts_with("linked prefix .pixi/envs/default in ")), "{}", ran.stderr);
    assert!(!ran.stderr.contains("slowest"), "there are too few: {}", ran.stderr);
    assert!(!ran.stderr.contains('\u{1b}'), "{}", ran.stderr);
    let sources = Sources::new();
    for name in ["c", "d", "e", "f", "g", "h"] {
        sources.package(name, "", "");
    }
    sources.site.needs(
        "a = { path = 'a' }\nc = { path = 'c' }\nd = { path = 'd' }\ne = { path = 'e' }\nf = { path = 'f' }\ng = { path = 'g' }\nh = { path = 'h' }",
    );
    let ran = sources.run(&["install"]).succeeded();
    let slowest = ran.stderr.split("slowest:\n").nth(1).unwrap_or_default();
    assert_eq!(slowest.lines().filter(|line| line.starts_with("  ")).count(), 5, "{}", ran.stderr);
}

#[test]
fn who_wants_quiet_hears_only_what_is_wrong() {
    let site = Site::new();
    let ran = site.run(&["install", "--quiet"]).succeeded();
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
    site.needs("nothing-like-it = '*'");
    site.run(&["-q", "install"]).assert_fails_with(&["nothing-like-it"]);
}

#[test]
fn programs_get_an_event_a_line_and_every_start_has_one_end() {
    let sources = Sources::new();
    sources.package("b", "", "fail = 'error'\nfail_in = 'build'\nstderr = ['a line']");
    for fails in [true, false] {
        if !fails {
            sources.package("b", "", "stderr = ['a line']");
        }
        let ran = sources.run(&["install", "--log-format", "json"]);
        assert_eq!(ran.code, i32::from(fails), "{}", ran.stderr);
        let events: Vec<Value> =
            ran.stderr.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
        let named = |name: &str, spec: &str| {
            events.iter().filter(|event| event["event"] == name && event["spec"] == spec).count()
        };
        assert_eq!(events[0]["event"], "did_begin", "{}", ran.stderr);
        let build = "build b 1.0 0";
        assert_eq!((named("will_run", build), named("did_start", build)), (1, 1), "{}", ran.stderr);
        assert_eq!((named("did_run", build), named("did_fail", build)), (usize::from(!fails), usize::from(fails)));
        assert!(events.iter().any(|event| event["event"] == "output_line" && event["line"] == "a line"));
        let last = events.last().expect("there are some");
        assert_eq!(last["event"], "message");
        assert!(last["message"].as_str().is_some_and(|text| fails == text.contains("conda/build_v1")), "{last}");
    }
}

#[test]
fn what_the_build_in_focus_writes_is_shown_if_that_is_wanted_and_kept_if_not() {
    let sources = Sources::new();
    sources.package("b", "", "stderr = ['a line of b']");
    let ran = sources.run(&["install", "-v"]).succeeded();
    assert!(ran.stderr.contains("build b 1.0 0: a line of b"), "{}", ran.stderr);
    sources.site.write("b/content/share/b/data.txt", "other\n");
    let ran = sources.run(&["install"]).succeeded();
    assert!(!ran.stderr.contains("a line of b"), "{}", ran.stderr);
    sources.package("b", "", "fail = 'error'\nfail_in = 'build'\nstderr = ['a line of b']");
    let ran = sources.run(&["install"]);
    assert!(ran.stderr.contains("all that was written is kept: `doge runs log "), "{}", ran.stderr);
    // All of it is shown when it fails, not only what the error ends with.
    let lines: Vec<String> = (0..100).map(|number| format!("'line number {number}'")).collect();
    sources.package("b", "", &format!("fail = 'error'\nfail_in = 'build'\nstderr = [{}]", lines.join(", ")));
    let ran = sources.run(&["install"]);
    for number in 0..100 {
        assert_eq!(ran.stderr.matches(&format!("line number {number}\n")).count(), 1, "{number}: {}", ran.stderr);
    }
    // Also of one that was never in focus.
    sources.package("c", "", "slow = 1500\nslow_in = 'build'");
    sources.package("d", "[package.host-dependencies]\na = { path = '../a' }\n", "");
    let text = sources.site.read("d/pixi.toml");
    let fails = format!("fail = 'error'\nfail_in = 'build'\nstderr = [{}]\n", lines.join(", "));
    sources.site.write("d/pixi.toml", &(text + &fails));
    sources.package("b", "", "");
    sources.site.write(".pixi/config.toml", "[concurrency]\nbuilds = 4\n");
    sources.site.needs("c = { path = 'c' }\nd = { path = 'd' }");
    let ran = sources.run(&["install", "-v"]);
    for number in 0..100 {
        let said = ran.stderr.lines().filter(|line| line.ends_with(&format!("line number {number}")));
        let said = said.filter(|line| !line.starts_with("ask ")).count();
        assert!(said > 0, "{number}: {}", ran.stderr);
    }
    sources.run(&["install", "-v", "-q"]).assert_ends_with_code(2);
}

/// What was kept of what somebody wrote in the newest run.
fn kept(sources: &Sources) -> Vec<(String, String)> {
    let id = sources.json(&["runs", "--limit", "1"]).value()[0]["run"].as_str().expect("an id").to_owned();
    let log = sources.json(&["runs", "log", &id]).value();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let lines = log.as_array().expect("a list").iter();
    lines.map(|line| (text(&line["spec"]), text(&line["line"]))).collect()
}

#[cfg(unix)]
#[test]
fn what_a_backend_writes_before_its_first_answer_belongs_to_who_started_it() {
    use std::os::unix::fs::PermissionsExt as _;

    let sources = Sources::new();
    sources.package("b", "", "fail = 'flood'\nfail_in = 'initialize'\nflood_bytes = 10");
    sources.site.needs("b = { path = 'b' }");
    let script = sources.site.path("wrapped");
    let text = format!("#!/bin/sh\necho 'a line before anything' >&2\nexec {}\n", crate::sources::backend().display());
    sources.site.write("wrapped", &text);
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    let mut command = sources.command(&["install", "-v"]);
    command.env("PIXI_BUILD_BACKEND_OVERRIDE", format!("doge-test-backend={}", script.display()));
    let ran = crate::site::Ran::by(command).succeeded();
    let kept = kept(&sources);
    for spec in ["ask for the packages of b", "build b 1.0 0"] {
        for part in ["a line before anything", "flood flood"] {
            let is_it = |(of, line): &(String, String)| of == spec && line.contains(part);
            assert!(kept.iter().any(is_it), "{spec}: {part}: {kept:?}");
            assert!(ran.stderr.contains(&format!("{spec}: {part}")), "{spec}: {part}: {}", ran.stderr);
        }
    }
}

#[test]
fn all_is_kept_that_a_backend_writes_before_an_answer_though_it_goes_on() {
    let sources = Sources::new();
    sources.package("b", "", "fail = 'flood'\nfail_in = 'outputs'\nflood_bytes = 100000");
    let repository = crate::sources::places::repository(&sources);
    let place = format!("git = 'file://{}', subdirectory = 'packages/b'", repository.display());
    sources.site.needs(&format!("b = {{ {place} }}"));
    sources.install();
    let kept = kept(&sources);
    assert_eq!(kept.len(), 100_000_usize.div_ceil("flood ".len() * 20), "{:?}", kept.last());
}

#[test]
fn what_others_wrote_does_nothing_to_a_terminal_and_programs_get_it_as_it_is() {
    let sources = Sources::new();
    let line = r#""\u001b[31mred\u001b[0m, a bell\u0007, a zero\u0000, over\rwritten""#;
    let shown = "red, a bell\\u{7}, a zero\\u{0}, over\\rwritten";
    let exact = "\u{1b}[31mred\u{1b}[0m, a bell\u{7}, a zero\0, over\rwritten";
    let is_harmless = |text: &str| !text.contains(|c: char| c.is_control() && c != '\n');
    sources.package("b", "", &format!("stderr = [{line}]"));
    let ran = sources.run(&["install", "-v"]).succeeded();
    assert!(ran.stderr.contains(shown) && is_harmless(&ran.stderr), "{:?}", ran.stderr);
    assert!(kept(&sources).iter().any(|(_, line)| line == exact), "{:?}", kept(&sources));
    let runs = sources.json(&["runs"]).value();
    let id = runs[0]["run"].as_str().expect("an id").to_owned();
    let log = sources.run(&["runs", "log", &id, "build b"]).succeeded().stdout;
    assert_eq!(log, format!("build b 1.0 0:\n  {shown}\n"));

    sources.package("b", "", &format!("fail = 'error'\nfail_in = 'build'\nstderr = [{line}]"));
    let ran = sources.run(&["install"]);
    assert!(ran.stderr.contains(shown) && is_harmless(&ran.stderr), "{:?}", ran.stderr);
    let why = sources.run(&["why", "build b"]).succeeded().stdout;
    assert!(why.contains("it failed") && is_harmless(&why), "{why:?}");

    let word = "\u{1b}[31mgreet\u{7}";
    for arguments in
        [&["why", word][..], &["graph", "--under", word], &["runs", "log", &id, word], &["runs", "show", word]]
    {
        let ran = sources.run(arguments);
        assert_eq!(ran.code, 1, "{arguments:?}");
        assert!(ran.stderr.contains("`greet\\u{7}`") && is_harmless(&ran.stderr), "{arguments:?}: {:?}", ran.stderr);
        let ran = sources.run(&[arguments, &["--json"]].concat());
        let said = ran.value()["error"]["message"].to_string();
        assert!(said.contains(r"`\u001b[31mgreet\u0007`"), "{arguments:?}: {said}");
    }
    let ran = sources.run(&["runs", "--limit", word]);
    assert!(ran.code == 2 && is_harmless(&ran.stderr), "{:?}", ran.stderr);
    let long = "x".repeat(100_000);
    for arguments in
        [&["why", &*long][..], &["runs", "log", &id, &long], &["runs", "show", &long], &["why", "--run", &long]]
    {
        let ran = sources.run(arguments);
        assert!(ran.code == 1 && ran.stderr.len() < 2000, "{} bytes", ran.stderr.len());
    }
    for arguments in [
        &["install", "-e", &*long][..],
        &["install", "--platform", &long],
        &["solve", &format!("--update={long}")],
        &["build", &long],
        &["cache", "gc", "--max-size", &long],
        &["install", "--cache-dir", &long],
        &["install", &format!("--{long}")],
        &["graph", "-o", &long],
    ] {
        let ran = sources.run(arguments);
        assert!(ran.code != 0 && ran.stderr.len() < 2000, "{:?}: {} bytes", arguments[0], ran.stderr.len());
    }
    let ran = sources.run(&["install", "-e", &long, "--json"]);
    assert!(ran.value()["error"]["message"].as_str().is_some_and(|message| message.contains(&long)), "whole in JSON");
}

#[test]
fn one_is_not_told_as_many_and_nothing_is_not_listed() {
    let site = Site::new();
    site.needs("tool = '*'");
    let ran = site.run(&["install"]).succeeded();
    assert!(
        ran.stderr.contains("default (1 package) installed") && ran.stderr.contains("fetched 1 package,"),
        "{}",
        ran.stderr
    );
    site.run(&["install"]).succeeded();
    let why = site.run(&["why", "solve_conda_environment"]).succeeded().stdout;
    assert!(!why.contains(" 1 looks") && !why.contains(" 1 results"), "{why}");
    let why = site.run(&["why", "read_manifest"]).succeeded().stdout;
    assert!(why.contains("nothing outside had to be looked at"), "{why}");
    assert!(why.contains("1 result that was made of that is as it was"), "{why}");
    site.run(&["install"]).succeeded();
    let runs = site.json(&["runs"]).value();
    let later = site.run(&["graph"]).succeeded().stderr;
    assert!(later.contains("2 later runs did nothing"), "{later}");
    let id = runs[1]["run"].as_str().expect("an id").to_owned();
    let show = site.run(&["runs", "show", &id]).succeeded().stdout;
    assert!(show.contains(" results held, 0 came to what they were"), "{show}");
    site.run(&["runs", "--limit", "0"]).assert_ends_with_code(2);
    site.run(&["runs", "--limit", "1"]).succeeded();
    assert_eq!(site.json(&["runs", "show", &id, "--longest", "0"]).value()["longest"], serde_json::json!([]));

    // A verb is not said twice.
    let sources = Sources::new();
    for name in ["c", "d", "e", "f", "g", "h"] {
        let slow = if name == "c" { "slow = 100\nslow_in = 'outputs'" } else { "" };
        sources.package(name, "", slow);
    }
    sources.site.needs(
        "a = { path = 'a' }\nc = { path = 'c' }\nd = { path = 'd' }\ne = { path = 'e' }\nf = { path = 'f' }\ng = { path = 'g' }\nh = { path = 'h' }",
    );
    let ran = sources.run(&["install"]).succeeded();
    assert!(ran.stderr.contains("  asked for the packages of c in "), "{}", ran.stderr);
}

#[test]
fn help_of_a_command_begins_with_what_it_is_for() {
    let site = Site::new();
    for (command, begins) in [
        ("install", "Install environments of the workspace"),
        ("solve", "Ask the channels again"),
        ("build", "Build the packages of a source"),
        ("why", "Tell why something ran"),
    ] {
        for help in ["--help", "-h"] {
            let said = site.run(&[command, help]).succeeded().stdout;
            assert!(said.starts_with(begins) && said.contains("--cache-dir"), "{command} {help}: {said}");
        }
    }
}

#[test]
fn shells_get_completions() {
    let site = Site::new();
    for (shell, part) in [
        ("bash", "_doge"),
        ("zsh", "#compdef doge"),
        ("fish", "complete -c doge"),
        ("elvish", "doge"),
        ("powershell", "doge"),
    ] {
        let script = site.run(&["completions", shell]).succeeded().stdout;
        assert!(script.contains(part) && script.contains("metadata"), "{shell}: {script}");
    }
}
