//! Takes samples, in turns, and keeps them by what they are samples of. What is measured, it is told.

use std::{fmt::Display, time::Duration};

use images::Progress;
use serde::Serialize;

/// What samples are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) enum Unit {
    /// Thousandths of a second.
    #[serde(rename = "ms")]
    Milliseconds,
    /// 2^20 bytes.
    #[serde(rename = "MiB")]
    Mebibytes,
}

/// All samples of one figure, in the order in which they were taken.
#[derive(Clone, Debug)]
pub(super) struct Series {
    /// The figure.
    pub(super) name: &'static str,
    /// What it is counted in.
    pub(super) unit: Unit,
    /// The samples.
    pub(super) values: Vec<f64>,
}

/// A figure of which there are no samples here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Missing {
    /// The figure.
    pub(super) name: &'static str,
    /// Why.
    pub(super) reason: String,
}

/// All samples, in the order in which their figures were first seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples {
    series: Vec<Series>,
    missing: Vec<Missing>,
}

impl Samples {
    /// Adds a sample of how long something took.
    pub(super) fn time(&mut self, name: &'static str, took: Duration) {
        self.add(name, Unit::Milliseconds, took.as_secs_f64() * 1000.0);
    }

    /// Adds a sample of how large something is.
    pub(super) fn size(&mut self, name: &'static str, bytes: u64) {
        // Exact to the KiB, and beyond 4 TiB there is nothing to be measured.
        let kibibytes = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
        self.add(name, Unit::Mebibytes, f64::from(kibibytes) / 1024.0);
    }

    /// Says, once for each figure, why there are no samples of it.
    pub(super) fn missing(&mut self, name: &'static str, reason: &str) {
        if !self.missing.iter().any(|missing| missing.name == name) {
            self.missing.push(Missing { name, reason: reason.to_owned() });
        }
    }

    /// All figures that there are samples of.
    pub(super) fn all(&self) -> &[Series] {
        &self.series
    }

    /// All figures that something is missing of.
    pub(super) fn all_missing(&self) -> &[Missing] {
        &self.missing
    }

    /// The samples of one figure.
    pub(super) fn of(&self, name: &str) -> &[f64] {
        self.series.iter().find(|series| series.name == name).map_or(&[], |series| &series.values)
    }

    fn add(&mut self, name: &'static str, unit: Unit, value: f64) {
        match self.series.iter_mut().find(|series| series.name == name) {
            Some(series) => series.values.push(value),
            None => self.series.push(Series { name, unit, values: vec![value] }),
        }
    }
}

/// Measures each of `subjects` once in each round, in their order: A B A B. What disturbs the host for a while
/// disturbs all of them then, and samples of the same round can be compared.
pub(super) async fn in_turns<Subject: Display, Error>(
    rounds: u32,
    subjects: &[Subject],
    samples: &mut Samples,
    progress: &dyn Progress,
    mut measure: impl AsyncFnMut(&Subject, &mut Samples) -> Result<(), Error>,
) -> Result<(), Error> {
    for round in 1..=rounds {
        for subject in subjects {
            progress.step(&format!("{subject} {round} of {rounds}"));
            measure(subject, samples).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use images::Quiet;

    use super::*;

    #[test]
    fn subjects_take_turns_until_one_fails() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut order = Vec::new();
        let mut samples = Samples::default();
        let done =
            runtime.block_on(in_turns(5, &["a", "b"], &mut samples, &Quiet, async |subject, samples| {
                order.push(*subject);
                samples.time(subject, Duration::from_millis(3));
                if order.len() == 5 { Err("failed") } else { Ok(()) }
            }));
        assert_eq!(done, Err("failed"));
        assert_eq!(order, ["a", "b", "a", "b", "a"]);
        assert_eq!(samples.of("a"), [3.0; 3]);
        assert_eq!(samples.of("c"), [0.0; 0]);
    }

    #[test]
    fn sizes_are_kept_in_mebibytes() {
        let mut samples = Samples::default();
        samples.size("memory", 32_000_000);
        assert_eq!(samples.of("memory"), [30.517_578_125]);
    }
}
