//! Frames: a 4-byte big-endian length, then that many bytes of JSON.
//!
//! ```text
//!  0               4                              4 + length
//! ┌───────────────┬──────────────────────────────┐
//! │ length (u32)  │ JSON of one message          │   1 <= length <= MAX_FRAME_BYTES
//! └───────────────┴──────────────────────────────┘
//! ```
//!
//! The bound is checked before anything is allocated, on both ends.

use std::io::{self, Read, Write};

use serde::{
    Serialize,
    de::{DeserializeOwned, Error as _},
};

use crate::limits::MAX_FRAME_BYTES;

/// The size of the length before each body, in bytes.
pub const HEADER_BYTES: usize = 4;

/// Why a frame could not be read, written or understood.
#[derive(Debug)]
pub enum FrameError {
    /// The length is zero or over the bound: [`MAX_FRAME_BYTES`], or what a reader expects.
    Length(u64),
    /// The body is not the JSON of the message that was asked for.
    Body(serde_json::Error),
    /// The channel failed or ended within a frame.
    Io(io::Error),
    /// The channel ended between two frames.
    Closed,
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Length(length) => {
                write!(f, "frame of {length} bytes, which is none, or more than is read here")
            }
            Self::Body(_) => f.write_str("frame does not hold the message of this protocol generation"),
            Self::Io(_) => f.write_str("channel failed within a frame"),
            Self::Closed => f.write_str("channel closed"),
        }
    }
}

impl std::error::Error for FrameError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Body(source) => Some(source),
            Self::Io(source) => Some(source),
            Self::Length(_) | Self::Closed => None,
        }
    }
}

/// Reads a frame's header.
///
/// # Errors
/// [`FrameError::Length`] when the length is out of bounds.
pub fn body_length(header: [u8; HEADER_BYTES]) -> Result<usize, FrameError> {
    let length = u32::from_be_bytes(header);
    match usize::try_from(length) {
        Ok(length) if (1..=MAX_FRAME_BYTES).contains(&length) => Ok(length),
        _ => Err(FrameError::Length(u64::from(length))),
    }
}

/// One message as a whole frame, header and body.
///
/// # Errors
/// [`FrameError::Length`] when the message is too large for a frame.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; HEADER_BYTES];
    serde_json::to_writer(&mut frame, message).map_err(FrameError::Body)?;
    let length = frame.len() - HEADER_BYTES;
    match u32::try_from(length) {
        Ok(header) if length <= MAX_FRAME_BYTES => {
            frame[..HEADER_BYTES].copy_from_slice(&header.to_be_bytes());
        }
        _ => return Err(FrameError::Length(length as u64)),
    }
    Ok(frame)
}

/// The message in a frame's body.
///
/// # Errors
/// [`FrameError::Body`] when it is no such message.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice(body).map_err(|error| FrameError::Body(shown(&error)))
}

/// What is wrong with a body, as it may stand in a log: such an error repeats what it does not know, which the other end
/// has written.
fn shown(error: &serde_json::Error) -> serde_json::Error {
    const MOST_CHARS: usize = 200;
    let text = error.to_string();
    let mut plain = String::new();
    for c in text.chars().take(MOST_CHARS) {
        match c {
            '"' | '\'' | '\\' => plain.push(c),
            c => plain.extend(c.escape_debug()),
        }
    }
    if text.chars().nth(MOST_CHARS).is_some() {
        plain.push('…');
    }
    serde_json::Error::custom(plain)
}

/// Reads one message, blocking.
///
/// # Errors
/// [`FrameError::Closed`] at the end of the channel between two frames, else what went wrong.
pub fn read<T: DeserializeOwned>(channel: &mut impl Read) -> Result<T, FrameError> {
    let mut header = [0; HEADER_BYTES];
    let first = loop {
        match channel.read(&mut header) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other.map_err(FrameError::Io)?,
        }
    };
    if first == 0 {
        return Err(FrameError::Closed);
    }
    channel.read_exact(&mut header[first..]).map_err(FrameError::Io)?;
    let mut body = vec![0; body_length(header)?];
    channel.read_exact(&mut body).map_err(FrameError::Io)?;
    decode(&body)
}

/// Writes one message, blocking, as a single write where the channel takes it.
///
/// # Errors
/// [`FrameError::Length`] when the message is too large, [`FrameError::Io`] when the channel fails.
pub fn write<T: Serialize>(channel: &mut impl Write, message: &T) -> Result<(), FrameError> {
    let frame = encode(message)?;
    channel.write_all(&frame).and_then(|()| channel.flush()).map_err(FrameError::Io)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::{GuestMessage, HostMessage};

    #[test]
    fn a_length_out_of_bounds_is_refused_before_anything_is_allocated() {
        for length in [0, u32::try_from(MAX_FRAME_BYTES).unwrap() + 1, u32::MAX] {
            let mut channel = &length.to_be_bytes()[..];
            let error = read::<GuestMessage>(&mut channel).unwrap_err();
            assert!(matches!(error, FrameError::Length(l) if l == u64::from(length)), "{error}");
        }
    }

    #[test]
    fn an_end_between_frames_differs_from_an_end_within_one() {
        assert!(matches!(read::<GuestMessage>(&mut &[][..]), Err(FrameError::Closed)));
        assert!(matches!(read::<GuestMessage>(&mut &[0, 0][..]), Err(FrameError::Io(_))));
        assert!(matches!(read::<GuestMessage>(&mut &[0, 0, 0, 9, b'{'][..]), Err(FrameError::Io(_))));
    }

    #[test]
    fn what_is_wrong_with_a_body_is_said() {
        let bodies = [
            r#"{"type":"nonsense"}"#,
            r#"{"type":"hello","generation":1,"job_memory_bytes":1,"timer_permille":1000,"extra":2}"#,
            r#"{"type":"hello","generation":1}"#,
            r#"{"type":"prepared","initialised":1}"#,
            r#"{"type":"finished","extra":1}"#,
            r#"{"type":"finished"} "#,
            r#"{"type":"finished"}{}"#,
            r#"{"initialised":true,"type":"prepared"}"#,
            r#"{"type":"prepared","type":"finished","initialised":true}"#,
            r#"{"type":7}"#,
            r#"{"type":"execution","index":0,"outcome":{"code":0,"kind":"exited"}}"#,
            r#"{"type":"execution","index":0,"outcome":"timed_out"}"#,
            r#"{"type":"output","index":0,"stream":"stdout","bytes":"!"}"#,
            r#"{"type":"output","index":0,"stream":"stdout","bytes":[1]}"#,
            "{}",
            "[]",
            "\"finished\"",
            "finished",
            "",
        ];
        let refusals = bodies.map(|body| match decode::<GuestMessage>(body.as_bytes()) {
            Ok(message) => format!("{body}  is {message:?}"),
            Err(error) => format!("{body}  {}", std::error::Error::source(&error).unwrap()),
        });
        insta::assert_snapshot!(refusals.join("\n"));
    }

    #[test]
    fn what_is_said_of_a_body_repeats_nothing_that_a_terminal_acts_on_and_little_of_the_rest() {
        let long = format!("{{\"type\":\"finished\\u001b[2J\u{202e}\\n{}\"}}", "x".repeat(100_000));
        let error = decode::<GuestMessage>(long.as_bytes()).unwrap_err();
        let refusal = std::error::Error::source(&error).unwrap().to_string();
        assert!(refusal.starts_with(r"unknown variant `finished\u{1b}[2J\u{202e}\nxxx"), "{refusal}");
        assert!(refusal.len() < 400, "{}", refusal.len());
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_message_or_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read::<GuestMessage>(&mut &bytes[..]);
        }

        #[test]
        fn a_frame_comes_back_as_it_was_written(entropy in prop::collection::vec(any::<u8>(), 0..300), nanos: u64) {
            let message = HostMessage::Reseed { entropy: entropy.into(), realtime_unix_nanos: nanos };
            let mut wire = Vec::new();
            write(&mut wire, &message).unwrap();
            prop_assert_eq!(read::<HostMessage>(&mut &wire[..]).unwrap(), message);
        }
    }
}
