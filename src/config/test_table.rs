//! `[test]`: what makes a run of the guest a test that passes, and of which kinds of the guest there
//! is a test.

use std::{collections::BTreeSet, fmt, time::Duration};

use regex::{Regex, RegexBuilder};

use super::{
    keys::{MAX_CPUS, VMKernelConfig},
    node::{Node, Table, Value},
    report::Report,
    schema::{FromNode, Key, Shape, row, table, unexpected},
    sets::Setting,
    source::{At, Place},
    values::{Integer, OneOrMore, Size},
};
use crate::vm::config::WrittenAt;

/// How long a guest may take whose file says nothing.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Tests that one file may make: what has more is a slip, and nobody waits for it.
const MAX_VARIANTS: usize = 1000;
/// Bytes that a compiled pattern may have: none that looks for a line comes near.
const PATTERN_SIZE: usize = 1 << 20;

table! {
    /// `[test]`: what `axvmm test` wants to see.
    pub struct TestKeys {
        /// Lines that must come, in this order: regular expressions, each of which must be found in
        /// a line after that of the one before it.
        expect: OneOrMore<Pattern>,
        /// Lines that must not come: regular expressions.
        forbid: OneOrMore<Pattern>,
        /// What is typed when which prompt is seen, in this order: rows `[prompt, keys]`. The prompt
        /// is a regular expression, and need not end its line.
        answers: Vec<At<AnswerRow>>,
        /// The exit status that `axvmm run` must have, as its help tells it. Default: 0.
        status: Integer<0, 255>,
        /// The guest is stopped when the last line of `expect` has come, and need not end by itself.
        /// Default: false.
        stop: bool,
        /// How long it may take, such as `"30s"`. Default: a minute.
        timeout: Duration,
        /// How often the guest may reset itself; the next time ends it with status 32. Default: 0.
        reboots: Integer<0, 1_000_000>,
        /// Lists of values, each combination of which is a test of its own.
        matrix: MatrixKeys,
    }
}

table! {
    /// `[test.matrix]`: what is different between the tests of a guest.
    pub struct MatrixKeys {
        /// In the place of `cpu_num` in `[base]`.
        cpu_num: Vec<At<Integer<1, MAX_CPUS>>>,
        /// In the place of the guest's `memory`.
        memory: Vec<At<Size>>,
        /// In the place of `cmdline` in `[kernel]`.
        cmdline: Vec<At<String>>,
        /// Put behind the command line, after a blank.
        arguments: Vec<At<String>>,
    }
}

row! {
    /// A row of `answers`.
    pub struct AnswerRow, 2 required {
        /// A regular expression for the prompt.
        prompt: Pattern,
        /// What is typed then; a line ends with `\n`.
        keys: String,
    }
}

/// A regular expression, compiled.
#[derive(Clone, Debug)]
pub struct Pattern(pub Regex);

/// The same as text.
impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.as_str())
    }
}

impl FromNode for Pattern {
    const SHAPE: Shape = Shape::Pattern;

    fn from_node(node: &Node, report: &mut Report) -> Option<Self> {
        let Value::String(text) = &node.value else {
            return unexpected(Self::SHAPE, node, report);
        };
        if text.is_empty() {
            report.bad_value(node.place, "an empty regular expression is found in every line");
            return None;
        }
        match RegexBuilder::new(text).size_limit(PATTERN_SIZE).build() {
            Ok(regex) => Some(Self(regex)),
            Err(error) => {
                let problem = report.bad_value(node.place, what_is_wrong(&error));
                problem.help(
                    "a text is found as it is with a \\ before each . * + ? ( ) [ ] { } ^ $ |",
                );
                None
            }
        }
    }
}

/// Without the picture that the error draws: the place in the file is shown already.
fn what_is_wrong(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    format!("this is no regular expression: {}", last.strip_prefix("error: ").unwrap_or(last))
}

/// What makes a run of a guest a test that passes.
#[derive(Clone, Debug, PartialEq)]
pub struct TestConfig {
    /// Lines that must come, in this order.
    pub expect: Vec<Pattern>,
    /// Lines that must not come.
    pub forbid: Vec<Pattern>,
    /// What is typed, in this order.
    pub answers: Vec<Answer>,
    /// The exit status that the run must have; `None`: the guest is stopped when the last line of
    /// `expect` has come.
    pub status: Option<u8>,
    /// How long it may take.
    pub timeout: Duration,
    /// How often it may reset itself.
    pub reboots: u64,
    /// What tests there are of the guest; at least one.
    pub variants: Vec<Variant>,
    /// Where this is written.
    pub at: Option<WrittenAt>,
}

/// What is typed when a prompt is seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The prompt.
    pub prompt: Pattern,
    /// What is typed.
    pub keys: String,
}

/// One combination of the values of a matrix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variant {
    /// Such as `cpu_num=2 memory=1G`; empty without a matrix.
    pub name: String,
    /// What it sets; messages about it have the place in the file.
    pub sets: Vec<Setting>,
}

/// What the table says, or the defaults; with the kernel's table, whose command line is gone on
/// with.
pub(super) fn resolve(
    keys: Option<At<TestKeys>>,
    kernel: Option<&At<VMKernelConfig>>,
    report: &mut Report,
) -> TestConfig {
    let at = keys.as_ref().map(|keys| report.written_at(keys.place));
    let keys = keys.map(|keys| keys.value).unwrap_or_default();
    let stop = keys.stop.as_ref().filter(|stop| stop.value);
    let expect = patterns(keys.expect);
    if let Some(stop) = stop {
        if expect.is_empty() && !report.is_bad("test.expect") {
            let message = "there is no line in expect after which the guest could be stopped";
            report.problem_of("test.stop", stop.place, message);
        }
        if let Some(status) = &keys.status {
            let message = "a guest that is stopped (stop = true) has no status of its own";
            report.problem_of("test.status", status.place, message).help("leave one of them out");
        }
    }
    let status = keys.status.map_or(0, |status| status.value.0 as u8);
    let answers = keys.answers.map(|answers| answers.value).unwrap_or_default();
    let cmdline = kernel.and_then(|kernel| kernel.value.cmdline.as_ref());
    let cmdline = cmdline.map_or("", |cmdline| cmdline.value.as_str());
    TestConfig {
        expect,
        forbid: patterns(keys.forbid),
        answers: answers.into_iter().filter_map(|row| answer(row.value)).collect(),
        status: stop.is_none().then_some(status),
        timeout: keys.timeout.map_or(TIMEOUT, |timeout| timeout.value),
        reboots: keys.reboots.map_or(0, |reboots| reboots.value.0),
        variants: match keys.matrix {
            Some(matrix) => variants(matrix, cmdline, report),
            None => vec![Variant::default()],
        },
        at,
    }
}

fn patterns(list: Option<At<OneOrMore<Pattern>>>) -> Vec<Pattern> {
    list.into_iter().flat_map(|list| list.value.0).map(|pattern| pattern.value).collect()
}

fn answer(row: AnswerRow) -> Option<Answer> {
    Some(Answer { prompt: row.prompt?.value, keys: row.keys?.value })
}

/// A value of the matrix: what the test's name has of it, the key that is set, and what to.
struct Choice {
    name: String,
    set: String,
    place: Place,
}

/// All combinations, the first key's values changing last.
fn variants(matrix: At<MatrixKeys>, cmdline: &str, report: &mut Report) -> Vec<Variant> {
    let MatrixKeys { cpu_num, memory, cmdline: cmdlines, arguments } = matrix.value;
    if let (Some(_), Some(arguments)) = (&cmdlines, &arguments) {
        let message = "a test has either a cmdline of its own or arguments";
        report.problem_of("test.matrix", arguments.place, message).help("leave one of them out");
    }
    let with = |arguments: &String| match (cmdline, arguments.as_str()) {
        ("", arguments) => arguments.to_owned(),
        (cmdline, "") => cmdline.to_owned(),
        (cmdline, arguments) => format!("{cmdline} {arguments}"),
    };
    let cpus = |it: &Integer<1, MAX_CPUS>| (it.0.to_string(), it.0.to_string());
    let size = |it: &Size| (units(it.0), it.0.to_string());
    let lists = [
        choices("cpu_num", "base.cpu_num", cpu_num, cpus, report),
        choices("memory", "base.memory", memory, size, report),
        choices("cmdline", CMDLINE, cmdlines, |it| (quoted(it), quoted(it)), report),
        choices("arguments", CMDLINE, arguments, |it| (quoted(it), quoted(&with(it))), report),
    ];
    let lists: Vec<_> = lists.into_iter().flatten().collect();
    if lists.is_empty() && !report.has_problems() {
        let known = "known: cpu_num, memory, cmdline, arguments";
        report.problem_of("test.matrix", matrix.place, "a matrix with no list").help(known);
    }
    let tests = lists.iter().fold(1_usize, |tests, list| tests.saturating_mul(list.len()));
    if tests > MAX_VARIANTS {
        let message = format!("this makes {tests} tests; {MAX_VARIANTS} are the most");
        report.problem_of("test.matrix", matrix.place, message).help("write shorter lists");
        return Vec::new();
    }
    let mut variants = vec![Variant::default()];
    for list in &lists {
        let with = |variant: &Variant, choice: &Choice| {
            let mut variant = variant.clone();
            let blank = if variant.name.is_empty() { "" } else { " " };
            variant.name.push_str(&format!("{blank}{}", choice.name));
            let option = Some(origin(report.written_at(choice.place)));
            variant.sets.push(Setting { text: choice.set.clone(), option });
            variant
        };
        variants = variants
            .iter()
            .flat_map(|it| list.iter().map(move |choice| with(it, choice)))
            .collect();
    }
    variants
}

/// As messages begin that are about this place.
fn origin(at: WrittenAt) -> String {
    match (at.line, at.column) {
        (Some(line), Some(column)) => format!("{}:{line}:{column}", at.origin),
        _ => at.origin,
    }
}

const CMDLINE: &str = "kernel.cmdline";

/// The values of one key of the matrix, if it is there; `text` gives what names have of a value, and
/// what is set.
fn choices<T>(
    key: &str,
    sets: &str,
    list: Option<At<Vec<At<T>>>>,
    text: impl Fn(&T) -> (String, String),
    report: &mut Report,
) -> Option<Vec<Choice>> {
    let list = list?;
    let path = format!("test.matrix.{key}");
    if list.value.is_empty() {
        let message = "an empty list makes no test at all";
        report.problem_of(&path, list.place, message).help("leave the key out");
    }
    let mut seen = BTreeSet::new();
    let choices = list.value.iter().map(|At { value, place }| {
        let (name, set) = text(value);
        if !seen.insert(set.clone()) {
            report.problem_of(&path, *place, format!("{name} is in the list twice"));
        }
        Choice { name: format!("{key}={name}"), set: format!("{sets}={set}"), place: *place }
    });
    Some(choices.collect())
}

/// So many bytes in the largest unit that gives a whole number.
fn units(bytes: u64) -> String {
    let units = [(30, "G"), (20, "M"), (10, "K")];
    let unit = units.into_iter().find(|(shift, _)| bytes % (1 << shift) == 0);
    unit.map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
