//! Installing an environment: the query.

use std::collections::BTreeSet;
use std::fmt;

use doge::storage::RunId;
use doge::{AnyError, Change, Db, Epoch, Failure, Fingerprint, Halt, Interned, Query, Spec, Values};
use rattler_conda_types::{RepoDataRecord, Subdir};
use serde::{Deserialize, Serialize};

use crate::epoch::{CONDA_TYPES, OWN, RATTLER};
use crate::package::{FetchPackageError, FetchPackageSpec};
use crate::prefix::difference::{Difference, differences};
use crate::prefix::link::{LinkError, LinkOptions, LinkPrefixSpec, Relink};
use crate::prefix::state::{PrefixError, PrefixState, PrefixStateSpec};
use crate::records::Records;
use crate::told::{of_archives, packages};

/// How many differences are told one by one.
const TOLD: usize = 10;

/// An environment that holds exactly these packages.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InstallPixiEnvironmentSpec {
    /// The name of the environment.
    pub name: String,
    /// Where it is.
    pub prefix: PrefixStateSpec,
    /// What it is to hold.
    pub records: Interned<Records>,
    /// The platform that the packages run on.
    pub platform: Subdir,
    /// How files come into the prefix.
    pub options: LinkOptions,
    /// Whether scripts of packages are run.
    pub link_scripts: bool,
    /// Link packages anew even if they are as wanted.
    pub force: Option<Force>,
}

/// The wish to have packages linked or built anew, whatever is there already. Each wish is granted once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Force {
    /// What tells this wish from others.
    pub wish: RunId,
    /// Which packages; all if none are named.
    pub packages: BTreeSet<String>,
}

impl Force {
    /// Whether a package is meant.
    pub(crate) fn is_for(&self, package: &str) -> bool {
        self.packages.is_empty() || self.packages.contains(package)
    }
}

impl fmt::Display for InstallPixiEnvironmentSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "install {}@{}", self.name, self.platform)
    }
}

impl Spec for InstallPixiEnvironmentSpec {
    const KIND: &'static str = "install_pixi_environment";
    const EPOCH: Epoch = Epoch::new(1, &[OWN, RATTLER, CONDA_TYPES]);

    fn changed(was: &Self, now: &Self, values: &Values<'_>) -> Option<Vec<Change>> {
        let (was, now) = (values.get(&was.records)?, values.get(&now.records)?);
        // What else may differ is told field by field.
        Some(packages(of_archives(&was), of_archives(&now))).filter(|changes| !changes.is_empty())
    }

    fn label(&self) -> Option<String> {
        Some(format!("{self} in {}", self.prefix.path))
    }
}

/// An environment that is as wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledEnvironment {
    /// Its canonical absolute path.
    pub path: String,
    /// How many packages it holds.
    pub packages: usize,
    /// What tells it from others: its packages, by name and hash.
    pub fingerprint: Fingerprint,
    /// In what packages that were built are not what their sources want by now, if that was not to matter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differs: Vec<String>,
}

/// Why an environment could not be installed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[non_exhaustive]
pub enum InstallError {
    /// It could not be looked at.
    #[error(transparent)]
    Prefix(#[from] Failure<PrefixError>),
    /// A package could not be fetched.
    #[error(transparent)]
    Fetch(#[from] Failure<FetchPackageError>),
    /// It could not be changed.
    #[error(transparent)]
    Link(#[from] Failure<LinkError>),
    /// The list of packages is not at hand.
    #[error(transparent)]
    Records(#[from] Failure<AnyError>),
    /// It is still not as wanted after everything was done.
    #[error("environment `{name}` is still not as wanted: {}", list(differences))]
    #[diagnostic(help("somebody else may be changing it; look for other programs that use `{path}`"))]
    NotAsWanted {
        /// The environment.
        name: String,
        /// Where it is.
        path: String,
        /// What is not as wanted.
        differences: Vec<Difference>,
    },
}

fn list(differences: &[Difference]) -> String {
    let told: Vec<String> = differences.iter().take(5).map(ToString::to_string).collect();
    let more = differences.len().saturating_sub(told.len());
    if more == 0 { told.join(", ") } else { format!("{}, and {more} more", told.join(", ")) }
}

fn fingerprint(state: &PrefixState) -> Fingerprint {
    Fingerprint::of(&rmp_serde::to_vec_named(state).unwrap_or_default())
}

impl Query for InstallPixiEnvironmentSpec {
    type Output = InstalledEnvironment;
    type Error = InstallError;

    fn compute(&self, db: &Db<'_>) -> Result<InstalledEnvironment, Halt<InstallError>> {
        let state = db.observe(&self.prefix)?;
        let records = db.value(&self.records)?;
        let differences = differences(&state, records.as_slice(), self.platform);
        if !differences.is_empty() || self.force.is_some() {
            let to_fetch = self.to_fetch(&differences, &records);
            db.join(|join| to_fetch.iter().map(|fetch| join.act(fetch)).collect::<Vec<_>>())?;
            db.effect(&LinkPrefixSpec {
                prefix: self.prefix.clone(),
                seen: fingerprint(&state),
                records: self.records.clone(),
                platform: self.platform,
                relink: self.relink(),
                options: self.options,
                link_scripts: self.link_scripts,
                found: self.found(&differences),
            })?;
            // The effect has happened, and the prefix was observed again.
            if !differences.is_empty() {
                let (name, path) = (self.name.clone(), self.prefix.path.clone());
                return Err(Halt::fail(InstallError::NotAsWanted { name, path, differences }));
            }
        }
        Ok(InstalledEnvironment {
            path: state.as_ref().as_ref().map(|prefix| prefix.path.clone()).unwrap_or_default(),
            packages: records.as_slice().len(),
            fingerprint: self.records.fingerprint(),
            differs: Vec::new(),
        })
    }
}

impl InstallPixiEnvironmentSpec {
    fn relink(&self) -> Relink {
        match &self.force {
            None => Relink::Nothing,
            Some(force) if force.packages.is_empty() => Relink::Everything,
            Some(force) => Relink::Packages(force.packages.clone()),
        }
    }

    /// What is not as wanted, in words.
    fn found(&self, differences: &[Difference]) -> Vec<String> {
        let mut found: Vec<String> = differences.iter().take(TOLD).map(ToString::to_string).collect();
        if differences.len() > TOLD {
            found.push(format!("and {} more", differences.len() - TOLD));
        }
        if let Some(force) = &self.force {
            let names: Vec<&str> = force.packages.iter().map(String::as_str).collect();
            let what = if names.is_empty() { "everything".to_owned() } else { names.join(", ") };
            found.push(format!("linking {what} anew was asked for by force"));
        }
        found
    }

    /// The packages that will be linked, so that they are in the cache by then.
    fn to_fetch(&self, differences: &[Difference], records: &Records) -> Vec<FetchPackageSpec> {
        let everything = matches!(self.relink(), Relink::Everything)
            || differences.iter().any(|difference| {
                matches!(
                    difference,
                    Difference::NoPrefix
                        | Difference::Unfinished
                        | Difference::Moved { .. }
                        | Difference::Edited { .. }
                )
            });
        let named: BTreeSet<&str> = differences
            .iter()
            .filter_map(|difference| match difference {
                Difference::Missing { name }
                | Difference::Other { name, .. }
                | Difference::OtherPython { name }
                | Difference::Twice { name } => Some(name.as_str()),
                _ => None,
            })
            .chain(self.force.iter().flat_map(|force| force.packages.iter().map(String::as_str)))
            .collect();
        let is_needed = |name: &str| everything || named.contains(name);
        let is_needed = |record: &&RepoDataRecord| is_needed(record.package_record.name.as_normalized());
        let mut needed: Vec<_> = records.as_slice().iter().filter(is_needed).collect();
        // The largest first: whichever comes last is waited for alone.
        needed.sort_by_key(|record| std::cmp::Reverse(record.package_record.size));
        needed.into_iter().map(FetchPackageSpec::new).collect()
    }
}
