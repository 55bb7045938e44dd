//! Credentials have no place in specs, labels and records: whoever needs them gets them from the credential store.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use url::Url;

/// The name by which whoever has a key asks for a repository over SSH. It is the same for all, and without it there is
/// no answer.
const USER_OF_REPOSITORIES: &str = "git";

/// The URL without user name and password, and without the token that conda puts into paths (`/t/TOKEN/`).
pub(crate) fn without_credentials(url: &Url) -> Url {
    let mut url = url.clone();
    // Both fail only for URLs that cannot have credentials.
    if !(url.scheme().ends_with("ssh") && url.username() == USER_OF_REPOSITORIES) {
        let _ = url.set_username("");
    }
    let _ = url.set_password(None);
    // A path of a file may well begin like that.
    if let Some(rest) = url.path().strip_prefix("/t/").filter(|_| url.scheme() != "file")
        && let Some((_, path)) = rest.split_once('/')
    {
        let path = format!("/{path}");
        url.set_path(&path);
    }
    url
}

/// A text with the credentials of all URLs in it taken out, as [`without_credentials`] does for one.
pub(crate) fn text_without_credentials(text: &str) -> Cow<'_, str> {
    const SCHEME_END: &str = "://";
    let mut clean = String::new();
    let mut rest = text;
    let mut is_same = true;
    while let Some(at) = rest.find(SCHEME_END) {
        let (is_file, is_ssh) = (rest[..at].ends_with("file"), rest[..at].ends_with("ssh"));
        let (before, url) = rest.split_at(at + SCHEME_END.len());
        clean.push_str(before);
        // What stands in quotes ends with them: a password may have all other signs in it.
        let opened = rest[..at].trim_end_matches(|c: char| c.is_ascii_alphanumeric() || "+-.".contains(c));
        let quote = opened.chars().next_back().filter(|c| matches!(c, '"' | '\''));
        let ends = |c: char| {
            c.is_whitespace()
                || matches!(c, '/' | '?' | '#')
                || quote.map_or_else(|| matches!(c, '"' | '\'' | ',' | ']' | '}' | '<' | '>'), |quote| c == quote)
        };
        let (authority, path) = url.split_at(url.find(ends).unwrap_or(url.len()));
        let host = match authority.rsplit_once('@') {
            Some((user, _)) if is_ssh && user == USER_OF_REPOSITORIES => authority,
            Some((_, host)) => host,
            None => authority,
        };
        clean.push_str(host);
        let token = path.strip_prefix("/t/").filter(|_| !is_file && !host.is_empty());
        let after = token.and_then(|token| token.split_at_checked(token.find(ends)?)).map(|(_, after)| after);
        is_same &= host.len() == authority.len() && after.is_none();
        rest = after.unwrap_or(path);
    }
    if is_same {
        return Cow::Borrowed(text);
    }
    clean.push_str(rest);
    Cow::Owned(clean)
}

/// What an error says, and each of those below it, without credentials: errors of the network name the URL that was asked
/// in the end. That has the token of conda in its path, and may have a secret of a server in its query that led there.
#[derive(Clone, Debug)]
pub struct Said {
    text: String,
    below: Option<Box<Said>>,
}

impl Said {
    pub(crate) fn of(error: &dyn Error) -> Self {
        let text = without_queries(&text_without_credentials(&error.to_string()));
        Self { text, below: error.source().map(|below| Box::new(Self::of(below))) }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Said {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.below.as_deref().map(|below| below as _)
    }
}

/// A text without the queries of all URLs in it.
fn without_queries(text: &str) -> String {
    let mut clean = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | ')' | '<' | '>');
        let end = rest[at..].find(ends).map_or(rest.len(), |length| at + length);
        let (url, after) = rest.split_at(end);
        clean.push_str(url.split_once('?').map_or(url, |(before, _)| before));
        rest = after;
    }
    clean + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_stays() {
        let clean = |text: &str| without_credentials(&Url::parse(text).expect("it is a URL")).to_string();
        assert_eq!(clean("https://me:secret@conda.example/a/b.conda"), "https://conda.example/a/b.conda");
        assert_eq!(clean("https://conda.example/t/tk-123/a/b.conda"), "https://conda.example/a/b.conda");
        assert_eq!(clean("file:///t/x/b.conda"), "file:///t/x/b.conda");
        assert_eq!(clean("ssh://git:secret@host.example/a"), "ssh://git@host.example/a");
        assert_eq!(clean("ssh://me@host.example/a"), "ssh://host.example/a");
    }

    #[test]
    fn nothing_secret_stays_in_a_text() {
        for (text, clean) in [
            (
                "channels = ['https://me:se@cret@conda.example/a', \"x\"]",
                "channels = ['https://conda.example/a', \"x\"]",
            ),
            ("a: https://me@h\nb: http://h/t/tk-1/c/d", "a: https://h\nb: http://h/c/d"),
            ("https://h/t/tk-1", "https://h/t/tk-1"),
            ("'https://h/t/tk-1'", "'https://h'"),
            ("file:///t/x/y and https://h/a@b", "file:///t/x/y and https://h/a@b"),
            ("mail me@example.com", "mail me@example.com"),
            ("://", "://"),
            ("a = \"https://me:se,c]r'et@h/a\", b = \"x@y\"", "a = \"https://h/a\", b = \"x@y\""),
            ("a = 'https://me:s>e<c}r\"et@h/a'", "a = 'https://h/a'"),
            ("['https://h','x@y'] [\"git+https://h\",\"x@y\"]", "['https://h','x@y'] [\"git+https://h\",\"x@y\"]"),
            ("[https://h,x@y] <https://h>x@y", "[https://h,x@y] <https://h>x@y"),
            ("git+ssh://git@h/a and ssh://git:se@cret@h/b", "git+ssh://git@h/a and ssh://h/b"),
        ] {
            assert_eq!(text_without_credentials(text), clean, "{text}");
        }
    }

    #[test]
    fn nothing_secret_is_said_by_errors() {
        #[derive(Debug, thiserror::Error)]
        #[error("request for (https://h/t/tk-1/a?b=c) and https://me:s@h/?b: is it x://y?")]
        struct Above(#[source] std::io::Error);
        let said = Said::of(&Above(std::io::Error::other("no, that is https://me:s@h/a?b")));
        assert_eq!(said.to_string(), "request for (https://h/a) and https://h/ is it x://y");
        assert_eq!(said.source().map(ToString::to_string).as_deref(), Some("no, that is https://h/a"));
        assert!(!format!("{said:?}").contains("me:s"));
    }
}
