//! What the globs of a build backend mean.
//!
//! They are read like the lines of a gitignore file with the sense of `!` turned around: a glob takes, `!` leaves out,
//! and the last one that matches decides. These rules differ:
//!
//! * A name without `/` and wildcards means the entry of the folder itself, not those of the same name further down.
//! * `../` leads out of the folder. The walk then starts further up, and all other globs are rewritten to mean what
//!   they meant; except for those that begin with `!**/`, which hold wherever the walk comes to.
//! * What has a hidden name is found if a glob names it, see [`Hidden`].
//! * Nothing is taken by the mere fact that its folder is.
//!
//! **Invariant:** a folder that [`Matcher::below`] rules out holds no file that the globs take.

use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use ignore::Match;
use ignore::overrides::{Override, OverrideBuilder};
use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// One set of globs, as a backend reports it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GlobSet {
    /// The globs. Their order counts.
    pub patterns: Vec<String>,
    /// Names of files that end the walk of the folder they are in. If the globs take one, it is found in place of
    /// everything else in there; if not, nothing is.
    pub markers: Vec<String>,
    /// Whether hidden files and folders are passed over, unless a glob names them.
    pub exclude_hidden: bool,
    /// The folder that the globs are relative to, itself relative to that of the source. Nothing if it is that one.
    pub root: Option<String>,
}

/// Why globs could not be used.
#[derive(Clone, Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum GlobError {
    /// It has nothing that could match.
    #[error("the glob `{glob}` is empty")]
    #[diagnostic(help("to name everything in a folder, write `folder/**`"))]
    Empty {
        /// The glob.
        glob: String,
    },
    /// It starts at the root of the file system.
    #[error("the glob `{glob}` is absolute")]
    #[diagnostic(help("globs are relative to the folder of the source; `../` leads out of it"))]
    Absolute {
        /// The glob.
        glob: String,
    },
    /// It leads above the root of the file system.
    #[error("the glob `{glob}` leads {levels} folders up, which `{}` is not deep enough for", root.display())]
    #[diagnostic(help("take out as many `../` as there are too many"))]
    CannotAscend {
        /// The glob.
        glob: String,
        /// How far up it leads.
        levels: usize,
        /// From where.
        root: PathBuf,
    },
    /// It is not written as a glob is.
    #[error("the glob `{glob}` cannot be understood")]
    #[diagnostic(help("`[` and `{{` must be closed; a `\\` before a wildcard makes it an ordinary character"))]
    Syntax {
        /// The glob.
        glob: String,
        /// What is wrong with it.
        #[source]
        source: ignore::Error,
    },
    /// Each of them can be understood, but there are too many, or they are too long.
    #[error("{count} globs are too much to be looked for at once")]
    #[diagnostic(help("name folders instead of single files"))]
    TooMuch {
        /// How many there are.
        count: usize,
        /// What the limit is.
        #[source]
        source: ignore::Error,
    },
    /// A marker is a path, or no name at all.
    #[error("the marker `{marker}` is not the name of a file")]
    #[diagnostic(help("markers are looked for in every folder, so they are names without `/`"))]
    Marker {
        /// The marker.
        marker: String,
    },
    /// A folder is there, but could not be read, for another reason than that it must not be.
    #[error("`{}` cannot be read", path.display())]
    Read {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: Arc<std::io::Error>,
    },
}

/// Compiled globs.
///
/// Paths are given to it relative to [`root`](Self::root).
#[derive(Clone, Debug)]
pub(super) struct Matcher {
    root: PathBuf,
    globs: Override,
    hidden: Hidden,
    /// Takes what is hidden and named, and the folders on the way to it.
    named: Override,
    /// Takes those of them whose content is subject to all globs.
    opened: Override,
    /// Where the globs that take something lead. Nothing if all of them leave something out: the rest is taken then.
    ways: Option<Vec<Vec<Step>>>,
    markers: Vec<OsString>,
}

/// What becomes of entries whose names begin with a dot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hidden {
    /// They are like others.
    Shown,
    /// Those that no glob matches are passed over, except on the way to one that is named.
    PassedUnmatched,
    /// As there is a glob that matches everything, only those are found that another one names.
    PassedUnnamed,
}

/// What the globs say of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is passed over.
    Pass,
    /// It is found, or entered.
    Take {
        /// Whether only what is named is found in there: it is a hidden folder, entered for the sake of single files.
        closed: bool,
    },
    /// They say nothing. It is found, or entered, if nothing else speaks against it.
    Silent,
}

/// One component of a path as far as it helps to rule out folders.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Name(String),
    AnyName,
    /// Any number of components, or something that we do not try to understand.
    Everything,
}

/// How far the way into a folder follows those of the globs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Any file in there may be taken.
    Everything,
    /// The next component of these ways, by index, has to match.
    Along(Vec<(usize, usize)>),
}

impl Matcher {
    /// Compiles globs relative to a folder, which should be an absolute path. Nothing is read.
    ///
    /// # Errors
    ///
    /// If one of them is empty, absolute, leads up too far, or is malformed; or if a marker is not a name.
    pub(super) fn new(set: &GlobSet, base: &Path) -> Result<Self, GlobError> {
        let mut markers = Vec::new();
        for marker in &set.markers {
            let mut components = Path::new(marker).components();
            match (components.next(), components.next()) {
                (Some(Component::Normal(name)), None) if name == marker.as_str() => markers.push(name.to_owned()),
                _ => return Err(GlobError::Marker { marker: marker.clone() }),
            }
        }
        let globs = set.patterns.iter().map(|pattern| Glob::parse(pattern)).collect::<Result<Vec<_>, _>>()?;
        let mut root = normalized(&set.root.as_ref().map_or_else(|| base.to_owned(), |root| base.join(root)));
        let above = ascend(&mut root, &globs)?;

        let rebased: Vec<(&Glob, String)> = globs.iter().map(|glob| (glob, glob.rebased(&above))).collect();
        let mut all = OverrideBuilder::new("");
        for (glob, text) in &rebased {
            all.add(&glob.line(text)).map_err(|source| GlobError::Syntax { glob: glob.source.to_owned(), source })?;
        }
        let (named, opened) = named_hidden(&rebased);
        let build = |builder: OverrideBuilder| {
            builder.build().map_err(|source| GlobError::TooMuch { count: rebased.len(), source })
        };
        let has_takers = globs.is_empty() || globs.iter().any(|glob| !glob.negated);
        let takers = rebased.iter().filter(|(glob, _)| !glob.negated && !glob.only_folders);
        Ok(Self {
            root,
            globs: build(all)?,
            hidden: Hidden::of(set.exclude_hidden, &rebased),
            named: build(named)?,
            opened: build(opened)?,
            ways: has_takers.then(|| takers.map(|(_, text)| steps(text)).collect()),
            markers,
        })
    }

    /// Where the walk starts.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The names of files that end the walk of a folder.
    pub(crate) fn markers(&self) -> &[OsString] {
        &self.markers
    }

    /// Whether the globs take a marker.
    pub(crate) fn takes_marker(&self, path: &Path) -> bool {
        self.globs.matched(path, false).is_whitelist()
    }

    /// What becomes of an entry of a folder that is, or is not, closed.
    pub(crate) fn verdict(&self, path: &Path, is_folder: bool, in_closed: bool) -> Verdict {
        let is_hidden = self.hidden != Hidden::Shown
            && path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let by_name = || match self.named.matched(path, is_folder) {
            Match::Whitelist(_) => {
                Verdict::Take { closed: is_folder && !self.opened.matched(path, true).is_whitelist() }
            }
            _ => Verdict::Pass,
        };
        if in_closed || (is_hidden && self.hidden == Hidden::PassedUnnamed) {
            return by_name();
        }
        match self.globs.matched(path, is_folder) {
            Match::Whitelist(_) => Verdict::Take { closed: false },
            Match::Ignore(_) => Verdict::Pass,
            Match::None if is_hidden => by_name(),
            Match::None => Verdict::Silent,
        }
    }

    /// How far one is at the root. Nothing if there is no file that the globs can take.
    pub(crate) fn reach(&self) -> Option<Reach> {
        let Some(ways) = &self.ways else { return Some(Reach::Everything) };
        Self::along(ways, (0..ways.len()).map(|way| (way, 0)))
    }

    /// How far one is in a folder of a folder. Nothing if there is no file below it that the globs can take.
    pub(crate) fn below(&self, reach: &Reach, name: &OsStr) -> Option<Reach> {
        let (Some(ways), Reach::Along(at)) = (&self.ways, reach) else { return Some(Reach::Everything) };
        let follows = |way: usize, step: usize| match ways.get(way).and_then(|steps| steps.get(step)) {
            Some(Step::Name(expected)) => name == expected.as_str(),
            Some(Step::AnyName | Step::Everything) => true,
            None => false,
        };
        Self::along(ways, at.iter().filter(|(way, step)| follows(*way, *step)).map(|(way, step)| (*way, step + 1)))
    }

    fn along(ways: &[Vec<Step>], at: impl Iterator<Item = (usize, usize)>) -> Option<Reach> {
        let mut open = Vec::new();
        for (way, step) in at {
            match ways.get(way).and_then(|steps| steps.get(step)) {
                Some(Step::Everything) => return Some(Reach::Everything),
                Some(_) => open.push((way, step)),
                None => {}
            }
        }
        (!open.is_empty()).then_some(Reach::Along(open))
    }
}

/// One glob, taken apart.
struct Glob<'a> {
    source: &'a str,
    negated: bool,
    /// How many folders it leads up.
    up: usize,
    /// The rest of it, without a `/` at either end.
    body: String,
    /// Whether it has no wildcards.
    is_literal: bool,
    /// Whether it ends with `/`.
    only_folders: bool,
}

impl<'a> Glob<'a> {
    fn parse(source: &'a str) -> Result<Self, GlobError> {
        // As in gitignore files. An escaped one ends with a space, too, but not with the one that is taken away.
        let trimmed = source.trim_end_matches(' ');
        let trimmed = if trimmed.ends_with('\\') { source } else { trimmed };
        let (negated, path) = trimmed.strip_prefix('!').map_or((false, trimmed), |path| (true, path));
        if matches!(Path::new(path).components().next(), Some(Component::RootDir | Component::Prefix(_))) {
            return Err(GlobError::Absolute { glob: source.to_owned() });
        }
        // What comes before the first wildcard is a path, so that `..` can be worked out. What comes after it is kept
        // as it is, for a `/` may well stand within braces.
        let (mut up, mut parts, mut rest) = (0, Vec::new(), path);
        while !rest.is_empty() {
            let (part, after) = rest.split_once('/').unwrap_or((rest, ""));
            match part {
                "" | "." => {}
                ".." => up += usize::from(parts.pop().is_none()),
                _ if part.contains(['*', '?', '[', '{', '\\']) => break,
                _ => parts.push(part),
            }
            rest = after;
        }
        let rest = rest.trim_end_matches('/');
        parts.extend((!rest.is_empty()).then_some(rest));
        let body = parts.join("/");
        if body.is_empty() {
            return Err(GlobError::Empty { glob: source.to_owned() });
        }
        let is_literal = plain(&body).is_some();
        Ok(Self { source, negated, up, body, is_literal, only_folders: path.ends_with('/') })
    }

    /// What it is relative to the root of the walk, if that is so many folders further up.
    fn rebased(&self, above: &[String]) -> String {
        let is_global = self.negated && self.up == 0 && self.body.starts_with("**/");
        let kept = if is_global { 0 } else { above.len().saturating_sub(self.up) };
        let mut parts: Vec<&str> = above.iter().take(kept).map(String::as_str).collect();
        // A single component means any depth, which it would not any more with others in front of it.
        if !self.body.contains('/') && self.body != "**" && (self.only_folders || !self.is_literal) {
            parts.push("**");
        }
        parts.push(&self.body);
        parts.join("/")
    }

    /// The line of a gitignore file for it. The slash in front makes that nothing else is read into it.
    fn line(&self, text: &str) -> String {
        let (sign, end) = (if self.negated { "!" } else { "" }, if self.only_folders { "/" } else { "" });
        format!("{sign}/{text}{end}")
    }

    fn takes_everything(&self) -> bool {
        !self.negated && matches!(self.body.as_str(), "**" | "**/*")
    }

    fn takes_everything_hidden(&self) -> bool {
        let first = self.body.strip_prefix("**/").unwrap_or(&self.body).split('/').next();
        !self.negated && matches!(first, Some(".*" | ".**"))
    }
}

impl Hidden {
    fn of(excluded: bool, globs: &[(&Glob<'_>, String)]) -> Self {
        if !excluded {
            Self::Shown
        } else if globs.iter().any(|(glob, text)| glob.negated && text.starts_with("**/.*")) {
            // Whoever says what becomes of hidden entries, and in which order, is left alone.
            Self::PassedUnmatched
        } else if globs.iter().any(|(glob, _)| glob.takes_everything_hidden()) {
            Self::Shown
        } else if globs.iter().any(|(glob, _)| glob.takes_everything()) {
            Self::PassedUnnamed
        } else {
            Self::PassedUnmatched
        }
    }
}

/// The folders by which the root has to be moved up so that all globs are below it, from the uppermost.
fn ascend(root: &mut PathBuf, globs: &[Glob<'_>]) -> Result<Vec<String>, GlobError> {
    let start = root.clone();
    let mut above = Vec::new();
    let Some(highest) = globs.iter().max_by_key(|glob| glob.up) else { return Ok(above) };
    for _ in 0..highest.up {
        let Some(Component::Normal(name)) = root.components().next_back() else {
            let glob = highest.source.to_owned();
            return Err(GlobError::CannotAscend { glob, levels: highest.up, root: start });
        };
        above.push(escaped(name));
        root.pop();
    }
    above.reverse();
    Ok(above)
}

/// The glob that takes just this file.
pub(crate) fn naming(path: &str) -> String {
    let parts: Vec<String> = path.split('/').map(|part| escaped(part.as_ref())).collect();
    let mut glob = parts.join("/");
    if glob.starts_with('!') {
        glob.insert(0, '\\');
    }
    if glob.ends_with(' ') {
        glob.insert(glob.len() - 1, '\\');
    }
    glob
}

/// What a glob without wildcards names.
fn plain(glob: &str) -> Option<String> {
    let mut name = String::new();
    let mut chars = glob.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => name.push(chars.next()?),
            '*' | '?' | '[' | ']' | '{' | '}' => return None,
            _ => name.push(c),
        }
    }
    Some(name)
}

/// A glob for one name.
fn escaped(name: &OsStr) -> String {
    let mut escaped = String::new();
    for c in name.to_string_lossy().chars() {
        match c {
            // Globs are text. What is none can be any, which may find too much, but not too little.
            char::REPLACEMENT_CHARACTER => escaped.push('*'),
            '*' | '?' | '[' | ']' | '{' | '}' | '\\' => escaped.extend(['\\', c]),
            _ => escaped.push(c),
        }
    }
    escaped
}

/// The globs that name something hidden, in two builders: all of them with the folders on their way, and those of which
/// the content is subject to all globs. What leaves something out is in both, so that the order stays what it was.
///
/// `.foo/bar.txt` is about a file: a glob like `**` does not mean its neighbours. `.foo/*.txt` is about a folder, in
/// which `**` means whatever it means elsewhere.
fn named_hidden(globs: &[(&Glob<'_>, String)]) -> (OverrideBuilder, OverrideBuilder) {
    let (mut named, mut opened) = (OverrideBuilder::new(""), OverrideBuilder::new(""));
    for (glob, text) in globs {
        let mut add = |line: &str, opens: bool| {
            // Whole globs were added before. A part fails if it was cut within braces, and is of no use then.
            let _ = named.add(line);
            if opens {
                let _ = opened.add(line);
            }
        };
        if glob.negated {
            add(&glob.line(text), true);
            continue;
        }
        let parts: Vec<&str> = text.split('/').collect();
        let Some(first) = parts.iter().position(|part| names_hidden(part)) else { continue };
        // A folder above that is hidden has to be entered, but that makes nothing in it a thing that was asked for.
        let is_named = glob.is_literal || glob.body.split('/').any(names_hidden);
        let mut way = String::new();
        for (index, part) in parts.iter().enumerate() {
            way.push('/');
            way.push_str(part);
            if index + 1 == parts.len() {
                if is_named {
                    add(&glob.line(text), glob.is_literal || names_hidden(part));
                }
            } else if index >= first && (glob.is_literal || names_hidden(part)) {
                add(&format!("{way}/"), !glob.is_literal);
            }
        }
    }
    (named, opened)
}

/// Whether a component is made for hidden names.
fn names_hidden(part: &str) -> bool {
    (part.starts_with('.') && !matches!(part, "." | ".."))
        || (part.starts_with('{') && (part.contains("{.") || part.contains(",.")))
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for part in text.split('/') {
        if let Some(name) = plain(part) {
            steps.push(Step::Name(name));
            continue;
        }
        if part.contains("**") || part.contains(['[', ']', '{', '}', '\\']) {
            steps.push(Step::Everything);
            break;
        }
        steps.push(Step::AnyName);
    }
    steps
}

/// The path without `.` and `..`, worked out without looking.
fn normalized(path: &Path) -> PathBuf {
    let mut normalized = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => match normalized.components().next_back() {
                Some(Component::Normal(_)) => {
                    normalized.pop();
                }
                Some(Component::RootDir) => {}
                _ => normalized.push(component),
            },
            _ => normalized.push(component),
        }
    }
    normalized
}
