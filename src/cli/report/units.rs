//! Numbers, times and dates as people read them.

use crate::devices::cmos::DateTime;

/// Thousands apart by narrow spaces: `1 234 567`.
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A time in nanoseconds with three digits and its unit: `1.23 ms`.
pub fn time(nanoseconds: u64) -> String {
    let (value, unit) = match nanoseconds {
        0..1_000 => return format!("{nanoseconds} ns"),
        1_000..1_000_000 => (nanoseconds as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (nanoseconds as f64 / 1e6, "ms"),
        _ => (nanoseconds as f64 / 1e9, "s"),
    };
    // What would be rounded to the next power of ten has one digit fewer behind the point.
    let digits = match value {
        0.0..9.995 => 2,
        9.995..99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

/// A moment in a recording, whose moments are so many nanoseconds apart.
pub fn moment(nanoseconds: u64, step: u64) -> String {
    let (scale, unit, one) = match nanoseconds {
        0..1_000_000 => (1e3, "µs", 1_000),
        1_000_000..1_000_000_000 => (1e6, "ms", 1_000_000),
        _ => (1e9, "s", 1_000_000_000_u64),
    };
    if nanoseconds == 0 {
        return "0 s".to_owned();
    }
    let mut digits = 0;
    let mut least = one;
    while least > step.max(1) {
        (least, digits) = (least / 10, digits + 1);
    }
    format!("{:.digits$} {unit}", nanoseconds as f64 / scale)
}

/// A time in nanoseconds that is a round number of some unit: `50 ms`.
pub fn round(nanoseconds: u64) -> String {
    let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs")];
    let unit = units.into_iter().find(|(unit, _)| nanoseconds >= *unit);
    unit.map_or_else(|| time(nanoseconds), |(unit, name)| format!("{} {name}", nanoseconds / unit))
}

/// A part of a whole, in percent.
pub fn share(part: u64, whole: u64) -> String {
    let percent = 100.0 * part as f64 / whole.max(1) as f64;
    match percent {
        0.0 => "0 %".to_owned(),
        0.0..0.01 => "< 0.01 %".to_owned(),
        0.01..1.0 => format!("{percent:.2} %"),
        _ => format!("{percent:.1} %"),
    }
}

/// An amount of memory, in bytes.
pub fn bytes(value: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.into_iter().find(|(unit, _)| value >= *unit && value % unit == 0);
    unit.map_or_else(|| format!("{value} bytes"), |(unit, name)| format!("{} {name}", value / unit))
}

/// A moment in nanoseconds since 1970, in UTC.
pub fn date(nanoseconds: u64) -> String {
    let DateTime { year, month, day, hour, minute, second, .. } =
        DateTime::at(nanoseconds / 1_000_000_000);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_as_people_read_them() {
        let plain = |text: String| text.replace('\u{202f}', "_");
        let numbers = [(0, "0"), (999, "999"), (1000, "1_000"), (1234567, "1_234_567")];
        for (value, text) in numbers {
            assert_eq!(plain(number(value)), text);
        }
        for (value, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1000, "1.00 µs"),
            (9_996, "10.0 µs"),
            (12_345_678, "12.3 ms"),
            (1_500_000_000, "1.50 s"),
            (u64::MAX, "18446744074 s"),
        ] {
            assert_eq!(time(value), text);
        }
        for (value, step, text) in [
            (1_234_567_890, 100_000_000, "1.2 s"),
            (1_234_567_890, 2_000_000, "1.235 s"),
            (5_000_000_000, 1_000_000_000, "5 s"),
            (1_234_567, 50_000, "1.23 ms"),
            (20_000_000, 5_000_000, "20 ms"),
            (0, 1_000_000_000, "0 s"),
            (1_230, 10, "1.23 µs"),
        ] {
            assert_eq!(moment(value, step), text);
        }
        let rounds = [(100, "100 ns"), (50_000_000, "50 ms"), (2_000_000_000, "2 s")];
        for (value, text) in rounds {
            assert_eq!(round(value), text);
        }
        let shares = [(0, "0 %"), (1, "< 0.01 %"), (500, "0.50 %"), (100_000, "100.0 %")];
        for (part, text) in shares {
            assert_eq!(share(part, 100_000), text);
        }
        assert_eq!((bytes(1 << 28), bytes(5)), ("256 MiB".to_owned(), "5 bytes".to_owned()));
        assert_eq!(date(1_795_298_933_066_210_848), "2026-11-21 22:08:53 UTC");
    }
}
