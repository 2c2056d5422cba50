//! `infra.operator api`: the HTTP service, from its start to its graceful end.
//!
//! ```text
//! lock ─▶ engine ─▶ pool ─▶ listen ──SIGTERM──▶ refuse what comes, finish what runs ─▶ end what waits ─▶ exit
//! ```

use std::{
    fs::{self, File},
    net::{IpAddr, SocketAddr},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use engine::{
    Engine, EngineSettings, Languages, Room,
    pool::{Pool, PoolLimits},
};
use rustix::fs::{FlockOperation, flock};
use server::{Connections, Listening, Metrics, Policy, Service, Settings, Traces, tokens::Authority};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use crate::{
    backend,
    failure::{Failure, OrFail as _},
    host::HostFacts,
    logs::{self, LogFormat},
    settings::{DEFAULT_MACHINE, Global},
    telemetry::Telemetry,
};

/// Numbers of the service's microVMs begin after those that commands may share.
const FIRST_SLOT: u32 = 10_000;

/// How many there may be.
const SLOTS: u32 = 10_000;

/// Arguments of `api`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  infra.operator api
  infra.operator api --host 0.0.0.0 --port 8080
  curl http://127.0.0.1:8080/api/v1/run -d '{\"language\": \"python\", \"code\": \"print(6 * 7)\"}'")]
pub(crate) struct ApiArgs {
    /// The address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
    /// The port; 0 for any that is free
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,
    /// Serves everybody who can reach the address, without asking for tokens
    #[arg(long)]
    insecure_no_auth: bool,
    /// How much is logged: error, warn, info, debug or trace, and for some modules another, as in info,engine=debug
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "LLM_FIRECRACKER_LOG")]
    log_level: String,
    /// The form of the log's lines
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,
    /// The collector that gets traces by OTLP over HTTP
    #[arg(long, value_name = "URL")]
    otlp_endpoint: Option<String>,
    /// What the service is called there
    #[arg(long, value_name = "NAME", default_value = "llm-firecracker")]
    service_name: String,
}

/// Does it.
pub(super) async fn run(args: ApiArgs, global: &Global) -> Result<ExitCode, Failure> {
    logs::start(&args.log_level, args.log_format).map_err(Failure::usage)?;
    let data = global.data();
    let _lock = lock(global)?;
    let engine = Arc::new(Engine::new(EngineSettings {
        vmm: backend::chosen(global, &HostFacts::get(global))?,
        data: data.clone(),
        languages: Languages::built_in(),
        room: Room::Own { first: FIRST_SLOT, slots: SLOTS },
    }));
    let asks_for_tokens = !args.host.is_loopback() && !args.insecure_no_auth;
    let authority = if asks_for_tokens {
        let database = data.service_database();
        Some(Authority::open(&database).or_fail()?)
    } else {
        None
    };
    let mut signals = Signals::catch().context("cannot wait for signals").map_err(Failure::host)?;
    let address = SocketAddr::new(args.host, args.port);
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))
        .map_err(|error| Failure::host(error).hint("choose another --port, or end who uses it".to_owned()))?;
    let telemetry = args.otlp_endpoint.map(|endpoint| Telemetry::start(&endpoint, &args.service_name));
    let telemetry = telemetry.transpose().map_err(Failure::usage)?;
    let metrics = Arc::new(Metrics::new());
    let pool = Pool::start(engine, PoolLimits::default(), Arc::clone(&metrics) as Arc<_>);
    let connections = Connections::default();
    let service = Service::new(Settings {
        pool: pool.clone(),
        authority,
        policy: Policy { usual_machine: DEFAULT_MACHINE, ..Policy::default() },
        metrics,
        traces: telemetry.clone().map(|telemetry| telemetry as Arc<dyn Traces>),
        connections: connections.clone(),
    });
    let listening = Listening::over(listener, connections);
    let address = listening.address().context("cannot tell where it listens").map_err(Failure::host)?;
    eprintln!("listening on http://{address}");
    let (stop, cut) = (CancellationToken::new(), CancellationToken::new());
    let serving = tokio::spawn(listening.serve(service.router(), stop.clone(), cut.clone()));
    signals.to_stop().await;
    tracing::info!("stopping: finishing what runs");
    let finished = tokio::select! {
        finished = pool.stop(Duration::from_secs(30)) => finished,
        () = signals.to_stop() => false,
    };
    stop.cancel();
    if !finished {
        tracing::warn!("stopping: what still runs is cut off");
        cut.cancel();
    }
    let served = serving.await;
    let gone = pool.gone().await;
    if let Some(telemetry) = telemetry {
        telemetry.end().await;
    }
    served.context("the listener failed").map_err(Failure::host)?;
    if !gone {
        return Err(Failure::host(anyhow::anyhow!("some microVMs did not end")));
    }
    Ok(ExitCode::SUCCESS)
}

/// There is one service for a data directory.
fn lock(global: &Global) -> Result<File, Failure> {
    let path = global.data().run().join("service.lock");
    let directory = global.data().run();
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
        .with_context(|| format!("another service uses {}", global.data().root().display()))
        .map_err(|error| Failure::host(error).hint("end it, or choose another --data-dir".to_owned()))?;
    Ok(file)
}

/// The signals that a service acts on.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for one that ends it.
    async fn to_stop(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
