//! What is wrong with a configuration, and where.

use std::{fmt, path::PathBuf};

use serde::Serialize;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody has said anything.
    Default,
    /// A line of the file; none where the whole file is meant.
    File(PathBuf, Option<usize>),
    /// A variable of this name.
    Environment(String),
    /// A flag, as it is typed.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, Some(line)) => write!(f, "{}:{line}", path.display()),
            Self::File(path, None) => path.display().fmt(f),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(super) origin: Origin,
    /// The key or section that it is about.
    pub(super) key: Option<String>,
    pub(super) problem: String,
    /// What the user may have meant, or can do.
    pub(super) hint: Option<String>,
}

impl Fault {
    /// A fault without a hint.
    pub(super) fn new(origin: Origin, key: impl Into<Option<String>>, problem: impl Into<String>) -> Self {
        Self { origin, key: key.into(), problem: problem.into(), hint: None }
    }

    /// The same with one.
    pub(super) fn hint(self, hint: impl Into<Option<String>>) -> Self {
        Self { hint: hint.into(), ..self }
    }

    /// For programs.
    pub(crate) fn row(&self) -> FaultRow {
        let line = match self.origin {
            Origin::File(_, line) => line,
            _ => None,
        };
        FaultRow {
            origin: self.origin.to_string(),
            line,
            key: self.key.clone(),
            problem: self.problem.clone(),
            hint: self.hint.clone(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.problem)?;
        self.hint.iter().try_for_each(|hint| write!(f, " ({hint})"))
    }
}

/// A fault as JSON has it.
#[derive(Serialize)]
pub(crate) struct FaultRow {
    origin: String,
    pub(crate) line: Option<usize>,
    key: Option<String>,
    problem: String,
    hint: Option<String>,
}

/// The candidate that somebody who wrote `word` may have meant.
pub(crate) fn nearest<T: AsRef<str>>(word: &str, candidates: impl IntoIterator<Item = T>) -> Option<T> {
    // A third of the letters wrong: beyond that another word was meant.
    let letters = word.chars().count();
    let limit = (letters / 3).max(1);
    candidates
        .into_iter()
        // Words whose lengths differ by more than that need not be compared: one may be a megabyte long.
        .filter(|candidate| candidate.as_ref().chars().count().abs_diff(letters) <= limit)
        .map(|candidate| (distance(word, candidate.as_ref()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters are to be added, taken away, replaced or swapped with their neighbour.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows = vec![(0..=right.len()).collect::<Vec<usize>>()];
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let mut least = (rows[i][j] + usize::from(a != b)).min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows.last().and_then(|row| row.last()).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_that_with_the_fewest_wrong_letters() {
        let names = ["port", "host", "header_timeout"];
        assert_eq!(nearest("prot", names), Some("port"));
        assert_eq!(nearest("headers_timeout", names), Some("header_timeout"));
        assert_eq!(nearest("hst", names), Some("host"));
        assert_eq!(nearest("", names), None);
        assert_eq!(nearest("tokens", names), None);
        assert_eq!(nearest(&"port".repeat(1 << 20), names), None, "and that takes neither time nor memory");
    }

    #[test]
    fn a_swap_is_one_mistake() {
        for (left, right, expected) in
            [("prot", "port", 1), ("", "abc", 3), ("abc", "abc", 0), ("ab", "bc", 2)]
        {
            assert_eq!(
                (distance(left, right), distance(right, left)),
                (expected, expected),
                "{left} {right}"
            );
        }
    }
}
