//! Records of packages that are not built yet.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use doge::{ActionContext, Fingerprint, Intern, Interned};
use rattler_conda_types::package::RunExportsJson;
use rattler_conda_types::{Flag, PackageRecord, PackageUrl, RepoDataRecord};
use rattler_lock::VariantValue;
use serde::{Deserialize, Serialize};

use crate::records::Records;
use crate::source::location::{PinnedSource, SourceLocation};

/// What a package will be when it is built, and what it takes to build it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// The record, without what is only known of an archive: size, hashes, time.
    pub record: PackageRecord,
    /// Dependencies that are built, too: their places, seen from the manifest.
    pub sources: BTreeMap<String, SourceLocation>,
    /// Where the manifest is.
    pub manifest: PinnedSource,
    /// Where the sources are, if not beside the manifest.
    pub build_source: Option<PinnedSource>,
    /// What tells it from other variants of the package.
    pub variants: BTreeMap<String, VariantValue>,
    /// What is installed to run the build.
    pub build: Records,
    /// What is installed to build against.
    pub host: Records,
}

impl SourceRecord {
    /// The normalised name of the package.
    pub fn name(&self) -> &str {
        self.record.name.as_normalized()
    }

    /// What is built may be another thing tomorrow.
    pub fn is_mutable(&self) -> bool {
        !self.build_source.as_ref().unwrap_or(&self.manifest).is_immutable() || !self.manifest.is_immutable()
    }
}

/// A variant for people.
pub(crate) fn written(variant: &BTreeMap<String, VariantValue>) -> String {
    if variant.is_empty() {
        return "none".to_owned();
    }
    variant.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
}

/// What a lock file says of the packages of an environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedPackages {
    /// Packages of channels, sorted.
    pub binary: Vec<RepoDataRecord>,
    /// Packages that are built, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source: Vec<Interned<LockedSource>>,
}

/// What a lock file says of a package that is built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedSource {
    /// What it says of the package itself.
    pub metadata: LockedMetadata,
    /// See [`SourceRecord::sources`].
    pub sources: BTreeMap<String, SourceLocation>,
    /// See [`SourceRecord::manifest`].
    pub manifest: PinnedSource,
    /// See [`SourceRecord::build_source`].
    pub build_source: Option<PinnedSource>,
    /// See [`SourceRecord::variants`].
    pub variants: BTreeMap<String, VariantValue>,
    /// See [`SourceRecord::build`].
    pub build: LockedPackages,
    /// See [`SourceRecord::host`].
    pub host: LockedPackages,
}

/// What a lock file says of a package that is built, itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockedMetadata {
    /// Everything: its sources cannot change.
    Full(Box<PackageRecord>),
    /// What others need to know: its version and build may be others tomorrow.
    Partial(Box<PartialMetadata>),
}

/// What is locked of a package whose sources may change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartialMetadata {
    /// The normalised name.
    pub name: String,
    /// What it needs.
    pub depends: Vec<String>,
    /// What it limits.
    pub constrains: Vec<String>,
    /// What its extras need.
    pub extra_depends: BTreeMap<String, Vec<String>>,
    /// Its flags.
    pub flags: Vec<Flag>,
    /// Its license.
    pub license: Option<String>,
    /// What it is called elsewhere.
    pub purls: Option<BTreeSet<PackageUrl>>,
    /// What it exports.
    pub run_exports: Option<RunExportsJson>,
}

impl LockedSource {
    /// The normalised name of the package.
    pub fn name(&self) -> &str {
        match &self.metadata {
            LockedMetadata::Full(record) => record.name.as_normalized(),
            LockedMetadata::Partial(partial) => &partial.name,
        }
    }
}

impl Intern for SourceRecord {
    const NAME: &'static str = "record of a source";
}

impl Intern for LockedSource {
    const NAME: &'static str = "locked source";
}

impl Intern for LockedPackages {
    const NAME: &'static str = "locked packages";
}

/// What packages are sorted by.
type SortKey<'a> =
    (&'a str, &'a PinnedSource, &'a Option<PinnedSource>, &'a BTreeMap<String, rattler_lock::VariantValue>);

impl LockedSource {
    /// What packages are sorted by.
    pub(crate) fn sort_key(&self) -> SortKey<'_> {
        (self.name(), &self.manifest, &self.build_source, &self.variants)
    }
}

impl LockedPackages {
    /// These packages, sorted. What is built has to be at hand.
    pub fn new(mut binary: Vec<RepoDataRecord>, source: Vec<Interned<LockedSource>>) -> Self {
        let key =
            |record: &RepoDataRecord| (record.package_record.name.as_normalized().to_owned(), record.url.to_string());
        binary.sort_by_cached_key(key);
        let mut source: Vec<(Option<Arc<LockedSource>>, Interned<LockedSource>)> =
            source.into_iter().map(|name| (name.at_hand(), name)).collect();
        source.sort_by(|(a, _), (b, _)| a.as_ref().map(|a| a.sort_key()).cmp(&b.as_ref().map(|b| b.sort_key())));
        Self { binary, source: source.into_iter().map(|(_, name)| name).collect() }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.binary.is_empty() && self.source.is_empty()
    }

    /// The names of all packages, down to those that others are built with.
    pub fn names(&self) -> BTreeSet<String> {
        let of = |records: &[RepoDataRecord]| -> Vec<String> {
            records.iter().map(|record| record.package_record.name.as_normalized().to_owned()).collect()
        };
        let mut seen = HashSet::new();
        let mut names: BTreeSet<String> = of(&self.binary).into_iter().collect();
        let mut stack: Vec<Interned<LockedSource>> = self.source.clone();
        while let Some(name) = stack.pop() {
            if let Some(source) = name.at_hand().filter(|_| seen.insert(name.fingerprint())) {
                names.insert(source.name().to_owned());
                for inside in [&source.build, &source.host] {
                    names.extend(of(&inside.binary));
                    stack.extend(inside.source.iter().cloned());
                }
            }
        }
        names
    }

    /// What is locked of packages that are built; nothing if one of them is not at hand.
    pub(crate) fn sources(&self) -> Option<Vec<Arc<LockedSource>>> {
        self.source.iter().map(Interned::at_hand).collect()
    }

    /// Has everything kept that is locked, down to what packages are built with.
    pub(crate) fn keep(&self, ctx: &ActionContext) -> Result<(), String> {
        let mut seen = HashSet::new();
        let mut stack: Vec<Interned<LockedSource>> = self.source.clone();
        while let Some(name) = stack.pop() {
            if !seen.insert(name.fingerprint()) {
                continue;
            }
            let source = name.at_hand().ok_or("what is locked is not at hand")?;
            stack.extend(source.build.source.iter().chain(&source.host.source).cloned());
            ctx.intern(LockedSource::clone(&source))?;
        }
        Ok(())
    }
}

/// Gives names to what a lock file says of packages that are built.
///
/// Packages are built with packages that are built in turn. Each is looked at once, however many are built with it.
#[derive(Default)]
pub(crate) struct Locking {
    known: HashMap<Fingerprint, Interned<LockedSource>>,
}

impl Locking {
    /// What a lock file says of these records; nothing if one is not at hand.
    pub(crate) fn packages(&mut self, records: &Records) -> Option<LockedPackages> {
        let source = records.sources().iter().map(|record| self.source(record)).collect::<Option<_>>()?;
        Some(LockedPackages::new(records.as_slice().to_vec(), source))
    }

    /// What a lock file says of a package that is built.
    pub(crate) fn source(&mut self, name: &Interned<SourceRecord>) -> Option<Interned<LockedSource>> {
        if let Some(known) = self.known.get(&name.fingerprint()) {
            return Some(known.clone());
        }
        let record = name.at_hand()?;
        let (build, host) = (self.packages(&record.build)?, self.packages(&record.host)?);
        let locked = Interned::named(LockedSource::of(&record, build, host)).ok()?;
        self.known.insert(name.fingerprint(), locked.clone());
        Some(locked)
    }
}

impl LockedSource {
    /// What a lock file says of a package that is built, if it says this of what it is built with.
    pub(crate) fn of(record: &SourceRecord, build: LockedPackages, host: LockedPackages) -> Self {
        let package = &record.record;
        let metadata = if record.is_mutable() {
            LockedMetadata::Partial(Box::new(PartialMetadata {
                name: record.name().to_owned(),
                depends: package.depends.clone(),
                constrains: package.constrains.clone(),
                extra_depends: package.extra_depends.clone(),
                flags: package.flags.clone(),
                license: package.license.clone(),
                purls: package.purls.clone(),
                run_exports: package.run_exports.clone().filter(|exports| !exports.is_empty()),
            }))
        } else {
            LockedMetadata::Full(Box::new(package.clone()))
        };
        Self {
            metadata,
            sources: record.sources.clone(),
            manifest: record.manifest.clone(),
            build_source: record.build_source.clone(),
            variants: record.variants.clone(),
            build,
            host,
        }
    }
}
