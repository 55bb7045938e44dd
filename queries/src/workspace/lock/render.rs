//! The text of a lock file with new solves in it.
//!
//! What was solved replaces what was there; environments and platforms that were not solved are carried over as they
//! are, with packages of the Python index and with sources; what the manifest no longer asks for is dropped. The same
//! input gives the same bytes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use doge::{Fingerprint, Interned};
use miette::Diagnostic;
use rattler_conda_types::RepoDataRecord;
use rattler_lock::{
    CondaBinaryData, CondaPackageData, CondaSourceData, EnvironmentPackages, InconsistentInsertError, LockFile,
    LockFileBuilder, LockedPackage, PackageHandle, ParseCondaLockError, PlatformData, PlatformName, PypiPackageData,
    RegisterSourcePackageError, SolveOptions, SourceIdentifier, UrlOrPath,
};
use thiserror::Error;
use url::Url;

use super::file::{LockedFile, PlatformEntry};
use super::pin::SourceFormError;
use super::sources::{Comparison, write};
use crate::source::{LockedPackages, LockedSource};
use crate::workspace::{
    Workspace,
    description::EnvironmentDescription,
    environment::Environment,
    location::{Location, WorkspaceRoot},
    platform::{Platform, default_virtual_packages, short_form},
};

/// The solved packages of an environment on a platform.
#[derive(Debug, Clone, Copy)]
pub struct Solved<'a> {
    /// What was asked for.
    pub description: &'a EnvironmentDescription,
    /// What the environment gets, in any order.
    pub packages: &'a LockedPackages,
}

/// Why no lock file was made.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum RenderError {
    /// Packages of the Python index were solved on top of conda packages that change now.
    #[error(
        "the conda packages of environment `{environment}` on `{platform}` change, and with them the locked packages of \
         the Python index would have to be solved again, which is not done: {}", packages.join(", ")
    )]
    #[diagnostic(help("update the lock file with pixi, or remove the `pypi-dependencies` from the environment"))]
    PypiPackages {
        /// The environment.
        environment: String,
        /// The platform.
        platform: String,
        /// The packages, sorted.
        packages: Vec<String>,
    },
    /// Channels or options of an environment changed, which concerns all its platforms, and some were not solved.
    #[error("channels or options of environment `{environment}` change, but it was not solved for {}", platforms.join(", "))]
    #[diagnostic(help("solve the environment for all its platforms at once"))]
    PlatformsNotSolved {
        /// The environment.
        environment: String,
        /// The platforms, sorted.
        platforms: Vec<String>,
    },
    /// A solve was handed in for something the workspace does not have.
    #[error("the workspace has no environment `{environment}` on `{platform}`")]
    NotInWorkspace {
        /// The environment.
        environment: String,
        /// The platform.
        platform: String,
    },
    /// A channel whose records cannot be written down.
    #[error("the record of `{package}` cannot be written: {message}")]
    Record {
        /// The package.
        package: String,
        /// Why not.
        message: String,
    },
    /// A package that is built from source and that a lock file cannot tell of.
    #[error("`{package}` cannot be written into a lock file")]
    Source {
        /// The package.
        package: String,
        /// Why not.
        #[source]
        source: SourceFormError,
    },
    /// What was solved is not at hand.
    #[error("a package that was solved is not at hand any more")]
    NotAtHand,
    /// The library that writes lock files refused.
    #[error("the lock file cannot be assembled")]
    Assemble {
        /// What it says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl From<ParseCondaLockError> for RenderError {
    fn from(source: ParseCondaLockError) -> Self {
        Self::Assemble { source: Box::new(source) }
    }
}

impl From<RegisterSourcePackageError> for RenderError {
    fn from(source: RegisterSourcePackageError) -> Self {
        Self::Assemble { source: Box::new(source) }
    }
}

impl From<InconsistentInsertError> for RenderError {
    fn from(source: InconsistentInsertError) -> Self {
        Self::Assemble { source: Box::new(source) }
    }
}

/// Makes the text of a lock file of the newest version.
///
/// Environments of the workspace that are neither solved nor in the previous file are left out; they have to be solved
/// before they can be installed.
///
/// # Errors
///
/// If packages of the Python index would be lost, or the input does not fit together.
pub fn render(
    workspace: &Workspace,
    previous: Option<&LockedFile>,
    solved: &[Solved<'_>],
) -> Result<String, RenderError> {
    let mut fresh: BTreeMap<(&str, &str), &Solved<'_>> = BTreeMap::new();
    for solve in solved {
        let description = solve.description;
        let known = workspace
            .environment(&description.environment)
            .is_ok_and(|environment| environment.platforms.iter().any(|own| own.name == description.platform));
        if !known {
            return Err(RenderError::NotInWorkspace {
                environment: description.environment.clone(),
                platform: description.platform.clone(),
            });
        }
        fresh.insert((&description.environment, &description.platform), solve);
    }
    let mut parts = Vec::new();
    for environment in workspace.environments() {
        parts.extend(Part::of(environment, previous, &fresh)?);
    }
    let mut platforms: BTreeMap<&str, PlatformData> = BTreeMap::new();
    for part in &parts {
        for (platform, _) in &part.platforms {
            if !platforms.contains_key(platform.name.as_str()) {
                platforms.insert(&platform.name, platform_data(platform)?);
            }
        }
    }
    let mut builder = LockFile::builder().with_platforms(platforms.into_values().collect())?;
    // A file tells the metadata of an archive once, and the first to be registered is kept: what was just read from a
    // channel goes before what an older solve has read there.
    for solve in fresh.values() {
        for record in &solve.packages.binary {
            builder.register_conda_package(locked_data(record, workspace.root()).into());
        }
    }
    let mut built = Built { root: workspace.root(), known: BTreeMap::new(), done: HashMap::new() };
    let mut sources = BTreeMap::new();
    for (target, solve) in &fresh {
        let of_target = solve.packages.source.iter().map(|source| Ok(built.register(&mut builder, source)?.1));
        sources.insert(*target, of_target.collect::<Result<Vec<_>, RenderError>>()?);
    }
    let mut carried = Carried::default();
    for part in &parts {
        part.add_to(&mut builder, workspace.root(), &sources, &mut carried)?;
    }
    let file = builder.finish();
    let has_pypi = file.packages().iter().any(|package| package.as_pypi().is_some());
    let text = to_text(&file)?;
    if !has_pypi {
        return Ok(text);
    }
    // The reader completes packages of the Python index. Without this the next rendering would write more than this
    // one, though nothing changed.
    to_text(&LockFile::from_str_with_base_directory(&text, Some(workspace.root().path()))?)
}

fn to_text(file: &LockFile) -> Result<String, RenderError> {
    file.render_to_string().map_err(|source| RenderError::Assemble { source: Box::new(source) })
}

/// An environment on its way into a file.
struct Part<'a> {
    environment: &'a str,
    channels: Vec<rattler_lock::Channel>,
    options: SolveOptions,
    pypi_indexes: Option<rattler_lock::PypiIndexes>,
    platforms: Vec<(&'a Platform, Contents<'a>)>,
}

/// What an environment has on a platform.
enum Contents<'a> {
    /// New records, and packages of the Python index that stay because nothing below them changed.
    Solved(&'a LockedPackages, Vec<&'a LockedPackage>),
    /// What was there.
    Carried(&'a LockFile, Vec<&'a LockedPackage>),
}

impl<'a> Part<'a> {
    fn of(
        environment: &'a Environment,
        previous: Option<&'a LockedFile>,
        fresh: &BTreeMap<(&str, &str), &Solved<'a>>,
    ) -> Result<Option<Self>, RenderError> {
        let held = previous.and_then(|file| Some((file, file.inner.environment(&environment.name)?)));
        let mut platforms = Vec::new();
        let mut carried = Vec::new();
        let mut latest: Option<&EnvironmentDescription> = None;
        let mut keeps_pypi = false;
        for platform in &environment.platforms {
            let before: Option<Vec<&LockedPackage>> =
                held.and_then(|(file, environment)| match file.platform_entry(environment, platform) {
                    PlatformEntry::Same(entry) => Some(file.packages(environment, entry).collect()),
                    PlatformEntry::Changed(_) | PlatformEntry::Missing => None,
                });
            match (fresh.get(&(environment.name.as_str(), platform.name.as_str())), before) {
                (Some(solve), before) => {
                    latest = Some(solve.description);
                    let pypi = kept_pypi(solve, held.map(|(file, _)| file), before.unwrap_or_default())?;
                    keeps_pypi |= solve.description.has_pypi;
                    platforms.push((platform, Contents::Solved(solve.packages, pypi)));
                }
                (None, Some(packages)) => {
                    if let Some((file, _)) = held {
                        keeps_pypi = true;
                        carried.push(platform.name.clone());
                        platforms.push((platform, Contents::Carried(&file.inner, packages)));
                    }
                }
                (None, None) => {}
            }
        }
        if platforms.is_empty() {
            return Ok(None);
        }
        let (mut channels, mut options, mut pypi_indexes) = match held {
            Some((_, held)) => (held.channels().to_vec(), held.solve_options().clone(), held.pypi_indexes().cloned()),
            None => (Vec::new(), SolveOptions::default(), None),
        };
        if !keeps_pypi {
            pypi_indexes = None;
            options.pypi_prerelease_mode = SolveOptions::default().pypi_prerelease_mode;
        }
        if let Some(description) = latest {
            let needs = &description.needs;
            let same = held.is_some_and(|(file, held)| {
                file.channels(held) == needs.channels
                    && held.solve_options().strategy == needs.strategy
                    && held.solve_options().channel_priority == needs.channel_priority
            });
            if !same && !carried.is_empty() {
                carried.sort_unstable();
                return Err(RenderError::PlatformsNotSolved {
                    environment: environment.name.clone(),
                    platforms: carried,
                });
            }
            if !same {
                channels = needs.channels.iter().map(|channel| channel.to_string().into()).collect();
                options.strategy = needs.strategy;
                options.channel_priority = needs.channel_priority;
            }
        }
        Ok(Some(Self { environment: &environment.name, channels, options, pypi_indexes, platforms }))
    }

    fn add_to(
        &self,
        builder: &mut LockFileBuilder,
        root: &WorkspaceRoot,
        sources: &BTreeMap<(&str, &str), Vec<CondaSourceData>>,
        carried: &mut Carried<'a>,
    ) -> Result<(), RenderError> {
        builder.set_channels(self.environment, self.channels.iter().cloned());
        builder.set_options(self.environment, self.options.clone());
        if let Some(indexes) = &self.pypi_indexes {
            builder.set_pypi_indexes(self.environment, indexes.clone());
        }
        for (platform, contents) in &self.platforms {
            builder.add_environment_platform(self.environment, &platform.name)?;
            match contents {
                Contents::Solved(packages, pypi) => {
                    for record in &packages.binary {
                        builder.add_conda_package(
                            self.environment,
                            &platform.name,
                            locked_data(record, root).into(),
                        )?;
                    }
                    // These are registered, and found again by what they are.
                    for source in sources.get(&(self.environment, platform.name.as_str())).into_iter().flatten() {
                        builder.add_conda_package(self.environment, &platform.name, source.clone().into())?;
                    }
                    for package in pypi {
                        builder.add_package(self.environment, &platform.name, (*package).clone())?;
                    }
                }
                Contents::Carried(file, packages) => {
                    for package in packages {
                        // Registers what a source needs to be built; the package itself is then found again.
                        carried.register(builder, file, package)?;
                        builder.add_package(self.environment, &platform.name, (*package).clone())?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The packages of the Python index that stay beside new records.
fn kept_pypi<'a>(
    solve: &Solved<'_>,
    file: Option<&LockedFile>,
    before: Vec<&'a LockedPackage>,
) -> Result<Vec<&'a LockedPackage>, RenderError> {
    let (pypi, conda): (Vec<_>, Vec<_>) = before.into_iter().partition(|package| package.as_pypi().is_some());
    if pypi.is_empty() || !solve.description.has_pypi {
        return Ok(Vec::new());
    }
    let old = file.and_then(|file| file.locked_packages(conda.into_iter()).ok());
    if old.is_some_and(|old| Comparison::default().is_same(&old, solve.packages)) {
        return Ok(pypi);
    }
    let mut packages: Vec<String> = pypi.iter().map(|package| package.name().to_owned()).collect();
    packages.sort_unstable();
    Err(RenderError::PypiPackages {
        environment: solve.description.environment.clone(),
        platform: solve.description.platform.clone(),
        packages,
    })
}

/// Solved packages that are built from source, on their way into a file.
struct Built<'a> {
    root: &'a WorkspaceRoot,
    /// What is registered, by the name it has there.
    known: BTreeMap<String, Arc<LockedSource>>,
    /// The same, by what it is.
    done: HashMap<Fingerprint, (PackageHandle, CondaSourceData)>,
}

impl<'a> Built<'a> {
    /// Registers a package, with everything it is built with.
    fn register(
        &mut self,
        builder: &mut LockFileBuilder,
        named: &Interned<LockedSource>,
    ) -> Result<(PackageHandle, CondaSourceData), RenderError> {
        if let Some(done) = self.done.get(&named.fingerprint()) {
            return Ok(done.clone());
        }
        let source = named.at_hand().ok_or(RenderError::NotAtHand)?;
        let build = self.register_all(builder, &source.build)?;
        let host = self.register_all(builder, &source.host)?;
        let set = |handles: &[PackageHandle]| EnvironmentPackages::from_handles(handles.iter().cloned());
        let mut data = write(&source, set(&build)?, set(&host)?)
            .map_err(|reason| RenderError::Source { package: source.name().to_owned(), source: reason })?;
        // The library's name for it does not count all that is written, and of two packages of one name only the first
        // would be.
        let name = SourceIdentifier::from_source_data(&data).to_string();
        match self.known.get(&name) {
            Some(other) if Comparison::default().difference(other, &source).is_some() => {
                data.identifier_hash = Some(named.fingerprint().to_hex()[..8].to_owned());
            }
            Some(_) => {}
            None => {
                self.known.insert(name, source);
            }
        }
        let handle = builder.register_conda_source_package(data.clone(), build, host)?;
        self.done.insert(named.fingerprint(), (handle.clone(), data.clone()));
        Ok((handle, data))
    }

    fn register_all(
        &mut self,
        builder: &mut LockFileBuilder,
        packages: &LockedPackages,
    ) -> Result<Vec<PackageHandle>, RenderError> {
        let binary = packages.binary.iter().map(|record| locked_data(record, self.root));
        let mut handles: Vec<_> = binary.map(|data| builder.register_conda_package(data.into())).collect();
        for source in &packages.source {
            handles.push(self.register(builder, source)?.0);
        }
        Ok(handles)
    }
}

/// Packages of another file, on their way into a new one.
#[derive(Default)]
struct Carried<'f> {
    handles: HashMap<*const LockedPackage, PackageHandle>,
    /// The packages that what is being registered is needed for.
    inside: Vec<&'f LockedPackage>,
}

impl<'f> Carried<'f> {
    /// Registers a package, with everything it is built with.
    fn register(
        &mut self,
        builder: &mut LockFileBuilder,
        file: &'f LockFile,
        package: &'f LockedPackage,
    ) -> Result<PackageHandle, RenderError> {
        if let Some(handle) = self.handles.get(&std::ptr::from_ref(package)) {
            return Ok(handle.clone());
        }
        if self.inside.iter().any(|outer| std::ptr::eq(*outer, package)) {
            let package = package.name().to_owned();
            return Err(RenderError::Source { package, source: SourceFormError::NeededByItself });
        }
        self.inside.push(package);
        let handle = match package {
            LockedPackage::Conda(CondaPackageData::Source(source)) => {
                let build = self.register_all(builder, file, &source.source_data.build_packages)?;
                let host = self.register_all(builder, file, &source.source_data.host_packages)?;
                builder.register_conda_source_package((**source).clone(), build, host)?
            }
            LockedPackage::Pypi(PypiPackageData::Source(source)) => {
                let build = self.register_all(builder, file, &source.source_data.build_packages)?;
                let host = self.register_all(builder, file, &source.source_data.host_packages)?;
                builder.register_pypi_source_package((**source).clone(), build, host)?
            }
            LockedPackage::Conda(data) => builder.register_conda_package(data.clone()),
            LockedPackage::Pypi(data) => builder.register_pypi_package(data.clone()),
        };
        self.inside.pop();
        self.handles.insert(package, handle.clone());
        Ok(handle)
    }

    fn register_all(
        &mut self,
        builder: &mut LockFileBuilder,
        file: &'f LockFile,
        packages: &'f EnvironmentPackages,
    ) -> Result<Vec<PackageHandle>, RenderError> {
        let packages = packages.iter(file).filter_map(Result::ok);
        packages.map(|package| self.register(builder, file, package)).collect()
    }
}

/// A record as it is written: without credentials, and relative if it lies inside the workspace.
fn locked_data(record: &RepoDataRecord, root: &WorkspaceRoot) -> CondaBinaryData {
    let (location, _) = root.locate_url(&record.url);
    let channel = record
        .channel
        .as_ref()
        .and_then(|channel| Url::parse(channel).ok())
        .map_or_else(|| channel_of(&record.url), |channel| root.locate_url(&channel).0.directory_url(root));
    let (location, channel) = match &location {
        // The channel of a package inside the workspace follows from its path; written down it would be absolute.
        Location::Inside(path) => (UrlOrPath::Path(format!("./{path}").into()), None),
        Location::Url(url) => (UrlOrPath::from(url.clone()).normalize().into_owned(), Some(channel.into())),
    };
    CondaBinaryData {
        package_record: record.package_record.clone(),
        location,
        file_name: record.identifier.clone(),
        channel,
    }
}

/// The directory above that of a package.
fn channel_of(package: &Url) -> Url {
    let mut channel = package.clone();
    if let Ok(mut segments) = channel.path_segments_mut() {
        segments.pop().pop().push("");
    }
    channel
}

fn platform_data(platform: &Platform) -> Result<PlatformData, RenderError> {
    let name = PlatformName::try_from(platform.name.as_str())
        .map_err(|source| RenderError::Assemble { source: Box::new(source) })?;
    let defaults = default_virtual_packages(platform.subdir);
    let mut virtual_packages = platform.declared_text();
    // The order pixi writes the defaults in, so that a file both of them write stays the same.
    for default in ["__unix", "__linux", "__glibc", "__win", "__osx", "__archspec"] {
        let held = defaults.iter().find(|package| package.name.as_normalized() == default);
        virtual_packages.extend(held.filter(|package| platform.virtual_packages.contains(package)).map(short_form));
    }
    Ok(PlatformData { name, subdir: platform.subdir, virtual_packages })
}
