//! A real registry (Debian's `docker-registry`), and a proxy before it or any other HTTP server that does what
//! networks and servers do on bad days.
//!
//! The proxy speaks HTTP/1.1, one request for each connection, and knows nothing of registries: what it does with a
//! request is decided by whoever starts it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::eventually;

/// A request, and what the proxy has sent in answer to it so far.
#[derive(Debug, Clone, Default)]
pub struct Exchange {
    /// `GET`, `HEAD` and so on.
    pub method: String,
    /// Its path, with the query.
    pub path: String,
    /// Where the client wants to go on (`Range: bytes=N-`).
    pub range: Option<u64>,
    /// What the client says of itself.
    pub authorization: Option<String>,
    /// How many bytes of a body went to the client.
    pub sent: u64,
}

/// What the proxy does with a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Nothing but passing it on.
    None,
    /// Hangs up after so many bytes of the body.
    CutAfter(u64),
    /// Inverts the byte of the body at this place.
    Flip(u64),
    /// Says that the body is so long, and sends no more.
    TruncateTo(u64),
    /// Answers itself: status line, headers and body as they are.
    Answer(String),
    /// Sends a body without end.
    Endless,
    /// Says nothing, until the client goes away.
    Silent,
    /// Says nothing more after so many bytes of the body, until the client goes away.
    SilentAfter(u64),
}

impl Fault {
    /// An answer without a body.
    pub fn status(status: &str, headers: &[&str]) -> Self {
        let first = format!("HTTP/1.1 {status}");
        let lines =
            [&[first.as_str()], headers, &["Content-Length: 0", "Connection: close", "", ""]].concat();
        Self::Answer(lines.join("\r\n"))
    }
}

type Decide = dyn Fn(&Exchange, usize) -> Fault + Send + Sync;

/// A server on this machine that passes requests on to another, with faults.
pub struct Proxy {
    /// Where it listens: `127.0.0.1:PORT`.
    pub address: String,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
}

impl Proxy {
    /// Starts one before `upstream`. `decide` is told of a request, and how many there were before with its path.
    pub fn start(
        upstream: SocketAddr,
        decide: impl Fn(&Exchange, usize) -> Fault + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there are free ports");
        let address = listener.local_addr().expect("it is bound").to_string();
        let exchanges = Arc::new(Mutex::new(Vec::new()));
        let (log, decide): (_, Arc<Decide>) = (Arc::clone(&exchanges), Arc::new(decide));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, decide) = (Arc::clone(&log), Arc::clone(&decide));
                // The client may go away at any time, and so may the server.
                thread::spawn(move || drop(serve(&stream, upstream, &log, &*decide)));
            }
        });
        Self { address, exchanges }
    }

    /// What has been asked and answered so far.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.exchanges.lock().expect("nobody panics with it").clone()
    }

    /// The same of paths that hold `part`.
    pub fn exchanges_about(&self, part: &str) -> Vec<Exchange> {
        self.exchanges().into_iter().filter(|exchange| exchange.path.contains(part)).collect()
    }
}

fn serve(
    client: &TcpStream,
    upstream: SocketAddr,
    log: &Mutex<Vec<Exchange>>,
    decide: &Decide,
) -> Result<()> {
    let (request, head) = read_request(client)?;
    let (number, fault) = {
        let mut log = log.lock().expect("nobody panics with it");
        let earlier = log.iter().filter(|exchange| exchange.path == request.path).count();
        let fault = decide(&request, earlier);
        log.push(request);
        (log.len() - 1, fault)
    };
    let mut answer = Answer { client, log, number };
    match &fault {
        Fault::Answer(text) => return answer.head(text.as_bytes()),
        Fault::Silent => return wait_for_end(client),
        Fault::Endless => {
            answer.head(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            loop {
                answer.body(&[b' '; 4 << 10])?;
            }
        }
        _ => {}
    }
    let mut server = TcpStream::connect(upstream).context("connect to the server")?;
    server.write_all(head.as_bytes())?;
    let mut server = BufReader::new(server);
    answer.head(&response_head(&mut server, &fault)?)?;
    let limit = match fault {
        Fault::CutAfter(limit) | Fault::SilentAfter(limit) | Fault::TruncateTo(limit) => limit,
        _ => u64::MAX,
    };
    let (mut place, mut chunk) = (0_u64, vec![0; 64 << 10]);
    while place < limit {
        let most = usize::try_from(limit - place).unwrap_or(usize::MAX).min(chunk.len());
        let count = server.read(&mut chunk[..most])?;
        if count == 0 {
            break;
        }
        if let Fault::Flip(at) = fault
            && let Some(index) = at.checked_sub(place).and_then(|index| usize::try_from(index).ok())
            && index < count
        {
            chunk[index] ^= 0xff;
        }
        answer.body(&chunk[..count])?;
        place += count as u64;
    }
    if matches!(fault, Fault::SilentAfter(_)) { wait_for_end(client) } else { Ok(()) }
}

/// The client's side of an exchange.
struct Answer<'a> {
    client: &'a TcpStream,
    log: &'a Mutex<Vec<Exchange>>,
    number: usize,
}

impl Answer<'_> {
    fn head(&mut self, bytes: &[u8]) -> Result<()> {
        self.client.write_all(bytes).context("the client has gone")
    }

    fn body(&mut self, bytes: &[u8]) -> Result<()> {
        self.head(bytes)?;
        self.log.lock().expect("nobody panics with it")[self.number].sent += bytes.len() as u64;
        Ok(())
    }
}

/// A request, and its head as the server is to get it: without keeping the connection.
fn read_request(client: &TcpStream) -> Result<(Exchange, String)> {
    let mut lines = BufReader::new(client).lines();
    let first = lines.next().context("the client has gone")??;
    let mut words = first.split(' ').map(str::to_owned);
    let mut next = || words.next().unwrap_or_default();
    let mut request = Exchange { method: next(), path: next(), ..Exchange::default() };
    let mut head = format!("{first}\r\n");
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "connection" => continue,
            "range" => request.range = value.trim_start_matches("bytes=").trim_end_matches('-').parse().ok(),
            "authorization" => request.authorization = Some(value.to_owned()),
            _ => {}
        }
        head.extend([line.as_str(), "\r\n"]);
    }
    head += "Connection: close\r\n\r\n";
    Ok((request, head))
}

fn response_head(server: &mut impl std::io::BufRead, fault: &Fault) -> Result<Vec<u8>> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        server.read_line(&mut line)?;
        if line.trim().is_empty() {
            head += "\r\n";
            return Ok(head.into_bytes());
        }
        match fault {
            Fault::TruncateTo(length) if line.to_ascii_lowercase().starts_with("content-length:") => {
                head.extend(["Content-Length: ", length.to_string().as_str(), "\r\n"]);
            }
            _ => head += &line,
        }
    }
}

fn wait_for_end(mut client: &TcpStream) -> Result<()> {
    while client.read(&mut [0; 64])? > 0 {}
    Ok(())
}

/// A registry. Dropping it ends it.
pub struct Registry {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    _configuration: tempfile::TempDir,
}

impl Registry {
    /// Starts one that keeps its images in `storage`; with `htpasswd`, for those in that file alone.
    pub fn start(storage: &Path, htpasswd: Option<&Path>) -> Self {
        let directory = tempfile::tempdir().expect("temporary directories can be made");
        // Somebody else may take the port between looking for it and the registry's start: then it is tried again.
        for _ in 0..5 {
            let listener = TcpListener::bind("127.0.0.1:0").expect("there are free ports");
            let address = listener.local_addr().expect("it is bound");
            drop(listener);
            let only = htpasswd
                .map(|file| format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", file.display()));
            let configuration = format!(
                "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
                 http: {{addr: '{address}'}}\n{}",
                storage.display(),
                only.unwrap_or_default()
            );
            let path = directory.path().join("config.yml");
            fs::write(&path, configuration).expect("a temporary file can be written");
            let mut child = Command::new("docker-registry")
                .arg("serve")
                .arg(&path)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("docker-registry is installed: scripts/test does it");
            let mut has_ended = false;
            eventually("the registry answers, or ends", Duration::from_secs(30), || {
                has_ended = child.try_wait().expect("a child can be waited for").is_some();
                has_ended || TcpStream::connect(address).is_ok()
            })
            .expect("a registry starts");
            if !has_ended {
                return Self { address, child, _configuration: directory };
            }
        }
        panic!("no registry stays up");
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
