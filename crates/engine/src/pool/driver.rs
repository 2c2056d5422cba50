//! Does what [`State`] decides: one task for each microVM, one for the time, one that looks for snapshots.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc, oneshot},
    task::JoinHandle,
};
use tracing::{Instrument as _, Span};
use vmm::spec::MachineSpec;

use super::{
    limits::PoolLimits,
    queue::Tenant,
    snapshots::{Identities, keep_looking},
    state::{Arrival, Command, Ending, Event, PoolKey, PoolStatus, Refusal, State, Ticket, VmId},
};
use crate::{
    Engine, Outcome, Phases, Request, Session, Start,
    error::RunError,
    execution::{self, Job},
    live::Live,
};

/// How long the end of the last microVMs may take, once nobody waits for them.
const END_PATIENCE: Duration = Duration::from_secs(20);

/// Why a microVM was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Discard {
    /// It has served its request.
    Served,
    /// It failed its request.
    Failed,
    /// Its request was given up by who had asked.
    Abandoned,
    /// There were more than needed.
    Surplus,
    /// It had waited too long.
    Old,
    /// Its snapshot was replaced or removed.
    Stale,
    /// Its memory was needed for another.
    Reclaimed,
    /// The pool stops.
    Stopping,
    /// It did not start.
    FailedStart,
    /// It failed in a rehearsal.
    FailedRehearsal,
    /// It ended by itself, or said something unasked, while it waited.
    Unsound,
}

impl Discard {
    /// Its name, as metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
            Self::Surplus => "surplus",
            Self::Old => "old",
            Self::Stale => "stale",
            Self::Reclaimed => "reclaimed",
            Self::Stopping => "stopping",
            Self::FailedStart => "failed_start",
            Self::FailedRehearsal => "failed_rehearsal",
            Self::Unsound => "unsound",
        }
    }
}

impl From<Ending> for Discard {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Surplus => Self::Surplus,
            Ending::Old => Self::Old,
            Ending::Stale => Self::Stale,
            Ending::Reclaimed => Self::Reclaimed,
            Ending::Stopping => Self::Stopping,
        }
    }
}

/// Is told what happens to microVMs: for metrics. Called from the pool's tasks; it must not block.
pub trait Observer: Send + Sync {
    /// One is ready for a program.
    fn started(&self, key: &PoolKey, restored: bool, phases: &Phases);
    /// One has rehearsed once.
    fn rehearsed(&self, key: &PoolKey, took: Duration);
    /// One was ended, which took this long.
    fn ended(&self, key: &PoolKey, why: Discard, took: Duration);
}

/// Nobody watches.
#[derive(Debug)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn started(&self, _: &PoolKey, _: bool, _: &Phases) {}
    fn rehearsed(&self, _: &PoolKey, _: Duration) {}
    fn ended(&self, _: &PoolKey, _: Discard, _: Duration) {}
}

/// How a request comes to the pool.
#[derive(Clone, Debug)]
pub struct Admission {
    /// On whose behalf.
    pub tenant: Tenant,
    /// The size of its microVM.
    pub machine: MachineSpec,
    /// Its id.
    pub trace_id: String,
}

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// It was not served.
    #[error("the pool does not serve the request: {0:?}")]
    Refused(Refusal),
    /// No microVM could be started for it.
    #[error("cannot start a microVM for the request")]
    Start(#[source] Arc<RunError>),
    /// Its microVM failed.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// What the task of a microVM is told.
enum Order {
    Rehearse,
    Hand(Ticket),
    End(Ending),
}

/// The pool: what waits for requests, and requests that wait. Clones are the same one.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
    _tasks: Arc<Vec<Task>>,
}

/// A task that ends with its owner.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) struct Shared {
    pub(super) engine: Arc<Engine>,
    observer: Arc<dyn Observer>,
    runtime: Handle,
    inner: Mutex<Inner>,
    /// Something is to be decided earlier than the time's task expects.
    earlier: Notify,
    /// Nothing is left to be ended or served.
    empty: Notify,
    /// It is to be looked for snapshots now.
    pub(super) look: Notify,
}

struct Inner {
    state: State,
    vms: HashMap<VmId, mpsc::UnboundedSender<Order>>,
    tickets: HashMap<Ticket, oneshot::Sender<Result<Handed, PoolError>>>,
    /// Why the last start of a kind failed.
    failures: HashMap<PoolKey, Arc<RunError>>,
    keys: HashMap<Ticket, PoolKey>,
    snapshots: Identities,
    next_ticket: u64,
    /// When the time's task will look again.
    armed: Option<Instant>,
}

impl Pool {
    /// A pool over `engine`, which must have room of its own. It begins to fill at once.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn start(engine: Arc<Engine>, limits: PoolLimits, observer: Arc<dyn Observer>) -> Self {
        let inner = Inner {
            state: State::new(limits),
            vms: HashMap::new(),
            tickets: HashMap::new(),
            failures: HashMap::new(),
            keys: HashMap::new(),
            snapshots: Identities::default(),
            next_ticket: 0,
            armed: None,
        };
        let shared = Arc::new(Shared {
            engine,
            observer,
            runtime: Handle::current(),
            inner: Mutex::new(inner),
            earlier: Notify::new(),
            empty: Notify::new(),
            look: Notify::new(),
        });
        let time = tokio::spawn(keep_time(Arc::clone(&shared)));
        let snapshots = tokio::spawn(keep_looking(Arc::clone(&shared)));
        Self { shared, _tasks: Arc::new(vec![Task(time), Task(snapshots)]) }
    }

    /// Runs `request` in a microVM of its own. Dropping the future ends the microVM.
    pub async fn run(&self, request: &Request, admission: Admission) -> Result<Outcome, PoolError> {
        self.serve(request, admission, None).await
    }

    /// The same, and tells of it where somebody watches.
    pub async fn serve(
        &self,
        request: &Request,
        admission: Admission,
        live: Option<&mut Live>,
    ) -> Result<Outcome, PoolError> {
        let since = Instant::now();
        let Admission { tenant, machine, trace_id } = admission;
        let executions = request.executions();
        let key = PoolKey { language: request.language.name.clone(), machine };
        let (ticket, handed) = self.arrive(tenant, key, executions);
        let handed = handed.await.unwrap_or(Err(PoolError::Refused(Refusal::Stopping)));
        drop(ticket);
        let mut handed = handed?;
        let queue = since.elapsed();
        let Some(session) = handed.session.as_mut() else {
            return Err(PoolError::Refused(Refusal::Stopping));
        };
        let restored = session.restored;
        let streamed = live.is_some();
        let report = session.serve(request, &Job::of(&trace_id), live).await;
        let phases = Phases { queue, ..session.phases() };
        handed.end = if report.is_ok() { Discard::Served } else { Discard::Failed };
        let answer = execution::answer(request, report?, &trace_id, streamed);
        Ok(Outcome { answer, phases, restored })
    }

    /// What there is now.
    pub fn status(&self) -> PoolStatus {
        self.shared.lock().state.status(Instant::now())
    }

    /// The engine that starts the microVMs.
    pub fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    /// The size of the microVM for a request that wants so much memory, in MiB, or does not care: the smallest snapshot
    /// that has it, else a microVM of this size, which has to boot.
    pub fn machine_for(
        &self,
        language: &store::Language,
        memory_mib: Option<u32>,
        usual: MachineSpec,
    ) -> MachineSpec {
        let wanted = memory_mib.unwrap_or(usual.memory_mib);
        let inner = self.shared.lock();
        let kinds = inner.snapshots.usable().filter(|key| key.language == *language);
        let sizes = kinds.map(|key| key.machine);
        let fits = sizes.clone().filter(|machine| machine.memory_mib >= wanted);
        let best = fits.min_by_key(|machine| (machine.memory_mib, machine.vcpus));
        // One that does not care takes what there is.
        let any = || sizes.max_by_key(|machine| machine.memory_mib).filter(|_| memory_mib.is_none());
        best.or_else(any).unwrap_or(MachineSpec { memory_mib: wanted, ..usual })
    }

    /// Whether there is a snapshot with at least so much memory, in MiB.
    pub fn restores(&self, language: &store::Language, memory_mib: u32) -> bool {
        let inner = self.shared.lock();
        inner.snapshots.usable().any(|key| key.language == *language && key.machine.memory_mib >= memory_mib)
    }

    /// Looks for new snapshots now instead of in a moment.
    pub fn look_for_snapshots(&self) {
        self.shared.look.notify_one();
    }

    /// From now on these limits hold.
    pub fn set_limits(&self, limits: PoolLimits) {
        self.shared.apply(Event::Limits(limits));
    }

    /// Takes no more requests, and waits until those that are here are answered and every microVM is gone; those that
    /// still wait after `patience` are refused. Requests that still run after that are to be dropped by who waits
    /// for them. Whether all microVMs are gone.
    pub async fn stop(&self, patience: Duration) -> bool {
        self.shared.apply(Event::Stop);
        if self.emptied(patience).await {
            return true;
        }
        self.shared.apply(Event::GiveUp);
        false
    }

    /// Waits until every microVM is gone.
    pub async fn gone(&self) -> bool {
        self.emptied(END_PATIENCE).await
    }

    async fn emptied(&self, patience: Duration) -> bool {
        let wait = async {
            loop {
                let empty = self.shared.empty.notified();
                tokio::pin!(empty);
                empty.as_mut().enable();
                if self.shared.lock().state.is_empty() {
                    return;
                }
                empty.await;
            }
        };
        tokio::time::timeout(patience, wait).await.is_ok()
    }

    fn arrive(
        &self,
        tenant: Tenant,
        key: PoolKey,
        executions: u32,
    ) -> (Queued, oneshot::Receiver<Result<Handed, PoolError>>) {
        let (sender, receiver) = oneshot::channel();
        let ticket = {
            let mut inner = self.shared.lock();
            let ticket = Ticket(inner.next_ticket);
            inner.next_ticket += 1;
            inner.tickets.insert(ticket, sender);
            inner.keys.insert(ticket, key.clone());
            ticket
        };
        self.shared.apply(Event::Arrived(Arrival { ticket, tenant, key, executions }));
        (Queued { shared: Arc::clone(&self.shared), ticket }, receiver)
    }
}

/// A request that waits. Dropping it gives it up.
struct Queued {
    shared: Arc<Shared>,
    ticket: Ticket,
}

impl Drop for Queued {
    fn drop(&mut self) {
        let waited = {
            let mut inner = self.shared.lock();
            inner.keys.remove(&self.ticket);
            inner.tickets.remove(&self.ticket).is_some()
        };
        if waited {
            self.shared.apply(Event::Cancelled(self.ticket));
        }
    }
}

/// A microVM that belongs to a request. Dropping it ends it.
struct Handed {
    shared: Arc<Shared>,
    vm: VmId,
    key: PoolKey,
    session: Option<Session>,
    /// What has become of the request, once it is dropped.
    end: Discard,
}

impl Drop for Handed {
    fn drop(&mut self) {
        self.shared.apply(Event::Finished(self.vm));
        let Some(session) = self.session.take() else { return };
        let (shared, vm, key, why) = (Arc::clone(&self.shared), self.vm, self.key.clone(), self.end);
        let end = async move { shared.end(vm, &key, session, why).await };
        // Dropped by the request, whose span has its id; by the pool where nobody waits any more.
        self.shared.runtime.spawn(end.instrument(Span::current()));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an event, and does what comes of it. Nothing here waits.
    pub(super) fn apply(self: &Arc<Self>, event: Event) {
        let now = Instant::now();
        let mut inner = self.lock();
        for command in inner.state.handle(event, now) {
            self.perform(&mut inner, command);
        }
        let wake = inner.state.next_wake(now);
        let is_earlier = wake.is_some_and(|wake| inner.armed.is_none_or(|armed| wake < armed));
        let is_empty = inner.state.is_empty();
        drop(inner);
        if is_earlier {
            self.earlier.notify_one();
        }
        if is_empty {
            self.empty.notify_waiters();
        }
    }

    /// Notes which snapshots can be restored, and tells the pool.
    pub(super) fn found(self: &Arc<Self>, found: Identities) {
        let event = {
            let mut inner = self.lock();
            let stale = found.changed_since(&inner.snapshots);
            let usable = found.usable().cloned().collect();
            inner.snapshots = found;
            Event::Snapshots { usable, stale }
        };
        self.apply(event);
    }

    fn perform(self: &Arc<Self>, inner: &mut Inner, command: Command) {
        match command {
            Command::Start { vm, key } => {
                let (orders, received) = mpsc::unbounded_channel();
                inner.vms.insert(vm, orders);
                self.runtime.spawn(Arc::clone(self).live(vm, key, received));
            }
            Command::Rehearse(vm) => order(inner, vm, Order::Rehearse),
            Command::Hand { vm, ticket } => order(inner, vm, Order::Hand(ticket)),
            Command::End { vm, why } => order(inner, vm, Order::End(why)),
            Command::Refuse { ticket, refusal } => {
                let key = inner.keys.remove(&ticket);
                let failure = key.and_then(|key| inner.failures.get(&key));
                let error = match (refusal, failure) {
                    (Refusal::Failed, Some(failure)) => PoolError::Start(Arc::clone(failure)),
                    (refusal, _) => PoolError::Refused(refusal),
                };
                if let Some(sender) = inner.tickets.remove(&ticket) {
                    // Whoever has gone does not need to be told.
                    let _ = sender.send(Err(error));
                }
            }
        }
    }

    /// The life of a microVM until it is handed over.
    async fn live(self: Arc<Self>, vm: VmId, key: PoolKey, mut orders: mpsc::UnboundedReceiver<Order>) {
        let opened = tokio::select! {
            opened = self.engine.open(&key.language, key.machine, Start::Best) => opened,
            // Nothing else comes before it has started.
            order = orders.recv() => {
                let why = if let Some(Order::End(why)) = order { why.into() } else { Discard::Stopping };
                self.observer.ended(&key, why, Duration::ZERO);
                return self.gone(vm);
            }
        };
        let mut session = match opened {
            Ok(session) => session,
            Err(error) => {
                self.failed(vm, &key, error);
                self.observer.ended(&key, Discard::FailedStart, Duration::ZERO);
                return self.gone(vm);
            }
        };
        self.observer.started(&key, session.restored, &session.phases());
        self.apply(Event::Started(vm));
        let why = loop {
            let order = tokio::select! {
                biased;
                order = orders.recv() => order,
                () = session.unsound() => {
                    self.apply(Event::Failed { vm, permanent: false });
                    // It may have been handed over in the meantime.
                    if let Ok(Order::Hand(_)) = orders.try_recv() {
                        self.apply(Event::Unsound(vm));
                    }
                    break Discard::Unsound;
                }
            };
            match order {
                Some(Order::Rehearse) => {
                    if let Err(error) = self.rehearse(vm, &key, &mut session).await {
                        self.failed(vm, &key, error);
                        break Discard::FailedRehearsal;
                    }
                }
                Some(Order::Hand(ticket)) if session.is_sound() => {
                    return self.hand(vm, key, ticket, session);
                }
                Some(Order::Hand(_)) => {
                    self.apply(Event::Unsound(vm));
                    break Discard::Unsound;
                }
                Some(Order::End(why)) => break why.into(),
                None => break Discard::Stopping,
            }
        };
        self.end(vm, &key, session, why).await;
    }

    async fn rehearse(
        self: &Arc<Self>,
        vm: VmId,
        key: &PoolKey,
        session: &mut Session,
    ) -> Result<(), RunError> {
        let since = Instant::now();
        if let Some(language) = self.engine.languages().find(key.language.as_str()) {
            session.rehearse(language).await?;
        }
        self.observer.rehearsed(key, since.elapsed());
        self.apply(Event::Rehearsed(vm));
        Ok(())
    }

    fn hand(self: Arc<Self>, vm: VmId, key: PoolKey, ticket: Ticket, session: Session) {
        let sender = {
            let mut inner = self.lock();
            inner.vms.remove(&vm);
            inner.tickets.remove(&ticket)
        };
        let handed = Handed { shared: self, vm, key, session: Some(session), end: Discard::Abandoned };
        // Where nobody waits any more it is dropped, and so ended: what was handed over does not wait again.
        if let Some(sender) = sender {
            let _ = sender.send(Ok(handed));
        }
    }

    fn failed(self: &Arc<Self>, vm: VmId, key: &PoolKey, error: RunError) {
        let permanent = matches!(error, RunError::NotPrepared { .. });
        tracing::warn!(
            language = %key.language,
            memory_mib = key.machine.memory_mib,
            error = crate::error::chain(&error),
            "a microVM did not start"
        );
        self.lock().failures.insert(key.clone(), Arc::new(error));
        self.apply(Event::Failed { vm, permanent });
    }

    async fn end(self: &Arc<Self>, vm: VmId, key: &PoolKey, session: Session, why: Discard) {
        let phases = session.end().await;
        self.observer.ended(key, why, phases.end);
        self.gone(vm);
    }

    fn gone(self: &Arc<Self>, vm: VmId) {
        self.lock().vms.remove(&vm);
        self.apply(Event::Gone(vm));
    }
}

/// Tells the task of a microVM something. One that has ended meanwhile says so itself.
fn order(inner: &Inner, vm: VmId, order: Order) {
    if let Some(orders) = inner.vms.get(&vm) {
        let _ = orders.send(order);
    }
}

/// Tells the pool when time has passed.
async fn keep_time(shared: Arc<Shared>) {
    /// Whatever happens, it looks again.
    const LONGEST: Duration = Duration::from_secs(60);
    loop {
        let wake = {
            let mut inner = shared.lock();
            let now = Instant::now();
            let wake = inner.state.next_wake(now).unwrap_or(now + LONGEST).min(now + LONGEST);
            inner.armed = Some(wake);
            wake
        };
        tokio::select! {
            () = tokio::time::sleep_until(wake.into()) => shared.apply(Event::Tick),
            () = shared.earlier.notified() => {}
        }
    }
}
