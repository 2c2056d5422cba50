//! The pool's decisions: a state machine without clock, locks or I/O.
//!
//! ```text
//!            ┌──────────────── Hand ─────────────────┐
//!            │          ┌────── Hand ──────┐         ▼
//! Starting ──┴─▶ Rehearsing ──┴─▶ Idle ──Hand──▶ Running ──Finished──▶ Ending ──Gone──▶ (room for another)
//!    │               │             │                                     ▲
//!    └───────────────┴─────────────┴──── Failed, Unsound, surplus, stale ┘
//! ```
//!
//! A microVM moves to the right only: what has run a program never waits again. Requests that wait come before
//! microVMs that wait: a microVM is handed over unrehearsed rather than late, and while programs run, the pool is
//! filled again only where it is running low.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use store::Language;
use vmm::spec::MachineSpec;

mod schedule;
mod status;

pub use status::{KindStatus, PoolStatus};

use super::{
    estimate::{Demand, Mean},
    limits::PoolLimits,
    queue::{FairQueue, Tenant, Waiting},
};

/// How long a start is taken to last before one was seen: under emulation on a busy host.
const START_GUESS: Duration = Duration::from_millis(500);

/// The same of a run in a microVM that has rehearsed.
const RUN_GUESS: Duration = Duration::from_millis(50);

/// And of one in a microVM that has not, beside others of its kind.
const FIRST_RUN_GUESS: Duration = Duration::from_secs(1);

/// Requests are admitted where they are expected to be served within this part of their patience: starts take longer
/// when programs run beside them, and a refusal at once is better than one after the whole wait.
const CAUTION: f64 = 0.6;

/// How long more microVMs than needed may wait before they are ended.
const SURPLUS_PATIENCE: Duration = Duration::from_secs(30);

/// How long a microVM may wait for its request: clocks of guests drift.
const LONGEST_IDLE: Duration = Duration::from_secs(3600);

/// Waits after starts that failed one after the other, doubled each time.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// See [`FIRST_BACKOFF`]. Shorter than requests are patient: what was wrong may have been mended meanwhile.
const LONGEST_BACKOFF: Duration = Duration::from_secs(16);

/// How many starts may fail one after the other before a request is told.
const FAILURES_BEFORE_REFUSAL: u32 = 2;

/// A kind of microVMs: those of one kind serve the same requests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolKey {
    /// The language.
    pub language: Language,
    /// The size.
    pub machine: MachineSpec,
}

/// A request, from its arrival to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Ticket(pub(super) u64);

/// A microVM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct VmId(pub(super) u64);

/// A request that arrives.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) ticket: Ticket,
    pub(super) tenant: Tenant,
    pub(super) key: PoolKey,
    /// How many executions it is; more than one is a batch.
    pub(super) executions: u32,
}

/// What happens to the pool.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A request wants a microVM.
    Arrived(Arrival),
    /// It does not any more.
    Cancelled(Ticket),
    /// A microVM is ready for a program.
    Started(VmId),
    /// It has rehearsed once more.
    Rehearsed(VmId),
    /// It could not be started, or has failed in a rehearsal or while it waited; it is being ended.
    Failed {
        vm: VmId,
        /// Whether the next one will fail as well.
        permanent: bool,
    },
    /// One that was handed over was found to be broken before it was used; it is being ended. Its request is to have
    /// another.
    Unsound(VmId),
    /// Its request has been served, or given up; it is being ended.
    Finished(VmId),
    /// Nothing of it is left.
    Gone(VmId),
    /// These are the kinds that can be restored; those in `stale` from another snapshot than before.
    Snapshots { usable: BTreeSet<PoolKey>, stale: BTreeSet<PoolKey> },
    /// Other limits hold.
    Limits(PoolLimits),
    /// No more requests are taken.
    Stop,
    /// And those that wait are refused.
    GiveUp,
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Start a microVM.
    Start { vm: VmId, key: PoolKey },
    /// Let it rehearse once.
    Rehearse(VmId),
    /// Give it to a request.
    Hand { vm: VmId, ticket: Ticket },
    /// End it.
    End { vm: VmId, why: Ending },
    /// Tell a request that it is not served.
    Refuse { ticket: Ticket, refusal: Refusal },
}

/// Why a microVM is ended that has not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// There are more than needed.
    Surplus,
    /// It has waited too long.
    Old,
    /// Its snapshot has been replaced or removed.
    Stale,
    /// Its memory is needed for another kind.
    Reclaimed,
    /// The pool stops.
    Stopping,
}

/// Why a request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too many wait.
    Busy {
        /// When another attempt may be worth it.
        retry_after: Duration,
    },
    /// It has waited too long.
    TimedOut,
    /// No microVM of this size fits into the memory that there is for all.
    TooLarge,
    /// Its microVM could not be started.
    Failed,
    /// The pool stops.
    Stopping,
}

#[derive(Clone, Debug)]
enum Phase {
    Starting,
    Rehearsing {
        done: u32,
    },
    Idle,
    /// With the request that it serves.
    Running {
        tenant: Tenant,
        request: Waiting,
    },
    /// It has what it had until nothing of it is left.
    Ending {
        memory_mib: u64,
    },
}

#[derive(Debug)]
pub(super) struct Vm {
    key: PoolKey,
    phase: Phase,
    since: Instant,
    /// Whether it has rehearsed, so that a run in it is quick.
    rehearsed: bool,
}

/// What is known about microVMs of one kind.
#[derive(Debug)]
struct Kind {
    restorable: bool,
    idle: BTreeSet<VmId>,
    starting: u32,
    rehearsing: u32,
    running: u32,
    demand: Demand,
    start: Mean,
    run: Mean,
    first_run: Mean,
    failures: u32,
    /// Not before this is one started again.
    retry_at: Option<Instant>,
    /// Since when more wait than are needed.
    surplus_since: Option<Instant>,
}

impl Kind {
    fn new(now: Instant) -> Self {
        Self {
            restorable: false,
            idle: BTreeSet::new(),
            starting: 0,
            rehearsing: 0,
            running: 0,
            demand: Demand::none(now),
            start: Mean::guess(START_GUESS),
            run: Mean::guess(RUN_GUESS),
            first_run: Mean::guess(FIRST_RUN_GUESS),
            failures: 0,
            retry_at: None,
            surplus_since: None,
        }
    }

    fn idle(&self) -> u32 {
        u32::try_from(self.idle.len()).unwrap_or(u32::MAX)
    }

    /// Those that wait, or soon will.
    fn coming(&self) -> u32 {
        self.idle() + self.starting + self.rehearsing
    }

    fn may_start(&self, now: Instant) -> bool {
        self.retry_at.is_none_or(|at| at <= now)
    }
}

/// The pool.
#[derive(Debug)]
pub(super) struct State {
    limits: PoolLimits,
    vms: BTreeMap<VmId, Vm>,
    kinds: BTreeMap<PoolKey, Kind>,
    queue: FairQueue,
    running: u32,
    batches: u32,
    /// How many microVMs each tenant has running.
    tenants: BTreeMap<Tenant, u32>,
    /// Starting or rehearsing.
    preparing: u32,
    memory_mib: u64,
    next_vm: u64,
    stopping: bool,
}

impl State {
    /// An empty pool.
    pub(super) fn new(limits: PoolLimits) -> Self {
        Self {
            limits,
            vms: BTreeMap::new(),
            kinds: BTreeMap::new(),
            queue: FairQueue::default(),
            running: 0,
            batches: 0,
            tenants: BTreeMap::new(),
            preparing: 0,
            memory_mib: 0,
            next_vm: 0,
            stopping: false,
        }
    }

    /// Takes an event, and says what is to be done.
    pub(super) fn handle(&mut self, event: Event, now: Instant) -> Vec<Command> {
        let mut commands = Vec::new();
        match event {
            Event::Arrived(arrival) => self.arrive(arrival, now, &mut commands),
            Event::Cancelled(ticket) => drop(self.queue.remove(ticket)),
            Event::Started(vm) => self.started(vm, now, &mut commands),
            Event::Rehearsed(vm) => self.rehearsed(vm, now, &mut commands),
            Event::Failed { vm, permanent } => self.failed(vm, permanent, now, &mut commands),
            Event::Unsound(vm) => self.unsound(vm, now),
            Event::Finished(vm) => self.finished(vm, now),
            Event::Gone(vm) => self.gone(vm, now),
            Event::Snapshots { usable, stale } => self.snapshots(&usable, &stale, now, &mut commands),
            Event::Limits(limits) => self.limits = limits,
            Event::Stop => self.stopping = true,
            Event::GiveUp => {
                self.stopping = true;
                for ticket in self.queue.all() {
                    self.refuse(ticket, Refusal::Stopping, &mut commands);
                }
            }
            Event::Tick => {}
        }
        self.expire(now, &mut commands);
        self.hand_over(now, &mut commands);
        self.start_for_waiting(now, &mut commands);
        self.refill(now, &mut commands);
        self.shrink(now, &mut commands);
        commands
    }

    /// When something is to be decided even though nothing happens.
    pub(super) fn next_wake(&self, now: Instant) -> Option<Instant> {
        let retries = self.kinds.values().filter_map(|kind| kind.retry_at.filter(|at| *at > now));
        let surplus = self.kinds.values().filter_map(|kind| kind.surplus_since);
        let oldest = self.kinds.values().filter_map(|kind| kind.idle.first());
        let oldest = oldest.filter_map(|vm| self.vms.get(vm)).map(|vm| vm.since + LONGEST_IDLE);
        let surplus = surplus.map(|since| since + SURPLUS_PATIENCE);
        // Demand fades without an event.
        let fading = self.kinds.values().any(|kind| kind.demand.within(SURPLUS_PATIENCE, now) > 0);
        let fading = fading.then(|| now + SURPLUS_PATIENCE);
        retries.chain(surplus).chain(oldest).chain(fading).chain(self.queue.next_deadline()).min()
    }

    /// Whether nothing is left to be ended or served.
    pub(super) fn is_empty(&self) -> bool {
        self.vms.is_empty() && self.queue.len() == 0
    }

    fn arrive(&mut self, arrival: Arrival, now: Instant, commands: &mut Vec<Command>) {
        let Arrival { ticket, tenant, key, executions } = arrival;
        let refuse = |refusal| Command::Refuse { ticket, refusal };
        if self.stopping {
            return commands.push(refuse(Refusal::Stopping));
        }
        if PoolLimits::running_mib(key.machine) > self.limits.memory_mib {
            return commands.push(refuse(Refusal::TooLarge));
        }
        let kind = self.kinds.entry(key.clone()).or_insert_with(|| Kind::new(now));
        kind.demand.add(now);
        let wait = self.expected_wait(&tenant, &key);
        let serves_at_once = self.queue.len() == 0 && self.next_idle(&key).is_some();
        let is_hopeless = wait > self.limits.patience.mul_f64(CAUTION);
        if !serves_at_once && (is_hopeless || !self.queue.has_room(&tenant, self.limits.queue)) {
            let retry_after = wait.clamp(Duration::from_secs(1), Duration::from_secs(60));
            return commands.push(refuse(Refusal::Busy { retry_after }));
        }
        let deadline = now + self.limits.patience;
        self.queue.push(tenant, Waiting { ticket, key, cost: executions.max(1), deadline });
    }

    /// How long a new request of this tenant would wait: nothing where nobody is ahead of it.
    fn expected_wait(&self, tenant: &Tenant, key: &PoolKey) -> Duration {
        let ahead = u32::try_from(self.queue.ahead_of(tenant)).unwrap_or(u32::MAX);
        let Some(kind) = self.kinds.get(key) else { return Duration::ZERO };
        // Of those that wait each takes its part of the places to run in; others have to be started first, by processors
        // that others run on.
        let ready = kind.run.get() / self.limits.running.max(1);
        let started = kind.start.get() / self.limits.starting.max(1)
            + kind.first_run.get() / self.limits.running.max(1);
        let waiting = ahead.min(kind.idle());
        ready.saturating_mul(waiting) + started.saturating_mul(ahead.saturating_sub(waiting))
    }

    fn started(&mut self, vm: VmId, now: Instant, commands: &mut Vec<Command>) {
        let Some(Vm { key, phase: Phase::Starting, since, .. }) = self.vms.get(&vm) else { return };
        let took = now.saturating_duration_since(*since);
        if let Some(kind) = self.kinds.get_mut(key) {
            kind.start.add(took);
            kind.failures = 0;
            kind.retry_at = None;
        }
        self.set_phase(vm, Phase::Rehearsing { done: 0 }, now);
        self.go_on_rehearsing(vm, 0, now, commands);
    }

    fn rehearsed(&mut self, vm: VmId, now: Instant, commands: &mut Vec<Command>) {
        let Some(Vm { phase: Phase::Rehearsing { done }, .. }) = self.vms.get(&vm) else { return };
        let done = done + 1;
        if let Some(vm) = self.vms.get_mut(&vm) {
            vm.rehearsed = true;
        }
        self.go_on_rehearsing(vm, done, now, commands);
    }

    /// Lets a microVM rehearse once more, unless a request waits for it, or it has done so often enough.
    fn go_on_rehearsing(&mut self, vm: VmId, done: u32, now: Instant, commands: &mut Vec<Command>) {
        let Some(Vm { key, .. }) = self.vms.get(&vm) else { return };
        if self.next_waiting(|waiting| waiting.key == *key).is_some() || done >= self.limits.rehearsals {
            return self.set_phase(vm, Phase::Idle, now);
        }
        self.set_phase(vm, Phase::Rehearsing { done }, now);
        commands.push(Command::Rehearse(vm));
    }

    fn failed(&mut self, vm: VmId, permanent: bool, now: Instant, commands: &mut Vec<Command>) {
        let Some(Vm { key, phase, .. }) = self.vms.get(&vm) else { return };
        if matches!(phase, Phase::Running { .. } | Phase::Ending { .. }) {
            return;
        }
        let key = key.clone();
        self.set_ending(vm, now);
        let Some(kind) = self.kinds.get_mut(&key) else { return };
        kind.failures += 1;
        let backoff = FIRST_BACKOFF * 2_u32.pow(kind.failures.min(16) - 1);
        kind.retry_at = Some(now + backoff.min(LONGEST_BACKOFF));
        if permanent {
            for ticket in self.queue.waiting_for(&key) {
                self.refuse(ticket, Refusal::Failed, commands);
            }
        } else if kind.failures >= FAILURES_BEFORE_REFUSAL
            && let Some(ticket) = self.next_waiting(|waiting| waiting.key == key)
        {
            self.refuse(ticket, Refusal::Failed, commands);
        }
    }

    fn finished(&mut self, vm: VmId, now: Instant) {
        let Some(Vm { key, phase: Phase::Running { .. }, since, rehearsed }) = self.vms.get(&vm) else {
            return;
        };
        let took = now.saturating_duration_since(*since);
        if let Some(kind) = self.kinds.get_mut(key) {
            let mean = if *rehearsed { &mut kind.run } else { &mut kind.first_run };
            mean.add(took);
        }
        self.set_ending(vm, now);
    }

    fn unsound(&mut self, vm: VmId, now: Instant) {
        let Some(Vm { phase: Phase::Running { tenant, request }, .. }) = self.vms.get(&vm) else { return };
        self.queue.push_back_to_front(tenant.clone(), request.clone());
        self.set_ending(vm, now);
    }

    fn gone(&mut self, vm: VmId, now: Instant) {
        // Whatever it did, it is over.
        self.set_ending(vm, now);
        if let Some(vm) = self.vms.remove(&vm) {
            self.memory_mib = self.memory_mib.saturating_sub(vm.memory_mib());
        }
    }

    fn snapshots(
        &mut self,
        usable: &BTreeSet<PoolKey>,
        stale: &BTreeSet<PoolKey>,
        now: Instant,
        commands: &mut Vec<Command>,
    ) {
        for key in usable {
            let kind = self.kinds.entry(key.clone()).or_insert_with(|| Kind::new(now));
            if !kind.restorable || stale.contains(key) {
                // What failed before need not fail now.
                kind.failures = 0;
                kind.retry_at = None;
            }
        }
        for (key, kind) in &mut self.kinds {
            kind.restorable = usable.contains(key);
        }
        let is_stale = |key: &PoolKey| stale.contains(key) || !usable.contains(key);
        let idle = self.vms.iter().filter(|(_, vm)| matches!(vm.phase, Phase::Idle));
        let stale: Vec<_> = idle.filter(|(_, vm)| is_stale(&vm.key)).map(|(id, _)| *id).collect();
        for vm in stale {
            self.end(vm, Ending::Stale, now, commands);
        }
    }

    fn refuse(&mut self, ticket: Ticket, refusal: Refusal, commands: &mut Vec<Command>) {
        if self.queue.remove(ticket).is_some() {
            commands.push(Command::Refuse { ticket, refusal });
        }
    }

    fn expire(&mut self, now: Instant, commands: &mut Vec<Command>) {
        while let Some(ticket) = self.queue.expired(now) {
            self.refuse(ticket, Refusal::TimedOut, commands);
        }
    }
}
