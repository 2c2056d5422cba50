//! Tables, as they stand in the documentation.

use std::time::Duration;

use engine::Phases;

use crate::{
    by_hand::Compared,
    calls::{Calls, Role},
    cost::{BAR, Sample, Samples},
    memory::Memory,
};

type Phase = fn(&Phases) -> Duration;

type Part = fn(&Sample) -> Duration;

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn of(samples: &[Sample], value: impl Fn(&Sample) -> Duration) -> Duration {
    median(samples.iter().map(value).collect())
}

fn millis(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1000.0)
}

/// How long each phase takes.
pub(crate) fn phases(samples: &Samples) {
    println!("Phases of a restore and Hello World, medians of {}, in ms:\n", samples.started.len());
    println!("| phase | VMM started for it | VMM was waiting |\n|---|---|---|");
    let rows: [(&str, Phase); 8] = [
        ("process: check, jail, VMM until it listens", |phases| phases.process),
        ("load", |phases| phases.load),
        ("resume", |phases| phases.resume.unwrap_or_default()),
        ("connect", |phases| phases.connect),
        ("handshake: hello, reseed", |phases| phases.handshake),
        ("run", |phases| phases.run),
        ("all of them", |phases| phases.start() + phases.run),
        ("end, after the answer", |phases| phases.end),
    ];
    for (name, phase) in rows {
        let is_in_one_step = name == "resume" && samples.started.iter().all(|s| s.phases.resume.is_none());
        let cell = |samples: &[Sample]| millis(of(samples, |sample| phase(&sample.phases)));
        let cells = [cell(&samples.started), cell(&samples.waiting)];
        let [started, waiting] =
            if is_in_one_step { ["in load", "in load"].map(str::to_owned) } else { cells };
        println!("| {name} | {started} | {waiting} |");
    }
}

/// Whose processor time it is.
pub(crate) fn processor(samples: &Samples) {
    println!("\nProcessor time of a restore, until the microVM is ready for its job, medians, in ms:\n");
    println!("| whose | VMM started for it | VMM was waiting |\n|---|---|---|");
    let rows: [(&str, Part); 4] = [
        ("the process that asks", |sample| sample.host),
        ("supervisor and keeper", |sample| sample.supervisor),
        ("**ours together**", |sample| sample.host + sample.supervisor),
        ("the VMM: its jailer, itself, its guest", |sample| sample.vmm),
    ];
    for (name, part) in rows {
        println!(
            "| {name} | {} | {} |",
            millis(of(&samples.started, part)),
            millis(of(&samples.waiting, part))
        );
    }
    println!("\nBar for ours: {} ms where the VMM was waiting.", millis(BAR));
}

/// How many system calls there are.
pub(crate) fn calls(calls: &Calls) {
    println!("\nSystem calls of one restore and run:\n");
    println!("| whose | start of the VMM | restore | run |\n|---|---|---|---|");
    for (name, role) in [
        ("the process that asks", Role::Host),
        ("supervisor and keeper", Role::Supervisor),
        ("jailer", Role::Jailer),
        ("VMM", Role::Vmm),
    ] {
        let count = |part| calls.counts.get(&(part, role)).copied().unwrap_or(0);
        println!("| {name} | {} | {} | {} |", count("process"), count("restore"), count("run"));
    }
    println!(
        "\nRequests of Firecracker's API: {}, {} of them once there is something to be restored. Forks of the process that \
         asks: {}. Files copied by us: {}.",
        calls.api, calls.api_of_restore, calls.forks, calls.copies
    );
}

/// How much memory a clone takes.
pub(crate) fn memory(rows: &[Memory]) {
    println!("\nProportional memory of each idle clone, in MiB:\n");
    println!("| clones at the same time | VMM and guest | supervisor and keeper |\n|---|---|---|");
    #[expect(clippy::cast_precision_loss, reason = "a mebibyte is enough")]
    let mebibytes = |kibibytes: u64| format!("{:.1}", kibibytes as f64 / 1024.0);
    for row in rows {
        println!("| {} | {} | {} |", row.clones, mebibytes(row.vmm), mebibytes(row.ours));
    }
}

/// How it compares with calls by hand.
pub(crate) fn by_hand(compared: &Compared) {
    let answered = |phases: &Vec<Phases>| -> Vec<Duration> {
        phases.iter().map(|phases| phases.start() + phases.run).collect()
    };
    let (hand_waiting, ours_waiting) = (answered(&compared.hand_waiting), answered(&compared.ours_waiting));
    println!(
        "\nRestore and Hello World, by hand and by us, in turns, medians of {}, in ms:\n",
        hand_waiting.len()
    );
    println!("| from | by hand | ours | ours / by hand, median of pairs |\n|---|---|---|---|");
    for (name, hand, ours) in [
        ("the API's first call to the answer, Firecracker waiting", &hand_waiting, &ours_waiting),
        (
            "the start of Firecracker to the answer, ours with its jail, by hand without any",
            &compared.hand_started,
            &compared.ours_started,
        ),
        (
            "the whole command, ours with its jail, by hand without any and most of it Python's own start",
            &compared.hand_command,
            &compared.ours_command,
        ),
    ] {
        let mut ratios: Vec<f64> =
            ours.iter().zip(hand).map(|(ours, hand)| ours.as_secs_f64() / hand.as_secs_f64()).collect();
        ratios.sort_by(f64::total_cmp);
        let ratio = ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN);
        println!(
            "| {name} | {} | {} | {ratio:.2} |",
            millis(median(hand.clone())),
            millis(median(ours.clone()))
        );
    }
    println!("\nThe first of these by phase, and by hand with the load and the resume in two calls:\n");
    println!("| phase | by hand | ours | by hand, in two calls |\n|---|---|---|---|");
    let rows: [(&str, Phase); 5] = [
        ("load", |phases| phases.load),
        ("resume", |phases| phases.resume.unwrap_or_default()),
        ("connect", |phases| phases.connect),
        ("handshake", |phases| phases.handshake),
        ("run", |phases| phases.run),
    ];
    for (name, phase) in rows {
        let cell = |all: &[Phases]| millis(median(all.iter().map(phase).collect()));
        let [hand, ours, split] =
            [&compared.hand_waiting, &compared.ours_waiting, &compared.hand_split].map(|all| cell(all));
        println!("| {name} | {hand} | {ours} | {split} |");
    }
}
