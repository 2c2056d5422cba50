//! What tests rely upon.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use protocol::{
    Bytes, GENERATION,
    frame::{self, HEADER_BYTES},
    message::{
        Execution, File, GuestMessage, HostMessage, Interpreter, Limits, Options, Outcome, Prepare, Process,
        Run, Runtime, WarmUp,
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};

use super::{Counts, Fake, FakeSettings, Step};
use crate::{
    backend::{BootError, ControlError, Exit, MicroVm, RestoreError, Snapshots as _, StandbyVmm, Vmm},
    spec::{BootSpec, MachineSpec, Placement, RestoreSpec, SnapshotFiles},
};

const PATIENCE: Duration = Duration::from_secs(20);
const MACHINE: MachineSpec = MachineSpec { memory_mib: 512, vcpus: 1 };

/// A backend, and a snapshot for it.
struct Lab {
    fake: Fake,
    directory: tempfile::TempDir,
}

fn placement() -> Placement {
    Placement { name: "vm".to_owned(), slot: 0 }
}

fn files(directory: &Path) -> SnapshotFiles {
    SnapshotFiles { device_state: directory.join("state"), memory: directory.join("memory") }
}

fn runtime() -> Runtime {
    Runtime {
        command: vec!["python3".to_owned(), "main.py".to_owned()],
        environment: BTreeMap::new(),
        interpreter: Some(Interpreter::Python),
    }
}

fn program(text: &str, stdins: &[&str]) -> Run {
    Run {
        trace_id: "t".to_owned(),
        runtime: runtime(),
        process: Process::Initialised,
        files: vec![File { name: "main.py".to_owned(), content: text.into() }],
        args: Vec::new(),
        stdins: stdins.iter().map(|stdin| Bytes::from(*stdin)).collect(),
        limits: Limits { timeout_millis: 10_000, output_bytes: 100 },
        options: Options::default(),
    }
}

/// Sends a message and reads its answers; nothing where the stream ends first.
async fn ask(stream: &mut UnixStream, message: HostMessage) -> Option<Vec<GuestMessage>> {
    stream.write_all(&frame::encode(&message).unwrap()).await.ok()?;
    let mut answers = Vec::new();
    loop {
        let mut header = [0; HEADER_BYTES];
        stream.read_exact(&mut header).await.ok()?;
        let mut body = vec![0; frame::body_length(header).ok()?];
        stream.read_exact(&mut body).await.ok()?;
        let answer = frame::decode(&body).unwrap();
        let is_last = !matches!(answer, GuestMessage::Execution(_));
        answers.push(answer);
        if is_last {
            return Some(answers);
        }
    }
}

fn reseed() -> HostMessage {
    HostMessage::Reseed { entropy: vec![7; 64].into(), realtime_unix_nanos: 1 }
}

impl Lab {
    async fn new(settings: FakeSettings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["vmlinux", "initramfs", "rootfs"] {
            std::fs::write(directory.path().join(name), name).unwrap();
        }
        let lab = Self { fake: Fake::new(settings), directory };
        let snapshots = lab.fake.snapshots().unwrap();
        let mut vm = snapshots.boot(&lab.boot_spec(), &lab.files()).await.unwrap();
        let mut stream = vm.connect(PATIENCE).await.unwrap();
        let warm_up = WarmUp { files: Vec::new(), runs: 0 };
        let prepare = HostMessage::Prepare(Prepare { runtime: runtime(), warm_up });
        let prepared = ask(&mut stream, prepare).await.unwrap();
        assert_eq!(prepared, [GuestMessage::Prepared { initialised: true }]);
        vm.save().await.unwrap();
        lab
    }

    fn files(&self) -> SnapshotFiles {
        files(self.directory.path())
    }

    fn boot_spec(&self) -> BootSpec {
        let path = |name| self.directory.path().join(name);
        let (vmlinux, initramfs, rootfs) = (path("vmlinux"), path("initramfs"), path("rootfs"));
        BootSpec { placement: placement(), machine: MACHINE, vmlinux, initramfs, rootfs }
    }

    async fn waiting(&self) -> Result<Box<dyn StandbyVmm>, RestoreError> {
        let rootfs = self.directory.path().join("rootfs");
        let spec = RestoreSpec { placement: placement(), machine: MACHINE, rootfs, files: self.files() };
        self.fake.start(&spec).await
    }

    /// A clone that has been greeted and reseeded.
    async fn clone(&self) -> (Box<dyn MicroVm>, UnixStream) {
        let mut vm = self.waiting().await.unwrap().load().await.unwrap().vm;
        let mut stream = vm.connect(PATIENCE).await.unwrap();
        let hello = ask(&mut stream, HostMessage::Hello { generation: GENERATION }).await.unwrap();
        assert!(matches!(hello[..], [GuestMessage::Hello { generation: GENERATION, .. }]), "{hello:?}");
        assert_eq!(ask(&mut stream, reseed()).await.unwrap(), [GuestMessage::Reseeded]);
        (vm, stream)
    }

    /// Runs a program in a clone of its own.
    async fn executions(&self, run: Run) -> Vec<Execution> {
        let (mut vm, mut stream) = self.clone().await;
        let answers = ask(&mut stream, HostMessage::Run(run)).await.unwrap();
        vm.kill().await;
        executions(answers)
    }

    async fn execution(&self, text: &str) -> Execution {
        self.executions(program(text, &["the stdin"])).await.remove(0)
    }

    async fn eventually(&self, condition: impl Fn(&Counts) -> bool) -> Counts {
        self.fake.control().wait_until(PATIENCE, condition).await.unwrap()
    }
}

fn executions(mut answers: Vec<GuestMessage>) -> Vec<Execution> {
    assert_eq!(answers.pop(), Some(GuestMessage::Finished));
    let execution = |answer| match answer {
        GuestMessage::Execution(execution) => execution,
        other => panic!("{other:?} among executions"),
    };
    answers.into_iter().map(execution).collect()
}

fn stdout(execution: &Execution) -> &str {
    std::str::from_utf8(&execution.stdout.bytes.0).unwrap()
}

#[tokio::test]
async fn programs_write_and_end_as_they_say() {
    let lab = Lab::new(FakeSettings::default()).await;
    for (text, outcome, out, err) in [
        ("print('Hello from Python!')", Outcome::Exited { code: 0 }, "Hello from Python!\n", ""),
        ("# nothing\n\nprint a b", Outcome::Exited { code: 0 }, "a b\n", ""),
        ("stdin\nerror bad", Outcome::Exited { code: 0 }, "the stdin", "bad\n"),
        ("print a\nexit 3\nprint b", Outcome::Exited { code: 3 }, "a\n", ""),
        ("signal 11", Outcome::Killed { signal: 11 }, "", ""),
        ("memory", Outcome::OutOfMemory, "", ""),
        ("process", Outcome::Exited { code: 0 }, "initialised\n", ""),
        ("sleep 1\nprint a", Outcome::Exited { code: 0 }, "a\n", ""),
        ("exit 256", Outcome::Exited { code: 1 }, "", SYNTAX_ERROR),
    ] {
        let execution = lab.execution(text).await;
        assert_eq!((execution.outcome, stdout(&execution)), (outcome, out), "{text}");
        assert_eq!(execution.stderr.bytes, err.into(), "{text}");
    }
}

const SYNTAX_ERROR: &str = "  File \"main.py\", line 1\n    exit 256\nSyntaxError: invalid syntax\n";

#[tokio::test]
async fn time_limits_and_limits_of_output_hold() {
    let lab = Lab::new(FakeSettings::default()).await;
    let mut run = program("print a\nsleep 18446744073709551615\nprint b", &[""]);
    run.limits.timeout_millis = 20;
    let execution = lab.executions(run).await.remove(0);
    assert_eq!((execution.outcome, stdout(&execution)), (Outcome::TimedOut, "a\n"));
    assert!(execution.duration_micros >= 20_000, "{execution:?}");
    let execution = lab.execution("print a\nflood 18446744073709551000\nprint b").await;
    assert_eq!((execution.stdout.bytes.0.len(), &stdout(&execution)[..4]), (100, "a\nxx"));
    assert_eq!(execution.stdout.dropped, 18_446_744_073_709_551_000 - 98 + 2);
}

#[tokio::test]
async fn nothing_runs_before_a_reseed() {
    let lab = Lab::new(FakeSettings::default()).await;
    let mut vm = lab.waiting().await.unwrap().load().await.unwrap().vm;
    let mut stream = vm.connect(PATIENCE).await.unwrap();
    let answer = ask(&mut stream, HostMessage::Run(program("print a", &[""]))).await.unwrap();
    assert!(matches!(answer[..], [GuestMessage::Failed { .. }]), "{answer:?}");
    assert_eq!(ask(&mut stream, reseed()).await.unwrap(), [GuestMessage::Reseeded]);
    let answers = ask(&mut stream, HostMessage::Run(program("print a", &[""]))).await.unwrap();
    assert_eq!(stdout(&executions(answers)[0]), "a\n");
    assert!(matches!(vm.connect(PATIENCE).await, Err(ControlError::Connected)));
}

#[tokio::test]
async fn the_initialised_interpreter_is_forked_for_a_batch_and_used_up_by_one_run() {
    let lab = Lab::new(FakeSettings::default()).await;
    let (_vm, mut stream) = lab.clone().await;
    let rehearsal = Run { process: Process::Rehearsal, ..program("import socket", &["", ""]) };
    for (run, process) in [
        (rehearsal, ["", ""].as_slice()),
        (program("process", &["", "", ""]), &["fork\n", "fork\n", "fork\n"]),
        (
            Run { args: vec!["a".to_owned(), "b".to_owned()], ..program("process\nargs", &[""]) },
            &["fresh\na b\n"],
        ),
        (program("process", &[""]), &["initialised\n"]),
        (program("process", &[""]), &["fresh\n"]),
    ] {
        let executions = executions(ask(&mut stream, HostMessage::Run(run)).await.unwrap());
        assert_eq!(executions.iter().map(stdout).collect::<Vec<_>>(), process);
        assert!(executions.iter().enumerate().all(|(index, execution)| execution.index as usize == index));
    }
    let counts = lab.fake.control().counts();
    assert_eq!((counts.rehearsals, counts.runs, counts.repeated_runs), (1, 4, 3));
}

#[tokio::test]
async fn every_microvm_is_another() {
    let lab = Lab::new(FakeSettings::default()).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(stdout(&lab.execution("identity").await).to_owned());
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3);
}

#[tokio::test]
async fn what_a_program_does_to_its_vmm_is_told() {
    let lab = Lab::new(FakeSettings::default()).await;
    for (text, exit) in [("crash", Exit::Crashed { signal: 11 }), ("shutdown", Exit::GuestShutdown)] {
        let (mut vm, mut stream) = lab.clone().await;
        assert_eq!(ask(&mut stream, HostMessage::Run(program(text, &[""]))).await, None);
        assert_eq!(vm.wait().await, exit);
        assert_eq!(vm.wait().await, exit);
        assert_eq!(vm.last_words().is_empty(), text == "shutdown");
    }
    let (mut vm, mut stream) = lab.clone().await;
    assert_eq!(ask(&mut stream, HostMessage::Run(program("garbage", &[""]))).await, None);
    let answer = ask(&mut stream, HostMessage::Run(program("fail why", &[""]))).await;
    assert_eq!(answer, None, "after garbage nothing is a frame");
    vm.kill().await;
    let (mut vm, mut stream) = lab.clone().await;
    let answer = ask(&mut stream, HostMessage::Run(program("fail why", &[""]))).await.unwrap();
    assert_eq!(answer, [GuestMessage::Failed { reason: "why".to_owned() }]);
    let silence = ask(&mut stream, HostMessage::Run(program("silence", &[""])));
    assert!(timeout(Duration::from_millis(50), silence).await.is_err(), "it answers");
    vm.kill().await;
    assert_eq!(vm.wait().await, Exit::Killed { signal: 9 });
    assert_eq!(lab.fake.control().counts().alive, 0);
}

#[tokio::test]
async fn nothing_is_left_of_what_was_killed_dropped_or_hung_up_on() {
    let lab = Lab::new(FakeSettings::default()).await;
    let before = lab.fake.control().counts();
    let (mut killed, _stream) = lab.clone().await;
    let (dropped, _other) = lab.clone().await;
    let (mut hung_up_on, stream) = lab.clone().await;
    let mut waiting = lab.waiting().await.unwrap();
    let waits = lab.waiting().await.unwrap();
    assert_eq!(lab.fake.control().counts().alive, 5);
    killed.kill().await;
    waiting.kill().await;
    assert_eq!(lab.fake.control().counts().alive, 3);
    drop((dropped, waits, stream));
    assert_eq!(hung_up_on.wait().await, Exit::GuestShutdown);
    let after = lab.eventually(|counts| counts.alive == 0).await;
    assert_eq!(after.most_alive, 5);
    assert_eq!((after.killed - before.killed, after.ended - before.ended), (4, 1));
    assert_eq!(after.started, after.killed + after.ended);
    assert!(waiting.load().await.is_err(), "a VMM that was killed loads a snapshot");
}

#[tokio::test]
async fn steps_fail_as_often_as_they_were_told() {
    let lab = Lab::new(FakeSettings::default()).await;
    let control = lab.fake.control();
    control.fail_next(Step::Start, 1);
    assert!(matches!(lab.waiting().await.map(drop), Err(RestoreError::Control { .. })));
    control.fail_next(Step::Load, 1);
    let refused = lab.waiting().await.unwrap().load().await.map(drop);
    assert!(matches!(refused, Err(RestoreError::Control { .. })), "{refused:?}");
    control.fail_next(Step::Reseed, 1);
    let mut vm = lab.waiting().await.unwrap().load().await.unwrap().vm;
    let mut stream = vm.connect(PATIENCE).await.unwrap();
    let answer = ask(&mut stream, reseed()).await.unwrap();
    assert!(matches!(answer[..], [GuestMessage::Failed { .. }]), "{answer:?}");
    drop(vm);
    control.fail_one_in(Step::Start, 3);
    let mut failures = 0;
    for _ in 0..9 {
        failures += u32::from(lab.waiting().await.is_err());
    }
    assert_eq!(failures, 3);
    lab.eventually(|counts| counts.alive == 0).await;
}

#[tokio::test]
async fn a_crash_ends_those_that_run_and_those_that_wait() {
    let lab = Lab::new(FakeSettings::default()).await;
    let (mut vm, _stream) = lab.clone().await;
    let waiting = lab.waiting().await.unwrap();
    lab.fake.control().crash_all();
    assert_eq!(vm.wait().await, Exit::Crashed { signal: 11 });
    match waiting.load().await.map(drop) {
        Err(RestoreError::Control { source: ControlError::Closed { .. }, .. }) => {}
        other => panic!("a VMM that has crashed: {other:?}"),
    }
    let (_vm, mut stream) = lab.clone().await;
    let answers = ask(&mut stream, HostMessage::Run(program("print a", &[""]))).await.unwrap();
    assert_eq!(stdout(&executions(answers)[0]), "a\n", "those that come later are well");
}

#[tokio::test]
async fn steps_take_the_time_that_was_set_and_a_rehearsal_spares_the_first_run_its_own() {
    const SHORT: Duration = Duration::from_millis(20);
    const FOR_EVER: Duration = Duration::from_secs(3600);
    let settings = FakeSettings {
        start_delay: SHORT,
        load_delay: SHORT,
        first_run_delay: FOR_EVER,
        rehearsal_delay: SHORT,
    };
    let lab = Lab::new(settings).await;
    let since = Instant::now();
    let (_vm, mut stream) = lab.clone().await;
    assert!(since.elapsed() >= 2 * SHORT);
    let run = || HostMessage::Run(program("print a", &[""]));
    assert!(timeout(2 * SHORT, ask(&mut stream, run())).await.is_err(), "it answers at once");
    let (_vm, mut stream) = lab.clone().await;
    let since = Instant::now();
    let rehearsal = Run { process: Process::Rehearsal, ..program("", &[""]) };
    ask(&mut stream, HostMessage::Run(rehearsal)).await.unwrap();
    assert!(since.elapsed() >= SHORT);
    let answers = timeout(PATIENCE, ask(&mut stream, run())).await.unwrap().unwrap();
    assert_eq!(stdout(&executions(answers)[0]), "a\n");
}

#[tokio::test]
async fn files_that_are_missing_damaged_or_there_already_are_named() {
    let lab = Lab::new(FakeSettings::default()).await;
    let snapshots = lab.fake.snapshots().unwrap();
    match snapshots.boot(&lab.boot_spec(), &lab.files()).await.map(drop) {
        Err(BootError::File { path, .. }) => assert_eq!(path, lab.files().memory),
        other => panic!("a snapshot over another: {other:?}"),
    }
    let rootfs = lab.directory.path().join("nowhere");
    match Vmm::boot(&lab.fake, &BootSpec { rootfs: rootfs.clone(), ..lab.boot_spec() }).await.map(drop) {
        Err(BootError::File { path, .. }) => assert_eq!(path, rootfs),
        other => panic!("a microVM without an image: {other:?}"),
    }
    let spec =
        |files| RestoreSpec { placement: placement(), machine: MACHINE, rootfs: rootfs.clone(), files };
    let memory = lab.directory.path().join("no-memory");
    let files = SnapshotFiles { memory: memory.clone(), ..lab.files() };
    match lab.fake.start(&spec(files)).await.map(drop) {
        Err(RestoreError::File { path, .. }) => assert_eq!(path, memory),
        other => panic!("a clone without memory: {other:?}"),
    }
    let device_state = lab.directory.path().join("damaged");
    std::fs::write(&device_state, "{").unwrap();
    let files = SnapshotFiles { device_state, ..lab.files() };
    let damaged = lab.fake.start(&spec(files)).await.unwrap().load().await.map(drop);
    assert!(matches!(damaged, Err(RestoreError::Control { .. })), "{damaged:?}");
    assert_eq!(lab.fake.control().counts().alive, 0);
}
