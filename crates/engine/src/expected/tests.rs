//! Whatever an agent says of a run, and in whichever order, is refused or obeys every bound.

use std::collections::BTreeMap;

use proptest::{prelude::*, sample::select};
use protocol::{
    Bytes,
    message::{Options, Outcome, Process, Runtime, Usage},
};

use super::*;

/// What is kept of a stream in these tests.
const LIMIT: u64 = 8;

/// The room of all outputs and of all files here: so little that it is used up.
const OUTPUT_ROOM: usize = 30;
const FILES_ROOM: usize = 5 * NOTE_BYTES;

fn run(count: usize, stream: bool, usage: bool, fetch: bool) -> Run {
    Run {
        trace_id: "t".to_owned(),
        runtime: Runtime { command: vec![], environment: BTreeMap::new(), interpreter: None },
        process: Process::Fresh,
        files: vec![],
        args: vec![],
        stdins: vec![Bytes::default(); count],
        limits: Limits { timeout_millis: 1000, output_bytes: LIMIT },
        options: Options {
            stream,
            interactive: false,
            usage,
            fetch: if fetch { vec!["*".to_owned()] } else { vec![] },
        },
    }
}

/// A message whose index is that of the execution that is expected, but for as much as is said.
#[derive(Clone, Debug)]
struct Said {
    message: GuestMessage,
    beside: u32,
}

fn captured() -> impl Strategy<Value = Captured> {
    let bytes = prop::collection::vec(select(vec![0, b'a', b'"', 0xff, 0xc3, 0xa9]), 0..10);
    let dropped = select(vec![0, 0, 0, 1, u64::MAX]);
    (bytes, dropped).prop_map(|(bytes, dropped)| Captured { bytes: Bytes(bytes), dropped })
}

fn execution() -> impl Strategy<Value = GuestMessage> {
    let usage = prop::option::of(Just(Usage { cpu_micros: u64::MAX, peak_memory_bytes: u64::MAX }));
    let streams = prop_oneof![Just((Captured::default(), Captured::default())), (captured(), captured())];
    (streams, usage).prop_map(|((stdout, stderr), usage)| {
        let (outcome, duration_micros) = (Outcome::TimedOut, u64::MAX);
        GuestMessage::Execution(Execution { index: 0, outcome, stdout, stderr, duration_micros, usage })
    })
}

fn file() -> impl Strategy<Value = GuestMessage> {
    let long = "n".repeat(MAX_FILE_NAME_BYTES + 1);
    let names = ["a", "b", "c", "d/e", "\u{1}\u{1}", ".", "..", "a/../b", "/a", "a/", "", "a\0", &long];
    let content = prop_oneof![
        (0_usize..300).prop_map(|length| Content::Bytes(Bytes(vec![0; length]))),
        select(vec![Omitted::TooLarge, Omitted::TooMany, Omitted::Unreadable]).prop_map(Content::Omitted),
    ];
    (select(names.map(str::to_owned).to_vec()), content, select(vec![0, 0, 0, 1])).prop_map(
        |(name, content, lie)| {
            let size = match &content {
                Content::Bytes(bytes) => bytes.0.len() as u64,
                Content::Omitted(_) => u64::MAX - 1,
            };
            GuestMessage::File(Fetched { index: 0, name, size: size + lie, content })
        },
    )
}

fn output() -> impl Strategy<Value = GuestMessage> {
    let length = prop_oneof![9 => 1..12_usize, 1 => select(vec![0, MAX_CHUNK_BYTES, MAX_CHUNK_BYTES + 1])];
    (select(vec![Stream::Stdout, Stream::Stderr]), length, select(vec![0, b'a', 0xff])).prop_map(
        |(stream, length, byte)| {
            GuestMessage::Output(Output { index: 0, stream, bytes: Bytes(vec![byte; length]) })
        },
    )
}

fn said() -> impl Strategy<Value = Said> {
    let message = prop_oneof![
        6 => execution(),
        6 => file(),
        4 => output(),
        2 => Just(GuestMessage::Finished),
        1 => Just(GuestMessage::Reseeded),
        1 => Just(GuestMessage::Prepared { initialised: true }),
        1 => Just(GuestMessage::Hello { generation: 4, job_memory_bytes: 1, timer_permille: 1000 }),
    ];
    let beside = prop_oneof![20 => Just(0), 1 => select(vec![1, u32::MAX])];
    (message, beside).prop_map(|(message, beside)| Said { message, beside })
}

/// What was said, of the execution that is expected now.
fn at(seen: usize, Said { mut message, beside }: Said) -> GuestMessage {
    let expected = u32::try_from(seen).unwrap().wrapping_add(beside);
    match &mut message {
        GuestMessage::Output(Output { index, .. })
        | GuestMessage::File(Fetched { index, .. })
        | GuestMessage::Execution(Execution { index, .. }) => *index = expected,
        _ => {}
    }
    message
}

/// Whether what was taken so far is within every bound.
fn check(report: &Report, run: &Run) {
    let mut output = 0;
    for (position, execution) in report.executions.iter().enumerate() {
        assert_eq!(execution.index as usize, position);
        assert_eq!(execution.usage.is_some(), run.options.usage);
        for stream in [&execution.stdout, &execution.stderr] {
            assert!(stream.bytes.0.len() as u64 <= LIMIT);
            output += written::length(&String::from_utf8_lossy(&stream.bytes.0));
        }
    }
    assert!(output <= OUTPUT_ROOM, "{output}");
    let mut files = 0;
    for (position, file) in report.files.iter().enumerate() {
        assert!(run.options.fetch.len() == 1 && (file.index as usize) < run.stdins.len());
        if let Some(before) = position.checked_sub(1).map(|before| &report.files[before]) {
            assert!(before.index <= file.index);
            let in_order = before.index < file.index || file.name == THE_REST || before.name < file.name;
            assert!(in_order && (before.index < file.index || before.name != THE_REST));
        }
        if file.name != THE_REST {
            assert!(is_beneath(&file.name));
            files += NOTE_BYTES + written::length(&file.name);
        }
        if let Content::Bytes(bytes) = &file.content {
            assert_eq!(bytes.0.len() as u64, file.size);
            files += bytes.0.len();
        }
    }
    assert!(files <= FILES_ROOM, "{files}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_taken_obeys_every_bound_and_no_execution_is_taken_for_another(
        count in 1_usize..5,
        (stream, usage, fetch) in any::<(bool, bool, bool)>(),
        all in prop::collection::vec(said(), 0..40),
    ) {
        let run = run(count, stream, usage, fetch);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (events, mut told) = mpsc::channel(100);
            let mut expected = Expected::new(&run, Duration::from_secs(30), stream.then_some(events));
            (expected.output_room, expected.files_room) = (OUTPUT_ROOM, FILES_ROOM);
            let mut given: Vec<Execution> = Vec::new();
            let mut streamed: Vec<Output> = Vec::new();
            for said in all {
                let message = at(given.len(), said);
                let before = (given.len(), streamed.len());
                match &message {
                    GuestMessage::Execution(execution) => given.push(execution.clone()),
                    GuestMessage::Output(output) => streamed.push(output.clone()),
                    _ => {}
                }
                match expected.take(message).await {
                    Ok(Some(report)) => {
                        assert_eq!((report.executions.len(), before.0), (count, count));
                        check(&report, &run);
                        for (execution, given) in report.executions.iter().zip(&given) {
                            for (which, kept, given) in [
                                (Stream::Stdout, &execution.stdout, &given.stdout),
                                (Stream::Stderr, &execution.stderr, &given.stderr),
                            ] {
                                let mine = |output: &&Output| {
                                    output.index == execution.index && output.stream == which
                                };
                                let parts = streamed.iter().filter(mine).flat_map(|output| &output.bytes.0);
                                let own = if stream { parts.copied().collect() } else { given.bytes.0.clone() };
                                assert!(own.starts_with(&kept.bytes.0), "what is kept is its own beginning");
                                let all = (own.len() as u64).saturating_add(given.dropped);
                                assert_eq!(all, (kept.bytes.0.len() as u64).saturating_add(kept.dropped));
                            }
                        }
                        return;
                    }
                    Ok(None) => check(&expected.report, &run),
                    // The conversation ends with the first refusal.
                    Err(_) => return,
                }
                while told.try_recv().is_ok() {}
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_its_patience_once() {
    let (count, patience) = (1000, Duration::from_secs(30));
    let run = run(count, false, false, false);
    let begun = Instant::now();
    let mut expected = Expected::new(&run, patience, None);
    for index in 0..u32::try_from(count).unwrap() {
        // At the last moment each time.
        tokio::time::sleep_until(expected.deadline).await;
        let (outcome, usage, duration_micros) = (Outcome::TimedOut, None, 1);
        let (stdout, stderr) = (Captured::default(), Captured::default());
        let execution = Execution { index, outcome, stdout, stderr, duration_micros, usage };
        expected.take(GuestMessage::Execution(execution)).await.unwrap();
    }
    let longest = (Duration::from_secs(1) + MORE_FOR_EACH) * 1000 + patience;
    assert_eq!(expected.deadline - begun, longest);
    assert!(begun.elapsed() <= longest + Duration::from_millis(1));
}

#[tokio::test]
async fn names_and_notes_without_end_are_kept_within_the_room_of_files() {
    let run = run(1000, false, false, true);
    let mut expected = Expected::new(&run, Duration::from_secs(30), None);
    for index in 0..1000 {
        for number in 0..MAX_FETCHED + MAX_OMITTED {
            let name = format!("{}{number:03}", "\u{1}".repeat(250));
            let content = if number < MAX_FETCHED {
                Content::Bytes(Bytes::default())
            } else {
                Content::Omitted(Omitted::Unreadable)
            };
            expected.take(GuestMessage::File(Fetched { index, name, size: 0, content })).await.unwrap();
        }
        let (outcome, usage, duration_micros) = (Outcome::TimedOut, None, 1);
        let (stdout, stderr) = (Captured::default(), Captured::default());
        let execution = Execution { index, outcome, stdout, stderr, duration_micros, usage };
        expected.take(GuestMessage::Execution(execution)).await.unwrap();
    }
    let report = expected.take(GuestMessage::Finished).await.unwrap().unwrap();
    let answer = serde_json::to_vec(&crate::Files::of(report.files.clone()).omitted).unwrap();
    assert!(answer.len() < MAX_FILES_OF_ALL_BYTES, "{}", answer.len());
    let last = report.files.last().unwrap();
    assert_eq!(
        (last.index, last.name.as_str(), &last.content),
        (999, ".", &Content::Omitted(Omitted::TooMany))
    );
}
