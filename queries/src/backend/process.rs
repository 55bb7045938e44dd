//! A running backend: a child process that is spoken to line by line.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use doge::storage::process_stat;
use doge::{Fingerprint, Reporter};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};

use crate::backend::error::{BackendError, Complaint, LastOutput};
use crate::backend::memory::MemoryBackend;

/// The longest answer that is taken.
const LONGEST_ANSWER: u64 = 256 << 20;
/// The longest line of output that is passed on as one.
const LONGEST_LINE: u64 = 16 << 10;
/// How many of the last lines of output are kept to be shown when something goes wrong.
pub const KEPT_LINES: usize = 60;

/// How long a backend that is not needed any more may take to end, and what it wrote to be heard.
const FAREWELL: Duration = Duration::from_millis(300);

/// Who is told of each line.
pub(crate) type Listener = Arc<dyn Fn(&str) + Send + Sync>;

/// What a backend is.
#[derive(Clone)]
pub(crate) enum Program {
    /// A program that is started.
    File(PathBuf),
    /// A part of this one.
    Memory(Arc<dyn MemoryBackend>),
}

/// How a backend is started.
#[derive(Clone)]
pub(crate) struct Launch {
    /// What it is called in messages.
    pub(crate) name: String,
    /// The program.
    pub(crate) program: Program,
    /// What is in it.
    pub(crate) identity: Fingerprint,
    /// All variables it gets to see.
    pub(crate) environment: BTreeMap<String, String>,
    /// Where it is started.
    pub(crate) directory: PathBuf,
    /// Values that are not to be shown to anybody.
    pub(crate) secrets: Vec<String>,
    /// What it is about cannot change, so it may be asked again.
    pub(crate) lasting: bool,
}

/// The last lines that a backend wrote, and who is told of further ones.
#[derive(Default)]
struct Output {
    lines: VecDeque<String>,
    /// How many lines there were in all.
    count: u64,
    listener: Option<Listener>,
}

/// A running backend.
pub(crate) struct Process {
    name: String,
    /// Its process group, which outlives it if it leaves others behind.
    group: Option<u32>,
    child: Child,
    stdin: Option<ChildStdin>,
    /// Ends when all that it wrote is heard.
    heard: Option<tokio::task::JoinHandle<()>>,
    /// Takes questions that are answered when all is heard that it wrote before them.
    hearing: mpsc::UnboundedSender<oneshot::Sender<()>>,
    stdout: BufReader<ChildStdout>,
    output: Arc<Mutex<Output>>,
    secrets: Arc<[String]>,
    next_id: u64,
    /// What says that it runs.
    note: Option<PathBuf>,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if let Some(note) = &self.note {
            let _ = std::fs::remove_file(note);
        }
    }
}

impl Process {
    /// Starts a program as a backend, and writes down that it runs. Somebody is told of each line from the first one on.
    pub(crate) fn start(
        program: &Path,
        launch: &Launch,
        running: &Running,
        listener: Listener,
    ) -> Result<Self, BackendError> {
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(&launch.environment)
            .current_dir(&launch.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // What it starts itself ends with it.
        #[cfg(unix)]
        command.process_group(0);
        let cannot = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::NotFound => {
                BackendError::Missing { name: launch.name.clone(), program: program.display().to_string() }
            }
            _ => BackendError::Start {
                name: launch.name.clone(),
                program: program.display().to_string(),
                source: Arc::new(source),
            },
        };
        let mut child = command.spawn().map_err(cannot)?;
        let missing_pipe = || cannot(std::io::Error::other("it has no pipes"));
        let stdin = child.stdin.take().ok_or_else(missing_pipe)?;
        let stdout = child.stdout.take().ok_or_else(missing_pipe)?;
        let stderr = child.stderr.take().ok_or_else(missing_pipe)?;
        let output = Arc::new(Mutex::new(Output { listener: Some(listener), ..Output::default() }));
        let secrets: Arc<[String]> = secret_lines(&launch.secrets).into();
        let (hearing, asked) = mpsc::unbounded_channel();
        let heard = Some(tokio::spawn(pass_on(stderr, output.clone(), secrets.clone(), asked)));
        let stdin = Some(stdin);
        let (name, group, stdout) = (launch.name.clone(), child.id(), BufReader::new(stdout));
        let note = group.and_then(|id| running.note(id));
        Ok(Self { name, group, child, stdin, heard, hearing, stdout, output, secrets, next_id: 0, note })
    }

    /// Somebody else is told of further lines.
    pub(crate) fn tell(&self, listener: Listener) {
        self.locked(|output| output.listener = Some(listener));
    }

    /// Nobody is told of what it writes from now on.
    pub(crate) async fn hush(&self) {
        self.hear_out().await;
        self.locked(|output| output.listener = None);
    }

    /// Lets it end by itself, so that what it wrote last is heard, and ends it if it does not.
    pub(crate) async fn end(mut self) {
        drop(self.stdin.take());
        if let Some(heard) = self.heard.take() {
            let _ = tokio::time::timeout(FAREWELL, heard).await;
        }
        self.locked(|output| output.listener = None);
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks one thing and waits for the answer, passing on what the backend writes meanwhile.
    ///
    /// # Cancel safety
    ///
    /// None: an answer may be on its way. Who drops the future has to drop the process, too.
    pub(crate) async fn call<T: DeserializeOwned>(
        &mut self,
        method: &'static str,
        params: &impl Serialize,
        timeout: Duration,
    ) -> Result<T, BackendError> {
        let answer = match tokio::time::timeout(timeout, self.exchange(method, params)).await {
            Ok(answer) => answer,
            Err(_) => Err(BackendError::Silent {
                name: self.name.clone(),
                method,
                waited: timeout,
                output: self.last_output(),
            }),
        };
        let answer = answer?;
        serde_json::from_value(answer).map_err(|error| BackendError::WrongShape {
            name: self.name.clone(),
            method,
            message: redacted(error.to_string(), &self.secrets),
            output: self.last_output(),
        })
    }

    async fn exchange(&mut self, method: &'static str, params: &impl Serialize) -> Result<Value, BackendError> {
        self.next_id += 1;
        let id = self.next_id;
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let mut line = request.to_string();
        line.push('\n');
        let Some(stdin) = &mut self.stdin else { return Err(self.ended(method).await) };
        if stdin.write_all(line.as_bytes()).await.is_err() || stdin.flush().await.is_err() {
            return Err(self.ended(method).await);
        }
        loop {
            let mut line = Vec::new();
            let read = (&mut self.stdout).take(LONGEST_ANSWER).read_until(b'\n', &mut line).await;
            if !matches!(read, Ok(1..)) {
                return Err(self.ended(method).await);
            }
            if line.last() != Some(&b'\n') && line.len() as u64 == LONGEST_ANSWER {
                return Err(self.rubbish(method, &line));
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let Ok(mut message) = serde_json::from_slice::<Value>(&line) else {
                return Err(self.rubbish(method, &line));
            };
            if message.get("id").and_then(Value::as_u64) != Some(id) {
                // A notification, or an answer to a question that nobody waits for any more.
                if message.is_object()
                    && (message.get("method").is_some() || message.get("id").is_some_and(Value::is_u64))
                {
                    continue;
                }
                if message.get("error").is_none() {
                    return Err(self.rubbish(method, &line));
                }
            }
            if let Some(error) = message.get_mut("error").filter(|error| !error.is_null()) {
                redact_all(error, &self.secrets);
                let error = std::mem::take(error);
                self.hear_out().await;
                let complaint = Complaint::of(&error);
                return Err(match complaint.code {
                    -32601 => BackendError::NoMethod { name: self.name.clone(), method },
                    _ => BackendError::Refused {
                        name: self.name.clone(),
                        method,
                        complaint: Box::new(complaint),
                        output: self.last_output(),
                    },
                });
            }
            return match message.get_mut("result") {
                Some(result) => Ok(result.take()),
                None => Err(self.rubbish(method, &line)),
            };
        }
    }

    fn rubbish(&self, method: &'static str, line: &[u8]) -> BackendError {
        let whole = redacted(String::from_utf8_lossy(line).trim_end().to_owned(), &self.secrets);
        let mut said: String = whole.chars().take(400).collect();
        if said.len() < whole.len() {
            said.push_str(" ...");
        }
        BackendError::Rubbish { name: self.name.clone(), method, said, output: self.last_output() }
    }

    /// It closed its side: how did it end?
    async fn ended(&mut self, method: &'static str) -> BackendError {
        let status = tokio::time::timeout(Duration::from_secs(2), self.child.wait()).await;
        let status = match status {
            Ok(Ok(status)) => status.to_string(),
            _ => {
                self.kill();
                "it closed its output and went on".to_owned()
            }
        };
        self.hear_out().await;
        BackendError::Died { name: self.name.clone(), method, status, output: self.last_output() }
    }

    /// Waits until all is heard that it wrote so far. That may still be on its way, for it takes another one than answers.
    async fn hear_out(&self) {
        let (answer, heard) = oneshot::channel();
        if self.hearing.send(answer).is_ok() {
            // One that never stops writing is not waited for.
            let _ = tokio::time::timeout(FAREWELL, heard).await;
        }
    }

    /// The last lines it wrote.
    pub(crate) fn last_output(&self) -> LastOutput {
        self.locked(|output| LastOutput {
            left_out: output.count.saturating_sub(output.lines.len() as u64),
            lines: output.lines.iter().cloned().collect(),
        })
    }

    fn locked<T>(&self, work: impl FnOnce(&mut Output) -> T) -> T {
        work(&mut self.output.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn kill(&mut self) {
        match (self.child.id(), self.group) {
            (Some(id), _) => kill_group(id),
            // It has ended and been waited for; its number is still that of the group of those it left behind.
            (None, Some(group)) if identity_of(group).is_none() => kill_group(group),
            _ => {}
        }
        let _ = self.child.start_kill();
    }
}

/// What tells a process from later ones of the same number: when it began. `None` where that is not to be had.
fn identity_of(id: u32) -> Option<String> {
    let stat = process_stat(id)?;
    // Both count from the start of the machine.
    Some(format!("{id} {} {}", stat.get(BEGAN)?, boot()))
}

/// Which of the fields of a process is its state, which the number of its group, and which the time that it began.
const STATE: usize = 0;
const GROUP: usize = 2;
const BEGAN: usize = 19;

/// What tells this start of the machine from others.
fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// The members of a process group that began no earlier than its first, without those of which only the remains are there:
/// whoever inherited them may never ask how they ended.
fn members_of(group: u32, began: u64) -> Vec<u32> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let ids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_member = |id: &u32| {
        let stat = process_stat(*id)?;
        let (of, since) = (stat.get(GROUP)?.parse::<u32>().ok()?, stat.get(BEGAN)?.parse::<u64>().ok()?);
        Some(of == group && since >= began && !matches!(stat.get(STATE)?.as_str(), "Z" | "X"))
    };
    ids.filter(|id| is_member(id) == Some(true)).collect()
}

/// The backends that run in a workspace, written down, so that whoever comes after us if we are killed ends what goes on
/// without us.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    directory: PathBuf,
}

/// How old a note has to be that cannot be read to be no longer in the making.
const MADE_BY_NOW: Duration = Duration::from_secs(60);

impl Running {
    pub(crate) fn in_directory(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Writes down that a process runs, and who started it: where that is.
    fn note(&self, id: u32) -> Option<PathBuf> {
        let (it, us) = (identity_of(id)?, identity_of(std::process::id())?);
        // Numbers are given away again; together with the beginning they are not.
        let began = it.split_whitespace().nth(1).unwrap_or_default();
        let path = self.directory.join(format!("{id}-{began}"));
        let write = || std::fs::write(&path, format!("{it}\n{us}\n"));
        // Without it nobody ends what goes on without us.
        write().or_else(|_| std::fs::create_dir_all(&self.directory).and_then(|()| write())).ok()?;
        Some(path)
    }

    /// Ends every backend that goes on though whoever started it was killed, and all that it started. Blocking.
    pub(crate) fn end_orphans(&self) {
        for note in std::fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let path = note.path();
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let is_done = match text.lines().collect::<Vec<_>>().as_slice() {
                [_, starter] if lives(starter) => false,
                [backend, _] => {
                    end(backend);
                    true
                }
                _ => {
                    let age = note.metadata().and_then(|metadata| metadata.modified()).map(|time| time.elapsed());
                    matches!(age, Ok(Ok(age)) if age > MADE_BY_NOW)
                }
            };
            if is_done {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// Whether the process of an identity is there.
fn lives(identity: &str) -> bool {
    let id = identity.split_whitespace().next().and_then(|id| id.parse::<u32>().ok());
    id.and_then(identity_of).is_some_and(|now| now == identity)
}

/// Ends the process group of an identity.
fn end(identity: &str) {
    let mut words = identity.split_whitespace();
    let id = words.next().and_then(|id| id.parse::<u32>().ok());
    let began = words.next().and_then(|began| began.parse::<u64>().ok());
    if let (Some(id), Some(began)) = (id, began)
        && words.next().unwrap_or_default() == boot()
        // A number is not given away again while it is that of a group, so somebody else's means that nobody is left.
        && identity_of(id).is_none_or(|now| now == identity)
    {
        for _ in 0..100 {
            if members_of(id, began).is_empty() {
                break;
            }
            kill_group(id);
            // They are gone when their numbers are.
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn kill_group(id: u32) {
    #[cfg(unix)]
    if let Some(group) = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw) {
        // It may have ended by itself just now.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    #[cfg(not(unix))]
    let _ = id;
}

/// The lines of secrets that are long enough to be told from other text.
pub(crate) fn secret_lines(secrets: &[String]) -> Vec<String> {
    let lines = secrets.iter().flat_map(|secret| secret.lines());
    let mut lines: Vec<String> = lines.map(str::trim).filter(|line| line.len() > 3).map(str::to_owned).collect();
    // One that contains another is hidden as a whole.
    lines.sort_by_key(|line| std::cmp::Reverse(line.len()));
    lines
}

/// A text without secrets.
pub(crate) fn redacted(text: String, secrets: &[String]) -> String {
    secrets.iter().fold(text, |text, secret| text.replace(secret.as_str(), "***"))
}

/// Hides secrets in all texts of a message.
fn redact_all(value: &mut Value, secrets: &[String]) {
    match value {
        Value::String(text) => *text = redacted(std::mem::take(text), secrets),
        Value::Array(values) => values.iter_mut().for_each(|value| redact_all(value, secrets)),
        Value::Object(values) => values.values_mut().for_each(|value| redact_all(value, secrets)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Passes on, line by line, what a backend writes; keeps the last lines. Who asks is answered when there is nothing to be
/// read.
async fn pass_on(
    stream: impl AsyncRead + Unpin,
    output: Arc<Mutex<Output>>,
    secrets: Arc<[String]>,
    mut asked: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
) {
    let mut reader = BufReader::new(stream);
    let longest = secrets.iter().map(String::len).max().unwrap_or(0);
    // The end of a part of a line, in which a secret may have begun.
    let mut held = String::new();
    let mut line = Vec::new();
    loop {
        let mut rest = (&mut reader).take(LONGEST_LINE - line.len() as u64);
        let read = tokio::select! {
            // What was written before an answer can be read before whoever got the answer goes on to ask here.
            biased;
            read = rest.read_until(b'\n', &mut line) => read,
            Some(asked) = asked.recv() => {
                let _ = asked.send(());
                continue;
            }
        };
        let line = std::mem::take(&mut line);
        let is_over = matches!(read, Ok(0) | Err(_));
        if is_over && held.is_empty() && line.is_empty() {
            return;
        }
        let is_whole = line.last() == Some(&b'\n') || (line.len() as u64) < LONGEST_LINE;
        let said = std::mem::take(&mut held) + String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']);
        let mut text = redacted(said, &secrets);
        if !is_whole && longest > 1 {
            let mut place = text.len().saturating_sub(longest - 1);
            while !text.is_char_boundary(place) {
                place -= 1;
            }
            held = text.split_off(place);
        }
        let listener = {
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            if output.lines.len() == KEPT_LINES {
                output.lines.pop_front();
            }
            output.lines.push_back(text.clone());
            output.count += 1;
            output.listener.clone()
        };
        if let Some(listener) = listener {
            listener(&text);
        }
        if is_over {
            return;
        }
    }
}

/// Passes lines on to whoever watches the work.
pub(crate) fn told_by(reporter: Reporter) -> Listener {
    Arc::new(move |line| reporter.output_line(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_secret_is_hidden_where_a_long_line_is_cut() {
        let secret = "s3cr3tvalueXYZ";
        for before in LONGEST_LINE as usize - 20..LONGEST_LINE as usize + 2 {
            let said = format!("{}{secret} and so on\nthe end", "M".repeat(before));
            let output = Arc::new(Mutex::new(Output::default()));
            let (_hearing, asked) = mpsc::unbounded_channel();
            pass_on(said.as_bytes(), output.clone(), Arc::from([secret.to_owned()]), asked).await;
            let told: Vec<String> = output.lock().expect("nobody panics with it").lines.iter().cloned().collect();
            assert_eq!(told.last().map(String::as_str), Some("the end"));
            assert_eq!(told.concat(), format!("{}*** and so onthe end", "M".repeat(before)), "{before}");
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_secret_in_an_answer_of_another_shape_is_hidden() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let program = directory.path().join("backend");
        let script = "#!/bin/sh\nread question\necho '{\"id\": 1, \"result\": \"s3cr3tvalue\"}'\n";
        std::fs::write(&program, script).expect("it can be written");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        let launch = Launch {
            name: "backend".to_owned(),
            program: Program::File(program.clone()),
            identity: Fingerprint::of(b""),
            environment: BTreeMap::new(),
            directory: directory.path().to_owned(),
            secrets: vec!["s3cr3tvalue".to_owned()],
            lasting: false,
        };
        let running = Running::in_directory(directory.path().join("running"));
        let mut process = Process::start(&program, &launch, &running, Arc::new(|_| {})).expect("it can be started");
        let error = process.call::<u64>("ask", &json!({}), Duration::from_secs(60)).await.expect_err("it is no number");
        let told = error.to_string();
        assert!(told.contains("***") && !told.contains("s3cr3tvalue"), "{told}");
    }
}
