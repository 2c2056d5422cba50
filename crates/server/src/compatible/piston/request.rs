//! What clients of Piston ask for: checked in its order and with its words.

use std::time::Duration;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use engine::{
    Request, RequestError,
    request::{File, MEMORY_MIB, Parts},
};
use nodejs_semver::Range;
use serde_json::{Map, Value};

use super::{Runtime, is_falsy};
use crate::settings::{PistonLimits, Policy};

/// As Node's decoder: with padding or without, and with what remains in the last character.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A request, and the runtime that is to run it.
#[derive(Debug)]
pub(crate) struct Understood {
    pub(crate) request: Request,
    pub(crate) runtime: Runtime,
}

/// Reads a body.
pub(crate) fn understand(
    body: &[u8],
    runtimes: &[Runtime],
    limits: &PistonLimits,
    policy: &Policy,
) -> Result<Understood, RequestError> {
    let body: Value =
        serde_json::from_slice(body).map_err(|error| wrong(format!("the body is not JSON: {error}")))?;
    let none = Map::new();
    // Express takes lists as well, which have none of the fields.
    let body = body.as_object().unwrap_or(&none);
    let language = required(body, "language")?;
    let version = required(body, "version")?;
    let Some(Value::Array(files)) = body.get("files") else {
        return Err(wrong("files is required as an array"));
    };
    for (index, file) in files.iter().enumerate() {
        if !file.get("content").is_some_and(Value::is_string) {
            return Err(wrong(format!("files[{index}].content is required as a string")));
        }
    }
    let runtime = chosen(runtimes, language, version)
        .ok_or_else(|| wrong(format!("{}-{} runtime is unknown", shown(language), shown(version))))?;
    let entry = files.iter().position(|file| encoding(file) == "utf8");
    let entry = entry.ok_or_else(|| wrong("files must include at least one utf8 encoded file"))?;
    check_constraints(body, limits, policy)?;
    let (files, main_file) = named(files, entry, &runtime.language.main_file)?;
    let request = Request::of_parts(Parts {
        language: runtime.language.clone(),
        files,
        main_file,
        args: args(body.get("args"))?,
        stdin: stdin(body.get("stdin"))?,
        timeout: millis(body.get("run_timeout")).unwrap_or(limits.run_timeout),
        memory_mib: memory(body.get("run_memory_limit"), policy),
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

fn required<'a>(body: &'a Map<String, Value>, name: &str) -> Result<&'a str, RequestError> {
    match body.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        _ => Err(wrong(format!("{name} is required as a string"))),
    }
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

fn encoding(file: &Value) -> &str {
    match file.get("encoding").and_then(Value::as_str) {
        Some(encoding @ ("base64" | "hex")) => encoding,
        _ => "utf8",
    }
}

fn check_constraints(
    body: &Map<String, Value>,
    limits: &PistonLimits,
    policy: &Policy,
) -> Result<(), RequestError> {
    let memory = f64::from(policy.most_memory_mib) * 1_048_576.0;
    let (run, compile) = (as_millis(limits.run_timeout), as_millis(limits.compile_timeout));
    for (constraint, of_compile, of_run) in
        [("memory_limit", memory, memory), ("timeout", compile, run), ("cpu_time", compile, run)]
    {
        for (stage, limit) in [("compile", of_compile), ("run", of_run)] {
            let name = format!("{stage}_{constraint}");
            let Some(value) = body.get(&name).filter(|value| !is_falsy(value)) else { continue };
            let Some(value) = value.as_f64() else {
                return Err(wrong(format!("If specified, {name} must be a number")));
            };
            // No limit of memory, as clients say it.
            if constraint == "memory_limit" && value < 0.0 {
                continue;
            }
            if value > limit {
                return Err(wrong(format!("{name} cannot exceed the configured limit of {limit}")));
            }
            if value < 0.0 {
                return Err(wrong(format!("{name} must be non-negative")));
            }
        }
    }
    Ok(())
}

/// Its whole milliseconds.
#[expect(clippy::cast_precision_loss, reason = "time limits are small")]
fn as_millis(time: Duration) -> f64 {
    time.as_millis() as f64
}

fn millis(value: Option<&Value>) -> Option<Duration> {
    let millis = value?.as_f64().filter(|millis| *millis >= 1.0)?;
    Duration::try_from_secs_f64(millis / 1000.0).ok()
}

/// How much memory the microVM has to have: nothing where the usual one does.
fn memory(value: Option<&Value>, policy: &Policy) -> Option<u32> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is within policy's bounds"
    )]
    let mib = (value?.as_f64().filter(|bytes| *bytes > 0.0)? / 1_048_576.0).ceil() as u32;
    (mib > policy.usual_machine.memory_mib).then(|| mib.clamp(*MEMORY_MIB.start(), *MEMORY_MIB.end()))
}

fn args(value: Option<&Value>) -> Result<Vec<String>, RequestError> {
    let Some(Value::Array(args)) = value.filter(|value| !value.is_null()) else {
        return match value {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(_) => Err(wrong("args must be an array of strings")),
        };
    };
    let arg = |arg: &Value| match arg {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(value) => Ok(value.to_string()),
        _ => Err(wrong("args must be an array of strings")),
    };
    args.iter().map(arg).collect()
}

fn stdin(value: Option<&Value>) -> Result<String, RequestError> {
    match value {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(wrong("stdin must be a string")),
    }
}

/// The files with their contents, and which of them is the program where that is not the language's main file.
///
/// The program runs fastest as that: so it is, unless another file has the name. Files beside it may import it by its
/// own name, so where there are any it has both.
fn named(
    files: &[Value],
    entry: usize,
    main_file: &str,
) -> Result<(Vec<File>, Option<String>), RequestError> {
    let mut named: Vec<File> = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let name = file.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
        let name = beneath(&name.map_or_else(|| format!("file{index}.code"), str::to_owned))?;
        let content = file.get("content").and_then(Value::as_str).unwrap_or_default();
        let content = decoded(content, encoding(file)).into();
        // One that is there twice is written twice.
        match named.iter_mut().find(|file| file.name == name) {
            Some(file) => file.content = content,
            None => named.push(File { name, content }),
        }
    }
    let entry = beneath(
        &files[entry]
            .get("name")
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty())
            .map_or_else(|| format!("file{entry}.code"), str::to_owned),
    )?;
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
fn decoded(content: &str, encoding: &str) -> Vec<u8> {
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
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
            digits.map_while(byte).collect()
        }
        _ => content.as_bytes().to_vec(),
    }
}
