//! The project model: all that a backend is told of a package, in the form of the build protocol.
//!
//! What is not said is left out, as are tables that say nothing, so that a newer protocol with more fields leaves the
//! models of old manifests as they are. Dependencies come in the order of the text.

use std::ops::Range;

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::{
    build::{Build, selector},
    metadata::Metadata,
    spec::{Purpose, read_dependency},
};
use crate::workspace::{
    dependency::{Scope, read_name, twice},
    error::{ManifestError, ManifestErrorKind},
    table::{Entry, Table},
    warning::WarningKind,
};

/// The tables of dependencies, with what the protocol calls them.
const TABLES: [(&str, &str, Purpose); 4] = [
    ("host-dependencies", "hostDependencies", Purpose::Host),
    ("build-dependencies", "buildDependencies", Purpose::Build),
    ("run-dependencies", "runDependencies", Purpose::Run),
    ("run-constraints", "runConstraints", Purpose::RunConstraint),
];
/// The tables of `[package.run-exports]`, with what the protocol calls them.
const EXPORTS: [(&str, &str, Purpose); 5] = [
    ("noarch", "noarch", Purpose::RunExport),
    ("strong", "strong", Purpose::RunExport),
    ("weak", "weak", Purpose::RunExport),
    ("strong-constraints", "strongConstraints", Purpose::RunExportConstraint),
    ("weak-constraints", "weakConstraints", Purpose::RunExportConstraint),
];
const EXTRAS: &str = "extraDependencies";
const RUN_EXPORTS: &str = "runExports";

/// All dependencies of a package.
#[derive(Default)]
pub(super) struct Targets {
    always: Target,
    /// By the condition, in the order of the text.
    conditional: IndexMap<String, Target>,
}

/// The dependencies that hold under one condition. A table is known by its path in the protocol.
#[derive(Default)]
struct Target(IndexMap<Vec<String>, Vec<(String, Value)>>);

impl Targets {
    fn target(&mut self, condition: Option<&str>) -> &mut Target {
        match condition {
            Some(condition) => self.conditional.entry(condition.to_owned()).or_default(),
            None => &mut self.always,
        }
    }

    fn into_json(self) -> Option<Value> {
        let mut targets = Map::new();
        if let Some(always) = self.always.into_json() {
            targets.insert("defaultTarget".to_owned(), always);
        }
        let conditional: Map<String, Value> = self
            .conditional
            .into_iter()
            .filter_map(|(condition, target)| Some((condition, target.into_json()?)))
            .collect();
        if !conditional.is_empty() {
            targets.insert("conditional".to_owned(), conditional.into());
        }
        (!targets.is_empty()).then(|| targets.into())
    }
}

impl Target {
    fn into_json(self) -> Option<Value> {
        let known = |path: &[String]| {
            let place = |name: &str| TABLES.iter().position(|(_, table, _)| *table == name);
            let export = |name: &str| EXPORTS.iter().position(|(_, table, _)| *table == name);
            match path {
                [table] => (0, place(table)),
                [group, ..] if group == EXTRAS => (1, None),
                [_, table, ..] => (2, export(table)),
                [] => (3, None),
            }
        };
        // In the order of the protocol; groups of extras keep that of the text.
        let mut tables: Vec<_> = self.0.into_iter().filter(|(_, entries)| !entries.is_empty()).collect();
        tables.sort_by_key(|(path, _)| known(path));
        let mut target = Map::new();
        for (path, entries) in tables {
            let entries: Value = entries.into_iter().collect::<Map<_, _>>().into();
            match path.as_slice() {
                [outer, inner] => {
                    let group = target.entry(outer.clone()).or_insert_with(|| Map::new().into());
                    group.as_object_mut().map(|group| group.insert(inner.clone(), entries));
                }
                [table] => {
                    target.insert(table.clone(), entries);
                }
                _ => {}
            }
        }
        (!target.is_empty()).then(|| target.into())
    }
}

/// Reads all tables of dependencies of a package.
pub(super) fn read_targets<'a, 'i>(
    package: &Table<'a, 'i>,
    name: Option<&str>,
    scope: Scope<'_, 'a, 'i>,
) -> Result<Targets, ManifestError> {
    let mut reader = Reader { targets: Targets::default(), name, scope };
    reader.read_tables(package, None)?;
    for entry in package.table("target")?.iter().flat_map(Table::entries) {
        // The older way to write conditions. It is the same to a backend.
        entry.warn(WarningKind::Deprecated { instead: "`\"if(…)\"` tables in the tables of dependencies" });
        let selector = selector(&entry)?;
        let condition = match selector {
            "unix" | "linux" | "osx" | "win" => selector.to_owned(),
            platform => format!("host_platform == '{platform}'"),
        };
        if reader.targets.conditional.contains_key(&condition) {
            let kind = ManifestErrorKind::Duplicate { what: "the condition", name: condition };
            let help = "a target table and an `\"if(…)\"` table mean the same; keep one of them";
            return Err(entry.source().error(kind).at(&entry.key_span).help(help).done());
        }
        let target = entry.table()?;
        reader.targets.target(Some(&condition));
        reader.read_tables(&target, Some(&condition))?;
        target.finish();
    }
    Ok(reader.targets)
}

struct Reader<'s, 'a, 'i> {
    targets: Targets,
    name: Option<&'s str>,
    scope: Scope<'s, 'a, 'i>,
}

impl<'a, 'i> Reader<'_, 'a, 'i> {
    /// Reads the tables that `[package]` and its targets have in common.
    fn read_tables(&mut self, table: &Table<'a, 'i>, condition: Option<&str>) -> Result<(), ManifestError> {
        for (key, called, purpose) in TABLES {
            if let Some(entry) = table.get(key) {
                self.read_table(&entry, vec![called.to_owned()], purpose, condition)?;
            }
        }
        for entry in table.table("extra-dependencies")?.iter().flat_map(Table::entries) {
            check_extra(&entry)?;
            let path = vec![EXTRAS.to_owned(), entry.key.to_owned()];
            self.read_table(&entry, path, Purpose::Extra, condition)?;
        }
        if let Some(exports) = table.table("run-exports")? {
            for (key, called, purpose) in EXPORTS {
                if let Some(entry) = exports.get(key) {
                    let path = vec![RUN_EXPORTS.to_owned(), called.to_owned()];
                    self.read_table(&entry, path, purpose, condition)?;
                }
            }
            exports.finish();
        }
        Ok(())
    }

    /// Reads one table of dependencies, and the tables with conditions in it.
    fn read_table(
        &mut self,
        entry: &Entry<'a, 'i>,
        path: Vec<String>,
        purpose: Purpose,
        condition: Option<&str>,
    ) -> Result<(), ManifestError> {
        let mut seen: IndexMap<String, Range<usize>> = IndexMap::new();
        for entry in entry.table()?.entries() {
            if entry.key.contains('(') {
                let inner = read_if(&entry)?;
                if condition.is_some() {
                    let kind = ManifestErrorKind::BadName {
                        what: "a dependency",
                        name: entry.key.to_owned(),
                        why: "there is a condition already",
                    };
                    return Err(entry.source().error(kind).at(&entry.key_span).done());
                }
                self.read_table(&entry, path.clone(), purpose, Some(inner))?;
                continue;
            }
            let name = read_name(&entry)?;
            let value = read_dependency(&entry, &name, purpose, self.name, self.scope)?;
            let name_text = name.as_normalized().to_owned();
            if let Some(first) = seen.insert(name_text.clone(), entry.key_span.clone()) {
                return Err(twice(&entry, &name, &first));
            }
            let held = self.targets.target(condition).0.entry(path.clone()).or_default();
            // Only two ways to write one condition get here.
            if held.iter().any(|(other, _)| *other == name_text) {
                let kind = ManifestErrorKind::Duplicate { what: "the dependency", name: name_text };
                return Err(entry.source().error(kind).at(&entry.key_span).done());
            }
            held.push((name_text, value));
        }
        Ok(())
    }
}

/// The condition in a key like `if(win)`.
fn read_if<'a>(entry: &Entry<'a, '_>) -> Result<&'a str, ManifestError> {
    let condition = entry.key.strip_prefix("if(").and_then(|rest| rest.strip_suffix(')')).map(str::trim);
    match condition {
        Some(condition) if !condition.is_empty() => Ok(condition),
        _ => {
            let why = "a condition is written `if(…)`, as in `if(host_platform == 'linux-64')`";
            let kind = ManifestErrorKind::BadName { what: "a dependency", name: entry.key.to_owned(), why };
            Err(entry.source().error(kind).at(&entry.key_span).done())
        }
    }
}

fn check_extra(entry: &Entry<'_, '_>) -> Result<(), ManifestError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '+' | '-');
    if (1..=64).contains(&entry.key.len()) && entry.key.chars().all(allowed) {
        return Ok(());
    }
    let why = "up to 64 lower-case letters, digits, `.`, `_`, `+` and `-` are allowed";
    let kind = ManifestErrorKind::BadName { what: "an extra", name: entry.key.to_owned(), why };
    Err(entry.source().error(kind).at(&entry.key_span).done())
}

/// Everything a backend is told.
pub(super) fn project_model(metadata: &Metadata, build: &Build, targets: Targets) -> Value {
    let [name, version, description, authors, rest @ ..] = metadata.fields();
    let before = [
        name,
        ("buildStringPrefix", build.string_prefix.clone()),
        ("buildNumber", build.number.clone()),
        version,
        description,
        ("buildFlags", build.flags.clone()),
        authors,
    ];
    let after = [("targets", targets.into_json()), ("secrets", build.secrets.clone())];
    let fields = before.into_iter().chain(rest).chain(after);
    fields.filter_map(|(key, value)| Some((key.to_owned(), value?))).collect::<Map<_, _>>().into()
}
