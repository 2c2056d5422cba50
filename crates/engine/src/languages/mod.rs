//! The languages: how each is installed, run and warmed up.

use std::collections::BTreeMap;

use protocol::{
    Bytes,
    limits::DEFAULT_OUTPUT_BYTES,
    message::{File, Interpreter, Limits, Options, Prepare, Process, Run, Runtime, WarmUp},
};
use serde::Deserialize;
use store::Language;

/// The catalogue that is built in.
const CATALOGUE: &str = include_str!("catalogue.toml");

/// The programs of a language that are ours. They are files of their own so that they can be read and tried as programs.
struct Programs {
    language: &'static str,
    /// Runs before a snapshot.
    warm_up: &'static str,
    /// Runs in a clone.
    rehearsal: &'static str,
}

const PROGRAMS: [Programs; 1] = [Programs {
    language: "python",
    warm_up: include_str!("python/warm_up.py"),
    rehearsal: include_str!("python/rehearsal.py"),
}];

/// One language.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanguageSpec {
    /// Its name.
    pub name: Language,
    /// Other names under which a request may ask for it.
    pub aliases: Vec<String>,
    /// The file that is the program.
    pub main_file: String,
    /// The command that runs it.
    pub command: Vec<String>,
    /// Which initialised interpreter it has, if any.
    pub interpreter: Option<Interpreter>,
    /// How often the warm-up program runs before a snapshot.
    pub warm_up_runs: u32,
    /// A program that prints the language's version, as Semantic Versioning has it.
    pub version_program: String,
    /// The Debian packages of its image.
    pub packages: Vec<String>,
    /// What its programs find in their environment, besides what all have.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

/// Bound of a rehearsal, in milliseconds: a moment's work, under emulation on a busy host.
const REHEARSAL_TIMEOUT_MILLIS: u64 = 30_000;

/// What the programs of every language find in their environment.
const ENVIRONMENT: [(&str, &str); 2] =
    [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C.UTF-8")];

/// And what no image changes: of the directories of a guest, a job may write to this one.
const HOME: (&str, &str) = ("HOME", "/tmp");

impl LanguageSpec {
    /// How the guest agent runs it in an image that has this environment.
    pub fn runtime(&self, image: &BTreeMap<String, String>) -> Runtime {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let mut environment: BTreeMap<String, String> = ENVIRONMENT.map(owned).into();
        environment.extend(image.clone());
        environment.extend([owned(HOME)]);
        environment.extend(self.environment.clone());
        Runtime { command: self.command.clone(), environment, interpreter: self.interpreter }
    }

    /// What the guest agent does before a snapshot.
    pub fn prepare(&self, image: &BTreeMap<String, String>) -> Prepare {
        let programs = PROGRAMS.iter().find(|programs| programs.language == self.name.as_str());
        let file = |text: &str| vec![File { name: self.main_file.clone(), content: text.into() }];
        let runs = programs.map_or(0, |_| self.warm_up_runs);
        let files = programs.map(|programs| file(programs.warm_up)).unwrap_or_default();
        Prepare { runtime: self.runtime(image), warm_up: WarmUp { files, runs } }
    }

    /// What is run in a clone beforehand, so that its job finds its way translated; nothing where there is no such
    /// program.
    pub(crate) fn rehearsal(&self, image: &BTreeMap<String, String>) -> Option<Run> {
        let programs = PROGRAMS.iter().find(|programs| programs.language == self.name.as_str())?;
        Some(Run {
            trace_id: "rehearsal".to_owned(),
            runtime: self.runtime(image),
            process: Process::Rehearsal,
            files: vec![File { name: self.main_file.clone(), content: programs.rehearsal.into() }],
            args: Vec::new(),
            stdins: vec![Bytes::default()],
            limits: Limits {
                timeout_millis: REHEARSAL_TIMEOUT_MILLIS,
                output_bytes: DEFAULT_OUTPUT_BYTES as u64,
            },
            options: Options::default(),
        })
    }
}

/// All languages.
#[derive(Clone, Debug)]
pub struct Languages(Vec<LanguageSpec>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogueFile {
    language: Vec<LanguageSpec>,
}

impl Languages {
    /// Those that are built in.
    ///
    /// # Panics
    /// Never: a test reads the catalogue.
    pub fn built_in() -> Self {
        let file: CatalogueFile = toml::from_str(CATALOGUE).expect("a test reads the built-in catalogue");
        Self(file.language)
    }

    /// The language that goes by `name`.
    pub fn find(&self, name: &str) -> Option<&LanguageSpec> {
        self.0
            .iter()
            .find(|spec| spec.name.as_str() == name || spec.aliases.iter().any(|alias| alias == name))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &LanguageSpec> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_find_the_images_environment_under_what_is_ours() {
        let languages = Languages::built_in();
        let image = [("PATH", "/opt/bin"), ("HOME", "/root"), ("PYTHON_VERSION", "3.12.12")];
        let image = image.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let environment = languages.find("python").unwrap().runtime(&image).environment;
        let expected =
            [("HOME", "/tmp"), ("LANG", "C.UTF-8"), ("PATH", "/opt/bin"), ("PYTHON_VERSION", "3.12.12")];
        assert!(environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(expected));
    }

    #[test]
    fn the_built_in_catalogue_is_complete_and_unambiguous() {
        let languages = Languages::built_in();
        let mut names = Vec::new();
        for spec in languages.iter() {
            assert!(!spec.command.is_empty() && !spec.packages.is_empty());
            assert!(spec.command.contains(&spec.main_file), "{} does not run its main file", spec.name);
            names.push(spec.name.to_string());
            names.extend(spec.aliases.clone());
        }
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count, "two languages go by the same name");
        assert_eq!(languages.find("py").unwrap().name.as_str(), "python");
        assert!(languages.find("unknownlang").is_none());
    }
}
