//! Dependencies that are built, and what they are built for.

use expect_test::{Expect, expect};
use rattler_lock::VariantValue;

use super::{errors::rendered, *};
use crate::source::{GitReference, SourceLocation};

/// What is to be built for the environment `default`.
#[track_caller]
fn sources(tables: &str) -> Vec<SourceRequirement> {
    small(tables).describe("default", "linux-64").unwrap().needs.sources
}

#[track_caller]
fn refused(tables: &str, expected: Expect) {
    let error = parse_at("/projects/app/pixi.toml", &small_text(tables)).unwrap_err();
    expected.assert_eq(&rendered(&error));
}

#[test]
fn a_source_is_described_with_its_place_and_what_it_has_to_be() {
    let found = sources(
        r#"
[dependencies]
binary = "*"
local = { path = "./packages/../local", version = ">=1", extras = ["x"] }
outside = { path = "../outside" }
home = { path = "~/work/./home" }
absolute = { path = "/srv/absolute/" }
manifest = { path = "pkg/recipe.yaml" }
branched = { git = "https://git.example/b.git", branch = "main", subdirectory = "./a/b/", lfs = true }
tagged = { git = "ssh://git@git.example/t", tag = "v1", build = "h*" }
pinned = { git = "git+https://git.example/p", rev = "0123abc" }
archive = { url = "https://conda.example/a.tar.gz", md5 = "6f5902ac237024bdd0c176cb93063dc4", subdirectory = "x" }
"#,
    );
    let shown: String = found.iter().map(|source| format!("{source} ({})\n", source.spec)).collect();
    expect![[r#"
        absolute from /srv/absolute (absolute)
        archive from https://conda.example/a.tar.gz, in `x` (archive)
        branched from https://git.example/b.git at branch `main`, in `a/b` (branched)
        home from ~/work/home (home)
        local[version=">=1",extras=[x]] from local (local[version=">=1",extras=[x]])
        manifest from pkg/recipe.yaml (manifest)
        outside from ../outside (outside)
        pinned from https://git.example/p at revision `0123abc` (pinned)
        tagged[build="h*"] from ssh://git@git.example/t at tag `v1` (tagged[build="h*"])
    "#]]
    .assert_eq(&shown);
    let git = |name: &str| match &found.iter().find(|source| source.name == name).unwrap().location {
        SourceLocation::Git { url, reference, subdirectory, lfs } => {
            (url.clone(), reference.clone(), subdirectory.clone(), *lfs)
        }
        other => panic!("{other}"),
    };
    let branch = GitReference::Branch("main".to_owned());
    assert_eq!(git("branched"), ("https://git.example/b.git".into(), branch, "a/b".into(), Some(true)));
    assert_eq!(git("pinned").1, GitReference::Rev("0123abc".to_owned()));
    for source in &found {
        source.match_spec().unwrap();
    }
}

#[test]
fn credentials_of_sources_are_dropped_and_told() {
    let workspace = small(
        "[dependencies]\na = { git = \"https://me:secret@git.example/a\" }\nb = { git = \"ssh://git:secret@git.example/b\" }\n\
         c = { url = \"https://me:secret@conda.example/c.zip\" }\nd = { git = \"ssh://git@git.example/d\" }\n",
    );
    let found = workspace.describe("default", "linux-64").unwrap().needs.sources;
    let places: Vec<String> = found.iter().map(|source| source.location.to_string()).collect();
    assert_eq!(
        places,
        [
            "https://git.example/a at the default branch",
            "ssh://git@git.example/b at the default branch",
            "https://conda.example/c.zip",
            "ssh://git@git.example/d at the default branch",
        ]
    );
    let warnings: Vec<_> = workspace.warnings().iter().map(|warning| warning.kind.clone()).collect();
    // That of a repository on a server is used when the server wants one.
    assert_eq!(warnings, [WarningKind::LoginInUrl, WarningKind::CredentialsInUrl, WarningKind::CredentialsInUrl]);
}

#[test]
fn sources_of_a_target_replace_and_those_of_features_add_up() {
    let workspace = small(
        r#"
[dependencies]
a = { path = "a" }
b = { path = "b" }
[target.linux.dependencies]
a = "1"
[feature.f.dependencies]
c = { path = "c" }
[environments]
f = { features = ["f"], solve-group = "g" }
g = { solve-group = "g" }
"#,
    );
    let names = |needs: &SolveDescription| needs.sources.iter().map(ToString::to_string).collect::<Vec<_>>();
    let default = workspace.describe("default", "linux-64").unwrap().needs;
    assert_eq!(names(&default), ["b from b"]);
    assert_eq!(default.to_string(), "linux-64: a ==1, b from b");
    assert_eq!(names(&workspace.describe("f", "linux-64").unwrap().needs), ["b from b", "c from c"]);
    assert_eq!(names(&workspace.solve_unit("g", "linux-64").unwrap().needs), ["b from b", "c from c"]);
}

#[test]
fn features_that_name_two_places_for_one_package_do_so_for_their_environments_only() {
    let workspace = small(
        r#"
[dependencies]
b = { path = "b" }
[feature.f.dependencies]
b = { path = "other/b" }
[feature.same.dependencies]
b = { path = "./b", version = "1.*" }
[environments]
f = ["f"]
same = ["same"]
"#,
    );
    assert!(workspace.describe("default", "linux-64").is_ok());
    assert!(workspace.describe("same", "linux-64").is_ok());
    let error = workspace.describe("f", "linux-64").unwrap_err();
    assert_eq!(error.to_string(), "environment `f` would have `b` from two places: other/b and b");
    assert_eq!(error.spans().count(), 2);
}

#[test]
fn packages_that_are_worked_on_are_sources_of_their_own() {
    let workspace = small("[dev]\nMine = { path = \"packages/mine\" }\nyours = { git = \"https://git.example/y\" }\n");
    let needs = workspace.describe("default", "linux-64").unwrap().needs;
    assert!(needs.sources.is_empty());
    let shown: Vec<String> = needs.dev.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["mine from packages/mine", "yours from https://git.example/y at the default branch"]);
    assert_eq!(needs.to_string(), "linux-64: nothing, with what it takes to work on mine, yours");
}

#[test]
fn a_description_without_sources_is_written_as_before() {
    let needs = small("").describe("default", "linux-64").unwrap().needs;
    let json = serde_json::to_value(&needs).unwrap();
    assert!(json.get("sources").is_none() && json.get("dev").is_none());
    assert_eq!(serde_json::from_value::<SolveDescription>(json).unwrap(), needs);
}

#[test]
fn the_place_of_sources_is_in_what_is_solved() {
    let solved = |path: &str| {
        small(&format!("[dependencies]\na = {{ path = \"{path}\" }}\n")).describe("default", "linux-64").unwrap().needs
    };
    assert_eq!(solved("a"), solved("./x/../a"));
    assert_ne!(solved("a"), solved("b"));
}

#[test]
fn environments_take_over_what_the_workspace_shares() {
    let workspace = small(
        r#"
[workspace.dependencies]
NumPy = "1.*"
mine = { path = "packages/mine", typo = 1 }
[dependencies]
numpy = { workspace = true, build = "py*" }
mine.workspace = true
[constraints]
numpy.workspace = true
"#,
    );
    assert_eq!(requirements(&workspace, "default", "linux-64"), ["numpy[version=\"1.*\",build=\"py*\"]"]);
    let needs = workspace.describe("default", "linux-64").unwrap().needs;
    assert_eq!(needs.sources[0].to_string(), "mine from packages/mine");
    assert_eq!(needs.constraints[0].to_string(), "numpy 1.*");
    assert_eq!(
        warnings(&workspace),
        "line 7: `workspace.dependencies.mine.typo` is not a known key and has no effect\n"
    );
    refused(
        "[dependencies]\na = { workspace = true }\n",
        expect![[r#"
         × the workspace does not define `workspace.dependencies.a`
          ╭─[pixi.toml:5:7]
        4 │ [dependencies]
        5 │ a = { workspace = true }
          ·       ─────────
          ╰────
         help: define it in the manifest of the workspace
    "#]],
    );
}

#[test]
fn sources_that_cannot_be_meant() {
    refused(
        "[dependencies]\na = { git = \"https://git.example/a\", branch = \"x\", rev = \"y\" }\n",
        expect![[r#"
         × the requirement of `a` cannot be read: `branch` and `rev` exclude each other
          ╭─[pixi.toml:5:38]
        4 │ [dependencies]
        5 │ a = { git = "https://git.example/a", branch = "x", rev = "y" }
          ·                                      ──────        ───
          ╰────
    "#]],
    );
    refused(
        "[dependencies]\na = { path = \"a\", branch = \"x\" }\n",
        expect![[r#"
         × the requirement of `a` cannot be read: `branch` needs `git`
          ╭─[pixi.toml:5:19]
        4 │ [dependencies]
        5 │ a = { path = "a", branch = "x" }
          ·                   ──────
          ╰────
    "#]],
    );
    refused(
        "[dependencies]\na = { path = \"a\", subdirectory = \"x\" }\n",
        expect![[r#"
         × the requirement of `a` cannot be read: `subdirectory` needs `git`, or a `url` of sources
          ╭─[pixi.toml:5:19]
        4 │ [dependencies]
        5 │ a = { path = "a", subdirectory = "x" }
          ·                   ────────────
          ╰────
    "#]],
    );
    refused(
        "[dependencies]\na = { git = \"https://git.example/a\", subdirectory = \"../x\" }\n",
        expect![[r#"
         × `../x` is not a directory in the sources: it leads out of them
          ╭─[pixi.toml:5:53]
        4 │ [dependencies]
        5 │ a = { git = "https://git.example/a", subdirectory = "../x" }
          ·                                                     ──────
          ╰────
    "#]],
    );
    refused(
        "[dependencies]\na = { git = \"git@git.example:a/b\" }\n",
        expect![[r#"
         × `git@git.example:a/b` is not the URL of a repository: write it as `ssh://user@host/path` or
         │ `https://…`
          ╭─[pixi.toml:5:13]
        4 │ [dependencies]
        5 │ a = { git = "git@git.example:a/b" }
          ·             ─────────────────────
          ╰────
    "#]],
    );
    refused(
        "[dependencies]\na = { path = \"~somebody/a\" }\n",
        expect![[r#"
         × `~somebody/a` is not a path: only one's own home directory can be written with `~`
          ╭─[pixi.toml:5:14]
        4 │ [dependencies]
        5 │ a = { path = "~somebody/a" }
          ·              ─────────────
          ╰────
    "#]],
    );
    refused(
        "[dependencies]\na = { path = \"a\", channel = \"main\" }\n",
        expect![[r#"
         × the requirement of `a` cannot be read: `channel` is of packages in channels, and this one is
         │ built
          ╭─[pixi.toml:5:19]
        4 │ [dependencies]
        5 │ a = { path = "a", channel = "main" }
          ·                   ───────
          ╰────
    "#]],
    );
    refused(
        "[dependencies]\na = { path = \"a\", md5 = \"6f5902ac237024bdd0c176cb93063dc4\" }\n",
        expect![[r#"
         × the requirement of `a` cannot be read: `md5` needs `url`
          ╭─[pixi.toml:5:19]
        4 │ [dependencies]
        5 │ a = { path = "a", md5 = "6f5902ac237024bdd0c176cb93063dc4" }
          ·                   ───
          ╰────
    "#]],
    );
    refused(
        "[constraints]\na = { path = \"a\" }\n",
        expect![[r#"
         × the requirement of `a` cannot be read: a constraint only limits what is there, and builds
         │ nothing
          ╭─[pixi.toml:5:5]
        4 │ [constraints]
        5 │ a = { path = "a" }
          ·     ──────────────
          ╰────
    "#]],
    );
}

#[test]
fn what_is_worked_on_is_a_place_and_nothing_else() {
    refused(
        "[dev]\na = \"1\"\n",
        expect![[r#"
         × the requirement of `a` cannot be read: a package in `dev` needs the `path`, `git` or `url` of
         │ its sources
          ╭─[pixi.toml:5:5]
        4 │ [dev]
        5 │ a = "1"
          ·     ───
          ╰────
    "#]],
    );
    refused(
        "[dev]\na = { path = \"a\", version = \"1\" }\n",
        expect![[r#"
         × the requirement of `a` cannot be read: a package in `dev` says where its sources are, and
         │ nothing else
          ╭─[pixi.toml:5:5]
        4 │ [dev]
        5 │ a = { path = "a", version = "1" }
          ·     ─────────────────────────────
          ╰────
    "#]],
    );
}

#[test]
fn a_package_described_in_a_dependency_is_not_taken_for_another() {
    let workspace = small("[dependencies]\na = { path = \"a\", package.build.backend.name = \"pixi-build-rust\" }\n");
    let error = workspace.describe("default", "linux-64").unwrap_err();
    assert!(matches!(error.kind(), ManifestErrorKind::UnhandledField { field, .. } if field == "package"));
}

#[test]
fn variants_of_a_target_replace_those_for_all_platforms() {
    let workspace = parse(
        r#"
[workspace]
channels = []
platforms = ["linux-64", "win-64"]
build-variants-files = ["./pinning/conda_build_config.yaml", "variants\\own.yaml"]
[workspace.build-variants]
python = ["3.11.*", "3.12.*"]
level = [1, -2]
fast = [true, "maybe"]
[workspace.target.win.build-variants]
c_compiler = ["vs2019"]
python = ["3.10.*"]
[workspace.target.win-64.build-variants]
python = ["3.9.*"]
"#,
    );
    assert_eq!(warnings(&workspace), "");
    let on = |index: usize| workspace.variants(workspace.platforms().nth(index).unwrap());
    let text = |text: &str| VariantValue::String(text.to_owned());
    let linux = on(0);
    assert_eq!(linux["python"], [text("3.11.*"), text("3.12.*")]);
    assert_eq!(linux["level"], [VariantValue::Int(1), VariantValue::Int(-2)]);
    assert_eq!(linux["fast"], [VariantValue::Bool(true), text("maybe")]);
    assert!(!linux.contains_key("c_compiler"));
    let windows = on(1);
    assert_eq!(windows["python"], [text("3.9.*")]);
    assert_eq!(windows["c_compiler"], [text("vs2019")]);
    assert_eq!(windows["level"], linux["level"]);
    assert_eq!(workspace.variant_files(), ["pinning/conda_build_config.yaml", "variants/own.yaml"]);
}

#[test]
fn variants_that_cannot_be_read() {
    refused(
        "build-variants = { python = \"3.11\" }\n",
        expect![[r#"
         × `workspace.build-variants.python` must be an array, not a string
          ╭─[pixi.toml:4:29]
        3 │ platforms = ["linux-64"]
        4 │ build-variants = { python = "3.11" }
          ·                             ──────
          ╰────
    "#]],
    );
    refused(
        "build-variants = { python = [3.11] }\n",
        expect![[r#"
         × `workspace.build-variants.python` must be a string, an integer or a boolean, not a number
          ╭─[pixi.toml:4:30]
        3 │ platforms = ["linux-64"]
        4 │ build-variants = { python = [3.11] }
          ·                              ────
          ╰────
    "#]],
    );
    refused(
        "[workspace.target.win-64.build-variants]\npython = [\"3\"]\n",
        expect![[r#"
         × no platform matches the target `win-64`
          ╭─[pixi.toml:4:19]
        3 │ platforms = ["linux-64"]
        4 │ [workspace.target.win-64.build-variants]
          ·                   ──────
        5 │ python = ["3"]
          ╰────
         help: the platforms here are linux-64
    "#]],
    );
}

#[test]
fn variants_are_no_part_of_what_is_solved() {
    let with = |values: &str| small(&format!("build-variants = {{ python = {values} }}\n"));
    let needs = |workspace: &Workspace| workspace.describe("default", "linux-64").unwrap();
    assert_eq!(needs(&with("[\"1\"]")), needs(&with("[\"2\"]")));
}
