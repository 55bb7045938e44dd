//! What rattler's own installer makes, to compare with.

use std::error::Error;
use std::path::Path;

use rattler::install::Installer;
use rattler_cache::package_cache::PackageCache;
use rattler_conda_types::PrefixRecord;

/// Makes the prefix anew, of the packages that its records name, with rattler's `Installer`. The packages are taken from
/// this package cache.
///
/// # Errors
///
/// If the prefix cannot be read or removed, and all that the installer says.
pub async fn install_with_rattler(package_cache: &Path, prefix: &Path) -> Result<(), Box<dyn Error>> {
    let records: Vec<PrefixRecord> = PrefixRecord::collect_from_prefix(prefix)?;
    std::fs::remove_dir_all(prefix)?;
    let records = records.into_iter().map(|record| record.repodata_record);
    Installer::new()
        .with_package_cache(PackageCache::new(package_cache))
        .with_installed_packages(Vec::new())
        .install(prefix, records)
        .await?;
    Ok(())
}
