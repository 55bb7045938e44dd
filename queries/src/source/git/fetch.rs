//! Asking remotes.
//!
//! What is fetched is kept by references: `refs/doge/<commit>` for a commit that was fetched by name, the remote's own
//! below `refs/remotes/origin` and `refs/tags`. They tell the server what is there already, and are never asked what a
//! branch is now: that is the remote's answer each time. They are written to `packed-refs` only, so names that differ in
//! case, and a branch `a/b` after a branch `a`, do no harm.

use std::any::Any;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gix::bstr::ByteSlice;
use gix::credentials::helper::{Action, NextAction};
use gix::credentials::protocol::{Context, Outcome};
use gix::progress::Discard;
use gix::protocol::handshake::Ref;
use gix::protocol::transport::client;
use gix::protocol::transport::client::blocking_io::http;
use gix::refs::transaction::PreviousValue;
use gix::remote::Direction;
use gix::remote::fetch::Tags;
use gix::remote::fetch::refs::update::Mode;

use super::error::{Cause, Failure, GitError};
use super::login::{Login, Shown};
use super::url::RepositoryUrl;
use super::{Commit, Options, Reference, Session, database};

/// How many digits an abbreviation must have to be taken for one before it is taken for a name: git's own default.
const ABBREVIATION: usize = 7;

/// How long a server may say nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which commit a reference stands for.
pub(super) fn resolve(
    session: Session<'_>,
    url: &RepositoryUrl,
    reference: &Reference,
    database: &Path,
) -> Result<Commit, Failure> {
    session.go_on()?;
    let remote = Remote::open(session, url, database)?;
    let missing = || GitError::NoSuchReference { url: url.clone(), reference: reference.clone() };
    let found = match reference {
        Reference::DefaultBranch => remote.named(&["HEAD".to_owned()])?,
        Reference::Branch(name) => remote.named(&[format!("refs/heads/{name}")])?,
        Reference::Tag(name) => remote.named(&[format!("refs/tags/{name}")])?,
        Reference::Rev(name) if name == "HEAD" || name.starts_with("refs/") => {
            remote.named(std::slice::from_ref(name))?
        }
        Reference::Rev(name) => {
            let names = [format!("refs/heads/{name}"), format!("refs/tags/{name}")];
            let is_abbreviation = (ABBREVIATION..40).contains(&name.len());
            let known = if is_abbreviation { remote.abbreviated(name)? } else { None };
            match known {
                Some(commit) => Some(commit),
                None => match remote.named(&names)? {
                    Some(commit) => Some(commit),
                    None if gix::hash::Prefix::from_hex(name).is_ok() => {
                        remote.fetch_all()?;
                        let found = remote.abbreviated(name)?;
                        if found.is_none() {
                            return Err(database::unless_damaged(session, &remote.repository, missing()));
                        }
                        found
                    }
                    None => None,
                },
            }
        }
    };
    found.ok_or_else(|| missing().into())
}

/// The database with the commit in it.
pub(super) fn fetch_commit(
    session: Session<'_>,
    url: &RepositoryUrl,
    commit: Commit,
    database: &Path,
) -> Result<gix::Repository, Failure> {
    session.go_on()?;
    let remote = Remote::open(session, url, database)?;
    if !database::has(&remote.repository, commit)? {
        match remote.fetch(&[format!("{commit}:refs/doge/{commit}")]) {
            Ok(()) => {}
            // Not every server gives a commit that is not the tip of something. A transfer that broke off is tried again
            // like that, too.
            Err(Fetch::Refused(_)) => remote.fetch_all()?,
            Err(Fetch::Failed(failure)) => return Err(failure),
        }
        if !database::has(&remote.repository, commit)? {
            let error = GitError::NoSuchCommit { url: url.clone(), commit };
            return Err(database::unless_damaged(session, &remote.repository, error));
        }
    }
    Ok(remote.repository)
}

struct Remote<'a> {
    session: Session<'a>,
    url: &'a RepositoryUrl,
    repository: gix::Repository,
    asked: Arc<Mutex<Asked>>,
}

type Connection<'r, 'repo> =
    gix::remote::Connection<'r, 'static, 'repo, Box<dyn client::blocking_io::Transport + Send>>;

/// Why a fetch gave nothing: a server that answers but does not give it, or all else.
enum Fetch {
    Refused(gix::Error),
    Failed(Failure),
}

impl<'a> Remote<'a> {
    fn open(session: Session<'a>, url: &'a RepositoryUrl, database: &Path) -> Result<Self, Failure> {
        Ok(Self { session, url, repository: database::open(database)?, asked: Arc::default() })
    }

    /// The commit of the first of these references that the remote has.
    fn named(&self, names: &[String]) -> Result<Option<Commit>, Failure> {
        // A name that no reference can have would be an error of its own, or even a pattern.
        let is_possible = |name: &&String| *name == "HEAD" || gix::refs::FullName::try_from(name.as_str()).is_ok();
        let names: Vec<&String> = names.iter().filter(is_possible).collect();
        if names.is_empty() {
            return Ok(None);
        }
        self.session.may_ask(self.url)?;
        let ask = || -> gix::Result<_> {
            let remote = self.remote(Tags::None, names.iter().map(|name| name.as_str()))?;
            let connection = self.connect(&remote)?;
            Ok(connection.ref_map(Discard, Default::default())?.0.remote_refs)
        };
        let references = ask().or_else(|error| if self.has_header() { ask() } else { Err(error) });
        let references = references.map_err(|error| self.unreachable(&error))?;
        self.session.go_on()?;
        Ok(names.iter().find_map(|name| {
            references.iter().map(Ref::unpack).find_map(|(full_name, target, peeled)| {
                let id = (full_name == name.as_bytes()).then_some(peeled.or(target)).flatten()?;
                Some(Commit(id.to_owned()))
            })
        }))
    }

    /// The commit in the database that begins so.
    fn abbreviated(&self, prefix: &str) -> Result<Option<Commit>, Failure> {
        match database::commits_with_prefix(&self.repository, prefix)?.as_deref() {
            None | Some([]) => Ok(None),
            Some([commit]) => Ok(Some(*commit)),
            Some(commits) => Err(GitError::Ambiguous {
                url: self.url.clone(),
                prefix: prefix.to_owned(),
                candidates: commits.iter().take(10).copied().collect(),
            }
            .into()),
        }
    }

    fn fetch_all(&self) -> Result<(), Failure> {
        let all = ["+refs/heads/*:refs/remotes/origin/*".to_owned(), "+refs/tags/*:refs/tags/*".to_owned()];
        self.fetch(&all).map_err(|error| match error {
            Fetch::Failed(failure) => failure,
            Fetch::Refused(error) => database::blame(self.session, &self.repository, &error, |source| {
                GitError::Fetch { url: self.url.clone(), source }
            }),
        })
    }

    /// Brings what the specs name into the database, and the tags of what it brings.
    fn fetch(&self, specs: &[String]) -> Result<(), Fetch> {
        self.session.may_ask(self.url).map_err(|error| Fetch::Failed(error.into()))?;
        let unreachable = |error: gix::Error| Fetch::Failed(self.unreachable(&error).into());
        let received = loop {
            let remote = self.remote(Tags::Included, specs.iter().map(String::as_str)).map_err(unreachable)?;
            let connection = self.connect(&remote).map_err(unreachable)?;
            match connection.prepare_fetch(Discard, Default::default()) {
                Ok(prepared) => {
                    break prepared.with_write_packed_refs_only(true).receive(Discard, self.session.interrupt);
                }
                Err(_) if self.has_header() => {}
                Err(error) => return Err(unreachable(error)),
            }
        };
        self.session.go_on().map_err(|error| Fetch::Failed(error.into()))?;
        let outcome = received.map_err(Fetch::Refused)?;
        self.move_tags(&outcome);
        Ok(())
    }

    /// Tags that come along are not moved by gix. Ours follow the remote; one that cannot be written stays where it was,
    /// for it only tells tools in a checkout how the commit is called.
    fn move_tags(&self, outcome: &gix::remote::fetch::Outcome) {
        use gix::remote::fetch::Status;
        let (Status::NoPackReceived { update_refs, .. } | Status::Change { update_refs, .. }) = &outcome.status;
        for (update, mapping) in update_refs.updates.iter().zip(&outcome.ref_map.mappings) {
            if let (Mode::RejectedTagUpdate, Some(name), Some(id)) =
                (&update.mode, &mapping.local, mapping.remote.as_id())
            {
                let _ = self.repository.reference(name.as_bstr(), id.to_owned(), PreviousValue::Any, "moved");
            }
        }
    }

    fn remote<'s>(&self, tags: Tags, specs: impl Iterator<Item = &'s str>) -> gix::Result<gix::Remote<'_>> {
        let url = match &self.asked().header {
            Some(header) => gix::url::parse(header.server.as_str())?,
            None => self.url.to_gix()?,
        };
        self.repository.remote_at_without_url_rewrite(url)?.with_fetch_tags(tags).with_refspecs(specs, Direction::Fetch)
    }

    fn connect<'r, 'repo>(&self, remote: &'r gix::Remote<'repo>) -> gix::Result<Connection<'r, 'repo>> {
        let mut connection = remote.connect(Direction::Fetch)?;
        if matches!(self.url.scheme(), "http" | "https") {
            let user = database::open_with_user_configuration(self.repository.git_dir());
            let header = self.asked().header.as_ref().map(|header| header.line.clone());
            connection.set_transport_options(http_options(user.as_ref(), self.url, header));
            connection.set_credentials(authenticate(user, self.session.options.clone(), self.asked.clone()));
        }
        Ok(connection)
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a server wanted a login that has to be a header, and was not asked with it yet.
    fn has_header(&self) -> bool {
        self.asked().header.as_mut().is_some_and(|header| !std::mem::replace(&mut header.is_used, true))
    }

    /// The error of a connection.
    fn unreachable(&self, error: &gix::Error) -> GitError {
        if let Err(interrupted) = self.session.go_on() {
            return interrupted;
        }
        let url = self.url.clone();
        if is_missing_program(error) {
            let program = if url.scheme() == "ssh" { "ssh" } else { "git" };
            return GitError::NoProgram { url, program };
        }
        let source = Cause::from(error);
        let is_refused = error.iter_errors().any(|error| {
            matches!(error.downcast_ref::<client::Error>(), Some(client::Error::AuthenticationRefused(_)))
        });
        let asked = self.asked();
        if asked.is_withheld {
            GitError::LoginInClear { url }
        } else if is_refused || error.is_unauthenticated() {
            match asked.from {
                Some(from) => GitError::LoginRefused { url, from, source },
                None => GitError::Login { url, source },
            }
        } else {
            GitError::Unreachable { url, source }
        }
    }
}

/// Whether a program that carries the connection could not be found. gix tries `git upload-pack` after
/// `git-upload-pack`, so for a local repository this means that there is no git.
fn is_missing_program(error: &gix::Error) -> bool {
    error.iter_errors().any(|error| {
        matches!(
            error.downcast_ref::<client::Error>(),
            Some(client::Error::InvokeProgram { source, .. }) if source.kind() == std::io::ErrorKind::NotFound
        )
    })
}

/// What became of a server's wish to know who asks.
#[derive(Default)]
struct Asked {
    /// Who gave the login that was sent, or that has to be a header.
    from: Option<&'static str>,
    header: Option<Header>,
    /// There was one that must not be sent.
    is_withheld: bool,
}

/// A login that gix does not send.
struct Header {
    /// Whom it is for: the address that asked for it, which may be another one after a redirect.
    server: String,
    line: String,
    is_used: bool,
}

const WRITTEN: &str = "its address in the manifest has";
const OF_GIT: &str = "a credential helper of git gives";
const STORED: &str = "is stored for its host";

/// Answers a server that wants a login: first with one that stands in the address, then git's helpers, then the store.
///
/// What gix does not send is left in `asked`; then there is no answer, and the server is to be asked again with it.
fn authenticate(
    user: Option<gix::Repository>,
    options: Options,
    asked: Arc<Mutex<Asked>>,
) -> impl FnMut(Action) -> gix::Result<Option<Outcome>> {
    let mut helpers = None;
    move |action| match action {
        Action::Get(context) => {
            let Some(url) = context.url.clone() else { return Ok(None) };
            let server = url.to_str_lossy().into_owned();
            let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
            if asked.header.as_ref().is_some_and(|header| header.is_used) {
                // It is not taken.
                return Ok(None);
            }
            let mut show = |login: Login, from, next: NextAction| {
                asked.from = Some(from);
                match login.shown_to(&server, &context.www_authenticate) {
                    Shown::Password(username, password) => {
                        let identity = gix::sec::identity::Account { username, password, oauth_refresh_token: None };
                        return Some(Outcome { identity, next });
                    }
                    Shown::Header(line) => {
                        asked.header = Some(Header { server: server.clone(), line, is_used: false });
                    }
                    Shown::Withheld => asked.is_withheld = true,
                }
                None
            };
            let next = || NextAction::from(Context { url: Some(url.clone()), ..Context::default() });
            let written = options.written.as_ref().and_then(|written| written(&server));
            if let Some(login) = written.clone().filter(|login| !login.is_name()) {
                return Ok(show(login, WRITTEN, next()));
            }
            if let Some(user) = &user
                && let Ok((mut cascade, _, mut prompt)) =
                    user.config_snapshot().credential_helpers(gix::url::parse(&url)?)
            {
                // Here and not in the configuration, for `GIT_TERMINAL_PROMPT` would overrule that.
                prompt.mode = gix::prompt::Mode::Disable;
                // Helpers that fail or know nothing leave it to the next source.
                if let Ok(Some(outcome)) = cascade.invoke(Action::Get(context.clone()), prompt.clone()) {
                    helpers = Some((cascade, prompt));
                    let gix::sec::identity::Account { username, password, .. } = outcome.identity;
                    return Ok(show(Login::Password { user: username, password }, OF_GIT, outcome.next));
                }
            }
            let stored = options.stored.as_ref().and_then(|stored| stored(&server));
            Ok(match (stored, written) {
                (Some(login), _) => show(login, STORED, next()),
                (None, Some(login)) => show(login, WRITTEN, next()),
                (None, None) => None,
            })
        }
        // Helpers hear whether theirs were accepted; the others are only read.
        Action::Store(_) | Action::Erase(_) => match &mut helpers {
            Some((cascade, prompt)) => cascade.invoke(action, prompt.clone()),
            None => Ok(None),
        },
    }
}

/// Proxy and certificates of the user's git configuration.
///
/// gix's HTTP client is reqwest, which knows nothing of git's settings; but it can be configured before it is built.
fn http_options(user: Option<&gix::Repository>, url: &RepositoryUrl, header: Option<String>) -> Box<dyn Any> {
    let mut options = user
        .and_then(|user| user.transport_options(url.as_str(), None).ok().flatten())
        .and_then(|options| options.downcast::<http::Options>().ok())
        .map(|options| *options)
        .unwrap_or_default();
    options.extra_headers = header.into_iter().collect();
    let certificates = options.ssl_ca_info.clone();
    // Not `options.proxy`: that has the variables in it, which reqwest applies per scheme and host.
    let proxy = user.and_then(|user| user.config_snapshot().string("http.proxy")).map(|proxy| proxy.to_string());
    let client = http::reqwest::Options {
        configure_client: Some(Box::new(move |builder| {
            let failed = |error: reqwest::Error| gix::Error::from_error(error);
            let mut builder = builder.timeout(PATIENCE);
            if let Some(certificates) = &certificates {
                let bundle = std::fs::read(certificates).map_err(gix::Error::from_error)?;
                for certificate in reqwest::Certificate::from_pem_bundle(&bundle).map_err(failed)? {
                    builder = builder.add_root_certificate(certificate);
                }
            }
            Ok(match proxy.as_deref() {
                None => builder,
                Some("") => builder.no_proxy(),
                Some(proxy) => {
                    let proxy = if proxy.contains("://") { proxy.to_owned() } else { format!("http://{proxy}") };
                    let exceptions = reqwest::NoProxy::from_env();
                    builder.proxy(reqwest::Proxy::all(proxy).map_err(failed)?.no_proxy(exceptions))
                }
            })
        })),
        configure_request: None,
    };
    options.backend = Some(Arc::new(Mutex::new(client)));
    Box::new(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::git::Credentials;

    /// Two sources, both of which know something.
    fn options(written: Option<Login>, stored: Option<Login>) -> Options {
        let source = |login: Option<Login>| -> Option<Credentials> {
            Some(Arc::new(move |server: &str| {
                assert!(server.starts_with("https://example.com"), "{server}");
                login.clone()
            }))
        };
        Options { written: source(written), stored: source(stored), ..Options::default() }
    }

    fn ask(user: Option<gix::Repository>, options: Options) -> Option<(String, String)> {
        let action = Action::get_for_url("https://example.com/a.git");
        let outcome = authenticate(user, options, Arc::default())(action).expect("an answer");
        outcome.map(|outcome| (outcome.identity.username, outcome.identity.password))
    }

    fn pair(user: &str, password: &str) -> Option<(String, String)> {
        Some((user.to_owned(), password.to_owned()))
    }

    fn login(user: &str, password: &str) -> Option<Login> {
        Some(Login::Password { user: user.to_owned(), password: password.to_owned() })
    }

    /// A repository whose configuration stands for that of the user.
    fn user(directory: &tempfile::TempDir, helper: &str) -> Option<gix::Repository> {
        let path = directory.path().join("user");
        let config = format!("[core]\n\tbare = true\n[credential]\n\thelper = \n\thelper = \"{helper}\"\n");
        database::write_skeleton(&path, "ref: refs/heads/main\n", &config).expect("a repository");
        database::open_with_user_configuration(&path)
    }

    #[test]
    fn what_is_written_precedes_helpers_of_git_and_they_precede_the_store() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let helper = "!f() { test $1 = get && echo username=me && echo password=from-helper; }; f";
        let stored = || login("me", "stored");
        assert_eq!(ask(user(&directory, helper), options(login("me", "written"), stored())), pair("me", "written"));
        assert_eq!(ask(user(&directory, helper), options(None, stored())), pair("me", "from-helper"));
        // A name alone may be a token, or may only say whose password is wanted.
        assert_eq!(ask(user(&directory, helper), options(login("token", ""), None)), pair("me", "from-helper"));
        assert_eq!(ask(None, options(login("token", ""), stored())), pair("me", "stored"));
        assert_eq!(ask(None, options(login("token", ""), None)), pair("token", ""));
    }

    #[test]
    fn the_store_is_asked_when_helpers_know_nothing() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for helper in ["!f() { :; }; f", "!f() { exit 1; }; f", "!f() { echo username=me; }; f", "/no/such/program"] {
            let stored = options(None, login("me", "stored"));
            assert_eq!(ask(user(&directory, helper), stored), pair("me", "stored"), "{helper}");
            assert_eq!(ask(user(&directory, helper), Options::default()), None, "{helper}");
        }
        assert_eq!(ask(None, Options::default()), None);
    }

    #[test]
    fn a_program_that_is_not_installed_is_recognized() {
        let missing = client::Error::InvokeProgram {
            source: std::io::ErrorKind::NotFound.into(),
            command: "git upload-pack".into(),
        };
        let error = gix::error::ErrorExt::and_raise(missing, gix::error::message("the handshake failed"));
        assert!(is_missing_program(&error));
        let other = client::Error::Io(std::io::ErrorKind::NotFound.into());
        assert!(!is_missing_program(&gix::Error::from_error(other)));
    }
}
