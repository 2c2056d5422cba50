//! What is not counted but asked at each scrape: the pool, and the service's own process.

use std::{fmt, fs};

use engine::pool::{KindStatus, PoolStatus};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder},
    metrics::MetricType,
};

use crate::jobs::Counts;

/// A pool at the moment of a scrape.
#[derive(Debug)]
pub(super) struct PoolGauges(pub(super) PoolStatus);

impl Collector for PoolGauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let pool = &self.0;
        let help = "MicroVMs that wait (idle), start, rehearse or run a program";
        let mut microvms = encoder.encode_descriptor("microvms", help, None, MetricType::Gauge)?;
        for kind in &pool.kinds {
            let counts = [
                ("idle", kind.idle),
                ("starting", kind.starting),
                ("rehearsing", kind.rehearsing),
                ("running", kind.running),
            ];
            for (state, count) in counts {
                of_kind(&mut microvms, kind, Some(state), count)?;
            }
        }
        let help = "MicroVMs that are to wait for requests";
        let mut target = encoder.encode_descriptor("pool_target", help, None, MetricType::Gauge)?;
        for kind in &pool.kinds {
            of_kind(&mut target, kind, None, kind.target)?;
        }
        let help = "1 where there is a snapshot that can be restored; without one microVMs boot";
        let mut restorable = encoder.encode_descriptor("pool_restorable", help, None, MetricType::Gauge)?;
        for kind in &pool.kinds {
            of_kind(&mut restorable, kind, None, u32::from(kind.restorable))?;
        }
        let gauges = [
            ("queue_length", "Requests that wait for a microVM", count(pool.queued)),
            ("queue_limit", "Requests that may wait; more are refused", count(pool.queue)),
            ("running", "MicroVMs that run a program", pool.running.into()),
            ("running_limit", "MicroVMs that may run a program at the same time", pool.most_running.into()),
            ("memory_mib", "Memory of all microVMs as the pool counts it, in MiB", pool.memory_mib),
            ("memory_limit_mib", "Memory that there is for microVMs, in MiB", pool.memory_limit_mib),
            ("stopping", "1 while the service ends and refuses requests", u64::from(pool.stopping)),
        ];
        gauges.into_iter().try_for_each(|(name, help, value)| gauge(&mut encoder, name, help, value))
    }
}

fn of_kind(
    encoder: &mut MetricEncoder<'_>,
    kind: &KindStatus,
    state: Option<&str>,
    value: u32,
) -> fmt::Result {
    let (language, machine) = (kind.key.language.as_str(), kind.key.machine);
    let (memory_mib, vcpus) = (machine.memory_mib.to_string(), machine.vcpus.to_string());
    let mut labels = vec![("language", language), ("memory_mib", &memory_mib), ("vcpus", &vcpus)];
    labels.extend(state.map(|state| ("state", state)));
    encoder.encode_family(&labels)?.encode_gauge(&value)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Jobs at the moment of a scrape.
#[derive(Debug)]
pub(super) struct JobGauges(pub(super) Counts);

impl Collector for JobGauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Counts { queued, running, kept, bytes, callbacks } = self.0;
        let gauges = [
            ("jobs_queued", "Jobs that wait for their turn", queued),
            ("jobs_running", "Jobs that run", running),
            ("jobs_kept", "Jobs that are kept, ended ones among them", kept),
            ("jobs_bytes", "What requests and results of jobs take, in bytes", bytes),
            ("job_callbacks_waiting", "Jobs whose end is still to be told", callbacks),
        ];
        gauges.into_iter().try_for_each(|(name, help, value)| gauge(&mut encoder, name, help, value))
    }
}

/// The process of the service, by the names that Prometheus' own libraries give.
#[derive(Debug)]
pub(super) struct ProcessGauges {
    /// In seconds since 1970.
    pub(super) started: f64,
}

impl Collector for ProcessGauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if let Some(bytes) = resident_bytes() {
            gauge(
                &mut encoder,
                "process_resident_memory_bytes",
                "Resident memory of the service, in bytes",
                bytes,
            )?;
        }
        if let Some(descriptors) = open_descriptors() {
            gauge(&mut encoder, "process_open_fds", "Open file descriptors of the service", descriptors)?;
        }
        encoder
            .encode_descriptor(
                "process_start_time_seconds",
                "When the service was started, in seconds since 1970",
                None,
                MetricType::Gauge,
            )?
            .encode_gauge(&self.started)
    }
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))?;
    kib.parse::<u64>().ok()?.checked_mul(1024)
}

/// Not counting the one through which they are counted.
fn open_descriptors() -> Option<u64> {
    Some(count(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1)))
}
