//! A reporter that writes down what it is told.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::reporters::OperationId;

/// A reporter for tests: writes down the tree of all operations and what became of each.
#[derive(Debug, Default)]
pub struct EventReporter {
    tree: Mutex<Tree>,
}

#[derive(Debug, Default)]
struct Tree {
    operations: Vec<Operation>,
}

#[derive(Debug)]
struct Operation {
    id: OperationId,
    within: Option<OperationId>,
    name: String,
    notes: Vec<String>,
}

impl EventReporter {
    pub(crate) fn put(&self, id: OperationId, within: Option<OperationId>, sort: &str, spec: &impl fmt::Display) {
        let operation = Operation { id, within, name: format!("{sort}: {spec}"), notes: Vec::new() };
        self.tree(|tree| tree.operations.push(operation));
    }

    pub(crate) fn note(&self, id: OperationId, note: &str) {
        self.tree(|tree| {
            if let Some(operation) = tree.operations.iter_mut().find(|operation| operation.id == id) {
                operation.notes.push(note.to_owned());
            }
        });
    }

    fn tree<T>(&self, work: impl FnOnce(&mut Tree) -> T) -> T {
        work(&mut self.tree.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The tree, one operation a line with what became of it, each below the one it was within. Beside each other they are
    /// sorted by name, so that the same work gives the same text.
    pub fn render(&self) -> String {
        self.tree(|tree| tree.render(None, 0))
    }

    /// What was told in a wrong order, in words; empty if each operation was queued, started and finished once, in this order.
    pub fn violations(&self) -> Vec<String> {
        let is_end = |note: &&String| ["finished", "failed", "cancelled", "retreated"].contains(&note.as_str());
        self.tree(|tree| {
            let wrong = tree.operations.iter().filter(|operation| {
                let notes = &operation.notes;
                let starts = notes.iter().filter(|note| *note == "started").count();
                let ends = notes.iter().filter(is_end).count();
                (starts, ends) != (1, 1)
                    || notes.first().is_none_or(|note| note != "started")
                    || !notes.last().as_ref().is_some_and(is_end)
            });
            wrong.map(|operation| format!("{}: {}", operation.name, operation.notes.join(", "))).collect()
        })
    }
}

impl Tree {
    fn render(&self, within: Option<OperationId>, depth: usize) -> String {
        let inside = self.operations.iter().filter(|operation| operation.within == within);
        let mut parts: Vec<String> = inside
            .map(|operation| {
                let indent = "  ".repeat(depth);
                let line = format!("{indent}{} ({})\n", operation.name, operation.notes.join(", "));
                line + &self.render(Some(operation.id), depth + 1)
            })
            .collect();
        parts.sort();
        parts.concat()
    }
}
