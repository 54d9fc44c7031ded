//! The page's sections, each with its table, and what their tables are made of.

mod console;
mod handling;
mod phases;
mod registers;
mod timetable;
mod vcpus;

pub use console::console;
pub use handling::handling;
use maud::{Markup, html};
pub use phases::{numbered_marks, stories};
pub use registers::registers;
pub use timetable::timetable;
pub use vcpus::vcpus;

use super::{
    charts::percent,
    gather::Gathered,
    units::{number, time},
};

/// Names are shown with so many characters at most.
const NAME_CHARS: usize = 32;

/// A name that is no longer than there is room for.
pub fn short(name: &str) -> String {
    match name.char_indices().nth(NAME_CHARS) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// Moments are told so precisely, in nanoseconds.
fn precision(gathered: &Gathered<'_>) -> u64 {
    (gathered.bins.width / 10).max(1)
}

/// The head of a table: words first, then numbers, which are to the right.
fn head(words: &[&str], numbers: &[&str]) -> Markup {
    html! {
        thead { tr {
            @for word in words { th scope="col" { (word) } }
            @for number in numbers { th.n scope="col" { (number) } }
        } }
    }
}

/// A cell with a count.
fn count(label: &str, value: u64) -> Markup {
    html! { td.n data-label=(label) { data value=(value) { (number(value)) } } }
}

/// A cell with a time, in nanoseconds.
fn duration(label: &str, value: u64) -> Markup {
    html! { td.n data-label=(label) { data value=(value) { (time(value)) } } }
}

/// A cell with a number that is written already.
fn written(label: &str, text: &str) -> Markup {
    html! { td.n data-label=(label) { (text) } }
}

/// Where something begins along a whole, and how long it is, for a style.
fn along(begins: u64, length: u64, whole: u64) -> String {
    format!("left:{};width:{}", percent(begins, whole), percent(length, whole))
}

/// A part of a bar in a colour, for a style.
fn width(part: u64, whole: u64) -> String {
    format!("width:{}", percent(part, whole))
}
