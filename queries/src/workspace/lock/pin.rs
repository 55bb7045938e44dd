//! How places of sources are written in a lock file.
//!
//! The place of a manifest is part of the name of an entry: a path as it is; `git+URL?subdirectory=…&branch=…#COMMIT`,
//! with `tag` or `rev` in the place of `branch` and with `lfs`; `URL#sha256=…&md5=…&subdirectory=…` for an archive.
//! The library takes every `file:` URL for a path and forgets the rest of it, so an archive of this machine is written
//! as `url+file:`.
//!
//! The place of the sources, if it is another one, has a table of its own. A path in it is seen from the manifest, and
//! if that is in a checkout, the path is in the same. The table has no room for all that is known: whether files of LFS
//! are fetched and what the MD5 of an archive is go into the fragment of the URL, which nobody sends; of a revision
//! that was asked for only the whole commit stays.

use rattler_digest::{Md5, Sha256, parse_digest_from_hex};
use rattler_lock::source::{GitSourceLocation, PathSourceLocation, UrlSourceLocation};
use rattler_lock::{GitShallowSpec, PackageBuildSource, UrlOrPath};
use thiserror::Error;
use url::{ParseError, Url, form_urlencoded};

use crate::redact::without_credentials;
use crate::source::{GitReference, PinnedSource, SourceLocation, is_absolute, leads_out, normalized};

/// Why what a lock file says of a package that is built from source cannot be understood, or cannot be said in one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SourceFormError {
    /// A repository or an archive is nowhere.
    #[error("`{text}` is not a URL")]
    NotAUrl {
        /// What is there in its place.
        text: String,
        /// Why it is none.
        #[source]
        source: ParseError,
    },
    /// A repository without a commit, or with half of one.
    #[error("`{url}` names no commit")]
    NoCommit {
        /// The repository.
        url: String,
    },
    /// It is not clear what was asked for.
    #[error("`{url}` names more than one of branch, tag and revision")]
    TwoReferences {
        /// The repository.
        url: String,
    },
    /// Something else where it is said whether files of LFS are fetched.
    #[error("`lfs` is `{text}`, which is neither `true` nor `false`")]
    NotAFlag {
        /// What is said.
        text: String,
    },
    /// An archive that could be anything.
    #[error("`{url}` has no SHA-256")]
    NoHash {
        /// The archive.
        url: String,
    },
    /// Something else where a hash should be.
    #[error("`{text}` is not a hash")]
    NotAHash {
        /// What is there.
        text: String,
    },
    /// A path in a checkout that is not in it.
    #[error("the path `{path}` leads out of its checkout")]
    OutOfCheckout {
        /// The path.
        path: String,
    },
    /// A path that cannot be said as seen from the manifest.
    #[error("there is no way from `{manifest}` to `{path}`")]
    NoWay {
        /// Where the manifest is.
        manifest: String,
        /// Where the sources are.
        path: String,
    },
    /// A package that cannot be called so.
    #[error("`{name}` is not the name of a package")]
    NotAName {
        /// The name.
        name: String,
    },
    /// It is among what is installed to build it.
    #[error("it is needed to build itself")]
    NeededByItself,
}

/// What stands in front of the URL of a repository.
const GIT: &str = "git+";
/// What stands in front of the URL of an archive of this machine.
const ARCHIVE: &str = "url+";
/// What in the query of a repository is about the pin.
const PIN_KEYS: [&str; 5] = ["subdirectory", "branch", "tag", "rev", "lfs"];

/// The place of a manifest, as it is written behind the name of a package.
pub(super) fn written_pin(pin: &PinnedSource) -> Result<UrlOrPath, SourceFormError> {
    match pin {
        PinnedSource::Path { path } => Ok(UrlOrPath::Path(unmistakable(path).into())),
        PinnedSource::Git { url, commit, reference, subdirectory, lfs } => {
            let mut url = clean_url(url)?;
            let mut pairs = Pairs(kept_query(&url));
            pairs.push_unless_empty("subdirectory", subdirectory);
            match reference {
                GitReference::DefaultBranch => {}
                GitReference::Branch(name) => pairs.push("branch", name),
                GitReference::Tag(name) => pairs.push("tag", name),
                GitReference::Rev(rev) => pairs.push("rev", rev),
            }
            if let Some(lfs) = lfs {
                pairs.push("lfs", if *lfs { "true" } else { "false" });
            }
            url.set_query(pairs.text());
            url.set_fragment(Some(commit));
            prefixed(GIT, &url).map(UrlOrPath::Url)
        }
        PinnedSource::Url { url, sha256, md5, subdirectory } => {
            let mut url = clean_url(url)?;
            let mut pairs = Pairs(String::new());
            pairs.push("sha256", sha256);
            pairs.push_unless_empty("md5", md5.as_deref().unwrap_or_default());
            pairs.push_unless_empty("subdirectory", subdirectory);
            url.set_fragment(pairs.text());
            Ok(UrlOrPath::Url(if url.scheme() == "file" { prefixed(ARCHIVE, &url)? } else { url }))
        }
    }
}

/// What [`written_pin`] wrote.
pub(super) fn read_pin(written: &UrlOrPath) -> Result<PinnedSource, SourceFormError> {
    let written = written.normalize();
    let url = match written.as_ref() {
        UrlOrPath::Path(path) => return Ok(PinnedSource::Path { path: normalized(path.as_str()) }),
        UrlOrPath::Url(url) => url,
    };
    match url.as_str().strip_prefix(GIT) {
        Some(repository) => read_git(&clean_url_with_fragment(repository)?),
        None => {
            let archive = url.as_str().strip_prefix(ARCHIVE).unwrap_or(url.as_str());
            read_archive(&clean_url_with_fragment(archive)?)
        }
    }
}

fn read_git(url: &Url) -> Result<PinnedSource, SourceFormError> {
    let commit = read_commit(url.fragment().unwrap_or_default(), url)?;
    let mut reference = None;
    let (mut subdirectory, mut lfs) = (String::new(), None);
    for (key, value) in url.query_pairs() {
        let asked = match key.as_ref() {
            "branch" => GitReference::Branch(value.into_owned()),
            "tag" => GitReference::Tag(value.into_owned()),
            "rev" => GitReference::Rev(value.into_owned()),
            "subdirectory" => {
                subdirectory = directory_in(&value)?;
                continue;
            }
            "lfs" => {
                lfs = Some(read_flag(&value)?);
                continue;
            }
            _ => continue,
        };
        if reference.replace(asked).is_some() {
            return Err(SourceFormError::TwoReferences { url: url.to_string() });
        }
    }
    let mut repository = url.clone();
    repository.set_fragment(None);
    repository.set_query(Pairs(kept_query(url)).text());
    let reference = reference.unwrap_or_default();
    Ok(PinnedSource::Git { url: repository.into(), commit, reference, subdirectory, lfs })
}

fn read_archive(url: &Url) -> Result<PinnedSource, SourceFormError> {
    let (mut sha256, mut md5, mut subdirectory) = (None, None, String::new());
    for (key, value) in form_urlencoded::parse(url.fragment().unwrap_or_default().as_bytes()) {
        match key.as_ref() {
            "sha256" => sha256 = Some(read_hash(&value, 64)?),
            "md5" => md5 = Some(read_hash(&value, 32)?),
            "subdirectory" => subdirectory = directory_in(&value)?,
            _ => {}
        }
    }
    let mut archive = url.clone();
    archive.set_fragment(None);
    let sha256 = sha256.ok_or_else(|| SourceFormError::NoHash { url: archive.to_string() })?;
    Ok(PinnedSource::Url { url: archive.into(), sha256, md5, subdirectory })
}

/// The place of the sources of a package whose manifest is elsewhere.
pub(super) fn written_build_source(
    build: &PinnedSource,
    manifest: &PinnedSource,
) -> Result<PackageBuildSource, SourceFormError> {
    if let Some(path) = path_from(manifest, build) {
        return Ok(PackageBuildSource::Path { path: path.into() });
    }
    match build {
        PinnedSource::Path { path } => {
            Err(SourceFormError::NoWay { manifest: manifest.to_string(), path: path.clone() })
        }
        PinnedSource::Git { url, commit, reference, subdirectory, lfs } => {
            let mut url = clean_url(url)?;
            if let Some(lfs) = lfs {
                url.set_fragment(Some(if *lfs { "lfs=true" } else { "lfs=false" }));
            }
            let spec = match reference {
                GitReference::DefaultBranch => None,
                GitReference::Branch(name) => Some(GitShallowSpec::Branch(name.clone())),
                GitReference::Tag(name) => Some(GitShallowSpec::Tag(name.clone())),
                GitReference::Rev(_) => Some(GitShallowSpec::Rev),
            };
            let subdir = unless_empty(subdirectory).map(Into::into);
            Ok(PackageBuildSource::Git { url, spec, rev: commit.clone(), subdir })
        }
        PinnedSource::Url { url, sha256, md5, subdirectory } => {
            let mut url = clean_url(url)?;
            url.set_fragment(md5.as_ref().map(|md5| format!("md5={md5}")).as_deref());
            let not_a_hash = || SourceFormError::NotAHash { text: sha256.clone() };
            let sha256 = parse_digest_from_hex::<Sha256>(sha256).ok_or_else(not_a_hash)?;
            Ok(PackageBuildSource::Url { url, sha256, subdir: unless_empty(subdirectory).map(Into::into) })
        }
    }
}

/// What [`written_build_source`] wrote.
pub(super) fn read_build_source(
    written: &PackageBuildSource,
    manifest: &PinnedSource,
) -> Result<PinnedSource, SourceFormError> {
    match written {
        PackageBuildSource::Path { path } => seen_from(manifest, path.as_str())
            .ok_or_else(|| SourceFormError::OutOfCheckout { path: path.as_str().to_owned() }),
        PackageBuildSource::Git { url, spec, rev, subdir } => {
            let (url, fragment) = plain_url(url)?;
            let commit = read_commit(rev, &url)?;
            let mut lfs = None;
            for (key, value) in form_urlencoded::parse(fragment.as_bytes()) {
                if key == "lfs" {
                    lfs = Some(read_flag(&value)?);
                }
            }
            let reference = match spec {
                None => GitReference::DefaultBranch,
                Some(GitShallowSpec::Branch(name)) => GitReference::Branch(name.clone()),
                Some(GitShallowSpec::Tag(name)) => GitReference::Tag(name.clone()),
                Some(GitShallowSpec::Rev) => GitReference::Rev(commit.clone()),
            };
            let subdirectory = directory_in(subdir.as_ref().map(|path| path.as_str()).unwrap_or_default())?;
            Ok(PinnedSource::Git { url: url.into(), commit, reference, subdirectory, lfs })
        }
        PackageBuildSource::Url { url, sha256, subdir } => {
            let (url, fragment) = plain_url(url)?;
            let mut md5 = None;
            for (key, value) in form_urlencoded::parse(fragment.as_bytes()) {
                if key == "md5" {
                    md5 = Some(read_hash(&value, 32)?);
                }
            }
            let subdirectory = directory_in(subdir.as_ref().map(|path| path.as_str()).unwrap_or_default())?;
            Ok(PinnedSource::Url { url: url.into(), sha256: hex::encode(sha256), md5, subdirectory })
        }
    }
}

/// How a manifest says where its sources are, if a path does.
fn path_from(manifest: &PinnedSource, build: &PinnedSource) -> Option<String> {
    let way = |from: &str, to: &str| match SourceLocation::path(to)
        .relative_to(&PinnedSource::Path { path: normalized(from) })
    {
        Some(SourceLocation::Path { path }) => Some(path),
        _ => None,
    };
    let (relative, itself) = match (manifest, build) {
        (PinnedSource::Path { path: manifest }, PinnedSource::Path { path }) => (way(manifest, path), Some(path)),
        (_, PinnedSource::Path { path }) => (None, Some(path)),
        (PinnedSource::Git { subdirectory: from, .. }, PinnedSource::Git { subdirectory: to, .. })
        | (PinnedSource::Url { subdirectory: from, .. }, PinnedSource::Url { subdirectory: to, .. }) => {
            (way(from, to), None)
        }
        _ => (None, None),
    };
    // What is read again decides: some paths mean something else where they are written.
    let candidates = relative.into_iter().chain(itself.cloned());
    candidates.into_iter().find(|path| seen_from(manifest, path).as_ref() == Some(build))
}

/// What a path means to a manifest.
fn seen_from(manifest: &PinnedSource, path: &str) -> Option<PinnedSource> {
    Some(match (SourceLocation::path(path).resolved(manifest)?, manifest) {
        (SourceLocation::Path { path }, _) => PinnedSource::Path { path },
        (SourceLocation::Git { url, reference, subdirectory, lfs }, PinnedSource::Git { commit, .. }) => {
            PinnedSource::Git { url, commit: commit.clone(), reference, subdirectory, lfs }
        }
        (SourceLocation::Url { url, md5, subdirectory, .. }, PinnedSource::Url { sha256, .. }) => {
            PinnedSource::Url { url, sha256: sha256.clone(), md5, subdirectory }
        }
        _ => return None,
    })
}

/// The place of a dependency that is built, too.
pub(super) fn written_location(
    location: &SourceLocation,
) -> Result<rattler_lock::source::SourceLocation, SourceFormError> {
    use rattler_lock::source::{GitReference as Written, SourceLocation as Place};
    Ok(match location {
        SourceLocation::Path { path } => Place::Path(PathSourceLocation { path: path.clone().into() }),
        SourceLocation::Git { url, reference, subdirectory, lfs } => {
            let rev = match reference {
                GitReference::DefaultBranch => None,
                GitReference::Branch(name) => Some(Written::Branch(name.clone())),
                GitReference::Tag(name) => Some(Written::Tag(name.clone())),
                GitReference::Rev(rev) => Some(Written::Rev(rev.clone())),
            };
            let subdirectory = unless_empty(subdirectory);
            Place::Git(GitSourceLocation { git: clean_url(url)?, rev, subdirectory, lfs: *lfs })
        }
        SourceLocation::Url { url, sha256: written_sha256, md5: written_md5, subdirectory } => {
            let not_a_hash = |text: &str| SourceFormError::NotAHash { text: text.to_owned() };
            let sha256 = |text: &String| parse_digest_from_hex::<Sha256>(text).ok_or_else(|| not_a_hash(text));
            let md5 = |text: &String| parse_digest_from_hex::<Md5>(text).ok_or_else(|| not_a_hash(text));
            Place::Url(UrlSourceLocation {
                url: clean_url(url)?,
                md5: written_md5.as_ref().map(md5).transpose()?,
                sha256: written_sha256.as_ref().map(sha256).transpose()?,
                subdirectory: unless_empty(subdirectory),
            })
        }
    })
}

/// What [`written_location`] wrote.
pub(super) fn read_location(written: &rattler_lock::source::SourceLocation) -> Result<SourceLocation, SourceFormError> {
    use rattler_lock::source::{GitReference as Written, SourceLocation as Place};
    Ok(match written {
        Place::Path(place) => SourceLocation::path(place.path.as_str()),
        Place::Git(place) => SourceLocation::Git {
            url: plain_url(&place.git)?.0.into(),
            reference: match &place.rev {
                None => GitReference::DefaultBranch,
                Some(Written::Branch(name)) => GitReference::Branch(name.clone()),
                Some(Written::Tag(name)) => GitReference::Tag(name.clone()),
                Some(Written::Rev(rev)) => GitReference::Rev(rev.clone()),
            },
            subdirectory: directory_in(place.subdirectory.as_deref().unwrap_or_default())?,
            lfs: place.lfs,
        },
        Place::Url(place) => SourceLocation::Url {
            url: plain_url(&place.url)?.0.into(),
            sha256: place.sha256.as_ref().map(hex::encode),
            md5: place.md5.as_ref().map(hex::encode),
            subdirectory: directory_in(place.subdirectory.as_deref().unwrap_or_default())?,
        },
    })
}

/// The pieces of a query or a fragment.
struct Pairs(String);

impl Pairs {
    fn push(&mut self, key: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(key);
        self.0.push('=');
        self.0.extend(form_urlencoded::byte_serialize(value.as_bytes()));
    }

    fn push_unless_empty(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.push(key, value);
        }
    }

    fn text(&self) -> Option<&str> {
        Some(self.0.as_str()).filter(|text| !text.is_empty())
    }
}

/// What of a query is about the repository, letter by letter.
fn kept_query(url: &Url) -> String {
    let is_kept = |piece: &&str| {
        let key = form_urlencoded::parse(piece.as_bytes()).next().map(|(key, _)| key.into_owned());
        key.is_some_and(|key| !PIN_KEYS.contains(&key.as_str()))
    };
    url.query().unwrap_or_default().split('&').filter(is_kept).collect::<Vec<_>>().join("&")
}

/// A path that is not taken for a URL.
fn unmistakable(path: &str) -> String {
    match Url::parse(path) {
        Err(ParseError::RelativeUrlWithoutBase) => path.to_owned(),
        _ if is_absolute(path) => path.to_owned(),
        _ => format!("./{path}"),
    }
}

fn clean_url_with_fragment(text: &str) -> Result<Url, SourceFormError> {
    match Url::parse(text) {
        Ok(url) => Ok(without_credentials(&url)),
        Err(source) => Err(SourceFormError::NotAUrl { text: text.to_owned(), source }),
    }
}

/// A URL without credentials and without its fragment, which is not sent to anybody.
fn clean_url(text: &str) -> Result<Url, SourceFormError> {
    let mut url = clean_url_with_fragment(text)?;
    url.set_fragment(None);
    Ok(url)
}

/// A URL of a table, and its fragment.
fn plain_url(url: &Url) -> Result<(Url, String), SourceFormError> {
    let mut plain = clean_url_with_fragment(url.as_str().strip_prefix(GIT).unwrap_or(url.as_str()))?;
    plain.set_fragment(None);
    Ok((plain, url.fragment().unwrap_or_default().to_owned()))
}

fn prefixed(prefix: &str, url: &Url) -> Result<Url, SourceFormError> {
    let text = format!("{prefix}{url}");
    Url::parse(&text).map_err(|source| SourceFormError::NotAUrl { text, source })
}

fn read_commit(text: &str, url: &Url) -> Result<String, SourceFormError> {
    if text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(SourceFormError::NoCommit { url: url.to_string() })
}

fn read_hash(text: &str, digits: usize) -> Result<String, SourceFormError> {
    if text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(SourceFormError::NotAHash { text: text.to_owned() })
}

fn read_flag(text: &str) -> Result<bool, SourceFormError> {
    text.parse().map_err(|_| SourceFormError::NotAFlag { text: text.to_owned() })
}

/// A directory in a checkout; empty for its top.
fn directory_in(path: &str) -> Result<String, SourceFormError> {
    match normalized(path) {
        top if top == "." => Ok(String::new()),
        out if out.starts_with('/') || leads_out(&out) => Err(SourceFormError::OutOfCheckout { path: path.to_owned() }),
        path => Ok(path),
    }
}

fn unless_empty(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}
