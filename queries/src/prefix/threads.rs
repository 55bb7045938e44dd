//! Threads for the installer, whose panics are errors.
//!
//! It panics when somebody changes the prefix under it, on whatever thread it is just then. Its threads have names, so that
//! whoever prints panics can tell that these end here.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use doge::panic_message;
use rayon::ThreadPoolBuilder;

/// What the names of the threads begin with.
const NAME: &str = "doge-install-";

/// Whether this thread is one whose panics are caught and told as errors.
pub fn is_inside_installer() -> bool {
    std::thread::current().name().is_some_and(|name| name.starts_with(NAME))
}

/// Why work did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotDone {
    /// There are no threads to be had.
    #[error(transparent)]
    Threads(#[from] io::Error),
    /// It panicked, and said this.
    #[error("{0}")]
    Panicked(String),
}

/// Does the work on threads of its own, as many as there are processors; so do the parallel iterators in it.
///
/// It blocks. What the work leaves to `rayon::spawn` may outlive it.
pub(crate) fn on_its_own<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, NotDone> {
    let named = ThreadPoolBuilder::new().thread_name(|number| format!("{NAME}{number}"));
    let pool = named.build().map_err(io::Error::other)?;
    catch_unwind(AssertUnwindSafe(|| pool.install(work)))
        .map_err(|payload| NotDone::Panicked(panic_message(payload.as_ref())))
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;

    #[test]
    fn a_panic_is_an_error_wherever_it_happens() {
        let said = |done: Result<(), NotDone>| done.expect_err("it panicked").to_string();
        assert_eq!(said(on_its_own(|| panic!("it does the work"))), "it does the work");
        let in_part = |number| assert!(number != 7, "it does a part of it");
        assert_eq!(said(on_its_own(|| (0..100).into_par_iter().for_each(in_part))), "it does a part of it");
    }

    #[test]
    fn all_of_it_is_on_threads_that_are_known() {
        assert!(!is_inside_installer());
        let known = on_its_own(|| (0..100).into_par_iter().all(|_| is_inside_installer()));
        assert!(known.expect("there are threads"));
    }
}
