//! A service over microVMs that are tasks: what is left of a request's time is the service's own.
//!
//! In this process, or as one of its own that can be killed.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use engine::{
    Engine, EngineSettings, Languages, Room, fake,
    pool::{Pool, PoolLimits},
};
use server::{
    Connections, Listening, Metrics, Policy, Service, Settings,
    jobs::{JobSettings, Jobs},
};
use store::DataDirectory;
use tokio::{net::TcpListener, runtime::Runtime, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use vmm::{
    fake::{Fake, FakeControl, FakeSettings},
    spec::MachineSpec,
};

const MACHINE: MachineSpec = MachineSpec { memory_mib: 512, vcpus: 1 };

/// How long its end may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A service that serves, in whichever runtime.
struct Assembled {
    address: SocketAddr,
    pool: Pool,
    stop: CancellationToken,
    control: Arc<FakeControl>,
    serving: JoinHandle<()>,
}

impl Assembled {
    /// Over what is in `directory`; what is missing there is made up.
    async fn start(directory: &Path, jobs: Option<JobSettings>) -> Result<Self> {
        let fake = Fake::new(FakeSettings::default());
        let control = fake.control();
        let data = DataDirectory::new(directory.to_owned());
        if !data.kernel().exists() {
            fake::prepare(directory, &[MACHINE]).await?;
        }
        let room = Room::Own { first: 0, slots: 10_000, prefix: "fake-".to_owned() };
        let settings = EngineSettings { vmm: Arc::new(fake), data, languages: Languages::built_in(), room };
        let engine = Arc::new(Engine::new(settings));
        // Bounds that microVMs without memory and processors do not reach.
        let limits = PoolLimits {
            memory_mib: 1 << 20,
            minimum: 32,
            maximum: 64,
            running: 64,
            starting: 16,
            ..PoolLimits::default()
        };
        let metrics = Arc::new(Metrics::new());
        let pool = Pool::start(engine, limits, Arc::clone(&metrics) as Arc<_>);
        let jobs = match jobs {
            Some(settings) => Some(Jobs::start(settings, pool.clone(), &metrics, None).await?),
            None => None,
        };
        let service = Service::new(Settings {
            pool: pool.clone(),
            authority: None,
            policy: Policy::default(),
            metrics,
            traces: None,
            connections: Connections::default(),
            jobs,
            administration: None,
            compatible: server::Compatible::default(),
            page: false,
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen")?;
        let listening = Listening::over(listener, Connections::default());
        let address = listening.address().context("tell where it listens")?;
        let stop = CancellationToken::new();
        let serving = tokio::spawn(listening.serve(service.router(), stop.clone(), CancellationToken::new()));
        Ok(Self { address, pool, stop, control, serving })
    }
}

/// Serves jobs until the process is killed, and says where. What it keeps is in `directory`.
pub fn serve_jobs(directory: &Path, jobs: JobSettings) -> Result<()> {
    Runtime::new().context("start a runtime")?.block_on(async {
        let assembled = Assembled::start(directory, Some(jobs)).await?;
        eprintln!("listening on http://{}", assembled.address);
        assembled.serving.await.context("the listener failed")
    })
}

/// The service. It has a runtime of its own, so that those who ask it do not share its threads.
pub struct InProcess {
    runtime: Runtime,
    assembled: Assembled,
    _directory: tempfile::TempDir,
}

impl InProcess {
    /// Starts it on a free port.
    pub fn start() -> Result<Self> {
        let runtime = Runtime::new().context("start a runtime")?;
        let directory = tempfile::tempdir().context("make a data directory")?;
        let assembled = runtime.block_on(Assembled::start(directory.path(), None))?;
        Ok(Self { runtime, assembled, _directory: directory })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.assembled.address
    }

    /// Ends it. Nothing of it may be left.
    pub fn stop(self) -> Result<()> {
        let Assembled { pool, stop, control, .. } = self.assembled;
        self.runtime.block_on(pool.stop(PATIENCE));
        stop.cancel();
        let gone = self.runtime.block_on(pool.gone());
        ensure!(gone, "some microVMs did not end");
        // One that was given up while it started ends by itself.
        let ended = self.runtime.block_on(control.wait_until(PATIENCE, |counts| counts.alive == 0));
        ended.map(drop).map_err(|counts| anyhow!("microVMs are left: {counts:?}"))
    }
}
