//! Runs the Debian programs that do the work here (`mmdebstrap`, `mkfs.ext4`, `apt-get`, …) and keeps what they
//! say on standard error, so that an error can show the cause.
//!
//! Programs get an argv, never a shell string, and stay in our process group, so that Ctrl-C reaches them too.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

/// Where Debian keeps its programs. Fixed, because an ordinary user's `PATH` lacks the `sbin` directories.
const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// How much of a failed program's standard error an error keeps: the end, where the reason is.
const KEPT_STDERR_BYTES: usize = 4096;

/// A program did not do what it was started for.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It is not installed.
    #[error("{program} is not installed")]
    Missing {
        /// Its name.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// It could not be started, or its output not be read.
    #[error("cannot run {program}")]
    Run {
        /// Its name.
        program: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended with an error.
    #[error("{program} failed ({status}): {}", stderr.trim_end())]
    Failed {
        /// Its name.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said.
        stderr: String,
    },
}

impl ProgramError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { package, .. } => Some(format!("install it: apt-get install {package}")),
            Self::Run { .. } => None,
            Self::Failed { stderr, .. } => failure_hint(stderr).map(str::to_owned),
        }
    }

    /// Whether there is no such program.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }

    /// What the program said, if it ran and failed.
    pub(crate) fn stderr(&self) -> Option<&str> {
        match self {
            Self::Failed { stderr, .. } => Some(stderr),
            Self::Missing { .. } | Self::Run { .. } => None,
        }
    }
}

/// Remedies for what the programs commonly complain of.
fn failure_hint(stderr: &str) -> Option<&'static str> {
    const HINTS: [(&str, &str); 8] = [
        ("Unable to locate package", "check the package's name with: apt-cache search <name>"),
        ("has no installation candidate", "check the package's name with: apt-cache policy <name>"),
        ("No packages found", "refresh the package lists with: apt-get update"),
        ("Temporary failure resolving", "check the network connection and the mirror's name"),
        ("Could not connect", "check the network connection, and that the mirror can be reached"),
        ("No space left on device", "free some disk space"),
        ("Permission denied", "run with sudo"),
        ("does not have a Release file", "check the names of the suite and of the mirror"),
    ];
    HINTS.iter().find(|(complaint, _)| stderr.contains(complaint)).map(|(_, hint)| *hint)
}

/// A program to run.
#[derive(Debug)]
pub(crate) struct Program {
    name: &'static str,
    package: &'static str,
    /// Where it is, if that is known.
    path: Option<PathBuf>,
    arguments: Vec<OsString>,
    directory: Option<PathBuf>,
    environment: Vec<(&'static str, OsString)>,
    is_isolated: bool,
}

impl Program {
    /// The program `name`, which is in the Debian package `package`.
    pub(crate) fn new(name: &'static str, package: &'static str) -> Self {
        Self {
            name,
            package,
            path: None,
            arguments: Vec::new(),
            directory: None,
            environment: Vec::new(),
            is_isolated: false,
        }
    }

    /// A program of ours, at this path.
    pub(crate) fn ours(path: PathBuf) -> Self {
        Self { path: Some(path), ..Self::new("infra.operator", "llm-firecracker") }
    }

    pub(crate) fn argument(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    pub(crate) fn arguments<T: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    pub(crate) fn directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    pub(crate) fn environment(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name, value.as_ref().to_owned()));
        self
    }

    /// Runs the program with namespaces of its own but for users and the network: what it mounts is never seen on the host, where
    /// removing its directory would descend into `/proc` and `/dev`, and no process or mount of it outlives it, or us.
    pub(crate) fn isolated(mut self) -> Self {
        self.is_isolated = true;
        self
    }

    fn check_installed(&self) -> Result<PathBuf, ProgramError> {
        self.path
            .clone()
            .or_else(|| find(self.name))
            .ok_or(ProgramError::Missing { program: self.name, package: self.package })
    }

    /// Runs to the end and returns standard output.
    pub(crate) fn run(&self) -> Result<String, ProgramError> {
        self.run_with(&|_| {})
    }

    /// Runs to the end; `on_line` sees each line of standard error when it comes.
    pub(crate) fn run_with(&self, on_line: &dyn Fn(&str)) -> Result<String, ProgramError> {
        let failed = |source| ProgramError::Run { program: self.name, source };
        let mut child = self.command()?.spawn().map_err(failed)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        // Both pipes are read at once: a program that fills one of them would otherwise never end.
        let reader = thread::Builder::new().spawn(move || {
            let mut output = Vec::new();
            stdout.map_or(Ok(0), |mut stdout| stdout.read_to_end(&mut output)).map(|_| output)
        });
        let reader = match reader {
            Ok(reader) => reader,
            Err(error) => {
                child.kill().and_then(|()| child.wait()).map_err(failed)?;
                return Err(failed(error));
            }
        };
        let said = stderr.map_or(Ok(String::new()), |stderr| collect_lines(BufReader::new(stderr), on_line));
        let status = child.wait().map_err(failed)?;
        let output = reader.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into())).map_err(failed)?;
        let stderr = said.map_err(failed)?;
        if status.success() {
            Ok(String::from_utf8_lossy(&output).into_owned())
        } else {
            Err(ProgramError::Failed { program: self.name, status, stderr: last_words(&stderr) })
        }
    }

    fn command(&self) -> Result<Command, ProgramError> {
        let program = self.check_installed()?;
        // Should we be killed, the program must not go on writing to a directory that the next run takes away.
        // `setpriv` sees to that with `PR_SET_PDEATHSIG` and becomes the program.
        let mut command = Command::new(require("setpriv")?);
        command.args(["--pdeathsig", "KILL", "--"]);
        if self.is_isolated {
            command.arg(require("unshare")?).args([
                "--mount",
                "--pid",
                "--ipc",
                "--uts",
                "--cgroup",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "--",
            ]);
        }
        command.arg(program);
        command
            .args(&self.arguments)
            .env("PATH", PATH)
            .env("LC_ALL", "C")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        Ok(command)
    }
}

/// A program of the package that every Debian system has.
fn require(program: &'static str) -> Result<PathBuf, ProgramError> {
    find(program).ok_or(ProgramError::Missing { program, package: "util-linux" })
}

fn find(name: &str) -> Option<PathBuf> {
    DIRECTORIES.iter().map(|directory| Path::new(directory).join(name)).find(|path| path.is_file())
}

/// The lines by which `apt` and `mmdebstrap` say what went wrong, where there are such, without those that only repeat
/// a command line or that an earlier step failed.
fn last_words(stderr: &str) -> String {
    let is_telling = |line: &&str| {
        line.starts_with("E: ") && !line.contains(" failed: E: ") && !line.ends_with("failed to run")
    };
    let telling: Vec<&str> = stderr.lines().filter(is_telling).collect();
    if telling.is_empty() { stderr.to_owned() } else { telling.join("\n") }
}

/// Passes lines on, and returns the end of them all.
fn collect_lines(mut reader: impl BufRead, on_line: &dyn Fn(&str)) -> io::Result<String> {
    let mut kept = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        // A bound on one line's length: what a program says may be a progress bar without line ends.
        if reader.by_ref().take(KEPT_STDERR_BYTES as u64).read_until(b'\n', &mut line)? == 0 {
            let end = kept.split_off(kept.len().saturating_sub(KEPT_STDERR_BYTES));
            return Ok(String::from_utf8_lossy(&end).into_owned());
        }
        on_line(String::from_utf8_lossy(&line).trim_end());
        kept.extend_from_slice(&line);
        if kept.len() > 2 * KEPT_STDERR_BYTES {
            kept.drain(..kept.len() - KEPT_STDERR_BYTES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_output_is_returned_and_standard_error_is_seen_line_by_line() {
        let lines = std::sync::Mutex::new(Vec::new());
        let output = Program::new("sh", "dash")
            .arguments(["-c", "echo one >&2; echo out; echo two >&2; echo $LC_ALL"])
            .run_with(&|line| lines.lock().expect("lock").push(line.to_owned()))
            .expect("sh");
        assert_eq!(output, "out\nC\n");
        assert_eq!(lines.into_inner().expect("lock"), ["one", "two"]);
    }

    #[test]
    fn a_failure_shows_the_end_of_what_was_said() {
        let error = Program::new("sh", "dash")
            .arguments(["-c", "yes | head -c 100000 >&2; echo 'E: Unable to locate package x' >&2; exit 3"])
            .run()
            .expect_err("failure");
        assert!(error.to_string().ends_with("E: Unable to locate package x"));
        assert!(error.to_string().starts_with("sh failed (exit status: 3)"), "{error}");
        assert!(error.stderr().expect("stderr").len() <= KEPT_STDERR_BYTES);
        assert!(error.hint().expect("hint").contains("apt-cache search"));
    }

    #[test]
    fn of_apts_complaints_only_the_telling_ones_are_kept() {
        let said = "I: starting\nE: Unable to locate package x\nE: apt failed: E: apt-get install x failed\nW: x\n\
                    E: mmdebstrap failed to run\n";
        assert_eq!(last_words(said), "E: Unable to locate package x");
        assert_eq!(last_words("disk on fire\n"), "disk on fire\n");
    }

    #[test]
    fn mounts_of_an_isolated_program_are_not_seen_outside() {
        let directory = tempfile::tempdir().expect("temporary directory");
        Program::new("sh", "dash")
            .arguments(["-c", "mount -t tmpfs none \"$1\" && touch \"$1/file\" && test $$ = 1", "sh"])
            .argument(directory.path())
            .isolated()
            .run()
            .expect("sh");
        assert!(!directory.path().join("file").exists());
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let error = Program::new("no-such-program", "no-such-package").run().expect_err("missing");
        assert_eq!(error.hint().as_deref(), Some("install it: apt-get install no-such-package"));
    }
}
