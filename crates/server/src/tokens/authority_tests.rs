//! Tests of the [`Authority`] with its worker, its database, and others that change that.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use proptest::prelude::*;
use rusqlite::Connection;

use super::{
    AdmitError, AuthError, Authority, Caller, Grant, Permit, QuotaExceeded, Register, quota::Moment,
};
use crate::{
    database::{self, Durability},
    tokens::SCHEMA,
};

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3600 * SECOND;
const DAY: i64 = 24 * HOUR;
const NOON: i64 = 20_000 * DAY + 12 * HOUR;

/// A data directory, commands that change its tokens, and a clock.
struct Place {
    _directory: tempfile::TempDir,
    path: PathBuf,
    register: Register,
    clock: Arc<AtomicI64>,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("service.sqlite3");
        let register = Register::open(&path).unwrap();
        Self { _directory: directory, path, register, clock: Arc::new(AtomicI64::new(NOON)) }
    }

    fn token(&mut self, grant: &Grant) -> String {
        self.register.create(grant).unwrap().text.reveal()
    }

    fn connect(&self) -> Connection {
        database::open(&self.path, &SCHEMA, Durability::Recent, Duration::from_millis(100)).unwrap()
    }

    fn authority(&self) -> Authority {
        self.authority_over(self.connect())
    }

    fn authority_over(&self, connection: Connection) -> Authority {
        let clock = Arc::clone(&self.clock);
        let now = move || Moment::from_nanos(clock.load(Ordering::SeqCst));
        Authority::start(connection, &self.path, now).unwrap()
    }

    fn set_clock(&self, nanos: i64) {
        self.clock.store(nanos, Ordering::SeqCst);
    }
}

fn grant(name: &str) -> Grant {
    Grant::unlimited(name.parse().unwrap())
}

fn daily(name: &str, executions: u32) -> Grant {
    Grant { daily_executions: Some(executions), ..grant(name) }
}

fn rated(name: &str, rate: &str) -> Grant {
    Grant { rate: Some(rate.parse().unwrap()), ..grant(name) }
}

async fn caller(authority: &Authority, token: &str) -> Caller {
    authority.authenticate(Some(token)).await.unwrap()
}

/// How many single executions are let in, one after the other.
async fn admitted(authority: &Authority, caller: &Caller, attempts: usize) -> usize {
    let mut count = 0;
    for _ in 0..attempts {
        match authority.admit(caller, 1).await {
            Ok(_permit) => count += 1,
            Err(AdmitError::Quota(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    count
}

fn is_unavailable(admission: &Result<Permit, AdmitError>) -> bool {
    matches!(admission, Err(AdmitError::Unavailable(crate::NoAnswer::Database { .. })))
}

#[tokio::test]
async fn only_the_whole_token_opens() {
    let mut place = Place::new();
    let (one, other) = (place.token(&grant("one")), place.token(&grant("other")));
    let authority = place.authority();
    assert_eq!(caller(&authority, &one).await.grant().name.as_str(), "one");
    for missing in [None, Some("")] {
        assert!(matches!(authority.authenticate(missing).await, Err(AuthError::Missing)));
    }
    let id = |token: &str| token.split('_').nth(1).unwrap().to_owned();
    let crossed = one.replace(&id(&one), &id(&other));
    let unknown = one.replace(&id(&one), "0000000000");
    let last = if one.ends_with('0') { "1" } else { "0" };
    let altered = format!("{}{last}", &one[..one.len() - 1]);
    for wrong in [&crossed, &unknown, &altered, &id(&one), "lfc_", "Bearer"] {
        assert!(matches!(authority.authenticate(Some(wrong)).await, Err(AuthError::Invalid)), "{wrong}");
    }
}

#[tokio::test]
async fn what_a_command_changes_holds_at_the_next_request() {
    let mut place = Place::new();
    let authority = place.authority();
    for round in 0..20 {
        let token = place.token(&grant(&format!("t{round}")));
        let caller = caller(&authority, &token).await;
        let _permit = authority.admit(&caller, 1).await.unwrap();
        place.register.revoke(caller.id().as_str()).unwrap();
        assert!(matches!(authority.admit(&caller, 1).await, Err(AdmitError::Invalid)));
        assert!(matches!(authority.authenticate(Some(&token)).await, Err(AuthError::Invalid)));
    }
}

#[tokio::test]
async fn a_token_is_valid_until_it_expires() {
    let mut place = Place::new();
    let expires_unix = u64::try_from(NOON / SECOND).unwrap() + 10;
    let token = place.token(&Grant { expires_unix: Some(expires_unix), ..grant("a") });
    let authority = place.authority();
    place.set_clock(NOON + 10 * SECOND - 1);
    let caller = caller(&authority, &token).await;
    place.set_clock(NOON + 10 * SECOND);
    assert!(matches!(authority.authenticate(Some(&token)).await, Err(AuthError::Invalid)));
    assert!(matches!(authority.admit(&caller, 1).await, Err(AdmitError::Invalid)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_daily_quota_is_exact_for_many_at_once_in_two_services() {
    let mut place = Place::new();
    let token = place.token(&daily("a", 200));
    let services = [place.authority(), place.authority()];
    let tasks: Vec<_> = (0..64_usize)
        .map(|task| {
            let (authority, token) = (services[task % 2].clone(), token.clone());
            tokio::spawn(async move {
                let caller = caller(&authority, &token).await;
                admitted(&authority, &caller, if task < 52 { 8 } else { 7 }).await
            })
        })
        .collect();
    let mut total = 0;
    for task in tasks {
        total += task.await.unwrap();
    }
    assert_eq!(total, 200);
}

#[tokio::test]
async fn quotas_hold_over_a_restart() {
    let mut place = Place::new();
    let tokens = [place.token(&daily("a", 5)), place.token(&rated("b", "5/h"))];
    for expected in [2, 2, 1, 0] {
        let authority = place.authority();
        for token in &tokens {
            assert_eq!(admitted(&authority, &caller(&authority, token).await, 2).await, expected);
        }
    }
}

/// What the ledger says, by the place's own clock.
fn used(place: &Place, name: &str) -> u64 {
    let now = Moment::from_nanos(place.clock.load(Ordering::SeqCst));
    let token = place.register.list().unwrap().into_iter().find(|token| token.grant.name.as_str() == name);
    super::ledger::used_today(&place.connect(), &token.unwrap().id, now).unwrap()
}

#[tokio::test]
async fn a_batch_counts_each_of_its_executions_or_none() {
    let mut place = Place::new();
    let token = place.token(&Grant { rate: Some("3/h".parse().unwrap()), ..daily("a", 10) });
    let authority = place.authority();
    let caller = caller(&authority, &token).await;
    let _seven = authority.admit(&caller, 7).await.unwrap();
    let refused = authority.admit(&caller, 4).await;
    assert!(matches!(refused, Err(AdmitError::Quota(QuotaExceeded::Daily { left: 3, .. }))), "{refused:?}");
    // Neither did the refusal count for the rate.
    let _three = authority.admit(&caller, 3).await.unwrap();
    let _none = authority.admit(&caller, 0).await.unwrap();
    let refused = authority.admit(&caller, 0).await;
    assert!(matches!(refused, Err(AdmitError::Quota(QuotaExceeded::Rate { .. }))), "{refused:?}");
    assert_eq!(used(&place, "a"), 10);
}

#[tokio::test]
async fn what_was_not_run_is_given_back() {
    let mut place = Place::new();
    let token = place.token(&daily("a", 10));
    let authority = place.authority();
    let caller = caller(&authority, &token).await;
    let permit = authority.admit(&caller, 10).await.unwrap();
    assert!(authority.admit(&caller, 1).await.is_err());
    permit.refund().await.unwrap();
    let permit = authority.admit(&caller, 6).await.unwrap();
    // On the day that it was counted on, and on no other.
    place.set_clock(NOON + DAY);
    let _today = authority.admit(&caller, 10).await.unwrap();
    permit.refund().await.unwrap();
    assert!(authority.admit(&caller, 1).await.is_err());
    assert_eq!(used(&place, "a"), 10);
}

#[tokio::test]
async fn requests_at_once_are_those_whose_permits_live() {
    let mut place = Place::new();
    let token = place.token(&Grant { concurrency: Some(2), ..grant("a") });
    let authority = place.authority();
    let caller = caller(&authority, &token).await;
    let first = authority.admit(&caller, 1).await.unwrap();
    let second = authority.admit(&caller, 1).await.unwrap();
    let refused = authority.admit(&caller, 1).await;
    assert!(
        matches!(refused, Err(AdmitError::Quota(QuotaExceeded::Concurrency { limit: 2 }))),
        "{refused:?}"
    );
    drop(first);
    let third = authority.admit(&caller, 1).await.unwrap();
    // A change of the tokens forgets nobody who runs.
    place.token(&grant("b"));
    assert!(authority.admit(&caller, 1).await.is_err());
    drop((second, third));
    let _ = [authority.admit(&caller, 1).await.unwrap(), authority.admit(&caller, 1).await.unwrap()];
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_goes_away_before_the_answer_takes_no_room() {
    let mut place = Place::new();
    let token = place.token(&Grant { concurrency: Some(3), ..grant("a") });
    let authority = place.authority();
    let caller = caller(&authority, &token).await;
    for micros in 0..300 {
        // Some of these are over before it is asked, some after, some while the worker is about to answer.
        let _ = tokio::time::timeout(Duration::from_micros(micros), authority.admit(&caller, 1)).await;
    }
    let permits = [authority.admit(&caller, 1).await, authority.admit(&caller, 1).await];
    assert!(permits.iter().all(Result::is_ok), "{permits:?}");
}

#[tokio::test]
async fn a_clock_that_is_set_back_gives_nothing_twice_and_locks_nobody_out() {
    for back in [HOUR, DAY] {
        let mut place = Place::new();
        let (counted, rated) = (place.token(&daily("a", 3)), place.token(&rated("b", "60/min")));
        let authority = place.authority();
        let (counted, rated) = (caller(&authority, &counted).await, caller(&authority, &rated).await);
        assert_eq!(admitted(&authority, &counted, 5).await, 3);
        assert_eq!(admitted(&authority, &rated, 70).await, 60);
        place.set_clock(NOON - back);
        assert_eq!(admitted(&authority, &counted, 5).await, 0);
        assert_eq!(admitted(&authority, &rated, 5).await, 0);
        place.set_clock(NOON - back + 2 * SECOND);
        assert_eq!(admitted(&authority, &rated, 5).await, 2);
        place.set_clock(NOON);
        assert_eq!(admitted(&authority, &counted, 5).await, 0);
        place.set_clock(NOON + DAY);
        assert_eq!(admitted(&authority, &counted, 5).await, 3);
    }
}

#[tokio::test]
async fn a_clock_that_was_far_ahead_changes_no_day_that_was_counted() {
    let mut place = Place::new();
    let (counted, rated) = (place.token(&daily("a", 5)), place.token(&rated("b", "60/min")));
    let authority = place.authority();
    let (counted, rated) = (caller(&authority, &counted).await, caller(&authority, &rated).await);
    assert_eq!(admitted(&authority, &counted, 3).await, 3);
    for days in [365, 366, 9000] {
        place.set_clock(NOON + days * DAY);
        assert_eq!(admitted(&authority, &counted, 6).await, 5);
        assert_eq!(admitted(&authority, &rated, 70).await, 60);
    }
    place.set_clock(NOON + HOUR);
    assert_eq!(admitted(&authority, &counted, 5).await, 2);
    assert_eq!(admitted(&authority, &rated, 1).await, 0);
    place.set_clock(NOON + HOUR + SECOND);
    assert_eq!(admitted(&authority, &rated, 2).await, 1);
    place.set_clock(NOON + DAY);
    assert_eq!(admitted(&authority, &counted, 10).await, 5);
}

#[tokio::test]
async fn days_are_forgotten_but_not_the_current_one() {
    let mut place = Place::new();
    let token = place.token(&daily("a", 5));
    let authority = place.authority();
    let caller = caller(&authority, &token).await;
    for days in 1000..1100 {
        place.set_clock(NOON + days * DAY);
        assert_eq!(admitted(&authority, &caller, 6).await, 5);
    }
    // Before all the days that are kept, as with a clock that has lost its battery.
    place.set_clock(NOON - 9000 * DAY);
    assert_eq!(admitted(&authority, &caller, 3).await, 3);
    assert_eq!(admitted(&authority, &caller, 3).await, 2);
    let days: i64 =
        place.connect().query_row("SELECT count(*) FROM daily_usage", [], |row| row.get(0)).unwrap();
    assert_eq!(days, 65);
}

#[tokio::test]
async fn a_full_database_refuses_what_it_cannot_count() {
    let mut place = Place::new();
    let tokens: Vec<_> = (0..400).map(|token| place.token(&daily(&format!("t{token}"), 2))).collect();
    let unlimited = place.token(&grant("unlimited"));
    let connection = place.connect();
    let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    connection.pragma_update(None, "max_page_count", pages).unwrap();
    let authority = place.authority_over(connection);
    let mut refused = 0;
    for token in &tokens {
        let caller = caller(&authority, token).await;
        let admission = authority.admit(&caller, 1).await;
        assert!(admission.is_ok() || is_unavailable(&admission), "{admission:?}");
        if let Err(AdmitError::Unavailable(error)) = &admission {
            refused += 1;
            assert_eq!(error.hint().as_deref(), Some("free some disk space"));
        }
    }
    assert!((1..400).contains(&refused), "{refused}");
    // Nothing has to be counted of this one, and what was refused was not counted.
    let _permit = authority.admit(&caller(&authority, &unlimited).await, 1).await.unwrap();
    drop(authority);
    let total: i64 =
        place.connect().query_row("SELECT sum(executions) FROM daily_usage", [], |row| row.get(0)).unwrap();
    assert!(total == 400 - refused || total == 400 - refused + 1, "{total} of {refused}");
    // With room again, all of them are let in as if nothing had been.
    let authority = place.authority();
    for token in &tokens {
        assert!((1..=2).contains(&admitted(&authority, &caller(&authority, token).await, 3).await));
    }
}

#[tokio::test]
async fn a_database_that_cannot_be_written_refuses_what_it_cannot_count() {
    let mut place = Place::new();
    let (counted, unlimited) = (place.token(&daily("a", 5)), place.token(&grant("b")));
    let connection = place.connect();
    connection.pragma_update(None, "query_only", true).unwrap();
    let authority = place.authority_over(connection);
    let counted = caller(&authority, &counted).await;
    assert!(is_unavailable(&authority.admit(&counted, 1).await));
    let _permit = authority.admit(&caller(&authority, &unlimited).await, 1).await.unwrap();
}

#[tokio::test]
async fn a_locked_database_refuses_in_time_and_forgets_nobody() {
    let mut place = Place::new();
    let token = place.token(&daily("a", 5));
    let authority = place.authority();
    let caller_before = caller(&authority, &token).await;
    let other = place.connect();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let since = Instant::now();
    assert!(is_unavailable(&authority.admit(&caller_before, 1).await));
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    caller(&authority, &token).await;
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(admitted(&authority, &caller_before, 6).await, 5);
}

#[tokio::test]
async fn a_database_that_cannot_be_read_still_knows_who_was_known() {
    let mut place = Place::new();
    let token = place.token(&daily("a", 5));
    let authority = place.authority();
    let known = caller(&authority, &token).await;
    place.connect().execute_batch("ALTER TABLE token_changes RENAME TO elsewhere").unwrap();
    caller(&authority, &token).await;
    assert!(is_unavailable(&authority.admit(&known, 1).await));
    let unknown = token.replace(known.id().as_str(), "0000000000");
    assert!(matches!(authority.authenticate(Some(&unknown)).await, Err(AuthError::Unavailable(_))));
}

const DATABASE: &str = "LLM_FIRECRACKER_TEST_DATABASE";
const TOKEN: &str = "LLM_FIRECRACKER_TEST_TOKEN";

/// Says each admission once it has it, until the quota is used up.
#[tokio::test]
#[ignore = "a process of its own, which other tests start"]
async fn counting_process() {
    let path = PathBuf::from(std::env::var_os(DATABASE).unwrap());
    let authority = Authority::open(&path).unwrap();
    let caller = caller(&authority, &std::env::var(TOKEN).unwrap()).await;
    while authority.admit(&caller, 1).await.is_ok() {
        println!("\nadmitted");
    }
}

/// That process, begun by a command that is given its program and arguments.
fn counting(mut command: Command, place: &Place, token: &str) -> Child {
    command
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "tokens::authority_tests::counting_process", "--ignored", "--nocapture"])
        .envs([(DATABASE, place.path.as_os_str()), (TOKEN, token.as_ref())])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn admissions(stdout: ChildStdout) -> impl Iterator<Item = String> {
    let lines = BufReader::new(stdout).lines().map(Result::unwrap);
    lines.filter(|line| line == "admitted")
}

#[test]
fn a_log_that_cannot_grow_begins_anew() {
    const QUOTA: u32 = 300;
    let mut place = Place::new();
    let token = place.token(&daily("a", QUOTA));
    // Files of at most a few hundred KiB, where each admission writes a page of 4 KiB or more to the log.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 400; exec \"$@\"", "sh"]);
    let mut child = counting(command, &place, &token);
    assert_eq!(admissions(child.stdout.take().unwrap()).count(), QUOTA as usize);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_kill_at_any_moment_gives_nothing_twice() {
    const QUOTA: u32 = 2000;
    let mut place = Place::new();
    let token = place.token(&daily("a", QUOTA));
    let (mut said, mut killed) = (0_u64, 0);
    for round in 1_usize.. {
        let mut child = counting(Command::new("env"), &place, &token);
        let mut admissions = admissions(child.stdout.take().unwrap());
        let before = said;
        said += admissions.by_ref().take(37 * round).count() as u64;
        child.kill().unwrap();
        let was_over = said - before < 37 * round as u64;
        // What it had said before it was killed.
        said += admissions.count() as u64;
        child.wait().unwrap();
        if was_over {
            break;
        }
        killed += 1;
        let counted = place.register.list().unwrap()[0].used_today;
        assert!((said..=u64::from(QUOTA)).contains(&counted), "{said} were let in, {counted} counted");
    }
    assert!(killed >= 3, "{killed}");
    // Each kill may have hit one between its being counted and its being said.
    assert!(said <= QUOTA.into() && said + killed >= QUOTA.into(), "{said} with {killed} kills");
}

#[derive(Clone, Debug)]
enum Step {
    Admit(u32),
    Refund,
    Restart,
    Forward(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4_u32).prop_map(Step::Admit),
        2 => Just(Step::Refund),
        1 => Just(Step::Restart),
        1 => (0..DAY).prop_map(Step::Forward),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The model: a day, and what was used of it.
    #[test]
    fn a_daily_quota_is_what_a_simple_count_says(steps in prop::collection::vec(step(), 1..40)) {
        let mut place = Place::new();
        let token = place.token(&daily("a", 10));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut authority = place.authority();
            let caller = caller(&authority, &token).await;
            let (mut now, mut used) = (NOON, 0);
            let mut permits = Vec::new();
            for step in steps {
                match step {
                    Step::Admit(executions) => {
                        let admission = authority.admit(&caller, executions).await;
                        assert_eq!(admission.is_ok(), executions == 0 || used + executions <= 10);
                        if let Ok(permit) = admission {
                            used += executions;
                            permits.push((now / DAY, executions, permit));
                        }
                    }
                    Step::Refund => if let Some((day, executions, permit)) = permits.pop() {
                        permit.refund().await.unwrap();
                        used -= if day == now / DAY { executions } else { 0 };
                    },
                    Step::Restart => {
                        permits.clear();
                        drop(authority);
                        authority = place.authority();
                    }
                    Step::Forward(nanos) => {
                        used = if (now + nanos) / DAY == now / DAY { used } else { 0 };
                        now += nanos;
                        place.set_clock(now);
                    }
                }
            }
        });
    }
}
