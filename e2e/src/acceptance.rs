//! The requests of the product's page on Python, with what each is to be answered.
//!
//! May differ: times, the job directory's name, the lines with which newer Pythons point into a traceback's source, and
//! the wording of a syntax error.

use serde::Deserialize;
use serde_json::{Value, json};

const PYTHON: &str = include_str!("../acceptance/python.json");

/// The page's timeout takes 30 s; it is tried with one of 2.
const TIMEOUT_MS: u64 = 2000;

/// How much later than its time limit a program may be told to have ended, on a busy machine.
const TIMEOUT_LATE_MS: u64 = 8000;

/// A request, and its answer.
#[derive(Clone, Debug, Deserialize)]
pub struct Case {
    /// What the page calls it.
    pub name: String,
    request: Value,
    response: Value,
}

impl Case {
    /// All of Python's page.
    pub fn python() -> Vec<Self> {
        serde_json::from_str(PYTHON).expect("the file is part of this program")
    }

    fn times_out(&self) -> bool {
        self.response["exception"] == "Timeout"
    }

    /// The request, to be sent.
    pub fn request(&self) -> Value {
        let mut request = self.request.clone();
        if self.times_out() {
            request["timeout"] = json!(TIMEOUT_MS / 1000);
        }
        request
    }

    /// In what an answer differs from the page's.
    pub fn differences(&self, answer: &Value) -> Vec<String> {
        match (self.response.as_array(), answer.as_array()) {
            (Some(wanted), Some(got)) if wanted.len() == got.len() => wanted
                .iter()
                .zip(got)
                .flat_map(|(wanted, got)| self.differences_of_one(wanted, got))
                .collect(),
            (None, None) => self.differences_of_one(&self.response, answer),
            _ => vec![format!("{answer} is no answer to as many inputs")],
        }
    }

    fn differences_of_one(&self, wanted: &Value, got: &Value) -> Vec<String> {
        let wanted = wanted.as_object().expect("the page's answers are objects");
        let same = |key: &str, value: &Value| match key {
            "executionTime" => got[key].as_u64().is_some_and(|time| {
                !self.times_out() || (TIMEOUT_MS..TIMEOUT_MS + TIMEOUT_LATE_MS).contains(&time)
            }),
            "stderr" => comparable(&got[key]) == comparable(value),
            _ => got.get(key) == Some(value),
        };
        wanted
            .iter()
            .filter(|(key, value)| !same(key, value))
            .map(|(key, value)| format!("{key} is {} and not {value}", got[key]))
            .collect()
    }
}

/// The lines of a stream without what may differ; nothing for null.
fn comparable(stream: &Value) -> Option<Vec<String>> {
    let is_pointer = |line: &str| line.trim_matches([' ', '~', '^']).is_empty();
    let line = |line: &str| match line.split_once("/tmp/job-") {
        Some((before, rest)) => format!("{before}{}", rest.split_once('/').map_or("", |(_, path)| path)),
        None if line.starts_with("SyntaxError: ") => "SyntaxError".to_owned(),
        None => line.to_owned(),
    };
    Some(stream.as_str()?.lines().filter(|line| !is_pointer(line)).map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str) -> Case {
        Case::python().into_iter().find(|case| case.name == name).unwrap()
    }

    #[test]
    fn the_page_has_fourteen_cases_and_each_is_its_own_answer() {
        let cases = Case::python();
        assert_eq!(cases.len(), 14);
        for case in cases.iter().filter(|case| !case.times_out()) {
            assert_eq!(case.differences(&case.response), Vec::<String>::new(), "{}", case.name);
        }
    }

    #[test]
    fn a_traceback_may_point_elsewhere_and_not_say_something_else() {
        let case = case("Runtime Error");
        let mut answer = case.response.clone();
        let said = answer["stderr"].as_str().unwrap().to_owned();
        answer["stderr"] = json!(said.replace("job-xxx", "job-17").replace("[10])\n", "[10])\n   ~~~^^^^\n"));
        assert_eq!(case.differences(&answer), Vec::<String>::new());
        answer["stderr"] = json!(said.replace("IndexError", "KeyError"));
        assert_eq!(case.differences(&answer).len(), 1);
        answer["stderr"] = Value::Null;
        assert_eq!(case.differences(&answer).len(), 1);
    }

    #[test]
    fn a_timeout_takes_its_time() {
        let case = case("Timeout Error");
        assert_eq!(case.request()["timeout"], 2);
        let mut answer = case.response.clone();
        answer["executionTime"] = json!(2100);
        assert_eq!(case.differences(&answer), Vec::<String>::new());
        answer["executionTime"] = json!(100);
        assert_eq!(case.differences(&answer).len(), 1);
    }
}
