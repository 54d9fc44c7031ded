//! How a guest powers the machine off: the sleep registers of hardware-reduced ACPI (ACPI 6.5,
//! 4.8.3.7), and the PM1 control register of a full ACPI machine (4.8.3.2.1) as far as kernels
//! write to it without reading tables first.

use std::sync::atomic::{AtomicU8, Ordering};

use super::{Access, BaseDeviceOps, Effect, RegisterMap, RegisterName};
use crate::addr::{AccessWidth, Port, PortRange};

/// The sleep type of S5 (soft off) in the sleep control register, as the DSDT's `\_S5` says.
pub const SLP_TYP_S5: u8 = 5;

/// Sleep control register, write: SLP_TYPx in bits 2-4, SLP_EN in bit 5.
pub const SLEEP_CONTROL: u64 = 0;
/// Sleep status register: WAK_STS in bit 7, set only by a wake from sleep, and there is none.
pub const SLEEP_STATUS: u64 = 1;

const SLP_TYP_SHIFT: u8 = 2;
const SLP_TYP_MASK: u8 = 0b111;
const SLP_EN: u8 = 1 << 5;

/// The value that powers off when written to the sleep control register.
pub const SLEEP_CONTROL_S5: u8 = SLP_TYP_S5 << SLP_TYP_SHIFT | SLP_EN;

/// The sleep control and status registers, a byte each.
#[derive(Debug)]
pub struct SleepRegisters {
    first: Port,
    /// The type last written; the enable bit always reads 0.
    control: AtomicU8,
}

impl SleepRegisters {
    /// At `first` and the port behind it.
    pub fn new(first: Port) -> Self {
        Self { first, control: AtomicU8::new(0) }
    }
}

impl BaseDeviceOps<PortRange> for SleepRegisters {
    fn name(&self) -> &str {
        "acpi-sleep"
    }

    fn address_range(&self) -> PortRange {
        two_ports(self.first)
    }

    fn registers(&self) -> RegisterMap {
        RegisterMap::of(vec![
            RegisterName::byte("SLEEP_CONTROL", SLEEP_CONTROL),
            RegisterName::byte("SLEEP_STATUS", SLEEP_STATUS),
        ])
    }

    fn handle_read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        match (offset, width) {
            (SLEEP_CONTROL, AccessWidth::Byte) => Ok(self.control.load(Ordering::Relaxed).into()),
            (SLEEP_STATUS, AccessWidth::Byte) => Ok(0),
            (SLEEP_CONTROL | SLEEP_STATUS, _) => Err(Access::BadWidth),
            _ => Err(Access::NoRegister),
        }
    }

    fn handle_write(&self, offset: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        match (offset, width) {
            (SLEEP_CONTROL, AccessWidth::Byte) => {
                let val = val as u8;
                let sleep_type = (val >> SLP_TYP_SHIFT) & SLP_TYP_MASK;
                self.control.store(sleep_type << SLP_TYP_SHIFT, Ordering::Relaxed);
                let off = val & SLP_EN != 0 && sleep_type == SLP_TYP_S5;
                Ok(if off { Effect::PowerOff } else { Effect::None })
            }
            // Writing 1 clears the wake status, which is 0 already.
            (SLEEP_STATUS, AccessWidth::Byte) => Ok(Effect::None),
            (SLEEP_CONTROL | SLEEP_STATUS, _) => Err(Access::BadWidth),
            _ => Err(Access::NoRegister),
        }
    }
}

/// The PM1a control register at the port where QEMU's PC and AxVisor have it: 16 bits; SLP_EN is
/// bit 13, and sleep type 0 in bits 10-12 is S5 there.
#[derive(Debug)]
pub struct Pm1Control {
    first: Port,
}

/// What powers off when written to the PM1 control register.
pub const PM1_S5: u16 = 1 << 13;
const PM1_SLEEP_MASK: u16 = 0b1111 << 10;

impl Pm1Control {
    /// At `first` and the port behind it.
    pub fn new(first: Port) -> Self {
        Self { first }
    }
}

impl BaseDeviceOps<PortRange> for Pm1Control {
    fn name(&self) -> &str {
        "pm1-control"
    }

    fn address_range(&self) -> PortRange {
        two_ports(self.first)
    }

    fn registers(&self) -> RegisterMap {
        RegisterMap::of(vec![RegisterName::new("PM1_CNT", 0, 2)])
    }

    fn handle_read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        whole_word(offset, width).map(|()| 0)
    }

    fn handle_write(&self, offset: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        whole_word(offset, width)?;
        let off = val as u16 & PM1_SLEEP_MASK == PM1_S5;
        Ok(if off { Effect::PowerOff } else { Effect::None })
    }
}

fn whole_word(offset: u64, width: AccessWidth) -> Result<(), Access> {
    match (offset, width) {
        (0, AccessWidth::Word) => Ok(()),
        (0 | 1, _) => Err(Access::BadWidth),
        _ => Err(Access::NoRegister),
    }
}

/// `first` and the port behind it; the last port of all stands alone.
fn two_ports(first: Port) -> PortRange {
    PortRange::new(first, 2).unwrap_or_else(|| PortRange::at(first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::testing::touch_everything;

    #[test]
    fn every_offset_takes_every_width_both_ways() {
        touch_everything(&SleepRegisters::new(Port(0x600)));
        touch_everything(&Pm1Control::new(Port(0x604)));
    }

    #[test]
    fn only_s5_with_its_enable_bit_powers_off() {
        let sleep = SleepRegisters::new(Port(0x600));
        for value in 0..=0xff_u8 {
            let effect = sleep.handle_write(SLEEP_CONTROL, AccessWidth::Byte, value.into());
            let off = value & 0x3c == SLEEP_CONTROL_S5;
            assert_eq!(effect, Ok(if off { Effect::PowerOff } else { Effect::None }), "{value:#x}");
            let read = sleep.handle_read(SLEEP_CONTROL, AccessWidth::Byte);
            assert_eq!(read, Ok((value & 0x1c).into()));
        }
        let status = sleep.handle_write(SLEEP_STATUS, AccessWidth::Byte, 0x34);
        assert_eq!(status, Ok(Effect::None));
    }

    #[test]
    fn pm1_powers_off_by_a_whole_word_only() {
        let pm1 = Pm1Control::new(Port(0x604));
        for (width, value, effect) in [
            (AccessWidth::Word, 0x2000, Ok(Effect::PowerOff)),
            (AccessWidth::Word, 0x2001, Ok(Effect::PowerOff)), // SCI_EN beside it
            (AccessWidth::Word, 0x0000, Ok(Effect::None)),
            (AccessWidth::Word, 0x3400, Ok(Effect::None)), // another sleep type
            (AccessWidth::Byte, 0x20, Err(Access::BadWidth)),
        ] {
            assert_eq!(pm1.handle_write(0, width, value), effect, "{value:#x}");
        }
    }
}
