//! What the service bears: latency from a full pool, idle connections, a burst, callers that never rest.
//!
//! It starts the product's own service on a data directory with a snapshot, measures it over HTTP (`e2e::load`), and
//! prints a table. Exit status 1 where an answer was wrong or was another's; a missed bar alone is told, and no failure.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::Parser;
use e2e::{
    TestHost,
    load::{
        burst,
        client::Target,
        idle, in_process, one_at_a_time, own_share,
        report::{HEAD, Section},
        service::Service,
        streaming, sustained,
    },
    running::Process,
    survival,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long callers that never rest call a service over microVMs that cost nothing.
const OWN_SHARE_TIME: Duration = Duration::from_secs(10);

/// Measures the service under load.
#[derive(Parser)]
struct Options {
    /// The data directory; one that is made in the build directory, if absent.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// What the service knows the caller by.
    #[arg(long)]
    token: Option<String>,
    /// How often Hello World is measured.
    #[arg(long, default_value_t = 100)]
    pairs: u32,
    /// How often the first byte of a stream is measured.
    #[arg(long, default_value_t = 50)]
    streams: u32,
    /// How much is streamed at once, in MiB.
    #[arg(long, default_value_t = 100)]
    streamed_mb: usize,
    /// How many connections idle.
    #[arg(long, default_value_t = 1000)]
    idle: usize,
    /// How many requests come at once.
    #[arg(long, default_value_t = 500)]
    burst: usize,
    /// How many callers never rest.
    #[arg(long, default_value_t = 16)]
    callers: usize,
    /// For how many seconds.
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// Further options of the service.
    #[arg(last = true)]
    service: Vec<String>,
}

fn main() -> ExitCode {
    e2e::exit_code(run(&Options::parse()))
}

/// Whether every answer was the right one.
fn run(options: &Options) -> Result<bool> {
    let host = options.data_dir.as_deref().map_or_else(TestHost::prepared, TestHost::at);
    let runtime = tokio::runtime::Runtime::new().context("start a runtime")?;
    // Before the service is there: from now on it is ended whatever happens.
    let mut interrupts = runtime.block_on(async { Interrupts::watch() })?;
    eprintln!("starting the service on {}", host.data().display());
    let service = Service::start(&host, &options.service)?;
    // Not before: the service is to get along with the limit that it finds.
    raise_limit_of_files()?;
    let target = Target { address: service.address(), token: options.token.clone() };
    let process = service.process();
    let measured = runtime.block_on(async {
        tokio::select! {
            measured = measure(options, &target, &process) => measured.map(Some),
            () = interrupts.any() => Ok(None),
        }
    });
    // Also after an error and after an interrupt: nobody else ends it.
    let stopped = service.stop();
    let wrong = measured?.context("interrupted")?;
    stopped?;
    let mut wrong = wrong;
    wrong.extend(measure_own_share(&runtime, options)?);
    wrong.extend(measure_jobs(&runtime)?);
    for wrong in wrong.iter().take(20) {
        eprintln!("wrong: {wrong}");
    }
    eprintln!("{} wrong answers", wrong.len());
    Ok(wrong.is_empty())
}

/// Measures one thing after the other, and returns what answers were wrong.
async fn measure(options: &Options, target: &Target, process: &Process) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let mut show = |section: Section| {
        print!("{section}");
        wrong.extend(section.wrong);
    };
    eprintln!("one at a time, in turns with the host's Python");
    let one_at_a_time = one_at_a_time::measure(target, options.pairs).await?;
    println!("{HEAD}");
    show(one_at_a_time.section());
    eprintln!("streamed output");
    show(streaming::measure(target, process, options.streams, options.streamed_mb << 20).await?.section());
    eprintln!("{} idle connections", options.idle);
    show(idle::measure(target, process, options.idle).await?.section());
    eprintln!("{} requests at once", options.burst);
    show(burst::measure(target, options.burst).await?.section());
    eprintln!("{} callers for {} s", options.callers, options.seconds);
    let time = Duration::from_secs(options.seconds);
    let sustained = sustained::measure(target, process, options.callers, time).await?;
    show(sustained.section(options.callers));
    Ok(wrong)
}

/// Measures our own share, over microVMs that cost nothing.
fn measure_own_share(runtime: &tokio::runtime::Runtime, options: &Options) -> Result<Vec<String>> {
    eprintln!("our own share, {} callers for {} s", options.callers, OWN_SHARE_TIME.as_secs());
    let service = in_process::InProcess::start()?;
    let target = Target { address: service.address(), token: None };
    let extent = own_share::Extent { single: 2000, callers: options.callers, time: OWN_SHARE_TIME };
    let measured = runtime.block_on(own_share::measure(&target, extent));
    service.stop()?;
    let section = measured?.section();
    print!("{section}");
    Ok(section.wrong)
}

/// Has jobs survive a service over such microVMs that is killed again and again.
fn measure_jobs(runtime: &tokio::runtime::Runtime) -> Result<Vec<String>> {
    let extent = survival::Extent::over_fakes();
    eprintln!("{} jobs, the service killed {} times", extent.jobs, extent.kills);
    let directory = tempfile::tempdir().context("make a data directory")?;
    let survived =
        runtime.block_on(survival::survive(&extent, &(), || survival::fake_service(directory.path())));
    let section = survived?.section();
    print!("{section}");
    Ok(section.wrong)
}

/// What asks this process to end.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    fn watch() -> Result<Self> {
        let watch = |kind| signal(kind).context("watch for signals");
        Ok(Self { interrupt: watch(SignalKind::interrupt())?, terminate: watch(SignalKind::terminate())? })
    }

    /// Waits for one of them.
    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Lets this process have as many connections as the host allows.
fn raise_limit_of_files() -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).context("raise the limit of open files")
}
