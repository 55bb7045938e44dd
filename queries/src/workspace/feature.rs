//! Features: the parts environments are composed of.
//!
//! The tables at the top of a manifest are the feature `default`. Every feature has the same tables; below `target`
//! they hold for some platforms only. Within one feature a target's requirement *replaces* that of the same package in
//! a table before it; between features of an environment requirements *add up*.

use std::{collections::BTreeMap, ops::Range};

use rattler_lock::options::{ChannelPriority, SolveStrategy};

use super::{
    channel::ListedChannel,
    dependency::{Dependencies, Dependency, DependencyKind, Scope, read_dependencies, read_dev},
    error::{ManifestError, ManifestErrorKind},
    platform::Platform,
    system_requirements::SystemRequirements,
    table::{Entry, Table},
    warning::WarningKind,
};

/// The feature whose tables are at the top of the manifest.
pub(crate) const DEFAULT_FEATURE: &str = "default";

/// A feature as it is written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Feature {
    pub(crate) channels: Option<Vec<ListedChannel>>,
    pub(crate) channel_priority: Option<ChannelPriority>,
    pub(crate) solve_strategy: Option<SolveStrategy>,
    /// Names of platforms, with their places.
    pub(crate) platforms: Option<Vec<(String, Range<usize>)>>,
    pub(crate) system_requirements: SystemRequirements,
    /// Where the system requirements are written.
    pub(crate) system_requirements_span: Range<usize>,
    /// The tables for all platforms, then those of targets in the order of the text.
    pub(crate) tables: Vec<TargetTable>,
}

/// The tables that hold on some platforms.
#[derive(Debug, Clone, Default)]
pub(crate) struct TargetTable {
    /// `None` for the tables of all platforms.
    pub(crate) selector: Option<Selector>,
    run: Dependencies,
    host: Dependencies,
    build: Dependencies,
    constraints: Dependencies,
    /// Packages that are worked on: what they need is wanted, not they themselves.
    dev: Dependencies,
    pub(crate) has_pypi: bool,
}

/// Which platforms a target table holds on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selector {
    pub(crate) text: String,
    /// The dotted path of its table.
    pub(crate) key: String,
    pub(crate) span: Range<usize>,
}

impl Selector {
    /// The selector that is the key of a target table.
    pub(crate) fn read(entry: &Entry<'_, '_>) -> Self {
        Self { text: entry.key.to_owned(), key: entry.path(), span: entry.key_span.clone() }
    }

    pub(crate) fn is_pattern(&self) -> bool {
        self.text.contains('*')
    }

    pub(crate) fn matches(&self, platform: &Platform) -> bool {
        match self.text.as_str() {
            "unix" => platform.subdir.is_unix(),
            "linux" => platform.subdir.is_linux(),
            "osx" => platform.subdir.is_osx(),
            "win" => platform.subdir.is_windows(),
            text if self.is_pattern() => glob(text, &platform.name),
            text => text == platform.name || text == platform.subdir.as_str(),
        }
    }
}

/// Whether `*` for any run of characters makes the whole pattern the whole text.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(last)
}

impl Feature {
    /// The dependencies on a platform by name: run, host and build together, of which the last one wins.
    pub(crate) fn dependencies(&self, platform: &Platform) -> BTreeMap<&str, &Dependency> {
        let mut all = BTreeMap::new();
        for dependencies in self.tables_on(platform).flat_map(|table| [&table.run, &table.host, &table.build]) {
            let named = dependencies.iter().map(|(name, dependency)| (name.as_str(), dependency));
            // A whole map is put together faster than name by name.
            if all.is_empty() { all = named.collect() } else { all.extend(named) }
        }
        all
    }

    /// The limits on a platform by name.
    pub(crate) fn constraints(&self, platform: &Platform) -> BTreeMap<&str, &Dependency> {
        let tables = self.tables_on(platform);
        tables
            .flat_map(|table| table.constraints.iter())
            .map(|(name, dependency)| (name.as_str(), dependency))
            .collect()
    }

    /// The packages that are worked on, on a platform.
    pub(crate) fn dev(&self, platform: &Platform) -> impl Iterator<Item = (&String, &Dependency)> {
        self.tables_on(platform).flat_map(|table| table.dev.iter())
    }

    /// Whether packages of the Python index are declared for a platform.
    pub(crate) fn has_pypi(&self, platform: &Platform) -> bool {
        self.tables_on(platform).any(|table| table.has_pypi)
    }

    fn tables_on(&self, platform: &Platform) -> impl Iterator<Item = &TargetTable> {
        self.tables
            .iter()
            .filter(move |table| table.selector.as_ref().is_none_or(|selector| selector.matches(platform)))
    }

    /// Adds a dependency to the tables of all platforms unless there is one of that name.
    pub(crate) fn add_default_dependency(&mut self, name: &str, dependency: Dependency) {
        if let Some(table) = self.tables.first_mut()
            && ![&table.run, &table.host, &table.build].into_iter().any(|held| held.contains_key(name))
        {
            table.run.insert(name.to_owned(), dependency);
        }
    }

    /// Notes that packages of the Python index are declared for all platforms.
    pub(crate) fn add_pypi(&mut self) {
        if self.tables.is_empty() {
            self.tables.push(TargetTable::default());
        }
        if let Some(table) = self.tables.first_mut() {
            table.has_pypi = true;
        }
    }

    /// Reads a `[feature.NAME]` table.
    pub(crate) fn read<'a, 'i>(table: &Table<'a, 'i>, scope: Scope<'_, 'a, 'i>) -> Result<Self, ManifestError> {
        let mut feature = Self::read_tables(table, scope)?;
        if let Some(entry) = table.get("channels") {
            let listed: Result<_, _> = entry.array()?.iter().map(|item| scope.channels.read_listed(item)).collect();
            feature.channels = Some(listed?);
        }
        feature.channel_priority = read_channel_priority(table)?;
        feature.solve_strategy = read_solve_strategy(table)?;
        if let Some(entry) = table.get("platforms") {
            let names = entry.strings()?;
            feature.platforms = Some(names.into_iter().map(|(name, span)| (name.to_owned(), span)).collect());
        }
        Ok(feature)
    }

    /// Reads what features have in common with the top of a manifest. The caller finishes the table.
    pub(crate) fn read_tables<'a, 'i>(table: &Table<'a, 'i>, scope: Scope<'_, 'a, 'i>) -> Result<Self, ManifestError> {
        let mut feature = Self::default();
        if let Some(requirements) = table.table("system-requirements")? {
            feature.system_requirements_span = requirements.span().clone();
            feature.system_requirements = SystemRequirements::read(requirements)?;
        }
        feature.tables.push(TargetTable::read(table, None, scope)?);
        if let Some(targets) = table.table("target")? {
            for entry in targets.entries() {
                let selector = Selector::read(&entry);
                let target = entry.table()?;
                feature.tables.push(TargetTable::read(&target, Some(selector), scope)?);
                target.finish();
            }
        }
        if let Some(options) = table.get("pypi-options")
            && !options.table()?.is_empty()
        {
            options.warn(WarningKind::PypiNotInstalled { packages: Vec::new() });
        }
        Ok(feature)
    }
}

impl TargetTable {
    fn read<'a, 'i>(
        table: &Table<'a, 'i>,
        selector: Option<Selector>,
        scope: Scope<'_, 'a, 'i>,
    ) -> Result<Self, ManifestError> {
        let read = |key: &'static str| match table.table(key)? {
            Some(table) => read_dependencies(&table, scope),
            None => Ok(Dependencies::new()),
        };
        let mut target = Self {
            selector,
            run: read("dependencies")?,
            host: read("host-dependencies")?,
            build: read("build-dependencies")?,
            constraints: read("constraints")?,
            dev: Dependencies::new(),
            has_pypi: false,
        };
        for (key, instead) in [
            ("host-dependencies", "`[dependencies]`, or `[package.host-dependencies]` for building a package"),
            ("build-dependencies", "`[dependencies]`, or `[package.build-dependencies]` for building a package"),
        ] {
            if let Some(entry) = table.get(key) {
                entry.warn(WarningKind::Deprecated { instead });
            }
        }
        if let Some(dev) = table.table("dev")? {
            target.dev = read_dev(&dev, scope)?;
        }
        for (name, constraint) in &target.constraints {
            if matches!(constraint.kind, DependencyKind::Source(_)) {
                let message = "a constraint only limits what is there, and builds nothing".to_owned();
                let kind = ManifestErrorKind::BadRequirement { dependency: name.clone(), message };
                return Err(table.source().error(kind).at(&constraint.value_span).done());
            }
        }
        if let Some(entry) = table.get("pypi-dependencies") {
            let packages: Vec<_> = entry.table()?.entries().iter().map(|package| package.key.to_owned()).collect();
            if !packages.is_empty() {
                target.has_pypi = true;
                entry.warn(WarningKind::PypiNotInstalled { packages });
            }
        }
        // What runs inside an environment has no bearing on what is installed into it.
        table.ignore(&["activation", "tasks"]);
        Ok(target)
    }
}

pub(crate) fn read_channel_priority(table: &Table<'_, '_>) -> Result<Option<ChannelPriority>, ManifestError> {
    let values = [("strict", ChannelPriority::Strict), ("disabled", ChannelPriority::Disabled)];
    table.get("channel-priority").map(|entry| entry.one_of(&values)).transpose()
}

pub(crate) fn read_solve_strategy(table: &Table<'_, '_>) -> Result<Option<SolveStrategy>, ManifestError> {
    let values = [
        ("highest", SolveStrategy::Highest),
        ("lowest", SolveStrategy::LowestVersion),
        ("lowest-direct", SolveStrategy::LowestVersionDirect),
    ];
    table.get("solve-strategy").map(|entry| entry.one_of(&values)).transpose()
}

/// Reads the name of a feature that is defined or named.
pub(crate) fn check_feature_name(entry: &Entry<'_, '_>, name: &str) -> Result<(), ManifestError> {
    let why = match name {
        "" => "it is empty",
        DEFAULT_FEATURE => "it stands for the tables at the top of the manifest",
        _ if name.starts_with('.') => "names that start with a dot are reserved",
        _ => return Ok(()),
    };
    let kind = ManifestErrorKind::BadName { what: "a feature", name: name.to_owned(), why };
    Err(entry.source().error(kind).at(&entry.key_span).done())
}

#[cfg(test)]
mod tests {
    use rattler_conda_types::Subdir;

    use super::*;
    use crate::workspace::platform::parse_virtual_package;

    fn selects(text: &str, platform: &Platform) -> bool {
        Selector { text: text.to_owned(), key: String::new(), span: 0..0 }.matches(platform)
    }

    #[test]
    fn selectors_match_families_subdirs_names_and_patterns() {
        let declared = vec![parse_virtual_package("__cuda=12").unwrap()];
        let gpu = Platform::with_declared(Some("gpu-box".into()), Subdir::Linux64, declared);
        for selector in ["unix", "linux", "linux-64", "gpu-box", "gpu-*", "*", "*-b*x", "g*-*x"] {
            assert!(selects(selector, &gpu), "{selector}");
        }
        for selector in ["osx", "win", "linux-aarch64", "gpu", "*-64", "cuda-*", "*boxes"] {
            assert!(!selects(selector, &gpu), "{selector}");
        }
        assert!(selects("*-64", &Platform::of_subdir(Subdir::Osx64)));
        assert!(!selects("ab*ba", &Platform::with_declared(Some("aba".into()), Subdir::Linux64, Vec::new())));
    }
}
