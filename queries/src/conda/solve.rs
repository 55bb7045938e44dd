//! Solving.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use doge::{Action, ActionContext, Epoch, Interned, Resource, Spec};
use miette::Diagnostic;
use rattler_conda_types::package::{ArchiveIdentifier, CondaArchiveType, DistArchiveIdentifier, DistArchiveType};
use rattler_conda_types::{PackageRecord, ParseMatchSpecError, RepoDataRecord};
use rattler_lock::options::{ChannelPriority, SolveStrategy};
use rattler_solve::{CancellationToken, RepoDataIter, SolverImpl as _, SolverTask, resolvo::Solver};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::Url;

use crate::conda::cached::CachedPackages;
use crate::conda::closure::Closure;
use crate::conda::error::ChannelError;
use crate::conda::place::Placed;
use crate::conda::source::workspace_root;
use crate::epoch::{CONDA_TYPES, CONDA_VERSION, OWN, RESOLVO, SOLVE};
use crate::records::Records;
use crate::workspace::{ExcludeNewer, SolveDescription};

/// Solving for a set of records that together are what is needed.
///
/// It depends on the records that can be reached from the requirements and on nothing else of the channels. It is run
/// again when one of those changes, or anything in `needs`, or what is preferred.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SolveCondaEnvironmentSpec {
    /// What is solved, for people.
    pub name: String,
    /// What is needed. A cutoff in it is a moment, not a distance from now.
    pub needs: SolveDescription,
    /// The records to choose from.
    pub closure: Interned<Closure>,
    /// Records that are taken if they can be.
    pub preferred: Interned<Records>,
    /// Only what was in the cache was looked at. Such a result is not taken for one that was found online.
    pub offline: bool,
    /// Where the workspace is, if a channel is inside of it.
    pub place: Placed,
    /// If nothing may be downloaded: the packages that need not be.
    pub cached: Option<Interned<CachedPackages>>,
    /// Packages that are built, if there are any. Their names come from nowhere else.
    pub sources: Option<Interned<Records>>,
}

impl fmt::Display for SolveCondaEnvironmentSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "solve {}", self.name)
    }
}

impl Spec for SolveCondaEnvironmentSpec {
    const KIND: &'static str = "solve_conda_environment";
    const EPOCH: Epoch = Epoch::new(1, &[OWN, SOLVE, RESOLVO, CONDA_TYPES, CONDA_VERSION]);

    fn label(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// What a solve found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Solution {
    /// The records.
    pub records: Interned<Records>,
}

/// Why there is no solution.
#[derive(Clone, Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum SolveError {
    /// The requirements contradict each other or what the channels have.
    #[error("{name} cannot be solved:\n{}", reasons.join("\n"))]
    #[diagnostic(help("relax one of the requirements named above, or add a channel that has what is missing"))]
    Unsolvable {
        /// What was to be solved.
        name: String,
        /// Why not, in the words of the solver.
        reasons: Vec<String>,
    },
    /// A requirement cannot be read.
    #[error("a requirement of {name} cannot be read")]
    Requirement {
        /// What was to be solved.
        name: String,
        /// What is wrong.
        #[source]
        source: ParseMatchSpecError,
    },
    /// The solver gave up.
    #[error("{name} cannot be solved")]
    Solver {
        /// What was to be solved.
        name: String,
        /// What the solver says.
        #[source]
        source: Arc<rattler_solve::SolveError>,
    },
    /// A channel cannot be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Channel(#[from] ChannelError),
}

impl Action for SolveCondaEnvironmentSpec {
    type Output = Solution;
    type Error = SolveError;
    const RESOURCE: Resource = Resource::Solve;
    const EXPENSIVE: bool = true;

    async fn run(&self, ctx: &ActionContext) -> Result<Solution, SolveError> {
        let not_at_hand = |what| SolveError::Channel(ChannelError::NotAtHand { what });
        let closure = ctx.value(&self.closure).await.ok_or(not_at_hand("the list of records"))?;
        let preferred = ctx.value(&self.preferred).await.ok_or(not_at_hand("the list of locked records"))?;
        let root = workspace_root(ctx)?;
        let requirement = |source| SolveError::Requirement { name: self.name.clone(), source };
        let mut specs = self.needs.match_specs(&root).map_err(requirement)?;
        for source in &self.needs.sources {
            specs.push(crate::workspace::parse_canonical(&source.spec).map_err(requirement)?);
        }
        let sources = match &self.sources {
            Some(sources) => ctx.value(sources).await.ok_or(not_at_hand("the packages that are built"))?,
            None => Arc::new(Records::default()),
        };
        let built = sources.sources_at_hand(ctx).await.ok_or(not_at_hand("the packages that are built"))?;
        let constraints = self.needs.constraint_specs(&root).map_err(requirement)?;
        // A relative cutoff was made a moment before it came here, so the time does not matter.
        let exclude_newer = self.needs.exclude_newer.as_ref().map(|exclude| exclude.for_solver(&root, UNIX_EPOCH));
        let exclude_newer = exclude_newer.transpose().map_err(requirement)?;
        let available = closure.records(ctx).await?;
        let cached = match &self.cached {
            Some(cached) => Some(ctx.value(cached).await.ok_or(not_at_hand("the list of cached packages"))?),
            None => None,
        };

        let token = CancellationToken::new();
        let _stop = Stop(token.clone());
        let (needs, name) = (self.needs.clone(), self.name.clone());
        let solved: Vec<RepoDataRecord> = ctx
            .cpu(move || {
                let stand_ins: Vec<RepoDataRecord> =
                    built.iter().enumerate().map(|(place, record)| stand_in(place, &record.record)).collect();
                let provided: HashSet<&str> = built.iter().map(|record| record.name()).collect();
                let is_of_channels =
                    |record: &&RepoDataRecord| !provided.contains(record.package_record.name.as_normalized());
                let all = || available.iter().flatten().flat_map(|records| records.iter());
                let reason: Arc<str> = "it is not in the package cache, and downloading is off".into();
                let excluded = cached.iter().flat_map(|cached| {
                    let out_of_reach =
                        all().filter(|record| record.url.scheme() != "file" && !is_cached(record, cached));
                    out_of_reach.map(|record| (record.url.clone(), reason.clone()))
                });
                let excluded_candidates = excluded.collect();
                let task = SolverTask {
                    // What is built goes before all channels.
                    available_packages: std::iter::once(stand_ins.iter().collect::<Vec<_>>())
                        .filter(|stand_ins| !stand_ins.is_empty())
                        .chain(available.iter().map(|part| {
                            part.iter().flat_map(|records| records.iter()).filter(is_of_channels).collect()
                        }))
                        .map(|records: Vec<&RepoDataRecord>| RepoDataIter(records.into_iter()))
                        .collect::<Vec<_>>(),
                    locked_packages: preferred.as_slice().iter().filter(is_of_channels).collect(),
                    pinned_packages: Vec::new(),
                    virtual_packages: needs.generic_virtual_packages(),
                    specs,
                    constraints,
                    timeout: None,
                    channel_priority: match needs.channel_priority {
                        ChannelPriority::Strict => rattler_solve::ChannelPriority::Strict,
                        ChannelPriority::Flexible => rattler_solve::ChannelPriority::Flexible,
                        ChannelPriority::Disabled => rattler_solve::ChannelPriority::Disabled,
                    },
                    exclude_newer,
                    strategy: match needs.strategy {
                        SolveStrategy::Highest => rattler_solve::SolveStrategy::Highest,
                        SolveStrategy::LowestVersion => rattler_solve::SolveStrategy::LowestVersion,
                        SolveStrategy::LowestVersionDirect => rattler_solve::SolveStrategy::LowestVersionDirect,
                    },
                    dependency_overrides: Vec::new(),
                    excluded_candidates,
                    cancellation_token: Some(token),
                };
                Solver.solve(task).map(|result| result.records).map_err(|error| match error {
                    rattler_solve::SolveError::Unsolvable(reasons) => SolveError::Unsolvable { name, reasons },
                    error => SolveError::Solver { name, source: Arc::new(error) },
                })
            })
            .await?;
        let (stand_ins, binary): (Vec<_>, Vec<_>) = solved.into_iter().partition(|record| place_of(record).is_some());
        let mut places: Vec<usize> = stand_ins.iter().filter_map(place_of).collect();
        places.sort_unstable();
        let chosen = places.into_iter().filter_map(|place| sources.sources().get(place).cloned()).collect();
        let records = Records::with_sources(binary, chosen);
        let records = ctx.intern(records).map_err(|_| not_at_hand("the solution"))?;
        Ok(Solution { records })
    }
}

/// The scheme of the addresses of what is not built yet.
const STAND_IN: &str = "source";

/// What stands for a package that is not built yet where only archives are known.
pub(crate) fn stand_in(place: usize, record: &PackageRecord) -> RepoDataRecord {
    let url = format!("{STAND_IN}:///{place}");
    RepoDataRecord {
        package_record: record.clone(),
        identifier: DistArchiveIdentifier {
            identifier: ArchiveIdentifier {
                name: record.name.as_normalized().to_owned(),
                version: record.version.to_string(),
                // Archives of one channel have different names, and so have these, whatever their records say.
                build_string: format!("{}_source{place}", record.build),
            },
            archive_type: DistArchiveType::Conda(CondaArchiveType::Conda),
        },
        url: Url::parse(&url).expect("invariant: a number can be part of an address"),
        channel: None,
    }
}

/// The place of the package that this stands for; nothing if it is an archive.
fn place_of(record: &RepoDataRecord) -> Option<usize> {
    (record.url.scheme() == STAND_IN).then(|| record.url.path().trim_start_matches('/').parse().ok()).flatten()
}

fn is_cached(record: &RepoDataRecord, cached: &CachedPackages) -> bool {
    let record = &record.package_record;
    cached.0.contains(&format!("{}-{}-{}", record.name.as_normalized(), record.version, record.build))
}

/// Stops the solver when nobody waits for it any more.
struct Stop(CancellationToken);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl SolveDescription {
    /// Whether records of its channels depend on where the workspace is.
    pub(crate) fn is_placed(&self) -> bool {
        self.channels.iter().any(|channel| channel.inside().is_some())
    }

    /// The names that a solve begins with, sorted.
    pub(crate) fn roots(&self) -> Vec<String> {
        let mut roots: Vec<String> = self.requirements.iter().map(|requirement| requirement.name.clone()).collect();
        roots.dedup();
        roots
    }

    /// The same with a cutoff that does not move.
    pub(crate) fn with_exclude_newer(&self, exclude_newer: Option<ExcludeNewer>) -> Self {
        Self { exclude_newer, ..self.clone() }
    }
}
