//! Errors as people see them: what went wrong at the bottom, where, and what to do about it.

use std::error::Error;
use std::fmt;

use doge::Failure;
use miette::{Diagnostic, LabeledSpan, Severity, SourceCode};

use crate::backend::{BackendMetadataError, CallError, DiscoverError, InstallToolError, ReadyToolError, ToolError};
use crate::build::{
    BackendBuildError, DevSourceMetadataError, NotAnOverride, RunExportsError, SolvePixiError, SourceBuildError,
    SourceMetadataError,
};
use crate::conda::{CachedPackagesError, ChannelError, ClosureError, MachineError, NetworkError, SolveError};
use crate::config::ConfigError;
use crate::environment::{
    CheckLockError, InstallWorkspaceError, LockWorkspaceError, OfferedPackagesError, ReadLockFileError,
    ReadManifestError, SolveUnitError, TakeRecordsError, WriteLockFileError,
};
use crate::files::FilesError;
use crate::package::FetchPackageError;
use crate::prefix::{InstallError, LinkError, PrefixError};
use crate::source::{CheckoutError, ManifestsError};
use crate::workspace::ManifestError;
use crate::workspace::discovery::LoadError;

/// An error with everything that is known of it.
///
/// Queries pass on the failures of what they asked, wrapped in errors of their own. A problem shows the innermost
/// error that has something to say, with its labels and its advice.
pub struct Problem(Box<dyn Error + Send + Sync + 'static>);

impl Problem {
    /// Wraps an error.
    pub fn new(error: impl Error + Send + Sync + 'static) -> Self {
        Self(Box::new(error))
    }

    /// What went wrong at the bottom.
    pub fn root(&self) -> &(dyn Error + 'static) {
        let mut error: &(dyn Error + 'static) = &*self.0;
        while let Some(below) = below(error) {
            error = below;
        }
        error
    }

    fn diagnostic(&self) -> Option<&dyn Diagnostic> {
        diagnostic(self.root())
    }

    /// What was being done when it went wrong, the nearest first.
    fn trail(&self) -> Vec<String> {
        let mut trail = Vec::new();
        let mut error: &(dyn Error + 'static) = &*self.0;
        while let Some(below) = below(error) {
            let is_told =
                error.is::<SolvePixiError>() || error.is::<SourceMetadataError>() || error.is::<LockWorkspaceError>();
            let text = error.to_string();
            if is_told && text != below.to_string() {
                trail.push(text);
            }
            error = below;
        }
        trail.reverse();
        trail
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.root(), f)?;
        for text in self.trail() {
            write!(f, "\n  so {text}")?;
        }
        Ok(())
    }
}

impl Error for Problem {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.root().source()
    }
}

impl Diagnostic for Problem {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.diagnostic()?.code()
    }

    fn severity(&self) -> Option<Severity> {
        self.diagnostic()?.severity()
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.diagnostic()?.help()
    }

    fn url<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.diagnostic()?.url()
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.diagnostic()?.source_code()
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.diagnostic()?.labels()
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        self.diagnostic()?.related()
    }
}

/// The error that an error only passes on.
fn below<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    fn of<E>(failure: &Failure<E>) -> Option<&(dyn Error + 'static)> {
        Some(failure.error())
    }
    macro_rules! passed_on {
        ($error:expr, $($kind:ty),* $(,)?) => {
            $(
                if let Some(failure) = $error.downcast_ref::<Failure<$kind>>() {
                    return of(failure);
                }
                if let Some(doge::RequestError::Failed(failure)) = $error.downcast_ref::<doge::RequestError<$kind>>() {
                    return of(failure);
                }
            )*
        };
    }
    passed_on!(
        error,
        CachedPackagesError,
        ChannelError,
        ClosureError,
        MachineError,
        SolveError,
        CheckLockError,
        InstallWorkspaceError,
        LockWorkspaceError,
        ReadLockFileError,
        ReadManifestError,
        SolveUnitError,
        TakeRecordsError,
        WriteLockFileError,
        FetchPackageError,
        InstallError,
        LinkError,
        PrefixError,
        BackendBuildError,
        BackendMetadataError,
        CallError,
        CheckoutError,
        DevSourceMetadataError,
        DiscoverError,
        FilesError,
        InstallToolError,
        ManifestsError,
        OfferedPackagesError,
        RunExportsError,
        SolvePixiError,
        SourceBuildError,
        SourceMetadataError,
        ToolError,
        doge::AnyError,
    );
    if let Some(error) = error.downcast_ref::<InstallWorkspaceError>() {
        return match error {
            InstallWorkspaceError::Lock(failure) => of(failure),
            InstallWorkspaceError::Machine(failure) => of(failure),
            InstallWorkspaceError::Install(failure) => of(failure),
            InstallWorkspaceError::Build(failure) => of(failure),
            InstallWorkspaceError::Never(failure) => of(failure),
            InstallWorkspaceError::Engine(failure) => of(failure),
            InstallWorkspaceError::NotLocked { .. }
            | InstallWorkspaceError::LockedTwice { .. }
            | InstallWorkspaceError::CannotRun { .. }
            | InstallWorkspaceError::NoPython(_) => None,
        };
    }
    if let Some(error) = error.downcast_ref::<LockWorkspaceError>() {
        return match error {
            LockWorkspaceError::Manifest(failure) => of(failure),
            LockWorkspaceError::Read(failure) => of(failure),
            LockWorkspaceError::Check(failure) => of(failure),
            LockWorkspaceError::Solve(failure) => of(failure),
            LockWorkspaceError::Take(failure) => of(failure),
            LockWorkspaceError::Write(failure) => of(failure),
            LockWorkspaceError::Never(failure) => of(failure),
            LockWorkspaceError::AsLocked { failure, .. } => of(failure),
            LockWorkspaceError::Sources(failure) => of(failure),
            LockWorkspaceError::Dev(failure) => of(failure),
            LockWorkspaceError::Machine(failure) => of(failure),
            LockWorkspaceError::Files(failure) => of(failure),
            LockWorkspaceError::Engine(failure) => of(failure),
            LockWorkspaceError::NoLockFile { .. }
            | LockWorkspaceError::OutOfDate { .. }
            | LockWorkspaceError::NotAsLocked { .. }
            | LockWorkspaceError::NotSettled { .. }
            | LockWorkspaceError::NotAtHand(_) => None,
        };
    }
    if let Some(error) = error.downcast_ref::<SolveUnitError>() {
        return match error {
            SolveUnitError::Closure(failure) => of(failure),
            SolveUnitError::Channel(failure) => of(failure),
            SolveUnitError::Solve(failure) => of(failure),
            SolveUnitError::Cached(failure) => of(failure),
            SolveUnitError::Never(failure) => of(failure),
            SolveUnitError::Engine(failure) => of(failure),
        };
    }
    if let Some(error) = error.downcast_ref::<ClosureError>() {
        return match error {
            ClosureError::Channel(failure) => of(failure),
            ClosureError::Engine(failure) => of(failure),
            ClosureError::NoChannel { .. } => None,
        };
    }
    if let Some(error) = error.downcast_ref::<InstallError>() {
        return match error {
            InstallError::Prefix(failure) => of(failure),
            InstallError::Fetch(failure) => of(failure),
            InstallError::Link(failure) => of(failure),
            InstallError::Records(failure) => of(failure),
            InstallError::NotAsWanted { .. } => None,
        };
    }
    if let Some(error) = error.downcast_ref::<SolvePixiError>() {
        return match error {
            SolvePixiError::Source { failure, .. } => of(failure),
            SolvePixiError::Pin(pin) => of(&pin.0),
            SolvePixiError::Solve(failure) => of(failure),
            SolvePixiError::Never(failure) => of(failure),
            SolvePixiError::NoRoot(_) => None,
            SolvePixiError::Engine(failure) => of(failure),
            SolvePixiError::Outside { .. } | SolvePixiError::TwoPlaces(_) => None,
        };
    }
    if let Some(error) = error.downcast_ref::<SourceMetadataError>() {
        return match error {
            SourceMetadataError::Backend(failure) => of(failure),
            SourceMetadataError::Environment { failure, .. } => of(failure),
            SourceMetadataError::Fetch(failure) => of(failure),
            SourceMetadataError::RunExports(failure) => of(failure),
            SourceMetadataError::Never(failure) => of(failure),
            SourceMetadataError::Engine(failure) => of(failure),
            SourceMetadataError::PackageNotProvided { .. }
            | SourceMetadataError::Dependency { .. }
            | SourceMetadataError::Field { .. } => None,
        };
    }
    if let Some(error) = error.downcast_ref::<OfferedPackagesError>() {
        return match error {
            OfferedPackagesError::Manifest(failure) => of(failure),
            OfferedPackagesError::Machine(failure) => of(failure),
            OfferedPackagesError::Files(failure) => of(failure),
            OfferedPackagesError::Pin(pin) => of(&pin.0),
            OfferedPackagesError::Backend(failure) => of(failure),
            OfferedPackagesError::Source(failure) => of(failure),
            OfferedPackagesError::Engine(failure) => of(failure),
            OfferedPackagesError::NoEnvironment { .. } => None,
        };
    }
    if let Some(error) = error.downcast_ref::<DevSourceMetadataError>() {
        return match error {
            DevSourceMetadataError::Pin(pin) => of(&pin.0),
            DevSourceMetadataError::Backend(failure) => of(failure),
            DevSourceMetadataError::Engine(failure) => of(failure),
            DevSourceMetadataError::PackageNotProvided { .. } | DevSourceMetadataError::Dependency { .. } => None,
        };
    }
    if let Some(error) = error.downcast_ref::<SourceBuildError>() {
        return match error {
            SourceBuildError::Backend(failure) => of(failure),
            SourceBuildError::Dependencies(failure) => of(failure),
            SourceBuildError::Fetch(failure) => of(failure),
            SourceBuildError::RunExports(failure) => of(failure),
            SourceBuildError::Build(failure) => of(failure),
            SourceBuildError::Never(failure) => of(failure),
            SourceBuildError::Engine(failure) => of(failure),
            SourceBuildError::MissingOutput { .. }
            | SourceBuildError::Dependency { .. }
            | SourceBuildError::NoPython(_) => None,
        };
    }
    if let Some(error) = error.downcast_ref::<BackendMetadataError>() {
        return match error {
            BackendMetadataError::Discover(error) => Some(error),
            BackendMetadataError::Pin(pin) => of(&pin.0),
            BackendMetadataError::Checkout(failure) => of(failure),
            BackendMetadataError::Tool(failure) => of(failure),
            BackendMetadataError::Ready(ready) => match ready {
                ReadyToolError::Fetch(failure) => of(failure),
                ReadyToolError::Install(failure) => of(failure),
                ReadyToolError::Engine(failure) => of(failure),
            },
            BackendMetadataError::Outputs(failure) => of(failure),
            BackendMetadataError::Never(failure) => of(failure),
            BackendMetadataError::Engine(failure) => of(failure),
            BackendMetadataError::NoProgram { .. } | BackendMetadataError::Outside { .. } => None,
        };
    }
    if let Some(error) = error.downcast_ref::<DiscoverError>() {
        return match error {
            DiscoverError::Read(failure) => of(failure),
            DiscoverError::Checkout(failure) => of(failure),
            DiscoverError::Engine(failure) => of(failure),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref::<ToolError>() {
        return match error {
            ToolError::Solve(failure) => of(failure),
            ToolError::Sources(failure) => of(failure),
            ToolError::Build(failure) => of(failure),
            ToolError::Never(failure) => of(failure),
            ToolError::Engine(failure) => of(failure),
            ToolError::NoMatchingBackend { .. } | ToolError::NoPython(_) => None,
        };
    }
    None
}

fn diagnostic<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a dyn Diagnostic> {
    macro_rules! any_of {
        ($($kind:ty),* $(,)?) => {
            $(
                if let Some(error) = error.downcast_ref::<$kind>() {
                    return Some(error);
                }
            )*
        };
    }
    any_of!(
        CachedPackagesError,
        ChannelError,
        ClosureError,
        MachineError,
        NetworkError,
        SolveError,
        CheckLockError,
        InstallWorkspaceError,
        LockWorkspaceError,
        ReadLockFileError,
        ReadManifestError,
        TakeRecordsError,
        WriteLockFileError,
        FetchPackageError,
        InstallError,
        LinkError,
        PrefixError,
        BackendBuildError,
        BackendMetadataError,
        CallError,
        CheckoutError,
        DevSourceMetadataError,
        DiscoverError,
        FilesError,
        InstallToolError,
        ManifestsError,
        NotAnOverride,
        OfferedPackagesError,
        RunExportsError,
        SolvePixiError,
        SourceBuildError,
        SourceMetadataError,
        ToolError,
        ManifestError,
        LoadError,
        ConfigError,
        Problem,
    );
    None
}
