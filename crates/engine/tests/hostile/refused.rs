//! Answers that are none.

use std::time::Duration;

use engine::guest_client::GuestError;
use protocol::{
    frame::HEADER_BYTES,
    limits::{MAX_FETCHED, MAX_FETCHED_BYTES, MAX_FRAME_BYTES, MAX_OMITTED},
    message::{Content, Execution, Fetched, GuestMessage, Omitted},
};
use tokio::task::JoinSet;

use crate::{
    agent::{Act, agent, frame},
    phase::{Phase, execution, file, hello, omitted, output, with_usage},
};

/// What comes of an agent that answers well up to this phase, and then does this.
async fn then(phase: Phase, acts: Vec<Act>) -> Result<(), GuestError> {
    let acts = std::iter::once(Act::Say(phase.before())).chain(acts).collect();
    phase.ask(agent(acts)).await.map(|_| ())
}

/// The same of one that says this instead of the answer, and then nothing.
async fn said(phase: Phase, instead: &[GuestMessage]) -> Result<(), GuestError> {
    then(phase, vec![Act::Say(instead.iter().flat_map(frame).collect())]).await
}

fn with_length(mut frame: Vec<u8>, length: usize) -> Vec<u8> {
    frame[..HEADER_BYTES].copy_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
    frame
}

#[tokio::test(start_paused = true)]
async fn a_right_answer_is_taken() {
    // Or nothing below would be for the reason that it names.
    for phase in Phase::ALL {
        then(phase, vec![Act::Say(phase.frames().concat())]).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_which_the_end_is_missing_is_none() {
    for phase in Phase::ALL {
        let whole = phase.frames().concat();
        for end in 0..whole.len() {
            let begun = whole[..end].to_vec();
            let closed = then(phase, vec![Act::Say(begun.clone()), Act::Close]).await;
            assert!(matches!(closed, Err(GuestError::Frame { .. })), "{phase:?} closed at {end}: {closed:?}");
            let silent = then(phase, vec![Act::Say(begun)]).await;
            assert!(
                matches!(silent, Err(GuestError::TimedOut { .. })),
                "{phase:?} silent at {end}: {silent:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_a_byte_at_a_time_comes_too_late() {
    for phase in Phase::ALL {
        let whole = phase.frames().concat();
        let pause = (phase.longest() * 2) / u32::try_from(whole.len()).unwrap();
        let trickled = then(phase, vec![Act::Trickle(whole.clone(), pause)]).await;
        assert!(matches!(trickled, Err(GuestError::TimedOut { .. })), "{phase:?}: {trickled:?}");
        let in_time = then(phase, vec![Act::Trickle(whole, Duration::from_micros(1))]).await;
        assert!(in_time.is_ok(), "{phase:?}: {in_time:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn lengths_that_lie_are_refused() {
    for phase in Phase::ALL {
        let frames = phase.frames();
        for (position, right) in frames.iter().enumerate() {
            let length = right.len() - HEADER_BYTES;
            for lie in [
                0,
                1,
                length - 1,
                length + 1,
                1 << 20,
                6 << 20,
                MAX_FRAME_BYTES,
                MAX_FRAME_BYTES + 1,
                u32::MAX as usize,
            ] {
                let mut frames = frames.clone();
                frames[position] = with_length(right.clone(), lie);
                let refused = then(phase, vec![Act::Say(frames.concat())]).await;
                assert!(refused.is_err(), "{phase:?}: {lie} for the {length} bytes of frame {position}");
                // What is longer than any answer is refused without waiting for it.
                if lie > 6 << 20 {
                    assert!(
                        matches!(refused, Err(GuestError::Frame { .. })),
                        "{phase:?}: {lie}: {refused:?}"
                    );
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_ends_the_conversation() {
    let garbage: [&[u8]; 9] = [
        &[0; 64],
        &[0xff; 64],
        b"\0\0\0\x02{}",
        b"\0\0\0\x02[]",
        b"\0\0\0\x04null",
        b"\0\0\0\x08\"hello\"\0",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"\0\0\0\x13{\"type\":\"nonsense\"}",
        b"\0\0\0\x01\xff",
    ];
    for phase in Phase::ALL {
        for garbage in garbage {
            let refused = then(phase, vec![Act::Say(garbage.to_vec())]).await;
            assert!(refused.is_err(), "{phase:?}: {garbage:?}");
        }
        let frames = phase.frames();
        let whole = frames.concat();
        for position in 0..whole.len() {
            for mask in [0x01, 0x20, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[position] ^= mask;
                // What it says may be another answer; that it ends in time is what is asserted.
                let _ = then(phase, vec![Act::Say(changed)]).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_not_asked_for_is_refused_at_every_point() {
    for phase in Phase::ALL {
        let right = phase.answers();
        let is_run = !matches!(phase, Phase::Greet | Phase::Reseed | Phase::Prepare);
        let mut wrong = vec![
            GuestMessage::Failed { reason: "no".to_owned() },
            execution(7, ""),
            execution(u32::MAX, ""),
            with_usage(execution(7, "")),
            output(7, "x"),
            output(0, ""),
            file(7, "z", ""),
            omitted(u32::MAX, "z"),
        ];
        if phase != Phase::Greet {
            wrong.push(hello());
        }
        if phase != Phase::Reseed {
            wrong.push(GuestMessage::Reseeded);
        }
        if phase != Phase::Prepare {
            wrong.push(GuestMessage::Prepared { initialised: true });
        }
        if phase != Phase::Fetch {
            wrong.extend([
                file(0, "a", "1"),
                file(1, "a", "1"),
                omitted(0, "."),
                with_usage(execution(0, "")),
            ]);
        }
        if !matches!(phase, Phase::Stream | Phase::Interactive) {
            wrong.extend([output(0, "a"), output(1, "b")]);
        }
        for position in 0..right.len() {
            for wrong in &wrong {
                let mut answers = right.clone();
                answers.insert(position, wrong.clone());
                assert!(said(phase, &answers).await.is_err(), "{phase:?}: {wrong:?} at {position}");
            }
            // One too few, or the end too early.
            let mut answers = right.clone();
            let missing = answers.remove(position);
            let may_be_missing = matches!(missing, GuestMessage::Output(_) | GuestMessage::File(_));
            assert!(may_be_missing || said(phase, &answers).await.is_err(), "{phase:?}: without {missing:?}");
            if is_run && position + 1 < right.len() {
                answers.truncate(position);
                answers.push(GuestMessage::Finished);
                assert!(said(phase, &answers).await.is_err(), "{phase:?}: finished at {position}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_answered_twice_is_refused() {
    for phase in [Phase::One, Phase::Batch, Phase::Stream, Phase::Interactive, Phase::Fetch] {
        let right = phase.answers();
        for position in 0..right.len() - 1 {
            let mut answers = right.clone();
            answers.insert(position, right[position].clone());
            let is_more_output = matches!(right[position], GuestMessage::Output(_));
            assert_eq!(said(phase, &answers).await.is_ok(), is_more_output, "{phase:?}: {position} twice");
            answers.swap(position + 1, position + 2);
        }
        let mut swapped = right.clone();
        swapped.reverse();
        assert!(said(phase, &swapped).await.is_err(), "{phase:?} in reverse");
    }
    // And an answer that comes before it is asked for is the next one's wrong answer.
    for phase in [Phase::Reseed, Phase::Prepare, Phase::One] {
        let again = [frame(&hello()), phase.frames().concat()].concat();
        assert!(then(phase, vec![Act::Say(again)]).await.is_err(), "{phase:?} after two hellos");
    }
}

#[tokio::test(start_paused = true)]
async fn reports_that_are_not_what_they_may_be_are_refused() {
    let changed = |change: fn(&mut Execution)| {
        let GuestMessage::Execution(mut execution) = execution(0, "abcd") else { unreachable!() };
        change(&mut execution);
        GuestMessage::Execution(execution)
    };
    let finished = GuestMessage::Finished;
    said(Phase::One, &[changed(|it| it.stdout.dropped = u64::MAX), finished.clone()]).await.unwrap();
    for wrong in [
        changed(|it| it.stdout.bytes.0.push(0)),
        changed(|it| it.stderr.bytes.0 = vec![0; 5]),
        changed(|it| it.stderr.dropped = 1),
        changed(|it| it.index = 1),
        with_usage(changed(|_| {})),
    ] {
        assert!(said(Phase::One, &[wrong.clone(), finished.clone()]).await.is_err(), "{wrong:?}");
    }
    let unused = execution(0, "");
    assert!(said(Phase::Fetch, &[unused]).await.is_err(), "without its usage");
    let repeated = [execution(0, "a"), finished];
    assert!(said(Phase::Interactive, &repeated).await.is_err(), "what was streamed is not to come again");
}

#[tokio::test(start_paused = true)]
async fn files_that_are_not_what_they_may_be_are_refused() {
    let with_size = |size| {
        let content = Content::Bytes("ab".into());
        GuestMessage::File(Fetched { index: 0, name: "a".to_owned(), size, content })
    };
    let long = "n".repeat(256);
    let mut all: Vec<(String, Vec<GuestMessage>)> =
        ["", ".", "..", "/", "/a", "a/", "a//b", "./a", "a/..", "../a", "a/../b", "a\0", "\0", &long]
            .iter()
            .map(|name| (format!("{name:?}"), vec![file(0, name, "")]))
            .collect();
    all.extend(
        ["..", "/", "\0", "a/..", &long].map(|name| (format!("a note on {name:?}"), vec![omitted(0, name)])),
    );
    all.extend([0, 1, 3, u64::MAX].map(|size| (format!("{size} for 2 bytes"), vec![with_size(size)])));
    let many = |count: usize, of: fn(u32, &str) -> GuestMessage| -> Vec<GuestMessage> {
        (0..count).map(|number| of(0, &format!("{number:03}"))).collect()
    };
    all.push(("a 65th file".to_owned(), many(MAX_FETCHED + 1, |index, name| file(index, name, ""))));
    all.push(("a 65th note".to_owned(), many(MAX_OMITTED + 1, omitted)));
    let half = "x".repeat(MAX_FETCHED_BYTES / 2);
    let third = vec![file(0, "a", &half), file(0, "b", &half), file(0, "c", "x")];
    all.push(("a byte too many".to_owned(), third));
    let too_long = vec![file(0, "a", &"x".repeat(MAX_FETCHED_BYTES + 1))];
    all.push(("a file too long".to_owned(), too_long));
    all.push(("out of order".to_owned(), vec![file(0, "b", ""), file(0, "a", "")]));
    all.push(("twice".to_owned(), vec![file(0, "a", ""), file(0, "a", "")]));
    all.push(("a note on what came".to_owned(), vec![file(0, "a", ""), omitted(0, "a")]));
    all.push(("after the rest".to_owned(), vec![omitted(0, "."), file(0, "a", "")]));
    all.push(("the rest twice".to_owned(), vec![omitted(0, "."), omitted(0, ".")]));
    let unreadable = Content::Omitted(Omitted::Unreadable);
    let rest = Fetched { index: 0, name: ".".to_owned(), size: 0, content: unreadable };
    all.push(("an unreadable rest".to_owned(), vec![GuestMessage::File(rest)]));
    let end = [with_usage(execution(0, "")), with_usage(execution(1, "")), GuestMessage::Finished];
    for (what, files) in all {
        let refused = said(Phase::Fetch, &[&files[..], &end].concat()).await;
        let is_refused = matches!(refused, Err(GuestError::Unexpected { .. } | GuestError::Frame { .. }));
        assert!(is_refused, "{what}: {refused:?}");
    }
    let most = [many(MAX_FETCHED, |index, name| file(index, name, "")), vec![omitted(0, ".")]].concat();
    said(Phase::Fetch, &[&most[..], &end].concat()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_agents_reason_is_shown_without_what_a_terminal_acts_on() {
    let reason = format!("a\u{1b}[2J\u{202e}b\u{200f}{}", "x".repeat(50_000));
    let failed = said(Phase::One, &[GuestMessage::Failed { reason }]).await.unwrap_err();
    let shown = failed.to_string();
    assert!(shown.starts_with("the guest agent failed: a [2J b "), "{shown}");
    assert!(shown.len() < 3_000, "{}", shown.len());
}

#[tokio::test(start_paused = true)]
async fn no_conversation_gets_what_was_said_in_another() {
    /// So long that each report is that of one conversation alone.
    fn mark(number: usize) -> String {
        format!("{number:04}")
    }
    let answers =
        |number: usize| [frame(&execution(0, &mark(number))), frame(&GuestMessage::Finished)].concat();
    let mut hosts = JoinSet::new();
    for number in 0..32_usize {
        // Each goes on with what all the others have said; every other one begins with it, at an index that is none.
        let others: Vec<u8> = (0..32).filter(|other| *other != number).flat_map(answers).collect();
        let first = if number % 2 == 0 { vec![] } else { frame(&execution(1, &mark(number + 1))) };
        let acts =
            vec![Act::Say(Phase::One.before()), Act::Say(first), Act::Say(answers(number)), Act::Say(others)];
        hosts.spawn(async move { (number, Phase::One.ask(agent(acts)).await) });
    }
    while let Some(asked) = hosts.join_next().await {
        let (number, report) = asked.unwrap();
        match report {
            Ok(report) => {
                assert_eq!(number % 2, 0);
                assert_eq!(report.executions[0].stdout.bytes, mark(number).as_str().into());
            }
            Err(error) => {
                assert!(number % 2 == 1 && matches!(error, GuestError::Unexpected { .. }), "{error}");
            }
        }
    }
}
