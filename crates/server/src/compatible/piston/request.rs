//! What clients of Piston ask for: checked in its order and with its words.

use std::time::Duration;

use base64::Engine as _;
use engine::{
    Request, RequestError,
    request::{
        File, MEMORY_MIB, Parts, Stdin,
        limits::{MAX_ARGS, MAX_FILES, MAX_STDIN_BYTES},
    },
};
use nodejs_semver::Range;
use serde::de::{IgnoredAny, MapAccess};

use super::Runtime;
use crate::{
    compatible::{
        BASE64,
        loose::{Fields, List, Loose, Object},
    },
    settings::{PistonLimits, Policy},
};

/// What a body says.
#[derive(Debug, Default)]
struct Said {
    language: Loose,
    version: Loose,
    files: List<Object<SaidFile>, MAX_FILES>,
    args: List<Loose, MAX_ARGS>,
    stdin: Loose,
    run: Limited,
    compile: Limited,
}

/// What one stage may use.
#[derive(Debug, Default)]
struct Limited {
    memory_limit: Loose,
    timeout: Loose,
    cpu_time: Loose,
}

#[derive(Debug, Default)]
struct SaidFile {
    name: Loose,
    content: Loose,
    encoding: Loose,
}

impl Fields for Said {
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "language" => self.language = object.next_value()?,
            "version" => self.version = object.next_value()?,
            "files" => self.files = object.next_value()?,
            "args" => self.args = object.next_value()?,
            "stdin" => self.stdin = object.next_value()?,
            "run_memory_limit" => self.run.memory_limit = object.next_value()?,
            "run_timeout" => self.run.timeout = object.next_value()?,
            "run_cpu_time" => self.run.cpu_time = object.next_value()?,
            "compile_memory_limit" => self.compile.memory_limit = object.next_value()?,
            "compile_timeout" => self.compile.timeout = object.next_value()?,
            "compile_cpu_time" => self.compile.cpu_time = object.next_value()?,
            _ => {
                object.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

impl Fields for SaidFile {
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "name" => self.name = object.next_value()?,
            "content" => self.content = object.next_value()?,
            "encoding" => self.encoding = object.next_value()?,
            _ => {
                object.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// A request, and the runtime that is to run it.
#[derive(Debug)]
pub(crate) struct Understood {
    pub(crate) request: Request,
    pub(crate) runtime: Runtime,
}

impl Understood {
    /// Its stdin ends with the end of a line, as the API has it for `execute`: a program that reads a line gets one.
    pub(crate) fn with_line_end(mut self) -> Self {
        if let Stdin::One(stdin) = &mut self.request.stdin
            && !stdin.ends_with('\n')
            && stdin.len() < MAX_STDIN_BYTES
        {
            stdin.push('\n');
        }
        self
    }
}

/// Reads a body.
pub(crate) fn understand(
    body: &[u8],
    runtimes: &[Runtime],
    limits: &PistonLimits,
    policy: &Policy,
) -> Result<Understood, RequestError> {
    // Express takes lists as well, which have none of the fields.
    let Object(said): Object<Said> = serde_json::from_slice(body).map_err(|error| {
        if error.is_data() {
            wrong(error.to_string())
        } else {
            wrong(format!("the body is not JSON: {error}"))
        }
    })?;
    let language = required(&said.language, "language")?;
    let version = required(&said.version, "version")?;
    let List::Of(files) = said.files else {
        return Err(wrong("files is required as an array"));
    };
    for (index, Object(file)) in files.iter().enumerate() {
        if !matches!(file.content, Loose::Text(_)) {
            return Err(wrong(format!("files[{index}].content is required as a string")));
        }
    }
    let runtime = chosen(runtimes, language, version)
        .ok_or_else(|| wrong(format!("{}-{} runtime is unknown", shown(language), shown(version))))?;
    let entry = files.iter().position(|Object(file)| encoding(file) == "utf8");
    let entry = entry.ok_or_else(|| wrong("files must include at least one utf8 encoded file"))?;
    check_constraints(&said.run, &said.compile, limits, policy)?;
    let (files, main_file) = named(files, entry, &runtime.language.main_file)?;
    let request = Request::of_parts(Parts {
        language: runtime.language.clone(),
        files,
        main_file,
        args: args(said.args)?,
        stdin: stdin(said.stdin)?,
        timeout: millis(&said.run.timeout).unwrap_or(limits.run_timeout),
        memory_mib: memory(&said.run.memory_limit, policy),
        fetch: Vec::new(),
    })?;
    Ok(Understood { request, runtime: runtime.clone() })
}

fn wrong(what: impl Into<String>) -> RequestError {
    RequestError::Invalid(what.into())
}

/// The start of what a client gave, for a message.
fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

fn required<'a>(value: &'a Loose, name: &str) -> Result<&'a str, RequestError> {
    value.text().ok_or_else(|| wrong(format!("{name} is required as a string")))
}

/// The latest runtime of this language, by any of its names, whose version the selector takes.
fn chosen<'a>(runtimes: &'a [Runtime], language: &str, selector: &str) -> Option<&'a Runtime> {
    let selector = Range::parse(selector).ok()?;
    let named = runtimes.iter().filter(|runtime| {
        let spec = &runtime.language;
        spec.name.as_str() == language || spec.aliases.iter().any(|alias| alias == language)
    });
    named.filter(|runtime| selector.satisfies(&runtime.version)).max_by(|a, b| a.version.cmp(&b.version))
}

fn encoding(file: &SaidFile) -> &str {
    match file.encoding.text() {
        Some(encoding @ ("base64" | "hex")) => encoding,
        _ => "utf8",
    }
}

fn check_constraints(
    run: &Limited,
    compile: &Limited,
    limits: &PistonLimits,
    policy: &Policy,
) -> Result<(), RequestError> {
    let memory = f64::from(policy.most_memory_mib) * 1_048_576.0;
    let (run_time, compile_time) = (as_millis(limits.run_timeout), as_millis(limits.compile_timeout));
    let constraints = [
        ("compile_memory_limit", &compile.memory_limit, memory),
        ("run_memory_limit", &run.memory_limit, memory),
        ("compile_timeout", &compile.timeout, compile_time),
        ("run_timeout", &run.timeout, run_time),
        ("compile_cpu_time", &compile.cpu_time, compile_time),
        ("run_cpu_time", &run.cpu_time, run_time),
    ];
    for (name, value, limit) in constraints.into_iter().filter(|(_, value, _)| !value.is_falsy()) {
        let Some(value) = value.number() else {
            return Err(wrong(format!("If specified, {name} must be a number")));
        };
        // No limit of memory, as clients say it.
        if name.ends_with("memory_limit") && value < 0.0 {
            continue;
        }
        if value > limit {
            return Err(wrong(format!("{name} cannot exceed the configured limit of {limit}")));
        }
        if value < 0.0 {
            return Err(wrong(format!("{name} must be non-negative")));
        }
    }
    Ok(())
}

/// Its whole milliseconds.
#[expect(clippy::cast_precision_loss, reason = "time limits are small")]
fn as_millis(time: Duration) -> f64 {
    time.as_millis() as f64
}

fn millis(value: &Loose) -> Option<Duration> {
    let millis = value.number().filter(|millis| *millis >= 1.0)?;
    Duration::try_from_secs_f64(millis / 1000.0).ok()
}

/// How much memory the microVM has to have: nothing where the usual one does.
fn memory(value: &Loose, policy: &Policy) -> Option<u32> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is within policy's bounds"
    )]
    let mib = (value.number().filter(|bytes| *bytes > 0.0)? / 1_048_576.0).ceil() as u32;
    (mib > policy.usual_machine.memory_mib).then(|| mib.clamp(*MEMORY_MIB.start(), *MEMORY_MIB.end()))
}

fn args(args: List<Loose, MAX_ARGS>) -> Result<Vec<String>, RequestError> {
    let arg = |arg: Loose| match arg {
        Loose::Text(text) => Ok(text),
        Loose::Number(number) => Ok(number.to_string()),
        Loose::Switch(value) => Ok(value.to_string()),
        Loose::Nothing | Loose::Compound => Err(wrong("args must be an array of strings")),
    };
    match args {
        List::Nothing => Ok(Vec::new()),
        List::Other => Err(wrong("args must be an array of strings")),
        List::Of(args) => args.into_iter().map(arg).collect(),
    }
}

fn stdin(stdin: Loose) -> Result<String, RequestError> {
    match stdin {
        Loose::Nothing => Ok(String::new()),
        Loose::Text(text) => Ok(text),
        _ => Err(wrong("stdin must be a string")),
    }
}

/// The files with their contents, and which of them is the program where that is not the language's main file.
///
/// The program runs fastest as that: so it is, unless another file has the name. Files beside it may import it by its
/// own name, so where there are any it has both.
fn named(
    files: Vec<Object<SaidFile>>,
    entry: usize,
    main_file: &str,
) -> Result<(Vec<File>, Option<String>), RequestError> {
    let mut named: Vec<File> = Vec::new();
    let mut program = String::new();
    for (index, Object(file)) in files.into_iter().enumerate() {
        let name = beneath(&file.name.text().map_or_else(|| format!("file{index}.code"), str::to_owned))?;
        if index == entry {
            program.clone_from(&name);
        }
        let content = decoded(file.content.text().unwrap_or_default(), encoding(&file)).into();
        // One that is there twice is written twice.
        match named.iter_mut().find(|file| file.name == name) {
            Some(file) => file.content = content,
            None => named.push(File { name, content }),
        }
    }
    let entry = program;
    if entry == main_file {
        return Ok((named, None));
    }
    if named.iter().any(|file| file.name == main_file) {
        return Ok((named, Some(entry)));
    }
    if let [only] = named.as_mut_slice() {
        main_file.clone_into(&mut only.name);
    } else {
        let program = named.iter().find(|file| file.name == entry).map(|file| file.content.clone());
        named.push(File { name: main_file.to_owned(), content: program.unwrap_or_default() });
    }
    Ok((named, None))
}

/// The name as a path beneath the job directory.
fn beneath(name: &str) -> Result<String, RequestError> {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                let escapes =
                    || wrong(format!("File path {:?} tries to escape parent directory", shown(name)));
                parts.pop().ok_or_else(escapes)?;
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// As Node's `Buffer.from` has it, which takes what it can.
pub(super) fn decoded(content: &str, encoding: &str) -> Vec<u8> {
    match encoding {
        "base64" => {
            let standard = |byte: u8| match byte {
                b'-' => b'+',
                b'_' => b'/',
                byte => byte,
            };
            let text: Vec<u8> =
                content.bytes().filter(|byte| !byte.is_ascii_whitespace()).map(standard).collect();
            BASE64.decode(text).unwrap_or_default()
        }
        "hex" => {
            let digits = content.as_bytes().chunks_exact(2);
            // Node knows no signs.
            let is_digits = |pair: &&[u8]| pair.iter().all(u8::is_ascii_hexdigit);
            let byte = |pair: &[u8]| {
                let digits = Some(pair).filter(is_digits)?;
                u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
            };
            digits.map_while(byte).collect()
        }
        _ => content.as_bytes().to_vec(),
    }
}
