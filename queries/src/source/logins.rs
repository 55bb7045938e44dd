//! Logins for repositories on servers: those that somebody wrote into an address, and those of the credential store.
//!
//! Neither becomes part of anything that is kept. An address loses its login before it is kept, so when a server wants
//! one the manifests are read again, where the address stands as it was written.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rattler_networking::{Authentication, AuthenticationStorage};
use url::Url;

use crate::conda::NetworkOptions;
use crate::source::git::{Login, RepositoryUrl};
use crate::source::written::Written;

/// Logins for repositories. Cheap to clone, and nothing is read until a server wants a login.
#[derive(Clone, Default)]
pub struct Logins(Arc<Inner>);

#[derive(Default)]
struct Inner {
    network: NetworkOptions,
    written: Written,
    store: OnceLock<Option<AuthenticationStorage>>,
}

/// Shows nothing of what was read.
impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Logins(..)")
    }
}

impl Logins {
    /// The logins in addresses of these manifests, and those of the credential store that channels are asked with.
    pub fn new(network: NetworkOptions, written: Written) -> Self {
        Self(Arc::new(Inner { network, written, ..Inner::default() }))
    }

    /// The login that somebody wrote into the address of a repository, for the server of that address.
    ///
    /// It is for the repository and for its submodules there, as it would be for git.
    pub(crate) fn written(&self, repository: &RepositoryUrl, server: &str) -> Option<Login> {
        let server = Url::parse(server).ok()?;
        if server.origin() != repository.canonical().origin() {
            return None;
        }
        let found: Vec<Login> = self.0.written.manifests().flat_map(|(_, text)| logins_in(&text, repository)).collect();
        let has_password = |login: &&Login| matches!(login, Login::Password { password, .. } if !password.is_empty());
        found.iter().find(has_password).or(found.first()).cloned()
    }

    /// The login of the credential store for a server.
    pub(crate) fn stored(&self, server: &str) -> Option<Login> {
        let read = || {
            let store = self.0.network.credentials();
            // A file that was named was read before, and whoever wants a login is told that there is none.
            store.inspect_err(|error| tracing::warn!(%error, "the stored credentials cannot be read")).ok()
        };
        let store = self.0.store.get_or_init(read).as_ref()?;
        let found = match tokio::runtime::Handle::try_current() {
            // Blocking, as everything that asks a repository is.
            Ok(runtime) => runtime.block_on(store.get_by_url_refreshed(server)),
            Err(_) => store.get_by_url(server),
        };
        match found.ok()?.1? {
            Authentication::BasicHTTP { username, password } => Some(Login::Password { user: username, password }),
            Authentication::BearerToken(token)
            | Authentication::CondaToken(token)
            | Authentication::OAuth { access_token: token, .. } => Some(Login::Token(token)),
            Authentication::S3Credentials { .. } => None,
        }
    }
}

/// The logins that a text has in addresses of a repository.
fn logins_in(text: &str, repository: &RepositoryUrl) -> Vec<Login> {
    let of = |address: &str| {
        RepositoryUrl::parse(address).ok().filter(|found| found == repository)?;
        // `url` leaves what is encoded as it is.
        let address = gix::url::parse(address.strip_prefix("git+").unwrap_or(address)).ok()?;
        let (user, password) = (address.user().unwrap_or_default(), address.password().unwrap_or_default());
        let login = Login::Password { user: user.to_owned(), password: password.to_owned() };
        (!user.is_empty() || !password.is_empty()).then_some(login)
    };
    addresses(text).filter_map(of).collect()
}

/// What looks like a URL in a text.
fn addresses(text: &str) -> impl Iterator<Item = &str> {
    let is_of_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let is_end = |c: char| c.is_whitespace() || "\"'<>{}`".contains(c);
    text.match_indices("://").map(move |(at, _)| {
        let start = text[..at]
            .rfind(|c| !is_of_scheme(c))
            .map_or(0, |before| before + text[before..].chars().next().map_or(0, char::len_utf8));
        let end = text[at..].find(is_end).map_or(text.len(), |length| at + length);
        &text[start..end]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(user: &str, password: &str) -> Option<Login> {
        Some(Login::Password { user: user.to_owned(), password: password.to_owned() })
    }

    #[test]
    fn a_login_in_the_address_of_a_manifest_is_for_that_repository_on_that_server() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let manifest = "[dependencies]\n\
             a = { git = \"https://you:0ther@example.com/b\" }\nb = { git = 'git+https://me:s%40cret@Example.com/a.git' }\n\
             c = { git = 'https://token@example.com/c' }\n# ü://me@x, https://example.com/a\n";
        std::fs::write(directory.path().join("pixi.toml"), manifest).expect("a file");
        let written = Written::default();
        let logins = Logins::new(NetworkOptions::default(), written.clone());
        let repository = |name: &str| RepositoryUrl::parse(&format!("https://example.com/{name}")).expect("an address");
        assert_eq!(logins.written(&repository("a"), "https://example.com/a"), None);
        written.look_in(directory.path());
        written.look_in(&directory.path().join("nothing"));
        assert_eq!(logins.written(&repository("a"), "https://example.com/a"), pair("me", "s@cret"));
        assert_eq!(logins.written(&repository("a"), "https://example.com/submodule"), pair("me", "s@cret"));
        assert_eq!(logins.written(&repository("c"), "https://example.com/c"), pair("token", ""));
        assert_eq!(logins.written(&repository("d"), "https://example.com/d"), None);
        for server in ["https://example.org/a", "http://example.com/a", "https://example.com:444/a", "nothing"] {
            assert_eq!(logins.written(&repository("a"), server), None, "{server}");
        }
    }

    #[test]
    fn the_credential_store_has_logins_by_host() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("credentials.json");
        let store = r#"{
            "a.example": { "BasicHTTP": { "username": "me", "password": "s3cret" } },
            "*.b.example": { "BearerToken": "t0ken" },
            "c.example": { "CondaToken": "c0nda" }
        }"#;
        std::fs::write(&file, store).expect("a file");
        let network = NetworkOptions { authentication_file: Some(file), ..NetworkOptions::default() };
        let logins = Logins::new(network, Written::default());
        assert_eq!(logins.stored("https://a.example/x/y.git"), pair("me", "s3cret"));
        assert_eq!(logins.stored("https://git.b.example/x"), Some(Login::Token("t0ken".to_owned())));
        assert_eq!(logins.stored("https://c.example/x"), Some(Login::Token("c0nda".to_owned())));
        assert_eq!(logins.stored("https://d.example/x"), None);
        assert!(!format!("{logins:?}").contains("cret"));
    }
}
