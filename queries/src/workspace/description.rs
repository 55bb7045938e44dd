//! What the solve of an environment on a platform needs, as plain data.
//!
//! A [`SolveDescription`] is all a solver has to know, and nothing else: no name of an environment, no path of this
//! machine. Two environments that need the same share it; so it can be the key of a solve. Its lists are sorted and
//! without duplicates, except for the channels, whose order means something.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use rattler_conda_types::{GenericVirtualPackage, MatchSpec, ParseMatchSpecError, Subdir};
use rattler_lock::options::{ChannelPriority, SolveStrategy};
use serde::{Deserialize, Serialize};
use url::Url;

use super::{
    channel::in_order,
    dependency::{Dependency, DependencyKind},
    environment::Environment,
    error::{ManifestError, ManifestErrorKind},
    exclude_newer::ExcludeNewer,
    feature::Feature,
    location::{Location, WorkspaceRoot},
    manifest::Workspace,
    platform::{Platform, parse_virtual_package},
    requirement::{Requirement, SourceRequirement},
};

/// What a solver has to know.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SolveDescription {
    /// Packages are taken from this subdir and from `noarch`.
    pub subdir: Subdir,
    /// The virtual packages that may be counted on, as `__name=version=build`, sorted by name.
    pub virtual_packages: Vec<String>,
    /// Where packages come from, the most important first.
    pub channels: Vec<Location>,
    /// Whether a channel further up hides those below it.
    pub channel_priority: ChannelPriority,
    /// Which of several versions to take.
    pub strategy: SolveStrategy,
    /// What has to be there, sorted.
    pub requirements: Vec<Requirement>,
    /// What holds for a package if it is there, sorted.
    pub constraints: Vec<Requirement>,
    /// What is too new.
    pub exclude_newer: Option<ExcludeNewer>,
    /// What has to be there and is built from its sources, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceRequirement>,
    /// Packages that are worked on, sorted: what they need to be built and to run has to be there, not they.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dev: Vec<SourceRequirement>,
}

impl SolveDescription {
    /// The base URLs of the channels in order.
    pub fn channel_urls(&self, root: &WorkspaceRoot) -> Vec<Url> {
        self.channels.iter().map(|channel| channel.directory_url(root)).collect()
    }

    /// The match specs of what has to be there.
    ///
    /// # Errors
    ///
    /// Only for a description that did not come from a manifest read here.
    pub fn match_specs(&self, root: &WorkspaceRoot) -> Result<Vec<MatchSpec>, ParseMatchSpecError> {
        self.requirements.iter().map(|requirement| requirement.match_spec(root)).collect()
    }

    /// The match specs of what holds for a package if it is there.
    ///
    /// # Errors
    ///
    /// Only for a description that did not come from a manifest read here.
    pub fn constraint_specs(&self, root: &WorkspaceRoot) -> Result<Vec<MatchSpec>, ParseMatchSpecError> {
        self.constraints.iter().map(|constraint| constraint.match_spec(root)).collect()
    }

    /// The virtual packages as a solver takes them.
    pub fn generic_virtual_packages(&self) -> Vec<GenericVirtualPackage> {
        self.virtual_packages.iter().filter_map(|text| parse_virtual_package(text)).collect()
    }

    /// Whether the result depends on the moment of the solve.
    pub fn depends_on_time(&self) -> bool {
        self.exclude_newer.as_ref().is_some_and(ExcludeNewer::is_relative)
    }
}

impl fmt::Display for SolveDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.subdir)?;
        let requirements = self.requirements.iter().map(|requirement| requirement as &dyn fmt::Display);
        let sources = self.sources.iter().map(|source| source as &dyn fmt::Display);
        let count = self.requirements.len() + self.sources.len();
        for (index, wanted) in requirements.chain(sources).enumerate() {
            if index == 4 {
                write!(f, " and {} more", count - index)?;
                break;
            }
            write!(f, "{}{wanted}", if index == 0 { "" } else { ", " })?;
        }
        if count == 0 {
            f.write_str("nothing")?;
        }
        if let [first, others @ ..] = self.dev.as_slice() {
            write!(f, ", with what it takes to work on {}", first.name)?;
            others.iter().try_for_each(|other| write!(f, ", {}", other.name))?;
        }
        Ok(())
    }
}

/// What one environment needs on one platform.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EnvironmentDescription {
    /// The environment.
    pub environment: String,
    /// The platform, as the lock file names it.
    pub platform: String,
    /// The group it is solved in.
    pub solve_group: Option<String>,
    /// Whether packages of the Python index are declared, which are not installed but may be locked.
    pub has_pypi: bool,
    /// The environment's own requirements. Channels and options are those of the whole group, if it is in one.
    pub needs: SolveDescription,
}

impl EnvironmentDescription {
    /// The platform with its name.
    pub fn platform(&self) -> Platform {
        Platform {
            name: self.platform.clone(),
            subdir: self.needs.subdir,
            virtual_packages: self.needs.generic_virtual_packages(),
        }
    }
}

impl fmt::Display for EnvironmentDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.environment, self.platform)
    }
}

/// What is solved at once: an environment, or all environments of a group that exist on a platform.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SolveUnit {
    /// The environments, in the order of the manifest.
    pub environments: Vec<String>,
    /// The platform, as the lock file names it.
    pub platform: String,
    /// The group, if it is one.
    pub solve_group: Option<String>,
    /// The requirements of all of them together.
    pub needs: SolveDescription,
}

impl fmt::Display for SolveUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.solve_group {
            Some(group) => write!(f, "group {group}@{}", self.platform),
            None => write!(f, "{}@{}", self.environments.join("+"), self.platform),
        }
    }
}

impl Workspace {
    /// An environment by name.
    ///
    /// # Errors
    ///
    /// If there is none of that name.
    pub fn environment(&self, name: &str) -> Result<&Environment, ManifestError> {
        self.environments.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.environments.keys().map(String::as_str).collect();
            let kind = ManifestErrorKind::UnknownEnvironment { environment: name.to_owned() };
            self.source.error(kind).help(format!("the environments are {}", known.join(", "))).done()
        })
    }

    /// What an environment needs on a platform, which is given by its name or, where that leaves no doubt, its subdir.
    ///
    /// # Errors
    ///
    /// If the environment or the platform does not exist, if its features disagree, or if it contains a dependency
    /// that cannot be installed, such as one with a condition.
    pub fn describe(&self, environment: &str, platform: &str) -> Result<EnvironmentDescription, ManifestError> {
        let environment = self.environment(environment)?;
        let platform = self.platform_of(environment, platform)?;
        let needs = self.needs(environment, &[environment], platform)?;
        Ok(EnvironmentDescription {
            environment: environment.name.clone(),
            platform: platform.name.clone(),
            solve_group: environment.solve_group.clone(),
            has_pypi: self.features_of(environment).any(|feature| feature.has_pypi(platform)),
            needs,
        })
    }

    /// What has to be solved to have an environment on a platform: itself, or its whole group.
    ///
    /// # Errors
    ///
    /// As [`describe`](Self::describe), for every environment of the group.
    pub fn solve_unit(&self, environment: &str, platform: &str) -> Result<SolveUnit, ManifestError> {
        let environment = self.environment(environment)?;
        let platform = self.platform_of(environment, platform)?;
        let together = self.solved_with(environment, platform);
        Ok(SolveUnit {
            environments: together.iter().map(|environment| environment.name.clone()).collect(),
            platform: platform.name.clone(),
            solve_group: environment.solve_group.clone(),
            needs: self.needs(environment, &together, platform)?,
        })
    }

    /// Looks whether an environment can be put together on a platform, by itself and with its group.
    ///
    /// # Errors
    ///
    /// As [`describe`](Self::describe) and [`solve_unit`](Self::solve_unit).
    pub fn check(&self, environment: &str, platform: &str) -> Result<(), ManifestError> {
        let environment = self.environment(environment)?;
        let platform = self.platform_of(environment, platform)?;
        // What is wrong with it alone goes before what is wrong with others.
        self.gathered(environment, &[environment], platform)?;
        match environment.solve_group {
            Some(_) => self.gathered(environment, &self.solved_with(environment, platform), platform).map(drop),
            None => Ok(()),
        }
    }

    /// Every environment on every platform it has, in the order of the manifest.
    pub fn targets(&self) -> impl Iterator<Item = (&Environment, &Platform)> {
        self.environments()
            .flat_map(|environment| environment.platforms.iter().map(move |platform| (environment, platform)))
    }

    fn platform_of<'e>(&self, environment: &'e Environment, platform: &str) -> Result<&'e Platform, ManifestError> {
        environment.platform(platform).ok_or_else(|| {
            let known: Vec<&str> = environment.platforms.iter().map(|platform| platform.name.as_str()).collect();
            let kind = ManifestErrorKind::UnsupportedPlatform {
                environment: environment.name.clone(),
                platform: platform.to_owned(),
            };
            let error = self.source.error(kind).help(format!("its platforms are {}", known.join(", ")));
            if environment.span.is_empty() { error.done() } else { error.at(&environment.span).done() }
        })
    }

    fn features_of<'w>(&'w self, environment: &'w Environment) -> impl Iterator<Item = &'w Feature> {
        environment.features.iter().filter_map(|name| self.features.get(name))
    }

    /// The environments that are solved with this one, itself included.
    fn group_of<'w>(&'w self, environment: &'w Environment) -> impl Iterator<Item = &'w Environment> {
        self.environments().filter(move |other| match &environment.solve_group {
            Some(_) => other.solve_group == environment.solve_group,
            None => other.name == environment.name,
        })
    }

    /// The environments that are solved with this one on a platform, itself included.
    fn solved_with<'w>(&'w self, environment: &'w Environment, platform: &Platform) -> Vec<&'w Environment> {
        self.group_of(environment).filter(|other| other.platforms.iter().any(|own| own.name == platform.name)).collect()
    }

    /// The requirements of some environments, with the channels and options of the whole group of one of them.
    fn needs(
        &self,
        environment: &Environment,
        wanted: &[&Environment],
        platform: &Platform,
    ) -> Result<SolveDescription, ManifestError> {
        let (mut needs, [all, constraints, dev]) = self.gathered(environment, wanted, platform)?;
        needs.requirements = all.requirements();
        needs.sources = all.sources.into_keys().collect();
        needs.constraints = constraints.requirements();
        needs.dev = dev.sources.into_keys().collect();
        Ok(needs)
    }

    /// What [`needs`](Self::needs) is made of: a description whose lists are empty, and what they are filled with: what is
    /// required, what holds for packages that are there, and what is worked on.
    fn gathered<'w>(
        &'w self,
        environment: &'w Environment,
        wanted: &[&'w Environment],
        platform: &Platform,
    ) -> Result<(SolveDescription, [Gathered<'w>; 3]), ManifestError> {
        let mut names = BTreeSet::new();
        let group: Vec<&Feature> = self
            .group_of(environment)
            .flat_map(|environment| &environment.features)
            .filter(|name| names.insert(name.as_str()))
            .filter_map(|name| self.features.get(name))
            .collect();
        let channels = in_order(group.iter().flat_map(|feature| feature.channels.as_ref().unwrap_or(&self.channels)));
        let mut exclude_newer = self.exclude_newer.clone();
        for channel in &channels {
            exclude_newer.channels.extend(channel.exclude_newer.map(|cutoff| (channel.location.clone(), cutoff)));
        }
        let needs = SolveDescription {
            subdir: platform.subdir,
            virtual_packages: platform.virtual_packages.iter().map(ToString::to_string).collect(),
            channels: channels.into_iter().map(|channel| channel.location.clone()).collect(),
            channel_priority: self.channel_priority(environment, &group)?,
            strategy: group.iter().find_map(|feature| feature.solve_strategy).unwrap_or_default(),
            requirements: Vec::new(),
            constraints: Vec::new(),
            exclude_newer: Some(exclude_newer).filter(|exclude| !exclude.is_empty()),
            sources: Vec::new(),
            dev: Vec::new(),
        };
        let (mut all, mut constraints, mut dev) = (Gathered::default(), Gathered::default(), Gathered::default());
        for environment in wanted {
            for name in &environment.features {
                let Some(feature) = self.features.get(name) else { continue };
                let by = Asker { environment, feature: name };
                for (name, dependency) in feature.dependencies(platform) {
                    self.gather(by, name, dependency, &needs.channels, &mut all)?;
                }
                for (name, dependency) in feature.constraints(platform) {
                    self.gather(by, name, dependency, &needs.channels, &mut constraints)?;
                }
                for (name, dependency) in feature.dev(platform) {
                    self.gather(by, name, dependency, &needs.channels, &mut dev)?;
                }
            }
        }
        Ok((needs, [all, constraints, dev]))
    }

    /// The one channel priority the features agree on.
    fn channel_priority(
        &self,
        environment: &Environment,
        features: &[&Feature],
    ) -> Result<ChannelPriority, ManifestError> {
        let mut held: Option<ChannelPriority> = None;
        for priority in features.iter().filter_map(|feature| feature.channel_priority) {
            match held {
                Some(first) if first != priority => {
                    let (what, owner) = match &environment.solve_group {
                        Some(group) => ("solve group", group),
                        None => ("environment", &environment.name),
                    };
                    let kind = ManifestErrorKind::Conflict {
                        what,
                        owner: owner.clone(),
                        key: "channel-priority",
                        first: priority_name(first).to_owned(),
                        second: priority_name(priority).to_owned(),
                    };
                    return Err(self.source.error(kind).at(&environment.span).done());
                }
                _ => held = Some(priority),
            }
        }
        Ok(held.unwrap_or_default())
    }

    /// Adds what a dependency requires, unless it is one that cannot be installed.
    fn gather<'w>(
        &self,
        by: Asker<'w>,
        name: &str,
        dependency: &'w Dependency,
        channels: &[Location],
        gathered: &mut Gathered<'w>,
    ) -> Result<(), ManifestError> {
        let requirement = match &dependency.kind {
            DependencyKind::Package(requirement) => requirement.as_ref(),
            DependencyKind::Source(source) => {
                let is_elsewhere = |(other, _): &(&SourceRequirement, &Said<'w>)| {
                    other.name == source.name && other.location.is_elsewhere(&source.location)
                };
                if let Some((first, said)) = gathered.sources.iter().find(is_elsewhere) {
                    return Err(self.two_places(by, source, dependency, first, said));
                }
                gathered.sources.entry(source.as_ref().clone()).or_insert(Said { by, dependency });
                return Ok(());
            }
            DependencyKind::Unhandled { field } => {
                let kind = ManifestErrorKind::UnhandledField {
                    environment: by.environment.name.clone(),
                    dependency: name.to_owned(),
                    field: (*field).to_owned(),
                };
                return Err(self.source.error(kind).at(&dependency.value_span).done());
            }
        };
        if let Some(channel) = &requirement.channel
            && !channels.contains(channel)
        {
            let kind = ManifestErrorKind::ChannelNotListed {
                environment: by.environment.name.clone(),
                dependency: name.to_owned(),
                channel: channel.to_string(),
            };
            let help = "add it to `channels` of the workspace or of a feature";
            return Err(self.source.error(kind).at(&dependency.value_span).help(help).done());
        }
        gathered.packages.push(requirement);
        Ok(())
    }

    fn two_places(
        &self,
        by: Asker<'_>,
        source: &SourceRequirement,
        dependency: &Dependency,
        first: &SourceRequirement,
        said: &Said<'_>,
    ) -> ManifestError {
        let (what, owner) = match &by.environment.solve_group {
            Some(group) if said.by.environment.name != by.environment.name => ("solve group", group),
            _ => ("environment", &by.environment.name),
        };
        let kind = ManifestErrorKind::TwoPlaces {
            what,
            owner: owner.clone(),
            dependency: source.name.clone(),
            first: first.location.to_string(),
            second: source.location.to_string(),
        };
        let help = "what is solved together has one package of a name: name one place for it, or put the features into \
                    environments that are solved apart";
        let feature = |by: Asker<'_>| format!("by feature `{}`", by.feature);
        let error = self.source.error(kind).at_with(&said.dependency.value_span, feature(said.by));
        error.at_with(&dependency.value_span, feature(by)).help(help).done()
    }
}

/// Where in a manifest something is asked for.
#[derive(Clone, Copy)]
struct Asker<'w> {
    environment: &'w Environment,
    feature: &'w str,
}

/// A dependency, and who has it.
struct Said<'w> {
    by: Asker<'w>,
    dependency: &'w Dependency,
}

/// What the dependencies of some tables require.
#[derive(Default)]
struct Gathered<'w> {
    packages: Vec<&'w Requirement>,
    sources: BTreeMap<SourceRequirement, Said<'w>>,
}

impl Gathered<'_> {
    /// What is required of packages, sorted.
    fn requirements(&self) -> Vec<Requirement> {
        let mut packages = self.packages.clone();
        packages.sort_unstable();
        packages.dedup();
        packages.into_iter().cloned().collect()
    }
}

/// The name a priority has in a manifest.
pub(crate) fn priority_name(priority: ChannelPriority) -> &'static str {
    match priority {
        ChannelPriority::Strict => "strict",
        ChannelPriority::Disabled => "disabled",
        ChannelPriority::Flexible => "flexible",
    }
}

/// The name a strategy has in a manifest.
pub(crate) fn strategy_name(strategy: SolveStrategy) -> &'static str {
    match strategy {
        SolveStrategy::Highest => "highest",
        SolveStrategy::LowestVersion => "lowest",
        SolveStrategy::LowestVersionDirect => "lowest-direct",
    }
}
