//! Durations as people write them: `500ms`, `30s`, `2m`, `1h30m`, `1.5s`; a bare number is seconds.

use std::time::Duration;

/// Units, and what one is in seconds.
const UNITS: [(&str, f64); 4] = [("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

/// A year: more is a slip, and timers do not take everything.
const LONGEST: f64 = 365.0 * 86400.0;

/// Reads a duration of more than 0; the error is for a user.
pub fn parse(text: &str) -> Result<Duration, String> {
    let help = "write a number and a unit: 500ms, 30s, 2m, 1h30m";
    if text.is_empty() {
        return Err(help.to_owned());
    }
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let number: f64 = number.parse().map_err(|_| help.to_owned())?;
        let bare = unit.is_empty() && after.is_empty() && rest.len() == text.len();
        let unit = if bare { "s" } else { unit };
        let (_, scale) = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(|| format!("{unit:?} is no unit: {help}"))?;
        seconds += number * scale;
        rest = after;
    }
    if seconds > LONGEST {
        return Err("more than a year".to_owned());
    }
    match Duration::from_secs_f64(seconds) {
        Duration::ZERO => Err("it must be more than 0".to_owned()),
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, millis) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("2m", 120_000),
            ("1h30m", 5_400_000),
            ("1.5s", 1_500),
            ("7", 7_000),
            ("1m5s20ms", 65_020),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "", "s", "-1s", "1 s", "1x", "1s2", "2 3", "..s", ".", "0", "0ms", "1e9h", "9999999h",
            "1µs", "nan", "inf", "٣s", "1.2.3s",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
