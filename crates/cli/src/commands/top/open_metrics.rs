//! Reads `OpenMetrics` text: as much of it as `/metrics` writes.

use std::{collections::BTreeMap, iter::Peekable, str::Chars};

use anyhow::anyhow;

/// One value of one series.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    /// With its suffix, as in `x_total` and `x_bucket`.
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

/// Reads the samples. Comments, timestamps and exemplars are passed over.
pub(super) fn parse(text: &str) -> anyhow::Result<Vec<Sample>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(index, line)| {
            sample(line).map_err(|reason| anyhow!("line {} is no sample: {reason}", index + 1))
        })
        .collect()
}

fn sample(line: &str) -> Result<Sample, &'static str> {
    let end = line.find(['{', ' ']).ok_or("there is no value")?;
    let (name, rest) = line.split_at(end);
    if name.is_empty()
        || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
    {
        return Err("there is no name");
    }
    let mut rest = rest.chars().peekable();
    let labels = if rest.next_if_eq(&'{').is_some() { labels(&mut rest)? } else { BTreeMap::new() };
    rest.next_if_eq(&' ').ok_or("there is no value")?;
    let value: String = rest.take_while(|c| *c != ' ').collect();
    let value = value.parse().map_err(|_| "the value is no number")?;
    Ok(Sample { name: name.to_owned(), labels, value })
}

/// What follows `{`, to the `}`.
fn labels(rest: &mut Peekable<Chars<'_>>) -> Result<BTreeMap<String, String>, &'static str> {
    const UNFINISHED: &str = "the labels do not end";
    let mut labels = BTreeMap::new();
    loop {
        if rest.next_if_eq(&'}').is_some() {
            return Ok(labels);
        }
        let mut name = String::new();
        loop {
            match rest.next().ok_or(UNFINISHED)? {
                '=' => break,
                c => name.push(c),
            }
        }
        rest.next_if_eq(&'"').ok_or("a label has no value")?;
        labels.insert(name, quoted(rest).ok_or(UNFINISHED)?);
        rest.next_if_eq(&',');
    }
}

/// What follows `"`, to the `"`. What a terminal would act on is replaced.
fn quoted(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    let mut text = String::new();
    loop {
        let c = match rest.next()? {
            '"' => return Some(text),
            '\\' => match rest.next()? {
                'n' => '\n',
                c => c,
            },
            c => c,
        };
        text.push(if c.is_control() { '\u{fffd}' } else { c });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Sample {
        let mut samples = parse(line).unwrap();
        assert_eq!(samples.len(), 1);
        samples.remove(0)
    }

    #[test]
    fn samples_are_read_with_labels_and_without() {
        let sample =
            one("a_total{language=\"python\",outcome=\"E007\"} 12 1700000000.5 # {trace_id=\"x y\"} 1.0 17");
        assert_eq!((sample.name.as_str(), sample.value), ("a_total", 12.0));
        let labels: Vec<_> =
            sample.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(labels, [("language", "python"), ("outcome", "E007")]);
        assert_eq!(
            one("queue_length 5"),
            Sample { name: "queue_length".into(), labels: BTreeMap::new(), value: 5.0 }
        );
        assert_eq!(one("b_bucket{le=\"+Inf\"} 3").labels["le"], "+Inf");
        assert!(one("c NaN").value.is_nan());
        assert!(parse("# HELP a b\n# TYPE a counter\n\n# EOF\n").unwrap().is_empty());
    }

    #[test]
    fn escapes_are_undone_and_nothing_that_a_terminal_acts_on_is_left() {
        assert_eq!(one(r#"a{b="q\"\\ }, x"} 1"#).labels["b"], r#"q"\ }, x"#);
        assert_eq!(one("a{b=\"\\n\u{1b}[2J\"} 1").labels["b"], "\u{fffd}\u{fffd}[2J");
    }

    #[test]
    fn what_is_no_sample_is_told_with_its_line() {
        for (line, reason) in [
            ("a", "there is no value"),
            ("a b", "the value is no number"),
            ("<html> 1", "there is no name"),
            ("a{b=1} 1", "a label has no value"),
            ("a{b=\"1} 1", "the labels do not end"),
            ("a{b", "the labels do not end"),
        ] {
            let error = parse(&format!("x 1\n{line}\n")).unwrap_err().to_string();
            assert_eq!(error, format!("line 2 is no sample: {reason}"));
        }
    }
}
