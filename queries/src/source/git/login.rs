//! How a server is shown who asks.
//!
//! A server that wants a login says so, and is asked again with one: a login is never sent to whoever did not ask for it.
//! It goes to the server that asked, which after a redirect is another than that of the address, so everybody who has
//! logins is asked by the address of the server that asked.
//!
//! gix sends a password to where it was asked for, over https only, and drops it when it is led to another host. A token
//! that is not a password, and whatever goes to this machine over http, is a header of ours: with one, gix follows no
//! redirect at all.

use std::fmt;
use std::sync::Arc;

use gix::bstr::BString;
use url::{Host, Url};

/// Who somebody says to be.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// A name with its password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token, which stands for both.
    Token(String),
}

/// Shows nothing of it, for it is as secret as it can be.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Password(..)",
            Self::Token(_) => "Token(..)",
        })
    }
}

/// Gives the login for the address of a server, if it has one.
pub type Credentials = Arc<dyn Fn(&str) -> Option<Login> + Send + Sync>;

/// The name that goes with a token which has to be sent as a password: GitHub's, and others do not look at it.
const USER_OF_TOKENS: &str = "x-access-token";

/// What a login becomes on its way.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// A user and a password, which gix sends.
    Password(String, String),
    /// A header, which we do.
    Header(String),
    /// Nothing: everybody on the way could read it.
    Withheld,
}

impl Login {
    /// Whether it is a name only. It may be a token.
    pub(super) fn is_name(&self) -> bool {
        matches!(self, Self::Password { password, .. } if password.is_empty())
    }

    /// The name and the password that say this.
    pub(super) fn as_password(&self) -> (&str, &str) {
        match self {
            Self::Password { user, password } => (user, password),
            Self::Token(token) => (USER_OF_TOKENS, token),
        }
    }

    /// What is sent to a server which says that it takes a login in one of these ways.
    ///
    /// A token is sent as such if the server takes it, which some do not, or if it does not say what it takes.
    pub(super) fn shown_to(self, server: &str, ways: &[BString]) -> Shown {
        if !is_private(server) {
            return Shown::Withheld;
        }
        let takes = |way: &str| ways.iter().any(|said| said.to_ascii_lowercase().starts_with(way.as_bytes()));
        if let Self::Token(token) = &self
            && (takes("bearer") || !takes("basic"))
        {
            return Shown::Header(format!("Authorization: Bearer {token}"));
        }
        let (user, password) = self.as_password();
        if server.starts_with("https:") {
            Shown::Password(user.to_owned(), password.to_owned())
        } else {
            Shown::Header(basic(user, password))
        }
    }
}

/// Whether nobody on the way to a server can read what is sent: it is encrypted, or does not leave this machine.
pub(super) fn is_private(server: &str) -> bool {
    let Ok(url) = Url::parse(server) else { return false };
    match (url.scheme(), url.host()) {
        ("https", _) => true,
        ("http", Some(Host::Domain(name))) => name == "localhost" || name.ends_with(".localhost"),
        ("http", Some(Host::Ipv4(address))) => address.is_loopback(),
        ("http", Some(Host::Ipv6(address))) => address.is_loopback(),
        _ => false,
    }
}

/// The header that says a name and its password.
pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}", base64(format!("{user}:{password}").as_bytes()))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = DIGITS[(group >> (18 - 6 * place) & 63) as usize];
            text.push(if place > chunk.len() { '=' } else { char::from(digit) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password() -> Login {
        Login::Password { user: "me".to_owned(), password: "s3cret".to_owned() }
    }

    fn token() -> Login {
        Login::Token("t0ken".to_owned())
    }

    #[test]
    fn nothing_is_sent_that_others_could_read() {
        for server in ["http://example.com/a", "http://10.0.0.1/a", "http://localhost.example.com/a", "ftp://h/a", "a"]
        {
            assert_eq!(password().shown_to(server, &[]), Shown::Withheld, "{server}");
            assert_eq!(token().shown_to(server, &[]), Shown::Withheld, "{server}");
        }
        for server in ["http://localhost:1/a", "http://a.localhost/a", "http://127.1.2.3/a", "http://[::1]:80/a"] {
            let header = Shown::Header("Authorization: Basic bWU6czNjcmV0".to_owned());
            assert_eq!(password().shown_to(server, &[]), header, "{server}");
        }
        let pair = Shown::Password("me".to_owned(), "s3cret".to_owned());
        assert_eq!(password().shown_to("https://example.com/a", &[]), pair);
    }

    #[test]
    fn a_token_is_sent_in_a_way_that_the_server_takes() {
        let bearer = Shown::Header("Authorization: Bearer t0ken".to_owned());
        let pair = Shown::Password("x-access-token".to_owned(), "t0ken".to_owned());
        let server = "https://example.com/a";
        assert_eq!(token().shown_to(server, &[]), bearer);
        assert_eq!(token().shown_to(server, &["Bearer realm=\"a\"".into(), "Basic".into()]), bearer);
        assert_eq!(token().shown_to(server, &["BASIC realm=\"a\"".into()]), pair);
    }

    #[test]
    fn a_login_says_nothing_of_itself() {
        let said = format!("{:?} {:?}", password(), token());
        assert!(!said.contains("s3cret") && !said.contains("t0ken"), "{said}");
    }

    #[test]
    fn base64_is_as_in_the_rfc() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
