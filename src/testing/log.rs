//! A log of events, to assert what ran and not only what came out.

use std::sync::{Arc, PoisonError};

use crate::event::Event;
use crate::sync::{Mutex, MutexGuard};

/// Collects events. Clone it into [`crate::Builder::listener`] by [`EventLog::listener`].
#[derive(Clone, Default)]
pub struct EventLog(Arc<Mutex<Vec<Event>>>);

impl EventLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the engine is to call.
    pub fn listener(&self) -> impl Fn(&Event) + Send + Sync + use<> {
        let log = self.clone();
        move |event| log.events().push(event.clone())
    }

    fn events(&self) -> MutexGuard<'_, Vec<Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The events since the last time, in the order in which they happened.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events())
    }

    /// What ran to a value since the last time: queries, actions and effects. The log is cleared.
    pub fn take_executed(&self) -> Vec<String> {
        self.take()
            .into_iter()
            .filter_map(|event| match event {
                Event::DidExecute { spec, .. } | Event::DidRun { spec, .. } => Some(spec.to_string()),
                _ => None,
            })
            .collect()
    }

    /// What ran, verified, was observed and failed since the last time, a line each. The log is cleared.
    ///
    /// With more than one piece of work at a time the order of lines differs from run to run: sort them then.
    pub fn take_lines(&self) -> Vec<String> {
        self.take()
            .into_iter()
            .filter_map(|event| match event {
                Event::DidExecute { spec, cut_off, .. } => Some(format!("executed {spec}{}", cut(cut_off))),
                Event::DidRun { spec, cut_off, certain, .. } => {
                    Some(format!("ran {spec}{}{}", cut(cut_off), if certain { "" } else { " (not recorded)" }))
                }
                Event::DidVerify { spec } => Some(format!("verified {spec}")),
                Event::DidObserve { spec, changed, by_stamp } => Some(format!(
                    "observed {spec}{}{}",
                    if changed { " (changed)" } else { "" },
                    if by_stamp { " (by stamp)" } else { "" }
                )),
                Event::DidFail { spec, message } => Some(format!("failed {spec}: {message}")),
                Event::DidRetreat { spec, reason } => Some(format!("retreated {spec}: {reason:?}")),
                Event::DidCancel { spec } => Some(format!("cancelled {spec}")),
                _ => None,
            })
            .collect()
    }

    /// Asserts the lines of [`EventLog::take_lines`].
    #[track_caller]
    pub fn assert(&self, expected: &[&str]) {
        let lines = self.take_lines();
        assert_eq!(lines, expected, "what happened (left) is not what was expected (right)");
    }
}

fn cut(cut_off: bool) -> &'static str {
    if cut_off { " (cut off)" } else { "" }
}
