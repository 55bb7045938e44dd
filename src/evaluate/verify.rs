//! Checking a trace: does asking again what was asked then give the answers that were given then?
//!
//! Groups are checked in order, the members of one group together, and the next group only if this one holds. A
//! deterministic body that got the same answers to its first groups asks the next one, so checking never starts
//! work that the body would not have started. All traces of one key begin with the same group and branch where
//! the answers differ.

use crate::evaluate::{Reply, ask};
use crate::memo::Engine;
use crate::node::{Demand, Stale, World};

pub(super) enum Check {
    Holds,
    Pending(Vec<Demand>),
    Stale(Stale),
}

pub(super) fn check(db: &dyn Engine, world: &World) -> Check {
    db.table().note_width(world.deps.len());
    for group in world.groups() {
        let mut demands = Vec::new();
        let mut stale = None;
        for dep in group {
            let (dependency, was) = (dep.node(), dep.fingerprint());
            match ask(db, dependency) {
                Reply::Value(found) if found.fingerprint() == was => {}
                Reply::Value(found) => {
                    stale.get_or_insert(Stale::Changed { dependency, was, now: found.fingerprint() });
                }
                // A join ends at a failure that nothing pending precedes; what follows it would not be asked.
                Reply::Failed(_) if demands.is_empty() => {
                    return Check::Stale(stale.unwrap_or(Stale::Failed { dependency }));
                }
                Reply::Failed(_) => break,
                Reply::Pending(demand) => demands.push(demand),
            }
        }
        if !demands.is_empty() {
            return Check::Pending(demands);
        }
        if let Some(stale) = stale {
            return Check::Stale(stale);
        }
    }
    Check::Holds
}
