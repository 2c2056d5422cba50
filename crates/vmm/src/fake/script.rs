//! The language of the programs that run in a microVM of a [`super::Fake`].
//!
//! A program is the file that its language's command names last. It is read line by line; blank lines and those that begin
//! with `#` say nothing.
//!
//! ```text
//! print TEXT     writes TEXT and a newline to stdout
//! print('TEXT')  the same, as Python has it: literals of strings, and products of whole numbers
//! import sys     says nothing
//! print('%d.%d.%d' % sys.version_info[:3])  writes 3.11.2 and a newline to stdout
//! error TEXT     writes TEXT and a newline to stderr
//! stdin          copies stdin to stdout; of an interactive run, all that comes until its end
//! args           writes the arguments, a blank between two, and a newline to stdout
//! identity       writes a number that no other microVM of this backend has, and a newline to stdout
//! process        writes which process runs it: initialised, fork or fresh
//! sleep MILLIS   waits, as long as the time limit lets it
//! flood N        writes N bytes to stdout
//! file NAME TEXT leaves a file that holds TEXT, for runs that fetch NAME or `**/*`
//! exit N         ends with this status
//! signal N       is killed by this signal
//! memory         needs more memory than there is
//! crash          the VMM crashes
//! shutdown       the guest turns itself off
//! garbage        the guest agent answers with bytes that are no frame
//! silence        the guest agent never answers
//! length N       the guest agent announces a frame of N bytes, and sends none
//! twice          the guest agent reports the end of this program twice
//! other          the guest agent reports the end of an execution that is not this one
//! fail TEXT      the guest agent says that it failed, for this reason
//! ```
//!
//! Any other line is a syntax error: a message on stderr, and exit status 1.

use std::time::Duration;

use protocol::{
    Bytes,
    frame::{self, FrameError},
    limits::MAX_CHUNK_BYTES,
    message::{
        Captured, Content, Execution, Fetched, GuestMessage, HostMessage, Outcome, Output as Chunk, Run,
        Stream,
    },
};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::conversation::Conversation;

/// What a program finds when it runs.
pub(super) struct World<'a> {
    pub(super) run: &'a Run,
    pub(super) index: u32,
    pub(super) stdin: &'a [u8],
    pub(super) identity: u64,
    pub(super) process: &'static str,
}

/// How a program ended, and what it wrote.
pub(super) struct Ran {
    pub(super) outcome: Outcome,
    pub(super) stdout: Captured,
    pub(super) stderr: Captured,
    pub(super) files: Vec<Fetched>,
}

/// What a guest does that its host cannot rely upon not to happen.
pub(super) enum Misbehaviour {
    Crash,
    Shutdown,
    Garbage,
    Silence,
    Say(Vec<u8>),
    Fail(String),
    /// None: the host has gone.
    Channel(FrameError),
}

/// What one line comes to.
enum Next {
    Line,
    End(Outcome),
    Misbehave(Misbehaviour),
    /// The line is none of the language.
    Unknown,
}

/// An output stream that keeps its first bytes.
struct Output {
    captured: Captured,
    limit: u64,
    /// What is to be sent at once.
    stream: Option<Stream>,
    unsent: Vec<u8>,
}

impl Output {
    fn write(&mut self, bytes: &[u8]) {
        if self.stream.is_some() {
            self.unsent.extend_from_slice(bytes);
        }
        let room = self.limit - self.captured.bytes.0.len() as u64;
        let kept = usize::try_from(room).map_or(bytes.len(), |room| room.min(bytes.len()));
        self.captured.bytes.0.extend_from_slice(&bytes[..kept]);
        self.captured.dropped += (bytes.len() - kept) as u64;
    }

    /// Writes `count` bytes, of which no more are made than are kept.
    fn flood(&mut self, count: u64) {
        let room = self.limit - self.captured.bytes.0.len() as u64;
        let kept = count.min(room);
        let length = self.captured.bytes.0.len() + usize::try_from(kept).unwrap_or_default();
        self.captured.bytes.0.resize(length, b'x');
        self.captured.dropped += count - kept;
        if self.stream.is_some() {
            self.unsent.resize(self.unsent.len() + usize::try_from(count).unwrap_or_default(), b'x');
        }
    }

    fn line(&mut self, text: &str) {
        self.write(text.as_bytes());
        self.write(b"\n");
    }
}

/// How Python is asked for its version.
const VERSION: &str = "print('%d.%d.%d' % sys.version_info[:3])";

struct Interpreter<'a> {
    world: &'a World<'a>,
    deadline: Instant,
    stdout: Output,
    stderr: Output,
    files: Vec<Fetched>,
    host: &'a mut Conversation,
}

/// Runs the program of a request once.
pub(super) async fn run(world: &World<'_>, host: &mut Conversation) -> Result<Ran, Misbehaviour> {
    let limits = world.run.limits;
    let output = |stream| {
        let stream = world.run.options.stream.then_some(stream);
        Output { captured: Captured::default(), limit: limits.output_bytes, stream, unsent: Vec::new() }
    };
    let deadline = Instant::now() + Duration::from_millis(limits.timeout_millis);
    let (stdout, stderr) = (output(Stream::Stdout), output(Stream::Stderr));
    let mut interpreter = Interpreter { world, deadline, stdout, stderr, files: Vec::new(), host };
    let outcome = interpreter.program().await?;
    interpreter.send().await?;
    let Interpreter { stdout, stderr, mut files, .. } = interpreter;
    // As the real agent tells of them; what was written again is there once.
    files.sort_by(|one, other| one.name.cmp(&other.name));
    files.dedup_by(|later, earlier| {
        let is_same = later.name == earlier.name;
        if is_same {
            std::mem::swap(later, earlier);
        }
        is_same
    });
    Ok(Ran { outcome, stdout: stdout.captured, stderr: stderr.captured, files })
}

impl Interpreter<'_> {
    async fn program(&mut self) -> Result<Outcome, Misbehaviour> {
        let name = self.world.run.runtime.command.last().map(String::as_str).unwrap_or_default();
        let Some(file) = self.world.run.files.iter().find(|file| file.name == name) else {
            self.stderr.line(&format!("can't open file '{name}': [Errno 2] No such file or directory"));
            return Ok(Outcome::Exited { code: 2 });
        };
        let text = String::from_utf8_lossy(&file.content.0);
        for (index, line) in text.lines().enumerate() {
            match self.line(line.trim()).await {
                Next::Line => self.send().await?,
                Next::End(outcome) => return Ok(outcome),
                Next::Misbehave(misbehaviour) => return Err(misbehaviour),
                Next::Unknown => {
                    let number = index + 1;
                    self.stderr.line(&format!(
                        "  File \"{name}\", line {number}\n    {line}\nSyntaxError: invalid syntax"
                    ));
                    return Ok(Outcome::Exited { code: 1 });
                }
            }
        }
        Ok(Outcome::Exited { code: 0 })
    }

    async fn line(&mut self, line: &str) -> Next {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (word, rest) {
            ("", _) => {}
            _ if line.starts_with('#') => {}
            ("import", "sys") => {}
            _ if line == VERSION => self.stdout.line("3.11.2"),
            _ if line.starts_with("print(") => match python_print(line) {
                Some(text) => self.stdout.line(&text),
                None => return Next::Unknown,
            },
            ("print", text) => self.stdout.line(text),
            ("error", text) => self.stderr.line(text),
            ("stdin", "") => return self.copy_stdin().await,
            ("file", file) => self.file(file),
            ("args", "") => self.stdout.line(&self.world.run.args.join(" ")),
            ("identity", "") => self.stdout.line(&self.world.identity.to_string()),
            ("process", "") => self.stdout.line(self.world.process),
            ("sleep" | "flood" | "exit" | "signal" | "length", number) => {
                return self.with_number(word, number).await;
            }
            ("memory", "") => return Next::End(Outcome::OutOfMemory),
            ("crash", "") => return Next::Misbehave(Misbehaviour::Crash),
            ("shutdown", "") => return Next::Misbehave(Misbehaviour::Shutdown),
            ("garbage", "") => return Next::Misbehave(Misbehaviour::Garbage),
            ("silence", "") => return Next::Misbehave(Misbehaviour::Silence),
            ("twice", "") => return Next::Misbehave(self.reported(&[0, 0])),
            ("other", "") => return Next::Misbehave(self.reported(&[1])),
            ("fail", reason) => return Next::Misbehave(Misbehaviour::Fail(reason.to_owned())),
            _ => return Next::Unknown,
        }
        Next::Line
    }

    /// Sends what was written, where that is sent at once.
    async fn send(&mut self) -> Result<(), Misbehaviour> {
        for output in [&mut self.stdout, &mut self.stderr] {
            let Some(stream) = output.stream else { continue };
            let unsent = std::mem::take(&mut output.unsent);
            for bytes in unsent.chunks(MAX_CHUNK_BYTES) {
                let chunk = Chunk { index: self.world.index, stream, bytes: Bytes(bytes.to_vec()) };
                self.host.send(&[GuestMessage::Output(chunk)]).await.map_err(Misbehaviour::Channel)?;
            }
        }
        Ok(())
    }

    async fn copy_stdin(&mut self) -> Next {
        self.stdout.write(self.world.stdin);
        while self.world.run.options.interactive {
            if let Err(misbehaviour) = self.send().await {
                return Next::Misbehave(misbehaviour);
            }
            match timeout_at(self.deadline, self.host.receive()).await {
                Err(_) => return Next::End(Outcome::TimedOut),
                Ok(Err(error)) => return Next::Misbehave(Misbehaviour::Channel(error)),
                Ok(Ok(HostMessage::Input { bytes, end })) => {
                    self.stdout.write(&bytes.0);
                    if end {
                        break;
                    }
                }
                Ok(Ok(HostMessage::Signal { signal })) => return Next::End(Outcome::Killed { signal }),
                Ok(Ok(_)) => {
                    return Next::Misbehave(Misbehaviour::Fail("something else was asked".to_owned()));
                }
            }
        }
        Next::Line
    }

    /// Reports of executions so far beside this one.
    fn reported(&self, beside: &[u32]) -> Misbehaviour {
        let report = |beside: &u32| {
            frame::encode(&GuestMessage::Execution(Execution {
                index: self.world.index + beside,
                outcome: Outcome::Exited { code: 0 },
                stdout: Captured::default(),
                stderr: Captured::default(),
                duration_micros: 1,
                usage: None,
            }))
        };
        match beside.iter().map(report).collect::<Result<Vec<_>, _>>() {
            Ok(frames) => Misbehaviour::Say(frames.concat()),
            Err(error) => Misbehaviour::Channel(error),
        }
    }

    fn file(&mut self, file: &str) {
        let (name, text) = file.split_once(' ').unwrap_or((file, ""));
        if self.world.run.options.fetch.iter().any(|glob| glob == name || glob == "**/*") {
            let (name, size) = (name.to_owned(), text.len() as u64);
            self.files.push(Fetched {
                index: self.world.index,
                name,
                size,
                content: Content::Bytes(text.into()),
            });
        }
    }

    async fn with_number(&mut self, word: &str, number: &str) -> Next {
        match (word, number.parse::<u64>(), number.parse::<u8>()) {
            ("sleep", Ok(millis), _) => {
                // A time beyond any clock's is beyond the deadline too.
                let until = Instant::now().checked_add(Duration::from_millis(millis));
                let until = until.unwrap_or(self.deadline).min(self.deadline);
                sleep_until(until).await;
                if until == self.deadline { Next::End(Outcome::TimedOut) } else { Next::Line }
            }
            ("flood", Ok(count), _) => {
                self.stdout.flood(count);
                Next::Line
            }
            ("length", Ok(length), _) => {
                let header = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
                Next::Misbehave(Misbehaviour::Say(header.to_vec()))
            }
            ("exit", _, Ok(code)) => Next::End(Outcome::Exited { code }),
            ("signal", _, Ok(signal)) => Next::End(Outcome::Killed { signal }),
            _ => Next::Unknown,
        }
    }
}

/// What Python's `print` of literals writes; nothing where `line` is something else.
fn python_print(line: &str) -> Option<String> {
    let mut rest = line.strip_prefix("print(")?.strip_suffix(')')?.trim();
    let mut words = Vec::new();
    while !rest.is_empty() {
        let (word, after) = if rest.starts_with(['\'', '"']) { string(rest)? } else { product(rest)? };
        words.push(word);
        rest = match after.trim_start() {
            "" => "",
            // Nothing may follow a comma at the end in this language.
            more => more.strip_prefix(',').map(str::trim_start).filter(|more| !more.is_empty())?,
        };
    }
    Some(words.join(" "))
}

/// A literal at the beginning of `text`, which begins with a quote, and what follows it.
fn string(text: &str) -> Option<(String, &str)> {
    let mut chars = text.char_indices();
    let (_, quote) = chars.next()?;
    let mut value = String::new();
    while let Some((at, c)) = chars.next() {
        match c {
            _ if c == quote => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                c @ ('\\' | '\'' | '"') => c,
                _ => return None,
            }),
            c => value.push(c),
        }
    }
    None
}

/// The product of whole numbers at the beginning of `text`, up to a comma, and what follows it.
fn product(text: &str) -> Option<(String, &str)> {
    let end = text.find(',').unwrap_or(text.len());
    let factors = text[..end].split('*').map(|factor| factor.trim().parse::<i64>().ok());
    let product = factors.reduce(|product, factor| product?.checked_mul(factor?))??;
    Some((product.to_string(), &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn print_of_literals_is_understood_as_python_does() {
        for (line, written) in [
            ("print('Hello from Python!')", Some("Hello from Python!")),
            ("print(\"it's\")", Some("it's")),
            (r"print('a\n\'b\'\\')", Some("a\n'b'\\")),
            ("print('proof', 6 * 7)", Some("proof 42")),
            ("print(2,'x')", Some("2 x")),
            ("print()", Some("")),
            ("print('a', )", None),
            ("print('a' 'b')", None),
            ("print('a)", None),
            ("print(x)", None),
            ("print(9223372036854775807 * 2)", None),
            (r"print('\q')", None),
        ] {
            assert_eq!(python_print(line).as_deref(), written, "{line}");
        }
    }
}
