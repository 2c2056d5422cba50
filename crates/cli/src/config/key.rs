//! One key: what it may hold, what it holds where nobody says anything, and how texts and TOML become its value.

use std::{
    ffi::OsStr,
    fmt,
    path::{Path, PathBuf},
};

use clap::builder::PossibleValue;
use serde::{Serialize, Serializer};
use toml::de::DeValue;

/// The word for what the program decides.
const AUTO: &str = "auto";

/// The longest wrong value that a message repeats, in characters.
const MAX_SHOWN: usize = 60;

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// The program decides.
    Auto,
    /// On or off.
    Switch(bool),
    /// A whole number.
    Number(u64),
    /// A text.
    Text(String),
    /// A file or a directory.
    Path(PathBuf),
    /// Texts.
    List(Vec<String>),
}

/// As TOML has it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str(&quoted(AUTO)),
            Self::Switch(on) => on.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::Path(path) => f.write_str(&quoted(&path.to_string_lossy())),
            Self::List(texts) => {
                let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
                write!(f, "[{}]", texts.join(", "))
            }
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str(AUTO),
            Self::Switch(on) => serializer.serialize_bool(*on),
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Path(path) => serializer.serialize_str(&path.to_string_lossy()),
            Self::List(texts) => texts.serialize(serializer),
        }
    }
}

/// A text as TOML's basic string.
fn quoted(text: &str) -> String {
    // All escapes of JSON are TOML's, too. JSON leaves DEL as it is, which TOML forbids.
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// What is wrong with a text, where something is.
pub(super) type Check = fn(&str) -> Result<(), String>;

/// What a key may hold, beside `"auto"`.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// `true` or `false`.
    Switch,
    /// A whole number of these, from the first to the last.
    Number { from: u64, to: u64, of: &'static str },
    /// One of these words.
    Choice(fn() -> Vec<PossibleValue>),
    /// A text that passes the check.
    Text { what: &'static str, check: Check },
    /// A file or a directory; in the file an absolute path.
    Path,
    /// Texts that pass the check.
    List { what: &'static str, check: Check },
}

/// What a key holds where nobody says anything.
#[derive(Clone, Copy)]
pub(super) enum Fallback {
    /// What the program decides, which is this.
    Auto(&'static str),
    Flag(bool),
    Number(u64),
    /// A text; the empty one is allowed then, whatever the check says.
    Text(&'static str),
    /// A list of nothing.
    Nothing,
}

/// A key.
pub(crate) struct Key {
    /// Its section and its name: `api.port`.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) fallback: Fallback,
    /// What it is for: sentences.
    pub(super) documentation: &'static str,
    /// The variable that it is read from, where its name does not say that.
    variable: Option<&'static str>,
    /// Variables of other programs that are read where its own is not set, and are judged only where they are used.
    pub(super) foreign: &'static [&'static str],
    /// A flag that says the same.
    pub(super) flag: Option<&'static str>,
    /// Whether the service takes a new value over at SIGHUP.
    pub(super) reloads: bool,
}

/// A key that needs a restart.
pub(super) const fn key(
    name: &'static str,
    kind: Kind,
    fallback: Fallback,
    documentation: &'static str,
) -> Key {
    Key { name, kind, fallback, documentation, variable: None, foreign: &[], flag: None, reloads: false }
}

impl Key {
    /// The same, read from a variable of this name.
    pub(super) const fn variable_named(self, name: &'static str) -> Self {
        Self { variable: Some(name), ..self }
    }

    /// The same, and from variables of other programs.
    pub(super) const fn or(self, foreign: &'static [&'static str]) -> Self {
        Self { foreign, ..self }
    }

    /// The same, which this flag says, too.
    pub(super) const fn flag(self, flag: &'static str) -> Self {
        Self { flag: Some(flag), ..self }
    }

    /// The same, whose new value counts from SIGHUP on.
    pub(super) const fn reloads(self) -> Self {
        Self { reloads: true, ..self }
    }

    /// The variable that it is read from.
    pub(super) fn variable(&self) -> String {
        let by_rule = || format!("LLM_FIRECRACKER_{}", self.name.to_uppercase().replace('.', "_"));
        self.variable.map_or_else(by_rule, ToOwned::to_owned)
    }

    /// All variables that it is read from, in words, each between these quotes.
    pub(super) fn variables(&self, quote: &str) -> String {
        let names = std::iter::once(self.variable()).chain(self.foreign.iter().map(ToString::to_string));
        let quoted: Vec<String> = names.map(|name| format!("{quote}{name}{quote}")).collect();
        quoted.join(", else ")
    }

    /// Its name within its section.
    pub(super) fn short_name(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, name)| name)
    }

    /// What it holds where nobody says anything.
    pub(super) fn default(&self) -> Value {
        match self.fallback {
            Fallback::Auto(_) => Value::Auto,
            Fallback::Flag(on) => Value::Switch(on),
            Fallback::Number(number) => Value::Number(number),
            Fallback::Text(text) => Value::Text(text.to_owned()),
            Fallback::Nothing => Value::List(Vec::new()),
        }
    }

    /// What it may hold, in words.
    pub(super) fn allowed(&self) -> String {
        let words = match self.kind {
            Kind::Switch => "true or false".to_owned(),
            Kind::Number { from, to, of } => {
                let unit = if of.is_empty() { String::new() } else { format!(" of {of}") };
                format!("a whole number{unit} from {from} to {to}")
            }
            Kind::Choice(choices) => {
                let mut names: Vec<String> = choices().iter().map(|value| quoted(value.get_name())).collect();
                if self.may_be_auto() {
                    names.push(quoted(AUTO));
                }
                let last = names.pop().unwrap_or_default();
                return format!("{} or {last}", names.join(", "));
            }
            Kind::Text { what, .. } => what.to_owned(),
            Kind::Path => "a path".to_owned(),
            Kind::List { what, .. } => format!("a list of {what}"),
        };
        match self.fallback {
            Fallback::Auto(_) => format!("{words}, or \"auto\""),
            Fallback::Text("") => format!("{words}, or \"\""),
            _ => words,
        }
    }

    fn may_be_auto(&self) -> bool {
        matches!(self.fallback, Fallback::Auto(_))
    }

    /// The value that a variable or a flag has.
    pub(super) fn of_words(&self, words: &OsStr) -> Result<Value, String> {
        if matches!(self.kind, Kind::Path) && words != AUTO && !words.is_empty() {
            return Ok(Value::Path(words.into()));
        }
        let text = words.to_str().ok_or("it is not UTF-8")?;
        match self.kind {
            _ if text == AUTO && self.may_be_auto() => Ok(Value::Auto),
            Kind::Switch => text.parse().map(Value::Switch).map_err(|_| self.refusal(&shown(text))),
            Kind::Number { .. } => text
                .parse()
                .ok()
                .and_then(|number| self.in_range(number))
                .ok_or_else(|| self.refusal(&shown(text))),
            Kind::List { .. } => {
                self.list(text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned))
            }
            Kind::Choice(_) | Kind::Text { .. } | Kind::Path => self.text(text),
        }
    }

    /// The value that stands behind `--set SECTION.KEY=`: TOML, or a word without quotes.
    pub(super) fn of_flag(&self, text: &str) -> Result<Value, String> {
        let takes_text = matches!(self.kind, Kind::Text { .. } | Kind::Path | Kind::Choice(_));
        match DeValue::parse(text) {
            Ok(value) if value.get_ref().is_str() || !takes_text => match (value.get_ref(), self.kind) {
                // What somebody names on the command line is seen from where they are.
                (DeValue::String(path), Kind::Path) => self.of_words(OsStr::new(path.as_ref())),
                (value, _) => self.of_toml(value),
            },
            _ => self.of_words(OsStr::new(text)),
        }
    }

    /// The value that the file has.
    pub(super) fn of_toml(&self, value: &DeValue<'_>) -> Result<Value, String> {
        match (value, self.kind) {
            (DeValue::String(text), _) if text == AUTO && self.may_be_auto() => Ok(Value::Auto),
            (DeValue::Boolean(on), Kind::Switch) => Ok(Value::Switch(*on)),
            (DeValue::Integer(number), Kind::Number { .. }) => {
                u64::from_str_radix(number.as_str(), number.radix())
                    .ok()
                    .and_then(|number| self.in_range(number))
                    .ok_or_else(|| self.refusal(&shown(&number.to_string())))
            }
            (DeValue::String(path), Kind::Path) if !Path::new(path.as_ref()).is_absolute() => {
                Err(format!("{} is no absolute path, as in \"/srv/data\"", shown(path)))
            }
            (DeValue::String(text), Kind::Choice(_) | Kind::Text { .. } | Kind::Path) => self.text(text),
            (DeValue::String(text), Kind::Number { .. } | Kind::Switch) => {
                Err(self.refusal(&shown(&quoted(text))))
            }
            (DeValue::Array(parts), Kind::List { .. }) => {
                let texts = parts.iter().map(|part| part.get_ref().as_str().map(str::to_owned));
                let texts: Option<Vec<String>> = texts.collect();
                self.list(
                    texts.ok_or_else(|| self.refusal("a list with something else than texts"))?.into_iter(),
                )
            }
            // Its text may be a secret that stands in the wrong place: it is not repeated.
            _ => Err(self.refusal(&format!("{} {}", article(value.type_str()), value.type_str()))),
        }
    }

    fn refusal(&self, value: &str) -> String {
        format!("{value} is not allowed: give {}", self.allowed())
    }

    fn in_range(&self, number: u64) -> Option<Value> {
        let Kind::Number { from, to, .. } = self.kind else { return None };
        (from..=to).contains(&number).then_some(Value::Number(number))
    }

    fn text(&self, text: &str) -> Result<Value, String> {
        if text.is_empty() && matches!(self.fallback, Fallback::Text("")) {
            return Ok(Value::Text(String::new()));
        }
        match self.kind {
            Kind::Text { check, .. } => check(text)?,
            Kind::Path if text.is_empty() => return Err(self.refusal("\"\"")),
            Kind::Path => return Ok(Value::Path(text.into())),
            Kind::Choice(choices) if !choices().iter().any(|value| value.get_name() == text) => {
                return Err(self.refusal(&shown(text)));
            }
            _ => {}
        }
        Ok(Value::Text(text.to_owned()))
    }

    fn list(&self, texts: impl Iterator<Item = String>) -> Result<Value, String> {
        let Kind::List { check, .. } = self.kind else { return Err(self.refusal("a list")) };
        let texts: Vec<String> = texts.collect();
        texts.iter().try_for_each(|text| check(text))?;
        Ok(Value::List(texts))
    }
}

/// A text that begins a sentence.
pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

fn shown(text: &str) -> String {
    let plain = |c: char| if c.is_control() { c.escape_debug().to_string() } else { c.to_string() };
    let mut shown: String = text.chars().take(MAX_SHOWN).map(plain).collect();
    if text.chars().count() > MAX_SHOWN {
        shown.push('…');
    }
    if shown.is_empty() { "an empty text".to_owned() } else { shown }
}
