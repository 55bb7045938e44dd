//! Reading dependency tables: names with a version, or with a table of everything a match spec can say.
//!
//! The same fields are read for environments, where a [`Requirement`] or a [`SourceRequirement`] comes out, and for
//! packages, whose build backend is told them ([`read_spec`]). A dependency that uses a field nobody acts on is no
//! error here: only an environment that needs it cannot be described. So it is kept with its place, for that error.

use std::{collections::BTreeMap, ops::Range, str::FromStr};

use rattler_conda_types::{
    BuildNumberSpec, MatchSpec, PackageName, PackageNameMatcher, ParseConstraintError, ParseStrictness,
    ParseVersionSpecError, StringMatcher, VersionSpec, package::CondaArchiveIdentifier,
};
use rattler_digest::{Md5, Sha256, parse_digest_from_hex};
use url::Url;

use super::{
    channel::ChannelResolver,
    error::{ErrorBuilder, ManifestError, ManifestErrorKind},
    location::{Location, without_credentials},
    requirement::{Requirement, SourceRequirement, parse_canonical},
    table::{Entry, Table},
    warning::WarningKind,
};
use crate::source::{GitReference, PinnedSource, SourceLocation, is_absolute, leads_out, normalized};

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
    Source(Box<SourceRequirement>),
    /// A package with something about it that nobody acts on.
    Unhandled { field: &'static str },
}

/// What a dependency means depends on where it is written: this is all of that.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'s, 'a, 'i> {
    pub(crate) channels: &'s ChannelResolver,
    /// The table whose entries are taken over by `{ workspace = true }`. Its paths are relative to the workspace.
    pub(crate) shared: Option<&'s Table<'a, 'i>>,
    /// The directory of the manifest as the workspace sees it.
    pub(crate) directory: &'s str,
}

impl<'s> Scope<'s, '_, '_> {
    /// The manifest of a workspace that shares nothing.
    pub(crate) fn of(channels: &'s ChannelResolver) -> Self {
        Self { channels, shared: None, directory: "." }
    }
}

/// All a dependency says, before it is known what for.
pub(crate) struct Spec<'a, 'i> {
    /// What selects packages, without channel and place. Any version is a version here if that is what was written.
    pub(crate) selects: MatchSpec,
    pub(crate) channel: Option<Location>,
    pub(crate) place: Place,
    /// The condition.
    pub(crate) when: Option<Entry<'a, 'i>>,
    /// A manifest for sources that have none.
    pub(crate) package: Option<Entry<'a, 'i>>,
}

/// Where a package comes from.
pub(crate) enum Place {
    /// From any channel that has it.
    Channel,
    /// It is this file.
    Archive(Location),
    /// It is built from this.
    Source(SourceLocation),
}

/// The fields that say which commit of a repository is meant; only one of them can.
const REFERENCES: [&str; 3] = ["branch", "tag", "rev"];
/// The fields that say where a package is, or are decided by that.
const OWNED_BY_THE_SHARED: [&str; 4] = ["version", "path", "git", "url"];
/// The fields that only a package of a channel can be selected by.
const OF_A_CHANNEL: [&str; 3] = ["channel", "file-name", "license-family"];

/// Reads a dependency table.
pub(crate) fn read_dependencies<'a, 'i>(
    table: &Table<'a, 'i>,
    scope: Scope<'_, 'a, 'i>,
) -> Result<Dependencies, ManifestError> {
    let mut dependencies = Dependencies::new();
    for entry in table.entries() {
        let name = read_name(&entry)?;
        let dependency = Dependency {
            kind: read_requirement(&entry, &name, scope)?,
            span: entry.key_span.clone(),
            value_span: entry.value_span(),
        };
        if let Some(first) = dependencies.insert(name.as_normalized().to_owned(), dependency) {
            return Err(twice(&entry, &name, &first.span));
        }
    }
    Ok(dependencies)
}

/// Reads a `[dev]` table: packages that are worked on, each with the place of its sources and nothing else.
pub(crate) fn read_dev<'a, 'i>(table: &Table<'a, 'i>, scope: Scope<'_, 'a, 'i>) -> Result<Dependencies, ManifestError> {
    let dependencies = read_dependencies(table, scope)?;
    for (name, dependency) in &dependencies {
        let is_place = |source: &SourceRequirement| source.spec == source.name || !is_plain(&source.name);
        let message = match &dependency.kind {
            DependencyKind::Source(source) if is_place(source) => continue,
            DependencyKind::Unhandled { .. } => continue,
            DependencyKind::Source(_) => "a package in `dev` says where its sources are, and nothing else",
            DependencyKind::Package(_) => "a package in `dev` needs the `path`, `git` or `url` of its sources",
        };
        let kind = ManifestErrorKind::BadRequirement { dependency: name.clone(), message: message.to_owned() };
        return Err(table.source().error(kind).at(&dependency.value_span).done());
    }
    Ok(dependencies)
}

/// A name that is in a table twice, in different ways to write it.
pub(crate) fn twice(entry: &Entry<'_, '_>, name: &PackageName, first: &Range<usize>) -> ManifestError {
    let kind = ManifestErrorKind::Duplicate { what: "the dependency", name: name.as_normalized().to_owned() };
    let error = entry.source().error(kind).at_with(first, "first here").at_with(&entry.key_span, "then here");
    error.help("names differ only in case, which makes no difference; keep one of them").done()
}

/// The name of a package that is a key.
pub(crate) fn read_name(entry: &Entry<'_, '_>) -> Result<PackageName, ManifestError> {
    PackageName::from_str(entry.key).map_err(|_| bad_name(entry, entry.key, &entry.key_span))
}

/// A package cannot be called that.
pub(crate) fn bad_name(entry: &Entry<'_, '_>, name: &str, span: &Range<usize>) -> ManifestError {
    let why = "only letters, digits, `-`, `_` and `.` are allowed";
    let kind = ManifestErrorKind::BadName { what: "a package", name: name.to_owned(), why };
    entry.source().error(kind).at(span).done()
}

/// Reads the requirement of one package: a version or a table.
pub(crate) fn read_requirement<'a, 'i>(
    entry: &Entry<'a, 'i>,
    name: &PackageName,
    scope: Scope<'_, 'a, 'i>,
) -> Result<DependencyKind, ManifestError> {
    if entry.as_string().is_some_and(|text| text.trim() == "*") && is_plain(name.as_normalized()) {
        // Most dependencies are that, and there are hundreds of them.
        let name = name.as_normalized().to_owned();
        let requirement = Requirement { spec: name.clone(), name, channel: None, archive: None };
        return Ok(DependencyKind::Package(Box::new(requirement)));
    }
    let spec = read_spec(entry, name, scope)?;
    match (&spec.package, &spec.when) {
        (Some(_), _) => Ok(DependencyKind::Unhandled { field: "package" }),
        (_, Some(_)) => Ok(DependencyKind::Unhandled { field: "when" }),
        _ => spec.required(entry, name),
    }
}

/// Reads the requirement of a build backend, whose table has its name, its channels and its companions as well.
pub(crate) fn read_backend<'a, 'i>(
    entry: &Entry<'a, 'i>,
    name: &PackageName,
    scope: Scope<'_, 'a, 'i>,
) -> Result<DependencyKind, ManifestError> {
    let fields = Fields::read(entry, name, scope)?;
    if let Some(own) = &fields.own {
        own.ignore(&["name", "channels", "additional-dependencies"]);
    }
    let spec = fields.spec(entry, name, scope)?;
    match (&spec.package, &spec.when) {
        (None, None) => spec.required(entry, name),
        _ => Ok(DependencyKind::Unhandled { field: "when" }),
    }
}

/// The fields of a dependency: its own, and those it takes over from the workspace.
struct Fields<'a, 'i> {
    own: Option<Table<'a, 'i>>,
    shared: Option<Table<'a, 'i>>,
    /// A value that is nothing but a version.
    version: Option<Entry<'a, 'i>>,
    inherited: bool,
}

impl<'a, 'i> Fields<'a, 'i> {
    fn read(entry: &Entry<'a, 'i>, name: &PackageName, scope: Scope<'_, 'a, 'i>) -> Result<Self, ManifestError> {
        let mut fields = Self { own: None, shared: None, version: None, inherited: false };
        if entry.as_string().is_some() {
            fields.version = Some(entry.clone());
            return Ok(fields);
        }
        if !entry.is_table() {
            return Err(entry.wrong_type("a version or a table"));
        }
        let own = entry.table()?;
        if let Some(marker) = own.get("workspace") {
            check_marker(&marker)?;
            for key in OWNED_BY_THE_SHARED {
                if let Some(field) = own.get(key) {
                    let message = format!("`{key}` is for `[workspace.dependencies]` to say");
                    let help = "leave out `workspace = true` to say it here";
                    return Err(contradiction(entry, name, message).at(&field.key_span).help(help).done());
                }
            }
            let shared = scope.shared.into_iter().flat_map(Table::entries).find(|shared| is_named(shared, name));
            let Some(shared) = shared else {
                return Err(not_inherited(&marker, &format!("dependencies.{}", name.as_source())));
            };
            fields.inherited = true;
            if shared.is_table() {
                fields.shared = Some(shared.table()?);
            } else {
                fields.version = Some(shared);
            }
        }
        fields.own = Some(own);
        Ok(fields)
    }

    fn get(&self, key: &'static str) -> Option<Entry<'a, 'i>> {
        let own = self.own.as_ref().and_then(|own| own.get(key));
        let shared = || self.shared.as_ref().and_then(|shared| shared.get(key));
        own.or_else(shared).or_else(|| self.version.clone().filter(|_| key == "version"))
    }

    fn string(&self, key: &'static str) -> Result<Option<String>, ManifestError> {
        self.get(key).map(|entry| Ok(entry.string()?.0.to_owned())).transpose()
    }

    fn spec(
        self,
        entry: &Entry<'a, 'i>,
        name: &PackageName,
        scope: Scope<'_, 'a, 'i>,
    ) -> Result<Spec<'a, 'i>, ManifestError> {
        let selects = read_selects(&self, name)?;
        let channel = self.get("channel").map(|channel| scope.channels.read(&channel)).transpose()?;
        let place = read_place(entry, name, &self, &selects, scope)?;
        let selects = match place {
            // The hashes are those of the sources, not of the package.
            Place::Source(_) => MatchSpec { md5: None, sha256: None, ..selects },
            _ => selects,
        };
        let spec = Spec { selects, channel, place, when: self.get("when"), package: self.get("package") };
        // What the workspace shares was read where it is written, with a warning about each unknown key.
        if let Some(own) = self.own {
            own.finish();
        }
        Ok(spec)
    }
}

fn is_named(entry: &Entry<'_, '_>, name: &PackageName) -> bool {
    PackageName::from_str(entry.key).is_ok_and(|key| key.as_normalized() == name.as_normalized())
}

/// Reads `workspace = true`.
pub(crate) fn check_marker(marker: &Entry<'_, '_>) -> Result<(), ManifestError> {
    if marker.bool()? {
        return Ok(());
    }
    let kind = ManifestErrorKind::NotOneOf { key: marker.path(), value: "false".to_owned() };
    let help = "nothing is taken over from the workspace unless one asks for it";
    Err(marker.source().error(kind).at(&marker.value_span()).help(help).done())
}

/// The workspace has nothing to take over.
pub(crate) fn not_inherited(marker: &Entry<'_, '_>, key: &str) -> ManifestError {
    let kind = ManifestErrorKind::NotInherited { key: format!("workspace.{key}") };
    marker.source().error(kind).at(&marker.key_span).help("define it in the manifest of the workspace").done()
}

/// Reads all that a version or a table says of a package.
pub(crate) fn read_spec<'a, 'i>(
    entry: &Entry<'a, 'i>,
    name: &PackageName,
    scope: Scope<'_, 'a, 'i>,
) -> Result<Spec<'a, 'i>, ManifestError> {
    Fields::read(entry, name, scope)?.spec(entry, name, scope)
}

fn read_selects(fields: &Fields<'_, '_>, name: &PackageName) -> Result<MatchSpec, ManifestError> {
    let mut spec = MatchSpec { name: PackageNameMatcher::Exact(name.clone()), ..MatchSpec::default() };
    if let Some(version) = fields.get("version") {
        spec.version = Some(read_version(&version, name)?);
    }
    if let Some(build) = fields.get("build") {
        let (text, _) = build.string()?;
        spec.build = Some(StringMatcher::from_str(text).map_err(|error| bad(&build, name, error))?);
    }
    if let Some(number) = fields.get("build-number") {
        let text = number.as_string().or_else(|| number.number_text()).ok_or_else(|| number.wrong_type("a string"))?;
        spec.build_number = Some(BuildNumberSpec::from_str(text).map_err(|error| bad(&number, name, error))?);
    }
    spec.file_name = fields.string("file-name")?;
    spec.subdir = fields.string("subdir")?;
    spec.license = fields.string("license")?;
    spec.license_family = fields.string("license-family")?;
    if let Some(md5) = fields.get("md5") {
        let (text, _) = md5.string()?;
        let digest =
            parse_digest_from_hex::<Md5>(text).ok_or_else(|| md5.bad_value("an md5 digest", "not 32 hex digits"))?;
        spec.md5 = Some(digest);
    }
    if let Some(sha256) = fields.get("sha256") {
        let (text, _) = sha256.string()?;
        let digest = parse_digest_from_hex::<Sha256>(text);
        spec.sha256 = Some(digest.ok_or_else(|| sha256.bad_value("a sha256 digest", "not 64 hex digits"))?);
    }
    if let Some(extras) = fields.get("extras") {
        spec.extras = Some(extras.strings()?.into_iter().map(|(text, _)| text.to_owned()).collect());
    }
    if let Some(flags) = fields.get("flags") {
        let flags: Result<Vec<_>, _> = flags
            .strings()?
            .into_iter()
            .map(|(text, _)| StringMatcher::from_str(text).map_err(|error| bad(&flags, name, error)))
            .collect();
        spec.flags = Some(flags?);
    }
    if let Some(features) = fields.get("track-features") {
        let features = if features.is_array() { features.strings()? } else { vec![features.string()?] };
        spec.track_features = Some(features.into_iter().map(|(text, _)| text.to_owned()).collect());
    }
    Ok(spec)
}

/// Reads where a package comes from.
fn read_place<'a, 'i>(
    entry: &Entry<'a, 'i>,
    name: &PackageName,
    fields: &Fields<'a, 'i>,
    selects: &MatchSpec,
    scope: Scope<'_, 'a, 'i>,
) -> Result<Place, ManifestError> {
    let places: Vec<_> = ["git", "path", "url"].into_iter().filter_map(|key| fields.get(key)).collect();
    let references: Vec<_> = REFERENCES.into_iter().filter_map(|key| fields.get(key)).collect();
    let (lfs, subdirectory, editable) = (fields.get("lfs"), fields.get("subdirectory"), fields.get("editable"));
    for exclusive in [&places, &references] {
        if let [first, second, ..] = exclusive.as_slice() {
            let message = format!("`{}` and `{}` exclude each other", first.key, second.key);
            return Err(contradiction(entry, name, message).at(&first.key_span).at(&second.key_span).done());
        }
    }
    let needs = |field: Option<&Entry<'a, 'i>>, what: &str| match field {
        Some(field) => {
            let message = format!("`{}` needs {what}", field.key);
            Err(contradiction(entry, name, message).at(&field.key_span).done())
        }
        None => Ok(()),
    };
    let of_sources = references.first().or(lfs.as_ref()).or(subdirectory.as_ref()).or(editable.as_ref());
    let source_fields = || needs(of_sources, "`git`, or a `url` or `path` of sources");
    let git_fields = || needs(references.first().or(lfs.as_ref()), "`git`");
    let Some(place) = places.first() else {
        source_fields()?;
        return Ok(Place::Channel);
    };
    let inside = || subdirectory.as_ref().map(read_subdirectory).transpose().map(Option::unwrap_or_default);
    let location = match place.key {
        "git" => SourceLocation::Git {
            url: read_git(place)?,
            reference: match references.first() {
                Some(entry) => read_reference(entry)?,
                None => GitReference::DefaultBranch,
            },
            subdirectory: inside()?,
            lfs: lfs.as_ref().map(Entry::bool).transpose()?,
        },
        "path" => {
            let (text, _) = place.string()?;
            if is_archive(text) {
                source_fields()?;
                return read_archive_path(place, fields.inherited, scope).map(Place::Archive);
            }
            git_fields()?;
            needs(subdirectory.as_ref(), "`git`, or a `url` of sources")?;
            read_path(place, fields.inherited, scope)?
        }
        _ => {
            if let Some(archive) = read_archive_url(place, scope)? {
                source_fields()?;
                return Ok(Place::Archive(archive));
            }
            git_fields()?;
            SourceLocation::Url {
                url: read_source_url(place)?,
                sha256: selects.sha256.map(hex::encode),
                md5: selects.md5.map(hex::encode),
                subdirectory: inside()?,
            }
        }
    };
    if let Some(field) = OF_A_CHANNEL.into_iter().find_map(|key| fields.get(key)) {
        let message = format!("`{}` is of packages in channels, and this one is built", field.key);
        return Err(contradiction(entry, name, message).at(&field.key_span).done());
    }
    if !matches!(location, SourceLocation::Url { .. }) {
        needs(fields.get("sha256").or_else(|| fields.get("md5")).as_ref(), "`url`")?;
    }
    Ok(Place::Source(location))
}

/// Fields that cannot be in one table.
fn contradiction<'e>(entry: &'e Entry<'_, '_>, name: &PackageName, message: String) -> ErrorBuilder<'e> {
    entry.source().error(ManifestErrorKind::BadRequirement { dependency: name.as_source().to_owned(), message })
}

/// Reads the place of sources where nothing but that can be said.
pub(crate) fn read_source(entry: &Entry<'_, '_>, scope: Scope<'_, '_, '_>) -> Result<SourceLocation, ManifestError> {
    let name = PackageName::new_unchecked(entry.key);
    let own = entry.table()?;
    let wanted = ["git", "path", "url", "branch", "tag", "rev", "lfs", "subdirectory", "sha256", "md5"];
    if let Some(other) = own.entries().iter().find(|field| !wanted.contains(&field.key)) {
        let message = format!("`{}` is not part of a place", other.key);
        return Err(contradiction(entry, &name, message).at(&other.key_span).done());
    }
    match read_spec(entry, &name, scope)?.place {
        Place::Source(location) => Ok(location),
        _ => {
            let message = "a directory, a repository or an archive of sources is wanted".to_owned();
            Err(contradiction(entry, &name, message).at(&entry.value_span()).done())
        }
    }
}

fn read_reference(entry: &Entry<'_, '_>) -> Result<GitReference, ManifestError> {
    let text = entry.string()?.0.to_owned();
    Ok(match entry.key {
        "branch" => GitReference::Branch(text),
        "tag" => GitReference::Tag(text),
        _ => GitReference::Rev(text),
    })
}

/// A directory in a repository or an archive; nothing for its top.
fn read_subdirectory(entry: &Entry<'_, '_>) -> Result<String, ManifestError> {
    let (text, _) = entry.string()?;
    let path = normalized(text);
    if is_absolute(&path) || leads_out(&path) {
        return Err(entry.bad_value("a directory in the sources", "it leads out of them"));
    }
    Ok(if path == "." { String::new() } else { path })
}

/// The address of a repository, without secrets. Who logs in by SSH is none, and has to be known.
fn read_git(entry: &Entry<'_, '_>) -> Result<String, ManifestError> {
    let (text, _) = entry.string()?;
    let url = text.strip_prefix("git+").unwrap_or(text);
    if !url.contains("://") {
        return Err(entry.bad_value("the URL of a repository", "write it as `ssh://user@host/path` or `https://…`"));
    }
    let mut url = Url::parse(url).map_err(|error| entry.bad_value("the URL of a repository", error))?;
    let has_user = !url.username().is_empty() && url.scheme() != "ssh";
    if has_user || url.password().is_some() {
        let is_used = matches!(url.scheme(), "http" | "https");
        entry.warn(if is_used { WarningKind::LoginInUrl } else { WarningKind::CredentialsInUrl });
    }
    // Setting these fails only for URLs that cannot have them, which then have none.
    let _ = url.set_password(None);
    if has_user {
        let _ = url.set_username("");
    }
    url.set_fragment(None);
    Ok(url.into())
}

fn read_path(
    entry: &Entry<'_, '_>,
    inherited: bool,
    scope: Scope<'_, '_, '_>,
) -> Result<SourceLocation, ManifestError> {
    let (text, _) = entry.string()?;
    if text.starts_with('~') && text != "~" && !text.starts_with("~/") && !text.starts_with("~\\") {
        return Err(entry.bad_value("a path", "only one's own home directory can be written with `~`"));
    }
    let location = SourceLocation::path(text);
    if !inherited {
        return Ok(location);
    }
    from_directory(&location, scope.directory).ok_or_else(|| entry.bad_value("a path", "there is no way to it"))
}

/// What is said of a place in the workspace, as a manifest in one of its directories says it.
pub(crate) fn from_directory(location: &SourceLocation, directory: &str) -> Option<SourceLocation> {
    location.relative_to(&PinnedSource::Path { path: normalized(directory) })
}

fn read_archive_path(
    entry: &Entry<'_, '_>,
    inherited: bool,
    scope: Scope<'_, '_, '_>,
) -> Result<Location, ManifestError> {
    let (text, _) = entry.string()?;
    if text.starts_with('~') {
        return Err(entry.bad_value("a path", "`~` means something else for every user"));
    }
    let root = scope.channels.root();
    Ok(if inherited || is_absolute(text) {
        root.locate(text)
    } else {
        root.locate(&format!("{}/{text}", scope.directory))
    })
}

/// The place of an archive, or `None` for a URL of sources.
fn read_archive_url(entry: &Entry<'_, '_>, scope: Scope<'_, '_, '_>) -> Result<Option<Location>, ManifestError> {
    let url = parse_url(entry)?;
    if !is_archive(url.path()) {
        return Ok(None);
    }
    let (location, had_credentials) = scope.channels.root().locate_url(&url);
    if had_credentials {
        entry.warn(WarningKind::CredentialsInUrl);
    }
    Ok(Some(location))
}

fn read_source_url(entry: &Entry<'_, '_>) -> Result<String, ManifestError> {
    let (url, had_credentials) = without_credentials(&parse_url(entry)?);
    if had_credentials {
        entry.warn(WarningKind::CredentialsInUrl);
    }
    Ok(url.into())
}

fn parse_url(entry: &Entry<'_, '_>) -> Result<Url, ManifestError> {
    Url::parse(entry.string()?.0).map_err(|error| entry.bad_value("a URL", error))
}

/// Whether a path or the path of a URL ends in the name of a conda package.
fn is_archive(path: &str) -> bool {
    let file = path.rsplit(['/', '\\']).next().unwrap_or(path);
    CondaArchiveIdentifier::try_from_filename(file).is_some()
}

pub(crate) fn bad(entry: &Entry<'_, '_>, name: &PackageName, message: impl ToString) -> ManifestError {
    let kind =
        ManifestErrorKind::BadRequirement { dependency: name.as_source().to_owned(), message: message.to_string() };
    entry.source().error(kind).at(&entry.value_span()).done()
}

/// Reads a version requirement.
fn read_version(entry: &Entry<'_, '_>, name: &PackageName) -> Result<VersionSpec, ManifestError> {
    let (text, span) = entry.string()?;
    match VersionSpec::from_str(&close_up(text), ParseStrictness::Lenient) {
        Ok(spec) => Ok(spec),
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

impl Spec<'_, '_> {
    /// What somebody who installs the package asks for.
    pub(crate) fn required(self, entry: &Entry<'_, '_>, name: &PackageName) -> Result<DependencyKind, ManifestError> {
        // Any version is no requirement.
        let version = self.selects.version.filter(|version| *version != VersionSpec::Any);
        let selects = MatchSpec { version, ..self.selects };
        let spec = canonical(entry, name, &selects)?;
        let name = name.as_normalized().to_owned();
        let archive = match self.place {
            Place::Source(location) => {
                return Ok(DependencyKind::Source(Box::new(SourceRequirement { name, location, spec })));
            }
            Place::Archive(archive) => Some(archive),
            Place::Channel => None,
        };
        Ok(DependencyKind::Package(Box::new(Requirement { name, spec, channel: self.channel, archive })))
    }
}

fn canonical(entry: &Entry<'_, '_>, name: &PackageName, spec: &MatchSpec) -> Result<String, ManifestError> {
    let text = spec.to_canonical_string().map_err(|error| bad(entry, name, error))?;
    // What is written down has to mean what was read, or a cached solve would be one of something else.
    match parse_canonical(&text) {
        Ok(read) if read == *spec => Ok(text),
        Ok(_) => Err(bad(entry, name, format!("it has no unambiguous form (`{text}`)"))),
        Err(error) => Err(bad(entry, name, error)),
    }
}
