//! The service's page, in a real browser: `web/test/page.test.mjs` uses it, on real microVMs; `web/test/edges.mjs` at its
//! edges, on a service that only pretends. And its editor, made anew of `web/`: it must be the one that is committed.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use e2e::{TestHost, build_directory, service::Service};

/// `web/` with its packages, in the build directory: the source tree stays as it is.
struct Web {
    directory: PathBuf,
    /// Tests are processes of their own: one installs, the others wait for it.
    _lock: File,
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../web")
}

impl Web {
    fn installed() -> Self {
        let directory = build_directory().join("web");
        fs::create_dir_all(&directory).unwrap();
        let lock = File::create(directory.join("lock")).unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
        for part in ["src", "test"] {
            fs::create_dir_all(directory.join(part)).unwrap();
        }
        let wanted = fs::read(source().join("package-lock.json")).unwrap();
        let installed = directory.join("installed.json");
        for part in [
            "package.json",
            "package-lock.json",
            "build.mjs",
            "src/editor.js",
            "test/page.test.mjs",
            "test/edges.mjs",
            "test/mock.mjs",
        ] {
            fs::copy(source().join(part), directory.join(part)).unwrap();
        }
        if fs::read(&installed).ok().as_ref() != Some(&wanted) {
            // Exactly what the lock file names, and no program of theirs is run.
            let arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
            let status = Command::new("npm").args(arguments).current_dir(&directory).status();
            assert!(status.expect("scripts/test-packages installs npm").success());
            fs::write(&installed, wanted).unwrap();
        }
        Self { directory, _lock: lock }
    }

    fn node(&self, arguments: &[&str]) {
        let output = Command::new("node")
            .args(arguments)
            .current_dir(&self.directory)
            .env("SERVER_CRATE", source().join("../crates/server").canonicalize().unwrap())
            .output();
        let output = output.expect("scripts/test-packages installs node");
        let (said, faults) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        eprintln!("{said}{faults}");
        assert!(output.status.success(), "node {arguments:?}: {said}{faults}");
    }
}

#[test]
fn the_editor_is_what_its_sources_make() {
    let web = Web::installed();
    web.node(&["build.mjs", "editor.js"]);
    let committed = source().join("../crates/server/assets/page/editor.js");
    assert!(
        fs::read(web.directory.join("editor.js")).unwrap() == fs::read(committed).unwrap(),
        "run, in web: npm ci --ignore-scripts && npm run build"
    );
}

#[test]
fn the_page_takes_what_a_service_seldom_says() {
    Web::installed().node(&["--test", "test/edges.mjs"]);
}

#[test]
fn the_page_works_in_a_browser() {
    let web = Web::installed();
    let host = TestHost::prepared().copy();
    let service = Service::start(&host, &[]).unwrap();
    service.wait_until_full().unwrap();
    web.node(&["test/page.test.mjs", &format!("http://{}", service.address())]);
    assert_eq!(service.stop().unwrap().code, 0);

    let token = host.expect_done(&["token", "create", "--name", "page"]);
    let service = Service::start(&host, &["--host", "0.0.0.0"]).unwrap();
    web.node(&["test/page.test.mjs", &format!("http://{}", service.address()), token.trim()]);
    assert!(!service.log().contains(token.trim()), "a token is in the log");
    assert_eq!(service.stop().unwrap().code, 0);
}
