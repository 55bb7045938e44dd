//! The names of the files in `conda-meta` that are not records of packages.

use std::path::{Path, PathBuf};

/// The folder that makes a folder a prefix.
pub(crate) const CONDA_META: &str = "conda-meta";

/// What the prefix looked like when we left it.
pub(crate) const LEDGER: &str = "doge";
/// Which files its packages brought.
pub(crate) const INVENTORY: &str = "doge-files";
/// What is being changed.
pub(crate) const JOURNAL: &str = "doge-journal";
/// pixi's lock of the environment, which also holds a fingerprint of what it installed: sixteen hexadecimal digits, or
/// anything else if that is not known.
pub(crate) const PIXI_FINGERPRINT: &str = ".pixi-environment-fingerprint";
/// What pixi says it installed from: manifest, environment, version, hash of the lock file. JSON.
pub(crate) const PIXI_ENVIRONMENT: &str = "pixi";
/// The path that the prefix was installed at, as plain text.
pub(crate) const PIXI_PREFIX: &str = "pixi_env_prefix";

/// What we lock while we change the prefix.
pub(crate) const OWN_LOCK: &str = ".doge-lock";

/// What the names of files that are being written begin with.
const ASIDE: &str = ".doge-aside-";
/// The same of the installer's, for the records of packages.
const RECORD_ASIDE: &str = "prefix_record_";
/// What the names begin with of a folder and a link by which the installer tries out what the file system can do.
const PROBES: [&str; 2] = [".refprobe-", "symtest_"];

/// Removes what a writer that was killed left behind. Only for who holds the lock on the prefix.
pub(crate) fn remove_leftovers(prefix: &Path) -> std::io::Result<usize> {
    let mut removed = 0;
    let leftover = |folder: &Path, begins: &[&str]| -> std::io::Result<Vec<std::fs::DirEntry>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if begins.iter().any(|begin| name.as_encoded_bytes().starts_with(begin.as_bytes())) {
                found.push(entry);
            }
        }
        Ok(found)
    };
    for entry in leftover(&prefix.join(CONDA_META), &[ASIDE, RECORD_ASIDE])? {
        // A package may be called anything.
        if !entry.file_name().as_encoded_bytes().ends_with(b".json") {
            remove(&entry.path())?;
            removed += 1;
        }
    }
    for entry in leftover(prefix, &PROBES)? {
        let kind = entry.file_type()?;
        if kind.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else if kind.is_symlink() {
            remove(&entry.path())?;
        } else {
            continue;
        }
        removed += 1;
    }
    // The installer writes this one only if there is none.
    let tag = prefix.join("CACHEDIR.TAG");
    if std::fs::read(&tag).is_ok_and(|content| !content.starts_with(b"Signature: ") || !content.ends_with(b"\n")) {
        remove(&tag)?;
    }
    Ok(removed)
}

/// A file for a moment, which is removed if we do not come to it.
pub(crate) fn aside(prefix: &Path, name: &str) -> PathBuf {
    meta(prefix, &format!("{ASIDE}{name}"))
}

pub(crate) fn meta(prefix: &Path, name: &str) -> PathBuf {
    prefix.join(CONDA_META).join(name)
}

/// Writes a file aside and renames it.
pub(crate) fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut aside = tempfile::Builder::new().prefix(ASIDE).tempfile_in(directory)?;
    std::io::Write::write_all(&mut aside, content)?;
    aside.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Removes a file that may not be there.
pub(crate) fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Removes a directory with all that is in it, which may not be there. Folders in it may be write-protected, as tools leave
/// what they keep for themselves.
pub(crate) fn remove_tree(path: &Path) -> std::io::Result<()> {
    let removed = match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            unprotect(path);
            std::fs::remove_dir_all(path)
        }
        removed => removed,
    };
    match removed {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Makes the folders of a directory ones that can be emptied, as far as they are ours.
fn unprotect(path: &Path) {
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let _ = std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700));
        }
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        folders.extend(entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|it| it.path()));
    }
}
