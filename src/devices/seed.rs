//! The `seed` CSR of RISC-V's entropy source (The RISC-V Instruction Set Manual, volume I, Zkr:
//! "Entropy Source"): each access gives 16 bits of entropy, here the host kernel's.
//!
//! The guest must access it by a read-write instruction and what it writes means nothing. A host
//! kernel that hands the access out makes a read and a write of it, or only the read.

use std::{fmt, io, time::Duration};

use super::{Access, BaseDeviceOps, Effect, RegisterMap, RegisterName};
use crate::{
    addr::{AccessWidth, SysRegAddr, SysRegAddrRange},
    ratelimit::RateLimit,
};

/// The CSR's number.
pub const SEED: SysRegAddr = SysRegAddr(0x015);

/// OPST: 16 bits of entropy are in the low half.
pub const OPST_ES16: u64 = 0b10 << 30;
/// OPST: the source has failed for good.
pub const OPST_DEAD: u64 = 0b11 << 30;

/// Fills the bytes with entropy, or fails.
pub type EntropySource = Box<dyn Fn(&mut [u8]) -> io::Result<()> + Send + Sync>;

/// The CSR `seed`, which gives a guest entropy.
pub struct Seed {
    source: EntropySource,
    told: RateLimit,
}

impl Seed {
    /// With the host kernel's entropy.
    pub fn new() -> Self {
        Self::with_source(Box::new(|bytes| getrandom::fill(bytes).map_err(io::Error::other)))
    }

    /// With entropy from this source.
    pub fn with_source(source: EntropySource) -> Self {
        Self { source, told: RateLimit::new(1, Duration::from_secs(60)) }
    }
}

impl Default for Seed {
    fn default() -> Self {
        Self::new()
    }
}

impl BaseDeviceOps<SysRegAddrRange> for Seed {
    fn name(&self) -> &str {
        "seed"
    }

    fn address_range(&self) -> SysRegAddrRange {
        SysRegAddrRange::at(SEED)
    }

    fn registers(&self) -> RegisterMap {
        RegisterMap::of(vec![RegisterName::new("seed", 0, 1)])
    }

    fn handle_read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        check(offset, width)?;
        let mut bits = [0; 2];
        match (self.source)(&mut bits) {
            Ok(()) => Ok(OPST_ES16 | u64::from(u16::from_le_bytes(bits))),
            Err(error) => {
                if self.told.pass().is_some() {
                    log::error!("seed: this host has no entropy for the guest: {error}");
                }
                Ok(OPST_DEAD)
            }
        }
    }

    fn handle_write(&self, offset: u64, width: AccessWidth, _: u64) -> Result<Effect, Access> {
        check(offset, width).map(|()| Effect::None)
    }
}

fn check(offset: u64, width: AccessWidth) -> Result<(), Access> {
    match (offset, width) {
        (0, AccessWidth::Qword) => Ok(()),
        (0, _) => Err(Access::BadWidth),
        _ => Err(Access::NoRegister),
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::devices::testing::touch_everything;

    fn read(seed: &Seed) -> u64 {
        seed.handle_read(0, AccessWidth::Qword).unwrap()
    }

    #[test]
    fn every_offset_takes_every_width_both_ways() {
        touch_everything(&Seed::new());
    }

    #[test]
    fn the_source_is_what_the_guest_gets() {
        let seed = Seed::with_source(Box::new(|bytes| {
            bytes.copy_from_slice(&[0x34, 0xf2]);
            Ok(())
        }));
        assert_eq!(read(&seed), 0x8000_f234);
        assert_eq!(seed.handle_write(0, AccessWidth::Qword, u64::MAX), Ok(Effect::None));
    }

    #[test]
    fn the_hosts_entropy_is_not_always_the_same() {
        let seed = Seed::new();
        // That 64 draws of 16 bits are all alike has a chance of 2^-1008.
        let draws: HashSet<u64> = (0..64).map(|_| read(&seed)).collect();
        assert!(draws.len() > 1);
        assert!(draws.iter().all(|draw| draw >> 16 == OPST_ES16 >> 16));
    }

    #[test]
    fn a_source_that_fails_is_dead_and_never_looks_like_entropy() {
        let seed = Seed::with_source(Box::new(|_| Err(io::ErrorKind::NotFound.into())));
        assert_eq!([read(&seed), read(&seed)], [OPST_DEAD; 2]);
    }
}
