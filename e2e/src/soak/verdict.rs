//! Whether what was sampled is flat.
//!
//! What is in use goes up and down with the load, so two things are compared:
//!
//! ```text
//! under load   │warm-up│ first third │ ─ ─ ─ ─ ─ │ last third │    medians: the last may not be much above the first
//! at rest      before ·                                · after   with nothing to do: no more after than before
//! ```

use std::time::Duration;

use super::sample::Sample;

/// The part of the samples in which caches fill, and code is touched for the first time: a fifth.
const WARM_UP: usize = 5;

/// What memory may seem to grow by between the thirds: an allocator keeps what a burst has left, and does not return it.
const MEMORY_GROWTH: u64 = 4_000_000;

/// What databases may: jobs of a moment that are kept, and a log that is emptied now and then.
const DATABASE_GROWTH: u64 = 6_000_000;

/// Threads that come and go by themselves: of work that blocks, each ten seconds after it was needed.
const THREADS: usize = 4;

/// Descriptors that do: connections of callbacks that are kept for the next.
const DESCRIPTORS: usize = 8;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What, and what was found.
    pub text: String,
    /// Whether it is flat.
    pub is_flat: bool,
}

/// Judges samples under load, and those at rest before and after.
pub fn judge(under_load: &[Sample], before: &Sample, after: &Sample) -> Vec<Finding> {
    let mut findings = Vec::new();
    let rest = &under_load[under_load.len() / WARM_UP..];
    let third = rest.len() / 3;
    if third > 0 {
        let (first, last) = (&rest[..third], &rest[rest.len() - third..]);
        let mut compare = |what: &str, bound: u64, of: fn(&Sample) -> u64| {
            let (was, is) = (median(first, of), median(last, of));
            findings.push(Finding {
                text: format!("{what} under load, median of the first and the last third: {was} B, {is} B (≤ +{bound} B)"),
                is_flat: is <= was + bound,
            });
        };
        compare("the service's own memory", MEMORY_GROWTH, |sample| sample.own_memory);
        compare("databases", DATABASE_GROWTH, |sample| sample.databases);
    }
    let mut compare = |what: &str, more: usize, of: fn(&Sample) -> usize| {
        let (was, is) = (of(before), of(after));
        findings.push(Finding {
            text: format!("{what} at rest, before and after: {was}, {is} (≤ +{more})"),
            is_flat: is <= was + more,
        });
    };
    compare("descriptors", DESCRIPTORS, |sample| sample.descriptors);
    compare("threads", THREADS, |sample| sample.threads);
    compare("processes", 0, |sample| sample.processes);
    compare("cgroups", 0, |sample| sample.cgroups);
    compare("files in the data directory", 0, |sample| sample.files);
    findings
}

/// How long may be waited until what was in use is given back.
pub const REST_PATIENCE: Duration = Duration::from_secs(120);

fn median(samples: &[Sample], of: fn(&Sample) -> u64) -> u64 {
    let mut values: Vec<_> = samples.iter().map(of).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(memory: impl Fn(u64) -> u64) -> Vec<Sample> {
        (0..60).map(|n| Sample { own_memory: memory(n), ..Sample::default() }).collect()
    }

    fn wrong(under_load: &[Sample], after: &Sample) -> Vec<String> {
        let findings = judge(under_load, &Sample::default(), after);
        findings.into_iter().filter(|finding| !finding.is_flat).map(|finding| finding.text).collect()
    }

    #[test]
    fn what_fills_at_first_and_then_goes_up_and_down_is_flat() {
        let saw = samples(|n| 30_000_000 + n.min(10) * 1_000_000 + (n % 7) * 500_000);
        assert_eq!(
            wrong(&saw, &Sample { threads: 2, descriptors: 3, ..Sample::default() }),
            Vec::<String>::new()
        );
    }

    #[test]
    fn what_grows_is_found() {
        let leak = samples(|n| 30_000_000 + n * 200_000);
        assert!(wrong(&leak, &Sample::default())[0].contains("own memory"));
        for (expected, after) in [
            ("descriptors", Sample { descriptors: 9, ..Sample::default() }),
            ("threads", Sample { threads: 5, ..Sample::default() }),
            ("processes", Sample { processes: 1, ..Sample::default() }),
            ("cgroups", Sample { cgroups: 1, ..Sample::default() }),
            ("files", Sample { files: 1, ..Sample::default() }),
        ] {
            let wrong = wrong(&samples(|_| 0), &after);
            assert!(wrong.len() == 1 && wrong[0].contains(expected), "{expected}: {wrong:?}");
        }
    }
}
