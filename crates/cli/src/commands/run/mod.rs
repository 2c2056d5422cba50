//! `infra.operator host` and `infra.operator run`: one request, one answer.

mod stream;

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use engine::{
    Answer, Engine, Failure as FailedAnswer, Languages, Request, RequestError, RunError, Start, live::Live,
};
use uuid::Uuid;
use vmm::MachineSpec;

use self::stream::Shown;
use super::storage::fetch_missing;
use crate::{
    bucket::BucketArgs,
    failure::{DONE, Failure, HOST, USAGE},
    host::engine,
    output,
    settings::{DEFAULT_MACHINE, Global, Machine},
    signals::blocking,
};

/// The longest request, in bytes: what its parts may have, escaped.
const MAX_REQUEST_BYTES: u64 = 128 << 20;

/// A program, and what it gets.
#[derive(clap::Args)]
struct Program {
    /// The program's text
    #[arg(long, value_name = "TEXT", conflicts_with = "file", allow_hyphen_values = true)]
    code: Option<String>,

    /// The file that holds it
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// What the program reads from its stdin
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    stdin: String,

    /// How long the program may run, in seconds (1 to 300) [default: 10]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<f64>,

    /// A file that the program leaves and the answer is to hold, by its path or as a glob; can be given several times
    #[arg(long, value_name = "GLOB")]
    fetch: Vec<String>,

    /// Shows output as the program writes it, instead of the answer at its end
    #[arg(long)]
    stream: bool,

    /// With --stream: a line of JSON for each event, as the service tells them; the last one holds the answer
    #[arg(long, requires = "stream")]
    json: bool,
}

/// Arguments of `host`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  infra.operator host --lang python --code 'print(6 * 7)' --snapshot
  infra.operator host --lang python --file main.py --stdin Alice --mem 1024 --timeout 30")]
pub(crate) struct HostArgs {
    /// The program's language
    #[arg(long, value_name = "LANGUAGE")]
    lang: String,
    #[command(flatten)]
    program: Program,
    #[command(flatten)]
    machine: Machine,
    /// Restores a snapshot of this size instead of booting
    #[arg(long)]
    snapshot: bool,
    #[command(flatten)]
    bucket: BucketArgs,
}

/// Arguments of `run`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  infra.operator run --file main.py
  infra.operator run --lang python --code 'print(input())' --stdin Alice
  infra.operator run --file train.py --stream --timeout 120
  echo '{\"language\": \"python\", \"code\": \"print(6 * 7)\"}' | infra.operator run --request -")]
pub(crate) struct RunArgs {
    /// The program's language [default: what the file's name says]
    #[arg(long, value_name = "LANGUAGE", conflicts_with = "request")]
    lang: Option<String>,
    #[command(flatten)]
    program: Program,
    /// A file that holds a whole request as JSON; - for stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["code", "file", "stdin", "timeout", "fetch"])]
    request: Option<PathBuf>,
    #[command(flatten)]
    bucket: BucketArgs,
}

/// Runs `host`.
pub(super) async fn host(args: HostArgs, global: &Global) -> Result<ExitCode, Failure> {
    let start = if args.snapshot { Start::Snapshot } else { Start::Boot };
    let shown = args.program.shown();
    let request = args.program.request(&args.lang)?;
    answer(request, (Some(args.machine.into()), start, shown), &args.bucket, global).await
}

/// Runs `run`.
pub(super) async fn run(args: RunArgs, global: &Global) -> Result<ExitCode, Failure> {
    let shown = args.program.shown();
    let request = if let Some(file) = &args.request {
        let file = file.clone();
        let text = blocking(move || read_bounded(&file)).await?;
        Request::from_json(&text, &Languages::built_in())
    } else {
        let lang = args.lang.or_else(|| guess_language(args.program.file.as_deref())).ok_or_else(|| {
            Failure::usage(anyhow::anyhow!("which language?"))
                .hint("name it with --lang, or give a whole request with --request".to_owned())
        })?;
        args.program.request(&lang)?
    };
    let machine = request.as_ref().ok().and_then(|request| request.memory_mib);
    let machine = machine.map(|memory_mib| MachineSpec { memory_mib, ..DEFAULT_MACHINE });
    answer(request, (machine, Start::Best, shown), &args.bucket, global).await
}

impl Program {
    /// How output is shown while it is written, if it is.
    fn shown(&self) -> Option<Shown> {
        self.stream.then_some(if self.json { Shown::AsJson } else { Shown::AsWritten })
    }

    fn request(self, language: &str) -> Result<Result<Request, RequestError>, Failure> {
        let code = match (self.code, self.file) {
            (Some(code), _) => code,
            (None, Some(file)) => String::from_utf8(read_bounded(&file)?)
                .with_context(|| format!("{} is not UTF-8", file.display()))
                .map_err(Failure::usage)?,
            (None, None) => {
                let hint = "give it with --code or --file".to_owned();
                return Err(Failure::usage(anyhow::anyhow!("there is no program")).hint(hint));
            }
        };
        let request = Request::from_code(language, code, self.stdin, self.timeout, &Languages::built_in());
        Ok(request.and_then(|request| request.fetching(self.fetch)))
    }
}

/// Runs the request, if it is one, in a microVM of this size or of the best that there is, prints the answer, and says by
/// the exit status what kind it is.
async fn answer(
    request: Result<Request, RequestError>,
    (machine, start, shown): (Option<MachineSpec>, Start, Option<Shown>),
    bucket: &BucketArgs,
    global: &Global,
) -> Result<ExitCode, Failure> {
    let trace_id = Uuid::now_v7().simple().to_string();
    let request = match request {
        Ok(request) => request,
        Err(error) => {
            output::json(&FailedAnswer::new(&error, &trace_id))?;
            return Ok(ExitCode::from(USAGE));
        }
    };
    let engine = match engine(global) {
        Ok(engine) => engine,
        Err(failure) => {
            let error = format!("E010: internal error (trace id {trace_id})");
            output::json(&FailedAnswer::new(&error, &trace_id))?;
            return Err(failure);
        }
    };
    let wanted = (&request.language.name, machine, start);
    fetch_missing(bucket, &engine, global, wanted).await;
    let machine = machine.unwrap_or_else(|| best_machine(&engine, &request));
    let ran = if let Some(shown) = shown {
        let (mut live, events) = Live::watched();
        let running = engine.run(&request, machine, start, &trace_id, Some(&mut live));
        match stream::show(shown, events, running, &trace_id).await? {
            Some(ran) => ran,
            None => return Ok(ExitCode::from(DONE)),
        }
    } else {
        engine.run(&request, machine, start, &trace_id, None).await
    };
    match ran {
        Ok(outcome) => {
            match shown {
                Some(shown) => stream::ended(shown, &outcome.answer)?,
                None => output::json(&outcome.answer)?,
            }
            Ok(ExitCode::from(if matches!(outcome.answer, Answer::Failed(_)) { HOST } else { DONE }))
        }
        Err(error) => {
            let failed = FailedAnswer::new(&global.typed(&error.page(&trace_id)), &trace_id);
            match shown {
                Some(Shown::AsJson) => stream::line("error", &failed)?,
                _ => output::json(&failed)?,
            }
            Err(told(error))
        }
    }
}

/// A run that failed, with what would help.
pub(super) fn told(error: RunError) -> Failure {
    let hint = error.hint();
    Failure::host(error).hint(hint)
}

/// The size that a snapshot has: the default one, or else the smallest there is.
fn best_machine(engine: &Engine, request: &Request) -> MachineSpec {
    let sizes: Vec<MachineSpec> = engine
        .catalogue()
        .list()
        .unwrap_or_default()
        .iter()
        .filter(|entry| entry.language == request.language.name)
        .map(|entry| engine::machine(entry.size))
        .collect();
    if sizes.is_empty() || sizes.contains(&DEFAULT_MACHINE) { DEFAULT_MACHINE } else { sizes[0] }
}

fn guess_language(file: Option<&Path>) -> Option<String> {
    let extension = file?.extension()?.to_str()?;
    Languages::built_in().find(extension).map(|spec| spec.name.to_string())
}

/// Reads a file, or stdin for `-`, as long as it is no longer than any request.
fn read_bounded(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_REQUEST_BYTES + 1).read_to_end(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_REQUEST_BYTES + 1).read_to_end(&mut text))
    };
    read.with_context(|| format!("cannot read {}", path.display())).map_err(Failure::usage)?;
    if text.len() as u64 > MAX_REQUEST_BYTES {
        return Err(Failure::usage(anyhow::anyhow!("{} is longer than any request", path.display())));
    }
    Ok(text)
}
