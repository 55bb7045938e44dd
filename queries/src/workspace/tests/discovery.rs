//! Where manifests are found.

use std::fs;

use super::super::discovery::{LoadError, find_manifest, load, manifest_at};
use super::*;

const PIXI: &str = "[workspace]\nchannels = []\nplatforms = [\"linux-64\"]\n";
const PYPROJECT: &str = "[tool.pixi.workspace]\nchannels = []\nplatforms = [\"linux-64\"]\n";

#[test]
fn the_nearest_manifest_is_found_and_pixi_toml_goes_first() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    let deep = root.join("a/b/c");
    fs::create_dir_all(&deep).unwrap();
    fs::write(root.join("pixi.toml"), PIXI).unwrap();
    assert_eq!(find_manifest(&deep).unwrap(), root.join("pixi.toml"));

    fs::write(root.join("a/pyproject.toml"), "[project]\nname = \"not-pixi\"\n").unwrap();
    assert_eq!(find_manifest(&deep).unwrap(), root.join("pixi.toml"), "not every pyproject.toml is a manifest");
    fs::write(root.join("a/pyproject.toml"), PYPROJECT).unwrap();
    assert_eq!(find_manifest(&deep).unwrap(), root.join("a/pyproject.toml"));
    fs::write(root.join("a/pixi.toml"), PIXI).unwrap();
    assert_eq!(find_manifest(&deep).unwrap(), root.join("a/pixi.toml"));
    assert_eq!(manifest_at(&root.join("a")).unwrap(), root.join("a/pixi.toml"));
    assert_eq!(manifest_at(&root.join("a/pyproject.toml")).unwrap(), root.join("a/pyproject.toml"));

    let workspace = load(&root.join("a/pyproject.toml"), &options()).unwrap();
    assert_eq!(workspace.root().path(), root.join("a"));
    assert_eq!(workspace.lock_file_path(), root.join("a/pixi.lock"));
}

#[test]
fn what_is_not_there_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    assert!(matches!(find_manifest(&root), Err(LoadError::NotFound { .. })));
    assert!(matches!(manifest_at(&root), Err(LoadError::NoManifestIn { .. })));
    assert!(matches!(load(&root.join("pixi.toml"), &options()), Err(LoadError::Read { .. })));
    assert!(matches!(find_manifest("relative".as_ref()), Err(LoadError::NotAbsolute { .. })));
    fs::write(root.join("pixi.toml"), b"\xff\xfe").unwrap();
    assert!(matches!(load(&root.join("pixi.toml"), &options()), Err(LoadError::NotText { .. })));
}
