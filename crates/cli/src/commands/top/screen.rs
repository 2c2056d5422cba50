//! The live view: the tables of a look in a terminal.

use ratatui::{
    DefaultTerminal, Frame,
    layout::{Alignment, Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::Line,
    widgets::{Block, Cell, Paragraph, Row, Table},
};

use super::{
    tables::{self, Table as Rows},
    view::View,
};

/// What is to be seen.
pub(super) struct Shown {
    pub(super) url: String,
    /// The last look that there was.
    pub(super) view: Option<View>,
    /// Why there is no newer one.
    pub(super) trouble: Option<String>,
}

/// The terminal, which is as it was before when this is dropped, and after a panic.
pub(super) struct Screen(DefaultTerminal);

impl Screen {
    /// Takes the terminal.
    pub(super) fn open() -> std::io::Result<Self> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self(terminal)),
            Err(error) => {
                // It may have been taken in part.
                ratatui::restore();
                Err(error)
            }
        }
    }

    /// Shows it.
    pub(super) fn draw(&mut self, shown: &Shown) -> std::io::Result<()> {
        self.0.draw(|frame| draw(frame, shown)).map(|_| ())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Lines that a table has besides its rows: its head and its border.
const TABLE_LINES: usize = 3;

fn draw(frame: &mut Frame<'_>, shown: &Shown) {
    let empty = View::default();
    let view = shown.view.as_ref().unwrap_or(&empty);
    let (pools, phases) = (tables::pools(view), tables::phases(view));
    let height =
        |rows: &Rows| Constraint::Length(u16::try_from(rows.rows.len() + TABLE_LINES).unwrap_or(u16::MAX));
    let [head, room, of_pools, of_phases, counts, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        height(&pools),
        height(&phases),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Line::from(tables::summary(view, &shown.url)).style(Modifier::BOLD), head);
    frame.render_widget(Line::from(tables::room(view)), room);
    table(frame, of_pools, &pools);
    table(frame, of_phases, &phases);
    let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(counts);
    table(frame, left, &tables::requests(view));
    table(frame, right, &tables::microvms(view));
    let line = match &shown.trouble {
        Some(trouble) => Line::from(format!("{trouble}; trying again · q: quit")).style(Color::Red),
        None if shown.view.is_none() => Line::from("asking the service … · q: quit"),
        None => Line::from("q: quit"),
    };
    frame.render_widget(Paragraph::new(line), foot);
}

fn table(frame: &mut Frame<'_>, area: Rect, rows: &Rows) {
    let aligned = |index: usize, text: &str| {
        let alignment = if index == 0 { Alignment::Left } else { Alignment::Right };
        Cell::from(Line::from(text.to_owned()).alignment(alignment))
    };
    let row = |cells: Vec<&str>| {
        Row::new(cells.iter().enumerate().map(|(index, cell)| aligned(index, cell)).collect::<Vec<_>>())
    };
    let head = row(rows.head.clone()).style(Style::new().add_modifier(Modifier::DIM));
    let body = rows.rows.iter().map(|cells| row(cells.iter().map(String::as_str).collect()));
    let widths = rows.widths().into_iter().enumerate().map(|(index, width)| {
        let width = u16::try_from(width).unwrap_or(u16::MAX);
        // Room for more digits, so that columns do not jump.
        if index == 0 { Constraint::Fill(1) } else { Constraint::Length(width.max(7)) }
    });
    let table =
        Table::new(body, widths).header(head).column_spacing(1).block(Block::bordered().title(rows.title));
    frame.render_widget(table, area);
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::commands::top::view::{Counted, Filled, PhaseTimes, PoolRow, Times};

    fn view() -> View {
        let counted = |name: &str, total, per_second| Counted { name: name.to_owned(), total, per_second };
        let times = |count, p50_seconds, p99_seconds| Times { count, p50_seconds, p99_seconds };
        let phase = |phase: &str, overall, recent| PhaseTimes { phase: phase.to_owned(), overall, recent };
        View {
            version: "0.1.0".to_owned(),
            stopping: false,
            requests: vec![
                counted("success", 1234, Some(12.5)),
                counted("timeout", 2, Some(0.0)),
                counted("E008", 1, None),
            ],
            requests_per_second: Some(12.5),
            phases: vec![
                phase("queue", times(1237, 0.0005, 0.0042), Some(times(12, 0.0004, 0.001))),
                phase("run", times(1237, 0.025, 1.25), Some(times(12, 0.02, 0.095))),
                phase("end", times(1230, 0.0052, 12.0), None),
            ],
            pools: vec![PoolRow {
                language: "python".to_owned(),
                memory_mib: 512,
                vcpus: 1,
                idle: 2,
                target: 3,
                starting: 1,
                rehearsing: 0,
                running: 4,
            }],
            queue: Filled { now: 5, limit: 1000 },
            running: Filled { now: 4, limit: 8 },
            memory_mib: Filled { now: 2432, limit: 8192 },
            resident_bytes: 42 << 20,
            started: vec![counted("restored", 1240, Some(12.5))],
            ended: vec![counted("served", 1236, Some(12.5)), counted("old", 1, None)],
        }
    }

    fn drawn(shown: &Shown, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, shown)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn a_terminal_shows_all_of_it() {
        let shown = Shown { url: "http://127.0.0.1:8080".to_owned(), view: Some(view()), trouble: None };
        insta::assert_snapshot!(drawn(&shown, 80, 24));
    }

    #[test]
    fn a_service_that_is_lost_is_said_beneath_what_was_last_known() {
        let trouble = Some("cannot read http://127.0.0.1:8080/metrics: connection refused".to_owned());
        let mut shown = Shown { url: "http://127.0.0.1:8080".to_owned(), view: Some(view()), trouble };
        let lost = drawn(&shown, 100, 24);
        assert!(lost.contains("1234") && lost.contains("connection refused; trying again"), "{lost}");
        shown.view = None;
        assert!(drawn(&shown, 100, 24).contains("trying again"));
    }

    #[test]
    fn no_terminal_is_too_small() {
        let shown = Shown { url: "http://127.0.0.1:8080".to_owned(), view: Some(view()), trouble: None };
        for (width, height) in [(1, 1), (10, 3), (40, 10), (500, 200)] {
            drawn(&shown, width, height);
        }
    }

    #[test]
    fn text_shows_the_same() {
        insta::assert_snapshot!(tables::text(&view(), "http://127.0.0.1:8080"));
    }
}
