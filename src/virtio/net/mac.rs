//! Hardware addresses.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

/// The hardware address of a network card (IEEE 802).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address of a VM's card if nobody gives it one: always the same for the same names, and
    /// most likely no other card's. It is locally administered.
    pub fn of(vm: &str, card: &str) -> Self {
        // FNV-1a, 64 bits.
        let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        let bytes = vm.as_bytes().iter().chain(&[0]).chain(card.as_bytes());
        let [.., a, b, c, d, e] = bytes.fold(0xcbf2_9ce4_8422_2325, mix).to_be_bytes();
        Self([0x02, a, b, c, d, e])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let byte = |part: &str| match part.len() {
            2 if part.bytes().all(|b| b.is_ascii_hexdigit()) => u8::from_str_radix(part, 16).ok(),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text.split([':', '-']).map(byte).collect();
        let bytes: [u8; 6] = bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
            format!("{text:?} is no hardware address; write one like \"02:00:00:12:34:56\"")
        })?;
        match bytes {
            [first, ..] if first & 1 != 0 => {
                let even = first & !1 | 2;
                let advice = format!("let it begin with {even:02x}");
                Err(format!("{text} is the address of a group, which no card has; {advice}"))
            }
            [0, 0, 0, 0, 0, 0] => Err("a card cannot have an address of zeroes".into()),
            bytes => Ok(Self(bytes)),
        }
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_read_as_they_are_written() {
        let mac = Mac([0x52, 0x54, 0, 0xab, 0xcd, 0xef]);
        assert_eq!(mac.to_string(), "52:54:00:ab:cd:ef");
        assert_eq!(["52:54:00:ab:cd:ef", "52-54-00-AB-CD-EF"].map(str::parse), [Ok(mac), Ok(mac)]);
        for bad in ["", "52", "52:54:00:ab:cd", "52:54:00:ab:cd:ef:01", "5:254:00:ab:cd:ef"] {
            assert!(bad.parse::<Mac>().unwrap_err().contains("no hardware address"), "{bad}");
        }
        assert!("+1:54:00:ab:cd:ef".parse::<Mac>().is_err());
        assert!("53:54:00:ab:cd:ef".parse::<Mac>().unwrap_err().contains("begin with 52"));
        assert!("00:00:00:00:00:00".parse::<Mac>().is_err());
    }

    #[test]
    fn a_cards_own_address_depends_on_its_names_alone() {
        // Users have it in their DHCP servers' tables: it must never change.
        assert_eq!(Mac::of("web", "net0").to_string(), "02:17:b4:72:de:82");
        assert_ne!(Mac::of("web", "net0"), Mac::of("web", "net1"));
        assert_ne!(Mac::of("web", "net0"), Mac::of("webn", "et0"));
        for n in 0..1000 {
            let Mac([first, ..]) = Mac::of(&format!("vm{n}"), "net0");
            assert_eq!(first & 3, 2, "locally administered, and one card's");
        }
    }
}
