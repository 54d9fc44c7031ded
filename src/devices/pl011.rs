//! Arm's UART, the PL011 (PrimeCell UART (PL011) Technical Reference Manual, DDI 0183G).
//!
//! What is sent is at the console at once, so that the transmitter is always empty; it sends whether
//! or not it has been enabled, for early code that just writes to the data register. The time that a
//! character takes on a wire is not there either: whatever waits in the receive FIFO has timed out.
//!
//! A driver drains the receiver as it starts, and bytes that came before would be lost. So input
//! waits outside until the guest listens: it has a receive interrupt unmasked and the receiver
//! enabled (Linux unmasks it for a moment before it enables and drains), or it polls the flags.

use std::{io, sync::Arc};

use parking_lot::Mutex;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{
    Access, BaseDeviceOps, Effect, EmuDeviceType, IrqLine, RegisterMap, RegisterName,
    console::{ConsoleIn, ConsoleOut, InputGate, tell_host},
    irq::LevelIrq,
    primecell::{self, PeripheralId},
};
use crate::addr::{AccessWidth, GuestPhysAddrRange};

/// Data.
pub const DR: u64 = 0x000;
/// Receive status (read), error clear (write).
pub const RSR_ECR: u64 = 0x004;
/// Flags.
pub const FR: u64 = 0x018;
/// IrDA low-power counter.
pub const ILPR: u64 = 0x020;
/// Integer and fractional baud rate.
pub const IBRD: u64 = 0x024;
/// Fractional baud rate.
pub const FBRD: u64 = 0x028;
/// Line control.
pub const LCR_H: u64 = 0x02c;
/// Control.
pub const CR: u64 = 0x030;
/// Interrupt FIFO level select.
pub const IFLS: u64 = 0x034;
/// Interrupt mask set/clear: a bit that is set lets its interrupt through.
pub const IMSC: u64 = 0x038;
/// Raw and masked interrupt status.
pub const RIS: u64 = 0x03c;
/// Masked interrupt status.
pub const MIS: u64 = 0x040;
/// Interrupt clear.
pub const ICR: u64 = 0x044;
/// DMA control; there is no DMA here.
pub const DMACR: u64 = 0x048;

/// Their names (table 3-1).
const NAMES: &[RegisterName] = &[
    RegisterName::dword("UARTDR", DR),
    RegisterName::dword("UARTRSR/UARTECR", RSR_ECR),
    RegisterName::dword("UARTFR", FR),
    RegisterName::dword("UARTILPR", ILPR),
    RegisterName::dword("UARTIBRD", IBRD),
    RegisterName::dword("UARTFBRD", FBRD),
    RegisterName::dword("UARTLCR_H", LCR_H),
    RegisterName::dword("UARTCR", CR),
    RegisterName::dword("UARTIFLS", IFLS),
    RegisterName::dword("UARTIMSC", IMSC),
    RegisterName::dword("UARTRIS", RIS),
    RegisterName::dword("UARTMIS", MIS),
    RegisterName::dword("UARTICR", ICR),
    RegisterName::dword("UARTDMACR", DMACR),
    primecell::PERIPH_ID,
    primecell::PCELL_ID,
];

/// Revision r1p3: a FIFO of 16.
const ID: PeripheralId = PeripheralId { part: 0x011, revision: 1 };

/// FR: the modem's lines, and what the FIFOs are like. The transmitter is empty and idle, always.
const FR_CTS: u32 = 1 << 0;
const FR_DSR: u32 = 1 << 1;
const FR_DCD: u32 = 1 << 2;
/// FR: nothing has been received.
pub const FR_RXFE: u32 = 1 << 4;
const FR_RXFF: u32 = 1 << 6;
const FR_TXFE: u32 = 1 << 7;
const FR_RI: u32 = 1 << 8;

/// LCR_H: FIFO enable; without it the FIFO is one character.
const LCR_H_FEN: u32 = 1 << 4;

/// CR: the bits that there are; enabled are, after reset, receiver and transmitter.
const CR_MASK: u32 = 0xff87;
const CR_RESET: u32 = 0x0300;
/// CR: UARTEN and RXE.
const CR_RECEIVES: u32 = 1 << 0 | 1 << 9;
/// CR: what is sent comes back as received.
const CR_LBE: u32 = 1 << 7;
const CR_DTR: u32 = 1 << 10;
const CR_RTS: u32 = 1 << 11;
const CR_OUT1: u32 = 1 << 12;
const CR_OUT2: u32 = 1 << 13;

/// IFLS: receive level in bits 3-5, transmit level in bits 0-2; both half full after reset.
const IFLS_RESET: u32 = 0x12;

/// Interrupts: receive, transmit, receive timeout, overrun; and all eleven.
pub const INT_RX: u32 = 1 << 4;
/// Interrupt: the transmitter wants more.
pub const INT_TX: u32 = 1 << 5;
/// Interrupt: something waits, and nothing more comes.
pub const INT_RT: u32 = 1 << 6;
/// Interrupt: a character was lost.
pub const INT_OE: u32 = 1 << 10;
const INT_ALL: u32 = 0x7ff;

/// RSR: a character came when the FIFO was full.
const RSR_OE: u32 = 1 << 3;

/// The receive FIFO, in characters.
const FIFO_SIZE: usize = 16;

#[derive(Default)]
struct Fifo {
    bytes: [u8; FIFO_SIZE],
    first: usize,
    len: usize,
}

impl Fifo {
    /// There must be room.
    fn push(&mut self, byte: u8) {
        self.bytes[(self.first + self.len) % FIFO_SIZE] = byte;
        self.len += 1;
    }

    fn pop(&mut self) -> Option<u8> {
        self.len = self.len.checked_sub(1)?;
        let byte = self.bytes[self.first];
        self.first = (self.first + 1) % FIFO_SIZE;
        Some(byte)
    }
}

struct State {
    irq: LevelIrq,
    fifo: Fifo,
    /// An empty FIFO reads as the character before.
    last: u8,
    rsr: u32,
    ilpr: u32,
    ibrd: u32,
    fbrd: u32,
    lcr_h: u32,
    cr: u32,
    /// The guest has never written CR, and may never do.
    cr_untouched: bool,
    ifls: u32,
    imsc: u32,
    ris: u32,
    dmacr: u32,
    gate: InputGate,
}

impl State {
    fn new(irq: IrqLine) -> Self {
        Self {
            irq: LevelIrq::new(irq),
            fifo: Fifo::default(),
            last: 0,
            rsr: 0,
            ilpr: 0,
            ibrd: 0,
            fbrd: 0,
            lcr_h: 0,
            cr: CR_RESET,
            cr_untouched: true,
            ifls: IFLS_RESET,
            imsc: 0,
            ris: 0,
            dmacr: 0,
            gate: InputGate::default(),
        }
    }

    fn loops(&self) -> bool {
        self.cr & CR_LBE != 0
    }

    fn listens(&self) -> bool {
        let enabled = self.cr_untouched || self.cr & CR_RECEIVES == CR_RECEIVES;
        let interrupt = self.imsc & (INT_RX | INT_RT) != 0 && enabled;
        !self.loops() && (interrupt || self.gate.polls())
    }

    /// How many characters the receiver has room for.
    fn capacity(&self) -> usize {
        if self.lcr_h & LCR_H_FEN != 0 { FIFO_SIZE } else { 1 }
    }

    /// With so many characters the receive interrupt comes.
    fn trigger_level(&self) -> usize {
        if self.lcr_h & LCR_H_FEN == 0 {
            return 1;
        }
        match self.ifls >> 3 & 7 {
            0 => FIFO_SIZE / 8,
            1 => FIFO_SIZE / 4,
            2 => FIFO_SIZE / 2,
            3 => FIFO_SIZE * 3 / 4,
            _ => FIFO_SIZE * 7 / 8,
        }
    }

    fn receive(&mut self, byte: u8) {
        if self.fifo.len >= self.capacity() {
            self.rsr |= RSR_OE;
            self.ris |= INT_OE;
            return;
        }
        self.fifo.push(byte);
        self.ris |= INT_RT;
        if self.fifo.len >= self.trigger_level() {
            self.ris |= INT_RX;
        }
    }

    fn read_data(&mut self) -> u32 {
        if let Some(byte) = self.fifo.pop() {
            self.last = byte;
        }
        if self.fifo.len < self.trigger_level() {
            self.ris &= !INT_RX;
        }
        // What is left has timed out (again).
        self.ris = self.ris & !INT_RT | if self.fifo.len > 0 { INT_RT } else { 0 };
        self.last.into()
    }

    fn flags(&self) -> u32 {
        let mut flags = FR_TXFE;
        if self.fifo.len == 0 {
            flags |= FR_RXFE;
        }
        if self.fifo.len >= self.capacity() {
            flags |= FR_RXFF;
        }
        if !self.loops() {
            return flags | FR_CTS | FR_DSR | FR_DCD;
        }
        let loops = [(CR_RTS, FR_CTS), (CR_DTR, FR_DSR), (CR_OUT1, FR_DCD), (CR_OUT2, FR_RI)];
        let on = loops.into_iter().filter(|(out, _)| self.cr & out != 0);
        on.fold(flags, |flags, (_, back)| flags | back)
    }

    fn read(&mut self, register: u64) -> Result<u32, Access> {
        Ok(match register {
            DR => self.read_data(),
            RSR_ECR => self.rsr,
            FR => {
                self.gate.polled();
                self.flags()
            }
            ILPR => self.ilpr,
            IBRD => self.ibrd,
            FBRD => self.fbrd,
            LCR_H => self.lcr_h,
            CR => self.cr,
            IFLS => self.ifls,
            IMSC => self.imsc,
            RIS => self.ris,
            MIS => self.ris & self.imsc,
            ICR => return Err(Access::WriteOnly),
            DMACR => self.dmacr,
            other => return ID.read(other).ok_or(Access::NoRegister),
        })
    }

    fn write(&mut self, register: u64, value: u32, out: &dyn ConsoleOut) -> Result<(), Access> {
        self.gate.busy();
        match register {
            DR => {
                match self.loops() {
                    true => self.receive(value as u8),
                    false => out.put(&[value as u8]),
                }
                // Sent, and there is room again.
                self.ris |= INT_TX;
            }
            RSR_ECR => self.rsr = 0,
            ILPR => self.ilpr = value & 0xff,
            IBRD => self.ibrd = value & 0xffff,
            FBRD => self.fbrd = value & 0x3f,
            LCR_H => self.set_line_control(value & 0xff),
            CR => {
                self.cr = value & CR_MASK;
                self.cr_untouched = false;
            }
            IFLS => self.ifls = value & 0x3f,
            IMSC => self.imsc = value & INT_ALL,
            ICR => self.ris &= !value,
            DMACR => self.dmacr = value & 7,
            FR | RIS | MIS => return Err(Access::ReadOnly),
            other if ID.read(other).is_some() => return Err(Access::ReadOnly),
            _ => return Err(Access::NoRegister),
        }
        Ok(())
    }

    /// Switching between FIFO and single character empties the receiver.
    fn set_line_control(&mut self, value: u32) {
        if (self.lcr_h ^ value) & LCR_H_FEN != 0 {
            self.fifo = Fifo::default();
            self.ris &= !(INT_RX | INT_RT);
        }
        self.lcr_h = value;
    }

    /// Brings the line up to date; whether the host is to be told to feed again.
    fn after(&mut self) -> bool {
        self.irq.set(self.ris & self.imsc != 0);
        let ready = self.listens() && self.fifo.len == 0;
        self.gate.must_tell(ready)
    }
}

/// A PL011 in memory.
pub struct Pl011 {
    name: String,
    range: GuestPhysAddrRange,
    out: Arc<dyn ConsoleOut>,
    state: Mutex<State>,
    notify: EventFd,
}

impl Pl011 {
    /// A UART called `name`, as it leaves reset, in [`primecell::SIZE`] bytes; `irq` is driven by
    /// level. Fails if the host has no eventfd left.
    pub fn new(
        name: impl Into<String>,
        range: GuestPhysAddrRange,
        irq: IrqLine,
        out: Arc<dyn ConsoleOut>,
    ) -> io::Result<Self> {
        let state = Mutex::new(State::new(irq));
        let notify = EventFd::new(EFD_NONBLOCK)?;
        Ok(Self { name: name.into(), range, out, state, notify })
    }

    /// Does `what` and all that comes of it.
    fn with<T>(&self, what: impl FnOnce(&mut State) -> T) -> T {
        let (result, tell) = {
            let mut state = self.state.lock();
            (what(&mut state), state.after())
        };
        if tell {
            tell_host(&self.name, &self.notify);
        }
        result
    }
}

impl ConsoleIn for Pl011 {
    fn feed(&self, bytes: &[u8]) -> usize {
        self.with(|state| {
            let room = match state.listens() {
                true => state.capacity().saturating_sub(state.fifo.len),
                false => 0,
            };
            let taken = &bytes[..bytes.len().min(room)];
            taken.iter().for_each(|&byte| state.receive(byte));
            state.gate.fed(taken.len(), bytes.len());
            taken.len()
        })
    }

    fn notify(&self) -> &EventFd {
        &self.notify
    }
}

impl BaseDeviceOps<GuestPhysAddrRange> for Pl011 {
    fn name(&self) -> &str {
        &self.name
    }

    fn emu_type(&self) -> EmuDeviceType {
        EmuDeviceType::Console
    }

    fn address_range(&self) -> GuestPhysAddrRange {
        self.range
    }

    fn registers(&self) -> RegisterMap {
        RegisterMap::of(NAMES).printing(DR, &[(CR, CR_LBE as u64)])
    }

    fn handle_read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        let register = primecell::register(offset, width)?;
        let value = self.with(|state| state.read(register))?;
        Ok(u64::from(value) & width.mask())
    }

    fn handle_write(&self, offset: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        let register = primecell::register(offset, width)?;
        self.with(|state| state.write(register, val as u32, &*self.out))?;
        Ok(Effect::None)
    }
}

#[cfg(test)]
mod tests;
