//! The links of the documentation: each leads to a file that is there, and to a heading that it has. Pages that nobody is led to
//! are reported, too. Addresses of other hosts are not asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Where readers begin.
const ROOTS: [&str; 4] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"];

/// The page that leads to all others of `docs`.
const INDEX: &str = "docs/README.md";

/// Checks all pages of the tree at `root`; says what is wrong.
pub(crate) fn faults(root: &Path) -> Result<Vec<String>> {
    let mut pages = BTreeMap::new();
    for name in ROOTS {
        pages.insert(PathBuf::from(name), read(&root.join(name))?);
    }
    add_pages(root, Path::new("docs"), &mut pages)?;
    let mut faults = Vec::new();
    let mut reached: BTreeSet<PathBuf> = BTreeSet::new();
    for (page, text) in &pages {
        for Link { line, target } in links(text) {
            match fault(root, &pages, page, &target) {
                Ok(Some(file)) if page == Path::new(INDEX) => drop(reached.insert(file)),
                Ok(_) => {}
                Err(fault) => faults.push(format!("{}:{line}: {target}: {fault}", page.display())),
            }
        }
    }
    let records = Path::new("docs/adr");
    let wanted = pages.keys().filter(|page| page.starts_with("docs") && !page.starts_with(records));
    let missing = wanted.filter(|page| *page != Path::new(INDEX) && !reached.contains(*page));
    faults.extend(missing.map(|page| format!("{INDEX}: does not lead to {}", page.display())));
    Ok(faults)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn add_pages(root: &Path, directory: &Path, pages: &mut BTreeMap<PathBuf, String>) -> Result<()> {
    let listed = root.join(directory);
    for entry in fs::read_dir(&listed).with_context(|| format!("cannot list {}", listed.display()))? {
        let path = directory.join(entry?.file_name());
        if root.join(&path).is_dir() {
            add_pages(root, &path, pages)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.insert(path.clone(), read(&root.join(&path))?);
        }
    }
    Ok(())
}

/// What a link leads to, in this tree; nothing where it leads out of it. An error says why it leads nowhere.
fn fault(
    root: &Path,
    pages: &BTreeMap<PathBuf, String>,
    page: &Path,
    target: &str,
) -> Result<Option<PathBuf>, String> {
    if ["http://", "https://", "mailto:"].iter().any(|scheme| target.starts_with(scheme)) {
        return Ok(None);
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let file = match path {
        "" => page.to_owned(),
        path => normal(&page.parent().unwrap_or(Path::new("")).join(path)).ok_or("leads out of the tree")?,
    };
    if !root.join(&file).exists() {
        return Err("is not there".to_owned());
    }
    if let Some(anchor) = anchor {
        let text = pages.get(&file).ok_or("has no headings")?;
        if !anchors(text).contains(anchor) {
            return Err("there is no such heading".to_owned());
        }
    }
    Ok(Some(file))
}

/// Without `.` and `..`; nothing where it leads above the tree.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => normal.pop().then_some(())?,
            Component::Normal(name) => normal.push(name),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(normal)
}

struct Link {
    line: usize,
    target: String,
}

/// The lines of a page that are no code, each with its number.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fence = None;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let mark = line.trim_start();
        match fence {
            None if mark.starts_with("```") => fence = Some(mark.len() - mark.trim_start_matches('`').len()),
            None => return Some((index + 1, line)),
            Some(length) if mark == "`".repeat(length) => fence = None,
            Some(_) => {}
        }
        None
    })
}

/// A line without what stands in backquotes, whose place is kept.
fn without_code(line: &str) -> String {
    let parts = line.split('`').enumerate();
    parts
        .map(|(index, part)| if index % 2 == 0 { part.to_owned() } else { "x".repeat(part.chars().count()) })
        .collect()
}

fn links(text: &str) -> Vec<Link> {
    let mut found = Vec::new();
    for (line, content) in prose(text) {
        let content = without_code(content);
        for part in content.split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')') {
                found.push(Link { line, target: target.to_owned() });
            }
        }
        // A definition: `[name]: target`.
        let definition = content.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
        found.extend(definition.map(|(_, target)| Link { line, target: target.trim().to_owned() }));
    }
    found
}

/// Where the headings of a page are found, as GitHub names them: a name that is taken gets a number.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for (_, line) in prose(text) {
        let heading = line.trim_start_matches('#');
        if heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let name = anchor(heading.trim());
        let numbered = (1..).map(|number| format!("{name}-{number}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|name| !anchors.contains(name));
        anchors.extend(free);
    }
    anchors
}

fn anchor(heading: &str) -> String {
    // Of a link, its text.
    let mut text = String::new();
    let mut rest = heading;
    while let Some((before, link)) = rest.split_once('[') {
        let Some((shown, after)) = link.split_once("](") else { break };
        text.push_str(before);
        text.push_str(shown);
        rest = after.split_once(')').map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    let kept =
        text.chars().filter(|character| character.is_alphanumeric() || matches!(character, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_are_found_where_github_puts_them() {
        let page = "# A `b` (c)\n## Same\n```sh\n# no heading\n```\n## Same\n## [Linked](x.md), too\n#hash\n";
        let expected = ["a-b-c", "linked-too", "same", "same-1"];
        assert_eq!(anchors(page).iter().map(String::as_str).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn links_in_code_are_none() {
        let page = "[a](b.md#c) `[x](y)` and [`code`](d.md)\n```\n[e](f)\n```\n[g]: h.md\n";
        let found: Vec<_> = links(page).into_iter().map(|link| (link.line, link.target)).collect();
        let expected = [(1, "b.md#c"), (1, "d.md"), (5, "h.md")];
        assert_eq!(found, expected.map(|(line, target)| (line, target.to_owned())));
    }

    #[test]
    fn a_link_that_leads_nowhere_and_a_page_that_nobody_is_led_to_are_faults() {
        let root = std::env::temp_dir().join(format!("xtask-links-{}", std::process::id()));
        fs::create_dir_all(root.join("docs")).unwrap();
        for name in ROOTS {
            fs::write(root.join(name), "# Top\n").unwrap();
        }
        fs::write(root.join(INDEX), "[a](a.md) [b](a.md#b) [c](c.md) [d](../README.md#top) [e](../../x)\n")
            .unwrap();
        fs::write(root.join("docs/a.md"), "# A\n").unwrap();
        fs::write(root.join("docs/alone.md"), "[x](https://example.com/)\n").unwrap();
        let found = faults(&root);
        fs::remove_dir_all(&root).unwrap();
        let expected = [
            "docs/README.md:1: a.md#b: there is no such heading",
            "docs/README.md:1: c.md: is not there",
            "docs/README.md:1: ../../x: leads out of the tree",
            "docs/README.md: does not lead to docs/alone.md",
        ];
        assert_eq!(found.unwrap(), expected);
    }
}
