//! The work of `doge install`, done by calling rattler directly: what Doge is compared with.
//!
//! `direct MANIFEST CACHE PREFIX` solves the environment `default` of a pixi manifest for linux-64 with rattler's gateway
//! and solver and installs it with rattler's installer, in one process, without lock file and without any results
//! kept. Prints what each part took, in milliseconds.

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use doge_queries::workspace::discovery::load;
use doge_queries::workspace::{DEFAULT_ENVIRONMENT, ManifestOptions};
use rattler::install::Installer;
use rattler_cache::package_cache::PackageCache;
use rattler_conda_types::{Channel, PrefixRecord, Subdir};
use rattler_repodata_gateway::{Gateway, RepoData};
use rattler_solve::{SolverImpl as _, SolverTask, resolvo::Solver};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let mut next = || arguments.next().ok_or("usage: direct MANIFEST CACHE PREFIX");
    let (manifest, cache, prefix) = (std::path::absolute(next()?)?, next()?, next()?);
    let began = Instant::now();
    let workspace = load(&manifest, &ManifestOptions::default())?;
    let needs = workspace.describe(DEFAULT_ENVIRONMENT, Subdir::Linux64.as_str())?.needs;
    let specs = needs.match_specs(workspace.root())?;

    let gateway = Gateway::builder()
        .with_cache_dir(cache.join("repodata"))
        .with_package_cache(PackageCache::new(cache.join("pkgs")))
        .finish();
    let channels = needs.channel_urls(workspace.root()).into_iter().map(Channel::from_url);
    let found = gateway.query(channels, [Subdir::Linux64, Subdir::NoArch], specs.clone()).recursive(true).await?;
    let repodata: Vec<RepoData> = found.repodata;
    let read = began.elapsed();

    let task = SolverTask {
        virtual_packages: needs.generic_virtual_packages(),
        specs,
        ..repodata.iter().map(RepoData::iter).collect::<SolverTask<'_, Vec<_>>>()
    };
    let records = Solver.solve(task)?.records;
    let solved = began.elapsed();

    let installed = PrefixRecord::collect_from_prefix(&prefix).unwrap_or_default();
    Installer::new()
        .with_package_cache(PackageCache::new(cache.join("pkgs")))
        .with_target_platform(Subdir::Linux64)
        .with_installed_packages(installed)
        .install(&prefix, records.clone())
        .await?;
    let done = began.elapsed();
    let ms = |duration: std::time::Duration| duration.as_secs_f64() * 1000.0;
    let mut out = std::io::stdout().lock();
    std::io::Write::write_fmt(
        &mut out,
        format_args!(
            "{{\"packages\":{},\"read_ms\":{:.1},\"solve_ms\":{:.1},\"install_ms\":{:.1},\"all_ms\":{:.1}}}\n",
            records.len(),
            ms(read),
            ms(solved - read),
            ms(done - solved),
            ms(done)
        ),
    )?;
    Ok(())
}
