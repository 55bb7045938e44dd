//! Packages that are built from source, as entries of a lock file.
//!
//! An entry names what it is built with, which may be built, too; [`LockedSource`] holds all of that. What is not in
//! the file cannot tell one package from another: [`Comparison`] compares what two would say in one.

use std::collections::{BTreeMap, HashMap, HashSet};

use doge::{Fingerprint, Interned};

use rattler_conda_types::{PackageName, PackageRecord, RepoDataRecord, VersionWithSource};
use rattler_lock::{
    CondaPackageData, CondaSourceData, EnvironmentPackages, LockedPackage, PartialSourceMetadata, SourceData,
    SourceIdentifier, SourceMetadata,
};

use super::{
    error::LockFileError,
    file::{LockedFile, PlatformEntry},
    pin::{
        SourceFormError, read_build_source, read_location, read_pin, written_build_source, written_location,
        written_pin,
    },
};
use crate::{
    source::{LockedMetadata, LockedPackages, LockedSource, PartialMetadata, SourceLocation},
    workspace::platform::Platform,
};

/// An entry that cannot be understood.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) package: String,
    pub(super) reason: SourceFormError,
}

impl LockedFile {
    /// The conda packages locked for an environment on a platform, also those that are built from source, with what
    /// they are built with. `None` if the file has no entry for them.
    ///
    /// # Errors
    ///
    /// If what is said of a package cannot be understood.
    pub fn packages_of(&self, environment: &str, platform: &Platform) -> Option<Result<LockedPackages, LockFileError>> {
        let environment = self.inner.environment(environment)?;
        let PlatformEntry::Same(entry) = self.platform_entry(environment, platform) else {
            return None;
        };
        let packages = self.locked_packages(self.packages(environment, entry));
        Some(packages.map_err(|Unreadable { package, reason }| LockFileError::Source {
            path: self.path().to_owned(),
            package,
            source: reason,
        }))
    }

    /// The conda packages among packages of this file.
    pub(super) fn locked_packages<'l>(
        &'l self,
        packages: impl Iterator<Item = &'l LockedPackage>,
    ) -> Result<LockedPackages, Unreadable> {
        Reader { file: self, inside: Vec::new(), known: HashMap::new() }.packages(packages)
    }
}

struct Reader<'l> {
    file: &'l LockedFile,
    /// The packages that what is being read is needed for.
    inside: Vec<&'l CondaSourceData>,
    /// What was read: what two packages are built with is read once.
    known: HashMap<*const CondaSourceData, Interned<LockedSource>>,
}

impl<'l> Reader<'l> {
    fn packages(&mut self, packages: impl Iterator<Item = &'l LockedPackage>) -> Result<LockedPackages, Unreadable> {
        let (mut binary, mut source) = (Vec::new(), Vec::new());
        for package in packages {
            match package {
                LockedPackage::Conda(CondaPackageData::Binary(data)) => binary.extend(self.file.record(data)),
                LockedPackage::Conda(CondaPackageData::Source(data)) => source.push(self.source(data)?),
                LockedPackage::Pypi(_) => {}
            }
        }
        Ok(LockedPackages::new(binary, source))
    }

    fn source(&mut self, data: &'l CondaSourceData) -> Result<Interned<LockedSource>, Unreadable> {
        if let Some(known) = self.known.get(&std::ptr::from_ref(data)) {
            return Ok(known.clone());
        }
        let unreadable = |reason| Unreadable { package: SourceIdentifier::from_source_data(data).to_string(), reason };
        if self.inside.iter().any(|outer| std::ptr::eq(*outer, data)) {
            return Err(unreadable(SourceFormError::NeededByItself));
        }
        self.inside.push(data);
        let file: &'l LockedFile = self.file;
        // A handle that leads nowhere is refused where the file is parsed.
        let build = self.packages(data.source_data.build_packages.iter(&file.inner).filter_map(Result::ok))?;
        let host = self.packages(data.source_data.host_packages.iter(&file.inner).filter_map(Result::ok))?;
        self.inside.pop();
        let source = read(data, build, host).map_err(&unreadable)?;
        let name = data.name().as_normalized().to_owned();
        let source = Interned::named(source).map_err(|_| unreadable(SourceFormError::NotAName { name }))?;
        self.known.insert(data, source.clone());
        Ok(source)
    }
}

/// What an entry says, besides what it is built with.
fn read(data: &CondaSourceData, build: LockedPackages, host: LockedPackages) -> Result<LockedSource, SourceFormError> {
    let manifest = read_pin(&data.location)?;
    let build_source =
        data.package_build_source.as_ref().map(|build| read_build_source(build, &manifest)).transpose()?;
    let sources = data
        .sources
        .iter()
        .map(|(name, location)| Ok((name.clone(), read_location(location)?)))
        .collect::<Result<BTreeMap<String, SourceLocation>, SourceFormError>>()?;
    let metadata = match &data.metadata {
        SourceMetadata::Full(record) => LockedMetadata::Full(Box::new(as_built(record))),
        SourceMetadata::Partial(partial) => LockedMetadata::Partial(Box::new(PartialMetadata {
            name: partial.name.as_normalized().to_owned(),
            depends: partial.depends.clone(),
            constrains: partial.constrains.clone(),
            extra_depends: partial.extra_depends.clone(),
            flags: partial.flags.clone(),
            license: partial.license.clone(),
            purls: partial.purls.clone(),
            run_exports: partial.run_exports.clone().filter(|exports| !exports.is_empty()),
        })),
    };
    Ok(LockedSource { metadata, sources, manifest, build_source, variants: data.variants.clone(), build, host })
}

/// A record without what is only known of an archive, as it is read again. To export nothing and not to say what is
/// exported is the same; a version knows how it was written, which the library counts where it names an entry.
fn as_built(record: &PackageRecord) -> PackageRecord {
    PackageRecord {
        version: VersionWithSource::new(record.version.version().clone(), record.version.as_str()),
        run_exports: record.run_exports.clone().filter(|exports| !exports.is_empty()),
        md5: None,
        sha256: None,
        legacy_bz2_md5: None,
        legacy_bz2_size: None,
        attestations_sha256: None,
        timestamp: None,
        indexed_timestamp: None,
        ..record.clone()
    }
}

/// A package as an entry. The library finds a name for it that tells it from others of that place.
pub(super) fn write(
    source: &LockedSource,
    build: EnvironmentPackages,
    host: EnvironmentPackages,
) -> Result<CondaSourceData, SourceFormError> {
    let build_source =
        source.build_source.as_ref().map(|build| written_build_source(build, &source.manifest)).transpose()?;
    let sources = source.sources.iter().map(|(name, location)| Ok((name.clone(), written_location(location)?)));
    let metadata = match &source.metadata {
        LockedMetadata::Full(record) => SourceMetadata::Full(Box::new(as_built(record))),
        LockedMetadata::Partial(partial) => SourceMetadata::Partial(Box::new(PartialSourceMetadata {
            name: PackageName::try_from(partial.name.as_str())
                .map_err(|_| SourceFormError::NotAName { name: partial.name.clone() })?,
            depends: partial.depends.clone(),
            constrains: partial.constrains.clone(),
            extra_depends: partial.extra_depends.clone(),
            flags: partial.flags.clone(),
            license: partial.license.clone(),
            purls: partial.purls.clone(),
            run_exports: partial.run_exports.clone(),
        })),
    };
    Ok(CondaSourceData {
        location: written_pin(&source.manifest)?,
        package_build_source: build_source,
        variants: source.variants.clone(),
        identifier_hash: None,
        sources: sources.collect::<Result<_, SourceFormError>>()?,
        source_data: SourceData { build_packages: build, host_packages: host },
        metadata,
    })
}

/// Compares what a lock file would say of packages. What two are built with is compared once.
///
/// Of what is installed to build them it counts what it is, and not what a channel says of it.
#[derive(Default)]
pub(crate) struct Comparison {
    same: HashSet<(Fingerprint, Fingerprint)>,
}

impl Comparison {
    /// In what two packages are not the same. Nothing if that is all the same.
    pub(crate) fn difference(&mut self, one: &LockedSource, other: &LockedSource) -> Option<&'static str> {
        let as_read = |source: &LockedSource| {
            let none = EnvironmentPackages::default;
            let nothing = LockedPackages::default;
            read(&write(source, none(), none()).ok()?, nothing(), nothing()).ok()
        };
        let (Some(ours), Some(theirs)) = (as_read(one), as_read(other)) else {
            return Some("its place, which cannot be written down,");
        };
        if ours.manifest != theirs.manifest {
            return Some("the place of its manifest");
        }
        if ours.build_source != theirs.build_source {
            return Some("the place of its sources");
        }
        if ours.variants != theirs.variants {
            return Some("its variant");
        }
        if !is_same_metadata(&ours.metadata, &theirs.metadata) {
            return Some("its metadata");
        }
        if ours.sources != theirs.sources {
            return Some("the place of what it needs");
        }
        if !self.is_same(&one.build, &other.build) {
            return Some("what it is built with");
        }
        if !self.is_same(&one.host, &other.host) {
            return Some("what it is built against");
        }
        None
    }

    /// Whether packages are the same: archives at the same places, and sources without a difference.
    pub(crate) fn is_same(&mut self, one: &LockedPackages, other: &LockedPackages) -> bool {
        if one.binary.len() != other.binary.len() || one.source.len() != other.source.len() {
            return false;
        }
        let is_same_archive = |(one, other): (&RepoDataRecord, &RepoDataRecord)| {
            let hashes = one.package_record.sha256.zip(other.package_record.sha256);
            one.url == other.url && hashes.is_none_or(|(one, other)| one == other)
        };
        archives(one).into_iter().zip(archives(other)).all(is_same_archive)
            && one.source.iter().zip(&other.source).all(|(one, other)| self.is_same_source(one, other))
    }

    fn is_same_source(&mut self, one: &Interned<LockedSource>, other: &Interned<LockedSource>) -> bool {
        let pair = (one.fingerprint(), other.fingerprint());
        if pair.0 == pair.1 || self.same.contains(&pair) {
            return true;
        }
        // What is not at hand is the same as nothing.
        let (Some(one), Some(other)) = (one.at_hand(), other.at_hand()) else { return false };
        let is_same = self.difference(&one, &other).is_none();
        if is_same {
            self.same.insert(pair);
        }
        is_same
    }
}

fn is_same_metadata(one: &LockedMetadata, other: &LockedMetadata) -> bool {
    match (one, other) {
        (LockedMetadata::Full(one), LockedMetadata::Full(other)) => {
            // These follow from the subdir, for each reader in its own way.
            let told = |record: &PackageRecord| PackageRecord { arch: None, platform: None, ..record.clone() };
            told(one) == told(other)
        }
        (one, other) => one == other,
    }
}

fn archives(packages: &LockedPackages) -> Vec<&RepoDataRecord> {
    let mut archives: Vec<&RepoDataRecord> = packages.binary.iter().collect();
    archives.sort_by(|a, b| a.url.cmp(&b.url));
    archives
}
