//! What a source offers to a workspace.

use std::collections::BTreeSet;
use std::fmt;

use doge::{AnyError, Db, Epoch, Failure, Halt, Interned, Query, Spec};
use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::backend::{BackendMetadataError, BuildBackendMetadataSpec};
use crate::build::{Context, SourceMetadataError, SourceMetadataSpec};
use crate::conda::MachineError;
use crate::environment::context::{BuildOptions, contexts};
use crate::environment::manifest::{ManifestText, ReadManifestError, ReadManifestSpec};
use crate::epoch::{CONDA_TYPES, OWN};
use crate::files::FilesError;
use crate::source::{PinError, SourceLocation, SourceRecord, pin, written};

/// The packages that a source offers, as they would be built for an environment of a workspace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OfferedPackagesSpec {
    /// The text of the workspace's manifest.
    pub manifest: Interned<ManifestText>,
    /// The environment that they are built for.
    pub environment: String,
    /// Its platform, as the lock file names it.
    pub platform: String,
    /// Where the source is.
    pub location: SourceLocation,
    /// How packages are built.
    pub build: BuildOptions,
    /// Only what is in the cache is looked at.
    pub offline: bool,
}

impl fmt::Display for OfferedPackagesSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "what {} offers to {}@{}", self.location, self.environment, self.platform)
    }
}

impl Spec for OfferedPackagesSpec {
    const KIND: &'static str = "offered_packages";
    const EPOCH: Epoch = Epoch::new(1, &[OWN, CONDA_TYPES]);

    fn label(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// A package that a source offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedPackage {
    /// Its name, normalised.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its build string.
    pub build: String,
    /// Its subdir.
    pub subdir: String,
    /// What tells it from other variants, for people.
    pub variant: String,
    /// Its license.
    pub license: Option<String>,
    /// What it needs to run.
    pub depends: Vec<String>,
    /// What it limits.
    pub constrains: Vec<String>,
    /// What those who build against it need to run: the kind of export and what is exported.
    pub run_exports: Vec<(String, String)>,
    /// Where dependencies are that are built, too.
    pub sources: Vec<(String, String)>,
    /// What is installed to run its build.
    pub build_packages: Vec<String>,
    /// What is installed to build against.
    pub host_packages: Vec<String>,
    /// Its record.
    pub record: Interned<SourceRecord>,
    /// What it would be built for.
    pub context: Context,
}

/// Why it is not known what a source offers.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum OfferedPackagesError {
    /// The workspace has no such environment.
    #[error("the workspace has no environment `{environment}` for `{platform}`")]
    NoEnvironment {
        /// The environment.
        environment: String,
        /// The platform.
        platform: String,
    },
    /// The manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] Failure<ReadManifestError>),
    /// It is not known what this machine is.
    #[error(transparent)]
    Machine(#[from] Failure<MachineError>),
    /// The files with variants cannot be read.
    #[error(transparent)]
    Files(#[from] Failure<FilesError>),
    /// The source cannot be pinned.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Pin(#[from] PinError),
    /// The backend cannot be asked.
    #[error(transparent)]
    Backend(#[from] Failure<BackendMetadataError>),
    /// A record cannot be made.
    #[error(transparent)]
    Source(#[from] Failure<SourceMetadataError>),
    /// Something is not at hand.
    #[error(transparent)]
    Engine(#[from] Failure<AnyError>),
}

impl Query for OfferedPackagesSpec {
    type Output = Vec<OfferedPackage>;
    type Error = OfferedPackagesError;

    fn compute(&self, db: &Db<'_>) -> Result<Vec<OfferedPackage>, Halt<OfferedPackagesError>> {
        let needs = db.act(&ReadManifestSpec { manifest: self.manifest.clone() })?;
        let needs = db.value(&needs)?;
        let is_meant: Vec<bool> = needs
            .units
            .iter()
            .map(|unit| unit.platform == self.platform && unit.environments.contains(&self.environment))
            .collect();
        let found = contexts::<OfferedPackagesError>(db, &needs, &is_meant, &self.build, self.offline)?;
        let Some(context) = found.into_iter().flatten().next() else {
            let (environment, platform) = (self.environment.clone(), self.platform.clone());
            return Err(Halt::fail(OfferedPackagesError::NoEnvironment { environment, platform }));
        };
        let manifest = pin(db, &self.location).map_err(|stop| stop.map(OfferedPackagesError::from))?;
        let metadata = db.get(&BuildBackendMetadataSpec {
            manifest: manifest.clone(),
            preferred_build_source: None,
            context: context.clone(),
        })?;
        let outputs = db.value(&metadata.outputs)?;
        let names: BTreeSet<String> =
            outputs.0.iter().map(|output| output.metadata.name.to_ascii_lowercase()).collect();
        let specs: Vec<SourceMetadataSpec> = names
            .into_iter()
            .map(|package| SourceMetadataSpec {
                package,
                manifest: manifest.clone(),
                locked: None,
                renewed: BTreeSet::new(),
                asks: false,
                context: context.clone(),
            })
            .collect();
        let records = db.join(|join| specs.iter().map(|spec| join.get(spec)).collect::<Vec<_>>())?;
        let mut offered = Vec::new();
        for records in &records {
            for name in db.value(records)?.sources() {
                let record = db.value(name)?;
                offered.push(self.offered(db, name, &record, &context)?);
            }
        }
        Ok(offered)
    }
}

impl OfferedPackagesSpec {
    fn offered(
        &self,
        db: &Db<'_>,
        name: &Interned<SourceRecord>,
        record: &SourceRecord,
        context: &Context,
    ) -> Result<OfferedPackage, Halt<OfferedPackagesError>> {
        let package = &record.record;
        let installed = |records: &crate::records::Records| -> Result<Vec<String>, Halt<OfferedPackagesError>> {
            let told = |package: &rattler_conda_types::PackageRecord| {
                format!("{} {} {}", package.name.as_normalized(), package.version, package.build)
            };
            let mut all: Vec<String> = records.as_slice().iter().map(|record| told(&record.package_record)).collect();
            for built in records.read_sources(db)? {
                all.push(format!("{} (built from {})", told(&built.record), built.manifest));
            }
            all.sort();
            Ok(all)
        };
        let exports = package.run_exports.iter().flat_map(|exports| {
            [
                ("weak", &exports.weak),
                ("strong", &exports.strong),
                ("noarch", &exports.noarch),
                ("weak-constrains", &exports.weak_constrains),
                ("strong-constrains", &exports.strong_constrains),
            ]
        });
        let exports = exports.flat_map(|(kind, list)| list.iter().map(move |spec| (kind.to_owned(), spec.clone())));
        Ok(OfferedPackage {
            name: record.name().to_owned(),
            version: package.version.to_string(),
            build: package.build.to_string(),
            subdir: package.subdir.clone(),
            variant: written(&record.variants),
            license: package.license.clone(),
            depends: package.depends.clone(),
            constrains: package.constrains.clone(),
            run_exports: exports.collect(),
            sources: record.sources.iter().map(|(name, location)| (name.clone(), location.to_string())).collect(),
            build_packages: installed(&record.build)?,
            host_packages: installed(&record.host)?,
            record: name.clone(),
            context: context.clone(),
        })
    }
}
