//! Whether a lock file still answers what an environment needs.
//!
//! The rules are pixi's: same channels in the same order, same options, every requirement and every dependency met by
//! a locked record or a virtual package, no limit broken, nothing locked that nothing needs. No channel is asked, so
//! the answer costs no more than a walk over the locked records.
//!
//! Of a package that is built from source the file does not say all, and what it says may be wrong by now. So whoever
//! asks brings what the sources make of their packages: each locked one has to be one of these, and is then taken to be
//! what that is.

use std::{collections::HashMap, convert::Infallible, sync::Arc, time::SystemTime};

use doge::Interned;
use jiff::Timestamp;
use rattler_conda_types::RepoDataRecord;
use rattler_lock::LockedPackage;
use url::Url;

use super::{
    file::{LockedFile, PlatformEntry, describe_entry, describe_platform},
    sources::{Comparison, Unreadable},
    unsatisfied::Unsatisfied,
};
use crate::records::Records;
use crate::source::{LockedSource, Locking, SourceRecord, written};
use crate::workspace::{
    closure::{Broken, RecordSet, TwoOfOneName, describe, stand_in},
    description::{EnvironmentDescription, SolveDescription, priority_name, strategy_name},
    exclude_newer::milliseconds,
    location::{Location, WorkspaceRoot},
    requirement::{Requirement, matches_record, parse_canonical},
};

/// The locked records of an environment, if they are what it needs: those of channels as they are locked, those of
/// sources as they are now.
///
/// `current` is what the sources make of the packages the environment may need from source, in all their variants; there
/// may be more than it needs. `now` decides about a relative `exclude-newer` and about nothing else.
///
/// # Errors
///
/// The first reason why they are not.
pub fn satisfies(
    description: &EnvironmentDescription,
    locked: &LockedFile,
    current: &Records,
    now: SystemTime,
) -> Result<Records, Unsatisfied> {
    let needs = &description.needs;
    let Some(environment) = locked.inner.environment(&description.environment) else {
        return Err(Unsatisfied::NoEnvironment { environment: description.environment.clone() });
    };
    same_channels(&needs.channels, &locked.channels(environment))?;
    let platform = description.platform();
    let entry = match locked.platform_entry(environment, &platform) {
        PlatformEntry::Same(entry) => entry,
        PlatformEntry::Changed(entry) => {
            return Err(Unsatisfied::PlatformChanged {
                wanted: describe_platform(platform.subdir.as_str(), &platform.declared_text()),
                locked: describe_entry(&entry),
                platform: platform.name,
            });
        }
        PlatformEntry::Missing => {
            return Err(Unsatisfied::NoPlatform {
                environment: description.environment.clone(),
                platform: description.platform.clone(),
            });
        }
    };
    same_options(needs, environment)?;
    let packages = locked
        .locked_packages(locked.packages(environment, entry))
        .map_err(|Unreadable { package, reason }| Unsatisfied::UnreadableSource { package, reason })?;
    let mut now_and_then = NowAndThen { current, locking: Locking::default(), comparison: Comparison::default() };
    let built = packages
        .sources()
        .unwrap_or_default()
        .iter()
        .map(|source| now_and_then.as_it_is_now(source))
        .collect::<Result<Vec<_>, _>>()?;
    let mut pypi: Vec<String> = locked
        .packages(environment, entry)
        .filter_map(LockedPackage::as_pypi)
        .map(|package| package.name().to_string())
        .collect();
    if !description.has_pypi && !pypi.is_empty() {
        pypi.sort_unstable();
        return Err(Unsatisfied::PypiNotDeclared { packages: pypi });
    }
    none_too_new(description, locked, &packages.binary, now)?;
    let records = Records::with_sources(packages.binary, built);
    holds_together(description, &records, current, &locked.root)?;
    Ok(records)
}

/// What is locked beside what sources make of it now.
struct NowAndThen<'a> {
    current: &'a Records,
    locking: Locking,
    comparison: Comparison,
}

impl NowAndThen<'_> {
    /// What a locked source is by now, if it is what it was.
    fn as_it_is_now(&mut self, locked: &LockedSource) -> Result<Interned<SourceRecord>, Unsatisfied> {
        let package = || locked.name().to_owned();
        let named: Vec<(&Interned<SourceRecord>, Arc<SourceRecord>)> = self
            .current
            .sources()
            .iter()
            .filter_map(|name| Some((name, name.at_hand()?)))
            .filter(|(_, record)| record.name() == locked.name())
            .collect();
        if named.is_empty() {
            return Err(Unsatisfied::LockedAsSource { package: package() });
        }
        let mut changed = None;
        let mut found: Option<(&Interned<SourceRecord>, Arc<SourceRecord>)> = None;
        for (name, record) in named.into_iter().filter(|(_, record)| record.variants == locked.variants) {
            let would_be_locked = self.locking.source(name).and_then(|name| name.at_hand());
            let difference = match would_be_locked {
                Some(would_be_locked) => self.comparison.difference(locked, &would_be_locked),
                None => Some("what is not at hand of it"),
            };
            match (difference, &found) {
                (None, None) => found = Some((name, record)),
                (None, Some((_, other))) if other.record == record.record => {}
                (None, Some(_)) => return Err(Unsatisfied::SourceAmbiguous { package: package() }),
                (Some(what), _) => {
                    // What is at the locked place says more than what is elsewhere.
                    if changed.is_none() || record.manifest == locked.manifest {
                        changed = Some(what);
                    }
                }
            }
        }
        match (found, changed) {
            (Some((name, _)), _) => Ok(name.clone()),
            (None, Some(what)) => Err(Unsatisfied::SourceChanged { package: package(), what }),
            (None, None) => Err(Unsatisfied::NoSuchVariant { package: package(), variant: variant_of(locked) }),
        }
    }
}

/// The packages that are locked, those that are built as they are now, whatever the lock file says of them beyond name and
/// variant. `None` if one of them is not offered any more.
pub(crate) fn unchecked(binary: &[RepoDataRecord], locked: &[Arc<LockedSource>], current: &Records) -> Option<Records> {
    let offered: Vec<(&Interned<SourceRecord>, Arc<SourceRecord>)> =
        current.sources().iter().map(|name| Some((name, name.at_hand()?))).collect::<Option<_>>()?;
    let as_now = |source: &Arc<LockedSource>| {
        let is_meant = |record: &SourceRecord| record.name() == source.name() && record.variants == source.variants;
        let mut meant = offered.iter().filter(|(_, record)| is_meant(record)).peekable();
        let first = meant.peek().copied();
        let same_place = meant.find(|(_, record)| record.manifest == source.manifest);
        same_place.or(first).map(|(name, _)| (*name).clone())
    };
    let built = locked.iter().map(as_now).collect::<Option<Vec<_>>>()?;
    Some(Records::with_sources(binary.to_vec(), built))
}

/// The same, if that is what is needed: all of it, and nothing else.
pub(crate) fn kept(
    needs: &SolveDescription,
    binary: &[RepoDataRecord],
    locked: &[Arc<LockedSource>],
    current: &Records,
    root: &WorkspaceRoot,
) -> Option<Records> {
    let records = unchecked(binary, locked, current)?;
    meets(needs, &records, current, root).ok()?;
    Some(records)
}

/// Whether the packages of an environment that is no workspace's are just what is needed there. `current` is as in
/// [`satisfies`].
///
/// # Errors
///
/// The first reason why they are not.
pub(crate) fn meets(
    needs: &SolveDescription,
    records: &Records,
    current: &Records,
    root: &WorkspaceRoot,
) -> Result<(), Unsatisfied> {
    let description = EnvironmentDescription {
        environment: String::new(),
        platform: needs.subdir.as_str().to_owned(),
        solve_group: None,
        has_pypi: false,
        needs: needs.clone(),
    };
    holds_together(&description, records, current, root)
}

/// The variant of a package in words.
pub(crate) fn variant_of(locked: &LockedSource) -> String {
    if locked.variants.is_empty() { "no variant".to_owned() } else { written(&locked.variants) }
}

/// The locked records of environments that are solved together, if they are what these need and agree with each other.
///
/// `current` is what sources make of the packages that any of them may need from source; see [`satisfies`].
///
/// # Errors
///
/// The first reason why they are not.
pub fn satisfies_together(
    descriptions: &[EnvironmentDescription],
    locked: &LockedFile,
    current: &Records,
    now: SystemTime,
) -> Result<Vec<Records>, Unsatisfied> {
    let all: Vec<Records> = descriptions
        .iter()
        .map(|description| satisfies(description, locked, current, now))
        .collect::<Result<_, _>>()?;
    let mut held: HashMap<(&str, &str), (&str, Held<'_>)> = HashMap::new();
    let built: Vec<Vec<Arc<SourceRecord>>> = all.iter().map(at_hand).collect();
    for ((description, records), built) in descriptions.iter().zip(&all).zip(&built) {
        let binary = records.as_slice().iter();
        let binary = binary.map(|record| (record.package_record.name.as_normalized(), Held::Archive(&record.url)));
        let source = built.iter().map(|record| (record.name(), Held::Source(record)));
        for (name, own) in binary.chain(source) {
            let (environment, first) =
                *held.entry((description.platform.as_str(), name)).or_insert((&description.environment, own));
            if first != own {
                return Err(Unsatisfied::GroupDisagrees {
                    package: name.to_owned(),
                    first: environment.to_owned(),
                    second: description.environment.clone(),
                });
            }
        }
    }
    Ok(all)
}

/// The packages that are built; they were looked at before, so all are at hand.
fn at_hand(records: &Records) -> Vec<Arc<SourceRecord>> {
    records.sources().iter().filter_map(Interned::at_hand).collect()
}

/// What an environment has of a name.
#[derive(Clone, Copy, PartialEq)]
enum Held<'a> {
    Archive(&'a Url),
    Source(&'a SourceRecord),
}

/// Whether what is locked was chosen from the same channels and under the same options.
fn same_options(needs: &SolveDescription, environment: rattler_lock::Environment<'_>) -> Result<(), Unsatisfied> {
    let options = environment.solve_options();
    if options.strategy != needs.strategy {
        return Err(Unsatisfied::StrategyChanged {
            wanted: strategy_name(needs.strategy),
            locked: strategy_name(options.strategy),
        });
    }
    if options.channel_priority != needs.channel_priority {
        return Err(Unsatisfied::ChannelPriorityChanged {
            wanted: priority_name(needs.channel_priority),
            locked: priority_name(options.channel_priority),
        });
    }
    Ok(())
}

impl LockedFile {
    /// Whether what is locked for an environment was chosen from the same channels, under the same options and for
    /// the same platform.
    pub(crate) fn has_options_of(&self, description: &EnvironmentDescription) -> bool {
        self.inner.environment(&description.environment).is_some_and(|environment| {
            same_channels(&description.needs.channels, &self.channels(environment)).is_ok()
                && same_options(&description.needs, environment).is_ok()
                && matches!(self.platform_entry(environment, &description.platform()), PlatformEntry::Same(_))
        })
    }
}

fn same_channels(wanted: &[Location], locked: &[Location]) -> Result<(), Unsatisfied> {
    let names = |channels: &[Location]| {
        if channels.is_empty() {
            return "none".to_owned();
        }
        channels.iter().map(|channel| format!("`{channel}`")).collect::<Vec<_>>().join(", ")
    };
    match wanted.strip_prefix(locked) {
        Some([]) => Ok(()),
        Some(added) if !locked.is_empty() => Err(Unsatisfied::ChannelsAdded { added: names(added) }),
        _ => Err(Unsatisfied::ChannelsChanged { wanted: names(wanted), locked: names(locked) }),
    }
}

fn none_too_new(
    description: &EnvironmentDescription,
    locked: &LockedFile,
    records: &[RepoDataRecord],
    now: SystemTime,
) -> Result<(), Unsatisfied> {
    let Some(exclude) = &description.needs.exclude_newer else {
        return Ok(());
    };
    let now = milliseconds(now);
    for record in records {
        // When the channel took it in counts before when it was built, as it does for the solver. What is not dated is
        // taken to be old enough, as pixi does.
        let package = &record.package_record;
        let Some(made) = package.indexed_timestamp.as_ref().or(package.timestamp.as_ref()) else { continue };
        let made = made.timestamp_millis();
        if let Some(cutoff) = exclude.cutoff_for(record, &locked.root, now)
            && made > cutoff
        {
            return Err(Unsatisfied::TooNew {
                package: describe(record),
                timestamp: moment(made),
                cutoff: moment(cutoff),
            });
        }
    }
    Ok(())
}

fn moment(milliseconds: i64) -> String {
    Timestamp::from_millisecond(milliseconds).map_or_else(|_| format!("{milliseconds} ms"), |moment| moment.to_string())
}

/// Whether records are just what is needed: all of it, and nothing else. What could be had from `current` sources has
/// to be from there.
pub(crate) fn holds_together(
    description: &EnvironmentDescription,
    records: &Records,
    current: &Records,
    root: &WorkspaceRoot,
) -> Result<(), Unsatisfied> {
    let needs = &description.needs;
    let spec_of = |requirement: &Requirement| {
        requirement.match_spec(root).map_err(|error| Unsatisfied::BadRequirement {
            requirement: requirement.to_string(),
            message: error.to_string(),
        })
    };
    let (built, offered) = (at_hand(records), at_hand(current));
    let stand_ins: Vec<RepoDataRecord> = built.iter().map(stand_in).collect();
    let all = || records.as_slice().iter().chain(&stand_ins);
    let set = RecordSet::new(all(), needs.generic_virtual_packages())
        .map_err(|TwoOfOneName(package)| Unsatisfied::LockedTwice { package })?;
    for constraint in &needs.constraints {
        let spec = spec_of(constraint)?;
        if let Some(record) = set.by_name(&constraint.name)
            && !matches_record(&spec, record)
        {
            return Err(Unsatisfied::ConstraintViolated {
                package: describe(record),
                constraint: constraint.to_string(),
            });
        }
    }
    let mut roots = needs.requirements.iter().map(spec_of).collect::<Result<Vec<_>, _>>()?;
    for requirement in &needs.sources {
        let package = || requirement.name.clone();
        let location = || requirement.location.to_string();
        let Some(record) = built.iter().find(|record| record.name() == requirement.name) else {
            return Err(match set.by_name(&requirement.name) {
                Some(_) => Unsatisfied::LockedFromChannel { package: package() },
                None => Unsatisfied::NoSource { package: package(), location: location() },
            });
        };
        if !requirement.location.is_pinned_by(&record.manifest) {
            let locked = record.manifest.to_string();
            return Err(Unsatisfied::SourceElsewhere { package: package(), wanted: location(), locked });
        }
        roots.push(parse_canonical(&requirement.spec).map_err(|error| Unsatisfied::BadRequirement {
            requirement: requirement.spec.clone(),
            message: error.to_string(),
        })?);
    }
    let (mut elsewhere, mut broken) = (None, None);
    let Ok(reached) = set.walk(
        roots,
        |asker, needed| {
            let record = |place: usize| built.get(place.checked_sub(records.as_slice().len())?);
            if let (Some(asker), Some(needed)) = (record(asker), record(needed)) {
                elsewhere = elsewhere.take().or_else(|| is_elsewhere(asker, needed));
            }
        },
        |found| {
            broken.get_or_insert(found);
            Ok::<(), Infallible>(())
        },
    );
    if let Some(elsewhere) = elsewhere {
        return Err(elsewhere);
    }
    match broken {
        None => {}
        Some(Broken::Missing { spec, required_by, found }) => {
            return Err(Unsatisfied::NoMatch { spec, required_by, found });
        }
        Some(Broken::Unreadable { record, dependency, source }) => {
            return Err(Unsatisfied::BadDependency { package: record, dependency, message: source.to_string() });
        }
    }
    let from_source = |record: &&RepoDataRecord| {
        offered.iter().any(|source| source.name() == record.package_record.name.as_normalized())
    };
    let needed = records.as_slice().iter().zip(&reached).filter(|(_, reached)| **reached).map(|(record, _)| record);
    if let Some(record) = needed.into_iter().find(from_source) {
        let package = record.package_record.name.as_normalized().to_owned();
        return Err(Unsatisfied::LockedFromChannel { package });
    }
    let not_needed = all().zip(reached).filter(|(_, reached)| !reached).map(|(record, _)| record);
    let mut packages: Vec<String> =
        not_needed.map(|record| record.package_record.name.as_normalized().to_owned()).collect();
    if packages.is_empty() {
        return Ok(());
    }
    packages.sort_unstable();
    Err(Unsatisfied::NotNeeded { packages })
}

/// Why a package that another one needs is not locked from where that needs it, if it says where.
fn is_elsewhere(asker: &SourceRecord, needed: &SourceRecord) -> Option<Unsatisfied> {
    let wanted = asker.sources.get(needed.name())?.resolved(&asker.manifest)?;
    wanted.is_elsewhere(&needed.manifest.location()).then(|| Unsatisfied::SourceElsewhere {
        package: needed.name().to_owned(),
        wanted: format!("{wanted} by `{}`", asker.name()),
        locked: needed.manifest.to_string(),
    })
}
