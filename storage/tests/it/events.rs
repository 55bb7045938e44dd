//! What a store said while a test used it.

use std::path::Path;
use std::sync::{Arc, Mutex, Once};

use doge_storage::{Store, StoreEvent, StoreOptions};

/// Hears what stores say.
#[derive(Clone, Default)]
pub(crate) struct Events(Arc<Mutex<Vec<StoreEvent>>>);

impl Events {
    /// What was said since this was last asked.
    pub(crate) fn take(&self) -> Vec<StoreEvent> {
        std::mem::take(&mut self.0.lock().expect("no listener panics"))
    }

    /// Options with these ears.
    pub(crate) fn options(&self, directory: &Path) -> StoreOptions {
        quiet();
        let events = self.0.clone();
        let mut options = StoreOptions::new(directory);
        options.listener = Some(Arc::new(move |event| events.lock().expect("no listener panics").push(event)));
        options
    }

    /// Opens a store that must have nothing to say.
    #[track_caller]
    pub(crate) fn assert_silent(&self) {
        assert_eq!(self.take(), []);
    }
}

/// Opens a store, with what it says.
pub(crate) fn open(directory: &Path) -> (Store, Events) {
    let events = Events::default();
    (Store::open(events.options(directory)), events)
}

/// The panics that redb makes out of damage are expected; printing a thousand of them would hide the others.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !doge_storage::is_inside_store() {
                default(panic);
            }
        }));
    });
}
