//! The product's HTTP service as a test's own: started on a free port, asked over HTTP, ended with the test.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    TestHost, eventually,
    running::{Ended, Process, Running},
};

/// How long a service on a busy host may take to start, and a request to be answered.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running service. Dropping it kills it.
pub struct Service {
    running: Running,
    address: SocketAddr,
    token: Option<String>,
}

/// An answer over HTTP.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its header lines, in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: String,
    /// From sending the request to the last byte of the body.
    pub took: Duration,
}

impl Response {
    /// Reads an answer to its end, which is that of its connection.
    pub fn read(mut stream: TcpStream) -> Result<Self> {
        let since = Instant::now();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).context("read the answer")?;
        let answer = String::from_utf8(answer).context("the answer is text")?;
        let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("a head in {answer:?}"))?;
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("a status line")?;
        let headers = lines.filter_map(|line| line.split_once(':'));
        Ok(Self {
            status: status.parse().context("a status")?,
            headers: headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect(),
            body: body.to_owned(),
            took: since.elapsed(),
        })
    }

    /// Its body, which must be JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("no JSON: {error}: {self:?}"))
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// Asserts that it is that of a program that printed this.
    #[track_caller]
    pub fn expect_printed(&self, stdout: &str) {
        assert_eq!((self.status, &self.json()["stdout"]), (200, &json!(stdout)), "{self:?}");
    }

    /// The value of `error`, of a request that was refused.
    pub fn error(&self) -> String {
        let answer = self.json();
        assert_eq!(answer["status"], "failed", "{self:?}");
        assert!(answer["trace_id"].is_string(), "{self:?}");
        answer["error"].as_str().expect("an error is a string").to_owned()
    }
}

impl Service {
    /// Starts one on this host's data directory, and waits until it listens.
    pub fn start(host: &TestHost, arguments: &[&str]) -> Result<Self> {
        Self::start_command(&mut Self::command(host, arguments))
    }

    /// The command that starts one.
    pub fn command(host: &TestHost, arguments: &[&str]) -> Command {
        host.command(&[&["api", "--port", "0"], arguments].concat())
    }

    /// The command that starts one by way of another program, which is given that as its last arguments.
    pub fn command_by(program: &str, its: &[&str], command: &Command) -> Command {
        let mut by = Command::new(program);
        by.args(its).arg(command.get_program()).args(command.get_args()).stdin(std::process::Stdio::null());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => by.env(name, value),
                None => by.env_remove(name),
            };
        }
        by
    }

    /// Starts it.
    pub fn start_command(command: &mut Command) -> Result<Self> {
        const LISTENING: &str = "listening on http://";
        let mut running = Running::start(command);
        running.wait_until_said(LISTENING)?;
        let mut address = None;
        eventually("the service says where it listens", PATIENCE, || {
            let said = running.stderr();
            let line =
                said.lines().find_map(|line| line.split_once(LISTENING).map(|(_, rest)| rest.to_owned()));
            // Not before the line is whole.
            address = line.filter(|_| said.ends_with('\n')).and_then(|line| line.trim().parse().ok());
            address.is_some()
        })?;
        let mut address: SocketAddr = address.context("the condition was that there is one")?;
        if address.ip().is_unspecified() {
            address.set_ip([127, 0, 0, 1].into());
        }
        Ok(Self { running, address, token: None })
    }

    /// The same, asked with a token.
    pub fn with_token(mut self, token: Option<&str>) -> Self {
        self.token = token.map(str::to_owned);
        self
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has written to stderr so far.
    pub fn log(&self) -> String {
        self.running.stderr()
    }

    /// Waits until the log holds all of this in one line.
    #[track_caller]
    pub fn expect_logged(&self, parts: &[&str]) {
        let holds = || self.log().lines().any(|line| parts.iter().all(|part| line.contains(part)));
        if let Err(error) = eventually("it is logged", PATIENCE, holds) {
            panic!("{error}: {parts:?}: {}", self.log());
        }
    }

    /// Its VMMs.
    pub fn vmms(&self) -> Vec<Process> {
        let family = self.running.process().descendants();
        family.into_iter().filter(|process| process.name.starts_with("qemu-system")).collect()
    }

    /// Its process.
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Waits for its end.
    pub fn end_within(self, patience: Duration) -> Result<Ended> {
        self.running.end_within(patience)
    }

    /// Ends it as a supervisor would.
    pub fn stop(self) -> Result<Ended> {
        self.signal(Signal::TERM);
        self.end_within(PATIENCE)
    }

    /// Ends it as a supervisor would, and asserts that nothing of it is left.
    #[track_caller]
    pub fn expect_clean_stop(self, host: &TestHost) {
        let ended = self.stop().expect("the service ends");
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        assert_eq!(host.processes().expect("processes are listed"), Vec::<String>::new());
        assert_eq!(host.leftovers().expect("files are listed"), Vec::<PathBuf>::new());
    }

    /// Waits until it can serve from a pool that is as full as it is to be.
    pub fn wait_until_full(&self) -> Result<()> {
        eventually("the pool is full", PATIENCE, || {
            let status = self.get("/api/v1/status").json();
            let pools = status["pools"].as_array().cloned().unwrap_or_default();
            let number = |pool: &Value, key: &str| pool[key].as_u64().unwrap_or_default();
            let is_full = |pool: &Value| {
                let target = number(pool, "target");
                target > 0 && number(pool, "idle") >= target && number(pool, "starting") == 0
            };
            !pools.is_empty() && pools.iter().all(is_full)
        })
    }

    /// A number of its status.
    pub fn status(&self, pointer: &str) -> u64 {
        let status = self.get("/api/v1/status").json();
        status.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {pointer} in {status}"))
    }

    /// `GET`s a path.
    pub fn get(&self, path: &str) -> Response {
        self.ask("GET", path, "").expect("the service answers")
    }

    /// `POST`s JSON.
    pub fn post(&self, path: &str, body: &Value) -> Response {
        self.ask("POST", path, &body.to_string()).expect("the service answers")
    }

    /// Runs one file of Python.
    pub fn python(&self, code: &str) -> Response {
        self.post("/api/v1/run", &json!({ "language": "python", "code": code }))
    }

    /// Sends a request on a connection of its own, and reads the answer.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Result<Response> {
        self.target().ask(method, path, body)
    }

    /// Sends a request, and does not wait for its answer.
    pub fn send(&self, method: &str, path: &str, body: &str) -> Result<TcpStream> {
        self.target().send(method, path, body)
    }

    fn target(&self) -> Target<'_> {
        Target { address: self.address, token: self.token.as_deref() }
    }
}

/// Where requests are sent, whichever process is there.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The address.
    pub address: SocketAddr,
    /// The token that is sent along.
    pub token: Option<&'a str>,
}

impl Target<'_> {
    /// Sends a request on a connection of its own, and reads the answer.
    pub fn ask(self, method: &str, path: &str, body: &str) -> Result<Response> {
        let since = Instant::now();
        let response = Response::read(self.send(method, path, body)?)?;
        Ok(Response { took: since.elapsed(), ..response })
    }

    /// Sends a request, and does not wait for its answer.
    pub fn send(self, method: &str, path: &str, body: &str) -> Result<TcpStream> {
        let mut stream = TcpStream::connect(self.address).context("connect to the service")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let token = self.token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n"));
        let token = token.unwrap_or_default();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{token}Content-Type: application/json\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
        .context("send the request")?;
        Ok(stream)
    }
}
