//! What the package cache has, for solving without a network.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use doge::{Epoch, Intern, Last, Observation, ObserveContext, Seen, Spec};
use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::epoch::OWN;
use crate::file_stamp::FileStamp;
use crate::package::Packages;

/// The packages in the package cache. Listed anew when the directory changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CachedPackagesSpec;

impl fmt::Display for CachedPackagesSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("package cache")
    }
}

impl Spec for CachedPackagesSpec {
    const KIND: &'static str = "cached_packages";
    const EPOCH: Epoch = Epoch::new(1, &[OWN]);

    fn label(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// The directories in a package cache: `name-version-build` of each package.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CachedPackages(pub BTreeSet<String>);

impl Intern for CachedPackages {
    const NAME: &'static str = "cached packages";
}

/// Why the package cache cannot be listed.
#[derive(Clone, Debug, Error, Diagnostic)]
#[error("the package cache cannot be listed")]
pub struct CachedPackagesError {
    #[source]
    source: Arc<std::io::Error>,
}

impl Observation for CachedPackagesSpec {
    type Output = CachedPackages;
    type Error = CachedPackagesError;
    type Stamp = Option<FileStamp>;

    async fn observe(&self, ctx: &ObserveContext, last: Option<Last<Self>>) -> Result<Seen<Self>, CachedPackagesError> {
        let Some(packages) = ctx.resource::<Packages>() else {
            return Ok(Seen::New { value: CachedPackages::default(), stamp: None, newest: None });
        };
        ctx.blocking(move || {
            let stamp = FileStamp::of(&packages.directory)?;
            if last.is_some_and(|last| last.is(&stamp)) {
                return Ok(Seen::Same);
            }
            let mut names = BTreeSet::new();
            if stamp.is_some() {
                for entry in std::fs::read_dir(&packages.directory)? {
                    let entry = entry?;
                    // What is still being extracted, or was left half-extracted, lacks its description.
                    if entry.path().join("info").join("index.json").is_file() {
                        names.extend(entry.file_name().into_string());
                    }
                }
            }
            Ok(Seen::New { value: CachedPackages(names), newest: stamp.as_ref().map(FileStamp::newest), stamp })
        })
        .await
        .map_err(|source: std::io::Error| CachedPackagesError { source: Arc::new(source) })
    }
}
