//! The workspace that a command is about.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use doge_queries::build::BackendOverrides;
use doge_queries::collect::{self, Limits};
use doge_queries::config::Config;
use doge_queries::doge::RunRecord;
use doge_queries::environment::{BuildOptions, LockFileSpec, ManifestText};
use doge_queries::prefix::was_left_by_us;
use doge_queries::workspace::lock::LockedFile;
use doge_queries::workspace::{LOCK_FILE, ManifestOptions, Workspace, discovery};
use doge_queries::{CacheDirs, Problem};
use miette::{IntoDiagnostic as _, WrapErr as _, miette};

use crate::arguments::{Common, Output, Size};
use crate::outcome::say;

/// Where a workspace is, and where things are kept for it: what is known before its manifest is read.
pub(crate) struct Place {
    pub(crate) root: PathBuf,
    /// The manifest, as it was found.
    path: PathBuf,
    /// What is said to people.
    pub(crate) output: Output,
    pub(crate) config: Config,
    pub(crate) caches: CacheDirs,
    limits: Limits,
}

impl Place {
    /// Finds the workspace.
    pub(crate) fn find(common: &Common) -> miette::Result<Self> {
        let path = manifest_path(common)?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        // One workspace has one name, however one came to it.
        let root = std::fs::canonicalize(directory)
            .into_diagnostic()
            .wrap_err_with(|| format!("the directory `{}` of the manifest cannot be found", directory.display()))?;
        let config = Config::load(&root)?;
        Ok(Self { root, path, output: common.output, config, caches: cache_dirs(common)?, limits: cache_limits()? })
    }
}

/// A workspace, read.
pub(crate) struct Located {
    pub(crate) place: Place,
    file_name: String,
    pub(crate) manifest: ManifestText,
    /// There until the process ends, which does not wait for it to be taken apart.
    pub(crate) workspace: &'static Workspace,
}

impl Located {
    /// Finds and reads the workspace.
    pub(crate) fn find(common: &Common) -> miette::Result<Self> {
        Self::read(Place::find(common)?)
    }

    /// Reads the manifest.
    pub(crate) fn read(place: Place) -> miette::Result<Self> {
        let path = &place.path;
        let bytes = std::fs::read(path)
            .into_diagnostic()
            .wrap_err_with(|| format!("the manifest `{}` cannot be read", path.display()))?;
        let text =
            String::from_utf8(bytes).map_err(|_| miette!("the manifest `{}` is not UTF-8 text", path.display()))?;
        let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let options = ManifestOptions::default();
        // What is shown is the text as it stands there; what is kept is without credentials.
        let workspace = Workspace::parse(&text, &place.root.join(&file_name), &options).map_err(Problem::new)?;
        let manifest = ManifestText::new(&file_name, &text, &options);
        Ok(Self { place, file_name, manifest, workspace: Box::leak(Box::new(workspace)) })
    }

    /// Collects what is old or too much, if the run wrote anything and it is time for that. Nobody waits for this but the
    /// end of the process, and it ends soon.
    pub(crate) fn collect_after(&self, record: &RunRecord) {
        if !record.counts.executed.is_empty() {
            // What was not collected now is collected after a later run.
            let _ = collect::after_run(&self.place.caches, &self.place.root, self.place.limits);
        }
    }

    /// How packages are built that have to be.
    pub(crate) fn build_options(&self) -> miette::Result<BuildOptions> {
        let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let (all, named) = (variable(OVERRIDE_ALL), variable(OVERRIDE));
        let overrides = BackendOverrides::parse(all.as_deref(), named.as_deref()).map_err(Problem::new)?;
        if !overrides.is_empty() {
            say(&format!("warning: build backends are taken from the system, as `{OVERRIDE}` says"));
        }
        Ok(BuildOptions { overrides, pass_env: self.place.config.pass_env() })
    }

    /// Says what the manifest asks for and does not get.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let file = &self.file_name;
        self.workspace.warnings().iter().map(|warning| format!("{file}, {warning}")).collect()
    }

    /// What the runs of this workspace are told apart by from those of others.
    pub(crate) fn scope(&self) -> String {
        self.place.root.display().to_string()
    }

    /// Whether something was built or installed here, as far as it is still there.
    pub(crate) fn has_installed(&self) -> bool {
        let environments = std::fs::read_dir(self.place.root.join(".pixi/envs")).into_iter().flatten().flatten();
        self.place.root.join(".pixi/doge").is_dir()
            || environments.map(|entry| entry.path()).any(|path| was_left_by_us(&path))
    }

    /// What the lock file says at this moment; nothing if it is not there or cannot be read.
    pub(crate) fn lock_text(&self) -> Option<String> {
        std::fs::read_to_string(self.place.root.join(LOCK_FILE)).ok()
    }

    /// Refuses names that are locked nowhere. Without a lock file that can be read, nothing is refused.
    pub(crate) fn check_package_names(&self, names: &[String]) -> miette::Result<()> {
        let path = self.place.root.join(LOCK_FILE);
        let Some(locked) =
            self.lock_text().and_then(|text| LockedFile::parse(&text, &path, self.workspace.root()).ok())
        else {
            return Ok(());
        };
        let mut known: BTreeSet<String> = BTreeSet::new();
        for (environment, platform) in self.workspace.targets() {
            let Some(Ok(packages)) = locked.packages_of(&environment.name, platform) else { continue };
            known.extend(packages.names());
        }
        match names.iter().find(|name| !known.contains(*name)) {
            None => Ok(()),
            Some(name) => Err(miette!(
                help = "a name without version, as `doge solve --update=zlib`",
                "no environment of the workspace has a package `{name}`"
            )),
        }
    }
}

/// The lock file beside the manifest.
pub(crate) fn lock_file() -> LockFileSpec {
    LockFileSpec { path: LOCK_FILE.to_owned() }
}

/// Says each warning on a line of its own.
pub(crate) fn warn(warnings: &[String]) {
    for warning in warnings {
        say(&format!("warning: {warning}"));
    }
}

fn manifest_path(common: &Common) -> miette::Result<PathBuf> {
    let found = match &common.manifest_path {
        Some(path) => {
            let path = std::path::absolute(path).into_diagnostic()?;
            discovery::manifest_at(&path)
        }
        None => {
            let here = std::env::current_dir().into_diagnostic().wrap_err("there is no current directory")?;
            discovery::find_manifest(&here)
        }
    };
    Ok(found.map_err(Problem::new)?)
}

/// The workspace that the command was given in, if it was given in one.
pub(crate) fn root_here(common: &Common) -> Option<PathBuf> {
    manifest_path(common).ok()?.parent().map(Path::to_owned)
}

/// Where things are kept.
pub(crate) fn cache_dirs(common: &Common) -> miette::Result<CacheDirs> {
    match &common.cache_dir {
        Some(path) => Ok(CacheDirs::below(&std::path::absolute(path).into_diagnostic()?)),
        None => CacheDirs::from_environment().ok_or_else(|| {
            miette!(
                help = "name a directory with `--cache-dir DIR` or the variable `DOGE_CACHE_DIR`",
                "this user has no cache directory"
            )
        }),
    }
}

/// The variable that says that all build backends are programs of the system.
const OVERRIDE_ALL: &str = "PIXI_BUILD_BACKEND_OVERRIDE_ALL";
/// The variable that says which are, and where.
const OVERRIDE: &str = "PIXI_BUILD_BACKEND_OVERRIDE";

/// The variable that says how much is kept: a size, or `off`.
const MAX_SIZE: &str = "DOGE_CACHE_MAX_SIZE";
/// The variable that says how long what is not used is kept: a duration, or `off`.
const MAX_AGE: &str = "DOGE_CACHE_MAX_AGE";

/// How much is kept, and for how long.
pub(crate) fn cache_limits() -> miette::Result<Limits> {
    let mut limits = Limits::default();
    if let Some(text) = limit(MAX_SIZE)? {
        limits.max_bytes = parsed(MAX_SIZE, &text, "a size as `2GiB`, or `off`", |text| Ok(text.parse::<Size>()?.0))?;
    }
    if let Some(text) = limit(MAX_AGE)? {
        let parse = |text: &str| humantime::parse_duration(text).map_err(|error| error.to_string());
        limits.max_age = parsed(MAX_AGE, &text, "a duration as `90d`, or `off`", parse)?;
    }
    Ok(limits)
}

fn limit(name: &str) -> miette::Result<Option<String>> {
    match std::env::var(name) {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => Ok(Some(text)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(miette!("the variable `{name}` is not text")),
    }
}

fn parsed<T>(
    name: &str,
    text: &str,
    form: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> miette::Result<Option<T>> {
    if text == "off" {
        return Ok(None);
    }
    parse(text)
        .map(Some)
        .map_err(|error| miette!(help = form.to_owned(), "the variable `{name}` cannot be used: {error}"))
}
