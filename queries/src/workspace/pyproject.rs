//! What a `pyproject.toml` says outside of `[tool.pixi]` that matters to a workspace.
//!
//! The project's name stands in for that of the workspace, `requires-python` becomes a requirement on `python`, and
//! dependencies, extras and dependency groups declare packages of the Python index. Every extra and every group is
//! also a feature of that name.

use std::ops::Range;

use indexmap::IndexMap;
use rattler_conda_types::{MatchSpec, PackageName, PackageNameMatcher, ParseStrictness, VersionSpec};

use super::{
    dependency::{Dependency, DependencyKind, why_no_version},
    environment::Environment,
    error::{ManifestError, ManifestErrorKind},
    feature::{DEFAULT_FEATURE, Feature},
    requirement::Requirement,
    table::{Entry, Reading, Table},
    warning::WarningKind,
};

/// The parts of a `pyproject.toml` outside of `[tool.pixi]`.
pub(crate) struct PyProject {
    pub(crate) name: Option<String>,
    python: Option<(Requirement, Range<usize>)>,
    has_dependencies: bool,
    groups: Vec<Group>,
}

/// An extra or a dependency group. Both are features.
struct Group {
    name: String,
    key: String,
    span: Range<usize>,
    packages: Vec<String>,
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
                    read.groups.push(Group::read(&entry)?);
                }
            }
        }
        if let Some(groups) = top.table("dependency-groups")? {
            for entry in groups.entries() {
                read.groups.push(Group::read(&entry)?);
            }
        }
        Ok(read)
    }

    /// Adds what the project says to the features of the workspace.
    pub(crate) fn add_to(
        &self,
        features: &mut IndexMap<String, Feature>,
        environments: &IndexMap<String, Environment>,
        reading: &Reading,
    ) {
        if let Some(default) = features.get_mut(DEFAULT_FEATURE) {
            if let Some((requirement, span)) = &self.python {
                let dependency = Dependency {
                    kind: DependencyKind::Package(Box::new(requirement.clone())),
                    span: span.clone(),
                    value_span: span.clone(),
                };
                default.add_default_dependency("python", dependency);
            }
            if self.has_dependencies {
                default.add_pypi();
            }
        }
        for group in self.groups.iter().filter(|group| group.name != DEFAULT_FEATURE) {
            features.entry(group.name.clone()).or_default().add_pypi();
            // Groups nobody uses here are for other tools.
            if environments.values().any(|environment| environment.features.contains(&group.name)) {
                let kind = WarningKind::PypiNotInstalled { packages: group.packages.clone() };
                reading.warn(group.key.clone(), &group.span, kind);
            }
        }
    }
}

impl Group {
    fn read(entry: &Entry<'_, '_>) -> Result<Self, ManifestError> {
        // An element that is a table includes another group.
        let items = entry.array()?;
        Ok(Self {
            name: entry.key.to_owned(),
            key: entry.path(),
            span: entry.key_span.clone(),
            packages: items.iter().filter_map(Entry::as_string).map(distribution).collect(),
        })
    }
}

/// The name of a distribution in a requirement like `requests[security]>=2`.
fn distribution(requirement: &str) -> String {
    let is_name = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    requirement.trim().chars().take_while(is_name).collect()
}

/// `requires-python` as a requirement on the package `python`.
fn python(entry: &Entry<'_, '_>) -> Result<Requirement, ManifestError> {
    let (text, span) = entry.string()?;
    let bad = |message: String| {
        let kind = ManifestErrorKind::BadRequirement { dependency: "python".to_owned(), message };
        let help = "`requires-python` is a list like \">=3.9,<3.14\"";
        entry.source().error(kind).at(&span).help(help).done()
    };
    let clauses: Vec<String> = text
        .split(',')
        .map(|clause| clause.split_whitespace().collect::<String>())
        .filter(|clause| !clause.is_empty())
        .map(|clause| conda_clause(&clause).ok_or_else(|| bad(format!("`{clause}` has no operator"))))
        .collect::<Result<_, _>>()?;
    let version = match clauses.as_slice() {
        [] => None,
        clauses => {
            let clauses = clauses.join(",");
            Some(
                VersionSpec::from_str(&clauses, ParseStrictness::Lenient)
                    .map_err(|error| bad(why_no_version(&error)))?,
            )
        }
    };
    let name = PackageNameMatcher::Exact(PackageName::new_unchecked("python"));
    let spec = MatchSpec { name, version, ..MatchSpec::default() };
    let spec = spec.to_canonical_string().map_err(|error| bad(error.to_string()))?;
    Ok(Requirement { name: "python".to_owned(), spec, channel: None, archive: None })
}

/// A clause of Python's version language in conda's. They agree except where a version ends in `.*`, which for Python
/// is part of equality, and on `===`.
fn conda_clause(clause: &str) -> Option<String> {
    let at = clause.find(|c: char| !matches!(c, '=' | '!' | '<' | '>' | '~'))?;
    let (operator, version) = clause.split_at(at);
    match operator {
        "==" if version.ends_with(".*") => Some(version.to_owned()),
        "===" => Some(format!("=={version}")),
        "==" | "!=" | "<" | "<=" | ">" | ">=" | "~=" => Some(clause.to_owned()),
        _ => None,
    }
}
