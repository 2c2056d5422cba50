//! A server of HTTP on this host that answers as badly as a test wants it to.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// What is answered.
#[derive(Clone)]
pub(super) enum Answer {
    /// The body, well.
    Good(Vec<u8>),
    /// The body's length, and half of the body.
    Truncated(Vec<u8>),
    /// Half of the body, and no end of the connection.
    HangingBody(Vec<u8>),
    /// Nothing, and no end of the connection.
    Hanging,
    /// Headers without an end, a byte at a time.
    Dripping,
    /// This status.
    Status(&'static str),
    /// A redirection to this place on the same server.
    Redirect(&'static str),
    /// A body without announced length and without end.
    Endless,
    /// An announced length.
    Announced(u64),
}

/// The server. It ends with the test's process.
pub(super) struct Server {
    address: String,
    requests: Arc<AtomicUsize>,
}

impl Server {
    /// Answers each path that begins with one of these.
    pub(super) fn start(answers: Vec<(&'static str, Answer)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counter.fetch_add(1, Ordering::SeqCst);
                let answers = answers.clone();
                // The client may go away at any time.
                thread::spawn(move || drop(answer(stream, &answers)));
            }
        });
        Self { address, requests }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// How many requests there were.
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn answer(mut stream: TcpStream, answers: &[(&'static str, Answer)]) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let path = request.split(' ').nth(1).unwrap_or_default();
    let found = answers.iter().find(|(prefix, _)| path.starts_with(prefix)).map(|(_, answer)| answer.clone());
    let head =
        |length: u64| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    match found.unwrap_or(Answer::Status("404 Not Found")) {
        Answer::Good(body) => {
            stream.write_all(head(body.len() as u64).as_bytes())?;
            stream.write_all(&body)
        }
        Answer::Truncated(body) => {
            stream.write_all(head(body.len() as u64).as_bytes())?;
            stream.write_all(&body[..body.len() / 2])
        }
        Answer::HangingBody(body) => {
            stream.write_all(head(body.len() as u64).as_bytes())?;
            stream.write_all(&body[..body.len() / 2])?;
            until_it_goes(&mut stream)
        }
        Answer::Hanging => until_it_goes(&mut stream),
        Answer::Dripping => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nX-Long: ")?;
            stream.set_read_timeout(Some(std::time::Duration::from_millis(20)))?;
            loop {
                stream.write_all(b"x")?;
                // The pace comes from waiting for the client to say something, which it never does.
                let _ = stream.read(&mut [0]);
            }
        }
        Answer::Status(status) => {
            stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes())
        }
        Answer::Redirect(to) => stream.write_all(
            format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .as_bytes(),
        ),
        Answer::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            loop {
                stream.write_all(&[0; 4096])?;
            }
        }
        Answer::Announced(length) => {
            stream.write_all(head(length).as_bytes())?;
            until_it_goes(&mut stream)
        }
    }
}

/// Waits for the client to close the connection.
fn until_it_goes(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.read(&mut [0]).map(drop)
}
