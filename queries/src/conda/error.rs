//! What can go wrong with a channel.

use std::path::PathBuf;
use std::sync::Arc;

use miette::Diagnostic;
use thiserror::Error;
use url::Url;

use crate::redact::Said;

/// Why a channel could not be read.
#[derive(Clone, Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum ChannelError {
    /// A file of the channel, or of the cache of channels, could not be read or written.
    #[error("`{}` cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// A server did not give what it was asked for.
    #[error("{url} could not be fetched")]
    #[diagnostic(help("check the address of the channel, the network, and whether the channel needs a login"))]
    Fetch {
        /// What was asked for.
        url: Url,
        /// What went wrong, without credentials.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// Nothing may be downloaded, and the cache does not have it.
    #[error("{url} is not in the cache, and downloading is off")]
    #[diagnostic(help("run once without `--offline`"))]
    Offline {
        /// What is needed.
        url: Url,
    },
    /// What the channel holds is not what it should be.
    #[error("the channel at {url} is malformed: {message}")]
    #[diagnostic(help("the channel has to be indexed again by whoever keeps it"))]
    Malformed {
        /// Where.
        url: Url,
        /// What is wrong.
        message: String,
    },
    /// It is written to all the time.
    #[error("the channel at {url} changes while it is read")]
    #[diagnostic(help("wait until whoever indexes it is done, then try again"))]
    Restless {
        /// Where.
        url: Url,
    },
    /// A URL that can be none.
    #[error("`{url}` is not an address that a channel can have")]
    Unsupported {
        /// The URL.
        url: Url,
    },
    /// A value or a resource is not at hand.
    #[error("{what} is not at hand")]
    NotAtHand {
        /// What.
        what: &'static str,
    },
}

impl ChannelError {
    pub(crate) fn fetch(url: &Url, error: &dyn std::error::Error) -> Self {
        Self::Fetch { url: url.clone(), source: Arc::new(Said::of(error)) }
    }
}
