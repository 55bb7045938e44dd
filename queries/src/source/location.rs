//! Where sources are: as somebody says it, and pinned to what it means.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::source::git::Reference as GitReference;

/// Where sources are, as a manifest or a build backend says it.
///
/// Paths have forward slashes and no needless `.` and `..`. A relative one is relative to the workspace, unless whoever
/// has it says to what else. URLs have no credentials.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceLocation {
    /// A directory, or a manifest in it.
    Path {
        /// The path.
        path: String,
    },
    /// A git repository.
    Git {
        /// The repository.
        url: String,
        /// Which commit of it.
        reference: GitReference,
        /// The directory in it; empty for its top.
        subdirectory: String,
        /// Whether the files that git LFS keeps elsewhere are fetched.
        lfs: Option<bool>,
    },
    /// An archive.
    Url {
        /// The archive.
        url: String,
        /// What its SHA-256 has to be.
        sha256: Option<String>,
        /// What its MD5 has to be.
        md5: Option<String>,
        /// The directory in it; empty for its top.
        subdirectory: String,
    },
}

/// Where sources are, such that it means the same tomorrow; for a path as far as that can be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PinnedSource {
    /// A directory, or a manifest in it. What is there may change.
    Path {
        /// The path.
        path: String,
    },
    /// A commit.
    Git {
        /// The repository.
        url: String,
        /// The commit, in 40 hexadecimal digits.
        commit: String,
        /// What was asked for.
        reference: GitReference,
        /// The directory in it; empty for its top.
        subdirectory: String,
        /// Whether the files that git LFS keeps elsewhere are fetched.
        lfs: Option<bool>,
    },
    /// An archive of this content.
    Url {
        /// The archive.
        url: String,
        /// Its SHA-256.
        sha256: String,
        /// Its MD5, if that was asked for.
        md5: Option<String>,
        /// The directory in it; empty for its top.
        subdirectory: String,
    },
}

/// The names of files that are a manifest rather than a directory with one.
pub(crate) const MANIFESTS: [&str; 6] =
    ["pixi.toml", "pyproject.toml", "mojoproject.toml", "recipe.yaml", "recipe.yml", "package.xml"];

/// A path without needless `.` and `..`, with forward slashes; the empty path is `.`.
pub fn normalized(path: &str) -> String {
    let is_plain = |part: &str| !matches!(part, "" | "." | "..");
    if !path.contains('\\') && path.strip_prefix('/').unwrap_or(path).split('/').all(is_plain) {
        return path.to_owned();
    }
    let path = path.replace('\\', "/");
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => {
                    parts.pop();
                }
                _ if absolute => {}
                _ => parts.push(".."),
            },
            part => parts.push(part),
        }
    }
    match (absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// Whether a path is the same whatever it is said to be relative to.
pub(crate) fn is_absolute(path: &str) -> bool {
    let drive = |path: &str| path.as_bytes().get(1) == Some(&b':');
    path.starts_with('/') || path.starts_with('~') || drive(path)
}

/// Whether a normalized path leads out of where it begins.
pub(crate) fn leads_out(path: &str) -> bool {
    path == ".." || path.starts_with("../")
}

/// The directory that paths in a manifest are relative to.
fn base_directory(path: &str) -> &str {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    if MANIFESTS.contains(&name) { parent } else { path }
}

fn joined(base: &str, path: &str) -> String {
    let joined = format!("{}/{path}", base_directory(base));
    normalized(if base_directory(base).is_empty() { path } else { &joined })
}

/// Whether two paths may lead to the same manifest.
fn may_be_same(one: &str, other: &str) -> bool {
    let has_manifest = |path: &str| base_directory(path) != path;
    let (one, other) = match has_manifest(one) == has_manifest(other) {
        true => (one, other),
        false => (base_directory(one), base_directory(other)),
    };
    match (is_absolute(one), is_absolute(other)) {
        (true, false) => may_lead_to(other, one),
        (false, true) => may_lead_to(one, other),
        _ => normalized(one) == normalized(other),
    }
}

/// Whether a path from somewhere may be that path from the root.
fn may_lead_to(relative: &str, absolute: &str) -> bool {
    let parts = |path: &str| -> Vec<String> {
        path.split('/').filter(|part| !matches!(*part, "" | "." | "..")).map(str::to_owned).collect()
    };
    parts(absolute).ends_with(&parts(relative))
}

/// A directory in a checkout: as a path, with nothing for the top.
fn inside(path: String) -> String {
    if path == "." { String::new() } else { path }
}

/// The way from one directory to another, both relative to the same place; nothing if there is none.
fn way(from: &str, to: &str) -> Option<String> {
    if is_absolute(from) != is_absolute(to) {
        return is_absolute(to).then(|| to.to_owned());
    }
    let parts = |path: &str| path.split('/').filter(|part| !matches!(*part, "" | ".")).map(str::to_owned).collect();
    let (from, to): (Vec<String>, Vec<String>) = (parts(from), parts(to));
    let common = from.iter().zip(&to).take_while(|(from, to)| from == to).count();
    if from[common..].iter().any(|part| part == "..") {
        return None;
    }
    let up = std::iter::repeat_n("..", from.len() - common);
    let way: Vec<&str> = up.chain(to[common..].iter().map(String::as_str)).collect();
    Some(normalized(&way.join("/")))
}

impl SourceLocation {
    /// A path.
    pub fn path(path: &str) -> Self {
        Self::Path { path: normalized(path) }
    }

    /// What this means when a manifest at `base` says it. Only relative paths mean something else there.
    ///
    /// `None` if the path leads out of a checkout.
    pub fn resolved(&self, base: &PinnedSource) -> Option<Self> {
        let Self::Path { path } = self else { return Some(self.clone()) };
        if is_absolute(path) {
            return Some(self.clone());
        }
        let below = |subdirectory: &str| {
            let joined = inside(joined(subdirectory, path));
            (!leads_out(&joined)).then_some(joined)
        };
        Some(match base {
            PinnedSource::Path { path: base } => Self::Path { path: joined(base, path) },
            PinnedSource::Git { url, commit, subdirectory, lfs, .. } => Self::Git {
                url: url.clone(),
                reference: GitReference::Rev(commit.clone()),
                subdirectory: below(subdirectory)?,
                lfs: *lfs,
            },
            PinnedSource::Url { url, sha256, md5, subdirectory } => Self::Url {
                url: url.clone(),
                sha256: Some(sha256.clone()),
                md5: md5.clone(),
                subdirectory: below(subdirectory)?,
            },
        })
    }

    /// How a manifest at `base` would say this; nothing if it cannot.
    pub fn relative_to(&self, base: &PinnedSource) -> Option<Self> {
        let (Self::Path { path }, PinnedSource::Path { path: base }) = (self, base) else {
            return match self {
                Self::Path { path } => is_absolute(path).then(|| self.clone()),
                _ => Some(self.clone()),
            };
        };
        Some(Self::Path { path: way(base_directory(base), path)? })
    }

    /// Whether this is surely another place, whatever either stands for by now. Two references of one repository may stand
    /// for the same commit, and a path may be said from the root and from the workspace, or with the manifest in it.
    pub fn is_elsewhere(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Path { path }, Self::Path { path: other }) => !may_be_same(path, other),
            (
                Self::Git { url, subdirectory, lfs, .. },
                Self::Git { url: other, subdirectory: in_other, lfs: with, .. },
            ) => {
                canonical(url) != canonical(other)
                    || subdirectory != in_other
                    || lfs.unwrap_or(false) != with.unwrap_or(false)
            }
            (
                Self::Url { url, sha256, md5, subdirectory },
                Self::Url { url: other, sha256: hash, md5: other_md5, subdirectory: in_other },
            ) => {
                let differ = |one: &Option<String>, other: &Option<String>| {
                    one.as_ref().zip(other.as_ref()).is_some_and(|(one, other)| one != other)
                };
                url != other || subdirectory != in_other || differ(sha256, hash) || differ(md5, other_md5)
            }
            _ => true,
        }
    }

    /// Whether the pin is one of this location, whatever the location stands for by now.
    pub fn is_pinned_by(&self, pin: &PinnedSource) -> bool {
        match (self, pin) {
            (Self::Path { path }, PinnedSource::Path { path: pinned }) => path == pinned,
            (
                Self::Git { url, reference, subdirectory, lfs },
                PinnedSource::Git { url: pinned, commit, reference: asked, subdirectory: in_it, lfs: with },
            ) => {
                let is_commit = |rev: &String| rev.len() >= 7 && commit.starts_with(rev.as_str());
                let same_reference =
                    reference == asked || matches!(reference, GitReference::Rev(rev) if is_commit(rev));
                canonical(url) == canonical(pinned)
                    && same_reference
                    && subdirectory == in_it
                    && lfs.unwrap_or(false) == with.unwrap_or(false)
            }
            (
                Self::Url { url, sha256, md5, subdirectory },
                PinnedSource::Url { url: pinned, sha256: hash, md5: other, subdirectory: in_it },
            ) => {
                url == pinned
                    && sha256.as_ref().is_none_or(|wanted| wanted == hash)
                    && (md5.is_none() || md5 == other)
                    && subdirectory == in_it
            }
            _ => false,
        }
    }
}

/// What two addresses of one repository have in common.
fn canonical(url: &str) -> String {
    url.trim_end_matches('/').trim_end_matches(".git").to_ascii_lowercase()
}

impl PinnedSource {
    /// Whether the same is there, however it was asked for.
    pub fn is_same_source(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Git { commit, .. }, Self::Git { commit: other_commit, .. }) if commit != other_commit => false,
            _ => !self.location().is_elsewhere(&other.location()),
        }
    }

    /// What is there cannot change.
    pub fn is_immutable(&self) -> bool {
        !matches!(self, Self::Path { .. })
    }

    /// The place as somebody would say it who means just this.
    pub fn location(&self) -> SourceLocation {
        match self {
            Self::Path { path } => SourceLocation::Path { path: path.clone() },
            Self::Git { url, reference, subdirectory, lfs, .. } => SourceLocation::Git {
                url: url.clone(),
                reference: reference.clone(),
                subdirectory: subdirectory.clone(),
                lfs: *lfs,
            },
            Self::Url { url, sha256, md5, subdirectory } => SourceLocation::Url {
                url: url.clone(),
                sha256: Some(sha256.clone()),
                md5: md5.clone(),
                subdirectory: subdirectory.clone(),
            },
        }
    }

    /// A name for people and for directories: the last part of what it names.
    pub fn human_name(&self) -> &str {
        let last = |text: &'_ str| text.trim_end_matches('/').rsplit('/').next().unwrap_or_default().len();
        let whole =
            match self {
                Self::Path { path } => base_directory(path),
                Self::Git { url, subdirectory, .. } | Self::Url { url, subdirectory, .. } => {
                    if subdirectory.is_empty() { url.trim_end_matches(".git") } else { base_directory(subdirectory) }
                }
            };
        let whole = whole.trim_end_matches('/');
        &whole[whole.len() - last(whole)..]
    }
}

impl fmt::Display for SourceLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let within = |f: &mut fmt::Formatter<'_>, subdirectory: &str| {
            if subdirectory.is_empty() { Ok(()) } else { write!(f, ", in `{subdirectory}`") }
        };
        match self {
            Self::Path { path } => f.write_str(path),
            Self::Git { url, reference, subdirectory, .. } => {
                match reference {
                    GitReference::DefaultBranch => write!(f, "{url} at the default branch")?,
                    GitReference::Rev(rev) => write!(f, "{url} at revision `{rev}`")?,
                    named => write!(f, "{url} at {named}")?,
                }
                within(f, subdirectory)
            }
            Self::Url { url, subdirectory, .. } => {
                f.write_str(url)?;
                within(f, subdirectory)
            }
        }
    }
}

impl fmt::Display for PinnedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Git { url, commit, subdirectory, .. } => {
                write!(f, "{url} at {}", commit.get(..12).unwrap_or(commit))?;
                if subdirectory.is_empty() { Ok(()) } else { write!(f, ", in `{subdirectory}`") }
            }
            other => other.location().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> PinnedSource {
        PinnedSource::Path { path: path.to_owned() }
    }

    fn git(subdirectory: &str) -> PinnedSource {
        PinnedSource::Git {
            url: "file:///repository".to_owned(),
            commit: "0123456789012345678901234567890123456789".to_owned(),
            reference: GitReference::Branch("main".to_owned()),
            subdirectory: subdirectory.to_owned(),
            lfs: None,
        }
    }

    #[test]
    fn a_path_has_one_form_however_it_is_written() {
        for (written, form) in [
            ("./a", "a"),
            ("a/../b/./c/", "b/c"),
            ("../x", "../x"),
            ("a/../../x", "../x"),
            ("", "."),
            ("/a/../../b", "/b"),
            ("a\\b", "a/b"),
        ] {
            assert_eq!(normalized(written), form, "{written}");
        }
    }

    #[test]
    fn a_relative_path_is_relative_to_whoever_says_it() {
        let said = SourceLocation::path("../b");
        assert_eq!(said.resolved(&path("pkgs/a")), Some(SourceLocation::path("pkgs/b")));
        assert_eq!(said.resolved(&path("pkgs/a/recipe.yaml")), Some(SourceLocation::path("pkgs/b")));
        assert_eq!(said.resolved(&path(".")), Some(SourceLocation::path("../b")));
        assert_eq!(SourceLocation::path("/b").resolved(&path("pkgs/a")), Some(SourceLocation::path("/b")));
        let Some(SourceLocation::Git { subdirectory, reference, .. }) = said.resolved(&git("pkgs/a")) else {
            panic!("a path in a repository is in the repository");
        };
        assert_eq!(subdirectory, "pkgs/b");
        assert_eq!(reference, GitReference::Rev("0123456789012345678901234567890123456789".to_owned()));
    }

    #[test]
    fn a_path_does_not_lead_out_of_a_checkout() {
        assert_eq!(SourceLocation::path("../../b").resolved(&git("a")), None);
        assert_eq!(SourceLocation::path("..").resolved(&git("")), None);
        assert!(SourceLocation::path("..").resolved(&git("a")).is_some());
    }

    #[test]
    fn what_was_resolved_can_be_said_relative_again() {
        for (base, place) in [("a", "b"), ("a/b", "a/c"), (".", "x/y"), ("a", "../b"), ("a/recipe.yaml", "b")] {
            let (base, place) = (path(base), SourceLocation::path(place));
            let said = place.relative_to(&base).expect("there is a way");
            assert_eq!(said.resolved(&base), Some(place), "{base}");
        }
        assert_eq!(SourceLocation::path("a").relative_to(&path("../b")), None, "what `..` is called is not known");
    }

    #[test]
    fn a_pin_is_of_the_location_that_asked_for_it() {
        let SourceLocation::Git { url, subdirectory, lfs, .. } = git("a").location() else { panic!("it is git") };
        let asking = |reference| SourceLocation::Git {
            url: format!("{url}.git"),
            reference,
            subdirectory: subdirectory.clone(),
            lfs,
        };
        assert!(asking(GitReference::Branch("main".to_owned())).is_pinned_by(&git("a")));
        assert!(asking(GitReference::Rev("0123456".to_owned())).is_pinned_by(&git("a")));
        assert!(!asking(GitReference::DefaultBranch).is_pinned_by(&git("a")));
        assert!(!asking(GitReference::Branch("main".to_owned())).is_pinned_by(&git("b")));
    }

    #[test]
    fn only_what_is_surely_another_place_is_elsewhere() {
        let elsewhere = |one: &str, other: &str| SourceLocation::path(one).is_elsewhere(&SourceLocation::path(other));
        for (one, other) in [("a", "a"), ("a/pixi.toml", "a"), ("/w/x/a", "x/a"), ("../a", "/a"), (".", "pixi.toml")] {
            assert!(!elsewhere(one, other) && !elsewhere(other, one), "{one} {other}");
        }
        for (one, other) in
            [("a", "b"), ("a/pixi.toml", "a/recipe.yaml"), ("/w/x/a", "y/a"), ("/a", "/b"), ("a", "../a")]
        {
            assert!(elsewhere(one, other) && elsewhere(other, one), "{one} {other}");
        }
        let asking = |reference| SourceLocation::Git {
            url: "https://host/repository".to_owned(),
            reference,
            subdirectory: "a".to_owned(),
            lfs: None,
        };
        let main = asking(GitReference::Branch("main".to_owned()));
        assert!(!main.is_elsewhere(&asking(GitReference::DefaultBranch)));
        assert!(main.is_elsewhere(&SourceLocation::path("a")));
        assert!(git("a").is_same_source(&git("a")) && !git("a").is_same_source(&git("b")));
    }

    #[test]
    fn a_source_is_named_by_its_last_part() {
        assert_eq!(path("pkgs/one").human_name(), "one");
        assert_eq!(path("pkgs/one/recipe.yaml").human_name(), "one");
        assert_eq!(git("").human_name(), "repository");
        assert_eq!(git("pkgs/one").human_name(), "one");
    }
}
