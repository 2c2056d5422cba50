//! Figures beside their bars.

use std::{fmt, time::Duration};

use hdrhistogram::Histogram;

/// The longest time that is told from longer ones, in microseconds.
const LONGEST_MICROS: u64 = 600_000_000;

/// Times, kept to three digits.
#[derive(Clone, Debug)]
pub struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST_MICROS, 3).expect("these bounds are in order"))
    }
}

impl Times {
    /// Adds one.
    pub fn add(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.0.saturating_record(micros);
    }

    /// Adds all of `other`.
    pub fn add_all(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that this share of all does not exceed; nothing where there are none.
    pub fn quantile(&self, share: f64) -> Duration {
        Duration::from_micros(self.0.value_at_quantile(share))
    }

    /// The time that half of all do not exceed.
    pub fn median(&self) -> Duration {
        self.quantile(0.5)
    }
}

/// One figure.
#[derive(Clone, Debug)]
pub struct Row {
    /// What it is.
    pub figure: String,
    /// What was measured.
    pub value: String,
    /// What it should be at least, or at most, and whether it is; nothing for a figure that is told for its own sake.
    pub bar: Option<(String, bool)>,
}

impl Row {
    /// A figure without a bar.
    pub fn told(figure: impl Into<String>, value: impl Into<String>) -> Self {
        Self { figure: figure.into(), value: value.into(), bar: None }
    }

    /// A figure with one.
    pub fn judged(
        figure: impl Into<String>,
        value: impl Into<String>,
        bar: impl Into<String>,
        reached: bool,
    ) -> Self {
        Self { figure: figure.into(), value: value.into(), bar: Some((bar.into(), reached)) }
    }

    /// A time that may be no longer than `bar`.
    pub fn at_most(figure: impl Into<String>, time: Duration, bar: Duration) -> Self {
        Self::judged(figure, millis(time), format!("≤ {}", millis(bar)), time <= bar)
    }
}

/// What one measurement has found.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// The figures.
    pub rows: Vec<Row>,
    /// Answers that were not the ones to what was asked.
    pub wrong: Vec<String>,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Row { figure, value, bar } in &self.rows {
            let (bar, verdict) = match bar {
                Some((bar, true)) => (bar.as_str(), "reached"),
                Some((bar, false)) => (bar.as_str(), "**missed**"),
                None => ("", ""),
            };
            writeln!(f, "| {figure} | {value} | {bar} | {verdict} |")?;
        }
        Ok(())
    }
}

/// The head of the table.
pub const HEAD: &str = "| figure | measured | bar | |\n|---|---|---|---|";

/// A time in milliseconds, with as many digits as say something.
pub fn millis(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1000.0;
    if millis < 10.0 { format!("{millis:.2} ms") } else { format!("{millis:.0} ms") }
}

/// A number of bytes in megabytes.
#[expect(clippy::cast_precision_loss, reason = "sizes to be read by people")]
pub fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// The middle one of `values`.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
