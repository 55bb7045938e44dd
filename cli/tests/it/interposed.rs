//! A library that is loaded before libc, and processes that stop where a test wants them to.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::site::{Ran, Site};

/// The library, built once.
pub(crate) fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interpose/points.c");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("points-{}.so", std::process::id()));
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl");
        let status = compiler.status().expect("there is a C compiler");
        assert!(status.success());
        library
    })
}

/// A process that is stopped.
pub(crate) struct Stopped {
    child: Child,
}

impl Stopped {
    /// Runs a command until it is about to open a file with this in its path, or to change something there.
    #[track_caller]
    pub(crate) fn at(site: &Site, arguments: &[&str], path: &str) -> Self {
        Self::after(site, arguments, path, 0)
    }

    /// The same, but not the first few times.
    #[track_caller]
    pub(crate) fn after(site: &Site, arguments: &[&str], path: &str, skip: usize) -> Self {
        let mut command = site.command(arguments);
        command.env("LD_PRELOAD", library()).env("POINTS_STOP", path).env("POINTS_SKIP", skip.to_string());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it can be started");
        let began = Instant::now();
        let mut stopped = Self { child };
        while stopped.state() != 'T' {
            if stopped.state() == 'Z' || began.elapsed() > Duration::from_secs(60) {
                drop(stopped.child.kill());
                let ran = stopped.end();
                panic!("it did not stop at {path}: {} {}", ran.code, ran.stderr);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        stopped
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// One letter, as `ps` shows it.
    fn state(&mut self) -> char {
        let status = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap_or_default();
        status.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('Z')
    }

    /// Lets it go on to its end.
    pub(crate) fn go_on(self) -> Ran {
        signal(self.id(), "CONT");
        self.end()
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("it is there");
    }

    fn end(self) -> Ran {
        Ran::of(self.child.wait_with_output().expect("it ends"))
    }
}

pub(crate) fn signal(id: u32, name: &str) {
    let arguments = [format!("-{name}"), id.to_string()];
    let status = Command::new("kill").args(arguments).status().expect("there is such a program");
    assert!(status.success());
}
