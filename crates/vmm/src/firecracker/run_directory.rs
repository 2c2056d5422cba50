//! The directory in which a VMM has its sockets, seen from the host.
//!
//! It lies in the jail, in a file system that exists in the jail's mount namespace alone: there is no path to it, the
//! host holds a descriptor. The VMM can do there as it likes, so the host follows no link, and connects to nothing that is no
//! socket.

use std::{
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixListener as BlockingListener,
    },
    path::PathBuf,
    time::{Duration, Instant},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, chmod, fstat, inotify, openat, statat},
    io::Errno,
};
use tokio::{
    net::{UnixListener, UnixStream, unix::pipe},
    sync::watch,
};

/// The directory.
pub(super) struct RunDirectory(OwnedFd);

impl RunDirectory {
    /// What `directory` refers to.
    pub(super) fn new(directory: OwnedFd) -> Self {
        Self(directory)
    }

    /// Connects to the socket `name`, waiting until it is there, for as long as `patience`.
    ///
    /// Its making is an event in the directory; that it takes connections is none, but the VMM prints something then:
    /// `printed` changes.
    pub(super) async fn connect_when_there(
        &self,
        name: &str,
        mut printed: watch::Receiver<u64>,
        patience: Duration,
    ) -> io::Result<UnixStream> {
        let deadline = Instant::now() + patience;
        // Before the first look, or a socket that is made in between would be missed. Nothing on a host that has no more watches to
        // give: they are counted (inotify(7)), and others may have taken them all.
        let mut events = self.watch().ok();
        let attempts = async {
            loop {
                // Before the attempt, or what is printed between it and the wait would be missed.
                printed.mark_unchanged();
                match self.connect(name).await {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => created(events.as_mut()).await?,
                    // Between bind(2), which makes the socket, and listen(2).
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        printed.changed().await.map_err(|_| io::ErrorKind::ConnectionRefused)?;
                    }
                    other => return other,
                }
            }
        };
        match tokio::time::timeout_at(deadline.into(), attempts).await {
            Ok(connected) => connected,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Watches for what is made in the directory.
    fn watch(&self) -> io::Result<pipe::Receiver> {
        let events = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        inotify::add_watch(&events, self.path("."), inotify::WatchFlags::CREATE)?;
        // It is no pipe, and read like one.
        pipe::Receiver::from_owned_fd_unchecked(events)
    }

    /// Connects to the socket `name`.
    pub(super) async fn connect(&self, name: &str) -> io::Result<UnixStream> {
        let socket = self.open_socket(name)?;
        UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await
    }

    /// A descriptor of the socket `name`, which is that and no link.
    fn open_socket(&self, name: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let socket = openat(&self.0, name, flags, Mode::empty())?;
        if FileType::from_raw_mode(fstat(&socket)?.st_mode) != FileType::Socket {
            return Err(Errno::NOTSOCK.into());
        }
        Ok(socket)
    }

    /// Makes the socket `name`, to which the VMM may connect.
    pub(super) fn listen(&self, name: &str) -> io::Result<UnixListener> {
        let listener = BlockingListener::bind(self.path(name))?;
        let made = self.open_socket(name)?;
        chmod(format!("/proc/self/fd/{}", made.as_raw_fd()), Mode::from_raw_mode(0o666))?;
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    }

    /// Opens the fifo `name` for reading; nothing where there is none.
    pub(super) fn open_fifo(&self, name: &str) -> Option<OwnedFd> {
        let is_fifo = statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        is_fifo.then(|| openat(&self.0, name, flags, Mode::empty()).ok()).flatten()
    }

    fn path(&self, name: &str) -> PathBuf {
        format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd()).into()
    }
}

/// Waits for an event, and reads what there is; for a moment where nothing can be watched. What it says does not matter: whoever
/// waits looks for himself.
async fn created(events: Option<&mut pipe::Receiver>) -> io::Result<()> {
    /// As long as the making of a jail may be late by without anybody noticing.
    const PAUSE: Duration = Duration::from_millis(2);
    let Some(events) = events else {
        tokio::time::sleep(PAUSE).await;
        return Ok(());
    };
    events.readable().await?;
    let mut buffer = [0; 4096];
    match events.try_read(&mut buffer) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
    use tokio::time::timeout;

    use super::*;

    fn directory() -> (tempfile::TempDir, RunDirectory) {
        let directory = tempfile::tempdir().unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(directory.path(), flags, Mode::empty()).unwrap();
        (directory, RunDirectory::new(opened))
    }

    #[tokio::test]
    async fn a_socket_is_waited_for() {
        let (directory, run) = directory();
        let path = directory.path().join("api.sock");
        let (there, told) = tokio::sync::oneshot::channel::<()>();
        let making = tokio::spawn(async move {
            told.await.unwrap();
            UnixListener::bind(path).unwrap()
        });
        let (_prints, printed) = watch::channel(0);
        let waiting = run.connect_when_there("api.sock", printed, Duration::from_secs(10));
        tokio::pin!(waiting);
        // It waits as long as there is none, also when there are others.
        fs::write(directory.path().join("other"), "").unwrap();
        assert!(timeout(Duration::from_millis(50), &mut waiting).await.is_err());
        there.send(()).unwrap();
        waiting.await.unwrap();
        making.await.unwrap();
    }

    #[tokio::test]
    async fn a_socket_that_never_comes_is_given_up() {
        let (_directory, run) = directory();
        let (_prints, printed) = watch::channel(0);
        let error = run.connect_when_there("api.sock", printed, Duration::from_millis(30)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_socket_that_does_not_listen_yet_is_waited_for() {
        let (directory, run) = directory();
        let (prints, printed) = watch::channel(0);
        let made = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        bind(&made, &SocketAddrUnix::new(directory.path().join("api.sock")).unwrap()).unwrap();
        let waiting = run.connect_when_there("api.sock", printed, Duration::from_secs(10));
        tokio::pin!(waiting);
        // It is there, and refuses; other words of the VMM change nothing.
        assert!(timeout(Duration::from_millis(50), &mut waiting).await.is_err());
        prints.send_replace(1);
        assert!(timeout(Duration::from_millis(50), &mut waiting).await.is_err());
        listen(&made, 1).unwrap();
        prints.send_replace(2);
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn links_and_files_are_not_connected_to() {
        let (directory, run) = directory();
        let elsewhere = tempfile::tempdir().unwrap();
        let target = elsewhere.path().join("secret.sock");
        let _listener = UnixListener::bind(&target).unwrap();
        symlink(&target, directory.path().join("api.sock")).unwrap();
        assert!(run.connect("api.sock").await.is_err());
        fs::write(directory.path().join("file"), "").unwrap();
        assert!(run.connect("file").await.is_err());
    }
}
