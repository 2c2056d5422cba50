//! What a user asks for: the page's request, checked.

mod fetch;
mod parts;

use std::{collections::BTreeSet, time::Duration};

use protocol::{
    Bytes,
    limits::{
        MAX_ARGS, MAX_ARGS_BYTES, MAX_BATCH_STDIN_BYTES, MAX_EXECUTIONS, MAX_FILE_NAME_BYTES, MAX_FILES,
        MAX_FILES_BYTES, MAX_STDIN_BYTES,
    },
};
pub use protocol::{
    limits,
    message::{File, Process},
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};

use self::fetch::check_fetch;
pub use self::parts::Parts;
use crate::languages::{LanguageSpec, Languages};

/// How long a program may run unless its request says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The bounds of what a request may say, in seconds.
pub const TIMEOUT_SECONDS: std::ops::RangeInclusive<f64> = 1.0..=300.0;

/// The same of memory, in MiB.
pub const MEMORY_MIB: std::ops::RangeInclusive<u32> = 128..=65_536;

/// A request that can be run.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its language.
    pub language: LanguageSpec,
    /// The program's files.
    pub files: Vec<File>,
    /// The program's arguments.
    pub args: Vec<String>,
    /// What it reads.
    pub stdin: Stdin,
    /// How long each execution may take.
    pub timeout: Duration,
    /// How much memory its microVM is to have, in MiB, where it says so.
    pub memory_mib: Option<u32>,
    /// Paths and globs of the files that it wants back.
    pub fetch: Vec<String>,
    /// Which of its files is the program, where that is not the language's main file: it is run in a fresh process then,
    /// which takes longer.
    pub main_file: Option<String>,
    /// Whether it wants to know what its executions used.
    pub usage: bool,
}

/// What a program reads, and so how often it is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stdin {
    /// One execution.
    One(String),
    /// One execution for each; the answer is a list.
    Batch(Vec<String>),
}

impl Stdin {
    /// All of them, in order.
    pub fn all(&self) -> &[String] {
        match self {
            Self::One(stdin) => std::slice::from_ref(stdin),
            Self::Batch(stdins) => stdins,
        }
    }
}

/// Why a request cannot be run. Each says it as the page does, with its code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// A stdin is longer than [`MAX_STDIN_BYTES`].
    #[error("E005: stdin too long")]
    StdinTooLong,
    /// There is no such language.
    #[error("E006: unsupported language {0}")]
    UnsupportedLanguage(String),
    /// A field is missing, unknown, or not what it may be.
    #[error("E007: invalid request: {0}")]
    Invalid(String),
}

/// The request as JSON has it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    language: String,
    #[serde(default)]
    stdin: Option<StdinField>,
    #[serde(default)]
    files: Option<Vec<FileField>>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    args: Option<Vec<String>>,
    #[serde(default)]
    timeout: Option<f64>,
    #[serde(default, deserialize_with = "whole_number")]
    memory_mb: Option<u32>,
    #[serde(default)]
    fetch: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a string or a list of strings")]
enum StdinField {
    One(String),
    Batch(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileField {
    name: String,
    content: String,
}

impl Request {
    /// Reads and checks a request.
    pub fn from_json(text: &[u8], languages: &Languages) -> Result<Self, RequestError> {
        let fields: Fields = from_json_object(text)?;
        Self::check(fields, languages)
    }

    /// A request for one file of code.
    pub fn from_code(
        language: &str,
        code: String,
        stdin: String,
        timeout: Option<f64>,
        languages: &Languages,
    ) -> Result<Self, RequestError> {
        let fields = Fields {
            language: language.to_owned(),
            stdin: Some(StdinField::One(stdin)),
            code: Some(code),
            timeout,
            ..Fields::default()
        };
        Self::check(fields, languages)
    }

    /// The same, and it wants these files back: paths and globs beneath the job directory.
    pub fn fetching(self, globs: Vec<String>) -> Result<Self, RequestError> {
        Ok(Self { fetch: check_fetch(globs)?, ..self })
    }

    /// How many executions it is.
    pub fn executions(&self) -> u32 {
        u32::try_from(self.stdin.all().len()).unwrap_or(u32::MAX)
    }

    fn check(fields: Fields, languages: &Languages) -> Result<Self, RequestError> {
        let language = languages
            .find(&fields.language)
            .ok_or_else(|| RequestError::UnsupportedLanguage(shown(&fields.language)))?
            .clone();
        let files = match (fields.files, fields.code) {
            (Some(_), Some(_)) => return Err(invalid("files and code: only one of them may be given")),
            (None, None) => return Err(invalid("files: missing (or code, for a single file)")),
            (None, Some(code)) => {
                vec![File { name: language.main_file.clone(), content: code.into_bytes().into() }]
            }
            (Some(files), None) => files
                .into_iter()
                .map(|FileField { name, content }| File { name, content: content.into_bytes().into() })
                .collect(),
        };
        let stdin = match fields.stdin {
            None => Stdin::One(String::new()),
            Some(StdinField::One(stdin)) => Stdin::One(stdin),
            Some(StdinField::Batch(stdins)) => Stdin::Batch(stdins),
        };
        Ok(Self {
            files: check_files(files, &language.main_file)?,
            args: check_args(fields.args.unwrap_or_default())?,
            stdin: check_stdin(stdin)?,
            timeout: check_timeout(fields.timeout)?,
            memory_mib: check_memory(fields.memory_mb)?,
            fetch: check_fetch(fields.fetch.unwrap_or_default())?,
            main_file: None,
            usage: false,
            language,
        })
    }

    /// The stdins as the guest agent takes them.
    pub fn stdins(&self) -> Vec<Bytes> {
        self.stdin.all().iter().map(|stdin| stdin.as_str().into()).collect()
    }
}

/// Reads a whole number, or null. JSON knows no integers: to it, and to its schemas, `256.0` is 256.
pub fn whole_number<'de, D: Deserializer<'de>, N: TryFrom<u64>>(
    deserializer: D,
) -> Result<Option<N>, D::Error> {
    /// All whole numbers up to here are numbers of JSON, which are floating-point for many.
    const MAX: f64 = 9_007_199_254_740_992.0;
    let Some(number) = Option::<serde_json::Number>::deserialize(deserializer)? else { return Ok(None) };
    let written_as_float =
        || number.as_f64().filter(|float| float.fract() == 0.0 && (0.0..=MAX).contains(float));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is whole, and within 0 to MAX"
    )]
    let whole = number.as_u64().or_else(|| written_as_float().map(|float| float as u64));
    match whole.map(N::try_from) {
        Some(Ok(whole)) => Ok(Some(whole)),
        Some(Err(_)) => Err(D::Error::custom(format_args!("{number} is too large"))),
        None => Err(D::Error::custom(format_args!("{number} is no whole number from 0 on"))),
    }
}

/// Reads a JSON object, and says what is wrong with it as for a [`Request`].
pub fn from_json_object<T: DeserializeOwned>(text: &[u8]) -> Result<T, RequestError> {
    if text.trim_ascii_start().first() != Some(&b'{') {
        // serde would take the fields from a list as well, in order.
        return Err(invalid("a JSON object is asked for"));
    }
    let mut json = serde_json::Deserializer::from_slice(text);
    let object = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if !inner.is_data() {
            return invalid(not_json(&inner));
        }
        let reason = plain_reason(&inner.to_string());
        invalid(if path == "." { reason } else { format!("{path}: {reason}") })
    })?;
    json.end().map_err(|error| invalid(not_json(&error)))?;
    Ok(object)
}

fn check_files(files: Vec<File>, main_file: &str) -> Result<Vec<File>, RequestError> {
    if files.is_empty() {
        return Err(invalid("files: an empty list"));
    }
    if files.len() > MAX_FILES {
        return Err(invalid(format!("files: {} of them, at most {MAX_FILES} are allowed", files.len())));
    }
    let bytes: usize = files.iter().map(|file| file.content.0.len()).sum();
    if bytes > MAX_FILES_BYTES {
        return Err(invalid(format!("files: {bytes} bytes, at most {MAX_FILES_BYTES} are allowed together")));
    }
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for (index, file) in files.iter().enumerate() {
        let wrong = |reason: &str| invalid(format!("files[{index}].name: {reason}"));
        check_name(&file.name).map_err(|reason| wrong(&reason))?;
        if !names.insert(&file.name) {
            return Err(wrong(&format!("{:?} is there twice", shown(&file.name))));
        }
    }
    for (index, file) in files.iter().enumerate() {
        let mut parents = file.name.match_indices('/').map(|(end, _)| &file.name[..end]);
        if let Some(parent) = parents.find(|parent| names.contains(parent)) {
            let name = shown(parent);
            return Err(invalid(format!("files[{index}].name: {name:?} is a file and a directory")));
        }
    }
    if !names.contains(main_file) {
        return Err(invalid(format!("files: {main_file:?} is missing: it is the program")));
    }
    Ok(files)
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("empty".to_owned());
    }
    if name.len() > MAX_FILE_NAME_BYTES {
        return Err(format!("longer than {MAX_FILE_NAME_BYTES} bytes"));
    }
    if name.contains('\0') {
        return Err("holds a NUL".to_owned());
    }
    if name.starts_with('/') {
        return Err(format!("{:?} is absolute", shown(name)));
    }
    for component in name.split('/') {
        match component {
            "" => return Err(format!("{:?} has an empty part", shown(name))),
            "." | ".." => return Err(format!("{:?} has a part {component:?}", shown(name))),
            _ => {}
        }
    }
    Ok(())
}

fn check_args(args: Vec<String>) -> Result<Vec<String>, RequestError> {
    if args.len() > MAX_ARGS {
        return Err(invalid(format!("args: {} of them, at most {MAX_ARGS} are allowed", args.len())));
    }
    if args.iter().map(|arg| arg.len() + 1).sum::<usize>() > MAX_ARGS_BYTES {
        return Err(invalid(format!("args: at most {MAX_ARGS_BYTES} bytes are allowed together")));
    }
    if let Some(index) = args.iter().position(|arg| arg.contains('\0')) {
        return Err(invalid(format!("args[{index}]: holds a NUL")));
    }
    Ok(args)
}

fn check_stdin(stdin: Stdin) -> Result<Stdin, RequestError> {
    let all = stdin.all();
    if all.iter().any(|stdin| stdin.len() > MAX_STDIN_BYTES) {
        return Err(RequestError::StdinTooLong);
    }
    if all.is_empty() {
        return Err(invalid("stdin: an empty list"));
    }
    if all.len() > MAX_EXECUTIONS {
        return Err(invalid(format!("stdin: {} of them, at most {MAX_EXECUTIONS} are allowed", all.len())));
    }
    if all.iter().map(String::len).sum::<usize>() > MAX_BATCH_STDIN_BYTES {
        return Err(invalid(format!("stdin: at most {MAX_BATCH_STDIN_BYTES} bytes are allowed together")));
    }
    Ok(stdin)
}

fn check_timeout(timeout: Option<f64>) -> Result<Duration, RequestError> {
    let Some(seconds) = timeout else { return Ok(DEFAULT_TIMEOUT) };
    if !TIMEOUT_SECONDS.contains(&seconds) {
        let (least, most) = (TIMEOUT_SECONDS.start(), TIMEOUT_SECONDS.end());
        return Err(invalid(format!("timeout: {seconds} is not within {least} to {most} seconds")));
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn check_memory(memory_mib: Option<u32>) -> Result<Option<u32>, RequestError> {
    match memory_mib {
        Some(mib) if !MEMORY_MIB.contains(&mib) => {
            let (least, most) = (MEMORY_MIB.start(), MEMORY_MIB.end());
            Err(invalid(format!("memory_mb: {mib} is not within {least} to {most} MiB")))
        }
        memory_mib => Ok(memory_mib),
    }
}

fn invalid(what: impl Into<String>) -> RequestError {
    RequestError::Invalid(what.into())
}

/// The start of what a user gave, for a message.
fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

/// The reason without the position, which says little about a request of one line.
/// Where text stops being JSON, and why.
fn not_json(error: &serde_json::Error) -> String {
    let reason = plain_reason(&error.to_string());
    format!("not JSON: {reason} (line {}, column {})", error.line(), error.column())
}

fn plain_reason(reason: &str) -> String {
    let reason = reason.rfind(" at line ").map_or(reason, |position| &reason[..position]);
    // Not Rust's names for what JSON has names for.
    reason.replace("expected f64", "expected a number").replace("expected a sequence", "expected a list")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn read(request: &Value) -> Result<Request, RequestError> {
        Request::from_json(request.to_string().as_bytes(), &Languages::built_in())
    }

    fn error(request: &Value) -> String {
        read(request).map(|_| ()).unwrap_err().to_string()
    }

    fn with_files(names: &[&str]) -> Value {
        let files: Vec<_> = names.iter().map(|name| json!({ "name": name, "content": "" })).collect();
        json!({ "language": "python", "files": files })
    }

    #[test]
    fn the_pages_requests_are_understood() {
        let request = read(&json!({ "language": "python", "stdin": ["Alice", "Bob"], "code": "1" })).unwrap();
        assert_eq!(request.stdin, Stdin::Batch(vec!["Alice".to_owned(), "Bob".to_owned()]));
        assert_eq!(request.files[0].name, "main.py");
        assert_eq!(request.timeout, DEFAULT_TIMEOUT);
        assert!(read(&with_files(&["main.py", "package/__init__.py", "package/mod.py", "ünï.py"])).is_ok());
        assert!(read(&json!({ "language": "python", "code": "", "stdin": null, "args": null })).is_ok());
        let fetches =
            read(&json!({ "language": "python", "code": "", "fetch": ["./a.png", "out/**/*.{png,svg}"] }));
        assert_eq!(fetches.unwrap().fetch, ["a.png", "out/**/*.{png,svg}"]);
    }

    #[test]
    fn each_fault_is_named_with_its_field() {
        let python = |fields: Value| {
            let mut request = json!({ "language": "python", "code": "" });
            for (key, value) in fields.as_object().unwrap() {
                request[key] = value.clone();
            }
            error(&request)
        };
        insta::assert_snapshot!(
            [
                error(&json!({ "language": "unknownlang", "code": "" })),
                error(&json!({ "code": "" })),
                error(&json!([])),
                error(&json!({ "language": 7, "code": "" })),
                error(&json!({ "language": "python" })),
                python(json!({ "cod": 1 })),
                python(json!({ "files": [] })),
                python(json!({ "stdin": 5 })),
                python(json!({ "stdin": [] })),
                python(json!({ "stdin": "x".repeat(1_000_001) })),
                python(json!({ "stdin": ["", "x".repeat(1_000_001)] })),
                python(json!({ "args": ["a", 1] })),
                python(json!({ "args": ["a\0"] })),
                python(json!({ "timeout": 0 })),
                python(json!({ "timeout": 301 })),
                python(json!({ "timeout": "1" })),
                python(json!({ "fetch": "*.png" })),
                python(json!({ "fetch": ["a", "../b"] })),
                python(json!({ "fetch": ["/etc/passwd"] })),
                python(json!({ "fetch": ["!*.py"] })),
                python(json!({ "fetch": vec!["a"; 33] })),
                python(json!({ "fetch": ["*.{png,svg"] })),
                python(json!({ "fetch": ["a", "[ab"] })),
                python(json!({ "fetch": ["a\\"] })),
                python(json!({ "fetch": ["{a,b,c}{a,b,c}{a,b,c}{a,b,c}{a,b,c}"] })),
                error(&json!({ "language": "python", "files": [] })),
                error(&json!({ "language": "python", "files": [{ "name": "main.py" }] })),
                error(
                    &json!({ "language": "python", "files": [{ "name": "main.py", "content": "", "x": 1 }] })
                ),
                error(&with_files(&["helper.py"])),
                error(&with_files(&["main.py", ""])),
                error(&with_files(&["main.py", "/etc/passwd"])),
                error(&with_files(&["main.py", "../x"])),
                error(&with_files(&["main.py", "a/../x"])),
                error(&with_files(&["main.py", "a//x"])),
                error(&with_files(&["main.py", "a/"])),
                error(&with_files(&["main.py", "./x"])),
                error(&with_files(&["main.py", "main.py"])),
                error(&with_files(&["main.py", "a/b", "a"])),
                error(&with_files(&["main.py", "a\0"])),
                error(&with_files(&["main.py", &"x".repeat(256)])),
            ]
            .join("\n")
        );
    }

    #[test]
    fn too_much_is_refused() {
        let many: Vec<_> = (0..=MAX_FILES).map(|number| format!("{number}.py")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert!(error(&with_files(&many)).starts_with("E007: invalid request: files: "));
        let large = json!({ "language": "python", "code": "#".repeat(MAX_FILES_BYTES + 1) });
        assert!(error(&large).starts_with("E007: invalid request: files: "));
        let batch = json!({ "language": "python", "code": "", "stdin": vec![""; MAX_EXECUTIONS + 1] });
        assert!(error(&batch).starts_with("E007: invalid request: stdin: "));
    }

    #[test]
    fn a_whole_number_may_be_written_with_a_fraction_of_zero() {
        let memory = |text: &str| {
            let request = format!(r#"{{"language": "python", "code": "", "memory_mb": {text}}}"#);
            Request::from_json(request.as_bytes(), &Languages::built_in()).map(|request| request.memory_mib)
        };
        for (text, expected) in
            [("256", Some(256)), ("256.0", Some(256)), ("2.56e2", Some(256)), ("null", None)]
        {
            assert_eq!(memory(text), Ok(expected), "{text}");
        }
        for (text, reason) in [
            ("256.5", "256.5 is no whole number from 0 on"),
            ("-1", "-1 is no whole number from 0 on"),
            ("1e300", "1e+300 is no whole number from 0 on"),
            ("4294967296", "4294967296 is too large"),
            ("127", "127 is not within 128 to 65536 MiB"),
        ] {
            let error = memory(text).unwrap_err().to_string();
            assert_eq!(error, format!("E007: invalid request: memory_mb: {reason}"));
        }
    }

    #[test]
    fn no_number_of_seconds_out_of_bounds_passes() {
        for timeout in [f64::NAN, f64::INFINITY, -1.0, 0.0, 0.999, 300.1] {
            assert!(check_timeout(Some(timeout)).is_err(), "{timeout}");
        }
        assert_eq!(check_timeout(Some(1.5)).unwrap(), Duration::from_millis(1500));
    }

    proptest! {
        #[test]
        fn a_name_that_passes_stays_beneath_the_job_directory(name in "[a./\\\\ -]{0,12}") {
            if check_name(&name).is_ok() {
                let path = std::path::Path::new(&name);
                prop_assert!(path.components().all(|c| matches!(c, std::path::Component::Normal(_))));
                prop_assert!(path.is_relative());
            }
        }

        #[test]
        fn any_bytes_give_a_request_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Request::from_json(&bytes, &Languages::built_in());
        }
    }
}
