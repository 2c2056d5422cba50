//! Helpers of the tests that boot microVMs.
//!
//! [`TestHost::prepared`] is a data directory with a kernel bundle, a Python image and a Python snapshot, made with the
//! product's own commands by whichever test comes first and kept in the build directory. Tests that change
//! something take a [`TestHost::copy`].

pub mod acceptance;
pub mod differential;
pub mod documentation;
pub mod lab;
pub mod load;
pub mod mounted;
pub mod object_store_server;
pub mod package;
pub mod registry_images;
pub mod registry_server;
pub mod running;
pub mod service;
pub mod service_manager;
pub mod soak;
pub mod stand_in;
pub mod survival;
pub mod wiring;

use std::{
    collections::BTreeSet,
    env, fs,
    io::Write as _,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use crate::running::{Ended, Process};

/// The environment variable by which processes are told from those of other tests: it names the data directory.
const MARK: &str = "E2E_DATA_DIR";

/// The environment variable that names a data directory that is prepared already, where tests are not run by cargo.
pub const PREPARED: &str = "E2E_PREPARED";

/// And the one with options for every command on it, separated by blanks.
pub const OPTIONS: &str = "E2E_OPTIONS";

/// A data directory, and the program that works on it.
pub struct TestHost {
    data: PathBuf,
    /// What every command is told.
    options: Vec<String>,
    /// Keeps a copy's directory.
    _temporary: Option<tempfile::TempDir>,
}

/// The directory of the product's program: `target/debug` or its like. Tests lie in `deps` there, programs beside it.
pub fn build_directory() -> PathBuf {
    let program = env::current_exe().expect("a program has a path");
    let directory = program.parent().expect("a program is in a directory");
    let is_for_tests = directory.file_name().is_some_and(|name| name == "deps");
    directory.ancestors().nth(usize::from(is_for_tests)).expect("cargo has made deps").to_owned()
}

/// The product's program.
pub fn program() -> PathBuf {
    let program = build_directory().join("infra-operator");
    assert!(program.is_file(), "{} is missing: run `cargo build --workspace` first", program.display());
    program
}

impl TestHost {
    /// The data directory that all tests share. They must not change it.
    pub fn prepared() -> Self {
        if let Some(data) = env::var_os(PREPARED) {
            let options = env::var(OPTIONS).unwrap_or_default();
            return Self::at(Path::new(&data)).with_options(&options.split_whitespace().collect::<Vec<_>>());
        }
        let (host, _lock) = Self::locked_with_image();
        host.expect_done(&["snapshot", "create", "--lang", "python", "--if-needed"]);
        host
    }

    /// The same without a snapshot, unless it has one by now.
    pub fn with_image() -> Self {
        Self::locked_with_image().0
    }

    fn locked_with_image() -> (Self, fs::File) {
        let data = build_directory().join("e2e-data");
        fs::create_dir_all(&data).expect("the build directory can be written");
        let lock = fs::File::create(data.with_extension("lock")).expect("the build directory can be written");
        flock(&lock, FlockOperation::LockExclusive).expect("locks work");
        let host = Self { data, options: Vec::new(), _temporary: None };
        host.expect_done(&["setup", "--skip-packages", "--skip-firecracker"]);
        if !host.image().exists() {
            host.expect_done(&["rootfs", "create", "--lang", "python"]);
        }
        (host, lock)
    }

    /// The data directory at `data`, whatever it holds.
    pub fn at(data: &Path) -> Self {
        Self { data: data.to_owned(), options: Vec::new(), _temporary: None }
    }

    /// An empty data directory of its own.
    pub fn empty() -> Self {
        let temporary = tempfile::tempdir_in(build_directory()).expect("the build directory can be written");
        Self { data: temporary.path().join("data"), options: Vec::new(), _temporary: Some(temporary) }
    }

    /// The same, with these options for every command.
    pub fn with_options(mut self, options: &[&str]) -> Self {
        self.options = options.iter().map(ToString::to_string).collect();
        self
    }

    /// A copy that a test may change.
    pub fn copy(&self) -> Self {
        let copy = Self::empty();
        let copied = Command::new("cp")
            .args(["--archive", "--sparse=always", "--reflink=auto"])
            .args([&self.data, &copy.data])
            .status()
            .expect("there is cp");
        assert!(copied.success(), "cannot copy {}", self.data.display());
        copy
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// A command as messages tell it: with the data directory that a flag names.
    pub fn typed(&self, command: &str) -> String {
        format!("{command} --data-dir {}", self.data.display())
    }

    /// The Python image.
    pub fn image(&self) -> PathBuf {
        self.data.join("images/rootfs-python.ext4")
    }

    /// The Python snapshot of the default size.
    pub fn snapshot(&self) -> PathBuf {
        self.data.join("snapshots/python/512m-1c")
    }

    /// The product's program with these arguments, on this data directory.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.arg("--data-dir").arg(&self.data).args(&self.options).args(arguments);
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("LLM_FIRECRACKER_") {
                command.env_remove(name);
            }
        }
        // An empty file: that of this machine must not change what is tried.
        command.env("LLM_FIRECRACKER_CONFIG", "/dev/null");
        // What it starts inherits this: see `processes`.
        command.env(MARK, &self.data).stdin(Stdio::null());
        command
    }

    /// Runs the program to its end, whatever that is.
    pub fn ended(&self, arguments: &[&str]) -> Ended {
        Ended::new(&self.output(arguments))
    }

    /// Runs the program to its end.
    pub fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program can be started")
    }

    /// Runs the program, which must succeed, and returns its stdout.
    pub fn expect_done(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?} ended with {}:\n{stderr}", output.status);
        String::from_utf8(output.stdout).expect("the program prints UTF-8")
    }

    /// Has `run --request -` answer a request; returns exit status and answer.
    pub fn request(&self, request: &Value) -> (i32, Value) {
        let mut child = self
            .command(&["run", "--request", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        // It may end without reading all of a request that it refuses.
        let _ = child.stdin.take().expect("piped").write_all(request.to_string().as_bytes());
        let output = child.wait_with_output().expect("the program can be waited for");
        let answer = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            let (stdout, stderr) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            panic!("no JSON on stdout: {error}\nstdout: {stdout}\nstderr: {stderr}")
        });
        (output.status.code().unwrap_or(-1), answer)
    }

    /// Runs one file of Python and returns its answer.
    pub fn python(&self, code: &str) -> Value {
        self.request(&json!({ "language": "python", "code": code })).1
    }

    /// Processes that work on this data directory: commands, supervisors, VMMs and whatever else they have started.
    pub fn processes(&self) -> Result<Vec<String>> {
        let mark = [MARK.as_bytes(), b"=", self.data.as_os_str().as_bytes(), b"\0"].concat();
        let mut found = BTreeSet::new();
        for process in fs::read_dir("/proc").context("list /proc")?.flatten() {
            let Ok(id) = process.file_name().to_string_lossy().parse() else { continue };
            let read = |name: &str| fs::read(process.path().join(name)).unwrap_or_default();
            let holds = |text: &[u8], part: &[u8]| text.windows(part.len()).any(|window| window == part);
            // A VMM has an empty environment; but it has mapped the snapshot's memory.
            if (holds(&read("environ"), &mark) || holds(&read("maps"), self.data.as_os_str().as_bytes()))
                && let Some(process) = Process::find(id)
            {
                found.extend(process.descendants());
                found.insert(process);
            }
        }
        Ok(found.into_iter().filter(Process::is_alive).map(|process| format!("{process:?}")).collect())
    }

    /// What is left over in the data directory: names of unfinished work.
    pub fn leftovers(&self) -> Result<Vec<PathBuf>> {
        fn walk(directory: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
            for entry in fs::read_dir(directory)?.flatten() {
                let name = entry.file_name();
                if name.to_string_lossy().starts_with(".tmp") {
                    found.push(entry.path());
                } else if entry.file_type()?.is_dir() {
                    walk(&entry.path(), found)?;
                }
            }
            Ok(())
        }
        let mut found = Vec::new();
        if self.data.exists() {
            walk(&self.data, &mut found)?;
        }
        Ok(found)
    }
}

/// How a program of ours ends, whose work was done or not, and says whether all was well.
pub fn exit_code(done: Result<bool>) -> ExitCode {
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Waits until `condition` holds, and fails where that takes longer than `patience`.
pub fn eventually(what: &str, patience: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + patience;
    while !condition() {
        ensure!(Instant::now() < deadline, "{what}: not within {patience:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
