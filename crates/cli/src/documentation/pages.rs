//! The pages of the documentation, and what stands in them as code.

use std::{fs, path::Path};

/// A page.
pub(super) struct Page {
    /// Its path in the tree.
    pub(super) name: String,
    text: String,
}

/// Something in a page.
pub(super) struct Place {
    /// Its line, from 1.
    pub(super) line: usize,
    /// What stands there.
    pub(super) text: String,
}

/// All pages that users and contributors read.
pub(super) fn all() -> Vec<Page> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut pages = Vec::new();
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        add(&root, name.to_owned(), &mut pages);
    }
    // Records of decisions stay as they were.
    let entries = fs::read_dir(root.join("docs")).expect("there is documentation").flatten();
    let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    let names = names
        .into_iter()
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "md"));
    names.for_each(|name| add(&root, format!("docs/{name}"), &mut pages));
    pages
}

fn add(root: &Path, name: String, pages: &mut Vec<Page>) {
    let text = fs::read_to_string(root.join(&name)).expect(&name);
    pages.push(Page { name, text });
}

impl Page {
    /// The lines within fences (with the language of each block), and those outside.
    fn parts(&self) -> (Vec<(String, Place)>, Vec<Place>) {
        let (mut blocks, mut prose) = (Vec::new(), Vec::new());
        let mut block: Option<(String, Place)> = None;
        for (index, line) in self.text.lines().enumerate() {
            block = match (block, line.strip_prefix("```")) {
                (None, Some(info)) => {
                    let language = info.split(' ').next().unwrap_or_default().to_owned();
                    Some((language, Place { line: index + 2, text: String::new() }))
                }
                (None, None) => {
                    prose.push(Place { line: index + 1, text: line.to_owned() });
                    None
                }
                (Some(block), Some("")) => {
                    blocks.push(block);
                    None
                }
                (Some((language, mut place)), _) => {
                    place.text.extend([line, "\n"]);
                    Some((language, place))
                }
            };
        }
        assert!(block.is_none(), "{}: a block without an end", self.name);
        (blocks, prose)
    }

    /// The blocks of these languages.
    pub(super) fn blocks(&self, languages: &[&str]) -> Vec<Place> {
        let blocks = self.parts().0.into_iter();
        blocks
            .filter(|(language, _)| languages.contains(&language.as_str()))
            .map(|(_, place)| place)
            .collect()
    }

    /// What stands in backquotes in sentences and tables, where a line that is as it is says which is which.
    pub(super) fn code(&self) -> Vec<Place> {
        let mut found = Vec::new();
        for place in self.parts().1 {
            let parts =
                place.text.split('`').enumerate().filter(|(index, part)| index % 2 == 1 && !part.is_empty());
            found.extend(parts.map(|(_, part)| Place { line: place.line, text: part.replace(r"\|", "|") }));
        }
        found
    }

    /// Our variables of the environment, wherever they stand.
    pub(super) fn variables(&self) -> Vec<Place> {
        const PREFIX: &str = "LLM_FIRECRACKER_";
        let mut found = Vec::new();
        for (index, line) in self.text.lines().enumerate() {
            for (start, _) in line.match_indices(PREFIX) {
                let is_of_name = |c: &char| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '_';
                let name: String = line[start..].chars().take_while(is_of_name).collect();
                if name.len() > PREFIX.len() {
                    found.push(Place { line: index + 1, text: name });
                }
            }
        }
        found
    }
}
