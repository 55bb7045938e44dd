//! The whole process: `doge install` when everything is up to date, from start to exit.
//!
//! The channel and its packages are made here, so nothing but Rust is needed. `floor` is a program that only opens the
//! store and looks at the files of `conda-meta` (`cargo build --release --example floor` makes it); `version` is the same
//! process as ours, doing nothing. `DOGE_BENCH_PROGRAM` is the program that is measured, if it is another than the one that
//! cargo builds for the bench: the one that is handed out. At the end, program and floor are measured in turns, so that
//! whatever else the machine does falls on both.

#![expect(clippy::print_stdout, reason = "what was measured is the result")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use divan::Bencher;
use doge_queries::testing::{ChannelBuilder, PackageBuilder};
use tempfile::TempDir;

/// How often each is run in turns.
const ROUNDS: usize = 180;

fn main() {
    divan::main();
    // Who asks for some benches only does not ask for this.
    if std::env::args().skip(1).eq(["--bench".to_owned()]) {
        in_turns();
    }
}

fn in_turns() {
    let directory = at_rest(300);
    let mut commands = [floor(directory.path()), install(directory.path())];
    let mut best = [Duration::MAX; 2];
    for _ in 0..ROUNDS {
        for (command, best) in commands.iter_mut().zip(&mut best) {
            let began = Instant::now();
            alone(command);
            *best = began.elapsed().min(*best);
        }
    }
    for (who, best) in ["floor", "doge"].iter().zip(best) {
        println!("measured {who} {} second run of 300, in turns", best.as_nanos());
    }
}

/// A workspace whose environment has so many packages, installed.
fn installed(packages: usize) -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut channel = ChannelBuilder::new(directory.path().join("channel"));
    for number in 0..packages {
        let name = format!("package-{number}");
        let package = PackageBuilder::new(&name, "1.0").file(format!("share/{name}"), "content\n");
        // Each needs the next, so that the first brings all.
        let package = match number + 1 {
            next if next < packages => package.depends([format!("package-{next} >=1")]),
            _ => package,
        };
        channel.add(package).expect("it can be written");
    }
    channel.subdir("linux-64");
    channel.index().expect("it can be written");
    let manifest = "[workspace]\nname = 'bench'\nchannels = ['./channel']\n\
                    platforms = ['linux-64', 'linux-aarch64', 'osx-arm64']\n[dependencies]\npackage-0 = '*'\n";
    std::fs::write(directory.path().join("pixi.toml"), manifest).expect("it can be written");
    run(directory.path());
    directory
}

/// The same, when its files are trusted by their stamps: until they are two seconds old, their content is compared.
fn at_rest(packages: usize) -> TempDir {
    let directory = installed(packages);
    std::thread::sleep(Duration::from_millis(2_500));
    run(directory.path());
    assert_finds_all_done(directory.path());
    directory
}

fn doge() -> Command {
    let program = std::env::var_os("DOGE_BENCH_PROGRAM");
    let mut command = Command::new(program.as_deref().unwrap_or(env!("CARGO_BIN_EXE_doge").as_ref()));
    command.env_remove("DOGE_CACHE_DIR").env("CI", "1");
    command
}

fn install(directory: &Path) -> Command {
    let mut command = doge();
    command.args(["install", "--cache-dir"]).arg(directory.join("cache"));
    command.arg("--manifest-path").arg(directory.join("pixi.toml"));
    command
}

fn run(directory: &Path) -> String {
    let output = install(directory).arg("--json").output().expect("it can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("JSON is text")
}

fn assert_finds_all_done(directory: &Path) {
    let report = run(directory);
    assert!(report.contains(r#""executed":{}"#), "{report}");
}

/// Runs a program whose output nobody reads: reading it would be measured, too.
fn alone(command: &mut Command) {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.expect("it can be started").success());
}

#[divan::bench]
fn version(bencher: Bencher<'_, '_>) {
    bencher.bench(|| alone(doge().arg("--version")));
}

fn floor(directory: &Path) -> Command {
    let floor = Path::new(env!("CARGO_BIN_EXE_doge")).with_file_name("examples").join("floor");
    assert!(floor.is_file(), "run `cargo build --release --example floor` first");
    let mut command = Command::new(floor);
    command.arg(directory.join("cache/doge")).arg(directory.join(".pixi/envs/default/conda-meta"));
    command
}

#[divan::bench(name = "floor")]
fn measure_floor(bencher: Bencher<'_, '_>) {
    let directory = installed(300);
    let mut floor = floor(directory.path());
    bencher.bench_local(|| alone(&mut floor));
}

#[divan::bench(args = [5, 30, 300])]
fn second_run(bencher: Bencher<'_, '_>, packages: usize) {
    let directory = at_rest(packages);
    bencher.bench(|| alone(&mut install(directory.path())));
    assert_finds_all_done(directory.path());
}
