//! Large files: git has a pointer in their place, the program `git lfs` gets what it points to.
//!
//! Large files are kept in the database (`lfs`), so that another commit does not fetch them again; in a checkout they
//! are copies. Unlike everything else here the program reads the user's configuration: it needs credentials and proxies
//! as much as git does. It is run only if the commit has large files.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use gix::bstr::{BStr, ByteSlice};
use gix::index::entry::Mode;
use gix::worktree::stack::state::attributes::Source;

use super::Options;
use super::checkout::{Work, quoted};
use super::error::{Cause, Failure, GitError};
use super::login::{self, Credentials, Login};
use super::url::RepositoryUrl;

/// What `git lfs install` would write, for the repository of a checkout.
pub(super) const CONFIG: &str = "[filter \"lfs\"]\n\
     \tclean = git-lfs clean -- %f\n\
     \tsmudge = git-lfs smudge -- %f\n\
     \tprocess = git-lfs filter-process\n\
     \trequired = true\n";

/// What a pointer begins with.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";

/// How often we look whether the program is done, or we are.
const PAUSE: Duration = Duration::from_millis(50);

/// Puts large files in the place of their pointers.
pub(super) fn fetch(
    work: Work<'_>,
    repository: &gix::Repository,
    index: &gix::index::State,
    directory: &Path,
) -> Result<(), Failure> {
    let damaged = |error: gix::Error| Failure::Damaged { database: work.database.to_owned(), cause: error.into() };
    let large = large_files(repository, index).map_err(damaged)?;
    if !large.iter().any(|path| is_pointer(directory, path)) {
        return Ok(());
    }
    let program = Program { work, directory };
    let kept = work.database.join("lfs");
    let _storage = Storage::set(&directory.join(".git/config"), work.url, &kept)?;
    if !program.run(&["lfs", "version"])? {
        return Err(GitError::NoLfs { url: work.url.clone() }.into());
    }
    if kept.join("objects").is_dir() {
        // What is kept is otherwise taken for right if it has the right size. What is missing fails here, too.
        program.run(&["lfs", "fsck", "--objects"])?;
        // Where damaged ones were moved to.
        let _ = fs::remove_dir_all(kept.join("bad"));
    }
    // Offline not even a local repository is asked: its `.lfsconfig` may name a server.
    if !work.session.options.offline {
        // Everything, whatever the repository's own `.lfsconfig` leaves out.
        program.run_or_fail(&["lfs", "pull", "origin", "--include=", "--exclude="])?;
    } else {
        program.run_or_fail(&["lfs", "checkout"])?;
    }
    match large.iter().find(|path| is_pointer(directory, path)) {
        None => Ok(()),
        Some(path) => Err(GitError::LfsNotReady { url: work.url.clone(), path: path.to_string() }.into()),
    }
}

/// The files whose attributes say that they are large.
fn large_files<'a>(repository: &gix::Repository, index: &'a gix::index::State) -> gix::Result<Vec<&'a BStr>> {
    let mut attributes = repository.attributes_only(index, Source::IdMapping)?;
    let mut matches = attributes.selected_attribute_matches(["filter"]);
    let mut large = Vec::new();
    for entry in index.entries() {
        if !matches!(entry.mode, Mode::FILE | Mode::FILE_EXECUTABLE) {
            continue;
        }
        let path = entry.path(index);
        if attributes.at_entry(path, Some(entry.mode))?.matching_attributes(&mut matches)
            && matches.iter_selected().any(|found| {
                matches!(found.assignment.state, gix::attrs::StateRef::Value(value) if value.as_bstr() == "lfs")
            })
        {
            large.push(path);
        }
    }
    Ok(large)
}

fn is_pointer(directory: &Path, path: &BStr) -> bool {
    let Ok(path) = gix::path::from_bstr(path) else { return false };
    let mut begin = [0; POINTER.len()];
    File::open(directory.join(path)).and_then(|mut file| file.read_exact(&mut begin)).is_ok() && begin == POINTER
}

/// Makes the program keep large files in the database and ask the address as it was given, until dropped.
///
/// A line in the configuration of the checkout, and not an argument: that would reach the program which reads a local
/// repository too, and have it look for that repository's large files in our database.
struct Storage {
    config: PathBuf,
    before: String,
}

impl Storage {
    fn set(config: &Path, url: &RepositoryUrl, storage: &Path) -> Result<Self, GitError> {
        let before = fs::read_to_string(config).map_err(GitError::io(config, "read"))?;
        // Relative paths are relative to `.git`.
        let storage = std::path::absolute(storage).map_err(GitError::io(storage, "found"))?;
        let as_given = before.replacen(&quoted(url.canonical().as_str()), &quoted(url.as_str()), 1);
        let text = format!("{as_given}[lfs]\n\tstorage = {}\n", quoted(&storage.to_string_lossy()));
        fs::write(config, text).map_err(GitError::io(config, "written"))?;
        Ok(Self { config: config.to_owned(), before })
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        // If it stays, large files are looked for where they are, as long as they are there.
        let _ = fs::write(&self.config, &self.before);
        // The program installs its hooks; what a build does with git should not run them.
        let _ = fs::remove_dir_all(self.config.with_file_name("hooks"));
    }
}

/// Runs git in a checkout.
struct Program<'a> {
    work: Work<'a>,
    directory: &'a Path,
}

impl Program<'_> {
    fn run_or_fail(&self, arguments: &[&str]) -> Result<(), Failure> {
        let mut said = self.output()?;
        if self.run_with(arguments, &mut said)? {
            return Ok(());
        }
        let mut text = Vec::new();
        said.rewind().and_then(|()| said.read_to_end(&mut text)).map_err(GitError::io(self.directory, "read"))?;
        let source = Cause::new(&text.to_str_lossy());
        Err(GitError::Lfs { url: self.work.url.clone(), source }.into())
    }

    fn run(&self, arguments: &[&str]) -> Result<bool, Failure> {
        self.run_with(arguments, &mut self.output()?)
    }

    /// A file, for a pipe could fill up while we wait.
    fn output(&self) -> Result<File, GitError> {
        tempfile::tempfile().map_err(GitError::io(&std::env::temp_dir(), "written to"))
    }

    fn run_with(&self, arguments: &[&str], said: &mut File) -> Result<bool, Failure> {
        let failed = GitError::io(self.directory, "worked on by git");
        let mut command = Command::new("git");
        command
            .current_dir(self.directory)
            .args(arguments)
            .env("GIT_TERMINAL_PROMPT", "0")
            // An empty one keeps git from all others.
            .env("GIT_ASKPASS", "")
            .env("GIT_LFS_SKIP_SMUDGE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        for variable in OF_ANOTHER_REPOSITORY {
            command.env_remove(variable);
        }
        if let Some(login) = self.login() {
            // Variables, for arguments can be seen by everybody on the machine.
            command.envs(setting(std::env::var(COUNT).ok().as_deref(), login));
        }
        let said = match said.try_clone() {
            Ok(said) => said,
            Err(error) => return Err(failed(error).into()),
        };
        let running = match self.work.session.options.programs.start(command.stderr(said)) {
            Ok(running) => running,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed(error).into()),
        };
        loop {
            match running.has_ended() {
                Ok(Some(status)) => return Ok(status.success()),
                Ok(None) => {}
                Err(error) => return Err(failed(error).into()),
            }
            self.work.session.go_on()?;
            std::thread::sleep(PAUSE);
        }
    }

    /// A login that git does not know, as a setting of git: a header for the server of the repository only.
    ///
    /// The program asks the helpers itself. Large files may lie elsewhere, with addresses that need no login.
    fn login(&self) -> Option<(String, String)> {
        let (url, options) = (self.work.url, self.work.session.options);
        if !login::is_private(url.as_str()) {
            return None;
        }
        let login = known(options, url.as_str())?;
        let (user, password) = login.as_password();
        let server = url.canonical().origin().ascii_serialization();
        Some((format!("http.{server}/.extraHeader"), login::basic(user, password)))
    }
}

/// Variables that would have git look elsewhere.
const OF_ANOTHER_REPOSITORY: [&str; 6] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
];

/// How many settings of git are given by variables.
const COUNT: &str = "GIT_CONFIG_COUNT";

/// The variables that give git one more setting than those that somebody gave it.
fn setting(given: Option<&str>, (name, value): (String, String)) -> [(String, String); 3] {
    let given: usize = given.and_then(|given| given.parse().ok()).unwrap_or(0);
    [
        (COUNT.to_owned(), (given + 1).to_string()),
        (format!("GIT_CONFIG_KEY_{given}"), name),
        (format!("GIT_CONFIG_VALUE_{given}"), value),
    ]
}

/// A login that git does not know. A name alone may be a token, or may only say whose password is wanted.
fn known(options: &Options, server: &str) -> Option<Login> {
    let ask = |source: &Option<Credentials>| source.as_ref()?(server);
    let written = ask(&options.written);
    if written.as_ref().is_some_and(|login| !login.is_name()) {
        return written;
    }
    ask(&options.stored).or(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_given_besides_those_that_somebody_gave() {
        let pairs = |count: &str, number: &str| {
            [(COUNT, count), (&format!("GIT_CONFIG_KEY_{number}"), "a"), (&format!("GIT_CONFIG_VALUE_{number}"), "b")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        for (given, count, number) in [(None, "1", "0"), (Some("2"), "3", "2"), (Some(""), "1", "0")] {
            assert_eq!(setting(given, ("a".to_owned(), "b".to_owned())), pairs(count, number));
        }
    }

    #[test]
    fn a_name_in_an_address_does_not_hide_the_password_that_is_stored() {
        let login = |password: &str| Login::Password { user: "me".to_owned(), password: password.to_owned() };
        let options = |written: Option<&str>, stored: Option<&str>| {
            let source = |password: Option<&str>| -> Option<Credentials> {
                let login = password.map(login);
                Some(std::sync::Arc::new(move |_: &str| login.clone()))
            };
            Options { written: source(written), stored: source(stored), ..Options::default() }
        };
        for (written, stored, expected) in [
            (Some("written"), Some("stored"), Some("written")),
            (Some(""), Some("stored"), Some("stored")),
            (Some(""), None, Some("")),
            (None, Some("stored"), Some("stored")),
            (None, None, None),
        ] {
            assert_eq!(known(&options(written, stored), "https://h/a"), expected.map(login));
        }
    }
}
