//! What counts as input of a build.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::site::{Ran, tick};
use crate::sources::Sources;

#[test]
fn a_file_that_changed_builds_its_package_and_what_was_built_with_it() {
    let sources = Sources::new();
    sources.install();
    sources.site.write("b/content/share/b/data.txt", "other data\n");
    sources.assert_builds(2);
    sources.assert_settled();
}

#[test]
fn a_file_that_was_only_touched_builds_nothing() {
    let sources = Sources::new();
    sources.install();
    tick();
    for path in ["a/pixi.toml", "a/content/bin/a", "b/pixi.toml", "b/content/share/b/data.txt", "pixi.toml"] {
        let text = sources.site.read(path);
        sources.site.write(path, &text);
    }
    sources.assert_settled();
}

#[test]
fn a_file_that_matches_a_glob_and_one_that_does_not_any_more_count() {
    let sources = Sources::new();
    sources.install();
    sources.site.write("a/content/share/a/new.txt", "new\n");
    sources.assert_builds(1);
    assert!(sources.site.prefix("share/a/new.txt").is_file());
    sources.site.write("a/elsewhere.txt", "nothing\n");
    sources.assert_settled();
    std::fs::remove_file(sources.site.path("a/content/share/a/new.txt")).expect("it is there");
    // What was built before holds again.
    sources.assert_builds(0);
    assert!(!sources.site.prefix("share/a/new.txt").exists());
}

#[test]
fn an_edit_of_the_same_size_with_the_old_time_counts() {
    let sources = Sources::new();
    sources.install();
    let path = sources.site.path("b/content/share/b/data.txt");
    let time = std::fs::metadata(&path).and_then(|metadata| metadata.modified()).expect("files have times");
    std::fs::write(&path, "DATA OF B\n").expect("it can be written");
    let file = std::fs::File::options().append(true).open(&path).expect("it is there");
    file.set_modified(time).expect("it is ours");
    sources.assert_builds(2);
}

#[test]
fn the_program_of_the_backend_counts() {
    let sources = Sources::new();
    let program = sources.site.root().join("backend");
    let script = |remark: &str| format!("#!/bin/sh\n# {remark}\nexec {} \"$@\"\n", super::backend().display());
    let write = |remark: &str| {
        std::fs::write(&program, script(remark)).expect("it can be written");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        }
    };
    let install = || {
        let mut command = sources.command(&["install", "--json"]);
        command.env("PIXI_BUILD_BACKEND_OVERRIDE", format!("doge-test-backend={}", program.display()));
        let ran = Ran::of(command.output().expect("it can be started"));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran
    };
    write("one");
    install();
    install().assert_nothing_ran();
    write("two");
    assert_eq!(install().executed()["backend_build"], 2);
}

#[test]
fn variants_and_the_files_that_hold_them_count() {
    let sources = Sources::new();
    sources.package("a", "[package.host-dependencies]\nlib = '*'\n", "");
    sources.site.manifest("build-variants-files = ['variants.yaml']", "[dependencies]\na = { path = 'a' }\n");
    sources.site.write("variants.yaml", "lib:\n- '1.0'\n");
    sources.install();
    sources.assert_settled();
    sources.site.write("variants.yaml", "lib:\n- '1.1'\n");
    let ran = sources.install();
    assert_eq!(ran.executed()["call_outputs"], 1, "{:?}", ran.executed());
    sources.site.manifest(
        "build-variants-files = ['variants.yaml']\n[workspace.build-variants]\nlib = ['1.0']",
        "[dependencies]\na = { path = 'a' }\n",
    );
    let ran = sources.install();
    assert_eq!(ran.executed()["backend_build"], 1, "{:?}", ran.executed());
    assert!(sources.site.read(".pixi/envs/default/share/a/inputs.txt").contains("host lib 1.0"));
}

#[test]
fn a_file_with_variants_counts_whatever_it_is_called() {
    for name in ["variants[1].yaml", "{variants}.yaml", "variants.yaml "] {
        let sources = Sources::new();
        sources.site.manifest(&format!("build-variants-files = ['{name}']"), "[dependencies]\na = { path = 'a' }\n");
        sources.site.write(name, "lib:\n- '1.0'\n");
        sources.install();
        sources.install();
        sources.assert_settled();
        sources.site.write(name, "lib:\n- '1.1'\n");
        let ran = sources.install();
        assert_eq!(ran.executed().get("call_outputs"), Some(&2), "{name}: {:?}", ran.executed());
    }
}

#[test]
fn what_describes_a_package_counts_though_its_backend_does_not_name_it() {
    let sources = Sources::new();
    sources.site.write("r/package.xml", "<package><name>r</name></package>\n");
    sources.site.needs("r = { path = 'r/package.xml' }");
    let install = || {
        let mut command = sources.command(&["install", "--json"]);
        command.env("PIXI_BUILD_BACKEND_OVERRIDE", format!("pixi-build-ros={}", super::backend().display()));
        Ran::by(command).succeeded()
    };
    install();
    install().assert_nothing_ran();
    sources.site.write("r/package.xml", "<package><name>r</name><license>MIT</license></package>\n");
    assert_eq!(install().executed().get("call_outputs"), Some(&1));
}

#[test]
fn a_variable_that_is_passed_on_counts_and_no_other_does() {
    let sources = Sources::new();
    sources.package("a", "", "env_into_package = ['SEEN', 'UNSEEN']\nembed = false");
    sources.site.write(".pixi/config.toml", "[build]\npass-env = ['SEEN']\n");
    let install = |seen: &str, unseen: &str| {
        let mut command = sources.command(&["install", "--json"]);
        command.env("SEEN", seen).env("UNSEEN", unseen);
        let ran = Ran::of(command.output().expect("it can be started"));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran
    };
    install("one", "one");
    let text = sources.site.read(".pixi/envs/default/share/a/env.txt");
    assert!(text.contains("one"), "{text}");
    install("one", "two").assert_nothing_ran();
    assert_eq!(install("two", "two").executed()["backend_build"], 1);
    assert!(sources.site.read(".pixi/envs/default/share/a/env.txt").contains("two"));
}

#[test]
fn a_build_that_writes_into_its_own_globs_is_recognised_and_does_not_go_on_for_ever() {
    let sources = Sources::new();
    sources.package("a", "", "fail = 'touch_own_globs'");
    sources.install();
    for _ in 0..4 {
        if sources.install().executed().is_empty() {
            sources.assert_settled();
            return;
        }
    }
    panic!("it is built again and again");
}

/// `a` writes `share/own.txt` while it is built, with these further lines, and after so many builds that is known.
fn writing_into_its_own_globs(builds: usize, configuration: &str) -> Sources {
    let sources = Sources::new();
    let own = "fail = 'touch_own_globs'\ntouch = 'content/share/own.txt'";
    sources.package("a", "", &format!("{own}\n{configuration}"));
    sources.site.needs("a = { path = 'a' }");
    sources.site.write("a/content/share/kept.txt", "kept\n");
    for _ in 0..builds {
        sources.assert_builds(1);
    }
    sources.assert_builds(0);
    sources.assert_settled();
    sources
}

/// What makes it write the same each time.
const THE_SAME: &str = "touch_with = 'made of nothing'";

#[test]
fn an_edit_beside_what_a_build_writes_itself_is_built_once() {
    for (builds, with) in [(3, ""), (2, THE_SAME)] {
        let sources = writing_into_its_own_globs(builds, with);
        for text in ["edited\n", "edited again\n"] {
            sources.site.write("a/content/share/kept.txt", text);
            sources.assert_builds(1);
            assert_eq!(sources.site.read(".pixi/envs/default/share/kept.txt"), text);
            sources.assert_builds(0);
            sources.assert_settled();
        }
    }
    let sources = writing_into_its_own_globs(3, "");
    sources.site.write("a/content/share/own.txt", "70");
    sources.assert_builds(1);
    sources.assert_builds(0);
    sources.assert_settled();
}

/// Builds `a`, and edits a file when the package has been made, before the build has ended.
fn built_while_somebody_edits(sources: &Sources, file: &str, text: &str) {
    let mut command = sources.command(&["install", "--json"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it can be started");
    let builds = sources.site.path(".pixi/doge/bld/a");
    let is_made = || {
        let of_builds = std::fs::read_dir(&builds).into_iter().flatten().flatten();
        let mut packages =
            of_builds.flat_map(|build| std::fs::read_dir(build.path().join("out")).into_iter().flatten());
        packages.next().is_some()
    };
    let begin = Instant::now();
    while !is_made() {
        assert!(begin.elapsed() < Duration::from_secs(60), "nothing is built");
        tick();
    }
    tick();
    sources.site.write(file, text);
    let ran = Ran::of(child.wait_with_output().expect("it ends")).succeeded();
    assert_eq!(ran.executed()["backend_build"], 1, "{:?}", ran.executed());
}

#[test]
fn a_source_that_is_edited_in_builds_in_a_row_is_not_taken_for_what_they_write() {
    let sources = Sources::new();
    sources.package("a", "", "slow_after = 400");
    sources.site.needs("a = { path = 'a' }");
    let mut text = String::new();
    for round in 0..3 {
        // Otherwise nothing tells who is at work here.
        sources.site.write("a/content/share/other.txt", &format!("edited before build {round}\n"));
        text = format!("edited in build {round}\n");
        built_while_somebody_edits(&sources, "a/content/share/text.txt", &text);
    }
    sources.assert_builds(1);
    assert_eq!(sources.site.read(".pixi/envs/default/share/text.txt"), text);
    sources.assert_settled();
}

#[test]
fn an_edit_of_what_a_build_wrote_before_counts_if_it_is_made_during_a_build() {
    let sources = writing_into_its_own_globs(2, &format!("{THE_SAME}\nslow_after = 400"));
    sources.site.write("a/content/share/kept.txt", "edited\n");
    built_while_somebody_edits(&sources, "a/content/share/own.txt", "edited, too\n");
    sources.assert_builds(1);
    assert_eq!(sources.site.read(".pixi/envs/default/share/own.txt"), "edited, too\n");
    // It writes what it wrote before, which is not what it has read.
    sources.assert_builds(1);
    sources.assert_builds(0);
    sources.assert_settled();
}

#[test]
fn what_is_taken_away_during_a_build_beside_what_it_writes_itself_counts() {
    let sources = writing_into_its_own_globs(3, "remove = 'content/share/extra.txt'");
    sources.site.write("a/content/share/extra.txt", "read by one build only\n");
    sources.assert_builds(1);
    assert!(!sources.site.path("a/content/share/extra.txt").exists());
    sources.assert_builds(1);
    assert!(!sources.site.prefix("share/extra.txt").exists(), "it was built from a file that is gone");
    sources.assert_builds(0);
    sources.assert_settled();
    assert!(sources.site.prefix("share/kept.txt").is_file());
}

#[test]
fn configuration_and_project_count_though_no_glob_names_the_manifest() {
    let sources = Sources::new();
    sources.package("a", "", "globs = ['content/**']\nembed = false");
    sources.install();
    sources.assert_settled();
    sources.package("a", "", "globs = ['content/**']\nembed = true");
    sources.assert_builds(1);
    let text = sources.site.read("a/pixi.toml");
    sources.site.write("a/pixi.toml", &format!("# only a remark\n{text}"));
    sources.install();
    sources.assert_builds(0);
}

#[cfg(unix)]
#[test]
fn where_a_symbolic_link_leads_counts_though_the_content_is_the_same() {
    let sources = Sources::new();
    sources.site.write("b/content/share/b/one", "same\n");
    sources.site.write("b/content/share/b/two", "same\n");
    let link = sources.site.path("b/content/share/b/link");
    let lead = |to: &str| {
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(to, &link).expect("it can be made");
    };
    lead("one");
    sources.install();
    sources.assert_settled();
    lead("two");
    sources.assert_builds(2);
    sources.assert_settled();
    lead("nowhere");
    sources.assert_builds(2);
    sources.assert_settled();
}

#[cfg(unix)]
#[test]
fn a_link_that_leads_elsewhere_is_told_with_both_ends() {
    let sources = Sources::new();
    sources.site.needs("b = { path = 'b' }");
    sources.site.write("b/content/share/b/one", "one\n");
    sources.site.write("b/content/share/b/two", "two\n");
    let link = sources.site.path("b/content/share/b/link");
    let lead = |to: &str| {
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(to, &link).expect("it can be made");
    };
    sources.install();
    let told = |change: &str| {
        sources.install();
        let why = sources.run(&["why", "build b"]).succeeded().stdout;
        let cause: Vec<&str> = why.lines().skip(1).take_while(|line| *line != "by way of").collect();
        assert_eq!(cause, [format!("  {change}")], "{why}");
    };
    lead("one");
    told("link added: b/content/share/b/link (leads to `one`)");
    lead("two");
    told("link leads elsewhere: b/content/share/b/link one -> two");
    lead("nowhere");
    told("link leads elsewhere: b/content/share/b/link two -> nowhere");
    std::fs::remove_file(&link).expect("it is there");
    sources.site.write("b/content/share/b/link", "one\n");
    told("link became a file: b/content/share/b/link");
    lead("one");
    told("file became a link: b/content/share/b/link (leads to `one`)");
    std::fs::remove_file(&link).expect("it is there");
    told("link removed: b/content/share/b/link");
}

#[test]
fn what_was_built_is_no_other_without_a_network() {
    let sources = Sources::new();
    sources.install();
    for again in 0..2 {
        let ran = sources.json(&["install", "--offline"]);
        for kind in ["backend_build", "call_outputs"] {
            assert_eq!(ran.executed().get(kind), None, "{again}: {:?}", ran.executed());
        }
    }
    sources.assert_settled();
}

#[test]
fn what_is_built_while_a_file_with_variants_changes_is_not_taken_for_what_it_said_before() {
    let sources = Sources::new();
    sources.package("a", "", "fail = 'touch_own_globs'\ntouch = '../variants.yaml'");
    sources.site.manifest("build-variants-files = ['variants.yaml']", "[dependencies]\na = { path = 'a' }\n");
    sources.site.write("variants.yaml", "7");
    sources.assert_builds(1);
    assert_eq!(sources.site.read("variants.yaml").trim(), "8");
    sources.site.write("variants.yaml", "7");
    sources.assert_builds(1);
}

/// Their files have the same names, and what is remembered for each is told apart by what was in them.
#[test]
fn any_number_of_copies_of_a_workspace_share_a_cache_and_push_nobody_out() {
    let sources = Sources::new();
    let copies: Vec<_> = (0..10).map(|number| sources.site.root().join(format!("copy-{number}"))).collect();
    for (number, copy) in copies.iter().enumerate() {
        let copied = std::process::Command::new("cp").arg("-a").arg(sources.site.path("")).arg(copy).status();
        assert!(copied.expect("there is such a program").success());
        std::fs::write(copy.join("b/content/share/b/data.txt"), format!("of copy {number}\n"))
            .expect("it can be written");
    }
    let run = |arguments: &[&str], copy: &std::path::Path| {
        let manifest = copy.join("pixi.toml").display().to_string();
        sources.json(&[arguments, &["--manifest-path", &manifest]].concat())
    };
    for copy in &copies {
        assert_eq!(run(&["install"], copy).executed()["backend_build"], 2);
    }
    for copy in &copies {
        run(&["install"], copy).assert_nothing_ran();
    }
    // What one changes is told beside what it had itself.
    let changed = &copies[3];
    std::fs::write(changed.join("a/content/bin/a"), "#!/bin/sh\necho changed\n").expect("it can be written");
    assert_eq!(run(&["install"], changed).executed()["backend_build"], 1);
    let manifest = changed.join("pixi.toml").display().to_string();
    let why = sources.run(&["why", "build a", "--manifest-path", &manifest]).succeeded();
    assert!(why.stdout.contains("a/content/bin/a") && !why.stdout.contains("data.txt"), "{}", why.stdout);
}
