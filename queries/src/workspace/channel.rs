//! Channels as manifests name them, and the order they have in an environment.

use std::str::FromStr;

use rattler_conda_types::{ChannelConfig, NamedChannelOrUrl};
use url::Url;

use super::{
    error::{ManifestError, ManifestErrorKind},
    exclude_newer::Cutoff,
    location::{Location, WorkspaceRoot},
    table::Entry,
    warning::WarningKind,
};

/// What turns a channel's name into a place.
#[derive(Debug, Clone)]
pub(crate) struct ChannelResolver {
    root: WorkspaceRoot,
    config: ChannelConfig,
}

impl ChannelResolver {
    /// Names are put behind `alias`, or behind what conda uses if there is none.
    pub(crate) fn new(root: &WorkspaceRoot, alias: Option<Url>) -> Self {
        let mut config = ChannelConfig::default_with_root_dir(root.path().to_owned());
        if let Some(alias) = alias {
            config.channel_alias = alias;
        }
        Self { root: root.clone(), config }
    }

    pub(crate) fn root(&self) -> &WorkspaceRoot {
        &self.root
    }

    /// The place of a channel written as a name, a URL or a path, and whether its URL held credentials.
    pub(crate) fn resolve(&self, written: &str) -> Result<(Location, bool), String> {
        let written = written.trim();
        if written.is_empty() {
            return Err("it is empty".to_owned());
        }
        match NamedChannelOrUrl::from_str(written).map_err(|error| error.to_string())? {
            NamedChannelOrUrl::Url(url) => {
                if url.cannot_be_a_base() {
                    return Err("the URL has no path".to_owned());
                }
                let (location, had_credentials) = self.root.locate_url(&url);
                Ok((location.as_directory(), had_credentials))
            }
            NamedChannelOrUrl::Path(path) if path.as_str().starts_with('~') => {
                Err("a path that starts with `~` means something else for every user".to_owned())
            }
            NamedChannelOrUrl::Path(path) => Ok((self.root.locate(path.as_str()).as_directory(), false)),
            name @ NamedChannelOrUrl::Name(_) => {
                let url: Url = name.into_base_url(&self.config).map_err(|error| error.to_string())?.into();
                let (location, had_credentials) = self.root.locate_url(&url);
                Ok((location.as_directory(), had_credentials))
            }
        }
    }

    /// Reads a channel written as a string.
    pub(crate) fn read(&self, entry: &Entry<'_, '_>) -> Result<Location, ManifestError> {
        let (text, span) = entry.string()?;
        match self.resolve(text) {
            Ok((location, had_credentials)) => {
                if had_credentials {
                    entry.warn(WarningKind::CredentialsInUrl);
                }
                Ok(location)
            }
            Err(message) => {
                let kind = ManifestErrorKind::BadValue { value: text.to_owned(), expected: "a channel", message };
                let help = "a channel is a name, a URL, or a path that starts with `./`, `../` or `/`";
                Err(entry.source().error(kind).at(&span).help(help).done())
            }
        }
    }

    /// Reads an element of `channels`: a string, or a table with a priority.
    pub(crate) fn read_listed(&self, entry: &Entry<'_, '_>) -> Result<ListedChannel, ManifestError> {
        if entry.as_string().is_some() {
            return Ok(ListedChannel { location: self.read(entry)?, priority: 0, exclude_newer: None });
        }
        if !entry.is_table() {
            return Err(entry.wrong_type("a channel or a table with `channel` and `priority`"));
        }
        let table = entry.table()?;
        let Some(channel) = table.get("channel") else {
            let kind = ManifestErrorKind::MissingKey { key: format!("{}.channel", table.path()) };
            return Err(entry.source().error(kind).at(&entry.value_span()).done());
        };
        let location = self.read(&channel)?;
        let priority = match table.get("priority") {
            Some(priority) => {
                let value = priority.integer()?;
                i32::try_from(value).map_err(|_| priority.wrong_type("an integer of at most 32 bits"))?
            }
            None => 0,
        };
        let exclude_newer = match table.get("exclude-newer") {
            Some(cutoff) => {
                let (text, _) = cutoff.string()?;
                Some(text.parse::<Cutoff>().map_err(|error| cutoff.bad_value("a cutoff", error))?)
            }
            None => None,
        };
        table.finish();
        Ok(ListedChannel { location, priority, exclude_newer })
    }
}

/// A channel in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedChannel {
    pub(crate) location: Location,
    pub(crate) priority: i32,
    pub(crate) exclude_newer: Option<Cutoff>,
}

/// The channels of an environment: higher priority first, else in the order of the features, each once.
pub(crate) fn in_order<'c>(listed: impl IntoIterator<Item = &'c ListedChannel>) -> Vec<&'c ListedChannel> {
    let mut sorted: Vec<&ListedChannel> = listed.into_iter().collect();
    sorted.sort_by_key(|channel| std::cmp::Reverse(channel.priority));
    let mut ordered: Vec<&ListedChannel> = Vec::new();
    for channel in sorted {
        if ordered.iter().all(|other| other.location != channel.location) {
            ordered.push(channel);
        }
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolver() -> ChannelResolver {
        let root = WorkspaceRoot::new("/projects/app").unwrap();
        ChannelResolver::new(&root, Some(Url::parse("https://conda.example").unwrap()))
    }

    fn resolved(written: &str) -> String {
        resolver().resolve(written).unwrap().0.to_string()
    }

    #[test]
    fn every_way_to_write_a_channel_ends_in_one_form() {
        assert_eq!(resolved("main"), "https://conda.example/main/");
        assert_eq!(resolved("main/label/dev"), "https://conda.example/main/label/dev/");
        assert_eq!(resolved("https://conda.example/main"), "https://conda.example/main/");
        assert_eq!(resolved("https://CONDA.example/main/"), "https://conda.example/main/");
        assert_eq!(resolved("./channel"), "./channel");
        assert_eq!(resolved("file:///projects/app/channel"), "./channel");
        assert_eq!(resolved("../channel"), "file:///projects/channel/");
        assert_eq!(resolved("file:///elsewhere"), "file:///elsewhere/");
    }

    #[test]
    fn what_is_no_channel_is_refused() {
        for written in ["", "  ", "~/channel", "https://"] {
            assert!(resolver().resolve(written).is_err(), "{written}");
        }
    }

    #[test]
    fn priority_comes_before_order_and_a_channel_comes_once() {
        let channel = |name: &str, priority| ListedChannel {
            location: resolver().resolve(name).unwrap().0,
            priority,
            exclude_newer: None,
        };
        let listed = [channel("b", -1), channel("a", 0), channel("c", 5), channel("a", 0), channel("b", 0)];
        let ordered: Vec<_> = in_order(&listed).iter().map(|channel| channel.location.to_string()).collect();
        assert_eq!(ordered, ["https://conda.example/c/", "https://conda.example/a/", "https://conda.example/b/"]);
    }
}
