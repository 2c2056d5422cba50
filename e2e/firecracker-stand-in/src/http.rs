//! As much of HTTP as Firecracker's API has: requests with a length, over a connection that stays.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

/// The longest body that Firecracker takes.
const MAX_BODY_BYTES: usize = 51_200;

/// A client's connection.
pub(crate) struct Connection(BufReader<UnixStream>);

impl Connection {
    pub(crate) fn over(stream: UnixStream) -> Self {
        Self(BufReader::new(stream))
    }

    /// The next request, by its method and path, and its body; nothing at the end of the connection.
    pub(crate) fn receive(&mut self) -> Result<Option<(String, Value)>> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let request = line.strip_suffix(" HTTP/1.1\r\n").context("a request line")?.to_owned();
        let mut length = 0;
        loop {
            let mut header = String::new();
            self.0.read_line(&mut header)?;
            let header = header.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            let (name, value) = header.split_once(':').context("a header has a name and a value")?;
            match name {
                "content-length" => length = value.trim().parse().context("a length is a number")?,
                "transfer-encoding" | "expect" => bail!("Firecracker knows no {name}"),
                _ => {}
            }
        }
        ensure!(length <= MAX_BODY_BYTES, "a body of {length} bytes is too long");
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(Some((request, serde_json::from_slice(&body).context("a body is JSON")?)))
    }

    /// Answers the last request.
    pub(crate) fn answer(&mut self, done: &Result<(), String>) -> Result<()> {
        let answer = match done {
            Ok(()) => "HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n".to_owned(),
            Err(fault) => {
                let body = json!({ "fault_message": fault }).to_string();
                let length = body.len();
                format!(
                    "HTTP/1.1 400 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\
                     Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
                )
            }
        };
        Ok(self.0.get_mut().write_all(answer.as_bytes())?)
    }
}
