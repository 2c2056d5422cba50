//! Findings, and how they are printed.

use serde::Serialize;

/// How bad it is. The order is that of badness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// As it should be.
    Ok,
    /// Something is slower, or missing that not everybody needs.
    Warning,
    /// Something does not work.
    Problem,
}

impl Status {
    const ALL: [Self; 3] = [Self::Ok, Self::Warning, Self::Problem];

    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }

    /// How a terminal is told to show it.
    fn colour(self) -> &'static str {
        match self {
            Self::Ok => "\x1b[32m",
            Self::Warning => "\x1b[33m",
            Self::Problem => "\x1b[1;31m",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What was looked at.
    pub(super) name: String,
    /// How bad it is.
    pub(super) status: Status,
    /// What was found.
    pub(super) detail: String,
    /// What mends it: a command where there is one, else a sentence.
    pub(super) fix: Option<String>,
}

impl Finding {
    /// All is well.
    pub(super) fn ok(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { name: name.into(), status: Status::Ok, detail: detail.into(), fix: None }
    }

    /// It could be better.
    pub(super) fn warning(
        name: impl Into<String>,
        detail: impl Into<String>,
        fix: impl Into<Option<String>>,
    ) -> Self {
        Self { name: name.into(), status: Status::Warning, detail: detail.into(), fix: fix.into() }
    }

    /// It could not be found out, and so may be anything.
    pub(super) fn unknown(
        name: impl Into<String>,
        why: impl std::fmt::Display,
        fix: impl Into<Option<String>>,
    ) -> Self {
        Self::warning(name, format!("unknown: {why}"), fix)
    }

    /// It does not work.
    pub(super) fn problem(
        name: impl Into<String>,
        detail: impl Into<String>,
        fix: impl Into<Option<String>>,
    ) -> Self {
        Self { name: name.into(), status: Status::Problem, detail: detail.into(), fix: fix.into() }
    }
}

/// All that was found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The worst.
    pub(super) status: Status,
    /// Each, in the order in which they are best mended.
    pub(super) findings: Vec<Finding>,
}

impl Report {
    /// The report of these findings.
    pub(super) fn new(findings: Vec<Finding>) -> Self {
        let status = findings.iter().map(|finding| finding.status).max().unwrap_or(Status::Ok);
        Self { status, findings }
    }

    /// The lines that people read.
    pub(super) fn lines(&self, colours: bool) -> Vec<String> {
        const RESET: &str = "\x1b[0m";
        const WIDTH: usize = 7;
        let mut lines = Vec::new();
        for Finding { name, status, detail, fix } in &self.findings {
            let word = format!("{:<WIDTH$}", status.word());
            let word = if colours { format!("{}{word}{RESET}", status.colour()) } else { word };
            lines.push(format!("{word}  {}: {}", printable(name), printable(detail)));
            lines.extend(fix.iter().map(|fix| format!("{:WIDTH$}  fix: {}", "", printable(fix))));
        }
        lines.push(self.count());
        lines
    }

    fn count(&self) -> String {
        let of = |status| self.findings.iter().filter(|finding| finding.status == status).count();
        let [ok, warnings, problems] = Status::ALL.map(of);
        let plural = |count| if count == 1 { "" } else { "s" };
        format!("{ok} ok, {warnings} warning{}, {problems} problem{}", plural(warnings), plural(problems))
    }
}

/// An error with its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += ": ";
        text += &cause.to_string();
        source = cause.source();
    }
    text
}

/// Names of files are part of findings: no control characters reach a terminal, and a finding stays on its line.
fn printable(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report::new(vec![
            Finding::ok("kvm", "it is there"),
            Finding::warning("image", "rootfs-\x1b[2J\n.ext4 is odd", "rm it".to_owned()),
            Finding::problem("qemu", "it is not", None),
        ])
    }

    #[test]
    fn each_finding_has_a_line_its_fix_another_and_the_last_counts() {
        assert_eq!(
            report().lines(false),
            [
                "ok       kvm: it is there",
                "warning  image: rootfs- [2J .ext4 is odd",
                "         fix: rm it",
                "problem  qemu: it is not",
                "1 ok, 1 warning, 1 problem",
            ]
        );
        assert_eq!(report().lines(true)[0], "\x1b[32mok     \x1b[0m  kvm: it is there");
    }

    #[test]
    fn the_report_is_as_bad_as_its_worst_finding() {
        assert_eq!(report().status, Status::Problem);
        assert_eq!(Report::new(Vec::new()).status, Status::Ok);
        assert_eq!(Report::new(Vec::new()).lines(false), ["0 ok, 0 warnings, 0 problems"]);
    }

    #[test]
    fn json_has_the_words_in_lower_case_and_a_fix_that_may_be_null() {
        let json = serde_json::to_value(report()).expect("JSON");
        assert_eq!(json["status"], "problem");
        let first = serde_json::json!({"name": "kvm", "status": "ok", "detail": "it is there", "fix": null});
        assert_eq!(json["findings"][0], first);
    }
}
