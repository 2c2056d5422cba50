//! What a token allows.

use std::{collections::BTreeSet, fmt, str::FromStr, time::Duration};

use serde::{Serialize, Serializer};
use store::Language;

/// The longest name of a token.
const MAX_NAME_CHARACTERS: usize = 64;

/// What a token allows. A limit that is absent is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Grant {
    /// Whom or what it is for. Of the tokens that are not revoked no two have the same.
    pub name: TokenName,
    /// From when on it is invalid, in seconds since 1970.
    pub expires_unix: Option<u64>,
    /// How many requests in which time.
    pub rate: Option<Rate>,
    /// How many requests at once.
    pub concurrency: Option<u32>,
    /// How many executions a day, in UTC. A batch of n counts n.
    pub daily_executions: Option<u32>,
    /// In which languages.
    pub languages: Option<BTreeSet<Language>>,
    /// How large a microVM it may ask for, in MiB.
    pub max_memory_mib: Option<u32>,
    /// How long it may let an execution take, in seconds.
    pub max_timeout_seconds: Option<u32>,
    /// Whether it may make images and snapshots, and exchange them with object storage.
    pub admin: bool,
}

impl Grant {
    /// One without any limit, and without administration.
    pub fn unlimited(name: TokenName) -> Self {
        Self {
            name,
            expires_unix: None,
            rate: None,
            concurrency: None,
            daily_executions: None,
            languages: None,
            max_memory_mib: None,
            max_timeout_seconds: None,
            admin: false,
        }
    }

    /// Whether a program may run so.
    pub fn allows(&self, language: &Language, memory_mib: u32, timeout: Duration) -> Result<(), NotAllowed> {
        if let Some(languages) = &self.languages
            && !languages.contains(language)
        {
            return Err(NotAllowed::Language { asked: language.clone(), allowed: languages.clone() });
        }
        if let Some(most) = self.max_memory_mib
            && memory_mib > most
        {
            return Err(NotAllowed::Memory { asked_mib: memory_mib, most_mib: most });
        }
        if let Some(most) = self.max_timeout_seconds
            && timeout > Duration::from_secs(most.into())
        {
            return Err(NotAllowed::Timeout { asked: timeout, most_seconds: most });
        }
        Ok(())
    }

    /// Whether images and snapshots may be made and exchanged.
    pub fn allows_administration(&self) -> Result<(), NotAllowed> {
        if self.admin { Ok(()) } else { Err(NotAllowed::Administration) }
    }

    /// Whether there is a limit that has to be counted on disk.
    pub(super) fn is_counted(&self) -> bool {
        self.rate.is_some() || self.daily_executions.is_some()
    }

    pub(super) fn is_expired(&self, unix_seconds: u64) -> bool {
        self.expires_unix.is_some_and(|expires| expires <= unix_seconds)
    }
}

/// What a token does not allow. Each message names the limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// Another language.
    #[error("this access token does not allow {asked}, but: {}", list(.allowed))]
    Language {
        /// Which one.
        asked: Language,
        /// Those that it allows.
        allowed: BTreeSet<Language>,
    },
    /// More memory.
    #[error("this access token allows at most {most_mib} MiB of memory, not {asked_mib}")]
    Memory {
        /// How much, in MiB.
        asked_mib: u32,
        /// The most, in MiB.
        most_mib: u32,
    },
    /// More time.
    #[error("this access token allows a timeout of at most {most_seconds} s, not {} s", .asked.as_secs_f64())]
    Timeout {
        /// How much.
        asked: Duration,
        /// The most, in seconds.
        most_seconds: u32,
    },
    /// Images or snapshots.
    #[error("this access token does not allow administration")]
    Administration,
}

fn list(languages: &BTreeSet<Language>) -> String {
    languages.iter().map(Language::as_str).collect::<Vec<_>>().join(", ")
}

/// A token's name: 1 to 64 letters, digits and `.`, `_`, `-`, `@`, `+`, the first a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct TokenName(String);

/// What is no name of a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no name of a token: 1 to {MAX_NAME_CHARACTERS} letters (a to z), digits and . _ - @ +, and the first a \
     letter or a digit"
)]
pub struct ParseNameError(String);

impl TokenName {
    /// It as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TokenName {
    type Err = ParseNameError;

    fn from_str(name: &str) -> Result<Self, ParseNameError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-@+".contains(c);
        let valid = name.len() <= MAX_NAME_CHARACTERS
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(plain);
        if valid {
            Ok(Self(name.to_owned()))
        } else {
            Err(ParseNameError(name.chars().take(MAX_NAME_CHARACTERS).collect()))
        }
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How many requests in which time, as in `60/min`. All of them may come at once; then one more is let in whenever its
/// share of the time has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    requests: u32,
    period: RatePeriod,
}

/// The time that a rate is counted over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RatePeriod {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
}

impl RatePeriod {
    /// How long it is, in seconds.
    pub const fn seconds(self) -> u32 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
        }
    }
}

impl Rate {
    /// The highest number of requests. A microVM's start takes longer than a microsecond.
    pub const MAX_REQUESTS: u32 = 1_000_000;

    /// How many requests, never 0.
    pub fn requests(self) -> u32 {
        self.requests
    }

    /// In which time.
    pub fn period(self) -> RatePeriod {
        self.period
    }
}

/// What is no rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no rate: write it as in 5/s, 60/min or 1000/h, with 1 to {most} requests", most = Rate::MAX_REQUESTS)]
pub struct ParseRateError(String);

impl FromStr for Rate {
    type Err = ParseRateError;

    fn from_str(text: &str) -> Result<Self, ParseRateError> {
        let parse = || {
            let (requests, unit) = text.split_once('/')?;
            let period = match unit.trim() {
                "s" | "sec" | "second" => RatePeriod::Second,
                "m" | "min" | "minute" => RatePeriod::Minute,
                "h" | "hour" => RatePeriod::Hour,
                _ => return None,
            };
            let requests = requests.trim().parse().ok()?;
            (1..=Self::MAX_REQUESTS).contains(&requests).then_some(Self { requests, period })
        };
        parse().ok_or_else(|| ParseRateError(text.chars().take(64).collect()))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.period {
            RatePeriod::Second => "s",
            RatePeriod::Minute => "min",
            RatePeriod::Hour => "h",
        };
        write!(f, "{}/{unit}", self.requests)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> Grant {
        Grant::unlimited("team-a".parse().unwrap())
    }

    #[test]
    fn what_is_not_limited_is_allowed() {
        let python = "python".parse().unwrap();
        assert_eq!(grant().allows(&python, u32::MAX, Duration::MAX), Ok(()));
        assert_eq!(grant().allows_administration(), Err(NotAllowed::Administration));
    }

    #[test]
    fn a_refusal_names_the_limit() {
        let (python, ruby) = ("python".parse().unwrap(), "ruby".parse().unwrap());
        let limited = Grant {
            languages: Some(BTreeSet::from(["python".parse().unwrap(), "bash".parse().unwrap()])),
            max_memory_mib: Some(512),
            max_timeout_seconds: Some(10),
            ..grant()
        };
        let (second, ten) = (Duration::from_secs(1), Duration::from_secs(10));
        assert_eq!(limited.allows(&python, 512, ten), Ok(()));
        let refusal = |language, memory_mib, timeout| {
            limited.allows(language, memory_mib, timeout).unwrap_err().to_string()
        };
        assert_eq!(refusal(&ruby, 512, second), "this access token does not allow ruby, but: bash, python");
        assert_eq!(
            refusal(&python, 513, second),
            "this access token allows at most 512 MiB of memory, not 513"
        );
        assert_eq!(
            refusal(&python, 512, ten + Duration::from_millis(500)),
            "this access token allows a timeout of at most 10 s, not 10.5 s"
        );
    }

    #[test]
    fn rates_are_written_as_they_are_read() {
        for (text, canonical) in
            [("60/min", "60/min"), ("5/second", "5/s"), ("1000/h", "1000/h"), ("1/m", "1/min")]
        {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), canonical);
        }
        for text in ["", "60", "/min", "0/s", "-1/s", "1.5/s", "1000001/s", "1/day", "99999999999/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_that_a_terminal_or_a_log_would_stumble_over_are_refused() {
        for name in ["", "-rf", ".", "a b", "a\n", "a\0", "ä", "a/b", &"a".repeat(65)] {
            assert!(name.parse::<TokenName>().is_err(), "{name:?}");
        }
        for name in ["a", "team-a", "ci@example.org", "v1.2_x+y", &"a".repeat(64)] {
            assert_eq!(name.parse::<TokenName>().unwrap().as_str(), name);
        }
    }
}
