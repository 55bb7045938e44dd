//! The client for everything that is fetched: authentication, mirrors, offline.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use miette::Diagnostic;
use rattler_networking::authentication_storage::backends::file::{FileStorage, FileStorageError};
use rattler_networking::mirror_middleware::Mirror;
use rattler_networking::{
    AuthenticationMiddleware, AuthenticationStorage, AuthenticationStorageError, LazyClient, MirrorMiddleware,
    OciMiddleware, OfflineMiddleware,
};
use reqwest::{Request, Response};
use reqwest_middleware::Next;
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
    Credentials(#[source] AuthenticationStorageError),
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

/// What a parser says of a malformed file may hold what is in it.
#[derive(Debug, Error)]
#[error("it is malformed at line {line}, column {column}")]
struct Malformed {
    line: usize,
    column: usize,
}

impl NetworkError {
    fn of_file(path: &Path, error: FileStorageError) -> Self {
        let source: Box<dyn std::error::Error + Send + Sync> = match error {
            FileStorageError::JSONError(_, error) => Box::new(Malformed { line: error.line(), column: error.column() }),
            error => Box::new(error),
        };
        Self::CredentialsFile { path: path.to_owned(), source }
    }
}

impl From<AuthenticationStorageError> for NetworkError {
    fn from(error: AuthenticationStorageError) -> Self {
        match error {
            AuthenticationStorageError::FileStorageError(FileStorageError::JSONError(path, error)) => {
                Self::of_file(&path.clone(), FileStorageError::JSONError(path, error))
            }
            error => Self::Credentials(error),
        }
    }
}

/// Answers every request with the reason that there is no client.
fn refusing(
    reason: Arc<NetworkError>,
) -> impl for<'a> Fn(Request, &'a mut http::Extensions, Next<'a>) -> Refusal<'a> + Send + Sync + 'static {
    move |_, _, _| {
        let error = reqwest_middleware::Error::middleware(NotSetUp(reason.clone()));
        Box::pin(std::future::ready(Err(error)))
    }
}

type Refusal<'a> = Pin<Box<dyn Future<Output = reqwest_middleware::Result<Response>> + Send + 'a>>;

#[derive(Debug, Error)]
#[error(transparent)]
struct NotSetUp(Arc<NetworkError>);

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
            // Whoever sends a request is told; there is nobody to tell now.
            Err(error) => {
                reqwest_middleware::ClientBuilder::new(reqwest::Client::new()).with(refusing(Arc::new(error))).build()
            }
        }))
    }

    fn credentials_file(&self) -> Result<Option<FileStorage>, NetworkError> {
        let read =
            |path: &PathBuf| FileStorage::from_path(path.clone()).map_err(|error| NetworkError::of_file(path, error));
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
