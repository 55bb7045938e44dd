//! The memory of a process that lives long: it does not grow with the number of its sessions.
//!
//! Each kind of life is led by a process of its own, which begins a session after the other, each in another world,
//! checks every answer, and measures what it holds after a tenth of them and at the end.
//!
//! `DOGE_MEMORY_SESSIONS` sets how many sessions that are; 10,000 take some minutes.

#![cfg(target_os = "linux")]

use std::fmt;
use std::process::Command;

use doge::testing::{Look, Script, Stepper, Work};
use doge::{AnyError, Database, Db, Epoch, Halt, Query, Spec};
use serde::{Deserialize, Serialize};

const LIFE: &str = "DOGE_MEMORY_LIFE";

/// Work on each of some variables, and their sum.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Sum {
    first: u64,
    variables: u64,
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sum from {}", self.first)
    }
}

impl Spec for Sum {
    const KIND: &'static str = "sum";
    const EPOCH: Epoch = Epoch::new(1, &[]);
}

impl Query for Sum {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        let seen =
            db.join(|join| (0..self.variables).map(|n| join.observe(&Look(format!("v{n}")))).collect::<Vec<_>>())?;
        let done = db.join(|join| {
            let work = (0..self.variables)
                .map(|n| join.act(&Work::new(&format!("w{n}"), self.first + n).reading(&format!("v{n}"))));
            work.collect::<Vec<_>>()
        })?;
        let seen: u64 = seen.iter().map(|value| value.unwrap_or(0)).sum();
        Ok(seen + done.iter().map(|value| **value).sum::<u64>())
    }
}

/// What changes from session to session, and whether there is a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// The values, of which there are ever new ones.
    Values { store: bool },
    /// The values and what is asked.
    Specs { store: bool },
    /// The world goes back and forth, and fails now and then.
    Returns { store: bool },
}

const LIVES: [Life; 6] = [
    Life::Values { store: false },
    Life::Values { store: true },
    Life::Specs { store: false },
    Life::Specs { store: true },
    Life::Returns { store: false },
    Life::Returns { store: true },
];

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is among it");
    line.trim().trim_end_matches(" kB").parse().expect("it is a number")
}

/// Lives, and says how much memory it held after a tenth of its sessions and at the end, in kB.
fn live(life: Life, sessions: u64) -> (u64, u64) {
    const VARIABLES: u64 = 8;
    let script = Script::new();
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let (Life::Values { store } | Life::Specs { store } | Life::Returns { store }) = life;
    let mut builder =
        Database::builder().query::<Sum>().action::<Work>().observation::<Look>().resource(script.clone());
    if store {
        // What redb keeps of the file is no more than this, and grows to it.
        builder = builder.store(directory.path()).store_memory(1 << 20);
    }
    let mut engine = Stepper::new(builder);
    let mut early = 0;
    for session in 0..sessions {
        let value = if matches!(life, Life::Returns { .. }) { session % 5 } else { session };
        let broken = matches!(life, Life::Returns { .. }) && session % 7 == 3;
        for n in 0..VARIABLES {
            script.set(&format!("v{n}"), value + n);
        }
        if broken {
            script.break_it("v3");
        }
        engine.refresh();
        // How much waits to be written is a matter of how fast the disk is, and not of how long the process lives.
        engine.wait_until_written();
        let first = if matches!(life, Life::Specs { .. }) { session } else { 0 };
        let answer = engine.get(&Sum { first, variables: VARIABLES });
        let expected: u64 = (0..VARIABLES).map(|n| 2 * (value + n) + first + n).sum();
        assert_eq!(answer.ok().map(|answer| *answer), (!broken).then_some(expected), "in session {session}");
        if session + 1 == sessions / 10 {
            early = resident();
        }
    }
    (early, resident())
}

#[test]
fn memory_does_not_grow_with_sessions() {
    let sessions = std::env::var("DOGE_MEMORY_SESSIONS").ok().and_then(|number| number.parse().ok()).unwrap_or(1_000);
    if let Some(life) = std::env::var(LIFE).ok().and_then(|place| LIVES.get(place.parse::<usize>().ok()?)) {
        let (early, late) = live(*life, sessions);
        let allowed = early + early / 10 + 1_024;
        assert!(late <= allowed, "{life:?}: {early} kB after a tenth, {late} kB after {sessions} sessions");
        return;
    }
    let program = std::env::current_exe().expect("a program knows where it is");
    let children: Vec<_> = (0..LIVES.len())
        .map(|place| {
            let mut command = Command::new(&program);
            command.args(["memory_does_not_grow_with_sessions", "--exact", "--nocapture"]).env(LIFE, place.to_string());
            command.output().expect("this program can be started again")
        })
        .collect();
    let failed: Vec<String> = children
        .iter()
        .filter(|child| !child.status.success())
        .map(|child| String::from_utf8_lossy(&child.stderr).into_owned())
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
