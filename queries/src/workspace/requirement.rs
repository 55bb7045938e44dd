//! One requirement of an environment, as plain data that reads the same in every checkout.
//!
//! The part of a match spec that does not depend on the place of the workspace is kept in rattler's canonical text
//! form; the channel and the archive, which may lie inside the workspace, are kept apart as [`Location`]s.

use std::{borrow::Cow, fmt, sync::Arc};

use rattler_conda_types::{
    Channel, GenericVirtualPackage, MatchSpec, Matches, ParseMatchSpecError, ParseMatchSpecOptions, RepoDataRecord,
};
use serde::{Deserialize, Serialize};

use super::location::{Location, WorkspaceRoot};
use crate::source::SourceLocation;

/// A package that has to be there, or a limit on one that may be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Requirement {
    /// The normalised name of the package.
    pub name: String,
    /// The match spec without channel and URL, in canonical form. It begins with the name.
    pub spec: String,
    /// The channel the package has to come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<Location>,
    /// The archive that is the package: one file, wherever it lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<Location>,
}

/// A package that is built from its sources, and what it then has to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SourceRequirement {
    /// The normalised name of the package.
    pub name: String,
    /// Where the sources are. A relative path is relative to the workspace.
    pub location: SourceLocation,
    /// The match spec the built package has to meet, in canonical form. It begins with the name.
    pub spec: String,
}

impl SourceRequirement {
    /// The match spec the built package has to meet.
    ///
    /// # Errors
    ///
    /// Only if the text did not come from a manifest read here.
    pub fn match_spec(&self) -> Result<MatchSpec, ParseMatchSpecError> {
        parse_canonical(&self.spec)
    }
}

impl fmt::Display for SourceRequirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", readable(&self.name, &self.spec), self.location)
    }
}

impl Requirement {
    /// Whether what it asks for depends on where the workspace is.
    pub(crate) fn is_placed(&self) -> bool {
        [&self.channel, &self.archive].into_iter().flatten().any(|location| location.inside().is_some())
    }

    /// The match spec this stands for.
    ///
    /// # Errors
    ///
    /// Only if the text did not come from a manifest read here.
    pub fn match_spec(&self, root: &WorkspaceRoot) -> Result<MatchSpec, ParseMatchSpecError> {
        let mut spec = parse_canonical(&self.spec)?;
        if let Some(channel) = &self.channel {
            spec.channel = Some(Arc::new(Channel::from_url(channel.directory_url(root))));
        }
        if let Some(archive) = &self.archive {
            spec.url = Some(archive.file_url(root));
        }
        Ok(spec)
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&readable(&self.name, &self.spec))?;
        if let Some(channel) = &self.channel {
            write!(f, " from {channel}")?;
        }
        if let Some(archive) = &self.archive {
            write!(f, " at {archive}")?;
        }
        Ok(())
    }
}

/// A match spec as people write it: a version alone reads better without brackets.
fn readable<'s>(name: &str, spec: &'s str) -> Cow<'s, str> {
    match spec.strip_prefix(name).and_then(|rest| rest.strip_prefix("[version=\"")?.strip_suffix("\"]")) {
        Some(version) if !version.contains('"') => format!("{name} {version}").into(),
        _ => spec.into(),
    }
}

/// Reads a match spec in canonical form, or a dependency of a package record.
pub(crate) fn parse_canonical(text: &str) -> Result<MatchSpec, ParseMatchSpecError> {
    let options = ParseMatchSpecOptions::lenient().with_extras(true).with_flags(true).with_conditionals(true);
    MatchSpec::from_str(text, options)
}

/// Whether a record is what a spec asks for, all fields of the spec considered.
///
/// rattler's own comparison leaves channel, subdir and file name to the solver.
pub(crate) fn matches_record(spec: &MatchSpec, record: &RepoDataRecord) -> bool {
    let channel_matches = || match (&spec.channel, &record.channel) {
        (Some(wanted), Some(used)) => wanted.base_url.as_str().trim_end_matches('/') == used.trim_end_matches('/'),
        // What is not known to come from elsewhere is taken to match, as pixi does.
        _ => true,
    };
    let subdir_matches = || spec.subdir.as_ref().is_none_or(|subdir| *subdir == record.package_record.subdir);
    let file_matches = || spec.file_name.as_ref().is_none_or(|name| *name == record.identifier.to_file_name());
    channel_matches() && subdir_matches() && file_matches() && spec.matches(record)
}

/// Whether a virtual package is what a spec asks for.
pub(crate) fn matches_virtual(spec: &MatchSpec, package: &GenericVirtualPackage) -> bool {
    spec.matches(package)
}
