//! Why a manifest cannot be used, with the place in it.
//!
//! A [`ManifestError`] belongs to a place in a text, so it carries the text, the labels and a help line, and renders
//! as a miette diagnostic; its [`kind`](ManifestError::kind) is what code matches on. Some errors are raised when a
//! manifest is parsed. Others (a condition that nobody evaluates, a channel that is not listed) concern one environment,
//! and are raised when that environment is described.

use std::{fmt, ops::Range, sync::Arc};

use miette::{Diagnostic, LabeledSpan, NamedSource};
use thiserror::Error;

/// A manifest that cannot be used.
#[derive(Clone, Error, Diagnostic)]
#[error("{kind}")]
pub struct ManifestError {
    kind: Box<ManifestErrorKind>,
    #[source_code]
    source_code: NamedSource<Arc<str>>,
    #[label(collection)]
    labels: Vec<LabeledSpan>,
    #[help]
    help: Option<String>,
}

impl fmt::Debug for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManifestError").field("kind", &self.kind).field("labels", &self.labels).finish_non_exhaustive()
    }
}

impl PartialEq for ManifestError {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.labels == other.labels && self.help == other.help
    }
}

impl ManifestError {
    /// What is wrong.
    pub fn kind(&self) -> &ManifestErrorKind {
        &self.kind
    }

    /// What to do about it.
    pub fn help_text(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// The places in the manifest, the most important first.
    pub fn spans(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.labels.iter().map(|label| label.offset()..label.offset() + label.len())
    }
}

/// What is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ManifestErrorKind {
    /// The text is not TOML.
    #[error("the manifest is not valid TOML: {message}")]
    Syntax {
        /// What the parser says.
        message: String,
    },
    /// A `pyproject.toml` without any `[tool.pixi]` table.
    #[error("there is no `[tool.pixi]` table")]
    NoPixiTable,
    /// There is neither `[workspace]` nor `[project]`.
    #[error("the `[workspace]` table is missing")]
    NoWorkspaceTable,
    /// A key that has to be there is not.
    #[error("`{key}` is missing")]
    MissingKey {
        /// The dotted path of the key.
        key: String,
    },
    /// A value of the wrong type.
    #[error("`{key}` must be {expected}, not {found}")]
    WrongType {
        /// The dotted path of the key.
        key: String,
        /// What would be right.
        expected: &'static str,
        /// What was found.
        found: &'static str,
    },
    /// A value that is not one of the few allowed.
    #[error("`{value}` is not a value of `{key}`")]
    NotOneOf {
        /// The dotted path of the key.
        key: String,
        /// What was found.
        value: String,
    },
    /// A value that cannot be read as what it has to be.
    #[error("`{value}` is not {expected}: {message}")]
    BadValue {
        /// What was found.
        value: String,
        /// What it has to be.
        expected: &'static str,
        /// Why it is not.
        message: String,
    },
    /// A dependency whose requirement cannot be read.
    #[error("the requirement of `{dependency}` cannot be read: {message}")]
    BadRequirement {
        /// The dependency.
        dependency: String,
        /// Why not.
        message: String,
    },
    /// The same thing twice.
    #[error("{what} `{name}` is there twice")]
    Duplicate {
        /// A dependency, a platform, a feature of an environment.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A platform nobody knows.
    #[error("`{platform}` is not a platform")]
    UnknownPlatform {
        /// What was written.
        platform: String,
    },
    /// A feature is bound to a platform that the workspace does not declare.
    #[error("feature `{feature}` names the platform `{platform}`, which the workspace does not declare")]
    UndeclaredPlatform {
        /// The feature.
        feature: String,
        /// The platform.
        platform: String,
    },
    /// A target table for a platform that is not supported.
    #[error("no platform matches the target `{selector}`")]
    TargetMatchesNothing {
        /// The selector.
        selector: String,
    },
    /// A name that is taken or not allowed.
    #[error("`{name}` cannot be the name of {what}: {why}")]
    BadName {
        /// A feature, an environment, a platform.
        what: &'static str,
        /// The name.
        name: String,
        /// The reason.
        why: &'static str,
    },
    /// An environment names a feature that does not exist.
    #[error("environment `{environment}` names the feature `{feature}`, which is not defined")]
    UndefinedFeature {
        /// The environment.
        environment: String,
        /// The feature.
        feature: String,
    },
    /// The features of an environment have no platform in common.
    #[error("the features of environment `{environment}` have no platform in common")]
    NoCommonPlatform {
        /// The environment.
        environment: String,
    },
    /// Two features of one environment or solve group disagree where only one value can hold.
    #[error("{what} `{owner}` is given two values for `{key}`: `{first}` and `{second}`")]
    Conflict {
        /// "environment" or "solve group".
        what: &'static str,
        /// Its name.
        owner: String,
        /// The key.
        key: &'static str,
        /// One value.
        first: String,
        /// The other value.
        second: String,
    },
    /// `[system-requirements]` beside platforms that declare virtual packages.
    #[error("`system-requirements` cannot be used where a platform declares its own virtual packages")]
    TwoWaysOfVirtualPackages,
    /// No such environment.
    #[error("there is no environment `{environment}`")]
    UnknownEnvironment {
        /// What was asked for.
        environment: String,
    },
    /// The environment does not support the platform.
    #[error("environment `{environment}` does not support the platform `{platform}`")]
    UnsupportedPlatform {
        /// The environment.
        environment: String,
        /// What was asked for.
        platform: String,
    },
    /// Something is to be taken over from the workspace, which does not have it.
    #[error("the workspace does not define `{key}`")]
    NotInherited {
        /// The dotted path of the key.
        key: String,
    },
    /// A requirement uses a field whose meaning is not handled.
    #[error("environment `{environment}` needs `{dependency}` with `{field}`, which is not handled")]
    UnhandledField {
        /// The environment.
        environment: String,
        /// The dependency.
        dependency: String,
        /// The field.
        field: String,
    },
    /// A package that is built is to come from two places.
    #[error("{what} `{owner}` would have `{dependency}` from two places: {first} and {second}")]
    TwoPlaces {
        /// "environment" or "solve group".
        what: &'static str,
        /// Its name.
        owner: String,
        /// The package.
        dependency: String,
        /// One place.
        first: String,
        /// The other place.
        second: String,
    },
    /// A requirement names a channel that its environment does not use.
    #[error("`{dependency}` is wanted from `{channel}`, which is no channel of environment `{environment}`")]
    ChannelNotListed {
        /// The environment.
        environment: String,
        /// The dependency.
        dependency: String,
        /// The channel.
        channel: String,
    },
}

/// The text of a manifest: makes errors, and turns offsets into lines.
#[derive(Clone)]
pub(crate) struct SourceText {
    name: String,
    text: Arc<str>,
}

impl SourceText {
    pub(crate) fn new(name: impl Into<String>, text: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The line of a byte offset, counted from one.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
    }

    pub(crate) fn error(&self, kind: ManifestErrorKind) -> ErrorBuilder<'_> {
        ErrorBuilder { source: self, kind, labels: Vec::new(), help: None }
    }
}

/// An error on its way: labels and help are added, then it is `done`.
pub(crate) struct ErrorBuilder<'s> {
    source: &'s SourceText,
    kind: ManifestErrorKind,
    labels: Vec<LabeledSpan>,
    help: Option<String>,
}

impl ErrorBuilder<'_> {
    pub(crate) fn at(self, span: &Range<usize>) -> Self {
        self.label(None, span)
    }

    pub(crate) fn at_with(self, span: &Range<usize>, text: impl Into<String>) -> Self {
        self.label(Some(text.into()), span)
    }

    fn label(mut self, text: Option<String>, span: &Range<usize>) -> Self {
        // A renderer must never be handed a span outside the text.
        let end = span.end.min(self.source.text.len());
        let start = span.start.min(end);
        self.labels.push(LabeledSpan::new_with_span(text, start..end));
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help;
        self
    }

    pub(crate) fn done(self) -> ManifestError {
        ManifestError {
            kind: Box::new(self.kind),
            source_code: NamedSource::new(&self.source.name, self.source.text.clone()).with_language("TOML"),
            labels: self.labels,
            help: self.help,
        }
    }
}
