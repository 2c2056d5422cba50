//! The configuration as the program reads it: every value with its type, `None` where the program decides.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::ValueEnum;
use images::oci::registry::Mirror;
use server::jobs::Network;
use store::remote::BucketAddress;
use vmm::firecracker::CpuTemplate;

use super::{Entry, Environment, Resolution, Source, Value, fault::Origin, resolve, table};
use crate::{
    failure::Failure,
    settings::{Flags, Global, cpu_template, default_data_directory},
};

/// The configuration.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// What is kept on disk.
    pub(crate) data: Data,
    /// What microVMs run in.
    pub(crate) vmm: Vmm,
    /// The service's connections.
    pub(crate) api: Api,
    /// Clones that wait.
    pub(crate) pool: Pool,
    /// Requests that wait.
    pub(crate) queue: Queue,
    /// What a request to the service may ask for.
    pub(crate) limits: Limits,
    /// Piston's API, where it is served.
    pub(crate) piston: Option<Piston>,
    /// Whether `SandboxFusion`'s is.
    pub(crate) sandbox_fusion: bool,
    /// The page.
    pub(crate) page: Page,
    /// Requests that are run later.
    pub(crate) jobs: Jobs,
    /// What the service says.
    pub(crate) log: Log,
    /// Traces.
    pub(crate) telemetry: Telemetry,
    /// Where images of others come from.
    pub(crate) registry: Registry,
    /// Object storage.
    pub(crate) storage: Storage,
    /// All of it, with where it comes from.
    pub(super) entries: BTreeMap<&'static str, Entry>,
}

impl Config {
    /// What flags, environment and file say now. The service calls it again at SIGHUP.
    pub(crate) fn load(global: &Global) -> Result<Self, Failure> {
        Self::of_flags(global.flags())
    }

    /// The same where there are only flags yet.
    pub(crate) fn of_flags(flags: &Flags) -> Result<Self, Failure> {
        let environment = Environment::of_process();
        let is_root = rustix::process::geteuid().is_root();
        let source = Source::choose(flags.config.as_deref(), &environment, is_root);
        Self::of(resolve(flags, &environment, &source))
    }

    /// What was found, if nothing is wrong with it.
    pub(crate) fn of(resolution: Resolution) -> Result<Self, Failure> {
        let refused = |error| {
            Failure::usage(error)
                .hint("infra.operator config reference tells what there is to configure".to_owned())
        };
        match resolution.faults.as_slice() {
            [] => Self::new(resolution.entries).map_err(Failure::usage),
            [fault] => Err(refused(anyhow!("{fault}"))),
            faults => {
                let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
                let lines = lines.join("\n  ");
                Err(refused(anyhow!("the configuration has {} faults:\n  {lines}", faults.len())))
            }
        }
    }

    fn new(entries: BTreeMap<&'static str, Entry>) -> Result<Self> {
        let values = Values(&entries);
        Ok(Self {
            data: Data { directory: values.path("data.directory")?.unwrap_or_else(default_data_directory) },
            vmm: Vmm::new(&values)?,
            api: Api::new(&values)?,
            pool: Pool::new(&values)?,
            queue: Queue {
                length: values.number("queue.length")?,
                patience: values.seconds("queue.patience")?,
                batches: values.number_or_auto("queue.batches")?,
            },
            limits: Limits {
                timeout: values.seconds("limits.timeout")?,
                memory_mib: values.number("limits.memory")?,
                batch: values.number("limits.batch")?,
            },
            piston: Piston::new(&values)?,
            sandbox_fusion: values.switch("sandbox_fusion.enabled")?,
            page: Page { enabled: values.switch("page.enabled")? },
            jobs: Jobs::new(&values)?,
            log: Log {
                level: values.text("log.level")?,
                format: values.choice("log.format")?.context("log.format is never left to the program")?,
            },
            telemetry: Telemetry {
                otlp_endpoint: values.text_or_none("telemetry.otlp_endpoint")?,
                service_name: values.text("telemetry.service_name")?,
            },
            registry: Registry { mirrors: values.list("registry.mirrors")? },
            storage: Storage::new(&values)?,
            entries,
        })
    }

    /// All keys in the order of the documentation, each with its value. `data.directory` is told as it is, not as `auto`.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'static str, Entry)> {
        table::keys().filter_map(|key| {
            let mut entry = self.entries.get(key.name)?.clone();
            if key.name == "data.directory" {
                entry.value = Value::Path(self.data.directory.clone());
            }
            Some((key.name, entry))
        })
    }

    /// Where the value of a key comes from.
    pub(crate) fn origin(&self, name: &str) -> Option<&Origin> {
        self.entries.get(name).map(|entry| &entry.origin)
    }
}

/// What is kept on disk.
#[derive(Clone, Debug)]
pub(crate) struct Data {
    /// Where.
    pub(crate) directory: PathBuf,
}

/// What microVMs run in.
#[derive(Clone, Debug)]
pub(crate) struct Vmm {
    /// The VMM.
    pub(crate) name: Option<VmmName>,
    /// How microVMs execute code.
    pub(crate) acceleration: Option<Acceleration>,
    /// Which QEMU.
    pub(crate) qemu: Option<PathBuf>,
    /// Which Firecracker.
    pub(crate) firecracker: Option<PathBuf>,
    /// What guests see of the processor; `None`: the processor.
    pub(crate) cpu_template: Option<CpuTemplate>,
    /// How many microVMs may run at the same time.
    pub(crate) slots: Option<u32>,
    /// How long a command waits for room.
    pub(crate) slot_wait: Duration,
    /// The first of the users that VMMs run as.
    pub(crate) first_uid: u32,
}

/// A VMM.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VmmName {
    /// Firecracker, under its jailer; needs KVM
    Firecracker,
    /// QEMU's microvm machine
    Qemu,
}

/// How microVMs execute code.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acceleration {
    /// The processor's virtualization
    Kvm,
    /// Emulation in software
    Tcg,
}

impl Vmm {
    fn new(values: &Values<'_>) -> Result<Self> {
        let template = values.text_or_none("vmm.cpu_template")?;
        Ok(Self {
            name: values.choice("vmm.name")?,
            acceleration: values.choice("vmm.acceleration")?,
            qemu: values.path("vmm.qemu")?,
            firecracker: values.path("vmm.firecracker")?,
            cpu_template: template
                .map(|text| cpu_template(&text).map_err(|error| anyhow!(error)))
                .transpose()?,
            slots: values.number_or_auto("vmm.slots")?,
            slot_wait: values.seconds("vmm.slot_wait")?,
            first_uid: values.number("vmm.first_uid")?,
        })
    }
}

/// The service's connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Api {
    /// The address to listen on.
    pub(crate) host: IpAddr,
    /// The port; 0 takes a free one.
    pub(crate) port: u16,
    /// The most connections.
    pub(crate) max_connections: usize,
    /// For the head of a request.
    pub(crate) header_timeout: Duration,
    /// Between two requests.
    pub(crate) idle_timeout: Duration,
    /// For the body of a request.
    pub(crate) body_timeout: Duration,
    /// For running requests after SIGTERM.
    pub(crate) stop_grace: Duration,
    /// Whether requests need a token; `None`: see [`Api::needs_tokens`].
    pub(crate) require_tokens: Option<bool>,
}

impl Api {
    fn new(values: &Values<'_>) -> Result<Self> {
        Ok(Self {
            host: values.parsed("api.host")?,
            port: values.number("api.port")?,
            max_connections: values.number("api.max_connections")?,
            header_timeout: values.seconds("api.header_timeout")?,
            idle_timeout: values.seconds("api.idle_timeout")?,
            body_timeout: values.seconds("api.body_timeout")?,
            stop_grace: values.seconds("api.stop_grace")?,
            require_tokens: values.switch_or_auto("api.require_tokens")?,
        })
    }

    /// Whether requests need a token: as the user says, else where others than this machine can reach the service.
    pub(crate) fn needs_tokens(&self) -> bool {
        self.require_tokens.unwrap_or(!self.host.to_canonical().is_loopback())
    }
}

/// Clones that wait for requests, and what all microVMs may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pool {
    /// The memory for all microVMs together, in MiB.
    pub(crate) memory_mib: Option<u64>,
    /// Idle clones that are kept for every language and size.
    pub(crate) minimum: usize,
    /// The most idle clones for each; at least `minimum`.
    pub(crate) maximum: usize,
    /// The most microVMs that execute at the same time.
    pub(crate) running: Option<usize>,
    /// The most that start or warm up at the same time.
    pub(crate) starting: Option<usize>,
    /// Whether idle clones rehearse.
    pub(crate) warm_up: Option<WarmUp>,
}

/// Whether idle clones rehearse.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WarmUp {
    /// They do
    Always,
    /// They do not
    Never,
}

impl Pool {
    fn new(values: &Values<'_>) -> Result<Self> {
        Ok(Self {
            memory_mib: values.number_or_auto("pool.memory")?,
            minimum: values.number("pool.minimum")?,
            maximum: values.number("pool.maximum")?,
            running: values.number_or_auto("pool.running")?,
            starting: values.number_or_auto("pool.starting")?,
            warm_up: values.choice("pool.warm_up")?,
        })
    }
}

/// Requests that wait for room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Queue {
    /// The most of them.
    pub(crate) length: usize,
    /// How long each may wait.
    pub(crate) patience: Duration,
    /// The most microVMs that batches may hold at the same time.
    pub(crate) batches: Option<usize>,
}

/// The most that Piston's clients may ask for.
#[derive(Clone, Debug)]
pub(crate) struct Piston {
    pub(crate) run_timeout: Duration,
    pub(crate) compile_timeout: Duration,
}

impl Piston {
    fn new(values: &Values<'_>) -> Result<Option<Self>> {
        let millis = |name| values.number(name).map(Duration::from_millis);
        let limits = Self {
            run_timeout: millis("piston.run_timeout")?,
            compile_timeout: millis("piston.compile_timeout")?,
        };
        Ok(values.switch("piston.enabled")?.then_some(limits))
    }
}

/// What a request to the service may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The longest timeout.
    pub(crate) timeout: Duration,
    /// The most memory, in MiB.
    pub(crate) memory_mib: u32,
    /// The most executions of a batch.
    pub(crate) batch: usize,
}

/// The page where programs are written and run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// Whether there is one.
    pub(crate) enabled: bool,
}

/// Requests that are accepted now and run later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Jobs {
    /// Whether there are any.
    pub(crate) enabled: bool,
    /// The most that run at the same time.
    pub(crate) running: Option<usize>,
    /// The most that wait.
    pub(crate) queued: u64,
    /// The most that are kept.
    pub(crate) kept: u64,
    /// What they may take, in MiB.
    pub(crate) size_mib: u64,
    /// How long one that has ended is kept.
    pub(crate) expires_after: Duration,
    /// And at most.
    pub(crate) longest_expiry: Duration,
    /// How often one that was interrupted is run again.
    pub(crate) reruns: u32,
    /// How often a callback is tried.
    pub(crate) callback_attempts: u32,
    /// How long each attempt may take.
    pub(crate) callback_timeout: Duration,
    /// Where callbacks may go besides public addresses.
    pub(crate) callback_networks: Vec<Network>,
    /// The file with the secret that they are signed with.
    pub(crate) callback_secret_file: Option<PathBuf>,
}

impl Jobs {
    fn new(values: &Values<'_>) -> Result<Self> {
        Ok(Self {
            enabled: values.switch_or_auto("jobs.enabled")?.unwrap_or(true),
            running: values.number_or_auto("jobs.running")?,
            queued: values.number("jobs.queued")?,
            kept: values.number("jobs.kept")?,
            size_mib: values.number("jobs.size")?,
            expires_after: values.seconds("jobs.expires_after")?,
            longest_expiry: values.seconds("jobs.longest_expiry")?,
            reruns: values.number("jobs.reruns")?,
            callback_attempts: values.number("jobs.callback_attempts")?,
            callback_timeout: values.seconds("jobs.callback_timeout")?,
            callback_networks: values.list("jobs.callback_networks")?,
            callback_secret_file: values.path("jobs.callback_secret_file")?,
        })
    }
}

/// What the service says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Log {
    /// Directives of `tracing_subscriber::EnvFilter`, which takes them.
    pub(crate) level: String,
    /// The form of the lines.
    pub(crate) format: LogFormat,
}

/// The form of the log's lines.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// For programs: an object for each line
    Json,
}

/// Traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Telemetry {
    /// The collector's URL; `None`: nothing is exported.
    pub(crate) otlp_endpoint: Option<String>,
    /// What the service is called there.
    pub(crate) service_name: String,
}

/// Where images of others come from.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    /// Mirrors that are asked first.
    pub(crate) mirrors: Vec<Mirror>,
}

/// Object storage. Endpoint, region and profile may come from variables of other programs: they are judged where they
/// are used.
#[derive(Clone, Debug, Default)]
pub(crate) struct Storage {
    /// The bucket; `None`: there is none.
    pub(crate) bucket: Option<BucketAddress>,
    /// Its server.
    pub(crate) endpoint: Option<String>,
    /// Its region.
    pub(crate) region: Option<String>,
    /// The profile that has the credentials.
    pub(crate) profile: Option<String>,
}

impl Storage {
    fn new(values: &Values<'_>) -> Result<Self> {
        let bucket = values.text_or_none("storage.bucket")?;
        Ok(Self {
            bucket: bucket.map(|text| text.parse()).transpose()?,
            endpoint: values.text_or_none("storage.endpoint")?,
            region: values.text_or_none("storage.region")?,
            profile: values.text_or_none("storage.profile")?,
        })
    }
}

/// Values that were checked. An error here means that the table and this file disagree, which the tests rule out.
struct Values<'a>(&'a BTreeMap<&'static str, Entry>);

impl Values<'_> {
    fn get(&self, name: &str) -> Result<&Value> {
        self.0.get(name).map(|entry| &entry.value).with_context(|| format!("there is no key {name}"))
    }

    fn number_or_auto<T: TryFrom<u64>>(&self, name: &str) -> Result<Option<T>> {
        match self.get(name)? {
            Value::Auto => Ok(None),
            Value::Number(number) => {
                let number = T::try_from(*number).ok();
                Ok(Some(number.with_context(|| format!("{name} is too large for this machine"))?))
            }
            _ => bail!("{name} is no number"),
        }
    }

    fn number<T: TryFrom<u64>>(&self, name: &str) -> Result<T> {
        self.number_or_auto(name)?.with_context(|| format!("{name} is no number"))
    }

    fn seconds(&self, name: &str) -> Result<Duration> {
        self.number(name).map(Duration::from_secs)
    }

    fn switch_or_auto(&self, name: &str) -> Result<Option<bool>> {
        match self.get(name)? {
            Value::Auto => Ok(None),
            Value::Switch(on) => Ok(Some(*on)),
            _ => bail!("{name} is neither true nor false"),
        }
    }

    fn switch(&self, name: &str) -> Result<bool> {
        self.switch_or_auto(name)?.with_context(|| format!("{name} is neither true nor false"))
    }

    fn path(&self, name: &str) -> Result<Option<PathBuf>> {
        match self.get(name)? {
            Value::Auto => Ok(None),
            Value::Path(path) => Ok(Some(path.clone())),
            _ => bail!("{name} is no path"),
        }
    }

    fn text_or_none(&self, name: &str) -> Result<Option<String>> {
        match self.get(name)? {
            Value::Auto => Ok(None),
            Value::Text(text) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            _ => bail!("{name} is no text"),
        }
    }

    fn text(&self, name: &str) -> Result<String> {
        self.text_or_none(name)?.with_context(|| format!("{name} is empty"))
    }

    fn parsed<T: FromStr>(&self, name: &str) -> Result<T> {
        self.text(name)?.parse().ok().with_context(|| format!("{name} has another form"))
    }

    fn choice<T: ValueEnum>(&self, name: &str) -> Result<Option<T>> {
        let chosen = self.text_or_none(name)?.map(|text| T::from_str(&text, false));
        chosen.transpose().map_err(|error| anyhow!("{name}: {error}"))
    }

    fn list<T: FromStr>(&self, name: &str) -> Result<Vec<T>> {
        let Value::List(texts) = self.get(name)? else { bail!("{name} is no list") };
        let parsed = texts.iter().map(|text| text.parse().ok());
        parsed.collect::<Option<_>>().with_context(|| format!("{name} has another form"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(set: &[&str]) -> Config {
        let flags = Flags::setting(set);
        Config::of(resolve(&flags, &Environment::of(&[]), &Source::Nowhere)).unwrap()
    }

    #[test]
    fn every_key_has_a_value_of_its_type() {
        let defaults = config(&[]);
        assert_eq!(defaults.data.directory, default_data_directory());
        assert_eq!((defaults.api.port, defaults.api.header_timeout), (8080, Duration::from_secs(10)));
        assert_eq!((defaults.pool.memory_mib, defaults.pool.minimum, defaults.pool.maximum), (None, 1, 16));
        assert_eq!((defaults.queue.length, defaults.queue.batches), (1000, None));
        assert_eq!((defaults.limits.memory_mib, defaults.limits.batch), (4096, 1000));
        assert_eq!((defaults.log.level.as_str(), defaults.log.format), ("info", LogFormat::Text));
        assert_eq!(defaults.telemetry.otlp_endpoint, None);
        assert!(defaults.registry.mirrors.is_empty() && defaults.storage.bucket.is_none());
        let chosen = config(&[
            "vmm.name=qemu",
            "vmm.cpu_template=T2",
            "pool.warm_up=never",
            "pool.running=3",
            "log.format=json",
            "registry.mirrors=https://a.example",
            "storage.bucket=s3://llm-firecracker/team",
        ]);
        assert_eq!(
            (chosen.vmm.name, chosen.vmm.cpu_template),
            (Some(VmmName::Qemu), CpuTemplate::named("T2"))
        );
        assert_eq!((chosen.pool.warm_up, chosen.pool.running), (Some(WarmUp::Never), Some(3)));
        assert_eq!(chosen.log.format, LogFormat::Json);
        assert_eq!(chosen.registry.mirrors, ["https://a.example".parse().unwrap()]);
        assert_eq!(chosen.storage.bucket.unwrap().to_string(), "s3://llm-firecracker/team");
    }

    #[test]
    fn tokens_are_needed_where_others_can_reach_the_service() {
        for (host, expected) in [
            ("127.0.0.1", false),
            ("127.1.2.3", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("0.0.0.0", true),
            ("::", true),
            ("192.0.2.1", true),
        ] {
            let host = format!("api.host={host}");
            assert_eq!(config(&[&host]).api.needs_tokens(), expected, "{host}");
            assert!(config(&[&host, "api.require_tokens=true"]).api.needs_tokens());
            assert!(!config(&[&host, "api.require_tokens=false"]).api.needs_tokens());
        }
    }

    #[test]
    fn several_faults_are_one_failure_that_names_all() {
        let flags = Flags::setting(&["a.b=1", "api.port=x"]);
        let failed = Config::of(resolve(&flags, &Environment::of(&[]), &Source::Nowhere)).unwrap_err();
        let told = format!("{failed:?}");
        assert!(told.contains("2 faults") && told.contains("a.b") && told.contains("api.port"), "{told}");
    }

    #[test]
    fn the_directory_is_shown_as_it_is() {
        let entries: Vec<_> = config(&[]).entries().collect();
        assert_eq!(entries[0].1.value, Value::Path(default_data_directory()));
        assert_eq!(entries.len(), table::keys().count());
    }
}
