//! Names of languages, as they stand in file names.

use serde::{Deserialize, Serialize};

/// A language's name: `[a-z0-9][a-z0-9+._-]{0,31}`. It is part of paths, and may come from a downloaded manifest, so
/// there is no way to make one that is not checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Language(String);

/// A name that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a language (lower-case letters, digits and +._-, at most 32)")]
pub struct ParseLanguageError(String);

impl Language {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Language {
    type Error = ParseLanguageError;

    fn try_from(name: String) -> Result<Self, ParseLanguageError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let valid = name.len() <= 32
            && name.starts_with(plain)
            && name.chars().all(|c| plain(c) || matches!(c, '+' | '.' | '_' | '-'));
        if valid { Ok(Self(name)) } else { Err(ParseLanguageError(name.chars().take(64).collect())) }
    }
}

impl std::str::FromStr for Language {
    type Err = ParseLanguageError;

    fn from_str(name: &str) -> Result<Self, ParseLanguageError> {
        Self::try_from(name.to_owned())
    }
}

impl From<Language> for String {
    fn from(language: Language) -> Self {
        language.0
    }
}

impl std::fmt::Display for Language {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_lead_elsewhere_are_refused() {
        for name in ["", ".", "..", "../x", "a/b", "/a", "-rf", "A", "a b", "a\0", "ä", &"a".repeat(33)] {
            assert!(name.parse::<Language>().is_err(), "{name:?}");
        }
        for name in ["python", "c++", "objective-c", "python3.12", "8th"] {
            assert_eq!(name.parse::<Language>().unwrap().as_str(), name);
        }
    }
}
