//! No text can bring the reader down, and what is read can be written and read again.

use proptest::prelude::*;

use super::*;

/// Manifests that reach every reader.
const SEEDS: [&str; 4] = [
    r#"
[workspace]
name = "a"
channels = ["main", { channel = "./own", priority = -1, exclude-newer = "7d" }, "file:///x", "https://u:p@conda.example/t/k/x"]
platforms = ["linux-64", "osx-arm64", "win-64"]
channel-priority = "disabled"
solve-strategy = "lowest"
requires-pixi = ">=0.4"
exclude-newer = { cutoff = "2026-03-30", exemptions = { b = { version = "1.*", channel = "main" } } }
[exclude-newer]
x = "1h"
[dependencies]
a = ">=1,<2|3.*"
b = { version = "~=1.2", build = "*cuda*", build-number = ">=1", channel = "./own", subdir = "noarch", file-name = "b-1-0.conda", license = "MIT" }
c = { path = "x/c-1.0-0.conda", sha256 = "a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447" }
d = { git = "https://git.example/x", rev = "abc", subdirectory = "s" }
e = { url = "https://conda.example/x/noarch/e-1.0-0.tar.bz2", md5 = "6f5902ac237024bdd0c176cb93063dc4" }
f = { version = "*", extras = ["x"], flags = ["y"], track-features = ["z"], when = "python" }
[constraints]
a = "<9"
[system-requirements]
linux = 5.10
libc = { family = "musl", version = "1.2" }
cuda = "12"
[target.unix.dependencies]
a = "2"
[target."l*x-*".dependencies]
g = "*"
[feature.t]
platforms = ["linux-64", "linux-aarch64"]
channels = ["t"]
dependencies = { h = "*" }
pypi-dependencies = { i = "*" }
dev = { j = { path = "." } }
[environments]
t = { features = ["t"], solve-group = "g", no-default-feature = true }
default = { features = [], solve-group = "g" }
u = ["t"]
[tasks]
x = "y"
"#,
    r#"
[workspace]
channels = []
platforms = [
  "linux-64",
  { name = "gpu", platform = "linux-64", cuda = { driver = "12.0", arch = "8.6" }, __x = "1=b" },
  { platform = "osx-64", macos = "14", archspec = "m1" },
]
[feature.g]
platforms = ["gpu", "osx-64"]
[environments]
g = ["g"]
"#,
    r#"
[project]
name = "p"
requires-python = ">=3.9,!=3.10.*"
dependencies = ["a[b]>=1", "c"]
optional-dependencies = { d = ["e"] }
[dependency-groups]
f = ["g", { include-group = "d" }]
[tool.pixi.project]
channels = ["c"]
platforms = ["linux-64"]
[tool.pixi.host-dependencies]
h = "1"
[tool.pixi.environments]
i = ["d", "f"]
"#,
    r#"
[workspace]
version = "1"
authors = ["a"]
readme = "x/y"
channels = ["c"]
platforms = ["linux-64"]
build-variants = { python = ["3", 4, true] }
build-variants-files = ["a.yaml"]
[workspace.dependencies]
s = { path = "packages/s", version = "1" }
t = "1"
[workspace.target.unix.build-variants]
x = ["y"]
[dependencies]
s = { workspace = true }
[dev]
p = { git = "https://git.example/x", branch = "b", lfs = true }
[package]
name = "p"
version.workspace = true
authors.workspace = true
readme.workspace = true
homepage = "https://conda.example"
[package.build]
backend = { name = "b", version = "1.*", channels = ["c", "./d"], additional-dependencies = { e = "*" } }
source = { url = "https://conda.example/x.tar.gz", subdirectory = "s" }
config = { a = [1, 2.5, { b = "c" }] }
build-number = 1
flags = ["f"]
secrets = ["S"]
[package.build.target.win]
config = { a = 1 }
[package.host-dependencies]
t = { workspace = true, build = "h*" }
u = { version = ">=1", channel = "c", when = { any = ["v", { package = "w", build = "x" }] } }
[package.run-dependencies]
x = { pin-compatible = { lower-bound = "x.x", upper-bound = "2", build = "y" } }
"if(win)" = { y = "1" }
[package.run-exports.weak]
p = { pin-subpackage = true }
[package.extra-dependencies.e]
z = { url = "https://conda.example/z.zip" }
[package.target.osx.run-constraints]
a = "<2"
"#,
];

/// Texts that mean something somewhere.
const SNIPPETS: [&str; 28] = [
    "[",
    "]",
    "{",
    "}",
    "=",
    "\"",
    "'",
    ".",
    ",",
    "\n",
    "#",
    "*",
    "\u{0}",
    "é",
    "default",
    "linux-64",
    "true",
    "1",
    "-1",
    "1e999",
    "[[workspace]]",
    "2026-01-01",
    "..",
    "~/",
    "https://",
    "\"\"",
    "99999999999999999999",
    "noarch",
];

/// Values of every type, and strings that are hard to read.
const VALUES: [&str; 30] = [
    "1",
    "-1",
    "1.5",
    "true",
    "2026-01-01",
    "[]",
    "{}",
    "[1]",
    "[\"a\"]",
    "[\"a\", \"a\"]",
    "[[]]",
    "[{}]",
    "{ a = 1 }",
    "{ a = \"b\" }",
    "{ version = \"1\", a = { b = [] } }",
    "\"\"",
    "\" \"",
    "\"*\"",
    "\"==\"",
    "\"~/x\"",
    "\"./..\"",
    "\"//\"",
    "\"file:x\"",
    "\"mailto:a@b\"",
    "\"https://u:p@h\"",
    "\"a[b]\"",
    "\"x\\ny\"",
    "\"\\u0000\"",
    "\"9999-12-31\"",
    "\"1e30d\"",
];

#[derive(Debug, Clone)]
enum Edit {
    Value(prop::sample::Index, &'static str),
    Key(prop::sample::Index, &'static str),
    Delete(prop::sample::Index, usize),
    Insert(prop::sample::Index, &'static str),
    Copy(prop::sample::Index, usize, prop::sample::Index),
    DropLine(prop::sample::Index),
    SwapLines(prop::sample::Index, prop::sample::Index),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let index = any::<prop::sample::Index>;
    let edit = prop_oneof![
        4 => (index(), prop::sample::select(&VALUES[..])).prop_map(|(at, value)| Edit::Value(at, value)),
        1 => (index(), prop::sample::select(&VALUES[..])).prop_map(|(at, value)| Edit::Key(at, value)),
        1 => (index(), 1..12usize).prop_map(|(at, length)| Edit::Delete(at, length)),
        1 => (index(), prop::sample::select(&SNIPPETS[..])).prop_map(|(at, text)| Edit::Insert(at, text)),
        1 => (index(), 1..40usize, index()).prop_map(|(from, length, to)| Edit::Copy(from, length, to)),
        1 => index().prop_map(Edit::DropLine),
        1 => (index(), index()).prop_map(|(a, b)| Edit::SwapLines(a, b)),
    ];
    prop::collection::vec(edit, 1..6)
}

fn apply(seed: &str, edits: &[Edit]) -> String {
    let mut text: Vec<char> = seed.chars().collect();
    for edit in edits {
        if text.is_empty() {
            break;
        }
        match edit {
            Edit::Value(at, value) | Edit::Key(at, value) => {
                // A line `key = value` gets another value, or its value another key.
                let mut lines = lines(&text);
                let at = at.index(lines.len());
                let line: String = lines[at].iter().collect();
                if let Some((key, old)) = line.split_once(" = ") {
                    let new = match edit {
                        Edit::Key(..) if value.starts_with('"') => format!("{value} = {old}"),
                        _ => format!("{key} = {value}\n"),
                    };
                    lines[at] = new.chars().collect();
                }
                text = lines.concat();
            }
            Edit::Delete(at, length) => {
                let at = at.index(text.len());
                text.drain(at..(at + length).min(text.len()));
            }
            Edit::Insert(at, snippet) => {
                let at = at.index(text.len());
                text.splice(at..at, snippet.chars());
            }
            Edit::Copy(from, length, to) => {
                let from = from.index(text.len());
                let piece = text[from..(from + length).min(text.len())].to_vec();
                let to = to.index(text.len());
                text.splice(to..to, piece);
            }
            Edit::DropLine(at) => {
                let mut lines = lines(&text);
                let at = at.index(lines.len());
                lines.remove(at);
                text = lines.concat();
            }
            Edit::SwapLines(a, b) => {
                let mut lines = lines(&text);
                let (a, b) = (a.index(lines.len()), b.index(lines.len()));
                lines.swap(a, b);
                text = lines.concat();
            }
        }
    }
    text.into_iter().collect()
}

fn lines(text: &[char]) -> Vec<Vec<char>> {
    text.split_inclusive(|c| *c == '\n').map(<[char]>::to_vec).collect()
}

/// Does with a text whatever can be done with it.
fn exercise(path: &str, text: &str) {
    exercise_package(Path::new(path).file_name().unwrap().to_str().unwrap(), text);
    let workspace = match parse_at(path, text) {
        Ok(workspace) => workspace,
        Err(error) => {
            for span in error.spans() {
                assert!(text.get(span).is_some(), "labels lie inside the text");
            }
            let _ = super::errors::rendered(&error);
            return;
        }
    };
    let _ = warnings(&workspace);
    for (environment, platform) in workspace.targets() {
        if let Err(error) = workspace.solve_unit(&environment.name, &platform.name) {
            let _ = super::errors::rendered(&error);
        }
        let Ok(description) = workspace.describe(&environment.name, &platform.name) else { continue };
        let bytes = rmp_serde::to_vec_named(&description).unwrap();
        assert_eq!(rmp_serde::from_slice::<EnvironmentDescription>(&bytes).unwrap(), description);
        description.needs.match_specs(workspace.root()).unwrap();
        description.needs.constraint_specs(workspace.root()).unwrap();
        for source in description.needs.sources.iter().chain(&description.needs.dev) {
            source.match_spec().unwrap();
        }
        assert_eq!(description.needs.generic_virtual_packages().len(), description.needs.virtual_packages.len());
        let _ = format!("{description} {}", description.needs);
    }
}

/// Does with the package in a text whatever can be done with it.
fn exercise_package(file_name: &str, text: &str) {
    let root = WorkspaceRoot::new("/projects/app").unwrap();
    let manifest = ManifestText { file_name, text };
    for (workspace, directory) in [(None, "."), (Some(manifest), "packages/own")] {
        match parse_package(manifest, workspace, &root, directory, &options()) {
            Ok(None) => {}
            Ok(Some(package)) => {
                package.project_model.value().unwrap();
                let bytes = rmp_serde::to_vec_named(&package).unwrap();
                assert_eq!(rmp_serde::from_slice::<PackageManifest>(&bytes).unwrap(), package);
                assert!(package_warnings(manifest, workspace, &root, directory, &options()).is_ok());
            }
            Err(error) => {
                for span in error.spans() {
                    assert!(text.get(span).is_some(), "labels lie inside the text");
                }
                let _ = super::errors::rendered(&error);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_mutilated_manifest_brings_the_reader_down(seed in prop::sample::select(&SEEDS[..]), edits in edits()) {
        let text = apply(seed, &edits);
        exercise("/projects/app/pixi.toml", &text);
        exercise("/projects/app/pyproject.toml", &text);
    }

    #[test]
    fn no_text_brings_the_reader_down(text in "\\PC{0,200}") {
        exercise("/projects/app/pixi.toml", &text);
        exercise("/projects/app/pixi.toml", &small_text(&text));
        exercise("/projects/app/pixi.toml", &small_text(&format!("[dependencies]\na = {text:?}\n")));
        exercise("/projects/app/pixi.toml", &small_text(&format!("[dependencies]\n{text:?} = \"*\"\n")));
    }
}

#[test]
fn the_unharmed_seeds_are_read() {
    parse_at("/projects/app/pixi.toml", SEEDS[0]).unwrap();
    parse_at("/projects/app/pixi.toml", SEEDS[1]).unwrap();
    parse_at("/projects/app/pyproject.toml", SEEDS[2]).unwrap();
    parse_at("/projects/app/pixi.toml", SEEDS[3]).unwrap();
    let manifest = ManifestText { file_name: "pixi.toml", text: SEEDS[3] };
    let root = WorkspaceRoot::new("/projects/app").unwrap();
    assert!(parse_package(manifest, None, &root, ".", &options()).unwrap().is_some());
}
