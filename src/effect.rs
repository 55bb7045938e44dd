//! Effects: actions that change something observed.

use std::future::Future;

use crate::action::Resource;
use crate::context::ActionContext;
use crate::failure::DomainError;
use crate::observation::Observation;
use crate::spec::Spec;
use crate::value::Value;

/// A spec with work that changes the world, such as linking packages into a prefix.
///
/// An effect is never answered from the store or from memory. What makes it unnecessary is the trace of the query
/// above it: that query observes the target, finds it as wanted, and does not ask for the effect. When it is not
/// as wanted, the query asks for the effect with [`crate::Db::effect`]; afterwards the engine observes the target
/// again and runs the query again, which now depends on the world *after* the effect.
pub trait Effect: Spec {
    /// What it did, for the record and for progress; no query sees it.
    type Output: Value;
    /// How it can fail.
    type Error: DomainError;
    /// The observation whose answer this changes.
    type Target: Observation;

    /// What it competes for while it runs.
    const RESOURCE: Resource;

    /// What is observed again afterwards. Two live requests must not want different effects on one target.
    fn target(&self) -> Self::Target;

    /// What was found not as wanted, in words: for those who ask later why it was done.
    fn found(&self) -> Vec<String> {
        Vec::new()
    }

    /// Makes the change.
    ///
    /// It takes whatever lock protects the target, looks at the target under it, and if that is not what the spec
    /// was made for, calls [`ActionContext::observe_again`] and returns without changing anything.
    ///
    /// # Errors
    ///
    /// As for [`crate::Action::run`].
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any await. What it leaves behind must not be mistaken for a finished change.
    fn run(&self, ctx: &ActionContext) -> impl Future<Output = Result<Self::Output, Self::Error>> + Send;
}
