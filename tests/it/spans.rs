//! Spans: each spec that is worked on is one, if somebody listens.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use doge::testing::{EventLog, Script, Work};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::kinds::{All, stepper};

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

fn told(level: tracing::Level) -> String {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .without_time()
        .with_span_events(FmtSpan::CLOSE)
        .with_writer(lines.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        let (script, log) = (Script::new(), EventLog::new());
        script.set("v", 1);
        let mut engine = stepper(&script, &log);
        assert!(engine.get(&All(vec![Work::new("w", 1).reading("v"), Work::new("x", 1)])).is_ok());
    });
    let bytes = lines.0.lock().expect("nobody panics with it").clone();
    String::from_utf8(bytes).expect("it is text")
}

#[test]
fn queries_actions_and_observations_have_spans_with_kind_key_label_and_outcome() {
    let told = told(tracing::Level::TRACE);
    let has = |parts: &[&str]| told.lines().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(has(&["query{", "spec=all of 2", "outcome=\"executed\"", "key="]), "{told}");
    assert!(has(&["query{", "spec=all of 2", "outcome=\"pending\""]), "{told}");
    assert!(has(&["work{", "what=\"action\"", "kind=\"work\"", "spec=work(x 1)", "outcome=\"executed\""]), "{told}");
}

#[test]
fn who_listens_to_work_only_hears_of_no_query() {
    let told = told(tracing::Level::DEBUG);
    assert!(told.contains("spec=work(x 1)") && !told.contains("query{"), "{told}");
}
