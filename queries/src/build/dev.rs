//! Packages that are worked on: everything that it takes to build and to run them, without themselves.

use std::collections::BTreeSet;
use std::fmt;

use doge::{AnyError, Db, Epoch, Failure, Halt, Query, Spec};
use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::backend::{BackendMetadataError, BuildBackendMetadataSpec, Dependencies, PackageSpec};
use crate::build::context::Context;
use crate::build::dependencies::{DependencyError, Pins, Said, constraint, needed};
use crate::epoch::{CONDA_TYPES, OWN};
use crate::source::{PinError, pin};
use crate::workspace::{Requirement, SolveDescription, SourceRequirement};

/// What it takes to build and to run a package that is worked on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DevSourceMetadataSpec {
    /// The package, and where it is.
    pub package: SourceRequirement,
    /// What it would be built for.
    pub context: Context,
}

impl fmt::Display for DevSourceMetadataSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "what it takes to work on `{}` of {}", self.package.name, self.package.location)
    }
}

impl Spec for DevSourceMetadataSpec {
    const KIND: &'static str = "dev_source_metadata";
    const EPOCH: Epoch = Epoch::new(1, &[OWN, CONDA_TYPES]);

    fn label(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// What it takes to work on one variant of a package.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevSourceRecord {
    /// The normalised name of the package.
    pub name: String,
    /// What tells it from other variants.
    pub variants: Vec<(String, String)>,
    /// Packages of channels that it needs: to be built, to be built against, and to run.
    pub requirements: Vec<Requirement>,
    /// Packages that it needs and that are built.
    pub sources: Vec<SourceRequirement>,
    /// What it limits.
    pub constraints: Vec<Requirement>,
}

/// Why it is not known what it takes to work on a package.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum DevSourceMetadataError {
    /// The source cannot be pinned.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Pin(#[from] PinError),
    /// The backend cannot be asked.
    #[error(transparent)]
    Backend(#[from] Failure<BackendMetadataError>),
    /// There is no such package.
    #[error("{place} offers no package `{package}`")]
    #[diagnostic(help("it offers {}", offered.join(", ")))]
    PackageNotProvided {
        /// The package.
        package: String,
        /// The source.
        place: String,
        /// What it offers.
        offered: Vec<String>,
    },
    /// What the backend says cannot be used.
    #[error("the backend says something about `{package}` that cannot be used: {error}")]
    #[diagnostic(forward(error))]
    Dependency {
        /// The package.
        package: String,
        /// What is wrong.
        error: DependencyError,
    },
    /// Something is not at hand.
    #[error(transparent)]
    Engine(#[from] Failure<AnyError>),
}

impl Query for DevSourceMetadataSpec {
    /// One for each variant, in the order of the backend.
    type Output = Vec<DevSourceRecord>;
    type Error = DevSourceMetadataError;

    fn compute(&self, db: &Db<'_>) -> Result<Vec<DevSourceRecord>, Halt<DevSourceMetadataError>> {
        let manifest = pin(db, &self.package.location).map_err(|stop| stop.map(DevSourceMetadataError::from))?;
        let metadata = db.get(&BuildBackendMetadataSpec {
            manifest: manifest.clone(),
            preferred_build_source: None,
            context: self.context.clone(),
        })?;
        let outputs = db.value(&metadata.outputs)?;
        let mut records = Vec::new();
        for output in &outputs.0 {
            if output.metadata.name.to_ascii_lowercase() != self.package.name {
                continue;
            }
            let (mut requirements, mut sources, mut constraints) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
            let parts: [Option<&Dependencies>; 3] =
                [output.build_dependencies.as_ref(), output.host_dependencies.as_ref(), Some(&output.run_dependencies)];
            let wrong =
                |error| Halt::fail(DevSourceMetadataError::Dependency { package: self.package.name.clone(), error });
            for part in parts.into_iter().flatten() {
                for named in &part.depends {
                    // What a pin refers to is there only when it is built.
                    if matches!(named.spec, PackageSpec::PinCompatible(_) | PackageSpec::PinSubpackage(_)) {
                        continue;
                    }
                    match needed(named, Some(&manifest), &Pins::new()).map_err(wrong)? {
                        Said::Binary(requirement) => drop(requirements.insert(requirement)),
                        Said::Source(requirement) => drop(sources.insert(requirement)),
                    }
                }
                constraints.extend(part.constraints.iter().filter_map(|named| constraint(named, &Pins::new()).ok()));
            }
            let variant = &output.metadata.variant;
            records.push(DevSourceRecord {
                name: self.package.name.clone(),
                variants: variant.iter().map(|(name, value)| (name.clone(), value.to_string())).collect(),
                requirements: requirements.into_iter().collect(),
                sources: sources.into_iter().collect(),
                constraints: constraints.into_iter().collect(),
            });
        }
        if records.is_empty() {
            let offered = outputs.0.iter().map(|output| output.metadata.name.clone()).collect();
            let (package, place) = (self.package.name.clone(), manifest.to_string());
            return Err(Halt::fail(DevSourceMetadataError::PackageNotProvided { package, place, offered }));
        }
        Ok(records)
    }
}

impl SolveDescription {
    /// The same with what it takes to work on its packages in their place. Those themselves are not needed.
    pub(crate) fn with_dev(&self, known: &[(SourceRequirement, DevSourceRecord)]) -> Self {
        let mut all = self.clone();
        let worked_on: BTreeSet<&str> = self.dev.iter().map(|package| package.name.as_str()).collect();
        for package in &self.dev {
            let Some((_, record)) = known.iter().find(|(known, _)| known == package) else { continue };
            let is_other = |name: &str| !worked_on.contains(name);
            all.requirements.extend(record.requirements.iter().filter(|needed| is_other(&needed.name)).cloned());
            all.sources.extend(record.sources.iter().filter(|needed| is_other(&needed.name)).cloned());
            all.constraints.extend(record.constraints.iter().cloned());
        }
        all.dev.clear();
        for list in [&mut all.requirements, &mut all.constraints] {
            list.sort();
            list.dedup();
        }
        all.sources.sort();
        all.sources.dedup();
        all
    }
}
