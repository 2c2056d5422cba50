//! The configuration file: where it is, and what it says, with the line of each value.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    fault::{Fault, Origin, nearest},
    key::{Key, Value},
    table::{self, SECTIONS, Section},
};

/// The variable that names the file.
pub(super) const VARIABLE: &str = "LLM_FIRECRACKER_CONFIG";

/// The file where nothing names one, for root, and below the user's own configuration.
const NAME: &str = "llm-firecracker/config.toml";

/// The longest file: more than that was meant to be another.
const MAX_BYTES: u64 = 1 << 20;

/// The environment, as it was when it was asked for.
pub(crate) struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    /// That of this process.
    pub(crate) fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// One with these variables.
    #[cfg(test)]
    pub(crate) fn of(variables: &[(&str, &str)]) -> Self {
        Self(variables.iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// A variable's value. An empty one counts as not set.
    pub(super) fn get(&self, name: &str) -> Option<&OsStr> {
        let found = self.0.iter().find(|(variable, _)| variable == name);
        found.map(|(_, value)| value.as_os_str()).filter(|value| !value.is_empty())
    }

    /// The names of all variables, as far as they are texts.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|(name, _)| name.to_str())
    }
}

/// The file to be read, if there is one.
pub(crate) enum Source {
    /// Somebody named it, perhaps by a variable: it has to be there.
    Named(PathBuf, Option<&'static str>),
    /// The one that is read where nobody names one, and need not be there.
    Usual(PathBuf),
    /// There is no place where one could be.
    Nowhere,
}

impl Source {
    /// The file that the flag names, else the variable, else the usual one of root or of this user.
    pub(crate) fn choose(flag: Option<&Path>, environment: &Environment, is_root: bool) -> Self {
        if let Some(path) = flag {
            return Self::Named(path.to_owned(), None);
        }
        if let Some(path) = environment.get(VARIABLE) {
            return Self::Named(path.into(), Some(VARIABLE));
        }
        if is_root {
            return Self::Usual(Path::new("/etc").join(NAME));
        }
        let absolute =
            |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
        absolute("XDG_CONFIG_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".config")))
            .map_or(Self::Nowhere, |directory| Self::Usual(directory.join(NAME)))
    }

    /// The file and its text; none where there is no file and need not be one.
    pub(super) fn read(&self) -> Result<Option<(&Path, String)>, Fault> {
        let (path, is_usual) = match self {
            Self::Named(path, _) => (path, false),
            Self::Usual(path) => (path, true),
            Self::Nowhere => return Ok(None),
        };
        match read(path) {
            Ok(text) => Ok(Some((path, text))),
            Err(error) if is_usual && error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                let fault =
                    Fault::new(Origin::File(path.clone(), None), None, format!("cannot be read: {error}"));
                Err(match self {
                    Self::Named(_, Some(variable)) => fault.hint(format!("{variable} names it")),
                    _ => fault,
                })
            }
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is longer than {MAX_BYTES} bytes"),
        ));
    }
    Ok(text)
}

/// Values of the file, each with its line, and all that is wrong with it.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) values: Vec<(&'static Key, Value, Origin)>,
    pub(super) faults: Vec<Fault>,
}

/// What a file says.
pub(super) fn parse(path: &Path, text: &str) -> Contents {
    let (document, errors) = DeTable::parse_recoverable(text);
    let line_ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(offset, _)| offset);
    let (line_ends, contents) = (line_ends.collect(), Contents::default());
    let mut reader = Reader { path, line_ends, broken: BTreeSet::new(), contents };
    for error in errors {
        let line = error.span().map(|span| reader.line(span.start));
        reader.broken.extend(line);
        let origin = Origin::File(path.to_owned(), line);
        reader.contents.faults.push(Fault::new(origin, None, error.message()));
    }
    for (name, value) in document.get_ref() {
        reader.section(name, value);
    }
    // By line, as who reads the file would find them.
    reader.contents.faults.sort_by_key(|fault| match fault.origin {
        Origin::File(_, line) => line,
        _ => None,
    });
    reader.contents
}

struct Reader<'a> {
    path: &'a Path,
    /// Where lines end, and which of them are no TOML: a file may have 100,000 faults.
    line_ends: Vec<usize>,
    broken: BTreeSet<usize>,
    contents: Contents,
}

type Name<'i> = Spanned<std::borrow::Cow<'i, str>>;

impl Reader<'_> {
    fn line(&self, offset: usize) -> usize {
        1 + self.line_ends.partition_point(|end| *end < offset)
    }

    fn origin(&self, offset: usize) -> Origin {
        Origin::File(self.path.to_owned(), Some(self.line(offset)))
    }

    fn fault(&mut self, offset: usize, name: &str, problem: impl Into<String>, hint: Option<String>) {
        // What is no TOML was told already; what the parser took it for is beside the point.
        if self.broken.contains(&self.line(offset)) {
            return;
        }
        self.contents.faults.push(Fault::new(self.origin(offset), name.to_owned(), problem).hint(hint));
    }

    fn section(&mut self, name: &Name<'_>, value: &Spanned<DeValue<'_>>) {
        let (offset, word) = (name.span().start, name.get_ref().as_ref());
        let section = SECTIONS.iter().find(|section| section.name == word);
        match (section, value.get_ref()) {
            (Some(section), DeValue::Table(keys)) => {
                for (name, value) in keys {
                    self.key(section, name, value);
                }
            }
            (Some(_), _) => self.fault(
                offset,
                word,
                "this is a section, not a key",
                Some(format!("write [{word}], and its keys below")),
            ),
            (None, DeValue::Table(_)) => {
                let known = SECTIONS.iter().map(|section| section.name);
                let hint = nearest(word, known.clone()).map_or_else(
                    || format!("there are: {}", known.collect::<Vec<_>>().join(", ")),
                    |section| format!("did you mean [{section}]?"),
                );
                self.fault(offset, word, "there is no such section", Some(hint));
            }
            (None, _) => {
                let hint = credentials(word).or_else(|| elsewhere(word));
                self.fault(offset, word, "there is no such key outside of all sections", hint);
            }
        }
    }

    fn key(&mut self, section: &'static Section, name: &Name<'_>, value: &Spanned<DeValue<'_>>) {
        let offset = name.span().start;
        let full = format!("{}.{}", section.name, name.get_ref());
        let Some(key) = table::find(&full) else {
            self.fault(offset, &full, "there is no such key", suggestion(&full));
            return;
        };
        let origin = self.origin(offset);
        match key.of_toml(value.get_ref()) {
            Ok(value) => self.contents.values.push((key, value, origin)),
            Err(problem) => self.fault(offset, &full, problem, None),
        }
    }
}

/// What to write instead of a key that there is not.
pub(super) fn suggestion(full: &str) -> Option<String> {
    let (section, name) = full.split_once('.')?;
    let of_section = SECTIONS.iter().find(|known| known.name == section);
    let names = of_section.into_iter().flat_map(|section| section.keys).map(Key::short_name);
    credentials(name)
        .or_else(|| nearest(name, names.clone()).map(|name| format!("did you mean {section}.{name}?")))
        .or_else(|| elsewhere(name))
        .or_else(|| {
            nearest(full, table::keys().map(|key| key.name)).map(|name| format!("did you mean {name}?"))
        })
        .or_else(|| {
            let names: Vec<&str> = names.collect();
            (!names.is_empty()).then(|| format!("there are: {}", names.join(", ")))
        })
}

/// The key of this name in whichever section.
fn elsewhere(name: &str) -> Option<String> {
    let key = table::keys().find(|key| key.short_name() == name)?;
    Some(format!("did you mean {}?", key.name))
}

/// What to do instead of writing credentials into the file.
fn credentials(name: &str) -> Option<String> {
    const WORDS: [&str; 6] = ["access_key", "secret", "password", "credential", "session_token", "api_key"];
    let name = name.to_lowercase();
    WORDS.iter().any(|word| name.contains(word)).then(|| {
        "credentials do not belong here: give them in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), or \
         name a profile with storage.profile"
            .to_owned()
    })
}
