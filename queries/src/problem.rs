//! Errors as people see them: what went wrong at the bottom, where, and what to do about it.

use std::error::Error;
use std::fmt;

use doge::Failure;
use miette::{Diagnostic, LabeledSpan, Severity, SourceCode};

use crate::conda::{CachedPackagesError, ChannelError, ClosureError, MachineError, NetworkError, SolveError};
use crate::config::ConfigError;
use crate::environment::{
    CheckLockError, InstallWorkspaceError, LockWorkspaceError, ReadLockFileError, ReadManifestError, SolveUnitError,
    TakeRecordsError, WriteLockFileError,
};
use crate::package::FetchPackageError;
use crate::prefix::{InstallError, LinkError, PrefixError};
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
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.root(), f)
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
        doge::AnyError,
    );
    if let Some(error) = error.downcast_ref::<InstallWorkspaceError>() {
        return match error {
            InstallWorkspaceError::Lock(failure) => of(failure),
            InstallWorkspaceError::Machine(failure) => of(failure),
            InstallWorkspaceError::Install(failure) => of(failure),
            InstallWorkspaceError::Engine(failure) => of(failure),
            InstallWorkspaceError::NotLocked { .. } | InstallWorkspaceError::CannotRun { .. } => None,
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
            LockWorkspaceError::Engine(failure) => of(failure),
            LockWorkspaceError::NoLockFile { .. }
            | LockWorkspaceError::OutOfDate { .. }
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
        ManifestError,
        LoadError,
        ConfigError,
        Problem,
    );
    None
}
