//! What cannot be run is refused: JSON on stdout, an exit status that says whose fault it is, a hint on stderr.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use e2e::{TestHost, running::Ended};
use serde_json::{Value, json};

/// The request is wrong.
const USAGE: i32 = 2;
/// This host cannot do it.
const HOST: i32 = 3;

/// Runs `command` with this stdin.
fn with_stdin(command: &mut Command, stdin: &[u8]) -> Ended {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may end without reading all of it.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    Ended::new(&child.wait_with_output().unwrap())
}

fn request(text: &[u8]) -> Ended {
    let host = TestHost::empty();
    let ended = with_stdin(&mut host.command(&["run", "--request", "-"]), text);
    assert!(!host.data().exists(), "a request that is refused leaves nothing on the disk");
    ended
}

fn refused(ended: &Ended, error: &str) {
    assert_eq!(ended.code, USAGE, "{ended:?}");
    let answer = ended.json();
    let keys: Vec<_> = answer.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["error", "status", "trace_id"]);
    assert_eq!(ended.error(), error);
    assert!(answer["trace_id"].as_str().is_some_and(|id| !id.is_empty()), "{answer}");
}

fn python(fields: &Value) -> Value {
    let mut request = json!({ "language": "python", "code": "print(1)" });
    for (key, value) in fields.as_object().unwrap() {
        request[key] = value.clone();
    }
    request
}

#[test]
fn a_stdin_beyond_a_million_bytes_is_e005() {
    let long = "x".repeat(1_000_001);
    refused(&request(python(&json!({ "stdin": long })).to_string().as_bytes()), "E005: stdin too long");
    refused(&request(python(&json!({ "stdin": ["", long] })).to_string().as_bytes()), "E005: stdin too long");
    // Bytes count, not characters.
    let long = "ä".repeat(500_001);
    refused(&request(python(&json!({ "stdin": long })).to_string().as_bytes()), "E005: stdin too long");
}

#[test]
fn an_unknown_language_is_e006() {
    let unknown = json!({ "language": "cobol", "code": "1" });
    refused(&request(unknown.to_string().as_bytes()), "E006: unsupported language cobol");
    let traversal = json!({ "language": "../../etc", "code": "1" });
    refused(&request(traversal.to_string().as_bytes()), "E006: unsupported language ../../etc");
    let host = TestHost::empty();
    for command in ["run", "host"] {
        let ended = host.ended(&[command, "--lang", "cobol", "--code", "1"]);
        refused(&ended, "E006: unsupported language cobol");
    }
    for arguments in [["rootfs", "create"], ["snapshot", "create"], ["snapshot", "rm"]] {
        let ended = host.ended(&[arguments[0], arguments[1], "--lang", "cobol"]);
        assert_eq!((ended.code, ended.stdout.as_str()), (USAGE, ""), "{ended:?}");
        assert!(ended.stderr.contains("E006: unsupported language cobol"), "{ended:?}");
        assert!(ended.stderr.contains("hint: there are: python"), "{ended:?}");
    }
}

#[test]
fn a_request_with_a_fault_is_e007_and_the_fault_is_named() {
    let file = |name: &str| json!({ "files": [{ "name": "main.py", "content": "" }, { "name": name, "content": "" }] });
    let with_files = |files: &Value| json!({ "language": "python", "files": files["files"] });
    for (request_, reason) in [
        (json!({ "code": "1" }), "missing field `language`"),
        (json!({ "language": 7, "code": "1" }), "language: invalid type: integer `7`, expected a string"),
        (json!({ "language": "python" }), "files: missing (or code, for a single file)"),
        (
            python(&json!({ "colour": "red" })),
            "colour: unknown field `colour`, expected one of `language`, `stdin`, `files`, `code`, `args`, `timeout`, `memory_mb`, `fetch`",
        ),
        (
            python(&json!({ "files": [{ "name": "main.py", "content": "" }] })),
            "files and code: only one of them may be given",
        ),
        (python(&json!({ "code": 5 })), "code: invalid type: integer `5`, expected a string"),
        (python(&json!({ "stdin": 5 })), "stdin: a string or a list of strings"),
        (python(&json!({ "stdin": [] })), "stdin: an empty list"),
        (python(&json!({ "stdin": vec![""; 1001] })), "stdin: 1001 of them, at most 1000 are allowed"),
        (
            python(&json!({ "stdin": vec!["x".repeat(900_000); 10] })),
            "stdin: at most 8388608 bytes are allowed together",
        ),
        (python(&json!({ "args": ["a\0"] })), "args[0]: holds a NUL"),
        (python(&json!({ "args": vec![""; 257] })), "args: 257 of them, at most 256 are allowed"),
        (python(&json!({ "args": ["x".repeat(70_000)] })), "args: at most 65536 bytes are allowed together"),
        (python(&json!({ "timeout": 0.5 })), "timeout: 0.5 is not within 1 to 300 seconds"),
        (python(&json!({ "timeout": 301 })), "timeout: 301 is not within 1 to 300 seconds"),
        (python(&json!({ "timeout": -1 })), "timeout: -1 is not within 1 to 300 seconds"),
        (
            python(&json!({ "code": "#".repeat((8 << 20) + 1) })),
            "files: 8388609 bytes, at most 8388608 are allowed together",
        ),
        (json!({ "language": "python", "files": [] }), "files: an empty list"),
        (
            json!({ "language": "python", "files": [{ "name": "a.py", "content": "" }] }),
            "files: \"main.py\" is missing: it is the program",
        ),
        (
            json!({ "language": "python", "files": [{ "name": "main.py", "content": "", "mode": 7 }] }),
            "files[0].mode: unknown field `mode`, expected `name` or `content`",
        ),
        (with_files(&file("../up")), "files[1].name: \"../up\" has a part \"..\""),
        (with_files(&file("/etc/passwd")), "files[1].name: \"/etc/passwd\" is absolute"),
        (with_files(&file("a//b")), "files[1].name: \"a//b\" has an empty part"),
        (with_files(&file("")), "files[1].name: empty"),
        (with_files(&file("a\0b")), "files[1].name: holds a NUL"),
        (with_files(&file("main.py")), "files[1].name: \"main.py\" is there twice"),
        (with_files(&file("main.py/x")), "files[1].name: \"main.py\" is a file and a directory"),
        (with_files(&file(&"x".repeat(256))), "files[1].name: longer than 255 bytes"),
    ] {
        refused(&request(request_.to_string().as_bytes()), &format!("E007: invalid request: {reason}"));
    }
}

#[test]
fn what_is_no_json_is_e007() {
    for text in [
        &b""[..],
        b"  \n",
        b"print(1)",
        b"{",
        b"[]",
        b"null",
        b"{\"language\": \"python\", \"code\": \"1\"} {}",
        b"{\"language\": \"python\", \"code\": \"1\", \"code\": \"2\"}",
        b"{\"language\": \"python\", \"code\": \"\xff\"}",
        b"{\"language\": \"python\", \"code\": \"\\ud800\"}",
        b"{\"language\": \"python\", \"code\": \"1\", \"timeout\": NaN}",
        "[".repeat(100_000).as_bytes(),
    ] {
        let ended = request(text);
        assert_eq!(ended.code, USAGE, "{ended:?}");
        assert!(ended.error().starts_with("E007: invalid request: "), "{ended:?}");
        assert!(ended.error().len() < 300, "{ended:?}");
    }
}

#[test]
fn flags_are_checked_like_requests() {
    let host = TestHost::empty();
    for (timeout, shown) in [("0", "0"), ("301", "301"), ("NaN", "NaN"), ("inf", "inf"), ("0.99", "0.99")] {
        let ended = host.ended(&["host", "--lang", "python", "--code", "1", "--timeout", timeout]);
        refused(&ended, &format!("E007: invalid request: timeout: {shown} is not within 1 to 300 seconds"));
    }
    for arguments in [
        &["host", "--lang", "python", "--code", "1", "--timeout", "soon"][..],
        &["host", "--lang", "python", "--code", "1", "--mem", "1"],
        &["host", "--lang", "python", "--code", "1", "--vcpus", "0"],
        &["host", "--lang", "python"],
        &["run", "--code", "1"],
        &["run", "--request", "x", "--code", "1"],
        &["run", "--request", "/nonexistent/request.json"],
        &["run", "--file", "/nonexistent/main.py"],
        &["run", "--lang", "python", "--file", "/"],
        &["walk"],
        &[],
    ] {
        let ended = host.ended(arguments);
        assert_eq!(ended.code, USAGE, "{arguments:?}: {ended:?}");
        assert_eq!(ended.stdout, "", "{arguments:?}: {ended:?}");
        assert!(!ended.stderr.is_empty(), "{arguments:?}");
    }
    let missing = host.ended(&["run", "--request", "/nonexistent/request.json"]);
    assert!(missing.stderr.contains("cannot read /nonexistent/request.json: No such file"), "{missing:?}");
    assert!(!host.data().exists());
}

#[test]
fn a_language_that_is_not_prepared_is_e009_and_the_command_that_helps_is_named() {
    let host = TestHost::empty();
    let not_prepared = |arguments: &[&str], command: &str| {
        let (ended, command) = (host.ended(arguments), host.typed(command));
        assert_eq!(ended.code, HOST, "{ended:?}");
        assert_eq!(ended.error(), format!("E009: language not prepared: python (run: {command})"));
        assert!(ended.stderr.contains(&format!("hint: run: {command}\n")), "{ended:?}");
    };
    let boot = ["host", "--lang", "python", "--code", "1"];
    not_prepared(&boot, "infra.operator rootfs create --lang python");
    not_prepared(&["run", "--lang", "python", "--code", "1"], "infra.operator rootfs create --lang python");
    fs::create_dir_all(host.data().join("images")).unwrap();
    fs::write(host.image(), "an image").unwrap();
    not_prepared(&boot, "infra.operator setup");
    not_prepared(
        &["host", "--lang", "py", "--code", "1", "--snapshot", "--mem", "256", "--vcpus", "2"],
        "infra.operator snapshot create --lang python --mem 256 --vcpus 2",
    );
    let create = host.ended(&["snapshot", "create", "--lang", "python"]);
    assert_eq!((create.code, create.stdout.as_str()), (HOST, ""), "{create:?}");
    assert!(create.stderr.contains("is not an ext4 image\nhint: create or download"), "{create:?}");
    assert_eq!(host.leftovers().unwrap(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn stdout_holds_json_and_nothing_else_however_much_is_told_about_the_work() {
    let host = TestHost::prepared();
    let ended = host.ended(&["-vv", "run", "--lang", "python", "--code", "print('out')"]);
    assert_eq!(ended.json()["stdout"], "out\n");
    assert!(ended.stderr.contains("ran"), "-vv says nothing: {ended:?}");
    let mut command = host.command(&["-v", "run", "--lang", "python", "--code", "print('out')"]);
    let ended = Ended::new(&command.env("LLM_FIRECRACKER_LOG", "trace").output().unwrap());
    assert_eq!(ended.json()["stdout"], "out\n");
    let ended = TestHost::empty().ended(&["-vv", "run", "--lang", "python", "--code", "print('out')"]);
    assert!(ended.error().starts_with("E009: "), "{ended:?}");
    let ended = host.ended(&["-vv", "snapshot", "list", "--json"]);
    assert!(ended.json().is_array(), "{ended:?}");
}
