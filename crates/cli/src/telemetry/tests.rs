//! What arrives at a collector.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    sync::mpsc,
};

use engine::Phases;

use super::*;

const TRACE: u128 = 0x0193_f3c0_a1b2_7c3d_8e4f_5a6b_7c8d_9e0f;
const PARENT: u64 = 0x00f0_67aa_0ba9_02b7;

/// As in main.
fn start(endpoint: &str) -> std::sync::Arc<Telemetry> {
    // Fails where another test was first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Telemetry::start(endpoint, "the-service").unwrap()
}

/// Takes one request of a client, and gives its path and its body.
fn collector() -> (String, mpsc::Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            head.push(line.trim().to_ascii_lowercase());
        }
        let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        sender.send((head[0].clone(), body)).unwrap();
    });
    (endpoint, receiver)
}

fn request<'a>(
    trace_id: &'a str,
    language: &'a store::Language,
    parent: Option<ParentSpan>,
) -> RequestTrace<'a> {
    let now = SystemTime::now();
    RequestTrace {
        trace_id,
        parent,
        language: Some(language),
        outcome: "success",
        failed: false,
        began: now,
        queued: Some(now),
        ended: now + Duration::from_millis(40),
        phases: Some(Phases { run: Duration::from_millis(30), ..Phases::default() }),
        restored: Some(true),
    }
}

fn occurrences(body: &[u8], bytes: &[u8]) -> usize {
    body.windows(bytes.len()).filter(|window| *window == bytes).count()
}

/// What arrives when `requests` have ended.
async fn exported(requests: &[(&str, Option<ParentSpan>)]) -> (String, Vec<u8>) {
    let (endpoint, received) = collector();
    let telemetry = start(&endpoint);
    let language = "python".parse().unwrap();
    for (trace_id, parent) in requests {
        telemetry.request(&request(trace_id, &language, *parent));
    }
    telemetry.end().await;
    received.recv_timeout(Duration::from_secs(10)).unwrap()
}

#[tokio::test]
async fn a_request_arrives_under_its_own_trace_id_with_its_parts() {
    let (line, body) = exported(&[(&format!("{TRACE:032x}"), None)]).await;
    assert_eq!(line, "post /v1/traces http/1.1");
    // The request, its wait and its run.
    assert_eq!(occurrences(&body, &TRACE.to_be_bytes()), 3);
    for text in
        ["the-service", "service.version", "queue", "execute", "language", "python", "outcome", "run_ms"]
    {
        assert!(occurrences(&body, text.as_bytes()) > 0, "{text}");
    }
}

#[tokio::test]
async fn a_request_of_a_client_that_traces_belongs_to_its_span() {
    let parent = ParentSpan { trace_id: TRACE, span_id: PARENT, sampled: true };
    let (_, body) = exported(&[(&format!("{TRACE:032x}"), Some(parent))]).await;
    assert_eq!(occurrences(&body, &TRACE.to_be_bytes()), 3);
    assert_eq!(occurrences(&body, &PARENT.to_be_bytes()), 1);
}

#[tokio::test]
async fn an_id_that_is_no_trace_id_is_an_attribute_and_what_is_not_sampled_is_not_sent() {
    let unsampled = ParentSpan { trace_id: TRACE, span_id: PARENT, sampled: false };
    let (_, body) = exported(&[(&format!("{TRACE:032x}"), Some(unsampled)), ("mine-1", None)]).await;
    assert_eq!(occurrences(&body, b"mine-1"), 1);
    assert_eq!(occurrences(&body, &TRACE.to_be_bytes()), 0);
}

#[tokio::test]
async fn a_collector_that_is_away_costs_nothing_but_its_traces() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let telemetry = start(&format!("http://{nobody}/"));
    let language = "python".parse().unwrap();
    for _ in 0..3 * MAX_WAITING {
        telemetry.request(&request("mine-1", &language, None));
    }
    let since = Instant::now();
    telemetry.end().await;
    assert!(since.elapsed() < 3 * END_PATIENCE, "{:?}", since.elapsed());
}

#[test]
fn it_is_warned_once_in_a_while() {
    let reported = Reported { exporter: (), warned: Mutex::new(None) };
    assert_eq!(reported.lost(7), Some(7));
    assert_eq!(reported.lost(3), None);
    assert_eq!(reported.lost(2), None);
    let long_ago = Instant::now().checked_sub(WARNING_PAUSE).unwrap();
    *reported.warned.lock().unwrap() = Some((long_ago, 5));
    assert_eq!(reported.lost(1), Some(6));
}

#[test]
fn an_endpoint_is_taken_with_and_without_the_path_of_traces() {
    for endpoint in ["http://c:4318", "http://c:4318/", "http://c:4318/v1/traces"] {
        assert_eq!(traces_url(endpoint), "http://c:4318/v1/traces");
    }
}
