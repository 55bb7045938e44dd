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
    sources.run(&["install", "-v", "-q"]).assert_ends_with_code(2);
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
