//! Where a channel or a package archive is, written so that it survives a move of the workspace.
//!
//! A place inside the workspace is known by its path relative to the root; everything else by an absolute URL.
//! So what is keyed by a [`Location`] is the same in another checkout and on another machine.
//!
//! **Invariant:** a location never carries credentials. User, password and the `/t/TOKEN/` prefix of a channel URL
//! are dropped when the location is made, and the maker is told so.
//!
//! Nothing here looks at the disk: paths are normalised by their text, symbolic links are not followed.

use std::{
    fmt,
    path::{Component, Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::Url;

/// The directory of a workspace, absolute and without `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WorkspaceRoot {
    path: PathBuf,
    url: Url,
}

/// A workspace root that is not an absolute path.
#[derive(Debug, Clone, Error)]
#[error("the workspace root `{}` is not an absolute path", path.display())]
#[non_exhaustive]
pub struct RootNotAbsolute {
    /// The path that was given.
    pub path: PathBuf,
}

impl WorkspaceRoot {
    /// Takes an absolute directory as root. The disk is not consulted.
    ///
    /// # Errors
    ///
    /// If the path is not absolute: what it means would then depend on the working directory.
    pub fn new(path: impl AsRef<Path>) -> Result<Self, RootNotAbsolute> {
        let path = path.as_ref();
        if !path.is_absolute() {
            return Err(RootNotAbsolute { path: path.to_owned() });
        }
        let path = normalise(path);
        match Url::from_directory_path(&path) {
            Ok(url) => Ok(Self { path, url }),
            Err(()) => Err(RootNotAbsolute { path }),
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory as a `file://` URL with a slash at its end.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The location of a path as it is written in a manifest or a lock file: relative to the root, or absolute.
    pub fn locate(&self, written: &str) -> Location {
        self.locate_path(&self.path.join(written))
    }

    /// The location of an absolute path.
    fn locate_path(&self, path: &Path) -> Location {
        let path = normalise(path);
        let inside = path.strip_prefix(&self.path).ok().and_then(|relative| {
            let parts: Option<Vec<&str>> = relative.components().map(|part| part.as_os_str().to_str()).collect();
            Some(parts?.join("/"))
        });
        match inside {
            Some(relative) => Location::Inside(relative),
            None => match Url::from_file_path(&path) {
                Ok(url) => Location::Url(url),
                // Only a relative path has no URL, and joining with the root made this one absolute.
                Err(()) => Location::Inside(String::new()),
            },
        }
    }

    /// The location of a URL without its credentials, and whether there were any.
    ///
    /// A `file://` URL into the workspace becomes a relative location. The fragment is dropped.
    pub fn locate_url(&self, url: &Url) -> (Location, bool) {
        if url.scheme() == "file"
            && let Ok(path) = url.to_file_path()
        {
            return (self.locate_path(&path), false);
        }
        let (url, had_credentials) = without_credentials(url);
        (Location::Url(url), had_credentials)
    }
}

/// A place inside the workspace or anywhere else. See the module's description.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Location {
    /// Below the workspace root: a relative path with forward slashes, empty for the root itself.
    Inside(String),
    /// Anywhere else. Never with credentials.
    Url(Url),
}

impl Location {
    /// The URL of this place taken as a directory: it ends with a slash, as the base URL of a channel does.
    pub fn directory_url(&self, root: &WorkspaceRoot) -> Url {
        let mut url = self.file_url(root);
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        url
    }

    /// The URL of this place taken as a file.
    pub fn file_url(&self, root: &WorkspaceRoot) -> Url {
        match self {
            Self::Url(url) => url.clone(),
            Self::Inside(relative) => {
                let mut url = root.url().clone();
                if !relative.is_empty()
                    && let Ok(mut segments) = url.path_segments_mut()
                {
                    segments.pop_if_empty().extend(relative.split('/'));
                }
                url
            }
        }
    }

    /// The same location in the form channels are compared in: a URL has a slash at its end, a path has none.
    #[must_use]
    pub fn as_directory(self) -> Self {
        match self {
            Self::Url(mut url) => {
                if !url.path().ends_with('/') {
                    let path = format!("{}/", url.path());
                    url.set_path(&path);
                }
                Self::Url(url)
            }
            inside @ Self::Inside(_) => inside,
        }
    }

    /// The path below the root, if this place is inside the workspace.
    pub fn inside(&self) -> Option<&str> {
        match self {
            Self::Inside(path) => Some(path),
            Self::Url(_) => None,
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inside(path) => write!(f, "./{path}"),
            Self::Url(url) => url.fmt(f),
        }
    }
}

impl From<Location> for String {
    fn from(location: Location) -> Self {
        location.to_string()
    }
}

/// A text that is neither `./` followed by a path nor a URL.
#[derive(Debug, Clone, Error)]
#[error("`{text}` is neither a path that starts with `./` nor a URL")]
#[non_exhaustive]
pub struct NotALocation {
    /// What was read.
    pub text: String,
}

impl FromStr for Location {
    type Err = NotALocation;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("./") {
            return Ok(Self::Inside(path.to_owned()));
        }
        Url::parse(text).map(Self::Url).map_err(|_| NotALocation { text: text.to_owned() })
    }
}

impl TryFrom<String> for Location {
    type Error = NotALocation;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// The URL without user, password, `/t/TOKEN/` prefix and fragment, and whether it held a secret.
pub(crate) fn without_credentials(url: &Url) -> (Url, bool) {
    let mut clean = url.clone();
    let mut had_credentials = !url.username().is_empty() || url.password().is_some();
    // Setting these fails only for URLs that cannot have them, which then have none.
    let _ = clean.set_username("");
    let _ = clean.set_password(None);
    clean.set_fragment(None);
    let rest =
        clean.path().strip_prefix("/t/").and_then(|rest| rest.split_once('/')).map(|(_, rest)| format!("/{rest}"));
    if let Some(rest) = rest {
        clean.set_path(&rest);
        had_credentials = true;
    }
    (clean, had_credentials)
}

/// Resolves `.` and `..` by text alone.
fn normalise(path: &Path) -> PathBuf {
    let mut result = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            // `pop` leaves a root alone, which is what `..` does there.
            Component::ParentDir => {
                result.pop();
            }
            other => result.push(other),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> WorkspaceRoot {
        WorkspaceRoot::new("/project space/app").unwrap()
    }

    #[test]
    fn a_path_inside_the_workspace_is_relative_however_it_is_written() {
        for written in
            ["channel", "./channel", "channel/", "../app/channel", "/project space/app/./channel", "a/../channel"]
        {
            assert_eq!(root().locate(written), Location::Inside("channel".into()), "{written}");
        }
        let (location, _) = root().locate_url(&Url::parse("file:///project%20space/app/channel/").unwrap());
        assert_eq!(location, Location::Inside("channel".into()));
        assert_eq!(root().locate("."), Location::Inside(String::new()));
    }

    #[test]
    fn a_path_outside_the_workspace_is_an_absolute_url() {
        assert_eq!(root().locate("../channel").to_string(), "file:///project%20space/channel");
        assert_eq!(root().locate("/project space/application").to_string(), "file:///project%20space/application");
    }

    #[test]
    fn urls_are_rebuilt_from_the_root() {
        let location = Location::Inside("my channel/sub".into());
        assert_eq!(location.directory_url(&root()).as_str(), "file:///project%20space/app/my%20channel/sub/");
        assert_eq!(location.file_url(&root()).as_str(), "file:///project%20space/app/my%20channel/sub");
        assert_eq!(Location::Inside(String::new()).directory_url(&root()).as_str(), "file:///project%20space/app/");
    }

    #[test]
    fn credentials_never_become_part_of_a_location() {
        for written in ["https://user:secret@conda.example/main", "https://conda.example/t/secret/main"] {
            let (location, had) = root().locate_url(&Url::parse(written).unwrap());
            assert!(had, "{written}");
            assert_eq!(location.to_string(), "https://conda.example/main");
        }
        let (_, had) = root().locate_url(&Url::parse("https://conda.example/main").unwrap());
        assert!(!had);
    }

    #[test]
    fn text_form_reads_back() {
        for location in [root().locate("a b/c"), root().locate("."), root().locate("/elsewhere")] {
            assert_eq!(location.to_string().parse::<Location>().unwrap(), location);
        }
        assert!("channel".parse::<Location>().is_err());
    }

    #[test]
    fn a_relative_root_is_refused() {
        assert!(WorkspaceRoot::new("app").is_err());
    }
}
