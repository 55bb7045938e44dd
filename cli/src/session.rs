//! One run of the engine: open it, ask, and end in good order however it ends.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use doge_queries::backend::ChosenAnew;
use doge_queries::doge::{Builder, Database, RunRecord};
use doge_queries::{DatabaseOptions, Problem};
use miette::{IntoDiagnostic as _, miette};

use crate::arguments::RunArguments;
use crate::commands::named;
use crate::outcome::{Exit, inform, interrupt, say};
use crate::progress::Progress;
use crate::workspace::Place;

/// How long an interrupted run may take to write down what it found.
const LAST_WORDS: Duration = Duration::from_millis(600);

/// An open database with somebody who shows what it does.
pub(crate) struct Session {
    pub(crate) database: Database,
    progress: Arc<Progress>,
    anew: Arc<ChosenAnew>,
    json: bool,
}

/// What came of a session.
pub(crate) struct Ended<T> {
    /// The result.
    pub(crate) result: Result<T, Problem>,
    /// What was done.
    pub(crate) record: RunRecord,
    /// How many packages were fetched.
    pub(crate) fetched: u64,
}

impl Session {
    /// Opens the database of a workspace.
    pub(crate) fn open(place: &Place, arguments: &RunArguments) -> miette::Result<Self> {
        Self::open_and(place, arguments, |builder| builder)
    }

    /// The same, with something to begin with.
    pub(crate) fn open_and(
        place: &Place,
        arguments: &RunArguments,
        begin: impl FnOnce(Builder) -> Builder,
    ) -> miette::Result<Self> {
        let mut options = DatabaseOptions::new(&place.root, place.caches.clone());
        options.network = place.config.network(arguments.offline);
        options.refresh = arguments.refresh.as_ref().is_some_and(|backends| named(backends).is_empty());
        let anew = Arc::new(arguments.refresh.as_deref().map(named).map(ChosenAnew::of).unwrap_or_default());
        options.chosen_anew = anew.clone();
        options.backend_patience = backend_patience()?;
        options.persist = !arguments.no_persist;
        let title = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
        let progress = Arc::new(Progress::new(place.output));
        let shown = progress.clone();
        let database = begin(options.builder()?)
            .title(title)
            .limits(place.config.limits())
            .listener(move |event| shown.see(event))
            .build()
            .into_diagnostic()?;
        Ok(Self { database, progress, anew, json: arguments.json })
    }

    /// Does the work and closes the database. Ends the process early if somebody asks for that.
    pub(crate) async fn run<T>(self, work: impl Future<Output = Result<T, Problem>>) -> miette::Result<Ended<T>> {
        let outcome = tokio::select! {
            result = work => Ok(result),
            exit = interrupted() => Err(exit),
            never = self.progress.tell_time() => match never {},
        };
        let result = match outcome {
            Ok(result) => result,
            Err(exit) => {
                // Whether it is done or not: nobody is made to wait, not even by an engine that does not answer.
                let _ = tokio::time::timeout(LAST_WORDS, self.database.close()).await;
                self.progress.finish();
                say("interrupted; what was finished is kept, the rest is done by the next run");
                interrupt(exit, self.json);
            }
        };
        let closed = self.database.close().await.ok();
        let fetched = self.progress.finish();
        let record = closed.ok_or_else(|| miette!("the engine ended before it was asked to"))?;
        if result.is_err() && self.progress.wrote() {
            inform(&format!("all that was written is kept: `doge runs log {}`", record.id.to_hex()));
        }
        if result.is_ok() {
            for name in self.anew.unmet() {
                say(&format!(
                    "warning: no build backend `{name}` was chosen anew, for no package that was looked at needs it"
                ));
            }
        }
        Ok(Ended { result, record, fetched })
    }
}

/// The variable that says how long is waited for a build backend.
const BACKEND_TIMEOUT: &str = "DOGE_BACKEND_TIMEOUT";

fn backend_patience() -> miette::Result<Option<Duration>> {
    let Ok(text) = std::env::var(BACKEND_TIMEOUT) else { return Ok(None) };
    humantime::parse_duration(&text).map(Some).map_err(|error| {
        miette!(help = "a duration as `10min`", "the variable `{BACKEND_TIMEOUT}` cannot be used: {error}")
    })
}

/// Waits for somebody to end the program.
async fn interrupted() -> Exit {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()))
        else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => Exit::Interrupted,
            _ = terminate.recv() => Exit::Terminated,
            _ = hangup.recv() => Exit::Interrupted,
        }
    }
    #[cfg(not(unix))]
    {
        if tokio::signal::ctrl_c().await.is_err() {
            return std::future::pending().await;
        }
        Exit::Interrupted
    }
}
