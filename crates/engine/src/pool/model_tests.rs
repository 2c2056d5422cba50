//! The state machine against a model of the world: microVMs start, fail, run and end in any order, requests come and
//! go, and whatever happens, what is promised holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use vmm::spec::MachineSpec;

use super::{
    limits::PoolLimits,
    queue::Tenant,
    state::{Arrival, Command, Event, PoolKey, Refusal, State, Ticket, VmId},
};

/// What a microVM does, as the model sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Starting,
    Rehearsing,
    Waiting,
    Running(Ticket),
    Ending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Waits,
    Served,
    Refused(Refusal),
    Cancelled,
}

struct World {
    state: State,
    limits: PoolLimits,
    now: Instant,
    vms: BTreeMap<VmId, (PoolKey, Doing)>,
    tickets: BTreeMap<Ticket, (PoolKey, Instant, u32, Fate)>,
    /// In the order of being served.
    served: Vec<Ticket>,
    next_ticket: u64,
}

fn key(language: &str, memory_mib: u32) -> PoolKey {
    PoolKey { language: language.parse().unwrap(), machine: MachineSpec { memory_mib, vcpus: 1 } }
}

fn keys() -> [PoolKey; 3] {
    [key("python", 512), key("python", 1024), key("ruby", 256)]
}

fn tenant(name: &str) -> Tenant {
    Tenant(Arc::from(name))
}

impl World {
    fn new(limits: PoolLimits) -> Self {
        Self {
            state: State::new(limits.clone()),
            limits,
            now: Instant::now(),
            vms: BTreeMap::new(),
            tickets: BTreeMap::new(),
            served: Vec::new(),
            next_ticket: 0,
        }
    }

    fn with_snapshots(limits: PoolLimits) -> Self {
        let mut world = Self::new(limits);
        world.event(Event::Snapshots { usable: keys().into(), stale: BTreeSet::new() });
        world
    }

    fn event(&mut self, event: Event) {
        for command in self.state.handle(event, self.now) {
            match command {
                Command::Start { vm, key } => {
                    assert!(self.vms.insert(vm, (key, Doing::Starting)).is_none(), "a microVM starts twice");
                }
                Command::Rehearse(vm) => self.change(vm, |doing| {
                    // It has just taken a step.
                    assert_eq!(doing, Doing::Waiting);
                    Doing::Rehearsing
                }),
                Command::Hand { vm, ticket } => {
                    let key = self.vms[&vm].0.clone();
                    self.change(vm, |doing| {
                        // Never one that has served before.
                        assert!(!matches!(doing, Doing::Running(_) | Doing::Ending), "{doing:?}");
                        Doing::Running(ticket)
                    });
                    let (wanted, deadline, _, fate) = self.tickets.get_mut(&ticket).unwrap();
                    assert_eq!(*wanted, key, "a request got a microVM of another kind");
                    assert_eq!(*fate, Fate::Waits, "a request is answered twice");
                    assert!(self.now <= *deadline, "a request is served after its deadline");
                    *fate = Fate::Served;
                    self.served.push(ticket);
                }
                Command::End { vm, .. } => self.change(vm, |doing| {
                    assert!(!matches!(doing, Doing::Running(_) | Doing::Ending), "{doing:?} is ended");
                    Doing::Ending
                }),
                Command::Refuse { ticket, refusal } => {
                    let fate = &mut self.tickets.get_mut(&ticket).unwrap().3;
                    assert_eq!(*fate, Fate::Waits, "a request is answered twice");
                    *fate = Fate::Refused(refusal);
                }
            }
        }
        self.check();
    }

    fn change(&mut self, vm: VmId, change: impl FnOnce(Doing) -> Doing) {
        let doing = &mut self.vms.get_mut(&vm).expect("a microVM that there is").1;
        *doing = change(*doing);
    }

    fn check(&self) {
        let count = |is: fn(&Doing) -> bool| self.vms.values().filter(|(_, doing)| is(doing)).count();
        let running = count(|doing| matches!(doing, Doing::Running(_)));
        assert!(running <= self.limits.running as usize, "{running} run");
        let preparing = count(|doing| matches!(doing, Doing::Starting | Doing::Rehearsing));
        assert!(preparing <= self.limits.starting as usize, "{preparing} start or rehearse");
        let batches = self.vms.values().filter(|(_, doing)| match doing {
            Doing::Running(ticket) => self.tickets[ticket].2 > 1,
            _ => false,
        });
        assert!(batches.count() <= self.limits.batches as usize, "batches hog the pool");
        let memory = self.vms.values().map(|(key, doing)| match doing {
            Doing::Running(_) => PoolLimits::running_mib(key.machine),
            Doing::Ending => 0,
            _ => PoolLimits::idle_mib(key.machine),
        });
        let memory: u64 = memory.sum();
        assert!(memory <= self.limits.memory_mib, "{memory} MiB");
        let waiting = self.tickets.values().filter(|(_, _, _, fate)| *fate == Fate::Waits).count();
        let status = self.state.status(self.now);
        assert_eq!(status.queued, waiting);
        assert_eq!(status.microvms, self.vms.len());
        assert_eq!(status.running as usize, running);
        // One whose microVM was broken waits again, however many do.
        assert!(waiting <= self.limits.queue + self.limits.running as usize);
        for (_, deadline, _, fate) in self.tickets.values() {
            assert!(*fate != Fate::Waits || *deadline > self.now, "a request waits after its deadline");
        }
    }

    fn arrive(&mut self, name: &str, key: PoolKey, executions: u32) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let deadline = self.now + self.limits.patience;
        self.tickets.insert(ticket, (key.clone(), deadline, executions, Fate::Waits));
        self.event(Event::Arrived(Arrival { ticket, tenant: tenant(name), key, executions }));
        ticket
    }

    fn cancel(&mut self, ticket: Ticket) {
        let fate = &mut self.tickets.get_mut(&ticket).unwrap().3;
        if *fate == Fate::Waits {
            *fate = Fate::Cancelled;
        }
        self.event(Event::Cancelled(ticket));
    }

    /// Lets the microVM take its next step; `fault` decides whether that goes wrong.
    fn step(&mut self, vm: VmId, fault: bool) {
        match self.vms[&vm].1 {
            Doing::Starting | Doing::Rehearsing | Doing::Waiting if fault => {
                self.change(vm, |_| Doing::Ending);
                self.event(Event::Failed { vm, permanent: false });
            }
            Doing::Starting => {
                self.change(vm, |_| Doing::Waiting);
                self.event(Event::Started(vm));
            }
            Doing::Rehearsing => {
                self.change(vm, |_| Doing::Waiting);
                self.event(Event::Rehearsed(vm));
            }
            Doing::Waiting => {}
            Doing::Running(ticket) if fault => {
                // Found to be broken before it was used: the request waits again.
                self.change(vm, |_| Doing::Ending);
                let (_, deadline, _, fate) = self.tickets.get_mut(&ticket).unwrap();
                *fate = if *deadline <= self.now { Fate::Refused(Refusal::TimedOut) } else { Fate::Waits };
                let was = *fate;
                if was == Fate::Waits {
                    self.event(Event::Unsound(vm));
                } else {
                    self.event(Event::Finished(vm));
                }
            }
            Doing::Running(_) => {
                self.change(vm, |_| Doing::Ending);
                self.event(Event::Finished(vm));
            }
            Doing::Ending => {
                self.vms.remove(&vm);
                self.event(Event::Gone(vm));
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(wake) = self.state.next_wake(self.now).filter(|wake| *wake < end) {
            self.now = wake.max(self.now + Duration::from_millis(1));
            self.event(Event::Tick);
        }
        self.now = end;
        self.event(Event::Tick);
    }

    /// Everything goes well, one step after the other, until nothing changes any more.
    fn settle(&mut self) {
        for _ in 0..100_000 {
            let busy = self.vms.iter().find(|(_, (_, doing))| *doing != Doing::Waiting);
            let Some(vm) = busy.map(|(vm, _)| *vm) else {
                // A start may be put off after failures.
                if !self.tickets.values().any(|(_, _, _, fate)| *fate == Fate::Waits) {
                    return;
                }
                self.pass(Duration::from_secs(1));
                continue;
            };
            let starts = self.vms[&vm].1 == Doing::Starting;
            self.now += Duration::from_millis(if starts { 200 } else { 5 });
            self.step(vm, false);
        }
        panic!("the pool never comes to rest");
    }

    fn fate(&self, ticket: Ticket) -> Fate {
        self.tickets[&ticket].3
    }
}

#[derive(Clone, Debug)]
enum Action {
    Arrive { tenant: u8, key: usize, executions: u32 },
    Cancel(u64),
    Step { which: usize, fault: bool },
    Pass(u64),
    Snapshots { usable: u8, stale: u8 },
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        4 => (0..4_u8, 0..3_usize, prop_oneof![4 => Just(1_u32), 1 => 2..20_u32])
            .prop_map(|(tenant, key, executions)| Action::Arrive { tenant, key, executions }),
        1 => (0..200_u64).prop_map(Action::Cancel),
        8 => (0..64_usize, prop::bool::weighted(0.1)).prop_map(|(which, fault)| Action::Step { which, fault }),
        1 => (1..20_000_u64).prop_map(Action::Pass),
        1 => (0..8_u8, 0..8_u8).prop_map(|(usable, stale)| Action::Snapshots { usable, stale }),
    ];
    prop::collection::vec(action, 0..250)
}

fn chosen(bits: u8) -> BTreeSet<PoolKey> {
    let keys = keys().into_iter().enumerate();
    keys.filter(|(index, _)| bits & (1 << index) != 0).map(|(_, key)| key).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happens_every_request_has_one_answer_and_every_microvm_one_request(
        actions in actions(),
        memory_mib in 1200..6000_u64,
        running in 1..6_u32,
        starting in 1..4_u32,
        queue in 1..40_usize,
    ) {
        let batches = running.div_ceil(2);
        let limits = PoolLimits {
            memory_mib, running, starting, batches, queue, maximum: 4, ..PoolLimits::default()
        };
        let mut world = World::with_snapshots(limits);
        for action in actions {
            match action {
                Action::Arrive { tenant, key, executions } => {
                    world.arrive(&tenant.to_string(), keys()[key].clone(), executions);
                }
                Action::Cancel(ticket) if ticket < world.next_ticket => world.cancel(Ticket(ticket)),
                Action::Cancel(_) => {}
                Action::Step { which, fault } => {
                    let vms: Vec<VmId> = world.vms.keys().copied().collect();
                    if !vms.is_empty() {
                        world.step(vms[which % vms.len()], fault);
                    }
                }
                Action::Pass(millis) => world.pass(Duration::from_millis(millis)),
                Action::Snapshots { usable, stale } => {
                    world.event(Event::Snapshots { usable: chosen(usable), stale: chosen(stale) });
                }
            }
        }
        world.settle();
        for (_, _, _, fate) in world.tickets.values() {
            prop_assert_ne!(*fate, Fate::Waits);
        }
        world.event(Event::Stop);
        world.settle();
        for vm in world.vms.keys().copied().collect::<Vec<_>>() {
            world.step(vm, false);
        }
        prop_assert!(world.state.is_empty(), "something is left: {:?}", world.vms);
    }
}

#[test]
fn one_caller_with_a_thousand_requests_does_not_keep_another_waiting() {
    let limits = PoolLimits { queue: 4000, patience: Duration::from_secs(100_000), ..PoolLimits::default() };
    let mut world = World::with_snapshots(limits);
    for _ in 0..1000 {
        world.arrive("greedy", key("python", 512), 1);
    }
    let other = world.arrive("modest", key("python", 512), 1);
    world.settle();
    let place = world.served.iter().position(|ticket| *ticket == other).unwrap();
    assert!(place <= 10, "served as number {place}");
    assert_eq!(world.served.len(), 1001);
}

#[test]
fn two_who_ask_for_much_are_served_in_turns() {
    let limits = PoolLimits { queue: 4000, patience: Duration::from_secs(100_000), ..PoolLimits::default() };
    let mut world = World::with_snapshots(limits);
    let first: Vec<_> = (0..100).map(|_| world.arrive("first", key("python", 512), 1)).collect();
    let _second: Vec<_> = (0..100).map(|_| world.arrive("second", key("python", 512), 1)).collect();
    world.settle();
    let of_first = world.served[..100].iter().filter(|ticket| first.contains(ticket)).count();
    assert!((45..=60).contains(&of_first), "{of_first} of the first hundred");
}

#[test]
fn a_full_queue_refuses_at_once_and_one_tenant_cannot_fill_it() {
    let limits = PoolLimits { queue: 20, patience: Duration::from_secs(100_000), ..PoolLimits::default() };
    let mut world = World::with_snapshots(limits);
    let greedy: Vec<_> = (0..100).map(|_| world.arrive("greedy", key("python", 512), 1)).collect();
    let waiting = greedy.iter().filter(|ticket| world.fate(**ticket) == Fate::Waits).count();
    assert_eq!(waiting, 10, "half of the queue is for others");
    let busy = world.fate(greedy[99]);
    assert!(
        matches!(busy, Fate::Refused(Refusal::Busy { retry_after }) if retry_after >= Duration::from_secs(1))
    );
    let other = world.arrive("modest", key("python", 512), 1);
    assert_eq!(world.fate(other), Fate::Waits);
}

#[test]
fn what_cannot_be_served_in_time_is_refused_at_once() {
    let limits = PoolLimits { patience: Duration::from_secs(10), ..PoolLimits::default() };
    let mut world = World::with_snapshots(limits);
    let all: Vec<_> = (0..500).map(|_| world.arrive("burst", key("python", 512), 1)).collect();
    let (mut admitted, mut refused) = (0, 0);
    for ticket in &all {
        match world.fate(*ticket) {
            Fate::Refused(Refusal::Busy { .. }) => refused += 1,
            _ => admitted += 1,
        }
    }
    assert!(admitted > 5 && refused > 300, "{admitted} admitted, {refused} refused");
    world.settle();
    let late = all.iter().filter(|ticket| world.fate(**ticket) == Fate::Refused(Refusal::TimedOut)).count();
    assert_eq!(late, 0, "admitted, and not served in time");
}

#[test]
fn the_pool_follows_demand_and_shrinks_again() {
    let limits = PoolLimits::default();
    let mut world = World::with_snapshots(limits);
    world.settle();
    let idle = |world: &World| world.state.status(world.now).kinds.iter().map(|kind| kind.idle).sum::<u32>();
    assert_eq!(idle(&world), 3, "one of each kind");
    for _ in 0..600 {
        world.arrive("busy", key("python", 512), 1);
        world.settle();
        world.pass(Duration::from_millis(50));
    }
    world.settle();
    let busy = idle(&world);
    assert!(busy > 4, "{busy} wait while ten a second are asked for");
    for _ in 0..40 {
        world.pass(Duration::from_secs(30));
        world.settle();
    }
    assert_eq!(idle(&world), 3, "and one of each kind when nobody asks");
}

#[test]
fn a_start_that_always_fails_is_told_to_those_who_wait_and_tried_less_and_less_often() {
    let mut world = World::with_snapshots(PoolLimits::default());
    let ticket = world.arrive("a", key("python", 512), 1);
    let mut starts = 0;
    for _ in 0..600 {
        for vm in world.vms.keys().copied().collect::<Vec<_>>() {
            starts += u32::from(world.vms[&vm].1 == Doing::Starting);
            world.step(vm, true);
        }
        world.pass(Duration::from_secs(1));
    }
    assert_eq!(world.fate(ticket), Fate::Refused(Refusal::Failed));
    assert!(starts < 150, "{starts} starts of three kinds in ten minutes");
}
