//! What a message takes in memory while it is read.
//!
//! A test of its own process: the peak is the process's.

use std::fmt::Write as _;

use protocol::{
    frame,
    message::{GuestMessage, HostMessage},
};

/// The longest body that a host takes of a run that fetches files, and more.
const BODY_BYTES: usize = 6 << 20;

/// The most memory that this process has had, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs is there");
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("of a process that has memory");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number of kB") << 10
}

/// `prefix`, then `part` again and again, then `suffix`.
fn body(prefix: &str, part: &str, suffix: &str) -> String {
    let mut body = String::with_capacity(BODY_BYTES + prefix.len() + suffix.len());
    body.push_str(prefix);
    while body.len() + part.len() < BODY_BYTES {
        body.push_str(part);
    }
    body.push_str(suffix);
    body
}

#[test]
fn no_message_takes_many_times_its_length() {
    let mut deep = String::new();
    let _ = write!(deep, "{}0{},", "[".repeat(100), "]".repeat(100));
    let bodies = [
        // In a field that there is not, of a message, of a part of one, and behind a tag that comes late.
        body(r#"{"type":"execution","x":["#, &deep, "0]}"),
        body(r#"{"type":"finished","x":["#, &deep, "0]}"),
        body(r#"{"x":["#, &deep, r#"0],"type":"finished"}"#),
        body(r#"{"type":"execution","index":0,"outcome":{"kind":"exited","x":["#, &deep, "0]}}"),
        body(r#"{"type":"execution","index":0,"outcome":{"x":["#, &deep, "0]}}"),
        // In place of what there is.
        body(r#"{"type":"failed","reason":["#, "0,", "0]}"),
        body(r#"{"type":["#, "[],", "0]}"),
        body(r#"{"type":"file","index":0,"name":"a","size":1,"content":{"bytes":["#, "0,", "0]}}"),
        // Names and words without end.
        body(r#"{"type":"finished",""#, "x", r#"":0}"#),
        body(r#"{"type":""#, r"\u001b", r#""}"#),
        body("", "{\"type\":", "0"),
    ];
    let before = peak();
    for body in bodies {
        assert!(frame::decode::<GuestMessage>(body.as_bytes()).is_err());
        assert!(frame::decode::<HostMessage>(body.as_bytes()).is_err());
        let grown = peak().saturating_sub(before);
        // A part of it may be repeated where it is said what is wrong with it.
        assert!(grown < 8 * BODY_BYTES, "{grown} bytes more for {}…", &body[..60]);
    }
}
