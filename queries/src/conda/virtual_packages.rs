//! What this machine is, as virtual packages.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use doge::{Change, Epoch, Last, Observation, ObserveContext, Seen, Spec, Values};
use miette::Diagnostic;
use rattler_conda_types::{GenericVirtualPackage, RepoDataRecord, Subdir};
use rattler_virtual_packages::{DetectVirtualPackageError, VirtualPackageOverrides, VirtualPackages};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::epoch::{OWN, VIRTUAL_PACKAGES};
use crate::file_stamp::FileStamp;
use crate::told::by_name;

/// This machine. Finding out runs programs, so it is done again only when the machine was started anew, a variable
/// `CONDA_OVERRIDE_*` changed, or a file of the C library or of a driver.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MachineSpec;

impl fmt::Display for MachineSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this machine")
    }
}

impl Spec for MachineSpec {
    const KIND: &'static str = "virtual_packages";
    const EPOCH: Epoch = Epoch::new(1, &[OWN, VIRTUAL_PACKAGES]);

    fn label(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// What a machine is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its platform, if conda has one for it.
    pub subdir: Option<Subdir>,
    /// Its virtual packages, as `__name=version=build`, sorted.
    pub virtual_packages: Vec<String>,
}

/// What is cheap to see of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineStamp {
    boot: Option<String>,
    variables: BTreeMap<String, String>,
    files: Vec<Option<FileStamp>>,
}

/// Why a machine cannot be told.
#[derive(Clone, Debug, Error, Diagnostic)]
#[error("it cannot be found out what this machine is")]
#[diagnostic(help("look at the variables `CONDA_OVERRIDE_*`: one may have a value that is no version"))]
pub struct MachineError {
    #[source]
    source: Arc<DetectVirtualPackageError>,
}

/// Files that come and go, or change, with the C library, the drivers and the system.
const FILES: [&str; 14] = [
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/lib/aarch64-linux-gnu/libc.so.6",
    "/lib64/libc.so.6",
    "/lib/ld-musl-x86_64.so.1",
    "/lib/ld-musl-aarch64.so.1",
    "/usr/lib/x86_64-linux-gnu/libcuda.so.1",
    "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
    "/usr/lib64/libcuda.so.1",
    "/usr/lib64/libnvidia-ml.so.1",
    "/usr/lib/wsl/lib/libcuda.so.1",
    "/dev/nvidia0",
    "/dev/kfd",
    "/System/Library/CoreServices/SystemVersion.plist",
    "C:\\Windows\\System32\\nvcuda.dll",
];

impl MachineStamp {
    fn take() -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok().filter(|name| name.starts_with("CONDA_OVERRIDE_"))?;
            Some((name, value.to_string_lossy().into_owned()))
        });
        let files = FILES.iter().map(|path| FileStamp::of(Path::new(path)).ok().flatten()).collect();
        Self { boot, variables: variables.collect(), files }
    }
}

impl Observation for MachineSpec {
    type Output = Machine;
    type Error = MachineError;
    type Stamp = MachineStamp;

    fn changes(&self, was: &Machine, now: &Machine, _: &Values<'_>) -> Option<Vec<Change>> {
        let named = |machine: &Machine| -> BTreeMap<String, String> {
            let split =
                |package: &String| package.split_once('=').map(|(name, rest)| (name.to_owned(), rest.to_owned()));
            machine.virtual_packages.iter().filter_map(split).collect()
        };
        let package = |name: &str, was: Option<&String>, now: Option<&String>| {
            Change::new("virtual package", name, was.cloned(), now.cloned())
        };
        let mut changes = by_name(&named(was), &named(now), package);
        if was.subdir != now.subdir {
            let name = |machine: &Machine| machine.subdir.map(|subdir| subdir.to_string());
            changes.push(Change::new("platform", "", name(was), name(now)));
        }
        Some(changes)
    }

    async fn observe(&self, ctx: &ObserveContext, last: Option<Last<Self>>) -> Result<Seen<Self>, MachineError> {
        let stamp = MachineStamp::take();
        if last.is_some_and(|last| last.is(&stamp)) {
            return Ok(Seen::Same);
        }
        let detected = ctx.blocking(|| VirtualPackages::detect(&VirtualPackageOverrides::from_env(), None)).await;
        let packages = detected.map_err(|source| MachineError { source: Arc::new(source) })?;
        let mut virtual_packages: Vec<String> =
            packages.into_generic_virtual_packages().map(|package| package.to_string()).collect();
        virtual_packages.sort();
        let newest = stamp.files.iter().flatten().map(FileStamp::newest).max();
        Ok(Seen::New { value: Machine { subdir: Subdir::current(), virtual_packages }, stamp, newest })
    }
}

impl Machine {
    fn own(&self) -> impl Iterator<Item = GenericVirtualPackage> {
        self.virtual_packages.iter().filter_map(|text| crate::workspace::parse_virtual_package(text))
    }

    /// Whether the machine has a virtual package, of this version or a newer one.
    pub(crate) fn has(&self, wanted: &GenericVirtualPackage) -> bool {
        // An architecture is named by its build string; whether one can run what was made for another is for the
        // packages to say.
        wanted.name.as_normalized() == "__archspec"
            || self.own().any(|own| own.name == wanted.name && own.version >= wanted.version)
    }

    /// What the records need of a machine and this one does not have.
    pub fn lacks(&self, records: &[RepoDataRecord]) -> Vec<String> {
        let own: Vec<GenericVirtualPackage> = self.own().collect();
        let mut lacking = BTreeSet::new();
        for record in records {
            let package = &record.package_record;
            for depends in package.depends.iter().filter(|depends| depends.starts_with("__")) {
                // One that cannot be read was refused when the records were chosen or locked.
                let Ok(spec) = crate::workspace::parse_canonical(depends) else { continue };
                if !own.iter().any(|own| crate::workspace::matches_virtual(&spec, own)) {
                    lacking.insert(format!("{} needs `{depends}`", package.name.as_normalized()));
                }
            }
        }
        lacking.into_iter().collect()
    }
}
