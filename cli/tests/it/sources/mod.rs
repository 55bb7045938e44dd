//! Packages that are built from sources, with a real backend that counts what it is asked.

mod build;
mod damage;
mod failures;
mod inputs;
pub(crate) mod places;
mod solving;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::site::{PLATFORM, Ran, Site, tick};

/// The backend, which is built with the tests of the workspace.
pub(crate) fn backend() -> PathBuf {
    let here = std::env::current_exe().expect("a test is a program");
    let directory = here.ancestors().nth(2).expect("it lies in `deps`");
    let program = directory.join(format!("doge-test-backend{}", std::env::consts::EXE_SUFFIX));
    assert!(program.is_file(), "{} is missing; `cargo test --workspace` builds it", program.display());
    program
}

/// A workspace with packages that are built by a backend of the system.
pub(crate) struct Sources {
    pub(crate) site: Site,
}

impl Sources {
    /// The environment needs `a`, which is built against `b`; both lie beside each other.
    pub(crate) fn new() -> Self {
        let sources = Self { site: Site::new() };
        sources.package("b", "", "");
        sources.site.write("b/content/share/b/data.txt", "data of b\n");
        sources.package("a", "[package.host-dependencies]\nb = { path = '../b' }\n", "");
        sources.site.write("a/content/bin/a", "#!/bin/sh\necho this is a\n");
        sources.site.needs("a = { path = 'a' }");
        sources
    }

    /// Writes the manifest of a package, with tables and with lines of configuration.
    pub(crate) fn package(&self, name: &str, tables: &str, configuration: &str) {
        let text = format!(
            "[package]\nname = '{name}'\nversion = '1.0'\n{tables}\n\
             [package.build]\nbackend = {{ name = 'doge-test-backend', version = '*' }}\n\
             [package.build.config]\n{configuration}\n"
        );
        self.site.write(&format!("{name}/pixi.toml"), &text);
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        // What was written within the last tick of the clock is used and not recorded.
        tick();
        tick();
        let mut command = self.site.command(arguments);
        command
            .env("PIXI_BUILD_BACKEND_OVERRIDE", format!("doge-test-backend={}", backend().display()))
            .env("DOGE_TEST_BACKEND_LOG", self.log());
        command
    }

    /// Where the backend would count its calls; it does not get to see the variable unless that is said.
    pub(crate) fn log(&self) -> PathBuf {
        self.site.root().join("calls")
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        Ran::by(self.command(arguments))
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Ran {
        self.run(&[arguments, &["--json"]].concat()).succeeded()
    }

    pub(crate) fn install(&self) -> Ran {
        self.json(&["install"])
    }

    /// How many builds a run made.
    #[track_caller]
    pub(crate) fn assert_builds(&self, builds: u64) {
        let ran = self.install();
        let executed = ran.executed();
        assert_eq!(executed.get("backend_build").copied().unwrap_or(0), builds, "{executed:?}");
    }

    /// Nothing is done by a run, and then nothing by another.
    #[track_caller]
    pub(crate) fn assert_settled(&self) {
        self.install().assert_nothing_ran();
    }
}

/// A manifest of another workspace, for packages that lie elsewhere.
pub(crate) fn other_workspace() -> String {
    format!("[workspace]\nchannels = []\nplatforms = ['{PLATFORM}']\n")
}

/// Runs git in a directory; what it says.
pub(crate) fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=Somebody", "-c", "user.email=somebody@example.com", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .expect("git is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
