//! `pyproject.toml` as a manifest.

use expect_test::expect;

use super::*;

#[track_caller]
fn pyproject(text: &str) -> Workspace {
    parse_at("/projects/app/pyproject.toml", text).unwrap()
}

const PIXI: &str = "[tool.pixi.workspace]\nchannels = [\"main\"]\nplatforms = [\"linux-64\"]\n";

#[test]
fn name_and_python_come_from_the_project() {
    let workspace = pyproject(&format!(
        "[project]\nname = \"thing\"\nrequires-python = \">= 3.9, < 3.13\"\n{PIXI}[tool.pixi.dependencies]\nnumpy = \"*\"\n"
    ));
    assert_eq!(workspace.name(), "thing");
    assert_eq!(requirements(&workspace, "default", "linux-64"), ["numpy", "python >=3.9,<3.13"]);
    assert_eq!(warnings(&workspace), "");
}

#[test]
fn what_pixi_says_goes_before_the_project() {
    let workspace = pyproject(&format!(
        "[project]\nname = \"thing\"\nrequires-python = \">=3.9\"\n{PIXI}name = \"other\"\n\
         [tool.pixi.dependencies]\npython = \"3.12.*\"\n"
    ));
    assert_eq!(workspace.name(), "other");
    assert_eq!(requirements(&workspace, "default", "linux-64"), ["python 3.12.*"]);
}

#[test]
fn python_versions_are_read_as_python_writes_them() {
    for (written, wanted) in [
        (">=3.8", "python >=3.8"),
        ("==3.11.*", "python 3.11.*"),
        ("~=3.9", "python ~=3.9"),
        ("!=3.9.1,>=3.8", "python !=3.9.1,>=3.8"),
        ("", "python"),
    ] {
        let workspace = pyproject(&format!("[project]\nname = \"x\"\nrequires-python = \"{written}\"\n{PIXI}"));
        assert_eq!(requirements(&workspace, "default", "linux-64"), [wanted], "{written}");
    }
}

#[test]
fn extras_and_groups_are_features_and_index_packages_are_reported() {
    let workspace = pyproject(&format!(
        r#"
[project]
name = "thing"
dependencies = ["requests[security]>=2", "rich ; python_version < '3.9'"]
[project.optional-dependencies]
test = ["pytest"]
[dependency-groups]
docs = ["sphinx", {{ include-group = "test" }}]
{PIXI}
[tool.pixi.environments]
test = ["test"]
docs = ["docs"]
[tool.other]
whatever = 1
"#
    ));
    expect![[r#"
        line 4: `project.dependencies`: packages of the Python index are not installed (requests, rich)
        line 6: `project.optional-dependencies.test`: packages of the Python index are not installed (pytest)
        line 8: `dependency-groups.docs`: packages of the Python index are not installed (sphinx)
    "#]]
    .assert_eq(&warnings(&workspace));
    assert!(workspace.describe("default", "linux-64").unwrap().has_pypi);
    let names: Vec<_> = workspace.environments().map(|environment| environment.name.as_str()).collect();
    assert_eq!(names, ["default", "test", "docs"]);
}

#[test]
fn a_pyproject_without_pixi_is_no_manifest() {
    let error = parse_at("/projects/app/pyproject.toml", "[project]\nname = \"x\"\n").unwrap_err();
    assert_eq!(error.kind(), &ManifestErrorKind::NoPixiTable);
}
