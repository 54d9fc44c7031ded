//! The picture: a line about the run, the tables as far as there is room, and a line about the keys.

use std::time::Duration;

use ratatui::{
    Frame,
    buffer::Buffer,
    layout::Rect,
    style::{Color, Modifier, Style},
    text::Span,
};

use super::{
    rates::Rates,
    table::{Column, Order, Table},
    view::View,
};

/// Between columns.
const GAP: usize = 2;
/// A row's history has at least so many columns, or is not shown.
const SHORTEST: usize = 8;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What there is to show.
pub struct Shown<'a> {
    pub rates: Option<&'a Rates>,
    /// For how long the run owes an answer, if that is long.
    pub silent: Option<Duration>,
    pub has_colours: bool,
}

/// Draws all of it. Where the view begins is kept to what there is.
pub fn draw(frame: &mut Frame<'_>, view: &mut View, shown: &Shown<'_>) {
    let area = frame.area();
    let buffer = frame.buffer_mut();
    if area.height == 0 {
        return;
    }
    let reversed = Style::new().add_modifier(Modifier::REVERSED);
    bar(buffer, area, 0, &about(view, shown), reversed);
    let body = usize::from(area.height).saturating_sub(2);
    if let Some(rates) = shown.rates {
        let lines = lines(view, rates, area.width.into(), shown.has_colours);
        view.page = body;
        view.scroll = view.scroll.min(lines.len().saturating_sub(body));
        for (y, (text, style)) in (1..).zip(lines.iter().skip(view.scroll).take(body)) {
            buffer.set_stringn(area.x, area.y + y, text, area.width.into(), *style);
        }
    }
    if area.height > 1 {
        bar(buffer, area, area.height - 1, &keys(view), reversed);
    }
}

/// A line from edge to edge.
fn bar(buffer: &mut Buffer, area: Rect, y: u16, text: &str, style: Style) {
    let row = Rect { y: area.y + y, height: 1, ..area };
    buffer.set_style(row, style);
    buffer.set_stringn(row.x, row.y, text, row.width.into(), style);
}

fn about(view: &View, shown: &Shown<'_>) -> String {
    let state = match (shown.silent, view.is_paused) {
        (Some(silent), _) => format!("NO ANSWER for {} s  ", silent.as_secs()),
        (None, true) => "PAUSED  ".to_owned(),
        (None, false) => String::new(),
    };
    let Some(rates) = shown.rates else { return format!("{state}axvmm top: the first interval") };
    let vms = rates.vms.iter().map(|vm| {
        let reboots =
            if vm.reboots > 0 { format!(", {} reboots", vm.reboots) } else { String::new() };
        format!("{} {} {:.0} exits/s{reboots}", vm.name, vm.status, vm.exits)
    });
    let vms = vms.collect::<Vec<_>>().join(" | ");
    format!("{state}{vms}  {:.1} s  process {}", rates.time, rates.pid)
}

fn keys(view: &View) -> String {
    let order = match view.order {
        Order::Rate => "rate",
        Order::Time => "time",
        Order::Name => "name",
    };
    format!("q quit  p pause  s sort:{order}  v vCPUs  d devices  r reasons  a all  ↑↓ scroll")
}

/// The tables as lines of that width.
fn lines(view: &View, rates: &Rates, width: usize, has_colours: bool) -> Vec<(String, Style)> {
    let mut lines = Vec::new();
    for table in view.tables(rates) {
        if !lines.is_empty() {
            lines.push((String::new(), Style::new()));
        }
        let layout = Layout::of(&table, width);
        let head: Vec<_> = table.head().collect();
        lines.push((layout.line(&head), Style::new().add_modifier(Modifier::BOLD)));
        for row in &table.rows {
            let mut line = layout.line(&row.cells);
            let room = width.saturating_sub(layout.width() + GAP);
            if room >= SHORTEST {
                line += &" ".repeat(GAP);
                line += &history(view.history(table.subject, &row.cells[0]), room);
            }
            let style = match (row.rate > 0.0, has_colours) {
                (true, _) => Style::new(),
                (false, true) => Style::new().fg(Color::DarkGray),
                (false, false) => Style::new().add_modifier(Modifier::DIM),
            };
            lines.push((line, style));
        }
    }
    lines
}

/// A row's rates as bars, the latest to the right, the highest of them the longest.
fn history(latest_first: impl Iterator<Item = f64>, room: usize) -> String {
    let rates: Vec<_> = latest_first.take(room).collect();
    let most = rates.iter().copied().fold(0.0, f64::max);
    let bar = |rate: &f64| {
        let height = (rate / most * BARS.len() as f64).ceil() as usize;
        height.checked_sub(1).map_or(' ', |it| BARS[it.min(BARS.len() - 1)])
    };
    let missing = room - rates.len();
    std::iter::repeat_n(' ', missing).chain(rates.iter().rev().map(bar)).collect()
}

/// Which columns of a table there is room for, and how wide each is.
struct Layout {
    columns: Vec<(usize, usize, bool)>,
}

impl Layout {
    fn of(table: &Table, width: usize) -> Self {
        let head: Vec<_> = table.head().collect();
        let of = |i: usize| {
            let cells = || table.rows.iter().map(move |row| &row.cells[i]);
            let widest = cells().chain([&head[i]]).map(|cell| columns(cell)).max().unwrap_or(0);
            let is_number = cells().all(|it| it.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
            (i, widest, i > 0 && is_number)
        };
        let mut layout = Self { columns: (0..table.columns.len()).map(of).collect() };
        let worth = |(i, ..): &(usize, usize, bool)| table.columns.get(*i).map_or(0, worth);
        while layout.width() > width && layout.columns.len() > 2 {
            let least = layout.columns.iter().map(worth).min();
            let Some(at) = layout.columns.iter().rposition(|it| Some(worth(it)) == least) else {
                break;
            };
            layout.columns.remove(at);
        }
        // Names give way to numbers.
        let over = layout.width().saturating_sub(width);
        if let Some((_, first, _)) = layout.columns.first_mut() {
            *first = first.saturating_sub(over).max(1);
        }
        layout
    }

    fn width(&self) -> usize {
        let gaps = GAP * self.columns.len().saturating_sub(1);
        self.columns.iter().map(|(_, width, _)| width).sum::<usize>() + gaps
    }

    fn line(&self, cells: &[String]) -> String {
        let cell = |(i, width, is_number): &(usize, usize, bool)| {
            let text = cells.get(*i).map_or("", String::as_str);
            let text = if columns(text) > *width { cut(text, *width) } else { text.to_owned() };
            let room = " ".repeat(width.saturating_sub(columns(&text)));
            if *is_number { room + &text } else { text + &room }
        };
        self.columns.iter().map(cell).collect::<Vec<_>>().join(&" ".repeat(GAP))
    }
}

const fn worth(column: &Column) -> u8 {
    column.worth
}

/// How many columns a text takes.
fn columns(text: &str) -> usize {
    Span::raw(text).width()
}

/// The beginning of a text, with a mark that it is no more than that.
fn cut(text: &str, width: usize) -> String {
    let mut cut = String::new();
    for c in text.chars() {
        cut.push(c);
        if columns(&cut) >= width {
            cut.pop();
            break;
        }
    }
    cut + "…"
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::cli::top::{keys::Key, rates::tests::sample};

    fn rates() -> Rates {
        Rates::between(&sample(1.0, 1), &sample(2.0, 2))
    }

    /// What is on a screen of this size.
    fn picture(view: &mut View, rates: Option<&Rates>, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let shown = Shown { rates, silent: None, has_colours: false };
        terminal.draw(|frame| draw(frame, view, &shown)).unwrap();
        let text = terminal.backend().to_string();
        let line = |line: &str| line.trim_matches('"').trim_end().to_owned();
        text.lines().map(line).collect()
    }

    #[test]
    fn all_is_there_where_there_is_room() {
        let (mut view, rates) = (View::default(), rates());
        view.remember(&rates);
        let lines = picture(&mut view, Some(&rates), 100, 15);
        assert_eq!(lines[0], "hello Running 15 exits/s  2.0 s  process 7");
        assert!(lines[1].starts_with("vCPU  exits/s  guest %  handling %  waiting %  most for"));
        assert!(lines[2].starts_with("0          11     50.0        10.0       40.0  IoWrite"));
        assert!(lines[2].ends_with('█'), "{lines:#?}");
        assert!(lines[6].contains("0.91   10.00   10.00"), "{lines:#?}");
        assert!(lines[10].starts_with("IoWrite       10     0.91"), "{lines:#?}");
        assert!(lines[14].starts_with("q quit  p pause  s sort:rate"), "{lines:#?}");
    }

    #[test]
    fn where_there_is_less_the_numbers_that_matter_stay() {
        let (mut view, rates) = (View::default(), rates());
        let lines = picture(&mut view, Some(&rates), 40, 15);
        assert_eq!(lines[1], "vCPU  exits/s  guest %  handling %");
        assert_eq!(lines[5], "device    exits/s  mean us  p99 us");
        let narrow = picture(&mut view, Some(&rates), 12, 8);
        assert_eq!(narrow[5], "de…  exits/s");
        for (width, height) in [(1, 1), (1, 40), (200, 1), (3, 2), (2, 3)] {
            picture(&mut view, Some(&rates), width, height);
        }
    }

    #[test]
    fn it_scrolls_no_further_than_to_the_end() {
        let (mut view, rates) = (View::default(), rates());
        view.typed(Key::End);
        let lines = picture(&mut view, Some(&rates), 80, 5);
        assert!(lines[3].starts_with("IoRead"), "{lines:#?}");
        view.typed(Key::Up);
        let lines = picture(&mut view, Some(&rates), 80, 5);
        assert!(lines[3].starts_with("Halt"), "{lines:#?}");
        view.typed(Key::PageUp);
        view.typed(Key::Home);
        assert!(picture(&mut view, Some(&rates), 80, 5)[1].starts_with("vCPU"));
    }

    #[test]
    fn what_is_amiss_stands_first() {
        let mut view = View::default();
        view.typed(Key::Char('p'));
        assert!(picture(&mut view, None, 40, 4)[0].starts_with("PAUSED"));
        let mut terminal = Terminal::new(TestBackend::new(40, 3)).unwrap();
        let shown = Shown { rates: None, silent: Some(Duration::from_secs(5)), has_colours: true };
        terminal.draw(|frame| draw(frame, &mut view, &shown)).unwrap();
        assert!(terminal.backend().to_string().contains("NO ANSWER for 5 s"));
    }

    #[test]
    fn histories_are_bars_as_high_as_the_rates() {
        assert_eq!(history([8.0, 0.0, 1.0, 4.0].into_iter(), 6), "  ▄▁ █");
        assert_eq!(history([0.0, 0.0].into_iter(), 3), "   ");
        assert_eq!(history([1.0; 5].into_iter(), 2), "██");
    }
}
