//! `SandboxFusion`'s `run_code`, as its clients know it (github.com/bytedance/SandboxFusion, `sandbox/server`,
//! `sandbox/runners`).

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use engine::{
    Answer, Exception, Outcome, Request, RequestError,
    answer::ExecutionAnswer,
    request::{File, MEMORY_MIB, Parts},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

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
    #[serde(default = "ten")]
    #[schema(default = 10.0)]
    #[expect(dead_code, reason = "there is no compiled language; it is judged all the same")]
    compile_timeout: f64,
    /// How long it may run, in seconds.
    #[serde(default = "ten")]
    #[schema(default = 10.0)]
    run_timeout: f64,
    /// How much memory it may use, in MiB; -1 for no limit of its own.
    #[serde(default = "unlimited", rename = "memory_limit_MB")]
    #[schema(default = -1)]
    memory_limit_mb: i64,
    /// Files beside it: their contents as base64, by their paths.
    #[serde(default)]
    #[schema(value_type = std::collections::HashMap<String, Option<String>>)]
    files: BTreeMap<String, Option<String>>,
    /// The paths of files that the answer is to hold.
    #[serde(default)]
    fetch_files: Vec<String>,
}

fn ten() -> f64 {
    10.0
}

fn unlimited() -> i64 {
    -1
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
    let body: Value = serde_json::from_slice(body)
        .map_err(|error| malformed(None, format!("JSON decode error: {error}")))?;
    if !body.is_object() {
        return Err(malformed(None, "a JSON object is asked for".to_owned()));
    }
    let run: RunCode = serde_path_to_error::deserialize(body).map_err(|error| {
        let path = error.path().to_string();
        malformed(Some(&path).filter(|path| *path != ".").map(String::as_str), error.into_inner().to_string())
    })?;
    if !LANGUAGES.contains(&run.language.as_str()) {
        return Err(malformed(Some("language"), format!("Input should be one of {}", LANGUAGES.join(", "))));
    }
    Ok(run)
}

/// The request that it comes to.
pub(crate) fn understand(run: RunCode, shared: &Shared, policy: &Policy) -> Result<Request, NotRun> {
    let refused = |what: String| NotRun::Refused(what);
    let engine = shared.pool.engine();
    let language = engine.languages().find(&run.language).filter(|spec| engine.has_image(&spec.name));
    let language =
        language.ok_or_else(|| refused(format!("language {} is not installed here", run.language)))?;
    let timeout = Duration::try_from_secs_f64(run.run_timeout)
        .map_err(|error| refused(format!("run_timeout: {error}")))?;
    let main_file = language.main_file.clone();
    let mut files = vec![File { name: main_file.clone(), content: run.code.into_bytes().into() }];
    for (name, content) in run.files {
        // The API's own rules: what is no text is left out, and so is what has this mark.
        let Some(content) = content.filter(|_| !name.contains("IGNORE_THIS_FILE")) else { continue };
        let bytes: Vec<u8> = content.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let content = STANDARD.decode(bytes).map_err(|error| refused(format!("files: {name:?}: {error}")))?;
        let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
        if name == main_file {
            return Err(refused(format!("files: {name:?} is where the program itself is")));
        }
        files.push(File { name, content: content.into() });
    }
    let memory = u32::try_from(run.memory_limit_mb).ok().filter(|mib| *mib > policy.usual_machine.memory_mib);
    Request::of_parts(Parts {
        language: language.clone(),
        files,
        main_file: None,
        args: Vec::new(),
        stdin: run.stdin.unwrap_or_default(),
        timeout,
        memory_mib: memory.map(|mib| mib.clamp(*MEMORY_MIB.start(), *MEMORY_MIB.end())),
        fetch: run.fetch_files.iter().map(|name| literal(name)).collect(),
    })
    .map_err(|error| refused(plain(error)))
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
    pub(crate) fn of(outcome: Outcome) -> Self {
        let Answer::One(mut execution) = outcome.answer else {
            return Self::failed("an answer without an execution".to_owned());
        };
        let files = execution.files.take().unwrap_or_default();
        let files = files.into_iter().map(|file| (file.name, STANDARD.encode(&file.content.0))).collect();
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
    use serde_json::json;

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
            json!({ "code": "", "language": "python", "files": [] }),
        ] {
            let answer = run_code(&lab, &body).await;
            assert_eq!(answer.status, 422, "{body}");
            assert_eq!(answer.json()["detail"][0]["loc"][0], "body");
        }
        assert_eq!(lab.ask("POST", "/run_code", "{").await.status, 422);
        let slash = lab.ask("POST", "/run_code/", r#"{"code":"print a","language":"python"}"#).await;
        assert_eq!(slash.json()["run_result"]["stdout"], "a\n");
    }

    #[test]
    fn a_path_matches_itself_alone() {
        assert_eq!(literal("plots/a b.png"), "plots/a b.png");
        assert_eq!(literal("a[1]*.{x}"), r"a\[1\]\*.\{x\}");
    }
}
