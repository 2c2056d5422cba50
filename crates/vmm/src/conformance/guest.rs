//! A conversation with the guest agent, as short as it can be.

use std::time::Duration;

use protocol::{
    GENERATION,
    frame::{self, HEADER_BYTES},
    message::{GuestMessage, HostMessage},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};

use super::{BOOT_PATIENCE, PATIENCE, Trial};
use crate::backend::MicroVm;

/// Boots a microVM whose agent has answered.
pub(super) async fn booted(trial: &Trial) -> (Box<dyn MicroVm>, UnixStream) {
    let mut vm = trial.vmm.boot(&trial.boot_spec()).await.expect("a microVM boots");
    let stream = connected(vm.as_mut(), BOOT_PATIENCE).await;
    (vm, stream)
}

/// The stream to a microVM's agent, which has answered.
pub(super) async fn connected(vm: &mut dyn MicroVm, patience: Duration) -> UnixStream {
    let mut stream = vm.connect(patience).await.expect("the guest agent can be reached");
    greet(&mut stream).await;
    assert!(answered(&mut stream, patience).await, "no answer: {}", vm.last_words());
    stream
}

/// Says hello.
pub(super) async fn greet(stream: &mut UnixStream) {
    let hello = frame::encode(&HostMessage::Hello { generation: GENERATION }).expect("it fits a frame");
    stream.write_all(&hello).await.expect("the agent's stream takes a greeting");
}

/// Whether the agent says hello within `patience`.
pub(super) async fn answered(stream: &mut UnixStream, patience: Duration) -> bool {
    let answer = async {
        let mut header = [0; HEADER_BYTES];
        stream.read_exact(&mut header).await.ok()?;
        let mut body = vec![0; frame::body_length(header).ok()?];
        stream.read_exact(&mut body).await.ok()?;
        frame::decode::<GuestMessage>(&body).ok()
    };
    matches!(timeout(patience, answer).await, Ok(Some(GuestMessage::Hello { .. })))
}

/// Says what the agent does not understand, upon which it ends.
pub(super) async fn offend(stream: &mut UnixStream) {
    let mut nonsense = b"nonsense".to_vec();
    nonsense.splice(0..0, 8_u32.to_be_bytes());
    stream.write_all(&nonsense).await.expect("the agent's stream takes nonsense");
}

/// Whether a clone's agent answers.
pub(super) async fn answers(vm: &mut dyn MicroVm) -> UnixStream {
    connected(vm, PATIENCE).await
}
