//! An HTTP server for a directory, on the loopback interface.
//!
//! It speaks just enough HTTP/1.1 for a client of channels: `GET` and `HEAD`, entity tags, conditional requests and
//! cache control. It counts and remembers what it was asked, and can be told to misbehave for a path.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fs_err as fs;
use rattler_conda_types::ChannelUrl;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpListener,
    task::JoinHandle,
};
use url::Url;

/// What the server does for a path instead of answering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misbehaviour {
    /// Answers with this status and an empty body, as many times as said.
    Status(u16, usize),
    /// Promises the whole body and closes the connection after that many bytes, as many times as said.
    Truncate(usize, usize),
    /// Answers with other bytes.
    Body(Vec<u8>),
    /// Waits before it answers.
    Delay(Duration),
}

/// One request the server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET` or `HEAD`.
    pub method: String,
    /// The path, with the leading slash.
    pub path: String,
    /// The status of the answer.
    pub status: u16,
    /// The `Authorization` header.
    pub authorization: Option<String>,
}

#[derive(Debug)]
struct State {
    root: PathBuf,
    cache_control: Option<String>,
    required_authorization: Option<String>,
    misbehaviours: BTreeMap<String, Misbehaviour>,
    requests: Vec<Request>,
}

/// The server; it ends when it is dropped.
///
/// It needs a running tokio runtime.
#[derive(Debug)]
pub struct TestServer {
    state: Arc<Mutex<State>>,
    port: u16,
    task: JoinHandle<()>,
}

impl TestServer {
    /// Serves `root` on a free port.
    pub async fn start(root: impl Into<PathBuf>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(Mutex::new(State {
            root: root.into(),
            cache_control: Some("public, max-age=0".into()),
            required_authorization: None,
            misbehaviours: BTreeMap::new(),
            requests: Vec::new(),
        }));
        let shared = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = shared.clone();
                tokio::spawn(async move {
                    let (read, write) = stream.into_split();
                    let _ = serve(BufReader::new(read), write, state).await;
                });
            }
        });
        Ok(Self { state, port, task })
    }

    /// The URL of the served directory.
    ///
    /// # Panics
    ///
    /// Never: the URL is well formed.
    pub fn url(&self) -> ChannelUrl {
        let url = Url::parse(&format!("http://127.0.0.1:{}/", self.port)).expect("a well-formed URL");
        ChannelUrl::from(url)
    }

    /// Sets the `Cache-Control` header of every answer; `None` leaves it out.
    pub fn cache_control(&self, value: Option<&str>) {
        self.lock().cache_control = value.map(ToOwned::to_owned);
    }

    /// Answers 401 to whoever does not send this `Authorization` header.
    pub fn require_authorization(&self, value: &str) {
        self.lock().required_authorization = Some(value.to_owned());
    }

    /// Misbehaves for a path from now on.
    pub fn misbehave(&self, path: &str, how: Misbehaviour) {
        self.lock().misbehaviours.insert(path.to_owned(), how);
    }

    /// Behaves again.
    pub fn behave(&self) {
        self.lock().misbehaviours.clear();
    }

    /// The requests since the last call.
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.lock().requests)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Answer {
    status: u16,
    body: Vec<u8>,
    etag: Option<String>,
    promised: usize,
    delay: Option<Duration>,
}

async fn serve(
    mut reader: impl AsyncRead + AsyncBufReadExt + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    state: Arc<Mutex<State>>,
) -> io::Result<()> {
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace();
        let (method, path) = (words.next().unwrap_or("").to_owned(), words.next().unwrap_or("").to_owned());
        let mut headers = BTreeMap::new();
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header).await? == 0 {
                return Ok(());
            }
            let header = header.trim_end();
            if header.is_empty() {
                break;
            }
            if let Some((name, value)) = header.split_once(':') {
                headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            }
        }
        let (answer, cache_control) = answer(&state, &method, &path, &headers);
        if let Some(delay) = answer.delay {
            tokio::time::sleep(delay).await;
        }
        let mut head = format!("HTTP/1.1 {} x\r\nContent-Length: {}\r\n", answer.status, answer.promised);
        if let Some(etag) = &answer.etag {
            head.push_str(&format!("ETag: {etag}\r\n"));
        }
        if let Some(cache_control) = cache_control {
            head.push_str(&format!("Cache-Control: {cache_control}\r\n"));
        }
        head.push_str("\r\n");
        writer.write_all(head.as_bytes()).await?;
        if method != "HEAD" {
            writer.write_all(&answer.body).await?;
            if answer.body.len() < answer.promised {
                return writer.shutdown().await;
            }
        }
        writer.flush().await?;
    }
}

fn answer(
    state: &Mutex<State>,
    method: &str,
    path: &str,
    headers: &BTreeMap<String, String>,
) -> (Answer, Option<String>) {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let authorization = headers.get("authorization").cloned();
    let empty = |status| Answer { status, body: Vec::new(), etag: None, promised: 0, delay: None };
    let mut answer = if state.required_authorization.is_some() && authorization != state.required_authorization {
        empty(401)
    } else {
        match read(&state.root, path) {
            None => empty(404),
            Some(body) => {
                let etag = format!("\"{}\"", blake3::hash(&body).to_hex());
                if headers.get("if-none-match") == Some(&etag) {
                    Answer { etag: Some(etag), ..empty(304) }
                } else {
                    Answer { status: 200, promised: body.len(), body, etag: Some(etag), delay: None }
                }
            }
        }
    };
    let mut forget = false;
    match state.misbehaviours.get_mut(path) {
        None => {}
        Some(Misbehaviour::Status(status, times)) => {
            answer = empty(*status);
            *times = times.saturating_sub(1);
            forget = *times == 0;
        }
        Some(Misbehaviour::Truncate(length, times)) => {
            answer.body.truncate(*length);
            *times = times.saturating_sub(1);
            forget = *times == 0;
        }
        Some(Misbehaviour::Body(body)) => {
            answer = Answer { status: 200, promised: body.len(), body: body.clone(), etag: None, delay: None };
        }
        Some(Misbehaviour::Delay(delay)) => answer.delay = Some(*delay),
    }
    if forget {
        state.misbehaviours.remove(path);
    }
    let request = Request { method: method.to_owned(), path: path.to_owned(), status: answer.status, authorization };
    state.requests.push(request);
    (answer, state.cache_control.clone())
}

fn read(root: &Path, path: &str) -> Option<Vec<u8>> {
    let relative = path.split('?').next()?.trim_start_matches('/');
    if relative.split('/').any(|part| part == "..") {
        return None;
    }
    let mut file = root.to_path_buf();
    file.extend(relative.split('/').map(|part| part.replace("%20", " ").replace("%21", "!").replace("%2B", "+")));
    fs::read(file).ok()
}
