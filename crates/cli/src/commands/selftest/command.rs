//! The command: what is tried, on what, and what is printed.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::builder::RangedU64ValueParser;
use engine::{Engine, EngineSettings, Languages, Room};
use futures_util::StreamExt as _;
use vmm::backend::Acceleration;

use super::{
    catalogue::{self, Attack},
    census::Census,
    clones,
    report::{Report, Tried},
    trial::Ground,
};
use crate::{
    alone, backend,
    commands::{
        api::{FIRST_SLOT, SLOTS},
        run::told,
    },
    failure::{DONE, Failure, HOST},
    host::HostFacts,
    output,
    settings::{Global, Machine},
};

/// What the names of its microVMs begin with.
const PREFIX: &str = "selftest-";

/// The most microVMs at a time: clones.
const MOST: u32 = 64;

/// Arguments of `selftest`.
#[derive(clap::Args)]
#[command(
    after_help = "Each program is run in a microVM of its own, restored from the snapshot, and has to end as the catalogue says \
within its time limit and 1.5 seconds; after it a calm program has to find everything as if nothing had been there. Then many \
microVMs of the snapshot run at once, and must share neither random numbers nor names, files or memory. At the end, the host's \
processes, cgroups, mounts, files, sockets and descriptors have to be what they were.

Ways: alone, as a single request is run; batch, twice as a batch is; fresh, in a process without the waiting interpreter.

The programs are harmless to a host whose isolation holds, and use its processors and memory as microVMs may.

Exit status: 0 all is as it has to be; 3 it is not.

Examples:
  infra.operator selftest
  infra.operator selftest --only fork_bomb --only memory
  infra.operator selftest --list
  infra.operator selftest --json > selftest.json"
)]
pub(crate) struct SelftestArgs {
    /// Only the attacks whose names hold this, or `clones`; can be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,

    /// How many attacks are tried at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = RangedU64ValueParser::<u32>::new().range(1..=16))]
    at_once: u32,

    /// How many microVMs of the snapshot run beside each other at the end; 0 for none
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = RangedU64ValueParser::<u32>::new().range(0..=u64::from(MOST)))]
    clones: u32,

    /// Lists what is tried, and tries nothing
    #[arg(long)]
    list: bool,

    #[command(flatten)]
    machine: Machine,

    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Runs `selftest`.
pub(crate) async fn run(args: SelftestArgs, global: &Global) -> Result<ExitCode, Failure> {
    let attacks: Vec<Attack> =
        catalogue::attacks()?.into_iter().filter(|attack| args.wants(&attack.name())).collect();
    let count = if args.wants("clones") { args.clones } else { 0 };
    if attacks.is_empty() && count == 0 {
        let hint = "infra.operator selftest --list names all".to_owned();
        return Err(Failure::usage(anyhow::anyhow!("nothing goes by {}", args.only.join(" or "))).hint(hint));
    }
    if args.list {
        return list(&attacks, args.json);
    }
    let languages = Languages::built_in();
    let language = languages.find("python").context("there is no Python").map_err(Failure::host)?;
    let data = global.data();
    // Two would use the same users.
    let _alone = alone::lock(
        &data.run().join("selftest.lock"),
        "another selftest runs on this data directory",
        "wait for it, or choose another --data-dir",
    )?;
    let vmm = backend::chosen(global, &HostFacts::get(global))?;
    let identity = vmm.identity();
    let is_emulated = identity.acceleration == Acceleration::Tcg;
    let called = format!("{} {} ({})", identity.vmm, identity.version, identity.acceleration);
    // Numbers of its own: it may run beside commands and a service.
    let room = Room::Own { first: FIRST_SLOT + SLOTS, slots: MOST, prefix: PREFIX.to_owned() };
    let engine = Engine::new(EngineSettings { vmm, data: data.clone(), languages: languages.clone(), room });
    let ground = Ground { engine: &engine, language, machine: args.machine.into() };
    // The first microVM reads what later ones find read, and makes what stays: so there is one before anything is counted.
    ground.open(None).await.map_err(told)?.end().await;
    let before = Census::take(&data, PREFIX).map_err(Failure::host)?;

    let attacked = all(&args, &ground, attacks).await?;
    let beside = if count > 0 {
        let cloned = clones::tried(&ground, count).await?;
        args.say(&cloned)?;
        Some(cloned)
    } else {
        None
    };
    let left = before.compare(&data, PREFIX).await.map_err(Failure::host)?;
    let report = Report::new(called, attacked, beside, left);
    if args.json {
        output::json(&report)?;
    } else {
        report.summary(is_emulated)?;
    }
    Ok(ExitCode::from(if report.passed { DONE } else { HOST }))
}

impl SelftestArgs {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }

    fn say(&self, tried: &Tried) -> Result<(), Failure> {
        if self.json { Ok(()) } else { output::line(&tried.line()) }
    }
}

/// Tries all attacks in all their ways, and says how each went as soon as it is known.
async fn all(args: &SelftestArgs, ground: &Ground<'_>, attacks: Vec<Attack>) -> Result<Vec<Tried>, Failure> {
    let trials = attacks.iter().flat_map(|attack| attack.ways.iter().map(move |way| (attack, *way)));
    let mut running = futures_util::stream::iter(trials.map(|(attack, way)| ground.attack(attack, way)))
        .buffered(args.at_once as usize);
    let mut all = Vec::new();
    while let Some(tried) = running.next().await {
        let tried = tried?;
        args.say(&tried)?;
        all.push(tried);
    }
    Ok(all)
}

fn list(attacks: &[Attack], json: bool) -> Result<ExitCode, Failure> {
    #[derive(serde::Serialize)]
    struct Listed {
        name: String,
        does: String,
        ends: Vec<String>,
    }
    let listed = attacks.iter().map(|attack| Listed {
        name: attack.name(),
        does: attack.does(),
        ends: attack.ends.clone(),
    });
    let listed: Vec<_> = listed.collect();
    if json {
        output::json(&listed)?;
    } else {
        let rows: Vec<_> =
            listed.into_iter().map(|one| vec![one.name, one.ends.join(" or "), one.does]).collect();
        output::table(&["NAME", "HAS TO END WITH", "WHAT IT DOES"], &rows)?;
    }
    Ok(ExitCode::from(DONE))
}
