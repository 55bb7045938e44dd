//! Name, version and the rest of what a package says of itself.
//!
//! A field is written in `[package]`, taken over from the workspace by `{ workspace = true }`, or, for some in a
//! `pyproject.toml`, what `[project]` says.

use std::str::FromStr;

use rattler_conda_types::{PackageName, Version};
use serde_json::Value;
use url::Url;

use crate::{
    source::{SourceLocation, normalized},
    workspace::{
        dependency::{bad_name, check_marker, from_directory, not_inherited},
        error::{ManifestError, ManifestErrorKind},
        table::{Entry, Table},
    },
};

/// Where the fields of a package may come from.
pub(super) struct Ancestry<'s, 'a, 'i> {
    /// `[workspace]`, and `[project]` beside it, which stands in for it.
    pub(super) workspace: Option<&'s Table<'a, 'i>>,
    pub(super) workspace_project: Option<&'s Table<'a, 'i>>,
    /// `[project]` beside `[package]`.
    pub(super) project: Option<&'s Table<'a, 'i>>,
    /// The way from the workspace to the package.
    pub(super) directory: &'s str,
}

/// The fields of `[project]` that mean the same as those of `[package]`.
const OF_A_PROJECT: [&str; 4] = ["name", "version", "description", "authors"];

/// What a package says of itself.
#[derive(Default)]
pub(super) struct Metadata {
    name: Option<String>,
    version: Option<String>,
    description: Option<String>,
    authors: Option<Vec<String>>,
    license: Option<String>,
    license_file: Option<String>,
    readme: Option<String>,
    homepage: Option<String>,
    repository: Option<String>,
    documentation: Option<String>,
}

/// A field, and whether it is the workspace that says it.
struct Field<'a, 'i> {
    entry: Entry<'a, 'i>,
    inherited: bool,
}

impl Metadata {
    pub(super) fn read(table: &Table<'_, '_>, ancestry: &Ancestry<'_, '_, '_>) -> Result<Self, ManifestError> {
        let field = |key: &'static str| find(table, ancestry, key);
        let text = |key: &'static str| field(key)?.map(|field| Ok(field.entry.string()?.0.to_owned())).transpose();
        let path = |key: &'static str| field(key)?.map(|field| read_path(&field, ancestry.directory)).transpose();
        let url = |key: &'static str| field(key)?.map(|field| read_url(&field.entry)).transpose();
        Ok(Self {
            name: field("name")?.map(|field| read_name(&field.entry)).transpose()?,
            version: field("version")?.map(|field| read_version(&field.entry)).transpose()?,
            description: text("description")?,
            authors: field("authors")?.map(|field| read_authors(&field.entry)).transpose()?,
            license: text("license")?,
            license_file: path("license-file")?,
            readme: path("readme")?,
            homepage: url("homepage")?,
            repository: url("repository")?,
            documentation: url("documentation")?,
        })
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The fields in the order of the protocol, which puts others in between.
    pub(super) fn fields(&self) -> [(&'static str, Option<Value>); 10] {
        let text = |text: &Option<String>| text.as_deref().map(Value::from);
        [
            ("name", text(&self.name)),
            ("version", text(&self.version)),
            ("description", text(&self.description)),
            ("authors", self.authors.clone().map(Value::from)),
            ("license", text(&self.license)),
            ("licenseFile", text(&self.license_file)),
            ("readme", text(&self.readme)),
            ("homepage", text(&self.homepage)),
            ("repository", text(&self.repository)),
            ("documentation", text(&self.documentation)),
        ]
    }
}

fn find<'a, 'i>(
    table: &Table<'a, 'i>,
    ancestry: &Ancestry<'_, 'a, 'i>,
    key: &'static str,
) -> Result<Option<Field<'a, 'i>>, ManifestError> {
    let of_project = |project: Option<&Table<'a, 'i>>| project.filter(|_| OF_A_PROJECT.contains(&key))?.get(key);
    let Some(entry) = table.get(key) else {
        return Ok(of_project(ancestry.project).map(|entry| Field { entry, inherited: false }));
    };
    if !entry.is_table() {
        return Ok(Some(Field { entry, inherited: false }));
    }
    let inherits = entry.table()?;
    let Some(marker) = inherits.get("workspace") else {
        return Err(entry.wrong_type("a value, or `{ workspace = true }`"));
    };
    check_marker(&marker)?;
    inherits.finish();
    let said = ancestry.workspace.and_then(|workspace| workspace.get(key));
    match said.or_else(|| of_project(ancestry.workspace_project)) {
        Some(entry) => Ok(Some(Field { entry, inherited: true })),
        None => Err(not_inherited(&marker, key)),
    }
}

fn read_name(entry: &Entry<'_, '_>) -> Result<String, ManifestError> {
    let (text, span) = entry.string()?;
    match PackageName::from_str(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(bad_name(entry, text, &span)),
    }
}

fn read_version(entry: &Entry<'_, '_>) -> Result<String, ManifestError> {
    let (text, _) = entry.string()?;
    let version = Version::from_str(text.trim()).map_err(|error| entry.bad_value("a version", error))?;
    Ok(version.to_string())
}

/// Authors are words, or, as Python has them, tables of a name and an address.
fn read_authors(entry: &Entry<'_, '_>) -> Result<Vec<String>, ManifestError> {
    let read = |author: &Entry<'_, '_>| {
        if !author.is_table() {
            return Ok(author.string()?.0.to_owned());
        }
        let contact = author.table()?;
        let part = |key| contact.string(key).map(|part| part.map(|(text, _)| text));
        match (part("name")?, part("email")?) {
            (Some(name), Some(email)) => Ok(format!("{name} <{email}>")),
            (Some(one), None) | (None, Some(one)) => Ok(one.to_owned()),
            (None, None) => {
                let kind = ManifestErrorKind::MissingKey { key: format!("{}.name", author.path()) };
                Err(author.source().error(kind).at(&author.value_span()).done())
            }
        }
    };
    entry.array()?.iter().map(read).collect()
}

fn read_path(field: &Field<'_, '_>, directory: &str) -> Result<String, ManifestError> {
    let (text, _) = field.entry.string()?;
    if !field.inherited {
        return Ok(normalized(text));
    }
    match from_directory(&SourceLocation::path(text), directory) {
        Some(SourceLocation::Path { path }) => Ok(path),
        _ => Err(field.entry.bad_value("a path", "there is no way to it from the package")),
    }
}

fn read_url(entry: &Entry<'_, '_>) -> Result<String, ManifestError> {
    let (text, _) = entry.string()?;
    let mut url = Url::parse(text).map_err(|error| entry.bad_value("a URL", error))?;
    // Setting these fails only for URLs that cannot have them, which then have none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Ok(url.into())
}
