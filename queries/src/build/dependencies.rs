//! What a backend says a package needs, as requirements.

use std::collections::BTreeMap;
use std::str::FromStr;

use miette::Diagnostic;
use rattler_conda_types::{
    BuildNumberSpec, MatchSpec, PackageName, PackageNameMatcher, PackageRecord, ParseStrictness, StringMatcher,
    Version, VersionBumpType, VersionSpec,
};
use rattler_digest::{Md5, Sha256, parse_digest_from_hex};
use serde_json::Value;
use thiserror::Error;
use url::Url;

use crate::backend::{BinarySpec, ConstraintSpec, Dep, DepSource, Named, PackageSpec, PinBound, PinSpec, SourceSpec};
use crate::source::{GitReference, PinnedSource, SourceLocation, normalized};
use crate::workspace::{Location, Requirement, SourceRequirement, parse_canonical};

/// What is needed, and where that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Needed {
    pub(crate) said: Said,
    /// Whose run export says it, if it was not said by the package itself.
    pub(crate) exported: Option<Exported>,
}

/// Whose run export something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exported {
    /// `build` or `host`.
    pub(crate) from: &'static str,
    pub(crate) package: String,
}

/// A package of a channel, or one that is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Binary(Requirement),
    Source(SourceRequirement),
}

impl Said {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Binary(requirement) => &requirement.name,
            Self::Source(requirement) => &requirement.name,
        }
    }

    /// What selects the package, without its place.
    pub(crate) fn spec(&self) -> &str {
        match self {
            Self::Binary(requirement) => &requirement.spec,
            Self::Source(requirement) => &requirement.spec,
        }
    }

    /// The form that records have.
    pub(crate) fn depends(&self) -> Result<String, DependencyError> {
        let bad = |message: String| DependencyError::Spec { package: self.name().to_owned(), message };
        let mut spec = parse_canonical(self.spec()).map_err(|error| bad(error.to_string()))?;
        if let Self::Binary(requirement) = self {
            if let Some(archive) = &requirement.archive {
                spec.url = Url::parse(&archive.to_string()).ok();
            }
            if let Some(channel) = &requirement.channel
                && let Ok(url) = Url::parse(&channel.to_string())
            {
                spec.channel = Some(std::sync::Arc::new(rattler_conda_types::Channel::from_url(url)));
            }
        }
        Ok(spec.to_string())
    }
}

impl Needed {
    pub(crate) fn own(said: Said) -> Self {
        Self { said, exported: None }
    }

    /// The form that a backend is told in.
    pub(crate) fn dep(&self) -> Result<Dep, DependencyError> {
        let bad = |message: String| DependencyError::Spec { package: self.said.name().to_owned(), message };
        let spec = parse_canonical(self.said.spec()).map_err(|error| bad(error.to_string()))?;
        let spec = serde_json::to_value(&spec).map_err(|error| bad(error.to_string()))?;
        let source = self.exported.as_ref().map(|exported| DepSource::RunExport {
            from: exported.from.to_owned(),
            run_export: exported.package.clone(),
        });
        Ok(Dep { spec, source })
    }
}

/// Why what a backend says cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
#[non_exhaustive]
pub enum DependencyError {
    /// It is no name of a package.
    #[error("`{name}` is no name of a package")]
    Name {
        /// What it says.
        name: String,
    },
    /// What selects the package cannot be read.
    #[error("what is asked of `{package}` cannot be read: {message}")]
    Spec {
        /// The package.
        package: String,
        /// What is wrong.
        message: String,
    },
    /// The place of the sources cannot be read.
    #[error("the place of the sources of `{package}` cannot be read: {message}")]
    Source {
        /// The package.
        package: String,
        /// What is wrong.
        message: String,
    },
    /// A pin of something that is not there.
    #[error("`{package}` is to be compatible with the `{package}` that is built against, and there is none")]
    #[diagnostic(help("add `{package}` to the host dependencies or to the build dependencies"))]
    PinMissing {
        /// The package.
        package: String,
    },
    /// A pin that makes no sense.
    #[error("the pin of `{package}` cannot be used: {message}")]
    Pin {
        /// The package.
        package: String,
        /// What is wrong.
        message: String,
    },
    /// A pin that the backend has to resolve.
    #[error("the backend left it open which version of `{package}` is meant by a pin on a package of the same build")]
    #[diagnostic(help("this is for the backend to do; it may be older than the protocol it says to speak"))]
    UnresolvedPinSubpackage {
        /// The package.
        package: String,
    },
    /// One package from two places.
    #[error("`{package}` is to come from {first} and from {second}")]
    #[diagnostic(help("name one place for it"))]
    DuplicateSource {
        /// The package.
        package: String,
        /// One place.
        first: String,
        /// The other.
        second: String,
    },
}

/// The packages that pins refer to, by name.
pub(crate) type Pins<'a> = BTreeMap<String, &'a PackageRecord>;

/// Reads what is needed. Paths are relative to `base`; left as they are if there is none.
pub(crate) fn needed(
    named: &Named<PackageSpec>,
    base: Option<&PinnedSource>,
    pins: &Pins<'_>,
) -> Result<Said, DependencyError> {
    match &named.spec {
        PackageSpec::Binary(spec) => binary(&named.name, spec).map(Said::Binary),
        PackageSpec::Source(spec) => source(&named.name, spec, base).map(Said::Source),
        PackageSpec::PinCompatible(pin) => pinned(&named.name, pin, pins).map(Said::Binary),
        PackageSpec::PinSubpackage(_) => Err(DependencyError::UnresolvedPinSubpackage { package: named.name.clone() }),
    }
}

/// Reads a constraint.
pub(crate) fn constraint(named: &Named<ConstraintSpec>, pins: &Pins<'_>) -> Result<Requirement, DependencyError> {
    match &named.spec {
        ConstraintSpec::Binary(spec) => binary(&named.name, spec),
        ConstraintSpec::PinCompatible(pin) => pinned(&named.name, pin, pins),
        ConstraintSpec::PinSubpackage(_) => {
            Err(DependencyError::UnresolvedPinSubpackage { package: named.name.clone() })
        }
    }
}

fn name_of(name: &str) -> Result<PackageName, DependencyError> {
    PackageName::from_str(name).map_err(|_| DependencyError::Name { name: name.to_owned() })
}

/// The fields that select a package.
#[derive(Default)]
struct Selectors<'a> {
    version: Option<&'a str>,
    build: Option<&'a str>,
    build_number: Option<&'a str>,
    extras: Option<&'a Vec<String>>,
    flags: Option<&'a Vec<String>>,
    subdir: Option<&'a str>,
    license: Option<&'a str>,
    condition: Option<&'a Value>,
}

fn selected(name: &PackageName, selectors: &Selectors<'_>) -> Result<MatchSpec, DependencyError> {
    let bad = |message: String| DependencyError::Spec { package: name.as_source().to_owned(), message };
    let version = match selectors.version.map(str::trim) {
        None | Some("" | "*") => None,
        Some(text) => {
            match VersionSpec::from_str(text, ParseStrictness::Lenient).map_err(|error| bad(error.to_string()))? {
                VersionSpec::Any => None,
                spec => Some(spec),
            }
        }
    };
    let matcher = |text: &str| StringMatcher::from_str(text).map_err(|error| bad(error.to_string()));
    let number = |text: &str| BuildNumberSpec::from_str(text).map_err(|error| bad(error.to_string()));
    let mut spec = MatchSpec {
        name: PackageNameMatcher::Exact(name.clone()),
        version,
        build: selectors.build.map(matcher).transpose()?,
        build_number: selectors.build_number.map(number).transpose()?,
        extras: selectors.extras.filter(|extras| !extras.is_empty()).cloned(),
        flags: selectors
            .flags
            .filter(|flags| !flags.is_empty())
            .map(|flags| flags.iter().map(|flag| matcher(flag)).collect())
            .transpose()?,
        subdir: selectors.subdir.map(str::to_owned),
        license: selectors.license.map(str::to_owned),
        ..MatchSpec::default()
    };
    if let Some(condition) = selectors.condition.filter(|condition| !condition.is_null()) {
        let text = condition.as_str().ok_or_else(|| bad("its condition is no text".to_owned()))?;
        let whole = format!("{}[when=\"{text}\"]", name.as_normalized());
        spec.condition = parse_canonical(&whole).map_err(|error| bad(error.to_string()))?.condition;
    }
    Ok(spec)
}

fn canonical(name: &PackageName, spec: &MatchSpec) -> Result<String, DependencyError> {
    spec.to_canonical_string()
        .map_err(|error| DependencyError::Spec { package: name.as_source().to_owned(), message: error.to_string() })
}

fn binary(name: &str, said: &BinarySpec) -> Result<Requirement, DependencyError> {
    let name = name_of(name)?;
    let bad =
        |message: &str| DependencyError::Spec { package: name.as_source().to_owned(), message: message.to_owned() };
    let mut spec = selected(
        &name,
        &Selectors {
            version: said.version.as_deref(),
            build: said.build.as_deref(),
            build_number: said.build_number.as_deref(),
            extras: said.extras.as_ref(),
            flags: said.flags.as_ref(),
            subdir: said.subdir.as_deref(),
            license: said.license.as_deref(),
            condition: said.condition.as_ref(),
        },
    )?;
    spec.file_name = said.file_name.clone();
    let md5 = |text: &String| parse_digest_from_hex::<Md5>(text).ok_or_else(|| bad("its md5 is none"));
    let sha256 = |text: &String| parse_digest_from_hex::<Sha256>(text).ok_or_else(|| bad("its sha256 is none"));
    spec.md5 = said.md5.as_ref().map(md5).transpose()?;
    spec.sha256 = said.sha256.as_ref().map(sha256).transpose()?;
    let place = |text: &String| text.parse::<Location>().map_err(|_| bad("its place is no address"));
    Ok(Requirement {
        spec: canonical(&name, &spec)?,
        name: name.as_normalized().to_owned(),
        channel: said.channel.as_ref().map(place).transpose()?.map(Location::as_directory),
        archive: said.url.as_ref().map(place).transpose()?,
    })
}

fn source(name: &str, said: &SourceSpec, base: Option<&PinnedSource>) -> Result<SourceRequirement, DependencyError> {
    let name = name_of(name)?;
    let bad =
        |message: &str| DependencyError::Source { package: name.as_source().to_owned(), message: message.to_owned() };
    let spec = selected(
        &name,
        &Selectors {
            version: said.version.as_deref(),
            build: said.build.as_deref(),
            build_number: said.build_number.as_deref(),
            extras: said.extras.as_ref(),
            flags: said.flags.as_ref(),
            subdir: said.subdir.as_deref(),
            license: said.license.as_deref(),
            condition: said.condition.as_ref(),
        },
    )?;
    let location = place(said).map_err(bad)?;
    let location = match base {
        Some(base) => location.resolved(base).ok_or_else(|| bad("it leads out of the checkout"))?,
        None => location,
    };
    Ok(SourceRequirement { spec: canonical(&name, &spec)?, name: name.as_normalized().to_owned(), location })
}

/// Where sources are. Some write the place as a text, and some as a table that holds the rest, too.
fn place(said: &SourceSpec) -> Result<SourceLocation, &'static str> {
    let inner = [&said.url, &said.git, &said.path].into_iter().flatten().find(|value| value.is_object());
    let field = |key: &str| inner.and_then(|value| value.get(key)).and_then(Value::as_str).map(str::to_owned);
    let text = |value: &Option<Value>, key: &str| {
        value.as_ref().and_then(|value| value.as_str().map(str::to_owned).or_else(|| field(key)))
    };
    let address = |text: String| {
        let url = Url::parse(&text).map_err(|_| "its address is none")?;
        Ok::<String, &'static str>(crate::redact::without_credentials(&url).to_string())
    };
    let subdirectory = said.subdirectory.clone().or_else(|| field("subdirectory")).unwrap_or_default();
    let subdirectory = if subdirectory.is_empty() { subdirectory } else { normalized(&subdirectory) };
    if subdirectory.starts_with("..") || subdirectory.starts_with('/') {
        return Err("its subdirectory leads out of it");
    }
    let subdirectory = if subdirectory == "." { String::new() } else { subdirectory };
    if said.git.is_some() {
        let url = address(text(&said.git, "git").or_else(|| field("url")).ok_or("it has no repository")?)?;
        let of = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let rev = said.rev.as_ref().or_else(|| inner.and_then(|value| value.get("rev")));
        let branch = said.branch.clone().or_else(|| field("branch")).or_else(|| of(rev?, "branch"));
        let tag = said.tag.clone().or_else(|| field("tag")).or_else(|| of(rev?, "tag"));
        let rev = rev.and_then(|rev| rev.as_str().map(str::to_owned).or_else(|| of(rev, "rev")));
        let reference = match (branch, tag, rev) {
            (Some(branch), _, _) => GitReference::Branch(branch),
            (_, Some(tag), _) => GitReference::Tag(tag),
            (_, _, Some(rev)) if rev != "defaultBranch" => GitReference::Rev(rev),
            _ => GitReference::DefaultBranch,
        };
        let lfs = said.lfs.or_else(|| inner.and_then(|value| value.get("lfs")).and_then(Value::as_bool));
        return Ok(SourceLocation::Git { url, reference, subdirectory, lfs });
    }
    if said.url.is_some() {
        let url = address(text(&said.url, "url").ok_or("it has no address")?)?;
        // Parts of paths are made of it.
        let hash =
            |said: &Option<String>, key| said.clone().or_else(|| field(key)).map(|hash| hash.to_ascii_lowercase());
        let (sha256, md5) = (hash(&said.sha256, "sha256"), hash(&said.md5, "md5"));
        if sha256.as_deref().is_some_and(|hash| parse_digest_from_hex::<Sha256>(hash).is_none()) {
            return Err("its sha256 is none");
        }
        if md5.as_deref().is_some_and(|hash| parse_digest_from_hex::<Md5>(hash).is_none()) {
            return Err("its md5 is none");
        }
        return Ok(SourceLocation::Url { url, sha256, md5, subdirectory });
    }
    let path = text(&said.path, "path").ok_or("it has no place")?;
    Ok(SourceLocation::path(&path))
}

/// The place of the sources as a backend is told it, to be read by [`place`] again.
#[cfg(test)]
pub(crate) fn said_path(path: &str) -> SourceSpec {
    SourceSpec { path: Some(Value::String(path.to_owned())), ..SourceSpec::default() }
}

fn pinned(name: &str, pin: &PinSpec, pins: &Pins<'_>) -> Result<Requirement, DependencyError> {
    let name = name_of(name)?;
    let Some(record) = pins.get(name.as_normalized()) else {
        return Err(DependencyError::PinMissing { package: name.as_normalized().to_owned() });
    };
    let version = record.version.version();
    let bad = |message: String| DependencyError::Pin { package: name.as_normalized().to_owned(), message };
    let (version_spec, build) = if pin.exact {
        (Some(format!("=={version}")), Some(record.build.to_string()))
    } else {
        let lower = match &pin.lower_bound {
            Some(bound) => Some(format!(">={}", lower_bound(version, bound).map_err(bad)?)),
            None => None,
        };
        let upper = match &pin.upper_bound {
            Some(bound) => Some(format!("<{}", upper_bound(version, bound).map_err(bad)?)),
            None => None,
        };
        let both = lower.into_iter().chain(upper).collect::<Vec<_>>().join(",");
        (Some(both).filter(|both| !both.is_empty()), pin.build.clone())
    };
    let spec = selected(
        &name,
        &Selectors { version: version_spec.as_deref(), build: build.as_deref(), ..Selectors::default() },
    )?;
    Ok(Requirement {
        spec: canonical(&name, &spec)?,
        name: name.as_normalized().to_owned(),
        channel: None,
        archive: None,
    })
}

/// How many parts of a version an expression as `x.x` means.
fn parts(expression: &str) -> Result<usize, String> {
    let is_expression = !expression.is_empty() && expression.split('.').all(|part| part == "x");
    if is_expression {
        Ok(expression.split('.').count())
    } else {
        Err(format!("`{expression}` is not of the form `x.x`"))
    }
}

fn lower_bound(version: &Version, bound: &PinBound) -> Result<String, String> {
    match bound {
        PinBound::Version(version) => Ok(version.clone()),
        PinBound::Expression(expression) => {
            let wanted = parts(expression)?.min(version.segment_count());
            Ok(version.strip_local().with_segments(..wanted).map_or_else(|| version.to_string(), |v| v.to_string()))
        }
    }
}

fn upper_bound(version: &Version, bound: &PinBound) -> Result<String, String> {
    match bound {
        PinBound::Version(version) => Ok(version.clone()),
        PinBound::Expression(expression) => {
            let wanted = parts(expression)?;
            let plain = version.strip_local();
            let plain = plain.extend_to_length(wanted).map_err(|error| error.to_string())?;
            let cut = plain.with_segments(..wanted).ok_or("the version has no parts")?;
            let last = i32::try_from(wanted - 1).map_err(|error| error.to_string())?;
            let next = cut.bump(VersionBumpType::Segment(last)).map_err(|error| error.to_string())?;
            // Nothing of the next version, not even what comes before its release.
            Ok(format!("{next}.0a0").replace("..", "."))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, version: &str) -> PackageRecord {
        PackageRecord::new(
            PackageName::new_unchecked(name),
            rattler_conda_types::VersionWithSource::from_str(version).expect("it is one"),
            rattler_conda_types::package::BuildString::new_unchecked("h1_0"),
        )
    }

    fn pin(version: &str, lower: Option<&str>, upper: Option<&str>, exact: bool) -> Result<String, DependencyError> {
        let record = record("a", version);
        let pins = Pins::from([("a".to_owned(), &record)]);
        let bound = |text: &str| PinBound::Expression(text.to_owned());
        let pin = PinSpec { lower_bound: lower.map(bound), upper_bound: upper.map(bound), exact, build: None };
        let named = Named { name: "a".to_owned(), spec: PackageSpec::PinCompatible(pin) };
        needed(&named, None, &pins)?.depends()
    }

    #[test]
    fn a_pin_takes_so_many_parts_of_the_version() {
        assert_eq!(pin("3.11.5", Some("x.x"), Some("x.x"), false).as_deref(), Ok("a >=3.11,<3.12.0a0"));
        assert_eq!(pin("0.1.0", Some("x.x.x.x.x.x"), Some("x"), false).as_deref(), Ok("a >=0.1.0,<1.0a0"));
        assert_eq!(pin("1.2+local", Some("x.x.x"), Some("x.x.x"), false).as_deref(), Ok("a >=1.2,<1.2.1.0a0"));
        assert_eq!(pin("1.2", None, None, true).as_deref(), Ok("a ==1.2 h1_0"));
        assert!(matches!(pin("1.2", Some("y"), None, false), Err(DependencyError::Pin { .. })));
    }

    #[test]
    fn the_hash_of_an_archive_is_one_and_written_in_one_way() {
        let said = |hash: &str| SourceSpec {
            url: Some(Value::String("https://example.com/a.tar.gz".to_owned())),
            sha256: Some(hash.to_owned()),
            ..SourceSpec::default()
        };
        let Ok(SourceLocation::Url { sha256, .. }) = place(&said(&"AB".repeat(32))) else { panic!("it is an archive") };
        assert_eq!(sha256, Some("ab".repeat(32)));
        assert!(place(&said("../../somewhere")).is_err());
        assert!(place(&said("")).is_err());
    }

    #[test]
    fn a_pin_on_what_is_not_there_says_where_to_add_it() {
        let named = Named { name: "b".to_owned(), spec: PackageSpec::PinCompatible(PinSpec::default()) };
        let error = needed(&named, None, &Pins::new()).expect_err("there is none");
        assert_eq!(error, DependencyError::PinMissing { package: "b".to_owned() });
        assert!(
            miette::Diagnostic::help(&error).expect("it says what to do").to_string().contains("host dependencies")
        );
    }

    #[test]
    fn a_path_is_relative_to_whoever_says_it() {
        let named = Named { name: "B".to_owned(), spec: PackageSpec::Source(Box::new(said_path("../b"))) };
        let base = PinnedSource::Path { path: "pkgs/a".to_owned() };
        let Ok(Said::Source(said)) = needed(&named, Some(&base), &Pins::new()) else { panic!("it is a source") };
        assert_eq!(said.location, SourceLocation::path("pkgs/b"));
        assert_eq!(said.name, "b");
    }

    #[test]
    fn a_repository_is_read_however_it_is_written() {
        let wanted = SourceLocation::Git {
            url: "https://h/r".to_owned(),
            reference: GitReference::Branch("b".to_owned()),
            subdirectory: "d".to_owned(),
            lfs: None,
        };
        for json in [
            serde_json::json!({ "git": "https://me:x@h/r", "rev": { "branch": "b" }, "subdirectory": "d" }),
            serde_json::json!({ "git": { "git": "https://h/r", "rev": { "branch": "b" }, "subdirectory": "./d" } }),
            serde_json::json!({ "git": "https://h/r", "branch": "b", "subdirectory": "d/" }),
        ] {
            let said: SourceSpec = serde_json::from_value(json.clone()).expect("it is one");
            assert_eq!(place(&said), Ok(wanted.clone()), "{json}");
        }
    }
}
