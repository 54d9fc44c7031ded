//! Dates from seconds: the Gregorian calendar in UTC.

/// A moment as a clock on the wall shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateTime {
    /// Up to 9999.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 1 (Sunday) to 7.
    pub weekday: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
}

/// The last second of the year 9999: the clock has no digits for more.
const LAST: u64 = 253_402_300_799;

const DAY: u64 = 86_400;

impl DateTime {
    /// The date `seconds` after 1970-01-01 00:00 UTC.
    pub fn at(seconds: u64) -> Self {
        let seconds = seconds.min(LAST);
        let (days, of_day) = (seconds / DAY, seconds % DAY);
        let (year, month, day) = civil(days);
        Self {
            year,
            month,
            day,
            weekday: ((days + 4) % 7 + 1) as u8, // the first was a Thursday
            hour: (of_day / 3600) as u8,
            minute: (of_day / 60 % 60) as u8,
            second: (of_day % 60) as u8,
        }
    }
}

/// Year, month and day of the day `days` after 1970-01-01. Counts in years that begin in March, so
/// that the leap day is the last of its year.
fn civil(days: u64) -> (u16, u8, u8) {
    const DAYS_400_YEARS: u64 = 146_097;
    let since_march_0 = days + 719_468;
    let (era, day_of_era) = (since_march_0 / DAYS_400_YEARS, since_march_0 % DAYS_400_YEARS);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year as u16, month as u8, day as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_that_date_1_prints() {
        for (seconds, date, time, weekday) in [
            (0, (1970, 1, 1), (0, 0, 0), 5),
            (951_782_400, (2000, 2, 29), (0, 0, 0), 3),
            (951_868_799, (2000, 2, 29), (23, 59, 59), 3),
            (1_735_689_599, (2024, 12, 31), (23, 59, 59), 3),
            (4_107_542_400, (2100, 3, 1), (0, 0, 0), 2), // 2100 has no leap day
            (4_294_967_296, (2106, 2, 7), (6, 28, 16), 1), // past 32 bits
            (LAST, (9999, 12, 31), (23, 59, 59), 6),
            (u64::MAX, (9999, 12, 31), (23, 59, 59), 6),
        ] {
            let at = DateTime::at(seconds);
            assert_eq!((at.year, at.month, at.day), date, "{seconds}");
            assert_eq!((at.hour, at.minute, at.second), time, "{seconds}");
            assert_eq!(at.weekday, weekday, "{seconds}");
        }
    }

    #[test]
    fn each_day_follows_the_one_before() {
        let mut before = DateTime::at(0);
        for days in 1..200_000 {
            let at = DateTime::at(days * DAY);
            let next_day =
                (at.year, at.month, at.day) == (before.year, before.month, before.day + 1);
            let next_month = at.day == 1
                && (at.year, at.month) == (before.year, before.month + 1)
                && before.day >= 28;
            let next_year = (at.month, at.day) == (1, 1)
                && (before.month, before.day) == (12, 31)
                && at.year == before.year + 1;
            assert!(next_day || next_month || next_year, "{before:?} {at:?}");
            before = at;
        }
    }
}
