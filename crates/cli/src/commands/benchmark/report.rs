//! The result as people and as programs read it.

use std::path::PathBuf;

use serde::Serialize;
use vmm::MachineSpec;

use super::{
    sampling::{Missing, Samples, Series, Unit},
    statistics::{Summary, pairwise_ratios},
};
use crate::{failure::Failure, output};

/// The table's columns.
const HEAD: [&str; 5] = ["FIGURE", "RUNS", "MIN", "MEDIAN", "P99"];

/// All that was found out about one language.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    language: String,
    machine: MachineSpec,
    host: HostReport,
    figures: Vec<Figure>,
    ratios: Vec<Ratio>,
    missing: Vec<Missing>,
}

/// What the figures depend on.
#[derive(Clone, Debug, Serialize)]
pub(super) struct HostReport {
    /// The processor.
    pub(super) cpu: String,
    /// The VMM and its version.
    pub(super) vmm: String,
    /// How it executes guest code.
    pub(super) acceleration: String,
    /// The native interpreter that was measured beside it.
    pub(super) native: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Figure {
    name: &'static str,
    unit: Unit,
    #[serde(flatten)]
    summary: Summary,
}

#[derive(Debug, Serialize)]
struct Ratio {
    name: String,
    #[serde(flatten)]
    summary: Summary,
}

impl Report {
    /// Sums the samples up. `compared` names pairs of figures of which the first is to be told as a multiple of the
    /// second.
    pub(super) fn new(
        language: String,
        machine: MachineSpec,
        host: HostReport,
        samples: &Samples,
        compared: &[(&str, &str)],
    ) -> Self {
        let figure = |series: &Series| {
            let summary = Summary::of(&series.values)?;
            Some(Figure { name: series.name, unit: series.unit, summary: rounded(summary) })
        };
        let ratio = |(figure, base): &(&str, &str)| {
            let summary = Summary::of(&pairwise_ratios(samples.of(figure), samples.of(base)))?;
            Some(Ratio { name: format!("{figure} / {base}"), summary: rounded(summary) })
        };
        let mut figures: Vec<Figure> = samples.all().iter().filter_map(figure).collect();
        // Times, then sizes, each in the order in which they were taken.
        figures.sort_by_key(|figure| figure.unit);
        Self {
            language,
            machine,
            host,
            figures,
            ratios: compared.iter().filter_map(ratio).collect(),
            missing: samples.all_missing().to_vec(),
        }
    }

    /// Prints it for people.
    pub(super) fn print(&self) -> Result<(), Failure> {
        output::line(&self.title())?;
        output::table(&HEAD, &self.rows())?;
        self.missing
            .iter()
            .try_for_each(|missing| output::line(&format!("{}: {}", missing.name, missing.reason)))
    }

    fn title(&self) -> String {
        let Self { language, machine, host, .. } = self;
        let vcpus = if machine.vcpus == 1 { "1 vCPU".to_owned() } else { format!("{} vCPUs", machine.vcpus) };
        let HostReport { cpu, vmm, acceleration, .. } = host;
        format!("{language}, {} MiB, {vcpus}, {vmm} ({acceleration}), {cpu}", machine.memory_mib)
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let figures = self.figures.iter().map(|figure| row(figure.name, &figure.summary, Some(figure.unit)));
        let ratios = self.ratios.iter().map(|ratio| row(&ratio.name, &ratio.summary, None));
        let absent = |missing: &&Missing| !self.figures.iter().any(|figure| figure.name == missing.name);
        let missing = self.missing.iter().filter(absent).map(|missing| {
            let mut row = vec!["-".to_owned(); HEAD.len()];
            missing.name.clone_into(&mut row[0]);
            row
        });
        figures.chain(ratios).chain(missing).collect()
    }
}

fn row(name: &str, summary: &Summary, unit: Option<Unit>) -> Vec<String> {
    let shown = |value: f64| match unit {
        Some(Unit::Milliseconds) => format!("{value:.1} ms"),
        Some(Unit::Mebibytes) => format!("{value:.2} MiB"),
        None => format!("{value:.2}"),
    };
    let Summary { n, min, median, p99 } = *summary;
    vec![name.to_owned(), n.to_string(), shown(min), shown(median), shown(p99)]
}

/// To thousandths: more is noise.
fn rounded(summary: Summary) -> Summary {
    let rounded = |value: f64| (value * 1000.0).round() / 1000.0;
    let Summary { n, min, median, p99 } = summary;
    Summary { n, min: rounded(min), median: rounded(median), p99: rounded(p99) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn report() -> Report {
        let mut samples = Samples::default();
        for (warm, native) in [(20, 10), (30, 20), (90, 30)] {
            samples.time("warm run", Duration::from_millis(warm));
            samples.time("native run", Duration::from_micros(native * 1000 + 250));
        }
        samples.size("idle memory", 25 << 20);
        samples.missing("memory after a run", "not on this kernel");
        samples.missing("memory after a run", "not on this kernel");
        let host = HostReport {
            cpu: "a processor".to_owned(),
            vmm: "QEMU 7.2.0".to_owned(),
            acceleration: "TCG".to_owned(),
            native: None,
        };
        let machine = MachineSpec { memory_mib: 512, vcpus: 1 };
        Report::new("python".to_owned(), machine, host, &samples, &[("warm run", "native run"), ("a", "b")])
    }

    #[test]
    fn the_table_has_figures_then_ratios_then_what_is_missing() {
        let report = report();
        assert_eq!(report.title(), "python, 512 MiB, 1 vCPU, QEMU 7.2.0 (TCG), a processor");
        assert_eq!(
            report.rows(),
            [
                ["warm run", "3", "20.0 ms", "30.0 ms", "90.0 ms"],
                ["native run", "3", "10.2 ms", "20.2 ms", "30.2 ms"],
                ["idle memory", "1", "25.00 MiB", "25.00 MiB", "25.00 MiB"],
                ["warm run / native run", "3", "1.48", "1.95", "2.98"],
                ["memory after a run", "-", "-", "-", "-"],
            ]
        );
    }

    #[test]
    fn the_json_has_a_flat_object_for_each_figure() {
        let json = serde_json::to_value(report()).unwrap();
        let warm = serde_json::json!(
            { "name": "warm run", "unit": "ms", "n": 3, "min": 20.0, "median": 30.0, "p99": 90.0 }
        );
        assert_eq!(json["figures"][0], warm);
        assert_eq!(json["figures"][2]["unit"], "MiB");
        assert_eq!(json["ratios"][0]["name"], "warm run / native run");
        assert_eq!(json["ratios"].as_array().map(Vec::len), Some(1));
        assert_eq!(json["machine"], serde_json::json!({ "memory_mib": 512, "vcpus": 1 }));
        assert_eq!(json["missing"].as_array().map(Vec::len), Some(1));
    }
}
