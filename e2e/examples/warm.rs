//! Scratch.
use e2e::TestHost;
use engine::{Languages, Request, Start};
use protocol::message::Process;
use vmm::MachineSpec;
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let host = TestHost::at(std::path::Path::new("/tmp/data-loop"));
    let engine = host.engine();
    let request =
        Request::from_code("python", "print('hi')".into(), String::new(), None, &Languages::built_in())
            .unwrap();
    let n: u32 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1);
    let mut all = vec![];
    for _ in 0..8 {
        let mut s = engine
            .open(&request.language.name, MachineSpec { memory_mib: 512, vcpus: 1 }, Start::Snapshot)
            .await
            .unwrap();
        let pid = s.process_id();
        if std::env::var("IDLE").is_ok() {
            println!("pid {pid}");
            std::thread::sleep(std::time::Duration::from_secs(600));
        }
        let mut w = vec![];
        for _ in 0..n {
            let t = std::time::Instant::now();
            s.warm_up().await.unwrap();
            w.push(t.elapsed().as_millis());
        }
        if std::env::var("PERF").is_ok() {
            std::process::Command::new("sh")
                .arg("-c")
                .arg(format!("nsenter --help >/dev/null; cat /proc/{pid}/smaps_rollup | grep -E 'Pss|Anon'"))
                .status()
                .unwrap();
        }
        let e = s.run(&request, Process::Initialised).await.unwrap();
        println!("warm {w:?} run {:?} guest {} us", s.phases().run, e[0].duration_micros);
        all.push(s.phases().run);
        s.end().await;
    }
    all.sort();
    println!("median {:?}", all[all.len() / 2]);
}
