//! Finding the manifest of a workspace, and reading it from disk.
//!
//! These functions look at the file system; everything else in this module works on what it is handed.

use std::{
    io,
    path::{Path, PathBuf},
};

use fs_err as fs;
use miette::Diagnostic;
use thiserror::Error;

use super::{
    error::ManifestError,
    manifest::{ManifestOptions, PIXI_TOML, PYPROJECT_TOML, Workspace},
};

/// Why no workspace was loaded.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum LoadError {
    /// No manifest in a directory and in none above it.
    #[error("there is no workspace in `{}` or in a directory above it", start.display())]
    #[diagnostic(help(
        "a workspace is a directory with a `pixi.toml`, or with a `pyproject.toml` that has `[tool.pixi]`"
    ))]
    NotFound {
        /// Where the search began.
        start: PathBuf,
    },
    /// A directory that was named holds no manifest.
    #[error("`{}` holds no manifest", path.display())]
    #[diagnostic(help("a manifest is called `pixi.toml` or `pyproject.toml`"))]
    NoManifestIn {
        /// The directory.
        path: PathBuf,
    },
    /// A path that has to be absolute is not.
    #[error("`{}` is not an absolute path", path.display())]
    NotAbsolute {
        /// The path.
        path: PathBuf,
    },
    /// A manifest that cannot be read.
    #[error("the manifest cannot be read")]
    Read {
        /// What the system says; it names the file.
        #[source]
        source: io::Error,
    },
    /// A manifest that is not text.
    #[error("`{}` is not UTF-8 text", path.display())]
    NotText {
        /// The manifest.
        path: PathBuf,
    },
    /// A manifest that says something unusable.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Manifest(#[from] ManifestError),
}

/// The manifest that `--manifest-path` names: a file, or a directory that holds one.
///
/// # Errors
///
/// If there is none.
pub fn manifest_at(path: &Path) -> Result<PathBuf, LoadError> {
    if !path.is_absolute() {
        return Err(LoadError::NotAbsolute { path: path.to_owned() });
    }
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let pixi = path.join(PIXI_TOML);
    if pixi.is_file() {
        return Ok(pixi);
    }
    let pyproject = path.join(PYPROJECT_TOML);
    if pyproject.is_file() {
        return Ok(pyproject);
    }
    Err(LoadError::NoManifestIn { path: path.to_owned() })
}

/// The manifest of the workspace a directory belongs to: in it, or in the nearest directory above that has one.
///
/// A `pixi.toml` goes before a `pyproject.toml` beside it, and a `pyproject.toml` without `[tool.pixi]` is passed over.
///
/// # Errors
///
/// If there is none, or if a `pyproject.toml` on the way cannot be read.
pub fn find_manifest(start: &Path) -> Result<PathBuf, LoadError> {
    if !start.is_absolute() {
        return Err(LoadError::NotAbsolute { path: start.to_owned() });
    }
    for directory in start.ancestors() {
        let pixi = directory.join(PIXI_TOML);
        if pixi.is_file() {
            return Ok(pixi);
        }
        let pyproject = directory.join(PYPROJECT_TOML);
        if pyproject.is_file() && has_pixi_table(&read(&pyproject)?) {
            return Ok(pyproject);
        }
    }
    Err(LoadError::NotFound { start: start.to_owned() })
}

/// Whether a `pyproject.toml` describes a workspace. One that is not TOML is taken to, so that its error is shown.
fn has_pixi_table(text: &str) -> bool {
    toml::de::DeTable::parse(text).map_or_else(
        |_| text.contains("[tool.pixi"),
        |table| {
            table
                .get_ref()
                .get("tool")
                .and_then(|tool| tool.get_ref().as_table()?.get("pixi"))
                .is_some_and(|pixi| pixi.get_ref().is_table())
        },
    )
}

/// Reads the workspace of a manifest.
///
/// # Errors
///
/// If the file cannot be read, or what it says cannot be used.
pub fn load(manifest_path: &Path, options: &ManifestOptions) -> Result<Workspace, LoadError> {
    if !manifest_path.is_absolute() {
        return Err(LoadError::NotAbsolute { path: manifest_path.to_owned() });
    }
    Ok(Workspace::parse(&read(manifest_path)?, manifest_path, options)?)
}

fn read(path: &Path) -> Result<String, LoadError> {
    let bytes = fs::read(path).map_err(|source| LoadError::Read { source })?;
    String::from_utf8(bytes).map_err(|_| LoadError::NotText { path: path.to_owned() })
}
