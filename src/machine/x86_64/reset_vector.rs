//! What a PC's firmware has at its very end: the instruction that a processor begins with, and that
//! kernels jump to when they know no better way to restart the machine. Linux does so by default on
//! a hardware-reduced ACPI machine without EFI.

use crate::{
    addr::GuestPhysAddr,
    devices::reset_control::RESET_VALUE,
    machine::parts::{DevicePlan, FirmwareTable, Model},
};

/// f000:fff0, or ffff:0.
pub const RESET_VECTOR: u64 = 0xf_fff0;

/// Real-mode code that writes the reset value to the reset control register.
pub fn code(devices: &[DevicePlan]) -> Option<FirmwareTable> {
    let [low, high] = super::port(devices, Model::ResetControl)?.to_le_bytes();
    #[rustfmt::skip]
    let code = vec![
        0xba, low, high,    // mov dx, port
        0xb0, RESET_VALUE,  // mov al, value
        0xee,               // out dx, al
        0xf4,               // hlt
        0xeb, 0xfd,         // jmp back to the hlt
    ];
    Some(FirmwareTable::new("reset vector", GuestPhysAddr(RESET_VECTOR), code))
}
