//! Many microVMs of one snapshot, run at once: what they must not share, and what nobody may see of another.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use engine::{Request, Session, request::Process};
use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::Value;

use super::{
    catalogue, judge,
    report::Tried,
    trial::{Ground, run},
};
use crate::failure::Failure;

const PROGRAM: &str = include_str!("programs/identity.py");

/// How long the program may take: all run at once, on the processors that there are.
const TIMEOUT: Duration = Duration::from_secs(120);

/// How far a clone's clock may be from the host's.
const CLOCK_SECONDS: f64 = 1.0;

/// What a clone says of itself.
#[derive(Clone, Debug, Deserialize)]
struct Said {
    secret: String,
    /// The secrets that it found in its memory.
    found: Vec<String>,
    /// What lay in the scratch directories.
    leaves: BTreeMap<String, Vec<String>>,
    /// What no two may share.
    differ: BTreeMap<String, Value>,
    /// What all have alike.
    same: BTreeMap<String, Value>,
    /// When it began, by its clock.
    clock: f64,
}

/// What a clone said, and between which two moments of the host it began.
struct Heard {
    said: Said,
    between: (f64, f64),
}

/// Restores so many, runs the program in all of them at once, first where requests run and then in processes of their own, and
/// compares.
pub(super) async fn tried(ground: &Ground<'_>, count: u32) -> Result<Tried, Failure> {
    let mut tried = Tried::new(format!("{count} clones at once"), "both");
    let since = Instant::now();
    let opened = join_all((0..count).map(|_| ground.open(None))).await;
    let mut sessions = Vec::new();
    for session in opened {
        match session {
            Ok(session) => sessions.push(session),
            Err(error) => tried = tried.failed("no microVM", &error),
        }
    }
    let mut all = Vec::new();
    for process in [Process::Initialised, Process::Fresh] {
        let mut asked = Vec::new();
        for (number, session) in sessions.iter_mut().enumerate() {
            let secret = format!("secret-of-clone-{number}-{}", uuid::Uuid::now_v7().simple());
            let request = catalogue::of_program(ground.language, PROGRAM, format!("{secret}\n"), TIMEOUT)?;
            asked.push(hear(session, request, secret, process));
        }
        let heard = join_all(asked).await;
        for one in heard {
            match one {
                Ok(heard) => all.push(heard),
                Err(wrong) => tried.wrong.push(wrong),
            }
        }
    }
    join_all(sessions.into_iter().map(Session::end)).await;
    tried.took(since.elapsed());
    tried.ended(format!("{} answers", all.len()));
    tried.wrong.extend(compare(&all));
    Ok(tried)
}

async fn hear(
    session: &mut Session,
    request: Request,
    secret: String,
    process: Process,
) -> Result<Heard, String> {
    let before = now();
    let (answers, _) = run(session, &request, process).await.map_err(|error| engine::chain(&error))?;
    let answer = answers.first().ok_or("there was no answer")?;
    let said: Said = serde_json::from_str(&answer.stdout).map_err(|error| {
        let stderr = answer.stderr.as_deref().unwrap_or_default();
        format!(
            "{error}: {} {}, {}",
            judge::end_of(answer),
            judge::shown(&answer.stdout),
            judge::shown(stderr)
        )
    })?;
    if said.secret != secret {
        return Err(format!("the answer to {secret} is that to {}", judge::shown(&said.secret)));
    }
    Ok(Heard { said, between: (before, now()) })
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// What is wrong with what they said.
fn compare(all: &[Heard]) -> Vec<String> {
    let mut wrong = Vec::new();
    let names: BTreeSet<&String> = all.iter().flat_map(|heard| heard.said.differ.keys()).collect();
    for name in names {
        let values: Vec<String> =
            all.iter().filter_map(|heard| heard.said.differ.get(name)).map(Value::to_string).collect();
        let distinct: BTreeSet<&String> = values.iter().collect();
        // What a process of its own says is of the same microVM, which has one of these.
        let expected = if name == "kernel/random/boot_id" { all.len() / 2 } else { all.len() };
        if distinct.len() < expected {
            wrong.push(format!("{name}: {} values in {} answers", distinct.len(), values.len()));
        }
    }
    let hosts: BTreeSet<String> =
        all.iter().filter_map(|heard| heard.said.same.get("hostname")).map(Value::to_string).collect();
    if hosts.len() > 1 {
        wrong.push(format!("host names: {hosts:?}"));
    }
    for Heard { said, between: (before, after) } in all {
        if said.found.iter().any(|found| *found != said.secret) {
            wrong.push(format!("{} found {:?}", said.secret, said.found));
        }
        if said.clock < before - CLOCK_SECONDS || said.clock > after + CLOCK_SECONDS {
            wrong.push(format!("a clock says {}, not between {before} and {after}", said.clock));
        }
        for (place, names) in &said.leaves {
            let expected = |name: &String| match place.as_str() {
                "." => name == "main.py",
                "/tmp" => name.starts_with("job-"),
                _ => false,
            };
            if !names.iter().all(expected) {
                wrong.push(format!("{place} held {names:?}"));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(number: u32) -> Heard {
        let said = serde_json::json!({
            "secret": format!("secret-{number}"), "found": [format!("secret-{number}")],
            "leaves": { ".": ["main.py"], "/tmp": ["job-1"], "/dev/shm": [] },
            "differ": { "random": number, "kernel/random/boot_id": number / 2 },
            "same": { "hostname": "sandbox" }, "clock": 100.5,
        });
        Heard { said: serde_json::from_value(said).unwrap(), between: (100.0, 101.0) }
    }

    #[test]
    fn clones_that_share_nothing_have_nothing_wrong() {
        assert_eq!(compare(&[heard(0), heard(1), heard(2), heard(3)]), Vec::<String>::new());
    }

    #[test]
    fn whatever_two_share_or_one_sees_of_another_is_wrong() {
        let with = |change: &dyn Fn(&mut Heard)| {
            let mut all = [heard(0), heard(1), heard(2), heard(3)];
            change(&mut all[1]);
            compare(&all).join("\n")
        };
        let random = |heard: &mut Heard| heard.said.differ.insert("random".to_owned(), 0.into());
        assert_eq!(with(&|heard| drop(random(heard))), "random: 3 values in 4 answers");
        assert!(with(&|heard| heard.said.found.push("secret-0".to_owned())).contains("found"));
        assert!(with(&|heard| heard.said.clock = 98.9).contains("a clock says"));
        assert!(with(&|heard| heard.said.clock = 102.1).contains("a clock says"));
        let left = |heard: &mut Heard| heard.said.leaves.insert("/dev/shm".to_owned(), vec!["x".to_owned()]);
        assert!(with(&|heard| drop(left(heard))).contains("/dev/shm held"));
        let named = |heard: &mut Heard| heard.said.same.insert("hostname".to_owned(), "other".into());
        assert!(with(&|heard| drop(named(heard))).contains("host names"));
    }
}
