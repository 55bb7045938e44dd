//! The salsa database: what is memoized, and the inputs that can change it.
//!
//! Each node of the table is one salsa struct with one tracked function, [`crate::evaluate::evaluate`]. Salsa keeps the
//! answers, knows which answer read which, and re-evaluates no more than what changed. Everything that can change an
//! answer while a session lasts is one of three inputs:
//!
//! * [`Slot`]: the end of the work of an action, effect or observation. Created empty with low durability, filled
//!   with high durability: filling it leaves finished answers untouched and re-runs exactly those that wait.
//! * [`Directive`]: the planner's order to a node (run although a trace holds; fail, being part of a cycle).
//! * [`Attempt`]: read by failures that belong to no slot, such as a panic; moving it tries them again.
//!
use std::sync::Arc;

use doge_storage::Fingerprint;

use crate::answer::Answer;
use crate::node::{NodeData, NodeIndex};
use crate::spec::SpecName;
use crate::table::Table;

/// A node of the table, as salsa knows it.
///
/// It is an input that never changes. The table knows it by the node, so there is nothing to intern, and salsa never
/// recycles an input, so the scheduler can hold on to nodes.
#[salsa::input]
pub(crate) struct Memo {
    #[returns(copy)]
    pub(crate) node: NodeIndex,
}

/// Where the result of the work of an action, effect or observation is put.
#[salsa::input]
pub(crate) struct Slot {
    #[returns(ref)]
    pub(crate) outcome: Option<Arc<Outcome>>,
}

/// How work ended.
pub(crate) struct Outcome {
    pub(crate) answer: Answer,
    /// What the work reported to have read, with the values that make its result right.
    pub(crate) reads: Vec<(NodeIndex, Fingerprint)>,
}

/// What the planner told a node.
#[salsa::input]
pub(crate) struct Directive {
    #[returns(ref)]
    pub(crate) order: Order,
}

/// An order of the planner to one node.
#[derive(Clone)]
pub(crate) enum Order {
    /// Answer from a trace if one holds, else run.
    Free,
    /// Run, whatever the traces say.
    Run,
    /// It is part of this cycle.
    Cycle(Arc<[SpecName]>),
}

/// How often failures that no slot remembers have been taken back.
#[salsa::input(singleton)]
pub(crate) struct Attempt {
    #[returns(copy)]
    pub(crate) number: u64,
}

/// What evaluation sees of the database.
#[salsa::db]
pub(crate) trait Engine: salsa::Database {
    fn table(&self) -> &Table;
}

/// The database. The planner owns it; nobody else ever sees it.
#[salsa::db]
pub(crate) struct EngineDb {
    storage: salsa::Storage<Self>,
    table: Table,
}

#[salsa::db]
impl salsa::Database for EngineDb {}

#[salsa::db]
impl Engine for EngineDb {
    fn table(&self) -> &Table {
        &self.table
    }
}

impl EngineDb {
    pub(crate) fn new(table: Table) -> Self {
        let db = Self { storage: salsa::Storage::new(None), table };
        // A singleton: it is found again without its id.
        let _ = Attempt::builder(0).durability(salsa::Durability::HIGH).new(&db);
        db
    }

    /// Lets go of the room that salsa keeps for the dependencies of what is being evaluated.
    ///
    /// It is cleared after each evaluation, in time of its size and not of what was in it: after a node with 100,000
    /// dependencies each of them would pay for as many. A handle of its own has no room yet.
    pub(crate) fn renew_room(&mut self) {
        self.storage = self.storage.clone();
    }

    pub(crate) fn into_table(self) -> Table {
        self.table
    }
}

/// Salsa's struct for a node.
pub(crate) fn memo_of(db: &dyn Engine, node: NodeIndex) -> Memo {
    let table = db.table();
    if let Some(memo) = table.with(node, NodeData::memo) {
        return memo;
    }
    let memo = Memo::builder(node).durability(salsa::Durability::NEVER_CHANGE).new(db);
    table.change(node, |data| data.set_memo(memo));
    memo
}
