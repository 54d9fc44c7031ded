//! The keyboard controller of a PC at ports 0x60 and 0x64 (Intel 8042; IBM PC/AT Technical
//! Reference, "Keyboard Controller"), with a keyboard on its first port and nothing on its second.
//! The reset command is `vm-superio`'s.
//!
//! Every command that is expected to answer does so at once, also those about the mouse port that
//! is not there: a driver that waits in vain polls ten thousand times.

use std::{cell::Cell, collections::VecDeque, convert::Infallible, fmt, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use vm_superio::{I8042Device, Trigger};

use super::{
    Access, BaseDeviceOps, Effect, IrqLine, RegisterMap, RegisterName, byte_wide,
    ps2_keyboard::{CTRL_ALT_DEL, Keyboard, chord},
};
use crate::addr::{AccessWidth, Port, PortRange};

/// Status register (read of port 0x64).
mod status {
    /// Output buffer full: port 0x60 has a byte.
    pub const OBF: u8 = 1 << 0;
    /// Set by the self test: the system flag of the command byte.
    pub const SYS: u8 = 1 << 2;
    /// The last byte came to port 0x64.
    pub const COMMAND: u8 = 1 << 3;
    /// The keyboard lock is open.
    pub const UNLOCKED: u8 = 1 << 4;
}

/// The command byte: byte 0 of the controller's RAM.
mod ctr {
    /// Interrupt 1 when the output buffer fills.
    pub const KBD_INT: u8 = 1 << 0;
    pub const SYS: u8 = 1 << 2;
    pub const KBD_DISABLED: u8 = 1 << 4;
    pub const AUX_DISABLED: u8 = 1 << 5;
    /// The keyboard's scan codes are translated from set 2 to set 1.
    pub const TRANSLATE: u8 = 1 << 6;
}

/// Commands (write to port 0x64).
mod command {
    /// To 0x3f: read a byte of RAM.
    pub const READ_RAM: u8 = 0x20;
    /// To 0x7f: write one.
    pub const WRITE_RAM: u8 = 0x60;
    pub const PASSWORD_INSTALLED: u8 = 0xa4;
    pub const AUX_DISABLE: u8 = 0xa7;
    pub const AUX_ENABLE: u8 = 0xa8;
    pub const AUX_TEST: u8 = 0xa9;
    pub const SELF_TEST: u8 = 0xaa;
    pub const KBD_TEST: u8 = 0xab;
    pub const KBD_DISABLE: u8 = 0xad;
    pub const KBD_ENABLE: u8 = 0xae;
    pub const READ_INPUT_PORT: u8 = 0xc0;
    pub const READ_OUTPUT_PORT: u8 = 0xd0;
    pub const WRITE_OUTPUT_PORT: u8 = 0xd1;
    pub const WRITE_KBD_BUFFER: u8 = 0xd2;
    pub const AUX_LOOP: u8 = 0xd3;
    pub const AUX_SEND: u8 = 0xd4;
}

const SELF_TEST_OK: u8 = 0x55;
const KBD_TEST_OK: u8 = 0x00;
/// The port's clock line is stuck low: so an interface without a device looks.
const AUX_TEST_NO_DEVICE: u8 = 0x01;
const NO_PASSWORD: u8 = 0xf1;
/// Input port: the keyboard is not inhibited.
const INPUT_PORT: u8 = 0x80;
/// Output port: the processor's reset line (active low).
const OUT_NO_RESET: u8 = 1 << 0;
/// Output port: address line 20, which is always on here.
const OUT_A20: u8 = 1 << 1;

/// Where `vm-superio` has the command register.
const SUPERIO_COMMAND: u8 = 4;

/// The keyboard's buffer and the controller's together; what does not fit is lost.
const OUTPUT_SIZE: usize = 32;

#[derive(Default)]
struct ResetWanted(Cell<bool>);

impl Trigger for ResetWanted {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        self.0.set(true);
        Ok(())
    }
}

struct State {
    reset: I8042Device<ResetWanted>,
    ram: [u8; 32],
    output: VecDeque<u8>,
    /// The command whose data byte comes next to port 0x60.
    wants_data: Option<u8>,
    last_was_command: bool,
    keyboard: Keyboard,
    interrupt: bool,
}

impl State {
    fn ctr(&self) -> u8 {
        self.ram[0]
    }

    /// An edge for the byte at the head of the buffer, if there is one.
    fn announce(&mut self) {
        self.interrupt |= !self.output.is_empty() && self.ctr() & ctr::KBD_INT != 0;
    }

    /// A controller's answer takes the place of whatever was there, as with one buffer register.
    fn answer(&mut self, byte: u8) {
        self.output.clear();
        self.output.push_back(byte);
        self.announce();
    }

    fn keyboard_sends(&mut self, bytes: &[u8]) {
        let was_empty = self.output.is_empty();
        let room = OUTPUT_SIZE - self.output.len().min(OUTPUT_SIZE);
        self.output.extend(&bytes[..bytes.len().min(room)]);
        if was_empty {
            self.announce();
        }
    }

    fn read_data(&mut self) -> u8 {
        let byte = self.output.pop_front().unwrap_or(0);
        self.announce();
        byte
    }

    fn status(&self) -> u8 {
        let mut status = status::UNLOCKED;
        if !self.output.is_empty() {
            status |= status::OBF;
        }
        if self.ctr() & ctr::SYS != 0 {
            status |= status::SYS;
        }
        if self.last_was_command {
            status |= status::COMMAND;
        }
        status
    }

    fn write_command(&mut self, command: u8) -> Effect {
        self.last_was_command = true;
        self.wants_data = None;
        match command {
            command::READ_RAM..=0x3f => self.answer(self.ram[usize::from(command & 0x1f)]),
            command::WRITE_RAM..=0x7f
            | command::WRITE_OUTPUT_PORT
            | command::WRITE_KBD_BUFFER
            | command::AUX_LOOP
            | command::AUX_SEND => self.wants_data = Some(command),
            command::PASSWORD_INSTALLED => self.answer(NO_PASSWORD),
            command::AUX_DISABLE => self.ram[0] |= ctr::AUX_DISABLED,
            command::AUX_ENABLE => self.ram[0] &= !ctr::AUX_DISABLED,
            command::AUX_TEST => self.answer(AUX_TEST_NO_DEVICE),
            command::SELF_TEST => self.answer(SELF_TEST_OK),
            command::KBD_TEST => self.answer(KBD_TEST_OK),
            command::KBD_DISABLE => self.ram[0] |= ctr::KBD_DISABLED,
            command::KBD_ENABLE => self.ram[0] &= !ctr::KBD_DISABLED,
            command::READ_INPUT_PORT => self.answer(INPUT_PORT),
            command::READ_OUTPUT_PORT => self.answer(OUT_NO_RESET | OUT_A20),
            other => return self.superio(other),
        }
        Effect::None
    }

    /// The reset command and those that nobody knows.
    fn superio(&mut self, command: u8) -> Effect {
        // Our trigger never fails.
        let _ = self.reset.write(SUPERIO_COMMAND, command);
        if self.reset.reset_evt().0.take() { Effect::Reset } else { Effect::None }
    }

    fn write_data(&mut self, byte: u8) -> Effect {
        self.last_was_command = false;
        match self.wants_data.take() {
            Some(command @ command::WRITE_RAM..=0x7f) => {
                self.ram[usize::from(command & 0x1f)] = byte;
                self.announce();
            }
            Some(command::WRITE_OUTPUT_PORT) if byte & OUT_NO_RESET == 0 => return Effect::Reset,
            // Without the mark of the mouse port: it does not loop back, for it is not there.
            Some(command::WRITE_KBD_BUFFER | command::AUX_LOOP) => self.answer(byte),
            Some(_) => {}
            None => {
                // Talking to the keyboard opens its interface.
                self.ram[0] &= !ctr::KBD_DISABLED;
                let reply = self.keyboard.command(byte, self.translates());
                self.keyboard_sends(&reply);
            }
        }
        Effect::None
    }

    fn translates(&self) -> bool {
        self.ctr() & ctr::TRANSLATE != 0
    }
}

/// The controller with its keyboard; put on the bus by its two ports.
pub struct I8042 {
    irq: IrqLine,
    state: Mutex<State>,
}

impl I8042 {
    /// As firmware leaves it: translating, interrupt on, mouse port off.
    pub fn new(irq: IrqLine) -> Self {
        let mut ram = [0; 32];
        ram[0] = ctr::KBD_INT | ctr::SYS | ctr::AUX_DISABLED | ctr::TRANSLATE;
        Self {
            irq,
            state: Mutex::new(State {
                reset: I8042Device::new(ResetWanted::default()),
                ram,
                output: VecDeque::with_capacity(OUTPUT_SIZE),
                wants_data: None,
                last_was_command: false,
                keyboard: Keyboard::default(),
                interrupt: false,
            }),
        }
    }

    /// Presses Ctrl-Alt-Del and lets go. `false`: no driver has enabled the keyboard (yet), or it has
    /// not read what was sent before; nothing was sent.
    pub fn send_ctrl_alt_del(&self) -> bool {
        self.with(|state| {
            let reads = state.keyboard.scanning()
                && state.ctr() & (ctr::KBD_INT | ctr::KBD_DISABLED) == ctr::KBD_INT;
            let codes = chord(&CTRL_ALT_DEL, state.translates());
            let sent = reads && state.output.len() + codes.len() <= OUTPUT_SIZE;
            if sent {
                state.keyboard_sends(&codes);
            }
            sent
        })
    }

    /// The data port, 0x60 on a PC.
    pub fn data_port(self: &Arc<Self>, port: Port) -> I8042Port {
        I8042Port { controller: self.clone(), port, is_data: true }
    }

    /// The command and status port, 0x64 on a PC.
    pub fn command_port(self: &Arc<Self>, port: Port) -> I8042Port {
        I8042Port { controller: self.clone(), port, is_data: false }
    }

    /// Does something with the state, and raises the interrupt when the lock is free again.
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state: MutexGuard<'_, State> = self.state.lock();
        let result = act(&mut state);
        let interrupt = std::mem::take(&mut state.interrupt);
        drop(state);
        if interrupt {
            self.irq.pulse();
        }
        result
    }
}

impl fmt::Debug for I8042 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "I8042({:?})", self.irq)
    }
}

/// One of the controller's two ports.
#[derive(Debug)]
pub struct I8042Port {
    controller: Arc<I8042>,
    port: Port,
    is_data: bool,
}

impl BaseDeviceOps<PortRange> for I8042Port {
    fn name(&self) -> &str {
        if self.is_data { "i8042-data" } else { "i8042-command" }
    }

    fn address_range(&self) -> PortRange {
        PortRange::at(self.port)
    }

    fn registers(&self) -> RegisterMap {
        match self.is_data {
            true => RegisterMap::of(vec![RegisterName::byte("Data", 0)]),
            false => RegisterMap::of(vec![RegisterName::byte("Status/Command", 0)]),
        }
    }

    fn handle_read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        byte_wide::only(offset, width)?;
        let byte = self.controller.with(|state| match self.is_data {
            true => state.read_data(),
            false => state.status(),
        });
        Ok(byte.into())
    }

    fn handle_write(&self, offset: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        byte_wide::only(offset, width)?;
        Ok(self.controller.with(|state| match self.is_data {
            true => state.write_data(val as u8),
            false => state.write_command(val as u8),
        }))
    }
}

#[cfg(test)]
mod tests;
