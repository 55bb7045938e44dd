//! Packages that are built with just what is locked.
//!
//! Nothing is solved and no channel is asked. What the sources want by now may be something else; that is told beside the
//! record.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;

use doge::{AnyError, Db, Epoch, Failure, Halt, Interned, Query, Spec, Stop};
use serde::{Deserialize, Serialize};

use crate::backend::{BuildBackendMetadataSpec, Output};
use crate::build::context::{BuildContext, Context};
use crate::build::dependencies::DependencyError;
use crate::build::solve::Nested;
use crate::build::source_metadata::{Assembly, Found, SourceMetadataError, Wanted};
use crate::conda::WorkspacePlaceSpec;
use crate::epoch::{CONDA_TYPES, OWN};
use crate::records::Records;
use crate::source::{LockedPackages, LockedSource, SourceRecord};
use crate::workspace::lock::{Comparison, Unsatisfied, meets, variant_of};
use crate::workspace::{Requirement, SolveDescription, WorkspaceRoot};

/// The record of a package that is locked, built with just what is locked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SourceAsLockedSpec {
    /// The normalised name of the package, for people.
    pub package: String,
    /// What is locked.
    pub locked: Interned<LockedSource>,
    /// What is built for.
    pub context: Context,
}

impl fmt::Display for SourceAsLockedSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` as it is locked", self.package)
    }
}

impl Spec for SourceAsLockedSpec {
    const KIND: &'static str = "source_as_locked";
    const EPOCH: Epoch = Epoch::new(2, &[OWN, CONDA_TYPES]);

    fn label(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// A package that is locked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceAsLocked {
    /// Its record; nothing if its source cannot be built in this way any more.
    pub record: Option<Interned<SourceRecord>>,
    /// In what it and what it is built with are not what their sources want by now.
    pub differs: Vec<String>,
}

type Ended<T> = Result<T, Halt<SourceMetadataError>>;

impl Query for SourceAsLockedSpec {
    type Output = SourceAsLocked;
    type Error = SourceMetadataError;

    fn compute(&self, db: &Db<'_>) -> Ended<SourceAsLocked> {
        let locked = db.value(&self.locked)?;
        let metadata = db.get(&BuildBackendMetadataSpec {
            manifest: locked.manifest.clone(),
            preferred_build_source: locked.build_source.clone(),
            context: self.context.clone(),
        })?;
        let cannot = |reason: Unsatisfied, mut differs: Vec<String>| {
            differs.insert(0, reason.to_string());
            Ok(SourceAsLocked { record: None, differs })
        };
        let package = || self.package.clone();
        let outputs = db.value(&metadata.outputs)?;
        let is_meant = |output: &&Output| {
            output.metadata.name.to_ascii_lowercase() == self.package && output.metadata.variant == locked.variants
        };
        let Some(output) = outputs.0.iter().find(is_meant) else {
            let variant = variant_of(&locked);
            return cannot(Unsatisfied::NoSuchVariant { package: package(), variant }, Vec::new());
        };
        if metadata.instance.build_source != locked.build_source {
            return cannot(
                Unsatisfied::SourceChanged { package: package(), what: "the place of its sources" },
                Vec::new(),
            );
        }
        let context = db.value(&self.context)?;
        let for_build = context.for_build();
        let build_specs = specs(db, &locked.build, &db.intern(for_build.clone())?)?;
        let host_specs = specs(db, &locked.host, &self.context)?;
        let (build, host) = db.join(|join| {
            let build = build_specs.iter().map(|spec| join.get(spec)).collect::<Vec<_>>();
            (build, host_specs.iter().map(|spec| join.get(spec)).collect::<Vec<_>>())
        })?;
        let mut differs: Vec<String> =
            build.iter().chain(&host).flat_map(|nested| nested.differs.iter().cloned()).collect();
        let records = |locked: &LockedPackages, nested: &[Arc<SourceAsLocked>]| {
            let built = nested.iter().map(|nested| nested.record.clone()).collect::<Option<Vec<_>>>()?;
            Some(Arc::new(Records::with_sources(locked.binary.clone(), built)))
        };
        let both = records(&locked.build, &build).zip(records(&locked.host, &host));
        let Some((build, host)) = both else {
            return Ok(SourceAsLocked { record: None, differs });
        };
        let (build, host) = (Found::of(db, build)?, Found::of(db, host)?);

        let (unmet, is_pin_lost, is_twice) = (RefCell::new(Vec::new()), Cell::new(false), Cell::new(false));
        let environment = |kind, wanted: &Wanted| {
            let (found, context): (&Found, &BuildContext) = match kind {
                Nested::Build => (&build, &for_build),
                Nested::Host => (&host, &context),
            };
            if let Err(reason) = met(db, &wanted.needs(context), found)? {
                is_twice.set(is_twice.get() || matches!(reason, Unsatisfied::LockedTwice { .. }));
                unmet.borrow_mut().push(format!("the {kind} environment of `{}`: {reason}", self.package));
            }
            Ok(found.clone())
        };
        let assembly = Assembly { package: &self.package, manifest: &locked.manifest };
        let wrong = |error: DependencyError| {
            is_pin_lost.set(matches!(error, DependencyError::PinMissing { .. }));
            assembly.said_wrong(error)
        };
        let record = assembly.assemble(db, output, locked.build_source.as_ref(), environment, wrong);
        let unmet = unmet.into_inner();
        // What is pinned is among what is not locked.
        let is_impossible = is_twice.get() || (is_pin_lost.get() && !unmet.is_empty());
        differs.extend(unmet);
        if is_impossible {
            return Ok(SourceAsLocked { record: None, differs });
        }
        let record = record?;
        let itself = |source: LockedSource| LockedSource {
            build: LockedPackages::default(),
            host: LockedPackages::default(),
            ..source
        };
        let now = LockedSource::of(&record, LockedPackages::default(), LockedPackages::default());
        if let Some(what) = Comparison::default().difference(&itself(LockedSource::clone(&locked)), &now) {
            differs.push(Unsatisfied::SourceChanged { package: package(), what }.to_string());
        }
        differs.sort();
        differs.dedup();
        Ok(SourceAsLocked { record: Some(db.intern(record)?), differs })
    }
}

fn specs(
    db: &Db<'_>,
    packages: &LockedPackages,
    context: &Context,
) -> Result<Vec<SourceAsLockedSpec>, Stop<Failure<AnyError>>> {
    let of = |locked: &Interned<LockedSource>| SourceAsLockedSpec::of(db, locked, context);
    packages.source.iter().map(of).collect()
}

impl SourceAsLockedSpec {
    /// A package that is locked.
    pub(crate) fn of(
        db: &Db<'_>,
        locked: &Interned<LockedSource>,
        context: &Context,
    ) -> Result<Self, Stop<Failure<AnyError>>> {
        let package = db.value(locked)?.name().to_owned();
        Ok(Self { package, locked: locked.clone(), context: context.clone() })
    }
}

/// Whether the packages of an environment are just what is wanted in it.
fn met(db: &Db<'_>, needs: &SolveDescription, found: &Found) -> Ended<Result<(), Unsatisfied>> {
    let is_placed =
        needs.is_placed() || needs.requirements.iter().chain(&needs.constraints).any(Requirement::is_placed);
    let place = if is_placed { db.observe(&WorkspacePlaceSpec)?.as_ref().clone() } else { "/".to_owned() };
    let Ok(root) = WorkspaceRoot::new(place) else { return Ok(Ok(())) };
    let current = Records::with_sources(Vec::new(), found.records.sources().to_vec());
    Ok(meets(needs, &found.records, &current, &root))
}
