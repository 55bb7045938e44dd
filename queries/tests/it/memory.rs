//! Backends that are no processes.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use doge_queries::backend::{MemoryBackend, MemoryBackends, MemoryQuestion};
use doge_queries::build::BackendOverrides;
use doge_queries::doge::{Database, Root, RunRecord};
use doge_queries::environment::{
    BuildOptions, InstallWorkspaceEnvironmentSpec, LockFileSpec, LockMode, LockWorkspaceSpec, ManifestText, Only,
};
use doge_queries::prefix::PrefixStateSpec;
use doge_queries::reporters::Reporters;
use doge_queries::testing::Passthrough;
use doge_queries::workspace::{LOCK_FILE, ManifestOptions};
use doge_queries::{CacheDirs, DatabaseOptions, Problem};
use rattler_conda_types::Subdir;
use serde_json::Value;

pub(crate) fn write(root: &Path, inside: &str, text: &str) {
    let path = root.join(inside);
    fs::create_dir_all(path.parent().expect("it is inside")).expect("it can be made");
    fs::write(path, text).expect("it can be written");
}

/// A workspace that needs a package that lies in it.
pub(crate) fn workspace(root: &Path) {
    write(
        root,
        "pixi.toml",
        "[workspace]\nchannels = []\nplatforms = ['linux-64']\npreview = ['pixi-build']\n[dependencies]\na = { path = 'a' }\n",
    );
    write(
        root,
        "a/pixi.toml",
        "[package]\nname = 'a'\nversion = '1.0'\n[package.build]\nbackend = { name = 'passthrough', version = '*' }\n",
    );
    write(root, "a/content/share/a.txt", "one\n");
    // What was written within the last tick of the clock is used and not recorded.
    std::thread::sleep(std::time::Duration::from_millis(60));
}

/// A database as a program has it that brings its own backend, and what it asks to have the workspace installed.
pub(crate) fn opened(
    root: &Path,
    backend: impl MemoryBackend,
    reporters: Reporters,
) -> (Database, InstallWorkspaceEnvironmentSpec) {
    let mut options = DatabaseOptions::new(root, CacheDirs::below(&root.join("cache")));
    options.memory_backends = MemoryBackends::default().with("passthrough", backend);
    options.reporters = reporters;
    let overrides = BackendOverrides { memory: options.memory_backends.identities(), ..BackendOverrides::default() };
    let database = options.builder().expect("it can be made").title("test").build().expect("it can be made");
    let text = fs::read_to_string(root.join("pixi.toml")).expect("it is there");
    let manifest = ManifestText::new("pixi.toml", &text, &ManifestOptions::default());
    let spec = InstallWorkspaceEnvironmentSpec {
        lock: LockWorkspaceSpec {
            manifest: database.intern(manifest).expect("it can be named"),
            lock_file: LockFileSpec { path: LOCK_FILE.to_owned() },
            mode: LockMode::Satisfy,
            only: Only::default(),
            offline: true,
            build: BuildOptions { overrides, pass_env: Vec::new() },
        },
        environment: "default".to_owned(),
        platform: "linux-64".to_owned(),
        subdir: Subdir::Linux64,
        prefix: PrefixStateSpec { root: Root::Workspace, path: ".pixi/envs/default".to_owned() },
        options: Default::default(),
        link_scripts: false,
        force: None,
    };
    (database, spec)
}

/// Installs the workspace.
async fn install(root: &Path, backend: impl MemoryBackend) -> Result<RunRecord, String> {
    let (database, spec) = opened(root, backend, Reporters::default());
    let installed = database.get(&spec).await;
    let installed = installed.map_err(|failure| format!("{:?}", miette::Report::new(Problem::new(failure))));
    let record = database.close().await.expect("it ends in good order");
    installed.map(|_| record)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_in_this_program_builds_as_any_other_and_is_asked_only_when_something_changed() {
    let root = tempfile::tempdir().expect("it can be made");
    let root = fs::canonicalize(root.path()).expect("it is there");
    workspace(&root);
    let backend = Passthrough::default();
    install(&root, backend.clone()).await.expect("it is installed");
    assert_eq!(backend.asked().1, 1);
    assert_eq!(fs::read_to_string(root.join(".pixi/envs/default/share/a.txt")).expect("it is there"), "one\n");
    assert!(!root.join(".pixi/doge/running").exists(), "no process was started");
    let record = install(&root, backend.clone()).await.expect("it is installed");
    assert_eq!((backend.asked().1, record.counts.executed.len()), (1, 0), "{:?}", record.counts.executed);
    write(&root, "a/content/share/a.txt", "two\n");
    std::thread::sleep(std::time::Duration::from_millis(60));
    install(&root, backend.clone()).await.expect("it is installed");
    assert_eq!(backend.asked().1, 2);
    assert_eq!(fs::read_to_string(root.join(".pixi/envs/default/share/a.txt")).expect("it is there"), "two\n");
}

/// One that says to be another than the last.
struct Other(Passthrough);

impl MemoryBackend for Other {
    fn identity(&self) -> String {
        "another".to_owned()
    }

    fn answer(&self, question: &MemoryQuestion<'_>) -> Result<Value, String> {
        self.0.answer(question)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_in_this_program_of_another_identity_builds_anew() {
    let root = tempfile::tempdir().expect("it can be made");
    let root = fs::canonicalize(root.path()).expect("it is there");
    workspace(&root);
    install(&root, Passthrough::default()).await.expect("it is installed");
    let other = Other(Passthrough::default());
    let asked = other.0.clone();
    install(&root, other).await.expect("it is installed");
    assert_eq!(asked.asked().1, 1);
}

/// One that fails.
pub(crate) struct Failing(pub(crate) Answer);

pub(crate) type Answer = fn() -> Result<Value, String>;

impl MemoryBackend for Failing {
    fn identity(&self) -> String {
        "failing".to_owned()
    }

    fn answer(&self, _: &MemoryQuestion<'_>) -> Result<Value, String> {
        (self.0)()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_in_this_program_that_fails_is_named() {
    let cases: [(Answer, &str); 3] = [
        (|| Err("no such thing".to_owned()), "no such thing"),
        (|| panic!("it is broken"), "ended before it answered"),
        (|| Ok(Value::Null), "in a shape that is not the protocol's"),
    ];
    for (answer, said) in cases {
        let root = tempfile::tempdir().expect("it can be made");
        let root = fs::canonicalize(root.path()).expect("it is there");
        workspace(&root);
        let error = install(&root, Failing(answer)).await.expect_err("it fails");
        let words = error.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
        assert!(words.contains(said) && words.contains("passthrough"), "{error}");
    }
}

/// One that goes on when nobody waits for it any more, and knows how many builds it makes at once.
#[derive(Clone, Default)]
struct Stubborn {
    passthrough: Passthrough,
    building: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl MemoryBackend for Stubborn {
    fn identity(&self) -> String {
        "stubborn".to_owned()
    }

    fn answer(&self, question: &MemoryQuestion<'_>) -> Result<Value, String> {
        if question.method == "conda/outputs" {
            return self.passthrough.answer(question);
        }
        let building = self.building.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(building, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(300));
        let answer = self.passthrough.answer(question);
        self.building.fetch_sub(1, Ordering::SeqCst);
        answer
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_waits_for_the_end_of_one_that_nobody_waits_for_any_more() {
    let root = tempfile::tempdir().expect("it can be made");
    let root = fs::canonicalize(root.path()).expect("it is there");
    workspace(&root);
    let backend = Stubborn::default();
    let (database, spec) = opened(&root, backend.clone(), Reporters::default());
    let begun = async {
        while backend.building.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        installed = database.get(&spec) => panic!("it cannot be done yet: {}", installed.is_ok()),
        () = begun => {}
    }
    assert!(database.get(&spec).await.is_ok());
    assert_eq!(backend.passthrough.asked().1, 2);
    assert_eq!(backend.most.load(Ordering::SeqCst), 1, "both wrote to one directory at once");
    database.close().await.expect("it ends in good order");
}
