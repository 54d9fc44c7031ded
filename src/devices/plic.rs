//! The Platform-Level Interrupt Controller of RISC-V (RISC-V Platform-Level Interrupt Controller
//! Specification 1.0.0; device tree `sifive,plic-1.0.0`), for hosts whose kernel has none: 95
//! sources, and one context a hart, for its supervisor mode.
//!
//! What stands here is its place on the bus and its lock; what it does is in `core`. A hart's pin
//! is driven with the lock held: two threads that change it do so in the order in which they changed
//! the registers, and a pin never stays behind.
//!
//! ```text
//! 0x00_0000 + 4 * source            priority
//! 0x00_1000 + 4 * word              pending, a bit a source
//! 0x00_2000 + 0x80 * context        enables, a bit a source
//! 0x20_0000 + 0x1000 * context      threshold, and behind it claim and complete
//! ```

mod core;

use std::{fmt, sync::Arc};

use self::core::Core;
use super::{Access, BaseDeviceOps, Effect, EmuDeviceType, RegisterMap, RegisterName};
use crate::{
    addr::{AccessWidth, GuestPhysAddrRange},
    hal::{ExternalIrq, IrqSink},
};
use parking_lot::{Mutex, MutexGuard};

/// The highest source; there is none with the number 0. A device tree's `riscv,ndev`.
pub const SOURCES: u32 = 95;
/// The highest priority, and so the threshold that lets nothing through.
pub const MAX_PRIORITY: u32 = 7;

/// "Memory Map".
const PENDING: u64 = 0x1000;
const PENDING_END: u64 = PENDING + WORDS * 4;
const ENABLES: u64 = 0x2000;
const ENABLES_STRIDE: u64 = 0x80;
const CONTEXTS: u64 = 0x20_0000;
const CONTEXT_STRIDE: u64 = 0x1000;
const THRESHOLD: u64 = 0;
const CLAIM_COMPLETE: u64 = 4;

/// The specification has room for 1024 sources; those that are not there read as 0.
const WORDS: u64 = 32;
/// And for so many contexts.
pub const MAX_CONTEXTS: usize = 15872;

/// The registers; of the enables, all words of a context as one.
const NAMES: &[RegisterName] = &[
    RegisterName::dword("Priority", 0).times(PENDING / 4, 4),
    RegisterName::dword("Pending", PENDING).times(WORDS, 4),
    RegisterName::new("Enable", ENABLES, ENABLES_STRIDE).times(MAX_CONTEXTS as u64, ENABLES_STRIDE),
    RegisterName::dword("Threshold", CONTEXTS + THRESHOLD)
        .times(MAX_CONTEXTS as u64, CONTEXT_STRIDE),
    RegisterName::dword("Claim/Complete", CONTEXTS + CLAIM_COMPLETE)
        .times(MAX_CONTEXTS as u64, CONTEXT_STRIDE),
];

/// How large the window of a PLIC for `harts` harts is, in bytes.
pub const fn size(harts: usize) -> u64 {
    CONTEXTS + harts as u64 * CONTEXT_STRIDE
}

/// A register of the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    Priority { source: usize },
    Pending { word: usize },
    Enables { context: usize, word: usize },
    Threshold { context: usize },
    ClaimComplete { context: usize },
}

impl Register {
    fn decode(offset: u64, width: AccessWidth, contexts: usize) -> Result<Self, Access> {
        let context_of = |from: u64, stride: u64| {
            let context = ((offset - from) / stride) as usize;
            if context < contexts { Ok(context) } else { Err(Access::NoRegister) }
        };
        let register = match offset & !3 {
            at @ 0..PENDING => Self::Priority { source: at as usize / 4 },
            at @ PENDING..PENDING_END => Self::Pending { word: (at - PENDING) as usize / 4 },
            at @ ENABLES..CONTEXTS => Self::Enables {
                context: context_of(ENABLES, ENABLES_STRIDE)?,
                word: (at % ENABLES_STRIDE) as usize / 4,
            },
            at @ CONTEXTS.. => {
                let context = context_of(CONTEXTS, CONTEXT_STRIDE)?;
                match at % CONTEXT_STRIDE {
                    THRESHOLD => Self::Threshold { context },
                    CLAIM_COMPLETE => Self::ClaimComplete { context },
                    _ => return Err(Access::NoRegister),
                }
            }
            _ => return Err(Access::NoRegister),
        };
        match width {
            AccessWidth::Dword if offset % 4 == 0 => Ok(register),
            AccessWidth::Dword => Err(Access::Unaligned),
            _ => Err(Access::BadWidth),
        }
    }
}

/// The controller. Devices drive its sources as an [`IrqSink`]; it drives the harts' pins.
pub struct Plic {
    range: GuestPhysAddrRange,
    contexts: usize,
    harts: Arc<dyn ExternalIrq>,
    core: Mutex<Core>,
}

impl Plic {
    /// In a window of [`size`] bytes; context n is hart n's, whose pin is `harts`' vCPU n. Of more
    /// than [`MAX_CONTEXTS`] harts the first ones count.
    ///
    /// It holds `harts` as long as it lives: whoever holds the controller must not be what `harts`
    /// is kept alive by.
    pub fn new(range: GuestPhysAddrRange, harts: Arc<dyn ExternalIrq>, hart_num: usize) -> Self {
        let contexts = hart_num.min(MAX_CONTEXTS);
        Self { range, contexts, harts, core: Mutex::new(Core::new(contexts)) }
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock()
    }

    fn pin(&self) -> impl FnMut(usize, bool) {
        |context, high| self.harts.set_external_irq(context, high)
    }
}

impl IrqSink for Plic {
    /// A source that is not there leads nowhere.
    fn set_irq(&self, irq: u32, high: bool) {
        if (1..=SOURCES).contains(&irq) {
            self.core().set_level(irq as usize, high, &mut self.pin());
        }
    }

    /// An edge that comes while its source is being served is served again, once.
    fn pulse_irq(&self, irq: u32) {
        if (1..=SOURCES).contains(&irq) {
            self.core().pulse(irq as usize, &mut self.pin());
        }
    }
}

impl BaseDeviceOps<GuestPhysAddrRange> for Plic {
    fn name(&self) -> &str {
        "plic"
    }

    fn emu_type(&self) -> EmuDeviceType {
        EmuDeviceType::InterruptController
    }

    fn address_range(&self) -> GuestPhysAddrRange {
        self.range
    }

    fn registers(&self) -> RegisterMap {
        RegisterMap::of(NAMES)
    }

    fn handle_read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        let register = Register::decode(offset, width, self.contexts)?;
        let mut core = self.core();
        Ok(u64::from(match register {
            Register::Priority { source } => core.priority(source),
            Register::Pending { word } => core.pending(word),
            Register::Enables { context, word } => core.enables(context, word),
            Register::Threshold { context } => core.threshold(context),
            Register::ClaimComplete { context } => core.claim(context, &mut self.pin()),
        }))
    }

    fn handle_write(&self, offset: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        let register = Register::decode(offset, width, self.contexts)?;
        let (mut core, val, pin) = (self.core(), val as u32, &mut self.pin());
        match register {
            Register::Priority { source } => core.set_priority(source, val, pin),
            Register::Pending { .. } => return Err(Access::ReadOnly),
            Register::Enables { context, word } => core.set_enables(context, word, val, pin),
            Register::Threshold { context } => core.set_threshold(context, val, pin),
            Register::ClaimComplete { context } => core.complete(context, val, pin),
        }
        Ok(Effect::None)
    }
}

impl fmt::Debug for Plic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plic({}, {:?})", self.range, self.core())
    }
}

#[cfg(test)]
mod tests;
