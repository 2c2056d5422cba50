//! All sections and keys.
//!
//! WHEN CHANGING A KEY: change it here and in `sections`, then write `docs/configuration.md` anew:
//! `cargo run -- config reference --format markdown > docs/configuration.md`. Tests compare all three.

use super::{
    checks::{address, bucket, choices, cpu_template, endpoint, log_level, mirror, name, network},
    key::{
        Fallback::{Auto, Flag, Nothing, Number as Amount, Text as Word},
        Key,
        Kind::{self, Choice, List, Number, Path, Switch, Text},
        key,
    },
    sections::{Acceleration, LogFormat, VmmName, WarmUp},
};

/// A section of the file.
pub(crate) struct Section {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it is about: a sentence.
    pub(super) documentation: &'static str,
    /// Its keys.
    pub(super) keys: &'static [Key],
}

/// The key of this name, as in `api.port`.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    keys().find(|key| key.name == name)
}

/// All keys, section by section.
pub(super) fn keys() -> impl Iterator<Item = &'static Key> {
    SECTIONS.iter().flat_map(|section| section.keys)
}

/// All sections.
pub(crate) static SECTIONS: [Section; 14] = [
    Section { name: "data", documentation: "What is kept on disk.", keys: &DATA },
    Section { name: "vmm", documentation: "What microVMs run in.", keys: &VMM },
    Section { name: "api", documentation: "The service's connections.", keys: &API },
    Section {
        name: "pool",
        documentation: "MicroVMs that wait for requests, and what all microVMs may take.",
        keys: &POOL,
    },
    Section { name: "queue", documentation: "Requests that wait for room.", keys: &QUEUE },
    Section { name: "limits", documentation: "What a request to the service may ask for.", keys: &LIMITS },
    Section {
        name: "piston",
        documentation: "The API of Piston, version 2, for clients that speak it: see compatible.md.",
        keys: &PISTON,
    },
    Section {
        name: "sandbox_fusion",
        documentation: "SandboxFusion's run_code, for clients that speak it: see compatible.md.",
        keys: &SANDBOX_FUSION,
    },
    Section { name: "page", documentation: "The page where programs are written and run.", keys: &PAGE },
    Section {
        name: "jobs",
        documentation: "Requests that are accepted now and run later, and whom their end is told.",
        keys: &JOBS,
    },
    Section { name: "log", documentation: "What the service writes to stderr.", keys: &LOG },
    Section { name: "telemetry", documentation: "Traces of requests, for a collector.", keys: &TELEMETRY },
    Section { name: "registry", documentation: "Where images of others come from.", keys: &REGISTRY },
    Section {
        name: "storage",
        documentation: "Object storage for images and snapshots. Credentials are no part of the configuration: they \
                        come from the environment, or from a profile of the AWS command line.",
        keys: &STORAGE,
    },
];

const fn count(from: u64, to: u64) -> Kind {
    Number { from, to, of: "" }
}

const fn seconds(from: u64, to: u64) -> Kind {
    Number { from, to, of: "seconds" }
}

const fn milliseconds(from: u64, to: u64) -> Kind {
    Number { from, to, of: "milliseconds" }
}

const fn mib(from: u64, to: u64) -> Kind {
    Number { from, to, of: "MiB" }
}

/// The longest time that anything may be told to wait, in seconds: a day.
const DAY: u64 = 86_400;

/// The most memory of one microVM that there is a flag for, in MiB.
const LARGEST_MACHINE: u64 = 65_536;

/// More memory than a host has, in MiB: 16 TiB.
const LARGEST_HOST: u64 = 16 << 20;

static DATA: [Key; 1] = [key(
    "data.directory",
    Path,
    Auto("/srv/firecracker for root, else $XDG_DATA_HOME/llm-firecracker"),
    "Where images, snapshots and the kernel bundle are.",
)
.variable_named("LLM_FIRECRACKER_DATA_DIR")
.flag("--data-dir")];

static VMM: [Key; 8] = [
    key(
        "vmm.name",
        Choice(choices::<VmmName>),
        Auto("Firecracker where there is one and KVM is usable, and QEMU elsewhere"),
        "The VMM that microVMs run in.",
    )
    .variable_named("LLM_FIRECRACKER_VMM")
    .flag("--vmm"),
    key(
        "vmm.acceleration",
        Choice(choices::<Acceleration>),
        Auto("the best that this host has"),
        "How microVMs execute code.",
    )
    .variable_named("LLM_FIRECRACKER_ACCEL")
    .flag("--accel"),
    key("vmm.qemu", Path, Auto("the one in PATH"), "The QEMU to be used.")
        .variable_named("LLM_FIRECRACKER_QEMU")
        .flag("--qemu"),
    key(
        "vmm.firecracker",
        Path,
        Auto("the one that setup has installed, else the one in PATH"),
        "The Firecracker to be used; its jailer lies beside it.",
    )
    .variable_named("FIRECRACKER_BIN")
    .flag("--firecracker-bin"),
    key(
        "vmm.cpu_template",
        Text { what: "the name of a built-in template, or a file", check: cpu_template },
        Word(""),
        "What guests see of the processor under Firecracker, so that snapshots can be restored on other hosts that the \
         template fits: one that Firecracker has built in (C3, T2, T2A, T2CL, T2S) or a file with one in JSON.",
    )
    .variable_named("LLM_FIRECRACKER_CPU_TEMPLATE")
    .flag("--cpu-template"),
    key(
        "vmm.slots",
        count(1, 10_000),
        Auto("two for each processor"),
        "How many microVMs may run at the same time, in all commands together.",
    )
    .variable_named("LLM_FIRECRACKER_SLOTS")
    .flag("--slots"),
    key(
        "vmm.slot_wait",
        seconds(0, 365 * DAY),
        Amount(600),
        "How long a command waits for room for its microVM, in seconds.",
    )
    .variable_named("LLM_FIRECRACKER_SLOT_WAIT")
    .flag("--slot-wait"),
    // What systemd's UIDS-GIDS calls unused: below, distributions give ranges to users (subuid) and to containers.
    key(
        "vmm.first_uid",
        count(1000, 4_000_000_000),
        Amount(1_900_000_000),
        "The first of the users (and groups) that VMMs run as, one for each slot, when started by root.",
    )
    .variable_named("LLM_FIRECRACKER_FIRST_UID")
    .flag("--first-uid"),
];

static API: [Key; 8] = [
    key(
        "api.host",
        Text { what: "an IP address", check: address },
        Word("127.0.0.1"),
        "The address that the service listens on: 127.0.0.1 for this machine alone, 0.0.0.0 or :: for all networks.",
    ),
    key(
        "api.port",
        count(0, 65_535),
        Amount(8080),
        "The port that the service listens on; 0 takes a free one.",
    ),
    key(
        "api.max_connections",
        count(1, 1_000_000),
        Amount(4096),
        "The most connections at the same time. Each takes a file descriptor.",
    ),
    key(
        "api.header_timeout",
        seconds(1, DAY),
        Amount(10),
        "How long a client may take to send the head of a request, in seconds.",
    ),
    key(
        "api.idle_timeout",
        seconds(1, DAY),
        Amount(75),
        "How long a connection stays open between two requests, in seconds. Longer than that of a proxy before the \
         service, so that the proxy closes first.",
    ),
    key(
        "api.body_timeout",
        seconds(1, DAY),
        Amount(30),
        "How long a client may take to send the body of a request, in seconds.",
    ),
    key(
        "api.stop_grace",
        seconds(0, DAY),
        Amount(30),
        "How long running requests may take to finish after SIGTERM, in seconds. What runs then is ended.",
    )
    .reloads(),
    key(
        "api.require_tokens",
        Switch,
        Auto("false where api.host is this machine alone, true elsewhere"),
        "Whether requests need a token.",
    ),
];

static POOL: [Key; 6] = [
    key(
        "pool.memory",
        mib(128, LARGEST_HOST),
        Auto("half of what is available at the start, and no more than the limits of the service's cgroups leave"),
        "The memory for all microVMs together, in MiB.",
    )
    .reloads(),
    key(
        "pool.minimum",
        count(0, 10_000),
        Amount(1),
        "Idle clones that are kept for every language and size that has a snapshot.",
    )
    .reloads(),
    key("pool.maximum", count(0, 10_000), Amount(16), "The most idle clones for each language and size.")
        .reloads(),
    key(
        "pool.running",
        count(1, 10_000),
        Auto("four for each processor"),
        "The most microVMs that execute at the same time.",
    )
    .reloads(),
    key(
        "pool.starting",
        count(1, 10_000),
        Auto("one for each processor"),
        "The most microVMs that start or warm up at the same time.",
    )
    .reloads(),
    key(
        "pool.warm_up",
        Choice(choices::<WarmUp>),
        Auto("where code is emulated"),
        "Whether a short program is rehearsed in each idle clone, so that its first request is as quick as a second.",
    )
    .reloads(),
];

static QUEUE: [Key; 3] = [
    key(
        "queue.length",
        count(0, 1_000_000),
        Amount(1000),
        "The most requests that wait; one caller alone has half of it. Beyond that they are refused with status 503.",
    )
    .reloads(),
    key("queue.patience", seconds(0, DAY), Amount(30), "How long a request may wait, in seconds.").reloads(),
    key(
        "queue.batches",
        count(1, 10_000),
        Auto("half of pool.running, at least one"),
        "The most microVMs that batches may hold at the same time, so that single requests find room.",
    )
    .reloads(),
];

static LIMITS: [Key; 3] = [
    // No program may run longer than that: the protocol's limit.
    key("limits.timeout", seconds(1, 300), Amount(300), "The most seconds that a request may ask for.")
        .reloads(),
    key(
        "limits.memory",
        mib(128, LARGEST_MACHINE),
        Amount(4096),
        "The most memory that a request may ask for, in MiB.",
    )
    .reloads(),
    key("limits.batch", count(1, 1000), Amount(1000), "The most executions of one batch.").reloads(),
];

static PISTON: [Key; 3] = [
    key("piston.enabled", Switch, Flag(true), "Whether /api/v2 and /api/v2/piston are served."),
    key(
        "piston.run_timeout",
        milliseconds(1, 300_000),
        Amount(3000),
        "The most milliseconds that a request may ask for as run_timeout, and what it gets where it does not ask.",
    ),
    key(
        "piston.compile_timeout",
        milliseconds(1, 300_000),
        Amount(10_000),
        "The most milliseconds that a request may ask for as compile_timeout.",
    ),
];

static SANDBOX_FUSION: [Key; 1] =
    [key("sandbox_fusion.enabled", Switch, Flag(true), "Whether /run_code is served.")];
static PAGE: [Key; 1] = [key(
    "page.enabled",
    Switch,
    Flag(true),
    "Whether the service has the page at `/`. Without it, `/` leads to the documentation.",
)];

static JOBS: [Key; 12] = [
    key("jobs.enabled", Switch, Auto("true"), "Whether the service takes jobs."),
    key(
        "jobs.running",
        count(1, 10_000),
        Auto("half of pool.running, at least one"),
        "The most jobs that run at the same time. The rest of the pool is left to requests that wait for their answer.",
    ),
    key(
        "jobs.queued",
        count(1, 1_000_000),
        Amount(10_000),
        "The most jobs that wait; one caller alone has half of it.",
    ),
    key(
        "jobs.kept",
        count(1, 10_000_000),
        Amount(100_000),
        "The most jobs that are kept, ended ones among them; one caller alone has half of it.",
    ),
    key(
        "jobs.size",
        mib(1, LARGEST_HOST),
        Amount(1024),
        "What requests and results of jobs may take together, in MiB; one caller alone has half of it. Beyond that no job \
         is accepted; the results of those that were may still exceed it.",
    ),
    key(
        "jobs.expires_after",
        seconds(1, 365 * DAY),
        Amount(DAY),
        "How long a job that has ended is kept where its request does not say, in seconds.",
    ),
    key(
        "jobs.longest_expiry",
        seconds(1, 365 * DAY),
        Amount(30 * DAY),
        "The longest that a request may ask for a job to be kept once it has ended, in seconds.",
    ),
    key(
        "jobs.reruns",
        count(0, 1_000_000),
        Amount(5),
        "How often a job is run again that was interrupted by the end of the service, where its request does not forbid it. \
         After that it has failed: it may be what ends the service.",
    ),
    key(
        "jobs.callback_attempts",
        count(1, 30),
        Amount(12),
        "How often it is tried to tell the end of a job. Between two attempts lie 2 seconds at first, then twice as long \
         each time, up to an hour.",
    ),
    key(
        "jobs.callback_timeout",
        seconds(1, 300),
        Amount(10),
        "How long each attempt to tell the end of a job may take, in seconds.",
    ),
    key(
        "jobs.callback_networks",
        List { what: "networks", check: network },
        Nothing,
        "Networks that callbacks may go to besides public addresses, as in 10.1.0.0/16 or 127.0.0.0/8. Whoever may leave a \
         job can have the service send requests there. In the variable commas stand between them.",
    ),
    key(
        "jobs.callback_secret_file",
        Path,
        Auto("a secret that is made once: infra.operator jobs secret"),
        "A file with the secret that callbacks are signed with: whsec_ and 24 to 64 bytes as base64.",
    ),
];

static LOG: [Key; 2] = [
    key(
        "log.level",
        Text { what: "error, warn, info, debug or trace, for some modules another", check: log_level },
        Word("info"),
        "How much the service says: error, warn, info, debug or trace, and for some modules another, as in \
         info,engine=debug. The variable holds for other commands, too, which else say warn.",
    )
    .variable_named("LLM_FIRECRACKER_LOG")
    .reloads(),
    key("log.format", Choice(choices::<LogFormat>), Word("text"), "The form of the log's lines."),
];

static TELEMETRY: [Key; 2] = [
    key(
        "telemetry.otlp_endpoint",
        Text { what: "an http or https URL", check: endpoint },
        Word(""),
        "The URL of a collector that takes OTLP over HTTP, as in http://127.0.0.1:4318. Empty: nothing is exported.",
    ),
    key(
        "telemetry.service_name",
        Text { what: "a name", check: name },
        Word("llm-firecracker"),
        "What the service is called there.",
    ),
];

static REGISTRY: [Key; 1] = [key(
    "registry.mirrors",
    List { what: "addresses", check: mirror },
    Nothing,
    "Mirrors that rootfs from-docker asks first: of Docker Hub, or of another registry as REGISTRY=URL. In the variable \
     commas stand between them.",
)
.variable_named("LLM_FIRECRACKER_REGISTRY_MIRROR")];

static STORAGE: [Key; 4] = [
    key(
        "storage.bucket",
        Text { what: "the name or address of a bucket", check: bucket },
        Word(""),
        "The bucket: its name, s3://NAME/PREFIX, or file:///DIRECTORY.",
    )
    .variable_named("LLM_FIRECRACKER_BUCKET"),
    key(
        "storage.endpoint",
        Text { what: "an http or https URL", check: endpoint },
        Auto("that of the profile, else Amazon's"),
        "The server of a store that is compatible with S3.",
    )
    .variable_named("LLM_FIRECRACKER_S3_ENDPOINT")
    .or(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]),
    key(
        "storage.region",
        Text { what: "a region", check: name },
        Auto("that of the profile, else us-east-1"),
        "The bucket's region.",
    )
    .or(&["AWS_REGION", "AWS_DEFAULT_REGION"]),
    key(
        "storage.profile",
        Text { what: "the name of a profile", check: name },
        Auto("the profile \"default\""),
        "The profile of the AWS command line that has the credentials, where the environment has none.",
    )
    .or(&["AWS_PROFILE"]),
];
