//! The command line.

use std::path::PathBuf;

use clap::builder::Resettable;
use clap::{ArgMatches, Args, FromArgMatches, Parser, Subcommand, ValueEnum};
use doge_queries::workspace::DEFAULT_ENVIRONMENT;

/// Solves and installs the environments of pixi workspaces, and does nothing twice.
///
/// Exit codes: 0 everything is as wanted, 1 it is not and standard error says why, 2 the command line cannot be
/// understood, 130 interrupted, 143 told to end.
#[derive(Debug, Parser)]
#[command(name = "doge", version, propagate_version = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// The manifest, or the directory that holds it. By default the nearest one above the current directory.
    #[arg(long, global = true, value_name = "FILE", env = "DOGE_MANIFEST_PATH")]
    pub(crate) manifest_path: Option<PathBuf>,
    /// Where packages, repodata and results are kept. By default where pixi keeps packages and repodata, with results
    /// in a folder `doge` beside them.
    #[arg(long, global = true, value_name = "DIR", env = "DOGE_CACHE_DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// What is said to people while something goes on.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct Output {
    /// Say only what is wrong.
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Show what the build writes that has been at work for longest. Of all builds it is kept: see `doge runs log`.
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
    /// How it is said on standard error: for people, or as lines of JSON, one for each event.
    #[arg(long, global = true, value_enum, default_value_t, env = "DOGE_LOG_FORMAT", value_name = "FORMAT")]
    pub(crate) log_format: LogFormat,
}

/// How something is said on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// A size in bytes, as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let factor: f64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1.0,
            "k" | "kib" => 1024.0,
            "m" | "mib" => 1024.0 * 1024.0,
            "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
            "t" | "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
            "kb" => 1e3,
            "mb" => 1e6,
            "gb" => 1e9,
            "tb" => 1e12,
            unit => return Err(format!("`{unit}` is no unit; there are B, KiB, MiB, GiB, TiB, and KB, MB, GB, TB")),
        };
        match number.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Self((number * factor) as u64)),
            _ => Err(format!("`{number}` is no number")),
        }
    }
}

/// A number of which none would be no use.
fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("there has to be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(error.to_string()),
    }
}

/// Arguments that are put together only if theirs is the command that is given, or if all are shown.
#[derive(Debug)]
pub(crate) struct Deferred<T>(pub(crate) T);

impl<T: Args> Args for Deferred<T> {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.defer(|command| {
            // What stands at a group of arguments would be taken for what stands at the command.
            let (short, long) = (command.get_about().cloned(), command.get_long_about().cloned());
            T::augment_args(command).about(Resettable::from(short)).long_about(Resettable::from(long))
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        T::augment_args_for_update(command)
    }
}

impl<T: FromArgMatches> FromArgMatches for Deferred<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        T::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Install environments of the workspace, solving and writing the lock file where that is needed.
    Install(Deferred<InstallArguments>),
    /// Ask the channels again and bring the lock file up to date. Installs nothing.
    Solve(Deferred<SolveArguments>),
    /// Build the packages of a source, and put them where they are wanted.
    Build(Deferred<BuildArguments>),
    /// Show which packages a source offers.
    Metadata(Deferred<MetadataArguments>),
    /// Show what the last run was made of, and what became of each part.
    Graph(Deferred<GraphArguments>),
    /// Tell why something ran the last time it did.
    Why(Deferred<WhyArguments>),
    /// List the runs in this workspace, the newest first, or look at one.
    Runs(RunsArguments),
    /// Write down when what was done in a run, as trace events, which Perfetto opens.
    Trace(Deferred<TraceArguments>),
    /// Look at or empty the caches.
    Cache(CacheArguments),
    /// Write what makes a shell complete the names of commands and options.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// Whether JSON is asked for.
    pub(crate) fn is_json(&self) -> bool {
        match self {
            Command::Install(Deferred(arguments)) => arguments.lock.run.json,
            Command::Solve(Deferred(arguments)) => arguments.lock.run.json,
            Command::Build(Deferred(arguments)) => arguments.source.lock.json,
            Command::Metadata(Deferred(arguments)) => arguments.source.lock.json,
            Command::Graph(Deferred(arguments)) => arguments.json || arguments.format == Some(GraphFormat::Json),
            Command::Why(Deferred(arguments)) => arguments.json,
            Command::Runs(arguments) => match &arguments.command {
                None => arguments.json,
                Some(RunsCommand::Show { json, .. } | RunsCommand::Log { json, .. }) => *json,
            },
            Command::Trace(_) => true,
            Command::Completions { .. } => false,
            Command::Cache(arguments) => match arguments.command {
                CacheCommand::Dir { json }
                | CacheCommand::Info { json }
                | CacheCommand::Verify { json }
                | CacheCommand::Gc { json, .. }
                | CacheCommand::Clear { json, .. } => json,
            },
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct InstallArguments {
    #[command(flatten)]
    pub(crate) lock: LockArguments,
    /// The environment to install; may be given several times. By default `default`.
    #[arg(long, short, value_name = "NAME")]
    pub(crate) environment: Vec<String>,
    /// Install all environments that this machine can run.
    #[arg(long, conflicts_with_all = ["environment", "prefix"])]
    pub(crate) all: bool,
    /// Install for this platform. By default the one that suits this machine.
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Install into this directory instead of `.pixi/envs/NAME`.
    #[arg(long, value_name = "DIR")]
    pub(crate) prefix: Option<PathBuf>,
    /// Fail if the lock file is not up to date with the manifest.
    #[arg(long, conflicts_with_all = ["frozen", "update"])]
    pub(crate) locked: bool,
    /// Use the lock file as it is.
    #[arg(long, conflicts_with = "update")]
    pub(crate) frozen: bool,
    /// Build and link packages anew, all or those named, whatever they look like.
    #[arg(long, value_name = "PKG", num_args = 0..=1, require_equals = true, default_missing_value = "", value_delimiter = ',')]
    pub(crate) force: Option<Vec<String>>,
    /// Run the post-link and pre-unlink scripts of packages, which may do anything.
    #[arg(long)]
    pub(crate) link_scripts: bool,
}

impl InstallArguments {
    /// The environments that are named, or else the default one; none where all are to be installed.
    pub(crate) fn named_environments(&self) -> Vec<String> {
        if self.environment.is_empty() && !self.all {
            return vec![DEFAULT_ENVIRONMENT.to_owned()];
        }
        self.environment.clone()
    }
}

#[derive(Debug, Args)]
pub(crate) struct SolveArguments {
    #[command(flatten)]
    pub(crate) lock: LockArguments,
    /// Solve only this environment; may be given several times. By default all.
    #[arg(long, short, value_name = "NAME")]
    pub(crate) environment: Vec<String>,
    /// Solve only for this platform; may be given several times. By default for all.
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Vec<String>,
    /// Fail if the lock file is not up to date with the manifest. Asks no channel.
    #[arg(long, conflicts_with_all = ["frozen", "update"])]
    pub(crate) locked: bool,
    /// Only read the lock file.
    #[arg(long, conflicts_with = "update")]
    pub(crate) frozen: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BuildArguments {
    #[command(flatten)]
    pub(crate) source: SourceArguments,
    /// Build only this package of the source; may be given several times. By default all.
    #[arg(long, value_name = "PKG", value_delimiter = ',')]
    pub(crate) package: Vec<String>,
    /// Where the packages are put. By default the current directory.
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output_dir: Option<PathBuf>,
    /// Build packages anew, all or those named, whatever is there already.
    #[arg(long, value_name = "PKG", num_args = 0..=1, require_equals = true, default_missing_value = "", value_delimiter = ',')]
    pub(crate) force: Option<Vec<String>>,
    /// Build as for an environment of the workspace: with little compression, and leading back to the sources if the
    /// backend does that.
    #[arg(long)]
    pub(crate) development: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MetadataArguments {
    #[command(flatten)]
    pub(crate) source: SourceArguments,
}

#[derive(Debug, Args)]
pub(crate) struct SourceArguments {
    /// The directory of the source, or its manifest. By default the package of the workspace's own manifest.
    #[arg(value_name = "PATH")]
    pub(crate) path: Option<PathBuf>,
    /// Take channels and options of this environment. By default of `default`.
    #[arg(long, short, value_name = "NAME")]
    pub(crate) environment: Option<String>,
    /// Build for this platform. By default for the one that suits this machine.
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    #[command(flatten)]
    pub(crate) lock: RunArguments,
}

#[derive(Debug, Args)]
pub(crate) struct LockArguments {
    /// Choose all packages anew, or those named, instead of keeping what is locked.
    #[arg(long, value_name = "PKG", num_args = 0..=1, require_equals = true, default_missing_value = "", value_delimiter = ',')]
    pub(crate) update: Option<Vec<String>>,
    #[command(flatten)]
    pub(crate) run: RunArguments,
}

/// How a run is made.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// Download nothing.
    #[arg(long, conflicts_with = "refresh")]
    pub(crate) offline: bool,
    /// Ask servers for repodata whatever they said before, and choose the environments of build backends anew; with names,
    /// only those of these backends.
    #[arg(long, value_name = "BACKEND", num_args = 0..=1, require_equals = true, default_missing_value = "", value_delimiter = ',')]
    pub(crate) refresh: Option<Vec<String>>,
    /// Neither use results of earlier runs nor keep those of this one.
    #[arg(long)]
    pub(crate) no_persist: bool,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print one JSON object at the end.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GraphArguments {
    /// How to write it. By default as the end of the file's name says, else for Graphviz.
    #[arg(long, value_enum)]
    pub(crate) format: Option<GraphFormat>,
    /// Write it into this file. By default, and as `-`, to standard output.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// The run to show. By default the last one that did something.
    #[arg(long, value_name = "ID")]
    pub(crate) run: Option<String>,
    /// Show two runs beside each other: what is new in the second, gone, or changed.
    #[arg(long, num_args = 2, value_names = ["FIRST", "SECOND"], conflicts_with = "run")]
    pub(crate) diff: Option<Vec<String>>,
    /// Only this and what it asked for: a package, a kind or a part of a label.
    #[arg(long, value_name = "SPEC")]
    pub(crate) under: Option<String>,
    /// Only this and who asked for it.
    #[arg(long, value_name = "SPEC")]
    pub(crate) above: Option<String>,
    /// Only what was done or seen to have changed; of two runs, what differs.
    #[arg(long, value_name = "WHAT")]
    pub(crate) only: Option<GraphOnly>,
    /// So many steps from what `--under` and `--above` name, or from what was asked for.
    #[arg(long, value_name = "STEPS")]
    pub(crate) depth: Option<usize>,
    /// The same as `--format json`.
    #[arg(long, conflicts_with = "format")]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphFormat {
    /// For Graphviz.
    Dot,
    /// A picture.
    Svg,
    /// For pages that show Mermaid.
    Mermaid,
    /// For programs.
    Json,
    /// A page to look around in, which needs nothing else.
    Html,
}

/// What is shown of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphOnly {
    /// What was done, or differs.
    Changed,
}

#[derive(Debug, Args)]
pub(crate) struct WhyArguments {
    /// A package, a kind (`solve_conda_environment`, `solve`) or a part of a label (`default`). By default what the newest run
    /// was asked for.
    #[arg(value_name = "SPEC")]
    pub(crate) word: Option<String>,
    /// In this run, which may be named by the beginning of its id. By default the newest one that ran it.
    #[arg(long, value_name = "ID")]
    pub(crate) run: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TraceArguments {
    /// The run. By default the last one that did something.
    #[arg(long, value_name = "ID")]
    pub(crate) run: Option<String>,
    /// Write it into this file. By default, and as `-`, to standard output.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// Show what a run did: what took longest, what was waited for, and what was saved.
    Show {
        /// The run, or the beginning of its id. By default the last one that did something.
        id: Option<String>,
        /// How many of the longest.
        #[arg(long, default_value_t = 15)]
        longest: usize,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show what builds and other programs wrote in a run.
    Log {
        /// The run, or the beginning of its id; also one that was killed. By default the last one here that anything was
        /// written in.
        id: Option<String>,
        /// Only of this: a package, or a part of what the work is called.
        spec: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct RunsArguments {
    #[command(subcommand)]
    pub(crate) command: Option<RunsCommand>,
    /// How many.
    #[arg(long, default_value_t = 20, value_parser = at_least_one)]
    pub(crate) limit: usize,
    /// Those in other workspaces, too.
    #[arg(long)]
    pub(crate) all: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CacheArguments {
    #[command(subcommand)]
    pub(crate) command: CacheCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// Print where things are kept.
    Dir {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show how much is kept.
    Info {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove what was not used for longest. That also happens by itself after runs that made something new, at most
    /// once a day or when too much is kept: see the variables `DOGE_CACHE_MAX_SIZE` and `DOGE_CACHE_MAX_AGE`.
    Gc {
        /// Keep no more than this, as `500MiB` or `2GB`. By default what `DOGE_CACHE_MAX_SIZE` says, else 4 GiB.
        #[arg(long, value_name = "SIZE")]
        max_size: Option<Size>,
        /// Remove what was not used for so long, as `30d`; of results only the day of the last use is known. By default
        /// what `DOGE_CACHE_MAX_AGE` says, else 90 days.
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        older_than: Option<std::time::Duration>,
        /// Collect packages as well, which may be shared with other tools.
        #[arg(long)]
        packages: bool,
        /// Collect repodata as well, which may be shared likewise.
        #[arg(long)]
        repodata: bool,
        /// Say what would be removed, and remove nothing.
        #[arg(long)]
        dry_run: bool,
        /// Make the file of the results as small as it can be afterwards. Takes long, and others wait.
        #[arg(long, conflicts_with = "dry_run")]
        compact: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Read all results and prove them whole. What is damaged is put aside, what is not is kept.
    Verify {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove what is kept. By default only the results; packages and repodata may be shared with other tools.
    Clear {
        /// Remove the packages.
        #[arg(long)]
        packages: bool,
        /// Remove the repodata.
        #[arg(long)]
        repodata: bool,
        /// Remove the results.
        #[arg(long)]
        results: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}
