//! `doge solve`.

use std::collections::BTreeSet;

use doge_queries::Problem;
use doge_queries::doge::Database;
use doge_queries::environment::{LockMode, LockText, LockWorkspaceSpec, Only, Renewal};
use miette::IntoDiagnostic as _;

use crate::arguments::{Common, SolveArguments};
use crate::commands::install::warned;
use crate::commands::report::{Report, ReportedDryRun, ReportedEnvironment, ReportedLockFile};
use crate::outcome::Exit;
use crate::progress::seconds;
use crate::session::Session;
use crate::workspace::{Located, lock_file, warn};

pub(crate) async fn run(common: &Common, arguments: SolveArguments) -> miette::Result<Exit> {
    let located = Located::find(common)?;
    let warnings = located.warnings();
    warn(&warnings);
    if let Some(update) = &arguments.lock.update {
        located.check_package_names(&named(update).into_iter().collect::<Vec<_>>())?;
    }
    let only = only(&located, &arguments)?;
    let left_out = left_out(&located, &only);
    warn(&left_out);
    let warnings = [warnings, left_out].concat();
    let session = Session::open(&located.place, &arguments.lock.run)?;
    let database = session.database.clone();
    let mode = match (arguments.locked, arguments.frozen) {
        (true, _) => LockMode::Locked,
        (_, true) => LockMode::Frozen,
        _ => {
            LockMode::Renew(renewal(&located, arguments.lock.update.as_deref(), &database)?.unwrap_or(Renewal::Nothing))
        }
    };
    let spec = LockWorkspaceSpec {
        manifest: database.intern(located.manifest.clone()).into_diagnostic()?,
        lock_file: lock_file(),
        mode,
        only,
        offline: arguments.lock.run.offline,
        build: located.build_options()?,
    };
    let before = located.lock_text();
    let mut report = Report { workspace: located.place.root.display().to_string(), warnings, ..Report::default() };

    if arguments.lock.run.dry_run {
        let work = async { database.dry(&spec).await.map_err(Problem::new) };
        let ended = session.run(work).await?;
        report.count(&ended.record);
        return match ended.result {
            Ok(dry) => {
                let dry = ReportedDryRun::new(&dry);
                dry.say();
                report.dry_run = Some(dry);
                report.end(None, "nothing was changed", arguments.lock.run.json)
            }
            Err(problem) => report.end(Some(problem), "", arguments.lock.run.json),
        };
    }

    let work = async {
        let locked = database.get(&spec).await.map_err(Problem::new)?;
        Ok(locked
            .targets
            .iter()
            .map(|target| (target.environment.clone(), target.platform.clone(), target.differs.clone()))
            .collect::<Vec<_>>())
    };
    let ended = session.run(work).await?;
    report.count(&ended.record);
    let path = located.place.root.join(&spec.lock_file.path);
    let after = located.lock_text();
    let changed = after != before;
    report.lock_file = Some(ReportedLockFile { path: path.display().to_string(), changed });
    match ended.result {
        Ok(targets) => {
            let locked = after.and_then(|text| {
                doge_queries::workspace::lock::LockedFile::parse(&text, &path, located.workspace.root()).ok()
            });
            let differs = targets.iter().flat_map(|(_, _, differs)| differs);
            report.warnings.extend(warned(&spec.lock_file.path, differs));
            for (name, platform, _) in targets {
                let records = located
                    .workspace
                    .environment(&name)
                    .ok()
                    .and_then(|environment| environment.platform(&platform))
                    .and_then(|platform| locked.as_ref()?.records(&name, platform));
                let packages = records.map_or(0, |records| records.len());
                report.environments.push(ReportedEnvironment { name, platform, prefix: None, packages });
            }
            let state = if changed { "brought up to date" } else { "is up to date" };
            let closing = format!(
                "{} {state} in {}: {}",
                spec.lock_file.path,
                seconds(ended.record.duration()),
                report.done(ended.fetched)
            );
            let exit = report.end(None, &closing, arguments.lock.run.json);
            located.collect_after(&ended.record);
            exit
        }
        Err(problem) => report.end(Some(problem), "", arguments.lock.run.json),
    }
}

/// The environments that cannot be solved, whatever the channels have, and why. Those that are asked for by name were an
/// error before.
fn left_out(located: &Located, only: &Only) -> Vec<String> {
    let workspace = &located.workspace;
    let mut left_out = Vec::new();
    let is_meant = |platform: &String| {
        only.environments.is_empty() && (only.platforms.is_empty() || only.platforms.contains(platform))
    };
    for (environment, platform) in workspace.targets().filter(|(_, platform)| is_meant(&platform.name)) {
        if let Err(error) = workspace.check(&environment.name, &platform.name) {
            left_out.push(format!("environment `{}` is left out: {error}", environment.name));
        }
    }
    left_out.dedup();
    left_out
}

fn only(located: &Located, arguments: &SolveArguments) -> miette::Result<Only> {
    let mut only = Only::default();
    for name in &arguments.environment {
        let environment = located.workspace.environment(name).map_err(Problem::new)?;
        let all = || environment.platforms.iter().map(|platform| platform.name.clone()).collect();
        let platforms = if arguments.platform.is_empty() { all() } else { arguments.platform.clone() };
        for platform in &platforms {
            // An unknown name is shown with those that are known, and what is wrong in the manifest with its place.
            located.workspace.check(&environment.name, platform).map_err(Problem::new)?;
        }
        only.environments.insert(environment.name.clone());
    }
    for name in &arguments.platform {
        let mut known = located.workspace.environments().filter_map(|environment| environment.platform(name));
        match known.next() {
            Some(platform) => only.platforms.insert(platform.name.clone()),
            None => {
                let platforms: Vec<&str> =
                    located.workspace.platforms().map(|platform| platform.name.as_str()).collect();
                return Err(miette::miette!("the workspace has no platform `{name}`; it has {}", platforms.join(", ")));
            }
        };
    }
    Ok(only)
}

/// The names that were given to a flag, normalised; none mean all.
pub(crate) fn named(packages: &[String]) -> BTreeSet<String> {
    packages.iter().map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty()).collect()
}

/// What `--update` asks for.
pub(crate) fn renewal(
    located: &Located,
    update: Option<&[String]>,
    database: &Database,
) -> miette::Result<Option<Renewal>> {
    let Some(update) = update else { return Ok(None) };
    let names = named(update);
    if names.is_empty() {
        return Ok(Some(Renewal::Everything));
    }
    let instead_of =
        located.lock_text().map(|text| database.intern(LockText::new(&text))).transpose().into_diagnostic()?;
    Ok(Some(Renewal::Packages { names, instead_of }))
}
