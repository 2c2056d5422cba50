//! An answer says what the program wrote, how it ended and how long it took, whatever the program does.

use e2e::TestHost;
use serde_json::{Value, json};

const MIB: usize = 1 << 20;

/// Runs `code` once for each of `stdins`, in one microVM.
fn batch(code: &str, stdins: &[&str], timeout: f64) -> Vec<Value> {
    let host = TestHost::prepared();
    let request = json!({ "language": "python", "code": code, "stdin": stdins, "timeout": timeout });
    let (status, answer) = host.request(&request);
    assert_eq!(status, 0, "{answer}");
    let answers = answer.as_array().unwrap_or_else(|| panic!("no list: {answer}")).clone();
    assert_eq!(answers.len(), stdins.len());
    answers
}

/// The kept part of an answer that an assertion can show.
fn without_output(answer: &Value) -> Value {
    let mut answer = answer.clone();
    for stream in ["stdout", "stderr"] {
        if let Some(text) = answer[stream].as_str() {
            answer[stream] = json!(text.chars().take(200).collect::<String>());
        }
    }
    answer
}

#[test]
fn an_answer_has_the_pages_keys_with_values_of_their_kinds() {
    let host = TestHost::prepared();
    let (status, answer) = host.request(&json!({
        "language": "python",
        "code": "import sys, time\nprint('out', sys.stdin.read())\ntime.sleep(0.2)",
        "stdin": "in",
    }));
    assert_eq!(status, 0);
    let keys: Vec<_> = answer.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["exception", "executionTime", "exitCode", "status", "stderr", "stdout", "trace_id"]);
    assert_eq!(answer["status"], "success");
    assert_eq!(answer["stdout"], "out in\n");
    assert_eq!(answer["stderr"], Value::Null);
    assert_eq!(answer["exception"], Value::Null);
    assert_eq!(answer["exitCode"], 0);
    let millis = answer["executionTime"].as_u64().unwrap_or_else(|| panic!("no whole number: {answer}"));
    assert!((200..10_000).contains(&millis), "{millis} ms");
    let id = answer["trace_id"].as_str().unwrap();
    assert!(!id.is_empty() && id != host.python("pass")["trace_id"].as_str().unwrap(), "{id}");
}

#[test]
fn exit_codes_and_signals_are_told() {
    let code = "
import os, signal, sys
how, what = input().split()
print('before', flush=True)
if how == 'exit':
    sys.exit(int(what))
elif how == 'raise':
    raise ValueError(what)
os.kill(os.getpid(), getattr(signal, what))
signal.pause()
";
    let stdins = [
        "exit 0",
        "exit 3",
        "exit 255",
        "raise oops",
        "kill SIGKILL",
        "kill SIGTERM",
        "kill SIGSEGV",
        "kill SIGABRT",
    ];
    let answers = batch(code, &stdins, 30.0);
    let seen: Vec<_> =
        answers.iter().map(|answer| (answer["exitCode"].clone(), answer["exception"].clone())).collect();
    let killed = |signal: &str| (Value::Null, json!(format!("Killed: {signal}")));
    let exited = |code: u8| (json!(code), Value::Null);
    assert_eq!(
        seen,
        [
            exited(0),
            exited(3),
            exited(255),
            exited(1),
            killed("SIGKILL"),
            killed("SIGTERM"),
            killed("SIGSEGV"),
            killed("SIGABRT")
        ]
    );
    for answer in &answers {
        assert_eq!(answer["status"], "success");
        assert_eq!(answer["stdout"], "before\n", "what was written before a kill is delivered: {answer}");
    }
    assert!(answers[3]["stderr"].as_str().unwrap().ends_with("ValueError: oops\n"), "{}", answers[3]);
}

#[test]
fn a_timeout_ends_one_execution_delivers_its_output_and_leaves_the_later_ones() {
    let code = "
import subprocess, sys, time
print('started', flush=True)
print('and failing', file=sys.stderr, flush=True)
match input():
    case 'compute':
        while True: pass
    case 'sleep':
        time.sleep(1000)
    case 'wait for a child':
        subprocess.run(['sleep', '1000'])
print('ended')
";
    let answers = batch(code, &["compute", "sleep", "wait for a child", "nothing"], 2.0);
    for answer in &answers[..3] {
        assert_eq!(answer["exception"], "Timeout", "{answer}");
        assert_eq!(answer["exitCode"], Value::Null);
        assert_eq!(answer["stdout"], "started\n");
        assert_eq!(answer["stderr"], "and failing\n");
        let millis = answer["executionTime"].as_u64().unwrap();
        assert!((2000..10_000).contains(&millis), "{millis} ms");
    }
    assert_eq!(answers[3]["stdout"], "started\nended\n");
    assert_eq!(answers[3]["exception"], Value::Null);
}

#[test]
fn a_fork_bomb_ends_by_its_timeout_and_the_next_input_runs() {
    let code = "
import os
if input() == 'bomb':
    print('lit', flush=True)
    while True:
        try:
            os.fork()
        except OSError:
            pass
print('unharmed')
";
    let answers = batch(code, &["bomb", "nothing"], 3.0);
    assert_eq!(answers[0]["exception"], "Timeout", "{}", answers[0]);
    assert_eq!(answers[0]["stdout"], "lit\n");
    assert_eq!(answers[1]["stdout"], "unharmed\n", "{}", answers[1]);
    assert_eq!(answers[1]["exitCode"], 0);
}

#[test]
fn a_program_that_needs_too_much_memory_is_told_so_and_the_next_input_runs() {
    let code = "
import os
kind = input()
print('growing', flush=True)
if kind == 'alone':
    hoard = []
    while True: hoard.append(bytearray(8 << 20))
elif kind == 'child':
    if os.fork() == 0:
        hoard = []
        while True: hoard.append(bytearray(8 << 20))
    os.wait()
elif kind == 'files':
    with open('/tmp/a', 'wb') as a, open('/dev/shm/b', 'wb') as b:
        while True:
            a.write(bytes(1 << 20))
            b.write(bytes(1 << 20))
print('unharmed')
";
    let answers = batch(code, &["alone", "child", "files", "nothing"], 60.0);
    for answer in &answers[..3] {
        assert_eq!(answer["exception"], "MemoryLimitExceeded", "{answer}");
        assert_eq!(answer["exitCode"], Value::Null);
        assert_eq!(answer["stdout"], "growing\n");
    }
    assert_eq!(answers[3]["stdout"], "growing\nunharmed\n", "{}", answers[3]);
}

#[test]
fn each_stream_is_kept_up_to_one_mebibyte_and_the_program_goes_on_to_its_end() {
    let code = "
import os, sys
stream, other = (sys.stdout, sys.stderr) if input() == 'stdout' else (sys.stderr, sys.stdout)
stream.write('x' * (3 << 20))
stream.flush()
other.write('went on')
sys.exit(0)
";
    let answers = batch(code, &["stdout", "stderr"], 60.0);
    for (answer, stream, other) in [(&answers[0], "stdout", "stderr"), (&answers[1], "stderr", "stdout")] {
        let shown = without_output(answer);
        assert_eq!(answer[stream].as_str().unwrap().len(), MIB, "{shown}");
        assert_eq!(answer[other], "went on");
        assert_eq!(answer["exception"], "OutputLimitExceeded", "{shown}");
        assert_eq!(answer["exitCode"], 0, "{shown}");
        assert_eq!(answer["dropped"], json!({ stream: 2 * MIB, other: 0 }), "{shown}");
    }
}

#[test]
fn output_need_not_be_utf8_and_ends_in_at_most_one_newline() {
    let code = r"
import os
match input():
    case 'invalid': os.write(1, b'a\xff\xfeb\xc3')
    case 'cut': os.write(1, b'x'); [os.write(1, 'é'.encode() * 512) for _ in range(2000)]
    case 'nul': os.write(1, b'a\0b\r\n')
    case 'newlines': os.write(1, b'a\n\nb\n\n\n')
    case 'only newlines': os.write(1, b'\n\n')
    case 'no newline': os.write(1, b'a')
    case 'stderr': os.write(2, b'a\n\n')
";
    let stdins = ["invalid", "cut", "nul", "newlines", "only newlines", "no newline", "stderr"];
    let answers = batch(code, &stdins, 60.0);
    assert_eq!(answers[0]["stdout"], "a\u{fffd}\u{fffd}b\u{fffd}");
    let cut = answers[1]["stdout"].as_str().unwrap();
    assert_eq!(cut.len(), MIB - 1, "half a character is left out");
    assert!(cut.ends_with('é'));
    assert_eq!(answers[2]["stdout"], "a\0b\r\n");
    let newlines = |answer: &Value| (answer["stdout"].clone(), answer["trailingNewlinesOmitted"].clone());
    assert_eq!(newlines(&answers[3]), (json!("a\n\nb\n"), json!(2)));
    assert_eq!(newlines(&answers[4]), (json!("\n"), json!(1)));
    assert_eq!(newlines(&answers[5]), (json!("a"), Value::Null));
    assert_eq!(answers[6]["stderr"], "a\n\n");
}

/// Prints what a program sees of its surroundings, as JSON.
const SURROUNDINGS: &str = r"
import json, os, sys, tempfile
import helper, package.inner, schön
for directory in ('/tmp', '/var/tmp', '/dev/shm', '.'):
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        file.write(b'x')
        file.flush()
print(json.dumps({
    'file': __file__,
    'cwd': os.getcwd(),
    'argv': sys.argv,
    'files': sorted(os.listdir()),
    'helpers': [helper.VALUE, package.inner.VALUE, schön.VALUE],
    'data': open('größe 大.txt').read(),
    'network': sorted(line.split(':')[0].strip() for line in open('/proc/net/dev').readlines()[2:]),
    'stdin': sys.stdin.read(),
}))
";

#[test]
fn the_program_is_main_py_in_a_directory_of_its_own_with_its_files_and_without_a_network() {
    let host = TestHost::prepared();
    // Arguments make it a process of its own; without them it runs in the initialised interpreter.
    for args in [json!([]), json!(["one", "zwei ü", "", "-x"])] {
        let (_, answer) = host.request(&json!({
            "language": "python",
            "files": [
                { "name": "main.py", "content": SURROUNDINGS },
                { "name": "helper.py", "content": "VALUE = 1" },
                { "name": "package/inner.py", "content": "VALUE = 2" },
                { "name": "schön.py", "content": "VALUE = 3" },
                { "name": "größe 大.txt", "content": "inhalt ß" },
            ],
            "args": args,
        }));
        assert_eq!(answer["stderr"], Value::Null, "{answer}");
        let seen: Value = serde_json::from_str(answer["stdout"].as_str().unwrap()).unwrap();
        let directory = seen["cwd"].as_str().unwrap();
        let id = directory.strip_prefix("/tmp/job-").unwrap_or_else(|| panic!("{directory}"));
        assert!(!id.is_empty() && !id.contains('/'), "{directory}");
        assert!(
            [json!("main.py"), json!(format!("{directory}/main.py"))].contains(&seen["file"]),
            "__file__ is {}",
            seen["file"]
        );
        let mut argv = vec![json!("main.py")];
        argv.extend(args.as_array().unwrap().iter().cloned());
        assert_eq!(seen["argv"], json!(argv));
        let files = ["__pycache__", "größe 大.txt", "helper.py", "main.py", "package", "schön.py"];
        let listed: Vec<_> =
            seen["files"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert!(files.iter().all(|name| *name == "__pycache__" || listed.contains(name)), "{listed:?}");
        assert!(listed.iter().all(|name| files.contains(name)), "{listed:?}");
        assert_eq!(seen["helpers"], json!([1, 2, 3]));
        assert_eq!(seen["data"], "inhalt ß");
        assert_eq!(seen["network"], json!(["lo"]));
        assert_eq!(seen["stdin"], "");
    }
}

#[test]
fn the_inputs_of_a_batch_are_answered_in_order_and_share_no_files_and_no_processes() {
    let code = r"
import json, os, subprocess, sys
text = sys.stdin.read()
places = ('/tmp', '/var/tmp', '/dev/shm', '.', '/home')
found = [place for place in places if os.path.exists(f'{place}/trace')]
def sleepers():
    names = []
    for process in filter(str.isdigit, os.listdir('/proc')):
        try: names.append(open(f'/proc/{process}/comm').read().strip())
        except OSError: pass
    return names.count('sleep')
before = sleepers()
for place in places:
    try: open(f'{place}/trace', 'w').write(text)
    except OSError: pass
subprocess.Popen(['sleep', '1000'], start_new_session=True)
orphan = subprocess.run('sleep 1000 > /dev/null 2>&1 &', shell=True)
while sleepers() < 2: pass
print(json.dumps([text, found, before, sleepers(), os.path.exists('/tmp/trace')]))
";
    let stdins = ["first", "zweites ü\n", "", "last"];
    let answers = batch(code, &stdins, 60.0);
    for (answer, stdin) in answers.iter().zip(stdins) {
        assert_eq!(answer["stdin"], stdin, "{answer}");
        let seen: Value = serde_json::from_str(answer["stdout"].as_str().unwrap())
            .unwrap_or_else(|error| panic!("{error}: {answer}"));
        assert_eq!(seen, json!([stdin, [], 0, 2, true]), "{answer}");
    }
    let ids: Vec<_> = answers.iter().map(|answer| answer["trace_id"].as_str().unwrap()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "one request has one id: {ids:?}");
}

#[test]
fn programs_come_from_flags_files_and_stdin_alike() {
    let host = TestHost::prepared();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("greet.py");
    std::fs::write(&file, "print('Hello', input())").unwrap();
    let request = directory.path().join("request.json");
    std::fs::write(
        &request,
        json!({ "language": "py", "code": "print('Hello', input())", "stdin": "Ann" }).to_string(),
    )
    .unwrap();
    for arguments in [
        &["run", "--file", file.to_str().unwrap(), "--stdin", "Ann"][..],
        &["run", "--lang", "python3", "--code", "print('Hello', input())", "--stdin", "Ann"],
        &["run", "--request", request.to_str().unwrap()],
        &["host", "--lang", "python", "--file", file.to_str().unwrap(), "--stdin", "Ann", "--snapshot"],
        // Without a snapshot: a boot, of another size.
        &["host", "--lang", "python", "--file", file.to_str().unwrap(), "--stdin", "Ann", "--mem", "256"],
    ] {
        let ended = host.ended(arguments);
        assert_eq!(
            (ended.code, &ended.json()["stdout"]),
            (0, &json!("Hello Ann\n")),
            "{arguments:?}: {ended:?}"
        );
    }
}

#[test]
fn the_image_has_the_locale_that_its_environment_names_and_its_libraries_are_found() {
    let host = TestHost::prepared();
    let code = "import ctypes.util, locale, sys\n\
                print(locale.setlocale(locale.LC_ALL, ''), sys.flags.utf8_mode, ctypes.util.find_library('m'))";
    for command in ["run", "host"] {
        let answer = host.ended(&[command, "--lang", "python", "--code", code]).json();
        assert_eq!(answer["stdout"], "C.UTF-8 0 libm.so.6\n", "{command}: {answer}");
    }
}

#[test]
fn a_program_waits_for_its_own_server_by_name_as_on_any_machine() {
    let code = "import socket, threading, time
def serve():
    time.sleep(0.3)
    with socket.create_server(('localhost', 8000)) as server:
        server.accept()[0].sendall(b'up')
threading.Thread(target=serve).start()
while True:
    try:
        print(socket.create_connection(('localhost', 8000)).recv(2).decode())
        break
    except ConnectionRefusedError:
        time.sleep(0.05)";
    for answer in batch(code, &["", ""], 10.0) {
        assert_eq!(answer["stdout"], "up\n", "{answer}");
    }
}
