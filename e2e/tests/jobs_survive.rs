//! Jobs survive `kill -9` of the service at any moment: none is lost, and none reported twice.

use std::time::Duration;

use e2e::{
    TestHost,
    service::Service,
    survival::{self, Extent, Survived, survive},
};

fn block_on(extent: &Extent, command: impl Fn() -> std::process::Command) -> Survived {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(survive(extent, command)).unwrap()
}

#[test]
fn a_thousand_jobs_survive_a_service_that_is_killed_again_and_again() {
    let extent = Extent::over_fakes();
    let directory = tempfile::tempdir().unwrap();
    let survived = block_on(&extent, || survival::fake_service(directory.path()));
    assert_eq!(survived.wrong(), Vec::<String>::new());
    let facts = &survived.facts;
    // Or nothing was tried.
    assert_eq!((facts.jobs(), facts.kills), (1000, extent.kills + 1));
    assert!(facts.rerun() > 0 && facts.interrupted() > 0, "no kill has met a job that ran");
}

#[test]
fn jobs_in_real_microvms_survive_it_too() {
    let host = TestHost::prepared().copy();
    let extent = Extent {
        jobs: 30,
        callers: 4,
        kills: 3,
        life: Duration::from_secs(1)..Duration::from_secs(4),
        program: |number| format!("import time\ntime.sleep(0.2)\nprint({number})"),
        patience: Duration::from_secs(300),
    };
    let options = ["--set", "jobs.running=2", "--set", "jobs.callback_networks=127.0.0.0/8"];
    let survived = block_on(&extent, || Service::command(&host, &options));
    assert_eq!(survived.wrong(), Vec::<String>::new());
    assert_eq!(survived.facts.jobs(), 30);
    // The last one comes when all is done.
    assert!(survived.facts.kills > 1, "{} kills", survived.facts.kills);
    assert_eq!(host.processes().unwrap(), Vec::<String>::new(), "microVMs of a service that was killed");
}
