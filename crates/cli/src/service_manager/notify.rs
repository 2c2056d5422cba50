//! What the service manager is told of the service (`sd_notify(3)`): nothing where nobody wants to know.

use std::{
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::task::JoinHandle;

/// The variable that says where to write to: a path, or behind an `@` a name without a file.
const ADDRESS: &str = "NOTIFY_SOCKET";

/// The variable that says within how many microseconds the manager wants to hear that the service lives.
const WATCHDOG: &str = "WATCHDOG_USEC";

/// The variable that says of which process it wants to hear that.
const WATCHED: &str = "WATCHDOG_PID";

/// The service manager, where there is one that wants to know.
pub(crate) struct Manager {
    socket: Option<UnixDatagram>,
    watchdog: Option<JoinHandle<()>>,
}

impl Manager {
    /// The one that this process's environment names. To be called in a runtime, in which the manager then hears of the
    /// service until this is dropped: a runtime that stands still is silent, and the service is started anew.
    pub(crate) fn of_process() -> Self {
        let socket = std::env::var_os(ADDRESS).and_then(|address| {
            let connected = connect(&address);
            connected.inspect_err(|error| tracing::warn!(%error, "cannot reach the service manager")).ok()
        });
        let interval = socket.as_ref().and_then(|_| watchdog_interval());
        let watchdog = interval.zip(socket.as_ref().and_then(|socket| socket.try_clone().ok()));
        let watchdog = watchdog.map(|(interval, socket)| tokio::spawn(tell_of_life(socket, interval)));
        Self { socket, watchdog }
    }

    /// The service can be used.
    pub(crate) fn ready(&self) {
        self.tell("READY=1");
    }

    /// The configuration is read again, until [`Self::ready`].
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}{:06}", now.tv_sec, now.tv_nsec / 1000));
    }

    /// The service ends, which may take so long.
    pub(crate) fn stopping(&self, patience: Duration) {
        self.tell(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", patience.as_micros()));
    }

    fn tell(&self, what: &str) {
        if let Some(Err(error)) = self.socket.as_ref().map(|socket| socket.send(what.as_bytes())) {
            tracing::warn!(%error, "cannot tell the service manager");
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if let Some(watchdog) = &self.watchdog {
            watchdog.abort();
        }
    }
}

fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match address.as_bytes() {
        [b'@', name @ ..] => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        _ => socket.connect(address)?,
    }
    // A manager that does not read must not keep the service waiting.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// How often the manager is to hear that the service lives: twice in the time that it waits.
fn watchdog_interval() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    if number(WATCHED).is_some_and(|process| process != u64::from(std::process::id())) {
        return None;
    }
    number(WATCHDOG).filter(|micros| *micros > 1).map(|micros| Duration::from_micros(micros / 2))
}

async fn tell_of_life(socket: UnixDatagram, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = socket.send(b"WATCHDOG=1") {
            tracing::warn!(%error, "cannot tell the service manager that the service lives");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 128];
        manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn the_manager_hears_of_each_change_by_path_and_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("llm-firecracker-test-{}", std::process::id());
        let by_name = SocketAddr::from_abstract_name(&name).unwrap();
        for (listener, address) in [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (UnixDatagram::bind_addr(&by_name).unwrap(), format!("@{name}").into()),
        ] {
            let manager = Manager { socket: Some(connect(&address).unwrap()), watchdog: None };
            manager.ready();
            assert_eq!(heard(&listener), "READY=1");
            manager.reloading();
            let told = heard(&listener);
            let since = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            let now = Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap().as_micros();
            assert!((now - 10_000_000..=now).contains(&since.parse().unwrap()), "{told} at {now}");
            manager.stopping(Duration::from_secs(45));
            assert_eq!(heard(&listener), "STOPPING=1\nEXTEND_TIMEOUT_USEC=45000000");
        }
    }

    #[test]
    fn nobody_is_told_where_nobody_asks_and_a_manager_that_is_gone_does_no_harm() {
        Manager { socket: None, watchdog: None }.ready();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        assert!(connect(path.as_os_str()).is_err());
        let listener = UnixDatagram::bind(&path).unwrap();
        let manager = Manager { socket: Some(connect(path.as_os_str()).unwrap()), watchdog: None };
        drop(listener);
        manager.ready();
    }

    #[test]
    fn the_manager_hears_again_and_again_that_the_service_lives() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let told = tokio::spawn(tell_of_life(ours, Duration::from_millis(1)));
            let hears = move || assert_eq!([heard(&theirs), heard(&theirs)], ["WATCHDOG=1", "WATCHDOG=1"]);
            tokio::task::spawn_blocking(hears).await.unwrap();
            told.abort();
        });
    }
}
