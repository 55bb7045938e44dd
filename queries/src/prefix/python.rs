//! Packages that are installed for the Python of their environment, whichever that is.

use std::collections::BTreeSet;

use miette::Diagnostic;
use rattler_conda_types::PackageRecord;
use thiserror::Error;

/// An environment without a Python for such packages.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
#[error("{environment} has no `python` to install {} for, which {} `noarch: python`", told(packages), be(packages))]
#[diagnostic(help(
    "add `python` to what is needed there; if a package is yours, have it need `python` to run, as every package does that \
     is `noarch: python`"
))]
pub struct NoPython {
    /// The environment.
    pub environment: String,
    /// The packages, sorted.
    pub packages: Vec<String>,
}

fn told(packages: &[String]) -> String {
    packages.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn be(packages: &[String]) -> &'static str {
    if packages.len() == 1 { "is" } else { "are" }
}

impl NoPython {
    /// Looks whether there is a Python, if any of the packages of an environment needs one to be installed.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub(crate) fn check<'a>(
        environment: impl FnOnce() -> String,
        packages: impl Iterator<Item = &'a PackageRecord>,
    ) -> Result<(), Self> {
        let mut for_python = BTreeSet::new();
        for package in packages {
            if package.name.as_normalized() == "python" {
                return Ok(());
            }
            if package.noarch.is_python() {
                for_python.insert(package.name.as_normalized().to_owned());
            }
        }
        if for_python.is_empty() {
            return Ok(());
        }
        Err(Self { environment: environment(), packages: for_python.into_iter().collect() })
    }
}
