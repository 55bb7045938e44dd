//! The files of the source directory that are packaged.
//!
//! A glob matches whole paths with `/` between their parts: `*` and `?` stay within a part, `**` stands for any number
//! of parts, and `dir/` means `dir/**`. A `!` in front takes away what earlier globs gave.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use crate::archive::{Content, Packaged};
use crate::protocol::RpcError;

/// What is taken off the front of a path when it is packaged.
const CONTENT: &str = "content/";

/// The files in `source` that the globs select, as they are to be in the package.
pub(crate) fn collect(source: &Path, globs: &[String]) -> Result<BTreeMap<String, Packaged>, RpcError> {
    let mut files = BTreeMap::new();
    visit(source, "", globs, &mut files).map_err(|error| {
        RpcError::backend("source", format!("cannot read the source directory {}: {error}", source.display()))
    })?;
    Ok(files)
}

fn visit(directory: &Path, inside: &str, globs: &[String], files: &mut BTreeMap<String, Packaged>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            return Err(io::Error::other(format!("the name of {} is not UTF-8", entry.path().display())));
        };
        if inside.is_empty() && name.starts_with('.') {
            continue;
        }
        let path = format!("{inside}{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() {
            visit(&entry.path(), &format!("{path}/"), globs, files)?;
        } else if is_selected(globs, &path) {
            let packaged = path.strip_prefix(CONTENT).unwrap_or(&path).to_owned();
            let content = if kind.is_symlink() { link(&entry.path())? } else { file(&entry.path(), &packaged)? };
            files.insert(packaged, Packaged { content, prefix: None });
        }
    }
    Ok(())
}

fn file(path: &Path, packaged: &str) -> io::Result<Content> {
    let executable = packaged.starts_with("bin/") || is_executable(path)?;
    Ok(Content::File { bytes: fs::read(path)?, executable })
}

fn link(path: &Path) -> io::Result<Content> {
    let target = fs::read_link(path)?.into_os_string().into_string();
    target.map(Content::Link).map_err(|_| io::Error::other(format!("the target of {} is not UTF-8", path.display())))
}

#[cfg(unix)]
fn is_executable(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::metadata(path)?.permissions().mode() & 0o100 != 0)
}

#[cfg(not(unix))]
fn is_executable(_path: &Path) -> io::Result<bool> {
    Ok(false)
}

fn is_selected(globs: &[String], path: &str) -> bool {
    let mut selected = false;
    for glob in globs {
        let (glob, takes_away) = glob.strip_prefix('!').map_or((glob.as_str(), false), |glob| (glob, true));
        if matches(glob, path) {
            selected = !takes_away;
        }
    }
    selected
}

fn matches(glob: &str, path: &str) -> bool {
    let mut parts: Vec<&str> = glob.split('/').collect();
    if let Some(last) = parts.last_mut().filter(|last| last.is_empty()) {
        *last = "**";
    }
    matches_parts(&parts, &path.split('/').collect::<Vec<_>>())
}

fn matches_parts(glob: &[&str], path: &[&str]) -> bool {
    match (glob, path) {
        ([], []) => true,
        (["**", rest @ ..], _) => (0..=path.len()).any(|skipped| matches_parts(rest, &path[skipped..])),
        ([part, glob @ ..], [name, path @ ..]) => {
            matches_part(part.as_bytes(), name.as_bytes()) && matches_parts(glob, path)
        }
        _ => false,
    }
}

fn matches_part(glob: &[u8], name: &[u8]) -> bool {
    match (glob, name) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=name.len()).any(|skipped| matches_part(rest, &name[skipped..])),
        ([b'?', glob @ ..], [_, name @ ..]) => matches_part(glob, name),
        ([letter, glob @ ..], [other, name @ ..]) => letter == other && matches_part(glob, name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{is_selected, matches};

    #[test]
    fn stars_stay_within_a_part_and_double_stars_do_not() {
        assert!(matches("content/**", "content/bin/x"));
        assert!(matches("content/", "content/bin/x"));
        assert!(matches("**/*.txt", "a.txt"));
        assert!(matches("src/?.c", "src/a.c"));
        assert!(!matches("content/*", "content/bin/x"));
        assert!(!matches("content/**", "contents/x"));
    }

    #[test]
    fn the_last_glob_that_matches_decides() {
        let globs = ["**", "!**/*.o", "keep.o"].map(str::to_owned);
        assert!(is_selected(&globs, "a.c"));
        assert!(!is_selected(&globs, "lib/a.o"));
        assert!(is_selected(&globs, "keep.o"));
    }
}
