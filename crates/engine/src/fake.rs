//! A data directory for [`vmm::fake`], and an engine over it: for tests of the engine and of what lies above it.
//!
//! The snapshots are made by [`Engine::create_snapshot`], like any other; what they are made from is made up, for nothing
//! boots it: a kernel bundle that says of itself that it is this release's, and an image of a few bytes.
//!
//! ```text
//! let data = fake::prepare(directory, &[machine]).await?;
//! let vmm = Fake::new(FakeSettings::default());
//! let control = vmm.control();
//! let engine = fake::engine(data, vmm, 8);
//! ```
//!
//! Behind the feature `fake`, which no release has.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use images::{BundleManifest, GUEST_AGENT, Quiet, Sha256Digest};
use store::DataDirectory;
use vmm::{
    fake::{Fake, FakeSettings},
    spec::MachineSpec,
};

use crate::{CreateSnapshotError, Engine, EngineSettings, Languages, Room};

/// What a made-up file holds.
const NOTHING: &[u8] = b"This is in the place of something that a microVM boots from.\n";

/// Why there is no data directory for a fake.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// A file cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A snapshot could not be made.
    #[error("cannot make a snapshot")]
    Snapshot(#[source] CreateSnapshotError),
}

/// Makes `root` a data directory in which an engine over a [`Fake`] finds all that it needs: a kernel bundle, an image of
/// each built-in language, and its snapshots of these sizes.
pub async fn prepare(root: &Path, sizes: &[MachineSpec]) -> Result<DataDirectory, PrepareError> {
    let data = DataDirectory::new(root.to_owned());
    write_bundle(&data.kernel())?;
    let engine = engine(data.clone(), Fake::new(FakeSettings::default()), 1);
    for spec in engine.languages().iter() {
        write(&data.image(&spec.name), NOTHING)?;
        for size in sizes {
            let created = engine.create_snapshot(spec, *size, Arc::new(Quiet)).await;
            created.map_err(PrepareError::Snapshot)?;
        }
    }
    Ok(data)
}

/// An engine over `vmm` with room for so many microVMs.
pub fn engine(data: DataDirectory, vmm: Fake, slots: u32) -> Engine {
    Engine::new(EngineSettings {
        vmm: Arc::new(vmm),
        data,
        languages: Languages::built_in(),
        room: Room::Own { first: 0, slots, prefix: "fake-".to_owned() },
    })
}

fn write_bundle(directory: &Path) -> Result<(), PrepareError> {
    let (sha256, bytes) = (Sha256Digest::of_bytes(NOTHING), NOTHING.len() as u64);
    let manifest = BundleManifest {
        format_version: 1,
        kernel_release: "fake".to_owned(),
        source: "made up".to_owned(),
        vmlinux_sha256: sha256.clone(),
        vmlinux_bytes: bytes,
        initramfs_sha256: sha256,
        initramfs_bytes: bytes,
        agent_sha256: Sha256Digest::of_bytes(GUEST_AGENT),
    };
    let path = directory.join("bundle.json");
    let text = serde_json::to_vec(&manifest)
        .map_err(|error| PrepareError::Write { path: path.clone(), source: error.into() })?;
    for name in ["vmlinux", "initramfs.cpio"] {
        write(&directory.join(name), NOTHING)?;
    }
    write(&path, &text)
}

fn write(path: &Path, content: &[u8]) -> Result<(), PrepareError> {
    let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, content));
    written.map_err(|source| PrepareError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use vmm::fake::{Counts, FakeControl, Step};

    use super::*;
    use crate::{
        Answer, Exception, Job, Request, RunError, Start, answer::ExecutionAnswer, guest_client::GuestError,
    };

    const MACHINE: MachineSpec = MachineSpec { memory_mib: 512, vcpus: 1 };
    const PATIENCE: Duration = Duration::from_secs(20);

    /// An engine over a fake, and the directory that it works in.
    struct Lab {
        engine: Engine,
        control: Arc<FakeControl>,
        _directory: tempfile::TempDir,
    }

    impl Lab {
        async fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let data = prepare(directory.path(), &[MACHINE]).await.unwrap();
            let vmm = Fake::new(FakeSettings::default());
            let control = vmm.control();
            Self { engine: engine(data, vmm, 4), control, _directory: directory }
        }

        fn request(&self, json: &str) -> Request {
            Request::from_json(json.as_bytes(), self.engine.languages()).unwrap()
        }

        fn program(&self, text: &str) -> Request {
            let languages = self.engine.languages();
            Request::from_code("python", text.to_owned(), String::new(), Some(1.0), languages).unwrap()
        }

        async fn run(&self, request: &Request, start: Start) -> Result<Answer, RunError> {
            self.engine.run(request, MACHINE, start, "trace", None).await.map(|outcome| outcome.answer)
        }

        async fn answer(&self, text: &str) -> ExecutionAnswer {
            match self.run(&self.program(text), Start::Snapshot).await.unwrap() {
                Answer::One(answer) => answer,
                other => panic!("{other:?} to one stdin"),
            }
        }
    }

    #[tokio::test]
    async fn hello_world_is_answered_from_a_snapshot_as_after_a_boot() {
        let lab = Lab::new().await;
        let hello = lab.request(
            r#"{"language": "python", "files": [{"name": "main.py", "content": "print('Hello from Python!')"}]}"#,
        );
        for start in [Start::Snapshot, Start::Boot] {
            let outcome = lab.engine.run(&hello, MACHINE, start, "trace", None).await.unwrap();
            assert_eq!(outcome.restored, start == Start::Snapshot);
            let Answer::One(answer) = outcome.answer else { panic!("{outcome:?} to one stdin") };
            assert_eq!((answer.stdout.as_str(), answer.exit_code), ("Hello from Python!\n", Some(0)));
            assert_eq!((answer.stderr, answer.exception), (None, None));
        }
        let counts = lab.control.counts();
        assert_eq!((counts.started, counts.killed, counts.alive, counts.repeated_runs), (2, 2, 0, 0));
    }

    #[tokio::test]
    async fn ends_of_programs_become_exceptions() {
        let lab = Lab::new().await;
        for (text, exception) in [
            ("sleep 60000", Exception::Timeout),
            ("memory", Exception::MemoryLimitExceeded),
            ("flood 2000000", Exception::OutputLimitExceeded),
            ("signal 11", Exception::Killed(11)),
        ] {
            assert_eq!(lab.answer(text).await.exception, Some(exception), "{text}");
        }
        let batch = lab.request(r#"{"language": "python", "stdin": ["a", "b"], "code": "stdin\nprocess"}"#);
        let Answer::Batch(answers) = lab.run(&batch, Start::Snapshot).await.unwrap() else {
            panic!("a batch")
        };
        let stdouts: Vec<_> = answers.iter().map(|answer| answer.stdout.as_str()).collect();
        assert_eq!(stdouts, ["afork\n", "bfork\n"]);
    }

    #[tokio::test]
    async fn a_microvm_that_fails_is_an_error_and_leaves_nothing() {
        let lab = Lab::new().await;
        for text in ["crash", "shutdown", "garbage", "fail for a reason"] {
            let error = lab.run(&lab.program(text), Start::Snapshot).await.unwrap_err();
            let RunError::Guest { fate, .. } = &error else { panic!("{text}: {error:?}") };
            assert_eq!(fate.exit.is_some(), ["crash", "shutdown"].contains(&text), "{text}: {fate:?}");
        }
        for step in [Step::Start, Step::Load, Step::Reseed] {
            lab.control.fail_next(step, 1);
            let error = lab.run(&lab.program("print a"), Start::Snapshot).await.unwrap_err();
            assert_eq!(matches!(error, RunError::Guest { .. }), step == Step::Reseed, "{step:?}: {error:?}");
        }
        let gone = |counts: &Counts| counts.alive == 0;
        assert_eq!(lab.control.wait_until(PATIENCE, gone).await.unwrap().started, 7);
        assert_eq!(lab.answer("print('well')").await.stdout, "well\n");
    }

    #[tokio::test]
    async fn a_microvm_without_a_timer_is_booted_again_and_none_is_run_in() {
        let lab = Lab::new().await;
        lab.control.fail_next(Step::Timer, 3);
        let answer = lab.run(&lab.program("print a"), Start::Boot).await.unwrap();
        assert!(matches!(answer, Answer::One(answer) if answer.stdout == "a\n"));
        lab.control.fail_next(Step::Timer, 4);
        let error = lab.run(&lab.program("print a"), Start::Boot).await.unwrap_err();
        assert!(
            matches!(error, RunError::Guest { source: GuestError::Timer { permille: 0 }, .. }),
            "{error:?}"
        );
        assert!(error.hint().is_some_and(|hint| hint.contains("SLOTS")), "{error:?}");
        let counts = lab.control.counts();
        assert_eq!((counts.started, counts.alive, counts.runs), (8, 0, 1));
    }

    #[tokio::test]
    async fn no_snapshot_is_made_of_a_microvm_without_a_timer() {
        let lab = Lab::new().await;
        let language = lab.engine.languages().find("python").unwrap();
        let machine = MachineSpec { memory_mib: 256, ..MACHINE };
        lab.control.fail_next(Step::Timer, 8);
        let error = lab.engine.create_snapshot(language, machine, Arc::new(Quiet)).await.unwrap_err();
        assert!(
            matches!(
                error,
                CreateSnapshotError::Run(RunError::Guest { source: GuestError::Timer { .. }, .. })
            ),
            "{error:?}"
        );
        assert!(lab.engine.stand_by(&language.name, machine).await.is_err());
        lab.control.fail_next(Step::Timer, 7);
        lab.engine.create_snapshot(language, machine, Arc::new(Quiet)).await.unwrap();
        let ran = lab.engine.run(&lab.program("print a"), machine, Start::Snapshot, "trace", None).await;
        assert!(ran.unwrap().restored);
        // Eight that failed, seven more, the one that was saved, the one that was tried, and the one that ran the program.
        assert_eq!(lab.control.counts().started, 8 + 7 + 3);
    }

    #[tokio::test]
    async fn a_waiting_vmm_can_be_rehearsed_in_before_its_request() {
        let lab = Lab::new().await;
        let language = lab.engine.languages().find("python").unwrap();
        let mut session =
            lab.engine.stand_by(&language.name, MACHINE).await.unwrap().restore().await.unwrap();
        session.warm_up(language).await.unwrap();
        let executions = session.run(&lab.program("process"), &Job::of("test")).await.unwrap();
        assert_eq!(executions[0].stdout.bytes, "initialised\n".into());
        session.end().await;
        let counts = lab.control.counts();
        assert_eq!((counts.rehearsals, counts.runs, counts.alive), (3, 1, 0));
    }
}
