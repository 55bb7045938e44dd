//! Credentials have no place in specs, labels and records: whoever needs them gets them from the credential store.

use url::Url;

/// The URL without user name and password, and without the token that conda puts into paths (`/t/TOKEN/`).
pub(crate) fn without_credentials(url: &Url) -> Url {
    let mut url = url.clone();
    // Both fail only for URLs that cannot have credentials.
    let _ = url.set_username("");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_stays() {
        let clean = |text: &str| without_credentials(&Url::parse(text).expect("it is a URL")).to_string();
        assert_eq!(clean("https://me:secret@conda.example/a/b.conda"), "https://conda.example/a/b.conda");
        assert_eq!(clean("https://conda.example/t/tk-123/a/b.conda"), "https://conda.example/a/b.conda");
        assert_eq!(clean("file:///t/x/b.conda"), "file:///t/x/b.conda");
    }
}
