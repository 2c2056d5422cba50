//! What is wrong about jobs, by all that their callers and the receiver of reports have seen.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use serde_json::Value;

/// A job that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its id.
    pub id: String,
    /// What its program writes, and no other does.
    pub stdout: String,
    /// Whether it chose to fail where it is interrupted.
    pub fails: bool,
}

/// A report that has come.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Under which id it came: `webhook-id`.
    pub message: String,
    /// In which life of the service.
    pub life: u32,
    /// The job as it was told.
    pub job: Value,
}

/// All that was seen.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// What was accepted. The same job more than once where its caller has sent it again.
    pub accepted: Vec<Accepted>,
    /// What has come, in order.
    pub reports: Vec<Report>,
    /// All jobs as the service shows them in the end.
    pub shown: Vec<Value>,
    /// How often the service was killed.
    pub kills: u32,
}

/// Of the answer to one job only what has to be the same wherever it is told. What has become of its callback is not.
fn essence(job: &Value) -> [&Value; 5] {
    ["id", "state", "result", "error", "finished"].map(|key| &job[key])
}

impl Facts {
    /// How many jobs were accepted.
    pub fn jobs(&self) -> usize {
        self.accepted.iter().map(|job| &job.id).collect::<BTreeSet<_>>().len()
    }

    /// How many reports have come again.
    pub fn repeated(&self) -> usize {
        self.reports.len() - self.reports.iter().map(|report| &report.message).collect::<BTreeSet<_>>().len()
    }

    /// How many jobs were begun more than once.
    pub fn rerun(&self) -> usize {
        self.shown.iter().filter(|job| job["attempts"].as_u64() > Some(1)).count()
    }

    /// How many have failed, for they were interrupted.
    pub fn interrupted(&self) -> usize {
        self.shown.iter().filter(|job| is_interrupted(job)).count()
    }

    /// All that is wrong.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut ids = BTreeMap::new();
        for job in &self.accepted {
            match ids.entry(job.stdout.as_str()) {
                Entry::Vacant(entry) => _ = entry.insert(job.id.as_str()),
                Entry::Occupied(entry) if *entry.get() == job.id => {}
                Entry::Occupied(entry) => {
                    wrong.push(format!("one request became two jobs, {} and {}", entry.get(), job.id));
                }
            }
        }
        let mut shown = BTreeMap::new();
        for job in &self.shown {
            let id = job["id"].as_str().unwrap_or_default();
            if shown.insert(id, job).is_some() {
                wrong.push(format!("{id} is shown twice"));
            }
            if !self.accepted.iter().any(|accepted| accepted.id == id) {
                wrong.push(format!("{id} is shown, and nobody knows of it"));
            }
        }
        for job in self.accepted.iter().filter(|job| ids.get(job.stdout.as_str()) == Some(&job.id.as_str())) {
            match shown.get(job.id.as_str()) {
                None => wrong.push(format!("{} was accepted, and is lost", job.id)),
                Some(shown) => wrong.extend(self.wrong_end(job, shown)),
            }
        }
        wrong.extend(self.wrong_reports(&shown));
        wrong
    }

    fn wrong_end(&self, job: &Accepted, shown: &Value) -> Option<String> {
        let id = &job.id;
        let attempts = shown["attempts"].as_u64().unwrap_or_default();
        if attempts > u64::from(self.kills) + 1 {
            return Some(format!(
                "{id} was begun {attempts} times, and the service killed {} times",
                self.kills
            ));
        }
        if job.fails && attempts > 1 {
            return Some(format!("{id} was begun {attempts} times, though it chose to fail"));
        }
        match shown["state"].as_str() {
            Some("done") if shown["result"]["stdout"] == job.stdout => None,
            Some("done") => Some(format!("{id} has another's answer: {}", shown["result"])),
            Some("failed") if job.fails && is_interrupted(shown) => None,
            _ => Some(format!("{id} has ended wrongly: {shown}")),
        }
    }

    fn wrong_reports(&self, shown: &BTreeMap<&str, &Value>) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut of_jobs: BTreeMap<&str, Vec<&Report>> = BTreeMap::new();
        for report in &self.reports {
            of_jobs.entry(report.job["id"].as_str().unwrap_or_default()).or_default().push(report);
        }
        for (id, reports) in &of_jobs {
            let Some(job) = shown.get(id) else {
                wrong.push(format!("{id:?} was reported, and there is no such job"));
                continue;
            };
            if reports.iter().any(|report| essence(&report.job) != essence(job)) {
                wrong.push(format!("{id} was reported as something else than it is"));
            }
            if reports.iter().any(|report| report.message != reports[0].message) {
                wrong.push(format!("{id} was reported under two ids"));
            }
            let lives: BTreeSet<_> = reports.iter().map(|report| report.life).collect();
            if lives.len() < reports.len() {
                wrong.push(format!("{id} was reported twice, with no kill between"));
            }
        }
        let unreported = shown.keys().filter(|id| !of_jobs.contains_key(*id));
        wrong.extend(unreported.map(|id| format!("{id} was never reported")));
        wrong
    }
}

fn is_interrupted(job: &Value) -> bool {
    job["error"].as_str().is_some_and(|error| error.contains("interrupted"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(number: u32) -> Value {
        json!({ "id": format!("job-{number}"), "state": "done", "attempts": 1, "finished": "today",
            "result": { "stdout": format!("{number}\n") } })
    }

    fn report(number: u32, life: u32) -> Report {
        Report { message: format!("message-{number}"), life, job: job(number) }
    }

    fn right() -> Facts {
        let accepted = (0..3).map(|number| Accepted {
            id: format!("job-{number}"),
            stdout: format!("{number}\n"),
            fails: number == 2,
        });
        Facts {
            accepted: accepted.collect(),
            reports: (0..3).map(|number| report(number, 0)).collect(),
            shown: (0..3).map(job).collect(),
            kills: 1,
        }
    }

    #[test]
    fn what_a_kill_may_do_is_not_wrong() {
        assert_eq!(right().wrong(), Vec::<String>::new());
        let mut facts = right();
        facts.reports.push(report(1, 1));
        facts.accepted.push(facts.accepted[1].clone());
        facts.shown[0]["attempts"] = json!(2);
        let interrupted =
            json!({ "id": "job-2", "state": "failed", "attempts": 1, "error": "E010: interrupted" });
        facts.shown[2] = interrupted.clone();
        facts.reports[2].job = interrupted;
        // What has become of the callback changes with its being told.
        facts.shown[1]["callback"] = json!({ "state": "delivered" });
        assert_eq!(facts.wrong(), Vec::<String>::new());
        assert_eq!((facts.jobs(), facts.repeated(), facts.rerun(), facts.interrupted()), (3, 1, 1, 1));
    }

    #[test]
    fn everything_that_a_kill_may_not_do_is_found() {
        type Case = (&'static str, fn(&mut Facts));
        let cases: [Case; 12] = [
            ("job-1 was accepted, and is lost", |facts| _ = facts.shown.remove(1)),
            ("job-1 was never reported", |facts| _ = facts.reports.remove(1)),
            ("twice, with no kill between", |facts| facts.reports.push(report(1, 0))),
            ("under two ids", |facts| {
                facts.reports.push(Report { message: "other".to_owned(), ..report(1, 1) });
            }),
            ("as something else than it is", |facts| facts.reports[1].job["state"] = json!("failed")),
            ("as something else than it is", |facts| facts.reports[1].job["result"]["stdout"] = json!("2\n")),
            ("is shown twice", |facts| facts.shown.push(job(1))),
            ("nobody knows of it", |facts| facts.shown.push(job(7))),
            ("there is no such job", |facts| facts.reports.push(report(7, 0))),
            ("one request became two jobs", |facts| {
                facts.accepted.push(Accepted { id: "job-7".to_owned(), ..facts.accepted[1].clone() });
            }),
            ("has another's answer", |facts| facts.shown[1]["result"]["stdout"] = json!("2\n")),
            ("was begun 2 times, though it chose to fail", |facts| facts.shown[2]["attempts"] = json!(2)),
        ];
        for (expected, spoil) in cases {
            let mut facts = right();
            spoil(&mut facts);
            let wrong = facts.wrong();
            assert!(wrong.iter().any(|wrong| wrong.contains(expected)), "{expected}: {wrong:?}");
        }
        let mut facts = right();
        facts.shown[0]["attempts"] = json!(3);
        assert!(facts.wrong()[0].contains("begun 3 times, and the service killed 1 times"));
        facts.shown[0] =
            json!({ "id": "job-0", "state": "failed", "attempts": 1, "error": "E010: interrupted" });
        assert!(facts.wrong()[0].contains("has ended wrongly"), "it chose to be run again");
    }
}
