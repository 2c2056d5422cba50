//! What stands in a page between fences: commands and requests, to be tried, and what they are said to be answered.

use serde_json::Value;

/// Between fences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The language, such as `sh`.
    pub language: String,
    /// What follows it, such as `title="Request"` with the title alone.
    pub title: Option<String>,
    /// The comment in the line before the fence, such as `not tried: it installs packages`, which pages do not show.
    pub remark: Option<String>,
    /// What stands in it.
    pub text: String,
    /// The line of the page that opens it, from 1.
    pub line: usize,
}

/// All blocks of a page, in order.
pub fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut remark = None;
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if let Some(info) = line.strip_prefix("```") {
            let (language, rest) = info.split_once(' ').unwrap_or((info, ""));
            let title = rest.strip_prefix("title=\"").and_then(|rest| rest.strip_suffix('"'));
            let inside = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
            let text: String = inside.flat_map(|line| [line, "\n"]).collect();
            let (language, title) = (language.to_owned(), title.map(str::to_owned));
            blocks.push(Block { language, title, remark: remark.take(), text, line: number + 1 });
        } else if !line.is_empty() {
            let comment = line.strip_prefix("<!-- ").and_then(|line| line.strip_suffix(" -->"));
            remark = comment.map(str::to_owned);
        }
    }
    blocks
}

/// Whether a text is as a page shows it. `…` stands for whatever may be there: within a line for a part of it, alone in a line for any
/// number of lines.
pub fn is_as_shown(shown: &str, text: &str) -> bool {
    let (shown, text): (Vec<_>, Vec<_>) =
        (shown.trim_end().lines().collect(), text.trim_end().lines().collect());
    lines_are_as_shown(&shown, &text)
}

fn lines_are_as_shown(shown: &[&str], text: &[&str]) -> bool {
    match shown.split_first() {
        None => text.is_empty(),
        Some((&"…", rest)) => (0..=text.len()).any(|left_out| lines_are_as_shown(rest, &text[left_out..])),
        Some((first, rest)) => text.split_first().is_some_and(|(line, others)| {
            line_is_as_shown(&first.split('…').collect::<Vec<_>>(), line) && lines_are_as_shown(rest, others)
        }),
    }
}

fn line_is_as_shown(parts: &[&str], line: &str) -> bool {
    match parts {
        [] => line.is_empty(),
        [only] => line == *only,
        [first, rest @ ..] => line.strip_prefix(first).is_some_and(|line| {
            let mut ends = (0..=line.len()).filter(|end| line.is_char_boundary(*end));
            ends.any(|end| line_is_as_shown(rest, &line[end..]))
        }),
    }
}

/// In what an answer differs from the one that a page shows: strings as [`is_as_shown`], times not at all, everything else, and
/// what fields there are, to the letter.
pub fn differences(shown: &Value, answer: &Value) -> Vec<String> {
    let mut found = Vec::new();
    add_differences("", shown, answer, &mut found);
    found
}

fn add_differences(place: &str, shown: &Value, answer: &Value, found: &mut Vec<String>) {
    // What no two answers have in common.
    const TIMES: [&str; 4] = ["executionTime", "exec_time", "load_time", "queue_micros"];
    match (shown, answer) {
        (Value::Object(fields), Value::Object(others)) => {
            for (name, value) in fields {
                let place = format!("{place}.{name}");
                match others.get(name) {
                    None => found.push(format!("{place} is missing")),
                    Some(other) if TIMES.contains(&name.as_str()) => {
                        if !other.is_number() {
                            found.push(format!("{place} is {other} and no time"));
                        }
                    }
                    Some(other) => add_differences(&place, value, other, found),
                }
            }
            let more = others.iter().filter(|(name, _)| !fields.contains_key(*name));
            found.extend(more.map(|(name, value)| format!("{place}.{name} is {value} and not shown")));
        }
        (Value::Array(values), Value::Array(others)) if values.len() == others.len() => {
            for (index, (value, other)) in values.iter().zip(others).enumerate() {
                add_differences(&format!("{place}[{index}]"), value, other, found);
            }
        }
        (Value::String(text), Value::String(other))
            if is_as_shown(text, other) && ends_alike(text, other) => {}
        _ if shown == answer => {}
        _ => found.push(format!("{place} is {answer} and not {shown}")),
    }
}

/// A newline at the end is not to be passed over.
fn ends_alike(shown: &str, text: &str) -> bool {
    let newlines = |text: &str| text.len() - text.trim_end_matches('\n').len();
    shown.ends_with('…') || newlines(shown) == newlines(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn blocks_have_their_title_and_the_remark_before_them() {
        let page =
            "# A\n\n<!-- not tried: slow -->\n```sh\na\n\nb\n```\ntext\n```json title=\"Request\"\n{}\n```\n";
        let found = blocks(page);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].text.as_str(), found[0].line), ("a\n\nb\n", 4));
        assert_eq!(found[0].remark.as_deref(), Some("not tried: slow"));
        assert_eq!((found[1].language.as_str(), found[1].title.as_deref()), ("json", Some("Request")));
        assert_eq!(found[1].remark, None);
    }

    #[test]
    fn an_ellipsis_stands_for_a_part_of_a_line_or_for_lines() {
        assert!(is_as_shown("a … c\n…\nend", "a bbb c\n1\n2\nend\n"));
        assert!(is_as_shown("…\nend", "end"));
        assert!(!is_as_shown("a … c", "a b d"));
        assert!(!is_as_shown("a\nb", "a"));
        assert!(!is_as_shown("a", "a\nb"));
    }

    #[test]
    fn an_answer_has_what_is_shown_and_nothing_else() {
        let shown = json!({ "stdout": "a\n", "executionTime": 45, "trace_id": "…", "list": [1, null] });
        let answer = json!({ "stdout": "a\n", "executionTime": 3, "trace_id": "1234", "list": [1, null] });
        assert_eq!(differences(&shown, &answer), Vec::<String>::new());
        for (field, value) in [
            ("stdout", json!("a")),
            ("executionTime", json!("3")),
            ("list", json!([1, 0])),
            ("more", json!(null)),
        ] {
            let mut other = answer.clone();
            other[field] = value;
            assert_eq!(differences(&shown, &other).len(), 1, "{field}");
        }
    }
}
