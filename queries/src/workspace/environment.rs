//! Environments: which features they are made of, and on which platforms they exist.
//!
//! An environment has the features it lists, then `default` unless it says otherwise. It exists on the platforms all
//! its features have. Where the workspace lists plain subdirs only, an environment's platform on a subdir carries the
//! united system requirements of its features; where platforms declare virtual packages themselves, they are told
//! apart by name.

use indexmap::IndexMap;
use rattler_conda_types::Subdir;

use crate::conda::Machine;

use super::{
    error::{ManifestError, ManifestErrorKind, SourceText},
    feature::{DEFAULT_FEATURE, Feature, Selector, check_feature_name},
    manifest::{Draft, subdir_named},
    platform::Platform,
    system_requirements::SystemRequirements,
    table::{Entry, Reading, closest},
    warning::WarningKind,
};

/// The environment that always exists.
pub const DEFAULT_ENVIRONMENT: &str = "default";

/// An environment of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Environment {
    /// Its name.
    pub name: String,
    /// Its features in the order in which they matter, `default` included.
    pub features: Vec<String>,
    /// The environments of one solve group are solved together.
    pub solve_group: Option<String>,
    /// Where it exists, in the order of the workspace's platforms.
    pub platforms: Vec<Platform>,
    /// The places of the features' names.
    pub(crate) feature_spans: Vec<std::ops::Range<usize>>,
    /// The place of the environment's name.
    pub(crate) span: std::ops::Range<usize>,
}

impl Environment {
    /// The platform of a name; a subdir will do where it leaves no doubt.
    pub fn platform(&self, name: &str) -> Option<&Platform> {
        let by_name = self.platforms.iter().find(|platform| platform.name == name);
        by_name.or_else(|| {
            let mut of_subdir = self.platforms.iter().filter(|platform| platform.subdir.as_str() == name);
            of_subdir.next().filter(|_| of_subdir.next().is_none())
        })
    }

    /// The platform that suits a machine best: of its own subdir, or of one that it emulates, and with no virtual
    /// packages that the machine lacks if there is such a one.
    pub fn platform_for(&self, machine: &Machine) -> Option<&Platform> {
        let own = machine.subdir?;
        let emulated = match own {
            Subdir::OsxArm64 => Some(Subdir::Osx64),
            Subdir::WinArm64 => Some(Subdir::Win64),
            _ => None,
        };
        let of_subdir = |subdir| self.platforms.iter().filter(move |platform| platform.subdir == subdir);
        let suits = |platform: &&Platform| platform.declared().all(|package| machine.has(package));
        [Some(own), emulated]
            .into_iter()
            .flatten()
            .find_map(|subdir| of_subdir(subdir).find(suits).or_else(|| of_subdir(subdir).next()))
    }

    pub(crate) fn read(entry: &Entry<'_, '_>) -> Result<Self, ManifestError> {
        let name = entry.key;
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(allowed) {
            let why = "only lower-case letters, digits, `-` and `_` are allowed";
            let kind = ManifestErrorKind::BadName { what: "an environment", name: name.to_owned(), why };
            return Err(entry.source().error(kind).at(&entry.key_span).done());
        }
        let mut environment = Self {
            name: name.to_owned(),
            features: Vec::new(),
            solve_group: None,
            platforms: Vec::new(),
            feature_spans: Vec::new(),
            span: entry.key_span.clone(),
        };
        let mut with_default = true;
        if entry.is_array() {
            environment.read_features(entry)?;
        } else if entry.is_table() {
            let table = entry.table()?;
            if let Some(features) = table.get("features") {
                environment.read_features(&features)?;
            }
            environment.solve_group = table.string("solve-group")?.map(|(group, _)| group.to_owned());
            if let Some(no_default) = table.get("no-default-feature") {
                with_default = !no_default.bool()?;
            }
            table.finish();
        } else {
            return Err(entry.wrong_type("an array of features or a table"));
        }
        if with_default {
            environment.features.push(DEFAULT_FEATURE.to_owned());
            environment.feature_spans.push(entry.key_span.clone());
        }
        Ok(environment)
    }

    fn read_features(&mut self, entry: &Entry<'_, '_>) -> Result<(), ManifestError> {
        for item in entry.array()? {
            let (name, span) = item.string()?;
            check_feature_name(&item, name)?;
            if let Some(first) = self.features.iter().position(|other| other == name) {
                let kind = ManifestErrorKind::Duplicate { what: "the feature", name: name.to_owned() };
                let first = self.feature_spans[first].clone();
                return Err(entry.source().error(kind).at_with(&first, "first here").at(&span).done());
            }
            self.features.push(name.to_owned());
            self.feature_spans.push(span);
        }
        Ok(())
    }

    /// The environment that exists without being written down.
    fn implicit() -> Self {
        Self {
            name: DEFAULT_ENVIRONMENT.to_owned(),
            features: vec![DEFAULT_FEATURE.to_owned()],
            solve_group: None,
            platforms: Vec::new(),
            feature_spans: vec![std::ops::Range::default()],
            span: 0..0,
        }
    }
}

/// Checks features, environments and platforms against each other and gives every environment its platforms.
pub(crate) fn settle(reading: &Reading, draft: &mut Draft) -> Result<(), ManifestError> {
    let source = &reading.source;
    if !draft.environments.contains_key(DEFAULT_ENVIRONMENT) {
        draft.environments.shift_insert(0, DEFAULT_ENVIRONMENT.to_owned(), Environment::implicit());
    }
    for environment in draft.environments.values() {
        for (feature, span) in environment.features.iter().zip(&environment.feature_spans) {
            if !draft.features.contains_key(feature) {
                let known = draft.features.keys().map(String::as_str).filter(|name| *name != DEFAULT_FEATURE);
                let help = match closest(feature, known) {
                    Some(close) => format!("did you mean `{close}`?"),
                    None => format!("define it with `[feature.{feature}.dependencies]`"),
                };
                let kind = ManifestErrorKind::UndefinedFeature {
                    environment: environment.name.clone(),
                    feature: feature.clone(),
                };
                return Err(source.error(kind).at(span).help(help).done());
            }
        }
    }
    let only_subdirs = draft.platforms.iter().all(|listed| listed.bare);
    let offered = if only_subdirs {
        check_plain_platforms(source, draft)?
    } else {
        check_declared_platforms(source, draft)?;
        draft.platforms.iter().map(|listed| listed.platform.clone()).collect()
    };
    check_selectors(reading, draft, &offered)?;

    let features = &draft.features;
    let listed: Vec<&Platform> = draft.platforms.iter().map(|listed| &listed.platform).collect();
    let mut settled = Vec::new();
    for environment in draft.environments.values() {
        settled.push(if only_subdirs {
            let requirements = united(source, environment, &draft.environments, features)?;
            plain_platforms(environment, features, &listed, &offered, &requirements)
        } else {
            named_platforms(environment, features, &listed)
        });
    }
    for (environment, platforms) in draft.environments.values_mut().zip(settled) {
        environment.platforms = platforms;
        if environment.platforms.is_empty() {
            let kind = ManifestErrorKind::NoCommonPlatform { environment: environment.name.clone() };
            let span = if environment.span.is_empty() { &draft.platforms_span } else { &environment.span };
            let help = "a feature without `platforms` has those of `[workspace]`";
            return Err(source.error(kind).at(span).help(help).done());
        }
    }
    Ok(())
}

/// Where only subdirs are listed, a feature may name further ones. Returns all that are offered.
fn check_plain_platforms(source: &SourceText, draft: &Draft) -> Result<Vec<Platform>, ManifestError> {
    let mut offered: Vec<Platform> = draft.platforms.iter().map(|listed| listed.platform.clone()).collect();
    for (feature_name, feature) in &draft.features {
        for (name, span) in feature.platforms.iter().flatten() {
            if offered.iter().any(|platform| platform.name == *name) {
                continue;
            }
            match subdir_named(name) {
                Some(subdir) => offered.push(Platform::of_subdir(subdir)),
                None => return Err(undeclared(source, draft, feature_name, name, span)),
            }
        }
    }
    Ok(offered)
}

/// Where platforms declare virtual packages, features name them and cannot have system requirements.
fn check_declared_platforms(source: &SourceText, draft: &Draft) -> Result<(), ManifestError> {
    for (feature_name, feature) in &draft.features {
        if !feature.system_requirements.is_empty() {
            let help = "declare these on the platforms, as in { platform = \"linux-64\", cuda = \"12\" }";
            return Err(source
                .error(ManifestErrorKind::TwoWaysOfVirtualPackages)
                .at(&feature.system_requirements_span)
                .help(help)
                .done());
        }
        for (name, span) in feature.platforms.iter().flatten() {
            let declared = draft.platforms.iter().any(|listed| names(&listed.platform, name));
            if !declared {
                return Err(undeclared(source, draft, feature_name, name, span));
            }
        }
    }
    Ok(())
}

/// Whether a feature means this platform by that name.
fn names(platform: &Platform, name: &str) -> bool {
    platform.name == name || platform.subdir.as_str() == name
}

fn undeclared(
    source: &SourceText,
    draft: &Draft,
    feature: &str,
    platform: &str,
    span: &std::ops::Range<usize>,
) -> ManifestError {
    let known: Vec<&str> = draft.platforms.iter().map(|listed| listed.platform.name.as_str()).collect();
    let subdirs = || Subdir::all().map(|subdir| -> &str { subdir.as_str() });
    let help = match closest(platform, known.iter().copied()).or_else(|| closest(platform, subdirs())) {
        Some(close) => format!("did you mean `{close}`?"),
        None => format!("the workspace declares {}", known.join(", ")),
    };
    let kind = ManifestErrorKind::UndeclaredPlatform { feature: feature.to_owned(), platform: platform.to_owned() };
    source.error(kind).at(span).help(help).done()
}

/// Every target has to match a platform of its feature, or its requirements would be lost.
fn check_selectors(reading: &Reading, draft: &Draft, offered: &[Platform]) -> Result<(), ManifestError> {
    for (name, feature) in &draft.features {
        let listed: Vec<&Platform> = draft.platforms.iter().map(|listed| &listed.platform).collect();
        let platforms: Vec<&Platform> = match &feature.platforms {
            Some(own) => offered.iter().filter(|p| own.iter().any(|(name, _)| names(p, name))).collect(),
            None if name == DEFAULT_FEATURE => offered.iter().collect(),
            None => listed,
        };
        for selector in feature.tables.iter().filter_map(|table| table.selector.as_ref()) {
            if platforms.iter().any(|platform| selector.matches(platform)) {
                continue;
            }
            if selector.is_pattern() {
                let kind = WarningKind::TargetMatchesNothing { selector: selector.text.clone() };
                reading.warn(selector.key.clone(), &selector.span, kind);
                continue;
            }
            return Err(unmatched(&reading.source, selector, &platforms));
        }
    }
    let offered: Vec<&Platform> = offered.iter().collect();
    for selector in draft.variants.selectors() {
        if offered.iter().any(|platform| selector.matches(platform)) {
            continue;
        }
        if !selector.is_pattern() {
            return Err(unmatched(&reading.source, selector, &offered));
        }
        let kind = WarningKind::TargetMatchesNothing { selector: selector.text.clone() };
        reading.warn(selector.key.clone(), &selector.span, kind);
    }
    Ok(())
}

fn unmatched(source: &SourceText, selector: &Selector, platforms: &[&Platform]) -> ManifestError {
    let names: Vec<&str> = platforms.iter().map(|platform| platform.name.as_str()).collect();
    let families = ["unix", "linux", "osx", "win"];
    let text = selector.text.as_str();
    let known = subdir_named(text).is_some() || families.contains(&text);
    let help = match closest(text, names.iter().copied().chain(families)) {
        Some(close) if !known => format!("did you mean `{close}`?"),
        _ => format!("the platforms here are {}", names.join(", ")),
    };
    let kind = ManifestErrorKind::TargetMatchesNothing { selector: text.to_owned() };
    source.error(kind).at(&selector.span).help(help).done()
}

/// The system requirements an environment is solved with: its own, or those of its whole solve group.
fn united(
    source: &SourceText,
    environment: &Environment,
    environments: &IndexMap<String, Environment>,
    features: &IndexMap<String, Feature>,
) -> Result<SystemRequirements, ManifestError> {
    let mut requirements = SystemRequirements::default();
    let (what, owner) = match &environment.solve_group {
        Some(group) => ("solve group", group),
        None => ("environment", &environment.name),
    };
    let together = |other: &&Environment| match &environment.solve_group {
        Some(_) => other.solve_group == environment.solve_group,
        None => other.name == environment.name,
    };
    let names = environments.values().filter(together).flat_map(|environment| &environment.features);
    for feature in names.filter_map(|name| features.get(name)) {
        requirements.unite(&feature.system_requirements).map_err(|disagreement| {
            let kind = ManifestErrorKind::Conflict {
                what,
                owner: owner.clone(),
                key: disagreement.key,
                first: disagreement.first,
                second: disagreement.second,
            };
            source.error(kind).at(&feature.system_requirements_span).done()
        })?;
    }
    Ok(requirements)
}

/// The platforms of an environment where only subdirs are listed.
fn plain_platforms(
    environment: &Environment,
    features: &IndexMap<String, Feature>,
    listed: &[&Platform],
    offered: &[Platform],
    requirements: &SystemRequirements,
) -> Vec<Platform> {
    let own: Vec<&Feature> = environment.features.iter().filter_map(|name| features.get(name)).collect();
    let on = |feature: &Feature, platform: &Platform| match &feature.platforms {
        Some(names) => names.iter().any(|(name, _)| *name == platform.name),
        None => listed.contains(&platform),
    };
    let exists = |platform: &&Platform| match own.is_empty() {
        true => listed.contains(platform),
        false => own.iter().all(|feature| on(feature, platform)),
    };
    let declare =
        |platform: &Platform| Platform::with_declared(None, platform.subdir, requirements.for_subdir(platform.subdir));
    offered.iter().filter(exists).map(declare).collect()
}

/// The platforms of an environment where platforms are told apart by name.
fn named_platforms(
    environment: &Environment,
    features: &IndexMap<String, Feature>,
    listed: &[&Platform],
) -> Vec<Platform> {
    let own: Vec<&Feature> = environment.features.iter().filter_map(|name| features.get(name)).collect();
    let on = |feature: &Feature, platform: &Platform| {
        feature.platforms.as_ref().is_none_or(|wanted| {
            wanted.iter().any(|(name, _)| {
                // A subdir means every platform of it, unless one has that very name.
                let exact = listed.iter().any(|platform| platform.name == *name);
                if exact { platform.name == *name } else { names(platform, name) }
            })
        })
    };
    let exists = |platform: &&&Platform| own.iter().all(|feature| on(feature, platform));
    listed.iter().filter(exists).map(|platform| (*platform).clone()).collect()
}
