//! `prune` removes what nobody needs, and nothing that somebody does.

use std::{fs, time::Duration};

use e2e::{TestHost, running::Running};
use rustix::process::Signal;
use serde_json::{Value, json};

/// How long a command may take to end, on a busy machine.
const SECONDS: Duration = Duration::from_secs(30);

fn pruned(host: &TestHost, arguments: &[&str]) -> Vec<(String, bool)> {
    let arguments = [&["prune", "--json"], arguments].concat();
    let rows: Vec<Value> = serde_json::from_str(&host.expect_done(&arguments)).unwrap();
    let what = |row: &Value| (row["what"].as_str().unwrap().to_owned(), row["removed"] == json!(true));
    rows.iter().map(what).collect()
}

/// The image is meant to be used otherwise from now on, so that its snapshot is stale.
fn change_environment(host: &TestHost) {
    let path = host.image().with_extension("json");
    let mut details: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    details["config"]["environment"] = json!({ "CHANGED": "1" });
    fs::write(path, details.to_string()).unwrap();
}

#[test]
fn a_stale_snapshot_stays_while_a_microvm_runs_from_it_and_goes_then() {
    let host = TestHost::prepared().copy();
    assert_eq!(pruned(&host, &[]), []);
    assert!(host.snapshot().exists());
    let endless =
        ["host", "--lang", "python", "--snapshot", "--timeout", "300", "--code", "while True: pass"];
    let running = Running::start(&mut host.command(&endless));
    running.wait_for_busy_vmm(Duration::from_millis(1500)).unwrap();
    change_environment(&host);
    let stale = |removed: bool| vec![("stale snapshot".to_owned(), removed)];
    assert_eq!(pruned(&host, &["--dry-run"]), stale(false));
    assert_eq!(pruned(&host, &[]), stale(false), "it is in use");
    assert!(host.snapshot().join("manifest.json").exists());
    running.signal(Signal::TERM);
    running.end_within(SECONDS).unwrap();
    assert_eq!(pruned(&host, &[]), stale(true));
    assert!(!host.snapshot().exists() && host.image().exists());
    assert_eq!(pruned(&host, &[]), []);
}

#[test]
fn what_killed_commands_have_left_goes() {
    let host = TestHost::with_image().copy();
    fs::create_dir_all(host.data().join("layers")).unwrap();
    fs::create_dir_all(host.data().join("downloads")).unwrap();
    let digest = "ab".repeat(32);
    for file in [
        format!("layers/{digest}"),
        format!("layers/{digest}.partial"),
        format!("downloads/{digest}.partial"),
    ] {
        fs::write(host.data().join(file), "x").unwrap();
    }
    let arguments = ["rootfs", "customize", "--lang", "python", "--run", "echo begun; sleep 1000"];
    let mut running = Running::start(&mut host.command(&arguments));
    running.wait_until_said("\nbegun").unwrap();
    let expected = |unfinished_goes: bool| {
        [
            ("unused layer", true),
            ("interrupted download", true),
            ("interrupted download", true),
            ("unfinished work", unfinished_goes),
        ]
        .map(|(what, removed)| (what.to_owned(), removed))
    };
    assert_eq!(pruned(&host, &[]), expected(false), "the command works on it");
    running.signal(Signal::KILL);
    running.end_within(SECONDS).unwrap();
    assert_eq!(pruned(&host, &[]), expected(true)[3..]);
    assert_eq!(host.leftovers().unwrap(), Vec::<std::path::PathBuf>::new());
    assert!(host.image().exists());
}
