//! Dependencies of a package in the form of the build protocol.

use std::str::FromStr;

use rattler_conda_types::{MatchSpec, MatchSpecCondition, PackageName, Version};
use serde_json::{Map, Value, json};

use crate::{
    source::{GitReference, SourceLocation},
    workspace::{
        dependency::{Place, Scope, Spec, bad, bad_name, read_spec},
        error::ManifestError,
        requirement::parse_canonical,
        table::{Entry, Table},
    },
};

/// What a table of dependencies is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Build,
    Host,
    Run,
    /// Limits on what the package runs with.
    RunConstraint,
    /// What the package runs with if it is asked for with an extra.
    Extra,
    /// What packages need that are built with this one.
    RunExport,
    /// Limits on packages that are built with this one.
    RunExportConstraint,
}

/// Reads a dependency as the protocol says it.
pub(super) fn read_dependency<'a, 'i>(
    entry: &Entry<'a, 'i>,
    name: &PackageName,
    purpose: Purpose,
    package: Option<&str>,
    scope: Scope<'_, 'a, 'i>,
) -> Result<Value, ManifestError> {
    if entry.is_table() {
        let table = entry.table()?;
        let (subpackage, compatible) = (table.get("pin-subpackage"), table.get("pin-compatible"));
        if let Some(pin) = subpackage.as_ref().or(compatible.as_ref()) {
            if let Some(other) = table.entries().iter().find(|other| other.key != pin.key) {
                return Err(bad(entry, name, format!("`{}` cannot be combined with `{}`", pin.key, other.key)));
            }
            check_pin(pin, name, purpose, package)?;
            let tag = if subpackage.is_some() { "pinSubpackage" } else { "pinCompatible" };
            return Ok(tagged(tag, read_pin(pin, name)?));
        }
    }
    let spec = read_spec(entry, name, scope)?;
    if let Some(inline) = &spec.package {
        return Err(bad(inline, name, "only workspaces can describe a package inside of a dependency"));
    }
    let exported = matches!(purpose, Purpose::RunExport | Purpose::RunExportConstraint);
    match &spec.place {
        Place::Archive(_) | Place::Source(SourceLocation::Url { .. }) if exported => {
            Err(bad(entry, name, "a URL or an archive means nothing to packages that are built with this one"))
        }
        Place::Source(_) if purpose == Purpose::RunExportConstraint => {
            Err(bad(entry, name, "a constraint only limits what is there, and builds nothing"))
        }
        Place::Source(location) => Ok(tagged("source", source(&spec, location, name, scope)?)),
        Place::Channel | Place::Archive(_) => Ok(tagged("binary", binary(&spec, name, scope)?)),
    }
}

fn tagged(tag: &str, fields: Map<String, Value>) -> Value {
    let mut tagged = Map::new();
    tagged.insert(tag.to_owned(), fields.into());
    tagged.into()
}

/// Whether a pin makes sense where it is: there has to be something it pins to.
fn check_pin(
    pin: &Entry<'_, '_>,
    name: &PackageName,
    purpose: Purpose,
    package: Option<&str>,
) -> Result<(), ManifestError> {
    let own = package.map(|package| package.to_lowercase() == name.as_normalized());
    let why = match (pin.key, purpose) {
        (_, Purpose::Build) => "nothing is installed before the build environment, so there is nothing to pin to",
        (_, Purpose::RunConstraint | Purpose::Extra) => "pins belong to what is needed to run, to host, or exported",
        ("pin-subpackage", Purpose::Run | Purpose::Host) => "a package pins itself only for others, in `run-exports`",
        ("pin-subpackage", _) if own == Some(false) => "`pin-subpackage` is for the package itself",
        ("pin-compatible", _) if own == Some(true) => "no package is among those it is built with",
        _ => return Ok(()),
    };
    Err(bad(pin, name, why))
}

/// The bounds of a pin. Without any, the version it is built with is the lower one and the next major the upper one.
fn read_pin(entry: &Entry<'_, '_>, name: &PackageName) -> Result<Map<String, Value>, ManifestError> {
    let mut pin = Map::new();
    if entry.as_bool() == Some(false) {
        return Err(bad(entry, name, format!("`{} = false` means nothing", entry.key)));
    }
    let table = match entry.as_bool() {
        Some(_) => None,
        None if entry.is_table() => Some(entry.table()?),
        None => return Err(entry.wrong_type("`true` or a table")),
    };
    let get = |key: &'static str| table.as_ref().and_then(|table| table.get(key));
    let (lower, upper, build) = (get("lower-bound"), get("upper-bound"), get("build"));
    let exact = get("exact").map(|exact| exact.bool()).transpose()?.unwrap_or_default();
    if exact {
        if let Some(other) = [&lower, &upper, &build].into_iter().flatten().next() {
            return Err(bad(other, name, format!("an exact pin leaves nothing for `{}` to say", other.key)));
        }
        pin.insert("exact".to_owned(), true.into());
    } else {
        let bound = |entry: Option<Entry<'_, '_>>, default: &str| match entry {
            Some(entry) => read_bound(&entry),
            None => Ok(json!({ "expression": default })),
        };
        pin.insert("lowerBound".to_owned(), bound(lower, "x.x.x.x.x.x")?);
        pin.insert("upperBound".to_owned(), bound(upper, "x")?);
        if let Some(build) = build {
            pin.insert("build".to_owned(), build.string()?.0.into());
        }
    }
    if let Some(table) = table {
        table.finish();
    }
    Ok(pin)
}

/// A bound: how many parts of the version count, or a version.
fn read_bound(entry: &Entry<'_, '_>) -> Result<Value, ManifestError> {
    let (text, _) = entry.string()?;
    let parts = text.matches('x').count();
    if parts > 0 && text.chars().all(|c| matches!(c, 'x' | '.')) {
        return Ok(json!({ "expression": vec!["x"; parts].join(".") }));
    }
    match Version::from_str(text) {
        Ok(version) => Ok(json!({ "version": version.to_string() })),
        Err(error) => Err(entry.bad_value("a version, nor how much of one counts, like `x.x`", error)),
    }
}

/// Collects the fields that are said.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.0.insert(key.to_owned(), value.into());
        }
    }
}

fn text(value: Option<&impl ToString>) -> Option<Value> {
    value.map(|value| value.to_string().into())
}

fn flags(spec: &MatchSpec) -> Option<Value> {
    spec.flags.as_ref().map(|flags| flags.iter().map(ToString::to_string).collect())
}

fn binary(
    spec: &Spec<'_, '_>,
    name: &PackageName,
    scope: Scope<'_, '_, '_>,
) -> Result<Map<String, Value>, ManifestError> {
    let selects = &spec.selects;
    let root = scope.channels.root();
    let url = match &spec.place {
        Place::Archive(archive) => Some(archive.file_url(root).to_string()),
        _ => None,
    };
    let mut fields = Fields::default();
    fields.put("version", text(selects.version.as_ref()));
    fields.put("build", text(selects.build.as_ref()));
    fields.put("buildNumber", text(selects.build_number.as_ref()));
    fields.put("fileName", selects.file_name.as_deref());
    fields.put("extras", selects.extras.clone());
    fields.put("flags", flags(selects));
    fields.put("channel", spec.channel.as_ref().map(|channel| channel.directory_url(root).to_string()));
    fields.put("subdir", selects.subdir.as_deref());
    fields.put("md5", selects.md5.map(hex::encode));
    fields.put("sha256", selects.sha256.map(hex::encode));
    fields.put("url", url);
    fields.put("license", selects.license.as_deref());
    fields.put("condition", condition_of(spec, name, scope)?);
    Ok(fields.0)
}

fn source(
    spec: &Spec<'_, '_>,
    location: &SourceLocation,
    name: &PackageName,
    scope: Scope<'_, '_, '_>,
) -> Result<Map<String, Value>, ManifestError> {
    let selects = &spec.selects;
    let mut fields = Fields::default();
    let (tag, place) = place(location);
    fields.put(tag, Some(place));
    fields.put("version", text(selects.version.as_ref()));
    fields.put("build", text(selects.build.as_ref()));
    fields.put("buildNumber", text(selects.build_number.as_ref()));
    fields.put("extras", selects.extras.clone());
    fields.put("flags", flags(selects));
    fields.put("subdir", selects.subdir.as_deref());
    fields.put("license", selects.license.as_deref());
    fields.put("condition", condition_of(spec, name, scope)?);
    Ok(fields.0)
}

/// Where sources are. The protocol knows nothing of git LFS.
fn place(location: &SourceLocation) -> (&'static str, Map<String, Value>) {
    let mut fields = Fields::default();
    let inside = |subdirectory: &str| Some(subdirectory).filter(|path| !path.is_empty()).map(str::to_owned);
    let tag = match location {
        SourceLocation::Path { path } => {
            fields.put("path", Some(path.as_str()));
            "path"
        }
        SourceLocation::Git { url, reference, subdirectory, .. } => {
            fields.put("git", Some(url.as_str()));
            fields.put(
                "rev",
                match reference {
                    GitReference::DefaultBranch => None,
                    GitReference::Branch(name) => Some(json!({ "branch": name })),
                    GitReference::Tag(name) => Some(json!({ "tag": name })),
                    GitReference::Rev(rev) => Some(json!({ "rev": rev })),
                },
            );
            fields.put("subdirectory", inside(subdirectory));
            "git"
        }
        SourceLocation::Url { url, sha256, md5, subdirectory } => {
            fields.put("url", Some(url.as_str()));
            fields.put("md5", md5.as_deref());
            fields.put("sha256", sha256.as_deref());
            fields.put("subdirectory", inside(subdirectory));
            "url"
        }
    };
    (tag, fields.0)
}

fn condition_of(
    spec: &Spec<'_, '_>,
    name: &PackageName,
    scope: Scope<'_, '_, '_>,
) -> Result<Option<Value>, ManifestError> {
    let Some(entry) = &spec.when else { return Ok(None) };
    let condition = read_condition(entry, scope)?;
    serde_json::to_value(condition).map(Some).map_err(|error| bad(entry, name, error))
}

/// A condition: a package as text, a table of one, or several of which all or any have to hold.
fn read_condition(entry: &Entry<'_, '_>, scope: Scope<'_, '_, '_>) -> Result<MatchSpecCondition, ManifestError> {
    const EXPECTED: &str = "a package, or a table with one of `all`, `any` and `package`";
    if let Some(text) = entry.as_string() {
        let spec = parse_canonical(text).map_err(|error| entry.bad_value("a condition", error))?;
        if text.contains('[') || spec.build.is_some() || spec.channel.is_some() {
            return Err(entry.bad_value("a condition", "only a name and a version can be written like that"));
        }
        return Ok(MatchSpecCondition::MatchSpec(Box::new(spec)));
    }
    if !entry.is_table() {
        return Err(entry.wrong_type(EXPECTED));
    }
    let table = entry.table()?;
    let joined = |key: &'static str,
                  join: fn(Box<MatchSpecCondition>, Box<MatchSpecCondition>) -> MatchSpecCondition| {
        let Some(list) = table.get(key) else { return Ok(None) };
        if table.entries().len() > 1 {
            return Err(entry.wrong_type(EXPECTED));
        }
        let parts: Vec<_> = list.array()?.iter().map(|part| read_condition(part, scope)).collect::<Result<_, _>>()?;
        let all = parts.into_iter().reduce(|left, right| join(Box::new(left), Box::new(right)));
        all.map(Some).ok_or_else(|| list.wrong_type("a list of at least one condition"))
    };
    if let Some(all) = joined("all", MatchSpecCondition::And)? {
        return Ok(all);
    }
    if let Some(any) = joined("any", MatchSpecCondition::Or)? {
        return Ok(any);
    }
    read_condition_table(entry, &table, scope)
}

fn read_condition_table(
    entry: &Entry<'_, '_>,
    table: &Table<'_, '_>,
    scope: Scope<'_, '_, '_>,
) -> Result<MatchSpecCondition, ManifestError> {
    let Some(package) = table.get("package") else {
        return Err(entry.wrong_type("a package, or a table with one of `all`, `any` and `package`"));
    };
    let (text, span) = package.string()?;
    let name = PackageName::from_str(text).map_err(|_| bad_name(&package, text, &span))?;
    let spec = read_spec(entry, &name, Scope::of(scope.channels))?;
    if !matches!(spec.place, Place::Channel) || spec.channel.is_some() || spec.when.is_some() {
        return Err(bad(entry, &name, "a condition says nothing of where a package is from"));
    }
    Ok(MatchSpecCondition::MatchSpec(Box::new(spec.selects)))
}
