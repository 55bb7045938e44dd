//! `[package.build]`: which backend builds a package, and what it is configured with.

use std::{collections::BTreeSet, str::FromStr};

use rattler_conda_types::PackageName;
use serde_json::Value;

use super::{BackendRequirement, Json, ToolRequirement};
use crate::{
    source::SourceLocation,
    workspace::{
        dependency::{
            Dependencies, Dependency, DependencyKind, Scope, bad, bad_name, read_backend, read_dependencies,
            read_source,
        },
        error::{ManifestError, ManifestErrorKind},
        location::Location,
        table::{Entry, Table},
        warning::WarningKind,
    },
};

/// What `[package.build]` says.
pub(super) struct Build {
    pub(super) backend: BackendRequirement,
    pub(super) channels: Option<Vec<Location>>,
    pub(super) configuration: Option<Json>,
    pub(super) target_configuration: Vec<(String, Json)>,
    pub(super) source: Option<SourceLocation>,
    pub(super) string_prefix: Option<Value>,
    pub(super) number: Option<Value>,
    pub(super) flags: Option<Value>,
    pub(super) secrets: Option<Value>,
}

impl Build {
    pub(super) fn read<'a, 'i>(package: &Table<'a, 'i>, scope: Scope<'_, 'a, 'i>) -> Result<Self, ManifestError> {
        let Some(table) = package.table("build")? else {
            return Err(missing(package, "build.backend"));
        };
        let Some(backend) = table.get("backend") else {
            return Err(missing(&table, "backend"));
        };
        let backend = Backend::read(&backend, scope)?;
        let outer_channels = table.get("channels");
        let outer_additional = table.get("additional-dependencies");
        for (entry, instead) in [
            (&outer_channels, "`channels` in `[package.build.backend]`"),
            (&outer_additional, "`additional-dependencies` in `[package.build.backend]`"),
        ] {
            if let Some(entry) = entry {
                entry.warn(WarningKind::Deprecated { instead });
            }
        }
        let outer_channels = outer_channels.map(|entry| read_channels(&entry, scope)).transpose()?;
        let outer_additional = outer_additional.map(|entry| read_additional(&entry, scope)).transpose()?;
        let additional = match backend.additional {
            additional if !additional.is_empty() => additional,
            _ => outer_additional.unwrap_or_default(),
        };
        let number = table.get("build-number").map(|number| {
            u64::try_from(number.integer()?).map_err(|_| number.wrong_type("an integer that is not negative"))
        });
        let flags = table.get("flags").map(|flags| words(&flags)).transpose()?.unwrap_or_default();
        let secrets = table.get("secrets").map(|secrets| words(&secrets)).transpose()?.unwrap_or_default();
        let secrets: BTreeSet<String> = secrets.into_iter().collect();
        let build = Self {
            backend: BackendRequirement {
                name: backend.name,
                requirement: backend.requirement,
                additional: additional.into_iter().collect(),
            },
            channels: backend.channels.or(outer_channels),
            configuration: read_configuration(&table)?,
            target_configuration: read_target_configuration(&table)?,
            source: table.get("source").map(|source| read_source(&source, scope)).transpose()?,
            string_prefix: table.string("build-string-prefix")?.map(|(text, _)| text.into()),
            number: number.transpose()?.map(Value::from),
            flags: Some(flags).filter(|flags| !flags.is_empty()).map(Value::from),
            secrets: Some(secrets).filter(|secrets| !secrets.is_empty()).map(|names| names.into_iter().collect()),
        };
        table.finish();
        Ok(build)
    }
}

struct Backend {
    name: String,
    requirement: ToolRequirement,
    channels: Option<Vec<Location>>,
    additional: BTreeSet<ToolRequirement>,
}

impl Backend {
    fn read<'a, 'i>(entry: &Entry<'a, 'i>, scope: Scope<'_, 'a, 'i>) -> Result<Self, ManifestError> {
        let table = entry.table()?;
        let Some(name) = table.get("name") else {
            return Err(missing(&table, "name"));
        };
        let (text, span) = name.string()?;
        let name = PackageName::from_str(text).map_err(|_| bad_name(&name, text, &span))?;
        let kind = read_backend(entry, &name, scope)?;
        Ok(Self {
            name: name.as_normalized().to_owned(),
            requirement: tool(kind).ok_or_else(|| bad(entry, &name, "conditions have no meaning here"))?,
            channels: table.get("channels").map(|entry| read_channels(&entry, scope)).transpose()?,
            additional: match table.get("additional-dependencies") {
                Some(entry) => read_additional(&entry, scope)?,
                None => BTreeSet::new(),
            },
        })
    }
}

fn tool(kind: DependencyKind) -> Option<ToolRequirement> {
    match kind {
        DependencyKind::Package(requirement) => Some(ToolRequirement::Package(*requirement)),
        DependencyKind::Source(source) => Some(ToolRequirement::Source(*source)),
        DependencyKind::Unhandled { .. } => None,
    }
}

fn read_additional<'a, 'i>(
    entry: &Entry<'a, 'i>,
    scope: Scope<'_, 'a, 'i>,
) -> Result<BTreeSet<ToolRequirement>, ManifestError> {
    let dependencies: Dependencies = read_dependencies(&entry.table()?, scope)?;
    let read = |(name, dependency): (String, Dependency)| {
        tool(dependency.kind).ok_or_else(|| {
            let message = "neither conditions nor packages without a manifest of their own have a meaning here";
            let kind = ManifestErrorKind::BadRequirement { dependency: name, message: message.to_owned() };
            entry.source().error(kind).at(&dependency.value_span).done()
        })
    };
    dependencies.into_iter().map(read).collect()
}

fn read_channels(entry: &Entry<'_, '_>, scope: Scope<'_, '_, '_>) -> Result<Vec<Location>, ManifestError> {
    let mut channels: Vec<Location> = Vec::new();
    for item in entry.array()? {
        let channel = scope.channels.read(&item)?;
        if !channels.contains(&channel) {
            channels.push(channel);
        }
    }
    if channels.is_empty() {
        return Err(entry.wrong_type("a list of at least one channel"));
    }
    Ok(channels)
}

/// `config`, by its old name `configuration`.
fn read_configuration(table: &Table<'_, '_>) -> Result<Option<Json>, ManifestError> {
    let old = table.get("configuration");
    if let Some(old) = &old {
        old.warn(WarningKind::Deprecated { instead: "`config`" });
    }
    let Some(entry) = table.get("config").or(old) else { return Ok(None) };
    Ok(Some(Json::from(&entry.json()?)))
}

fn read_target_configuration(table: &Table<'_, '_>) -> Result<Vec<(String, Json)>, ManifestError> {
    let mut configurations: Vec<(String, Json)> = Vec::new();
    for entry in table.table("target")?.iter().flat_map(Table::entries) {
        let target = entry.table()?;
        let selector = selector(&entry)?;
        // That is how the protocol writes it.
        let selector = if selector == "osx" { "macos" } else { selector }.to_owned();
        if configurations.iter().any(|(other, _)| *other == selector) {
            let kind = ManifestErrorKind::Duplicate { what: "the target", name: entry.key.to_owned() };
            return Err(entry.source().error(kind).at(&entry.key_span).done());
        }
        configurations.extend(read_configuration(&target)?.map(|configuration| (selector, configuration)));
        target.finish();
    }
    Ok(configurations)
}

/// The selector of a target of a package: a family, a subdir, or the name of a platform.
pub(super) fn selector<'a>(entry: &Entry<'a, '_>) -> Result<&'a str, ManifestError> {
    let why = match entry.key {
        "macos" => return Ok("osx"),
        key if key.contains('*') => "a package does not know the names of platforms",
        key if key.contains('(') => "conditions are keys of dependency tables",
        "" => "it is empty",
        key => return Ok(key),
    };
    let kind = ManifestErrorKind::BadName { what: "a target of a package", name: entry.key.to_owned(), why };
    Err(entry.source().error(kind).at(&entry.key_span).done())
}

fn words(entry: &Entry<'_, '_>) -> Result<Vec<String>, ManifestError> {
    Ok(entry.strings()?.into_iter().map(|(text, _)| text.to_owned()).collect())
}

fn missing(table: &Table<'_, '_>, key: &str) -> ManifestError {
    let kind = ManifestErrorKind::MissingKey { key: format!("{}.{key}", table.path()) };
    let help = "a package is built by a backend, as in `backend = { name = \"pixi-build-cmake\", version = \"*\" }`";
    table.source().error(kind).at(table.span()).help(help).done()
}
