//! One attack in a microVM of its own, and a calm program in the same one after it.

use std::time::Duration;

use engine::{
    Engine, ExecutionAnswer, Job, LanguageSpec, Request, Session, Start,
    request::{Process, Stdin},
};
use vmm::MachineSpec;

use super::{
    catalogue::{self, Attack, Way},
    judge,
    report::Tried,
};
use crate::failure::Failure;

/// How many executions a batch has: the second one follows an attack.
const BATCH: usize = 2;

/// How an attack ends that takes its microVM with it.
const DESTROYED: &str = "destroyed";

/// Where attacks are tried.
pub(super) struct Ground<'a> {
    pub(super) engine: &'a Engine,
    pub(super) language: &'a LanguageSpec,
    pub(super) machine: MachineSpec,
}

impl Ground<'_> {
    /// A microVM to attack.
    pub(super) async fn open(&self, processors: Option<u32>) -> Result<Session, engine::RunError> {
        let (machine, start) = match processors {
            Some(vcpus) => (MachineSpec { vcpus, ..self.machine }, Start::Boot),
            None => (self.machine, Start::Snapshot),
        };
        self.engine.open(&self.language.name, machine, start).await
    }

    /// Tries `attack` in this way.
    pub(super) async fn attack(&self, attack: &Attack, way: Way) -> Result<Tried, Failure> {
        let mut request = attack.request(self.language)?;
        if way == Way::Batch {
            request.stdin = Stdin::Batch(vec![attack.stdin(); BATCH]);
        }
        let process = if way == Way::Fresh { Process::Fresh } else { Process::Initialised };
        let mut tried = Tried::new(attack.name(), way.name());
        let mut session = match self.open(attack.processors).await {
            Ok(session) => session,
            Err(error) => return Ok(tried.failed("no microVM to attack", &error)),
        };
        let vmm = session.process_id();
        match run(&mut session, &request, process).await {
            Ok((answers, took)) => {
                tried.took(took);
                if answers.len() != request.executions() as usize {
                    tried.wrong.push(format!(
                        "{} answers to {} executions",
                        answers.len(),
                        request.executions()
                    ));
                }
                for answer in &answers {
                    tried.ended(judge::end_of(answer));
                    tried.wrong.extend(judge::of_attack(attack, answer));
                }
                tried.wrong.extend(judge::of_time(attack, request.executions(), took));
                tried.wrong.extend(self.calm(&mut session, attack.processes_after(way)).await?);
            }
            Err(_) if attack.ends.iter().any(|end| end == DESTROYED) => {
                tried.took(session.phases().run);
                tried.ended(DESTROYED.to_owned());
                tried.wrong.extend(judge::of_time(attack, request.executions(), session.phases().run));
            }
            Err(error) => tried = tried.failed("no answer", &error),
        }
        session.end().await;
        if super::census::is_alive(vmm) {
            tried.wrong.push(format!("the VMM (process {vmm}) is still there"));
        }
        Ok(tried)
    }

    /// What is wrong with the microVM after an attack.
    async fn calm(&self, session: &mut Session, processes: &[u32]) -> Result<Vec<String>, Failure> {
        let request = catalogue::calm(self.language)?;
        let expected: Vec<String> = processes.iter().copied().map(catalogue::calm_stdout).collect();
        let (answers, _) = match run(session, &request, Process::Fresh).await {
            Ok(ran) => ran,
            Err(error) => {
                return Ok(vec![format!("a calm program after it had no answer: {}", engine::chain(&error))]);
            }
        };
        let disturbed = answers
            .iter()
            .filter(|answer| judge::end_of(answer) != "success" || !expected.contains(&answer.stdout));
        let told = disturbed.map(|answer| {
            let stderr = judge::shown(answer.stderr.as_deref().unwrap_or_default());
            let (end, stdout) = (judge::end_of(answer), judge::shown(&answer.stdout));
            format!("a calm program after it ended with {end}, printed {stdout}, and complained of {stderr}")
        });
        Ok(told.collect())
    }
}

/// Runs a request, and says how long that took.
pub(super) async fn run(
    session: &mut Session,
    request: &Request,
    process: Process,
) -> Result<(Vec<ExecutionAnswer>, Duration), engine::RunError> {
    let job = Job { trace_id: "selftest", process };
    let executions = session.run(request, &job).await?;
    let answers = executions
        .into_iter()
        .map(|execution| ExecutionAnswer::new(execution, None, None, job.trace_id, false))
        .collect();
    Ok((answers, session.phases().run))
}
