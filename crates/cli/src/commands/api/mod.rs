//! `infra.operator api`: the HTTP service, from its start to its graceful end.
//!
//! ```text
//! lock ─▶ engine ─▶ pool ─▶ listen ──SIGTERM──▶ refuse what comes, finish what runs ─▶ end what waits ─▶ exit
//!                             └──SIGHUP──▶ read the configuration again, take over what can be
//! ```
//!
//! On a socket of the service manager nothing is refused at the end: what comes then waits in the socket for the service that
//! is started next.

mod given;
pub(super) mod memory;

use std::{
    fs::{self, File},
    net::{IpAddr, SocketAddr},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use engine::{Engine, EngineSettings, Languages, Room, pool::Pool};
use images::Sha256Digest;
use rustix::{
    fs::{FlockOperation, flock},
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use server::{Listening, Metrics, Service, Settings, Traces, jobs::Jobs, tokens::Authority};
use store::DataDirectory;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use vmm::{backend::Acceleration, jail};

use self::given::Found;
use super::jobs::configured_secret;
use crate::{
    administration::ByCommands,
    backend,
    config::{Config, Value},
    failure::{Failure, OrFail as _},
    host::HostFacts,
    logs::{self, LogLevel},
    service_manager::{Manager, Sockets},
    settings::Global,
    telemetry::Telemetry,
};

/// Numbers of the service's microVMs begin after those that commands may share.
pub(super) const FIRST_SLOT: u32 = 10_000;

/// How many there may be.
pub(super) const SLOTS: u32 = 10_000;

/// How long the end may take beyond the grace, as the service manager is told: microVMs are ended, and operations are told to
/// end, which remove what they have begun.
const END_PATIENCE: Duration = Duration::from_secs(60);

/// Arguments of `api`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  infra.operator api
  infra.operator api --host 0.0.0.0 --port 8080
  infra.operator api --set pool.maximum=32 --set queue.patience=10
  curl http://127.0.0.1:8080/api/v1/run -d '{\"language\": \"python\", \"code\": \"print(6 * 7)\"}'

Everything else is configuration: infra.operator config reference. SIGHUP has it read again, SIGTERM finishes
what runs and ends the service, twice cuts it off.")]
pub(crate) struct ApiArgs {
    /// The address to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    host: Option<IpAddr>,
    /// The port; 0 for any that is free [default: 8080]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Serves everybody who can reach the address, without asking for tokens
    #[arg(long)]
    insecure_no_auth: bool,
}

impl ApiArgs {
    /// What the flags say of keys of the configuration.
    pub(super) fn of_keys(&self) -> Vec<(&'static str, &'static str, Value)> {
        let host = self.host.map(|host| ("--host", "api.host", Value::Text(host.to_string())));
        let port = self.port.map(|port| ("--port", "api.port", Value::Number(port.into())));
        let open = ("--insecure-no-auth", "api.require_tokens", Value::Switch(false));
        host.into_iter().chain(port).chain(self.insecure_no_auth.then_some(open)).collect()
    }
}

/// Does it.
pub(super) async fn run(args: &ApiArgs, global: &Global, sockets: Sockets) -> Result<ExitCode, Failure> {
    let lasting = sockets.addresses().context("cannot tell where to listen").map_err(Failure::host)?;
    let config = &at(&global.config, &lasting);
    let log = logs::start(&directives(global, config), config.log.format).map_err(Failure::usage)?;
    let data = global.data();
    check_address(args, config)?;
    let _lock = lock(&data)?;
    let files = raise_limit_of_files();
    let prefix = prefix(&data);
    remove_left(&prefix);
    let vmm = backend::chosen(global, &HostFacts::get(global))?;
    let found = Found::now(vmm.identity().acceleration == Acceleration::Tcg);
    let authority = config.api.needs_tokens().then(|| authority(&data)).transpose()?;
    let mut signals = Signals::catch().context("cannot wait for signals").map_err(Failure::host)?;
    let manager = Manager::of_process();
    let listeners = if lasting.is_empty() {
        vec![listen(SocketAddr::new(config.api.host, config.api.port)).await?]
    } else {
        sockets.into_listeners().context("cannot listen").map_err(Failure::host)?
    };
    let jobs_database = data.jobs_database();
    let engine = Engine::new(EngineSettings {
        vmm,
        data,
        languages: Languages::built_in(),
        room: Room::Own { first: FIRST_SLOT, slots: SLOTS, prefix },
    });
    let telemetry = config.telemetry.otlp_endpoint.as_ref();
    let telemetry = telemetry.map(|endpoint| Telemetry::start(endpoint, &config.telemetry.service_name));
    let telemetry = telemetry.transpose().map_err(Failure::usage)?;
    let metrics = Arc::new(Metrics::new());
    let pool = Pool::start(Arc::new(engine), given::limits(config, found), Arc::clone(&metrics) as Arc<_>);
    let traces = telemetry.clone().map(|telemetry| telemetry as Arc<dyn Traces>);
    let jobs = start_jobs(config, &jobs_database, &pool, &metrics, traces.clone()).await?;
    let connections = given::connections(config, files);
    let service = Service::new(Settings {
        pool: pool.clone(),
        authority,
        policy: given::policy(config),
        metrics,
        traces,
        connections: connections.clone(),
        jobs,
        administration: Some(Arc::new(ByCommands::new(global)?)),
        compatible: given::compatible(config),
        page: config.page.enabled,
    });
    let listening = Listening::over_all(listeners, connections);
    let address = listening.address().context("cannot tell where it listens").map_err(Failure::host)?;
    let (stop, cut) = (CancellationToken::new(), CancellationToken::new());
    let mut serving = tokio::spawn(listening.serve(service.router(), stop.clone(), cut.clone()));
    crate::output::say!("listening on http://{address}");
    manager.ready();

    let mut running =
        Running { config: config.clone(), pool: pool.clone(), service: service.clone(), log, found };
    while signals.next().await == Told::Reload {
        manager.reloading();
        running.reload(global);
        manager.ready();
    }
    let grace = running.config.api.stop_grace;
    tracing::info!("stopping: finishing what runs");
    manager.stopping(grace + END_PATIENCE);
    let mut served = None;
    let emptied = async {
        let begun = Instant::now();
        if !lasting.is_empty() {
            // Whoever comes from now on waits in the socket for the next service; who has come is answered as ever.
            stop.cancel();
            served = timeout(grace, &mut serving).await.ok();
        }
        pool.stop(grace.saturating_sub(begun.elapsed())).await
    };
    let stopped = async { tokio::join!(emptied, service.stop_operations(), service.stop_jobs(grace)).0 };
    let finished = tokio::select! {
        finished = stopped => finished,
        () = signals.until_stop() => false,
    };
    stop.cancel();
    if !finished {
        tracing::warn!("stopping: what still runs is cut off");
        cut.cancel();
        service.cut();
    }
    service.end_jobs().await;
    let served = match served {
        Some(served) => served,
        None => serving.await,
    };
    served.context("the listener failed").map_err(Failure::host)?;
    let gone = pool.gone().await;
    if let Some(telemetry) = telemetry {
        telemetry.end().await;
    }
    if !gone {
        return Err(Failure::host(anyhow!("some microVMs did not end")));
    }
    Ok(ExitCode::SUCCESS)
}

/// Removes the cgroups that a killed service has left.
fn remove_left(prefix: &str) {
    let left = jail::remove_all_left(prefix);
    if left > 0 {
        tracing::info!(left, "removed cgroups that a killed service has left");
    }
}

/// Goes on with the jobs that there are, and takes more, where the configuration has jobs.
async fn start_jobs(
    config: &Config,
    database: &Path,
    pool: &Pool,
    metrics: &Arc<Metrics>,
    traces: Option<Arc<dyn Traces>>,
) -> Result<Option<Jobs>, Failure> {
    let Some(settings) = given::jobs(config, database, configured_secret(config)?) else { return Ok(None) };
    Jobs::start(settings, pool.clone(), metrics, traces).await.or_fail().map(Some)
}

/// The configuration of a service that listens at these addresses, where it was given some: what else depends on the address
/// is to depend on the one that others can use.
fn at(config: &Config, lasting: &[SocketAddr]) -> Config {
    let mut config = config.clone();
    let open = lasting.iter().find(|address| !address.ip().to_canonical().is_loopback());
    if let Some(address) = open.or(lasting.first()) {
        (config.api.host, config.api.port) = (address.ip(), address.port());
    }
    config
}

/// Whether requests may come without a token from where they can come.
fn check_address(args: &ApiArgs, config: &Config) -> Result<(), Failure> {
    let host = config.api.host;
    if config.api.needs_tokens() || host.to_canonical().is_loopback() || args.insecure_no_auth {
        return Ok(());
    }
    let error =
        anyhow!("others can reach {host}, and api.require_tokens is off: everybody could run programs here");
    Err(Failure::usage(error).hint(
        "remove that key and create tokens (infra.operator token create), or say --insecure-no-auth"
            .to_owned(),
    ))
}

fn authority(data: &DataDirectory) -> Result<Authority, Failure> {
    let database = data.service_database();
    if !database.exists() {
        crate::output::say!("warning: there is no token yet, so nobody can ask for anything");
        crate::output::say!("hint: infra.operator token create --name NAME");
    }
    Authority::open(&database).or_fail()
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))
        .map_err(|error| Failure::host(error).hint("choose another --port, or end who uses it".to_owned()))
}

/// What is said of what happens: as the configuration says, and more where a flag asks for it.
fn directives(global: &Global, config: &Config) -> String {
    match global.flags().verbose {
        0 => config.log.level.clone(),
        1 => format!("{},debug", config.log.level),
        _ => format!("{},trace", config.log.level),
    }
}

/// What a running service does by its configuration.
struct Running {
    config: Config,
    pool: Pool,
    service: Service,
    log: LogLevel,
    found: Found,
}

impl Running {
    /// Reads the configuration again, and takes over what can be. One that is wrong changes nothing.
    fn reload(&mut self, global: &Global) {
        let config = match Config::load(global) {
            Ok(config) => config,
            Err(failure) => {
                failure.warn();
                return tracing::warn!("the configuration stays as it was");
            }
        };
        let changes = self.config.changes(&config);
        if !changes.need_restart.is_empty() {
            let keys = changes.need_restart.join(", ");
            tracing::warn!(keys, "changed in the configuration, and take effect with a restart only");
        }
        self.pool.set_limits(given::limits(&config, self.found));
        self.service.set_policy(given::policy(&config));
        if let Err(error) = self.log.change(&directives(global, &config)) {
            tracing::warn!("{error:#}");
        }
        let keys = changes.taken_over.join(", ");
        tracing::info!(keys, "the configuration was read again");
        self.config = config;
    }
}

/// Lets this process have as many files open as the host allows: each connection is one, each microVM several. The
/// usual limit, 1024, is for programs that use select(2). How many that are; nothing where nothing bounds it.
fn raise_limit_of_files() -> Option<u64> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    getrlimit(Resource::Nofile).current
}

/// There is one service for a data directory.
fn lock(data: &DataDirectory) -> Result<File, Failure> {
    let directory = data.run();
    let path = directory.join("service.lock");
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))
        .map_err(Failure::host)?;
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))
        .map_err(Failure::host)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .with_context(|| format!("another service uses {}", data.root().display()))
        .map_err(|error| Failure::host(error).hint("end it, or choose another --data-dir".to_owned()))?;
    Ok(file)
}

/// What the names of this service's microVMs begin with: others on this host have other data directories.
fn prefix(data: &DataDirectory) -> String {
    let digest = Sha256Digest::of_bytes(data.root().as_os_str().as_encoded_bytes()).to_string();
    format!("api-{}-", &digest[..8])
}

/// What a signal tells a service.
#[derive(PartialEq, Eq)]
enum Told {
    Stop,
    Reload,
}

/// The signals that a service acts on.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one.
    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.terminate.recv() => Told::Stop,
            _ = self.hangup.recv() => Told::Reload,
        }
    }

    /// Waits for one that ends it.
    async fn until_stop(&mut self) {
        while self.next().await == Told::Reload {}
    }
}
