//! What is tried with each VMM, in this order.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use e2e::{
    TestHost,
    acceptance::Case,
    eventually,
    running::{Ended, Process, Running, unused_cgroups},
    wiring,
};
use rustix::process::Signal;
use serde_json::Value;
use vmm::{
    backend::Acceleration,
    conformance::{self, CASES},
    firecracker, kvm,
};

use crate::{
    elsewhere::{TEMPLATE, TEMPLATE_JSON, TEMPLATE_MEMORY},
    inside::{FIRECRACKER, Planned, Trial, Vmm},
    jail,
    report::{Line, seconds},
};

/// How many clones of one snapshot run at the same time.
const CLONES: usize = 8;

/// How long a command may take here that answers at once elsewhere.
const PATIENCE: Duration = Duration::from_secs(180);

/// How soon the end of a VMM is to be told, in a machine that is emulated.
const AT_ONCE: Duration = Duration::from_secs(10);

/// Test programs that try what a program in a microVM can see and do.
pub(crate) const TEST_PROGRAMS: [&str; 2] = ["abuse", "answers"];

/// A user without rights.
const SOMEBODY: u32 = 1000;

/// How many restores are measured of each kind, in a machine where each takes a second.
const FIGURE_RUNS: &str = "15";

/// Draws every kind of random number, and fills memory with its own: long enough for all clones to be at it.
const CLONE: &str = "
import json, os, random, secrets, tempfile, time, uuid
mine = os.urandom(16)
memory = mine * (1 << 19)
time.sleep(20)
print(json.dumps({
    'urandom': mine.hex(), 'uuid': str(uuid.uuid4()), 'random': str(random.random()),
    'secrets': secrets.token_hex(), 'name': tempfile.mktemp(), 'system': str(random.SystemRandom().random()),
    'unharmed': memory == mine * (1 << 19),
}))
";

/// The steps with one VMM.
pub(crate) fn planned(vmm: Vmm) -> Vec<Planned> {
    let mut steps = Vec::new();
    let mut add = |name: &str, action: fn(&mut Trial) -> Result<String>| {
        steps.push(Planned {
            name: format!("{}: {name}", vmm.name()),
            is_needed: false,
            action: Box::new(action),
        });
    };
    add("doctor finds that KVM can be used", doctor);
    add("a program runs in a microVM that was booted", booted);
    add("a snapshot is made", snapshot);
    add("Hello World runs in a clone", hello);
    add("eight clones at the same time share no random numbers and no memory", clones);
    add("the snapshot is what it was", verify);
    add("a microVM runs on while its jail is looked at", start_endless);
    for (name, check) in jail::CHECKS {
        add(&format!("jail: {name}"), check);
    }
    add("a VMM that is killed is told at once and leaves nothing", kill);
    for case in CASES {
        let name = format!("{}: promise: {}", vmm.name(), case.name.replace('_', " "));
        let action = Box::new(move |trial: &mut Trial| keep(trial, case));
        steps.push(Planned { name, is_needed: false, action });
    }
    for case in Case::python() {
        let name = format!("{}: the page's {}", vmm.name(), case.name);
        let action = Box::new(move |trial: &mut Trial| accept(trial, &case));
        steps.push(Planned { name, is_needed: false, action });
    }
    for program in TEST_PROGRAMS {
        let name = format!("{}: the tests of `{program}`, as they run without KVM", vmm.name());
        let action = Box::new(move |trial: &mut Trial| test_program(trial, program));
        steps.push(Planned { name, is_needed: false, action });
    }
    let mut add = |name: &str, action: fn(&mut Trial) -> Result<String>| {
        let name = format!("{}: {name}", vmm.name());
        steps.push(Planned { name, is_needed: false, action: Box::new(action) });
    };
    add("an unprivileged user runs a program", unprivileged);
    if vmm == Vmm::Firecracker {
        add("a snapshot is made with a CPU template", snapshot_with_template);
    }
    add("figures are taken", figures);
    let left = format!("{}: nothing is left", vmm.name());
    steps.push(Planned { name: left, is_needed: false, action: Box::new(nothing_is_left) });
    // Without a snapshot, the third, the others are in vain.
    steps[2].is_needed = true;
    steps
}

fn doctor(trial: &mut Trial) -> Result<String> {
    let report = trial.host.ended(&["doctor", "--json"]).json();
    let findings = report["findings"].as_array().context("the report has no findings")?;
    let of = |name: &str| findings.iter().find(|finding| finding["name"] == name);
    for name in ["kvm", trial.vmm.name(), "cgroups", "namespaces"] {
        let finding = of(name).with_context(|| format!("nothing on {name} in {report}"))?;
        ensure!(finding["status"] == "ok", "{finding}");
    }
    Ok(of("kvm").context("it was there")?["detail"].to_string())
}

fn booted(trial: &mut Trial) -> Result<String> {
    prints(trial, &["host", "--lang", "python", "--code", "print(6 * 7)"], "42\n")
}

fn snapshot(trial: &mut Trial) -> Result<String> {
    let arguments = ["snapshot", "create", "--lang", "python", "--mem", "512", "--vcpus", "1"];
    let ended = trial.host.ended(&arguments);
    ensure!(ended.code == 0, "{ended:?}");
    Ok(ended.stderr.lines().last().unwrap_or_default().to_owned())
}

fn hello(trial: &mut Trial) -> Result<String> {
    let code = "print('Hello from Python!')";
    prints(trial, &["host", "--snapshot", "--lang", "python", "--code", code], "Hello from Python!\n")
}

fn prints(trial: &Trial, arguments: &[&str], wanted: &str) -> Result<String> {
    let ended = trial.host.ended(arguments);
    ensure!(ended.code == 0 && ended.json()["stdout"] == wanted, "{ended:?}");
    Ok(format!("{} ms in the guest", ended.json()["executionTime"]))
}

fn clones(trial: &mut Trial) -> Result<String> {
    let arguments = ["run", "--lang", "python", "--timeout", "120", "--code", CLONE];
    let running: Vec<_> = (0..CLONES).map(|_| Running::start(&mut trial.host.command(&arguments))).collect();
    let is_vmm = |process: &Process| process.name.starts_with(trial.vmm.process_name());
    let vmms = || running.iter().filter(|command| command.process().descendants().iter().any(is_vmm)).count();
    eventually("all clones run at the same time", PATIENCE, || vmms() == CLONES)?;
    let mut seen = Vec::new();
    for command in running {
        let ended = command.end_within(PATIENCE)?;
        ensure!(ended.code == 0, "{ended:?}");
        let answer = ended.json();
        let stdout = answer["stdout"].as_str().with_context(|| answer.to_string())?;
        seen.push(serde_json::from_str::<Value>(stdout).with_context(|| answer.to_string())?);
    }
    for kind in ["urandom", "uuid", "random", "secrets", "name", "system"] {
        let distinct: BTreeSet<_> = seen.iter().filter_map(|one| one[kind].as_str()).collect();
        ensure!(distinct.len() == CLONES, "{kind} repeats: {seen:?}");
    }
    ensure!(seen.iter().all(|one| one["unharmed"] == true), "memory was changed by others: {seen:?}");
    Ok(format!("{CLONES} clones"))
}

fn verify(trial: &mut Trial) -> Result<String> {
    // Every byte of it: clones have written to their memory by now.
    let rows = trial.host.ended(&["snapshot", "verify", "--lang", "python", "--json"]);
    ensure!(rows.code == 0, "{rows:?}");
    Ok(String::new())
}

fn start_endless(trial: &mut Trial) -> Result<String> {
    let arguments = ["run", "--lang", "python", "--timeout", "300", "--code", "while True: pass"];
    let running = Running::start(&mut trial.host.command(&arguments));
    let process = running.wait_for_busy_vmm(Duration::from_secs(4)).with_context(|| running.stderr())?;
    let detail = format!("process {}, {}", process.id, process.name);
    trial.endless = Some((running, process));
    Ok(detail)
}

fn kill(trial: &mut Trial) -> Result<String> {
    let (running, vmm) = trial.endless.take().context("there is no microVM")?;
    let processes = running.process().descendants();
    let cgroups: Vec<PathBuf> = processes.iter().flat_map(Process::cgroups).collect();
    let killed = Instant::now();
    vmm.signal(Signal::KILL);
    let ended = running.end_within(AT_ONCE)?;
    let took = killed.elapsed();
    ensure!(ended.code == 3 && ended.error().starts_with("E010: internal error"), "{ended:?}");
    ensure!(ended.stderr.contains("for the VMM was killed by signal 9"), "{ended:?}");
    eventually("its processes end", AT_ONCE, || !processes.iter().any(Process::is_alive))?;
    eventually("its cgroups go", AT_ONCE, || !cgroups.iter().any(|group| group.exists()))?;
    nothing_is_left(trial)?;
    Ok(format!("told after {}", seconds(took)))
}

/// Tries a promise of the backend.
fn keep(trial: &mut Trial, case: &conformance::Case) -> Result<String> {
    if trial.conformance.is_none() {
        let scratch = &trial.vmm.directory("conformance");
        fs::create_dir_all(scratch).context("make a directory")?;
        trial.conformance = Some(match trial.vmm {
            Vmm::Qemu => trial.host.trial(wiring::qemu(Acceleration::Kvm), scratch),
            Vmm::Firecracker => {
                let installation = firecracker::version(Path::new(FIRECRACKER))?;
                trial.host.trial(wiring::firecracker(installation, None), scratch)
            }
        });
    }
    let made = trial.conformance.as_ref().context("it was made")?;
    let runtime = tokio::runtime::Runtime::new().context("make a runtime")?;
    Ok(runtime.block_on(case.run(made)).to_string())
}

/// Runs a test program of this package, on this VMM.
fn test_program(trial: &mut Trial, program: &str) -> Result<String> {
    let output = Command::new(format!("/lab/bin/deps/{program}"))
        .args(["--test-threads", "1"])
        .env(e2e::PREPARED, trial.host.data())
        .env(e2e::OPTIONS, trial.vmm.options().join(" "))
        .output()
        .with_context(|| format!("run {program}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    let result = stdout.lines().find_map(|line| line.strip_prefix("test result: ok. "));
    let passed = result.and_then(|result| result.split(" passed").next()?.parse::<u32>().ok());
    ensure!(passed.is_some_and(|passed| passed > 0), "it ran no test: {stdout}");
    Ok(format!("{} passed", passed.unwrap_or_default()))
}

/// Someone without any rights but to open the device, on a data directory of his own.
fn unprivileged(trial: &mut Trial) -> Result<String> {
    let home = trial.vmm.directory("unprivileged");
    fs::create_dir_all(&home).context("make a directory")?;
    let data = home.join("data");
    let copied =
        Command::new("cp").args(["-r", "--sparse=always"]).arg(trial.host.data()).arg(&data).status();
    ensure!(copied.context("run cp")?.success(), "cannot copy the data directory");
    // What was made by root's VMM is as good for this user's: the manifest says what it depends on.
    let owned = Command::new("chown").args(["-R", &format!("{SOMEBODY}:{SOMEBODY}")]).arg(&home).status();
    ensure!(owned.context("run chown")?.success(), "cannot hand the data directory over");
    let host = TestHost::at(&data).with_options(trial.vmm.options());
    let code = "import os; print(os.getuid())";
    let mut command = host.command(&["host", "--snapshot", "--lang", "python", "--code", code]);
    let device = fs::metadata(kvm::DEVICE).context("look at /dev/kvm")?.gid();
    // One group alone: that of the device.
    let mut somebody = Command::new("setpriv");
    somebody.args([
        format!("--reuid={SOMEBODY}"),
        format!("--regid={SOMEBODY}"),
        format!("--groups={device}"),
    ]);
    somebody
        .args(["--bounding-set=-all", "--no-new-privs"])
        .arg(command.get_program())
        .args(command.get_args());
    somebody.env("HOME", &home).stdin(Stdio::null());
    command = somebody;
    let ended = Ended::new(&command.output().context("run setpriv")?);
    ensure!(ended.code == 0 && ended.json()["stdout"] == "65534\n", "{ended:?}");
    Ok(format!("{} ms in the guest", ended.json()["executionTime"]))
}

fn snapshot_with_template(trial: &mut Trial) -> Result<String> {
    fs::write(TEMPLATE, TEMPLATE_JSON).context("write the template")?;
    let size = ["snapshot", "create", "--lang", "python", "--mem", TEMPLATE_MEMORY, "--vcpus", "1"];
    let ended = trial.host.ended(&[&size[..], &["--cpu-template", TEMPLATE]].concat());
    ensure!(ended.code == 0, "{ended:?}");
    Ok(ended.stderr.lines().last().unwrap_or_default().to_owned())
}

/// Has the program that measures restores do so here.
fn figures(trial: &mut Trial) -> Result<String> {
    let backend = match trial.vmm {
        Vmm::Firecracker => FIRECRACKER,
        Vmm::Qemu => "qemu-kvm",
    };
    let output = Command::new("/lab/bin/restore-figures")
        .arg(backend)
        .arg(trial.host.data())
        .arg(FIGURE_RUNS)
        // What it is at, should it take long.
        .stderr(Stdio::inherit())
        .output()
        .context("run restore-figures")?;
    ensure!(output.status.success(), "restore-figures failed ({})", output.status);
    println!("{}", Line::Figures(String::from_utf8_lossy(&output.stdout).into_owned()).text());
    Ok(format!("{FIGURE_RUNS} runs of each"))
}

fn accept(trial: &mut Trial, case: &Case) -> Result<String> {
    let (_, answer) = trial.host.request(&case.request());
    let differences = case.differences(&answer);
    ensure!(differences.is_empty(), "{}", differences.join("; "));
    Ok(String::new())
}

fn nothing_is_left(trial: &mut Trial) -> Result<String> {
    let processes = || trial.host.processes().unwrap_or_default();
    eventually("all processes end", AT_ONCE, || processes().is_empty())
        .with_context(|| format!("{:?}", processes()))?;
    let leftovers = trial.host.leftovers()?;
    ensure!(leftovers.is_empty(), "unfinished files: {leftovers:?}");
    let cgroups = unused_cgroups();
    ensure!(cgroups.is_empty(), "cgroups: {cgroups:?}");
    let mounts = fs::read_to_string("/proc/self/mounts").context("read the mounts")?;
    let ours: Vec<_> =
        mounts.lines().filter(|line| line.contains("jail") || line.contains("/lab/")).collect();
    ensure!(ours.is_empty(), "mounts: {ours:?}");
    Ok(String::new())
}
