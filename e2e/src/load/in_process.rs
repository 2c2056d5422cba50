//! A service in this process, over microVMs that are tasks: what is left of a request's time is the service's own.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use engine::{
    Engine, EngineSettings, Languages, Room, fake,
    pool::{Pool, PoolLimits},
};
use server::{Connections, Listening, Metrics, Policy, Service, Settings};
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_util::sync::CancellationToken;
use vmm::{
    fake::{Fake, FakeControl, FakeSettings},
    spec::MachineSpec,
};

const MACHINE: MachineSpec = MachineSpec { memory_mib: 512, vcpus: 1 };

/// How long its end may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The service. It has a runtime of its own, so that those who ask it do not share its threads.
pub struct InProcess {
    runtime: Runtime,
    address: SocketAddr,
    pool: Pool,
    stop: CancellationToken,
    control: Arc<FakeControl>,
    _directory: tempfile::TempDir,
}

impl InProcess {
    /// Starts it on a free port.
    pub fn start() -> Result<Self> {
        let runtime = Runtime::new().context("start a runtime")?;
        let directory = tempfile::tempdir().context("make a data directory")?;
        let fake = Fake::new(FakeSettings::default());
        let control = fake.control();
        let (address, pool, stop) = runtime.block_on(async {
            let data = fake::prepare(directory.path(), &[MACHINE]).await?;
            let room = Room::Own { first: 0, slots: 10_000, prefix: "fake-".to_owned() };
            let settings =
                EngineSettings { vmm: Arc::new(fake), data, languages: Languages::built_in(), room };
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
            let service = Service::new(Settings {
                pool: pool.clone(),
                authority: None,
                policy: Policy::default(),
                metrics,
                traces: None,
                connections: Connections::default(),
                jobs: None,
                administration: None,
            });
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen")?;
            let listening = Listening::over(listener, Connections::default());
            let address = listening.address().context("tell where it listens")?;
            let stop = CancellationToken::new();
            tokio::spawn(listening.serve(service.router(), stop.clone(), CancellationToken::new()));
            anyhow::Ok((address, pool, stop))
        })?;
        Ok(Self { runtime, address, pool, stop, control, _directory: directory })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it. Nothing of it may be left.
    pub fn stop(self) -> Result<()> {
        self.runtime.block_on(self.pool.stop(PATIENCE));
        self.stop.cancel();
        let gone = self.runtime.block_on(self.pool.gone());
        ensure!(gone, "some microVMs did not end");
        // One that was given up while it started ends by itself.
        let ended = self.runtime.block_on(self.control.wait_until(PATIENCE, |counts| counts.alive == 0));
        ended.map(drop).map_err(|counts| anyhow!("microVMs are left: {counts:?}"))
    }
}
