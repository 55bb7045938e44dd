//! The names of the files in `conda-meta` that are not records of packages.

use std::path::{Path, PathBuf};

/// The folder that makes a folder a prefix.
pub(crate) const CONDA_META: &str = "conda-meta";

/// What the prefix looked like when we left it.
pub(crate) const LEDGER: &str = "doge";
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

pub(crate) fn meta(prefix: &Path, name: &str) -> PathBuf {
    prefix.join(CONDA_META).join(name)
}

/// Writes a file aside and renames it.
pub(crate) fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut aside = tempfile::Builder::new().prefix(".doge-").tempfile_in(directory)?;
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
