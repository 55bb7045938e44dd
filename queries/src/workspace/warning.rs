//! What a manifest says that Doge reads but does not act on.
//!
//! A warning is a value: it names the key and the line, and the caller decides where to show it. Nothing in a
//! manifest is passed over in silence except what has no bearing on environments (tasks, descriptions, licences).

use std::fmt;

/// One remark about a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Warning {
    /// The dotted path of the key, as it would be written in a table header.
    pub key: String,
    /// The line of the key, counted from one.
    pub line: usize,
    /// The bytes of the key in the manifest.
    pub span: std::ops::Range<usize>,
    /// What there is to say about it.
    pub kind: WarningKind,
}

/// What a [`Warning`] is about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WarningKind {
    /// No such key exists here; it has no effect.
    UnknownKey {
        /// A known key of nearly the same name.
        suggestion: Option<String>,
    },
    /// The key is known, but what it asks for is not done.
    NotHandled {
        /// What is missing because of it.
        consequence: &'static str,
    },
    /// The key still works but has a newer form.
    Deprecated {
        /// What to write instead.
        instead: &'static str,
    },
    /// Packages of the Python index are declared. They are not installed.
    PypiNotInstalled {
        /// The packages, as written.
        packages: Vec<String>,
    },
    /// A URL holds a user name, a password or a token. They were dropped.
    CredentialsInUrl,
    /// The URL of a repository holds a login. It is used, and kept nowhere else.
    LoginInUrl,
    /// A target table whose pattern matches none of the platforms.
    TargetMatchesNothing {
        /// The pattern.
        selector: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, line, kind, .. } = self;
        write!(f, "line {line}: ")?;
        match kind {
            WarningKind::UnknownKey { suggestion: None } => write!(f, "`{key}` is not a known key and has no effect"),
            WarningKind::UnknownKey { suggestion: Some(suggestion) } => {
                write!(f, "`{key}` is not a known key and has no effect; did you mean `{suggestion}`?")
            }
            WarningKind::NotHandled { consequence } => write!(f, "`{key}` is not handled: {consequence}"),
            WarningKind::Deprecated { instead } => write!(f, "`{key}` is deprecated, write {instead}"),
            WarningKind::PypiNotInstalled { packages } => {
                write!(f, "`{key}`: packages of the Python index are not installed")?;
                if !packages.is_empty() {
                    write!(f, " ({})", packages.join(", "))?;
                }
                Ok(())
            }
            WarningKind::CredentialsInUrl => write!(
                f,
                "the URL in `{key}` holds credentials, which are not used; keep them in the credential store instead"
            ),
            WarningKind::LoginInUrl => write!(
                f,
                "the URL in `{key}` holds a login, which everybody can read who can read this file; keep it in the \
                 credential store instead"
            ),
            WarningKind::TargetMatchesNothing { selector } => {
                write!(f, "`{key}`: no platform matches `{selector}`, so this table has no effect")
            }
        }
    }
}
