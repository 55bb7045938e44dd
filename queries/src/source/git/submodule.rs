//! Submodules: repositories at fixed commits inside of others.
//!
//! gix has no update of submodules, so this is ours. Only what a commit says counts: the commit in its tree and the
//! address in its `.gitmodules`; branches, commands and names there are not used. One that says `update = none` is left
//! an empty directory, as git does.
//!
//! Commits cannot contain each other in a circle, for their names depend on what they hold. A repository may well
//! contain itself at an older commit; how deep this goes is limited.

use std::fs;
use std::io;
use std::path::Path;

use gix::bstr::{BStr, BString, ByteSlice};
use gix::index::entry::Mode;

use super::checkout::Work;
use super::error::{Failure, GitError};
use super::url::RepositoryUrl;
use super::{Commit, fetch};

/// How many repositories may be inside each other.
const DEPTH: usize = 10;

/// A repository that contains the one being written.
type Outer<'a> = (&'a RepositoryUrl, Commit);

/// Writes a commit with its submodules.
pub(super) fn fill(work: Work<'_>, directory: &Path, outer: &[Outer<'_>]) -> Result<(), Failure> {
    let (repository, index) = work.write(directory)?;
    let links: Vec<(&BStr, Commit)> = index
        .entries()
        .iter()
        .filter(|entry| entry.mode == Mode::COMMIT)
        .map(|entry| (entry.path(&index), Commit(entry.id)))
        .collect();
    if links.is_empty() {
        return Ok(());
    }
    let modules = Modules::read(work, &repository, &index)?;
    let mut chain = outer.to_vec();
    chain.push((work.url, work.commit));
    for (path, commit) in links {
        work.session.go_on()?;
        let wrong = |reason: &str| GitError::Submodule {
            url: work.url.clone(),
            path: path.to_string(),
            reason: reason.to_owned(),
        };
        let inner = make_directory(directory, path).map_err(|error| match error {
            Blocked::Link => wrong("its directory is taken"),
            Blocked::Io(error) => GitError::io(&directory.join(path.to_str_lossy().as_ref()), "created")(error),
        })?;
        let module = modules.at(path).ok_or_else(|| wrong("it is not in .gitmodules"))?;
        module.check_name().map_err(wrong)?;
        if module.is_off {
            continue;
        }
        let address = module.url.as_ref().ok_or_else(|| wrong("it has no url in .gitmodules"))?;
        let url = work.url.submodule(&address.to_str_lossy()).map_err(|error| wrong(&error.to_string()))?;
        if !work.url.may_contain(&url) {
            return Err(wrong("its url is local, that of the repository is not").into());
        }
        if chain.iter().any(|(outer, at)| **outer == url && *at == commit) {
            return Err(wrong("it contains itself").into());
        }
        if chain.len() >= DEPTH {
            return Err(wrong("submodules are nested too deep").into());
        }
        let database = work.root_database.join("modules").join(url.digest());
        let submodule = Work { url: &url, commit, database: &database, ..work };
        fetch::fetch_commit(work.session, &url, commit, &database)
            .and_then(|_| fill(submodule, &inner, &chain))
            .map_err(|failure| match failure {
                Failure::Answer(GitError::Interrupted) => GitError::Interrupted.into(),
                Failure::Answer(error) => {
                    GitError::InSubmodule { url: work.url.clone(), path: path.to_string(), source: Box::new(error) }
                        .into()
                }
                damaged @ Failure::Damaged { .. } => damaged,
            })?;
    }
    Ok(())
}

enum Blocked {
    Link,
    Io(io::Error),
}

/// Makes the directory of a submodule, one part at a time, so that no symbolic link is followed on any file system.
fn make_directory(root: &Path, path: &BStr) -> Result<std::path::PathBuf, Blocked> {
    let mut directory = root.to_owned();
    for part in path.split_str("/") {
        let part = gix::path::from_bstr(part.as_bstr()).map_err(|error| Blocked::Io(io::Error::other(error)))?;
        directory.push(part);
        match fs::create_dir(&directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let is_directory = fs::symlink_metadata(&directory).is_ok_and(|metadata| metadata.is_dir());
                if !is_directory {
                    return Err(Blocked::Link);
                }
            }
            Err(error) => return Err(Blocked::Io(error)),
        }
    }
    // It is empty, unless names are the same here that were different in the commit.
    match fs::read_dir(&directory).map_err(Blocked::Io)?.next() {
        None => Ok(directory),
        Some(_) => Err(Blocked::Link),
    }
}

/// What `.gitmodules` says of one submodule.
#[derive(Default)]
struct Module {
    name: BString,
    path: Option<BString>,
    url: Option<BString>,
    is_off: bool,
}

impl Module {
    /// Names are where git keeps submodules; ours is elsewhere. One that would lead astray there is refused all the
    /// same: nothing good has it.
    fn check_name(&self) -> Result<(), &'static str> {
        let mut parts = self.name.split(|byte| matches!(byte, b'/' | b'\\'));
        if self.name.is_empty() || parts.any(|part| part == b"..") {
            return Err("its name in .gitmodules leads out of the repository");
        }
        Ok(())
    }
}

struct Modules(Vec<Module>);

impl Modules {
    fn read(work: Work<'_>, repository: &gix::Repository, index: &gix::index::State) -> Result<Self, Failure> {
        let file = index.entry_by_path(".gitmodules".into()).filter(|entry| {
            // A link would make us read something else.
            matches!(entry.mode, Mode::FILE | Mode::FILE_EXECUTABLE)
        });
        let Some(file) = file else { return Ok(Self(Vec::new())) };
        let blob = repository
            .find_blob(file.id)
            .map_err(|error| Failure::Damaged { database: work.database.to_owned(), cause: error.into() })?;
        Self::parse(&blob.data).map_err(|_| {
            let path = ".gitmodules".to_owned();
            GitError::Submodule { url: work.url.clone(), path, reason: "the file is malformed".to_owned() }.into()
        })
    }

    /// Several sections of one name are one, and the last value counts.
    fn parse(text: &[u8]) -> gix::Result<Self> {
        let meta = gix::config::file::Metadata::api();
        let file = gix::config::File::from_bytes_no_includes(text, meta, Default::default())?;
        let mut modules: Vec<Module> = Vec::new();
        for section in file.sections_by_name("submodule").into_iter().flatten() {
            let Some(name) = section.header().subsection_name() else { continue };
            let at = modules.iter().position(|module| module.name == name).unwrap_or_else(|| {
                modules.push(Module { name: name.to_owned(), ..Module::default() });
                modules.len() - 1
            });
            let module = &mut modules[at];
            module.path = section.value("path").or_else(|| module.path.take());
            module.url = section.value("url").or_else(|| module.url.take());
            module.is_off = section.value("update").map_or(module.is_off, |update| update == "none");
        }
        Ok(Self(modules))
    }

    fn at(&self, path: &BStr) -> Option<&Module> {
        let is_here =
            |module: &&Module| module.path.as_ref().is_some_and(|of| of.trim_end_with(|c| c == '/') == path.as_bytes());
        self.0.iter().find(is_here)
    }
}
