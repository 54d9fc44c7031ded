//! Sizes as people write them: `64K`, `512M`, `2GiB`.

/// More than any host has; on x86_64, what Linux can address.
pub const MAX: u64 = 1 << 46;

/// The number of bytes that a text such as `512M` means. A unit is a power of 1024; without one
/// it is bytes.
///
/// # Errors
/// What is wrong with it, for a user.
pub fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ if number.is_empty() => {
            return Err(format!("{text:?} is no size; write it like \"512M\""));
        }
        _ => {
            return Err(format!("{unit:?} is no unit; there are K, M, G and T (or KiB and so on)"));
        }
    };
    if number.is_empty() {
        return Err(format!("{text:?} is no size; write it like \"512M\""));
    }
    // Only a number that is far too large does not parse.
    let number: Option<u64> = number.parse().ok();
    check(number.and_then(|number| number.checked_mul(1 << shift)))
}

/// Refuses what no host has; `None` is more than 64 bits hold.
pub(super) fn check(bytes: Option<u64>) -> Result<u64, String> {
    bytes.filter(|bytes| *bytes <= MAX).ok_or_else(|| "more than 64T, which no host has".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        let cases = [
            ("4096", 4096),
            ("64K", 64 << 10),
            ("512M", 512 << 20),
            ("512m", 512 << 20),
            ("512MiB", 512 << 20),
            (" 2 GiB ", 2 << 30),
            ("64T", MAX),
            ("0", 0),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        let too_large = ["65T", "99999999999999999999999", "18446744073709551615T"];
        let no_size = ["", "M", "-1", "lots", "512MB", "1.5G", "0x1000", "5 1 2M", "512M!", "٣M"];
        for text in too_large {
            assert!(parse(text).unwrap_err().contains("64T"), "{text}");
        }
        for text in no_size {
            assert!(parse(text).unwrap_err().contains("is no "), "{text}");
        }
    }
}
