//! The words of Rust's sources: what stands in code, not in comments or text.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Result, anyhow};
use proc_macro2::{TokenStream, TokenTree};

/// All names and keywords of this code, those in attributes and in what macros are given too.
pub(crate) fn words(code: &str) -> Result<BTreeSet<String>> {
    // A shebang is no token.
    let code =
        if code.starts_with("#!/") { code.split_once('\n').map_or("", |(_, rest)| rest) } else { code };
    let stream: TokenStream =
        code.parse().map_err(|error: proc_macro2::LexError| anyhow!("is no Rust: {error}"))?;
    let mut words = BTreeSet::new();
    let mut waiting = vec![stream];
    while let Some(stream) = waiting.pop() {
        for token in stream {
            match token {
                TokenTree::Ident(word) => {
                    // `r#type` is the name `type`.
                    let word = word.to_string();
                    words.insert(word.strip_prefix("r#").map(str::to_owned).unwrap_or(word));
                }
                TokenTree::Group(group) => waiting.push(group.stream()),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }
    Ok(words)
}

/// Those of a file.
pub(crate) fn words_of(file: &Path) -> Result<BTreeSet<String>> {
    let code =
        std::fs::read_to_string(file).map_err(|error| anyhow!("cannot read {}: {error}", file.display()))?;
    words(&code).map_err(|error| anyhow!("{} {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_code_alone() {
        let code = "#![attribute(inside)]\n//! documented\nuse one::{two, r#type}; // noted\n\
                    fn three() { four!(five, \"said\", 'c'); /* aside */ let _: &'static str = r#\"raw\"#; }\n";
        let found = words(code).unwrap();
        for word in ["attribute", "inside", "one", "two", "type", "three", "four", "five", "static"] {
            assert!(found.contains(word), "{word}");
        }
        for word in ["documented", "noted", "said", "aside", "raw", "c"] {
            assert!(!found.contains(word), "{word}");
        }
        assert!(words("fn open() {").is_err());
    }
}
