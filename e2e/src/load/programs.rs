//! What the service is asked, and whether an answer is the one to it.

use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;
use serde_json::{Value, json};

use super::client::Reply;

/// Where requests are sent.
pub const PATH: &str = "/api/v1/run";

/// The page's Hello World.
pub const HELLO: &str = "print('Hello from Python!')";

/// What it prints.
pub const HELLO_STDOUT: &str = "Hello from Python!\n";

/// Says who it is, whether somebody was here before, and by which process it is run.
///
/// A microVM has one initialised interpreter, with the same process number in all clones of a snapshot, and its first
/// request uses it up: a second request would be run by another process. Files of an earlier request must be gone whichever
/// process it is.
const WITNESS: &str = "\
import os
nonce = 'NONCE'
print(nonce)
print(sorted(name for name in os.listdir('/tmp') if name.startswith('witness-')))
open('/tmp/witness-' + nonce, 'w').close()
print(os.getpid())
";

/// A request for one file of Python.
pub fn request(code: &str) -> Value {
    json!({ "language": "python", "files": [{ "name": "main.py", "content": code }] })
}

/// What no other request of this process is called.
pub fn nonce() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A program that prints its `nonce` and what tells of another request in the same microVM.
pub fn witness(nonce: &str) -> String {
    WITNESS.replace("NONCE", nonce)
}

/// The process that has run the witness of this `nonce`; else what is wrong with the answer.
pub fn witnessed(reply: &Reply, nonce: &str) -> Result<u64, String> {
    let stdout = stdout(reply)?;
    let lines: Vec<_> = stdout.lines().collect();
    match lines[..] {
        [who, _, _] if who != nonce => Err(format!("the answer to {who} came to {nonce}")),
        [_, "[]", process] => process.parse().map_err(|_| format!("{nonce}: no process number: {process:?}")),
        [_, seen, _] => Err(format!("{nonce} found what an earlier request had written: {seen}")),
        _ => Err(format!("{nonce}: an answer to something else: {stdout:?}")),
    }
}

/// What a program that went well has written; else what is wrong with the answer.
pub fn stdout(reply: &Reply) -> Result<String, String> {
    let text = String::from_utf8_lossy(&reply.body);
    let wrong = || format!("{}: {text}", reply.status);
    let answer: Value = serde_json::from_str(&text).map_err(|_| wrong())?;
    let went_well = reply.status == StatusCode::OK
        && answer["status"] == "success"
        && answer["exception"].is_null()
        && answer["exitCode"] == 0;
    answer["stdout"].as_str().filter(|_| went_well).map(str::to_owned).ok_or_else(wrong)
}
