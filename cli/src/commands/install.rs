//! `doge install`.

use std::collections::BTreeSet;

use doge_queries::Problem;
use doge_queries::conda::MachineSpec;
use doge_queries::doge::{Builder, Database, Root, RunId, Spec as _};
use doge_queries::environment::{
    InstallWorkspaceEnvironmentSpec, LockMode, LockWorkspaceSpec, Only, WriteLockFileSpec,
};
use doge_queries::prefix::{Force, PrefixStateSpec};
use doge_queries::workspace::{Environment, Platform};
use futures::future::try_join_all;
use miette::{IntoDiagnostic as _, miette};

use crate::arguments::{Common, InstallArguments};
use crate::commands::report::{Report, ReportedDryRun, ReportedEnvironment, ReportedLockFile};
use crate::commands::solve::{named, renewal};
use crate::outcome::Exit;
use crate::progress::seconds;
use crate::session::Session;
use crate::words::counted;
use crate::workspace::{Located, Place, lock_file, warn};

/// What is installed where.
struct Target {
    environment: String,
    platform: Platform,
    prefix: PrefixStateSpec,
}

pub(crate) async fn run(common: &Common, arguments: InstallArguments) -> miette::Result<Exit> {
    let place = Place::find(common)?;
    let prefixes: Vec<PrefixStateSpec> =
        arguments.named_environments().iter().map(|name| prefix(&arguments, name)).collect::<miette::Result<_>>()?;
    // What is looked at whatever the manifest says, while that is read.
    let look_ahead = |builder| {
        let builder = prefixes.iter().fold(builder, Builder::look_ahead);
        builder.look_ahead(&lock_file()).look_ahead(&MachineSpec)
    };
    let session = Session::open_and(&place, &arguments.lock.run, look_ahead)?;
    let database = session.database.clone();
    let located = Located::read(place)?;
    let warnings = located.warnings();
    warn(&warnings);
    let force = arguments.force.as_ref().map(|packages| named(packages));
    for names in [&force, &arguments.lock.update.as_ref().map(|packages| named(packages))].into_iter().flatten() {
        located.check_package_names(&names.iter().cloned().collect::<Vec<_>>())?;
    }
    let targets = targets(&located, &arguments, &database).await?;
    if !arguments.lock.run.dry_run {
        keep_out_of_git(&located);
    }
    let mode = match (arguments.locked, arguments.frozen) {
        (true, _) => LockMode::Locked,
        (_, true) => LockMode::Frozen,
        _ => renewal(&located, arguments.lock.update.as_deref(), &database)?.map_or(LockMode::Satisfy, LockMode::Renew),
    };
    let lock = LockWorkspaceSpec {
        manifest: database.intern(located.manifest.clone()).into_diagnostic()?,
        lock_file: lock_file(),
        // What is not checked need not be looked at where it is not installed.
        only: if mode == LockMode::Frozen { only(&targets) } else { Only::default() },
        mode,
        offline: arguments.lock.run.offline,
        build: located.build_options()?,
    };
    let specs: Vec<InstallWorkspaceEnvironmentSpec> = targets
        .iter()
        .map(|target| InstallWorkspaceEnvironmentSpec {
            lock: lock.clone(),
            environment: target.environment.clone(),
            platform: target.platform.name.clone(),
            subdir: target.platform.subdir,
            prefix: target.prefix.clone(),
            options: located.place.config.link_options(),
            link_scripts: arguments.link_scripts || located.place.config.link_scripts(),
            force: force.clone().map(|packages| Force { wish: RunId::new(), packages }),
        })
        .collect();
    let mut report = Report { workspace: located.place.root.display().to_string(), warnings, ..Report::default() };

    if arguments.lock.run.dry_run {
        let work = async { try_join_all(specs.iter().map(|spec| database.dry(spec))).await.map_err(Problem::new) };
        let ended = session.run(work).await?;
        report.count(&ended.record);
        return match ended.result {
            Ok(dry) => {
                let whole = ReportedDryRun::of_several(&dry);
                whole.say();
                report.dry_run = Some(whole);
                report.end(None, "nothing was changed", arguments.lock.run.json)
            }
            Err(problem) => report.end(Some(problem), "", arguments.lock.run.json),
        };
    }

    let work = async {
        let requests: Vec<_> = specs.iter().map(|spec| database.get(spec)).collect();
        try_join_all(requests).await.map_err(Problem::new)
    };
    let ended = session.run(work).await?;
    report.count(&ended.record);
    report.lock_file = Some(ReportedLockFile {
        path: located.place.root.join(&lock.lock_file.path).display().to_string(),
        changed: report.executed.contains_key(WriteLockFileSpec::KIND),
    });
    match ended.result {
        Ok(installed) => {
            let differs = installed.iter().flat_map(|installed| &installed.differs);
            report.warnings.extend(warned(&lock.lock_file.path, differs));
            for (target, installed) in targets.iter().zip(&installed) {
                report.environments.push(ReportedEnvironment {
                    name: target.environment.clone(),
                    platform: target.platform.name.clone(),
                    prefix: Some(installed.path.clone()),
                    packages: installed.packages,
                });
            }
            let names = report.environments.iter();
            let names = names.map(|environment| {
                let packages = counted(environment.packages as u64, "package", "packages");
                format!("{} ({packages})", environment.name)
            });
            let state = if report.executed.is_empty() { "up to date" } else { "installed" };
            let closing = format!(
                "{} {state} in {}: {}",
                names.collect::<Vec<_>>().join(", "),
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

fn only(targets: &[Target]) -> Only {
    Only {
        environments: targets.iter().map(|target| target.environment.clone()).collect(),
        platforms: targets.iter().map(|target| target.platform.name.clone()).collect(),
    }
}

/// Says in what packages are not what is locked, though that is what is taken.
pub(crate) fn warned<'a>(lock_file: &str, differs: impl Iterator<Item = &'a String>) -> Vec<String> {
    let said: BTreeSet<String> = differs
        .map(|reason| format!("`{lock_file}` is used as it is, though it is not up to date: {reason}"))
        .collect();
    let said: Vec<String> = said.into_iter().collect();
    warn(&said);
    said
}

/// Where an environment is installed.
fn prefix(arguments: &InstallArguments, environment: &str) -> miette::Result<PrefixStateSpec> {
    let Some(path) = &arguments.prefix else {
        return Ok(PrefixStateSpec { root: Root::Workspace, path: format!(".pixi/envs/{environment}") });
    };
    let path = std::path::absolute(path).into_diagnostic()?;
    let path = path.to_str().ok_or_else(|| miette!("`{}` is not UTF-8", path.display()))?.to_owned();
    Ok(PrefixStateSpec { root: Root::Absolute, path })
}

async fn targets(located: &Located, arguments: &InstallArguments, database: &Database) -> miette::Result<Vec<Target>> {
    let machine = database.observe(&MachineSpec).await.map_err(Problem::new)?;
    let workspace = &located.workspace;
    let platform_of = |environment: &Environment| match &arguments.platform {
        Some(name) => environment.platform(name).cloned(),
        None => environment.platform_for(&machine).cloned(),
    };
    let mut names = arguments.named_environments();
    if arguments.all {
        names.extend(
            workspace
                .environments()
                .filter(|environment| platform_of(environment).is_some())
                .map(|environment| environment.name.clone()),
        );
    }
    let mut known = BTreeSet::new();
    names.retain(|name| known.insert(name.clone()));
    if arguments.prefix.is_some() && names.len() > 1 {
        return Err(miette!(
            help = "install them one after the other, each with its own `--prefix`",
            "`--prefix` is one directory, and {} environments are to be installed",
            names.len()
        ));
    }
    let mut targets = Vec::new();
    for name in names {
        let environment = workspace.environment(&name).map_err(Problem::new)?;
        let Some(platform) = platform_of(environment) else {
            let known: Vec<&str> = environment.platforms.iter().map(|platform| platform.name.as_str()).collect();
            let wanted = match (&arguments.platform, machine.subdir) {
                (Some(platform), _) => format!("`{platform}`"),
                (None, Some(subdir)) => format!("this machine, which is `{subdir}`"),
                (None, None) => "this machine".to_owned(),
            };
            return Err(miette!(
                help = "add the platform to `platforms` of the workspace, or name another with `--platform`",
                "environment `{name}` is not for {wanted}; it is for {}",
                known.join(", ")
            ));
        };
        // What is wrong in the manifest for this environment is shown with its place before anything begins.
        workspace.check(&name, &platform.name).map_err(Problem::new)?;
        let prefix = prefix(arguments, &name)?;
        targets.push(Target { environment: name, platform, prefix });
    }
    Ok(targets)
}

/// Environments do not belong into version control; pixi says so in the same way.
fn keep_out_of_git(located: &Located) {
    let directory = located.place.root.join(".pixi");
    let path = directory.join(".gitignore");
    if !path.exists() && std::fs::create_dir_all(&directory).is_ok() {
        // It is a courtesy; what hinders it hinders the installation, too, and is told there.
        let _ = std::fs::write(path, "*\n!config.toml\n");
    }
}
