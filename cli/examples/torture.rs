//! Tortures `doge`: many processes at once on a few workspaces that share one cache, while manifests, channels, lock
//! files, environments, packages and the store change and break under them, and they are stopped and killed.
//!
//! ```text
//! cargo build -p doge-cli --bin doge --example torture
//! target/debug/examples/torture SECONDS [SEED]
//! ```
//!
//! After each round everything is left alone and each workspace is installed once more. Then it must be as if nothing
//! had ever happened: the same lock file, installed at the same place with an empty cache, gives the same environment,
//! file by file; installing again executes nothing; no process is left. What a lock file may be depends on what was
//! solved before (remembered solutions), so it is held against its own manifest, with `--locked` and an empty cache.
//!
//! Prints a line for each round. At the first finding it says what it found and where everything lies, and ends with
//! exit code 1; the seed tells which edits were made, though not at which moment each process met them.
//!
//! It does not change files in environments other than those of `conda-meta`, for what is in there is trusted by design;
//! and files of packages in the cache are replaced and not written to, for environments hold links to them.

#![expect(clippy::print_stdout, reason = "it is a program for people who wait for it")]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use doge_queries::testing::{ChannelBuilder, PackageBuilder};
use serde_json::{Value, json};

/// How long a process may take once it is left alone, on a machine that does many other things.
const PATIENCE: Duration = Duration::from_secs(120);
const WORKSPACES: usize = 3;
const PACKAGES: [&str; 6] = ["app", "lib", "tool", "other", "large", "deep"];
/// What a round may need of a package, besides nothing.
const WANTED: [&str; 5] = ["*", ">=1", "1.*", "<3", "!=2.0"];

/// A small deterministic generator.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        if of.is_empty() { None } else { of.get(self.below(of.len())) }
    }
}

/// What is wrong, in words.
type Finding = String;

struct Torture {
    root: PathBuf,
    doge: PathBuf,
    channel: ChannelBuilder,
    /// The archives whose records are in the channel.
    records: Vec<String>,
    versions: u64,
    chance: Chance,
    /// Lock files that were there once, for going back to.
    locks: Vec<String>,
    did: BTreeMap<String, u64>,
    began: Instant,
}

struct Running {
    child: Child,
    workspace: usize,
    name: String,
    output: PathBuf,
    stopped: bool,
    killed: bool,
}

impl Torture {
    fn new(root: PathBuf, doge: PathBuf, seed: u64) -> io::Result<Self> {
        let mut torture = Self {
            channel: ChannelBuilder::new(root.join("channel")),
            root,
            doge,
            records: Vec::new(),
            versions: 0,
            chance: Chance(seed),
            locks: Vec::new(),
            did: BTreeMap::new(),
            began: Instant::now(),
        };
        for version in ["1.0", "2.0"] {
            for name in PACKAGES {
                torture.publish(name, version)?;
            }
        }
        torture.channel.subdir("linux-64");
        torture.channel.index()?;
        for workspace in 0..WORKSPACES {
            fs::create_dir_all(torture.workspace(workspace))?;
            torture.write_manifest(workspace)?;
        }
        Ok(torture)
    }

    fn workspace(&self, workspace: usize) -> PathBuf {
        self.root.join(format!("workspace-{workspace}"))
    }

    fn prefix(&self, workspace: usize) -> PathBuf {
        self.workspace(workspace).join(".pixi/envs/default")
    }

    fn lock_file(&self, workspace: usize) -> PathBuf {
        self.workspace(workspace).join("pixi.lock")
    }

    fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    fn publish(&mut self, name: &str, version: &str) -> io::Result<()> {
        self.versions += 1;
        let package = PackageBuilder::new(name, version).build(format!("b{}", self.versions), self.versions);
        let package = package.timestamp(1_600_000_000_000 + self.versions as i64);
        let text = format!("{name} {version} {}\n", self.versions);
        let package = match name {
            "app" => package
                .depends(["lib"])
                .executable("bin/app", format!("#!/bin/sh\necho {text}"))
                .prefixed_text("share/app/prefix", format!("{}\n", doge_queries::testing::PLACEHOLDER)),
            "deep" => package.depends(["app", "tool"]).file("share/deep/file", text).file("share/common", "the same\n"),
            "large" => (0..60).fold(package, |package, number| {
                package.file(format!("share/large/{}/{number}", number % 7), vec![b'x'; 3_000 + number])
            }),
            _ => package.file(format!("share/{name}"), text),
        };
        let file_name = self.channel.add(package)?;
        self.records.push(file_name);
        Ok(())
    }

    fn note(&mut self, what: &str) {
        *self.did.entry(what.to_owned()).or_default() += 1;
    }

    fn write_manifest(&mut self, workspace: usize) -> io::Result<()> {
        let mut needs = String::new();
        for name in PACKAGES {
            if self.chance.percent(45) {
                let wanted = if self.chance.percent(2) { ">=99" } else { WANTED[self.chance.below(WANTED.len())] };
                needs.push_str(&format!("{name} = '{wanted}'\n"));
            }
        }
        let channel = self.channel.root().display();
        let text = format!(
            "[workspace]\nname = 'torture'\nchannels = ['file://{channel}']\nplatforms = ['linux-64']\n\n[dependencies]\n{needs}"
        );
        replace(&self.workspace(workspace).join("pixi.toml"), text.as_bytes())
    }

    /// Changes or breaks something; what.
    fn edit(&mut self, quiet: bool) -> io::Result<()> {
        let workspace = self.chance.below(WORKSPACES);
        let what = match self.chance.below(if quiet { 17 } else { 14 }) {
            0..3 => {
                self.write_manifest(workspace)?;
                "manifest"
            }
            3 => {
                let name = PACKAGES[self.chance.below(PACKAGES.len())];
                let version = ["1.0", "1.5", "2.0", "2.5", "3.0"][self.chance.below(5)];
                self.publish(name, version)?;
                self.channel.index()?;
                "channel: a package is new"
            }
            4 => {
                // Not so many that nothing can be solved any more.
                if self.records.len() > PACKAGES.len() * 3 {
                    let place = self.chance.below(self.records.len());
                    let file_name = self.records.remove(place);
                    self.channel.remove("noarch", &file_name);
                }
                self.channel.index()?;
                "channel: a package is gone"
            }
            5 => {
                if let Some(file_name) = self.chance.one(&self.records) {
                    let constrains = json!([format!("other >={}", self.versions % 2)]);
                    self.channel.edit("noarch", file_name, |record| record["constrains"] = constrains);
                }
                self.channel.index()?;
                "channel: a record changed"
            }
            6 => {
                drop(fs::remove_file(self.lock_file(workspace)));
                "lock file deleted"
            }
            7 => {
                if let Ok(text) = fs::read_to_string(self.lock_file(workspace)) {
                    let text = match self.chance.below(8) {
                        0 => text[..text.len() / 2].to_owned(),
                        1 => "{".to_owned(),
                        _ => format!("{text}# edited\n"),
                    };
                    replace(&self.lock_file(workspace), text.as_bytes())?;
                }
                "lock file edited"
            }
            8 => {
                if let Some(text) = self.chance.one(&self.locks).cloned() {
                    replace(&self.lock_file(workspace), text.as_bytes())?;
                }
                "lock file reverted"
            }
            9 | 10 => {
                let records = files_below(&self.prefix(workspace).join("conda-meta"));
                let records: Vec<PathBuf> =
                    records.into_iter().filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
                if let Some(path) = self.chance.one(&records).cloned() {
                    match self.chance.below(3) {
                        0 => drop(fs::remove_file(path)),
                        1 => drop(replace(&path, b"{")),
                        _ => {
                            if let Ok(text) = fs::read_to_string(&path) {
                                drop(replace(&path, text.replacen('{', "{ ", 1).as_bytes()));
                            }
                        }
                    }
                }
                "conda-meta edited"
            }
            11 => {
                let prefix = self.prefix(workspace);
                let aside = self.root.join(format!("moved-{}", self.chance.next()));
                // Moved first: that is one step, and whoever works there is left with nothing.
                if fs::rename(&prefix, &aside).is_ok() {
                    drop(fs::remove_dir_all(&aside));
                }
                "environment moved away"
            }
            12 => {
                let packages = directories_in(&self.cache().join("pkgs"));
                if let Some(package) = self.chance.one(&packages).cloned() {
                    let files = files_below(&package);
                    match (self.chance.below(3), self.chance.one(&files).cloned()) {
                        (0, _) => drop(fs::remove_dir_all(&package)),
                        (1, Some(file)) => drop(fs::remove_file(file)),
                        (_, Some(file)) => drop(replace(&file, b"")),
                        (_, None) => {}
                    }
                }
                "package damaged"
            }
            13 => {
                let workspace = self.workspace(workspace);
                drop(fs::File::options().append(true).open(workspace.join("pixi.toml")).map(|file| {
                    // The same text at another time.
                    file.set_modified(std::time::SystemTime::now())
                }));
                "manifest touched"
            }
            14 => {
                self.damage_store()?;
                "store damaged"
            }
            15 => {
                drop(fs::remove_dir_all(self.cache().join("repodata")));
                "repodata cache deleted"
            }
            _ => {
                let aside = self.root.join(format!("moved-{}", self.chance.next()));
                if fs::rename(self.cache(), &aside).is_ok() {
                    drop(fs::remove_dir_all(&aside));
                }
                "cache deleted"
            }
        };
        self.note(what);
        Ok(())
    }

    fn damage_store(&mut self) -> io::Result<()> {
        let stores: Vec<PathBuf> = files_below(&self.cache())
            .into_iter()
            .filter(|path| path.to_string_lossy().contains("store-v") && path.is_file())
            .collect();
        let Some(path) = self.chance.one(&stores).cloned() else { return Ok(()) };
        let mut bytes = fs::read(&path)?;
        match self.chance.below(4) {
            0 => {
                for _ in 0..1 + self.chance.below(20) {
                    let place = self.chance.below(bytes.len());
                    if let Some(byte) = bytes.get_mut(place) {
                        *byte ^= 1 << self.chance.below(8);
                    }
                }
            }
            1 => bytes.truncate(self.chance.below(bytes.len())),
            2 => bytes = b"this is somebody else's file".repeat(400),
            _ => {
                let place = self.chance.below(bytes.len());
                bytes.iter_mut().skip(place).take(4096).for_each(|byte| *byte = 0);
            }
        }
        fs::write(path, bytes)
    }

    fn command(&self, workspace: usize, cache: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.doge);
        command
            .args(arguments)
            .current_dir(self.workspace(workspace))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.root.join("home"))
            .env("DOGE_CACHE_DIR", cache)
            .stdin(Stdio::null());
        command
    }

    fn start(&mut self, round: u64, number: usize) -> io::Result<Running> {
        const COMMANDS: [&[&str]; 16] = [
            &["install", "--json"],
            &["install", "--json"],
            &["install", "--json"],
            &["install"],
            &["install", "--force"],
            &["install", "--force=lib"],
            &["install", "--locked"],
            &["install", "--frozen"],
            &["install", "--update"],
            &["solve"],
            &["solve", "--update"],
            &["solve", "--dry-run"],
            &["cache", "info"],
            &["why", "install_pixi_environment"],
            &["graph"],
            &["runs"],
        ];
        let workspace = self.chance.below(WORKSPACES);
        let arguments = COMMANDS[self.chance.below(COMMANDS.len())];
        let output = self.root.join(format!("output-{round}-{number}"));
        let file = fs::File::create(&output)?;
        let mut command = self.command(workspace, &self.cache(), arguments);
        let child = command.stdout(file.try_clone()?).stderr(file).spawn()?;
        let name = arguments.join(" ");
        self.note(&format!("doge {name}"));
        Ok(Running { child, workspace, name, output, stopped: false, killed: false })
    }

    /// Many processes at once, and what happens to them.
    fn round(&mut self, round: u64) -> io::Result<Result<usize, Finding>> {
        let count = 2 + self.chance.below(15);
        let mut all = Vec::new();
        for number in 0..count {
            all.push(self.start(round, number)?);
            if self.chance.percent(20) {
                std::thread::sleep(Duration::from_millis(self.chance.next() % 60));
            }
        }
        let wild = self.chance.percent(75);
        for _ in 0..self.chance.below(30) {
            std::thread::sleep(Duration::from_millis(self.chance.next() % 80));
            if wild && self.chance.percent(40) {
                self.edit(false)?;
            }
            if wild && self.chance.percent(40) {
                let running = &mut all[self.chance.below(count)];
                if running.child.try_wait()?.is_some() {
                    continue;
                }
                let signal = ["KILL", "INT", "TERM", "STOP", "STOP"][self.chance.below(5)];
                running.stopped |= signal == "STOP";
                running.killed |= signal != "STOP";
                send(signal, &running.child);
                self.note(signal);
            }
            if let Some(stopped) = all.iter_mut().find(|running| running.stopped)
                && self.chance.percent(40)
            {
                send("CONT", &stopped.child);
                stopped.stopped = false;
            }
        }
        for running in all.iter().filter(|running| running.stopped) {
            send("CONT", &running.child);
        }
        let deadline = Instant::now() + PATIENCE;
        for running in &mut all {
            let status = loop {
                match running.child.try_wait()? {
                    Some(status) => break status,
                    None if Instant::now() > deadline => {
                        let name = &running.name;
                        return Ok(Err(format!("`doge {name}` in workspace {} never ends", running.workspace)));
                    }
                    None => std::thread::sleep(Duration::from_millis(5)),
                }
            };
            let said = String::from_utf8_lossy(&fs::read(&running.output)?).into_owned();
            if let Some(finding) = ended_badly(status, running.killed, &said) {
                return Ok(Err(format!("`doge {}` {finding}: {said}", running.name)));
            }
            fs::remove_file(&running.output)?;
        }
        Ok(Ok(count))
    }

    /// Everything is left alone now: is it as if nothing had ever happened?
    fn is_as_from_scratch(&mut self, workspace: usize) -> io::Result<Result<bool, Finding>> {
        // What was written within a tick of the clock before it was read is not recorded, and read again by the next run.
        std::thread::sleep(Duration::from_millis(50));
        let lock_before = fs::read(self.lock_file(workspace)).ok();
        let cache = self.cache();
        let first = self.command(workspace, &cache, &["install", "--json"]).output()?;
        let said = String::from_utf8_lossy(&first.stderr).into_owned();
        if let Some(finding) = ended_badly(first.status, false, &said) {
            return Ok(Err(format!("the clean install {finding}: {said}")));
        }
        let worked = first.status.success();
        let lock = fs::read(self.lock_file(workspace)).ok();
        if worked {
            let second = self.command(workspace, &cache, &["install", "--json"]).output()?;
            let value: Value = serde_json::from_slice(&second.stdout).unwrap_or_default();
            if !second.status.success() || value["executed"] != json!({}) {
                let said = String::from_utf8_lossy(&second.stderr);
                return Ok(Err(format!("the second install executed {}: {said}", value["executed"])));
            }
            if fs::read(self.lock_file(workspace)).ok() != lock {
                return Ok(Err("the second install changed the lock file".to_owned()));
            }
            if let Some(text) = &lock {
                self.locks.push(String::from_utf8_lossy(text).into_owned());
            }
        }
        let tortured = picture(&self.prefix(workspace))?;

        // The same, where nothing ever happened.
        let dot_pixi = self.workspace(workspace).join(".pixi");
        let aside = self.workspace(workspace).join("pixi-aside");
        if dot_pixi.exists() {
            fs::rename(&dot_pixi, &aside)?;
        }
        let fresh_cache = self.root.join("fresh-cache");
        drop(fs::remove_dir_all(&fresh_cache));
        let fresh = if worked {
            self.command(workspace, &fresh_cache, &["install", "--json", "--locked"]).output()?
        } else {
            match &lock_before {
                Some(text) => replace(&self.lock_file(workspace), text)?,
                None => drop(fs::remove_file(self.lock_file(workspace))),
            }
            self.command(workspace, &fresh_cache, &["install", "--json"]).output()?
        };
        let from_scratch = picture(&self.prefix(workspace))?;
        let fresh_said = String::from_utf8_lossy(&fresh.stderr).into_owned();
        if fresh.status.success() != worked {
            return Ok(Err(format!(
                "the clean install ended with {} and from scratch with {}: {said} {fresh_said}",
                first.status, fresh.status
            )));
        }
        if worked && let Some(finding) = difference(&tortured, &from_scratch) {
            return Ok(Err(finding));
        }
        drop(fs::remove_dir_all(&dot_pixi));
        if aside.exists() {
            fs::rename(&aside, &dot_pixi)?;
        }
        match &lock {
            Some(text) => replace(&self.lock_file(workspace), text)?,
            None => drop(fs::remove_file(self.lock_file(workspace))),
        }
        drop(fs::remove_dir_all(&fresh_cache));
        Ok(Ok(worked))
    }

    /// Files that only a process which is at work may have.
    fn left_over(&self) -> Vec<PathBuf> {
        let is_temporary = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.contains(".tmp") || name.ends_with(".partial") || name.contains(".aside")
        };
        files_below(&self.root).into_iter().filter(|path| is_temporary(path)).collect()
    }

    fn run(&mut self, seconds: u64) -> io::Result<Result<(), Finding>> {
        let mut round = 0;
        let (mut processes, mut compared, mut failed) = (0, 0, 0);
        while self.began.elapsed() < Duration::from_secs(seconds) {
            round += 1;
            let clock = Instant::now();
            for _ in 0..self.chance.below(4) {
                self.edit(true)?;
            }
            let count = match self.round(round)? {
                Ok(count) => count,
                Err(finding) => return Ok(Err(format!("round {round}: {finding}"))),
            };
            processes += count;
            let mut fails = 0;
            for workspace in 0..WORKSPACES {
                match self.is_as_from_scratch(workspace)? {
                    Ok(true) => compared += 1,
                    Ok(false) => fails += 1,
                    Err(finding) => return Ok(Err(format!("round {round}, workspace {workspace}: {finding}"))),
                }
            }
            failed += fails;
            let left = self.left_over().len();
            println!(
                "round {round}: {count} processes, {} of {WORKSPACES} workspaces can be installed, {left} temporary \
                 files, {:.1} s",
                WORKSPACES - fails,
                clock.elapsed().as_secs_f64()
            );
            if left > 200 {
                return Ok(Err(format!("temporary files pile up: {:?}", self.left_over())));
            }
        }
        println!(
            "{round} rounds, {processes} processes, {compared} workspaces as from scratch, {failed} that cannot be \
             installed either way, {:.0} s",
            self.began.elapsed().as_secs_f64()
        );
        for (what, count) in &self.did {
            println!("{count:6} {what}");
        }
        Ok(Ok(()))
    }
}

/// Replaces a file as programs do that take care: by rename.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("written-aside");
    fs::write(&aside, content)?;
    fs::rename(&aside, path)
}

fn send(signal: &str, child: &Child) {
    // It may have ended by itself.
    drop(Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).stderr(Stdio::null()).status());
}

fn ended_badly(status: ExitStatus, killed: bool, said: &str) -> Option<String> {
    let ended = match status.code() {
        Some(0 | 1) => true,
        Some(130 | 143) => killed,
        Some(_) => false,
        None => killed && matches!(status.signal(), Some(2 | 9 | 15)),
    };
    (!ended || said.contains("panicked")).then(|| format!("ended with {status}"))
}

fn directories_in(directory: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    all.sort();
    all
}

/// All that is not a directory, sorted.
fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => directories.push(entry.path()),
                Ok(_) => files.push(entry.path()),
                Err(_) => {}
            }
        }
    }
    files.sort();
    files
}

/// What an environment consists of: files with their content, and records by what they say.
fn picture(prefix: &Path) -> io::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut picture = BTreeMap::new();
    for path in files_below(prefix) {
        let inside = path.strip_prefix(prefix).unwrap_or(&path).to_owned();
        if inside.starts_with("conda-meta") {
            if inside.extension().is_none_or(|end| end != "json") {
                continue;
            }
            let record: Value = serde_json::from_slice(&fs::read(&path)?).unwrap_or_default();
            let fields = ["name", "version", "build", "build_number", "depends", "sha256", "files", "requested_spec"];
            let said: Vec<&Value> = fields.iter().map(|field| &record[field]).collect();
            picture.insert(inside, serde_json::to_vec(&said)?);
        } else if path.is_symlink() {
            picture.insert(inside, fs::read_link(&path)?.into_os_string().into_encoded_bytes());
        } else {
            picture.insert(inside, fs::read(&path)?);
        }
    }
    Ok(picture)
}

fn difference(one: &BTreeMap<PathBuf, Vec<u8>>, scratch: &BTreeMap<PathBuf, Vec<u8>>) -> Option<Finding> {
    let mut found = Vec::new();
    for path in one.keys().chain(scratch.keys()) {
        match (one.get(path), scratch.get(path)) {
            (Some(a), Some(b)) if a == b => {}
            (a, b) => {
                let show = |side: Option<&Vec<u8>>| {
                    side.map_or("not there".to_owned(), |bytes| {
                        String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned()
                    })
                };
                found.push(format!("{}: {} / from scratch: {}", path.display(), show(a), show(b)));
            }
        }
    }
    found.dedup();
    (!found.is_empty()).then(|| format!("the environment is not as from scratch: {found:#?}"))
}

fn main() -> io::Result<()> {
    let arguments: Vec<u64> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let seconds = arguments.first().copied().unwrap_or(60);
    let seed = arguments.get(1).copied().unwrap_or_else(|| u64::from(std::process::id()));
    let here = std::env::current_exe()?;
    let built = here.parent().and_then(Path::parent).ok_or_else(|| io::Error::other("it lies nowhere"))?;
    let doge = built.join("doge");
    if !doge.is_file() {
        return Err(io::Error::other("build the program first: cargo build -p doge-cli --bin doge"));
    }
    let directory = tempfile::Builder::new().prefix("doge-torture-").tempdir()?;
    println!("seed {seed}, in {}", directory.path().display());
    let mut torture = Torture::new(directory.path().to_owned(), doge, seed)?;
    match torture.run(seconds)? {
        Ok(()) => Ok(()),
        Err(finding) => {
            println!("FOUND with seed {seed}: {finding}\nEverything is kept in {}", directory.keep().display());
            std::process::exit(1)
        }
    }
}
