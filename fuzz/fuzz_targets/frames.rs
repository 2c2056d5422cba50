//! A guest agent in a program's hands: what it says while the host greets it, has it reseed, and runs a program.
//!
//! ```text
//! 0        1                2
//! ┌────────┬────────────────┬──────────────────────────────────────────────────────┐
//! │ how    │ bytes of output│ lines: each is a frame's body; after `=` a line is   │
//! │ bits   │ that are kept  │ sent without a header, after `*` its frame 300 times │
//! └────────┴────────────────┴──────────────────────────────────────────────────────┘
//! ```

#![no_main]

use std::{collections::BTreeMap, time::Duration};

use engine::{
    answer::ExecutionAnswer,
    guest_client::{GuestClient, GuestError, Report},
    live::{Event, Input, Live, Output, Stream},
};
use fuzz::within_memory;
use libfuzzer_sys::fuzz_target;
use protocol::{
    Bytes,
    frame::{self, FrameError},
    limits::{
        ENTROPY_BYTES, MAX_CHUNK_BYTES, MAX_FETCHED, MAX_FETCHED_BYTES, MAX_FILE_NAME_BYTES, MAX_OMITTED,
    },
    message::{Content, Fetched, HostMessage, Limits, Options, Process, Run, Runtime},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    runtime::Builder,
    sync::mpsc,
};

const STREAM: u8 = 1;
const INTERACTIVE: u8 = 2;
const FETCH: u8 = 4;
const USAGE: u8 = 8;
/// It says nothing more and stays, instead of closing.
const STAYS: u8 = 16;
/// What follows is sent as it is.
const RAW: u8 = 32;

const REPEATS: usize = 300;
const PATIENCE: Duration = Duration::from_secs(2);

/// The largest frame that may come here, as text and understood, and what the report keeps.
const KEPT_BYTES: usize = 24 << 20;

fuzz_target!(|data: &[u8]| {
    let [how, kept, said @ ..] = data else { return };
    let wire = wire(said, how & RAW != 0);
    // The wire's other end lies in the sockets.
    within_memory(KEPT_BYTES + 8 * wire.len(), || {
        let clock = Builder::new_current_thread().enable_all().start_paused(true).build();
        clock.expect("there are descriptors").block_on(converse(*how, u64::from(*kept), &wire));
    });
});

fn wire(said: &[u8], raw: bool) -> Vec<u8> {
    if raw {
        return said.to_vec();
    }
    let framed =
        |body: &[u8]| [&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes()[..], body].concat();
    let sent = |line: &[u8]| match line {
        [b'=', raw @ ..] => raw.to_vec(),
        [b'*', body @ ..] => framed(body).repeat(REPEATS),
        body => framed(body),
    };
    said.split(|byte| *byte == b'\n').flat_map(sent).collect()
}

fn run(how: u8, kept: u64) -> Run {
    let stdins = if how & INTERACTIVE != 0 { 1 } else { 1 + usize::from(how >> 6) };
    Run {
        trace_id: "trace".to_owned(),
        runtime: Runtime { command: Vec::new(), environment: BTreeMap::new(), interpreter: None },
        process: Process::Fresh,
        files: Vec::new(),
        args: Vec::new(),
        stdins: vec![Bytes::default(); stdins],
        limits: Limits { timeout_millis: 1000, output_bytes: kept },
        options: Options {
            usage: how & USAGE != 0,
            fetch: if how & FETCH == 0 { Vec::new() } else { vec!["*".to_owned()] },
            ..Options::default()
        },
    }
}

async fn converse(how: u8, kept: u64, wire: &[u8]) {
    let (ours, theirs) = UnixStream::pair().expect("there are descriptors");
    let asked = run(how, kept);
    let (live, events, input) = match how & (STREAM | INTERACTIVE) {
        0 => (None, None, None),
        STREAM => {
            let (live, events) = Live::watched();
            (Some(live), Some(events), None)
        }
        _ => {
            let (live, events, input) = Live::interactive();
            (Some(live), Some(events), Some(input))
        }
    };
    let is_streamed = live.is_some();
    let (ended, outputs, (), heard) = tokio::join!(
        host(ours, asked.clone(), live),
        watch(events),
        type_in(input),
        guest(theirs, wire, how & STAYS != 0)
    );
    let reseeded = was_asked(&heard, is_streamed);
    match ended {
        Ok(report) => {
            assert!(reseeded, "a program ran in a clone that was not reseeded");
            is_sound(&asked, &report, is_streamed.then_some(outputs));
        }
        Err(GuestError::Failed { reason }) => {
            assert!(reason.chars().count() <= 2000 && !reason.contains(char::is_control), "{reason:?}");
        }
        Err(GuestError::TimedOut { .. }) => assert!(how & STAYS != 0, "nobody waits for one that has gone"),
        Err(GuestError::NotTaken) => panic!("all of it was taken"),
        Err(_) => {}
    }
}

async fn host(stream: UnixStream, run: Run, live: Option<Live>) -> Result<Report, GuestError> {
    let mut client = GuestClient::greet(stream, PATIENCE).await?;
    client.reseed(PATIENCE).await?;
    let mut live = live;
    client.watched(run, PATIENCE, live.as_mut()).await
}

/// Whoever watches takes everything.
async fn watch(events: Option<mpsc::Receiver<Event>>) -> Vec<Output> {
    let Some(mut events) = events else { return Vec::new() };
    let mut outputs = Vec::new();
    while let Some(event) = events.recv().await {
        if let Event::Output(output) = event {
            outputs.push(output);
        }
    }
    outputs
}

async fn type_in(input: Option<mpsc::Sender<Input>>) {
    let Some(input) = input else { return };
    for given in [Input::Bytes(vec![b'x'; MAX_CHUNK_BYTES + 1]), Input::Signal(15), Input::End] {
        // It may be over.
        if input.send(given).await.is_err() {
            return;
        }
    }
}

/// Says everything, and hears what it is told until the host has gone.
async fn guest(stream: UnixStream, wire: &[u8], stays: bool) -> Vec<u8> {
    let (mut reader, mut writer) = stream.into_split();
    let speaking = async {
        // The host may have heard enough.
        let _ = writer.write_all(wire).await;
        if !stays {
            let _ = writer.shutdown().await;
        }
        writer
    };
    let mut heard = Vec::new();
    let (_writer, _) = tokio::join!(speaking, reader.read_to_end(&mut heard));
    heard
}

/// What the host has said is what it says in this order. Whether it has got as far as a program.
fn was_asked(mut heard: &[u8], is_streamed: bool) -> bool {
    let mut asked = Vec::new();
    loop {
        match frame::read::<HostMessage>(&mut heard) {
            Ok(message) => asked.push(message),
            // It has gone in the middle of a message.
            Err(FrameError::Closed | FrameError::Io(_)) => break,
            Err(error) => panic!("the host said what is no message: {error}"),
        }
    }
    for (place, message) in asked.iter().enumerate() {
        match (place, message) {
            (0, HostMessage::Hello { .. }) => {}
            (1, HostMessage::Reseed { entropy, .. }) => assert_eq!(entropy.0.len(), ENTROPY_BYTES),
            (2, HostMessage::Run(run)) => assert!(!is_streamed || run.limits.output_bytes == 0),
            (3.., HostMessage::Input { bytes, .. }) => assert!(bytes.0.len() <= MAX_CHUNK_BYTES),
            (3.., HostMessage::Signal { signal: 15 }) => {}
            _ => panic!("the host said {message:?} at {place}"),
        }
    }
    asked.len() > 2
}

/// What was taken for the report is one of what was asked.
fn is_sound(asked: &Run, report: &Report, outputs: Option<Vec<Output>>) {
    let Report { executions, files } = report;
    assert_eq!(executions.len(), asked.stdins.len());
    for (number, execution) in executions.iter().enumerate() {
        assert_eq!(execution.index as usize, number);
        assert_eq!(execution.usage.is_some(), asked.options.usage, "what it used comes where it was asked for");
        for (stream, captured) in [(Stream::Stdout, &execution.stdout), (Stream::Stderr, &execution.stderr)] {
            let length = captured.bytes.0.len() as u64;
            assert!(length <= asked.limits.output_bytes, "more is kept than was asked for");
            assert!(
                captured.dropped == 0 || length == asked.limits.output_bytes,
                "it was dropped without need"
            );
            if let Some(outputs) = &outputs {
                let mine = |output: &&Output| output.index as usize == number && output.stream == stream;
                let all: Vec<u8> =
                    outputs.iter().filter(mine).flat_map(|output| output.bytes.0.clone()).collect();
                assert_eq!(captured.bytes.0, all[..captured.bytes.0.len()]);
                assert_eq!(captured.dropped, (all.len() - captured.bytes.0.len()) as u64);
            }
        }
        let written = (execution.stdout.bytes.0.len() + execution.stderr.bytes.0.len()) * 3;
        let answer = ExecutionAnswer::new(execution.clone(), None, None, "trace", outputs.is_some());
        assert!(answer.stdout.len() + answer.stderr.map_or(0, |stderr| stderr.len()) <= written);
        of_one_execution(files.iter().filter(|file| file.index as usize == number).collect());
    }
    assert!(files.is_empty() || !asked.options.fetch.is_empty(), "files were not asked for");
    assert!(files.is_sorted_by_key(|file| file.index));
    assert!(files.iter().all(|file| (file.index as usize) < executions.len()));
    for output in outputs.iter().flatten() {
        assert!(
            (1..=MAX_CHUNK_BYTES).contains(&output.bytes.0.len())
                && (output.index as usize) < executions.len()
        );
    }
}

fn of_one_execution(files: Vec<&Fetched>) {
    let mut bytes = 0;
    let mut returned = 0;
    for Fetched { name, size, content, .. } in &files {
        let is_name = |part: &str| !matches!(part, "" | "." | "..");
        let is_beneath =
            name.split('/').all(is_name) && !name.contains('\0') && name.len() <= MAX_FILE_NAME_BYTES;
        match content {
            Content::Bytes(content) => {
                assert!(is_beneath && content.0.len() as u64 == *size, "{name:?}");
                (returned, bytes) = (returned + 1, bytes + content.0.len());
            }
            Content::Omitted(_) => assert!(is_beneath || name == ".", "{name:?}"),
        }
    }
    assert!(returned <= MAX_FETCHED && files.len() - returned <= MAX_OMITTED && bytes <= MAX_FETCHED_BYTES);
}
