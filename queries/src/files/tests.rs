//! Each rule about globs once, on a real tree; and walks of any tree compared with walks that leave nothing out.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ignore::WalkBuilder;
use ignore::overrides::OverrideBuilder;
use proptest::prelude::*;
use tempfile::TempDir;

use super::patterns::{Matcher, Verdict};
use super::walk::Walked;
use super::*;

/// A folder with empty files.
fn tree(files: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary directory");
    for file in files {
        write(folder.path(), file, "");
    }
    folder
}

#[track_caller]
fn write(folder: &Path, file: &str, content: &str) {
    let path = folder.join(file);
    fs::create_dir_all(path.parent().expect("it is in a folder")).expect("it can be made");
    fs::write(path, content).expect("it can be written");
}

fn set(patterns: &[&str]) -> GlobSet {
    let patterns = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
    GlobSet { patterns, markers: Vec::new(), exclude_hidden: true, root: None }
}

fn marked(patterns: &[&str], markers: &[&str]) -> GlobSet {
    GlobSet { markers: markers.iter().map(|marker| (*marker).to_owned()).collect(), ..set(patterns) }
}

#[track_caller]
fn walked(set: &GlobSet, base: &Path) -> Walked {
    walk(std::slice::from_ref(set), base).expect("the globs are sound")
}

fn relative(paths: &[PathBuf], folder: &Path) -> Vec<String> {
    let shown = |path: &PathBuf| path.strip_prefix(folder).map(|path| path.to_string_lossy().replace('\\', "/"));
    paths.iter().map(|path| shown(path).unwrap_or_else(|_| path.to_string_lossy().into_owned())).collect()
}

#[track_caller]
fn assert_found(folder: &TempDir, patterns: &[&str], expected: &[&str]) {
    let found = walked(&set(patterns), folder.path()).files;
    assert_eq!(relative(&found, folder.path()), expected, "{patterns:?}");
}

/// As [`assert_found`], from a folder in there.
#[track_caller]
fn assert_found_from(folder: &TempDir, base: &str, patterns: &[&str], expected: &[&str]) {
    let found = walked(&set(patterns), &folder.path().join(base)).files;
    assert_eq!(relative(&found, folder.path()), expected, "{patterns:?}");
}

#[track_caller]
fn assert_refused(base: &str, pattern: &str, expected: &str) {
    let error = Matcher::new(&set(&["**", pattern]), Path::new(base)).expect_err("it makes no sense");
    assert_eq!(error.to_string(), expected);
    assert!(miette::Diagnostic::help(&error).is_some(), "it says what to do");
}

#[test]
fn the_last_glob_that_matches_decides() {
    let folder = tree(&["a.txt", "b.txt"]);
    assert_found(&folder, &["*.txt", "!b.txt"], &["a.txt"]);
    assert_found(&folder, &["!b.txt", "*.txt"], &["a.txt", "b.txt"]);
}

#[test]
fn a_name_without_wildcards_means_the_root_only() {
    let folder = tree(&["pixi.toml", "sub/pixi.toml"]);
    assert_found(&folder, &["pixi.toml"], &["pixi.toml"]);
    assert_found(&folder, &["./pixi.toml"], &["pixi.toml"]);
    assert_found(&folder, &["sub/pixi.toml"], &["sub/pixi.toml"]);
}

#[test]
fn a_name_without_wildcards_leaves_out_the_root_only() {
    let folder = tree(&["pixi.toml", "sub/pixi.toml"]);
    assert_found(&folder, &["**/pixi.toml", "!pixi.toml"], &["sub/pixi.toml"]);
}

#[test]
fn a_name_with_wildcards_means_any_depth() {
    let folder = tree(&["a.c", "one/b.c", "one/two/c.c", "one/d.h"]);
    assert_found(&folder, &["*.c"], &["a.c", "one/b.c", "one/two/c.c"]);
    assert_found(&folder, &["?.{c,h}", "![ac].c"], &["one/b.c", "one/d.h"]);
}

#[test]
fn a_star_does_not_cross_folders() {
    let folder = tree(&["src/a.c", "src/in/b.c", "src/in/deep/c.c"]);
    assert_found(&folder, &["src/*.c"], &["src/a.c"]);
    assert_found(&folder, &["src/*/*.c"], &["src/in/b.c"]);
    assert_found(&folder, &["src/**/*.c"], &["src/a.c", "src/in/b.c", "src/in/deep/c.c"]);
}

#[test]
fn braces_may_hold_paths() {
    let folder = tree(&["src/a.c", "lib/b.c", "lib/in/c.c"]);
    assert_found(&folder, &["{src,lib/in}/*.c"], &["lib/in/c.c", "src/a.c"]);
    assert_found(&folder, &["{src,lib/in}/[ac].c"], &["lib/in/c.c", "src/a.c"]);
}

#[test]
fn a_folder_is_not_a_glob_for_its_files() {
    let folder = tree(&["src/a.c", "b.c"]);
    assert_found(&folder, &["src"], &[]);
    assert_found(&folder, &["src/"], &[]);
}

#[test]
fn a_folder_that_is_left_out_is_with_all_files() {
    let folder = tree(&["src/a.c", "sub/target/b.c", "target/c.c", "other/target"]);
    assert_found(&folder, &["**/*", "!target/"], &["other/target", "src/a.c"]);
    // Nothing in it can come back, for it is not entered.
    assert_found(&folder, &["*.c", "!sub/", "sub/target/b.c"], &["src/a.c", "target/c.c"]);
}

#[test]
fn globs_that_only_leave_out_take_the_rest() {
    let folder = tree(&["a.c", "src/b.c", "src/c.h", ".hidden"]);
    assert_found(&folder, &["!*.h"], &["a.c", "src/b.c"]);
}

#[test]
fn parents_move_the_root_up() {
    let folder = tree(&["a.c", "other/b.c", "ws/c.c", "ws/d.txt", "other/d.txt"]);
    assert_found_from(&folder, "ws", &["../**/*.c", "d.txt"], &["a.c", "other/b.c", "ws/c.c", "ws/d.txt"]);
    assert_found_from(&folder, "ws/deep/er", &["../../../other/*.c"], &["other/b.c"]);
    assert_found_from(&folder, "ws", &["../a.c"], &["a.c"]);
}

#[test]
fn other_globs_keep_their_meaning_when_the_root_moves_up() {
    let folder = tree(&["a.c", "d.txt", "other/d.txt", "ws/d.txt", "ws/in/d.txt", "ws/in/e.c"]);
    assert_found_from(&folder, "ws", &["../a.c", "*.txt"], &["a.c", "ws/d.txt", "ws/in/d.txt"]);
    assert_found_from(&folder, "ws", &["../a.c", "**"], &["a.c", "ws/d.txt", "ws/in/d.txt", "ws/in/e.c"]);
    assert_found_from(&folder, "ws", &["../a.c", "in/**", "!in/*.c"], &["a.c", "ws/in/d.txt"]);
    assert_found_from(&folder, "ws", &["../**/*.txt", "!d.txt"], &["d.txt", "other/d.txt", "ws/in/d.txt"]);
    assert_found_from(&folder, "ws", &["../**/*.txt", "!*.txt"], &["d.txt", "other/d.txt"]);
    assert_found_from(&folder, "ws/in", &["../../d.txt", "../d.txt", "*.c"], &["d.txt", "ws/d.txt", "ws/in/e.c"]);
}

#[test]
fn what_leaves_out_at_any_depth_does_so_wherever_the_root_is() {
    let folder = tree(&["d.txt", "other/d.txt", "ws/d.txt", "ws/e.txt"]);
    assert_found_from(&folder, "ws", &["../**/*.txt", "!**/d.txt"], &["ws/e.txt"]);
    assert_found_from(&folder, "ws", &["../**/*.txt", "!./**/d.txt"], &["ws/e.txt"]);
}

#[test]
fn the_names_of_the_folders_above_are_no_wildcards() {
    let folder = tree(&["a.c", "[ws]/b.txt", "w/b.txt", "{x}*/b.txt", "xy/b.txt", "w s/b.txt"]);
    assert_found_from(&folder, "[ws]", &["../a.c", "*.txt"], &["[ws]/b.txt", "a.c"]);
    assert_found_from(&folder, "{x}*", &["../a.c", "b.txt"], &["a.c", "{x}*/b.txt"]);
    assert_found_from(&folder, "w s", &["../a.c", "b.txt"], &["a.c", "w s/b.txt"]);
}

#[test]
fn parents_within_a_glob_are_worked_out() {
    let folder = tree(&["a.c", "recipe/b.c"]);
    assert_found(&folder, &["recipe/../**"], &["a.c", "recipe/b.c"]);
    assert_found(&folder, &["recipe/../a.c"], &["a.c"]);
    assert_found_from(&folder, "recipe", &["../recipe/./../a.c"], &["a.c"]);
}

#[test]
fn a_glob_cannot_lead_above_the_file_system() {
    assert_refused("/one", "../../a.c", "the glob `../../a.c` leads 2 folders up, which `/one` is not deep enough for");
    assert!(Matcher::new(&set(&["../../a.c"]), Path::new("/one/two")).is_ok());
}

#[test]
fn an_absolute_glob_is_refused() {
    assert_refused("/one", "/src/**", "the glob `/src/**` is absolute");
    assert_refused("/one", "!/a.c", "the glob `!/a.c` is absolute");
}

#[test]
fn an_empty_glob_is_refused() {
    for glob in ["", "!", " ", "./", "../", "..", "a/.."] {
        assert_refused("/one", glob, &format!("the glob `{glob}` is empty"));
    }
}

#[test]
fn a_malformed_glob_is_refused_by_its_name() {
    for glob in ["[a", "src/{a,b", "a}", "!*.[", "x\\"] {
        assert_refused("/one", glob, &format!("the glob `{glob}` cannot be understood"));
    }
}

#[test]
fn a_glob_is_no_comment_and_no_negation_by_accident() {
    let folder = tree(&["#a.c", "!b.c", "c.c"]);
    assert_found(&folder, &["#*.c"], &["#a.c"]);
    assert_found(&folder, &["#a.c", "\\!b.c"], &["!b.c", "#a.c"]);
    assert_found(&folder, &["c.c  "], &["c.c"]);
}

#[test]
fn hidden_folders_are_passed_over() {
    let folder = tree(&["a.txt", ".pixi/b.txt", "src/.cache/c.txt"]);
    assert_found(&folder, &["*.txt"], &["a.txt"]);
    assert_found(&folder, &["**/*.txt"], &["a.txt"]);
    assert_found(&folder, &["!*.c"], &["a.txt"]);
}

#[test]
fn a_glob_for_everything_does_not_mean_what_is_hidden() {
    let folder = tree(&["a.txt", ".env", ".pixi/b.txt", "src/.cache/c.txt", "src/.d"]);
    for everything in ["**", "**/*", "./**", "./**/*"] {
        assert_found(&folder, &[everything], &["a.txt"]);
    }
    assert_found_from(&folder, "src", &["../a.txt", "**"], &["a.txt"]);
}

#[test]
fn hidden_entries_are_found_if_they_are_not_excluded() {
    let folder = tree(&["a.txt", ".env", ".pixi/b.txt", ".pixi/.c"]);
    let shown = GlobSet { exclude_hidden: false, ..set(&["**"]) };
    let found = walked(&shown, folder.path()).files;
    assert_eq!(relative(&found, folder.path()), [".env", ".pixi/.c", ".pixi/b.txt", "a.txt"]);
}

#[test]
fn a_hidden_folder_that_is_named_is_entered() {
    let folder = tree(&[".foo/a.c", ".foo/in/b.c", ".bar/c.c", "src/.foo/d.c", "src/.x/e.c"]);
    assert_found(&folder, &[".foo/**"], &[".foo/a.c", ".foo/in/b.c"]);
    assert_found(&folder, &[".foo/in/*.c"], &[".foo/in/b.c"]);
    assert_found(&folder, &[".foo/a.c"], &[".foo/a.c"]);
    assert_found(&folder, &["**/.x/**"], &["src/.x/e.c"]);
    assert_found(&folder, &["{.foo,.bar}/*"], &[".bar/c.c", ".foo/a.c"]);
}

#[test]
fn hidden_folders_that_are_named_come_back_after_a_glob_for_everything() {
    let folder = tree(&["a.c", ".foo/b.c", ".foo/.in/c.c", "src/.x/d.c", ".bar/e.c", "src/.foo/f.c", ".env"]);
    assert_found(&folder, &["**", ".foo/**"], &[".foo/.in/c.c", ".foo/b.c", "a.c"]);
    assert_found(&folder, &[".foo/**", "**"], &[".foo/.in/c.c", ".foo/b.c", "a.c"]);
    assert_found(&folder, &["**", "**/.x/**"], &["a.c", "src/.x/d.c"]);
    assert_found(&folder, &["**", ".foo/*"], &[".foo/b.c", "a.c"]);
    assert_found(&folder, &["**", ".foo/.in/*.c"], &[".foo/.in/c.c", ".foo/b.c", "a.c"]);
    assert_found(&folder, &["**", ".env"], &[".env", "a.c"]);
    assert_found(&folder, &["**", ".b*"], &[".bar/e.c", "a.c"]);
    assert_found(&folder, &["**", ".bar"], &[".bar/e.c", "a.c"]);
}

#[test]
fn a_hidden_file_that_is_named_comes_back_without_its_neighbours() {
    let folder = tree(&["a.c", ".foo/b.c", ".foo/c.c", ".foo/in/d.c", ".foo/in/e.c"]);
    assert_found(&folder, &["**", ".foo/b.c"], &[".foo/b.c", "a.c"]);
    assert_found(&folder, &["**", ".foo/b.c", ".foo/in/d.c"], &[".foo/b.c", ".foo/in/d.c", "a.c"]);
    // Unless it turns out to be a folder.
    assert_found(&folder, &["**", ".foo/in"], &[".foo/in/d.c", ".foo/in/e.c", "a.c"]);
    assert_found(&folder, &["*.c", ".foo/b.c"], &[".foo/b.c", "a.c"]);
    assert_found(
        &folder,
        &["**", ".foo/b.c", ".foo/in/*.c"],
        &[".foo/b.c", ".foo/c.c", ".foo/in/d.c", ".foo/in/e.c", "a.c"],
    );
}

#[test]
fn what_is_hidden_and_named_can_be_left_out_again() {
    let folder = tree(&[".foo/a.c", ".foo/b.c", ".env", ".env.local"]);
    assert_found(&folder, &["**", ".foo/**", "!.foo/b.c"], &[".foo/a.c"]);
    assert_found(&folder, &["**", ".env*", "!.env.local"], &[".env"]);
    assert_found(&folder, &["**", "!.env.local", ".env*"], &[".env", ".env.local"]);
    assert_found(&folder, &["**", ".foo/*", "!.foo"], &[]);
}

#[test]
fn a_file_is_found_by_its_name_whatever_that_is_and_nothing_else_is_looked_at() {
    for name in ["a[1].c", "{b,c}.c", "d*?.c", "!e.c", "#f.c", " g.c ", "h\\.c", ".i.c", "in[1]/.j/k.c"] {
        let folder = tree(&[name, "a1.c", "b.c", "d_.c", "e.c", "g.c", "other/a[1].c", "other/l.c"]);
        let walked = walk(&[set(&[&super::naming(name)])], folder.path()).expect("it is a glob");
        assert_eq!(walked.files, [folder.path().join(name)], "{name}");
        assert_eq!(walked.folders.len(), name.split('/').count(), "{name}: {:?}", walked.folders);
    }
}

#[test]
fn globs_for_everything_hidden_show_it() {
    let folder = tree(&["a.c", ".env", ".foo/b.c", "src/.x/.y"]);
    for hidden in [".*", ".**", "**/.*", "./.*", ".**/*", "**/.*/**"] {
        assert_found(&folder, &["**", hidden], &[".env", ".foo/b.c", "a.c", "src/.x/.y"]);
    }
    assert_found(&folder, &[".*"], &[".env", "src/.x/.y"]);
    assert_found(&folder, &["*.c", "!.*/*.h"], &["a.c"]);
}

#[test]
fn globs_that_leave_out_what_is_hidden_are_left_alone() {
    let folder = tree(&["a.c", ".env", ".foo/b.c"]);
    assert_found(&folder, &["**", "!**/.*"], &["a.c"]);
    assert_found(&folder, &["!**/.*", "**"], &[".env", ".foo/b.c", "a.c"]);
    assert_found(&folder, &["**", "!**/.*/**"], &[".env", "a.c"]);
    assert_found(&folder, &["**", "!**/.*", ".env"], &[".env", "a.c"]);
}

#[test]
fn a_hidden_folder_above_is_not_passed_over() {
    let folder = tree(&["a.c", ".ws/b.c", ".ws/c.txt", ".ws/.d/e.c"]);
    assert_found_from(&folder, ".ws", &["**"], &[".ws/b.c", ".ws/c.txt"]);
    assert_found_from(&folder, ".ws", &["../a.c", "*.c"], &[".ws/b.c", "a.c"]);
    assert_found_from(&folder, ".ws", &["../a.c", "**"], &[".ws/b.c", ".ws/c.txt", "a.c"]);
    assert_found_from(&folder, ".ws", &["../a.c", "b.c"], &[".ws/b.c", "a.c"]);
}

#[test]
fn ignore_files_are_not_honoured() {
    let folder = tree(&["a.c", "sub/b.c"]);
    for name in [".gitignore", ".ignore", ".git/config"] {
        write(folder.path(), name, "a.c\nsub/\n");
    }
    assert_found(&folder, &["*.c"], &["a.c", "sub/b.c"]);
}

#[test]
fn folders_that_the_repository_excludes_are_passed_over() {
    let folder = tree(&["a.c", "sub/b.c", "out/c.c"]);
    write(folder.path(), ".git/info/exclude", "out/\n");
    assert_found(&folder, &["*.c"], &["a.c", "sub/b.c"]);
    assert_found(&folder, &["!*.h"], &["a.c", "sub/b.c"]);
    // A repository has a say below it, but none in another one.
    assert_found_from(&folder, "sub", &["*.c"], &["sub/b.c"]);
    write(folder.path(), ".git/info/exclude", "sub/in/\n");
    write(folder.path(), "sub/in/d.c", "");
    assert_found_from(&folder, "sub", &["*.c"], &["sub/b.c"]);
    write(folder.path(), "sub/.git/HEAD", "");
    assert_found_from(&folder, "sub", &["*.c"], &["sub/b.c", "sub/in/d.c"]);
    assert_found(&folder, &["*.c"], &["a.c", "out/c.c", "sub/b.c", "sub/in/d.c"]);
}

#[test]
fn what_a_glob_takes_is_found_although_the_repository_excludes_it() {
    let folder = tree(&["a.c", "out/b.c"]);
    write(folder.path(), ".git/info/exclude", "a.c\nout/\n");
    assert_found(&folder, &["**"], &["a.c", "out/b.c"]);
    assert_found(&folder, &["*.c"], &["a.c"]);
}

#[test]
fn a_work_tree_has_the_excludes_of_its_repository() {
    let folder = tree(&["tree/out/a.c", "tree/b.c"]);
    write(folder.path(), "repo/.git/info/exclude", "out/\n");
    write(folder.path(), "repo/.git/worktrees/tree/commondir", "../..\n");
    write(folder.path(), "tree/.git", "gitdir: ../repo/.git/worktrees/tree\n");
    assert_found_from(&folder, "tree", &["*.c"], &["tree/b.c"]);
    write(folder.path(), "repo/.git/modules/tree/info/exclude", "b.c\nout/\n");
    write(folder.path(), "tree/.git", "gitdir: ../repo/.git/modules/tree\n");
    assert_found_from(&folder, "tree", &["*.c"], &["tree/b.c"]);
}

#[test]
fn only_files_are_found() {
    let folder = tree(&["a.d/b.d", "c.d/e.txt"]);
    assert_found(&folder, &["*.d"], &["a.d/b.d"]);
}

#[test]
fn a_file_that_several_sets_name_is_found_once() {
    let folder = tree(&["a.c", "sub/b.c", "sub/c.h"]);
    let below = GlobSet { root: Some("sub".to_owned()), ..set(&["**"]) };
    let all = walk(&[set(&["*.c"]), below, set(&["../nothing", "**/b.c"])], folder.path()).expect("they are sound");
    assert_eq!(relative(&all.files, folder.path()), ["a.c", "sub/b.c", "sub/c.h"]);
    assert!(all.folders.is_sorted() && all.looked_for.is_sorted());
}

#[test]
fn a_set_has_a_root_of_its_own() {
    let folder = tree(&["one/a.c", "two/b.c"]);
    for root in ["../two", "./../one/../two/", &folder.path().join("two").to_string_lossy()] {
        let set = GlobSet { root: Some(root.to_owned()), ..set(&["*"]) };
        let found = walked(&set, &folder.path().join("one"));
        assert_eq!(relative(&found.files, folder.path()), ["two/b.c"], "{root}");
    }
}

#[test]
fn a_missing_root_has_no_files_and_is_looked_for() {
    let folder = tree(&["file"]);
    for root in ["missing", "file"] {
        let found = walked(&set(&["**"]), &folder.path().join(root));
        assert_eq!((found.files.len(), found.folders.len()), (0, 0));
        assert_eq!(relative(&found.looked_for, folder.path()), [root]);
    }
}

#[test]
fn no_globs_and_no_markers_are_no_files() {
    let folder = tree(&["a.c"]);
    assert_eq!(walked(&set(&[]), folder.path()), Walked::default());
}

#[test]
fn markers_without_globs_are_no_files() {
    let folder = tree(&["a.c", "sub/package.xml", "sub/b.c"]);
    assert_eq!(walked(&marked(&[], &["package.xml"]), folder.path()).files, [] as [PathBuf; 0]);
}

#[test]
fn a_marker_that_a_glob_takes_stands_for_its_folder() {
    let folder = tree(&["a.xml", "one/p.xml", "one/b.xml", "one/in/p.xml", "two/deep/p.xml", "two/c.xml"]);
    let found = walked(&marked(&["**/*.xml"], &["p.xml"]), folder.path());
    assert_eq!(relative(&found.files, folder.path()), ["a.xml", "one/p.xml", "two/c.xml", "two/deep/p.xml"]);
    assert_eq!(relative(&found.folders, folder.path()), ["", "one", "two", "two/deep"], "the marked ones were listed");
}

#[test]
fn a_marker_at_the_root_is_all_there_is() {
    let folder = tree(&["p.xml", "a.xml", "sub/p.xml"]);
    let found = walked(&marked(&["**/*.xml"], &["p.xml"]), folder.path());
    assert_eq!(relative(&found.files, folder.path()), ["p.xml"]);
}

#[test]
fn the_first_marker_that_a_glob_takes_is_found() {
    let folder = tree(&["one/a.xml", "one/b.xml"]);
    let found = |markers| relative(&walked(&marked(&["**"], markers), folder.path()).files, folder.path());
    assert_eq!(found(&["a.xml", "b.xml"]), ["one/a.xml"]);
    assert_eq!(found(&["b.xml", "a.xml"]), ["one/b.xml"]);
}

#[test]
fn a_marker_that_is_left_out_ends_its_folder_in_any_order() {
    let folder = tree(&["one/p.xml", "one/SKIP", "two/p.xml"]);
    for markers in [["p.xml", "SKIP"], ["SKIP", "p.xml"]] {
        let found = walked(&marked(&["**", "!SKIP", "!**/SKIP"], &markers), folder.path());
        assert_eq!(relative(&found.files, folder.path()), ["two/p.xml"]);
    }
}

#[test]
fn a_marker_that_no_glob_matches_ends_its_folder() {
    let folder = tree(&["one/p.xml", "one/SKIP", "one/in/p.xml", "two/p.xml"]);
    let found = walked(&marked(&["**/p.xml"], &["p.xml", "SKIP"]), folder.path());
    assert_eq!(relative(&found.files, folder.path()), ["two/p.xml"]);
}

#[test]
fn a_folder_is_not_a_marker() {
    let folder = tree(&["one/SKIP/a", "one/p.xml"]);
    let found = walked(&marked(&["**/p.xml"], &["SKIP"]), folder.path());
    assert_eq!(relative(&found.files, folder.path()), ["one/p.xml"]);
}

#[test]
fn a_marker_has_to_be_a_name() {
    for marker in ["", ".", "..", "a/b", "/a", "a/"] {
        let error = Matcher::new(&marked(&["**"], &[marker]), Path::new("/one")).expect_err("it is none");
        assert!(matches!(error, GlobError::Marker { .. }), "{marker}: {error}");
    }
}

#[test]
fn folders_in_which_nothing_can_match_are_not_entered() {
    let folder = tree(&["src/in/a.c", "target/b.c", "doc/x/c.c", "doc/x/y/d.c", "recipe/e/f.c"]);
    let entered = |patterns| relative(&walked(&set(patterns), folder.path()).folders, folder.path());
    assert_eq!(entered(&["src/**"]), ["", "src", "src/in"]);
    assert_eq!(entered(&["src/**/*.c", "!target/**", "pixi.toml"]), ["", "src", "src/in"]);
    assert_eq!(entered(&["doc/*/*.c", "recipe/f.c"]), ["", "doc", "doc/x", "recipe"]);
    assert_eq!(entered(&["**", "!target/"]), ["", "doc", "doc/x", "doc/x/y", "recipe", "recipe/e", "src", "src/in"]);
    let above = walked(&set(&["../target/*.c", "in/*.c"]), &folder.path().join("src"));
    assert_eq!(relative(&above.folders, folder.path()), ["", "src", "src/in", "target"]);
}

#[test]
fn the_excludes_of_repositories_are_looked_for() {
    let folder = tree(&["repo/ws/a.c"]);
    let looked_for = |base: &str| {
        let all = walked(&set(&["*.c"]), &folder.path().join(base)).looked_for;
        let mut within = relative(&all, folder.path());
        within.retain(|path| !path.starts_with('/'));
        within
    };
    assert_eq!(looked_for("repo/ws"), [".git", "repo/.git"]);
    write(folder.path(), "repo/.git/HEAD", "");
    assert_eq!(looked_for("repo/ws"), ["repo/.git/HEAD", "repo/.git/info/exclude"]);
    assert_eq!(looked_for("repo"), [".git", "repo/.git/info/exclude"]);
    write(folder.path(), "repo/ws/.git", "gitdir: ../.git/modules/ws");
    let module = ["repo/ws/../.git/modules/ws/commondir", "repo/ws/../.git/modules/ws/info/exclude"];
    assert_eq!(looked_for("repo/ws")[2..], [module[0], module[1], "repo/ws/.git"]);
}

#[cfg(unix)]
mod links {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn link(folder: &TempDir, to: &str, name: &str) {
        symlink(to, folder.path().join(name)).expect("it can be made");
    }

    #[test]
    fn links_are_followed() {
        let folder = tree(&["ws/a.c", "real/b.c"]);
        link(&folder, "../real", "ws/folder");
        link(&folder, "../real/b.c", "ws/file.c");
        assert_found_from(&folder, "ws", &["**"], &["ws/a.c", "ws/file.c", "ws/folder/b.c"]);
        assert_found_from(&folder, "ws", &["folder/*.c"], &["ws/folder/b.c"]);
    }

    #[test]
    fn a_folder_that_two_links_lead_to_is_entered_twice() {
        let folder = tree(&["real/b.c"]);
        link(&folder, "real", "one");
        link(&folder, "real", "two");
        assert_found(&folder, &["**"], &["one/b.c", "real/b.c", "two/b.c"]);
    }

    #[test]
    fn a_link_to_a_folder_that_it_is_in_is_not_followed() {
        let folder = tree(&["ws/a.c", "ws/in/b.c", "other/c.c"]);
        link(&folder, "..", "ws/in/parent");
        link(&folder, ".", "ws/in/same");
        link(&folder, "..", "ws/above");
        assert_found_from(&folder, "ws", &["**"], &["ws/a.c", "ws/in/b.c"]);
        // By way of each other.
        link(&folder, "../../other", "ws/in/there");
        link(&folder, "../ws/in", "other/back");
        assert_found_from(&folder, "ws", &["**"], &["ws/a.c", "ws/in/b.c", "ws/in/there/c.c"]);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_looked_for() {
        let folder = tree(&["a.c"]);
        link(&folder, "missing", "b.c");
        link(&folder, "loop.c", "loop.c");
        link(&folder, "missing", "passed.h");
        let found = walked(&set(&["*.c", "!*.h"]), folder.path());
        assert_eq!(relative(&found.files, folder.path()), ["a.c"]);
        let expected = ["b.c", "loop.c"].map(|name| folder.path().join(name));
        assert!(expected.iter().all(|path| found.looked_for.contains(path)), "{found:?}");
        assert!(!found.looked_for.contains(&folder.path().join("passed.h")), "{found:?}");
    }

    #[test]
    fn a_linked_marker_counts_if_it_leads_to_a_file() {
        let folder = tree(&["one/a.xml", "two/a.xml", "SKIPPED"]);
        link(&folder, "../SKIPPED", "one/SKIP");
        link(&folder, "../missing", "two/SKIP");
        let found = walked(&marked(&["**/*.xml"], &["SKIP"]), folder.path());
        assert_eq!(relative(&found.files, folder.path()), ["two/a.xml"]);
        let expected = ["one/SKIP", "two/SKIP"].map(|name| folder.path().join(name));
        assert!(expected.iter().all(|path| found.looked_for.contains(path)), "{found:?}");
    }

    #[test]
    fn what_must_not_be_read_is_not_there() {
        let folder = tree(&["a.c", "shut/b.c"]);
        let shut = folder.path().join("shut");
        let permit = |mode| fs::set_permissions(&shut, fs::Permissions::from_mode(mode)).expect("it is ours");
        permit(0o000);
        let is_root = fs::read_dir(&shut).is_ok();
        let found = walked(&set(&["*.c"]), folder.path());
        permit(0o755);
        let files: &[&str] = if is_root { &["a.c", "shut/b.c"] } else { &["a.c"] };
        assert_eq!(relative(&found.files, folder.path()), files);
        assert!(found.folders.contains(&shut), "that it can be read now is seen by its stamp");
    }

    #[test]
    fn names_that_are_not_text_are_found() {
        use std::os::unix::ffi::OsStrExt as _;
        let folder = tree(&["a.txt"]);
        let odd = folder.path().join(std::ffi::OsStr::from_bytes(b"w\xffs"));
        fs::create_dir(&odd).expect("it can be made");
        fs::write(odd.join("b.c"), "").expect("it can be written");
        assert_eq!(walked(&set(&["*.c"]), folder.path()).files, [odd.join("b.c")]);
        assert_eq!(walked(&set(&["../a.txt", "b.c"]), &odd).files, [folder.path().join("a.txt"), odd.join("b.c")]);
    }
}

/// The files below a folder that the globs take, after looking at each of them.
fn files_by_looking_at_all(set: &GlobSet, base: &Path) -> Vec<PathBuf> {
    fn visit(matcher: &Matcher, path: &Path, closed: bool, found: &mut BTreeSet<PathBuf>) {
        let listing = fs::read_dir(matcher.root().join(path)).expect("it can be read");
        for entry in listing.map(|entry| entry.expect("it can be read")) {
            let path = path.join(entry.file_name());
            let is_folder = entry.file_type().expect("it can be read").is_dir();
            let closed = match matcher.verdict(&path, is_folder, closed) {
                Verdict::Pass => continue,
                Verdict::Take { closed } => closed,
                Verdict::Silent => false,
            };
            if is_folder {
                visit(matcher, &path, closed, found);
            } else {
                found.insert(matcher.root().join(&path));
            }
        }
    }
    let matcher = Matcher::new(set, base).expect("the globs are sound");
    let mut found = BTreeSet::new();
    visit(&matcher, Path::new(""), false, &mut found);
    found.into_iter().collect()
}

/// What the `ignore` crate finds on its own; for globs that mean the same to it.
fn files_by_the_crate(patterns: &[String], folder: &Path) -> Vec<PathBuf> {
    let mut overrides = OverrideBuilder::new(folder);
    for pattern in patterns {
        overrides.add(pattern).expect("the globs are sound");
    }
    let mut walk = WalkBuilder::new(folder);
    walk.standard_filters(false).git_exclude(true).follow_links(true);
    walk.overrides(overrides.build().expect("the globs are sound"));
    let files = walk.build().map(|entry| entry.expect("it can be read")).filter(|entry| entry.path().is_file());
    files.map(ignore::DirEntry::into_path).collect::<BTreeSet<_>>().into_iter().collect()
}

fn path(parts: &'static [&'static str], length: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(parts), 1..=length).prop_map(|parts| parts.join("/"))
}

/// Names are few, so that globs match. Files get an ending, so that none is where a folder has to be.
fn files() -> impl Strategy<Value = Vec<String>> {
    let folder = path(&["a", "b", ".h", "ab"], 3);
    let file = prop::sample::select(&["a.c", "b.c", ".e.c", "a.h"][..]);
    prop::collection::vec((folder, file), 1..12)
        .prop_map(|files| files.into_iter().map(|(folder, file)| format!("{folder}/{file}")).collect())
}

fn glob(starts: &'static [&'static str]) -> impl Strategy<Value = String> {
    let parts = &[
        "a", "b", ".h", "*", "**", "?", "a*", ".*", "a**", "{a,b}", "[ab]", "{a/b,b}", "a.c", "*.c", "*.{c,h}", ".e.c",
    ];
    let end = prop::sample::select(&["", "", "", "/"][..]);
    (prop::sample::select(starts), path(parts, 4), end).prop_map(|(start, path, end)| format!("{start}{path}{end}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Passing over folders is a matter of speed.
    #[test]
    fn nothing_is_lost_by_not_entering_folders(
        files in files(),
        patterns in prop::collection::vec(glob(&["", "", "!", "!**/", "../", "!../", "./", "../a/", "../../"]), 1..5),
        exclude_hidden: bool,
        base in prop::sample::select(&["a", "b/a", ".h"][..]),
    ) {
        let folder = tree(&files.iter().map(String::as_str).collect::<Vec<_>>());
        let root = folder.path().join("r");
        fs::create_dir_all(root.join(base)).expect("it can be made");
        for file in &files {
            write(&root, file, "");
        }
        let set = GlobSet { patterns, markers: Vec::new(), exclude_hidden, root: Some(format!("r/{base}")) };
        let found = walk(std::slice::from_ref(&set), folder.path()).expect("the globs are sound");
        prop_assert_eq!(&found.files, &files_by_looking_at_all(&set, folder.path()));
        for file in &found.files {
            prop_assert!(found.folders.iter().any(|folder| Some(folder.as_path()) == file.parent()));
        }
    }

    /// Where our rules do not differ from those of gitignore files, nor do the files.
    #[test]
    fn globs_mean_what_they_mean_to_git(
        files in files(),
        patterns in prop::collection::vec(glob(&["**/", "!**/", "a/", "!a/", "b/"]), 1..5),
        excluded in prop::collection::vec(glob(&["", "!"]), 0..3),
    ) {
        let folder = tree(&files.iter().map(String::as_str).collect::<Vec<_>>());
        write(folder.path(), ".git/info/exclude", &excluded.join("\n"));
        let set = GlobSet { patterns, markers: Vec::new(), exclude_hidden: false, root: None };
        let found = walk(std::slice::from_ref(&set), folder.path()).expect("the globs are sound");
        prop_assert_eq!(&found.files, &files_by_the_crate(&set.patterns, folder.path()));
    }
}
