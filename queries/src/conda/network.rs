//! The client for everything that is fetched: authentication, mirrors, offline.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use miette::Diagnostic;
use rattler_networking::authentication_storage::backends::file::FileStorage;
use rattler_networking::mirror_middleware::Mirror;
use rattler_networking::{
    AuthenticationMiddleware, AuthenticationStorage, AuthenticationStorageError, LazyClient, MirrorMiddleware,
    OciMiddleware, OfflineMiddleware,
};
use thiserror::Error;
use url::Url;

/// How the network is used.
#[derive(Clone, Debug, Default)]
pub struct NetworkOptions {
    /// Nothing is fetched.
    pub offline: bool,
    /// What is asked instead of a URL, for URLs that begin with the key.
    pub mirrors: BTreeMap<Url, Vec<Url>>,
    /// A file with credentials that goes before all other places where credentials are kept.
    pub authentication_file: Option<PathBuf>,
    /// Certificates are not checked.
    pub insecure: bool,
}

/// Why no client could be made.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum NetworkError {
    /// The credentials could not be read.
    #[error("the stored credentials cannot be read")]
    Credentials(#[from] AuthenticationStorageError),
    /// The named file with credentials could not be read.
    #[error("the credentials in `{}` cannot be read", path.display())]
    CredentialsFile {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The client could not be set up.
    #[error("the HTTP client cannot be set up")]
    Client(#[from] reqwest::Error),
}

impl NetworkOptions {
    /// A client that is set up when it is first used; most runs never do.
    ///
    /// # Errors
    ///
    /// If a file with credentials was named and cannot be read.
    pub fn client(&self) -> Result<LazyClient, NetworkError> {
        let file = self.credentials_file()?;
        let options = self.clone();
        Ok(LazyClient::new(move || match options.build(file) {
            Ok(client) => client,
            Err(error) => {
                // Whoever sends a request is told; there is nobody to tell now.
                tracing::warn!(%error, "the HTTP client cannot be set up as configured");
                reqwest_middleware::ClientBuilder::new(reqwest::Client::new()).with(OfflineMiddleware).build()
            }
        }))
    }

    fn credentials_file(&self) -> Result<Option<FileStorage>, NetworkError> {
        let read = |path: &PathBuf| {
            FileStorage::from_path(path.clone())
                .map_err(|source| NetworkError::CredentialsFile { path: path.clone(), source: Box::new(source) })
        };
        self.authentication_file.as_ref().map(read).transpose()
    }

    /// The credentials that the client uses, for whoever speaks another protocol than channels do.
    ///
    /// # Errors
    ///
    /// If a file with credentials cannot be read.
    pub(crate) fn credentials(&self) -> Result<AuthenticationStorage, NetworkError> {
        storage(self.credentials_file()?)
    }

    fn build(&self, file: Option<FileStorage>) -> Result<reqwest_middleware::ClientWithMiddleware, NetworkError> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("doge/", env!("CARGO_PKG_VERSION")))
            .no_gzip()
            // It would tell the next server of a redirect the token in the path of the first.
            .referer(false)
            .danger_accept_invalid_certs(self.insecure)
            .read_timeout(std::time::Duration::from_secs(60))
            .build()?;
        let oci: reqwest::Client = client.clone();
        let mut builder = reqwest_middleware::ClientBuilder::new(client);
        if self.offline {
            builder = builder.with(OfflineMiddleware);
        }
        if !self.mirrors.is_empty() {
            let mirror = |url: &Url| Mirror { url: url.clone(), no_zstd: false, no_bz2: false, max_failures: None };
            let mirrors = self.mirrors.iter().map(|(url, mirrors)| (url.clone(), mirrors.iter().map(mirror).collect()));
            builder = builder.with(MirrorMiddleware::from_map(mirrors.collect()));
        }
        let credentials = storage(file)?;
        Ok(builder.with(OciMiddleware::new(oci)).with(AuthenticationMiddleware::from_auth_storage(credentials)).build())
    }
}

/// Everything that keeps credentials, a named file first.
fn storage(file: Option<FileStorage>) -> Result<AuthenticationStorage, NetworkError> {
    let mut credentials = AuthenticationStorage::empty();
    if let Some(file) = file {
        credentials.add_backend(Arc::new(file));
    }
    for backend in AuthenticationStorage::from_env_and_defaults()?.backends {
        credentials.add_backend(backend);
    }
    Ok(credentials)
}
