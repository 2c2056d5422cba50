//! A snapshot is whole, and fits this host, or it is not used; its clones share nothing that they must not share.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use e2e::{
    TestHost, eventually,
    running::{Ended, Running},
};
use rustix::process::Signal;
use serde_json::{Value, json};

/// This host cannot do it.
const HOST: i32 = 3;

const REMEDY: &str = "infra.operator snapshot create --lang python --mem 512 --vcpus 1";

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

fn restore(host: &TestHost) -> Ended {
    host.ended(&["host", "--lang", "python", "--code", "print(6 * 7)", "--snapshot"])
}

fn works(host: &TestHost) {
    let ended = restore(host);
    assert_eq!((ended.code, &ended.json()["stdout"]), (0, &json!("42\n")), "{ended:?}");
}

fn digest(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}

#[test]
fn clones_that_run_at_the_same_time_share_no_randomness_and_have_the_hosts_time() {
    let host = TestHost::prepared().copy();
    let code = "
import json, os, random, secrets, tempfile, time, uuid
print(json.dumps({
    'random': random.random(),
    'urandom': os.urandom(16).hex(),
    'getrandom': os.getrandom(16).hex(),
    'device': open('/dev/urandom', 'rb').read(16).hex(),
    'uuid4': str(uuid.uuid4()),
    'uuid1': str(uuid.uuid1()),
    'secret': secrets.token_hex(),
    'file': tempfile.mktemp(),
    'hash': hash('a string'),
    'time': time.time(),
}))
";
    let start = now();
    let clones: Vec<_> = (0..8)
        .map(|_| {
            let mut command = host.command(&["run", "--lang", "python", "--code", code]);
            Running::start(command.env("LLM_FIRECRACKER_SLOTS", "8"))
        })
        .collect();
    let seen: Vec<Value> = clones
        .into_iter()
        .map(|clone| {
            let answer = clone.end_within(Duration::from_secs(120)).unwrap().json();
            assert_eq!(answer["stderr"], Value::Null, "{answer}");
            serde_json::from_str(answer["stdout"].as_str().unwrap()).unwrap()
        })
        .collect();
    let end = now();
    for key in ["random", "urandom", "getrandom", "device", "uuid4", "uuid1", "secret", "file"] {
        let values: BTreeSet<String> = seen.iter().map(|clone| clone[key].to_string()).collect();
        assert_eq!(values.len(), 8, "{key} repeats: {values:?}");
    }
    for clone in &seen {
        let time = clone["time"].as_f64().unwrap();
        assert!(start - 2.0 < time && time < end + 2.0, "a clone's clock: {start} < {time} < {end}");
    }
}

#[test]
fn what_clones_write_reaches_neither_the_memory_nor_the_image() {
    let host = TestHost::prepared();
    let files =
        [host.snapshot().join("mem.snapshot"), host.snapshot().join("vmstate.snapshot"), host.image()];
    let before = files.each_ref().map(|path| digest(path));
    let code = "
import os
for directory in ('/tmp', '/var/tmp', '/dev/shm', '.'):
    with open(f'{directory}/marker', 'wb') as file:
        for _ in range(8): file.write(os.urandom(1 << 20))
hoard = bytearray(b'marker' * (8 << 20))
print(len(hoard))
";
    for _ in 0..4 {
        assert_eq!(host.python(code)["stdout"], "50331648\n");
    }
    assert_eq!(files.each_ref().map(|path| digest(path)), before);
    let ended = host.ended(&["snapshot", "verify"]);
    assert_eq!(ended.code, 0, "{ended:?}");
}

/// Changes bytes in the middle of a file, in place.
fn edit(path: &Path) {
    let mode = fs::metadata(path).unwrap().permissions();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    let mut file = fs::File::options().read(true).write(true).open(path).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut bytes = [0; 64];
    file.seek(SeekFrom::Start(middle)).unwrap();
    file.read_exact(&mut bytes).unwrap();
    file.seek(SeekFrom::Start(middle)).unwrap();
    file.write_all(&bytes.map(|byte| !byte)).unwrap();
    fs::set_permissions(path, mode).unwrap();
}

fn truncate(path: &Path) -> Vec<u8> {
    const LAST: u64 = 4096;
    let mut file = fs::File::options().read(true).write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    let mut end = Vec::new();
    file.seek(SeekFrom::Start(length - LAST)).unwrap();
    file.read_to_end(&mut end).unwrap();
    file.set_len(length - LAST).unwrap();
    end
}

/// It is refused with its reason and the remedy.
fn is_stale(host: &TestHost, what: &str, reason: &str) {
    let ended = restore(host);
    assert_eq!(ended.code, HOST, "{what}: {ended:?}");
    assert_eq!(
        ended.error(),
        format!("E009: language not prepared: python (run: {})", host.typed(REMEDY)),
        "{what}"
    );
    assert!(ended.stderr.contains(reason), "{what}: {reason:?} is not in {ended:?}");
    assert!(ended.stderr.contains(&format!("hint: run: {}\n", host.typed(REMEDY))), "{what}: {ended:?}");
    let listed = host.ended(&["snapshot", "list", "--json"]);
    assert_eq!(listed.code, 0, "{what}: {listed:?}");
    let row = &listed.json()[0];
    assert_eq!((&row["usable"], &row["fix"]), (&json!(false), &json!(REMEDY)), "{what}: {row}");
    assert!(row["problem"].as_str().unwrap().contains(reason), "{what}: {row}");
}

/// `run` says so and boots instead.
fn is_answered_by_a_boot(host: &TestHost, reason: &str) {
    let ended = host.ended(&["run", "--lang", "python", "--code", "print(6 * 7)"]);
    assert_eq!((ended.code, &ended.json()["stdout"]), (0, &json!("42\n")), "{ended:?}");
    assert!(ended.stderr.contains("booting instead of restoring a snapshot"), "{ended:?}");
    assert!(ended.stderr.contains(reason), "{ended:?}");
}

#[test]
fn a_damaged_file_is_found_and_named_and_run_boots_instead() {
    let host = TestHost::prepared().copy();
    let (memory, state) = (host.snapshot().join("mem.snapshot"), host.snapshot().join("vmstate.snapshot"));
    works(&host);

    // Of the same size: its time of change gives it away, and the digest.
    edit(&memory);
    is_stale(&host, "changed memory", "mem.snapshot is damaged: its contents have changed");
    is_answered_by_a_boot(&host, "mem.snapshot is damaged: its contents have changed");
    let verified = host.ended(&["snapshot", "verify"]);
    assert_eq!(verified.code, HOST, "{verified:?}");
    assert!(verified.stdout.contains("its contents have changed"), "{verified:?}");
    assert!(verified.stderr.contains(&format!("hint: {REMEDY}\n")), "{verified:?}");
    edit(&memory);
    works(&host);

    let end = truncate(&memory);
    is_stale(
        &host,
        "truncated memory",
        "mem.snapshot is damaged: it has 536866816 bytes instead of 536870912",
    );
    fs::File::options().append(true).open(&memory).unwrap().write_all(&end).unwrap();

    edit(&state);
    is_stale(&host, "changed state", "vmstate.snapshot is damaged: its contents have changed");
    edit(&state);

    for file in [&state, &memory] {
        let away = host.data().join("away");
        fs::rename(file, &away).unwrap();
        let name = file.file_name().unwrap().to_string_lossy();
        is_stale(&host, "missing file", &format!("{name} is damaged: it is missing"));
        fs::rename(&away, file).unwrap();
    }
    works(&host);
}

#[test]
fn a_manifest_that_is_none_of_ours_is_refused_and_leads_nowhere() {
    let host = TestHost::prepared().copy();
    let path = host.snapshot().join("manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    let manifest: Value = serde_json::from_str(&text).unwrap();
    let with = |key: &str, value: Value| {
        let mut manifest = manifest.clone();
        manifest[key] = value;
        manifest.to_string()
    };
    let other_host = |key: &str, value: Value| {
        let mut host = manifest["host"].clone();
        host[key] = value;
        with("host", host)
    };
    for (what, text, reason) in [
        ("garbage", "garbage\0\u{1b}[2J".to_owned(), "manifest.json is no manifest of a snapshot"),
        ("nothing", String::new(), "manifest.json is no manifest of a snapshot"),
        ("half of it", text[..text.len() / 2].to_owned(), "manifest.json is no manifest of a snapshot"),
        ("too much", format!("{text}{}", " ".repeat(70_000)), "manifest.json is too large for a manifest"),
        ("version", with("format_version", json!(9)), "manifest.json has format 9, this release reads 3"),
        ("language", with("language", json!("../../x")), "manifest.json is no manifest of a snapshot"),
        ("other language", with("language", json!("ruby")), "manifest.json describes ruby 512m-1c"),
        (
            "size",
            with("size", json!({ "memory_mib": 1024, "vcpus": 1 })),
            "manifest.json describes python 1024m-1c",
        ),
        ("more fields", with("run_as_root", json!(true)), "manifest.json is no manifest of a snapshot"),
        (
            "generation",
            with("protocol_generation", json!(99)),
            "its guest agent speaks protocol generation 99",
        ),
        ("VMM", other_host("vmm_version", json!("1.0")), "it was made with qemu 1.0"),
        ("processor", other_host("cpu", json!("Z80")), "it was made for the processor Z80"),
    ] {
        fs::write(&path, text).unwrap();
        is_stale(&host, what, reason);
    }
    fs::remove_file(&path).unwrap();
    is_stale(&host, "no manifest", "cannot read");
    fs::write(&path, &text).unwrap();
    works(&host);
}

#[test]
fn an_edited_image_makes_the_snapshot_stale_until_it_is_made_again() {
    let host = TestHost::prepared().copy();
    edit_volume_name(&host.image());
    is_stale(&host, "edited image", "rootfs-python.ext4 has changed since");
    is_answered_by_a_boot(&host, "rootfs-python.ext4 has changed since");
    let again = host.ended(&["snapshot", "create", "--lang", "python", "--if-needed"]);
    assert_eq!(again.code, 0, "{again:?}");
    assert!(again.stderr.contains("the snapshot has to be made again"), "{again:?}");
    works(&host);
    let listed = host.expect_done(&["snapshot", "list"]);
    assert!(listed.lines().nth(1).is_some_and(|line| line.ends_with("  ok")), "{listed}");
    // And now it is not needed.
    let before = fs::metadata(host.snapshot().join("manifest.json")).unwrap().modified().unwrap();
    host.expect_done(&["snapshot", "create", "--lang", "python", "--if-needed"]);
    assert_eq!(fs::metadata(host.snapshot().join("manifest.json")).unwrap().modified().unwrap(), before);
}

/// An edit that leaves the image good.
fn edit_volume_name(image: &Path) {
    let status = Command::new("tune2fs").args(["-L", "edited"]).arg(image).output().unwrap();
    assert!(status.status.success(), "{status:?}");
}

#[test]
fn snapshots_are_listed_verified_and_removed() {
    let host = TestHost::prepared().copy();
    let row = host.ended(&["snapshot", "list", "--json"]).json()[0].clone();
    assert_eq!(row["language"], "python");
    assert_eq!((&row["memory_mib"], &row["vcpus"]), (&json!(512), &json!(1)));
    assert_eq!((&row["usable"], &row["problem"], &row["fix"]), (&json!(true), &Value::Null, &Value::Null));
    assert_eq!(row["initialised"], true);
    assert_eq!(row["directory"], host.snapshot().to_str().unwrap());
    let disk = row["disk_bytes"].as_u64().unwrap();
    assert!((10 << 20..600 << 20).contains(&disk), "{disk}");
    let table = host.expect_done(&["snapshot", "verify", "--lang", "py"]);
    assert_eq!(table.lines().count(), 2, "{table}");
    assert_eq!(
        table.lines().next().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["LANGUAGE", "MEMORY", "VCPUS", "DISK", "CREATED", "VMM", "STATE"]
    );
    assert!(table.contains("python    512 MiB  1 "), "{table}");
    assert_eq!(host.ended(&["snapshot", "verify", "--json"]).json()[0]["usable"], true);

    let other = host.ended(&["snapshot", "rm", "--lang", "python", "--mem", "1024"]);
    assert_eq!(other.code, HOST, "{other:?}");
    assert!(other.stderr.contains("there is no such snapshot"), "{other:?}");
    assert!(host.snapshot().exists());
    host.expect_done(&["snapshot", "rm", "--lang", "python"]);
    assert!(!host.snapshot().exists());
    assert_eq!(host.leftovers().unwrap(), Vec::<PathBuf>::new());
    assert_eq!(host.ended(&["snapshot", "list", "--json"]).json(), json!([]));
    let gone = host.ended(&["snapshot", "verify", "--lang", "python"]);
    assert_eq!(gone.code, HOST, "{gone:?}");
    assert!(gone.stderr.contains("hint: infra.operator snapshot create --lang python"), "{gone:?}");
    assert_eq!(
        restore(&host).error(),
        format!("E009: language not prepared: python (run: {})", host.typed(REMEDY))
    );
}

#[test]
fn nobody_sees_half_a_snapshot_and_only_one_makes_it_at_a_time() {
    let host = TestHost::prepared().copy();
    works(&host);
    let before = digest(&host.snapshot().join("manifest.json"));
    let create = ["snapshot", "create", "--lang", "python"];

    // Killed in the middle, it leaves the old one as it was.
    let mut killed = Running::start(&mut host.command(&create));
    killed.wait_until_said("saving it").unwrap();
    let family = killed.process().descendants();
    assert!(!family.is_empty());
    killed.signal(Signal::KILL);
    assert_eq!(killed.end_within(Duration::from_secs(10)).unwrap().code, 128 + 9);
    eventually("its processes end", Duration::from_secs(10), || {
        family.iter().all(|process| !process.is_alive())
    })
    .unwrap();
    let left = host.leftovers().unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(digest(&host.snapshot().join("manifest.json")), before);
    works(&host);
    assert_eq!(host.ended(&["snapshot", "list", "--json"]).json().as_array().unwrap().len(), 1);

    // The next one takes away what was left, and keeps others from doing the same at the same time.
    let mut winner = Running::start(&mut host.command(&create));
    winner.wait_until_said("booting a microVM").unwrap();
    assert!(!left[0].exists(), "{left:?}");
    let loser = host.ended(&create);
    assert_eq!((loser.code, loser.stdout.as_str()), (HOST, ""), "{loser:?}");
    assert!(loser.stderr.contains("another process is making a snapshot in"), "{loser:?}");
    assert!(loser.stderr.contains("hint: wait for the other command to finish"), "{loser:?}");
    // Meanwhile the old one serves.
    works(&host);
    let won = winner.end_within(Duration::from_secs(240)).unwrap();
    assert_eq!((won.code, won.stdout.as_str()), (0, ""), "{won:?}");
    assert_ne!(digest(&host.snapshot().join("manifest.json")), before);
    works(&host);
    assert_eq!(host.leftovers().unwrap(), Vec::<PathBuf>::new());
    assert_eq!(host.processes().unwrap(), Vec::<String>::new());
}
