//! What a `pyproject.toml` says outside of `[tool.pixi]` that matters to a workspace.
//!
//! The project's name stands in for that of the workspace, `requires-python` becomes a requirement on `python`, and
//! dependencies, extras and dependency groups declare packages of the Python index. Every extra and every group is
//! also a feature of that name.

use std::ops::Range;

use indexmap::IndexMap;
use rattler_conda_types::{MatchSpec, PackageName, PackageNameMatcher, ParseStrictness, VersionSpec};

use super::{
    dependency::{Dependency, DependencyKind},
    error::{ManifestError, ManifestErrorKind},
    feature::{DEFAULT_FEATURE, Feature},
    requirement::Requirement,
    table::Table,
    warning::WarningKind,
};

/// The parts of a `pyproject.toml` outside of `[tool.pixi]`.
pub(crate) struct PyProject {
    pub(crate) name: Option<String>,
    python: Option<(Requirement, Range<usize>)>,
    has_dependencies: bool,
    /// The names of extras and groups.
    groups: Vec<String>,
}

impl PyProject {
    pub(crate) fn read(top: &Table<'_, '_>) -> Result<Self, ManifestError> {
        let mut read = Self { name: None, python: None, has_dependencies: false, groups: Vec::new() };
        if let Some(project) = top.table("project")? {
            read.name = project.string("name")?.map(|(name, _)| name.to_owned());
            if let Some(entry) = project.get("requires-python") {
                read.python = Some((python(&entry)?, entry.value_span()));
            }
            if let Some(entry) = project.get("dependencies") {
                let packages: Vec<String> = entry.strings()?.iter().map(|(text, _)| distribution(text)).collect();
                if !packages.is_empty() {
                    read.has_dependencies = true;
                    entry.warn(WarningKind::PypiNotInstalled { packages });
                }
            }
            if let Some(extras) = project.table("optional-dependencies")? {
                for entry in extras.entries() {
                    entry.strings()?;
                    read.groups.push(entry.key.to_owned());
                }
            }
        }
        if let Some(groups) = top.table("dependency-groups")? {
            for entry in groups.entries() {
                entry.array()?;
                if !read.groups.iter().any(|name| name == entry.key) {
                    read.groups.push(entry.key.to_owned());
                }
            }
        }
        Ok(read)
    }

    /// Adds what the project says to the features of the workspace.
    pub(crate) fn add_to(&self, features: &mut IndexMap<String, Feature>) {
        if let Some(default) = features.get_mut(DEFAULT_FEATURE) {
            if let Some((requirement, span)) = &self.python {
                let dependency = Dependency {
                    kind: DependencyKind::Package(requirement.clone()),
                    span: span.clone(),
                    value_span: span.clone(),
                };
                default.add_default_dependency("python", dependency);
            }
            if self.has_dependencies {
                default.add_pypi();
            }
        }
        for group in self.groups.iter().filter(|name| *name != DEFAULT_FEATURE) {
            features.entry(group.clone()).or_default().add_pypi();
        }
    }
}

/// The name of a distribution in a requirement like `requests[security]>=2`.
fn distribution(requirement: &str) -> String {
    let name = requirement.trim().split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')));
    name.into_iter().next().unwrap_or_default().to_owned()
}

/// `requires-python` as a requirement on the package `python`.
fn python(entry: &super::table::Entry<'_, '_>) -> Result<Requirement, ManifestError> {
    let (text, span) = entry.string()?;
    let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let bad = |message: String| {
        let kind = ManifestErrorKind::BadRequirement { dependency: "python".to_owned(), message };
        entry.source().error(kind).at(&span).done()
    };
    let version = match compact.trim_end_matches(',') {
        "" => None,
        compact => {
            let spec = VersionSpec::from_str(compact, ParseStrictness::Lenient).map_err(|error| bad(error.to_string()))?;
            Some(spec).filter(|spec| *spec != VersionSpec::Any)
        }
    };
    let name = PackageNameMatcher::Exact(PackageName::new_unchecked("python"));
    let spec = MatchSpec { name, version, ..MatchSpec::default() };
    let spec = spec.to_canonical_string().map_err(|error| bad(error.to_string()))?;
    Ok(Requirement { name: "python".to_owned(), spec, channel: None, archive: None })
}
