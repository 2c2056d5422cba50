//! Messages between host and guest agent, as either end reads them: frames one after the other.

#![no_main]

use std::fmt::Debug;

use fuzz::within_memory;
use libfuzzer_sys::fuzz_target;
use protocol::{
    frame::{self, FrameError, HEADER_BYTES},
    limits::MAX_FRAME_BYTES,
    message::{GuestMessage, HostMessage},
};
use serde::{Serialize, de::DeserializeOwned};

fuzz_target!(|data: &[u8]| {
    within_memory((1 << 20) + 64 * data.len(), || {
        body::<HostMessage>(data);
        body::<GuestMessage>(data);
    });
    // A frame may announce as much as the largest has, and its reader makes room for it.
    within_memory((1 << 20) + MAX_FRAME_BYTES + 64 * data.len(), || {
        frames::<HostMessage>(data);
        frames::<GuestMessage>(data);
    });
});

/// A text that is a message comes back as it was, in a frame and without.
fn body<T: Serialize + DeserializeOwned + PartialEq + Debug>(text: &[u8]) {
    let Ok(message) = frame::decode::<T>(text) else { return };
    let written = frame::encode(&message).expect("it was no larger");
    assert_eq!(
        frame::body_length([written[0], written[1], written[2], written[3]]).ok(),
        Some(written.len() - HEADER_BYTES)
    );
    assert_eq!(frame::decode::<T>(&written[HEADER_BYTES..]).expect("it was one"), message);
    let mut channel = &written[..];
    assert_eq!(frame::read::<T>(&mut channel).expect("it is a frame"), message);
    assert!(matches!(frame::read::<T>(&mut channel), Err(FrameError::Closed)));
    // Nowhere within it is an end that passes for one.
    let within = &written[..written.len() - 1];
    assert!(matches!(frame::read::<T>(&mut &within[..]), Err(FrameError::Io(_))));
}

/// Frames are read until one is wrong, and none takes a byte of the next.
fn frames<T: DeserializeOwned>(mut channel: &[u8]) {
    loop {
        let before = channel;
        match frame::read::<T>(&mut channel) {
            Ok(_) => {
                let length = before.len() - channel.len() - HEADER_BYTES;
                let header = u32::from_be_bytes(before[..HEADER_BYTES].try_into().expect("it was read"));
                assert_eq!(u32::try_from(length).ok(), Some(header));
            }
            Err(FrameError::Closed) => return assert!(before.is_empty()),
            Err(FrameError::Length(length)) => {
                assert!(length == 0 || length > MAX_FRAME_BYTES as u64);
                return assert_eq!(
                    before.len() - channel.len(),
                    HEADER_BYTES,
                    "more was read than the header"
                );
            }
            Err(FrameError::Body(_) | FrameError::Io(_)) => return,
        }
    }
}
