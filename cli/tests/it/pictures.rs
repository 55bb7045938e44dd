//! Pictures and timelines of runs, and what builds wrote.

use serde_json::Value;

use crate::sources::Sources;

fn names(graph: &Value, of: &str) -> Vec<String> {
    let nodes = graph["nodes"].as_array().expect("it has nodes");
    let mut names: Vec<String> = nodes
        .iter()
        .filter(|node| node["kind"] == of)
        .map(|node| node["name"].as_str().expect("a name").to_owned())
        .collect();
    names.sort();
    names
}

fn graph(sources: &Sources, arguments: &[&str]) -> Value {
    sources.run(&[&["graph", "--format", "json"], arguments].concat()).succeeded().value()
}

fn runs(sources: &Sources) -> Vec<String> {
    let runs = sources.json(&["runs"]).value();
    let runs = runs.as_array().expect("a list").iter();
    runs.map(|run| run["run"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn a_graph_is_the_same_each_time_in_each_form() {
    let sources = Sources::new();
    sources.install();
    for (format, part) in [
        ("dot", "digraph doge {"),
        ("mermaid", "flowchart LR"),
        ("svg", "<svg xmlns"),
        ("html", "id=\"doge-data\""),
        ("json", "\"nodes\":["),
    ] {
        let one = sources.run(&["graph", "--format", format]).succeeded().stdout;
        assert!(one.contains(part) && one.contains("build a 1.0 0"), "{format}: {one}");
        assert_eq!(one, sources.run(&["graph", "--format", format]).succeeded().stdout, "{format}");
    }
    sources.run(&["graph", "-o", "graph.svg"]).succeeded();
    let file = sources.site.read("graph.svg");
    assert_eq!(file, sources.run(&["graph", "--format", "svg"]).stdout);
    // Nothing is left of a run that did nothing; a link stays one.
    sources.install();
    let id = runs(&sources)[0].clone();
    for format in ["dot", "svg", "mermaid", "json", "html"] {
        sources.run(&["graph", "--run", &id, "--only", "changed", "--format", format]).succeeded();
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("graph.svg", sources.site.path("link.svg")).expect("it can be made");
        sources.run(&["graph", "-o", "link.svg"]).succeeded();
        assert!(sources.site.path("link.svg").is_symlink());
    }
    sources.run(&["graph", "-o", "nowhere/graph.svg"]).assert_fails_with(&["nowhere/graph.svg", "cannot be written"]);
}

#[test]
fn the_form_of_a_graph_is_what_its_file_is_called() {
    let sources = Sources::new();
    sources.install();
    for (name, part) in [
        ("a.SVG", "<svg xmlns"),
        ("b.Html", "id=\"doge-data\""),
        ("c.JSON", "\"nodes\":["),
        ("d.gv", "digraph doge {"),
        ("e.dot", "digraph doge {"),
        ("f.mmd", "flowchart LR"),
        ("g", "digraph doge {"),
    ] {
        sources.run(&["graph", "-o", name]).succeeded();
        assert!(sources.site.read(name).contains(part), "{name}");
    }
    for name in ["x.png", "x.pdf", "x.txt", "x.svg.bak"] {
        let end = name.rsplit('.').next().expect("it has one");
        sources.run(&["graph", "-o", name]).assert_fails_with(&[
            &format!("written as `.{end}`"),
            "`.svg`",
            "`--format`",
        ]);
        assert!(!sources.site.path(name).exists(), "{name}");
    }
    sources.run(&["graph", "--format", "svg", "-o", "x.txt"]).succeeded();
    assert!(sources.site.read("x.txt").contains("<svg xmlns"));
    for command in ["graph", "trace"] {
        let printed = sources.run(&[command, "-o", "-"]).succeeded().stdout;
        assert_eq!(printed, sources.run(&[command]).succeeded().stdout);
        assert!(!printed.is_empty() && !sources.site.path("-").exists(), "{command}");
    }
    sources.run(&["graph", "--json", "--format", "svg"]).assert_ends_with_code(2);
}

#[test]
fn a_graph_is_cut_to_what_is_asked_for() {
    let sources = Sources::new();
    sources.install();
    let under = graph(&sources, &["--under", "build b"]);
    assert_eq!(names(&under, "backend_build"), ["build b 1.0 0"]);
    assert_eq!(names(&under, "install_workspace_environment"), Vec::<String>::new());
    let above = graph(&sources, &["--above", "build b"]);
    assert_eq!(names(&above, "install_workspace_environment").len(), 1);
    assert_eq!(names(&above, "source_build"), ["package a", "package b"]);
    let near = graph(&sources, &["--above", "build b", "--depth", "1"]);
    assert_eq!(names(&near, "source_build"), ["package b"]);
    let top = graph(&sources, &["--depth", "0"]);
    assert_eq!(names(&top, "install_workspace_environment").len(), 1);
    assert!(names(&top, "lock_workspace").is_empty());
    sources.run(&["graph", "--under", "bild"]).assert_fails_with(&["`bild`", "did you mean", "build"]);
    sources.site.write("a/content/bin/a", "#!/bin/sh\necho changed\n");
    sources.install();
    let changed = graph(&sources, &["--only", "changed"]);
    assert_eq!(names(&changed, "backend_build"), ["build a 1.0 0"]);
    assert_eq!(names(&changed, "files").len(), 1, "what was seen to have changed");
    assert!(names(&changed, "lock_workspace").is_empty());
}

#[test]
fn two_runs_are_shown_beside_each_other() {
    let sources = Sources::new();
    sources.install();
    sources.site.write("a/content/bin/a", "#!/bin/sh\necho changed\n");
    sources.site.needs("a = { path = 'a' }\ntool = '*'");
    sources.install();
    sources.install();
    let ids = runs(&sources);
    let differs = |first: &str, second: &str| -> Vec<(String, String)> {
        let graph = graph(&sources, &["--diff", first, second, "--only", "changed"]);
        let nodes = graph["nodes"].as_array().cloned().unwrap_or_default();
        let text = |node: &Value, field: &str| node[field].as_str().unwrap_or_default().to_owned();
        nodes.iter().map(|node| (text(node, "difference"), text(node, "name"))).collect()
    };
    let found = differs(&ids[2], &ids[1]);
    assert!(found.contains(&("changed".to_owned(), "build a 1.0 0".to_owned())), "{found:?}");
    assert!(found.contains(&("added".to_owned(), "tool 1.0".to_owned())), "{found:?}");
    assert!(!found.iter().any(|(_, name)| name == "build b 1.0 0"), "{found:?}");
    // The newest run did nothing, and stands on all that the one before it made.
    let found = differs(&ids[1], &ids[0]);
    assert!(!found.iter().any(|(difference, _)| difference == "changed" || difference == "added"), "{found:?}");
}

#[test]
fn a_trace_has_what_took_time_and_what_was_waited_for() {
    let sources = Sources::new();
    sources.package("b", "", "slow = 200\nslow_in = 'build'");
    sources.install();
    let trace = sources.run(&["trace"]).succeeded().value();
    let events = trace["traceEvents"].as_array().expect("a list").clone();
    let named = |name: &str| -> Vec<&Value> {
        events.iter().filter(|event| event["name"] == name && event["ph"] == "X").collect()
    };
    let builds = named("build b 1.0 0");
    assert_eq!(builds.len(), 2, "once as work, and once on the critical path");
    assert!(builds.iter().all(|event| event["dur"].as_u64() >= Some(200_000)), "{builds:?}");
    assert!(named("build a 1.0 0")[0]["ts"].as_u64() > builds[0]["ts"].as_u64());
    // Of the events of a lane none begins before the one before it has ended.
    let mut lanes: std::collections::BTreeMap<u64, u64> = std::collections::BTreeMap::new();
    let mut sorted: Vec<&Value> = events.iter().filter(|event| event["ph"] == "X").collect();
    sorted.sort_by_key(|event| event["ts"].as_u64());
    for event in sorted {
        let [lane, start, took] = ["tid", "ts", "dur"].map(|field| event[field].as_u64().expect("a number"));
        let free = lanes.insert(lane, start + took).unwrap_or(0);
        assert!(free <= start, "{event}");
    }
    let show = sources.json(&["runs", "show"]).value();
    assert_eq!(show["longest"][0]["name"], "build b 1.0 0", "{show}");
    let path = show["critical_path"].as_array().expect("a list");
    assert!(path.iter().any(|took| took["name"] == "build b 1.0 0"), "{show}");
    // A run that did nothing tells what it would have taken.
    sources.install();
    let id = runs(&sources)[0].clone();
    let show = sources.json(&["runs", "show", &id]).value();
    assert!(show["saved_ms"].as_f64() >= Some(200.0), "{show}");
    assert!(sources.run(&["runs", "show", &id]).succeeded().stdout.contains("what held took"));
}

#[test]
fn what_a_build_writes_is_kept_with_the_run() {
    let sources = Sources::new();
    sources.package("b", "", "stderr = ['one line of b']");
    sources.install();
    let id = runs(&sources)[0].clone();
    let log = sources.run(&["runs", "log", &id]).succeeded().stdout;
    assert!(log.contains("build b 1.0 0:\n  one line of b"), "{log}");
    let log = sources.run(&["runs", "log", &id[..14], "build b"]).succeeded().stdout;
    assert_eq!(log, "build b 1.0 0:\n  one line of b\n");
    sources.run(&["runs", "log", &id, "nothing"]).assert_fails_with(&["nothing called `nothing`", "build b"]);
    sources.install();
    let id = runs(&sources)[0].clone();
    let log = sources.run(&["runs", "log", &id]).succeeded();
    assert!(log.stdout.is_empty() && log.stderr.contains("nothing was written"), "{}{}", log.stdout, log.stderr);
}
