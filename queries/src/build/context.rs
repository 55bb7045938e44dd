//! What packages are built for.

use std::collections::BTreeMap;
use std::fmt;

use doge::{ActionContext, AnyError, Db, Failure, Fingerprint, Intern, Interned, Root, Stop};
use rattler_conda_types::Subdir;
use rattler_lock::VariantValue;
use rattler_lock::options::{ChannelPriority, SolveStrategy};
use serde::{Deserialize, Serialize};

use crate::files::{FilesSpec, GlobSet, naming};
use crate::workspace::{ExcludeNewer, Location, Requirement, SolveDescription};

/// A platform that packages run on, with what it has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BuildPlatform {
    /// The platform.
    pub subdir: Subdir,
    /// Its virtual packages, as `__name=version=build`, sorted.
    pub virtual_packages: Vec<String>,
}

/// Everything besides the sources that packages of an environment are built with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildContext {
    /// Where packages come from, the most important first.
    pub channels: Vec<Location>,
    /// Whether a channel further up hides those below it.
    pub channel_priority: ChannelPriority,
    /// What is too new.
    pub exclude_newer: Option<ExcludeNewer>,
    /// The platform that the packages run on.
    pub host: BuildPlatform,
    /// The platform that builds run on.
    pub build: BuildPlatform,
    /// The platform that backends run on.
    pub tool: BuildPlatform,
    /// The values that variants are made of.
    pub variants: BTreeMap<String, Vec<VariantValue>>,
    /// The same for what runs on the platform of backends, where it is not the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_variants: Option<BTreeMap<String, Vec<VariantValue>>>,
    /// Files with further values: their paths in the workspace, in order, and what is in them.
    pub variant_files: Vec<(String, Option<Fingerprint>)>,
    /// Backends that are taken from somewhere else.
    pub overrides: BackendOverrides,
    /// Variables that backends get to see besides the usual ones, sorted.
    pub pass_env: Vec<String>,
    /// Only what is in the caches is looked at.
    pub offline: bool,
}

/// Backends that are taken from somewhere else than their packages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BackendOverrides {
    /// All backends are programs of the system.
    pub all: bool,
    /// These are, by name; with the path of the program if it is not the name.
    pub named: BTreeMap<String, Option<String>>,
    /// These are parts of this program: see [`MemoryBackends::identities`](crate::backend::MemoryBackends::identities).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub memory: BTreeMap<String, String>,
}

impl Intern for BuildContext {
    const NAME: &'static str = "what packages are built for";
}

impl fmt::Display for BuildContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.host.subdir)?;
        if self.build.subdir != self.host.subdir { write!(f, " built on {}", self.build.subdir) } else { Ok(()) }
    }
}

/// The name of a context.
pub type Context = Interned<BuildContext>;

impl BuildContext {
    /// The context of what runs while this is built: there the platform that builds run on is the one that packages
    /// run on.
    pub fn for_build(&self) -> Self {
        Self { host: self.build.clone(), ..self.clone() }
    }

    /// The context of a backend that is built, and of what is in its environment. It is for this machine, whatever is built
    /// with it.
    pub(crate) fn for_tool(&self, channels: Vec<Location>) -> Self {
        Self {
            channels,
            host: self.tool.clone(),
            build: self.tool.clone(),
            variants: self.tool_variants.as_ref().unwrap_or(&self.variants).clone(),
            tool_variants: None,
            ..self.clone()
        }
    }

    /// The name of what of this makes another question of which packages are chosen. The rest is the same for all who ask in
    /// a workspace, and what was chosen stays though it changes.
    pub(crate) fn as_asked(db: &Db<'_>, context: &Context) -> Result<Context, Stop<Failure<AnyError>>> {
        let whole = db.value(context)?;
        let paths = whole.variant_files.iter().map(|(path, _)| (path.clone(), None));
        db.intern(Self {
            variant_files: paths.collect(),
            overrides: BackendOverrides::default(),
            pass_env: Vec::new(),
            offline: false,
            ..whole.as_ref().clone()
        })
    }

    /// The name of what a backend is told of this. What else there is decided which backend and which packages are taken;
    /// that is known where a backend is asked.
    pub(crate) fn as_told(db: &Db<'_>, context: &Context) -> Result<Context, Stop<Failure<AnyError>>> {
        let whole = db.value(context)?;
        let bare = |platform: &BuildPlatform| BuildPlatform { subdir: platform.subdir, virtual_packages: Vec::new() };
        db.intern(Self {
            channels: whole.channels.clone(),
            host: bare(&whole.host),
            build: bare(&whole.build),
            variants: whole.variants.clone(),
            tool_variants: None,
            variant_files: whole.variant_files.clone(),
            channel_priority: ChannelPriority::default(),
            exclude_newer: None,
            tool: bare(&whole.build),
            overrides: BackendOverrides::default(),
            pass_env: Vec::new(),
            offline: false,
        })
    }

    /// The look at the files with further values; nothing if there are none.
    pub(crate) fn look_at_variant_files<'p>(paths: impl Iterator<Item = &'p String>) -> Option<FilesSpec> {
        let patterns: Vec<String> = paths.map(|path| naming(path)).collect();
        let globs = vec![GlobSet { patterns, markers: Vec::new(), exclude_hidden: false, root: None }];
        let is_any = !globs[0].patterns.is_empty();
        is_any.then(|| FilesSpec { root: Root::Workspace, directory: ".".to_owned(), globs, own: None })
    }

    /// Says that an action read the files with further values, which may have changed meanwhile.
    pub(crate) fn report_variant_files(&self, ctx: &ActionContext) {
        if let Some(files) = Self::look_at_variant_files(self.variant_files.iter().map(|(path, _)| path)) {
            ctx.report_read(&files);
        }
    }

    /// What a solver has to know for these requirements on the host platform.
    pub fn needs(&self, requirements: Vec<Requirement>, constraints: Vec<Requirement>) -> SolveDescription {
        SolveDescription {
            subdir: self.host.subdir,
            virtual_packages: self.host.virtual_packages.clone(),
            channels: self.channels.clone(),
            channel_priority: self.channel_priority,
            strategy: SolveStrategy::default(),
            requirements,
            constraints,
            sources: Vec::new(),
            dev: Vec::new(),
            exclude_newer: self.exclude_newer.clone(),
        }
    }
}

impl fmt::Display for BackendOverrides {
    /// In the form of the variable.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut items: Vec<String> = self.all.then(|| "all".to_owned()).into_iter().collect();
        items.extend(self.named.iter().map(|(name, path)| match path {
            Some(path) => format!("{name}={path}"),
            None => name.clone(),
        }));
        items.extend(self.memory.iter().map(|(name, identity)| format!("{name}={identity}")));
        f.write_str(&items.join(","))
    }
}

/// The form of an override in a variable: `name=/path,other`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("`{item}` is no override of a build backend")]
#[diagnostic(help("an override is `NAME` or `NAME=/path/to/program`; several are separated by commas"))]
pub struct NotAnOverride {
    item: String,
}

impl BackendOverrides {
    /// Reads what the variables `PIXI_BUILD_BACKEND_OVERRIDE_ALL` and `PIXI_BUILD_BACKEND_OVERRIDE` say.
    ///
    /// # Errors
    ///
    /// If an item has more than one `=`.
    pub fn parse(all: Option<&str>, named: Option<&str>) -> Result<Self, NotAnOverride> {
        let mut overrides = Self { all: all.is_some_and(|text| !text.is_empty()), ..Self::default() };
        for item in named.unwrap_or_default().split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let (name, path) = match item.split_once('=') {
                Some((_, path)) if path.contains('=') => return Err(NotAnOverride { item: item.to_owned() }),
                Some((name, path)) => (name.trim(), Some(path.trim().to_owned())),
                None => (item, None),
            };
            overrides.named.insert(name.to_owned(), path);
        }
        Ok(overrides)
    }

    /// The program that stands in for a backend, if one does.
    pub(crate) fn program(&self, backend: &str) -> Option<String> {
        match self.named.get(backend) {
            Some(path) => Some(path.clone().unwrap_or_else(|| backend.to_owned())),
            None => self.all.then(|| backend.to_owned()),
        }
    }

    /// Whether nothing is overridden.
    pub fn is_empty(&self) -> bool {
        !self.all && self.named.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_are_read_from_variables() {
        let overrides = BackendOverrides::parse(None, Some("a=/x/a, b,")).expect("it is one");
        assert_eq!(overrides.program("a").as_deref(), Some("/x/a"));
        assert_eq!(overrides.program("b").as_deref(), Some("b"));
        assert_eq!(overrides.program("c"), None);
        assert!(BackendOverrides::parse(None, Some("a=b=c")).is_err());
        let all = BackendOverrides::parse(Some("1"), None).expect("it is one");
        assert_eq!(all.program("anything").as_deref(), Some("anything"));
        assert!(BackendOverrides::parse(None, Some("")).expect("nothing is nothing").is_empty());
    }
}
