//! What is shown, in rows of text: the same in a terminal that changes and in lines that are printed.

use std::time::Duration;

use super::view::{Counted, Filled, Times, View};

/// A table. Its first column is text, the others are numbers.
pub(super) struct Table {
    pub(super) title: &'static str,
    pub(super) head: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Table {
    /// How wide each column is.
    pub(super) fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<_> = self.head.iter().map(|cell| cell.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }
}

/// The service in one line.
pub(super) fn summary(view: &View, url: &str) -> String {
    let version = if view.version.is_empty() {
        "LLM-Firecracker"
    } else {
        &format!("LLM-Firecracker {}", view.version)
    };
    let rate =
        view.requests_per_second.map_or(String::new(), |rate| format!(" · {} requests/s", decimal(rate)));
    let stopping = if view.stopping { " · stopping" } else { "" };
    format!("{version} · {url}{rate}{stopping}")
}

/// What it holds, in one line.
pub(super) fn room(view: &View) -> String {
    let of = |Filled { now, limit }| format!("{now}/{limit}");
    format!(
        "queue {} · running {} · microVMs {} MiB · service {} MiB",
        of(view.queue),
        of(view.running),
        of(view.memory_mib),
        view.resident_bytes >> 20
    )
}

/// Requests by how they ended.
pub(super) fn requests(view: &View) -> Table {
    Table { title: "requests", head: vec!["outcome", "per s", "total"], rows: counted(&view.requests) }
}

/// How microVMs were started, and why they were ended.
pub(super) fn microvms(view: &View) -> Table {
    let rows = [counted(&view.started), counted(&view.ended)].concat();
    Table { title: "microVMs started, ended", head: vec!["how, why", "per s", "total"], rows }
}

/// What waits and runs.
pub(super) fn pools(view: &View) -> Table {
    let rows = view.pools.iter().map(|pool| {
        let mut row = vec![format!("{} {} MiB", pool.language, pool.memory_mib)];
        let counts = [pool.vcpus, pool.idle, pool.target, pool.starting, pool.rehearsing, pool.running];
        row.extend(counts.iter().map(u64::to_string));
        row
    });
    let head = vec!["kind", "vCPUs", "idle", "target", "starting", "rehearsing", "running"];
    Table { title: "pools", head, rows: rows.collect() }
}

/// How long the phases take.
pub(super) fn phases(view: &View) -> Table {
    let rows = view.phases.iter().map(|phase| {
        let mut row = vec![phase.phase.clone()];
        row.extend(times(phase.recent));
        row.extend(times(Some(phase.overall)));
        row
    });
    let head = vec!["phase", "now", "p50", "p99", "all", "p50", "p99"];
    Table { title: "time", head, rows: rows.collect() }
}

fn counted(counted: &[Counted]) -> Vec<Vec<String>> {
    let row = |counted: &Counted| {
        let rate = counted.per_second.map_or_else(|| "-".to_owned(), decimal);
        vec![counted.name.clone(), rate, counted.total.to_string()]
    };
    counted.iter().map(row).collect()
}

fn times(times: Option<Times>) -> [String; 3] {
    match times {
        Some(times) => [times.count.to_string(), duration(times.p50_seconds), duration(times.p99_seconds)],
        None => ["-".to_owned(), "-".to_owned(), "-".to_owned()],
    }
}

fn decimal(number: f64) -> String {
    format!("{number:.1}")
}

/// With three digits, which is more than buckets know.
fn duration(seconds: f64) -> String {
    let duration = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default();
    match duration.as_secs_f64() {
        seconds if seconds >= 10.0 => format!("{seconds:.0} s"),
        seconds if seconds >= 1.0 => format!("{seconds:.1} s"),
        seconds if seconds >= 0.01 => format!("{:.0} ms", seconds * 1e3),
        seconds => format!("{:.1} ms", seconds * 1e3),
    }
}

/// All of it, to be printed.
pub(super) fn text(view: &View, url: &str) -> String {
    let mut lines = vec![summary(view, url), room(view)];
    for table in [pools(view), phases(view), requests(view), microvms(view)] {
        lines.push(String::new());
        let widths = table.widths();
        let line = |cells: Vec<&str>| {
            let cells = cells.iter().zip(&widths).enumerate().map(|(index, (cell, width))| match index {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        lines.push(line(table.head.clone()));
        lines.extend(table.rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    }
    lines.join("\n")
}
