//! Output that is streamed and files that are returned, on real microVMs.

use std::{
    io::{Read as _, Write as _},
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use e2e::{
    TestHost, eventually,
    load::{
        client::{Connection, Target},
        programs, streaming,
    },
    service::Service,
};
use engine::{
    Answer, Exception, Languages, Request, Start,
    live::{Event, Input, Live},
};
use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;
use vmm::MachineSpec;

const PATIENCE: Duration = Duration::from_secs(60);

fn target(service: &Service) -> Target {
    Target { address: service.address(), token: None }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}

#[test]
fn output_arrives_while_the_program_runs_and_the_answer_is_that_of_a_request_without_a_stream() {
    let host = TestHost::prepared().copy();
    let service = Service::start(&host, &[]).unwrap();
    let code = "import sys, time\nprint('ä' * 3, flush=True)\ntime.sleep(1)\nprint('e', file=sys.stderr)\n\
                print(input())\nopen('a.txt', 'w').write('left')\nsys.exit(3)";
    let request = json!({ "language": "python", "code": code, "stdin": "Alice", "fetch": ["*.txt"] });
    for path in ["/api/v1/run", "/api/v1/execute"] {
        let events = block_on(async {
            let mut connection = Connection::open(&target(&service)).await.unwrap();
            connection.stream(path, &request).await.unwrap().rest().await.unwrap()
        });
        let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
        assert_eq!(names, ["started", "stdout", "stderr", "stdout", "result"], "{events:?}");
        assert_eq!(events[1].data["text"], "äää\n");
        assert!(events[4].arrived - events[1].arrived > Duration::from_millis(900), "{events:?}");
        let (mut plain, mut streamed) = (service.post(path, &request).json(), events[4].data.clone());
        for answer in [&mut plain, &mut streamed] {
            for varies in ["trace_id", "executionTime", "exec_time", "load_time"] {
                answer.as_object_mut().unwrap().remove(varies);
            }
        }
        assert_eq!(plain, streamed);
        assert_eq!(plain["files"][0]["content"], BASE64_STANDARD.encode("left"));
    }
    let batch = json!({ "language": "python", "code": "print(input())", "stdin": ["a", "b"] });
    let events = block_on(async {
        let mut connection = Connection::open(&target(&service)).await.unwrap();
        connection.stream("/api/v1/run", &batch).await.unwrap().rest().await.unwrap()
    });
    let chunks: Vec<&Value> =
        events.iter().filter(|event| event.name == "stdout").map(|event| &event.data).collect();
    assert_eq!(chunks, [&json!({ "index": 0, "text": "a\n" }), &json!({ "index": 1, "text": "b\n" })]);
    assert_eq!(service.stop().unwrap().code, 0);
}

#[test]
fn a_stream_begins_soon_and_costs_no_memory() {
    let host = TestHost::prepared().copy();
    let service = Service::start(&host, &[]).unwrap();
    let process = service.running().process();
    let measured = block_on(streaming::measure(&target(&service), &process, 5, 24 << 20)).unwrap();
    // What it is on a quiet host stands in docs/performance.md: here it shall not be another order of magnitude.
    assert!(measured.first_byte.median() < Duration::from_millis(100), "{measured:?}");
    assert!(measured.service < 20_000_000 && measured.all < 20_000_000, "{measured:?}");
    assert_eq!(service.stop().unwrap().code, 0);
}

#[test]
fn a_program_waits_for_who_reads_slowly_and_ends_in_time_where_nobody_does() {
    let host = TestHost::prepared().copy();
    let service = Service::start(&host, &[]).unwrap();
    service.wait_until_full().unwrap();
    let process = service.running().process();
    let before = process.resident_bytes().unwrap();
    let code = "import sys\nwhile True: sys.stdout.buffer.write(b'x' * 65536)";
    let request = json!({ "language": "python", "code": code, "timeout": 4 }).to_string();
    let mut stream = std::net::TcpStream::connect(service.address()).unwrap();
    write!(
        stream,
        "POST /api/v1/run HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{request}",
        request.len()
    )
    .unwrap();
    let since = Instant::now();
    let mut head = [0; 512];
    stream.read_exact(&mut head).unwrap();
    eventually("the program has run for a while", PATIENCE, || since.elapsed() > Duration::from_secs(3))
        .unwrap();
    let grown = process.resident_bytes().unwrap().saturating_sub(before);
    assert!(grown < 20_000_000, "{grown} bytes");
    // Its time passes while it waits. What was on its way comes once it is taken, and then the result.
    eventually("its time is over", PATIENCE, || since.elapsed() > Duration::from_secs(6)).unwrap();
    let mut rest = Vec::new();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.read_to_end(&mut rest).unwrap();
    let rest = String::from_utf8(rest).unwrap();
    let (_, result) = rest.rsplit_once("event: result\ndata: ").expect("a result at the end");
    assert!(result.contains(r#""exception":"Timeout""#), "{}", &result[result.len().saturating_sub(300)..]);
    assert!(rest.len() < 40_000_000, "{} bytes of a program that nobody read", rest.len());
    assert_eq!(service.stop().unwrap().code, 0);
}

#[test]
fn a_client_that_reads_nothing_keeps_no_microvm() {
    let host = TestHost::prepared().copy();
    let service = Service::start(&host, &[]).unwrap();
    let code = "import sys\nwhile True: sys.stdout.buffer.write(b'x' * 65536)";
    let request = json!({ "language": "python", "code": code, "timeout": 1 }).to_string();
    let mut stream = std::net::TcpStream::connect(service.address()).unwrap();
    write!(
        stream,
        "POST /api/v1/run HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{request}",
        request.len()
    )
    .unwrap();
    eventually("it runs", PATIENCE, || service.status("/running") == 1).unwrap();
    // The program's time, and what the host waits for a report; the connection itself may stand for longer.
    eventually("its microVM is ended", Duration::from_secs(50), || service.status("/running") == 0).unwrap();
    drop(stream);
    assert_eq!(service.stop().unwrap().code, 0);
}

#[test]
fn a_stream_without_output_says_that_it_lives() {
    let host = TestHost::prepared().copy();
    let service = Service::start(&host, &[]).unwrap();
    let request = json!({ "language": "python", "code": "import time\ntime.sleep(11)", "timeout": 60 });
    block_on(async {
        let mut connection = Connection::open(&target(&service)).await.unwrap();
        let mut events = connection.stream(programs::PATH, &request).await.unwrap();
        while events.next().await.unwrap().unwrap().name != "result" {}
        assert!(events.heartbeats() >= 1);
        assert!(events.next().await.unwrap().is_none(), "the result is the last event");
    });
    assert_eq!(service.stop().unwrap().code, 0);
}

#[test]
fn who_goes_away_from_a_stream_ends_its_program() {
    let host = TestHost::prepared().copy();
    let service = Service::start(&host, &[]).unwrap();
    let code = "import time\nwhile True:\n    print('x', flush=True)\n    time.sleep(0.05)";
    let request = json!({ "language": "python", "code": code, "timeout": 300 });
    block_on(async {
        let mut connection = Connection::open(&target(&service)).await.unwrap();
        let mut events = connection.stream(programs::PATH, &request).await.unwrap();
        while events.next().await.unwrap().unwrap().name != "stdout" {}
        assert_eq!(service.status("/running"), 1);
    });
    eventually("nothing runs", PATIENCE, || service.status("/running") == 0).unwrap();
    assert_eq!(service.stop().unwrap().code, 0);
}

#[test]
fn files_and_images_come_back_and_nothing_else() {
    let host = TestHost::prepared().copy();
    let service = Service::start(&host, &[]).unwrap();
    let code = r"
import os, struct, zlib
chunk = lambda kind, data: struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
png = b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 1, 1, 8, 2, 0, 0, 0)) \
    + chunk(b'IDAT', zlib.compress(b'\0\xff\0\0')) + chunk(b'IEND', b'')
os.makedirs('plots')
open('plots/red.png', 'wb').write(png)
open('fake.png', 'w').write('<script>')
open('table.csv', 'w').write('a,b')
open('big.bin', 'wb').truncate(5 << 20)
os.symlink('/etc/passwd', 'passwd.csv')
os.symlink('/', 'root')
os.mkfifo('fifo.csv')
print(input())
";
    let fetch = json!(["**/*.png", "./*.csv", "big.bin", "root/etc/passwd", "absent"]);
    let request = json!({ "language": "python", "code": code, "stdin": ["1", "2"], "fetch": fetch });
    let answers = service.post("/api/v1/run", &request).json();
    for answer in answers.as_array().unwrap() {
        let files = answer["files"].as_array().unwrap();
        let kinds: Vec<_> = files.iter().map(|file| (&file["name"], &file["media_type"])).collect();
        let named = |name: &str, kind: &str| (json!(name), json!(kind));
        let expected = [
            named("fake.png", "application/octet-stream"),
            named("plots/red.png", "image/png"),
            named("table.csv", "text/csv"),
        ];
        assert_eq!(kinds, expected.iter().map(|(name, kind)| (name, kind)).collect::<Vec<_>>(), "{answer}");
        let png = BASE64_STANDARD.decode(files[1]["content"].as_str().unwrap()).unwrap();
        assert_eq!(files[1]["size"], png.len());
        assert!(png.starts_with(b"\x89PNG"));
        let omitted = json!([
            { "name": "big.bin", "size": 5 << 20, "reason": "too_large" },
            { "name": "root/etc/passwd", "size": 0, "reason": "unreadable" },
        ]);
        assert_eq!(answer["files_omitted"], omitted, "{answer}");
    }
    let plain = service.python("open('a.png', 'w')").json();
    assert!(plain.get("files").is_none(), "{plain}");
    assert_eq!(service.stop().unwrap().code, 0);
}

#[test]
fn the_command_shows_output_as_it_is_written() {
    let host = TestHost::prepared().copy();
    let code = "import sys, time\nprint('first', flush=True)\nsys.stderr.write('error\\n')\ntime.sleep(2)\n\
                print('last')\nsys.exit(3)";
    let run = ["run", "--lang", "python", "--code", code, "--stream"];
    let mut command = host.command(&run);
    let mut child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut first = [0; 6];
    stdout.read_exact(&mut first).unwrap();
    let since = Instant::now();
    assert_eq!(&first, b"first\n");
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "last\n");
    assert!(since.elapsed() > Duration::from_millis(1800), "{:?}", since.elapsed());
    let ended = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(ended.stderr).unwrap();
    assert!(stderr.contains("error\n") && stderr.contains("exit status 3 after 2."), "{stderr}");
    assert_eq!(ended.status.code(), Some(0), "it ran: how it ended is the program's business");

    let ended = host.ended(&[&run[..], &["--json", "--fetch", "*.py"]].concat());
    let events: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["started", "stdout", "stderr", "stdout", "result"], "{ended:?}");
    assert_eq!(events[1]["data"], json!({ "index": 0, "text": "first\n" }));
    assert_eq!(events[4]["data"]["exitCode"], 3);
    assert_eq!(events[4]["data"]["files"][0]["name"], "main.py");
}

/// Waits until the program has written `text`.
async fn written(events: &mut Receiver<Event>, text: &str) {
    let mut seen = String::new();
    while !seen.ends_with(text) {
        let event = tokio::time::timeout(PATIENCE, events.recv()).await.expect("in time").expect("an event");
        if let Event::Output(output) = event {
            seen.push_str(std::str::from_utf8(&output.bytes.0).unwrap());
        }
    }
}

#[test]
fn an_interactive_program_gets_input_and_signals_while_it_runs() {
    let host = TestHost::prepared().copy();
    let engine = host.engine();
    let request = |code: &str| {
        let request =
            json!({ "language": "python", "code": code, "stdin": "begin\n", "timeout": 60 }).to_string();
        let mut request = Request::from_json(request.as_bytes(), &Languages::built_in()).unwrap();
        request.usage = true;
        request
    };
    let machine = MachineSpec { memory_mib: 512, vcpus: 1 };
    let echo = request("import sys\nfor line in sys.stdin: print('got', line, end='', flush=True)");
    let ended = block_on(async {
        let (mut live, mut events, input) = Live::interactive();
        let talk = async {
            written(&mut events, "got begin\n").await;
            input.send(Input::Bytes(b"Alice\n".to_vec())).await.unwrap();
            written(&mut events, "got Alice\n").await;
            input.send(Input::End).await.unwrap();
        };
        tokio::join!(engine.run(&echo, machine, Start::Snapshot, "echo", Some(&mut live)), talk).0
    });
    let Answer::One(answer) = ended.unwrap().answer else { panic!("one answer to one stdin") };
    assert_eq!((answer.stdout.as_str(), answer.exit_code), ("got begin\ngot Alice\n", Some(0)));
    let usage = answer.usage.unwrap();
    assert!(usage.cpu_micros > 0 && usage.peak_memory_bytes > 1 << 20, "{usage:?}");

    let waits = request("import time\nprint('ready', flush=True)\nwhile True: time.sleep(1)");
    let ended = block_on(async {
        let (mut live, mut events, input) = Live::interactive();
        let talk = async {
            written(&mut events, "ready\n").await;
            // More than the program, which reads none of it, has room for: a signal comes through all the same.
            input.send(Input::Bytes(vec![b'x'; 500_000])).await.unwrap();
            input.send(Input::Signal(15)).await.unwrap();
        };
        tokio::join!(engine.run(&waits, machine, Start::Snapshot, "waits", Some(&mut live)), talk).0
    });
    let Answer::One(answer) = ended.unwrap().answer else { panic!("one answer to one stdin") };
    assert_eq!(answer.exception, Some(Exception::Killed(15)));
}
