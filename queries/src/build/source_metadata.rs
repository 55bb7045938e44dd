//! The records of the packages that a source offers.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use doge::{AnyError, Db, Epoch, Failure, Halt, Interned, Query, Spec};
use miette::Diagnostic;
use rattler_conda_types::package::{BuildString, RunExportsJson};
use rattler_conda_types::{NoArchType, PackageName, PackageRecord, Subdir, VersionWithSource};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::backend::{
    BackendMetadataError, BuildBackendMetadataSpec, ConstraintSpec, Dependencies, Named, Output, PackageSpec,
};
use crate::build::context::{BuildContext, Context};
use crate::build::dependencies::{DependencyError, Needed, Pins, Said, constraint, needed};
use crate::build::run_exports::{Exporter, ReadRunExportsSpec, RunExported, RunExportsError, exported};
use crate::build::solve::{Nested, SolvePixiEnvironmentSpec, SolvePixiError};
use crate::epoch::{CONDA_TYPES, OWN};
use crate::package::{FetchPackageError, FetchPackageSpec};
use crate::records::Records;
use crate::source::{LockedPackages, LockedSource, PinnedSource, SourceLocation, SourceRecord, written};
use crate::workspace::{Requirement, SolveDescription, SourceRequirement};

/// The records of one package of a source: one for each of its variants.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SourceMetadataSpec {
    /// The normalised name of the package.
    pub package: String,
    /// Where the manifest is.
    pub manifest: PinnedSource,
    /// What is locked of the package, which is kept where it can be.
    pub locked: Option<Interned<LockedSource>>,
    /// Names that are chosen anew all the same in what it is built in.
    pub renewed: BTreeSet<String>,
    /// Whether channels are asked again for what it is built in, whether or not what is locked would do.
    pub asks: bool,
    /// What is built for.
    pub context: Context,
}

impl fmt::Display for SourceMetadataSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` of {}", self.package, self.manifest)
    }
}

impl Spec for SourceMetadataSpec {
    const KIND: &'static str = "source_metadata";
    const EPOCH: Epoch = Epoch::new(1, &[OWN, CONDA_TYPES]);

    fn label(&self) -> Option<String> {
        Some(format!("metadata of `{}` of {}", self.package, self.manifest.location()))
    }
}

/// Why a source gives no record.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum SourceMetadataError {
    /// The backend cannot be asked.
    #[error(transparent)]
    Backend(#[from] Failure<BackendMetadataError>),
    /// There is no such package.
    #[error("{place} offers no package `{package}`")]
    #[diagnostic(help("{}", similar(offered)))]
    PackageNotProvided {
        /// The package.
        package: String,
        /// The source.
        place: String,
        /// What it offers, the most similar name first.
        offered: Vec<String>,
    },
    /// What the backend says cannot be used.
    #[error("the backend of {place} says something about `{package}` that cannot be used: {error}")]
    #[diagnostic(forward(error))]
    Dependency {
        /// The package.
        package: String,
        /// The source.
        place: String,
        /// What is wrong.
        error: DependencyError,
    },
    /// What the backend says about the package itself cannot be used.
    #[error("the backend of {place} gives `{package}` the {field} `{value}`, which is none")]
    Field {
        /// The package.
        package: String,
        /// The source.
        place: String,
        /// Which field.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// An environment to build in cannot be had.
    #[error("the {kind} environment of `{package}` cannot be had")]
    Environment {
        /// The package.
        package: String,
        /// Which environment.
        kind: Nested,
        /// Why not.
        #[source]
        failure: Failure<SolvePixiError>,
    },
    /// A package could not be fetched to see what it exports.
    #[error(transparent)]
    Fetch(#[from] Failure<FetchPackageError>),
    /// A package does not say what it exports.
    #[error(transparent)]
    RunExports(#[from] Failure<RunExportsError>),
    /// It is not known where the workspace is.
    #[error(transparent)]
    Never(#[from] Failure<Infallible>),
    /// Something is not at hand.
    #[error(transparent)]
    Engine(#[from] Failure<AnyError>),
}

fn similar(offered: &[String]) -> String {
    match offered {
        [] => "the source offers no package at all for this platform".to_owned(),
        offered => format!("it offers {}", offered.join(", ")),
    }
}

type Ended<T> = Result<T, Halt<SourceMetadataError>>;

impl Query for SourceMetadataSpec {
    /// Records of sources only.
    type Output = Interned<Records>;
    type Error = SourceMetadataError;

    fn compute(&self, db: &Db<'_>) -> Ended<Interned<Records>> {
        let locked = self.locked.as_ref().map(|locked| db.value(locked)).transpose()?;
        let metadata = db.get(&BuildBackendMetadataSpec {
            manifest: self.manifest.clone(),
            preferred_build_source: locked.as_ref().and_then(|locked| locked.build_source.clone()),
            context: self.context.clone(),
        })?;
        let outputs = db.value(&metadata.outputs)?;
        let is_meant = |output: &&Output| output.metadata.name.to_ascii_lowercase() == self.package;
        let meant: Vec<&Output> = outputs.0.iter().filter(is_meant).collect();
        if meant.is_empty() {
            let mut offered: Vec<String> = outputs.0.iter().map(|output| output.metadata.name.clone()).collect();
            offered.sort_by_key(|name| std::cmp::Reverse(likeness(name, &self.package)));
            offered.dedup();
            let (package, place) = (self.package.clone(), self.manifest.to_string());
            return Err(Halt::fail(SourceMetadataError::PackageNotProvided { package, place, offered }));
        }
        let build_source = &metadata.instance.build_source;
        let assembly = Assembly { package: &self.package, manifest: &self.manifest };
        let solved = |kind, wanted: &Wanted| {
            let locked = locked.as_deref().map(|locked| match kind {
                Nested::Build => &locked.build,
                Nested::Host => &locked.host,
            });
            self.environment(db, kind, wanted, locked)
        };
        let wrong = |error| assembly.said_wrong(error);
        let mut records = Vec::new();
        for output in meant {
            let record = assembly.assemble(db, output, build_source.as_ref(), solved, wrong)?;
            records.push((written(&record.variants), db.intern(record)?));
        }
        records.sort_by(|(a, _), (b, _)| a.cmp(b));
        let records = records.into_iter().map(|(_, record)| record).collect();
        Ok(db.intern(Records::with_sources(Vec::new(), records))?)
    }
}

/// How many letters two names have in common at their beginning.
fn likeness(name: &str, wanted: &str) -> usize {
    name.chars().zip(wanted.chars()).take_while(|(a, b)| a == b).count()
}

/// What is needed in an environment.
#[derive(Default)]
pub(crate) struct Wanted {
    pub(crate) needed: Vec<Needed>,
    pub(crate) constraints: Vec<Requirement>,
}

impl Wanted {
    /// The names of what is needed, as long as nothing was added that is only exported.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.needed.iter().map(|needed| needed.said.name().to_owned()).collect()
    }

    /// What runs the build exports this to what is built against.
    pub(crate) fn add_strong(&mut self, build: &RunExported) {
        self.needed.extend(build.strong.iter().cloned());
        self.constraints.extend(build.strong_constrains.iter().cloned());
    }
}

/// What was found for an environment.
#[derive(Clone)]
pub(crate) struct Found {
    pub(crate) records: Arc<Records>,
    /// Those of them that are built.
    pub(crate) built: Vec<Arc<SourceRecord>>,
}

impl Found {
    pub(crate) fn of(db: &Db<'_>, records: Arc<Records>) -> Result<Self, doge::Stop<Failure<AnyError>>> {
        let built = records.read_sources(db)?;
        Ok(Self { records, built })
    }

    /// A name that two of them have.
    pub(crate) fn twice(&self) -> Option<String> {
        let mut names = BTreeSet::new();
        let mut all = self.packages().map(|package| package.name.as_normalized());
        all.find(|name| !names.insert(*name)).map(str::to_owned)
    }

    /// What all of them say of themselves.
    pub(crate) fn packages(&self) -> impl Iterator<Item = &PackageRecord> {
        let binary = self.records.as_slice().iter().map(|record| &record.package_record);
        binary.chain(self.built.iter().map(|record| &record.record))
    }
}

/// What makes a record of what a backend says of a package.
pub(crate) struct Assembly<'a> {
    /// The normalised name of the package.
    pub(crate) package: &'a str,
    /// Where the manifest is.
    pub(crate) manifest: &'a PinnedSource,
}

impl Assembly<'_> {
    pub(crate) fn said_wrong(&self, error: DependencyError) -> Halt<SourceMetadataError> {
        let (package, place) = (self.package.to_owned(), self.manifest.to_string());
        Halt::fail(SourceMetadataError::Dependency { package, place, error })
    }

    /// The record. `environment` finds the packages of an environment that it is built in, and `wrong` tells what cannot be
    /// used.
    pub(crate) fn assemble(
        &self,
        db: &Db<'_>,
        output: &Output,
        build_source: Option<&PinnedSource>,
        environment: impl Fn(Nested, &Wanted) -> Ended<Found>,
        wrong: impl Fn(DependencyError) -> Halt<SourceMetadataError> + Copy,
    ) -> Ended<SourceRecord> {
        let Assembled { run, build_records, host_records, .. } =
            assembled::<SourceMetadataError>(db, output, self.manifest, environment, wrong)?;
        let pins = pins_of([&build_records, &host_records]);
        let mut sources = Sources { base: self.manifest, known: BTreeMap::new() };
        for needed in run.needed.iter().filter(|needed| needed.exported.is_none()) {
            sources.explicit(&needed.said).map_err(wrong)?;
        }
        let mut extra_depends = BTreeMap::new();
        for (group, specs) in &output.extra_dependencies {
            let own = own_list(specs, &pins).map_err(wrong)?;
            extra_depends.insert(group.clone(), sources.all_explicit(&own).map_err(wrong)?);
        }
        let run_exports = own_exports(output, &pins, &mut sources).map_err(wrong)?;
        for needed in run.needed.iter().filter(|needed| needed.exported.is_some()) {
            sources.implied_by_export(&needed.said);
        }
        for needed in &run.needed {
            sources.implied_by_environment(&needed.said, &[&build_records, &host_records]);
        }
        let depends: BTreeSet<String> =
            run.needed.iter().map(|needed| needed.said.depends()).collect::<Result<_, _>>().map_err(wrong)?;
        let constrains: BTreeSet<String> = limits(&run.constraints).map_err(wrong)?.into_iter().collect();
        let mut record = self.record(output)?;
        record.depends = depends.into_iter().collect();
        record.constrains = constrains.into_iter().collect();
        record.extra_depends = extra_depends;
        record.run_exports = Some(run_exports);
        Ok(SourceRecord {
            record,
            sources: sources.finish(),
            manifest: self.manifest.clone(),
            build_source: build_source.cloned(),
            variants: output.metadata.variant.clone(),
            build: Records::clone(&build_records.records),
            host: Records::clone(&host_records.records),
        })
    }

    /// What a package says of itself.
    fn record(&self, output: &Output) -> Ended<PackageRecord> {
        let said = &output.metadata;
        let wrong = |field, value: &str| {
            Halt::fail(SourceMetadataError::Field {
                package: self.package.to_owned(),
                place: self.manifest.to_string(),
                field,
                value: value.to_owned(),
            })
        };
        let name = PackageName::from_str(&said.name).map_err(|_| wrong("name", &said.name))?;
        let version = VersionWithSource::from_str(&said.version).map_err(|_| wrong("version", &said.version))?;
        let platform = Subdir::from_str(&said.subdir).map_err(|_| wrong("subdir", &said.subdir))?;
        let mut record = PackageRecord::new(name, version, BuildString::new_unchecked(&said.build));
        record.build_number = said.build_number;
        record.subdir = said.subdir.clone();
        record.noarch = if platform == Subdir::NoArch && said.noarch == NoArchType::none() {
            NoArchType::generic()
        } else {
            said.noarch
        };
        record.platform = platform.only_platform().map(str::to_owned);
        record.arch = platform.arch().map(|arch| arch.to_string());
        record.license = said.license.clone();
        record.license_family = said.license_family.clone();
        record.flags = said.flags.clone();
        record.track_features = said.track_features.clone();
        record.purls = said.purls.clone().map(|purls| purls.into_iter().collect());
        record.python_site_packages_path = said.python_site_packages_path.clone();
        Ok(record)
    }
}

impl Wanted {
    /// What a solver has to know.
    pub(crate) fn needs(&self, context: &BuildContext) -> SolveDescription {
        let (mut requirements, mut sources) = (BTreeSet::new(), BTreeSet::new());
        for needed in &self.needed {
            match &needed.said {
                Said::Binary(requirement) => drop(requirements.insert(requirement.clone())),
                Said::Source(requirement) => drop(sources.insert(requirement.clone())),
            }
        }
        let constraints: BTreeSet<Requirement> = self.constraints.iter().cloned().collect();
        let mut needs = context.needs(requirements.into_iter().collect(), constraints.into_iter().collect());
        needs.sources = sources.into_iter().collect();
        needs
    }
}

impl SourceMetadataSpec {
    /// What has to be installed for a part of a build.
    fn environment(&self, db: &Db<'_>, kind: Nested, wanted: &Wanted, locked: Option<&LockedPackages>) -> Ended<Found> {
        if wanted.needed.is_empty() {
            return Ok(Found { records: Arc::new(Records::default()), built: Vec::new() });
        }
        let context = db.value(&self.context)?;
        let context = match kind {
            Nested::Build => context.for_build(),
            Nested::Host => context.as_ref().clone(),
        };
        let locked = locked.filter(|locked| !locked.is_empty());
        let spec = SolvePixiEnvironmentSpec {
            name: format!("the {kind} environment of `{}`", self.package),
            needs: wanted.needs(&context),
            locked: locked.map(|locked| db.intern(locked.clone())).transpose()?,
            hints: None,
            renewed: self.renewed.clone(),
            keep: !self.asks,
            asks: self.asks,
            recall: !self.asks,
            context: db.intern(context)?,
        };
        let solved = db.get(&spec).map_err(|stop| {
            stop.map(|failure| SourceMetadataError::Environment { package: self.package.clone(), kind, failure })
        })?;
        let records = db.value(&solved.records)?;
        Ok(Found::of(db, records)?)
    }
}

fn own_exports(output: &Output, pins: &Pins<'_>, sources: &mut Sources<'_>) -> Result<RunExportsJson, DependencyError> {
    let own = own_run_exports(output, pins)?;
    Ok(RunExportsJson {
        weak: sources.all_explicit(&own.weak)?,
        strong: sources.all_explicit(&own.strong)?,
        noarch: sources.all_explicit(&own.noarch)?,
        weak_constrains: limits(&own.weak_constrains)?,
        strong_constrains: limits(&own.strong_constrains)?,
    })
}

/// What a package exports itself.
pub(crate) fn own_run_exports(output: &Output, pins: &Pins<'_>) -> Result<RunExported, DependencyError> {
    let said = &output.run_exports;
    let limits = |list: &[Named<ConstraintSpec>]| -> Result<Vec<Requirement>, DependencyError> {
        list.iter().map(|named| constraint(named, pins)).collect()
    };
    Ok(RunExported {
        weak: own_list(&said.weak, pins)?,
        strong: own_list(&said.strong, pins)?,
        noarch: own_list(&said.noarch, pins)?,
        weak_constrains: limits(&said.weak_constrains)?,
        strong_constrains: limits(&said.strong_constrains)?,
    })
}

/// What a list of a package says, with places as it says them.
pub(crate) fn own_list(list: &[Named<PackageSpec>], pins: &Pins<'_>) -> Result<Vec<Needed>, DependencyError> {
    list.iter().map(|named| Ok(Needed::own(needed(named, None, pins)?))).collect()
}

/// What the declared packages of an environment export. Archives whose records do not say it are fetched.
fn run_exports_of<E>(
    db: &Db<'_>,
    from: &'static str,
    declared: &BTreeSet<String>,
    output: &Output,
    found: &Found,
) -> Result<RunExported, Halt<E>>
where
    E: From<Failure<FetchPackageError>> + From<Failure<RunExportsError>>,
{
    let records = &found.records;
    let is_declared = |name: &str| declared.contains(name);
    let silent: Vec<FetchPackageSpec> = records
        .as_slice()
        .iter()
        .filter(|record| is_declared(record.package_record.name.as_normalized()))
        .filter(|record| record.package_record.run_exports.is_none())
        .map(FetchPackageSpec::new)
        .collect();
    db.join(|join| silent.iter().map(|fetch| join.act(fetch)).collect::<Vec<_>>())?;
    let reads: Vec<ReadRunExportsSpec> =
        silent.iter().map(|package| ReadRunExportsSpec { package: package.clone() }).collect();
    let read = db.join(|join| reads.iter().map(|read| join.act(read)).collect::<Vec<_>>())?;
    let mut exporters = Vec::new();
    for record in records.as_slice() {
        let name = record.package_record.name.as_normalized();
        let read = silent.iter().zip(&read).find(|(fetch, _)| fetch.name == name).map(|(_, exports)| &**exports);
        if let Some(exports) = record.package_record.run_exports.as_ref().or(read) {
            exporters.push(Exporter { name, exports, sources: Vec::new() });
        }
    }
    for record in &found.built {
        if let Some(exports) = &record.record.run_exports {
            let sources = record.sources.iter().filter_map(|(name, said)| {
                let location = said.resolved(&record.manifest)?;
                Some(SourceRequirement { name: name.clone(), location, spec: name.clone() })
            });
            exporters.push(Exporter { name: record.name(), exports, sources: sources.collect() });
        }
    }
    Ok(exported(from, declared, &output.ignore_run_exports, &exporters, &found.built))
}

/// The packages that pins refer to; those of later environments go before.
pub(crate) fn pins_of<'a>(environments: impl IntoIterator<Item = &'a Found>) -> Pins<'a> {
    let mut pins = Pins::new();
    for found in environments {
        pins.extend(found.packages().map(|record| (record.name.as_normalized().to_owned(), record)));
    }
    pins
}

fn read(said: Option<&Dependencies>, base: Option<&PinnedSource>, pins: &Pins<'_>) -> Result<Wanted, DependencyError> {
    let mut wanted = Wanted::default();
    for named in said.iter().flat_map(|said| &said.depends) {
        wanted.needed.push(Needed::own(needed(named, base, pins)?));
    }
    for named in said.iter().flat_map(|said| &said.constraints) {
        wanted.constraints.push(constraint(named, pins)?);
    }
    Ok(wanted)
}

/// The constraints in the form that records have.
fn limits(list: &[Requirement]) -> Result<Vec<String>, DependencyError> {
    list.iter().map(|constraint| Said::Binary(constraint.clone()).depends()).collect()
}

/// What a package is made with, and what it needs to run.
pub(crate) struct Assembled {
    pub(crate) build: Wanted,
    pub(crate) host: Wanted,
    pub(crate) run: Wanted,
    pub(crate) build_records: Found,
    pub(crate) host_records: Found,
}

/// Goes through what a backend says of a package, in the order in which one part decides on the next: what runs the build
/// exports to what is built against and to what is needed to run, and pins refer to both.
///
/// `environment` finds the packages of an environment.
pub(crate) fn assembled<E>(
    db: &Db<'_>,
    output: &Output,
    manifest: &PinnedSource,
    environment: impl Fn(Nested, &Wanted) -> Result<Found, Halt<E>>,
    wrong: impl Fn(DependencyError) -> Halt<E>,
) -> Result<Assembled, Halt<E>>
where
    E: From<Failure<FetchPackageError>> + From<Failure<RunExportsError>>,
{
    let build = read(output.build_dependencies.as_ref(), Some(manifest), &Pins::new()).map_err(&wrong)?;
    let build_records = environment(Nested::Build, &build)?;
    let build_exports = run_exports_of::<E>(db, "build", &build.names(), output, &build_records)?;

    let pins = pins_of([&build_records]);
    let mut host = read(output.host_dependencies.as_ref(), Some(manifest), &pins).map_err(&wrong)?;
    let declared = host.names();
    host.add_strong(&build_exports);
    let host_records = environment(Nested::Host, &host)?;
    let host_exports = run_exports_of::<E>(db, "host", &declared, output, &host_records)?;

    let pins = pins_of([&build_records, &host_records]);
    let run = run(output, &build_exports, &host_exports, &pins).map_err(&wrong)?;
    Ok(Assembled { build, host, run, build_records, host_records })
}

/// What a package needs to run: what it says, and what it was built against exports.
fn run(output: &Output, build: &RunExported, host: &RunExported, pins: &Pins<'_>) -> Result<Wanted, DependencyError> {
    let mut run = read(Some(&output.run_dependencies), None, pins)?;
    if output.metadata.subdir == "noarch" {
        run.needed.extend(host.noarch.iter().cloned());
    } else {
        for exports in [&host.strong, &build.strong, &host.weak] {
            run.needed.extend(exports.iter().cloned());
        }
        for constrains in [&host.strong_constrains, &build.strong_constrains, &host.weak_constrains] {
            run.constraints.extend(constrains.iter().cloned());
        }
    }
    Ok(run)
}

/// The places of dependencies that are built, seen from the manifest.
struct Sources<'a> {
    base: &'a PinnedSource,
    /// By name; and whether the package says so itself.
    known: BTreeMap<String, (SourceLocation, bool)>,
}

impl Sources<'_> {
    /// The package says where a dependency is built from.
    fn explicit(&mut self, said: &Said) -> Result<(), DependencyError> {
        let Said::Source(source) = said else { return Ok(()) };
        match self.known.get(&source.name) {
            Some((first, true)) if *first != source.location => Err(DependencyError::DuplicateSource {
                package: source.name.clone(),
                first: first.to_string(),
                second: source.location.to_string(),
            }),
            _ => {
                self.known.insert(source.name.clone(), (source.location.clone(), true));
                Ok(())
            }
        }
    }

    /// The same of a whole list, in the form that records have.
    fn all_explicit(&mut self, list: &[Needed]) -> Result<Vec<String>, DependencyError> {
        for needed in list {
            self.explicit(&needed.said)?;
        }
        list.iter().map(|needed| needed.said.depends()).collect()
    }

    /// A run export says so. Its place is one seen from the workspace.
    fn implied_by_export(&mut self, said: &Said) {
        let Said::Source(source) = said else { return };
        self.imply(&source.name, &source.location);
    }

    /// It was built for an environment that this was built in.
    fn implied_by_environment(&mut self, said: &Said, environments: &[&Found]) {
        let Said::Binary(requirement) = said else { return };
        if requirement.archive.is_some() {
            return;
        }
        let built = environments.iter().flat_map(|found| &found.built);
        if let Some(record) = built.into_iter().find(|record| record.name() == requirement.name) {
            self.imply(&requirement.name, &record.manifest.location());
        }
    }

    fn imply(&mut self, name: &str, location: &SourceLocation) {
        if self.known.contains_key(name) {
            return;
        }
        if let Some(said) = location.relative_to(self.base) {
            self.known.insert(name.to_owned(), (said, false));
        }
    }

    fn finish(self) -> BTreeMap<String, SourceLocation> {
        self.known.into_iter().map(|(name, (location, _))| (name, location)).collect()
    }
}
