//! A stand-in for Firecracker's API in tests: as strict as the API description, and without a guest.
//!
//! It takes the requests that the description has, with their required fields and no others, in the order in which
//! Firecracker takes them.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
};

/// Requests: method and path, required fields, optional fields. From `firecracker.yaml` of 1.16.1.
const DESCRIPTION: [(&str, &[&str], &[&str]); 9] = [
    (
        "PUT /machine-config",
        &["vcpu_count", "mem_size_mib"],
        &["smt", "cpu_template", "track_dirty_pages", "huge_pages"],
    ),
    ("PUT /boot-source", &["kernel_image_path"], &["initrd_path", "boot_args"]),
    (
        "PUT /drives/rootfs",
        &["drive_id", "is_root_device"],
        &["path_on_host", "is_read_only", "partuuid", "cache_type", "rate_limiter", "io_engine", "socket"],
    ),
    ("PUT /vsock", &["guest_cid", "uds_path"], &["vsock_id"]),
    ("PUT /actions", &["action_type"], &[]),
    ("PATCH /vm", &["state"], &[]),
    ("PUT /snapshot/create", &["mem_file_path", "snapshot_path"], &["snapshot_type"]),
    (
        "PUT /snapshot/load",
        &["snapshot_path"],
        &[
            "track_dirty_pages",
            "mem_file_path",
            "mem_backend",
            "resume_vm",
            "network_overrides",
            "vsock_override",
            "clock_realtime",
        ],
    ),
    ("PUT /entropy", &[], &["rate_limiter"]),
];

/// Requests that are taken before there is a guest, and those that are taken only then.
const BEFORE: [&str; 6] = [
    "PUT /machine-config",
    "PUT /boot-source",
    "PUT /drives/rootfs",
    "PUT /vsock",
    "PUT /snapshot/load",
    "PUT /entropy",
];

/// What was asked of it so far: method and path, and body.
pub(super) type Asked = Arc<Mutex<Vec<(String, Value)>>>;

/// A Firecracker at the other end of the returned stream.
pub(super) fn firecracker() -> (UnixStream, Asked) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let asked = Asked::default();
    tokio::spawn(serve(theirs, Arc::clone(&asked)));
    (ours, asked)
}

async fn serve(stream: UnixStream, asked: Asked) {
    let mut stream = BufReader::new(stream);
    while let Some((request, body)) = receive(&mut stream).await {
        let answer = match refusal(&request, &body, &asked.lock().unwrap()) {
            None => "HTTP/1.1 204 \r\nConnection: keep-alive\r\n\r\n".to_owned(),
            Some(reason) => {
                let text = json!({ "fault_message": reason }).to_string();
                format!("HTTP/1.1 400 \r\nContent-Length: {}\r\n\r\n{text}", text.len())
            }
        };
        asked.lock().unwrap().push((request, body));
        stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
    }
}

async fn receive(stream: &mut BufReader<UnixStream>) -> Option<(String, Value)> {
    let mut line = String::new();
    if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
        return None;
    }
    let request = line.strip_suffix(" HTTP/1.1\r\n").expect("a request line").to_owned();
    let mut length = 0;
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await.unwrap();
        let header = header.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
        assert!(!header.starts_with("transfer-encoding"), "Firecracker takes no chunks");
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    Some((request, serde_json::from_slice(&body).expect("a body of JSON")))
}

/// Why Firecracker refuses a request.
fn refusal(request: &str, body: &Value, earlier: &[(String, Value)]) -> Option<String> {
    let Some((_, required, optional)) = DESCRIPTION.iter().find(|(name, ..)| *name == request) else {
        return Some(format!("Invalid request method and/or path: {request}"));
    };
    let fields = body.as_object()?;
    if let Some(missing) = required.iter().find(|name| !fields.contains_key(**name)) {
        return Some(format!("missing field `{missing}`"));
    }
    let known = |name: &str| required.contains(&name) || optional.contains(&name);
    if let Some(unknown) = fields.keys().find(|name| !known(name)) {
        return Some(format!("unknown field `{unknown}`"));
    }
    let runs = earlier.iter().any(|(name, body)| {
        name == "PUT /snapshot/load" || name == "PUT /actions" && body["action_type"] == "InstanceStart"
    });
    if BEFORE.contains(&request) && runs {
        return Some("The requested operation is not supported after starting the microVM.".to_owned());
    }
    if request == "PUT /snapshot/load" && !earlier.is_empty() {
        return Some("Loading a microVM snapshot is allowed only on a fresh Firecracker process.".to_owned());
    }
    let starts = request == "PUT /actions" && body["action_type"] == "InstanceStart";
    if matches!(request, "PATCH /vm" | "PUT /snapshot/create") && !runs {
        return Some("The requested operation is not supported before starting the microVM.".to_owned());
    }
    if starts && !earlier.iter().any(|(name, _)| name == "PUT /boot-source") {
        return Some("Cannot start microvm without kernel configuration.".to_owned());
    }
    let paused = earlier
        .iter()
        .rev()
        .find(|(name, _)| name == "PATCH /vm")
        .is_some_and(|(_, body)| body["state"] == "Paused");
    if request == "PUT /snapshot/create" && !paused {
        return Some("Cannot create snapshot of a microVM that runs.".to_owned());
    }
    None
}
