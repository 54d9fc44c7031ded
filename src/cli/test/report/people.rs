//! For people: a line for each run, and one screen for all.

use std::{fmt::Write, path::Path, time::Duration};

use super::super::{judge::Verdict, one::Ran, outcome::Outcome, plan::Test, suite::Ended};

/// Lines of consoles and messages that all failures have together: one screen.
const DETAILS: usize = 36;
/// And one of them at least and at most.
const LEAST: usize = 3;
const MOST: usize = 12;
/// Failures whose reasons are told.
const TOLD: usize = 20;

/// What became of a run, in a line.
pub fn line(test: &Test, number: Option<u32>, ran: &Ran, colours: bool) -> String {
    let (word, colour) = match &ran.verdict {
        Verdict::Passed => ("ok  ", 32),
        Verdict::Failed(_) => ("FAIL", 31),
        Verdict::Cancelled => ("left", 33),
    };
    let word = if colours { format!("\x1b[{colour}m{word}\x1b[m") } else { word.to_owned() };
    let number = number.map(|number| format!(" #{number}")).unwrap_or_default();
    let why = match &ran.verdict {
        Verdict::Failed(reasons) => reasons.first().map(|it| it.text.as_str()).unwrap_or_default(),
        _ => "",
    };
    let why = why.lines().next().unwrap_or_default();
    let text = format!("{word}  {}{number}  {}  ", test.name, seconds(ran.time));
    format!("{}{}", text, plain(why)).trim_end().to_owned() + "\n"
}

/// What runs, in a line that fits.
pub fn progress<'a>(
    done: usize,
    all: usize,
    running: impl Iterator<Item = (&'a str, Duration)>,
    time: Duration,
    width: usize,
) -> String {
    let running: Vec<_> =
        running.map(|(name, time)| format!("{name} {} s", time.as_secs())).collect();
    let line = format!("{done} of {all} done after {} s: {}", time.as_secs(), running.join(", "));
    line.chars().take(width.saturating_sub(1)).collect()
}

/// What failed and why, and how many there were of each kind.
pub fn summary(ended: &Ended<'_>, output: &Path) -> String {
    let mut text = String::new();
    let failed: Vec<_> = ended.outcomes.iter().filter(|it| it.has_failed()).collect();
    let share = (DETAILS / failed.len().max(1)).clamp(LEAST, MOST);
    for (number, outcome) in failed.iter().take(TOLD).enumerate() {
        // Beyond the screen, what is wrong must do; the rest is in the files.
        let lines = if (number + 1) * share <= DETAILS { share } else { 0 };
        failure(&mut text, outcome, lines, output);
    }
    if failed.len() > TOLD {
        let _ = writeln!(text, "\n… and {} more", failed.len() - TOLD);
    }
    let passed = ended.outcomes.iter().filter(|it| it.has_passed()).count();
    let rest = ended.outcomes.len() - passed - failed.len();
    let mut counts = vec![format!("{passed} passed")];
    counts.extend((!failed.is_empty()).then(|| format!("{} failed", failed.len())));
    counts.extend((rest > 0).then(|| format!("{rest} not run to their ends")));
    let why = match ended.signal {
        Some(signal) => format!(", ended by signal {signal}"),
        None => String::new(),
    };
    let counts = counts.join(", ");
    let _ =
        writeln!(text, "\n{counts} in {}{why}; logs in {}", seconds(ended.took), output.display());
    text
}

fn failure(text: &mut String, outcome: &Outcome<'_>, lines: usize, output: &Path) {
    let Some((number, ran)) = &outcome.failure else { return };
    let _ = write!(text, "\n{}", outcome.test.name);
    if let Some(how_often) = outcome.how_often() {
        let _ = write!(text, ": {how_often}, first in run {number}");
    }
    let _ = writeln!(text, " ({})", output.join(&outcome.test.dir).display());
    for reason in outcome.reasons() {
        let _ = writeln!(text, "  {}", plain(&reason.text));
    }
    // What the dump of a fault begins with is told as a reason; a console ends with what it came to.
    let dump = ran.messages.iter().position(|line| line.contains("the guest crashed"));
    let dump: Vec<_> = dump.map_or(&[][..], |at| &ran.messages[at + 1..]).iter().collect();
    let dump = &dump[..dump.len().min(lines / 2)];
    let console = &ran.console[ran.console.len().saturating_sub(lines - dump.len())..];
    for line in console {
        let _ = writeln!(text, "  | {}", plain(line));
    }
    for line in dump {
        let _ = writeln!(text, "  {}", plain(line));
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// Without what would steer a terminal or change the direction of what follows.
fn plain(text: &str) -> String {
    let plain = |c: char| match c {
        '\n' => '\n',
        '\t' => ' ',
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(plain).collect()
}
