//! The serial port: a 16550 (National Semiconductor PC16550D data sheet), registers and FIFO by
//! `vm-superio`. What stands here is its place on a bus, its interrupts, and when input may come in.
//! In ports or in memory, its registers lie byte by byte.
//!
//! The interrupt line is high as long as an enabled interrupt is pending: a controller that looks at
//! levels needs that, and for one that looks at edges it rises with each new cause.
//!
//! A driver that finds the port probes and clears it first. Bytes that arrived before (a pipe on
//! standard input is ready at once) would be lost, so input waits outside until the guest listens:
//! it has enabled the receive interrupt, or it polls the line status.

use std::{convert::Infallible, io, sync::Arc};

use parking_lot::Mutex;
use vm_superio::{
    Trigger,
    serial::{NoEvents, Serial as Uart, SerialState},
};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{
    Access, BaseDeviceOps, Effect, EmuDeviceType, IrqLine, RegisterMap, RegisterName, byte_wide,
    console::{ConsoleIn, ConsoleOut, InputGate, tell_host},
    irq::LevelIrq,
};
use crate::addr::{AccessWidth, DeviceAddrRange};

/// Data: receive buffer and transmit holding register; divisor latch, low byte, with DLAB.
pub const RBR_THR: u8 = 0;
/// Interrupt enable; divisor latch, high byte, with DLAB.
pub const IER: u8 = 1;
/// Interrupt identification (read), FIFO control (write).
pub const IIR_FCR: u8 = 2;
/// Line control.
pub const LCR: u8 = 3;
/// Modem control.
pub const MCR: u8 = 4;
/// Line status.
pub const LSR: u8 = 5;
/// Modem status.
pub const MSR: u8 = 6;
/// Scratch.
pub const SCR: u8 = 7;
/// How many registers there are.
pub const REGISTERS: u64 = 8;

/// Their names (table II); the first two are the divisor latch with DLAB.
const NAMES: &[RegisterName] = &[
    RegisterName::byte("RBR/THR", RBR_THR as u64),
    RegisterName::byte("IER", IER as u64),
    RegisterName::byte("IIR/FCR", IIR_FCR as u64),
    RegisterName::byte("LCR", LCR as u64),
    RegisterName::byte("MCR", MCR as u64),
    RegisterName::byte("LSR", LSR as u64),
    RegisterName::byte("MSR", MSR as u64),
    RegisterName::byte("SCR", SCR as u64),
];

/// IER: received data available.
pub const IER_RDA: u8 = 1 << 0;
/// IER: transmitter holding register empty.
pub const IER_THRE: u8 = 1 << 1;
/// IER: all four sources.
const IER_ALL: u8 = 0x0f;
/// IIR: nothing pending; received data; transmitter empty; the FIFOs are on.
const IIR_NONE: u8 = 0x01;
const IIR_RDA: u8 = 0x04;
const IIR_THRE: u8 = 0x02;
const IIR_FIFOS: u8 = 0xc0;
/// LCR: divisor latch access.
const LCR_DLAB: u8 = 1 << 7;
/// MCR: on a PC, lets the interrupt out of the card.
const MCR_OUT2: u8 = 1 << 3;
/// MCR: what is sent comes back as received.
const MCR_LOOP: u8 = 1 << 4;
/// LSR: the receive FIFO has data.
pub const LSR_DR: u8 = 1 << 0;

/// `vm-superio` tells of interrupts as they begin; a line's level is not to be had from it.
struct Untold;

impl Trigger for Untold {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Gives bytes to the console; never fails.
struct Out(Arc<dyn ConsoleOut>);

impl io::Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.put(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct State {
    uart: Uart<Untold, NoEvents, Out>,
    irq: LevelIrq,
    /// Shadows, so that no decision needs a side effect.
    ier: u8,
    lcr: u8,
    mcr: u8,
    /// The transmitter ran empty, and the guest has not been told.
    sent: bool,
    gate: InputGate,
}

impl State {
    fn listens(&self) -> bool {
        if self.mcr & MCR_LOOP != 0 || self.dlab() {
            return false;
        }
        // A probe sets all four sources for a moment, with the card's output still gated.
        let interrupt =
            self.ier & IER_RDA != 0 && (self.ier != IER_ALL || self.mcr & MCR_OUT2 != 0);
        interrupt || self.gate.polls()
    }

    fn dlab(&self) -> bool {
        self.lcr & LCR_DLAB != 0
    }

    fn empty(&self) -> bool {
        self.uart.fifo_capacity() == FIFO_SIZE
    }

    /// The interrupt that is identified: the most urgent that is enabled.
    fn pending(&self) -> u8 {
        if self.ier & IER_RDA != 0 && !self.empty() {
            IIR_RDA
        } else if self.ier & IER_THRE != 0 && self.sent {
            IIR_THRE
        } else {
            IIR_NONE
        }
    }

    fn read(&mut self, register: u8) -> u8 {
        match register {
            IIR_FCR => {
                let pending = self.pending();
                // Being told acknowledges it.
                self.sent &= pending != IIR_THRE;
                return IIR_FIFOS | pending;
            }
            LSR => self.gate.polled(),
            _ => {}
        }
        self.uart.read(register)
    }

    fn write(&mut self, register: u8, value: u8) {
        self.gate.busy();
        match register {
            RBR_THR if !self.dlab() => self.sent |= self.mcr & MCR_LOOP == 0,
            IER if !self.dlab() => {
                self.ier = value & IER_ALL;
                // The transmitter is always empty here: enabling its interrupt brings one.
                self.sent |= value & IER_THRE != 0;
            }
            LCR => self.lcr = value,
            MCR => self.mcr = value,
            _ => {}
        }
        // Neither the console nor the interrupt of ours ever fails.
        let _ = self.uart.write(register, value);
    }

    /// Brings the line up to date; whether the host is to be told to feed again.
    fn after(&mut self) -> bool {
        self.irq.set(self.pending() != IIR_NONE);
        let ready = self.listens() && self.empty();
        self.gate.must_tell(ready)
    }
}

/// `vm-superio`'s FIFO, in bytes.
const FIFO_SIZE: usize = 64;

/// A 16550 in a window of ports or memory.
pub struct Serial<R> {
    name: String,
    range: R,
    state: Mutex<State>,
    notify: EventFd,
}

impl<R: DeviceAddrRange> Serial<R> {
    /// A serial port called `name`, as it leaves reset; fails if the host has no eventfd left.
    pub fn new(
        name: impl Into<String>,
        range: R,
        irq: IrqLine,
        out: Arc<dyn ConsoleOut>,
    ) -> io::Result<Self> {
        let reset = SerialState { modem_control: 0, ..SerialState::default() };
        let uart = Uart::from_state(&reset, Untold, NoEvents, Out(out))
            .map_err(|error| io::Error::other(error.to_string()))?;
        let lcr = reset.line_control;
        let state = State {
            uart,
            irq: LevelIrq::new(irq),
            ier: 0,
            lcr,
            mcr: 0,
            sent: false,
            gate: InputGate::default(),
        };
        let notify = EventFd::new(EFD_NONBLOCK)?;
        Ok(Self { name: name.into(), range, state: Mutex::new(state), notify })
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

impl<R: DeviceAddrRange> ConsoleIn for Serial<R> {
    fn feed(&self, bytes: &[u8]) -> usize {
        self.with(|state| {
            let taken = match state.listens() {
                true => state.uart.enqueue_raw_bytes(bytes).unwrap_or(0),
                false => 0,
            };
            state.gate.fed(taken, bytes.len());
            taken
        })
    }

    fn notify(&self) -> &EventFd {
        &self.notify
    }
}

impl<R: DeviceAddrRange> BaseDeviceOps<R> for Serial<R> {
    fn name(&self) -> &str {
        &self.name
    }

    fn emu_type(&self) -> EmuDeviceType {
        EmuDeviceType::Console
    }

    fn address_range(&self) -> R {
        self.range
    }

    fn registers(&self) -> RegisterMap {
        let unless = &[(LCR as u64, LCR_DLAB as u64), (MCR as u64, MCR_LOOP as u64)];
        RegisterMap::of(NAMES).printing(RBR_THR.into(), unless)
    }

    fn handle_read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        check(offset, width)?;
        Ok(self.with(|state| byte_wide::read(offset, width, |at| state.read(at as u8))))
    }

    fn handle_write(&self, offset: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        check(offset, width)?;
        Ok(self.with(|state| {
            byte_wide::write(offset, width, val, |register, byte| {
                state.write(register as u8, byte);
                Effect::None
            })
        }))
    }
}

/// The window may be larger than the registers, as on the boards that have it in memory.
fn check(offset: u64, width: AccessWidth) -> Result<(), Access> {
    let last = offset.checked_add(width.size() as u64).ok_or(Access::NoRegister)?;
    if last > REGISTERS { Err(Access::NoRegister) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
