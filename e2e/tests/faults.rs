//! Whatever goes wrong, from a missing program to a full disk to a signal, is told plainly and leaves nothing behind.

use std::{
    fs,
    io::{Seek as _, SeekFrom, Write as _},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use e2e::{
    TestHost, eventually,
    mounted::Mounted,
    running::{Ended, Process, Running, unused_cgroups},
};
use rustix::process::Signal;
use serde_json::{Value, json};

/// This host cannot do it.
const HOST: i32 = 3;

/// How long a command may take to end, on a busy machine.
const SECONDS: Duration = Duration::from_secs(10);

/// How much a VMM has computed by the time its guest runs a program that never ends.
const RUNNING: Duration = Duration::from_millis(1500);

const ENDLESS: [&str; 7] = ["run", "--lang", "python", "--timeout", "300", "--code", "while True: pass"];

const PRINT: [&str; 5] = ["run", "--lang", "python", "--code", "print(6 * 7)"];

/// Commands and VMMs whose end leaves nothing.
struct Traces {
    processes: Vec<Process>,
    cgroups: Vec<PathBuf>,
}

impl Traces {
    /// Of a command that runs now, and of all that it has started.
    fn of(running: &Running) -> Self {
        let processes = running.process().descendants();
        let cgroups = processes.iter().flat_map(Process::cgroups).collect();
        Self { processes, cgroups }
    }

    /// Nothing is left of them, nor anything else in the data directory.
    fn are_gone(&self, host: &TestHost) {
        let living = || -> Vec<_> { self.processes.iter().filter(|process| process.is_alive()).collect() };
        eventually("the processes end", SECONDS, || living().is_empty())
            .unwrap_or_else(|error| panic!("{error}: {:?}", living()));
        eventually("the cgroups go", SECONDS, || self.cgroups.iter().all(|group| !group.exists()))
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.cgroups));
        nothing_is_left(host);
    }
}

/// No process, no mount and no unfinished file of this data directory is left.
fn nothing_is_left(host: &TestHost) {
    assert_eq!(host.processes().unwrap(), Vec::<String>::new());
    assert_eq!(host.leftovers().unwrap(), Vec::<PathBuf>::new());
    assert_eq!(mounts_beneath(host.data()), Vec::<String>::new());
}

/// What is mounted beneath a directory, and mounts of jails.
fn mounts_beneath(directory: &Path) -> Vec<String> {
    let beneath = format!("{}/", directory.display());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let ours = |line: &&str| {
        line.starts_with("jail ") || line.split(' ').nth(1).is_some_and(|at| at.starts_with(&beneath))
    };
    mounts.lines().filter(ours).map(str::to_owned).collect()
}

fn works(host: &TestHost) {
    let ended = host.ended(&PRINT);
    assert_eq!((ended.code, &ended.json()["stdout"]), (0, &json!("42\n")), "{ended:?}");
}

/// An internal error, by the page; the truth for whoever runs the host.
fn fails_inside(ended: &Ended, reason: &str, hint: &str) {
    assert_eq!(ended.code, HOST, "{ended:?}");
    let id = ended.json()["trace_id"].as_str().unwrap().to_owned();
    assert_eq!(ended.error(), format!("E010: internal error (trace id {id})"));
    assert!(ended.stderr.contains(reason), "{reason:?} is not in {ended:?}");
    assert!(ended.stderr.contains(&format!("hint: {hint}")), "{hint:?} is not in {ended:?}");
}

#[test]
fn a_host_without_a_qemu_that_works_says_so() {
    let host = TestHost::prepared();
    let with = |qemu: &Path| host.ended(&[&["--qemu", qemu.to_str().unwrap()][..], &PRINT].concat());
    let hint = "name a QEMU that works with --qemu";
    fails_inside(&with(Path::new("/nonexistent")), "cannot run /nonexistent: No such file", hint);
    fails_inside(&with(Path::new("/bin/false")), "/bin/false --version printed", hint);
    fails_inside(&with(Path::new("/")), "cannot run /", hint);

    let directory = tempfile::tempdir().unwrap();
    let script = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let old = script("old", "#!/bin/sh\necho QEMU emulator version 2.5.0\n");
    fails_inside(&with(&old), "QEMU 2.5.0 is too old", "install a newer one and name it with --qemu");
    // Says that it is the right one, and then is none.
    let version = Command::new("qemu-system-x86_64").arg("--version").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let liar = script("liar", &format!("#!/bin/sh\necho '{}'\n", version.lines().next().unwrap()));
    fails_inside(&with(&liar), "cannot restore a microVM", "infra.operator doctor says what is wrong");

    // It is looked for where Debian has it, whatever PATH says.
    let ended = Ended::new(&host.command(&PRINT).env("PATH", "").output().unwrap());
    assert_eq!((ended.code, &ended.json()["stdout"]), (0, &json!("42\n")), "{ended:?}");
}

#[test]
fn a_kernel_bundle_that_cannot_be_booted_is_told_and_snapshots_do_without_it() {
    let prepared = TestHost::prepared();
    let host = TestHost::empty();
    fs::create_dir_all(host.data().join("kernel")).unwrap();
    symlink(prepared.data().join("images"), host.data().join("images")).unwrap();
    for name in ["vmlinux", "initramfs.cpio", "bundle.json"] {
        fs::copy(prepared.data().join("kernel").join(name), host.data().join("kernel").join(name)).unwrap();
    }
    let boot = || host.ended(&["host", "--lang", "python", "--code", "1"]);
    let not_prepared = |reason: &str| {
        let ended = boot();
        assert_eq!(ended.code, HOST, "{ended:?}");
        let command = host.typed("infra.operator setup");
        assert_eq!(ended.error(), format!("E009: language not prepared: python (run: {command})"));
        assert!(ended.stderr.contains(reason), "{reason:?} is not in {ended:?}");
        assert!(ended.stderr.contains("hint: run: infra.operator setup"), "{ended:?}");
    };
    let vmlinux = host.data().join("kernel/vmlinux");
    let mut file = fs::File::options().write(true).open(&vmlinux).unwrap();
    let length = file.metadata().unwrap().len();

    // Of the right size, and no kernel.
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(&[0x42; 4 << 10]).unwrap();
    let since = Instant::now();
    fails_inside(&boot(), "cannot boot a microVM", "infra.operator doctor says what is wrong");
    assert!(since.elapsed() < 3 * SECONDS, "{:?}", since.elapsed());

    file.set_len(length / 2).unwrap();
    not_prepared(&format!("vmlinux has {} bytes instead of {length}", length / 2));
    fs::write(host.data().join("kernel/bundle.json"), "{").unwrap();
    not_prepared("cannot understand");
    fs::remove_dir_all(host.data().join("kernel")).unwrap();
    not_prepared("no kernel bundle in");
    nothing_is_left(&host);

    fs::create_dir(host.data().join("snapshots")).unwrap();
    fs::remove_file(host.data().join("images")).unwrap();
    let copied = Command::new("cp")
        .args(["--archive", "--sparse=always"])
        .args([prepared.data().join("snapshots"), prepared.data().join("images")])
        .arg(host.data())
        .status();
    assert!(copied.unwrap().success());
    works(&host);
}

#[test]
fn signals_end_a_run_and_all_that_it_has_started() {
    let host = TestHost::prepared().copy();
    works(&host);
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let running = Running::start(&mut host.command(&ENDLESS));
        let vmm = running.wait_for_busy_vmm(RUNNING).unwrap();
        let traces = Traces::of(&running);
        assert_eq!(traces.processes.len(), 2, "a supervisor and a VMM: {:?}", traces.processes);
        assert!(traces.processes.contains(&vmm));
        assert!(!traces.cgroups.is_empty(), "the VMM has no cgroup");
        assert_eq!(host.processes().unwrap().len(), 3, "the command and both: {:?}", host.processes());
        running.signal(signal);
        let ended = running.end_within(SECONDS).unwrap();
        assert_eq!((ended.code, ended.stdout.as_str()), (code, ""), "{ended:?}");
        // Not "soon": the command ends after all that it has started.
        assert!(traces.processes.iter().all(|process| !process.is_alive()), "{:?}", traces.processes);
        assert!(traces.cgroups.iter().all(|group| !group.exists()), "{:?}", traces.cgroups);
        nothing_is_left(&host);
    }
    works(&host);
}

#[test]
fn signals_end_the_making_of_a_snapshot_and_leave_the_old_one() {
    let host = TestHost::prepared().copy();
    let before = unused_cgroups();
    let manifest = fs::read(host.snapshot().join("manifest.json")).unwrap();
    for (signal, code, step) in [
        (Signal::INT, 130, "booting a microVM"),
        (Signal::TERM, 143, "warming up python"),
        (Signal::INT, 130, "saving it"),
    ] {
        let mut running = Running::start(&mut host.command(&["snapshot", "create", "--lang", "python"]));
        running.wait_until_said(step).unwrap();
        let traces = Traces::of(&running);
        running.signal(signal);
        let ended = running.end_within(SECONDS).unwrap();
        assert_eq!((ended.code, ended.stdout.as_str()), (code, ""), "{step}: {ended:?}");
        traces.are_gone(&host);
        assert_eq!(fs::read(host.snapshot().join("manifest.json")).unwrap(), manifest);
    }
    // The first signal may have come before there was anything to be seen.
    let left =
        || -> Vec<_> { unused_cgroups().into_iter().filter(|group| !before.contains(group)).collect() };
    eventually("the cgroups go", SECONDS, || left().is_empty())
        .unwrap_or_else(|error| panic!("{error}: {:?}", left()));
    works(&host);
}

#[test]
fn signals_end_the_making_of_an_image_and_all_that_it_has_started() {
    let host = TestHost::empty();
    for (signal, code, step) in [
        (Signal::INT, 130, "starting mmdebstrap"),
        (Signal::TERM, 143, "compiling Python's standard library"),
    ] {
        let scratch = tempfile::tempdir().unwrap();
        let mut command = host.command(&["rootfs", "create", "--lang", "python"]);
        let mut running = Running::start(command.env("TMPDIR", scratch.path()));
        running.wait_until_said(step).unwrap();
        // Mmdebstrap has begun once it has made a directory of its own in the tree.
        eventually("there is a tree", Duration::from_secs(60), || {
            let unfinished = host.leftovers().unwrap();
            unfinished.iter().any(|directory| directory.join("tree/var").exists())
        })
        .unwrap();
        let traces = Traces::of(&running);
        assert!(!traces.processes.is_empty(), "nobody works");
        running.signal(signal);
        let ended = running.end_within(2 * SECONDS).unwrap();
        assert_eq!((ended.code, ended.stdout.as_str()), (code, ""), "{ended:?}");
        traces.are_gone(&host);
        assert!(!host.image().exists());
        let left: Vec<_> =
            fs::read_dir(scratch.path()).unwrap().flatten().map(|entry| entry.path()).collect();
        assert_eq!(left, Vec::<PathBuf>::new());
    }
}

#[test]
fn a_killed_command_takes_its_vmm_with_it() {
    let host = TestHost::prepared().copy();
    let running = Running::start(&mut host.command(&ENDLESS));
    running.wait_for_busy_vmm(RUNNING).unwrap();
    let traces = Traces::of(&running);
    running.signal(Signal::KILL);
    assert_eq!(running.end_within(SECONDS).unwrap().code, 128 + 9);
    traces.are_gone(&host);
    works(&host);
}

#[test]
fn a_vmm_that_dies_is_an_internal_error_at_once() {
    let host = TestHost::prepared().copy();
    let running = Running::start(&mut host.command(&ENDLESS));
    let vmm = running.wait_for_busy_vmm(RUNNING).unwrap();
    let traces = Traces::of(&running);
    vmm.signal(Signal::KILL);
    let ended = running.end_within(SECONDS).unwrap();
    assert_eq!(ended.code, HOST, "{ended:?}");
    assert!(ended.error().starts_with("E010: internal error (trace id "), "{ended:?}");
    assert!(ended.stderr.contains("for the VMM was killed by signal 9"), "{ended:?}");
    traces.are_gone(&host);
    works(&host);
}

#[test]
fn a_supervisor_that_is_asked_to_end_goes_on_as_long_as_its_command() {
    let host = TestHost::prepared().copy();
    let running = Running::start(&mut host.command(&ENDLESS));
    let vmm = running.wait_for_busy_vmm(RUNNING).unwrap();
    let traces = Traces::of(&running);
    // As a service manager does to all processes of a service.
    for process in &traces.processes {
        for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
            process.signal(signal);
        }
    }
    let computed = vmm.processor_time();
    eventually("the VMM goes on", SECONDS, || vmm.processor_time() > computed).unwrap();
    running.process().signal(Signal::TERM);
    assert_eq!(running.end_within(SECONDS).unwrap().code, 128 + 15);
    traces.are_gone(&host);
}

#[test]
fn a_vmm_does_not_outlive_its_supervisor() {
    let host = TestHost::prepared().copy();
    let running = Running::start(&mut host.command(&ENDLESS));
    let vmm = running.wait_for_busy_vmm(RUNNING).unwrap();
    let traces = Traces::of(&running);
    let supervisor = traces.processes.iter().find(|process| **process != vmm).unwrap();
    supervisor.signal(Signal::KILL);
    let ended = running.end_within(SECONDS).unwrap();
    assert_eq!(ended.code, HOST, "{ended:?}");
    assert!(ended.error().starts_with("E010: internal error (trace id "), "{ended:?}");
    assert!(ended.stderr.contains("the process that watched the VMM is gone"), "{ended:?}");
    eventually("the VMM dies", SECONDS, || !vmm.is_alive()).unwrap();
    traces.are_gone(&host);
    works(&host);
}

/// A host on a small disk, with the image and the kernel of the prepared one.
fn small_host(disk: &Mounted) -> TestHost {
    let prepared = TestHost::prepared();
    for name in ["images", "kernel"] {
        symlink(prepared.data().join(name), disk.path().join(name)).unwrap();
    }
    TestHost::at(disk.path())
}

#[test]
fn a_disk_that_is_too_small_for_a_snapshot_is_told_before_anything_is_written() {
    let disk = Mounted::small(100);
    let host = small_host(&disk);
    let ended = host.ended(&["snapshot", "create", "--lang", "python"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (HOST, ""), "{ended:?}");
    assert!(ended.stderr.contains("MiB free, the snapshot may need 576 MiB"), "{ended:?}");
    assert!(ended.stderr.contains("hint: free some disk space, or choose another --data-dir"), "{ended:?}");
    nothing_is_left(&host);
}

#[test]
fn a_disk_that_fills_up_while_a_snapshot_is_made_leaves_nothing_of_it() {
    let disk = Mounted::small(320);
    let host = small_host(&disk);
    let mut command = host.command(&["snapshot", "create", "--lang", "python", "--mem", "192"]);
    let mut running = Running::start(&mut command);
    running.wait_until_said("booting a microVM").unwrap();
    let traces = Traces::of(&running);
    let mut filler = fs::File::create(disk.path().join("filler")).unwrap();
    while filler.write_all(&[1; 4 << 10]).is_ok() {}
    let ended = running.end_within(Duration::from_secs(60)).unwrap();
    assert_eq!((ended.code, ended.stdout.as_str()), (HOST, ""), "{ended:?}");
    assert!(ended.stderr.contains(" has 0 MiB free, the snapshot may need 256 MiB"), "{ended:?}");
    assert!(ended.stderr.contains("hint: free some disk space"), "{ended:?}");
    traces.are_gone(&host);
    assert_eq!(host.ended(&["snapshot", "list", "--json"]).json(), json!([]));
}

#[test]
fn a_disk_that_fills_up_while_an_image_is_made_leaves_nothing_of_it() {
    let disk = Mounted::small(40);
    let host = TestHost::at(disk.path());
    let ended = host.ended(&["rootfs", "create", "--lang", "python"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (HOST, ""), "{ended:?}");
    assert!(ended.stderr.contains("error: cannot make the image"), "{ended:?}");
    assert!(ended.stderr.contains("o space left on device"), "no word about the disk: {ended:?}");
    assert!(!host.image().exists());
    nothing_is_left(&host);
    let left: Vec<_> =
        fs::read_dir(disk.path().join("images")).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(left.iter().all(|name| name.to_string_lossy().starts_with(".lock-")), "{left:?}");
}

#[test]
fn a_read_only_data_directory_is_told() {
    let prepared = TestHost::prepared();
    let read_only = Mounted::read_only(prepared.data());
    let host = TestHost::at(read_only.path());
    for arguments in
        [&["snapshot", "create", "--lang", "python"][..], &["rootfs", "create", "--lang", "python"], &PRINT]
    {
        let ended = host.ended(arguments);
        assert_eq!(ended.code, HOST, "{arguments:?}: {ended:?}");
        assert!(ended.stderr.contains("ead-only file system"), "{arguments:?}: {ended:?}");
        assert!(ended.stderr.contains("hint: "), "{arguments:?}: {ended:?}");
        if arguments == PRINT {
            assert!(ended.error().starts_with("E010: "), "{ended:?}");
        }
    }
    let listed = host.ended(&["snapshot", "list", "--json"]);
    assert_eq!((listed.code, &listed.json()[0]["usable"]), (0, &Value::Bool(true)), "{listed:?}");
}
