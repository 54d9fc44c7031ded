//! What `--host` asks for.

use std::{path::PathBuf, str::FromStr};

use crate::{config::parse_size, emulated::hosts};

/// CPUs of a host for which nothing is said.
pub const CPUS: u32 = 2;

/// `emulated[:HOST][,cpus=N][,memory=SIZE][,axvmm=FILE]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostWish {
    /// Which host; `None`: of the guest's architecture.
    pub host: Option<String>,
    /// How many CPUs it has.
    pub cpus: Option<u32>,
    /// Its memory, in bytes.
    pub memory: Option<u64>,
    /// The axvmm for it.
    pub axvmm: Option<PathBuf>,
}

impl FromStr for HostWish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split(',');
        let kind = words.next().unwrap_or_default();
        let host = match kind.split_once(':') {
            None if kind == "emulated" => None,
            Some(("emulated", host)) if hosts().any(|it| it == host) => Some(host.to_owned()),
            _ => {
                let all: Vec<_> = hosts().collect();
                return Err(format!("there is emulated, or emulated:HOST with {}", all.join(", ")));
            }
        };
        let mut wish = Self { host, ..Self::default() };
        for word in words {
            match word.split_once('=') {
                Some(("cpus", number)) => {
                    let number = number.parse().ok().filter(|it| (1..=64).contains(it));
                    wish.cpus = Some(number.ok_or("cpus is a number from 1 to 64")?);
                }
                Some(("memory", size)) => wish.memory = Some(parse_size(size)?),
                Some(("axvmm", file)) if !file.is_empty() => wish.axvmm = Some(file.into()),
                _ => return Err(format!("{word:?} is none of cpus=N, memory=SIZE, axvmm=FILE")),
            }
        }
        Ok(wish)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_with_what_it_has() {
        let wish = |text: &str| text.parse::<HostWish>();
        assert_eq!(wish("emulated").unwrap(), HostWish::default());
        let all = wish("emulated:riscv64-aia,cpus=4,memory=1G,axvmm=/a b").unwrap();
        assert_eq!(all.host.as_deref(), Some("riscv64-aia"));
        assert_eq!((all.cpus, all.memory), (Some(4), Some(1 << 30)));
        assert_eq!(all.axvmm, Some("/a b".into()));
        for wrong in ["", "real", "emulated:", "emulated:vax", "emulated,cpus=0", "emulated,x=1"] {
            assert!(wish(wrong).is_err(), "{wrong}");
        }
    }
}
