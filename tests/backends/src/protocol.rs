//! JSON-RPC 2.0 on two streams, one message a line.
//!
//! Every request that can be told to be one is answered, if need be by an error; notifications are not. What the
//! methods do is the business of [`crate::session`].

use std::io::{self, BufRead, Write};

use serde_json::{Value, json};

use crate::session::Session;

/// An error of a call.
#[derive(Debug)]
pub(crate) struct RpcError {
    pub(crate) code: i64,
    pub(crate) message: String,
    pub(crate) data: Option<Value>,
}

impl RpcError {
    const PARSE_ERROR: i64 = -32700;
    const INVALID_REQUEST: i64 = -32600;
    const METHOD_NOT_FOUND: i64 = -32601;
    const INVALID_PARAMS: i64 = -32602;
    const INTERNAL: i64 = -32603;
    /// The backend cannot do what it was asked for; the data say why.
    pub(crate) const BACKEND: i64 = -32000;

    pub(crate) fn invalid_request(message: impl Into<String>) -> Self {
        Self { code: Self::INVALID_REQUEST, message: message.into(), data: None }
    }

    pub(crate) fn method_not_found(method: &str) -> Self {
        Self { code: Self::METHOD_NOT_FOUND, message: format!("there is no method '{method}'"), data: None }
    }

    pub(crate) fn invalid_params(message: impl Into<String>) -> Self {
        Self { code: Self::INVALID_PARAMS, message: message.into(), data: None }
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self { code: Self::INTERNAL, message: message.into(), data: None }
    }

    pub(crate) fn backend(code: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        let data = json!({
            "code": format!("doge_test_backend::{code}"),
            "message": message,
            "severity": "error",
            "causes": [],
            "related": [],
            "labels": [],
        });
        Self { code: Self::BACKEND, message, data: Some(data) }
    }
}

/// What is written in answer to a request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A message as it should be.
    Reply(Result<Value, RpcError>),
    /// This line in its place.
    Line(String),
    /// The start of a line and then so many bytes which do not end it. Nothing can follow.
    Endless(u64),
}

/// Answers what comes in until nothing does.
pub(crate) fn serve(mut input: impl BufRead, mut output: impl Write, session: &mut Session) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let Some((id, answer)) = answer(&line, session) else { continue };
        let written = match answer {
            Answer::Reply(Ok(result)) => {
                write_line(&mut output, &json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string())
            }
            Answer::Reply(Err(error)) => write_line(&mut output, &error_message(&id, error).to_string()),
            Answer::Line(line) => write_line(&mut output, &line),
            Answer::Endless(bytes) => return client_may_leave(write_endless(&mut output, bytes)),
        };
        if written.is_err() {
            return client_may_leave(written);
        }
    }
}

/// The id of the request and the answer to it; nothing for a notification.
fn answer(line: &[u8], session: &mut Session) -> Option<(Value, Answer)> {
    let refused = |id, error| Some((id, Answer::Reply(Err(error))));
    let message: Value = match serde_json::from_slice(line) {
        Ok(message) => message,
        Err(error) => {
            let error = RpcError { code: RpcError::PARSE_ERROR, message: format!("not JSON: {error}"), data: None };
            return refused(Value::Null, error);
        }
    };
    let Some(request) = message.as_object() else {
        return refused(Value::Null, RpcError::invalid_request("a request is an object"));
    };
    let id = request.get("id");
    if let Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) = id {
        return refused(Value::Null, RpcError::invalid_request("an id is a number or a string"));
    }
    let Some(method) = request.get("method").and_then(Value::as_str) else {
        return refused(id.cloned().unwrap_or_default(), RpcError::invalid_request("a request has a method"));
    };
    let id = id?.clone();
    if request.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return refused(id, RpcError::invalid_request("not JSON-RPC 2.0"));
    }
    let answer = session.call(method, request.get("params").unwrap_or(&Value::Null));
    Some((id, answer))
}

fn error_message(id: &Value, error: RpcError) -> Value {
    let mut inner = json!({ "code": error.code, "message": error.message });
    if let Some(data) = error.data {
        inner["data"] = data;
    }
    json!({ "jsonrpc": "2.0", "id": id, "error": inner })
}

fn write_line(output: &mut impl Write, line: &str) -> io::Result<()> {
    output.write_all(line.as_bytes())?;
    output.write_all(b"\n")?;
    output.flush()
}

fn write_endless(output: &mut impl Write, bytes: u64) -> io::Result<()> {
    let block = [b'x'; 1 << 16];
    output.write_all(br#"{"jsonrpc":"2.0","result":""#)?;
    let mut left = bytes;
    while left > 0 {
        let now = left.min(block.len() as u64);
        output.write_all(&block[..now as usize])?;
        left -= now;
    }
    output.flush()
}

/// A client that does not read any more has gone; that is how sessions end, too.
fn client_may_leave(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
