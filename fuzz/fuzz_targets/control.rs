//! What a VMM in a guest's hands says on its control socket, while a microVM is restored.
//!
//! The first byte says who speaks and how it ends: an even one QEMU, an odd one Firecracker; from `P` on it says nothing more
//! and stays, instead of closing. A `#` is the number of the command that is being answered.

#![no_main]

use fuzz::within_memory;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    runtime::{Builder, Runtime},
};
use vmm::ControlError;

/// What is kept of the VMM's words at most, their being read included: events as they came, a line, a runtime.
const KEPT_BYTES: usize = 8 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((kind, said)) = data.split_first() else { return };
    let (is_qemu, stays) = (kind % 2 == 0, *kind >= b'P');
    within_memory(KEPT_BYTES + 16 * said.len(), || {
        let runtime = runtime(stays);
        if is_qemu {
            runtime.block_on(qemu(said, stays));
        } else {
            runtime.block_on(firecracker(said, stays));
        }
    });
});

/// With a clock that goes on by itself once nobody has anything to do, where the VMM leaves everybody waiting.
fn runtime(stays: bool) -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(stays).build().expect("there are descriptors")
}

/// Says everything, one part after each line that it is sent; what it was sent, until the other end has gone.
async fn speak(mut stream: UnixStream, said: &[u8], end: &[u8], stays: bool) -> Vec<u8> {
    let mut heard = Vec::new();
    for (number, part) in said.split(|byte| *byte == b'#').enumerate() {
        if number > 0 {
            let commands = heard.windows(end.len()).filter(|window| *window == end).count();
            // Nobody listens any more.
            if stream.write_all(commands.to_string().as_bytes()).await.is_err() {
                break;
            }
        }
        if stream.write_all(part).await.is_err() {
            break;
        }
        let mut buffer = [0; 4096];
        if let Ok(length) = stream.try_read(&mut buffer) {
            heard.extend_from_slice(&buffer[..length]);
        }
    }
    if !stays {
        let _ = stream.shutdown().await;
    }
    // One that has gone in the middle of a word leaves an error.
    let _ = stream.read_to_end(&mut heard).await;
    heard
}

async fn qemu(said: &[u8], stays: bool) {
    let (ours, theirs) = UnixStream::pair().expect("there are descriptors");
    let (ended, heard) = tokio::join!(vmm::fuzzing::qemu(ours), speak(theirs, said, b"\n", stays));
    check(ended.as_ref().err(), stays);
    let commands: Vec<Value> = heard
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| serde_json::from_slice(line).expect("JSON"))
        .collect();
    for (number, command) in commands.iter().enumerate() {
        assert_eq!(command["id"].as_u64(), Some(number as u64 + 1));
    }
    // Each has its answer before the next, and each answer its number.
    let answers =
        said.split(|byte| *byte == b'\n').filter(|line| line.windows(6).any(|part| part == b"return"));
    assert!(commands.len() <= answers.count() + 1, "more commands than answers");
    let last =
        commands.last().map_or("", |command| command["execute"].as_str().expect("a command has a name"));
    assert!(ended.is_err() || last == "cont");
}

async fn firecracker(said: &[u8], stays: bool) {
    let (ours, theirs) = UnixStream::pair().expect("there are descriptors");
    let ((answered, ended), heard) =
        tokio::join!(vmm::fuzzing::firecracker(ours), speak(theirs, said, b"\r\n\r\n", stays));
    check(ended.as_ref(), stays);
    assert_eq!(answered == 3, ended.is_none());
    let heads = said.windows(5).filter(|part| *part == b"HTTP/").count();
    assert!(answered <= heads, "{answered} answers in {heads} heads");
    let requests = heard.windows(5).filter(|part| *part == b"PATCH").count();
    assert!((answered..=answered + 1).contains(&requests), "{requests} requests for {answered} answers");
}

/// What is told of the end is ours, and bounded.
fn check(ended: Option<&ControlError>, stays: bool) {
    match ended {
        Some(ControlError::Refused { reason, .. }) => {
            assert!(
                reason.chars().count() <= 5 * (8 << 10) && !reason.contains(['\u{1b}', '\r', '\0']),
                "{reason:?}"
            );
        }
        Some(ControlError::TimedOut { .. }) => assert!(stays, "nobody waits for one that has gone"),
        _ => {}
    }
}
