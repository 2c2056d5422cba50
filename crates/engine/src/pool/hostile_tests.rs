//! What becomes of microVMs whose agent is in a program's hands: each is ended with its request, and none of them gets another.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use protocol::limits::MAX_FRAME_BYTES;
use vmm::{
    fake::{Counts, Fake, FakeSettings},
    spec::MachineSpec,
};

use super::{Admission, Pool, PoolError, PoolLimits, Tenant, Unobserved};
use crate::{Answer, Request, RunError, fake};

const MACHINE: MachineSpec = MachineSpec { memory_mib: 512, vcpus: 1 };
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_microvm_whose_agent_lies_is_ended_and_the_next_request_gets_another() {
    let directory = tempfile::tempdir().unwrap();
    let data = fake::prepare(directory.path(), &[MACHINE]).await.unwrap();
    let vmm = Fake::new(FakeSettings::default());
    let control = vmm.control();
    let pool = Pool::start(Arc::new(fake::engine(data, vmm, 8)), PoolLimits::default(), Arc::new(Unobserved));
    let run = async |text: &str| {
        let languages = pool.engine().languages();
        let code = text.to_owned();
        let request = Request::from_code("python", code, String::new(), Some(1.0), languages).unwrap();
        let tenant = Tenant(Arc::from("t"));
        let admission = Admission { tenant, machine: MACHINE, trace_id: "trace".to_owned() };
        pool.run(&request, admission).await
    };
    let too_long = format!("length {}", MAX_FRAME_BYTES + 1);
    let lies =
        ["garbage", "twice", "other", "length 0", "length 20000000", &too_long, "crash", "fail for a reason"];
    let mut identities = BTreeSet::new();
    for lie in lies {
        let identity = match run("identity").await.unwrap().answer {
            Answer::One(answer) => answer.stdout,
            other => panic!("{other:?} to one stdin"),
        };
        assert!(identities.insert(identity.clone()), "{identity} again");
        // What it wrote before it lied is nobody's.
        let error = run(&format!("print secret\nidentity\n{lie}")).await.unwrap_err();
        assert!(matches!(error, PoolError::Run(RunError::Guest { .. })), "{lie}: {error:?}");
        let told = format!("{} {}", crate::chain(&error), error_page(&error));
        assert!(!told.contains("secret"), "{told}");
    }
    let counts = control.counts();
    assert_eq!((counts.runs, counts.repeated_runs), (2 * lies.len() as u64, 0), "{counts:?}");
    assert!(pool.stop(PATIENCE).await);
    let gone = |counts: &Counts| counts.alive == 0;
    control.wait_until(PATIENCE, gone).await.unwrap();
}

#[tokio::test]
async fn requests_beside_agents_that_lie_get_their_own_answers() {
    let directory = tempfile::tempdir().unwrap();
    let data = fake::prepare(directory.path(), &[MACHINE]).await.unwrap();
    let vmm = Fake::new(FakeSettings::default());
    let control = vmm.control();
    let pool = Pool::start(Arc::new(fake::engine(data, vmm, 8)), PoolLimits::default(), Arc::new(Unobserved));
    let mut asked = tokio::task::JoinSet::new();
    for number in 0..40 {
        let pool = pool.clone();
        asked.spawn(async move {
            let text = if number % 2 == 0 {
                format!("print {number}")
            } else {
                format!("print {number}\n{}", ["garbage", "twice", "other", "length 0"][number / 2 % 4])
            };
            let languages = pool.engine().languages();
            let request = Request::from_code("python", text, String::new(), Some(1.0), languages).unwrap();
            let tenant = Tenant(Arc::from(format!("{}", number % 4)));
            let admission = Admission { tenant, machine: MACHINE, trace_id: format!("trace-{number}") };
            (number, pool.run(&request, admission).await.map(|outcome| outcome.answer))
        });
    }
    while let Some(answered) = asked.join_next().await {
        match answered.unwrap() {
            (number, Ok(Answer::One(answer))) => {
                assert_eq!(number % 2, 0, "{answer:?}");
                assert_eq!(answer.stdout, format!("{number}\n"));
                assert_eq!(answer.trace_id, format!("trace-{number}"));
            }
            (number, answered) => assert_eq!(number % 2, 1, "{answered:?}"),
        }
    }
    let counts = control.counts();
    assert_eq!((counts.runs, counts.repeated_runs), (40, 0), "{counts:?}");
}

fn error_page(error: &PoolError) -> String {
    match error {
        PoolError::Run(error) => error.page("trace"),
        error => error.to_string(),
    }
}
