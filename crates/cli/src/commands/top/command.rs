//! The command: looks at a service again and again until a key ends it, or once.

use std::{io::IsTerminal as _, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use super::{
    fetch::{Look, Service},
    screen::{Screen, Shown},
    tables,
    view::{Before, View},
};
use crate::{failure::Failure, output};

/// Arguments of `top`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  infra.operator top
  infra.operator top --url https://runner.example.com --token \"$TOKEN\"
  infra.operator top --json | jq .requests")]
pub(crate) struct TopArgs {
    /// The service
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// A token, where the service asks for one
    #[arg(long, value_name = "TOKEN", env = "LLM_FIRECRACKER_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// How often it is looked, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// Looks once and prints that, as where stdout is no terminal
    #[arg(long)]
    once: bool,
    /// Looks once and prints that as JSON
    #[arg(long)]
    json: bool,
}

/// Does it.
pub(in crate::commands) async fn run(args: TopArgs) -> Result<ExitCode, Failure> {
    let service = Service::at(&args.url, args.token.filter(|token| !token.is_empty()));
    if args.json || args.once || !std::io::stdout().is_terminal() {
        let look = look(&service).await.map_err(Failure::host)?;
        let view = View::new(&look.samples, None);
        if args.json {
            output::json(&view)?;
        } else {
            output::line(&tables::text(&view, service.url()))?;
        }
    } else {
        live(&service, args.interval).await.map_err(Failure::host)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn look(service: &Service) -> Result<Look> {
    begin_look(service).await.context("the look was given up")?
}

/// Looks on a thread of its own.
fn begin_look(service: &Service) -> JoinHandle<Result<Look>> {
    let service = service.clone();
    tokio::task::spawn_blocking(move || service.look())
}

async fn live(service: &Service, pause: Duration) -> Result<()> {
    let mut screen = Screen::open().context("cannot use this terminal")?;
    let mut events = events();
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shown = Shown { url: service.url().to_owned(), view: None, trouble: None };
    let mut before: Option<Look> = None;
    let mut looking: Option<JoinHandle<Result<Look>>> = None;
    loop {
        screen.draw(&shown).context("cannot write to this terminal")?;
        tokio::select! {
            event = events.recv() => match event {
                Some(event) if !ends(&event) => {}
                _ => return Ok(()),
            },
            _ = ticks.tick(), if looking.is_none() => looking = Some(begin_look(service)),
            looked = finished(&mut looking) => {
                looking = None;
                match looked {
                    Ok(look) => {
                        let earlier = before.as_ref().map(|before| Before {
                            samples: &before.samples,
                            ago: look.when.duration_since(before.when),
                        });
                        shown.view = Some(View::new(&look.samples, earlier));
                        shown.trouble = None;
                        before = Some(look);
                    }
                    Err(error) => shown.trouble = Some(format!("{error:#}")),
                }
            }
        }
    }
}

/// Waits for the look that is under way; for ever where there is none.
async fn finished(looking: &mut Option<JoinHandle<Result<Look>>>) -> Result<Look> {
    match looking {
        Some(looking) => looking.await.context("the look was given up")?,
        None => std::future::pending().await,
    }
}

/// What happens at the terminal. Reading it blocks: the thread ends with the process.
fn events() -> mpsc::UnboundedReceiver<Event> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.send(event).is_err() {
                break;
            }
        }
    });
    receiver
}

fn ends(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let is_control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && (is_control_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}

fn seconds(text: &str) -> Result<Duration, String> {
    /// More often would cost the service more than it tells.
    const RANGE: std::ops::RangeInclusive<f64> = 0.1..=3600.0;
    let seconds = text.parse().ok().filter(|seconds| RANGE.contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "a number from 0.1 to 3600 is asked for".to_owned())
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::KeyEvent;

    use super::*;

    #[test]
    fn q_escape_and_control_c_end_it_and_nothing_else_does() {
        let key = |code, modifiers| Event::Key(KeyEvent::new(code, modifiers));
        assert!(ends(&key(KeyCode::Char('q'), KeyModifiers::NONE)));
        assert!(ends(&key(KeyCode::Esc, KeyModifiers::NONE)));
        assert!(ends(&key(KeyCode::Char('c'), KeyModifiers::CONTROL)));
        assert!(!ends(&key(KeyCode::Char('c'), KeyModifiers::NONE)));
        assert!(!ends(&Event::Resize(80, 24)));
    }

    #[test]
    fn an_interval_is_a_sensible_number() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "NaN", "inf", "", "x"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
