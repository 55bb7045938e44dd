//! Running backends, shared by those who ask the same one.
//!
//! A backend can be told only once what it is about, so there is one process for each package, and it is kept for the
//! next question about it. Never more than a few are kept.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use doge::{ActionContext, Fingerprint};
use rattler_conda_types::Subdir;
use rattler_shell::activation::{ActivationVariables, Activator};
use rattler_shell::shell::ShellEnum;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::backend::error::{BackendError, Complaint, LastOutput};
use crate::backend::memory::{MemoryBackend, MemoryBackends, MemoryQuestion};
use crate::backend::process::{Launch, Listener, Process, Program, Running, redacted, secret_lines, told_by};
use crate::backend::protocol::{Initialize, Negotiated};

/// Variables that every backend gets to see, if they are set. None of them is taken to alter what is built.
pub const PASSED_ON: [&str; 24] = [
    "HOME",
    "USER",
    "LOGNAME",
    "USERPROFILE",
    "TMPDIR",
    "TMP",
    "TEMP",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "SYSTEMROOT",
    "SYSTEMDRIVE",
];

/// Where it is written down which backends run, in the workspace.
const RUNNING: &str = ".pixi/doge/running";

/// Where programs of the system are, for a backend that has an environment of its own.
const SYSTEM_PATH: &str =
    if cfg!(windows) { "C:\\Windows\\System32;C:\\Windows" } else { "/usr/local/bin:/usr/bin:/bin" };

/// How backends are run. A resource of the database.
pub struct Backends {
    /// How many that are not asked anything are kept.
    pub kept: usize,
    /// How long is waited for an answer, except for builds.
    pub patience: Duration,
    /// How long is waited for a build.
    pub build_patience: Duration,
    /// Where they may keep things between workspaces.
    pub cache: PathBuf,
    /// Those that are no processes.
    pub memory: MemoryBackends,
    running: Running,
    /// Whether those were ended that earlier runs left.
    swept: AtomicBool,
    idle: Mutex<Vec<Idle>>,
}

/// What a backend is asked.
pub(crate) struct Question<'a, P> {
    pub(crate) method: &'static str,
    pub(crate) params: &'a P,
    /// How long is waited for the answer.
    pub(crate) patience: Duration,
}

struct Idle {
    key: Fingerprint,
    process: Process,
}

impl Backends {
    /// Backends as most people want them, which may keep things in a directory, for packages of a workspace.
    pub fn new(cache: impl Into<PathBuf>, workspace: &Path) -> Self {
        Self {
            memory: MemoryBackends::default(),
            running: Running::in_directory(workspace.join(RUNNING)),
            swept: AtomicBool::new(false),
            kept: 8,
            patience: Duration::from_secs(600),
            build_patience: Duration::from_secs(24 * 3600),
            cache: cache.into(),
            idle: Mutex::default(),
        }
    }

    fn take(&self, key: Fingerprint) -> Option<Process> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let place = idle.iter().position(|idle| idle.key == key)?;
        let mut process = idle.remove(place).process;
        drop(idle);
        process.is_alive().then_some(process)
    }

    fn give_back(&self, key: Fingerprint, process: Process) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(Idle { key, process });
        if idle.len() > self.kept {
            // The one that was asked longest ago.
            drop(idle.remove(0));
        }
    }

    /// Asks a backend one thing. One that runs already and is about the same is taken, else one is started.
    ///
    /// # Cancel safety
    ///
    /// A backend whose answer nobody waits for is ended.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        ctx: &ActionContext,
        launch: &Launch,
        initialize: &Initialize,
        question: Question<'_, impl Serialize>,
    ) -> Result<T, BackendError> {
        let Question { method, params, patience } = question;
        let program = match &launch.program {
            Program::File(program) => program,
            Program::Memory(backend) => {
                return self.ask_memory(ctx, backend.clone(), launch, initialize, method, params).await;
            }
        };
        let identity = json!([program, launch.identity, launch.environment, launch.directory, initialize]).to_string();
        let key = Fingerprint::of(identity.as_bytes());
        let listener = told_by(ctx.reporter());
        let mut process = match self.take(key) {
            Some(process) => {
                process.tell(listener);
                process
            }
            None => self.start(program, launch, initialize, listener).await?,
        };
        let answer = process.call(method, params, patience).await;
        // One that complained can be asked again; one that failed otherwise is not to be trusted.
        // What it read of sources that can change is not to be told again.
        if launch.lasting && matches!(&answer, Ok(_) | Err(BackendError::Refused { .. })) {
            process.hush().await;
            self.give_back(key, process);
        } else {
            process.end().await;
        }
        answer
    }

    /// Asks a backend that is a part of this program.
    async fn ask_memory<T: DeserializeOwned>(
        &self,
        ctx: &ActionContext,
        backend: Arc<dyn MemoryBackend>,
        launch: &Launch,
        initialize: &Initialize,
        method: &'static str,
        params: &impl Serialize,
    ) -> Result<T, BackendError> {
        let (name, output) = (launch.name.clone(), LastOutput::default());
        let (initialize, params) = (json!(initialize), json!(params));
        let (log, secrets) = (told_by(ctx.reporter()), secret_lines(&launch.secrets));
        let (cancelled, held) = (ctx.cancelled().clone(), ctx.held());
        let work = move || {
            // It may go on when nobody waits for it any more.
            let _held = held;
            let question = MemoryQuestion {
                method,
                initialize: &initialize,
                params: &params,
                log: &|line| log(&redacted(line.to_owned(), &secrets)),
                is_cancelled: &|| cancelled.is_cancelled(),
            };
            backend.answer(&question).map_err(|complaint| redacted(complaint, &secrets))
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(answer)) => serde_json::from_value(answer).map_err(|error| BackendError::WrongShape {
                name,
                method,
                message: redacted(error.to_string(), &secret_lines(&launch.secrets)),
                output,
            }),
            Ok(Err(message)) => {
                let complaint = Box::new(Complaint { message, ..Complaint::default() });
                Err(BackendError::Refused { name, method, complaint, output })
            }
            Err(panic) => Err(BackendError::Died { name, method, status: panic.to_string(), output }),
        }
    }

    /// Starts a backend and tells it what it is about. What it writes meanwhile belongs to the question that it is started
    /// for.
    async fn start(
        &self,
        program: &Path,
        launch: &Launch,
        initialize: &Initialize,
        listener: Listener,
    ) -> Result<Process, BackendError> {
        if !self.swept.swap(true, Ordering::Relaxed) {
            self.end_orphans().await;
        }
        let mut process = Process::start(program, launch, &self.running, listener)?;
        let incapable = |method| BackendError::Incapable { name: launch.name.clone(), method };
        let about = json!({ "capabilities": {} });
        let can: Negotiated = process.call("negotiateCapabilities", &about, self.patience).await?;
        if can.capabilities.provides_conda_outputs != Some(true) {
            return Err(incapable("conda/outputs"));
        }
        if can.capabilities.provides_conda_build_v1 != Some(true) {
            return Err(incapable("conda/build_v1"));
        }
        let _: serde_json::Value = process.call("initialize", initialize, self.patience).await?;
        Ok(process)
    }

    /// Ends every backend of the workspace that goes on though whoever started it was killed.
    pub(crate) async fn end_orphans(&self) {
        let running = self.running.clone();
        // What could not be ended is tried again by the next run.
        let _ = tokio::task::spawn_blocking(move || running.end_orphans()).await;
    }

    /// Ends all that nobody waits for.
    pub fn end_idle(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// The variables that are passed on, and those of these names.
pub(crate) fn passed_on<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, String> {
    let set = |name: &str| Some((name.to_owned(), std::env::var(name).ok()?));
    PASSED_ON.into_iter().chain(names).filter_map(set).collect()
}

/// What an environment sets for a program in it, over `base`.
///
/// Blocking: scripts of packages may have to be run. The error says what went wrong with them.
pub(crate) fn activated(
    prefix: &Path,
    platform: Subdir,
    base: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    let mut variables = base.clone();
    let folders: &[&str] = if platform.is_windows() {
        &["", "Library/mingw-w64/bin", "Library/usr/bin", "Library/bin", "Scripts", "bin"]
    } else {
        &["bin"]
    };
    let own = folders.iter().map(|folder| prefix.join(folder));
    let path = std::env::join_paths(own.chain(std::env::split_paths(SYSTEM_PATH)));
    variables.insert("PATH".to_owned(), path.unwrap_or(OsString::from(SYSTEM_PATH)).to_string_lossy().into_owned());
    variables.insert("CONDA_PREFIX".to_owned(), prefix.to_string_lossy().into_owned());
    if prefix.join("etc/conda/activate.d").is_dir() || prefix.join("conda-meta/state").is_file() {
        let shell = ShellEnum::default();
        let activator = Activator::from_path(prefix, shell, platform).map_err(|error| error.to_string())?;
        let before = ActivationVariables {
            conda_prefix: None,
            path: variables.get("PATH").map(|path| std::env::split_paths(path).collect()),
            path_modification_behavior: Default::default(),
            current_env: variables.clone().into_iter().collect(),
        };
        let environment = variables.iter().map(|(name, value)| (OsStr::new(name), OsStr::new(value))).collect();
        variables.extend(activator.run_activation(before, Some(environment)).map_err(|error| error.to_string())?);
    }
    Ok(variables)
}
