//! What the samples of a service say, and what changed between two looks at them.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::open_metrics::Sample;

/// With what the names of the service's own series begin.
const PREFIX: &str = "llm_firecracker_";

/// The phases in the order in which they happen; others come after them.
const ORDER: [&str; 10] =
    ["queue", "start", "restore", "connect", "handshake", "rehearsal", "compile", "run", "execution", "end"];

/// What a service does.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct View {
    pub(super) version: String,
    /// Whether it refuses requests because it ends.
    pub(super) stopping: bool,
    pub(super) requests: Vec<Counted>,
    /// Requests per second since the look before, where there was one.
    pub(super) requests_per_second: Option<f64>,
    pub(super) phases: Vec<PhaseTimes>,
    pub(super) pools: Vec<PoolRow>,
    pub(super) queue: Filled,
    pub(super) running: Filled,
    pub(super) memory_mib: Filled,
    /// Of the service's process.
    pub(super) resident_bytes: u64,
    pub(super) started: Vec<Counted>,
    pub(super) ended: Vec<Counted>,
}

/// How often something has happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Counted {
    pub(super) name: String,
    pub(super) total: u64,
    /// Since the look before, where there was one.
    pub(super) per_second: Option<f64>,
}

/// How much there is, and how much there may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Filled {
    pub(super) now: u64,
    pub(super) limit: u64,
}

/// How long a phase takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct PhaseTimes {
    pub(super) phase: String,
    /// Since the service was started.
    pub(super) overall: Times,
    /// Since the look before, where there was one and something happened.
    pub(super) recent: Option<Times>,
}

/// Quantiles, between the bounds of buckets: no more exact than these.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Times {
    pub(super) count: u64,
    pub(super) p50_seconds: f64,
    pub(super) p99_seconds: f64,
}

/// The microVMs of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct PoolRow {
    pub(super) language: String,
    pub(super) memory_mib: u64,
    pub(super) vcpus: u64,
    pub(super) idle: u64,
    pub(super) target: u64,
    pub(super) starting: u64,
    pub(super) rehearsing: u64,
    pub(super) running: u64,
}

/// The look before, and how long ago it was.
#[derive(Clone, Copy)]
pub(super) struct Before<'a> {
    pub(super) samples: &'a [Sample],
    pub(super) ago: Duration,
}

impl View {
    /// Of these samples.
    pub(super) fn new(samples: &[Sample], before: Option<Before<'_>>) -> Self {
        /// Another process counts from zero again.
        const STARTED: &str = "process_start_time_seconds";
        let now = Samples(samples);
        let is_same = |before: &Before<'_>| Samples(before.samples).value(STARTED) == now.value(STARTED);
        let before = before.filter(is_same).filter(|before| !before.ago.is_zero());
        let requests = counted(now, before, "requests_total", "outcome");
        let rate = |counted: &[Counted]| {
            before.map(|_| counted.iter().filter_map(|counted| counted.per_second).sum())
        };
        let gauge = |name: &str| whole(now.ours(name).map(|sample| sample.value).sum());
        let filled = |now: &str, limit: &str| Filled { now: gauge(now), limit: gauge(limit) };
        Self {
            version: now
                .ours("build_info")
                .find_map(|sample| sample.labels.get("version").cloned())
                .unwrap_or_default(),
            stopping: gauge("stopping") > 0,
            requests_per_second: rate(&requests),
            requests,
            phases: phases(now, before),
            pools: pools(now),
            queue: filled("queue_length", "queue_limit"),
            running: filled("running", "running_limit"),
            memory_mib: filled("memory_mib", "memory_limit_mib"),
            resident_bytes: whole(now.value("process_resident_memory_bytes").unwrap_or_default()),
            started: counted(now, before, "microvms_started_total", "how"),
            ended: counted(now, before, "microvms_ended_total", "why"),
        }
    }
}

#[derive(Clone, Copy)]
struct Samples<'a>(&'a [Sample]);

impl<'a> Samples<'a> {
    /// The series of the service's own that are called so.
    fn ours(self, name: &str) -> impl Iterator<Item = &'a Sample> {
        self.0.iter().filter(move |sample| sample.name.strip_prefix(PREFIX) == Some(name))
    }

    /// The one series that is called so.
    fn value(self, name: &str) -> Option<f64> {
        self.0.iter().find(|sample| sample.name == name).map(|sample| sample.value)
    }

    /// The sums over all series that are called so, by the value of a label.
    fn sums(self, name: &str, label: &str) -> BTreeMap<&'a str, f64> {
        let mut sums = BTreeMap::new();
        for sample in self.ours(name) {
            if let Some(value) = sample.labels.get(label) {
                *sums.entry(value.as_str()).or_default() += sample.value;
            }
        }
        sums
    }
}

/// The most frequent first.
fn counted(now: Samples<'_>, before: Option<Before<'_>>, name: &str, label: &str) -> Vec<Counted> {
    let earlier = before.map(|before| (Samples(before.samples).sums(name, label), before.ago.as_secs_f64()));
    let rate = |value: &str, total: f64| {
        let (sums, seconds) = earlier.as_ref()?;
        Some((total - sums.get(value).copied().unwrap_or_default()).max(0.0) / seconds)
    };
    let sums = now.sums(name, label).into_iter();
    let mut counted: Vec<_> = sums
        .map(|(value, total)| Counted {
            name: value.to_owned(),
            total: whole(total),
            per_second: rate(value, total),
        })
        .collect();
    counted.sort_by_key(|counted| std::cmp::Reverse(counted.total));
    counted
}

fn pools(now: Samples<'_>) -> Vec<PoolRow> {
    let mut pools: BTreeMap<(String, u64, u64), PoolRow> = BTreeMap::new();
    let labelled = |sample: &Sample, name: &str| sample.labels.get(name).cloned().unwrap_or_default();
    let number = |sample: &Sample, name: &str| labelled(sample, name).parse().unwrap_or_default();
    for sample in now.ours("microvms").chain(now.ours("pool_target")) {
        let language = labelled(sample, "language");
        let (memory_mib, vcpus) = (number(sample, "memory_mib"), number(sample, "vcpus"));
        let pool = pools.entry((language.clone(), memory_mib, vcpus)).or_default();
        (pool.language, pool.memory_mib, pool.vcpus) = (language, memory_mib, vcpus);
        let count = match sample.labels.get("state").map(String::as_str) {
            None => &mut pool.target,
            Some("idle") => &mut pool.idle,
            Some("starting") => &mut pool.starting,
            Some("rehearsing") => &mut pool.rehearsing,
            Some("running") => &mut pool.running,
            Some(_) => continue,
        };
        *count += whole(sample.value);
    }
    pools.into_values().collect()
}

fn phases(now: Samples<'_>, before: Option<Before<'_>>) -> Vec<PhaseTimes> {
    let overall = histograms(now);
    let earlier = before.map(|before| histograms(Samples(before.samples)));
    let mut phases: Vec<_> = overall
        .iter()
        .filter_map(|(phase, histogram)| {
            let since = earlier.as_ref().map(|earlier| match earlier.get(phase) {
                Some(earlier) => histogram.since(earlier),
                None => histogram.clone(),
            });
            let recent = since.and_then(|histogram| histogram.times());
            Some(PhaseTimes { phase: (*phase).to_owned(), overall: histogram.times()?, recent })
        })
        .collect();
    let place = |phase: &str| ORDER.iter().position(|name| *name == phase).unwrap_or(ORDER.len());
    phases.sort_by_key(|times| place(&times.phase));
    phases
}

/// How many observations were at most so large, by the bound of the bucket.
#[derive(Clone, Debug, Default)]
struct Histogram(Vec<(f64, f64)>);

/// By phase, of all languages together.
fn histograms(samples: Samples<'_>) -> BTreeMap<&str, Histogram> {
    let mut histograms: BTreeMap<&str, Histogram> = BTreeMap::new();
    for sample in samples.ours("phase_seconds_bucket") {
        let (Some(phase), Some(bound)) = (sample.labels.get("phase"), sample.labels.get("le")) else {
            continue;
        };
        // "+Inf" is a number to Rust, too.
        let Ok(bound) = bound.parse::<f64>() else { continue };
        let Histogram(buckets) = histograms.entry(phase).or_default();
        match buckets.iter_mut().find(|(known, _)| known.total_cmp(&bound).is_eq()) {
            Some((_, count)) => *count += sample.value,
            None => buckets.push((bound, sample.value)),
        }
    }
    for Histogram(buckets) in histograms.values_mut() {
        buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    }
    histograms
}

impl Histogram {
    fn since(&self, earlier: &Self) -> Self {
        let before = |bound: f64| earlier.0.iter().find(|(known, _)| known.total_cmp(&bound).is_eq());
        let buckets = self.0.iter();
        Self(
            buckets
                .map(|(bound, count)| (*bound, count - before(*bound).map_or(0.0, |(_, count)| *count)))
                .collect(),
        )
    }

    /// Nothing where nothing was observed.
    fn times(&self) -> Option<Times> {
        let (_, count) = *self.0.last()?;
        (count >= 1.0).then(|| Times {
            count: whole(count),
            p50_seconds: self.quantile(0.5 * count),
            p99_seconds: self.quantile(0.99 * count),
        })
    }

    /// How large the `rank`th is, if those in a bucket are spread evenly; the largest finite bound where it is larger.
    fn quantile(&self, rank: f64) -> f64 {
        let (mut lower, mut below) = (0.0, 0.0);
        for (bound, count) in &self.0 {
            if *count >= rank {
                let share = if *count > below { (rank - below) / (count - below) } else { 1.0 };
                return if bound.is_finite() { lower + (bound - lower) * share } else { lower };
            }
            (lower, below) = (*bound, *count);
        }
        lower
    }
}

/// A count, which comes as a number with a point.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is bounded, and saturates")]
fn whole(value: f64) -> u64 {
    value.max(0.0).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::top::open_metrics::parse;

    /// What a service says that was started at `started`, and has answered so many.
    fn samples(started: u64, success: u64, timeout: u64) -> Vec<Sample> {
        let all = success + timeout;
        parse(&format!(
            "process_start_time_seconds {started}\n\
             process_resident_memory_bytes 42000000\n\
             llm_firecracker_build_info{{version=\"0.1.0\"}} 1\n\
             llm_firecracker_requests_total{{language=\"python\",outcome=\"success\"}} {success}\n\
             llm_firecracker_requests_total{{language=\"ruby\",outcome=\"success\"}} 2\n\
             llm_firecracker_requests_total{{language=\"python\",outcome=\"timeout\"}} {timeout}\n\
             llm_firecracker_phase_seconds_bucket{{language=\"python\",phase=\"run\",le=\"0.01\"}} 0\n\
             llm_firecracker_phase_seconds_bucket{{language=\"python\",phase=\"run\",le=\"0.02\"}} {success}\n\
             llm_firecracker_phase_seconds_bucket{{language=\"python\",phase=\"run\",le=\"+Inf\"}} {all}\n\
             llm_firecracker_phase_seconds_bucket{{language=\"python\",phase=\"queue\",le=\"0.01\"}} {all}\n\
             llm_firecracker_phase_seconds_bucket{{language=\"python\",phase=\"queue\",le=\"+Inf\"}} {all}\n\
             llm_firecracker_microvms{{language=\"python\",memory_mib=\"512\",vcpus=\"1\",state=\"idle\"}} 2\n\
             llm_firecracker_microvms{{language=\"python\",memory_mib=\"512\",vcpus=\"1\",state=\"running\"}} 1\n\
             llm_firecracker_pool_target{{language=\"python\",memory_mib=\"512\",vcpus=\"1\"}} 3\n\
             llm_firecracker_queue_length 5\n\
             llm_firecracker_queue_limit 1000\n\
             llm_firecracker_microvms_ended_total{{language=\"python\",why=\"served\"}} {all}\n"
        ))
        .unwrap()
    }

    #[test]
    fn what_is_counted_is_shown_in_total_and_since_the_look_before() {
        let before = samples(7, 10, 0);
        let view =
            View::new(&samples(7, 30, 4), Some(Before { samples: &before, ago: Duration::from_secs(2) }));
        let requests: Vec<_> =
            view.requests.iter().map(|c| (c.name.as_str(), c.total, c.per_second)).collect();
        assert_eq!(requests, [("success", 32, Some(10.0)), ("timeout", 4, Some(2.0))]);
        assert_eq!(view.requests_per_second, Some(12.0));
        assert_eq!(view.queue, Filled { now: 5, limit: 1000 });
        let pool = PoolRow { idle: 2, target: 3, running: 1, ..view.pools[0].clone() };
        assert_eq!((view.pools.len(), &view.pools[0], pool.memory_mib), (1, &pool, 512));
        assert_eq!(view.ended[0].total, 34);
        assert_eq!(view.version, "0.1.0");
    }

    #[test]
    fn the_first_look_and_one_at_another_process_have_nothing_to_compare_with() {
        let before = samples(6, 1000, 1000);
        for before in [None, Some(Before { samples: &before, ago: Duration::from_secs(1) })] {
            let view = View::new(&samples(7, 10, 0), before);
            assert_eq!(view.requests_per_second, None);
            assert_eq!(view.requests[0].per_second, None);
            assert_eq!(view.phases[0].recent, None);
        }
    }

    #[test]
    fn quantiles_lie_in_the_bucket_of_their_rank() {
        let before = samples(7, 10, 0);
        let view =
            View::new(&samples(7, 20, 10), Some(Before { samples: &before, ago: Duration::from_secs(1) }));
        let names: Vec<_> = view.phases.iter().map(|times| times.phase.as_str()).collect();
        assert_eq!(names, ["queue", "run"]);
        let run = &view.phases[1];
        assert_eq!(run.overall.count, 30);
        // The 15th of 20 that took 10 to 20 ms.
        assert!((run.overall.p50_seconds - 0.0175).abs() < 1e-9, "{run:?}");
        // Nobody knows how long the longest took: more than the last bound.
        assert!((run.overall.p99_seconds - 0.02).abs() < 1e-9, "{run:?}");
        let recent = run.recent.unwrap();
        assert_eq!(recent.count, 20);
        assert!((recent.p50_seconds - 0.02).abs() < 1e-9, "{recent:?}");
    }

    #[test]
    fn nothing_is_made_of_nothing() {
        assert_eq!(View::new(&[], None), View::default());
    }
}
