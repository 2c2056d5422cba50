//! What a running service does at the limits that its host sets it: descriptors, processes, memory, watches of files. It says what is
//! wrong and what helps, and goes on.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use e2e::{TestHost, eventually, running::Running, service::Service};

const PATIENCE: Duration = Duration::from_secs(60);

/// A cgroup for one controller, in either version of cgroups.
struct Group(PathBuf);

impl Group {
    fn create(controller: &str) -> Self {
        let split = Path::new("/sys/fs/cgroup").join(controller);
        let root = if split.exists() { split } else { PathBuf::from("/sys/fs/cgroup") };
        let group = tempfile::Builder::new().prefix("e2e-limits-").tempdir_in(root).unwrap();
        Self(group.keep())
    }

    fn set(&self, values: &[(&str, &str)]) {
        for (file, value) in values {
            fs::write(self.0.join(file), value).unwrap_or_else(|error| panic!("{file} = {value}: {error}"));
        }
    }

    /// Bounds its memory, swapped out or not.
    fn limit_memory(&self, bytes: u64) {
        let files: &[&str] = if self.0.join("memory.max").exists() {
            &["memory.max"]
        } else {
            &["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
        };
        let there: Vec<_> = files.iter().filter(|file| self.0.join(file).exists()).collect();
        assert!(!there.is_empty(), "{}", self.0.display());
        for file in there {
            self.set(&[(file, &bytes.to_string())]);
        }
        if self.0.join("memory.swap.max").exists() {
            self.set(&[("memory.swap.max", "0")]);
        }
    }

    /// Starts a service in it that can make no groups of its own, so that its microVMs stay in this one, as they do in a unit
    /// of systemd's with `ProtectControlGroups=`.
    fn start(&self, host: &TestHost, arguments: &[&str]) -> Service {
        const CONFINED: &str = r#"
            echo $$ > "$0/cgroup.procs" &&
            for mounted in $(awk '$5 ~ "^/sys/fs/cgroup" { print $5 }' /proc/self/mountinfo); do
                mount -o remount,bind,ro "$mounted" || exit 1
            done &&
            exec "$@""#;
        let group = self.0.to_str().unwrap();
        let command = Service::command(host, arguments);
        let mut command = Service::command_by("unshare", &["--mount", "sh", "-c", CONFINED, group], &command);
        Service::start_command(&mut command).unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let gone = eventually("the group is empty", PATIENCE, || fs::remove_dir(&self.0).is_ok());
        assert!(gone.is_ok() || thread::panicking(), "{}", self.0.display());
    }
}

#[test]
fn few_descriptors_are_shared_between_connections_and_microvms() {
    let host = TestHost::prepared().copy();
    let command = Service::command(&host, &[]);
    let mut command = Service::command_by("prlimit", &["--nofile=64:64"], &command);
    let service = Service::start_command(&mut command).unwrap();
    service.expect_logged(&[
        "fewer connections than api.max_connections are served",
        "raise the limit of open files",
    ]);
    service.wait_until_full().unwrap();
    // More than there are descriptors, and none says a word.
    let idle: Vec<_> = (0..100).map(|_| TcpStream::connect(service.address()).unwrap()).collect();
    let descriptors =
        || fs::read_dir(format!("/proc/{}/fd", service.running().process().id)).unwrap().count();
    eventually("those who may connect do", PATIENCE, || descriptors() >= 30).unwrap();
    assert!(descriptors() < 60, "{} descriptors", descriptors());
    drop(idle);
    let answers = thread::scope(|scope| {
        let asked: Vec<_> = (0..12).map(|_| scope.spawn(|| service.python("print('answered')"))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect::<Vec<_>>()
    });
    for answer in answers {
        // Of the many that may run at once some find no descriptor.
        match answer.status {
            200 => answer.expect_printed("answered\n"),
            _ => assert_eq!(
                (answer.status, answer.error().as_str()),
                (503, "E008: server busy: this host is out of file descriptors")
            ),
        }
    }
    service.wait_until_full().unwrap();
    service.python("print('well')").expect_printed("well\n");
    service.expect_clean_stop(&host);
}

#[test]
fn no_more_processes_are_told_and_waited_out() {
    let host = TestHost::prepared().copy();
    let service = Service::start(&host, &[]).unwrap();
    let tasks = Group::create("pids");
    tasks.set(&[("cgroup.procs", &service.running().process().id.to_string())]);
    service.wait_until_full().unwrap();
    tasks.set(&[("pids.max", "0")]);
    // The one that waits needs no new process.
    service.python("print('waited')").expect_printed("waited\n");
    let refused = service.python("print(1)");
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(refused.error(), "E008: server busy: this host is out of processes");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    service.expect_logged(&[refused.json()["trace_id"].as_str().unwrap(), "TasksMax="]);
    assert_eq!(service.get("/health").status, 200);
    tasks.set(&[("pids.max", "max")]);
    service.python("print('again')").expect_printed("again\n");
    service.wait_until_full().unwrap();
    service.expect_clean_stop(&host);
}

#[test]
fn memory_that_runs_out_costs_microvms_and_not_the_service() {
    const MIB: u64 = 1 << 20;
    const HOG: &str = "held = [bytearray(b'x' * (1 << 20)) for _ in range(300)]\nprint(len(held))";
    let host = TestHost::prepared().copy();
    let group = Group::create("memory");
    group.limit_memory(500 * MIB);
    let service = group.start(&host, &["--set", "pool.memory=8192"]);
    service.wait_until_full().unwrap();
    let waiting = service.vmms()[0].id;
    let preferred = fs::read_to_string(format!("/proc/{waiting}/oom_score_adj")).unwrap();
    assert_eq!(preferred.trim(), "1000");
    let answers = thread::scope(|scope| {
        let asked: Vec<_> = (0..3).map(|_| scope.spawn(|| service.python(HOG))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect::<Vec<_>>()
    });
    for answer in &answers {
        if answer.status == 500 {
            assert!(answer.error().starts_with("E010: internal error (trace id "), "{answer:?}");
            let trace_id = &answer.json()["trace_id"];
            let reason = "the VMM was killed by signal 9, as the kernel does where memory runs out";
            service.expect_logged(&[trace_id.as_str().unwrap(), reason]);
        } else {
            answer.expect_printed("300\n");
        }
    }
    assert!(answers.iter().any(|answer| answer.status == 500), "{answers:?}");
    service.python("print('goes on')").expect_printed("goes on\n");
    service.wait_until_full().unwrap();
    service.expect_clean_stop(&host);

    // Where nobody says how much there is for microVMs, it is what the group leaves.
    let service = group.start(&host, &[]);
    let limit = service.status("/memory_limit_mib");
    assert!((300..=500).contains(&limit), "{limit} MiB");
    service.expect_clean_stop(&host);
}

#[test]
fn a_command_waits_for_a_slot_also_where_no_file_can_be_watched() {
    // The first namespace's own users may watch nothing, and so may nobody in those beneath it: user_namespaces(7).
    const CONFINED: &str = "echo 0 > /proc/sys/user/max_inotify_instances && \
                            exec unshare --user --map-user=1000 --map-group=1000 \"$@\"";
    let host = TestHost::prepared().copy();
    let run = |code: &str| -> Command {
        let command = host.command(&["run", "--slots", "1", "--lang", "python", "--code", code]);
        let its = ["--user", "--map-root-user", "sh", "-c", CONFINED, "sh"];
        Service::command_by("unshare", &its, &command)
    };
    let first = Running::start(&mut run("import time\ntime.sleep(3)\nprint('first')"));
    eventually("it has the slot", PATIENCE, || {
        host.processes().unwrap().iter().any(|name| name.contains("qemu"))
    })
    .unwrap();
    let mut second = Running::start(&mut run("print('second')"));
    let hint = "raise fs.inotify.max_user_instances and fs.inotify.max_user_watches (sysctl)";
    second.wait_until_said(hint).unwrap();
    for (running, stdout) in [(first, "first"), (second, "second")] {
        let ended = running.end_within(PATIENCE).unwrap();
        assert!(ended.code == 0 && ended.stdout.contains(stdout), "{ended:?}");
    }
    assert_eq!(host.processes().unwrap(), Vec::<String>::new());
    assert_eq!(host.leftovers().unwrap(), Vec::<PathBuf>::new());
}
