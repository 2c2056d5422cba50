//! What is tried, and how it has to end.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use engine::{
    LanguageSpec, Request,
    request::{File, Parts},
};
use serde::Deserialize;

use crate::failure::Failure;

include!(concat!(env!("OUT_DIR"), "/selftest_programs.rs"));

/// Runs after every attack, in the same microVM.
pub(super) const CALM: &str = include_str!("programs/calm.py");

/// What it reads.
const CALM_STDIN: &str = "calm";

/// What it has to print where it has to see so many processes: the runner, itself, and an initialised interpreter where one
/// waits.
pub(super) fn calm_stdout(processes: u32) -> String {
    format!(
        "{processes} processes\n['job-'] in the scratch directories, ['main.py'] here\nTrue inodes, True room\n64 MiB of \
         memory, {CALM_STDIN} from stdin\n"
    )
}

/// What the launcher of a program that is not the language's own is told apart by.
const PROGRAM_FILE: &str = "program";

/// How long a calm program, and an attack that ends by itself, may take unless the catalogue says otherwise: under
/// emulation, beside others.
pub(super) const PATIENT_SECONDS: u64 = 30;

/// A way in which a program is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    /// As a single request is: in the initialised interpreter.
    Alone,
    /// As a batch of two: each in a fork of that.
    Batch,
    /// In a process of its own.
    Fresh,
}

impl Way {
    /// Its name, for reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Batch => "batch",
            Self::Fresh => "fresh",
        }
    }
}

/// An attack.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Attack {
    /// The file of its program.
    pub(super) program: String,
    /// What tells it from another with the same program.
    #[serde(default)]
    pub(super) variant: Option<String>,
    /// Its time limit, in seconds.
    #[serde(default = "patient")]
    pub(super) timeout: u64,
    /// How it may end: `success`, `exit 3`, or the `exception` of an answer.
    pub(super) ends: Vec<String>,
    /// What it has to print, where that is known.
    #[serde(default)]
    pub(super) stdout: Option<String>,
    /// How many bytes of each stream come with the answer at least, where it writes more than is kept.
    #[serde(default)]
    pub(super) keeps: Option<[usize; 2]>,
    /// How it is run.
    #[serde(default = "alone")]
    pub(super) ways: Vec<Way>,
    /// Its arguments.
    #[serde(default)]
    pub(super) args: Vec<String>,
    /// The length of one more argument.
    #[serde(default)]
    pub(super) long_argument: usize,
    /// How many bytes it is given to read.
    #[serde(default)]
    pub(super) stdin_bytes: usize,
    /// Its files besides the program, by their names.
    #[serde(default)]
    pub(super) files: BTreeMap<String, String>,
    /// Whether the kernel may have to end the initialised interpreter for it, without which the agent goes on.
    #[serde(default)]
    pub(super) may_end_the_interpreter: bool,
    /// Has a microVM with so many virtual processors booted, instead of one restored.
    #[serde(default)]
    pub(super) processors: Option<u32>,
}

fn patient() -> u64 {
    PATIENT_SECONDS
}

fn alone() -> Vec<Way> {
    vec![Way::Alone]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    attack: Vec<Attack>,
}

/// All attacks.
pub(super) fn attacks() -> Result<Vec<Attack>, Failure> {
    let catalogue: Catalogue = toml::from_str(include_str!("catalogue.toml"))
        .context("the catalogue of attacks is wrong")
        .map_err(Failure::host)?;
    Ok(catalogue.attack)
}

impl Attack {
    /// Its name: the program's, and what tells it from others with that.
    pub(super) fn name(&self) -> String {
        match &self.variant {
            Some(variant) => format!("{} {variant}", self.program),
            None => self.program.clone(),
        }
    }

    /// How many processes a calm program may see after it: without the initialised interpreter where it was that, which nothing is
    /// that is forked, or has arguments.
    pub(super) fn processes_after(&self, way: Way) -> &'static [u32] {
        if way == Way::Alone && self.args.is_empty() && self.long_argument == 0 {
            &[2]
        } else if self.may_end_the_interpreter {
            &[2, 3]
        } else {
            &[3]
        }
    }

    /// Its time limit.
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }

    /// What it does: its first comment.
    pub(super) fn does(&self) -> String {
        let source = program(&self.program).map_or("", |program| program.source);
        let comment =
            source.lines().map(|line| line.trim_start_matches(['/', '*', '#', ' ', '\t']).trim_end());
        let comment: Vec<_> = comment.skip_while(|line| line.is_empty()).collect();
        let text = comment.join(" ");
        text.split_once(". ")
            .map_or(text.as_str(), |(first, _)| first)
            .trim_end_matches([' ', '*', '/', '.'])
            .to_owned()
    }

    /// The request for it.
    pub(super) fn request(&self, language: &LanguageSpec) -> Result<Request, Failure> {
        let program = program(&self.program)
            .with_context(|| format!("there is no program {}", self.program))
            .map_err(Failure::host)?
            .runs;
        let main = language.main_file.clone();
        let file =
            |name: &str, content: &[u8]| File { name: name.to_owned(), content: content.to_vec().into() };
        let mut files: Vec<File> =
            self.files.iter().map(|(name, text)| file(name, text.as_bytes())).collect();
        match self.launcher() {
            None => files.push(file(&main, program)),
            Some(launcher) => files.extend([file(&main, launcher.as_bytes()), file(PROGRAM_FILE, program)]),
        }
        let mut args = self.args.clone();
        args.extend((self.long_argument > 0).then(|| "x".repeat(self.long_argument)));
        checked(language, files, args, self.stdin(), self.timeout())
    }

    /// What it is given to read.
    pub(super) fn stdin(&self) -> String {
        "x".repeat(self.stdin_bytes)
    }

    /// The program of the language by which another one is started: by the same process, which then is the other.
    fn launcher(&self) -> Option<String> {
        let words = match self.program.rsplit_once('.')?.1 {
            "sh" => format!("'/bin/sh', ['sh', '{PROGRAM_FILE}'"),
            "c" => format!("'{PROGRAM_FILE}', ['{PROGRAM_FILE}'"),
            _ => return None,
        };
        Some(format!(
            "import os, sys\nos.chmod('{PROGRAM_FILE}', 0o755)\nos.execv({words}, *sys.argv[1:]])\n"
        ))
    }
}

/// The calm request.
pub(super) fn calm(language: &LanguageSpec) -> Result<Request, Failure> {
    of_program(language, CALM, CALM_STDIN.to_owned(), Duration::from_secs(PATIENT_SECONDS))
}

/// The request for a program of the language itself.
pub(super) fn of_program(
    language: &LanguageSpec,
    program: &str,
    stdin: String,
    timeout: Duration,
) -> Result<Request, Failure> {
    let main = File { name: language.main_file.clone(), content: program.into() };
    checked(language, vec![main], Vec::new(), stdin, timeout)
}

fn checked(
    language: &LanguageSpec,
    files: Vec<File>,
    args: Vec<String>,
    stdin: String,
    timeout: Duration,
) -> Result<Request, Failure> {
    let language = language.clone();
    let (main_file, memory_mib, fetch) = (None, None, Vec::new());
    Request::of_parts(Parts { language, files, main_file, args, stdin, timeout, memory_mib, fetch })
        .context("a request of the selftest is wrong")
        .map_err(Failure::host)
}

fn program(name: &str) -> Option<&'static Program> {
    PROGRAMS.iter().find(|program| program.name == name)
}

/// A file of `programs/`.
struct Program {
    name: &'static str,
    source: &'static str,
    /// What is run: of a program in C, what it is compiled to.
    runs: &'static [u8],
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use engine::Languages;

    use super::*;

    #[test]
    fn every_program_is_tried_and_every_attack_has_its_program() {
        let attacks = attacks().unwrap();
        let tried: BTreeSet<_> = attacks.iter().map(|attack| attack.program.as_str()).collect();
        let others = ["calm.py", "identity.py"];
        let there: BTreeSet<_> =
            PROGRAMS.iter().map(|program| program.name).filter(|name| !others.contains(name)).collect();
        assert_eq!(tried, there);
        let names: BTreeSet<_> = attacks.iter().map(Attack::name).collect();
        assert_eq!(names.len(), attacks.len(), "two attacks go by one name");
    }

    #[test]
    fn every_attack_is_a_request_and_says_what_it_does() {
        let languages = Languages::built_in();
        let python = languages.find("python").unwrap();
        for attack in attacks().unwrap() {
            let request = attack.request(python).unwrap();
            assert!(!attack.ends.is_empty() && !attack.ways.is_empty(), "{}", attack.name());
            assert_eq!(request.timeout, attack.timeout());
            let does = attack.does();
            assert!(does.len() > 10 && !does.contains("import"), "{}: {does:?}", attack.name());
        }
    }
}
