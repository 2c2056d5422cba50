//! Images and snapshots go to object storage and come back, whole and verified, whatever happens on the way.

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use e2e::{
    TestHost, eventually,
    mounted::Mounted,
    object_store_server::{BUCKET, Fault, ObjectStoreServer, Rule},
    running::{Ended, Running},
};
use hyper::Method;
use rustix::process::Signal;
use serde_json::{Value, json};

/// The command line is wrong.
const USAGE: i32 = 2;
/// This host cannot do it.
const HOST: i32 = 3;

/// How long a command may take on a busy machine.
const SECONDS: Duration = Duration::from_secs(120);

const UPLOAD_IMAGE: [&str; 6] = ["rootfs", "upload", "--lang", "python", "--bucket", BUCKET];
const UPLOAD_SNAPSHOT: [&str; 6] = ["snapshot", "upload", "--lang", "python", "--bucket", BUCKET];
const DOWNLOAD_IMAGE: [&str; 6] = ["rootfs", "download", "--lang", "python", "--bucket", BUCKET];
const DOWNLOAD_SNAPSHOT: [&str; 6] = ["snapshot", "download", "--lang", "python", "--bucket", BUCKET];

/// What the page has a second host do.
const HOST_FROM_BUCKET: [&str; 12] = [
    "host",
    "--lang",
    "python",
    "--code",
    "print(6 * 7)",
    "--mem",
    "512",
    "--vcpus",
    "1",
    "--snapshot",
    "--bucket",
    BUCKET,
];

fn start(host: &TestHost, server: &ObjectStoreServer, arguments: &[&str]) -> Running {
    Running::start(server.serves(&mut host.command(arguments)))
}

fn ended(host: &TestHost, server: &ObjectStoreServer, arguments: &[&str]) -> Ended {
    start(host, server, arguments).end_within(SECONDS).unwrap()
}

fn done(host: &TestHost, server: &ObjectStoreServer, arguments: &[&str]) -> Ended {
    let ended = ended(host, server, arguments);
    assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
    ended
}

/// A bucket with the prepared host's image, and with its snapshot too if that is wanted.
fn filled(with_snapshot: bool) -> ObjectStoreServer {
    let (host, server) = (TestHost::prepared(), ObjectStoreServer::start());
    done(&host, &server, if with_snapshot { &UPLOAD_SNAPSHOT } else { &UPLOAD_IMAGE });
    server.forget();
    server
}

fn rule(method: Method, after: usize, times: usize, fault: Fault) -> Rule {
    Rule { method, part: "chunks/", after, times, fault }
}

const BUSY: Fault = Fault::Refused(503, "SlowDown", &[]);
const LATER: Fault = Fault::Refused(429, "TooManyRequests", &[("Retry-After", "1")]);

fn same(one: &Path, other: &Path) {
    let mut files = [one, other].map(|path| fs::File::open(path).unwrap());
    let mut buffers = [vec![0; 1 << 20], vec![0; 1 << 20]];
    loop {
        let mut counts = [0; 2];
        for ((file, buffer), count) in files.iter_mut().zip(&mut buffers).zip(&mut counts) {
            while *count < buffer.len() {
                match file.read(&mut buffer[*count..]).unwrap() {
                    0 => break,
                    more => *count += more,
                }
            }
        }
        assert!(
            counts[0] == counts[1] && buffers[0][..counts[0]] == buffers[1][..counts[1]],
            "the files differ"
        );
        if counts[0] == 0 {
            return;
        }
    }
}

/// Whether a host has the prepared host's image, and nothing half-made.
fn has_image(host: &TestHost) {
    same(&host.image(), &TestHost::prepared().image());
    nothing_is_left(host);
}

fn nothing_is_left(host: &TestHost) {
    assert_eq!(host.leftovers().unwrap(), Vec::<PathBuf>::new());
    assert_eq!(partials(host), Vec::<PathBuf>::new());
}

fn partials(host: &TestHost) -> Vec<PathBuf> {
    let entries = fs::read_dir(host.data().join("downloads")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn answers(ended: &Ended) {
    assert_eq!((ended.code, &ended.json()["stdout"]), (0, &json!("42\n")), "{ended:?}");
}

#[test]
fn an_empty_host_runs_from_the_bucket_alone() {
    let (host, server) = (TestHost::prepared(), ObjectStoreServer::start());
    done(&host, &server, &UPLOAD_IMAGE);
    let uploaded = done(&host, &server, &[&UPLOAD_SNAPSHOT[..], &["--json"]].concat()).json();
    let stored = uploaded[0]["stored_bytes"].as_u64().unwrap();
    assert!(stored <= 60_000_000, "the snapshot takes {stored} bytes");
    assert_eq!(uploaded[0]["stored_bytes"], uploaded[0]["sent_bytes"]);

    // What is there is not sent again.
    let chunks = server.objects("chunks").len();
    assert_eq!(server.requests(&Method::PUT, "chunks/"), chunks);
    server.forget();
    done(&host, &server, &UPLOAD_IMAGE);
    let again = done(&host, &server, &[&UPLOAD_SNAPSHOT[..], &["--json"]].concat()).json();
    assert_eq!((&again[0]["sent_bytes"], server.requests(&Method::PUT, "chunks/")), (&json!(0), 0));
    assert_eq!(server.requests(&Method::PUT, ".json"), 2, "both manifests are the newest again");

    let second = TestHost::empty();
    answers(&ended(&second, &server, &HOST_FROM_BUCKET));
    has_image(&second);
    same(&second.snapshot().join("mem.snapshot"), &host.snapshot().join("mem.snapshot"));
    // What is there is not asked for.
    server.forget();
    answers(&ended(&second, &server, &HOST_FROM_BUCKET));
    answers(&ended(
        &second,
        &server,
        &["run", "--lang", "python", "--code", "print(6 * 7)", "--bucket", BUCKET],
    ));
    assert_eq!(server.requests(&Method::GET, ""), 0);
    assert_eq!(second.ended(&["snapshot", "verify", "--lang", "python"]).code, 0);
    done(&second, &server, &DOWNLOAD_SNAPSHOT);
    assert_eq!(server.requests(&Method::GET, "chunks/"), 0);
}

#[test]
fn run_fetches_what_it_needs_and_says_so_where_it_cannot() {
    let (second, server) = (TestHost::empty(), filled(true));
    let command = ["run", "--lang", "python", "--code", "print(6 * 7)"];
    let mut named = second.command(&command);
    let answer = Running::start(server.serves(&mut named).env("LLM_FIRECRACKER_BUCKET", BUCKET));
    answers(&answer.end_within(SECONDS).unwrap());
    assert!(second.snapshot().exists());

    let third = TestHost::empty();
    let refused = ended(&third, &server, &[&command[..], &["--bucket", "no-such-bucket"]].concat());
    assert_eq!(refused.code, HOST, "{refused:?}");
    assert!(refused.error().starts_with("E009: language not prepared: python"), "{refused:?}");
    assert!(
        refused.stderr.contains("warning: ") && refused.stderr.contains("s3://no-such-bucket"),
        "{refused:?}"
    );
    assert!(refused.stderr.contains("check the bucket's name, or create it"), "{refused:?}");
}

#[test]
fn listings_of_a_bucket_have_sizes_dates_and_digests() {
    let (host, server) = (TestHost::prepared(), filled(true));
    let images = done(&host, &server, &["rootfs", "list", "--remote", "--bucket", BUCKET, "--json"]).json();
    let snapshots =
        done(&host, &server, &["snapshot", "list", "--remote", "--bucket", BUCKET, "--json"]).json();
    let manifest: Value =
        serde_json::from_slice(&fs::read(host.snapshot().join("manifest.json")).unwrap()).unwrap();
    let image = &images[0];
    assert_eq!(
        (&image["language"], &image["sha256"], &image["bytes"], &image["current"]),
        (&json!("python"), &manifest["rootfs"]["sha256"], &manifest["rootfs"]["bytes"], &json!(true))
    );
    assert!(image["stored_bytes"].as_u64().unwrap() < image["bytes"].as_u64().unwrap());
    let snapshot = &snapshots[0];
    assert_eq!(
        (&snapshot["memory_mib"], &snapshot["vcpus"], &snapshot["sha256"], &snapshot["rootfs_sha256"]),
        (&json!(512), &json!(1), &manifest["memory"]["sha256"], &image["sha256"])
    );
    assert!(image["uploaded"].as_str().unwrap().starts_with("20"), "{image}");
    for (what, more) in [("rootfs", "current"), ("snapshot", "qemu")] {
        let table = done(&host, &server, &[what, "list", "--remote", "--bucket", BUCKET]).stdout;
        assert!(table.contains("python") && table.contains(more), "{table}");
    }
    let none =
        done(&host, &server, &["rootfs", "list", "--remote", "--lang", "ruby", "--bucket", BUCKET, "--json"]);
    assert_eq!(none.json(), json!([]));
}

#[test]
fn what_breaks_on_the_way_is_sent_and_fetched_again() {
    let (host, server) = (TestHost::prepared(), ObjectStoreServer::start());
    for fault in [Fault::CutRequest(1 << 20), BUSY, LATER, Fault::CutRequest(0)] {
        server.fail(rule(Method::PUT, 2, 1, fault));
    }
    done(&host, &server, &UPLOAD_IMAGE);
    let second = TestHost::empty();
    // Early enough for the smallest part: which of them are hit is not known.
    for fault in [Fault::CutAnswer(40), Fault::Flipped(40), BUSY, LATER, Fault::CutAnswer(0)] {
        server.fail(rule(Method::GET, 2, 1, fault));
    }
    done(&second, &server, &DOWNLOAD_IMAGE);
    has_image(&second);
    let chunks = server.objects("chunks").len();
    assert_eq!(server.requests(&Method::GET, "chunks/"), chunks + 5, "nothing more is asked for again");
}

#[test]
fn a_store_that_stays_busy_is_an_error_in_the_end() {
    let (host, server) = (TestHost::prepared(), ObjectStoreServer::start());
    server.fail(rule(Method::PUT, 0, usize::MAX, BUSY));
    let failed = ended(&host, &server, &UPLOAD_IMAGE);
    assert_eq!(failed.code, HOST, "{failed:?}");
    assert!(failed.stderr.contains("the server answered 503 SlowDown"), "{failed:?}");
    assert!(failed.stderr.contains("(tried 8 times)"), "{failed:?}");
    assert!(failed.stderr.contains("hint: the store is busy: run the same command later"), "{failed:?}");
    assert!(server.objects("rootfs").is_empty(), "a manifest of what is not there");
}

#[test]
fn a_chunk_that_is_another_one_is_named_and_nothing_is_put_in_place() {
    let (second, server) = (TestHost::empty(), filled(false));
    let chunk = server.objects("chunks").pop().unwrap();
    let original = fs::read(&chunk).unwrap();
    let mut damaged = original.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(&chunk, &damaged).unwrap();
    let failed = ended(&second, &server, &DOWNLOAD_IMAGE);
    assert_eq!(failed.code, HOST, "{failed:?}");
    let name = chunk.file_name().unwrap().to_str().unwrap();
    assert!(failed.stderr.contains(&format!("s3://{BUCKET}/chunks/{name}")), "{failed:?}");
    assert!(failed.stderr.contains("it holds something else"), "{failed:?}");
    assert!(!second.image().exists());
    assert_eq!(partials(&second).len(), 1, "what has come is kept");

    // Another upload does not see it; one that sends everything mends it.
    done(&TestHost::prepared(), &server, &[&UPLOAD_IMAGE[..], &["--again"]].concat());
    assert_eq!(fs::read(&chunk).unwrap(), original);
    server.forget();
    done(&second, &server, &DOWNLOAD_IMAGE);
    has_image(&second);
    assert!(server.requests(&Method::GET, "chunks/") < server.objects("chunks").len());
}

#[test]
fn credentials_that_do_not_do_are_told_at_once_and_never_shown() {
    let (host, server) = (TestHost::prepared(), ObjectStoreServer::start());
    server.fail(Rule {
        method: Method::PUT,
        part: "",
        after: 0,
        times: usize::MAX,
        fault: Fault::Refused(400, "ExpiredToken", &[]),
    });
    let expired = ended(&host, &server, &UPLOAD_IMAGE);
    assert_eq!(expired.code, HOST, "{expired:?}");
    assert!(expired.stderr.contains("400 ExpiredToken"), "{expired:?}");
    assert!(expired.stderr.contains("hint: the credentials have expired: renew them"), "{expired:?}");
    assert!(server.requests(&Method::PUT, "") <= 4, "they were tried again");
    server.heal();

    let with = |name: &str, value: &str| {
        let mut command = host.command(&UPLOAD_IMAGE);
        let running =
            Running::start(server.serves(&mut command).env(name, value).env("LLM_FIRECRACKER_LOG", "debug"));
        running.end_within(SECONDS).unwrap()
    };
    for (name, value, code) in [
        ("AWS_SECRET_ACCESS_KEY", "wrong-secret", "SignatureDoesNotMatch"),
        ("AWS_ACCESS_KEY_ID", "UNKNOWNKEY", "hint: "),
    ] {
        let refused = with(name, value);
        assert_eq!(refused.code, HOST, "{refused:?}");
        assert!(refused.stderr.contains(code), "{refused:?}");
        for secret in ["wrong-secret", "e2e-secret-access-key"] {
            assert!(!refused.stderr.contains(secret), "{refused:?}");
        }
    }
    let nobody = with("AWS_ACCESS_KEY_ID", "");
    assert_eq!(nobody.code, USAGE, "{nobody:?}");

    // A machine that nobody gives credentials to.
    let since = Instant::now();
    let mut command = host.command(&UPLOAD_IMAGE);
    let command =
        server.serves(&mut command).env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let nobody = Running::start(command).end_within(SECONDS).unwrap();
    assert_eq!(nobody.code, HOST, "{nobody:?}");
    assert!(nobody.stderr.contains("hint: set AWS_ACCESS_KEY_ID"), "{nobody:?}");
    assert!(since.elapsed() < Duration::from_secs(45), "{:?}", since.elapsed());
}

#[test]
fn an_endpoint_that_is_dead_is_told_within_a_minute() {
    let (host, server) = (TestHost::prepared(), ObjectStoreServer::start());
    server.fail(Rule { method: Method::HEAD, part: "", after: 0, times: usize::MAX, fault: Fault::Silence });
    let since = Instant::now();
    let silent = start(&host, &server, &UPLOAD_IMAGE);
    let nobody = ended(&host, &server, &[&UPLOAD_IMAGE[..], &["--endpoint", "http://127.0.0.1:1"]].concat());
    let silent = silent.end_within(SECONDS).unwrap();
    assert!(since.elapsed() < Duration::from_secs(60), "{:?}", since.elapsed());
    assert!(silent.code == HOST && silent.stderr.contains("the server did not answer in 10 s"), "{silent:?}");
    assert!(nobody.code == HOST && nobody.stderr.contains("the connection failed: "), "{nobody:?}");
    assert!(nobody.stderr.contains("hint: check the network connection, and the endpoint"), "{nobody:?}");
}

/// Starts a command, and kills it when it is about to move its `after`th chunk.
fn killed(host: &TestHost, server: &ObjectStoreServer, arguments: &[&str], method: &Method, after: usize) {
    server.forget();
    server.fail(rule(method.clone(), after, usize::MAX, Fault::Silence));
    let running = start(host, server, arguments);
    eventually("chunks are on their way", SECONDS, || server.requests(method, "chunks/") > after).unwrap();
    running.signal(Signal::KILL);
    assert_eq!(running.end_within(SECONDS).unwrap().code, 128 + 9);
    server.heal();
    server.forget();
}

#[test]
fn a_killed_upload_goes_on_where_it_was() {
    let (host, server) = (TestHost::prepared(), ObjectStoreServer::start());
    killed(&host, &server, &UPLOAD_IMAGE, &Method::PUT, 5);
    let there = server.objects("chunks").len();
    assert!(there > 0 && server.objects("rootfs").is_empty());
    done(&host, &server, &UPLOAD_IMAGE);
    let chunks = server.objects("chunks").len();
    assert!(server.requests(&Method::PUT, "chunks/") <= chunks - there, "what was there is sent again");

    killed(&host, &server, &UPLOAD_SNAPSHOT, &Method::PUT, 5);
    assert!(server.objects("snapshots").is_empty());
    done(&host, &server, &UPLOAD_SNAPSHOT);
    answers(&ended(&TestHost::empty(), &server, &HOST_FROM_BUCKET));
}

#[test]
fn a_killed_download_goes_on_where_it_was() {
    let (second, server) = (TestHost::empty(), filled(true));
    let count = |sha: &Value| sha.as_array().unwrap().len();
    let manifest = |folder: &str| -> Value {
        serde_json::from_slice(&fs::read(server.objects(folder).pop().unwrap()).unwrap()).unwrap()
    };
    killed(&second, &server, &DOWNLOAD_IMAGE, &Method::GET, 5);
    assert_eq!((second.image().exists(), partials(&second).len()), (false, 1));
    done(&second, &server, &DOWNLOAD_IMAGE);
    has_image(&second);
    let image = count(&manifest("rootfs")["chunks"]);
    assert!(server.requests(&Method::GET, "chunks/") < image, "what was there is fetched again");

    // The same for what is fetched on demand, in the middle of the memory.
    killed(&second, &server, &HOST_FROM_BUCKET, &Method::GET, 6);
    assert!(!second.snapshot().exists());
    answers(&ended(&second, &server, &HOST_FROM_BUCKET));
    let memory = count(&manifest("snapshots")["memory"]);
    assert!(server.requests(&Method::GET, "chunks/") < memory + 1, "what was there is fetched again");
    nothing_is_left(&second);

    // Of what is wrong in a partial file, nothing stays.
    let third = TestHost::empty();
    killed(&third, &server, &DOWNLOAD_IMAGE, &Method::GET, 5);
    let mut partial = fs::File::options().write(true).open(&partials(&third)[0]).unwrap();
    for at in [0, 40 << 20, 100 << 20] {
        partial.seek(SeekFrom::Start(at)).unwrap();
        partial.write_all(&[0x42; 10_000]).unwrap();
    }
    done(&third, &server, &DOWNLOAD_IMAGE);
    has_image(&third);
}

#[test]
fn an_interrupted_download_ends_at_once_and_keeps_what_has_come() {
    let (second, server) = (TestHost::empty(), filled(false));
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        server.forget();
        server.fail(rule(Method::GET, 2, usize::MAX, Fault::Silence));
        let running = start(&second, &server, &DOWNLOAD_IMAGE);
        eventually("chunks are on their way", SECONDS, || server.requests(&Method::GET, "chunks/") > 2)
            .unwrap();
        running.signal(signal);
        let ended = running.end_within(Duration::from_secs(5)).unwrap();
        assert_eq!((ended.code, partials(&second).len()), (code, 1), "{ended:?}");
        server.heal();
    }
    done(&second, &server, &DOWNLOAD_IMAGE);
    has_image(&second);
}

#[test]
fn two_commands_at_once_do_the_same_once() {
    let (host, server) = (TestHost::prepared(), ObjectStoreServer::start());
    let uploads = [start(&host, &server, &UPLOAD_SNAPSHOT), start(&host, &server, &UPLOAD_SNAPSHOT)];
    for upload in uploads {
        let ended = upload.end_within(SECONDS).unwrap();
        assert_eq!(ended.code, 0, "{ended:?}");
    }
    let second = TestHost::empty();
    server.forget();
    // The first is held up until the second has found it at work.
    server.fail(rule(Method::GET, 3, 1, Fault::Refused(503, "SlowDown", &[("Retry-After", "2")])));
    let first = start(&second, &server, &HOST_FROM_BUCKET);
    eventually("chunks are on their way", SECONDS, || server.requests(&Method::GET, "chunks/") > 3).unwrap();
    let mut other = start(&second, &server, &HOST_FROM_BUCKET);
    other.wait_until_said("waiting for another command that downloads the same").unwrap();
    for command in [first, other] {
        answers(&command.end_within(SECONDS).unwrap());
    }
    has_image(&second);
    assert_eq!(server.requests(&Method::GET, "chunks/"), server.objects("chunks").len() + 1);
}

#[test]
fn a_disk_that_is_too_small_or_fills_up_is_told_and_the_same_command_goes_on() {
    let server = filled(false);
    let tiny = Mounted::small(32);
    let refused = ended(&TestHost::at(tiny.path()), &server, &DOWNLOAD_IMAGE);
    assert_eq!(refused.code, HOST, "{refused:?}");
    assert!(refused.stderr.contains("MiB are free for "), "{refused:?}");
    assert!(
        refused.stderr.contains("hint: free some disk space, or choose another --data-dir"),
        "{refused:?}"
    );
    assert_eq!(server.requests(&Method::GET, "chunks/"), 0, "something was fetched");

    let disk = Mounted::small(160);
    let host = TestHost::at(disk.path());
    server.fail(rule(Method::GET, 2, 4, Fault::Refused(503, "SlowDown", &[("Retry-After", "2")])));
    let running = start(&host, &server, &DOWNLOAD_IMAGE);
    eventually("chunks are on their way", SECONDS, || server.requests(&Method::GET, "chunks/") > 5).unwrap();
    let filler = disk.path().join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[1; 4 << 10]).is_ok() {}
    let full = running.end_within(SECONDS).unwrap();
    assert_eq!(full.code, HOST, "{full:?}");
    assert!(full.stderr.contains("No space left on device"), "{full:?}");
    assert!(full.stderr.contains("hint: free some disk space; what has come so far is kept"), "{full:?}");
    assert!(!host.image().exists());
    drop(file);
    fs::remove_file(filler).unwrap();
    server.heal();
    server.forget();
    done(&host, &server, &DOWNLOAD_IMAGE);
    has_image(&host);
}

#[test]
fn a_stale_snapshot_is_not_uploaded_and_its_image_is() {
    let (host, server) = (TestHost::prepared().copy(), ObjectStoreServer::start());
    let mut image = fs::File::options().write(true).open(host.image()).unwrap();
    image.seek(SeekFrom::End(-512)).unwrap();
    image.write_all(b"edited by hand").unwrap();
    drop(image);
    done(&host, &server, &UPLOAD_IMAGE);
    let stale = ended(&host, &server, &UPLOAD_SNAPSHOT);
    assert_eq!(stale.code, HOST, "{stale:?}");
    let command = host.typed("infra.operator snapshot create --lang python --mem 512 --vcpus 1");
    assert!(stale.stderr.contains(&format!("hint: run: {command}")), "{stale:?}");
    assert!(stale.stderr.contains("has changed since"), "{stale:?}");
    let passed = done(&host, &server, &[&UPLOAD_SNAPSHOT[..], &["--skip-stale"]].concat());
    assert!(passed.stderr.contains("warning: the snapshot python 512m-1c is not uploaded"), "{passed:?}");
    assert!(server.objects("snapshots").is_empty());
}

#[test]
fn versions_of_an_image_live_side_by_side_and_none_is_replaced_unasked() {
    let (host, server) = (TestHost::prepared().copy(), filled(true));
    let original = fs::read(host.image()).unwrap();
    let mut image = fs::File::options().write(true).open(host.image()).unwrap();
    image.seek(SeekFrom::End(-512)).unwrap();
    image.write_all(b"edited by hand").unwrap();
    drop(image);
    let newer = done(&host, &server, &[&UPLOAD_IMAGE[..], &["--json"]].concat()).json()["sha256"].clone();
    let images = done(&host, &server, &["rootfs", "list", "--remote", "--bucket", BUCKET, "--json"]).json();
    assert_eq!((images.as_array().unwrap().len(), &images[0]["sha256"]), (2, &newer), "{images}");
    let older = images[1]["sha256"].as_str().unwrap();

    let second = TestHost::empty();
    done(&second, &server, &[&DOWNLOAD_IMAGE[..], &["--digest", older]].concat());
    has_image(&second);
    let refused = ended(&second, &server, &DOWNLOAD_IMAGE);
    assert!(refused.code == HOST && refused.stderr.contains("hint: replace it with --force"), "{refused:?}");
    has_image(&second);
    done(&second, &server, &[&DOWNLOAD_IMAGE[..], &["--force"]].concat());
    same(&second.image(), &host.image());
    assert!(fs::read(second.image()).unwrap() != original);

    // The snapshot needs the older one; what is there is not replaced for it.
    let other = ended(&second, &server, &DOWNLOAD_SNAPSHOT);
    assert_eq!(other.code, HOST, "{other:?}");
    let command = format!("rootfs download --lang python --digest {older} --force");
    assert!(other.stderr.contains("the snapshot needs another image than"), "{other:?}");
    assert!(other.stderr.contains(&command), "{other:?}");
    let passed = done(&second, &server, &[&DOWNLOAD_SNAPSHOT[..], &["--if-available"]].concat());
    assert!(passed.stderr.contains("warning: the snapshot needs another image"), "{passed:?}");
    let warned = ended(&second, &server, &HOST_FROM_BUCKET);
    assert!(warned.code == HOST && warned.error().starts_with("E009: "), "{warned:?}");
    same(&second.image(), &host.image());
    done(&second, &server, &[&DOWNLOAD_IMAGE[..], &["--digest", older, "--force"]].concat());
    answers(&ended(&second, &server, &HOST_FROM_BUCKET));
}

#[test]
fn a_snapshot_of_another_kind_of_host_is_not_taken_and_the_difference_is_named() {
    let (second, server) = (TestHost::empty(), filled(true));
    let path = server.objects("snapshots").pop().unwrap();
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    manifest["snapshot"]["host"]["cpu"] = json!("a processor of elsewhere");
    fs::write(&path, manifest.to_string()).unwrap();
    let refused = ended(&second, &server, &DOWNLOAD_SNAPSHOT);
    assert_eq!(refused.code, HOST, "{refused:?}");
    assert!(refused.stderr.contains("none can be restored on this host"), "{refused:?}");
    assert!(refused.stderr.contains("it was made for the processor a processor of elsewhere"), "{refused:?}");
    assert!(refused.stderr.contains("snapshot create --lang python --mem 512 --vcpus 1"), "{refused:?}");
    assert_eq!(server.requests(&Method::GET, "chunks/"), 0, "something was fetched");
    nothing_is_left(&second);
}

#[test]
fn a_directory_is_a_bucket_too() {
    let (host, second) = (TestHost::prepared(), TestHost::empty());
    let directory = tempfile::tempdir().unwrap();
    let bucket = format!("file://{}/bucket", directory.path().display());
    let missing = second.ended(&["rootfs", "download", "--lang", "python", "--bucket", &bucket]);
    assert!(
        missing.code == HOST && missing.stderr.contains("check that the bucket's directory exists"),
        "{missing:?}"
    );
    host.expect_done(&["snapshot", "upload", "--lang", "python", "--bucket", &bucket]);
    let command = [&HOST_FROM_BUCKET[..11], &[bucket.as_str()]].concat();
    answers(&second.ended(&command));
    has_image(&second);
}

#[test]
fn what_is_no_bucket_is_a_usage_error() {
    let host = TestHost::prepared();
    for bucket in ["Not_A_Bucket", "gs://bucket", "file://relative", "s3://ab"] {
        let refused = host.ended(&["rootfs", "upload", "--lang", "python", "--bucket", bucket]);
        assert_eq!(refused.code, USAGE, "{refused:?}");
    }
    let none = host.ended(&["rootfs", "upload", "--lang", "python"]);
    assert_eq!(none.code, USAGE, "{none:?}");
    assert!(none.stderr.contains("hint: name it with --bucket or LLM_FIRECRACKER_BUCKET"), "{none:?}");
}
