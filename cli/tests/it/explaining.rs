//! Why something ran again: in the workspace of `examples/workspace`, one edit after the other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use doge_queries::testing::{ChannelBuilder, PackageBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::interposed::signal;
use crate::site::{PLATFORM, Ran, doge, tick};
use crate::sources::backend;

/// A copy of the example, with its repository, its archive and its channel.
struct Example {
    directory: TempDir,
    channel: ChannelBuilder,
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("it can be made");
    for entry in fs::read_dir(from).expect("it is there") {
        let entry = entry.expect("it can be read");
        let target = to.join(entry.file_name());
        let is_made =
            ["made", "channel", ".pixi", "pixi.toml", "pixi.lock"].iter().any(|name| entry.file_name() == *name);
        if entry.path().is_dir() {
            if !is_made {
                copy(&entry.path(), &target);
            }
        } else if !is_made || from.ends_with("greet") || from.ends_with("words") || from.ends_with("letters") {
            fs::copy(entry.path(), target).expect("it can be copied");
        }
    }
}

impl Example {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path().join("workspace");
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/workspace");
        copy(&example, &root);
        // The channel is made here, for the backend is built already.
        let script = fs::read_to_string(root.join("setup.sh")).expect("it is there");
        fs::write(root.join("setup.sh"), script.replace("../backend-channel.sh", ": ../backend-channel.sh"))
            .expect("it can be written");
        let made = Command::new("bash").arg(root.join("setup.sh")).output().expect("there is a bash");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let channel = ChannelBuilder::new(root.join("channel"));
        let mut example = Self { directory, channel };
        example.channel.add(PackageBuilder::new("pixi-build-api-version", "7")).expect("it can be written");
        example.backend("1.0");
        example.package("tool", "1.0");
        for subdir in ["linux-64", "linux-aarch64", "osx-64", "osx-arm64"] {
            example.channel.subdir(subdir);
        }
        example.index();
        example
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.directory.path().join("workspace").join(inside)
    }

    fn read(&self, inside: &str) -> String {
        fs::read_to_string(self.path(inside)).expect("it is there")
    }

    fn write(&self, inside: &str, text: &str) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().expect("it is inside")).expect("it can be made");
        fs::write(path, text).expect("it can be written");
    }

    fn edit(&self, inside: &str, from: &str, to: &str) {
        let text = self.read(inside);
        assert!(text.contains(from), "{text}");
        self.write(inside, &text.replace(from, to));
    }

    fn backend(&mut self, version: &str) {
        let program = fs::read(backend()).expect("it was built");
        let package = PackageBuilder::new("doge-test-backend", version).subdir(PLATFORM);
        let package = package.depends(["pixi-build-api-version >=7,<8"]).executable("bin/doge-test-backend", program);
        self.channel.add(package).expect("it can be written");
    }

    fn package(&mut self, name: &str, version: &str) {
        let package = PackageBuilder::new(name, version).file(format!("share/{name}"), format!("{version}\n"));
        self.channel.add(package).expect("it can be written");
    }

    fn index(&self) {
        self.channel.index().expect("it can be written");
    }

    fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
        tick();
        tick();
        let directory = self.directory.path();
        let mut command = doge(arguments, &self.path(""), directory, &directory.join("cache"));
        command.envs(variables.iter().copied());
        Ran::by(command)
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, &[]).succeeded()
    }
}

/// What an edit is told to be: the sort of cause, and its changes or what else is said.
fn told(why: &Value) -> (String, Vec<String>) {
    let cause = &why["cause"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let changes = cause["changes"].as_array().cloned().unwrap_or_default();
    let changes = changes.iter().map(|change| {
        let parts = [&change["what"], &change["path"], &change["was"], &change["now"]].map(text);
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" | ")
    });
    (text(&cause["sort"]), changes.collect())
}

/// What was done in the newest run, as the graph marks it: actions and effects, without what is read and fetched on the way.
fn done(example: &Example) -> Vec<String> {
    let graph = example.run(&["graph", "--format", "json"]).value();
    let nodes = graph["nodes"].as_array().expect("it has nodes");
    let is_work = |node: &&Value| {
        matches!(node["outcome"].as_str(), Some("executed" | "cut_off" | "failed"))
            && matches!(
                node["kind"].as_str(),
                Some("backend_build" | "call_outputs" | "solve_conda_environment" | "link_prefix")
            )
    };
    let mut done: Vec<String> =
        nodes.iter().filter(is_work).map(|node| node["name"].as_str().expect("a name").to_owned()).collect();
    done.sort();
    done.dedup();
    done
}

const BUILD: &str = "build greet 1.0 0";
const ASK: &str = "ask for the packages of packages/greet";
const LINK: &str = "link prefix .pixi/envs/default";

#[test]
fn each_edit_is_named_and_nothing_else_and_the_graph_marks_what_it_affects() {
    let mut example = Example::new();
    let greet = "packages/greet/content/bin/greet";
    // As they are said by `doge why greet` and by the graph after an install.
    let check = |example: &Example, sort: &str, changes: &[&str], work: &[&str]| {
        let why = example.run(&["why", "greet", "--json"]).value();
        assert_eq!(told(&why), (sort.to_owned(), changes.iter().map(|change| (*change).to_owned()).collect()), "{why}");
        assert!(why["also"].is_null(), "{why}");
        assert_eq!(done(example), work);
        why
    };
    example.edit(
        "packages/greet/pixi.toml",
        "version = \"*\" }\n",
        "version = \"*\" }\n[package.build.config]\nfail = 'error'\nfail_in = 'build'\nfail_while = 'broken'\n",
    );
    example.edit("pixi.toml", "\"linux-64\", \"linux-aarch64\", \"osx-64\", \"osx-arm64\"", &format!("\"{PLATFORM}\""));
    example.edit("pixi.toml", "[dependencies]\n", "[dependencies]\ntool = \"*\"\n");
    example.write(".pixi/config.toml", "[build]\npass-env = ['SEEN', 'MY_TOKEN']\n");
    example.write("packages/greet/notes.txt", "notes\n");
    example.write("packages/greet/content/share/old.txt", "old\n");

    example.run(&["install"]);
    let why = example.run(&["why", "greet", "--json"]).value();
    assert_eq!(told(&why), ("new".to_owned(), vec![]), "{why}");
    assert!(done(&example).contains(&BUILD.to_owned()));

    example.write(greet, &(example.read(greet) + "# more\n"));
    example.run(&["install"]);
    check(&example, "changed", &["file changed | packages/greet/content/bin/greet"], &[ASK, BUILD, LINK]);

    // What held is told by what was looked at.
    example.run(&["install"]);
    let why = example.run(&["why", "greet"]).stdout;
    assert!(why.contains("did not run, because it holds") && why.contains("in packages/greet"), "{why}");
    assert!(why.contains("the one since then did not run it again"), "{why}");

    example.write("packages/greet/content/share/new.txt", "new\n");
    example.run(&["install"]);
    let added = "file added | packages/greet/content/share/new.txt | (matches `content/**`)";
    check(&example, "changed", &[added], &[ASK, BUILD, LINK]);

    fs::remove_file(example.path("packages/greet/content/share/old.txt")).expect("it is there");
    example.run(&["install"]);
    check(&example, "changed", &["file removed | packages/greet/content/share/old.txt"], &[ASK, BUILD, LINK]);

    // A file that no glob matched is where one does.
    fs::rename(example.path("packages/greet/notes.txt"), example.path("packages/greet/content/notes.txt"))
        .expect("it is there");
    example.run(&["install"]);
    let matched = "file added | packages/greet/content/notes.txt | (matches `content/**`)";
    check(&example, "changed", &[matched], &[ASK, BUILD, LINK]);

    // Every build sees the variable, and only its own package is asked about.
    example.run_with(&["install"], &[("SEEN", "one")]).succeeded();
    example.run_with(&["install"], &[("SEEN", "two")]).succeeded();
    let why = example.run(&["why", "build greet 1.0 0", "--json"]).value();
    assert_eq!(told(&why), ("changed".to_owned(), vec!["variable | SEEN | `one` | `two`".to_owned()]), "{why}");
    example.run_with(&["install"], &[("SEEN", "two"), ("MY_TOKEN", "hunter1")]).succeeded();
    let ran = example.run_with(&["install"], &[("SEEN", "two"), ("MY_TOKEN", "hunter2")]).succeeded();
    assert!(!ran.stderr.contains("hunter"), "{}", ran.stderr);
    let why = example.run(&["why", "build greet 1.0 0", "--json"]);
    assert!(!why.stdout.contains("hunter"), "{}", why.stdout);
    let another = "variable | MY_TOKEN | has another value, which is not shown".to_owned();
    assert_eq!(told(&why.value()), ("changed".to_owned(), vec![another]), "{}", why.stdout);

    example.run(&["install"]);
    example.edit("packages/greet/pixi.toml", "version = \"1.0\"", "version = \"1.1\"");
    example.run(&["install"]);
    let build = "build greet 1.1 0";
    let version = "line of packages/greet/pixi.toml | version = \"1.0\" | version = \"1.1\"";
    check(&example, "changed", &[version], &[ASK, build, LINK]);

    example.run(&["solve"]);
    example.channel.remove("noarch", "tool-1.0-0.conda");
    example.package("tool", "2.0");
    example.index();
    example.run(&["solve"]);
    let why = example.run(&["why", "solve", "--json"]).value();
    let record = "package | tool | tool-1.0-0.conda | tool-2.0-0.conda".to_owned();
    assert_eq!(told(&why), ("changed".to_owned(), vec![record]), "{why}");
    assert_eq!(done(&example), [format!("solve default@{PLATFORM}")]);
    example.run(&["install"]);

    example.backend("2.0");
    example.index();
    example.run(&["install", "--refresh"]);
    let why = example.run(&["why", build, "--json"]).value();
    let backend = "backend | doge-test-backend | 1.0 0 | 2.0 0".to_owned();
    assert_eq!(told(&why), ("changed".to_owned(), vec![backend]), "{why}");

    example.run(&["install", "--force=greet"]);
    check(&example, "forced", &[], &[build, LINK]);

    example.write("packages/greet/broken", "");
    example.write(greet, &(example.read(greet) + "# and more\n"));
    assert_eq!(example.run_with(&["install"], &[]).code, 1);
    let why = check(&example, "changed", &["file changed | packages/greet/content/bin/greet"], &[ASK, build]);
    assert_eq!(why["outcome"], "failed");
    fs::remove_file(example.path("packages/greet/broken")).expect("it is there");
    example.run(&["install"]);
    let why = check(&example, "failed_before", &[], &[build, LINK]);
    assert!(why["cause"]["note"].as_str().is_some_and(|note| note.contains("conda/build_v1")), "{why}");

    example.run(&["cache", "gc", "--max-size=60KiB"]);
    example.run(&["install"]);
    let why = example.run(&["why", build, "--json"]).value();
    assert_eq!(told(&why), ("collected".to_owned(), vec![]), "{why}");

    for entry in fs::read_dir(example.directory.path().join("cache/doge/store-v3")).expect("it is there").flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "redb") {
            let size = entry.metadata().expect("it can be read").len() as usize;
            let mut bytes = fs::read(entry.path()).expect("it can be read");
            bytes[4096..size].fill(0);
            fs::write(entry.path(), bytes).expect("it can be written");
        }
    }
    example.run(&["install"]);
    let why = example.run(&["why", build, "--json"]).value();
    assert_eq!(told(&why), ("store_damaged".to_owned(), vec![]), "{why}");
}

#[test]
fn an_edit_that_is_taken_back_is_told_and_the_next_one_is_compared_with_what_was_before_it() {
    let example = Example::new();
    let greet = "packages/greet/content/bin/greet";
    let first = example.read(greet);
    example.run(&["install"]);
    example.write(greet, &(first.clone() + "# once\n"));
    example.write("packages/greet/content/share/new.txt", "new\n");
    example.run(&["install"]);
    let edited = [
        "file changed | packages/greet/content/bin/greet",
        "file added | packages/greet/content/share/new.txt | (matches `content/**`)",
    ];
    let why = |word: &str| example.run(&["why", word, "--json"]).value();
    assert_eq!(told(&why("greet")), ("changed".to_owned(), edited.map(str::to_owned).to_vec()));

    example.write(greet, &first);
    fs::remove_file(example.path("packages/greet/content/share/new.txt")).expect("it is there");
    example.run(&["install"]);
    let back =
        ["file changed | packages/greet/content/bin/greet", "file removed | packages/greet/content/share/new.txt"];
    let back = ("changed".to_owned(), back.map(str::to_owned).to_vec());
    let taken_back = why("greet");
    assert_eq!(told(&taken_back), back, "{taken_back}");
    assert_eq!(taken_back["outcome"], "verified");
    // The package was fetched again, for the other of its name had taken its place.
    assert_eq!(told(&why("fetch_package")), back);
    assert_eq!(told(&example.run(&["why", "--json"]).value()), back);

    example.write(greet, &(first + "# twice\n"));
    example.run(&["install"]);
    let again = why("greet");
    assert_eq!(told(&again), ("changed".to_owned(), vec![edited[0].to_owned()]), "{again}");
    assert_eq!(again["outcome"], "executed");
}

/// What stands in the answers of `why`, without the ids of runs: words of people, and no hash of anything.
fn assert_in_plain_words(example: &Example, words: &[&str]) {
    for word in words {
        let why = example.run(&["why", word]).stdout;
        for line in why.lines().filter(|line| !line.starts_with("in run ")) {
            let is_hash = |part: &str| part.len() >= 12 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(!line.split(|c: char| !c.is_alphanumeric()).any(is_hash), "{word}: {line}");
            assert!(!["Some(", "None", "{ ", "{\""].iter().any(|syntax| line.contains(syntax)), "{word}: {line}");
        }
    }
}

/// An example for one platform, with nothing but what lies in it.
fn without_others() -> Example {
    let example = Example::new();
    example.edit("pixi.toml", "\"linux-64\", \"linux-aarch64\", \"osx-64\", \"osx-arm64\"", &format!("\"{PLATFORM}\""));
    example
}

const CONFIG: &str = "version = \"*\" }\n";

#[test]
fn nothing_is_compared_with_what_is_called_the_same_in_the_same_run() {
    // Four platforms, of which each has a host environment of that name.
    let example = Example::new();
    example.run(&["install"]);
    let why = example.run(&["why", "the host environment of `greet`"]).stdout;
    assert!(why.contains("nothing was recorded for it") && !why.contains("in another way"), "{why}");
    example.edit("packages/greet/pixi.toml", "version = \"1.0\"", "version = \"1.1\"");
    example.run(&["install"]);
    let why = example.run(&["why", "ask for the packages of packages/greet"]).stdout;
    assert!(why.contains("in another way") && !why.contains("aarch64"), "{why}");
}

#[test]
fn what_held_although_something_is_new_says_what_is() {
    let example = without_others();
    example.run(&["install"]);
    example.write("packages/greet/content/bin/greet", "other\n");
    example.run(&["install"]);
    let why = example.run(&["why", "lock_workspace", "--json"]).value();
    let other = json!([{ "what": "file changed", "path": "packages/greet/content/bin/greet" }]);
    assert_eq!(why["newest"]["checked"]["other"], other, "{why}");
    let why = example.run(&["why", "lock_workspace"]).stdout;
    assert!(why.contains("made a difference") && !why.contains("found nothing new"), "{why}");
    let why = example.run(&["why", "files", "--json"]).value();
    assert_eq!(told(&why).1, ["file changed | packages/greet/content/bin/greet"], "{why}");
    assert_eq!(why["outcome"], "observed");
    assert_in_plain_words(&example, &["greet", "link_prefix", "environment", "install_pixi_environment"]);

    example.run(&["install"]);
    let why = example.run(&["why", "lock_workspace"]).stdout;
    assert!(why.contains("found nothing new") && !why.contains("made a difference"), "{why}");
}

#[test]
fn of_several_edits_at_once_all_are_named_that_made_a_difference_and_no_others() {
    let example = without_others();
    example.run(&["install"]);
    example.edit("packages/greet/pixi.toml", "version = \"1.0\"", "version = \"1.1\"");
    example.write("packages/greet/content/bin/greet", "other\n");
    example.edit("pixi.toml", "preview = ", "description = \"of words\"\npreview = ");
    example.run(&["install"]);
    let why = example.run(&["why", "greet", "--json"]).value();
    let version = "line of packages/greet/pixi.toml | version = \"1.0\" | version = \"1.1\"";
    assert_eq!(told(&why), ("changed".to_owned(), vec![version.to_owned()]), "{why}");
    assert_eq!(why["also"], json!([{ "what": "file changed", "path": "packages/greet/content/bin/greet" }]), "{why}");
    let why = example.run(&["why"]).stdout;
    assert!(why.contains("file changed: packages/greet/content/bin/greet"), "{why}");
    assert!(why.contains("what else is new, and made a difference"), "{why}");

    // Why a package is another one is told in the words of whoever read that.
    fs::rename(example.path("packages/greet"), example.path("packages/greeter")).expect("it is there");
    example.edit("pixi.toml", "path = \"packages/greet\"", "path = \"packages/greeter\"");
    example.run(&["install"]);
    let why = example.run(&["why", "greet"]).stdout;
    let line =
        "  line of pixi.toml: greet = { path = \"packages/greet\" } -> greet = { path = \"packages/greeter\" }\n";
    assert!(why.contains(line) && !why.contains("manifest/text"), "{why}");

    // What was written by the run itself is no reason for it.
    example.edit("pixi.toml", "[dependencies]\n", "[dependencies]\ntool = \"*\"\n");
    example.run(&["install"]);
    let why = example.run(&["why", "--json"]).value();
    assert_eq!(told(&why).1, ["line of pixi.toml added | tool = \"*\""], "{why}");
    assert!(why["also"].is_null(), "{why}");
}

#[test]
fn what_is_asked_for_as_it_was_before_the_last_time_is_told_as_taken_back() {
    let example = without_others();
    let manifest = "packages/greet/pixi.toml";
    let first = example.read(manifest);
    example.run(&["install"]);
    example.edit(manifest, "version = \"1.0\"", "version = \"1.1\"");
    example.run(&["install"]);
    example.write(manifest, &first);
    example.run(&["install"]);
    let back = format!("line of {manifest} | version = \"1.1\" | version = \"1.0\"");
    let graph = example.run(&["graph", "--only", "changed", "--json"]).value();
    let kinds: Vec<&Value> = graph["nodes"].as_array().expect("a list").iter().map(|node| &node["kind"]).collect();
    for kind in ["backend_build", "manifests", "install_workspace_environment"] {
        assert!(kinds.contains(&&json!(kind)), "{kind}: {kinds:?}");
    }
    assert!(!kinds.contains(&&json!("workspace_place")), "{kinds:?}");
    for word in ["greet", "backend_build", "call_outputs", "environment"] {
        let why = example.run(&["why", word, "--json"]).value();
        assert_eq!(told(&why), ("changed".to_owned(), vec![back.clone()]), "{word}: {why}");
        assert_eq!(why["outcome"], "verified", "{word}");
    }

    // Also if it had failed in between.
    example.edit(manifest, CONFIG, &format!("{CONFIG}[package.build.config]\nfail = 'error'\nfail_in = 'build'\n"));
    assert_eq!(example.run_with(&["install"], &[]).code, 1);
    example.write(manifest, &first);
    example.run(&["install"]);
    for word in ["greet", "environment"] {
        let why = example.run(&["why", word, "--json"]).value();
        let lines = ["[package.build.config]", "fail = 'error'", "fail_in = 'build'"];
        let lines = lines.map(|line| format!("line of {manifest} removed | {line}")).to_vec();
        assert_eq!(told(&why), ("changed".to_owned(), lines), "{word}: {why}");
        assert_eq!(why["outcome"], "verified", "{word}");
    }
    example.run(&["install"]);
    let why = example.run(&["why", "greet", "--json"]).value();
    assert!(why["newest"]["checked"].is_object(), "{why}");

    // How it is asked for is told in words.
    example.run(&["install", "--frozen"]);
    let why = example.run(&["why", "environment", "--json"]).value();
    let frozen = "lock file | kept as far as it is up to date | taken as it is (--frozen)";
    assert_eq!(told(&why), ("asked_differently".to_owned(), vec![frozen.to_owned()]), "{why}");
    example.run(&["install", "--offline"]);
    let text = example.run(&["why", "environment"]).stdout;
    assert!(text.contains("  option added: --offline\n"), "{text}");
    assert_in_plain_words(&example, &["environment", "greet"]);
}

/// Makes building `greet` take long; what was added to its manifest for that.
fn slow(example: &Example) -> String {
    let slow = "[package.build.config]\nslow = 2000\nslow_in = 'build'\nstderr = ['a line of it']\n";
    let slow = format!("{slow}log = '{}'\n", example.directory.path().join("log").display());
    example.edit("packages/greet/pixi.toml", CONFIG, &format!("{CONFIG}{slow}"));
    slow
}

/// A run that is building `greet`.
fn building(example: &Example) -> Child {
    let directory = example.directory.path();
    let log = directory.join("log");
    fs::write(&log, "").expect("it can be written");
    tick();
    let mut command = doge(&["install"], &example.path(""), directory, &directory.join("cache"));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it can be started");
    while !fs::read_to_string(&log).is_ok_and(|calls| calls.contains("build greet")) {
        assert!(child.try_wait().expect("it can be asked").is_none(), "it ended before it built");
        tick();
    }
    child
}

#[test]
fn what_a_run_wrote_that_was_killed_is_found() {
    let example = without_others();
    example.run(&["install"]);
    let before = example.run(&["runs", "--json"]).value();
    slow(&example);
    let mut child = building(&example);
    child.kill().and_then(|()| child.wait()).expect("it is there");
    assert_eq!(example.run(&["runs", "--json"]).value(), before, "it left no record");
    let log = example.run(&["runs", "log"]);
    assert!(log.stdout.contains("a line of it") && log.stderr.contains("was killed"), "{}{}", log.stdout, log.stderr);
    let file = fs::read_dir(directory_of_logs(&example)).expect("it is there").flatten().next().expect("a log");
    let id = file.file_name().to_string_lossy().trim_end_matches(".jsonl").to_owned();
    assert_eq!(example.run(&["runs", "log", &id, "greet"]).stdout, log.stdout);
    example.run_with(&["runs", "log", "fff"], &[]).assert_fails_with(&["there is no run `fff`"]);
}

fn directory_of_logs(example: &Example) -> PathBuf {
    example.directory.path().join("cache/doge/logs")
}

#[test]
fn what_was_not_done_when_a_run_was_interrupted_is_told_in_it_and_in_the_next() {
    let example = without_others();
    example.run(&["install"]);
    let slow = slow(&example);
    let child = building(&example);
    signal(child.id(), "INT");
    assert_eq!(Ran::of(child.wait_with_output().expect("it ends")).code, 130);

    let why = example.run(&["why", "greet", "--json"]).value();
    let line = |line: &str| format!("line of packages/greet/pixi.toml added | {line}");
    let lines: Vec<String> = slow.lines().map(line).collect();
    assert_eq!(told(&why), ("changed".to_owned(), lines), "{why}");
    assert_eq!(why["outcome"], "pending", "{why}");
    let shown = example.run(&["runs", "show", "--json"]).value();
    let build = shown["longest"].as_array().expect("a list").iter().find(|took| took["kind"] == "backend_build");
    assert!(build.is_some_and(|build| build["outcome"] == "pending"), "{shown}");

    example.run(&["install"]);
    let why = example.run(&["why", "greet", "--json"]).value();
    assert_eq!(told(&why), ("unfinished".to_owned(), vec![]), "{why}");

    // What it had asked before is not on record, and has a name all the same.
    example.write("packages/greet/content/bin/greet", "other\n");
    let child = building(&example);
    signal(child.id(), "INT");
    child.wait_with_output().expect("it ends");
    let why = example.run(&["why", "greet", "--json"]).value();
    assert_eq!(told(&why).1, ["file changed | packages/greet/content/bin/greet"], "{why}");
    let because = why["steps"][0]["because"].as_str().expect("a text");
    assert!(because.starts_with("files content/**") && because.contains("in packages/greet is not"), "{because}");
    // The next one is compared with it.
    example.write("packages/greet/content/bin/more", "more\n");
    example.run(&["install"]);
    let why = example.run(&["why", "greet", "--json"]).value();
    let added = "file added | packages/greet/content/bin/more | (matches `content/**`)";
    assert_eq!(told(&why).1, [added], "{why}");
}

#[test]
fn without_a_word_what_ran_is_told_also_below_what_held() {
    let example = Example::new();
    example.run(&["install"]);
    fs::remove_dir_all(example.path(".pixi/envs/default")).expect("it is there");
    example.run(&["install"]);
    let why = example.run(&["why", "--json"]).value();
    assert_eq!(
        (&why["cause"]["sort"], &why["cause"]["kind"]),
        (&json!("not_as_wanted"), &json!("link_prefix")),
        "{why}"
    );
    fs::remove_file(example.path("pixi.lock")).expect("it is there");
    example.run(&["install"]);
    let why = example.run(&["why", "--json"]).value();
    assert_eq!(why["cause"]["kind"], "write_lock_file", "{why}");
    example.run(&["install"]);
    let why = example.run(&["why", "--json"]).value();
    assert_eq!((&why["cause"]["kind"], &why["held_since"]), (&json!("write_lock_file"), &json!(1)), "{why}");
    assert_eq!(why["newest"]["steps"][0]["kind"], "install_workspace_environment", "{why}");
    // A command that came to nothing does not stand before what did.
    assert_eq!(example.run_with(&["metadata", "nonsense"], &[]).code, 1);
    assert_eq!(example.run(&["why", "--json"]).value(), why);
}

#[test]
fn what_is_not_known_is_answered_with_what_is_like_it() {
    let example = Example::new();
    example.run(&["install"]);
    example.run_with(&["why", "gret"], &[]).assert_fails_with(&["`gret`", "did you mean", "greet"]);
    // A name of other case is found where nothing is written so.
    let why = example.run(&["why", "greet"]).stdout;
    assert_eq!(why, example.run(&["why", "GREET"]).stdout);
    assert_eq!(why, example.run(&["why", " Greet "]).stdout);
    let graph = example.run(&["graph", "--under", "Build GREET"]).stdout;
    assert!(graph.contains("build greet 1.0 0") && !graph.contains("link_prefix"), "{graph}");
    let runs = example.run(&["runs", "--json"]).value();
    let id = runs[0]["run"].as_str().expect("an id").to_owned();
    let why = example.run(&["why", "greet", "--run", &id, "--json"]).value();
    assert_eq!(why["run"], id.as_str());
    example.run_with(&["why", "greet", "--run", "fff"], &[]).assert_fails_with(&["there is no run `fff`"]);
}
