//! Many commands at the same time share the host's slots: each is answered with its own output, or told that there is
//! no room.

use std::{path::PathBuf, process::Command, time::Duration};

use e2e::{
    TestHost, eventually,
    running::{Running, unused_cgroups},
};
use rustix::process::Signal;
use serde_json::{Value, json};

const COMMANDS: usize = 200;

/// Enough for a busy machine without KVM, where each takes half a second of two processors.
const PATIENCE: Duration = Duration::from_secs(600);

#[test]
fn two_hundred_commands_at_the_same_time_each_get_their_own_answer() {
    let host = TestHost::prepared().copy();
    let before = unused_cgroups();
    let running: Vec<_> = (0..COMMANDS)
        .map(|number| {
            let code = format!("import os\nprint({number}, input(), open('/proc/uptime').read() != '')");
            let stdin = format!("stdin of {number}");
            let arguments =
                ["run", "--lang", "python", "--timeout", "60", "--code", &code, "--stdin", &stdin];
            Running::start(&mut host.command(&arguments))
        })
        .collect();
    for (number, command) in running.into_iter().enumerate() {
        let ended = command.end_within(PATIENCE).unwrap();
        assert_eq!(ended.code, 0, "{number}: {ended:?}");
        let answer = ended.json();
        assert_eq!(answer["stdout"], format!("{number} stdin of {number} True\n"));
        assert_eq!((&answer["exception"], &answer["exitCode"]), (&Value::Null, &json!(0)), "{answer}");
    }
    assert_eq!(host.processes().unwrap(), Vec::<String>::new());
    assert_eq!(host.leftovers().unwrap(), Vec::<PathBuf>::new());
    let left =
        || -> Vec<_> { unused_cgroups().into_iter().filter(|group| !before.contains(group)).collect() };
    eventually("the cgroups go", Duration::from_secs(10), || left().is_empty())
        .unwrap_or_else(|error| panic!("{error}: {:?}", left()));
}

#[test]
fn who_gets_no_slot_in_time_is_told_so() {
    let host = TestHost::prepared().copy();
    let limited = |command: &mut Command| {
        command.env("LLM_FIRECRACKER_SLOTS", "1").env("LLM_FIRECRACKER_SLOT_WAIT", "1");
    };
    let mut endless =
        host.command(&["run", "--lang", "python", "--timeout", "300", "--code", "while True: pass"]);
    limited(&mut endless);
    let holder = Running::start(&mut endless);
    holder.wait_for_busy_vmm(Duration::from_secs(1)).unwrap();
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let mut command = host.command(&["run", "--lang", "python", "--code", "print(1)"]);
            limited(&mut command);
            Running::start(&mut command)
        })
        .collect();
    for command in waiting {
        let ended = command.end_within(Duration::from_secs(15)).unwrap();
        assert_eq!(ended.code, 3, "{ended:?}");
        assert_eq!(ended.error(), "E001: operation timed out");
        assert!(ended.stderr.contains("all 1 slots were taken for 1 s"), "{ended:?}");
        assert!(
            ended.stderr.contains("hint: fewer at a time, or more slots: see LLM_FIRECRACKER_SLOTS"),
            "{ended:?}"
        );
    }
    // Killed without a chance to give it back, the holder has given it back.
    holder.signal(Signal::KILL);
    holder.end_within(Duration::from_secs(10)).unwrap();
    let mut command = host.command(&["run", "--lang", "python", "--code", "print(1)"]);
    limited(&mut command);
    let ended = Running::start(&mut command).end_within(Duration::from_secs(60)).unwrap();
    assert_eq!((ended.code, &ended.json()["stdout"]), (0, &json!("1\n")), "{ended:?}");
}
