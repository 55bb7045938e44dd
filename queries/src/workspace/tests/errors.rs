//! What refused manifests look like to a reader.

use expect_test::{Expect, expect};
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme};

use super::*;

pub(in crate::workspace) fn rendered(error: &dyn Diagnostic) -> String {
    let mut text = String::new();
    GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(100)
        .render_report(&mut text, error)
        .unwrap();
    // Without what all lines are indented by: an expectation is compared without it too.
    let indent = |line: &str| line.len() - line.trim_start().len();
    let common = text.lines().filter(|line| !line.trim().is_empty()).map(indent).min().unwrap_or(0);
    text.lines().map(|line| format!("{}\n", line.get(common..).unwrap_or_default().trim_end())).collect()
}

#[track_caller]
fn refused(text: &str, expected: Expect) {
    expected.assert_eq(&rendered(&parse_at("/projects/app/pixi.toml", text).unwrap_err()));
}

#[track_caller]
fn refused_tables(tables: &str, expected: Expect) {
    refused(&small_text(tables), expected);
}

/// The error of describing an environment of a manifest that can be read.
#[track_caller]
fn refused_environment(tables: &str, environment: &str, expected: Expect) {
    let workspace = small(tables);
    expected.assert_eq(&rendered(&workspace.describe(environment, "linux-64").unwrap_err()));
}

#[test]
fn broken_toml() {
    refused(
        "[workspace]\nchannels = [\"main\"\nplatforms = []\n",
        expect![[r#"
          × the manifest is not valid TOML: missing comma between array elements, expected `,`
           ╭─[pixi.toml:3:1]
         2 │ channels = ["main"
         3 │ platforms = []
           · ▲
           ╰────
    "#]],
    );
}

#[test]
fn the_same_table_twice() {
    refused_tables(
        "[dependencies]\na = \"1\"\na = \"2\"\n",
        expect![[r#"
          × the manifest is not valid TOML: duplicate key
           ╭─[pixi.toml:6:1]
         5 │ a = "1"
         6 │ a = "2"
           · ─
           ╰────
    "#]],
    );
}

#[test]
fn no_workspace() {
    refused(
        "[dependencies]\na = \"1\"\n",
        expect![[r#"
          × the `[workspace]` table is missing
          help: a workspace needs at least `[workspace]` with `channels` and `platforms`
    "#]],
    );
}

#[test]
fn no_channels() {
    refused(
        "[workspace]\nplatforms = [\"linux-64\"]\n",
        expect![[r#"
          × `workspace.channels` is missing
           ╭─[pixi.toml:1:2]
         1 │ [workspace]
           ·  ─────────
         2 │ platforms = ["linux-64"]
           ╰────
          help: list where packages come from, as in `channels = ["conda-forge"]`
    "#]],
    );
}

#[test]
fn no_platforms() {
    refused(
        "[workspace]\nchannels = []\n",
        expect![[r#"
          × `workspace.platforms` is missing
           ╭─[pixi.toml:1:2]
         1 │ [workspace]
           ·  ─────────
         2 │ channels = []
           ╰────
          help: list what to solve for, as in `platforms = ["linux-64"]`
    "#]],
    );
}

#[test]
fn no_platform_at_all() {
    refused(
        "[workspace]\nchannels = []\nplatforms = []\n",
        expect![[r#"
          × the features of environment `default` have no platform in common
           ╭─[pixi.toml:3:13]
         2 │ channels = []
         3 │ platforms = []
           ·             ──
           ╰────
          help: a feature without `platforms` has those of `[workspace]`
    "#]],
    );
}

#[test]
fn a_wrong_type() {
    refused_tables(
        "[dependencies]\nnumpy = 1.2\n",
        expect![[r#"
          × `dependencies.numpy` must be a version or a table, not a number
           ╭─[pixi.toml:5:9]
         4 │ [dependencies]
         5 │ numpy = 1.2
           ·         ───
           ╰────
    "#]],
    );
}

#[test]
fn a_wrong_type_in_a_list() {
    refused(
        "[workspace]\nchannels = [\"main\", 3]\nplatforms = [\"linux-64\"]\n",
        expect![[r#"
          × `workspace.channels` must be a channel or a table with `channel` and `priority`, not an
          │ integer
           ╭─[pixi.toml:2:21]
         1 │ [workspace]
         2 │ channels = ["main", 3]
           ·                     ─
         3 │ platforms = ["linux-64"]
           ╰────
    "#]],
    );
}

#[test]
fn a_date_without_quotes() {
    refused_tables(
        "exclude-newer = 2026-01-01\n",
        expect![[r#"
          × `workspace.exclude-newer` must be a string, not a date
           ╭─[pixi.toml:4:17]
         3 │ platforms = ["linux-64"]
         4 │ exclude-newer = 2026-01-01
           ·                 ──────────
           ╰────
    "#]],
    );
}

#[test]
fn a_bad_version() {
    refused_tables(
        "[dependencies]\nnumpy = \">=1.2,,<2\"\n",
        expect![[r#"
          × the requirement of `numpy` cannot be read: there is something where a version or an operator
          │ should be
           ╭─[pixi.toml:5:9]
         4 │ [dependencies]
         5 │ numpy = ">=1.2,,<2"
           ·         ───────────
           ╰────
    "#]],
    );
}

#[test]
fn a_version_with_a_build() {
    refused_tables(
        "[dependencies]\npytorch = \"2.1.* *cuda*\"\n",
        expect![[r#"
          × the requirement of `pytorch` cannot be read: there is something where a version or an operator
          │ should be
           ╭─[pixi.toml:5:11]
         4 │ [dependencies]
         5 │ pytorch = "2.1.* *cuda*"
           ·           ──────────────
           ╰────
          help: to ask for a build as well, write { version = "2.1.*", build = "*cuda*" }
    "#]],
    );
}

#[test]
fn a_bad_digest() {
    refused_tables(
        "[dependencies]\na = { version = \"1\", sha256 = \"abc\" }\n",
        expect![[r#"
          × `abc` is not a sha256 digest: not 64 hex digits
           ╭─[pixi.toml:5:31]
         4 │ [dependencies]
         5 │ a = { version = "1", sha256 = "abc" }
           ·                               ─────
           ╰────
    "#]],
    );
}

#[test]
fn a_bad_package_name() {
    refused_tables(
        "[dependencies]\n\"conda-forge::numpy\" = \"1\"\n",
        expect![[r#"
          × `conda-forge::numpy` cannot be the name of a package: only letters, digits, `-`, `_` and `.`
          │ are allowed
           ╭─[pixi.toml:5:1]
         4 │ [dependencies]
         5 │ "conda-forge::numpy" = "1"
           · ────────────────────
           ╰────
    "#]],
    );
}

#[test]
fn two_places_for_one_package() {
    refused_tables(
        "[dependencies]\na = { path = \"a-1.0-0.conda\", git = \"https://git.example/a\" }\n",
        expect![[r#"
          × the requirement of `a` cannot be read: `git` and `path` exclude each other
           ╭─[pixi.toml:5:7]
         4 │ [dependencies]
         5 │ a = { path = "a-1.0-0.conda", git = "https://git.example/a" }
           ·       ────                    ───
           ╰────
    "#]],
    );
}

#[test]
fn a_branch_of_nothing() {
    refused_tables(
        "[dependencies]\na = { version = \"1\", branch = \"main\" }\n",
        expect![[r#"
          × the requirement of `a` cannot be read: `branch` needs `git`, or a `url` or `path` of sources
           ╭─[pixi.toml:5:22]
         4 │ [dependencies]
         5 │ a = { version = "1", branch = "main" }
           ·                      ──────
           ╰────
    "#]],
    );
}

#[test]
fn one_package_under_two_spellings() {
    refused_tables(
        "[dependencies]\nPyYAML = \">=5\"\npyyaml = \">=6\"\n",
        expect![[r#"
          × the dependency `pyyaml` is there twice
           ╭─[pixi.toml:5:1]
         4 │ [dependencies]
         5 │ PyYAML = ">=5"
           · ───┬──
           ·    ╰── first here
         6 │ pyyaml = ">=6"
           · ───┬──
           ·    ╰── then here
           ╰────
          help: names differ only in case, which makes no difference; keep one of them
    "#]],
    );
}

#[test]
fn an_unknown_platform() {
    refused(
        "[workspace]\nchannels = []\nplatforms = [\"linux-64\", \"linux64\"]\n",
        expect![[r#"
          × `linux64` is not a platform
           ╭─[pixi.toml:3:26]
         2 │ channels = []
         3 │ platforms = ["linux-64", "linux64"]
           ·                          ─────────
           ╰────
          help: did you mean `linux-64`?
    "#]],
    );
}

#[test]
fn noarch_is_no_platform() {
    refused(
        "[workspace]\nchannels = []\nplatforms = [\"noarch\"]\n",
        expect![[r#"
          × `noarch` is not a platform
           ╭─[pixi.toml:3:14]
         2 │ channels = []
         3 │ platforms = ["noarch"]
           ·              ────────
           ╰────
          help: platforms are named like `linux-64`, `osx-arm64` or `win-64`
    "#]],
    );
}

#[test]
fn a_platform_twice() {
    refused(
        "[workspace]\nchannels = []\nplatforms = [\"linux-64\", \"linux-64\"]\n",
        expect![[r#"
          × the platform `linux-64` is there twice
           ╭─[pixi.toml:3:14]
         2 │ channels = []
         3 │ platforms = ["linux-64", "linux-64"]
           ·              ─────┬────  ──────────
           ·                   ╰── first here
           ╰────
    "#]],
    );
}

#[test]
fn a_platform_with_the_name_of_another() {
    refused(
        "[workspace]\nchannels = []\nplatforms = [{ name = \"osx-64\", platform = \"linux-64\", cuda = \"12\" }]\n",
        expect![[r#"
              × `osx-64` cannot be the name of a platform: it is the name of another platform
               ╭─[pixi.toml:3:23]
             2 │ channels = []
             3 │ platforms = [{ name = "osx-64", platform = "linux-64", cuda = "12" }]
               ·                       ────────
               ╰────
        "#]],
    );
}

#[test]
fn a_platform_under_its_own_subdir() {
    refused(
        "[workspace]\nchannels = []\nplatforms = [{ name = \"linux-64\", cuda = \"12\" }]\n",
        expect![[r#"
              × `linux-64` cannot be the name of a platform with virtual packages of its own: it means the
              │ platform with the default ones
               ╭─[pixi.toml:3:14]
             2 │ channels = []
             3 │ platforms = [{ name = "linux-64", cuda = "12" }]
               ·              ──────────────────────────────────
               ╰────
        "#]],
    );
}

#[test]
fn a_feature_on_an_undeclared_platform() {
    refused_tables(
        "[feature.x]\nplatforms = [\"lunix-64\"]\n",
        expect![[r#"
          × feature `x` names the platform `lunix-64`, which the workspace does not declare
           ╭─[pixi.toml:5:14]
         4 │ [feature.x]
         5 │ platforms = ["lunix-64"]
           ·              ──────────
           ╰────
          help: did you mean `linux-64`?
    "#]],
    );
}

#[test]
fn a_target_nobody_supports() {
    refused_tables(
        "[target.osx-arm64.dependencies]\na = \"*\"\n",
        expect![[r#"
          × no platform matches the target `osx-arm64`
           ╭─[pixi.toml:4:9]
         3 │ platforms = ["linux-64"]
         4 │ [target.osx-arm64.dependencies]
           ·         ─────────
         5 │ a = "*"
           ╰────
          help: the platforms here are linux-64
    "#]],
    );
}

#[test]
fn a_misspelt_target() {
    refused_tables(
        "[target.linx.dependencies]\na = \"*\"\n",
        expect![[r#"
          × no platform matches the target `linx`
           ╭─[pixi.toml:4:9]
         3 │ platforms = ["linux-64"]
         4 │ [target.linx.dependencies]
           ·         ────
         5 │ a = "*"
           ╰────
          help: did you mean `linux`?
    "#]],
    );
}

#[test]
fn a_bad_channel() {
    refused(
        "[workspace]\nchannels = [\"~/channel\"]\nplatforms = [\"linux-64\"]\n",
        expect![[r#"
          × `~/channel` is not a channel: a path that starts with `~` means something else for every user
           ╭─[pixi.toml:2:13]
         1 │ [workspace]
         2 │ channels = ["~/channel"]
           ·             ───────────
         3 │ platforms = ["linux-64"]
           ╰────
          help: a channel is a name, a URL, or a path that starts with `./`, `../` or `/`
    "#]],
    );
}

#[test]
fn a_word_that_is_none_of_the_few() {
    refused_tables(
        "channel-priority = \"flexible\"\n",
        expect![[r#"
          × `flexible` is not a value of `workspace.channel-priority`
           ╭─[pixi.toml:4:20]
         3 │ platforms = ["linux-64"]
         4 │ channel-priority = "flexible"
           ·                    ──────────
           ╰────
          help: the values are `strict`, `disabled`
    "#]],
    );
}

#[test]
fn a_bad_cutoff() {
    refused_tables(
        "exclude-newer = \"last week\"\n",
        expect![[r#"
          × `last week` is not a cutoff: neither a date like `2026-03-30`, nor a timestamp like `2026-03-
          │ 30T12:00:00Z`, nor a duration like `7d`
           ╭─[pixi.toml:4:17]
         3 │ platforms = ["linux-64"]
         4 │ exclude-newer = "last week"
           ·                 ───────────
           ╰────
    "#]],
    );
}

#[test]
fn an_undefined_feature() {
    refused_tables(
        "[feature.testing.dependencies]\n[environments]\nci = [\"tesing\"]\n",
        expect![[r#"
          × environment `ci` names the feature `tesing`, which is not defined
           ╭─[pixi.toml:6:7]
         5 │ [environments]
         6 │ ci = ["tesing"]
           ·       ────────
           ╰────
          help: did you mean `testing`?
    "#]],
    );
}

#[test]
fn a_feature_twice() {
    refused_tables(
        "[feature.a.dependencies]\n[environments]\nci = [\"a\", \"a\"]\n",
        expect![[r#"
          × the feature `a` is there twice
           ╭─[pixi.toml:6:7]
         5 │ [environments]
         6 │ ci = ["a", "a"]
           ·       ─┬─  ───
           ·        ╰── first here
           ╰────
    "#]],
    );
}

#[test]
fn the_name_of_the_default_feature() {
    refused_tables(
        "[feature.default.dependencies]\na = \"*\"\n",
        expect![[r#"
          × `default` cannot be the name of a feature: it stands for the tables at the top of the manifest
           ╭─[pixi.toml:4:10]
         3 │ platforms = ["linux-64"]
         4 │ [feature.default.dependencies]
           ·          ───────
         5 │ a = "*"
           ╰────
    "#]],
    );
}

#[test]
fn a_bad_environment_name() {
    refused_tables(
        "[environments]\n\"My Env\" = []\n",
        expect![[r#"
          × `My Env` cannot be the name of an environment: only lower-case letters, digits, `-` and `_`
          │ are allowed
           ╭─[pixi.toml:5:1]
         4 │ [environments]
         5 │ "My Env" = []
           · ────────
           ╰────
    "#]],
    );
}

#[test]
fn no_common_platform() {
    refused_tables(
        "[feature.a]\nplatforms = [\"linux-64\"]\n[feature.b]\nplatforms = [\"osx-64\"]\n[environments]\nboth = [\"a\", \"b\"]\n",
        expect![[r#"
              × the features of environment `both` have no platform in common
               ╭─[pixi.toml:9:1]
             8 │ [environments]
             9 │ both = ["a", "b"]
               · ────
               ╰────
              help: a feature without `platforms` has those of `[workspace]`
        "#]],
    );
}

#[test]
fn two_c_libraries() {
    refused_tables(
        "[system-requirements]\nlibc = \"2.31\"\n[feature.m.system-requirements]\nlibc = { family = \"musl\", version = \"1.2\" }\n\
         [environments]\nm = [\"m\"]\n",
        expect![[r#"
              × environment `m` is given two values for `system-requirements.libc.family`: `musl` and `glibc`
               ╭─[pixi.toml:4:2]
             3 │ platforms = ["linux-64"]
             4 │ [system-requirements]
               ·  ───────────────────
             5 │ libc = "2.31"
               ╰────
        "#]],
    );
}

#[test]
fn both_ways_to_declare_virtual_packages() {
    refused(
        "[workspace]\nchannels = []\nplatforms = [{ platform = \"linux-64\", cuda = \"12\" }]\n[system-requirements]\nlinux = \"5.10\"\n",
        expect![[r#"
              × `system-requirements` cannot be used where a platform declares its own virtual packages
               ╭─[pixi.toml:4:2]
             3 │ platforms = [{ platform = "linux-64", cuda = "12" }]
             4 │ [system-requirements]
               ·  ───────────────────
             5 │ linux = "5.10"
               ╰────
              help: declare these on the platforms, as in { platform = "linux-64", cuda = "12" }
        "#]],
    );
}

#[test]
fn a_condition_nobody_evaluates() {
    refused_environment(
        "[dependencies]\nodd = { version = \"*\", when = \"python <3\" }\n",
        "default",
        expect![[r#"
          × environment `default` needs `odd` with `when`, which is not handled
           ╭─[pixi.toml:5:7]
         4 │ [dependencies]
         5 │ odd = { version = "*", when = "python <3" }
           ·       ─────────────────────────────────────
           ╰────
    "#]],
    );
}

#[test]
fn a_channel_that_is_not_listed() {
    refused_environment(
        "[dependencies]\ntorch = { version = \"*\", channel = \"pytorch\" }\n",
        "default",
        expect![[r#"
          × `torch` is wanted from `https://conda.example/pytorch/`, which is no channel of environment
          │ `default`
           ╭─[pixi.toml:5:9]
         4 │ [dependencies]
         5 │ torch = { version = "*", channel = "pytorch" }
           ·         ──────────────────────────────────────
           ╰────
          help: add it to `channels` of the workspace or of a feature
    "#]],
    );
}

#[test]
fn two_channel_priorities() {
    refused_environment(
        "channel-priority = \"strict\"\n[feature.a]\nchannel-priority = \"disabled\"\n[environments]\na = [\"a\"]\n",
        "a",
        expect![[r#"
              × environment `a` is given two values for `channel-priority`: `disabled` and `strict`
               ╭─[pixi.toml:8:1]
             7 │ [environments]
             8 │ a = ["a"]
               · ─
               ╰────
        "#]],
    );
}

#[test]
fn an_unknown_environment() {
    refused_environment(
        "[environments]\nci = []\n",
        "cd",
        expect![[r#"
          × there is no environment `cd`
          help: the environments are default, ci
    "#]],
    );
}

#[test]
fn an_unsupported_platform() {
    let workspace = small("[environments]\nci = []\n");
    expect![[r#"
          × environment `ci` does not support the platform `win-64`
           ╭─[pixi.toml:5:1]
         4 │ [environments]
         5 │ ci = []
           · ──
           ╰────
          help: its platforms are linux-64
    "#]]
    .assert_eq(&rendered(&workspace.describe("ci", "win-64").unwrap_err()));
}

#[test]
fn a_python_that_cannot_be_read() {
    let error = parse_at(
        "/projects/app/pyproject.toml",
        "[project]\nname = \"x\"\nrequires-python = \"three\"\n[tool.pixi.workspace]\nchannels = []\nplatforms = [\"linux-64\"]\n",
    )
    .unwrap_err();
    expect![[r#"
          × the requirement of `python` cannot be read: `three` has no operator
           ╭─[pyproject.toml:3:19]
         2 │ name = "x"
         3 │ requires-python = "three"
           ·                   ───────
         4 │ [tool.pixi.workspace]
           ╰────
          help: `requires-python` is a list like ">=3.9,<3.14"
    "#]]
    .assert_eq(&rendered(&error));
}

#[test]
fn no_manifest() {
    let error = super::super::discovery::LoadError::NotFound { start: "/projects/app".into() };
    expect![[r#"
          × there is no workspace in `/projects/app` or in a directory above it
          help: a workspace is a directory with a `pixi.toml`, or with a `pyproject.toml` that has
                `[tool.pixi]`
    "#]]
    .assert_eq(&rendered(&error));
}
