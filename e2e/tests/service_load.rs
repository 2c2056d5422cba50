//! The service with more to do than it can, and with a configuration that changes under it.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use e2e::{
    TestHost, eventually,
    service::{Response, Service},
};
use rustix::process::Signal;
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(60);

/// Answers of so many requests that come at the same time.
fn at_once(service: &Service, count: usize, code: &str) -> Vec<Response> {
    thread::scope(|scope| {
        let asked: Vec<_> = (0..count).map(|_| scope.spawn(|| service.python(code))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    })
}

#[test]
fn what_cannot_be_served_in_time_is_refused_at_once_and_everything_else_is_answered() {
    let host = TestHost::prepared().copy();
    let service = Service::start(&host, &["--set", "queue.length=16"]).unwrap();
    service.wait_until_full().unwrap();
    let responses = at_once(&service, 60, "print('answered')");
    let (answered, refused): (Vec<_>, Vec<_>) =
        responses.into_iter().partition(|response| response.status == 200);
    assert!(
        answered.len() >= 8 && !refused.is_empty(),
        "{} answered, {} refused",
        answered.len(),
        refused.len()
    );
    for response in &answered {
        assert_eq!(response.json()["stdout"], "answered\n", "{response:?}");
    }
    for response in &refused {
        assert_eq!(response.status, 503, "{response:?}");
        assert_eq!(response.error(), "E008: server busy");
        let after: u64 = response.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&after), "{response:?}");
        assert!(response.took < Duration::from_secs(5), "not at once: {:?}", response.took);
    }
    eventually("nothing waits or runs", PATIENCE, || {
        service.status("/running") + service.status("/queue/length") == 0
    })
    .unwrap();
    service.wait_until_full().unwrap();
    assert_eq!(service.stop().unwrap().code, 0);
}

#[test]
fn a_request_that_waits_too_long_is_told_so_and_a_batch_does_not_keep_others_waiting() {
    let host = TestHost::prepared().copy();
    let bounds = ["--set", "queue.patience=3", "--set", "pool.running=4", "--set", "queue.batches=1"];
    let service = Service::start(&host, &bounds).unwrap();
    service.wait_until_full().unwrap();
    let batch = json!({ "language": "python", "code": "import time\ntime.sleep(30)", "timeout": 60, "stdin": ["a", "b"] });
    let batch = batch.to_string();
    let first = service.send("POST", "/api/v1/run", &batch).unwrap();
    eventually("the batch runs", PATIENCE, || service.status("/running") == 1).unwrap();
    // The second one waits for the first, and nobody for either.
    let second = thread::scope(|scope| {
        let second = scope.spawn(|| service.ask("POST", "/api/v1/run", &batch).unwrap());
        eventually("the second waits", PATIENCE, || service.status("/queue/length") == 1).unwrap();
        let single = service.python("print('between')");
        assert_eq!(single.json()["stdout"], "between\n", "{single:?}");
        second.join().unwrap()
    });
    assert_eq!((second.status, second.error().as_str()), (503, "E001: operation timed out"), "{second:?}");
    assert!(
        second.took >= Duration::from_secs(3) && second.took < Duration::from_secs(10),
        "{:?}",
        second.took
    );
    drop(first);
    assert_eq!(service.stop().unwrap().code, 0);
}

#[test]
fn a_configuration_that_changes_drops_no_request() {
    let host = TestHost::prepared().copy();
    let file = host.data().join("config.toml");
    fs::write(&file, "[pool]\nmaximum = 4\n[limits]\ntimeout = 60\n").unwrap();
    let mut command = Service::command(&host, &["--config", file.to_str().unwrap()]);
    command.env_remove("LLM_FIRECRACKER_CONFIG");
    let service = Service::start_command(&mut command).unwrap();
    service.wait_until_full().unwrap();
    let too_long = json!({ "language": "python", "code": "print(1)", "timeout": 30 });
    assert_eq!(service.post("/api/v1/run", &too_long).status, 200);
    thread::scope(|scope| {
        let answers = scope.spawn(|| at_once(&service, 12, "import time\ntime.sleep(0.3)\nprint('kept')"));
        for timeout in [20, 10] {
            fs::write(&file, format!("[pool]\nmaximum = 4\n[limits]\ntimeout = {timeout}\n")).unwrap();
            let read = || service.log().matches("the configuration was read again").count();
            let before = read();
            service.signal(Signal::HUP);
            eventually("it is read again", PATIENCE, || read() > before).unwrap();
        }
        for answer in answers.join().unwrap() {
            assert_eq!(answer.json()["stdout"], "kept\n", "{answer:?}");
        }
    });
    let refused = service.post("/api/v1/run", &too_long);
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(refused.error().contains("timeout: at most 10 seconds here"), "{refused:?}");
    // One that is wrong changes nothing.
    fs::write(&file, "[limits]\ntimeuot = 5\n").unwrap();
    service.signal(Signal::HUP);
    eventually("it is refused", PATIENCE, || service.log().contains("timeuot")).unwrap();
    assert_eq!(
        service.post("/api/v1/run", &json!({ "language": "python", "code": "", "timeout": 9 })).status,
        200
    );
    assert_eq!(service.stop().unwrap().code, 0);
}

#[test]
fn a_new_snapshot_is_taken_up_and_microvms_of_the_old_one_are_ended() {
    let host = TestHost::prepared().copy();
    let service = Service::start(&host, &["--set", "pool.minimum=2"]).unwrap();
    service.wait_until_full().unwrap();
    host.expect_done(&["snapshot", "create", "--lang", "python"]);
    let since = Instant::now();
    eventually("the old ones are ended", PATIENCE, || {
        let metrics = service.get("/metrics").body;
        metrics.lines().any(|line| {
            line.contains("microvms_ended_total") && line.contains("stale") && line.ends_with(" 2")
        })
    })
    .unwrap();
    assert!(since.elapsed() < PATIENCE);
    service.wait_until_full().unwrap();
    assert_eq!(service.python("print('new')").json()["stdout"], "new\n");
    assert_eq!(service.stop().unwrap().code, 0);
}
