//! What manifests mean, what they are refused for, and that nothing in them can bring the reader down.

mod composition;
mod discovery;
pub(super) mod errors;
mod keys;
mod package;
mod properties;
mod pyproject;
mod sources;

use std::path::Path;

use super::*;

pub(super) fn options() -> ManifestOptions {
    ManifestOptions { channel_alias: Some("https://conda.example".parse().unwrap()) }
}

pub(super) fn parse_at(path: &str, text: &str) -> Result<Workspace, ManifestError> {
    Workspace::parse(text, Path::new(path), &options())
}

#[track_caller]
pub(super) fn parse(text: &str) -> Workspace {
    parse_at("/projects/app/pixi.toml", text).unwrap()
}

/// A manifest for `linux-64` with the channel `main` and these tables.
#[track_caller]
pub(super) fn small(tables: &str) -> Workspace {
    parse(&small_text(tables))
}

pub(super) fn small_text(tables: &str) -> String {
    format!("[workspace]\nchannels = [\"main\"]\nplatforms = [\"linux-64\"]\n{tables}")
}

/// The requirements of an environment, as a reader sees them.
#[track_caller]
pub(super) fn requirements(workspace: &Workspace, environment: &str, platform: &str) -> Vec<String> {
    let description = workspace.describe(environment, platform).unwrap();
    description.needs.requirements.iter().map(ToString::to_string).collect()
}

/// The warnings of a manifest, as a reader sees them.
pub(super) fn warnings(workspace: &Workspace) -> String {
    workspace.warnings().iter().map(|warning| format!("{warning}\n")).collect()
}
