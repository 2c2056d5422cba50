//! What a test sees of the microVMs of a [`super::Fake`], and has happen to them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

/// A step that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Starting a VMM, for a snapshot or for a boot.
    Start,
    /// Loading the snapshot.
    Load,
    /// Measuring the timer: the guest's kernel does without one, as its agent says whenever it is greeted.
    Timer,
    /// Reseeding: the guest agent answers that it failed.
    Reseed,
}

/// How many microVMs there were, and what became of them. VMMs that wait for their snapshot count as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Started, or begun to be. Each is alive, killed or ended.
    pub started: u64,
    /// There now.
    pub alive: u64,
    /// The most that were there at the same time.
    pub most_alive: u64,
    /// Ended from outside: killed, dropped, or saved.
    pub killed: u64,
    /// Ended by themselves: crashed, shut down, or failed to start or to load.
    pub ended: u64,
    /// Runs that they were asked for, but for rehearsals.
    pub runs: u64,
    /// Those of the runs that were not the first one of their microVM.
    pub repeated_runs: u64,
    /// Rehearsals.
    pub rehearsals: u64,
}

/// How a step fails.
#[derive(Debug, Default)]
struct Failures {
    /// The next so many times.
    next: AtomicU64,
    /// And every so manieth time; 0 for never.
    one_in: AtomicU64,
    attempts: AtomicU64,
}

impl Failures {
    fn is_due(&self) -> bool {
        let attempt = self.attempts.fetch_add(1, SeqCst) + 1;
        let taken = self.next.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        let one_in = self.one_in.load(SeqCst);
        taken.is_ok() || (one_in > 0 && attempt.is_multiple_of(one_in))
    }
}

/// Counts the microVMs of one [`super::Fake`], and makes them fail. Shared by all that hold it.
#[derive(Debug)]
pub struct FakeControl {
    started: AtomicU64,
    alive: AtomicU64,
    most_alive: AtomicU64,
    killed: AtomicU64,
    ended: AtomicU64,
    runs: AtomicU64,
    repeated_runs: AtomicU64,
    rehearsals: AtomicU64,
    start: Failures,
    load: Failures,
    timer: Failures,
    reseed: Failures,
    identities: AtomicU64,
    crash: watch::Sender<()>,
    changed: Notify,
}

impl FakeControl {
    pub(super) fn new() -> Self {
        Self {
            started: AtomicU64::default(),
            alive: AtomicU64::default(),
            most_alive: AtomicU64::default(),
            killed: AtomicU64::default(),
            ended: AtomicU64::default(),
            runs: AtomicU64::default(),
            repeated_runs: AtomicU64::default(),
            rehearsals: AtomicU64::default(),
            start: Failures::default(),
            load: Failures::default(),
            timer: Failures::default(),
            reseed: Failures::default(),
            identities: AtomicU64::default(),
            crash: watch::Sender::new(()),
            changed: Notify::new(),
        }
    }

    /// What there is now. Numbers that change meanwhile may be of slightly different moments.
    pub fn counts(&self) -> Counts {
        Counts {
            started: self.started.load(SeqCst),
            alive: self.alive.load(SeqCst),
            most_alive: self.most_alive.load(SeqCst),
            killed: self.killed.load(SeqCst),
            ended: self.ended.load(SeqCst),
            runs: self.runs.load(SeqCst),
            repeated_runs: self.repeated_runs.load(SeqCst),
            rehearsals: self.rehearsals.load(SeqCst),
        }
    }

    /// Waits until the counts are such that `condition` holds. After `patience` the counts are the error.
    pub async fn wait_until(
        &self,
        patience: Duration,
        condition: impl Fn(&Counts) -> bool,
    ) -> Result<Counts, Counts> {
        let holds = async {
            loop {
                // Before the look, so that no change after it is missed.
                let changed = self.changed.notified();
                let counts = self.counts();
                if condition(&counts) {
                    return counts;
                }
                changed.await;
            }
        };
        timeout(patience, holds).await.map_err(|_| self.counts())
    }

    /// Has `step` fail the next `times` times that it is taken; 0 takes back what was told before.
    pub fn fail_next(&self, step: Step, times: u64) {
        self.failures(step).next.store(times, SeqCst);
    }

    /// Has `step` fail each time that the number of its attempts is a multiple of `one_in`; 0 takes that back.
    pub fn fail_one_in(&self, step: Step, one_in: u64) {
        self.failures(step).one_in.store(one_in, SeqCst);
    }

    /// Has all VMMs that are there now end by themselves, whatever they are doing.
    pub fn crash_all(&self) {
        self.crash.send_replace(());
    }

    fn failures(&self, step: Step) -> &Failures {
        match step {
            Step::Start => &self.start,
            Step::Load => &self.load,
            Step::Timer => &self.timer,
            Step::Reseed => &self.reseed,
        }
    }

    pub(super) fn fails(&self, step: Step) -> bool {
        self.failures(step).is_due()
    }

    pub(super) fn new_identity(&self) -> u64 {
        self.identities.fetch_add(1, SeqCst) + 1
    }

    pub(super) fn crashes(&self) -> watch::Receiver<()> {
        self.crash.subscribe()
    }

    pub(super) fn count_run(&self, is_first: bool) {
        self.runs.fetch_add(1, SeqCst);
        if !is_first {
            self.repeated_runs.fetch_add(1, SeqCst);
        }
        self.changed.notify_waiters();
    }

    pub(super) fn count_rehearsal(&self) {
        self.rehearsals.fetch_add(1, SeqCst);
        self.changed.notify_waiters();
    }
}

/// A VMM's place among those that are alive, from the beginning of its start until nothing is left of it.
pub(super) struct Alive {
    control: Arc<FakeControl>,
    by_itself: bool,
}

impl Alive {
    pub(super) fn new(control: &Arc<FakeControl>) -> Self {
        control.started.fetch_add(1, SeqCst);
        let alive = control.alive.fetch_add(1, SeqCst) + 1;
        control.most_alive.fetch_max(alive, SeqCst);
        control.changed.notify_waiters();
        Self { control: Arc::clone(control), by_itself: false }
    }

    /// It ends now, and nobody has ended it.
    pub(super) fn end_by_itself(mut self) {
        self.by_itself = true;
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        let ends = if self.by_itself { &self.control.ended } else { &self.control.killed };
        ends.fetch_add(1, SeqCst);
        self.control.alive.fetch_sub(1, SeqCst);
        self.control.changed.notify_waiters();
    }
}
