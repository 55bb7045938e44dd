//! Which keys are read, and what is said about the others.

use expect_test::{Expect, expect};

use super::*;

#[track_caller]
fn check(tables: &str, expected: Expect) {
    expected.assert_eq(&warnings(&small(tables)));
}

#[test]
fn a_manifest_of_everything_that_is_read_raises_no_warning() {
    let workspace = parse(
        r#"
"$schema" = "https://conda.example/schema.json"

[workspace]
name = "everything"
version = "0.1.0"
description = "words"
authors = ["Somebody <somebody@conda.example>"]
license = "MIT"
license-file = "LICENSE"
readme = "README.md"
homepage = "https://conda.example"
repository = "https://conda.example/repository"
documentation = "https://conda.example/docs"
channels = ["main", { channel = "./own", priority = 3 }, "https://conda.example/far"]
platforms = ["linux-64", "osx-arm64"]
channel-priority = "strict"
solve-strategy = "highest"
requires-pixi = ">=0.40,<1"
exclude-newer = "2026-01-01T00:00:00Z"
preview = ["pixi-build"]
build-variants = { python = ["3.11.*"] }
build-variants-files = ["variants.yaml"]
dependencies = { shared = "1.*" }
target.linux-64.build-variants = { c_compiler = ["gcc"] }

[dependencies]
string = ">=1.2.3"
any = "*"
table = { version = "~=1.2", build = "py34_0", build-number = ">=1", channel = "./own", subdir = "noarch" }
hashes = { version = "1.0", md5 = "6f5902ac237024bdd0c176cb93063dc4", sha256 = "a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447" }
licensed = { version = "1.0", license = "MIT", license-family = "MIT", file-name = "licensed-1.0-0.conda" }
featured = { version = "1.0", track-features = "mkl", extras = ["fast"], flags = ["gpu"] }
archive = { path = "packages/archive-1.0-0.conda" }
remote = { url = "https://conda.example/x/noarch/remote-1.0-0.tar.bz2" }
dotted.version = "2.*"
sources = { path = "packages/sources", version = ">=1" }
repository = { git = "https://git.example/x", rev = "abc", subdirectory = "a", lfs = false }
unpacked = { url = "https://conda.example/x.tar.gz", sha256 = "a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447" }
shared = { workspace = true, build = "h*" }

[dev]
worked-on = { path = "packages/worked-on" }

[package]
name = "everything"

[constraints]
openssl = ">=3"

[exclude-newer]
any = "0d"

[system-requirements]
linux = "5.10"
cuda = 12
macos = 13.5
libc = { family = "glibc", version = 2.31 }
archspec = "x86_64"
unix = true

[activation]
scripts = ["activate.sh"]
env = { A = "b" }

[tasks]
test = { cmd = "pytest", depends-on = ["build"] }
build = "make"

[target.linux-64.dependencies]
kernel = "*"

[target.osx.activation]
scripts = ["mac.sh"]

[feature.test]
channels = ["testing"]
channel-priority = "strict"
solve-strategy = "lowest"
platforms = ["linux-64"]
dependencies = { pytest = "*" }
constraints = { pytest = "<9" }
tasks = { test = "pytest" }
activation = { scripts = ["test.sh"] }
system-requirements = { cuda = "12" }
target.unix = { dependencies = { posix = "*" } }

[environments]
default = { features = [], solve-group = "main" }
test = { features = ["test"], solve-group = "main", no-default-feature = false }
list = ["test"]

[tool.somebody-else]
anything = ["goes", 1]
"#,
    );
    assert_eq!(warnings(&workspace), "");
    for (environment, platform) in workspace.targets() {
        workspace.describe(&environment.name, &platform.name).unwrap();
        workspace.solve_unit(&environment.name, &platform.name).unwrap();
    }
}

#[test]
fn unknown_keys_are_named_wherever_they_are() {
    check(
        r#"
chanels = ["typo"]
completely-different = 1
[dependencies]
a = { version = "1", verison = "2" }
[dependnecies]
b = "1"
[target.linux-64]
dependecies = { c = "1" }
[feature.x]
platform = ["linux-64"]
[environments]
e = { features = ["x"], solve_group = "g" }
[system-requirements]
glib = "2.31"
"#,
        expect![[r#"
            line 5: `workspace.chanels` is not a known key and has no effect; did you mean `channels`?
            line 6: `workspace.completely-different` is not a known key and has no effect
            line 8: `dependencies.a.verison` is not a known key and has no effect; did you mean `version`?
            line 9: `dependnecies` is not a known key and has no effect; did you mean `dependencies`?
            line 12: `target.linux-64.dependecies` is not a known key and has no effect; did you mean `dependencies`?
            line 14: `feature.x.platform` is not a known key and has no effect; did you mean `platforms`?
            line 16: `environments.e.solve_group` is not a known key and has no effect; did you mean `solve-group`?
            line 18: `system-requirements.glib` is not a known key and has no effect; did you mean `glibc`?
        "#]],
    );
}

#[test]
fn known_keys_without_effect_say_what_is_missing() {
    check(
        r#"
s3-options = { bucket = { region = "x" } }
conda-pypi-map = { main = "map.json" }
pypi-options = { no-build = true }
[host-dependencies]
h = "*"
[build-dependencies]
b = "*"
"#,
        expect![[r#"
            line 5: `workspace.s3-options` is not handled: channels on S3 are reached with the settings of this machine
            line 6: `workspace.conda-pypi-map` is not handled: the lock file gets no names of the Python index
            line 7: `workspace.pypi-options`: packages of the Python index are not installed
            line 8: `host-dependencies` is deprecated, write `[dependencies]`, or `[package.host-dependencies]` for building a package
            line 10: `build-dependencies` is deprecated, write `[dependencies]`, or `[package.build-dependencies]` for building a package
        "#]],
    );
}

#[test]
fn packages_of_the_python_index_are_reported_where_they_are_declared() {
    check(
        r#"
[pypi-dependencies]
requests = "*"
flask = { version = ">=2", extras = ["async"] }
[pypi-options]
index-url = "https://conda.example/simple"
[feature.x.pypi-dependencies]
rich = "*"
[target.linux-64.pypi-dependencies]
uvloop = "*"
[pypi-exclude-newer]
requests = "0d"
"#,
        expect![[r#"
            line 5: `pypi-dependencies`: packages of the Python index are not installed (requests, flask)
            line 8: `pypi-options`: packages of the Python index are not installed
            line 10: `feature.x.pypi-dependencies`: packages of the Python index are not installed (rich)
            line 12: `target.linux-64.pypi-dependencies`: packages of the Python index are not installed (uvloop)
        "#]],
    );
    let workspace = small("[feature.x.pypi-dependencies]\nrich = \"*\"\n[environments]\nx = [\"x\"]\n");
    assert!(workspace.describe("x", "linux-64").unwrap().has_pypi);
    assert!(!workspace.describe("default", "linux-64").unwrap().has_pypi);
}

#[test]
fn the_old_name_of_the_workspace_table_works() {
    let workspace = parse("[project]\nname = \"old\"\nchannels = [\"main\"]\nplatforms = [\"linux-64\"]\n");
    assert_eq!(workspace.name(), "old");
    expect![[r#"
        line 1: `project` is deprecated, write `[workspace]`
    "#]]
    .assert_eq(&warnings(&workspace));
}

#[test]
fn secrets_in_urls_are_dropped_and_never_shown() {
    let workspace = parse(
        r#"
[workspace]
channels = ["https://me:hunter2@conda.example/main", "https://conda.example/t/hunter2/other"]
platforms = ["linux-64"]
[dependencies]
a = { url = "https://me:hunter2@conda.example/x/noarch/a-1.0-0.conda" }
"#,
    );
    let shown = warnings(&workspace);
    expect![[r#"
        line 3: the URL in `workspace.channels` holds credentials, which are not used; keep them in the credential store instead
        line 3: the URL in `workspace.channels` holds credentials, which are not used; keep them in the credential store instead
        line 6: the URL in `dependencies.a.url` holds credentials, which are not used; keep them in the credential store instead
    "#]].assert_eq(&shown);
    let description = workspace.describe("default", "linux-64").unwrap();
    let text = format!("{shown}{description:?}{}", serde_json::to_string(&description).unwrap());
    assert!(!text.contains("hunter2"), "{text}");
    assert_eq!(description.needs.channels[1].to_string(), "https://conda.example/other/");
}

#[test]
fn a_pattern_that_matches_nothing_is_reported() {
    check(
        "[target.\"gpu-*\".dependencies]\na = \"*\"\n",
        expect![[r#"
        line 4: `target."gpu-*"`: no platform matches `gpu-*`, so this table has no effect
    "#]],
    );
}

#[test]
fn a_misspelt_virtual_package_is_not_taken_for_another() {
    let workspace = parse("[workspace]\nchannels = []\nplatforms = [{ platform = \"linux-64\", glbc = \"2.31\" }]\n");
    expect![[r#"
        line 3: `workspace.platforms.glbc` is not a known key and has no effect; did you mean `glibc`?
    "#]]
    .assert_eq(&warnings(&workspace));
}

#[test]
fn versions_are_read_as_conda_writes_them() {
    for (written, shown) in [
        ("*", "a"),
        ("3.11", "a ==3.11"),
        ("3.11.*", "a 3.11.*"),
        ("==3.11.0", "a ==3.11.0"),
        ("=3.11", "a 3.11.*"),
        ("~=3.11.0", "a ~=3.11.0"),
        (">=1.2.3|<1.0.0", "a >=1.2.3|<1.0.0"),
        ("(>=1,<2)|>3", "a >=1,<2|>3"),
        (">= 1.2 , < 2", "a >=1.2,<2"),
        ("!=3.8", "a !=3.8"),
        ("!=3.8.*", "a !=3.8.*"),
        ("19.10b0", "a ==19.10b0"),
        ("1!2.0", "a ==1!2.0"),
        ("==2024.1+local", "a ==2024.1+local"),
        ("x.y.z", "a ==x.y.z"),
        (">=1.0.0a1", "a >=1.0.0a1"),
    ] {
        let workspace = small(&format!("[dependencies]\na = \"{written}\"\n"));
        assert_eq!(requirements(&workspace, "default", "linux-64"), [shown], "{written}");
    }
}

#[test]
fn builds_are_exact_globs_or_regular_expressions() {
    for build in ["py34_0", "*cuda*", "py3*", "^py3[0-9]+_0$", "*_cpython"] {
        let workspace = small(&format!("[dependencies]\na = {{ version = \"1.*\", build = '{build}' }}\n"));
        let description = workspace.describe("default", "linux-64").unwrap();
        let spec = &description.needs.match_specs(workspace.root()).unwrap()[0];
        assert_eq!(spec.build.as_ref().unwrap().to_string(), build);
    }
}

#[test]
fn line_ends_and_a_byte_order_mark_make_no_difference() {
    let text = small_text("unknown = 1\n[dependencies]\na = \"1.*\"\n");
    let plain = parse(&text);
    for other in [text.replace('\n', "\r\n"), format!("\u{feff}{text}")] {
        let other = parse(&other);
        assert_eq!(warnings(&other), warnings(&plain));
        assert_eq!(other.describe("default", "linux-64").unwrap(), plain.describe("default", "linux-64").unwrap());
    }
}
