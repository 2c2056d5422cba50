//! What is printed: data to stdout, everything else to stderr.

use std::{
    io::{IsTerminal as _, Write as _},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use images::Progress;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde::Serialize;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::failure::Failure;

/// Logs to stderr: warnings, and more with `-v`. `LLM_FIRECRACKER_LOG` chooses by module.
pub(crate) fn start_logging(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    let filter = EnvFilter::builder()
        .with_default_directive(level.into())
        .with_env_var("LLM_FIRECRACKER_LOG")
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false)
        .with_ansi(colours())
        .without_time()
        .with_target(verbose > 1)
        .init();
}

/// Whether stderr takes colours.
pub(crate) fn colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Says something to people, on stderr. Where it cannot be written there is nobody to be told, and no reason to end for that, as
/// `eprintln!` does.
macro_rules! say {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($argument)*);
    }};
}
pub(crate) use say;

/// Prints data as JSON to stdout.
pub(crate) fn json(data: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(data)
        .context("cannot write the answer as JSON")
        .map_err(Failure::host)?;
    line(&text)
}

/// Prints a line to stdout.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        // The reader has seen enough, as in `… | head`.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to stdout").map_err(Failure::host),
    }
}

/// Prints a table: columns as wide as they need to be, two spaces between.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let print = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        line(padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    print(head.to_vec())?;
    rows.iter().try_for_each(|row| print(row.iter().map(String::as_str).collect()))
}

/// A step of which nobody knows how long it is.
const STEP: &str = "{spinner} {msg} [{elapsed}]{prefix}";

/// A step whose bytes are counted.
const COUNTED_STEP: &str = "{spinner} {msg} [{elapsed}] [{wide_bar}] {bytes} of {total_bytes}";

/// Shows progress on stderr: a line that changes on a terminal, with a bar where there is a total; a line for each step
/// elsewhere.
pub(crate) struct Steps {
    bar: Mutex<Option<ProgressBar>>,
    terminal: bool,
    begun: AtomicBool,
}

impl Steps {
    /// Shows nothing until the first step.
    pub(crate) fn new() -> Self {
        Self {
            bar: Mutex::new(None),
            terminal: std::io::stderr().is_terminal(),
            begun: AtomicBool::new(false),
        }
    }

    /// Whether there was a step.
    pub(crate) fn have_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Takes the line that changes away.
    pub(crate) fn finish(&self) {
        if let Ok(mut bar) = self.bar.lock()
            && let Some(bar) = bar.take()
        {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Progress for Steps {
    fn step(&self, message: &str) {
        self.begun.store(true, Ordering::Relaxed);
        if !self.terminal {
            say!("{message} …");
            return;
        }
        let Ok(mut bar) = self.bar.lock() else { return };
        let bar = bar.get_or_insert_with(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        restyle(bar, STEP);
        bar.unset_length();
        bar.reset_eta();
        bar.set_prefix("");
        bar.set_message(message.to_owned());
    }

    fn bytes(&self, done: u64, total: Option<u64>) {
        let Ok(bar) = self.bar.lock() else { return };
        match (&*bar, total) {
            (Some(bar), Some(total)) => {
                if bar.length() != Some(total) {
                    restyle(bar, COUNTED_STEP);
                    bar.set_length(total);
                }
                bar.set_position(done);
            }
            (Some(bar), None) => bar.set_prefix(format!(" {}", HumanBytes(done))),
            (None, _) => {}
        }
    }

    fn is_interrupted(&self) -> bool {
        crate::signals::is_interrupted()
    }
}

fn restyle(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
}

/// A time as RFC 3339 has it, to the second.
pub(crate) fn time(unix_seconds: u64) -> Option<String> {
    let timestamp = jiff::Timestamp::from_second(i64::try_from(unix_seconds).ok()?).ok()?;
    Some(timestamp.to_string())
}
