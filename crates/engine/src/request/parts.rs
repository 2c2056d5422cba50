//! Requests that come in another form than the page's, checked as those are.

use std::time::Duration;

use protocol::message::File;

use super::{
    Request, RequestError, Stdin, check_args, check_fetch, check_files, check_memory, check_stdin, invalid,
};
use crate::LanguageSpec;

/// The parts of a request with one stdin.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Its language.
    pub language: LanguageSpec,
    /// The program's files, whose contents need not be text.
    pub files: Vec<File>,
    /// Which of them is the program, where that is not the language's main file.
    pub main_file: Option<String>,
    /// The program's arguments.
    pub args: Vec<String>,
    /// What it reads.
    pub stdin: String,
    /// How long it may take: up to 300 seconds.
    pub timeout: Duration,
    /// How much memory its microVM is to have, in MiB, where it says so.
    pub memory_mib: Option<u32>,
    /// Paths and globs of the files that it wants back.
    pub fetch: Vec<String>,
}

/// The longest time limit.
const LONGEST: Duration = Duration::from_secs(300);

impl Request {
    /// Of these parts, within the bounds of any request.
    pub fn of_parts(parts: Parts) -> Result<Self, RequestError> {
        let Parts { language, files, main_file, args, stdin, timeout, memory_mib, fetch } = parts;
        if timeout.is_zero() || timeout > LONGEST {
            return Err(invalid(format!("timeout: not within 0 to {} seconds", LONGEST.as_secs())));
        }
        let main = main_file.as_deref().unwrap_or(&language.main_file);
        Ok(Self {
            files: check_files(files, main)?,
            args: check_args(args)?,
            stdin: check_stdin(Stdin::One(stdin))?,
            timeout,
            memory_mib: check_memory(memory_mib)?,
            fetch: check_fetch(fetch)?,
            main_file,
            usage: true,
            language,
        })
    }
}
