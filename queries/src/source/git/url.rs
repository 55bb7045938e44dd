//! Addresses of repositories.
//!
//! An address never holds a password, so it may be shown, stored and hashed. Two spellings of one address are equal;
//! what is asked of the remote is the spelling that was given, for some servers want their `.git`.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use gix::bstr::BString;
use gix::url::Scheme;
use serde::{Deserialize, Serialize};
use url::Url;

use super::error::GitError;
use crate::redact::text_without_credentials;

/// The address of a git repository, without credentials.
///
/// Equality, order and hash are those of the [canonical form](Self::canonical): the case of the host (on github.com of
/// the whole path), a final slash, a final `.git`, the default port and the user do not matter. Serialized is the
/// spelling that was given, without what must not be kept.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryUrl(Arc<Address>);

struct Address {
    url: Url,
    canonical: Url,
}

impl RepositoryUrl {
    /// Reads an address.
    ///
    /// Understood are `https`, `http`, `ssh`, `git` and `file` URLs, each also with `git+` before it, the short form of
    /// ssh (`git@host:owner/name`, a path from the root of the server), and absolute local paths. Query and fragment
    /// are dropped, and so are user and password; only ssh keeps its user, which is part of the address there.
    ///
    /// # Errors
    ///
    /// If it is no address, or if nobody here speaks its scheme.
    pub fn parse(text: &str) -> Result<Self, GitError> {
        let malformed = |reason: &'static str| GitError::MalformedUrl { text: shown(text), reason };
        let path = Path::new(text);
        let mut url = if path.is_absolute() {
            Url::from_file_path(path).map_err(|()| malformed("it is not an absolute path"))?
        } else if let Some((host, path)) = short_ssh_form(text) {
            let path = path.trim_start_matches('/');
            Url::parse(&format!("ssh://{host}/{path}")).map_err(|_| malformed("it is not a URL"))?
        } else {
            Url::parse(text.strip_prefix("git+").unwrap_or(text))
                .map_err(|_| malformed("it is neither a URL nor an absolute path"))?
        };
        match url.scheme() {
            "https" | "http" | "ssh" | "git" => {
                if url.host_str().is_none_or(str::is_empty) {
                    return Err(malformed("it has no host"));
                }
            }
            "file" => {
                if url.to_file_path().is_err() {
                    return Err(malformed("it is not the URL of a local directory"));
                }
            }
            _ => return Err(malformed("the scheme must be https, http, ssh, git or file")),
        }
        url.set_query(None);
        url.set_fragment(None);
        // These fail only for URLs without a host, which have no credentials.
        let _ = url.set_password(None);
        if url.scheme() != "ssh" {
            let _ = url.set_username("");
        }
        let canonical = canonical(&url);
        Ok(Self(Arc::new(Address { url, canonical })))
    }

    /// The form in which all spellings of one address are the same.
    pub fn canonical(&self) -> &Url {
        &self.0.canonical
    }

    /// A short name for directories that belong to this repository: the same for all spellings.
    pub fn digest(&self) -> String {
        let mut hasher = gix::hash::hasher(gix::hash::Kind::Sha1);
        hasher.update(self.0.canonical.as_str().as_bytes());
        let mut digest = match hasher.try_finalize() {
            Ok(id) => id.to_string(),
            // The hasher refuses texts that were made to collide: such an address does not get a name of its own.
            Err(_) => gix::ObjectId::null(gix::hash::Kind::Sha1).to_string(),
        };
        digest.truncate(16);
        digest
    }

    /// Whether the repository is on this machine.
    pub fn is_local(&self) -> bool {
        self.0.url.scheme() == "file"
    }

    /// The local directory, if it is one.
    pub fn local_path(&self) -> Option<PathBuf> {
        self.is_local().then(|| self.0.url.to_file_path().ok()).flatten()
    }

    /// The address as it was given.
    pub fn as_str(&self) -> &str {
        self.0.url.as_str()
    }

    pub(super) fn scheme(&self) -> &str {
        self.0.url.scheme()
    }

    /// Whether a repository at this address may have `submodule` as a submodule: what comes from the network must not
    /// make us read repositories of this machine.
    pub(super) fn may_contain(&self, submodule: &Self) -> bool {
        self.is_local() || !submodule.is_local()
    }

    /// The address that `.gitmodules` of this repository means by `text`: one that begins with `./` or `../` is
    /// relative to this address, one directory per `../`, as git has it.
    pub(super) fn submodule(&self, text: &str) -> Result<Self, GitError> {
        if !text.starts_with("./") && !text.starts_with("../") {
            return Self::parse(text);
        }
        let malformed = || GitError::MalformedUrl { text: shown(text), reason: "it leads out of its server" };
        let mut base = self.0.url.path().trim_end_matches('/');
        let mut rest = text;
        loop {
            if let Some(after) = rest.strip_prefix("../") {
                base = base.rsplit_once('/').ok_or_else(malformed)?.0;
                rest = after;
            } else if let Some(after) = rest.strip_prefix("./") {
                rest = after;
            } else {
                break;
            }
        }
        // A path with more of them would be resolved by `url`, past what was checked above.
        if rest.split('/').any(|part| part == "..") {
            return Err(malformed());
        }
        let mut url = self.0.url.clone();
        url.set_path(&format!("{base}/{}", rest.trim_end_matches('/')));
        Self::parse(url.as_str())
    }

    pub(super) fn to_gix(&self) -> gix::Result<gix::Url> {
        match self.local_path() {
            Some(path) => {
                let path: BString = gix::path::into_bstr(path)?.into_owned();
                gix::Url::from_parts(Scheme::File, None, None, None, None, path, true)
            }
            None => gix::url::parse(self.0.url.as_str()),
        }
    }
}

/// A text that is no address, as it may be shown. What has no `://` may have credentials too: a typing error.
fn shown(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((_, host)) if !text.contains("://") => host.to_owned(),
        _ => text_without_credentials(text).into_owned(),
    }
}

/// `host:path` and `user@host:path`, as scp and git have it. A single letter before the colon is a drive.
fn short_ssh_form(text: &str) -> Option<(&str, &str)> {
    let (host, path) = text.split_once(':')?;
    let is_host = host.len() > 1 && !host.contains(['/', '\\']) && !path.starts_with("//") && !path.is_empty();
    // Otherwise every text with a colon would be one; what has no user is taken for a URL.
    (is_host && host.contains('@') && !host.starts_with('-')).then_some((host, path))
}

fn canonical(url: &Url) -> Url {
    let mut url = url.clone();
    let _ = url.set_username("");
    if let Some(host) = url.host_str().map(str::to_ascii_lowercase) {
        let _ = url.set_host(Some(&host));
    }
    // `url` knows the default ports of http(s) only.
    if matches!((url.scheme(), url.port()), ("ssh", Some(22)) | ("git", Some(9418))) {
        let _ = url.set_port(None);
    }
    let path = url.path().trim_end_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path).trim_end_matches('/');
    // GitHub takes `Owner/Name` and `owner/name` for the same.
    let path = if url.host_str() == Some("github.com") { path.to_ascii_lowercase() } else { path.to_owned() };
    url.set_path(&path);
    url
}

impl PartialEq for RepositoryUrl {
    fn eq(&self, other: &Self) -> bool {
        self.0.canonical == other.0.canonical
    }
}

impl Eq for RepositoryUrl {}

impl PartialOrd for RepositoryUrl {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for RepositoryUrl {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.canonical.cmp(&other.0.canonical)
    }
}

impl Hash for RepositoryUrl {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.canonical.hash(state);
    }
}

impl fmt::Debug for RepositoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for RepositoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.url.as_str())
    }
}

impl FromStr for RepositoryUrl {
    type Err = GitError;

    fn from_str(text: &str) -> Result<Self, GitError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for RepositoryUrl {
    type Error = GitError;

    fn try_from(text: String) -> Result<Self, GitError> {
        Self::parse(&text)
    }
}

impl From<RepositoryUrl> for String {
    fn from(url: RepositoryUrl) -> Self {
        url.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> RepositoryUrl {
        RepositoryUrl::parse(text).expect("it is an address")
    }

    #[test]
    fn spellings_of_one_address_are_equal() {
        for (one, other) in [
            ("https://GitHub.com/Owner/Name.git", "https://github.com/owner/name"),
            ("https://example.com/a/B.git/", "https://EXAMPLE.com/a/B"),
            ("https://me:secret@example.com/a/b", "https://example.com/a/b.git"),
            ("https://example.com:443/a/b", "https://example.com/a/b"),
            ("git+https://example.com/a/b?rev=x#y", "https://example.com/a/b"),
            ("git@example.com:a/b.git", "ssh://Example.com:22/a/b"),
            ("/srv/repositories/b/", "file:///srv/repositories/b.git"),
        ] {
            assert_eq!(url(one), url(other), "{one} and {other}");
            assert_eq!(url(one).digest(), url(other).digest(), "{one} and {other}");
        }
    }

    #[test]
    fn different_addresses_are_not_equal() {
        for (one, other) in [
            ("https://example.com/a/B", "https://example.com/a/b"),
            ("https://example.com/a/b", "http://example.com/a/b"),
            ("https://example.com:8443/a/b", "https://example.com/a/b"),
            ("https://example.com/a/b", "https://example.org/a/b"),
        ] {
            assert_ne!(url(one), url(other), "{one} and {other}");
            assert_ne!(url(one).digest(), url(other).digest(), "{one} and {other}");
        }
    }

    #[test]
    fn credentials_are_dropped_and_a_user_of_ssh_stays() {
        assert_eq!(url("https://me:secret@example.com/a.git").to_string(), "https://example.com/a.git");
        assert_eq!(url("https://token@example.com/a.git").to_string(), "https://example.com/a.git");
        assert_eq!(url("ssh://git:secret@example.com/a.git").to_string(), "ssh://git@example.com/a.git");
        assert_eq!(url("git@example.com:a.git").to_string(), "ssh://git@example.com/a.git");
        for text in ["ftp://me:secret@example.com/a", "me:secret@example.com:a", "https:me:secret@"] {
            let error = RepositoryUrl::parse(text).expect_err("it is no address");
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "a/b", "../b", "C:a", "https://", "ext::sh -c x", "ftp://example.com/a", "-oProxy@h:p"] {
            assert!(RepositoryUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_relative_address_of_a_submodule_is_relative_to_its_parent() {
        for (parent, text, expected) in [
            ("https://example.com/org/super.git", "../sub.git", "https://example.com/org/sub.git"),
            ("https://example.com/org/super.git/", "./sub", "https://example.com/org/super.git/sub"),
            ("ssh://git@example.com/org/super", "../../other/sub/", "ssh://git@example.com/other/sub"),
            ("/srv/git/super", "../sub", "file:///srv/git/sub"),
            ("https://example.com/org/super", "https://example.org/x", "https://example.org/x"),
        ] {
            let submodule = url(parent).submodule(text).expect("it is an address");
            assert_eq!(submodule.to_string(), expected, "{parent} and {text}");
        }
        for (parent, text) in [
            ("https://example.com/org/super", "../../../x"),
            ("https://example.com/org/super", "../x/../../../y"),
            ("https://example.com/org/super", "x/y"),
            ("https://example.com/org/super", "-u"),
        ] {
            assert!(url(parent).submodule(text).is_err(), "{parent} and {text}");
        }
    }

    #[test]
    fn what_comes_from_the_network_has_no_local_submodules() {
        let (local, remote) = (url("/srv/a"), url("https://example.com/a"));
        assert!(!remote.may_contain(&local));
        assert!(remote.may_contain(&url("ssh://git@example.com/a")));
        assert!(local.may_contain(&local) && local.may_contain(&remote));
    }
}
