//! The API with a Firecracker that does as it should, and with one that does not.

use std::sync::{Arc, Mutex};

use firecracker_stand_in::api::Api as StandIn;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use super::{
    super::{
        launch::paths,
        requests::{
            Action, ActionType, BootSource, CpuConfiguration, Drive, MachineConfiguration, MemoryBackend,
            Serial, SnapshotCreate, SnapshotLoad, Vm, VmState, Vsock, VsockOverride,
        },
    },
    *,
};

/// A Firecracker at the other end of the stream that judges what it is sent, and what it has taken.
fn stand_in() -> (UnixStream, Arc<Mutex<StandIn>>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let stand_in = Arc::default();
    tokio::spawn(serve(theirs, Arc::clone(&stand_in)));
    (ours, stand_in)
}

async fn serve(stream: UnixStream, stand_in: Arc<Mutex<StandIn>>) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await.unwrap() > 0 {
        let request = line.strip_suffix(" HTTP/1.1\r\n").unwrap().to_owned();
        let mut length = 0;
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).await.unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        line.clear();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let answer = match stand_in.lock().unwrap().take(&request, &body) {
            Ok(()) => "HTTP/1.1 204 \r\n\r\n".to_owned(),
            Err(fault) => {
                let fault = json!({ "fault_message": fault }).to_string();
                format!("HTTP/1.1 400 \r\nContent-Length: {}\r\n\r\n{fault}", fault.len())
            }
        };
        stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
    }
}

fn load<'a>() -> SnapshotLoad<'a> {
    SnapshotLoad {
        snapshot_path: paths::STATE,
        mem_backend: MemoryBackend { backend_type: "File", backend_path: paths::MEMORY },
        resume_vm: true,
        vsock_override: VsockOverride { uds_path: paths::VSOCK },
    }
}

#[tokio::test]
async fn a_restore_is_one_request() {
    let (stream, stand_in) = stand_in();
    let mut api = Api::over(stream).await.unwrap();
    api.call(&Serial { serial_out_path: paths::SERIAL }).await.unwrap();
    api.call(&load()).await.unwrap();
    let expected = json!({
        "snapshot_path": "/vm/state",
        "mem_backend": { "backend_type": "File", "backend_path": "/vm/memory" },
        "resume_vm": true,
        "vsock_override": { "uds_path": "/run/vsock" },
    });
    assert_eq!(stand_in.lock().unwrap().taken()[1..], [("PUT /snapshot/load".to_owned(), expected)]);
    // A process takes one snapshot.
    let error = api.call(&load()).await.unwrap_err().to_string();
    assert!(error.contains("not supported after starting the microVM"), "{error}");
}

#[tokio::test]
async fn a_boot_is_described_started_and_saved() {
    let (stream, stand_in) = stand_in();
    let mut api = Api::over(stream).await.unwrap();
    api.call(&Serial { serial_out_path: paths::SERIAL }).await.unwrap();
    api.call(&MachineConfiguration {
        vcpu_count: 1,
        mem_size_mib: 512,
        smt: false,
        cpu_template: Some("T2"),
    })
    .await
    .unwrap();
    let leaf = json!({ "register": "ecx", "bitmap": "0b0xx" });
    let leaf = json!({ "leaf": "0x1", "subleaf": "0x0", "flags": 0, "modifiers": [leaf] });
    api.call(&CpuConfiguration(&json!({ "cpuid_modifiers": [leaf] }))).await.unwrap();
    let (kernel_image_path, initrd_path) = (paths::VMLINUX, paths::INITRAMFS);
    api.call(&BootSource { kernel_image_path, initrd_path, boot_args: "quiet" }).await.unwrap();
    let path_on_host = paths::ROOTFS;
    api.call(&Drive { drive_id: "rootfs", path_on_host, is_root_device: false, is_read_only: true })
        .await
        .unwrap();
    api.call(&Vsock { guest_cid: 3, uds_path: paths::VSOCK }).await.unwrap();
    let create =
        SnapshotCreate { snapshot_type: "Full", snapshot_path: paths::STATE, mem_file_path: paths::MEMORY };
    api.call(&create).await.unwrap_err();
    api.call(&Action { action_type: ActionType::InstanceStart }).await.unwrap();
    api.call(&create).await.unwrap_err();
    api.call(&Vm { state: VmState::Paused }).await.unwrap();
    api.call(&create).await.unwrap();
    api.call(&Vm { state: VmState::Resumed }).await.unwrap();
    api.call(&Action { action_type: ActionType::FlushMetrics }).await.unwrap();
    assert_eq!(stand_in.lock().unwrap().last("PUT /drives/rootfs").unwrap()["is_read_only"], json!(true));
}

#[tokio::test]
async fn a_vmm_that_hangs_up_is_told() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut api = Api::over(ours).await.unwrap();
    drop(theirs);
    let error = api.call(&Vm { state: VmState::Paused }).await.unwrap_err();
    assert!(matches!(error, ControlError::Io { command: "PATCH /vm", .. }), "{error}");
}

/// A Firecracker that says this after the head of each request, and then waits for the client to go.
fn saying(said: &[u8]) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let said = said.to_vec();
    tokio::spawn(async move {
        let mut theirs = BufReader::new(theirs);
        let mut line = String::new();
        while theirs.read_line(&mut line).await.is_ok_and(|length| length > 0) {
            if line == "\r\n" {
                // Whoever has heard enough has gone.
                let _ = theirs.get_mut().write_all(&said).await;
            }
            line.clear();
        }
    });
    ours
}

/// What comes of a request that is answered so.
async fn answered(said: &[u8]) -> Result<(), ControlError> {
    Api::over(saying(said)).await.unwrap().call(&Vm { state: VmState::Paused }).await
}

/// The same of a Firecracker that then hangs up.
async fn answered_at_last(said: &[u8]) -> Result<(), ControlError> {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut api = Api::over(ours).await.unwrap();
    let said = said.to_vec();
    let answering = tokio::spawn(async move {
        theirs.read_u8().await.unwrap();
        theirs.write_all(&said).await.unwrap();
        theirs.shutdown().await.unwrap();
        tokio::io::copy(&mut theirs, &mut tokio::io::sink()).await
    });
    let done = api.call(&Vm { state: VmState::Paused }).await;
    drop(api);
    answering.await.unwrap().unwrap();
    done
}

const DONE: &str = "HTTP/1.1 204 \r\n\r\n";

#[tokio::test]
async fn informational_answers_without_an_end_are_not_listened_to() {
    let informational = "HTTP/1.1 100 Continue\r\n\r\n";
    answered((informational.repeat(3) + DONE).as_bytes()).await.unwrap();
    let endless = informational.repeat(MAX_ANSWER_BYTES / informational.len() + 1);
    let error = answered(endless.as_bytes()).await.unwrap_err();
    assert!(matches!(error, ControlError::TooMuch { command: "PATCH /vm" }), "{error}");
}

#[tokio::test]
async fn heads_and_bodies_without_an_end_are_not_kept() {
    let head = format!("HTTP/1.1 204 \r\nX: {}", "x".repeat(MAX_ANSWER_BYTES));
    let lines = format!("HTTP/1.1 204 \r\n{}", "X: x\r\n".repeat(MAX_ANSWER_BYTES));
    let chunk = format!(
        "HTTP/1.1 400 \r\nTransfer-Encoding: chunked\r\n\r\n{}",
        "1\r\nx\r\n".repeat(MAX_BODY_BYTES + 1)
    );
    let extension =
        format!("HTTP/1.1 400 \r\nTransfer-Encoding: chunked\r\n\r\n1;{}", "x".repeat(MAX_ANSWER_BYTES));
    let body =
        format!("HTTP/1.1 400 \r\nContent-Length: 99999999999\r\n\r\n{}", "x".repeat(MAX_BODY_BYTES + 1));
    for long in [head, lines, chunk, extension, body] {
        let error = answered(long.as_bytes()).await.unwrap_err();
        assert!(matches!(error, ControlError::Io { .. } | ControlError::TooMuch { .. }), "{error}");
    }
}

#[tokio::test]
async fn garbage_and_lengths_that_are_lies_are_errors() {
    for lie in [
        "garbage\r\n\r\n",
        "\0\0\0\0",
        "HTTP/1.1 999999 \r\n\r\n",
        "HTTP/1.1 200 \r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 \r\nContent-Length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 \r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        "HTTP/1.1 101 \r\n\r\n",
        "{\"return\":{}}\n",
    ] {
        assert!(answered_at_last(lie.as_bytes()).await.is_err(), "{lie:?}");
    }
}

#[tokio::test]
async fn an_end_at_any_byte_is_an_error_and_no_wait() {
    let whole = "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\n{}";
    for end in 0..=whole.len() {
        let said = timeout(PATIENCE / 2, answered_at_last(&whole.as_bytes()[..end])).await;
        let said = said.expect("nobody waits for what cannot come");
        assert_eq!(said.is_ok(), end == whole.len(), "{end}: {said:?}");
    }
}

#[tokio::test]
async fn an_answer_that_comes_twice_is_not_taken_for_that_of_the_next_request() {
    let mut api = Api::over(saying(DONE.repeat(2).as_bytes())).await.unwrap();
    api.call(&Vm { state: VmState::Paused }).await.unwrap();
    let error = api.call(&Vm { state: VmState::Resumed }).await.unwrap_err();
    assert!(matches!(error, ControlError::Io { command: "PATCH /vm", .. }), "{error}");
}

#[tokio::test]
async fn a_firecracker_that_never_answers_is_given_up() {
    for said in ["", "HTTP/1.1 ", "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\n{", "HTTP/1.1 100 \r\n\r\n"] {
        let mut api = Api::over(saying(said.as_bytes())).await.unwrap();
        api.patience = Duration::from_millis(50);
        let error = api.call(&Vm { state: VmState::Paused }).await.unwrap_err();
        assert!(matches!(error, ControlError::TimedOut { command: "PATCH /vm", .. }), "{said:?}: {error}");
    }
}

#[tokio::test]
async fn each_answer_has_its_own_room() {
    let long =
        format!("HTTP/1.1 400 \r\nContent-Length: {MAX_BODY_BYTES}\r\n\r\n{}", "x".repeat(MAX_BODY_BYTES));
    let mut api = Api::over(saying(long.as_bytes())).await.unwrap();
    for _ in 0..5 {
        let error = api.call(&Vm { state: VmState::Paused }).await.unwrap_err();
        assert!(matches!(error, ControlError::Refused { .. }), "{error}");
    }
}
