//! What packages that are built against export to those who are built.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use doge::{Action, ActionContext, Epoch, Resource, Spec};
use miette::Diagnostic;
use rattler_conda_types::package::{PackageFile as _, RunExportsJson};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::backend::IgnoreRunExports;
use crate::build::dependencies::{Exported, Needed, Said};
use crate::epoch::{CONDA_TYPES, OWN};
use crate::package::{FetchPackageError, FetchPackageSpec, Packages};
use crate::source::SourceRecord;
use crate::workspace::{Requirement, SourceRequirement, parse_canonical};

/// Reading from a package what it exports, where its record does not say it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReadRunExportsSpec {
    /// The package.
    pub package: FetchPackageSpec,
}

impl fmt::Display for ReadRunExportsSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run exports of {}", self.package)
    }
}

impl Spec for ReadRunExportsSpec {
    const KIND: &'static str = "read_run_exports";
    const EPOCH: Epoch = Epoch::new(1, &[OWN, CONDA_TYPES]);
}

/// Why it is not known what a package exports.
#[derive(Clone, Debug, Error, Diagnostic)]
#[error("it cannot be read what the package `{package}` exports: {message}")]
pub struct RunExportsError {
    package: String,
    message: String,
}

impl Action for ReadRunExportsSpec {
    type Output = RunExportsJson;
    type Error = RunExportsError;
    const RESOURCE: Resource = Resource::Io;

    async fn run(&self, ctx: &ActionContext) -> Result<RunExportsJson, RunExportsError> {
        let failed = |message: String| RunExportsError { package: self.package.to_string(), message };
        let packages = ctx.resource::<Packages>().ok_or_else(|| failed(FetchPackageError::NoCache.to_string()))?;
        let directory = self.package.directory(&packages);
        if !directory.join("info/index.json").is_file() {
            ctx.remake(&self.package);
            return Err(failed("it vanished from the cache".to_owned()));
        }
        ctx.blocking(move || match RunExportsJson::from_package_directory(&directory) {
            Ok(exports) => Ok(exports),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(RunExportsJson::default()),
            Err(error) => Err(error.to_string()),
        })
        .await
        .map_err(failed)
    }
}

/// What an environment exports.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunExported {
    pub(crate) weak: Vec<Needed>,
    pub(crate) strong: Vec<Needed>,
    pub(crate) noarch: Vec<Needed>,
    pub(crate) weak_constrains: Vec<Requirement>,
    pub(crate) strong_constrains: Vec<Requirement>,
}

/// A package with what it exports.
pub(crate) struct Exporter<'a> {
    pub(crate) name: &'a str,
    pub(crate) exports: &'a RunExportsJson,
    /// Where packages are built from, as this package says it.
    pub(crate) sources: Vec<SourceRequirement>,
}

/// What the declared packages of an environment export.
///
/// What is there only because of another run export exports nothing: exports do not chain.
pub(crate) fn exported(
    from: &'static str,
    declared: &BTreeSet<String>,
    ignore: &IgnoreRunExports,
    exporters: &[Exporter<'_>],
    built: &[Arc<SourceRecord>],
) -> RunExported {
    let mut all = RunExported::default();
    let lower = |names: &[String]| names.iter().map(|name| name.to_ascii_lowercase()).collect::<BTreeSet<_>>();
    let (by_name, from_package) = (lower(&ignore.by_name), lower(&ignore.from_package));
    for exporter in exporters {
        if !declared.contains(exporter.name) || from_package.contains(exporter.name) {
            continue;
        }
        // What cannot be read says nothing; conda does not heed it, either.
        let requirement = |text: &String| {
            let spec = parse_canonical(text).ok()?;
            let name = spec.name.as_exact()?.as_normalized().to_owned();
            if by_name.contains(&name) {
                return None;
            }
            Some(Requirement { spec: spec.to_canonical_string().ok()?, name, channel: None, archive: None })
        };
        let needed = |text: &String| {
            let requirement = requirement(text)?;
            let known =
                exporter.sources.iter().find(|source| source.name == requirement.name).map(|s| s.location.clone());
            let built = || {
                let record = built.iter().find(|record| record.name() == requirement.name)?;
                Some(record.manifest.location())
            };
            let pins_archive = parse_canonical(&requirement.spec).is_ok_and(|spec| spec.url.is_some());
            let said = match known.or_else(built).filter(|_| !pins_archive) {
                Some(location) => {
                    Said::Source(SourceRequirement { name: requirement.name, location, spec: requirement.spec })
                }
                None => Said::Binary(requirement),
            };
            let package = exporter.name.to_owned();
            Some(Needed { said, exported: Some(Exported { from, package }) })
        };
        let exports = exporter.exports;
        all.weak.extend(exports.weak.iter().filter_map(needed));
        all.strong.extend(exports.strong.iter().filter_map(needed));
        all.noarch.extend(exports.noarch.iter().filter_map(needed));
        all.weak_constrains.extend(exports.weak_constrains.iter().filter_map(requirement));
        all.strong_constrains.extend(exports.strong_constrains.iter().filter_map(requirement));
    }
    all
}
