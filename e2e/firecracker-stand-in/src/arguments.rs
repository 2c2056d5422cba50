//! The command line: flags with a value each.

use anyhow::{Context as _, Result, bail};

/// Flags and their values, in the order in which they were given.
pub(crate) struct Arguments(Vec<(String, String)>);

impl Arguments {
    /// Reads flags, of which there are these and no others.
    pub(crate) fn parse(arguments: &[String], known: &[&str]) -> Result<Self> {
        let mut flags = Vec::new();
        let mut rest = arguments.iter();
        while let Some(flag) = rest.next() {
            if !known.contains(&flag.as_str()) {
                bail!("Found argument '{flag}' which wasn't expected, or isn't valid in this context.");
            }
            let value = rest.next().with_context(|| format!("{flag} has no value"))?;
            flags.push((flag.clone(), value.clone()));
        }
        Ok(Self(flags))
    }

    /// The values of a flag.
    pub(crate) fn all<'a>(&'a self, flag: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| name == flag).map(|(_, value)| value.as_str())
    }

    /// The value of a flag that must be given, once.
    pub(crate) fn one<'a>(&'a self, flag: &'a str) -> Result<&'a str> {
        let mut values = self.all(flag);
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(value),
            _ => bail!("{flag} is to be given once"),
        }
    }
}
