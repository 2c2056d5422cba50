//! Who is next: a bounded queue that is fair between tenants.
//!
//! Each tenant has a virtual time, which what it is served moves on (start-time fair queueing): the tenant that is furthest
//! back is next. A tenant that comes anew begins where the others are, so that it has saved nothing up; one that has
//! left keeps its time until the others have caught up, so that coming and going gains nothing.
//!
//! No tenant may have more requests waiting than there are places left: one alone gets half of the queue, and there is
//! always room for another (the dynamic thresholds of Choudhury and Hahne, 1998).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use super::state::{PoolKey, Ticket};

/// How many tenants may be remembered that have nothing waiting, before it is looked for those that owe nothing.
const MOST_SETTLED: usize = 64;

/// On whose behalf a request comes: tenants share what there is equally.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant(pub Arc<str>);

/// A request that waits.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) ticket: Ticket,
    pub(super) key: PoolKey,
    /// How many executions it is.
    pub(super) cost: u32,
    pub(super) deadline: Instant,
}

#[derive(Debug, Default)]
struct Line {
    requests: VecDeque<Waiting>,
    /// How much it has been served, in executions.
    time: u64,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    lines: BTreeMap<Tenant, Line>,
    tickets: HashMap<Ticket, (Tenant, Instant)>,
    deadlines: BTreeSet<(Instant, Ticket)>,
    /// The virtual time of whoever was served last.
    time: u64,
}

impl FairQueue {
    /// How many requests wait.
    pub(super) fn len(&self) -> usize {
        self.tickets.len()
    }

    /// Whether `tenant` may add a request where `places` may wait altogether.
    pub(super) fn has_room(&self, tenant: &Tenant, places: usize) -> bool {
        let own = self.lines.get(tenant).map_or(0, |line| line.requests.len());
        own < places.saturating_sub(self.len())
    }

    /// How many requests would be served before a new one of `tenant`, as each tenant gets its turn.
    pub(super) fn ahead_of(&self, tenant: &Tenant) -> usize {
        let own = self.lines.get(tenant).map_or(0, |line| line.requests.len());
        let others = self.lines.iter().filter(|(other, _)| *other != tenant);
        own + others.map(|(_, line)| line.requests.len().min(own + 1)).sum::<usize>()
    }

    /// Adds a request.
    pub(super) fn push(&mut self, tenant: Tenant, waiting: Waiting) {
        self.deadlines.insert((waiting.deadline, waiting.ticket));
        self.tickets.insert(waiting.ticket, (tenant.clone(), waiting.deadline));
        let line = self.lines.entry(tenant).or_default();
        if line.requests.is_empty() {
            line.time = line.time.max(self.time);
        }
        line.requests.push_back(waiting);
    }

    /// Puts a request back that was served with something broken: it is its tenant's next, and its deadline stands.
    pub(super) fn push_back_to_front(&mut self, tenant: Tenant, waiting: Waiting) {
        self.deadlines.insert((waiting.deadline, waiting.ticket));
        self.tickets.insert(waiting.ticket, (tenant.clone(), waiting.deadline));
        let line = self.lines.entry(tenant).or_default();
        line.time = line.time.saturating_sub(u64::from(waiting.cost));
        line.requests.push_front(waiting);
    }

    /// Takes a request out because nobody waits for it any more.
    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Waiting> {
        let (tenant, deadline) = self.tickets.remove(&ticket)?;
        self.deadlines.remove(&(deadline, ticket));
        let line = self.lines.get_mut(&tenant)?;
        let index = line.requests.iter().position(|waiting| waiting.ticket == ticket)?;
        let waiting = line.requests.remove(index);
        self.forget(&tenant);
        waiting
    }

    /// Takes a request out because it is served: its tenant pays for it.
    pub(super) fn serve(&mut self, ticket: Ticket) -> Option<Waiting> {
        let (tenant, _) = self.tickets.get(&ticket)?;
        let tenant = tenant.clone();
        let line = self.lines.get_mut(&tenant)?;
        self.time = self.time.max(line.time);
        let cost = line.requests.iter().find(|waiting| waiting.ticket == ticket)?.cost;
        line.time += u64::from(cost);
        self.remove(ticket)
    }

    /// The next request whose deadline has passed.
    pub(super) fn expired(&self, now: Instant) -> Option<Ticket> {
        self.deadlines.first().filter(|(deadline, _)| *deadline <= now).map(|(_, ticket)| *ticket)
    }

    /// When the next deadline passes.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// The tenants that wait, whoever is next first, each with its requests in order.
    pub(super) fn in_order(&self) -> Vec<(&Tenant, &VecDeque<Waiting>)> {
        let mut lines: Vec<_> = self.lines.iter().filter(|(_, line)| !line.requests.is_empty()).collect();
        lines.sort_by_key(|(_, line)| line.time);
        lines.into_iter().map(|(tenant, line)| (tenant, &line.requests)).collect()
    }

    /// Whose request this is, and what it waits for.
    pub(super) fn find(&self, ticket: Ticket) -> Option<(Tenant, PoolKey)> {
        let (tenant, _) = self.tickets.get(&ticket)?;
        let waiting = self.lines.get(tenant)?.requests.iter().find(|waiting| waiting.ticket == ticket)?;
        Some((tenant.clone(), waiting.key.clone()))
    }

    /// Whoever waits for a microVM of this kind, in no order.
    pub(super) fn waiting_for(&self, key: &PoolKey) -> Vec<Ticket> {
        let all = self.lines.values().flat_map(|line| &line.requests);
        all.filter(|waiting| waiting.key == *key).map(|waiting| waiting.ticket).collect()
    }

    /// All who wait.
    pub(super) fn all(&self) -> Vec<Ticket> {
        self.tickets.keys().copied().collect()
    }

    /// Forgets tenants that have nothing waiting and owe nothing.
    fn forget(&mut self, tenant: &Tenant) {
        let time = self.time;
        let settled = |line: &Line| line.requests.is_empty() && line.time <= time;
        if self.lines.get(tenant).is_some_and(settled) {
            self.lines.remove(tenant);
        }
        if self.tickets.is_empty() {
            // Whoever comes now starts level with everybody.
            self.lines.clear();
        } else if self.lines.len() > MOST_SETTLED + 2 * self.tickets.len() {
            // Those who left in debt, which they have paid off since.
            self.lines.retain(|_, line| !settled(line));
        }
    }
}
