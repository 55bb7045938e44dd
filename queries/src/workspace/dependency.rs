//! Reading dependency tables: names with a version, or with a table of everything a match spec can say.
//!
//! A dependency that would have to be built from source, or that uses a field nobody acts on, is no error here: only
//! an environment that needs it cannot be described. So it is kept with its place, for the error of that environment.

use std::{collections::BTreeMap, ops::Range, str::FromStr};

use rattler_conda_types::{
    BuildNumberSpec, MatchSpec, PackageName, PackageNameMatcher, ParseConstraintError, ParseStrictness,
    ParseVersionSpecError, StringMatcher, VersionSpec, package::CondaArchiveIdentifier,
};
use rattler_digest::{Md5, Sha256, parse_digest_from_hex};
use url::Url;

use super::{
    channel::ChannelResolver,
    error::{ManifestError, ManifestErrorKind},
    location::Location,
    requirement::{Requirement, parse_canonical},
    table::{Entry, Table},
    warning::WarningKind,
};

/// The dependencies of one table by normalised name.
pub(crate) type Dependencies = BTreeMap<String, Dependency>;

/// A dependency and where it is written.
#[derive(Debug, Clone)]
pub(crate) struct Dependency {
    pub(crate) kind: DependencyKind,
    /// The key.
    pub(crate) span: Range<usize>,
    /// The value.
    pub(crate) value_span: Range<usize>,
}

#[derive(Debug, Clone)]
pub(crate) enum DependencyKind {
    /// A package from a channel, or an archive.
    Package(Box<Requirement>),
    /// Something to build.
    Source,
    /// A package with a condition nobody evaluates.
    Unhandled { field: &'static str },
}

/// Fields that only make sense with a `git` source.
const SOURCE_FIELDS: [&str; 6] = ["branch", "tag", "rev", "subdirectory", "lfs", "editable"];

/// Reads a dependency table.
pub(crate) fn read_dependencies(
    table: &Table<'_, '_>,
    channels: &ChannelResolver,
) -> Result<Dependencies, ManifestError> {
    let mut dependencies = Dependencies::new();
    for entry in table.entries() {
        let name = read_name(&entry)?;
        let dependency = Dependency {
            kind: read_requirement(&entry, &name, channels)?,
            span: entry.key_span.clone(),
            value_span: entry.value_span(),
        };
        if let Some(first) = dependencies.insert(name.as_normalized().to_owned(), dependency) {
            let kind = ManifestErrorKind::Duplicate { what: "the dependency", name: name.as_normalized().to_owned() };
            return Err(entry
                .source()
                .error(kind)
                .at_with(&first.span, "first here")
                .at_with(&entry.key_span, "then here")
                .help("names differ only in case, which makes no difference; keep one of them")
                .done());
        }
    }
    Ok(dependencies)
}

/// The name of a package that is a key.
pub(crate) fn read_name(entry: &Entry<'_, '_>) -> Result<PackageName, ManifestError> {
    PackageName::from_str(entry.key).map_err(|_| {
        let kind = ManifestErrorKind::BadName {
            what: "a package",
            name: entry.key.to_owned(),
            why: "only letters, digits, `-`, `_` and `.` are allowed",
        };
        entry.source().error(kind).at(&entry.key_span).done()
    })
}

/// Reads the requirement of one package: a version or a table.
pub(crate) fn read_requirement(
    entry: &Entry<'_, '_>,
    name: &PackageName,
    channels: &ChannelResolver,
) -> Result<DependencyKind, ManifestError> {
    if entry.as_string().is_some_and(|text| text.trim() == "*") && is_plain(name.as_normalized()) {
        // Most dependencies are that, and there are hundreds of them.
        let name = name.as_normalized().to_owned();
        let requirement = Requirement { spec: name.clone(), name, channel: None, archive: None };
        return Ok(DependencyKind::Package(Box::new(requirement)));
    }
    let mut spec = MatchSpec { name: PackageNameMatcher::Exact(name.clone()), ..MatchSpec::default() };
    if entry.as_string().is_some() {
        spec.version = read_version(entry, name)?;
        return finish(entry, name, spec, None, None);
    }
    if !entry.is_table() {
        return Err(entry.wrong_type("a version or a table"));
    }
    let table = entry.table()?;
    if let Some(version) = table.get("version") {
        spec.version = read_version(&version, name)?;
    }
    if let Some(build) = table.get("build") {
        let (text, _) = build.string()?;
        spec.build = Some(StringMatcher::from_str(text).map_err(|error| bad(&build, name, error))?);
    }
    if let Some(number) = table.get("build-number") {
        let text = number.as_string().or_else(|| number.number_text()).ok_or_else(|| number.wrong_type("a string"))?;
        spec.build_number = Some(BuildNumberSpec::from_str(text).map_err(|error| bad(&number, name, error))?);
    }
    spec.file_name = owned(table.string("file-name")?);
    spec.subdir = owned(table.string("subdir")?);
    spec.license = owned(table.string("license")?);
    spec.license_family = owned(table.string("license-family")?);
    if let Some(md5) = table.get("md5") {
        let (text, _) = md5.string()?;
        let digest =
            parse_digest_from_hex::<Md5>(text).ok_or_else(|| md5.bad_value("an md5 digest", "not 32 hex digits"))?;
        spec.md5 = Some(digest);
    }
    if let Some(sha256) = table.get("sha256") {
        let (text, _) = sha256.string()?;
        let digest = parse_digest_from_hex::<Sha256>(text);
        spec.sha256 = Some(digest.ok_or_else(|| sha256.bad_value("a sha256 digest", "not 64 hex digits"))?);
    }
    if let Some(extras) = table.get("extras") {
        spec.extras = Some(extras.strings()?.into_iter().map(|(text, _)| text.to_owned()).collect());
    }
    if let Some(flags) = table.get("flags") {
        let flags: Result<Vec<_>, _> = flags
            .strings()?
            .into_iter()
            .map(|(text, _)| StringMatcher::from_str(text).map_err(|error| bad(&flags, name, error)))
            .collect();
        spec.flags = Some(flags?);
    }
    if let Some(features) = table.get("track-features") {
        let features = if features.is_array() { features.strings()? } else { vec![features.string()?] };
        spec.track_features = Some(features.into_iter().map(|(text, _)| text.to_owned()).collect());
    }
    let channel = table.get("channel").map(|channel| channels.read(&channel)).transpose()?;
    let unhandled = table.get("when").map(|_| "when");
    let git = table.get("git");
    let path = table.get("path");
    let url = table.get("url");
    let source_fields: Vec<_> = SOURCE_FIELDS.into_iter().filter_map(|field| table.get(field)).collect();
    table.finish();

    let places: Vec<_> = [&git, &path, &url].into_iter().flatten().collect();
    if let [first, second, ..] = places.as_slice() {
        let kind = ManifestErrorKind::BadRequirement {
            dependency: name.as_source().to_owned(),
            message: format!("`{}` and `{}` exclude each other", first.key, second.key),
        };
        return Err(entry.source().error(kind).at(&first.key_span).at(&second.key_span).done());
    }
    let archive = match (git, path, url) {
        (Some(git), ..) => {
            git.string()?;
            return Ok(DependencyKind::Source);
        }
        (_, Some(path), _) => {
            let (text, _) = path.string()?;
            if !is_archive(text) {
                return Ok(DependencyKind::Source);
            }
            if text.starts_with('~') {
                return Err(path.bad_value("a path", "`~` means something else for every user"));
            }
            Some(channels.root().locate(text))
        }
        (_, _, Some(url)) => match read_url(&url, channels)? {
            Some(archive) => Some(archive),
            None => return Ok(DependencyKind::Source),
        },
        _ => None,
    };
    if let Some(field) = source_fields.first() {
        let message = format!("`{}` needs `git`, or a `url` or `path` of sources", field.key);
        let kind = ManifestErrorKind::BadRequirement { dependency: name.as_source().to_owned(), message };
        return Err(entry.source().error(kind).at(&field.key_span).done());
    }
    if let Some(field) = unhandled {
        return Ok(DependencyKind::Unhandled { field });
    }
    finish(entry, name, spec, channel, archive)
}

/// The place of an archive, or `None` for a URL of sources.
fn read_url(entry: &Entry<'_, '_>, channels: &ChannelResolver) -> Result<Option<Location>, ManifestError> {
    let (text, _) = entry.string()?;
    let url = Url::parse(text).map_err(|error| entry.bad_value("a URL", error))?;
    if !is_archive(url.path()) {
        return Ok(None);
    }
    let (location, had_credentials) = channels.root().locate_url(&url);
    if had_credentials {
        entry.warn(WarningKind::CredentialsInUrl);
    }
    Ok(Some(location))
}

/// Whether a path or the path of a URL ends in the name of a conda package.
fn is_archive(path: &str) -> bool {
    let file = path.rsplit(['/', '\\']).next().unwrap_or(path);
    CondaArchiveIdentifier::try_from_filename(file).is_some()
}

fn owned(text: Option<(&str, Range<usize>)>) -> Option<String> {
    text.map(|(text, _)| text.to_owned())
}

fn bad(entry: &Entry<'_, '_>, name: &PackageName, message: impl ToString) -> ManifestError {
    let kind =
        ManifestErrorKind::BadRequirement { dependency: name.as_source().to_owned(), message: message.to_string() };
    entry.source().error(kind).at(&entry.value_span()).done()
}

/// Reads a version requirement. Any version is no requirement.
fn read_version(entry: &Entry<'_, '_>, name: &PackageName) -> Result<Option<VersionSpec>, ManifestError> {
    let (text, span) = entry.string()?;
    match VersionSpec::from_str(&close_up(text), ParseStrictness::Lenient) {
        Ok(VersionSpec::Any) => Ok(None),
        Ok(spec) => Ok(Some(spec)),
        Err(error) => {
            let help = match text.trim().split_once(char::is_whitespace) {
                Some((version, build)) => Some(format!(
                    "to ask for a build as well, write {{ version = \"{version}\", build = \"{}\" }}",
                    build.trim()
                )),
                None if text.trim().is_empty() => Some("any version is written \"*\"".to_owned()),
                None => None,
            };
            let kind = ManifestErrorKind::BadRequirement {
                dependency: name.as_source().to_owned(),
                message: why_no_version(&error),
            };
            Err(entry.source().error(kind).at(&span).maybe_help(help).done())
        }
    }
}

/// A version requirement without blanks around it and behind its operators, where the parser expects none.
fn close_up(text: &str) -> String {
    let mut closed = String::with_capacity(text.len());
    for c in text.trim().chars() {
        if !(c.is_whitespace() && closed.ends_with(['=', '<', '>', '!', '~'])) {
            closed.push(c);
        }
    }
    closed
}

/// What is wrong with a version requirement, where the parser only tells the name of a rule.
pub(crate) fn why_no_version(error: &ParseVersionSpecError) -> String {
    match error {
        ParseVersionSpecError::InvalidConstraint(ParseConstraintError::Nom(_)) => {
            "there is something where a version or an operator should be".to_owned()
        }
        other => other.to_string(),
    }
}

/// Whether a name alone is a requirement: it has no parts that could be taken for something else, such as the ending of a
/// file.
fn is_plain(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

fn finish(
    entry: &Entry<'_, '_>,
    name: &PackageName,
    spec: MatchSpec,
    channel: Option<Location>,
    archive: Option<Location>,
) -> Result<DependencyKind, ManifestError> {
    let text = spec.to_canonical_string().map_err(|error| bad(entry, name, error))?;
    // What is written down has to mean what was read, or a cached solve would be one of something else.
    match parse_canonical(&text) {
        Ok(read) if read == spec => {}
        Ok(_) => return Err(bad(entry, name, format!("it has no unambiguous form (`{text}`)"))),
        Err(error) => return Err(bad(entry, name, error)),
    }
    let name = name.as_normalized().to_owned();
    Ok(DependencyKind::Package(Box::new(Requirement { name, spec: text, channel, archive })))
}
