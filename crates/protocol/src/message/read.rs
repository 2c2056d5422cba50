//! How messages are read: see [`crate::tagged`].
//!
//! WHEN CHANGING A MESSAGE: what is repeated here of an enumeration is compared with it by the compiler, but for a variant
//! that is missing; the tests of each message on its way there and back find that.

use serde::{Deserialize, Deserializer};

use super::{Execution, Fetched, GuestMessage, HostMessage, Outcome, Output, Prepare, Run};
use crate::{Bytes, tagged::Tagged};

#[derive(Deserialize)]
#[serde(remote = "HostMessage", rename_all = "snake_case", deny_unknown_fields)]
enum UntaggedHostMessage {
    Hello { generation: u32 },
    Prepare(Prepare),
    Reseed { entropy: Bytes, realtime_unix_nanos: u64 },
    Run(Run),
    Input { bytes: Bytes, end: bool },
    Signal { signal: u8 },
}

#[derive(Deserialize)]
#[serde(remote = "GuestMessage", rename_all = "snake_case", deny_unknown_fields)]
enum UntaggedGuestMessage {
    Hello { generation: u32, job_memory_bytes: u64, timer_permille: u32 },
    Prepared { initialised: bool },
    Reseeded,
    Output(Output),
    File(Fetched),
    Execution(Execution),
    Finished,
    Failed { reason: String },
}

#[derive(Deserialize)]
#[serde(remote = "Outcome", rename_all = "snake_case", deny_unknown_fields)]
enum UntaggedOutcome {
    Exited { code: u8 },
    Killed { signal: u8 },
    TimedOut,
    OutOfMemory,
}

impl<'de> Deserialize<'de> for HostMessage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        UntaggedHostMessage::deserialize(Tagged { tag: "type", from: deserializer })
    }
}

impl<'de> Deserialize<'de> for GuestMessage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        UntaggedGuestMessage::deserialize(Tagged { tag: "type", from: deserializer })
    }
}

impl<'de> Deserialize<'de> for Outcome {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        UntaggedOutcome::deserialize(Tagged { tag: "kind", from: deserializer })
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fmt::Debug};

    use serde::{Serialize, de::DeserializeOwned};

    use super::*;
    use crate::{
        frame,
        message::{
            Captured, Content, File, Interpreter, Limits, Omitted, Options, Process, Runtime, Stream, Usage,
            WarmUp,
        },
    };

    fn host_messages() -> Vec<HostMessage> {
        let environment = BTreeMap::from([("LANG".to_owned(), "C".to_owned())]);
        let runtime =
            Runtime { command: vec!["a".to_owned()], environment, interpreter: Some(Interpreter::Python) };
        let files = vec![File { name: "a".to_owned(), content: "b".into() }];
        let run = Run {
            trace_id: "t".to_owned(),
            runtime: runtime.clone(),
            process: Process::Rehearsal,
            files: files.clone(),
            args: vec!["\u{0}".to_owned()],
            stdins: vec!["a".into(), "".into()],
            limits: Limits { timeout_millis: 1, output_bytes: 2 },
            options: Options { stream: true, interactive: true, usage: true, fetch: vec!["*".to_owned()] },
        };
        vec![
            HostMessage::Hello { generation: 4 },
            HostMessage::Prepare(Prepare { runtime, warm_up: WarmUp { files, runs: 2 } }),
            HostMessage::Reseed { entropy: "e".into(), realtime_unix_nanos: u64::MAX },
            HostMessage::Run(run),
            HostMessage::Input { bytes: "i".into(), end: true },
            HostMessage::Signal { signal: 15 },
        ]
    }

    fn guest_messages() -> Vec<GuestMessage> {
        let captured = Captured { bytes: "\u{0}".into(), dropped: 7 };
        let execution = |outcome| Execution {
            index: 1,
            outcome,
            stdout: captured.clone(),
            stderr: Captured::default(),
            duration_micros: 3,
            usage: Some(Usage { cpu_micros: 1, peak_memory_bytes: 2 }),
        };
        let file = |content| Fetched { index: 0, name: "n\"".to_owned(), size: 1, content };
        let outcomes = [
            Outcome::Exited { code: 255 },
            Outcome::Killed { signal: 9 },
            Outcome::TimedOut,
            Outcome::OutOfMemory,
        ];
        let mut messages = vec![
            GuestMessage::Hello { generation: 4, job_memory_bytes: u64::MAX, timer_permille: 1000 },
            GuestMessage::Prepared { initialised: true },
            GuestMessage::Reseeded,
            GuestMessage::Output(Output { index: 2, stream: Stream::Stderr, bytes: "o".into() }),
            GuestMessage::File(file(Content::Bytes("f".into()))),
            GuestMessage::File(file(Content::Omitted(Omitted::TooMany))),
            GuestMessage::Finished,
            GuestMessage::Failed { reason: "r".to_owned() },
        ];
        messages.extend(outcomes.map(|outcome| GuestMessage::Execution(execution(outcome))));
        messages
    }

    fn comes_back<T: Serialize + DeserializeOwned + Debug + PartialEq>(message: &T) {
        let frame = frame::encode(message).unwrap();
        let body = &frame[frame::HEADER_BYTES..];
        assert_eq!(&frame::decode::<T>(body).unwrap(), message);
        for end in 0..body.len() {
            assert!(frame::decode::<T>(&body[..end]).is_err(), "{message:?} of which {end} bytes came");
        }
    }

    #[test]
    fn each_message_comes_back_as_it_was_and_none_of_which_a_part_is_missing() {
        host_messages().iter().for_each(comes_back);
        guest_messages().iter().for_each(comes_back);
    }

    #[test]
    fn the_words_on_the_wire_are_those_of_this_generation() {
        let text = |message: Result<String, _>| message.unwrap();
        let host = host_messages().iter().map(serde_json::to_string).map(text).collect::<Vec<_>>();
        let guest = guest_messages().iter().map(serde_json::to_string).map(text).collect::<Vec<_>>();
        insta::assert_snapshot!([host, guest].concat().join("\n"));
    }
}
