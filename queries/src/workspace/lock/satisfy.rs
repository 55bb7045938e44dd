//! Whether a lock file still answers what an environment needs.
//!
//! The rules are pixi's: same channels in the same order, same options, every requirement and every dependency met by
//! a locked record or a virtual package, no limit broken, nothing locked that nothing needs. No channel is asked, so
//! the answer costs no more than a walk over the locked records.

use std::{collections::HashMap, time::SystemTime};

use jiff::Timestamp;
use rattler_conda_types::RepoDataRecord;
use rattler_lock::LockedPackage;

use super::{
    file::{LockedFile, PlatformEntry, describe_entry, describe_platform, is_source},
    unsatisfied::Unsatisfied,
};
use crate::workspace::{
    closure::{Broken, Records, TwoOfOneName, describe},
    description::{EnvironmentDescription, SolveDescription, priority_name, strategy_name},
    exclude_newer::milliseconds,
    location::{Location, WorkspaceRoot},
    requirement::{Requirement, matches_record},
};

/// The locked records of an environment, if they are what it needs.
///
/// `now` decides about a relative `exclude-newer` and about nothing else.
///
/// # Errors
///
/// The first reason why they are not.
pub fn satisfies(
    description: &EnvironmentDescription,
    locked: &LockedFile,
    now: SystemTime,
) -> Result<Vec<RepoDataRecord>, Unsatisfied> {
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
    let mut records = Vec::new();
    let mut pypi = Vec::new();
    for package in locked.packages(environment, entry) {
        if is_source(package) {
            return Err(Unsatisfied::LockedAsSource { package: package.name().to_owned() });
        }
        match package {
            LockedPackage::Conda(package) => {
                records.extend(package.as_binary().and_then(|package| locked.record(package)));
            }
            LockedPackage::Pypi(package) => pypi.push(package.name().to_string()),
        }
    }
    if !description.has_pypi && !pypi.is_empty() {
        pypi.sort_unstable();
        return Err(Unsatisfied::PypiNotDeclared { packages: pypi });
    }
    none_too_new(description, locked, &records, now)?;
    holds_together(description, &records, &locked.root)?;
    Ok(records)
}

/// The locked records of environments that are solved together, if they are what these need and agree with each other.
///
/// # Errors
///
/// The first reason why they are not.
pub fn satisfies_together(
    descriptions: &[EnvironmentDescription],
    locked: &LockedFile,
    now: SystemTime,
) -> Result<Vec<Vec<RepoDataRecord>>, Unsatisfied> {
    let all: Vec<Vec<RepoDataRecord>> =
        descriptions.iter().map(|description| satisfies(description, locked, now)).collect::<Result<_, _>>()?;
    let mut held: HashMap<(&str, &str), (&str, &str)> = HashMap::new();
    for (description, records) in descriptions.iter().zip(&all) {
        for record in records {
            let name = record.package_record.name.as_normalized();
            let (environment, url) = *held
                .entry((description.platform.as_str(), name))
                .or_insert((&description.environment, record.url.as_str()));
            if url != record.url.as_str() {
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

/// Whether records are just what is needed: all of it, and nothing else.
pub(crate) fn holds_together(
    description: &EnvironmentDescription,
    records: &[RepoDataRecord],
    root: &WorkspaceRoot,
) -> Result<(), Unsatisfied> {
    let needs = &description.needs;
    let spec_of = |requirement: &Requirement| {
        requirement.match_spec(root).map_err(|error| Unsatisfied::BadRequirement {
            requirement: requirement.to_string(),
            message: error.to_string(),
        })
    };
    let set = Records::new(records, needs.generic_virtual_packages())
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
    let roots = needs.requirements.iter().map(spec_of).collect::<Result<Vec<_>, _>>()?;
    let reached = set.walk(roots, |broken| {
        Err(match broken {
            Broken::Missing { spec, required_by, found } => Unsatisfied::NoMatch { spec, required_by, found },
            Broken::Unreadable { record, dependency, source } => {
                Unsatisfied::BadDependency { package: record, dependency, message: source.to_string() }
            }
        })
    })?;
    let not_needed = records.iter().zip(reached).filter(|(_, reached)| !reached).map(|(record, _)| record);
    let mut packages: Vec<String> =
        not_needed.map(|record| record.package_record.name.as_normalized().to_owned()).collect();
    if packages.is_empty() {
        return Ok(());
    }
    packages.sort_unstable();
    Err(Unsatisfied::NotNeeded { packages })
}
