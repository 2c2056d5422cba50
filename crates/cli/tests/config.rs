//! `infra.operator config` as users run it: what it prints, and how it ends.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

struct Ended {
    status: i32,
    stdout: String,
    stderr: String,
}

/// Runs the program with these variables and no others.
fn run(arguments: &[&str], variables: &[(&str, &Path)]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_infra-operator"));
    command.args(arguments).env_clear().env("LLM_FIRECRACKER_CONFIG", "/dev/null").envs(variables.to_vec());
    let output = command.output().expect("the program can be started");
    Ended {
        status: output.status.code().expect("no signal ended it"),
        stdout: String::from_utf8(output.stdout).expect("it prints UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("it prints UTF-8"),
    }
}

/// A file with this text, in a directory that goes with the first of the two.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let path = directory.path().join("config.toml");
    std::fs::write(&path, text).expect("a file can be written");
    (directory, path)
}

#[test]
fn check_tells_every_fault_and_ends_with_2_or_says_ok() {
    let (_directory, path) = file("[api]\nprot = 1\n[pool]\nmaximum = -1\n");
    let told = path.to_str().unwrap();
    let ended = run(&["config", "check", told], &[]);
    let expected = format!(
        "{told}:2: api.prot: there is no such key (did you mean api.port?)\n{told}:4: pool.maximum: -1 is not \
         allowed: give a whole number from 0 to 10000\n"
    );
    assert_eq!((ended.status, ended.stdout), (2, expected));

    let ended = run(&["config", "check", "--json", "--config", told], &[]);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((ended.status, &report["ok"], &report["file"]), (2, &json!(false), &json!(told)));
    assert_eq!(
        (&report["faults"][1]["line"], &report["faults"][1]["key"]),
        (&json!(4), &json!("pool.maximum"))
    );

    std::fs::write(&path, "[api]\nport = 1\n").unwrap();
    let ended = run(&["config", "check", told], &[("LLM_FIRECRACKER_SLOT", Path::new("1"))]);
    assert_eq!((ended.status, ended.stdout), (0, format!("ok: {told}\n")));
    assert!(ended.stderr.starts_with("warning: environment LLM_FIRECRACKER_SLOT: "), "{}", ended.stderr);
    assert!(ended.stderr.contains("did you mean LLM_FIRECRACKER_SLOTS?"), "{}", ended.stderr);

    assert_eq!(run(&["config", "check", "/nowhere.toml"], &[]).status, 2);
}

#[test]
fn show_tells_each_value_with_where_it_comes_from() {
    let (_directory, path) = file("\n[pool]\nminimum = 2\nmaximum = 3\n");
    let variables = [("LLM_FIRECRACKER_POOL_MAXIMUM", Path::new("4")), ("LLM_FIRECRACKER_CONFIG", &path)];
    let ended =
        run(&["config", "show", "pool", "data", "--data-dir", "/a", "--set", "pool.running=5"], &variables);
    let told: Vec<String> =
        ended.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let of_file = format!("pool.minimum 2 {}:3", path.display());
    let expected = [
        "KEY VALUE FROM",
        "data.directory \"/a\" flag --data-dir",
        "pool.memory \"auto\" default",
        &of_file,
        "pool.maximum 4 environment LLM_FIRECRACKER_POOL_MAXIMUM",
        "pool.running 5 flag --set",
        "pool.starting \"auto\" default",
        "pool.warm_up \"auto\" default",
    ];
    assert_eq!(told, expected);
    let ended = run(&["config", "show", "--json", "queue"], &[]);
    let rows: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(rows[0], json!({ "key": "queue.length", "value": 1000, "origin": "default" }));
    let ended = run(&["config", "show", "quue"], &[]);
    assert_eq!(ended.status, 2);
    assert!(ended.stderr.contains("hint: did you mean queue?"), "{}", ended.stderr);
}

#[test]
fn a_configuration_at_fault_stops_other_commands_but_no_completions() {
    let (_directory, path) = file("[api]\nport = 99999\n[loq]\n");
    let told = path.to_str().unwrap();
    for command in [&["config", "show"][..], &["rootfs", "list"]] {
        let ended = run(&[command, &["--config", told]].concat(), &[]);
        assert_eq!((ended.status, ended.stdout.as_str()), (2, ""), "{command:?}");
        assert!(ended.stderr.starts_with("error: the configuration has 2 faults:"), "{}", ended.stderr);
    }
    assert_eq!(run(&["completions", "bash", "--config", told], &[]).status, 0);
    assert_eq!(run(&["config", "reference", "--config", told], &[]).status, 0);
}

#[test]
fn commands_heed_the_file() {
    let data = tempfile::tempdir().unwrap();
    let (_directory, path) = file(&format!("[data]\ndirectory = \"{}\"\n", data.path().display()));
    std::fs::create_dir(data.path().join("images")).unwrap();
    std::fs::write(data.path().join("images/rootfs-python.ext4"), "no image").unwrap();
    let ended = run(&["rootfs", "list", "--json", "--config", path.to_str().unwrap()], &[]);
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    assert!(ended.stdout.contains(data.path().to_str().unwrap()), "{}", ended.stdout);
}
