//! Text that comes from the code, as Markdown.

/// As prose: what a reader of Markdown would take for markup is none. Code stands in backquotes already.
pub(super) fn prose(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let escaped = parts.map(|(index, part)| match index % 2 {
        0 => part.replace('<', "&lt;").replace('*', r"\*"),
        _ => part.to_owned(),
    });
    escaped.collect::<Vec<_>>().join("`")
}

/// As prose in a cell of a table: in one line.
pub(super) fn cell(text: &str) -> String {
    prose(&text.split_whitespace().collect::<Vec<_>>().join(" ")).replace('|', r"\|")
}

/// Adds to a page.
pub(super) fn push(page: &mut String, more: &str) {
    page.push_str(more);
}

/// A table, with an empty line after it; nothing where there are no rows.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let line = |cells: &[&str]| format!("| {} |\n", cells.join(" | "));
    let rows = rows.iter().map(|row| line(&row.iter().map(String::as_str).collect::<Vec<_>>()));
    format!("{}|{}\n{}\n", line(head), "---|".repeat(head.len()), rows.collect::<String>())
}

/// Where a heading is found within a page, as GitHub names it.
pub(super) fn anchor(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|character| character.is_alphanumeric() || matches!(character, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_markup_is_none_but_for_code() {
        assert_eq!(prose("images/<lang> and *.png, `a<b*`"), r"images/&lt;lang> and \*.png, `a<b*`");
        assert_eq!(cell("a\n  | b"), r"a \| b");
    }

    #[test]
    fn headings_are_found_where_github_puts_them() {
        assert_eq!(anchor("`rootfs create`"), "rootfs-create");
        assert_eq!(anchor("GET /api/v1/operations/{id}"), "get-apiv1operationsid");
    }
}
