//! `doge build` and `doge metadata`: the packages of a source, for those who work on it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use doge_queries::Problem;
use doge_queries::build::{BuildProfile, BuiltPackage, SourceBuildSpec};
use doge_queries::conda::MachineSpec;
use doge_queries::doge::{Database, Fingerprint, RunId};
use doge_queries::environment::{OfferedPackage, OfferedPackagesSpec};
use doge_queries::prefix::Force;
use doge_queries::source::{SourceLocation, normalized};
use doge_queries::workspace::DEFAULT_ENVIRONMENT;
use doge_queries::write_whole;
use futures::future::try_join_all;
use miette::{IntoDiagnostic as _, WrapErr as _, miette};
use serde::Serialize;

use crate::arguments::{BuildArguments, Common, MetadataArguments, SourceArguments};
use crate::commands::named;
use crate::commands::report::{Report, ReportedDryRun};
use crate::outcome::{Exit, print, print_json};
use crate::progress::seconds;
use crate::session::Session;
use crate::workspace::{Located, warn};

/// What `--json` prints of a package that a source offers.
#[derive(Serialize)]
struct ReportedPackage<'a> {
    name: &'a str,
    version: &'a str,
    build: &'a str,
    subdir: &'a str,
    variant: &'a str,
    license: &'a Option<String>,
    depends: &'a [String],
    constrains: &'a [String],
    run_exports: &'a [(String, String)],
    sources: &'a [(String, String)],
    build_packages: &'a [String],
    host_packages: &'a [String],
}

impl<'a> ReportedPackage<'a> {
    fn new(package: &'a OfferedPackage) -> Self {
        Self {
            name: &package.name,
            version: &package.version,
            build: &package.build,
            subdir: &package.subdir,
            variant: &package.variant,
            license: &package.license,
            depends: &package.depends,
            constrains: &package.constrains,
            run_exports: &package.run_exports,
            sources: &package.sources,
            build_packages: &package.build_packages,
            host_packages: &package.host_packages,
        }
    }
}

/// What is asked of the source that was named.
async fn offered_by(
    located: &Located,
    database: &Database,
    source: &SourceArguments,
) -> miette::Result<OfferedPackagesSpec> {
    let machine = database.observe(&MachineSpec).await.map_err(Problem::new)?;
    let name = source.environment.as_deref().unwrap_or(DEFAULT_ENVIRONMENT);
    let environment = located.workspace.environment(name).map_err(Problem::new)?;
    let platform = match &source.platform {
        Some(platform) => environment.platform(platform),
        None => environment.platform_for(&machine),
    };
    let platform = platform.ok_or_else(|| {
        let known: Vec<&str> = environment.platforms.iter().map(|platform| platform.name.as_str()).collect();
        miette!(help = "name one with `--platform`", "environment `{name}` is for {}", known.join(", "))
    })?;
    let location = match &source.path {
        Some(path) => located.source_at(path)?,
        None if located.workspace.has_package() => SourceLocation::path("."),
        None => {
            return Err(miette!(
                help = "name the directory of a package, as in `doge build packages/a`",
                "the manifest of the workspace describes no package itself"
            ));
        }
    };
    Ok(OfferedPackagesSpec {
        manifest: database.intern(located.manifest.clone()).into_diagnostic()?,
        environment: name.to_owned(),
        platform: platform.name.clone(),
        location,
        build: located.build_options()?,
        offline: source.lock.offline,
    })
}

pub(crate) async fn metadata(common: &Common, arguments: MetadataArguments) -> miette::Result<Exit> {
    let located = Located::find(common)?;
    let warnings = located.warnings();
    warn(&warnings);
    let session = Session::open(&located.place, &arguments.source.lock)?;
    let database = session.database.clone();
    let spec = offered_by(&located, &database, &arguments.source).await?;
    let ended = session.run(async { database.get(&spec).await.map_err(Problem::new) }).await?;
    let offered = ended.result?;
    if arguments.source.lock.json {
        print_json(&offered.iter().map(ReportedPackage::new).collect::<Vec<_>>())?;
        return Ok(Exit::Done);
    }
    for package in offered.iter() {
        tell(package);
    }
    Ok(Exit::Done)
}

fn tell(package: &OfferedPackage) {
    print(&format!("{} {} {} for {}", package.name, package.version, package.build, package.subdir));
    let list = |title: &str, items: &[String]| {
        if !items.is_empty() {
            print(&format!("  {title}:"));
            items.iter().for_each(|item| print(&format!("    {item}")));
        }
    };
    let pairs =
        |pairs: &[(String, String)]| pairs.iter().map(|(key, text)| format!("{key}: {text}")).collect::<Vec<_>>();
    if package.variant != "none" {
        print(&format!("  variant: {}", package.variant));
    }
    list("built with", &package.build_packages);
    list("built against", &package.host_packages);
    list("needs", &package.depends);
    list("limits", &package.constrains);
    list("exports", &pairs(&package.run_exports));
    list("built as well", &pairs(&package.sources));
}

pub(crate) async fn run(common: &Common, arguments: BuildArguments) -> miette::Result<Exit> {
    let located = Located::find(common)?;
    let warnings = located.warnings();
    warn(&warnings);
    let lock = &arguments.source.lock;
    let session = Session::open(&located.place, lock)?;
    let database = session.database.clone();
    let spec = offered_by(&located, &database, &arguments.source).await?;
    let wanted = named(&arguments.package);
    let force = arguments.force.as_ref().map(|packages| Force { wish: RunId::new(), packages: named(packages) });
    let mut report = Report { workspace: located.place.root.display().to_string(), warnings, ..Report::default() };
    let work = async {
        let offered = database.get(&spec).await.map_err(Problem::new)?;
        let is_wanted = |package: &&OfferedPackage| wanted.is_empty() || wanted.contains(&package.name);
        let specs: Vec<SourceBuildSpec> = offered
            .iter()
            .filter(is_wanted)
            .map(|package| SourceBuildSpec {
                package: package.name.clone(),
                record: package.record.clone(),
                context: package.context.clone(),
                profile: if arguments.development { BuildProfile::Development } else { BuildProfile::Release },
                force: force.clone(),
            })
            .collect();
        let names: BTreeSet<String> = offered.iter().map(|package| package.name.clone()).collect();
        if lock.dry_run {
            let dry = try_join_all(specs.iter().map(|spec| database.dry(spec))).await.map_err(Problem::new)?;
            return Ok((names, Vec::new(), dry));
        }
        let mut built = try_join_all(specs.iter().map(|spec| database.get(spec))).await.map_err(Problem::new)?;
        for (spec, package) in specs.iter().zip(&mut built) {
            if archive_of(&located.place.root, package).is_none() {
                // The result is known, and nobody has the file any more.
                let force = Some(Force { wish: RunId::new(), packages: BTreeSet::from([spec.package.clone()]) });
                let again = SourceBuildSpec { force, ..spec.clone() };
                *package = database.get(&again).await.map_err(Problem::new)?;
            }
        }
        Ok((names, built, Vec::new()))
    };
    let ended = session.run(work).await?;
    report.count(&ended.record);
    let (names, built, dry) = match ended.result {
        Ok(done) => done,
        Err(problem) => return report.end(Some(problem), "", lock.json),
    };
    if let Some(unknown) = wanted.iter().find(|name| !names.contains(*name)) {
        let known = names.into_iter().collect::<Vec<_>>().join(", ");
        return Err(miette!(help = format!("it offers {known}"), "the source offers no package `{unknown}`"));
    }
    if lock.dry_run {
        let whole = ReportedDryRun::of_several(&dry);
        whole.say();
        report.dry_run = Some(whole);
        return report.end(None, "nothing was built", lock.json);
    }
    let directory = arguments.output_dir.clone().unwrap_or_else(|| PathBuf::from("."));
    for package in &built {
        report.built.push(place(&located.place.root, package, &directory)?);
    }
    let names: Vec<String> = built.iter().map(|package| package.file_name.clone()).collect();
    let state = if report.executed.contains_key("backend_build") { "built" } else { "up to date" };
    let closing = format!("{} {state} in {}", names.join(", "), seconds(ended.record.duration()));
    let exit = report.end(None, &closing, lock.json);
    located.collect_after(&ended.record);
    exit
}

/// The archive of a package that was built; nothing if it is not what it was.
fn archive_of(root: &Path, package: &BuiltPackage) -> Option<Vec<u8>> {
    let bytes = std::fs::read(root.join(&package.artifact.path)).ok()?;
    (Fingerprint::of(&bytes) == package.artifact.content).then_some(bytes)
}

/// Puts a package where it was asked for. Yields its path.
fn place(root: &Path, package: &Arc<BuiltPackage>, directory: &Path) -> miette::Result<String> {
    let cannot = || format!("`{}` cannot be written into `{}`", package.file_name, directory.display());
    std::fs::create_dir_all(directory).into_diagnostic().wrap_err_with(cannot)?;
    let target = directory.join(&package.file_name);
    let bytes = archive_of(root, package).ok_or_else(|| {
        let from = root.join(&package.artifact.path);
        miette!(
            help = "`--force` builds it again",
            "the package `{}` that was built is gone or damaged",
            from.display()
        )
    })?;
    write_whole(&target, &bytes).into_diagnostic().wrap_err_with(cannot)?;
    Ok(target.display().to_string())
}

impl Located {
    /// The source in a directory that is given relative to the current one.
    fn source_at(&self, path: &Path) -> miette::Result<SourceLocation> {
        let absolute = std::fs::canonicalize(path)
            .into_diagnostic()
            .wrap_err_with(|| format!("there is no source at `{}`", path.display()))?;
        let text = |path: &Path| path.to_string_lossy().replace('\\', "/");
        Ok(match absolute.strip_prefix(&self.place.root) {
            Ok(inside) => SourceLocation::path(&text(inside)),
            Err(_) => SourceLocation::Path { path: normalized(&text(&absolute)) },
        })
    }
}
