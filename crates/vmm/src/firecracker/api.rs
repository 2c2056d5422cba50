//! A client of Firecracker's API: HTTP over its socket, one request at a time, over one connection.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1::{SendRequest, handshake},
    header::{ACCEPT, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::{net::UnixStream, task::JoinHandle, time::timeout};

use super::requests::Call;
use crate::backend::{ControlError, printable};

/// How long Firecracker may take to answer, on a busy host. Saving memory to a disk is the longest of its answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest answer, in bytes.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// A connection to Firecracker.
pub(super) struct Api {
    requests: SendRequest<Full<Bytes>>,
    connection: JoinHandle<()>,
}

/// What Firecracker says of a request that it refuses.
#[derive(Deserialize)]
struct Fault {
    fault_message: String,
}

impl Api {
    /// Speaks to Firecracker over `stream`.
    pub(super) async fn over(stream: UnixStream) -> Result<Self, ControlError> {
        let failed = |error: hyper::Error| io_error("connect", error);
        let (requests, connection) = handshake(TokioIo::new(stream)).await.map_err(failed)?;
        // Its end is told by the next request.
        let connection = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { requests, connection })
    }

    /// Has Firecracker do what `call` says.
    pub(super) async fn call<C: Call>(&mut self, call: &C) -> Result<(), ControlError> {
        match timeout(PATIENCE, self.answered(call)).await {
            Ok(done) => done,
            Err(_) => Err(ControlError::TimedOut { command: C::NAME, after: PATIENCE }),
        }
    }

    async fn answered<C: Call>(&mut self, call: &C) -> Result<(), ControlError> {
        let request = request(C::METHOD, &call.path(), call).map_err(|error| io_error(C::NAME, error))?;
        // The connection may still be busy with the end of the last answer.
        self.requests.ready().await.map_err(|error| io_error(C::NAME, error))?;
        let answer = self.requests.send_request(request).await.map_err(|error| io_error(C::NAME, error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES)
            .collect()
            .await
            .map_err(|error| io_error(C::NAME, error))?
            .to_bytes();
        if status == StatusCode::NO_CONTENT || status == StatusCode::OK {
            return Ok(());
        }
        let reason = match serde_json::from_slice::<Fault>(&body) {
            Ok(fault) => fault.fault_message,
            Err(_) => format!("{status}: {}", String::from_utf8_lossy(&body)),
        };
        Err(ControlError::Refused { command: C::NAME, reason: printable(&reason) })
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn request(
    method: Method,
    path: &str,
    body: &impl Serialize,
) -> Result<Request<Full<Bytes>>, std::io::Error> {
    let body = serde_json::to_vec(body)?;
    Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost")
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(std::io::Error::other)
}

fn io_error(
    command: &'static str,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> ControlError {
    ControlError::Io { command, source: std::io::Error::other(error) }
}

#[cfg(test)]
mod tests {
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
        let create = SnapshotCreate {
            snapshot_type: "Full",
            snapshot_path: paths::STATE,
            mem_file_path: paths::MEMORY,
        };
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
}
