//! The command: which languages, how often, and what is printed.

use std::process::ExitCode;

use clap::builder::RangedU64ValueParser;
use engine::{Engine, LanguageSpec, Languages};
use images::Progress as _;
use vmm::MachineSpec;

use super::{
    report::{HostReport, Report},
    sampling::{Samples, in_turns},
    scratch::Alone,
    subjects::{Hello, Subject, Workload, figures},
};
use crate::{
    backend,
    commands::rootfs::unknown_language,
    failure::Failure,
    host::{HostFacts, engine},
    output::{self, Steps},
    settings::{Global, Machine},
};

/// How often slow things are done unless the user says otherwise: a quarter of an hour is too long to wait unasked.
const COLD_RUNS: u32 = 5;

/// Arguments of `benchmark`.
#[derive(clap::Args)]
#[command(
    after_help = "Every sample is taken in a microVM of its own that runs Hello World, and every answer is \
checked. Before the first sample all is done once unmeasured. What is compared is measured in turns. Memory is the \
VMM's proportional set size, in MiB (2^20 bytes). P99 is the nearest rank: below 100 runs, the largest sample.

Snapshots are made in the data directory's run/benchmark and removed; those that exist are left alone.

Examples:
  infra.operator benchmark --langs python
  infra.operator benchmark --runs 20 --cold-runs 20 --json
  infra.operator benchmark --runs 100 --skip-cold"
)]
pub(crate) struct BenchmarkArgs {
    /// The languages
    #[arg(long, value_name = "LANGUAGES", value_delimiter = ',', default_value = "python")]
    langs: Vec<String>,

    /// How many samples are taken of each figure
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = RangedU64ValueParser::<u32>::new().range(1..=1000))]
    runs: u32,

    /// How many of cold boots and snapshots being made, which take long; medians to be relied on need 20
    /// [default: as many as the others, at most 5]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u32>::new().range(1..=1000))]
    cold_runs: Option<u32>,

    /// Boots nothing and makes no snapshots
    #[arg(long, conflicts_with = "cold_runs")]
    skip_cold: bool,

    #[command(flatten)]
    machine: Machine,

    /// Prints JSON: an object, or a list of them for several languages
    #[arg(long)]
    json: bool,
}

impl BenchmarkArgs {
    fn cold_runs(&self) -> u32 {
        if self.skip_cold { 0 } else { self.cold_runs.unwrap_or(self.runs.min(COLD_RUNS)) }
    }
}

/// Runs `benchmark`.
pub(crate) async fn run(args: BenchmarkArgs, global: &Global) -> Result<ExitCode, Failure> {
    let languages = chosen(&args.langs, &Languages::built_in())?;
    let engine = engine(global)?;
    let alone = Alone::take(global.data())?;
    let mut reports = Vec::new();
    for (language, hello) in &languages {
        let report = measure(&args, global, &alone, &engine, language, *hello).await?;
        if !args.json {
            if !reports.is_empty() {
                output::line("")?;
            }
            report.print()?;
        }
        reports.push(report);
    }
    match &reports[..] {
        _ if !args.json => {}
        [report] => output::json(report)?,
        reports => output::json(&reports)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The languages of these names, each once.
fn chosen(names: &[String], languages: &Languages) -> Result<Vec<(LanguageSpec, Hello)>, Failure> {
    let mut chosen: Vec<(LanguageSpec, Hello)> = Vec::new();
    for name in names {
        let language = languages.find(name).ok_or_else(|| unknown_language(name, languages))?;
        let hello = Hello::of(language)
            .ok_or_else(|| Failure::usage(anyhow::anyhow!("there is no benchmark of {}", language.name)))?;
        if !chosen.iter().any(|(other, _)| other.name == language.name) {
            chosen.push((language.clone(), hello));
        }
    }
    Ok(chosen)
}

async fn measure(
    args: &BenchmarkArgs,
    global: &Global,
    alone: &Alone,
    engine: &Engine,
    language: &LanguageSpec,
    hello: Hello,
) -> Result<Report, Failure> {
    let machine: MachineSpec = args.machine.into();
    let workload = Workload::new(global, alone, engine, language, hello, machine)?;
    let steps = Steps::new();
    steps.step("doing all once unmeasured");
    // Files come into the page cache, and a snapshot that was not read since it has changed is read.
    for subject in Subject::QUICK {
        workload.measure(subject, &mut Samples::default()).await?;
    }
    let mut samples = Samples::default();
    let mut one = async |subject: &Subject, samples: &mut Samples| workload.measure(*subject, samples).await;
    in_turns(args.runs, &Subject::QUICK, &mut samples, &steps, &mut one).await?;
    in_turns(args.cold_runs(), &Subject::SLOW, &mut samples, &steps, &mut one).await?;
    Workload::measure_once(&mut samples);
    steps.finish();

    let facts = HostFacts::get(global);
    let vmm = backend::chosen(global, &facts)?;
    let identity = vmm.identity();
    let host = HostReport {
        acceleration: identity.acceleration.to_string(),
        native: workload.native().map(|native| native.interpreter.clone()),
        vmm: format!("{} {}", identity.vmm, identity.version),
        cpu: facts.cpu,
    };
    let compared = [(figures::WARM_RUN, figures::NATIVE_RUN)];
    Ok(Report::new(language.name.to_string(), machine, host, &samples, &compared))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        benchmark: BenchmarkArgs,
    }

    fn cold_runs(arguments: &[&str]) -> Option<u32> {
        let arguments = Arguments::try_parse_from([&["benchmark"], arguments].concat()).ok()?;
        Some(arguments.benchmark.cold_runs())
    }

    #[test]
    fn slow_things_are_done_less_often_unless_asked_for() {
        assert_eq!(cold_runs(&[]), Some(5));
        assert_eq!(cold_runs(&["--runs", "3"]), Some(3));
        assert_eq!(cold_runs(&["--cold-runs", "20"]), Some(20));
        assert_eq!(cold_runs(&["--skip-cold"]), Some(0));
        assert_eq!(cold_runs(&["--skip-cold", "--cold-runs", "1"]), None);
        assert_eq!(cold_runs(&["--runs", "1001"]), None);
    }

    #[test]
    fn a_language_that_goes_by_two_names_is_measured_once() {
        let names = ["python", "py", "python3"].map(str::to_owned);
        let chosen = chosen(&names, &Languages::built_in()).unwrap();
        assert_eq!(chosen.len(), 1);
        assert!(super::chosen(&["unknownlang".to_owned()], &Languages::built_in()).is_err());
    }
}
