//! The serial port: a 16550 (National Semiconductor PC16550D data sheet), registers and FIFO by
//! `vm-superio`. What stands here is its place on a bus, its interrupt line, and when input may
//! come in.
//!
//! A driver that finds the port probes and clears it first. Bytes that arrived before (a pipe on
//! standard input is ready at once) would be lost, so input waits outside until the guest listens:
//! it has enabled the receive interrupt, or it polls the line status.

use std::{
    cell::Cell,
    convert::Infallible,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use log::warn;
use vm_superio::{
    Trigger,
    serial::{NoEvents, Serial as Uart, SerialState},
};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{
    Access, BaseDeviceOps, Effect, EmuDeviceType, IrqLine, byte_wide,
    console::{ConsoleIn, ConsoleOut},
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

/// IER: received data available.
pub const IER_RDA: u8 = 1 << 0;
/// IER: all four sources.
const IER_ALL: u8 = 0x0f;
/// LCR: divisor latch access.
const LCR_DLAB: u8 = 1 << 7;
/// MCR: on a PC, lets the interrupt out of the card.
const MCR_OUT2: u8 = 1 << 3;
/// MCR: what is sent comes back as received.
const MCR_LOOP: u8 = 1 << 4;
/// LSR: the receive FIFO has data.
pub const LSR_DR: u8 = 1 << 0;

/// So many reads of the line status with no write between them: the guest waits for input. Output
/// looks at it once or twice a byte.
const POLLS_THAT_LISTEN: u8 = 16;

/// The interrupt, remembered until the lock is free.
#[derive(Default)]
struct Wanted(Cell<bool>);

impl Trigger for Wanted {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        self.0.set(true);
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
    uart: Uart<Wanted, NoEvents, Out>,
    /// Shadows, so that no decision needs a side effect.
    ier: u8,
    lcr: u8,
    mcr: u8,
    /// Reads of the line status since the last write to any register.
    polls: u8,
    /// The host has bytes that did not go in.
    host_waits: bool,
}

impl State {
    fn listens(&self) -> bool {
        if self.mcr & MCR_LOOP != 0 || self.lcr & LCR_DLAB != 0 {
            return false;
        }
        // A probe sets all four sources for a moment, with the card's output still gated.
        let interrupt =
            self.ier & IER_RDA != 0 && (self.ier != IER_ALL || self.mcr & MCR_OUT2 != 0);
        interrupt || self.polls >= POLLS_THAT_LISTEN
    }

    fn read(&mut self, register: u8) -> u8 {
        if register == LSR {
            self.polls = self.polls.saturating_add(1);
        }
        self.uart.read(register)
    }

    fn write(&mut self, register: u8, value: u8) {
        self.polls = 0;
        match register {
            IER if self.lcr & LCR_DLAB == 0 => self.ier = value & IER_ALL,
            LCR => self.lcr = value,
            MCR => self.mcr = value,
            _ => {}
        }
        // Neither the console nor the interrupt of ours ever fails.
        let _ = self.uart.write(register, value);
    }

    /// What is to be done outside the lock.
    fn after(&mut self) -> After {
        let empty = || self.uart.fifo_capacity() == FIFO_SIZE;
        let notify = self.host_waits && self.listens() && empty();
        self.host_waits &= !notify;
        After { interrupt: self.uart.interrupt_evt().0.take(), notify }
    }
}

/// `vm-superio`'s FIFO, in bytes.
const FIFO_SIZE: usize = 64;

#[must_use]
struct After {
    interrupt: bool,
    notify: bool,
}

/// A 16550 in a window of ports or memory.
pub struct Serial<R> {
    name: String,
    range: R,
    irq: IrqLine,
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
        let uart = Uart::from_state(&reset, Wanted::default(), NoEvents, Out(out))
            .map_err(|error| io::Error::other(error.to_string()))?;
        let lcr = reset.line_control;
        let state = State { uart, ier: 0, lcr, mcr: 0, polls: 0, host_waits: false };
        Ok(Self {
            name: name.into(),
            range,
            irq,
            state: Mutex::new(state),
            notify: EventFd::new(EFD_NONBLOCK)?,
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, after: After) {
        if after.interrupt {
            self.irq.pulse();
        }
        if after.notify {
            if let Err(error) = self.notify.write(1) {
                warn!("{}: cannot wake the console's input: {error}", self.name);
            }
        }
    }
}

impl<R: DeviceAddrRange> ConsoleIn for Serial<R> {
    fn feed(&self, bytes: &[u8]) -> usize {
        let (taken, after) = {
            let mut state = self.lock();
            let taken = match state.listens() {
                true => state.uart.enqueue_raw_bytes(bytes).unwrap_or(0),
                false => 0,
            };
            state.host_waits = taken < bytes.len();
            (taken, state.after())
        };
        self.apply(after);
        taken
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

    fn handle_read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        check(offset, width)?;
        let (value, after) = {
            let mut state = self.lock();
            let value = byte_wide::read(offset, width, |register| state.read(register as u8));
            (value, state.after())
        };
        self.apply(after);
        Ok(value)
    }

    fn handle_write(&self, offset: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        check(offset, width)?;
        let after = {
            let mut state = self.lock();
            let _ = byte_wide::write(offset, width, val, |register, byte| {
                state.write(register as u8, byte);
                Effect::None
            });
            state.after()
        };
        self.apply(after);
        Ok(Effect::None)
    }
}

/// The window may be larger than the registers, as on the boards that have it in memory.
fn check(offset: u64, width: AccessWidth) -> Result<(), Access> {
    let last = offset.checked_add(width.size() as u64).ok_or(Access::NoRegister)?;
    if last > REGISTERS { Err(Access::NoRegister) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
