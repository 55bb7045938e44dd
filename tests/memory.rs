//! How much memory a query takes: a test of its own, for it counts what the whole process allocates.

#![expect(clippy::print_stdout, reason = "the figures are there to be looked at, with `--nocapture`")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt;
use std::sync::atomic::{AtomicIsize, Ordering};

use doge::{AnyError, Database, Db, Epoch, Halt, Query, Spec};
use serde::{Deserialize, Serialize};

/// The system's allocator, and how many bytes are in use.
struct Counting;

static IN_USE: AtomicIsize = AtomicIsize::new(0);

fn count(bytes: usize, sign: isize) {
    // Only a sum, read when everything is at rest.
    IN_USE.fetch_add(sign * bytes as isize, Ordering::Relaxed);
}

#[expect(unsafe_code, reason = "there is no other way to count what is allocated")]
// SAFETY: every call is passed on as it is to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A pure query: its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Pure(u64);

/// Asks for so many pure queries, from a number on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Many(u64, u64);

impl fmt::Display for Pure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl fmt::Display for Many {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Spec for Pure {
    const KIND: &'static str = "pure";
    const EPOCH: Epoch = Epoch::new(1, &[]);
}

impl Spec for Many {
    const KIND: &'static str = "many";
    const EPOCH: Epoch = Epoch::new(1, &[]);
}

impl Query for Pure {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, _db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        Ok(self.0)
    }
}

impl Query for Many {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        let Many(from, count) = *self;
        let all = db.join(|join| (from..from + count).map(|n| join.get(&Pure(n))).collect::<Vec<_>>())?;
        Ok(all.iter().map(|n| **n).sum())
    }
}

#[test]
fn a_pure_query_takes_less_than_300_bytes_beyond_its_spec_and_its_value() {
    const COUNT: u64 = 100_000;
    /// A spec and a value are shared: each is an allocation with two counts and a number.
    const SPEC_AND_VALUE: f64 = 2.0 * 24.0;
    /// Whoever asks notes which node, and the fingerprint of the answer.
    const DEPENDENCY: f64 = 36.0;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
    let database = Database::builder().runtime(runtime.handle().clone()).build().expect("threads");
    let ask = |many| *runtime.block_on(database.get(&many)).expect("nothing fails");
    // What is set up once is no matter of each query.
    ask(Many(0, 10));
    let before = IN_USE.load(Ordering::Relaxed);
    assert_eq!(ask(Many(10, COUNT)), (10..COUNT + 10).sum::<u64>());
    let each = (IN_USE.load(Ordering::Relaxed) - before) as f64 / COUNT as f64;
    let beyond = each - SPEC_AND_VALUE;
    println!(
        "{each:.0} bytes in all, {beyond:.0} beyond spec and value, {:.0} without the asker's",
        beyond - DEPENDENCY
    );
    assert!(beyond < 300.0, "{beyond:.0} bytes");
}
