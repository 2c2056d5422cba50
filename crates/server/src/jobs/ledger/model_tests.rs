//! The ledger beside a model of it, through any sequence of what clients, runners and receivers do, with the process
//! killed anywhere between.

use std::{collections::BTreeMap, path::PathBuf};

use proptest::prelude::*;
use rusqlite::Connection;
use vmm::spec::MachineSpec;

use super::{
    Acceptance, Bounds, CallbackOutcome, Cancelled, Claimed, End, Filter, Full, Interruption, Key, NewJob,
    Viewer, accept, cancel, claim, counts, due_callbacks, finish, interrupt, job, list, recover, requeue,
    settle_callback, sweep,
};
use crate::jobs::{
    job::{CallbackState, IfInterrupted, JobState, Millis},
    store::connect,
};

const BOUNDS: Bounds = Bounds { queued: 8, kept: 20, bytes: 10_000 };
const INTERRUPTION: Interruption = Interruption { most: 2 };
const LIFETIME: i64 = 50;

/// What happens.
#[derive(Clone, Debug)]
enum Step {
    Accept {
        tenant: u8,
        key: Option<u8>,
        body: u8,
        rerun: bool,
        callback: bool,
    },
    Claim,
    /// The attempt that was claimed so long ago says what it came to: it may have been long over.
    Finish {
        which: usize,
        is_done: bool,
    },
    Requeue {
        which: usize,
        pause: i64,
    },
    Interrupt {
        which: usize,
    },
    Cancel {
        which: usize,
    },
    /// A callback that is due was tried.
    Tell {
        is_taken: bool,
        is_last: bool,
    },
    Sweep,
    Wait {
        millis: i64,
    },
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    let accept = (0..3_u8, prop::option::of(0..3_u8), 0..2_u8, any::<bool>(), any::<bool>());
    prop_oneof![
        6 => accept.prop_map(|(tenant, key, body, rerun, callback)| Step::Accept { tenant, key, body, rerun, callback }),
        6 => Just(Step::Claim),
        5 => (0..6_usize, any::<bool>()).prop_map(|(which, is_done)| Step::Finish { which, is_done }),
        2 => (0..6_usize, 0..20_i64).prop_map(|(which, pause)| Step::Requeue { which, pause }),
        1 => (0..6_usize).prop_map(|which| Step::Interrupt { which }),
        2 => (0..20_usize).prop_map(|which| Step::Cancel { which }),
        4 => any::<(bool, bool)>().prop_map(|(is_taken, is_last)| Step::Tell { is_taken, is_last }),
        1 => Just(Step::Sweep),
        3 => (1..30_i64).prop_map(|millis| Step::Wait { millis }),
        2 => Just(Step::Kill),
    ]
}

/// A job as it should be.
#[derive(Clone, Debug)]
struct Expected {
    tenant: String,
    key: Option<(String, [u8; 32])>,
    bytes: u64,
    rerun: bool,
    state: JobState,
    attempt: u32,
    interruptions: u32,
    not_before: Millis,
    finished: Option<Millis>,
    callback: Option<CallbackState>,
    due: Option<Millis>,
    /// How often it has become final: never twice.
    ends: u32,
}

impl Expected {
    fn end(&mut self, state: JobState, bytes: u64, now: Millis) {
        (self.state, self.bytes, self.finished, self.ends) = (state, bytes, Some(now), self.ends + 1);
        self.due = self.callback.map(|_| now);
    }

    fn interrupted(&mut self, now: Millis) {
        let again = self.rerun && self.interruptions < INTERRUPTION.most;
        self.interruptions += 1;
        if again {
            (self.state, self.not_before) = (JobState::Queued, now);
        } else {
            self.end(JobState::Failed, 0, now);
        }
    }
}

struct World {
    connection: Option<Connection>,
    path: PathBuf,
    now: Millis,
    made: usize,
    /// In the order in which they were accepted: ids are made so.
    jobs: BTreeMap<String, Expected>,
    claims: Vec<Claimed>,
}

impl World {
    fn file(&self) -> &Connection {
        self.connection.as_ref().unwrap()
    }

    fn perform(&mut self, step: &Step) {
        let now = self.now;
        match *step {
            Step::Accept { tenant, key, body, rerun, callback } => {
                self.accept(tenant, key, body, rerun, callback);
            }
            Step::Claim => self.claim(),
            Step::Finish { which, is_done } => {
                let Some((id, attempt)) = self.claimed(which) else { return };
                let end = if is_done { End::Done(b"{}".to_vec()) } else { End::Failed("E010".to_owned()) };
                let ended = finish(self.file(), (&id, attempt), &end, now).unwrap();
                let Some(job) = self.present(&id, attempt, ended) else { return };
                let (state, bytes) = if is_done { (JobState::Done, 2) } else { (JobState::Failed, 0) };
                job.end(state, bytes, now);
            }
            Step::Requeue { which, pause } => {
                let Some((id, attempt)) = self.claimed(which) else { return };
                let put_back = requeue(self.file(), (&id, attempt), now + pause).unwrap();
                let Some(job) = self.present(&id, attempt, put_back) else { return };
                (job.state, job.not_before) = (JobState::Queued, now + pause);
            }
            Step::Interrupt { which } => {
                let Some((id, attempt)) = self.claimed(which) else { return };
                let was_present = interrupt(self.file(), (&id, attempt), INTERRUPTION, now).unwrap();
                if let Some(job) = self.present(&id, attempt, was_present) {
                    job.interrupted(now);
                }
            }
            Step::Cancel { which } => self.cancel(which),
            Step::Tell { is_taken, is_last } => self.tell(is_taken, is_last),
            Step::Sweep => {
                let expired =
                    |job: &Expected| job.finished.is_some_and(|at| at + LIFETIME <= now) && job.due.is_none();
                let expected = self.jobs.values().filter(|job| expired(job)).count();
                assert_eq!(sweep(self.file(), 100, now).unwrap(), expected);
                self.jobs.retain(|_, job| !expired(job));
            }
            Step::Wait { millis } => self.now += millis,
            Step::Kill => {
                // Nothing is said to the file: what is not committed is not there, and nobody remembers its claims.
                self.connection = None;
                self.connection = Some(connect(&self.path).unwrap());
                recover(self.file(), INTERRUPTION, now).unwrap();
                for job in self.jobs.values_mut() {
                    match job.state {
                        JobState::Running => job.interrupted(now),
                        JobState::Queued => job.not_before = job.not_before.min(now),
                        _ => {}
                    }
                }
            }
        }
    }

    fn accept(&mut self, tenant: u8, key: Option<u8>, body: u8, rerun: bool, callback: bool) {
        self.made += 1;
        let (id, tenant) = (format!("{:05}", self.made), format!("t{tenant}"));
        let key = key.map(|key| (format!("k{key}"), [body; 32]));
        let asked = NewJob {
            id: id.clone(),
            owner: tenant.clone(),
            tenant: tenant.clone(),
            trace_id: String::new(),
            language: "python".to_owned(),
            machine: MachineSpec { memory_mib: 512, vcpus: 1 },
            executions: 1,
            request: vec![b'x'; 10],
            if_interrupted: if rerun { IfInterrupted::Rerun } else { IfInterrupted::Fail },
            lifetime: LIFETIME,
            key: key.clone().map(|(text, body_sha256)| Key { text, body_sha256 }),
            callback_url: callback.then(|| "https://example.org/".to_owned()),
        };
        let acceptance = accept(self.file(), &asked, BOUNDS, self.now).unwrap();
        let same_key = self.jobs.iter().find(|(_, job)| {
            job.tenant == tenant
                && job.key.as_ref().map(|(text, _)| text) == key.as_ref().map(|(text, _)| text)
                && key.is_some()
        });
        let queued = |of: Option<&str>| {
            let waits =
                |job: &&Expected| job.state == JobState::Queued && of.is_none_or(|of| job.tenant == of);
            self.jobs.values().filter(waits).count() as u64
        };
        let kept = self.jobs.values().filter(|job| job.tenant == tenant).count() as u64;
        let expected = match same_key {
            Some((known, job)) if job.key == key => Acceptance::Known(known.clone()),
            Some(_) => Acceptance::OtherBody,
            None if queued(Some(&tenant)) >= BOUNDS.queued / 2 => {
                Acceptance::Refused(Full::CallersQueue { limit: BOUNDS.queued / 2 })
            }
            None if kept >= BOUNDS.kept / 2 => {
                Acceptance::Refused(Full::CallersKept { limit: BOUNDS.kept / 2 })
            }
            None if queued(None) >= BOUNDS.queued => Acceptance::Refused(Full::Queue),
            None if self.jobs.len() as u64 >= BOUNDS.kept => Acceptance::Refused(Full::Kept),
            None => Acceptance::Accepted(id.clone()),
        };
        assert_eq!(acceptance, expected);
        if acceptance == Acceptance::Accepted(id.clone()) {
            let callback = callback.then_some(CallbackState::Waiting);
            let (state, not_before) = (JobState::Queued, 0);
            self.jobs.insert(
                id,
                Expected {
                    tenant,
                    key,
                    bytes: 10,
                    rerun,
                    state,
                    attempt: 0,
                    interruptions: 0,
                    not_before,
                    finished: None,
                    callback,
                    due: None,
                    ends: 0,
                },
            );
        }
    }

    fn claim(&mut self) {
        let claimed = claim(self.file(), self.now).unwrap();
        let may_run = |job: &Expected| job.state == JobState::Queued && job.not_before <= self.now;
        let running = |tenant: &str| {
            self.jobs.values().filter(|job| job.tenant == tenant && job.state == JobState::Running).count()
        };
        let fewest = self.jobs.values().filter(|job| may_run(job)).map(|job| running(&job.tenant)).min();
        let Some(claimed) = claimed else { return assert_eq!(fewest, None) };
        // Of one that has the fewest, and of its own the oldest.
        assert_eq!(Some(running(&claimed.tenant)), fewest);
        let oldest = self.jobs.iter().find(|(_, job)| job.tenant == claimed.tenant && may_run(job));
        assert_eq!(oldest.map(|(id, _)| id.as_str()), Some(claimed.id.as_str()));
        let job = self.jobs.get_mut(&claimed.id).unwrap();
        (job.state, job.attempt) = (JobState::Running, job.attempt + 1);
        assert_eq!(claimed.attempt, job.attempt);
        self.claims.push(claimed);
    }

    /// The attempt of the claim before so many others.
    fn claimed(&self, which: usize) -> Option<(String, u32)> {
        let claimed = self.claims.iter().rev().nth(which)?;
        Some((claimed.id.clone(), claimed.attempt))
    }

    /// The job whose present attempt this is, which the ledger has to know, too.
    fn present(&mut self, id: &str, attempt: u32, found: bool) -> Option<&mut Expected> {
        let job =
            self.jobs.get_mut(id).filter(|job| job.state == JobState::Running && job.attempt == attempt);
        assert_eq!(job.is_some(), found, "{id} {attempt}");
        job
    }

    fn cancel(&mut self, which: usize) {
        let Some(id) = self.jobs.keys().nth(which).cloned() else { return };
        let stranger = Viewer::Owner("somebody".to_owned());
        assert_eq!(cancel(self.file(), &stranger, &id, self.now).unwrap(), Cancelled::Unknown);
        let cancelled = cancel(self.file(), &Viewer::Administrator, &id, self.now).unwrap();
        let now = self.now;
        let job = self.jobs.get_mut(&id).unwrap();
        let expected = match job.state {
            JobState::Queued => Cancelled::Queued,
            JobState::Running => Cancelled::Running,
            _ => Cancelled::Removed,
        };
        assert_eq!(cancelled, expected);
        if expected == Cancelled::Removed {
            self.jobs.remove(&id);
        } else {
            job.end(JobState::Cancelled, 0, now);
        }
    }

    fn tell(&mut self, is_taken: bool, is_last: bool) {
        let due = due_callbacks(self.file(), 100, self.now).unwrap();
        let expected = self.jobs.iter().filter(|(_, job)| job.due.is_some_and(|due| due <= self.now));
        let mut expected: Vec<_> = expected.map(|(id, _)| id.clone()).collect();
        let mut found: Vec<_> = due.iter().map(|callback| callback.id.clone()).collect();
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
        let Some(id) = found.first() else { return };
        let (error, due) = ("no".to_owned(), self.now + 10);
        let (outcome, state, due) = match (is_taken, is_last) {
            (true, _) => (CallbackOutcome::Delivered, CallbackState::Delivered, None),
            (false, true) => (CallbackOutcome::GivenUp { error }, CallbackState::GivenUp, None),
            (false, false) => (CallbackOutcome::Again { error, due }, CallbackState::Waiting, Some(due)),
        };
        assert!(settle_callback(self.file(), id, &outcome, self.now).unwrap());
        // One that is settled is not settled again.
        if due.is_none() {
            assert!(!settle_callback(self.file(), id, &CallbackOutcome::Delivered, self.now).unwrap());
        }
        let job = self.jobs.get_mut(id).unwrap();
        (job.callback, job.due) = (Some(state), due);
    }

    /// Whether the file says what the model says.
    fn compare(&self) {
        let file = self.file();
        let all = list(file, &Viewer::Administrator, &Filter { limit: 1000, ..Filter::default() }).unwrap();
        let ids: Vec<_> = all.jobs.iter().rev().map(|job| job.id.clone()).collect();
        assert_eq!(ids, self.jobs.keys().cloned().collect::<Vec<_>>(), "none is lost, and none comes back");
        for (id, expected) in &self.jobs {
            let found = job(file, &Viewer::Owner(expected.tenant.clone()), id).unwrap().unwrap();
            assert_eq!(
                (found.summary.state, found.summary.attempts),
                (expected.state, expected.attempt),
                "{id}"
            );
            assert_eq!(found.summary.finished.map(jiff::Timestamp::as_millisecond), expected.finished);
            assert_eq!(found.result.is_some(), expected.state == JobState::Done);
            assert_eq!(found.summary.callback.map(|callback| callback.state), expected.callback);
            assert_eq!(expected.ends, u32::from(expected.state.is_final()));
        }
        let counted = counts(file).unwrap();
        let number = |state| self.jobs.values().filter(|job| job.state == state).count() as u64;
        assert_eq!((counted.queued, counted.running), (number(JobState::Queued), number(JobState::Running)));
        assert_eq!(counted.bytes, self.jobs.values().map(|job| job.bytes).sum::<u64>());
        assert_eq!(counted.kept, self.jobs.len() as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_ledger_is_as_the_model_says(steps in prop::collection::vec(step(), 1..120)) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("jobs.sqlite3");
        let connection = connect(&path).unwrap();
        // The disk is not what is tested here.
        connection.pragma_update(None, "synchronous", "OFF").unwrap();
        let mut world =
            World { connection: Some(connection), path, now: 1_000, made: 0, jobs: BTreeMap::new(), claims: Vec::new() };
        for step in &steps {
            world.perform(step);
            world.compare();
        }
    }
}
