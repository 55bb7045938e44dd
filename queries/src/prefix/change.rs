//! Unlinking and linking packages with rattler's parts.
//!
//! What rattler's `Installer` does, without what it does twice: packages are in the cache and were looked at, so neither
//! the cache nor its locks are asked again; records are known without being read back; and they are not brought to the
//! disk one by one, for the files that they tell of are not either.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use doge::Fingerprint;
use rattler::install::link_script::PrePostLinkResult;
use rattler::install::{InstallDriver, InstallOptions, InstallerError, Transaction, link_package_sync, unlink_package};
use rattler_conda_types::package::{IndexJson, PathsJson};
use rattler_conda_types::prefix::Prefix;
use rattler_conda_types::prefix_record::{Link, LinkType, PathsEntry};
use rattler_conda_types::utils::ensure_safe_path_component;
use rattler_conda_types::{PackageRecord, PrefixRecord, RepoDataRecord};
use rayon::prelude::*;
use tokio::runtime::Handle;

use crate::prefix::files::{meta, replace};
use crate::prefix::link::LinkOptions;
use crate::prefix::reports::Reports;

/// How many paths of a package are linked in one go. Of a package with many, the installer links few at once.
const AT_ONCE: usize = 500;

/// A package in the cache that is to be linked.
pub(crate) struct Coming {
    pub(crate) record: RepoDataRecord,
    /// Where it is in the cache.
    pub(crate) package: PathBuf,
    pub(crate) index: IndexJson,
    pub(crate) paths: PathsJson,
}

/// How a prefix is changed.
pub(crate) struct Change {
    pub(crate) prefix: PathBuf,
    pub(crate) options: LinkOptions,
    pub(crate) link_scripts: bool,
    pub(crate) reports: Reports,
    /// Each path is brought by one package only, of those that are there, go or come: nobody has to settle who wins it.
    pub(crate) are_apart: bool,
    /// What waits for the parts that are asynchronous.
    pub(crate) runtime: Handle,
}

/// What a change has made.
pub(crate) struct Changed {
    /// The records of the packages that were linked, as they were written, with the fingerprints of their files.
    pub(crate) linked: Vec<(PrefixRecord, Fingerprint)>,
    /// What went wrong in scripts of packages.
    pub(crate) script_failures: Vec<String>,
}

impl Change {
    /// Takes the packages away that go and links those that come, which must be those of the transaction.
    ///
    /// It blocks, and asks before each package whether it is cancelled. What it began has ended when it returns, whatever
    /// it returns.
    pub(crate) fn carry_out(
        &self,
        transaction: &Transaction<PrefixRecord, RepoDataRecord>,
        mut coming: Vec<Coming>,
        is_cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Changed, InstallerError> {
        let failed = |error| InstallerError::FailedToCreatePrefix(self.prefix.clone(), error);
        let prefix = Prefix::create(&self.prefix).map_err(failed)?;
        for record in coming.iter().map(|coming| &coming.record.package_record) {
            let parts = [record.name.as_normalized(), record.build.as_str()];
            parts.into_iter().try_for_each(ensure_safe_path_component).map_err(InstallerError::UnsafePackageRecord)?;
        }
        let going: Vec<&PrefixRecord> = transaction.removed_packages().collect();
        let stay = transaction.unchanged_packages();
        let known = stay.iter().chain(going.iter().copied()).filter(|_| !self.are_apart);
        let driver =
            InstallDriver::builder().execute_link_scripts(self.link_scripts).with_prefix_records(known).finish();
        let before = driver
            .pre_process(transaction, &prefix, Some(&self.reports))
            .map_err(InstallerError::PreProcessingFailed)?;
        let mut script_failures: Vec<String> = before.into_iter().flat_map(|result| failed_packages(&result)).collect();

        for record in &going {
            driver.clobber_registry().unregister_paths(record);
        }
        going.par_iter().try_for_each(|record| {
            if is_cancelled() {
                return Err(InstallerError::Cancelled);
            }
            let what = || record.repodata_record.identifier.to_string();
            let unlinked = self.runtime.block_on(unlink_package(&prefix, record));
            unlinked.map_err(|error| InstallerError::UnlinkError(what(), error))
        })?;
        let remove_empty = |stay: &[PrefixRecord]| {
            let removed = driver.remove_empty_directories(&transaction.operations, stay, &prefix);
            removed.map_err(|error| InstallerError::UnlinkError("the folders that are empty".to_owned(), error))
        };
        if !going.is_empty() {
            remove_empty(stay)?;
        }

        // The driver keeps its registry to itself, but lets it be taken out.
        let registry = Arc::new(Mutex::new(std::mem::take(&mut *driver.clobber_registry())));
        let options = InstallOptions {
            platform: Some(transaction.platform),
            python_info: transaction.python_info.clone(),
            allow_symbolic_links: self.options.symbolic,
            allow_hard_links: self.options.hard,
            allow_ref_links: self.options.reference,
            ..InstallOptions::default()
        };
        // The largest first, so that no thread is left alone with one at the end.
        coming.sort_by_key(|coming| std::cmp::Reverse(coming.record.package_record.size));
        let linked = coming.into_iter().par_bridge().map(|Coming { record, package, index, paths }| {
            if is_cancelled() {
                return Err(InstallerError::Cancelled);
            }
            // The entry points of a Python package would be made with each part.
            let is_parted = self.are_apart && !index.noarch.is_python() && paths.paths.len() > AT_ONCE;
            let parts = if is_parted { in_parts(paths) } else { vec![paths] };
            let linked = parts.into_par_iter().map(|paths| {
                let registry = if self.are_apart { Arc::default() } else { registry.clone() };
                let (paths_json, index_json) = (Some(paths), Some(index.clone()));
                let options = InstallOptions { paths_json, index_json, ..options.clone() };
                link_package_sync(&package, &prefix, registry, options)
            });
            let linked: Vec<(Vec<PathsEntry>, LinkType)> = linked
                .collect::<Result<_, _>>()
                .map_err(|error| InstallerError::LinkError(record.identifier.to_string(), error))?;
            let link_type = linked.first().map(|(_, link_type)| *link_type);
            let paths = linked.into_iter().flat_map(|(paths, _)| paths).collect();
            let record = PrefixRecord {
                extracted_package_dir: Some(package.clone()),
                link: Some(Link { source: package, link_type }),
                ..PrefixRecord::from_repodata_record(record, paths)
            };
            let written = write(&prefix, &record);
            let content = written
                .map_err(|error| InstallerError::IoError(format!("failed to write {}", record.file_name()), error))?;
            self.reports.linked();
            Ok((record, content))
        });
        let linked: Vec<(PrefixRecord, Fingerprint)> = linked.collect::<Result<_, _>>()?;

        let records = || stay.iter().chain(linked.iter().map(|(record, _)| record));
        let in_order = || {
            let mut records: Vec<&PrefixRecord> = records().collect();
            records.sort_by_cached_key(|record| record.file_name());
            PackageRecord::sort_topologically(records)
        };
        if !self.are_apart {
            registry.lock().unwrap_or_else(PoisonError::into_inner).unclobber(&in_order(), &prefix)?;
        }
        if !going.is_empty() {
            remove_empty(&records().cloned().collect::<Vec<_>>())?;
        }
        if self.link_scripts {
            match driver.run_post_link_scripts(transaction, &in_order(), &prefix, Some(&self.reports)) {
                Ok(result) => script_failures.extend(failed_packages(&result)),
                Err(error) => script_failures.push(error.to_string()),
            }
        }
        Ok(Changed { linked, script_failures })
    }
}

/// The paths of a package in parts that are linked side by side.
fn in_parts(PathsJson { paths, paths_version }: PathsJson) -> Vec<PathsJson> {
    paths.chunks(AT_ONCE).map(|paths| PathsJson { paths: paths.to_vec(), paths_version }).collect()
}

fn failed_packages(result: &PrePostLinkResult) -> Vec<String> {
    result.failed_packages.iter().map(|name| name.as_normalized().to_owned()).collect()
}

/// Writes a record; the fingerprint of its file.
fn write(prefix: &Path, record: &PrefixRecord) -> io::Result<Fingerprint> {
    let text = serde_json::to_vec_pretty(record)?;
    replace(&meta(prefix, &record.file_name()), &text)?;
    Ok(Fingerprint::of(&text))
}
