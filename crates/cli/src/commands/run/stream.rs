//! Output of a program as it is written: `run --stream`.

use std::{future::Future, io::IsTerminal as _};

use anyhow::Context as _;
use engine::{
    Answer, Outcome, RunError, Utf8,
    live::{Event, Output, Stream},
};
use serde::Serialize;
use serde_json::json;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _, Stderr, Stdout},
    sync::mpsc,
};

use crate::{failure::Failure, output};

/// How it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// The program's streams on ours.
    AsWritten,
    /// A line of JSON for each event, as the service has them.
    AsJson,
}

/// Shows what `events` tell until `answered` ends. The outcome; nothing where whoever read it has seen enough.
pub(super) async fn show(
    shown: Shown,
    mut events: mpsc::Receiver<Event>,
    answered: impl Future<Output = Result<Outcome, RunError>>,
    trace_id: &str,
) -> Result<Option<Result<Outcome, RunError>>, Failure> {
    let mut screen = Screen::new(shown, trace_id);
    let mut answered = std::pin::pin!(answered);
    loop {
        let event = tokio::select! {
            // What was written comes before the end.
            biased;
            Some(event) = events.recv() => event,
            ended = &mut answered => {
                while let Ok(event) = events.try_recv() {
                    if !screen.show(event).await? {
                        return Ok(None);
                    }
                }
                return Ok(screen.finish().await?.then_some(ended));
            }
        };
        if !screen.show(event).await? {
            return Ok(None);
        }
    }
}

/// Says how it ended.
pub(super) fn ended(shown: Shown, answer: &Answer) -> Result<(), Failure> {
    if shown == Shown::AsJson {
        return line("result", answer);
    }
    let executions = match answer {
        Answer::One(execution) => std::slice::from_ref(execution),
        Answer::Batch(executions) => executions,
        Answer::Failed(failure) => return output::json(failure),
    };
    for execution in executions {
        let how = match (&execution.exception, execution.exit_code) {
            (Some(exception), _) => exception.to_string(),
            (None, Some(0)) if !std::io::stderr().is_terminal() => continue,
            (None, code) => format!("exit status {}", code.unwrap_or_default()),
        };
        let seconds = std::time::Duration::from_millis(execution.execution_time).as_secs_f64();
        crate::output::say!("{how} after {seconds:.2} s");
    }
    Ok(())
}

/// Prints an event as the service tells it, in one line.
pub(super) fn line(event: &str, data: &impl Serialize) -> Result<(), Failure> {
    let told = json!({ "event": event, "data": data });
    output::line(&told.to_string())
}

/// Where output goes.
struct Screen<'a> {
    shown: Shown,
    trace_id: &'a str,
    index: u32,
    stdout: Shadow<Stdout>,
    stderr: Shadow<Stderr>,
}

/// One of our streams, and the program's that goes there.
struct Shadow<W> {
    ours: W,
    terminal: bool,
    text: Utf8,
}

impl<'a> Screen<'a> {
    fn new(shown: Shown, trace_id: &'a str) -> Self {
        let stdout = Shadow {
            ours: tokio::io::stdout(),
            terminal: std::io::stdout().is_terminal(),
            text: Utf8::default(),
        };
        let stderr = Shadow {
            ours: tokio::io::stderr(),
            terminal: std::io::stderr().is_terminal(),
            text: Utf8::default(),
        };
        Self { shown, trace_id, index: 0, stdout, stderr }
    }

    /// False where nobody reads any more.
    async fn show(&mut self, event: Event) -> Result<bool, Failure> {
        match (event, self.shown) {
            (Event::Handed, Shown::AsWritten) => Ok(true),
            (Event::Handed, Shown::AsJson) => {
                line("started", &json!({ "trace_id": self.trace_id })).map(|()| true)
            }
            (Event::Output(output), Shown::AsJson) => self.tell(&output).map(|()| true),
            (Event::Output(Output { stream, bytes, .. }), Shown::AsWritten) => match stream {
                Stream::Stdout => self.stdout.write(&bytes.0).await,
                Stream::Stderr => self.stderr.write(&bytes.0).await,
            },
        }
    }

    fn tell(&mut self, output: &Output) -> Result<(), Failure> {
        if output.index != self.index {
            self.tell_rest()?;
            self.index = output.index;
        }
        let (name, text) = match output.stream {
            Stream::Stdout => ("stdout", self.stdout.text.push(&output.bytes.0)),
            Stream::Stderr => ("stderr", self.stderr.text.push(&output.bytes.0)),
        };
        self.tell_text(name, &text)
    }

    fn tell_text(&self, name: &str, text: &str) -> Result<(), Failure> {
        if text.is_empty() {
            return Ok(());
        }
        line(name, &json!({ "index": self.index, "text": text }))
    }

    fn tell_rest(&mut self) -> Result<(), Failure> {
        let (stdout, stderr) = (self.stdout.text.finish(), self.stderr.text.finish());
        self.tell_text("stdout", stdout)?;
        self.tell_text("stderr", stderr)
    }

    async fn finish(&mut self) -> Result<bool, Failure> {
        match self.shown {
            Shown::AsJson => self.tell_rest().map(|()| true),
            Shown::AsWritten => Ok(self.stdout.finish().await? && self.stderr.finish().await?),
        }
    }
}

impl<W: AsyncWrite + Unpin> Shadow<W> {
    /// Bytes as they are, but what a terminal would act on beyond the lines of a text.
    async fn write(&mut self, bytes: &[u8]) -> Result<bool, Failure> {
        if self.terminal {
            let text = harmless(&self.text.push(bytes));
            self.put(text.as_bytes()).await
        } else {
            self.put(bytes).await
        }
    }

    async fn finish(&mut self) -> Result<bool, Failure> {
        let rest = self.text.finish();
        self.put(rest.as_bytes()).await
    }

    async fn put(&mut self, bytes: &[u8]) -> Result<bool, Failure> {
        let written = async {
            self.ours.write_all(bytes).await?;
            self.ours.flush().await
        };
        match written.await {
            // The reader has seen enough, as in `… | head`.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
            written => {
                written.context("cannot write the program's output").map_err(Failure::host).map(|()| true)
            }
        }
    }
}

/// Text of a program that nobody trusts, as a terminal may have it: control characters but those of a text's lines become
/// the pictures that Unicode has of them, or nothing.
fn harmless(text: &str) -> String {
    let picture = |c: char| match c {
        '\n' | '\t' | '\r' => Some(c),
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)),
        '\x7f' => Some('\u{2421}'),
        c if c.is_control() => None,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => None,
        c => Some(c),
    };
    text.chars().filter_map(picture).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_text_and_no_commands() {
        assert_eq!(harmless("a\tb\r\nü€"), "a\tb\r\nü€");
        assert_eq!(harmless("\x1b]0;title\x07\x1b[2J\x7f\0"), "␛]0;title␇␛[2J␡␀");
        assert_eq!(harmless("\u{9b}2J\u{202e}abc"), "2Jabc");
    }
}
