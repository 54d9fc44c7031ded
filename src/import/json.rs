//! JSON whose every value and key knows its place. A value is looked into when it is asked for, so
//! that it does not matter how deep what nobody asks for is nested.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::config::{At, Place, Report, nearest};

/// A value in a text.
#[derive(Clone, Copy, Debug)]
pub struct Json<'a> {
    document: &'a str,
    source: usize,
    raw: &'a str,
}

impl<'a> Json<'a> {
    /// The value that a source's text is; `None` after a report of what is wrong.
    pub fn document(text: &'a str, source: usize, report: &mut Report) -> Option<Self> {
        match serde_json::from_str::<&RawValue>(text) {
            Ok(raw) => Some(Self { document: text, source, raw: raw.get() }),
            Err(error) => {
                let at = offset(text, error.line(), error.column());
                let place = Place { source, start: at, end: at };
                let message = error.to_string();
                let message = message.split(" at line ").next().unwrap_or_default();
                let problem = report.problem(place, format!("this is no JSON: {message}"));
                if text.trim().is_empty() {
                    problem.help("the file is empty");
                }
                None
            }
        }
    }

    /// Where it stands.
    pub fn place(self) -> Place {
        self.place_of(self.raw)
    }

    /// Where a part of the text stands.
    fn place_of(self, part: &str) -> Place {
        let start = (part.as_ptr() as usize).saturating_sub(self.document.as_ptr() as usize);
        Place { source: self.source, start, end: start + part.len() }
    }

    fn is_null(self) -> bool {
        self.raw == "null"
    }

    /// Whether it is written as one of these.
    pub fn says(self, texts: &[&str]) -> bool {
        texts.contains(&self.raw)
    }

    /// What kind of value it is, with its article.
    fn kind(self) -> &'static str {
        match self.raw.as_bytes().first() {
            Some(b'"') => "a string",
            Some(b'{') => "an object",
            Some(b'[') => "a list",
            Some(b't' | b'f') => "a boolean",
            Some(b'n') => "null",
            _ => "a number",
        }
    }

    /// Reports that it is not what it should be.
    fn unexpected<T>(self, expected: &str, report: &mut Report) -> Option<T> {
        report.problem(self.place(), format!("expected {expected}, found {}", self.kind()));
        None
    }

    fn at<T>(self, value: T) -> At<T> {
        At { value, place: self.place() }
    }

    /// The text that it is.
    pub fn text(self, report: &mut Report) -> Option<At<String>> {
        match serde_json::from_str(self.raw) {
            Ok(text) => Some(self.at(text)),
            Err(_) if self.kind() == "a string" => {
                report.problem(self.place(), "this string has an escape that is no character");
                None
            }
            Err(_) => self.unexpected("a string", report),
        }
    }

    /// The flag that it is.
    pub fn flag(self, report: &mut Report) -> Option<At<bool>> {
        match serde_json::from_str(self.raw) {
            Ok(flag) => Some(self.at(flag)),
            Err(_) => self.unexpected("true or false", report),
        }
    }

    /// The whole number that it is; one that does not fit is the largest.
    pub fn number(self, report: &mut Report) -> Option<At<u64>> {
        if self.kind() != "a number" {
            return self.unexpected("an integer, 0 or more", report);
        }
        if !self.raw.bytes().all(|byte| byte.is_ascii_digit()) {
            report.problem(self.place(), "expected an integer, 0 or more");
            return None;
        }
        Some(self.at(self.raw.parse().unwrap_or(u64::MAX)))
    }

    /// The elements of the list that it is.
    pub fn list(self, report: &mut Report) -> Option<Vec<Self>> {
        match serde_json::from_str::<Elements<'a>>(self.raw) {
            Ok(Elements(elements)) => {
                let element = |raw: &'a RawValue| Self { raw: raw.get(), ..self };
                Some(elements.into_iter().map(element).collect())
            }
            Err(_) => self.unexpected("a list", report),
        }
    }

    /// The object that it is, which messages call `name`.
    pub fn object(self, name: &'static str, report: &mut Report) -> Option<Object<'a>> {
        let Ok(Members(pairs)) = serde_json::from_str::<Members<'a>>(self.raw) else {
            return self.unexpected("an object", report);
        };
        let mut members: Vec<Member<'a>> = Vec::new();
        for (key, raw) in pairs {
            let key_at = Self { raw: key.get(), ..self };
            let At { value: key, place } = key_at.text(report)?;
            members.push(Member { key, place, value: Self { raw: raw.get(), ..self } });
        }
        Some(Object { name, place: self.place(), members, known: Vec::new() })
    }
}

/// An object whose keys are taken one by one.
pub struct Object<'a> {
    name: &'static str,
    /// Where it stands.
    pub place: Place,
    members: Vec<Member<'a>>,
    known: Vec<&'static str>,
}

/// A key that has not been taken.
pub struct Member<'a> {
    pub key: String,
    pub place: Place,
    pub value: Json<'a>,
}

impl<'a> Object<'a> {
    /// The value of a key, unless it is null, which is as if it were not there.
    pub fn take(&mut self, key: &'static str, report: &mut Report) -> Option<Json<'a>> {
        self.known.push(key);
        let (named, rest): (Vec<_>, Vec<_>) =
            self.members.drain(..).partition(|member| member.key == key);
        self.members = rest;
        for again in named.iter().skip(1) {
            report.problem(again.place, format!("duplicate key {key:?}")).help("give it once");
        }
        named.first().map(|member| member.value).filter(|value| !value.is_null())
    }

    /// The value of a key that must be there.
    pub fn require(&mut self, key: &'static str, report: &mut Report) -> Option<Json<'a>> {
        let value = self.take(key, report);
        if value.is_none() {
            report.problem(self.place, format!("{} has no {key:?}", self.name));
        }
        value
    }

    /// All that has not been taken.
    pub fn rest(self) -> Vec<Member<'a>> {
        self.members
    }

    /// Reports all that has not been taken.
    pub fn finish(self, report: &mut Report) {
        for member in &self.members {
            let message = format!("unknown key {:?} in {}", member.key, self.name);
            let help = match nearest(&member.key, self.known.iter().copied()) {
                Some(name) => format!("did you mean {name:?}?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            report.problem(member.place, message).help(help);
        }
    }
}

/// Where a line and column, as the parser counts them, are in a text.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let start = match line.checked_sub(2) {
        Some(newline) => text.match_indices('\n').nth(newline).map_or(0, |(at, _)| at + 1),
        None => 0,
    };
    (start + column.saturating_sub(1)).min(text.len())
}

struct Elements<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Elements<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Vec::deserialize(from).map(Self)
    }
}

/// Keys and values as they are written, the same key as often as it is.
struct Members<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Vec<(&'de RawValue, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
                Err(A::Error::custom("a list"))
            }
        }
        from.deserialize_map(Pairs).map(Self)
    }
}
