//! What it costs to bring a snapshot into object storage and out of it: rates, stored sizes, and memory.
//!
//! The server runs in this process and shares the processors with the command, as does the disk with both: a store on
//! other machines leaves more of them to the command, and brings its own pauses. `file://` is measured too, where
//! the copying is the command's.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use e2e::{
    TestHost,
    object_store_server::{BUCKET, ObjectStoreServer},
};

/// How often each command is run; the table has the median.
const RUNS: usize = 5;

const MIB: f64 = 1024.0 * 1024.0;

/// How one command went.
struct Run {
    time: Duration,
    peak_bytes: u64,
}

fn main() -> Result<()> {
    let host = TestHost::prepared();
    let memory = fs::metadata(host.snapshot().join("mem.snapshot"))?.len();
    let image = fs::metadata(host.image())?.len();
    let directory = tempfile::tempdir_in(e2e::build_directory())?;
    println!("{:<44} {:>9} {:>10} {:>10} {:>8}", "command", "ms", "MiB/s", "MiB stored", "peak MiB");
    for remote in [true, false] {
        let (mut uploads, mut repeats, mut downloads) = ([vec![], vec![]], vec![], [vec![], vec![]]);
        let mut stored = (0, 0);
        for run in 0..RUNS {
            let server = ObjectStoreServer::start();
            let bucket = if remote {
                BUCKET.to_owned()
            } else {
                format!("file://{}", directory.path().join(run.to_string()).display())
            };
            let measured = |host: &TestHost, arguments: &[&str]| {
                let arguments = [arguments, &["--lang", "python", "--bucket", &bucket]].concat();
                measured(server.serves(&mut host.command(&arguments)))
            };
            let folder = if remote { server.bucket() } else { directory.path().join(run.to_string()) };
            uploads[0].push(measured(&host, &["rootfs", "upload"])?);
            let of_image = size_of(&folder.join("chunks"))?;
            uploads[1].push(measured(&host, &["snapshot", "upload"])?);
            stored = (of_image, size_of(&folder.join("chunks"))? - of_image);
            repeats.push(measured(&host, &["snapshot", "upload"])?);
            let second = TestHost::empty();
            downloads[0].push(measured(&second, &["rootfs", "download"])?);
            downloads[1].push(measured(&second, &["snapshot", "download"])?);
        }
        let through = if remote { "S3 on loopback" } else { "file://" };
        let [upload_image, upload_snapshot] = uploads;
        let [download_image, download_snapshot] = downloads;
        for (what, runs, bytes, stored) in [
            ("rootfs upload", upload_image, image, Some(stored.0)),
            ("snapshot upload", upload_snapshot, memory, Some(stored.1)),
            ("snapshot upload, all of it there", repeats, memory, None),
            ("rootfs download", download_image, image, None),
            ("snapshot download", download_snapshot, memory, None),
        ] {
            print(&format!("{what}, {through}"), runs, bytes, stored);
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "sizes to be read by people")]
fn print(what: &str, mut runs: Vec<Run>, bytes: u64, stored: Option<u64>) {
    runs.sort_by_key(|run| run.time);
    let median = runs[runs.len() / 2].time;
    let peak = runs.iter().map(|run| run.peak_bytes).max().unwrap_or_default();
    println!(
        "{what:<44} {:>9.0} {:>10.0} {:>10} {:>8.0}",
        median.as_secs_f64() * 1000.0,
        bytes as f64 / MIB / median.as_secs_f64(),
        stored.map_or("-".to_owned(), |stored| format!("{:.1}", stored as f64 / MIB)),
        peak as f64 / MIB,
    );
}

/// What the files of a directory have.
fn size_of(directory: &std::path::Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

/// Runs a command, which must succeed, and looks at its memory all the while.
fn measured(command: &mut Command) -> Result<Run> {
    let since = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak_bytes = 0;
    loop {
        let ended = child.try_wait()?;
        let time = since.elapsed();
        // The kernel keeps the highest; it goes with the process, so the last look before that counts.
        peak_bytes = peak_bytes.max(peak(&fs::read_to_string(&status).unwrap_or_default()));
        if let Some(ended) = ended {
            ensure!(ended.success(), "{command:?} ended with {ended}");
            return Ok(Run { time, peak_bytes });
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn peak(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kibibytes.unwrap_or_default() << 10
}
