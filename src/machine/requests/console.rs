//! The serial port at the place that a row has it: guests that were built for a real board look for
//! it there, and nowhere else.

use crate::{
    addr::{DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange},
    devices::EmuDeviceType,
    machine::{
        board::Hardware,
        parts::{DevicePlan, Window},
    },
    vm::config::DevicesConfig,
};

/// What a row wants of the serial port.
struct Wish {
    at: GuestPhysAddr,
    irq: u32,
    /// Whether the row asks for an emulated device, so that it means its interrupt.
    emulated: bool,
}

/// Moves the board's serial port, if it is in memory, to where the first row asks for it that can
/// have it. No row that finds it where the board has it is disappointed.
pub fn place_console(
    hardware: &mut Hardware,
    asked: &DevicesConfig,
    ram: &[GuestPhysAddrRange],
    address_bits: u8,
) {
    let Some(index) = hardware.console_index() else { return };
    let Window::Mmio(own) = hardware.devices[index].window else { return };
    let wishes = wishes(asked);
    if let Some(wish) = wishes.iter().find(|wish| wish.at == own.first()) {
        if wish.emulated && is_free(hardware, wish.irq) {
            hardware.devices[index].irq = Some(wish.irq);
        }
        return;
    }
    let taken = |range: &GuestPhysAddrRange| {
        let others = hardware.devices.iter().enumerate().filter(|(other, _)| *other != index);
        let windows = others.filter_map(|(_, device)| device.window.mmio());
        windows.chain(ram.iter().copied()).any(|other| other.overlaps(range))
    };
    let reachable = |range: &GuestPhysAddrRange| {
        range.last().0.checked_shr(address_bits.into()).unwrap_or(0) == 0
    };
    let place = |wish: &Wish| {
        // Registers stand at multiples of their size.
        let window = GuestPhysAddrRange::new(wish.at, own.len()).filter(|_| wish.at.0 % 8 == 0)?;
        (reachable(&window) && !taken(&window)).then_some((window, wish.irq))
    };
    let Some((window, irq)) = wishes.iter().find_map(place) else { return };
    let irq = is_free(hardware, irq).then_some(irq);
    let console = &mut hardware.devices[index];
    console.window = Window::Mmio(window);
    console.irq = irq.or(console.irq);
    hardware.devices.sort_by_key(|device| device.window.key());
}

/// Emulated rows first: these mean what they say.
fn wishes(asked: &DevicesConfig) -> Vec<Wish> {
    let emulated = asked.emulated.iter().filter(|row| row.emu_type == EmuDeviceType::Console);
    let emulated = emulated.map(|row| Wish { at: row.base_gpa, irq: row.irq_id, emulated: true });
    let passed = asked.passthrough.iter().filter(|row| row.length > 0 && is_serial(&row.name));
    let passed = passed.map(|row| Wish { at: row.base_gpa, irq: row.irq_id, emulated: false });
    emulated.chain(passed).collect()
}

/// Whether a row of this name is about a serial port.
pub fn is_serial(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["uart", "serial", "pl011", "16550"].iter().any(|part| name.contains(part))
}

/// Whether the interrupt controller has such a line for devices, and no other device drives it.
fn is_free(hardware: &Hardware, irq: u32) -> bool {
    let drives_it = |device: &DevicePlan| device.irq == Some(irq);
    hardware.lines().contains(&irq) && !hardware.devices.iter().any(drives_it)
}
