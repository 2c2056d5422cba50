//! What a running service does when the host fails it: a VMM that dies, a log or a disk that is full, a disk that is slow, no more
//! descriptors or processes, a clock that is set, a snapshot that is changed. It goes on, says what is wrong and what helps, and loses
//! nothing that it has accepted.

use std::{
    fs,
    io::Write as _,
    net::{TcpListener, TcpStream},
    os::unix::fs::{FileExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use e2e::{
    TestHost, eventually,
    mounted::Mounted,
    running::Process,
    service::{Response, Service, Target},
};
use rustix::process::Signal;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

const ENDLESS: &str = "while True: pass";

/// How much more a VMM has computed once its guest runs a program, and one that waits never does.
const COMPUTED: Duration = Duration::from_millis(300);

/// Has a program that computes run while `meanwhile` happens, in a microVM that has waited for it; returns its answer.
fn during(service: &Service, code: &str, meanwhile: impl FnOnce()) -> Response {
    let body = json!({ "language": "python", "code": code, "timeout": 60 }).to_string();
    let waiting: Vec<_> = service.vmms().into_iter().map(|vmm| (vmm.processor_time(), vmm)).collect();
    thread::scope(|scope| {
        let asked = scope.spawn(|| service.ask("POST", "/api/v1/run", &body).unwrap());
        let is_busy = || waiting.iter().any(|(before, vmm)| vmm.processor_time() >= *before + COMPUTED);
        eventually("it runs", PATIENCE, is_busy).unwrap();
        meanwhile();
        asked.join().unwrap()
    })
}

fn submit(service: &Service, code: &str, key: &str) -> Response {
    let body = json!({ "request": { "language": "python", "code": code } }).to_string();
    let head = format!(
        "POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nIdempotency-Key: {key}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(service.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    Response::read(stream).unwrap()
}

fn id(accepted: &Response) -> String {
    assert!(matches!(accepted.status, 200 | 202), "{accepted:?}");
    accepted.json()["id"].as_str().unwrap().to_owned()
}

fn job(service: &Service, id: &str) -> Value {
    service.get(&format!("/api/v1/jobs/{id}")).json()
}

/// Waits until a job is done, which must have printed this, in one attempt.
fn is_done(service: &Service, id: &str, stdout: &str) {
    eventually("the job is done", PATIENCE, || job(service, id)["state"] == "done")
        .unwrap_or_else(|error| panic!("{error}: {}\n{}", job(service, id), service.log()));
    let job = job(service, id);
    assert_eq!((&job["result"]["stdout"], &job["attempts"]), (&json!(stdout), &json!(1)), "{job}");
}

#[test]
fn a_vmm_that_is_killed_costs_its_own_request_and_no_other() {
    let host = TestHost::prepared().copy();
    let service = Service::start(&host, &[]).unwrap();
    service.wait_until_full().unwrap();
    for waiting in service.vmms() {
        waiting.signal(Signal::KILL);
        // Not only dead: its threads end one after the other, and the last has its sockets.
        eventually("it is gone", PATIENCE, || Process::find(waiting.id).is_none()).unwrap();
    }
    service.python("print('another')").expect_printed("another\n");

    let killed = during(&service, ENDLESS, || service.vmms().iter().for_each(|vmm| vmm.signal(Signal::KILL)));
    assert_eq!(killed.status, 500, "{killed:?}");
    assert!(killed.error().starts_with("E010: internal error (trace id "), "{killed:?}");
    service.expect_logged(&[killed.json()["trace_id"].as_str().unwrap(), "the VMM was killed by signal 9"]);

    // Each as soon as there is one: while it starts, is restored, or is greeted.
    let refused = thread::scope(|scope| {
        let asked = scope.spawn(|| service.python("print(1)"));
        while !asked.is_finished() {
            for vmm in service.vmms() {
                vmm.signal(Signal::KILL);
            }
        }
        asked.join().unwrap()
    });
    assert_eq!(refused.status, 500, "{refused:?}");
    service.expect_logged(&["a microVM did not start", "the VMM was killed by signal 9"]);
    service.python("print('well again')").expect_printed("well again\n");
    service.wait_until_full().unwrap();
    service.expect_clean_stop(&host);
}

#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    let host = TestHost::prepared().copy();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let full = || Stdio::from(fs::File::options().write(true).open("/dev/full").unwrap());
    let mut command = host.command(&["api", "--port", &address.port().to_string()]);
    let mut child = command.stdout(full()).stderr(full()).spawn().unwrap();
    let target = Target { address, token: None };
    let request = r#"{"language": "python", "code": "print(6 * 7)"}"#;
    let answered = eventually("it serves", PATIENCE, || target.ask("GET", "/health", "").is_ok()).map(|()| {
        let answers = [0, 1].map(|_| target.ask("POST", "/api/v1/run", request).unwrap());
        (answers, target.ask("GET", "/api/v1/nothing", "").unwrap().status)
    });
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let (answers, missing) = answered.unwrap();
    for answer in &answers {
        answer.expect_printed("42\n");
    }
    assert_eq!(missing, 404);
}

/// A data directory on a disk of its own, with what others have prepared.
fn host_on(disk: &Mounted) -> TestHost {
    let prepared = TestHost::prepared();
    for name in ["images", "kernel", "snapshots"] {
        symlink(prepared.data().join(name), disk.path().join(name)).unwrap();
    }
    TestHost::at(disk.path())
}

/// Leaves no room on a disk, until the file is removed whose path this is.
fn fill(disk: &Mounted) -> PathBuf {
    let filler = disk.path().join("filler");
    let file = fs::File::create(&filler).unwrap();
    for size in [1 << 20, 4 << 10] {
        let block = vec![1; size];
        while (&file).write_all(&block).is_ok() {}
    }
    filler
}

#[test]
fn a_disk_that_is_full_lets_nobody_run_uncounted() {
    let disk = Mounted::small(6);
    let host = host_on(&disk);
    let created = host.expect_done(&["token", "create", "--name", "test", "--daily", "1000"]);
    let service = Service::start(&host, &["--set", "api.require_tokens=true"]).unwrap();
    let service = service.with_token(Some(created.trim()));
    service.wait_until_full().unwrap();
    service.python("print('before')").expect_printed("before\n");
    let filler = fill(&disk);
    let mut answered = 1;
    for _ in 0..30 {
        let response = service.python("print('during')");
        if response.status == 200 {
            // The log had room for it, or began anew.
            response.expect_printed("during\n");
            answered += 1;
        } else {
            let error = "E010: internal error: the tokens' database cannot be used: its disk is full";
            assert_eq!((response.status, response.error().as_str()), (503, error));
            assert!(response.header("retry-after").is_some(), "{response:?}");
        }
    }
    assert_eq!(service.get("/health").status, 200);

    fs::remove_file(&filler).unwrap();
    service.python("print('after')").expect_printed("after\n");
    answered += 1;
    let tokens: Value = serde_json::from_str(&host.expect_done(&["token", "list", "--json"])).unwrap();
    assert_eq!(tokens[0]["used_today"], answered, "{tokens}");
    service.expect_clean_stop(&host);
}

#[test]
fn a_disk_that_is_full_loses_no_job_and_needs_no_restart() {
    let disk = Mounted::small(6);
    let host = host_on(&disk);
    let service = Service::start(&host, &["--set", "jobs.running=2"]).unwrap();
    service.wait_until_full().unwrap();
    let gate = "import time\ntime.sleep(1)\nprint('x' * 200000)";
    let before = id(&submit(&service, gate, "before"));
    eventually("it runs", PATIENCE, || job(&service, &before)["state"] == "running").unwrap();

    let filler = fill(&disk);
    // What the log still has room for is accepted, and no less kept.
    let large = |number: u32| format!("print({number})#{}", "x".repeat(40_000));
    let mut accepted = Vec::new();
    let refused = (0..40).find_map(|number| {
        let response = submit(&service, &large(number), &format!("during-{number}"));
        if response.status == 202 {
            accepted.push((id(&response), format!("{number}\n")));
            return None;
        }
        Some(response)
    });
    let refused = refused.expect("the disk is full");
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(refused.error(), "E010: internal error: the jobs' database cannot be used: its disk is full");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    service.expect_logged(&["database or disk is full", "free some disk space"]);
    service.python("print('goes on')").expect_printed("goes on\n");
    assert_eq!(service.get("/health").status, 200);
    service.expect_logged(&["cannot note what has become of a job", "free some disk space"]);

    fs::remove_file(&filler).unwrap();
    is_done(&service, &before, &format!("{}\n", "x".repeat(200_000)));
    for (id, stdout) in &accepted {
        is_done(&service, id, stdout);
    }
    is_done(&service, &id(&submit(&service, "print('after')", "after")), "after\n");
    service.expect_clean_stop(&host);
}

#[test]
fn a_clock_that_is_set_changes_nothing_but_what_time_it_is() {
    const DAY: i64 = 86_400;
    let host = TestHost::prepared().copy();
    let clock = host.data().join("clock");
    let set = |seconds: i64| fs::write(&clock, format!("{seconds:+}\n")).unwrap();
    set(0);
    let mut command = Service::command(&host, &["--set", "jobs.expires_after=3600"]);
    let library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
    assert!(Path::new(library).exists(), "{library} is missing: scripts/test-packages installs it");
    // Of the wall clock alone, as whoever sets it does.
    command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", &clock).env("FAKETIME_NO_CACHE", "1");
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("NO_FAKE_STAT", "1");
    let service = Service::start_command(&mut command).unwrap();
    service.wait_until_full().unwrap();
    let old = id(&submit(&service, "print('old')", "old"));
    is_done(&service, &old, "old\n");
    let seconds = |job: &Value, key: &str| {
        let text = job[key].as_str().unwrap_or_else(|| panic!("no {key} in {job}"));
        text.parse::<jiff::Timestamp>().unwrap().as_second()
    };
    let now = || i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    for (number, next) in [-DAY, DAY, -1000 * DAY, 0].into_iter().enumerate() {
        // One runs, and one waits in the pool, while it is set.
        let slow = "import time\ntime.sleep(2)\nprint('slow')";
        let slow = id(&submit(&service, slow, &format!("slow-{number}")));
        eventually("it runs", PATIENCE, || job(&service, &slow)["state"] == "running").unwrap();
        set(next);
        let told = service.python("import time\nprint(int(time.time()))");
        let guest: i64 = told.json()["stdout"].as_str().unwrap().trim().parse().unwrap();
        assert!((guest - now() - next).abs() <= 5, "the guest's clock: {guest}, {} {next}", now());
        let new = id(&submit(&service, "print('new')", &format!("new-{number}")));
        is_done(&service, &new, "new\n");
        is_done(&service, &slow, "slow\n");
        let jumps = service.log().matches("the clock was set").count();
        assert_eq!(jumps, number + 1, "{}", service.log());
        for id in [&old, &new, &slow] {
            let job = job(&service, id);
            let left = seconds(&job, "expires") - now() - next;
            assert!((3400..=3605).contains(&left), "kept for another {left} s: {job}");
        }
        let job = job(&service, &slow);
        let took = seconds(&job, "finished") - seconds(&job, "started");
        assert!((1..=30).contains(&took), "{job}");
        // The same request, not another.
        assert_eq!(id(&submit(&service, "print('old')", "old")), old);
    }
    assert_eq!(service.get("/health").status, 200);
    service.expect_clean_stop(&host);
}

#[test]
fn a_snapshot_that_is_changed_under_its_microvms_gives_no_answer_and_is_told() {
    type Spoil = fn(&fs::File);
    let cases: [(&str, Spoil); 2] = [
        ("cut off", |file| file.set_len(1 << 20).unwrap()),
        // Where nothing of a program lies: what it answers looks right.
        ("written to", |file| file.write_all_at(&[1], 511 << 20).unwrap()),
    ];
    let busy = "import time\nend = time.monotonic() + 4\nwhile time.monotonic() < end: pass\nimport decimal\nprint(1)";
    for (what, spoil) in cases {
        let host = TestHost::prepared().copy();
        let service = Service::start(&host, &["--set", "pool.minimum=2"]).unwrap();
        service.wait_until_full().unwrap();
        let memory = host.snapshot().join("mem.snapshot");
        let failed = during(&service, busy, || {
            fs::set_permissions(&memory, fs::Permissions::from_mode(0o644)).unwrap();
            spoil(&fs::File::options().write(true).open(&memory).unwrap());
        });
        assert_eq!(failed.status, 500, "{what}: {failed:?}");
        assert!(failed.error().starts_with("E010: internal error (trace id "), "{what}: {failed:?}");
        let trace_id = failed.json()["trace_id"].as_str().unwrap().to_owned();
        let mends = "run: infra.operator snapshot create --lang python --mem 512 --vcpus 1";
        service.expect_logged(&[&trace_id, "mem.snapshot was changed while a microVM ran from it", mends]);
        // Neither in one that had waited, nor in one from it: booted.
        service.python("print('booted')").expect_printed("booted\n");
        service.expect_logged(&["booting instead of restoring a snapshot", mends]);
        service.expect_logged(&["a snapshot cannot be restored", "mem.snapshot is damaged", mends]);
        service.expect_clean_stop(&host);
    }
}

/// Builds what slows a disk down.
fn slow_disk(directory: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("slow-disk/slow-disk.c");
    let library = directory.join("slow-disk.so");
    let mut compiler = Command::new("gcc");
    compiler
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .arg(&library)
        .arg(source)
        .arg("-ldl");
    let built = compiler.output().unwrap();
    assert!(built.status.success(), "{built:?}");
    library
}

#[test]
fn a_disk_that_is_slow_refuses_jobs_in_time_and_loses_none() {
    let host = TestHost::prepared().copy();
    let delay = host.data().join("delay");
    let takes = |millis: u32| {
        // Whole at any moment.
        let new = delay.with_extension("new");
        fs::write(&new, millis.to_string()).unwrap();
        fs::rename(new, &delay).unwrap();
    };
    takes(0);
    let directory = tempfile::tempdir().unwrap();
    let mut command = Service::command(&host, &[]);
    command.env("LD_PRELOAD", slow_disk(directory.path())).env("SLOW_DISK_FILE", &delay);
    let service = Service::start_command(&mut command).unwrap();
    service.wait_until_full().unwrap();
    takes(60_000);
    let refused = thread::scope(|scope| {
        let asked = scope.spawn(|| submit(&service, "print('kept')", "kept"));
        // Meanwhile nobody else waits for the disk.
        let mut answered = 0;
        while !asked.is_finished() {
            let health = service.get("/health");
            assert!(health.status == 200 && health.took < Duration::from_secs(2), "{health:?}");
            service.python("print('quick')").expect_printed("quick\n");
            answered += 1;
        }
        assert!(answered > 1, "it was refused at once");
        asked.join().unwrap()
    });
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(
        refused.error(),
        "E010: internal error: the jobs' database cannot be used: it does not answer in time"
    );
    assert!(refused.header("retry-after").is_some() && refused.took < Duration::from_secs(30), "{refused:?}");
    takes(0);
    // It was taken all the same, a moment later, and runs although nobody has been told; who asks again learns of it.
    let listed = || service.get("/api/v1/jobs").json()["jobs"].as_array().cloned().unwrap_or_default();
    eventually("the job is done", PATIENCE, || listed().iter().any(|job| job["state"] == "done"))
        .unwrap_or_else(|error| panic!("{error}: {:?}", listed()));
    let again = submit(&service, "print('kept')", "kept");
    is_done(&service, &id(&again), "kept\n");
    assert_eq!(listed().len(), 1, "once");
    service.expect_clean_stop(&host);
}
