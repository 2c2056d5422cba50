//! From flags, environment, file and defaults to one value for each key.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    fault::{Fault, Origin, nearest},
    file::{self, Environment, Source},
    key::{Key, Value},
    table,
};
use crate::settings::Flags;

/// What the names of all variables begin with that are ours.
const PREFIX: &str = "LLM_FIRECRACKER_";

/// A key's value, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The value.
    pub(crate) value: Value,
    /// Where it comes from.
    pub(crate) origin: Origin,
}

/// What was found.
pub(crate) struct Resolution {
    /// The value of each key, by its name. Where a place had a fault about a key, the next one's.
    pub(crate) entries: BTreeMap<&'static str, Entry>,
    /// The file that was read.
    pub(crate) file: Option<PathBuf>,
    /// What has to be mended.
    pub(crate) faults: Vec<Fault>,
    /// What can stay, but was hardly meant so.
    pub(crate) warnings: Vec<Fault>,
}

/// Looks everywhere, and at everything: what a flag says does not keep faults of the file from being found.
pub(crate) fn resolve(flags: &Flags, environment: &Environment, source: &Source) -> Resolution {
    let mut layers = Layers::default();
    layers.defaults();
    let file = layers.file(source);
    layers.environment(environment);
    layers.flags(flags);
    layers.compare();
    Resolution {
        entries: layers.entries,
        file,
        faults: layers.faults,
        warnings: unknown_variables(environment),
    }
}

/// Values as they are laid over each other.
#[derive(Default)]
struct Layers {
    entries: BTreeMap<&'static str, Entry>,
    faults: Vec<Fault>,
}

impl Layers {
    fn put(&mut self, key: &Key, value: Result<Value, String>, origin: Origin) {
        match value {
            Ok(value) => {
                self.entries.insert(key.name, Entry { value, origin });
            }
            Err(problem) => self.faults.push(Fault::new(origin, key.name.to_owned(), problem)),
        }
    }

    fn defaults(&mut self) {
        for key in table::keys() {
            self.put(key, Ok(key.default()), Origin::Default);
        }
    }

    fn file(&mut self, source: &Source) -> Option<PathBuf> {
        match source.read() {
            Ok(None) => None,
            Ok(Some((path, text))) => {
                let contents = file::parse(path, &text);
                self.faults.extend(contents.faults);
                for (key, value, origin) in contents.values {
                    self.put(key, Ok(value), origin);
                }
                Some(path.to_owned())
            }
            Err(fault) => {
                self.faults.push(fault);
                None
            }
        }
    }

    fn environment(&mut self, environment: &Environment) {
        for key in table::keys() {
            // Not judged here: a variable of other programs that is wrong must not stop what does not use it.
            for name in key.foreign.iter().rev() {
                if let Some(text) = environment.get(name).and_then(|value| value.to_str()) {
                    let origin = Origin::Environment((*name).to_owned());
                    self.put(key, Ok(Value::Text(text.to_owned())), origin);
                }
            }
            let name = key.variable();
            if let Some(words) = environment.get(&name) {
                self.put(key, key.of_words(words), Origin::Environment(name));
            }
        }
    }

    fn flags(&mut self, flags: &Flags) {
        for assignment in &flags.set {
            let origin = Origin::Flag("--set".to_owned());
            let Some((name, text)) = assignment.split_once('=').map(|(name, text)| (name.trim(), text))
            else {
                // Not repeated: it may be a secret that was meant for another flag.
                let problem = "is written SECTION.KEY=VALUE, as in --set api.port=8081";
                self.faults.push(Fault::new(origin, None, problem));
                continue;
            };
            match table::find(name) {
                Some(key) => self.put(key, key.of_flag(text.trim()), origin),
                None => {
                    let fault = Fault::new(origin, name.to_owned(), "there is no such key");
                    self.faults.push(fault.hint(file::suggestion(name)));
                }
            }
        }
        for (name, value) in flags.of_keys() {
            if let (Some(value), Some(key)) = (value, table::find(name)) {
                self.put(key, Ok(value.clone()), Origin::Flag(key.flag.unwrap_or(name).to_owned()));
            }
        }
    }

    /// Faults of two values that each are right.
    fn compare(&mut self) {
        let (Some(minimum), Some(maximum)) =
            (self.entries.get("pool.minimum"), self.entries.get("pool.maximum"))
        else {
            return;
        };
        let (Value::Number(least), Value::Number(most)) = (&minimum.value, &maximum.value) else { return };
        if least > most {
            // Said of the one that somebody has changed.
            let (entry, key) = if minimum.origin == Origin::Default {
                (maximum, "pool.maximum")
            } else {
                (minimum, "pool.minimum")
            };
            let problem = format!("pool.minimum ({least}) is more than pool.maximum ({most})");
            self.faults.push(Fault::new(entry.origin.clone(), key.to_owned(), problem));
        }
    }
}

/// Variables that begin as ours do, and mean nothing.
fn unknown_variables(environment: &Environment) -> Vec<Fault> {
    let mut known: Vec<String> = table::keys().map(Key::variable).collect();
    known.push(file::VARIABLE.to_owned());
    let unknown = environment.names().filter(|name| name.starts_with(PREFIX));
    let mut faults: Vec<Fault> = unknown
        .filter(|name| !known.iter().any(|known| known == name))
        .map(|name| {
            let rest = |name: &str| name.strip_prefix(PREFIX).unwrap_or(name).to_owned();
            let hint = nearest(&rest(name), known.iter().map(|known| rest(known)))
                .map(|rest| format!("did you mean {PREFIX}{rest}?"));
            let origin = Origin::Environment(name.to_owned());
            Fault::new(origin, None, "no key is read from it").hint(hint)
        })
        .collect();
    faults.sort_by_key(|fault| fault.origin.to_string());
    faults
}
