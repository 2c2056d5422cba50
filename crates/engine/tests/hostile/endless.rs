//! Agents that never stop. Each test is a process of its own under nextest, and its peak is then this test's.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use engine::{
    guest_client::{GuestClient, GuestError, Report},
    live::Live,
};
use protocol::{
    Bytes,
    limits::{MAX_CHUNK_BYTES, MAX_OUTPUT_BYTES},
    message::{Captured, Execution, GuestMessage, Limits, Options, Outcome, Process, Run, Runtime},
};

use crate::{
    agent::{Act, agent, frame},
    phase::{execution, file, hello, output},
};

/// How long a program may run here, and its agent take beyond it.
const TIMEOUT: Duration = Duration::from_millis(300);

/// What the end of a conversation may take beyond its deadline on a busy host.
const SLACK: Duration = Duration::from_secs(5);

/// What nothing here may make the host grow by, in bytes.
const MOST_GROWTH: usize = 128 << 20;

/// The most memory that this process has had, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

fn run(count: usize, output_bytes: usize, fetch: bool) -> Run {
    Run {
        trace_id: "t".to_owned(),
        runtime: Runtime { command: vec![], environment: BTreeMap::new(), interpreter: None },
        process: Process::Fresh,
        files: vec![],
        args: vec![],
        stdins: vec![Bytes::default(); count],
        limits: Limits {
            timeout_millis: u64::try_from(TIMEOUT.as_millis()).unwrap(),
            output_bytes: output_bytes as u64,
        },
        options: Options { fetch: if fetch { vec!["*".to_owned()] } else { vec![] }, ..Options::default() },
    }
}

/// What comes of a run whose agent does this, within its deadline and without growth.
async fn endless(run: Run, acts: Vec<Act>, live: Option<&mut Live>) -> Result<Report, GuestError> {
    let acts = std::iter::once(Act::Say(frame(&hello()))).chain(acts).collect();
    let mut client = GuestClient::greet(agent(acts), SLACK).await.unwrap();
    let deadline = (TIMEOUT + Duration::from_secs(2)) * u32::try_from(run.stdins.len()).unwrap() + TIMEOUT;
    let (before, begun) = (peak(), Instant::now());
    let report = tokio::time::timeout(deadline + SLACK, client.watched(run, TIMEOUT, live)).await;
    let report = report.unwrap_or_else(|_| panic!("no end after {:?}", begun.elapsed()));
    let grown = peak().saturating_sub(before);
    assert!(grown < MOST_GROWTH, "{grown} bytes");
    report
}

#[tokio::test]
async fn output_without_end_ends_with_the_programs_time() {
    for text in ["x".repeat(MAX_CHUNK_BYTES), "\0".to_owned()] {
        let (mut live, mut events) = Live::watched();
        let watching = tokio::spawn(async move { while events.recv().await.is_some() {} });
        let acts = vec![Act::Forever(frame(&output(0, &text)))];
        let ended = endless(run(1, 1 << 20, false), acts, Some(&mut live)).await;
        // The deadline finds it reading, or telling of what it has read.
        assert!(matches!(ended, Err(GuestError::TimedOut { .. } | GuestError::NotTaken)), "{ended:?}");
        watching.abort();
    }
}

#[tokio::test]
async fn output_that_nobody_takes_ends_with_the_programs_time() {
    let (mut live, _events) = Live::watched();
    let acts = vec![Act::Forever(frame(&output(0, &"x".repeat(MAX_CHUNK_BYTES))))];
    let ended = endless(run(1, 1 << 20, false), acts, Some(&mut live)).await;
    assert!(matches!(ended, Err(GuestError::NotTaken)), "{ended:?}");
}

#[tokio::test]
async fn what_comes_without_end_and_unasked_ends_the_conversation() {
    for message in [
        GuestMessage::Finished,
        GuestMessage::Reseeded,
        execution(0, ""),
        output(0, "x"),
        file(0, "a", "x"),
        hello(),
    ] {
        for fetch in [false, true] {
            let acts = vec![Act::Forever(frame(&message))];
            let ended = endless(run(2, 1 << 20, fetch), acts, None).await;
            assert!(matches!(ended, Err(GuestError::Unexpected { .. })), "{message:?}: {ended:?}");
        }
    }
    let ended = endless(run(1, 1 << 20, false), vec![Act::Forever(vec![0xff])], None).await;
    assert!(matches!(ended, Err(GuestError::Frame { .. })), "{ended:?}");
}

#[tokio::test]
async fn a_message_that_is_made_to_take_memory_takes_none() {
    let deep = format!("{}0{},", "[".repeat(100), "]".repeat(100));
    let body = [r#"{"type":"execution","x":["#, &deep.repeat((5 << 20) / deep.len()), "0]}"].concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let acts = vec![Act::Say([&length[..], body.as_bytes()].concat())];
    let ended = endless(run(1, 8 << 20, true), acts, None).await;
    assert!(matches!(ended, Err(GuestError::Frame { .. })), "{ended:?}");
}

#[tokio::test]
async fn the_most_that_a_batch_may_say_is_kept_within_the_bounds_of_an_answer() {
    const COUNT: u32 = 3;
    let say = |index| {
        let stdout = Captured { bytes: Bytes(vec![0; MAX_OUTPUT_BYTES]), dropped: u64::MAX };
        let (outcome, usage, duration_micros) = (Outcome::TimedOut, None, 1);
        let stderr = Captured::default();
        let execution = Execution { index, outcome, stdout, stderr, duration_micros, usage };
        frame(&GuestMessage::Execution(execution))
    };
    let acts = (0..COUNT)
        .map(|index| Act::Make(Box::new(move || say(index))))
        .chain([Act::Say(frame(&GuestMessage::Finished))])
        .collect();
    let report = endless(run(COUNT as usize, MAX_OUTPUT_BYTES, false), acts, None).await.unwrap();
    let texts = report.executions.iter().map(|it| String::from_utf8_lossy(&it.stdout.bytes.0));
    let written: usize = texts.map(|text| serde_json::to_string(&text).unwrap().len()).sum();
    assert!(((32 << 20) - 6..(32 << 20) + 100).contains(&written), "{written}");
    assert_eq!(report.executions[2].stdout.dropped, u64::MAX);
}
