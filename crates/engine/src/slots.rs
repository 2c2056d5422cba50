//! Room for microVMs: shared by all commands that use the same data directory, or a service's own.
//!
//! A service hands its numbers out itself ([`Room::Own`]). Commands share theirs:
//!
//! ```text
//! run/slots/queue     locked by the process that is next
//! run/slots/<n>       locked while a microVM runs in slot n
//! ```
//!
//! A slot is a file lock, which the kernel gives back when its holder ends, however it ends. Waiting processes queue at
//! one lock; the one that holds it watches for a slot to be closed. Nobody polls, and nobody is woken in vain, but on a host
//! that has no more watches to give.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FlockOperation, flock, inotify},
    io::Errno,
};

/// Why there is no slot.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// All stayed taken.
    #[error("all {slots} slots were taken for {} s", .after.as_secs())]
    TimedOut {
        /// How many there are.
        slots: u32,
        /// How long was waited.
        after: Duration,
    },
    /// All of the service's own are taken, which its pool should have seen to.
    #[error("all {slots} slots of the service are taken")]
    Exhausted {
        /// How many there are.
        slots: u32,
    },
    /// The locks cannot be used.
    #[error("cannot use the locks in {}", .path.display())]
    Io {
        /// Where they are.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Where an engine's microVMs have their room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Room {
    /// In all processes that use the data directory together.
    Shared {
        /// How many microVMs may run at the same time; at least one.
        slots: u32,
        /// How long a request may wait for one of them.
        patience: Duration,
    },
    /// In this process alone, which lets no request wait for them: a pool sees to it that there are enough.
    Own {
        /// The number of the first, beyond those that commands share.
        first: u32,
        /// How many there are.
        slots: u32,
        /// What the names of its microVMs begin with, so that what it left when it was killed can be told from what is
        /// others': at most 16 letters, digits and hyphens.
        prefix: String,
    },
}

impl Room {
    /// What the names of microVMs begin with.
    pub(crate) fn prefix(&self) -> &str {
        match self {
            Self::Shared { .. } => "vm-",
            Self::Own { prefix, .. } => prefix,
        }
    }
}

/// The slots of an engine.
#[derive(Debug)]
pub(crate) enum Slots {
    Shared { slots: SharedSlots, patience: Duration },
    Own(OwnSlots),
}

impl Slots {
    /// In this room; locks lie in `directory`.
    pub(crate) fn new(directory: PathBuf, room: &Room) -> Self {
        match *room {
            Room::Shared { slots, patience } => {
                Self::Shared { slots: SharedSlots::new(directory, slots), patience }
            }
            Room::Own { first, slots, .. } => Self::Own(OwnSlots::new(first, slots)),
        }
    }

    /// Takes a slot.
    pub(crate) async fn take(&self) -> Result<Slot, SlotError> {
        match self {
            Self::Shared { slots, patience } => slots.take(*patience).await,
            Self::Own(slots) => slots.take(),
        }
    }
}

/// A slot that is ours until dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Its number, from 0.
    pub(crate) number: u32,
    held: Held,
}

#[derive(Debug)]
enum Held {
    Lock { _file: File },
    Number { free: Arc<Mutex<BTreeSet<u32>>> },
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Held::Number { free } = &self.held {
            free.lock().unwrap_or_else(PoisonError::into_inner).insert(self.number);
        }
    }
}

/// Numbers of this process alone.
#[derive(Debug)]
pub(crate) struct OwnSlots {
    free: Arc<Mutex<BTreeSet<u32>>>,
    count: u32,
}

impl OwnSlots {
    fn new(first: u32, count: u32) -> Self {
        Self { free: Arc::new(Mutex::new((first..first.saturating_add(count)).collect())), count }
    }

    fn take(&self) -> Result<Slot, SlotError> {
        let number = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop_first();
        let number = number.ok_or(SlotError::Exhausted { slots: self.count })?;
        Ok(Slot { number, held: Held::Number { free: Arc::clone(&self.free) } })
    }
}

/// Numbers that are locks.
#[derive(Clone, Debug)]
pub(crate) struct SharedSlots {
    directory: PathBuf,
    count: u32,
}

impl SharedSlots {
    /// `count` slots, whose locks lie in `directory`.
    pub(crate) fn new(directory: PathBuf, count: u32) -> Self {
        Self { directory, count: count.max(1) }
    }

    /// Takes a slot, waiting for one as long as `patience` allows.
    pub(crate) async fn take(&self, patience: Duration) -> Result<Slot, SlotError> {
        if let Some(slot) = self.try_all().map_err(|source| self.failed(source))? {
            return Ok(slot);
        }
        tracing::info!(slots = self.count, "all slots are taken: waiting");
        let slots = self.clone();
        // Beyond the deadline the thread waits on, and gives back at once what it gets then.
        let waiting = tokio::task::spawn_blocking(move || slots.wait());
        match tokio::time::timeout(patience, waiting).await {
            Ok(Ok(slot)) => slot.map_err(|source| self.failed(source)),
            Ok(Err(panic)) => Err(self.failed(io::Error::other(panic))),
            Err(_) => Err(SlotError::TimedOut { slots: self.count, after: patience }),
        }
    }

    fn failed(&self, source: io::Error) -> SlotError {
        SlotError::Io { path: self.directory.clone(), source }
    }

    fn try_all(&self) -> io::Result<Option<Slot>> {
        fs::create_dir_all(&self.directory)?;
        for number in 0..self.count {
            let file = lock_file(&self.directory.join(number.to_string()))?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(Slot { number, held: Held::Lock { _file: file } })),
                Err(Errno::WOULDBLOCK) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    fn wait(&self) -> io::Result<Slot> {
        let queue = lock_file(&self.directory.join("queue"))?;
        flock(&queue, FlockOperation::LockExclusive)?;
        let closed = match watch(&self.directory) {
            Ok(closed) => closed,
            Err(error) => return self.wait_unwatched(&error),
        };
        loop {
            // Our own trial closes files too. What that wakes us for is read below, before the next trial, so
            // that each trial causes at most one more, and none once the events of a trial are all its own.
            drain(&closed)?;
            if let Some(slot) = self.try_all()? {
                return Ok(slot);
            }
            wait_for_other(&closed, self.count)?;
        }
    }

    /// The same where nothing can be watched: instances and watches of a user are counted (inotify(7)), and others may have
    /// taken them all.
    fn wait_unwatched(&self, error: &io::Error) -> io::Result<Slot> {
        const PAUSE: Duration = Duration::from_millis(50);
        let hint = "raise fs.inotify.max_user_instances and fs.inotify.max_user_watches (sysctl)";
        tracing::warn!(%error, hint, "cannot watch for a free slot: looking again and again");
        loop {
            if let Some(slot) = self.try_all()? {
                return Ok(slot);
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Watches for the closing of files in a directory.
fn watch(directory: &Path) -> io::Result<OwnedFd> {
    let closed = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    inotify::add_watch(&closed, directory, inotify::WatchFlags::CLOSE_WRITE)?;
    Ok(closed)
}

/// Waits for more closes than our own trial of all slots has caused.
fn wait_for_other(closed: &OwnedFd, ours: u32) -> io::Result<()> {
    let mut seen = 0;
    loop {
        seen += drain(closed)?;
        if seen > ours {
            return Ok(());
        }
        // A bound all the same: two closes of the same file may be reported as one.
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        match poll(&mut [PollFd::new(closed, PollFlags::IN)], Some(&second)) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads all events that are there, and counts them.
fn drain(closed: &OwnedFd) -> io::Result<u32> {
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(closed, &mut buffer);
    let mut count = 0;
    loop {
        match reader.next() {
            Ok(_) => count += 1,
            Err(Errno::WOULDBLOCK) => return Ok(count),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn lock_file(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(count: u32) -> (tempfile::TempDir, SharedSlots) {
        let directory = tempfile::tempdir().unwrap();
        let slots = SharedSlots::new(directory.path().join("slots"), count);
        (directory, slots)
    }

    #[tokio::test]
    async fn each_slot_is_given_once_and_again_when_dropped() {
        let (_directory, slots) = slots(2);
        let first = slots.take(Duration::from_secs(5)).await.unwrap();
        let second = slots.take(Duration::from_secs(5)).await.unwrap();
        assert_eq!((first.number, second.number), (0, 1));
        drop(first);
        assert_eq!(slots.take(Duration::from_secs(5)).await.unwrap().number, 0);
    }

    #[test]
    fn a_services_own_slots_are_each_given_once_and_never_waited_for() {
        let slots = OwnSlots::new(10_000, 2);
        let (first, second) = (slots.take().unwrap(), slots.take().unwrap());
        assert_eq!((first.number, second.number), (10_000, 10_001));
        assert!(matches!(slots.take(), Err(SlotError::Exhausted { slots: 2 })));
        drop(first);
        assert_eq!(slots.take().unwrap().number, 10_000);
    }

    #[tokio::test]
    async fn a_full_host_is_an_error_after_the_deadline() {
        let (_directory, slots) = slots(1);
        let slot = slots.take(Duration::from_secs(5)).await.unwrap();
        let error = slots.take(Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(error, SlotError::TimedOut { slots: 1, .. }), "{error}");
        // The abandoned waiter ends once it gets what it waits for.
        drop(slot);
    }

    #[tokio::test]
    async fn whoever_cannot_watch_gets_a_slot_all_the_same() {
        let (_directory, slots) = slots(1);
        let slot = slots.take(Duration::from_secs(5)).await.unwrap();
        let waiting = std::thread::spawn({
            let slots = slots.clone();
            move || slots.wait_unwatched(&Errno::MFILE.into()).unwrap().number
        });
        drop(slot);
        assert_eq!(waiting.join().unwrap(), 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn everybody_who_waits_gets_a_slot_in_the_end() {
        let (_directory, slots) = slots(2);
        let running = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
        let tasks: Vec<_> = (0..40)
            .map(|_| {
                let (slots, running) = (slots.clone(), running.clone());
                tokio::spawn(async move {
                    let slot = slots.take(Duration::from_secs(30)).await.unwrap();
                    let now = running.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    running.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    drop(slot);
                    now
                })
            })
            .collect();
        for task in tasks {
            assert!(task.await.unwrap() < 2, "more at a time than there are slots");
        }
    }
}
