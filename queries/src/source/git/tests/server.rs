//! A server for repositories over HTTP: as much of it as `git http-backend` needs around it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

#[derive(Clone, Default)]
pub(super) struct Rules {
    /// What `Authorization` has to be.
    pub(super) authorization: Option<&'static str>,
    /// In which way a login is wanted; `Basic` if that is not said.
    pub(super) way: Option<&'static str>,
    /// Where everything is instead, for whoever may ask at all.
    pub(super) moved_to: Option<String>,
    /// Whether to act like a server that does not know version 2 of the protocol.
    pub(super) is_old: bool,
    /// A commit that is not given when it is asked for by its name.
    pub(super) refused: Option<String>,
}

pub(super) struct Server {
    pub(super) address: String,
    requests: Arc<AtomicUsize>,
    fetches: Arc<AtomicUsize>,
    logins: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves the repositories below `root`. It lives as long as the process: nobody waits for it.
    pub(super) fn start(root: &Path, rules: Rules) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let (requests, fetches) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (root, counter, packs) = (root.to_owned(), requests.clone(), fetches.clone());
        let logins = Arc::new(Mutex::new(Vec::new()));
        let seen = logins.clone();
        let failed = Mutex::new(());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counter.fetch_add(1, Ordering::Relaxed);
                let _one_at_a_time = failed.lock();
                // A client that goes away is no concern of the server.
                let _ = answer(stream, &root, &rules, &packs, &seen);
            }
        });
        Self { address, requests, fetches, logins }
    }

    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// What came as `Authorization`, all of it.
    pub(super) fn logins(&self) -> Vec<String> {
        self.logins.lock().expect("no panic").clone()
    }

    /// The address by which it can be asked under another name.
    pub(super) fn address_at(&self, host: &str) -> String {
        self.address.replace("127.0.0.1", host)
    }

    /// How many packs were sent.
    pub(super) fn fetches(&self) -> usize {
        self.fetches.load(Ordering::Relaxed)
    }
}

fn answer(
    mut stream: TcpStream,
    root: &PathBuf,
    rules: &Rules,
    packs: &AtomicUsize,
    logins: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.to_owned())),
            None => break,
        }
    }
    let header = |name: &str| headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
    let mut body = Vec::new();
    if header("transfer-encoding") == Some("chunked") {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size)?;
            let size = u64::from_str_radix(size.trim_end(), 16).map_err(std::io::Error::other)?;
            reader.by_ref().take(size).read_to_end(&mut body)?;
            reader.read_line(&mut String::new())?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(size) = header("content-length").and_then(|size| size.parse().ok()) {
        reader.by_ref().take(size).read_to_end(&mut body)?;
    }
    logins.lock().expect("no panic").extend(header("authorization").map(str::to_owned));
    if rules.authorization.is_some() && rules.authorization != header("authorization") {
        let way = rules.way.unwrap_or("Basic");
        return write!(
            stream,
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {way} realm=\"doge\"\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n"
        );
    }
    if let Some(to) = &rules.moved_to {
        return write!(
            stream,
            "HTTP/1.1 302 Found\r\nLocation: {to}{target}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    let is_refused = |commit: &String| String::from_utf8_lossy(&body).contains(&format!("want {commit}"));
    if rules.refused.as_ref().is_some_and(is_refused) {
        let error = "ERR upload-pack: not our ref";
        return write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-result\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{:04x}{error}",
            error.len() + 4,
            error.len() + 4
        );
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut command = Command::new("git");
    command
        .args(["-c", "http.receivepack=false", "http-backend"])
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("REQUEST_METHOD", method)
        .env("CONTENT_TYPE", header("content-type").unwrap_or_default())
        .env("CONTENT_LENGTH", body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if let Some(protocol) = header("git-protocol").filter(|_| !rules.is_old) {
        command.env("GIT_PROTOCOL", protocol);
    }
    let mut child = command.spawn()?;
    let input = child.stdin.take();
    let writer = std::thread::spawn(move || input.map(|mut input| input.write_all(&body)));
    let output = child.wait_with_output()?;
    let _ = writer.join();
    let end = output.stdout.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_default();
    let (head, body) = output.stdout.split_at(end);
    let head = String::from_utf8_lossy(head);
    let status = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK");
    write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n")?;
    for line in head.lines().filter(|line| !line.starts_with("Status: ") && !line.is_empty()) {
        write!(stream, "{line}\r\n")?;
    }
    let body = body.get(4..).unwrap_or_default();
    if body.windows(4).any(|four| four == b"PACK") {
        packs.fetch_add(1, Ordering::Relaxed);
    }
    write!(stream, "Content-Length: {}\r\n\r\n", body.len())?;
    stream.write_all(body)
}
