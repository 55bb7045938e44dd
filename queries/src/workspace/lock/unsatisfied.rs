//! Why a lock file does not answer what an environment needs.

use thiserror::Error;

use super::pin::SourceFormError;

/// The first reason why locked records cannot be taken as they are. The environment has to be solved again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Unsatisfied {
    /// The file knows no such environment.
    #[error("environment `{environment}` is not in the lock file")]
    NoEnvironment {
        /// The environment.
        environment: String,
    },
    /// The environment is not locked for the platform.
    #[error("environment `{environment}` is not locked for `{platform}`")]
    NoPlatform {
        /// The environment.
        environment: String,
        /// The platform.
        platform: String,
    },
    /// The platform of that name was another one.
    #[error("platform `{platform}` is now {wanted} and was locked as {locked}")]
    PlatformChanged {
        /// The platform.
        platform: String,
        /// What it is.
        wanted: String,
        /// What it was.
        locked: String,
    },
    /// Channels came at the end: what is locked holds, but was not chosen from all of them.
    #[error("the channels {added} were added")]
    ChannelsAdded {
        /// The new channels.
        added: String,
    },
    /// The channels are others, or in another order.
    #[error("the channels are {wanted} and the lock file was made with {locked}")]
    ChannelsChanged {
        /// What they are.
        wanted: String,
        /// What they were.
        locked: String,
    },
    /// Another version was to be preferred.
    #[error("the solve strategy is `{wanted}` and the lock file was made with `{locked}`")]
    StrategyChanged {
        /// What it is.
        wanted: &'static str,
        /// What it was.
        locked: &'static str,
    },
    /// Channels hid each other in another way.
    #[error("the channel priority is `{wanted}` and the lock file was made with `{locked}`")]
    ChannelPriorityChanged {
        /// What it is.
        wanted: &'static str,
        /// What it was.
        locked: &'static str,
    },
    /// A locked package came after the cutoff.
    #[error("`{package}` is from {timestamp}, which is after {cutoff} (`exclude-newer`)")]
    TooNew {
        /// The package with version and build.
        package: String,
        /// When it was made.
        timestamp: String,
        /// The last moment allowed.
        cutoff: String,
    },
    /// Nothing that is locked is what is asked for.
    #[error("no locked package is `{spec}`, which {} needs{}", needed_by(required_by), instead(found))]
    NoMatch {
        /// What is asked for.
        spec: String,
        /// The locked package that asks. `None` for the manifest.
        required_by: Option<String>,
        /// What is locked under that name.
        found: Option<String>,
    },
    /// A limit of the manifest does not hold.
    #[error("`{package}` is locked, but is limited to `{constraint}`")]
    ConstraintViolated {
        /// The package with version and build.
        package: String,
        /// The limit.
        constraint: String,
    },
    /// Packages are locked that nothing needs.
    #[error("nothing needs the locked packages {}", packages.join(", "))]
    NotNeeded {
        /// Their names, sorted.
        packages: Vec<String>,
    },
    /// Two packages of one name.
    #[error("`{package}` is locked twice")]
    LockedTwice {
        /// The name.
        package: String,
    },
    /// A package is locked as one that is built from source, and nothing has its source.
    #[error("`{package}` is locked as a source, but is wanted from a channel")]
    LockedAsSource {
        /// The name.
        package: String,
    },
    /// A package that is to be built from source is locked as one of a channel.
    #[error("`{package}` is locked as a package of a channel, but is wanted from source")]
    LockedFromChannel {
        /// The name.
        package: String,
    },
    /// A package that is to be built from source is not locked.
    #[error("`{package}` from source at {location} is not locked, and the manifest needs it")]
    NoSource {
        /// The name.
        package: String,
        /// Where its source is.
        location: String,
    },
    /// A package that is to be built from source is locked with a source elsewhere.
    #[error("`{package}` is wanted from source at {wanted}, and is locked from {locked}")]
    SourceElsewhere {
        /// The name.
        package: String,
        /// Where its source has to be.
        wanted: String,
        /// Where the locked one is.
        locked: String,
    },
    /// Of a source there is no such variant any more.
    #[error("`{package}` is locked with {variant}, which is not what its source makes of it now")]
    NoSuchVariant {
        /// The name.
        package: String,
        /// The variant that is locked.
        variant: String,
    },
    /// A source makes something else of a package than what is locked.
    #[error("`{package}` is locked, but {what} is not what it was")]
    SourceChanged {
        /// The name.
        package: String,
        /// What changed.
        what: &'static str,
    },
    /// What is locked could be one or another package.
    #[error("`{package}` is locked, and its source makes several of it that cannot be told apart")]
    SourceAmbiguous {
        /// The name.
        package: String,
    },
    /// What is locked of a package that is built from source makes no sense.
    #[error("`{package}` is locked in a way that cannot be understood: {reason}")]
    UnreadableSource {
        /// The package, as the file names it.
        package: String,
        /// What makes no sense.
        reason: SourceFormError,
    },
    /// Packages of the Python index are locked and none are declared.
    #[error("packages of the Python index are locked, but none are declared: {}", packages.join(", "))]
    PypiNotDeclared {
        /// Their names, sorted.
        packages: Vec<String>,
    },
    /// A locked package has a dependency that cannot be read.
    #[error("the dependency `{dependency}` of the locked `{package}` cannot be read: {message}")]
    BadDependency {
        /// The package with version and build.
        package: String,
        /// The dependency.
        dependency: String,
        /// Why not.
        message: String,
    },
    /// A requirement that cannot be compared with what is locked.
    #[error("the requirement `{requirement}` cannot be read: {message}")]
    BadRequirement {
        /// The requirement.
        requirement: String,
        /// Why not.
        message: String,
    },
    /// Environments that are solved together have different packages of one name.
    #[error(
        "`{package}` is locked differently in the environments `{first}` and `{second}`, which are solved together"
    )]
    GroupDisagrees {
        /// The name.
        package: String,
        /// One environment.
        first: String,
        /// Another one.
        second: String,
    },
}

fn needed_by(required_by: &Option<String>) -> String {
    required_by.as_ref().map_or_else(|| "the manifest".to_owned(), |record| format!("`{record}`"))
}

fn instead(found: &Option<String>) -> String {
    found.as_ref().map(|found| format!(" (`{found}` is locked)")).unwrap_or_default()
}
