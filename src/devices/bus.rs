//! The three buses: guest-physical memory, x86 ports, system registers.

mod table;

use std::{fmt, sync::Arc};

use log::Level;

use self::table::Table;
pub use self::table::{BusError, BusKind, Taker, UnownedCounts, WindowInfo};
use super::{
    Access, BaseMmioDeviceOps, BasePortDeviceOps, BaseSysRegDeviceOps, Effect, HypercallOps,
    IvcWindow,
    fault::{Fault, Faulty},
    registers::WindowRegisters,
};
use crate::{
    addr::{
        AccessWidth, GuestPhysAddr, GuestPhysAddrRange, Port, PortRange, SysRegAddr,
        SysRegAddrRange,
    },
    addrspace::AddrSpace,
    hal::{AxVCpuExitReason, HypercallResult},
};

/// All devices of a VM, on their three buses, and what answers hypercalls.
pub struct AxVmDevices {
    mmio: Table<GuestPhysAddrRange, dyn BaseMmioDeviceOps>,
    port: Table<PortRange, dyn BasePortDeviceOps>,
    sys_reg: Table<SysRegAddrRange, dyn BaseSysRegDeviceOps>,
    hypercalls: Vec<Arc<dyn HypercallOps>>,
    ivc_window: Option<Arc<IvcWindow>>,
}

impl AxVmDevices {
    /// No devices at all.
    pub fn new() -> Self {
        Self {
            mmio: Table::new(BusKind::Mmio, Level::Warn),
            port: Table::new(BusKind::Port, Level::Debug),
            sys_reg: Table::new(BusKind::SysReg, Level::Warn),
            hypercalls: Vec::new(),
            ivc_window: None,
        }
    }

    /// Puts a device into guest-physical memory.
    ///
    /// # Errors
    /// Another device has one of its addresses.
    pub fn add_mmio_dev(&mut self, device: Arc<dyn BaseMmioDeviceOps>) -> Result<(), BusError> {
        self.mmio.add(device)
    }

    /// Puts a device at I/O ports.
    ///
    /// # Errors
    /// Another device has one of its ports.
    pub fn add_port_dev(&mut self, device: Arc<dyn BasePortDeviceOps>) -> Result<(), BusError> {
        self.port.add(device)
    }

    /// Puts a device behind system registers.
    ///
    /// # Errors
    /// Another device has one of them.
    pub fn add_sys_reg_dev(
        &mut self,
        device: Arc<dyn BaseSysRegDeviceOps>,
    ) -> Result<(), BusError> {
        self.sys_reg.add(device)
    }

    /// Has the accesses to devices go wrong as these faults say.
    pub fn interpose(&mut self, faults: &[Arc<Fault>]) {
        self.mmio.interpose(faults, |device, of_it| Arc::new(Faulty::new(device, of_it)));
        self.port.interpose(faults, |device, of_it| Arc::new(Faulty::new(device, of_it)));
        self.sys_reg.interpose(faults, |device, of_it| Arc::new(Faulty::new(device, of_it)));
    }

    /// Adds what answers hypercalls; the first that knows a call answers it.
    pub fn add_hypercalls(&mut self, service: Arc<dyn HypercallOps>) {
        self.hypercalls.push(service);
    }

    /// Says where the guest's inter-VM channels come to be.
    pub fn set_ivc_window(&mut self, window: Arc<IvcWindow>) {
        self.ivc_window = Some(window);
    }

    /// Where the guest's inter-VM channels come to be, if it may have any.
    pub fn ivc_window(&self) -> Option<&Arc<IvcWindow>> {
        self.ivc_window.as_ref()
    }

    /// The devices in guest-physical memory, ascending.
    pub fn iter_mmio_dev(&self) -> impl Iterator<Item = &Arc<dyn BaseMmioDeviceOps>> {
        self.mmio.devices()
    }

    /// The devices at I/O ports, ascending.
    pub fn iter_port_dev(&self) -> impl Iterator<Item = &Arc<dyn BasePortDeviceOps>> {
        self.port.devices()
    }

    /// The devices behind system registers, ascending.
    pub fn iter_sys_reg_dev(&self) -> impl Iterator<Item = &Arc<dyn BaseSysRegDeviceOps>> {
        self.sys_reg.devices()
    }

    /// Answers a hypercall; `None`: nobody knows it.
    pub fn handle_hypercall(
        &self,
        mem: &AddrSpace,
        nr: u64,
        args: [u64; 6],
    ) -> Option<HypercallResult> {
        self.hypercalls.iter().find_map(|service| service.call(mem, nr, args))
    }

    /// All windows, in the order of [`Taker::window`]: memory, ports and system registers, each
    /// ascending, and behind a window the parts of its device.
    pub fn windows(&self) -> Vec<WindowInfo> {
        self.mmio.windows().chain(self.port.windows()).chain(self.sys_reg.windows()).collect()
    }

    /// What the registers of all windows are called, in the same order.
    pub fn registers(&self) -> Vec<WindowRegisters> {
        let (mmio, port) = (self.mmio.registers(), self.port.registers());
        mmio.chain(port).chain(self.sys_reg.registers()).collect()
    }

    /// How many windows there are.
    pub fn window_count(&self) -> usize {
        self.mmio.window_count() + self.port.window_count() + self.sys_reg.window_count()
    }

    /// Who takes an access, if it is one and somebody does.
    pub fn taker(&self, exit: &AxVCpuExitReason) -> Option<Taker> {
        match *exit {
            AxVCpuExitReason::MmioRead { addr, width, .. }
            | AxVCpuExitReason::MmioWrite { addr, width, .. } => self.find_mmio(addr, width),
            AxVCpuExitReason::IoRead { port, width }
            | AxVCpuExitReason::IoWrite { port, width, .. } => self.find_port(port, width),
            AxVCpuExitReason::SysRegRead { addr, .. }
            | AxVCpuExitReason::SysRegWrite { addr, .. } => self.find_sys_reg(addr),
            _ => None,
        }
    }

    fn find_mmio(&self, addr: GuestPhysAddr, width: AccessWidth) -> Option<Taker> {
        self.mmio.find(addr, width.size(), 0)
    }

    fn find_port(&self, port: Port, width: AccessWidth) -> Option<Taker> {
        self.port.find(port, width.size(), self.mmio.window_count())
    }

    fn find_sys_reg(&self, addr: SysRegAddr) -> Option<Taker> {
        self.sys_reg.find(addr, 1, self.mmio.window_count() + self.port.window_count())
    }

    /// Reads guest-physical memory that devices own; all ones where none does.
    pub fn handle_mmio_read(&self, addr: GuestPhysAddr, width: AccessWidth) -> u64 {
        self.mmio_read(self.find_mmio(addr, width), addr, width)
    }

    /// Writes guest-physical memory that devices own; nothing where none does.
    pub fn handle_mmio_write(&self, addr: GuestPhysAddr, width: AccessWidth, val: u64) -> Effect {
        self.mmio_write(self.find_mmio(addr, width), addr, width, val)
    }

    /// Reads a port; all ones where no device is.
    pub fn handle_port_read(&self, port: Port, width: AccessWidth) -> u64 {
        self.port_read(self.find_port(port, width), port, width)
    }

    /// Writes a port; nothing where no device is.
    pub fn handle_port_write(&self, port: Port, width: AccessWidth, val: u64) -> Effect {
        self.port_write(self.find_port(port, width), port, width, val)
    }

    /// Reads a system register; `None` where no device is, or it refuses: the guest then gets a
    /// fault, as of a register that is not there.
    pub fn handle_sys_reg_read(&self, addr: SysRegAddr) -> Option<u64> {
        self.sys_reg_read(self.find_sys_reg(addr)?, addr)
    }

    /// Writes a system register; `None` where no device is, or it refuses.
    pub fn handle_sys_reg_write(&self, addr: SysRegAddr, val: u64) -> Option<Effect> {
        self.sys_reg_write(self.find_sys_reg(addr)?, addr, val)
    }

    /// As [`Self::handle_mmio_read`], of whom [`Self::taker`] has found.
    pub fn mmio_read(&self, by: Option<Taker>, addr: GuestPhysAddr, width: AccessWidth) -> u64 {
        self.mmio.read(by, addr, width)
    }

    /// As [`Self::handle_mmio_write`], of whom [`Self::taker`] has found.
    pub fn mmio_write(
        &self,
        by: Option<Taker>,
        addr: GuestPhysAddr,
        width: AccessWidth,
        val: u64,
    ) -> Effect {
        self.mmio.write(by, addr, width, val)
    }

    /// As [`Self::handle_port_read`], of whom [`Self::taker`] has found.
    pub fn port_read(&self, by: Option<Taker>, port: Port, width: AccessWidth) -> u64 {
        self.port.read(by, port, width)
    }

    /// As [`Self::handle_port_write`], of whom [`Self::taker`] has found.
    pub fn port_write(
        &self,
        by: Option<Taker>,
        port: Port,
        width: AccessWidth,
        val: u64,
    ) -> Effect {
        self.port.write(by, port, width, val)
    }

    /// As [`Self::handle_sys_reg_read`], of whom [`Self::taker`] has found.
    pub fn sys_reg_read(&self, by: Taker, addr: SysRegAddr) -> Option<u64> {
        let device = self.sys_reg.device(by)?;
        match device.handle_read(by.offset(), AccessWidth::Qword) {
            Ok(value) => Some(value),
            Err(access) => self.refuse_sys_reg(addr, false, device, access),
        }
    }

    /// As [`Self::handle_sys_reg_write`], of whom [`Self::taker`] has found.
    pub fn sys_reg_write(&self, by: Taker, addr: SysRegAddr, val: u64) -> Option<Effect> {
        let device = self.sys_reg.device(by)?;
        match device.handle_write(by.offset(), AccessWidth::Qword, val) {
            Ok(effect) => Some(effect),
            Err(access) => self.refuse_sys_reg(addr, true, device, access),
        }
    }

    fn refuse_sys_reg<T>(
        &self,
        addr: SysRegAddr,
        is_write: bool,
        device: &dyn BaseSysRegDeviceOps,
        access: Access,
    ) -> Option<T> {
        let what = "the guest gets a fault";
        self.sys_reg.tell(addr, AccessWidth::Qword, is_write, what, Some((device, access)));
        None
    }

    /// What nobody took, over the MMIO and the port bus.
    pub fn unowned(&self) -> UnownedCounts {
        let (mmio, port) = (self.mmio.counts(), self.port.counts());
        UnownedCounts { reads: mmio.reads + port.reads, writes: mmio.writes + port.writes }
    }
}

impl Default for AxVmDevices {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for AxVmDevices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mmio = self.iter_mmio_dev().map(|d| (d.name(), d.address_range().to_string()));
        let port = self.iter_port_dev().map(|d| (d.name(), d.address_range().to_string()));
        let sys_reg = self.iter_sys_reg_dev().map(|d| (d.name(), d.address_range().to_string()));
        f.debug_map().entries(mmio).entries(port).entries(sys_reg).finish()
    }
}

#[cfg(test)]
mod tests;
