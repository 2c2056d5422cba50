//! The HTTP service keeps its promises, on real microVMs.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use e2e::{
    TestHost,
    acceptance::Case,
    eventually,
    running::unused_cgroups,
    service::{Response, Service},
};
use rustix::process::Signal;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

/// A program that runs until somebody ends it.
const ENDLESS: &str = "import time\nprint('begun', flush=True)\nwhile True: time.sleep(0.1)";

fn nothing_is_left(host: &TestHost, cgroups: &[PathBuf]) {
    eventually("all processes are gone", PATIENCE, || host.processes().unwrap().is_empty())
        .unwrap_or_else(|error| panic!("{error}: {:?}", host.processes()));
    assert_eq!(host.leftovers().unwrap(), Vec::<PathBuf>::new());
    let left = || unused_cgroups().into_iter().filter(|group| !cgroups.contains(group)).collect::<Vec<_>>();
    eventually("the cgroups go", PATIENCE, || left().is_empty())
        .unwrap_or_else(|error| panic!("{error}: {:?}", left()));
}

#[test]
fn the_pages_requests_are_answered_over_http_as_it_says() {
    let host = TestHost::prepared().copy();
    let service = Service::start(&host, &[]).unwrap();
    let mut wrong = Vec::new();
    for case in Case::python() {
        let response = service.post("/api/v1/run", &case.request());
        let refused = response.json()["status"] == "failed";
        assert_eq!(response.status, if refused { 400 } else { 200 }, "{}: {response:?}", case.name);
        assert_eq!(response.header("content-type"), Some("application/json"));
        wrong.extend(case.differences(&response.json()).iter().map(|what| format!("{}: {what}", case.name)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let execute = json!({ "language": "python", "stdin": "Alice", "args": ["x"], "timeout": 5, "memory_mb": 256,
        "code": "import sys\nprint(input(), sys.argv[1])\nprint('e', file=sys.stderr)\nsys.exit(3)" });
    let answer = service.post("/api/v1/execute", &execute).json();
    assert_eq!((&answer["stdout"], &answer["stderr"]), (&json!("Alice x\n"), &json!("e\n")), "{answer}");
    assert_eq!((&answer["exit_code"], &answer["exception"]), (&json!(3), &Value::Null), "{answer}");
    assert!(answer["load_time"].is_number() && answer["exec_time"].is_number(), "{answer}");
    assert_eq!(service.stop().unwrap().code, 0);
}

#[test]
fn every_request_has_a_microvm_of_its_own_also_when_many_come_at_once() {
    let host = TestHost::prepared().copy();
    let service = Service::start(&host, &[]).unwrap();
    let code = "import os, sys\nseen = os.path.exists('/tmp/marker')\nopen('/tmp/marker', 'w').close()\n\
                print(sys.stdin.read(), seen, open('/proc/sys/kernel/random/boot_id').read().strip() != '')";
    thread::scope(|scope| {
        let asked: Vec<_> = (0..24)
            .map(|number| {
                let request = json!({ "language": "python", "code": code, "stdin": format!("{number}") });
                let service = &service;
                (number, scope.spawn(move || service.post("/api/v1/run", &request)))
            })
            .collect();
        for (number, asked) in asked {
            let answer = asked.join().unwrap().json();
            assert_eq!(answer["stdout"], format!("{number} False True\n"), "{answer}");
        }
    });
    assert_eq!(service.stop().unwrap().code, 0);
}

#[test]
fn a_client_that_goes_away_ends_its_program_at_once() {
    let host = TestHost::prepared().copy();
    let service = Service::start(&host, &[]).unwrap();
    service.wait_until_full().unwrap();
    let body = json!({ "language": "python", "code": ENDLESS, "timeout": 300 }).to_string();
    let stream = service.send("POST", "/api/v1/run", &body).unwrap();
    eventually("it runs", PATIENCE, || service.status("/running") == 1).unwrap();
    let since = Instant::now();
    drop(stream);
    eventually("it does not run any more", PATIENCE, || service.status("/running") == 0).unwrap();
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    assert_eq!(service.stop().unwrap().code, 0);
}

#[test]
fn sigterm_finishes_what_runs_refuses_what_comes_and_leaves_nothing() {
    let host = TestHost::prepared().copy();
    let cgroups = unused_cgroups();
    let service = Service::start(&host, &[]).unwrap();
    service.wait_until_full().unwrap();
    let slow = "import time\ntime.sleep(4)\nprint('finished')";
    thread::scope(|scope| {
        let slow = scope.spawn(|| service.python(slow));
        eventually("it runs", PATIENCE, || service.status("/running") == 1).unwrap();
        service.signal(Signal::TERM);
        eventually("it stops", PATIENCE, || service.log().contains("stopping")).unwrap();
        // Refused in words, while there is somebody to say them.
        let refused = service.ask("POST", "/api/v1/run", r#"{"language": "python", "code": "print(1)"}"#);
        if let Ok(refused) = refused {
            assert_eq!(refused.status, 503, "{refused:?}");
            assert!(refused.error().starts_with("E008"), "{refused:?}");
            assert!(refused.header("retry-after").is_some(), "{refused:?}");
        }
        let answer = slow.join().unwrap();
        assert_eq!(answer.json()["stdout"], "finished\n", "{answer:?}");
    });
    let ended = service.end_within(PATIENCE).unwrap();
    assert_eq!(ended.code, 0, "{ended:?}");
    nothing_is_left(&host, &cgroups);
}

#[test]
fn a_second_signal_does_not_wait_for_what_runs() {
    let host = TestHost::prepared().copy();
    let cgroups = unused_cgroups();
    let service = Service::start(&host, &[]).unwrap();
    service.wait_until_full().unwrap();
    let body = json!({ "language": "python", "code": ENDLESS, "timeout": 300 }).to_string();
    let mut stream = service.send("POST", "/api/v1/run", &body).unwrap();
    eventually("it runs", PATIENCE, || service.status("/running") == 1).unwrap();
    service.signal(Signal::TERM);
    eventually("it stops", PATIENCE, || service.log().contains("stopping")).unwrap();
    service.signal(Signal::TERM);
    let since = Instant::now();
    let ended = service.end_within(PATIENCE).unwrap();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
    assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap_or_default(), 0, "it was cut off");
    nothing_is_left(&host, &cgroups);
}

#[test]
fn a_killed_service_leaves_no_microvm_and_the_next_one_starts_clean() {
    let host = TestHost::prepared().copy();
    let cgroups = unused_cgroups();
    let service = Service::start(&host, &[]).unwrap();
    service.wait_until_full().unwrap();
    let body = json!({ "language": "python", "code": ENDLESS, "timeout": 300 }).to_string();
    let _stream = service.send("POST", "/api/v1/run", &body).unwrap();
    eventually("it runs", PATIENCE, || service.status("/running") == 1).unwrap();
    service.signal(Signal::KILL);
    assert_eq!(service.end_within(PATIENCE).unwrap().code, 128 + 9);
    nothing_is_left(&host, &cgroups);
    let service = Service::start(&host, &[]).unwrap();
    assert_eq!(service.python("print(6 * 7)").json()["stdout"], "42\n");
    assert_eq!(service.stop().unwrap().code, 0);
    nothing_is_left(&host, &cgroups);
}

#[test]
fn a_data_directory_has_one_service_at_a_time() {
    let host = TestHost::prepared().copy();
    let service = Service::start(&host, &[]).unwrap();
    let second = host.ended(&["api", "--port", "0"]);
    assert_eq!(second.code, 3, "{second:?}");
    assert!(second.stderr.contains("another service uses"), "{second:?}");
    // Commands are no services.
    assert_eq!(host.python("print(1)")["stdout"], "1\n");
    assert_eq!(service.stop().unwrap().code, 0);
}

#[test]
fn elsewhere_than_on_loopback_a_token_is_asked_for() {
    let host = TestHost::prepared().copy();
    let created =
        host.expect_done(&["token", "create", "--name", "test", "--daily", "2", "--languages", "python"]);
    let token = created.trim();
    let service = Service::start(&host, &["--host", "0.0.0.0"]).unwrap();
    let asked = |service: &Service| service.python("print(1)");
    let missing = asked(&service);
    assert_eq!((missing.status, missing.error().as_str()), (401, "E004: access_token missing"));
    assert_eq!(service.get("/health").status, 200);
    let service = service.with_token(Some("lfc_x_y"));
    let wrong = asked(&service);
    assert_eq!((wrong.status, wrong.error().as_str()), (401, "E003: invalid access_token"));
    let service = service.with_token(Some(token));
    assert_eq!(asked(&service).json()["stdout"], "1\n");
    let by_query = service.ask("GET", &format!("/api/v1/languages?access_token={token}"), "").unwrap();
    assert_eq!(by_query.status, 200);
    let batch = json!({ "language": "python", "code": "print(input())", "stdin": ["a", "b"] });
    let too_many = service.post("/api/v1/run", &batch);
    assert_eq!(too_many.status, 429, "one execution is left, not two: {too_many:?}");
    assert!(too_many.error().starts_with("E002: API quota exceeded"), "{too_many:?}");
    assert!(too_many.header("retry-after").is_some());
    assert_eq!(asked(&service).json()["stdout"], "1\n");
    assert_eq!(asked(&service).status, 429);
    assert_eq!(host.ended(&["token", "revoke", "test"]).code, 0);
    assert_eq!(asked(&service).error(), "E003: invalid access_token");
    assert!(!service.log().contains(token), "a token is in the log");
    assert_eq!(service.stop().unwrap().code, 0);
}

fn raw(service: &Service, text: &str) -> String {
    let mut stream = TcpStream::connect(service.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // It may be cut off once it is refused.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn whatever_comes_in_is_answered_in_json_or_refused() {
    let host = TestHost::prepared().copy();
    let service = Service::start(&host, &[]).unwrap();
    let error = |response: &Response, status: u16, code: &str| {
        assert_eq!(response.status, status, "{response:?}");
        assert!(response.error().starts_with(code), "{response:?}");
        assert!(!response.body.contains(&host.data().display().to_string()), "{response:?}");
    };
    for body in ["", "{", "[]", "null", "\"x\"", "{}", r#"{"language": "python"}"#, "\u{0}", r#"{"code": 1}"#]
    {
        error(&service.ask("POST", "/api/v1/run", body).unwrap(), 400, "E007");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    error(&service.ask("POST", "/api/v1/run", &deep).unwrap(), 400, "E007");
    error(&service.post("/api/v1/run", &json!({ "language": "cobol", "code": "" })), 400, "E006");
    let long = json!({ "language": "python", "code": "", "stdin": "x".repeat(1_000_001) });
    error(&service.post("/api/v1/run", &long), 413, "E005");
    error(&service.get("/api/v1/languages/cobol"), 404, "E006");
    error(&service.get("/api/v1/nothing"), 404, "E012");
    error(&service.get("/api/v1/run"), 405, "E012");
    let batch = json!({ "language": "python", "code": "", "stdin": ["a"] });
    error(&service.post("/api/v1/execute", &batch), 400, "E007");
    let head = "POST /api/v1/run HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    let large = raw(&service, &format!("{head}Content-Length: 99999999999\r\n\r\n{}", "x".repeat(1 << 20)));
    assert!(large.is_empty() || large.contains(" 4"), "{large}");
    assert!(raw(&service, "GARBAGE\r\n\r\n").contains(" 400 "));
    assert!(raw(&service, &format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000))).contains(" 4"));
    let trace = raw(&service, &format!("{head}X-Trace-Id: mine-1\r\nContent-Length: 2\r\n\r\n{{}}"));
    assert!(trace.contains("x-trace-id: mine-1") && trace.contains(r#""trace_id":"mine-1""#), "{trace}");
    assert_eq!(service.python("print(1)").json()["stdout"], "1\n");
    assert_eq!(service.stop().unwrap().code, 0);
}
