//! `SandboxFusion`'s `run_code`, as its clients know it (github.com/bytedance/SandboxFusion, `sandbox/server`,
//! `sandbox/runners`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use engine::{
    Answer, Exception, LanguageSpec, Outcome, Request, RequestError,
    answer::ExecutionAnswer,
    request::{
        File, MEMORY_MIB, Parts,
        limits::{MAX_FETCH, MAX_FILES},
    },
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use utoipa::ToSchema;

use super::{BASE64, loose::number};
use crate::{service::Shared, settings::Policy};

/// The languages that the API knows. Those that have no image here are refused when they are run.
const LANGUAGES: [&str; 29] = [
    "python",
    "cpp",
    "nodejs",
    "go",
    "go_test",
    "java",
    "php",
    "csharp",
    "bash",
    "typescript",
    "sql",
    "rust",
    "cuda",
    "lua",
    "R",
    "perl",
    "D_ut",
    "ruby",
    "scala",
    "julia",
    "pytest",
    "junit",
    "kotlin_script",
    "jest",
    "verilog",
    "python_gpu",
    "lean",
    "swift",
    "racket",
];

/// How the program's file begins, where another has the name that its language has for it.
const ANOTHER_NAME: &str = "program";

/// What the API's answers are about when it could not be done.
const SANDBOX_ERROR: &str = "SandboxError";

/// A request.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct RunCode {
    /// The program.
    #[schema(example = "print(6 * 7)")]
    code: String,
    /// Its language.
    #[schema(example = "python")]
    language: String,
    /// What it reads.
    #[serde(default)]
    stdin: Option<String>,
    /// How long it may take to compile, in seconds; for compiled languages.
    #[serde(default = "ten", deserialize_with = "number")]
    #[schema(default = 10.0)]
    #[expect(dead_code, reason = "there is no compiled language; it is judged all the same")]
    compile_timeout: f64,
    /// How long it may run, in seconds.
    #[serde(default = "ten", deserialize_with = "number")]
    #[schema(default = 10.0)]
    run_timeout: f64,
    /// How much memory it may use, in MiB; -1 for no limit of its own.
    #[serde(default = "unlimited", deserialize_with = "whole", rename = "memory_limit_MB")]
    #[schema(default = -1)]
    memory_limit_mb: i64,
    /// Files beside it: their contents as base64, by their paths.
    #[serde(default, deserialize_with = "files")]
    #[schema(value_type = std::collections::HashMap<String, Option<String>>)]
    files: BTreeMap<String, String>,
    /// The paths of files that the answer is to hold.
    #[serde(default, deserialize_with = "names")]
    fetch_files: Vec<String>,
}

fn ten() -> f64 {
    10.0
}

fn unlimited() -> i64 {
    -1
}

/// A whole number, or what pydantic takes for one.
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let number = number(deserializer)?;
    #[expect(clippy::cast_possible_truncation, reason = "it saturates")]
    let whole = number as i64;
    (number.fract() == 0.0).then_some(whole).ok_or_else(|| D::Error::custom("a whole number is asked for"))
}

/// Files, without those that are null or have the API's mark for what is to be left out; bounded while they are read.
fn files<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Files;

    impl<'de> Visitor<'de> for Files {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("an object of texts")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
            let mut files = BTreeMap::new();
            while let Some((name, content)) = object.next_entry::<String, Option<String>>()? {
                let Some(content) = content.filter(|_| !name.contains("IGNORE_THIS_FILE")) else { continue };
                files.insert(name, content);
                if files.len() > MAX_FILES {
                    return Err(A::Error::custom(format_args!("at most {MAX_FILES} files are allowed")));
                }
            }
            Ok(files)
        }
    }

    deserializer.deserialize_map(Files)
}

/// Names, bounded while they are read.
fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Names;

    impl<'de> Visitor<'de> for Names {
        type Value = Vec<String>;

        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("a list of texts")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut names = Vec::new();
            while let Some(name) = list.next_element()? {
                if names.len() == MAX_FETCH {
                    return Err(A::Error::custom(format_args!("at most {MAX_FETCH} files are returned")));
                }
                names.push(name);
            }
            Ok(names)
        }
    }

    deserializer.deserialize_seq(Names)
}

/// An answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RanCode {
    /// `Success`: its exit status was 0; `Failed`: it was another, or its time was up; `SandboxError`: it was not run.
    #[schema(example = "Success")]
    status: &'static str,
    /// Why it was not run.
    message: String,
    /// How it was compiled; null for languages that are not.
    #[schema(required = true)]
    compile_result: Option<CommandResult>,
    /// How it ran.
    #[schema(required = true)]
    run_result: Option<CommandResult>,
    /// Where: never told.
    #[schema(required = true)]
    executor_pod_name: Option<String>,
    /// The files that were asked for and are there, as base64.
    files: BTreeMap<String, String>,
}

/// How a command ended.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CommandResult {
    /// `Finished` or `TimeLimitExceeded`.
    #[schema(example = "Finished")]
    status: &'static str,
    /// From its start to its end, in seconds.
    #[schema(required = true)]
    execution_time: Option<f64>,
    /// Its exit status, or the number of the signal that ended it, negative; null where its time was up.
    #[schema(required = true)]
    return_code: Option<i32>,
    /// What it wrote to stdout.
    #[schema(required = true)]
    stdout: Option<String>,
    /// What it wrote to stderr.
    #[schema(required = true)]
    stderr: Option<String>,
}

/// A request that does not have the form that the API asks for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Malformed {
    /// Each fault.
    detail: Vec<Fault>,
}

/// One of them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Fault {
    /// What kind of fault.
    r#type: &'static str,
    /// Where.
    loc: Vec<String>,
    /// What is wrong.
    msg: String,
}

impl Malformed {
    pub(crate) fn new(field: Option<&str>, msg: String) -> Self {
        let loc = std::iter::once("body").chain(field).map(str::to_owned).collect();
        Self { detail: vec![Fault { r#type: "value_error", loc, msg }] }
    }
}

/// Why a body is no request that can be run.
#[derive(Debug)]
pub(crate) enum NotRun {
    /// It does not have the form.
    Malformed(Malformed),
    /// It asks for what there is not.
    Refused(String),
}

/// Reads a body.
pub(crate) fn read(body: &[u8]) -> Result<RunCode, NotRun> {
    let malformed = |field: Option<&str>, what: String| NotRun::Malformed(Malformed::new(field, what));
    if body.trim_ascii_start().first() != Some(&b'{') {
        // serde would take the fields from a list as well, in order.
        let what = match serde_json::from_slice::<IgnoredAny>(body) {
            Ok(_) => "a JSON object is asked for".to_owned(),
            Err(error) => format!("JSON decode error: {error}"),
        };
        return Err(malformed(None, what));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let run: RunCode = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if !inner.is_data() {
            return malformed(None, format!("JSON decode error: {inner}"));
        }
        malformed(Some(&path).filter(|path| *path != ".").map(String::as_str), inner.to_string())
    })?;
    json.end().map_err(|error| malformed(None, format!("JSON decode error: {error}")))?;
    if !LANGUAGES.contains(&run.language.as_str()) {
        return Err(malformed(Some("language"), format!("Input should be one of {}", LANGUAGES.join(", "))));
    }
    Ok(run)
}

/// What is run, and what of it is wanted back.
pub(crate) struct Understood {
    pub(crate) request: Request,
    pub(crate) wanted: Wanted,
}

/// Files that are wanted, by the paths that they have beneath the job directory: the names that the client has for each.
#[derive(Debug, Default)]
pub(crate) struct Wanted(BTreeMap<String, Vec<String>>);

/// The request that it comes to.
pub(crate) fn understand(run: RunCode, shared: &Shared, policy: &Policy) -> Result<Understood, NotRun> {
    let engine = shared.pool.engine();
    let language = engine.languages().find(&run.language).filter(|spec| engine.has_image(&spec.name));
    let language = language
        .ok_or_else(|| NotRun::Refused(format!("language {} is not installed here", run.language)))?;
    understand_in(language, run, |mib| shared.pool.restores(&language.name, mib), policy)
}

/// The same in its language, where microVMs with so much memory are restored or booted.
pub(crate) fn understand_in(
    language: &LanguageSpec,
    run: RunCode,
    restores: impl Fn(u32) -> bool,
    policy: &Policy,
) -> Result<Understood, NotRun> {
    let refused = |what: String| NotRun::Refused(what);
    let timeout = Duration::try_from_secs_f64(run.run_timeout)
        .map_err(|error| refused(format!("run_timeout: {error}")))?;
    let mut files: Vec<File> = Vec::new();
    for (name, content) in run.files {
        let bytes: Vec<u8> = content.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let content = BASE64.decode(bytes).map_err(|error| refused(format!("files: {name:?}: {error}")))?;
        let (name, content) = (simplified(&name), content.into());
        // One that is there twice is written twice.
        match files.iter_mut().find(|file| file.name == name) {
            Some(file) => file.content = content,
            None => files.push(File { name, content }),
        }
    }
    let (program, main_file) = free_name(&language.main_file, &files);
    files.push(File { name: program, content: run.code.into_bytes().into() });
    let mut wanted = Wanted::default();
    // What names the directory itself names no file.
    for name in run.fetch_files.into_iter().filter(|name| !simplified(name).is_empty()) {
        wanted.0.entry(simplified(&name)).or_default().push(name);
    }
    let memory = u32::try_from(run.memory_limit_mb).ok().filter(|mib| *mib > policy.usual_machine.memory_mib);
    let request = Request::of_parts(Parts {
        language: language.clone(),
        files,
        main_file,
        args: Vec::new(),
        stdin: run.stdin.unwrap_or_default(),
        timeout,
        // A limit and no need, which training pipelines always send: worth a larger snapshot, and no boot.
        memory_mib: memory
            .map(|mib| mib.min(policy.most_memory_mib).clamp(*MEMORY_MIB.start(), *MEMORY_MIB.end()))
            .filter(|mib| restores(*mib)),
        fetch: wanted.0.keys().map(|name| literal(name)).collect(),
    })
    .map_err(|error| refused(plain(error)))?;
    Ok(Understood { request, wanted })
}

/// The path without what says nothing: `a` for `./a` and `a//./b/..`. One that leads out stays what it is, and is refused.
fn simplified(name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let root = if name.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}

/// A name for the program's file that no other file has, and the same again where it is not the language's own.
fn free_name(main_file: &str, files: &[File]) -> (String, Option<String>) {
    // Neither is it a directory of theirs.
    let taken: BTreeSet<&str> =
        files.iter().filter_map(|file| file.name.split('/').find(|part| !part.is_empty())).collect();
    if !taken.contains(main_file) {
        return (main_file.to_owned(), None);
    }
    let extension = main_file.rsplit_once('.').map_or("", |(_, extension)| extension);
    let mut names = (0..=taken.len()).map(|number| format!("{ANOTHER_NAME}{number}.{extension}"));
    let free = names.find(|name| !taken.contains(name.as_str()));
    // One of so many is free, as there is one more of them than there are taken names.
    let free = free.unwrap_or_else(|| main_file.to_owned());
    (free.clone(), Some(free))
}

/// A path as a glob that matches it alone.
fn literal(name: &str) -> String {
    let special = |c: char| matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '\\' | '!');
    name.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

/// The error without its code.
fn plain(error: RequestError) -> String {
    match error {
        RequestError::Invalid(what) => what,
        other => other.to_string(),
    }
}

impl RanCode {
    /// Of a request that was run.
    pub(crate) fn of(outcome: Outcome, wanted: &Wanted) -> Self {
        let Answer::One(mut execution) = outcome.answer else {
            return Self::failed("an answer without an execution".to_owned());
        };
        let mut files = BTreeMap::new();
        for file in execution.files.take().unwrap_or_default() {
            let content = STANDARD.encode(&file.content.0);
            for name in wanted.0.get(&file.name).into_iter().flatten() {
                files.insert(name.clone(), content.clone());
            }
        }
        let run_result = CommandResult::of(&execution);
        let status = if run_result.return_code == Some(0) { "Success" } else { "Failed" };
        Self {
            status,
            message: String::new(),
            compile_result: None,
            run_result: Some(run_result),
            executor_pod_name: None,
            files,
        }
    }

    /// Of one that was not.
    pub(crate) fn failed(message: String) -> Self {
        Self {
            status: SANDBOX_ERROR,
            message,
            compile_result: None,
            run_result: None,
            executor_pod_name: None,
            files: BTreeMap::new(),
        }
    }
}

impl CommandResult {
    fn of(execution: &ExecutionAnswer) -> Self {
        let timed_out = execution.exception == Some(Exception::Timeout);
        let return_code = match (execution.exception, execution.exit_code) {
            (Some(Exception::Timeout), _) => None,
            (Some(Exception::Killed(signal)), _) => Some(-i32::from(signal)),
            (Some(Exception::MemoryLimitExceeded), _) => Some(-9),
            (_, code) => code.map(i32::from),
        };
        Self {
            status: if timed_out { "TimeLimitExceeded" } else { "Finished" },
            execution_time: Some(Duration::from_millis(execution.execution_time).as_secs_f64()),
            return_code,
            stdout: Some(execution.exact_stdout()),
            stderr: Some(execution.stderr.clone().unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::fake::{Answer as Told, Lab};

    async fn run_code(lab: &Lab, body: &Value) -> Told {
        lab.ask("POST", "/run_code", &body.to_string()).await
    }

    #[tokio::test]
    async fn a_program_is_run_and_told_as_its_clients_know_it() {
        let lab = Lab::new().await;
        let body = json!({
            "code": "stdin\nprint !\nfile out[1].txt hello", "language": "python", "stdin": "in",
            "compile_timeout": 10, "run_timeout": 10.5, "memory_limit_MB": -1,
            "files": { "a/b.txt": STANDARD.encode("x"), "none": null, "IGNORE_THIS_FILE": "?" },
            "fetch_files": ["**/*"], "unknown": 1,
        });
        let mut answer = run_code(&lab, &body).await.json();
        assert!(answer["run_result"]["execution_time"].take().is_number());
        assert_eq!(
            answer,
            json!({
                "status": "Success", "message": "", "compile_result": null, "executor_pod_name": null, "files": {},
                "run_result": { "status": "Finished", "execution_time": null, "return_code": 0, "stdout": "in!\n", "stderr": "" },
            })
        );
        let fetched = json!({ "code": "file out.txt hello", "language": "python", "fetch_files": ["out.txt", "absent"] });
        assert_eq!(
            run_code(&lab, &fetched).await.json()["files"],
            json!({ "out.txt": STANDARD.encode("hello") })
        );
        for (code, status, result, returned) in [
            ("exit 3", "Failed", "Finished", json!(3)),
            ("signal 9", "Failed", "Finished", json!(-9)),
            ("memory", "Failed", "Finished", json!(-9)),
            ("sleep 9999", "Failed", "TimeLimitExceeded", Value::Null),
        ] {
            let body = json!({ "code": code, "language": "python", "run_timeout": 0.1 });
            let answer = run_code(&lab, &body).await.json();
            assert_eq!(
                (&answer["status"], &answer["run_result"]["status"]),
                (&json!(status), &json!(result)),
                "{code}"
            );
            assert_eq!(answer["run_result"]["return_code"], returned, "{code}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_run_is_told_and_what_is_malformed_refused() {
        let lab = Lab::new().await;
        for body in [
            json!({ "code": "", "language": "cpp" }),
            json!({ "code": "", "language": "python", "files": { "../x": "" } }),
            json!({ "code": "", "language": "python", "files": { "a": "%%" } }),
            json!({ "code": "", "language": "python", "run_timeout": -1 }),
            json!({ "code": "", "language": "python", "run_timeout": 301 }),
            json!({ "code": "", "language": "python", "stdin": "x".repeat(1_000_001) }),
            json!({ "code": "", "language": "python", "fetch_files": ["/etc/passwd"] }),
        ] {
            let answer = run_code(&lab, &body).await;
            assert_eq!(answer.status, 200, "{body}");
            assert_eq!(answer.json()["status"], "SandboxError", "{body}");
            assert!(!answer.json()["message"].as_str().unwrap().is_empty(), "{body}");
        }
        for body in [
            json!([]),
            json!({ "language": "python" }),
            json!({ "code": 1, "language": "python" }),
            json!({ "code": "", "language": "klingon" }),
            json!({ "code": "", "language": "python", "run_timeout": "x" }),
            json!({ "code": "", "language": "python", "run_timeout": null }),
            json!({ "code": "", "language": "python", "memory_limit_MB": 1.5 }),
            json!({ "code": "", "language": "python", "files": [] }),
            json!({ "code": "", "language": "python", "files": many(257) }),
            json!({ "code": "", "language": "python", "fetch_files": vec!["a"; 33] }),
        ] {
            let answer = run_code(&lab, &body).await;
            assert_eq!(answer.status, 422, "{body}");
            assert_eq!(answer.json()["detail"][0]["loc"][0], "body");
        }
        assert_eq!(lab.ask("POST", "/run_code", "{").await.status, 422);
        let slash = lab.ask("POST", "/run_code/", r#"{"code":"print a","language":"python"}"#).await;
        assert_eq!(slash.json()["run_result"]["stdout"], "a\n");
    }

    /// So many empty files.
    fn many(count: usize) -> Value {
        (0..count)
            .map(|number| (number.to_string(), Value::from("")))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    #[tokio::test]
    async fn numbers_and_paths_are_taken_as_clients_write_them() {
        let lab = Lab::new().await;
        for (key, value) in [
            ("run_timeout", json!("10")),
            ("compile_timeout", json!(true)),
            ("memory_limit_MB", json!(64.0)),
            ("memory_limit_MB", json!(1_000_000)),
            ("files", json!({ "main.py": STANDARD.encode("print other"), "./a//b": "eA" })),
            ("files", json!({ "main.py/module.py": "", "program0.py": "" })),
            ("files", json!({ "a": "eA==", "./a": "eB==" })),
        ] {
            let mut body = json!({ "code": "print a", "language": "python" });
            body[key] = value;
            let answer = run_code(&lab, &body).await;
            assert_eq!(answer.json()["run_result"]["stdout"], "a\n", "{body}: {answer:?}");
        }
        let body = json!({
            "code": "file out.txt hello", "language": "python",
            "fetch_files": ["./out.txt", "x/../out.txt", "out.txt", ".", "*.txt"],
        });
        let hello = STANDARD.encode("hello");
        assert_eq!(
            run_code(&lab, &body).await.json()["files"],
            json!({ "./out.txt": hello, "x/../out.txt": hello, "out.txt": hello })
        );
    }

    #[tokio::test]
    async fn the_service_is_found_by_its_ping() {
        let lab = Lab::new().await;
        let answer = lab.ask("GET", "/v1/ping", "").await;
        assert_eq!((answer.status.as_u16(), answer.json()), (200, json!("pong")));
    }

    #[test]
    fn a_path_matches_itself_alone() {
        assert_eq!(literal("plots/a b.png"), "plots/a b.png");
        assert_eq!(literal("a[1]*.{x}"), r"a\[1\]\*.\{x\}");
    }
}
