//! Spans: each spec that is worked on is one, if somebody listens.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use doge::testing::{Look, Script, Stepper, Work};
use doge::{AnyError, Database, Db, Epoch, Halt, Query, Spec};
use serde::{Deserialize, Serialize};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;

/// What some work comes to together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Sum(Vec<Work>);

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sum of {}", self.0.len())
    }
}

impl Spec for Sum {
    const KIND: &'static str = "sum";
    const EPOCH: Epoch = Epoch::new(1, &[]);

    fn label(&self) -> Option<String> {
        Some("sum".to_owned())
    }
}

impl Query for Sum {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        let parts = db.join(|join| self.0.iter().map(|work| join.act(work)).collect::<Vec<_>>())?;
        Ok(parts.iter().map(|part| **part).sum())
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panics with it").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Lines {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

/// Alone in its process: who listens in one thread only is not heard of by others.
#[test]
fn queries_and_actions_have_spans_with_kind_key_label_and_outcome() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .without_time()
        .with_span_events(FmtSpan::CLOSE)
        .with_writer(lines.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).expect("nobody else listens");
    let script = Script::new();
    script.set("v", 1);
    let builder = Database::builder().query::<Sum>().action::<Work>().observation::<Look>().resource(script);
    let mut engine = Stepper::new(builder);
    assert!(engine.get(&Sum(vec![Work::new("w", 1).reading("v"), Work::new("x", 1)])).is_ok());
    let bytes = lines.0.lock().expect("nobody panics with it").clone();
    let told = String::from_utf8(bytes).expect("it is text");
    let has = |parts: &[&str]| told.lines().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(
        has(&["query{", "kind=\"sum\"", "spec=sum of 2", "label=\"sum\"", "key=", "outcome=\"executed\""]),
        "{told}"
    );
    assert!(has(&["query{", "spec=sum of 2", "outcome=\"pending\""]), "{told}");
    assert!(has(&["work{", "what=\"action\"", "kind=\"work\"", "spec=work(x 1)", "outcome=\"executed\""]), "{told}");
}
