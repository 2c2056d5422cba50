//! Installing from a server that answers well, badly or not at all: what was there before stays until the new has
//! been verified, and nothing unfinished is left.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use images::{Progress, Quiet, Sha256Digest};
use store::DataDirectory;

use super::{
    download::Patience,
    server::{Answer, Server},
    step::{Archive, copy, from_archive},
};

/// Short enough for a test, and long enough for a busy machine to answer itself.
const SHORT: Patience = Patience {
    connect: Duration::from_millis(500),
    progress: Duration::from_millis(500),
    all: Duration::from_secs(3),
};

/// Enough for whatever is not about time.
const LONG: Patience = Patience {
    connect: Duration::from_secs(60),
    progress: Duration::from_secs(60),
    all: Duration::from_secs(60),
};

fn script(says: &str) -> Vec<u8> {
    format!("#!/bin/sh\n[ \"$1\" = --version ] && printf '%s\\n\\nmore\\n' '{says}'\n").into_bytes()
}

/// A release's archive, with programs that say this.
fn archive_of(firecracker: &str, jailer: &str) -> Vec<u8> {
    let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(encoder);
    for (name, says) in [("firecracker", firecracker), ("jailer", jailer), ("snapshot-editor", "no")] {
        let bytes = script(says);
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        let path = format!("release-v1.16.1-x86_64/{name}-v1.16.1-x86_64");
        archive.append_data(&mut header, path, bytes.as_slice()).expect("memory can be written");
    }
    let encoder = archive.into_inner().expect("memory can be written");
    encoder.finish().expect("memory can be written")
}

fn good() -> Vec<u8> {
    archive_of("Firecracker v1.16.1", "Jailer v1.16.1")
}

/// A data directory of a test.
struct Place {
    _directory: tempfile::TempDir,
    data: DataDirectory,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let data = DataDirectory::new(directory.path().join("data"));
        Self { _directory: directory, data }
    }

    /// With something installed.
    async fn with_earlier() -> Self {
        let place = Self::new();
        let archive = archive_of("Firecracker v1.16.2", "Jailer v1.16.2");
        let server = Server::start(vec![("/", Answer::Good(archive.clone()))]);
        place.install(&server.url("/f.tgz"), &archive, LONG).await.expect("the earlier one");
        place
    }

    async fn install(&self, url: &str, archive: &[u8], patience: Patience) -> anyhow::Result<()> {
        let quiet: Arc<dyn Progress> = Arc::new(Quiet);
        let sha256 = Sha256Digest::of_bytes(archive);
        from_archive(Archive { url: url.to_owned(), sha256, patience }, &self.data, &quiet).await
    }

    async fn copy(&self, path: &Path) -> anyhow::Result<()> {
        let quiet: Arc<dyn Progress> = Arc::new(Quiet);
        copy(path.to_owned(), &self.data, &quiet).await
    }

    fn firecracker(&self) -> String {
        fs::read_to_string(self.data.firecracker()).expect("it is installed")
    }

    fn is_clean(&self) {
        let names: Vec<_> = fs::read_dir(self.data.root())
            .expect("the data directory")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .filter(|name| name != "bin" && name != ".lock-bin")
            .collect();
        assert!(names.is_empty(), "{names:?}");
    }
}

#[tokio::test]
async fn a_good_archive_is_installed_once() {
    let archive = good();
    let server = Server::start(vec![
        ("/moved", Answer::Redirect("/stored/f.tgz")),
        ("/stored", Answer::Good(archive.clone())),
    ]);
    let place = Place::new();
    for _ in 0..2 {
        place.install(&server.url("/moved/f.tgz"), &archive, LONG).await.expect("it is good");
        assert_eq!(server.requests(), 2, "one of them redirected, and none the second time");
    }
    for program in [place.data.firecracker(), place.data.jailer()] {
        let mode = fs::metadata(program).expect("it is installed").permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
    }
    assert!(place.firecracker().contains("Firecracker v1.16.1"));
    place.is_clean();
}

#[tokio::test]
async fn another_archive_replaces_an_earlier_one() {
    let place = Place::with_earlier().await;
    let archive = good();
    let server = Server::start(vec![("/", Answer::Good(archive.clone()))]);
    place.install(&server.url("/f.tgz"), &archive, LONG).await.expect("it is good");
    assert!(place.firecracker().contains("v1.16.1"));
    place.is_clean();
}

#[tokio::test]
async fn every_bad_answer_leaves_what_was_there() {
    let archive = good();
    let other = archive_of("Firecracker v1.16.3", "Jailer v1.16.3");
    let answers = [
        (Answer::Truncated(archive.clone()), "it broke off after", LONG),
        (Answer::Good(other), "its SHA-256 is", LONG),
        (Answer::Status("404 Not Found"), "404", LONG),
        (Answer::Status("500 Oops"), "500", LONG),
        (Answer::Redirect("/round"), "redirect", LONG),
        (Answer::Announced(1 << 40), "it is larger than", LONG),
        (Answer::Endless, "it is larger than", LONG),
        (Answer::Hanging, "timeout", SHORT),
        (Answer::HangingBody(archive.clone()), "timeout", SHORT),
        (Answer::Dripping, "timeout", SHORT),
    ];
    let place = Place::with_earlier().await;
    let before = place.firecracker();
    for (answer, expected, patience) in answers {
        let server = Server::start(vec![("/", answer)]);
        let since = Instant::now();
        let error = place.install(&server.url("/f.tgz"), &archive, patience).await.expect_err(expected);
        assert!(format!("{error:#}").contains(expected), "{expected}: {error:#}");
        assert!(since.elapsed() < Duration::from_secs(60), "{expected}: {:?}", since.elapsed());
        assert_eq!(place.firecracker(), before);
        place.is_clean();
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error() {
    let place = Place::new();
    let error = place.install("http://127.0.0.1:1/f.tgz", b"", LONG).await.expect_err("nobody listens");
    assert!(format!("{error:#}").starts_with("cannot download http://127.0.0.1:1/f.tgz: "), "{error:#}");
    assert!(!place.data.root().exists(), "not even a directory was made");
}

#[tokio::test]
async fn verified_archives_that_do_not_work_are_refused() {
    let cases = [
        (b"<html>sign in first</html>".to_vec(), "cannot unpack the archive"),
        (
            archive_of("Firecracker v1.16.0", "Jailer v1.16.0"),
            "Firecracker 1.16.0 is too old: 1.16.1 or newer",
        ),
        (archive_of("Firecracker v1.16.1", "Jailer v1.16.2"), "is 1.16.1, and its jailer 1.16.2"),
        (archive_of("QEMU emulator version 7.2", "Jailer v1.16.1"), "no version of Firecracker"),
    ];
    let place = Place::with_earlier().await;
    let before = place.firecracker();
    for (archive, expected) in cases {
        let server = Server::start(vec![("/", Answer::Good(archive.clone()))]);
        let error = place.install(&server.url("/f.tgz"), &archive, LONG).await.expect_err(expected);
        assert!(format!("{error:#}").contains(expected), "{expected}: {error:#}");
        assert_eq!(place.firecracker(), before);
        place.is_clean();
    }
}

#[tokio::test]
async fn programs_of_this_host_are_copied_and_checked() {
    let from = tempfile::tempdir().expect("temporary directory");
    let put = |name: &str, says: &str| fs::write(from.path().join(name), script(says)).expect("file");
    put("firecracker", "Firecracker v1.17.0");
    put("jailer", "Jailer v1.17.0");
    let place = Place::new();
    place.copy(from.path()).await.expect("a directory");
    place.copy(&from.path().join("firecracker")).await.expect("a file");
    assert!(place.firecracker().contains("v1.17.0"));
    put("firecracker", "Firecracker v1.15.9");
    put("jailer", "Jailer v1.15.9");
    let error = place.copy(from.path()).await.expect_err("too old");
    assert!(error.to_string().contains("too old"), "{error:#}");
    fs::write(from.path().join("firecracker"), b"\x7fELF, or nearly").expect("file");
    let error = place.copy(from.path()).await.expect_err("no program");
    assert!(error.to_string().starts_with("cannot run "), "{error:#}");
    assert!(place.firecracker().contains("v1.17.0"));
    place.is_clean();
}

#[tokio::test]
async fn a_program_that_never_answers_is_ended() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("firecracker");
    fs::write(&path, "#!/bin/sh\nexec tail -f /dev/null\n").expect("file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permissions");
    let since = Instant::now();
    let error = super::version::ask(&path, "Firecracker", Duration::from_millis(300)).await;
    let error = error.expect_err("it never ends").to_string();
    assert!(error.contains("did not end within"), "{error}");
    assert!(since.elapsed() < Duration::from_secs(30));
}
