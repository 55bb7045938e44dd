//! A workspace with a channel and a cache of its own, and the program to run in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use doge_queries::testing::{ChannelBuilder, PackageBuilder, TestServer};
use serde_json::Value;
use tempfile::TempDir;

/// The platform that the tests run on.
pub(crate) const PLATFORM: &str = if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
    "linux-64"
} else if cfg!(target_os = "linux") {
    "linux-aarch64"
} else if cfg!(target_arch = "x86_64") {
    "osx-64"
} else {
    "osx-arm64"
};

/// The program in a workspace, with a home and a cache of its own and nothing else of the environment.
pub(crate) fn doge(arguments: &[&str], workspace: &Path, directory: &Path, cache: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doge"));
    command
        .args(arguments)
        .current_dir(workspace)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", directory.join("home"))
        .env("DOGE_CACHE_DIR", cache);
    command
}

pub(crate) struct Site {
    directory: TempDir,
    pub(crate) channel: ChannelBuilder,
}

impl Site {
    /// `app` needs `lib`, of which there are two versions; nothing needs `other`.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut channel = ChannelBuilder::new(directory.path().join("workspace/channel"));
        let app = |version: &str| {
            PackageBuilder::new("app", version).executable("bin/app", format!("#!/bin/sh\necho app {version}\n"))
        };
        for package in [
            app("1.0").depends(["lib"]).timestamp(1_600_000_000_000),
            app("2.0").depends(["lib >=1.1"]).timestamp(1_700_000_000_000),
            PackageBuilder::new("lib", "1.0").file("share/lib", "1.0\n").timestamp(1_600_000_000_000),
            PackageBuilder::new("lib", "1.1").file("share/lib", "1.1\n").timestamp(1_700_000_000_000),
            PackageBuilder::new("tool", "1.0").file("share/tool", "1.0\n").timestamp(1_600_000_000_000),
            PackageBuilder::new("other", "1.0").file("share/other", "1.0\n").timestamp(1_600_000_000_000),
        ] {
            channel.add(package).expect("it can be written");
        }
        channel.subdir(PLATFORM);
        channel.index().expect("it can be written");
        let site = Self { directory, channel };
        site.needs("app = '*'");
        site
    }

    /// The folder that the workspace and the caches lie in.
    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.directory.path().join("workspace").join(inside)
    }

    pub(crate) fn prefix(&self, inside: &str) -> PathBuf {
        self.path(".pixi/envs/default").join(inside)
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.directory.path().join("cache")
    }

    /// Writes a manifest with these dependencies.
    pub(crate) fn needs(&self, dependencies: &str) {
        self.manifest("", &format!("[dependencies]\n{dependencies}\n"));
    }

    /// Writes a manifest with more lines in `[workspace]`, and tables after it.
    pub(crate) fn manifest(&self, workspace: &str, tables: &str) {
        let text = format!(
            "[workspace]\nname = 'site'\nchannels = ['./channel']\nplatforms = ['{PLATFORM}']\n{workspace}\n{tables}\n"
        );
        self.write("pixi.toml", &text);
    }

    pub(crate) fn write(&self, inside: &str, text: &str) {
        let path = self.path(inside);
        std::fs::create_dir_all(path.parent().expect("it is inside")).expect("it can be made");
        std::fs::write(path, text).expect("it can be written");
    }

    pub(crate) fn read(&self, inside: &str) -> String {
        std::fs::read_to_string(self.path(inside)).expect("it is there")
    }

    pub(crate) fn lock_file(&self) -> String {
        self.read("pixi.lock")
    }

    /// Indexes the channel again, as if that had been a while ago: no stamp may be taken for fresh.
    pub(crate) fn index(&self) {
        self.channel.index().expect("it can be written");
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        doge(arguments, &self.path(""), self.directory.path(), &self.cache())
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        Ran::by(self.command(arguments))
    }

    /// Runs a command that prints one JSON object and has to succeed.
    pub(crate) fn json(&self, arguments: &[&str]) -> Ran {
        self.run(&[arguments, &["--json"]].concat()).succeeded()
    }

    /// Installs, and has to succeed.
    pub(crate) fn install(&self) -> Ran {
        self.json(&["install"])
    }

    /// Every file below the workspace but the channel with its content, and when it was written.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
        let mut files = BTreeMap::new();
        let mut directories = vec![self.path("")];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).expect("it is there") {
                let path = entry.expect("it can be read").path();
                let metadata = path.symlink_metadata().expect("it is there");
                if metadata.is_dir() {
                    directories.push(path);
                } else if !path.starts_with(self.path("channel")) {
                    let content = std::fs::read(&path).unwrap_or_default();
                    files.insert(path, (content, metadata.modified().expect("files have times")));
                }
            }
        }
        files
    }
}

/// A server on this machine that counts what it is asked.
pub(crate) struct Server {
    server: TestServer,
    // What the server runs on, dropped after it.
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    /// Serves a directory.
    pub(crate) fn start(root: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a thread can be started");
        let server = runtime.block_on(TestServer::start(root)).expect("a port is free");
        Self { server, _runtime: runtime }
    }
}

impl std::ops::Deref for Server {
    type Target = TestServer;

    fn deref(&self) -> &TestServer {
        &self.server
    }
}

/// Long enough for a file that is written afterwards to have another time.
pub(crate) fn tick() {
    std::thread::sleep(Duration::from_millis(20));
}

/// What a run of the program left behind.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Runs a command to its end.
    pub(crate) fn by(mut command: Command) -> Self {
        Self::of(command.output().expect("it can be started"))
    }

    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        self
    }

    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("results are text"),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub(crate) fn value(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.stdout, self.stderr))
    }

    /// What ran, by kind.
    pub(crate) fn executed(&self) -> BTreeMap<String, u64> {
        serde_json::from_value(self.value()["executed"].clone()).expect("it is a map")
    }

    /// What ran, as `kind` or `kind*count`, sorted.
    pub(crate) fn ran(&self) -> Vec<String> {
        let named = |(kind, count): (String, u64)| if count == 1 { kind } else { format!("{kind}*{count}") };
        self.executed().into_iter().map(named).collect()
    }

    #[track_caller]
    pub(crate) fn assert_nothing_ran(&self) {
        assert_eq!(self.ran(), Vec::<String>::new());
    }

    #[track_caller]
    pub(crate) fn assert_ends_with_code(&self, code: i32) {
        assert_eq!(self.code, code, "{}", self.stderr);
    }

    #[track_caller]
    pub(crate) fn assert_fails_with(&self, parts: &[&str]) {
        assert_eq!(self.code, 1, "{}{}", self.stdout, self.stderr);
        // Messages are wrapped where lines are full, behind hyphens, too.
        let words: Vec<&str> = self.stderr.split_whitespace().filter(|word| *word != "│").collect();
        let said = words.join(" ");
        let unwrapped = said.replace("- ", "-");
        for part in parts {
            assert!(said.contains(part) || unwrapped.contains(part), "`{part}` is not in: {said}");
        }
    }
}

/// Every file of a prefix with its content or target, but those of which the content is a matter of time.
pub(crate) fn contents(prefix: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut directories = vec![prefix.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten() {
            let path = entry.expect("it can be read").path();
            let name = path.strip_prefix(prefix).expect("it is inside").display().to_string();
            let metadata = path.symlink_metadata().expect("it is there");
            if metadata.is_dir() {
                found.insert(format!("{name}/"), Vec::new());
                directories.push(path);
            } else if metadata.is_symlink() {
                let target = std::fs::read_link(&path).expect("it is a link");
                found.insert(name, target.into_os_string().into_encoded_bytes());
            } else if !["conda-meta/doge", "conda-meta/.doge-lock", "conda-meta/history"].contains(&name.as_str()) {
                let content = std::fs::read(&path).expect("it is there");
                let is_record = name.starts_with("conda-meta/") && name.ends_with(".json");
                found.insert(name, if is_record { sorted(&content) } else { content });
            }
        }
    }
    found
}

/// The record of a package with its paths in order: the installer writes them in any.
fn sorted(record: &[u8]) -> Vec<u8> {
    let mut record: Value = serde_json::from_slice(record).expect("it is whole");
    for place in ["/files", "/paths_data/paths"] {
        let paths = record.pointer_mut(place).and_then(Value::as_array_mut).expect("it names its files");
        paths.sort_by_key(Value::to_string);
    }
    record.to_string().into_bytes()
}

/// The packages that a lock file names, as `name-version`, sorted.
pub(crate) fn locked(text: &str) -> Vec<String> {
    let mut locked: Vec<String> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- conda: "))
        .filter_map(|location| {
            Path::new(location).file_name()?.to_str()?.rsplit_once('-').map(|(name, _)| name.to_owned())
        })
        .collect();
    locked.sort();
    locked.dedup();
    locked
}

/// A server that answers a request, given as it came, with what it is told to; it ends with the test.
pub(crate) fn answering(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> u16 {
    use std::io::{BufRead as _, BufReader, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("it has one").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let request: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let _ = (&stream).write_all(&answer(&request.join("\n")));
        }
    });
    port
}

/// Where nobody listens.
pub(crate) fn deserted() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it has one").port()
}
