//! Emulated devices: the contract ([`BaseDeviceOps`]), the buses they stand on ([`AxVmDevices`]),
//! and one file a device.
//!
//! A device is registers in, registers out: it sees offsets inside its own window and whole
//! accesses only, gets all it needs when it is made, and answers what the machine must do next as a
//! value. It never holds the VM, so a test can make it with stand-ins for everything.

pub mod acpi_power;
mod bus;
mod byte_wide;
pub mod clock;
pub mod cmos;
pub mod console;
pub mod custom;
pub mod debug_console;
pub mod debug_exit;
pub mod doorbell;
mod emu_type;
pub mod fault;
pub mod goldfish_rtc;
mod hypercall;
pub mod i8042;
mod irq;
mod ivc_window;
pub mod pl011;
pub mod pl031;
pub mod pl061;
pub mod plic;
pub mod post;
pub mod primecell;
mod ps2_keyboard;
pub mod pvpanic;
pub mod registers;
pub mod reset_control;
pub mod sbi_console;
pub mod seed;
pub mod serial;
pub mod sifive_test;
#[cfg(test)]
pub(crate) mod testing;

use serde::Serialize;

pub use bus::{AxVmDevices, BusError, BusKind, Taker, UnownedCounts, WindowInfo};
pub use emu_type::EmuDeviceType;
pub use hypercall::{HyperCallCode, HypercallOps, HypervisorCalls};
pub use irq::IrqLine;
pub use ivc_window::IvcWindow;
pub use registers::{RegisterMap, RegisterName};

use crate::addr::{
    AccessWidth, DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange, PortRange, SysRegAddrRange,
};

/// An access that does not suit the device. A bus answers such a read with all ones and drops such
/// a write; a device's own trouble is its own business and no such error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// No register at this offset.
    NoRegister,
    /// The register does not take this width.
    BadWidth,
    /// The offset is not aligned as the register wants it.
    Unaligned,
    /// The register cannot be written.
    ReadOnly,
    /// The register cannot be read.
    WriteOnly,
    /// It is to fail ([`fault`]).
    OnPurpose,
}

/// What the machine must do after a write.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Effect {
    /// Go on.
    None,
    /// The guest powers off.
    PowerOff,
    /// The guest resets the machine.
    Reset,
    /// The guest reports that it panicked.
    Panicked,
    /// The guest ends with this exit status.
    Exit(u8),
    /// The guest makes the hypercall whose block is here ([`doorbell`]).
    Hypercall(GuestPhysAddr),
}

/// A device in one window of one bus.
pub trait BaseDeviceOps<R: DeviceAddrRange>: Send + Sync {
    /// The name that messages, plans and counts use, e.g. `com1`.
    fn name(&self) -> &str;

    /// What kind of device AxVisor's files would call it.
    fn emu_type(&self) -> EmuDeviceType {
        EmuDeviceType::Dummy
    }

    /// The window that the device answers in; never changes.
    fn address_range(&self) -> R;

    /// What in the window is counted for itself, by name: devices behind a bridge. Always the same in
    /// the same order.
    fn parts(&self) -> Vec<String> {
        Vec::new()
    }

    /// Which of [`Self::parts`] answers at `offset` just now. Not asked where there are none.
    fn part_at(&self, _offset: u64) -> Option<usize> {
        None
    }

    /// What its registers are called, for people who look at its accesses.
    fn registers(&self) -> RegisterMap {
        RegisterMap::default()
    }

    /// What the registers of each of [`Self::parts`] are called, in the same order.
    fn part_registers(&self) -> Vec<RegisterMap> {
        vec![RegisterMap::default(); self.parts().len()]
    }

    /// Reads `width` at `offset` from the window's start; the access lies wholly inside. The value
    /// is zero-extended.
    fn handle_read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access>;

    /// Writes `width` at `offset` from the window's start; the access lies wholly inside, and `val`
    /// has no bits outside `width`.
    fn handle_write(&self, offset: u64, width: AccessWidth, val: u64) -> Result<Effect, Access>;
}

/// A device in guest-physical memory.
pub trait BaseMmioDeviceOps: BaseDeviceOps<GuestPhysAddrRange> {}
impl<T: BaseDeviceOps<GuestPhysAddrRange> + ?Sized> BaseMmioDeviceOps for T {}

/// A device at x86 I/O ports.
pub trait BasePortDeviceOps: BaseDeviceOps<PortRange> {}
impl<T: BaseDeviceOps<PortRange> + ?Sized> BasePortDeviceOps for T {}

/// A device behind system registers; `offset` counts registers, and the width is always
/// [`AccessWidth::Qword`]. An access that it refuses is a fault in the guest, as one to a register
/// that is not there. Which registers a host hands out: [`crate::hal::AxVMHal::trap_sys_regs`].
pub trait BaseSysRegDeviceOps: BaseDeviceOps<SysRegAddrRange> {}
impl<T: BaseDeviceOps<SysRegAddrRange> + ?Sized> BaseSysRegDeviceOps for T {}
