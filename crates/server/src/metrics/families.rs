//! The families of series, and who adds to them.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::http::{Method, StatusCode};
use engine::{
    Outcome, Phases,
    pool::{Discard, Observer, PoolKey, PoolStatus},
};
use prometheus_client::{
    encoding::text::{encode_eof, encode_registry},
    metrics::{
        counter::Counter,
        exemplar::{CounterWithExemplar, HistogramWithExemplars},
        family::Family,
        info::Info,
    },
    registry::{Registry, Unit},
};
use store::Language;

use super::{
    collectors::{JobGauges, PoolGauges, ProcessGauges},
    labels::{
        self, BuildLabels, EndedLabels, Exemplar, HttpLabels, LanguageLabel, Phase, PhaseLabels,
        RequestLabels, RouteLabels, StartedLabels, StateLabels,
    },
};
use crate::jobs::Counts;

/// With what the names of all families begin, but those of the process.
const PREFIX: &str = "llm_firecracker";

/// Upper bounds of the buckets of times, in seconds: from what a warm restore takes to the longest boot under emulation.
/// Three for each power of ten, so that a quantile is off by half at most.
const BUCKETS: [f64; 15] =
    [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0];

type Times = HistogramWithExemplars<Exemplar>;

/// What the service counts and measures. It is the pool's observer, too.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, CounterWithExemplar<Exemplar>>,
    executions: Family<RequestLabels, Counter>,
    phases: Family<PhaseLabels, Times>,
    http_requests: Family<HttpLabels, Counter>,
    http_times: Family<RouteLabels, Times>,
    started: Family<StartedLabels, Counter>,
    ended: Family<EndedLabels, Counter>,
    jobs: Family<StateLabels, Counter>,
    callbacks: Family<StateLabels, Counter>,
}

/// What is counted of an answer, whatever it was about.
pub(crate) struct HttpAnswered {
    /// The template of the route, such as `/api/v1/languages/{name}`; nothing where there is none.
    pub(crate) route: Option<Arc<str>>,
    pub(crate) method: Method,
    pub(crate) status: StatusCode,
    pub(crate) took: Duration,
}

impl Metrics {
    /// Nothing is counted yet. The process is said to have started now.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            executions: Family::default(),
            phases: Family::new_with_constructor(times),
            http_requests: Family::default(),
            http_times: Family::new_with_constructor(times),
            started: Family::default(),
            ended: Family::default(),
            jobs: Family::default(),
            callbacks: Family::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.registry.register_collector(Box::new(ProcessGauges { started: since_1970.as_secs_f64() }));
        let ours = self.registry.sub_registry_with_prefix(PREFIX);
        ours.register("build", "What this is", Info::new(BuildLabels { version: env!("CARGO_PKG_VERSION") }));
        ours.register(
            "requests",
            "Requests to run a program, by how they ended; a batch is one, and ended as the first of its executions that \
             did not end by itself",
            self.requests.clone(),
        );
        ours.register("executions", "Executions, by how they ended", self.executions.clone());
        let help = "Time of each part of a request's way and of a microVM's life";
        ours.register_with_unit("phase", help, Unit::Seconds, self.phases.clone());
        ours.register("http_requests", "Answered requests, by route", self.http_requests.clone());
        let help = "Time from the head of a request to the head of its answer";
        ours.register_with_unit("http_request", help, Unit::Seconds, self.http_times.clone());
        ours.register("microvms_started", "MicroVMs that were made ready, by how", self.started.clone());
        ours.register("jobs_finished", "Jobs that have ended, by how", self.jobs.clone());
        let help = "Attempts to tell the end of a job, by what came of them";
        ours.register("job_callbacks", help, self.callbacks.clone());
        ours.register("microvms_ended", "MicroVMs that were ended, by why", self.ended.clone());
    }

    /// All of it as `OpenMetrics` text, with the pool and the jobs as they are now.
    pub(crate) fn text(&self, pool: PoolStatus, jobs: Option<Counts>) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)?;
        // In a registry of its own: one that held the pool would be held by it, as its observer.
        let mut gauges = Registry::with_prefix(PREFIX);
        gauges.register_collector(Box::new(PoolGauges(pool)));
        if let Some(jobs) = jobs {
            gauges.register_collector(Box::new(JobGauges(jobs)));
        }
        encode_registry(&mut text, &gauges)?;
        encode_eof(&mut text)?;
        Ok(text)
    }

    /// Counts what was answered.
    pub(crate) fn answered(&self, answered: HttpAnswered, trace_id: &str) {
        let HttpAnswered { route, method, status, took } = answered;
        let route = route.unwrap_or_else(|| Arc::from("none"));
        self.http_times.get_or_create(&RouteLabels { route: Arc::clone(&route) }).observe(
            took.as_secs_f64(),
            Some(Exemplar { trace_id: Arc::from(trace_id) }),
            Some(SystemTime::now()),
        );
        let method = labels::method_name(&method);
        self.http_requests.get_or_create(&HttpLabels { route, method, status: status.as_u16() }).inc();
    }

    /// Counts a job that has ended.
    pub(crate) fn job_ended(&self, state: &'static str) {
        self.jobs.get_or_create(&StateLabels { state }).inc();
    }

    /// Counts an attempt to tell the end of one.
    pub(crate) fn callback(&self, state: &'static str) {
        self.callbacks.get_or_create(&StateLabels { state }).inc();
    }

    /// Counts a request to run a program.
    pub(super) fn request_ended(
        &self,
        language: Option<&Language>,
        outcome: labels::Outcome,
        trace_id: &Arc<str>,
    ) {
        let exemplar = Exemplar { trace_id: Arc::clone(trace_id) };
        let labels = RequestLabels { language: LanguageLabel(language.cloned()), outcome };
        self.requests.get_or_create(&labels).inc_by(1, Some(exemplar), Some(SystemTime::now()));
    }

    /// Measures a request that ran.
    pub(super) fn request_ran(&self, language: &Language, outcome: &Outcome, trace_id: &Arc<str>) {
        let exemplar = || Some(Exemplar { trace_id: Arc::clone(trace_id) });
        self.observe(language, Phase::Queue, outcome.phases.queue, exemplar());
        self.observe(language, Phase::Run, outcome.phases.run, exemplar());
        for execution in labels::executions(&outcome.answer) {
            let took = Duration::from_millis(execution.execution_time);
            self.observe(language, Phase::Execution, took, exemplar());
            let outcome = labels::execution_outcome(execution).into();
            self.executions
                .get_or_create(&RequestLabels { language: LanguageLabel::of(language), outcome })
                .inc();
        }
    }

    fn observe(&self, language: &Language, phase: Phase, took: Duration, exemplar: Option<Exemplar>) {
        let labels = PhaseLabels { language: LanguageLabel::of(language), phase };
        let now = exemplar.is_some().then(SystemTime::now);
        self.phases.get_or_create(&labels).observe(took.as_secs_f64(), exemplar, now);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn times() -> Times {
    Times::new(BUCKETS.into_iter())
}

impl Observer for Metrics {
    fn started(&self, key: &PoolKey, restored: bool, phases: &Phases) {
        let how = if restored { "restored" } else { "booted" };
        self.started.get_or_create(&StartedLabels { language: LanguageLabel::of(&key.language), how }).inc();
        self.observe(&key.language, Phase::Start, phases.process, None);
        if restored {
            let restore = phases.load + phases.resume.unwrap_or_default();
            self.observe(&key.language, Phase::Restore, restore, None);
        }
        self.observe(&key.language, Phase::Connect, phases.connect, None);
        self.observe(&key.language, Phase::Handshake, phases.handshake, None);
    }

    fn rehearsed(&self, key: &PoolKey, took: Duration) {
        self.observe(&key.language, Phase::Rehearsal, took, None);
    }

    fn ended(&self, key: &PoolKey, why: Discard, took: Duration) {
        let labels = EndedLabels { language: LanguageLabel::of(&key.language), why: why.name() };
        self.ended.get_or_create(&labels).inc();
        // Where there never was a microVM, there was none to end.
        if !matches!(why, Discard::FailedStart) && !took.is_zero() {
            self.observe(&key.language, Phase::End, took, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::{
        Answer,
        answer::{Exception, ExecutionAnswer},
        pool::KindStatus,
    };
    use vmm::spec::MachineSpec;

    use super::*;

    fn key() -> PoolKey {
        PoolKey { language: python(), machine: MachineSpec { memory_mib: 512, vcpus: 1 } }
    }

    fn python() -> Language {
        "python".parse().unwrap()
    }

    fn status() -> PoolStatus {
        let kind = |machine| KindStatus {
            key: PoolKey { machine, ..key() },
            restorable: true,
            idle: 2,
            target: 3,
            starting: 1,
            rehearsing: 0,
            running: 1,
        };
        PoolStatus {
            kinds: vec![
                kind(MachineSpec { memory_mib: 512, vcpus: 1 }),
                kind(MachineSpec { memory_mib: 512, vcpus: 2 }),
            ],
            queued: 5,
            queue: 1000,
            microvms: 8,
            running: 2,
            most_running: 8,
            memory_mib: 700,
            memory_limit_mib: 8192,
            stopping: false,
        }
    }

    fn execution(exception: Option<Exception>, execution_time: u64) -> ExecutionAnswer {
        ExecutionAnswer {
            status: "success",
            stdout: String::new(),
            stderr: None,
            exception,
            execution_time,
            exit_code: Some(0),
            trailing_newlines_omitted: 0,
            dropped: None,
            files: None,
            files_omitted: Vec::new(),
            usage: None,
            stdin: None,
            trace_id: "mine-1".to_owned(),
        }
    }

    fn outcome(executions: Vec<ExecutionAnswer>) -> Outcome {
        let milliseconds = |millis| Duration::from_millis(millis);
        let phases = Phases { queue: milliseconds(3), run: milliseconds(30), ..Phases::default() };
        Outcome { answer: Answer::Batch(executions), phases, restored: true }
    }

    /// The samples in whose line this stands, without timestamps.
    fn samples(text: &str, part: &str) -> String {
        let lines = text.lines().filter(|line| !line.starts_with('#') && line.contains(part));
        let mut lines: Vec<_> = lines
            .map(|line| match line.split_once(" # ") {
                Some((sample, exemplar)) => {
                    let exemplar: Vec<_> = exemplar.split(' ').take(2).collect();
                    format!("{sample} # {}", exemplar.join(" "))
                }
                None => line.to_owned(),
            })
            .collect();
        lines.sort();
        lines.join("\n")
    }

    #[test]
    fn a_request_is_counted_with_its_trace_id() {
        let metrics = Metrics::new();
        let trace_id = Arc::from("mine-1");
        let outcome = outcome(vec![execution(None, 4), execution(Some(Exception::Killed(9)), 0)]);
        metrics.request_ran(&python(), &outcome, &trace_id);
        metrics.request_ended(Some(&python()), labels::outcome(&outcome.answer).into(), &trace_id);
        metrics.request_ended(None, "E006".to_owned().into(), &trace_id);
        let text = metrics.text(status(), None).unwrap();
        insta::assert_snapshot!(samples(&text, "llm_firecracker_requests_total"));
        insta::assert_snapshot!(samples(&text, "llm_firecracker_executions_total"));
        insta::assert_snapshot!(samples(&text, "phase=\"run\""));
        assert!(
            text.contains("llm_firecracker_phase_seconds_count{language=\"python\",phase=\"execution\"} 2\n")
        );
        assert!(text.ends_with("\n# EOF\n"));
    }

    #[test]
    fn the_life_of_a_microvm_is_measured() {
        let metrics = Metrics::new();
        let phases = Phases {
            process: Duration::from_millis(30),
            load: Duration::from_millis(10),
            resume: Some(Duration::from_millis(1)),
            ..Phases::default()
        };
        Observer::started(&metrics, &key(), true, &phases);
        Observer::started(&metrics, &key(), false, &phases);
        Observer::rehearsed(&metrics, &key(), Duration::from_millis(200));
        Observer::ended(&metrics, &key(), Discard::Surplus, Duration::from_millis(5));
        Observer::ended(&metrics, &key(), Discard::FailedStart, Duration::ZERO);
        let text = metrics.text(status(), None).unwrap();
        insta::assert_snapshot!(samples(&text, "llm_firecracker_microvms_"));
        insta::assert_snapshot!(samples(&text, "llm_firecracker_phase_seconds_sum"));
        insta::assert_snapshot!(samples(&text, "llm_firecracker_phase_seconds_count"));
    }

    #[test]
    fn the_pool_is_shown_as_it_is_and_no_series_is_there_twice() {
        let text = Metrics::new().text(status(), None).unwrap();
        insta::assert_snapshot!(samples(&text, "llm_firecracker_"));
        let mut series: Vec<_> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.rsplit_once(' '))
            .collect();
        let count = series.len();
        series.sort_unstable();
        series.dedup_by_key(|(name, _)| *name);
        assert_eq!(series.len(), count);
        for name in ["process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds"] {
            assert!(text.contains(&format!("\n# TYPE {name} gauge\n")), "{name}");
        }
    }

    #[test]
    fn what_a_client_makes_up_is_no_label() {
        let metrics = Metrics::new();
        let answered = |method: &str, route: Option<&str>| HttpAnswered {
            route: route.map(Arc::from),
            method: Method::from_bytes(method.as_bytes()).unwrap(),
            status: StatusCode::NOT_FOUND,
            took: Duration::from_micros(70),
        };
        metrics.answered(answered("BREW", None), "mine-1");
        metrics.answered(answered("GET", Some("/api/v1/languages/{name}")), "mine-1");
        let text = metrics.text(status(), None).unwrap();
        insta::assert_snapshot!(samples(&text, "llm_firecracker_http_requests_total"));
        insta::assert_snapshot!(samples(&text, "llm_firecracker_http_request_seconds_count"));
    }
}
