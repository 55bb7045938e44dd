//! Real packages, where there are any.

use std::path::PathBuf;
use std::process::Command;

use crate::site::{PLATFORM, Site};

fn data() -> Option<PathBuf> {
    let named = std::env::var_os("DOGE_TEST_DATA").map(PathBuf::from);
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let path = named.unwrap_or_else(beside);
    path.join("channel").is_dir().then(|| path.canonicalize().expect("it is there"))
}

#[test]
#[expect(clippy::print_stderr, reason = "whoever runs the tests is told what was left out")]
fn real_environments_are_installed_and_their_programs_run() {
    let Some(data) = data().filter(|_| PLATFORM == "linux-64") else {
        eprintln!("skipped: there are no real packages; name their folder with DOGE_TEST_DATA");
        return;
    };
    let site = Site::new();
    for (name, packages, module) in [("small", 26, "requests"), ("medium", 140, "networkx")] {
        let manifest = std::fs::read_to_string(data.join("envs").join(name).join("pixi.toml")).expect("it is there");
        let channel = data.join("channel").display().to_string();
        site.write("pixi.toml", &manifest.replace("../../channel", &channel));
        let first = site.install();
        assert_eq!(first.value()["environments"][0]["packages"], packages);
        let python = Command::new(site.prefix("bin/python"))
            .args(["-c", &format!("import {module}; print({module}.__name__)")])
            .output()
            .expect("it can be started");
        assert_eq!(String::from_utf8_lossy(&python.stdout).trim(), module, "{python:?}");
        site.install().assert_nothing_ran();
        crate::parity::assert_as_rattler_makes_it(&site);
    }
}
