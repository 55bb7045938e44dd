//! What a collection, or damage, took from the store is made again, and nobody sees more of it than work. [K]

use std::fmt;
use std::path::Path;

use doge::storage::{Batch, Store, StoreOptions};
use doge::testing::{EventLog, Look, Script, Stepper};
use doge::{
    Action, ActionContext, AnyError, Database, Db, Epoch, Fingerprint, Halt, Intern, Interned, Query, Resource, Spec,
    names_in,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Text(String);

impl Intern for Text {
    const NAME: &'static str = "text";
}

/// What an action that does not find its text fails with.
#[derive(Clone, Debug)]
struct Lost;

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the text is lost")
    }
}

impl std::error::Error for Lost {}

macro_rules! spec {
    ($spec:ident, $kind:literal, $($field:ident: $type:ty),*) => {
        #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        struct $spec { $($field: $type),* }

        impl fmt::Display for $spec {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($kind)
            }
        }

        impl Spec for $spec {
            const KIND: &'static str = $kind;
            const EPOCH: Epoch = Epoch::new(1, &[]);
        }
    };
}

spec!(MakeText, "make_text", length: usize);
spec!(Measure, "measure", text: Interned<Text>, times: u64);
spec!(Inner, "inner", text: Interned<Text>, in_body: bool);
spec!(Outer, "outer", length: usize, in_body: bool);

impl Action for MakeText {
    type Output = Interned<Text>;
    type Error = Lost;
    const RESOURCE: Resource = Resource::Cpu;

    async fn run(&self, ctx: &ActionContext) -> Result<Interned<Text>, Lost> {
        ctx.intern(Text("x".repeat(self.length))).map_err(|_| Lost)
    }
}

impl Action for Measure {
    type Output = u64;
    type Error = Lost;
    const RESOURCE: Resource = Resource::Cpu;

    async fn run(&self, ctx: &ActionContext) -> Result<u64, Lost> {
        let text = ctx.value(&self.text).await.ok_or(Lost)?;
        Ok(text.0.len() as u64 * self.times)
    }
}

/// Depends on the variable `v`; reads the text in its own body or has an action read it.
impl Query for Inner {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        let times = db.observe(&Look("v".to_owned()))?.unwrap_or(0);
        if self.in_body {
            return Ok(db.value(&self.text)?.0.len() as u64 * times);
        }
        Ok(*db.act(&Measure { text: self.text.clone(), times })?)
    }
}

impl Query for Outer {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        let text = db.act(&MakeText { length: self.length })?;
        Ok(*db.get(&Inner { text: Interned::clone(&text), in_body: self.in_body })? + 1)
    }
}

fn open(directory: &Path, script: &Script, log: &EventLog) -> Stepper {
    let builder = Database::builder()
        .query::<Inner>()
        .query::<Outer>()
        .action::<MakeText>()
        .action::<Measure>()
        .observation::<Look>()
        .resource(script.clone())
        .listener(log.listener())
        .store(directory);
    Stepper::new(builder)
}

/// A copy of a store without one value.
fn copy_without(from: &Path, to: &Path, keys: &[doge::Key], lost: Fingerprint) {
    let snapshot = Store::open(StoreOptions::new(from)).snapshot();
    let mut batch = Batch::default();
    for key in keys {
        batch.specs.extend(snapshot.spec(*key).map(|spec| (*key, spec)));
        for trace in snapshot.traces(*key) {
            let values = trace.groups.iter().flatten().map(|dependency| dependency.fingerprint).chain([trace.value]);
            for value in values {
                let Some(bytes) = snapshot.value(value) else { continue };
                for named in names_in(&bytes).into_iter().filter(|named| *named != lost) {
                    let bytes = snapshot.value(named).expect("the run has kept it");
                    batch.values.insert(named, bytes.into());
                }
                batch.values.insert(value, bytes.into());
            }
            batch.traces.push((*key, trace));
        }
    }
    batch.values.remove(&lost);
    Store::open(StoreOptions::new(to)).commit(batch);
}

/// [K4] A store that is found damaged in the middle of a run is replaced by one that has all that the run stands on, also what
/// it found in the old one before.
#[test]
fn what_a_run_stands_on_is_in_the_store_that_replaces_a_damaged_one() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let (script, log) = (Script::new(), EventLog::new());
    script.set("v", 2);
    let [one, two] = [3, 4].map(|length| Outer { length, in_body: false });
    let run = |also: Option<&Outer>, damage: bool| {
        log.take();
        let mut engine = open(directory.path(), &script, &log);
        assert_eq!(*engine.get(&one).expect("nothing fails"), 7);
        let file = directory.path().join("store-v3/store.redb");
        if damage {
            let size = std::fs::metadata(&file).expect("there is one").len() as usize;
            std::fs::write(&file, vec![0x5a; size]).expect("it can be written");
        }
        if let Some(two) = also {
            assert_eq!(*engine.get(two).expect("nothing fails"), 9);
        }
        engine.close();
        log.take_executed().len()
    };
    assert_eq!((run(None, false), run(None, false)), (4, 0));
    assert_eq!(run(Some(&two), true), 4);
    assert_eq!(run(Some(&two), false), 0, "the first was found in the old file only");
}

/// [K4] Whoever needs a value that is gone has it made again, whether a body reads it or an action, and whether its name
/// comes from a result or from a spec that only the store knows.
#[test]
fn an_interned_value_that_the_store_has_lost_is_made_again_when_something_needs_it() {
    for in_body in [true, false] {
        let script = Script::new();
        let log = EventLog::new();
        let [whole, holed] = [(); 2].map(|()| tempfile::tempdir().expect("a temporary directory can be made"));
        script.set("v", 2);
        let outer = Outer { length: 5000, in_body };
        let mut engine = open(whole.path(), &script, &log);
        assert_eq!(*engine.get(&outer).expect("nothing fails"), 10_001);
        let record = engine.close();
        let keys: Vec<doge::Key> = record.specs.iter().map(|spec| spec.key).collect();
        let snapshot = Store::open(StoreOptions::new(whole.path())).snapshot();
        let made = record.specs.iter().find(|spec| spec.name == "make_text").and_then(|spec| spec.value);
        let made = snapshot.value(made.expect("it ran")).expect("it is kept");
        let [text] = names_in(&made)[..] else { panic!("it names one text") };
        assert!(snapshot.contains_value(text));
        copy_without(whole.path(), holed.path(), &keys, text);
        assert!(!Store::open(StoreOptions::new(holed.path())).snapshot().contains_value(text));
        log.take();

        // Nobody needs it: nothing runs.
        let mut engine = open(holed.path(), &script, &log);
        assert_eq!(*engine.get(&outer).expect("nothing fails"), 10_001);
        engine.close();
        assert_eq!(log.take_executed(), Vec::<String>::new());

        // Something is to be worked out from it: it is made again, and nothing fails.
        script.set("v", 3);
        let mut engine = open(holed.path(), &script, &log);
        assert_eq!(*engine.get(&outer).expect("what was lost is made again"), 15_001, "in a body: {in_body}");
        engine.close();
        assert!(log.take_executed().contains(&"make_text".to_owned()));
        let snapshot = Store::open(StoreOptions::new(holed.path())).snapshot();
        assert!(snapshot.contains_value(text), "and it is there again");
    }
}

/// [K3] A value that only an interned name leads to stays as long as the name does.
#[test]
fn what_specs_and_results_name_stays_as_long_as_they_do() {
    let script = Script::new();
    let log = EventLog::new();
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    script.set("v", 2);
    let outer = Outer { length: 700, in_body: false };
    let mut engine = open(directory.path(), &script, &log);
    engine.get(&outer).expect("nothing fails");
    engine.close();
    let mut options = StoreOptions::new(directory.path());
    options.names = names_in;
    let store = Store::open(options);
    let collected = store.collect(&doge::storage::Collection::default()).expect("nobody writes");
    assert!(collected.alone, "a closed engine is not at work");
    assert_eq!(collected.removed().count, 0, "{collected:?}");
    log.take();
    script.set("v", 3);
    let mut engine = open(directory.path(), &script, &log);
    assert_eq!(*engine.get(&outer).expect("nothing fails"), 2101);
    engine.close();
    assert!(!log.take_executed().contains(&"make_text".to_owned()));
}
