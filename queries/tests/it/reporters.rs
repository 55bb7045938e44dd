//! What reporters are told.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use doge_queries::backend::{MemoryBackend, MemoryQuestion};
use doge_queries::environment::LockMode;
use doge_queries::reporters::Reporters;
use doge_queries::testing::{EventReporter, Passthrough};
use expect_test::expect;
use serde_json::Value;
use tempfile::TempDir;

use crate::memory::{Failing, opened, workspace, write};

fn site() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("it can be made");
    let root = fs::canonicalize(directory.path()).expect("it is there");
    workspace(&root);
    (directory, root)
}

/// Installs the workspace, which works or does not, with somebody who is told of everything.
async fn installed(root: &Path, backend: impl MemoryBackend, works: bool) -> Arc<EventReporter> {
    let reporter = Arc::new(EventReporter::default());
    let (database, spec) = opened(root, backend, Reporters::from(reporter.clone()));
    assert_eq!(database.get(&spec).await.is_ok(), works);
    assert!(database.close().await.is_ok());
    reporter
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_are_told_as_a_tree_and_what_held_is_none() {
    let (_directory, root) = site();
    let reporter = installed(&root, Passthrough::default(), true).await;
    expect![[r#"
        pixi_install: install default@linux-64 (started, finished)
          fetch: a 1.0 (started, finished)
          link: link prefix .pixi/envs/default (started, finished)
        pixi_solve: records for default@linux-64 (started, finished)
          conda_solve: solve default@linux-64 (started, finished)
        source_build: package a (started, finished)
          backend_build: build a 1.0 0 (started, output `packaging ROOT/a`, finished)
        source_metadata: `a` of a (started, finished)
          build_backend_metadata: packages of a (started, finished)
            call_outputs: ask for the packages of a (started, finished)
    "#]]
    .assert_eq(&reporter.render().replace(&*root.to_string_lossy(), "ROOT"));
    assert_eq!(reporter.violations(), Vec::<String>::new());

    let reporter = installed(&root, Passthrough::default(), true).await;
    assert_eq!(reporter.render(), "", "everything held");

    write(&root, "a/content/share/a.txt", "two\n");
    tokio::time::sleep(Duration::from_millis(60)).await;
    let reporter = installed(&root, Passthrough::default(), true).await;
    expect![[r#"
        pixi_install: install default@linux-64 (started, finished)
          fetch: a 1.0 (started, finished)
          link: link prefix .pixi/envs/default (started, finished)
        source_build: package a (started, finished)
          backend_build: build a 1.0 0 (started, output `packaging ROOT/a`, finished)
        source_metadata: `a` of a (started, finished)
          build_backend_metadata: packages of a (started, finished)
            call_outputs: ask for the packages of a (started, finished)
    "#]]
    .assert_eq(&reporter.render().replace(&*root.to_string_lossy(), "ROOT"));
}

/// The same with what is locked, as if on another machine.
async fn installed_as_locked(root: &Path, backend: impl MemoryBackend, works: bool) -> Arc<EventReporter> {
    for directory in ["cache", ".pixi"] {
        fs::remove_dir_all(root.join(directory)).expect("it is there");
    }
    let reporter = Arc::new(EventReporter::default());
    let (database, mut spec) = opened(root, backend, Reporters::from(reporter.clone()));
    spec.lock.mode = LockMode::Frozen;
    assert_eq!(database.get(&spec).await.is_ok(), works);
    assert!(database.close().await.is_ok());
    assert_eq!(reporter.violations(), Vec::<String>::new());
    reporter
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_looked_at_as_it_is_locked_is_told_whether_it_can_be_had_or_not() {
    let (_directory, root) = site();
    installed(&root, Passthrough::default(), true).await;
    let reporter = installed_as_locked(&root, Passthrough::default(), true).await;
    expect![[r#"
        pixi_install: install default@linux-64 (started, finished)
          fetch: a 1.0 (started, finished)
          link: link prefix .pixi/envs/default (started, finished)
        source_as_locked: `a` as it is locked (started, finished)
          build_backend_metadata: packages of a (started, finished)
            call_outputs: ask for the packages of a (started, finished)
        source_build: package a (started, finished)
          backend_build: build a 1.0 0 (started, output `packaging ROOT/a`, finished)
    "#]]
    .assert_eq(&reporter.render().replace(&*root.to_string_lossy(), "ROOT"));
    let reporter = installed_as_locked(&root, Failing(|| Err("no such thing".to_owned())), false).await;
    expect![[r#"
        source_as_locked: `a` as it is locked (started, failed)
          build_backend_metadata: packages of a (started, failed)
            call_outputs: ask for the packages of a (started, failed)
    "#]]
    .assert_eq(&reporter.render().replace(&*root.to_string_lossy(), "ROOT"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_fails_is_finished_and_so_are_those_around_it() {
    let (_directory, root) = site();
    let reporter = installed(&root, Failing(|| Err("no such thing".to_owned())), false).await;
    expect![[r#"
        source_metadata: `a` of a (started, failed)
          build_backend_metadata: packages of a (started, failed)
            call_outputs: ask for the packages of a (started, failed)
    "#]]
    .assert_eq(&reporter.render().replace(&*root.to_string_lossy(), "ROOT"));
    assert_eq!(reporter.violations(), Vec::<String>::new());
}

/// One that says when it is at work on what it is asked by this method, and is so until it is told to end.
struct Slow {
    method: &'static str,
    inner: Passthrough,
    works: Arc<AtomicBool>,
    may_end: Arc<AtomicBool>,
}

impl MemoryBackend for Slow {
    fn identity(&self) -> String {
        "slow".to_owned()
    }

    fn answer(&self, question: &MemoryQuestion<'_>) -> Result<Value, String> {
        if question.method == self.method {
            self.works.store(true, Ordering::SeqCst);
            while !self.may_end.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        self.inner.answer(question)
    }
}

/// Withdraws the request when the backend is at work on what it is asked by this method.
async fn withdrawn(root: &Path, mode: LockMode, method: &'static str) -> String {
    let reporter = Arc::new(EventReporter::default());
    let (works, may_end) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let slow = Slow { method, inner: Passthrough::default(), works: works.clone(), may_end: may_end.clone() };
    let (database, mut spec) = opened(root, slow, Reporters::from(reporter.clone()));
    spec.lock.mode = mode;
    let request = tokio::spawn({
        let database = database.clone();
        async move { database.get(&spec).await.is_ok() }
    });
    let began = Instant::now();
    while !works.load(Ordering::SeqCst) {
        assert!(began.elapsed() < Duration::from_secs(30), "it never came to that");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    request.abort();
    assert!(request.await.is_err());
    // The withdrawal is on its way to the planner; what is asked afterwards is answered after it. Before, the work may not end.
    assert!(database.counts().await.is_ok());
    may_end.store(true, Ordering::SeqCst);
    assert_eq!(reporter.violations(), Vec::<String>::new());
    assert!(database.close().await.is_ok());
    reporter.render()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_nobody_needs_any_more_is_finished_and_so_are_those_around_it() {
    let (_directory, root) = site();
    let told = withdrawn(&root, LockMode::Satisfy, "conda/build_v1").await;
    assert!(told.contains("backend_build: build a 1.0 0 (started, cancelled)"), "{told}");
    assert!(told.contains("source_build: package a (started, cancelled)"), "{told}");
    write(&root, "a/content/share/a.txt", "two\n");
    tokio::time::sleep(Duration::from_millis(60)).await;
    let told = withdrawn(&root, LockMode::Frozen, "conda/outputs").await;
    assert!(told.contains("source_as_locked: `a` as it is locked (started, cancelled)"), "{told}");
    assert!(told.contains("call_outputs: ask for the packages of a (started, cancelled)"), "{told}");
}
