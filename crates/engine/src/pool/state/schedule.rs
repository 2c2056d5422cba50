//! Who gets which microVM, and how many there are to be.

use std::{collections::BTreeMap, time::Instant};

use super::{
    Command, Ending, Kind, LONGEST_IDLE, Phase, PoolKey, PoolLimits, SURPLUS_PATIENCE, State, Tenant, Ticket,
    Vm, VmId, Waiting,
};

/// For how many starts' time microVMs are kept: one that is taken has been replaced by the time they are used up, the
/// rehearsals included.
const STARTS_AHEAD: u32 = 4;

impl Vm {
    /// What it takes, in MiB. Its memory is given back when nothing of it is left.
    pub(super) fn memory_mib(&self) -> u64 {
        match self.phase {
            Phase::Starting | Phase::Rehearsing { .. } | Phase::Idle => {
                PoolLimits::idle_mib(self.key.machine)
            }
            Phase::Running { .. } => PoolLimits::running_mib(self.key.machine),
            Phase::Ending { memory_mib } => memory_mib,
        }
    }
}

impl State {
    /// How many microVMs of a kind are to wait.
    pub(super) fn target(&self, kind: &Kind, now: Instant) -> u32 {
        if !kind.restorable || self.stopping {
            return 0;
        }
        let minimum = self.limits.minimum.min(self.limits.maximum);
        kind.demand.within(kind.start.get() * STARTS_AHEAD, now).clamp(minimum, self.limits.maximum)
    }

    /// The microVM of this kind that has waited longest.
    pub(super) fn next_idle(&self, key: &PoolKey) -> Option<VmId> {
        self.kinds.get(key)?.idle.first().copied()
    }

    /// The request that is next among those that may be served now.
    pub(super) fn next_waiting(&self, fits: impl Fn(&Waiting) -> bool) -> Option<Ticket> {
        if self.running >= self.limits.running {
            return None;
        }
        let allowed = self.queue.in_order().into_iter().filter(|(tenant, _)| self.may_run_more(tenant, 0));
        let mut requests = allowed.flat_map(|(_, requests)| requests);
        requests.find(|waiting| self.may_run(waiting) && fits(waiting)).map(|waiting| waiting.ticket)
    }

    fn may_run_more(&self, tenant: &Tenant, soon: u32) -> bool {
        let running = self.tenants.get(tenant).copied().unwrap_or_default();
        running + soon < self.limits.running_of_one()
    }

    fn may_run(&self, waiting: &Waiting) -> bool {
        waiting.cost <= 1 || self.batches < self.limits.batches.max(1)
    }

    /// Gives microVMs that wait to requests that wait.
    pub(super) fn hand_over(&mut self, now: Instant, commands: &mut Vec<Command>) {
        while self.kinds.values().any(|kind| !kind.idle.is_empty()) {
            let waits = |waiting: &Waiting| self.next_idle(&waiting.key).is_some();
            let Some(ticket) = self.next_waiting(waits) else { return };
            let Some((tenant, key)) = self.queue.find(ticket) else { return };
            let Some(vm) = self.next_idle(&key) else { return };
            let more = PoolLimits::running_mib(key.machine) - PoolLimits::idle_mib(key.machine);
            if !self.make_room(more, Some(vm), now, commands) {
                return;
            }
            let Some(request) = self.queue.serve(ticket) else { return };
            self.set_phase(vm, Phase::Running { tenant, request }, now);
            commands.push(Command::Hand { vm, ticket });
        }
    }

    /// Starts microVMs for requests for which none is coming.
    pub(super) fn start_for_waiting(&mut self, now: Instant, commands: &mut Vec<Command>) {
        while self.preparing < self.limits.starting.max(1) {
            let Some(key) = self.next_lacking(now) else { return };
            if !self.make_room(PoolLimits::idle_mib(key.machine), None, now, commands) {
                return;
            }
            self.start(key, now, commands);
        }
    }

    /// The kind of the first request, each tenant having its turn, for which none is coming.
    fn next_lacking(&self, now: Instant) -> Option<PoolKey> {
        let coming: u32 = self.kinds.values().map(Kind::coming).sum();
        // One that is started is to run as soon as it can, or when the next one has ended.
        let useful = self.limits.running.saturating_sub(self.running) + self.limits.starting.max(1);
        if coming >= useful {
            return None;
        }
        let order = self.queue.in_order();
        let longest = order.iter().map(|(_, requests)| requests.len()).max()?;
        let mut claimed: BTreeMap<&PoolKey, u32> = BTreeMap::new();
        // Those further back are served later than any that is started now.
        let rounds = longest.min(useful as usize);
        for round in 0..rounds {
            let soon = u32::try_from(round).unwrap_or(u32::MAX);
            for (tenant, requests) in &order {
                let Some(waiting) = requests.get(round) else { continue };
                if !self.may_run_more(tenant, soon) || !self.may_run(waiting) {
                    continue;
                }
                let kind = self.kinds.get(&waiting.key)?;
                let claimed = claimed.entry(&waiting.key).or_default();
                *claimed += 1;
                if *claimed > kind.coming() && kind.may_start(now) {
                    return Some(waiting.key.clone());
                }
            }
        }
        None
    }

    /// Starts microVMs that wait for requests to come. Not while programs run, which they would slow down, unless few are
    /// left.
    pub(super) fn refill(&mut self, now: Instant, commands: &mut Vec<Command>) {
        while self.preparing < self.limits.starting.max(1) && !self.stopping {
            let lacking = self.kinds.iter().filter(|(key, kind)| {
                let target = self.target(kind, now);
                let is_low = kind.coming() * 2 < target || kind.coming() == 0;
                kind.coming() < target
                    && (self.running == 0 || is_low)
                    && kind.may_start(now)
                    && self.memory_mib + PoolLimits::running_mib(key.machine) <= self.limits.memory_mib
            });
            let emptiest = lacking.min_by_key(|(_, kind)| kind.coming() * 1000 / self.target(kind, now));
            let Some((key, _)) = emptiest else { return };
            self.start(key.clone(), now, commands);
        }
    }

    /// Ends microVMs that wait and are not needed, and those that have waited too long.
    pub(super) fn shrink(&mut self, now: Instant, commands: &mut Vec<Command>) {
        if self.stopping && self.queue.len() == 0 {
            let unused = |vm: &Vm| !matches!(vm.phase, Phase::Running { .. } | Phase::Ending { .. });
            let unused: Vec<_> = self.vms.iter().filter(|(_, vm)| unused(vm)).map(|(id, _)| *id).collect();
            for vm in unused {
                self.end(vm, Ending::Stopping, now, commands);
            }
            return;
        }
        let mut surplus = Vec::new();
        for key in self.kinds.keys().cloned().collect::<Vec<_>>() {
            let Some(kind) = self.kinds.get(&key) else { continue };
            let target = self.target(kind, now);
            let excess = kind.idle().saturating_sub(target);
            let since = (excess > 0).then(|| kind.surplus_since.unwrap_or(now));
            let is_due = since.is_some_and(|since| now.saturating_duration_since(since) >= SURPLUS_PATIENCE);
            let is_old = |vm: &Vm| now.saturating_duration_since(vm.since) >= LONGEST_IDLE;
            let oldest = kind.idle.iter().filter(|vm| self.vms.get(vm).is_some_and(is_old));
            surplus.extend(oldest.map(|vm| (*vm, Ending::Old)));
            if is_due {
                surplus.extend(kind.idle.iter().take(excess as usize).map(|vm| (*vm, Ending::Surplus)));
            }
            if let Some(kind) = self.kinds.get_mut(&key) {
                kind.surplus_since = since.filter(|_| !is_due);
            }
        }
        for (vm, why) in surplus {
            self.end(vm, why, now, commands);
        }
    }

    /// Sees to it that so much memory is there for `keep` or for a new microVM, by ending others that wait. Says whether it
    /// is there already.
    fn make_room(&mut self, mib: u64, keep: Option<VmId>, now: Instant, commands: &mut Vec<Command>) -> bool {
        if self.memory_mib + mib <= self.limits.memory_mib {
            return true;
        }
        let ending = self.vms.values().filter(|vm| matches!(vm.phase, Phase::Ending { .. }));
        let mut soon: u64 = ending.map(Vm::memory_mib).sum();
        while self.memory_mib.saturating_sub(soon) + mib > self.limits.memory_mib {
            let spare = self.kinds.values().filter(|kind| !kind.idle.is_empty());
            // Of the kind that has most to spare.
            let spare = spare.max_by_key(|kind| i64::from(kind.idle()) - i64::from(self.target(kind, now)));
            let Some(vm) = spare.and_then(|kind| kind.idle.iter().find(|vm| Some(**vm) != keep)) else {
                return false;
            };
            let vm = *vm;
            soon += self.end(vm, Ending::Reclaimed, now, commands);
        }
        false
    }

    /// Ends a microVM. How much memory that will free.
    pub(super) fn end(&mut self, vm: VmId, why: Ending, now: Instant, commands: &mut Vec<Command>) -> u64 {
        let Some(Vm { phase, .. }) = self.vms.get(&vm) else { return 0 };
        if matches!(phase, Phase::Running { .. } | Phase::Ending { .. }) {
            return 0;
        }
        self.set_ending(vm, now);
        commands.push(Command::End { vm, why });
        self.vms.get(&vm).map_or(0, Vm::memory_mib)
    }

    fn start(&mut self, key: PoolKey, now: Instant, commands: &mut Vec<Command>) {
        let vm = VmId(self.next_vm);
        self.next_vm += 1;
        let started = Vm { key: key.clone(), phase: Phase::Starting, since: now, rehearsed: false };
        self.memory_mib += started.memory_mib();
        self.preparing += 1;
        self.kinds.entry(key.clone()).or_insert_with(|| Kind::new(now)).starting += 1;
        self.vms.insert(vm, started);
        commands.push(Command::Start { vm, key });
    }

    /// Moves a microVM to its last phase.
    pub(super) fn set_ending(&mut self, id: VmId, now: Instant) {
        let Some(vm) = self.vms.get(&id) else { return };
        self.set_phase(id, Phase::Ending { memory_mib: vm.memory_mib() }, now);
    }

    /// Moves a microVM to another phase, and keeps all counts.
    pub(super) fn set_phase(&mut self, id: VmId, phase: Phase, now: Instant) {
        let Some(vm) = self.vms.get_mut(&id) else { return };
        let before = vm.memory_mib();
        let left = std::mem::replace(&mut vm.phase, phase);
        let entered = vm.phase.clone();
        // A rehearsal more is no other phase.
        if !matches!((&left, &entered), (Phase::Rehearsing { .. }, Phase::Rehearsing { .. })) {
            vm.since = now;
        }
        self.memory_mib = self.memory_mib - before + vm.memory_mib();
        let key = vm.key.clone();
        self.count(id, &key, &left, false);
        self.count(id, &key, &entered, true);
    }

    fn count(&mut self, id: VmId, key: &PoolKey, phase: &Phase, entered: bool) {
        let change = |count: &mut u32| *count = if entered { *count + 1 } else { count.saturating_sub(1) };
        let Some(kind) = self.kinds.get_mut(key) else { return };
        match phase {
            Phase::Starting => {
                change(&mut kind.starting);
                change(&mut self.preparing);
            }
            Phase::Rehearsing { .. } => {
                change(&mut kind.rehearsing);
                change(&mut self.preparing);
            }
            Phase::Idle if entered => drop(kind.idle.insert(id)),
            Phase::Idle => drop(kind.idle.remove(&id)),
            Phase::Running { tenant, request } => {
                change(&mut kind.running);
                change(&mut self.running);
                if request.cost > 1 {
                    change(&mut self.batches);
                }
                let running = self.tenants.entry(tenant.clone()).or_default();
                change(running);
                if *running == 0 {
                    self.tenants.remove(tenant);
                }
            }
            Phase::Ending { .. } => {}
        }
    }
}
