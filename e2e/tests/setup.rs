//! `setup` installs Firecracker from a server or from files of this host, whole and verified, or not at all.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use e2e::{
    TestHost, eventually,
    running::{Ended, Running},
};
use images::Sha256Digest;
use rustix::process::Signal;

/// The command line is wrong.
const USAGE: i32 = 2;
/// This host cannot do it.
const HOST: i32 = 3;

/// How long a command may take to end, on a busy machine.
const SECONDS: Duration = Duration::from_secs(30);

const FIRECRACKER_ALONE: [&str; 3] = ["setup", "--skip-packages", "--skip-kernel"];

/// A server that has a release at `/good`, nothing at `/missing`, and never answers for anything else.
struct Mirror {
    address: String,
    requests: Arc<AtomicUsize>,
}

impl Mirror {
    fn start(archive: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let archive = archive.clone();
                counter.fetch_add(1, Ordering::SeqCst);
                // The client may go away at any time.
                thread::spawn(move || drop(answer(stream, &archive)));
            }
        });
        Self { address, requests }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn answer(mut stream: TcpStream, archive: &[u8]) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let head = |status: &str, length| {
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
    };
    match request.split(' ').nth(1) {
        Some("/good") => {
            stream.write_all(head("200 OK", archive.len()).as_bytes())?;
            stream.write_all(archive)
        }
        Some("/missing") => stream.write_all(head("404 Not Found", 0).as_bytes()),
        // Until the client closes the connection.
        _ => stream.read(&mut [0]).map(drop),
    }
}

fn script(name: &str, version: &str) -> String {
    format!("#!/bin/sh\necho '{name} v{version}'\n")
}

/// A release's archive, made with the host's tar.
fn release(version: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join(format!("release-v{version}-x86_64"));
    fs::create_dir(&place).unwrap();
    for (file, name) in [("firecracker", "Firecracker"), ("jailer", "Jailer")] {
        fs::write(place.join(format!("{file}-v{version}-x86_64")), script(name, version)).unwrap();
    }
    let archive = directory.path().join("release.tgz");
    let status = std::process::Command::new("tar")
        .args(["-czf", archive.to_str().unwrap(), "-C", directory.path().to_str().unwrap()])
        .arg(place.file_name().unwrap())
        .status()
        .unwrap();
    assert!(status.success());
    fs::read(archive).unwrap()
}

fn setup(host: &TestHost, arguments: &[&str]) -> Ended {
    host.ended(&[&FIRECRACKER_ALONE[..], arguments].concat())
}

fn installed(host: &TestHost) -> String {
    fs::read_to_string(host.data().join("bin/firecracker")).unwrap()
}

fn nothing_is_left(host: &TestHost) {
    assert_eq!(host.leftovers().unwrap(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_release_is_installed_from_a_mirror_once_and_stays_where_another_fails() {
    let archive = release("1.16.1");
    let digest = Sha256Digest::of_bytes(&archive).to_string();
    let mirror = Mirror::start(archive);
    let host = TestHost::empty();
    let (good, missing) = (mirror.url("good"), mirror.url("missing"));
    for _ in 0..2 {
        let ended = setup(&host, &["--release-url", &good, "--release-sha256", &digest]);
        assert_eq!((ended.code, ended.stdout.as_str()), (0, ""), "{ended:?}");
        assert_eq!(mirror.requests(), 1, "the second time there is nothing to do");
    }
    assert_eq!(installed(&host), script("Firecracker", "1.16.1"));

    let ended = setup(&host, &["--release-url", &missing]);
    assert_eq!(ended.code, HOST, "{ended:?}");
    assert!(ended.stderr.contains(&format!("error: cannot download {missing}: ")), "{ended:?}");
    assert!(ended.stderr.contains("hint: "), "{ended:?}");
    // Not the archive that this program knows.
    let ended = setup(&host, &["--release-url", &good]);
    assert_eq!(ended.code, HOST, "{ended:?}");
    assert!(ended.stderr.contains(&format!("its SHA-256 is {digest}, not ")), "{ended:?}");
    assert_eq!(installed(&host), script("Firecracker", "1.16.1"));
    nothing_is_left(&host);
}

#[test]
fn an_interrupt_during_a_download_leaves_nothing() {
    let mirror = Mirror::start(Vec::new());
    let host = TestHost::empty();
    let url = mirror.url("never");
    let running =
        Running::start(&mut host.command(&[&FIRECRACKER_ALONE[..], &["--release-url", &url]].concat()));
    eventually("the server is asked", SECONDS, || mirror.requests() > 0).unwrap();
    running.signal(Signal::INT);
    let ended = running.end_within(SECONDS).unwrap();
    assert_eq!(ended.code, 128 + 2, "{ended:?}");
    assert!(!host.data().exists(), "a download that has not ended has made nothing");
}

#[test]
fn firecracker_is_copied_from_this_host_unless_it_is_too_old() {
    let put = |directory: &Path, version: &str| {
        fs::write(directory.join("firecracker"), script("Firecracker", version)).unwrap();
        fs::write(directory.join("jailer"), script("Jailer", version)).unwrap();
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let host = TestHost::empty();
    put(directory.path(), "1.17.0");
    let ended = setup(&host, &["--firecracker", path]);
    assert_eq!(ended.code, 0, "{ended:?}");
    put(directory.path(), "1.15.1");
    let ended = setup(&host, &["--firecracker", &format!("{path}/firecracker")]);
    assert_eq!(ended.code, HOST, "{ended:?}");
    assert!(ended.stderr.contains("Firecracker 1.15.1 is too old: 1.16.1 or newer is needed"), "{ended:?}");
    assert_eq!(installed(&host), script("Firecracker", "1.17.0"));
    nothing_is_left(&host);
}

#[test]
fn a_host_that_emulates_needs_no_firecracker_and_is_told_nothing() {
    let host = TestHost::empty();
    let ended = setup(&host, &["--accel", "tcg"]);
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (0, "", ""));
    assert!(!host.data().join("bin").exists());
}

#[test]
fn contradictions_are_refused() {
    let host = TestHost::empty();
    for arguments in [
        &["--release-url", "ftp://mirror.example/f.tgz"][..],
        &["--release-url", "http://mirror.example/f.tgz", "--release-sha256", "abc"],
        &["--release-sha256", &"0".repeat(64)],
        &["--skip-firecracker", "--firecracker", "/usr/bin/firecracker"],
        &["--firecracker", "/usr/bin/firecracker", "--release-url", "http://mirror.example/f.tgz"],
    ] {
        let ended = setup(&host, arguments);
        assert_eq!(ended.code, USAGE, "{arguments:?}: {ended:?}");
    }
}
