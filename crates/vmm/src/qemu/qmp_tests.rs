//! QMP with a QEMU that does as it should, and with one that does not.

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};

use super::*;

const GREETING: &str = "{\"QMP\":{}}\n";

/// What there is of time where nobody is expected to use it up.
const LONG: Duration = Duration::from_secs(60);

/// A QEMU that says each of `parts` after a line of the client, but for the first, with the line's number for `#`; then it
/// waits for the client to go.
fn speaking(parts: &[&str]) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let parts: Vec<String> = parts.iter().map(|&part| part.to_owned()).collect();
    tokio::spawn(async move {
        let mut theirs = BufReader::new(theirs);
        for (number, part) in parts.iter().enumerate() {
            if number > 0 && theirs.read_line(&mut String::new()).await.unwrap() == 0 {
                return;
            }
            // Whoever has heard enough has gone.
            let _ = theirs.get_mut().write_all(part.replace('#', &number.to_string()).as_bytes()).await;
        }
        let _ = theirs.read_line(&mut String::new()).await;
    });
    ours
}

/// One that says all of it at once, and hangs up.
async fn having_said(all: &[u8]) -> UnixStream {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(all).await.unwrap();
    theirs.shutdown().await.unwrap();
    // It reads what it is sent, or its end would be told before its words are read.
    tokio::spawn(async move { tokio::io::copy(&mut theirs, &mut tokio::io::sink()).await });
    ours
}

/// What comes of `stop` where QEMU says this after it has agreed to talk.
async fn stopped(said: &str) -> Result<(), ControlError> {
    let mut qmp = Qmp::negotiate(speaking(&[GREETING, "{\"return\":{},\"id\":#}\n", said])).await.unwrap();
    qmp.execute("stop", json!({})).await
}

#[tokio::test]
async fn events_before_an_answer_are_kept_for_later() {
    let stop = "{\"event\":\"STOP\",\"data\":{}}\n{\"return\":7,\"id\":#}\n";
    let mut qmp = Qmp::negotiate(speaking(&[GREETING, "{\"return\":{},\"id\":#}\n", stop])).await.unwrap();
    qmp.execute("stop", json!({})).await.unwrap();
    qmp.event("stop", LONG, |name, _| (name == "STOP").then_some(())).await.unwrap();
}

#[tokio::test]
async fn a_refusal_names_the_reason_and_an_end_names_the_command() {
    let refusal = "{\"error\":{\"class\":\"GenericError\",\"desc\":\"no such thing\"},\"id\":#}\n";
    let error = stopped(refusal).await.unwrap_err();
    assert_eq!(error.to_string(), "the VMM refused stop: no such thing");
    let said = [GREETING, "{\"return\":{},\"id\":1}\n"].concat();
    let mut qmp = Qmp::negotiate(having_said(said.as_bytes()).await).await.unwrap();
    let error = qmp.execute("cont", json!({})).await.unwrap_err();
    assert!(matches!(error, ControlError::Closed { command: "cont" }), "{error}");
}

#[tokio::test]
async fn garbage_is_an_error() {
    for garbage in ["no json\n", "{\"other\":1}\n", "\n", "[]\n", "{\"return\":{}}\n", "\0\0\0\u{4}null\n"] {
        assert!(Qmp::negotiate(having_said(garbage.as_bytes()).await).await.is_err(), "{garbage}");
        let garbage = format!("{garbage}{{\"return\":{{}},\"id\":2}}\n");
        assert!(stopped(&garbage).await.is_err(), "{garbage}");
    }
}

#[tokio::test]
async fn an_answer_that_comes_twice_is_not_taken_for_that_of_the_next_command() {
    let twice = "{\"return\":{},\"id\":#}\n{\"return\":{},\"id\":#}\n";
    let mut qmp = Qmp::negotiate(speaking(&[GREETING, twice])).await.unwrap();
    let error = qmp.execute("stop", json!({})).await.unwrap_err();
    assert!(matches!(error, ControlError::Unexpected { command: "stop" }), "{error}");
    let mut qmp = Qmp::negotiate(speaking(&[GREETING, twice])).await.unwrap();
    let error = qmp.event("stop", LONG, |_, _| Some(())).await.unwrap_err();
    assert!(matches!(error, ControlError::Unexpected { command: "stop" }), "{error}");
    for both in
        ["{\"return\":{},\"error\":{},\"id\":2}\n", "{\"return\":{}}\n", "{\"return\":{},\"id\":-1}\n"]
    {
        assert!(stopped(both).await.is_err(), "{both}");
    }
}

#[tokio::test]
async fn an_end_at_any_byte_is_an_error_and_no_wait() {
    let all = [
        GREETING,
        "{\"return\":{},\"id\":1}\n",
        "{\"event\":\"STOP\",\"data\":{}}\n",
        "{\"return\":{},\"id\":2}\n",
    ]
    .concat();
    for end in 0..=all.len() {
        let talked = async {
            let mut qmp = Qmp::negotiate(having_said(&all.as_bytes()[..end]).await).await?;
            qmp.execute("stop", json!({})).await?;
            qmp.event("stop", LONG, |name, _| (name == "STOP").then_some(())).await
        };
        let talked = timeout(LONG / 2, talked).await.expect("nobody waits for what cannot come");
        assert_eq!(talked.is_ok(), end == all.len(), "{end}: {talked:?}");
    }
}

#[tokio::test]
async fn a_qemu_that_never_answers_is_given_up() {
    let patience = Duration::from_millis(50);
    let said = Qmp::negotiate_within(speaking(&[""]), patience).await;
    assert!(matches!(said.err().unwrap(), ControlError::TimedOut { command: "the greeting", .. }));
    let stream = speaking(&[GREETING, "{\"return\":{},\"id\":#}\n", "{\"return\":{},"]);
    let mut qmp = Qmp::negotiate_within(stream, patience).await.unwrap();
    let error = qmp.execute("stop", json!({})).await.unwrap_err();
    assert!(matches!(error, ControlError::TimedOut { command: "stop", .. }), "{error}");
    let error = qmp.event("stop", patience, |_, _| Some(())).await.unwrap_err();
    assert!(matches!(error, ControlError::TimedOut { command: "stop", .. }), "{error}");
}

#[tokio::test]
async fn lines_have_a_bound_each_and_together_and_what_is_kept_has_one() {
    let line = usize::try_from(MAX_LINE_BYTES).unwrap();
    let too_much = |said: String| async move {
        let error = stopped(&said).await.unwrap_err();
        assert!(matches!(error, ControlError::TooMuch { command: "stop" }), "{error}");
    };
    too_much("x".repeat(line)).await;
    too_much("{\"event\":\"A\"}\n".repeat(MAX_LINES + 1)).await;
    let long = format!("{{\"event\":\"{}\"}}\n", "A".repeat(line / 2));
    too_much(long.repeat(MAX_LINES_BYTES / long.len() + 1)).await;

    let said = "{\"event\":\"A\"}\n".repeat(MAX_LINES - 1) + "{\"return\":{},\"id\":#}\n";
    let mut qmp = Qmp::negotiate(speaking(&[GREETING, "{\"return\":{},\"id\":#}\n", &said])).await.unwrap();
    qmp.execute("stop", json!({})).await.unwrap();
    assert_eq!(qmp.events.len(), MAX_EVENTS);
}

#[tokio::test]
async fn events_without_an_end_are_not_listened_to_for_as_long_as_a_migration_may_take() {
    let said = "{\"event\":\"MIGRATION\",\"data\":{\"status\":\"active\"}}\n".repeat(MAX_LINES + 1);
    let mut qmp = Qmp::negotiate(speaking(&[GREETING, &("{\"return\":{},\"id\":#}\n".to_owned() + &said)]))
        .await
        .unwrap();
    let never = qmp.event("migrate", LONG, |name, _| (name == "STOP").then_some(())).await;
    assert!(matches!(never, Err(ControlError::TooMuch { command: "migrate" })), "{never:?}");
}
