//! The three buses: guest-physical memory, x86 ports, system registers.

use std::{
    collections::HashSet,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use log::{Level, log};
use serde::Serialize;

use super::{
    Access, BaseDeviceOps, BaseMmioDeviceOps, BasePortDeviceOps, BaseSysRegDeviceOps, Effect,
    HypercallOps, IvcWindow,
};
use crate::addr::{
    AccessWidth, DeviceAddr, DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange, Port, PortRange,
    SysRegAddr, SysRegAddrRange,
};
use crate::{addrspace::AddrSpace, hal::HypercallResult};

/// Two things want the same addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{new} at {new_range} overlaps {old} at {old_range}; move one of them")]
pub struct BusError {
    /// The one that came second, by its name.
    pub new: String,
    /// Its addresses.
    pub new_range: String,
    /// The one that was there.
    pub old: String,
    /// Its addresses.
    pub old_range: String,
}

/// How often the guest accessed what nobody owns, or in a way that its owner does not take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UnownedCounts {
    /// Reads, which gave all ones.
    pub reads: u64,
    /// Writes, which went nowhere.
    pub writes: u64,
}

/// A bus tells of this many different addresses, then falls silent: a guest that writes everywhere
/// must not fill the log.
const TOLD_ADDRESSES: usize = 32;

/// One bus: a table sorted by address, frozen before the first vCPU runs, so that a look-up takes
/// no lock.
struct Bus<R: DeviceAddrRange, D: ?Sized> {
    devices: Vec<(R, Arc<D>)>,
    unowned_reads: AtomicU64,
    unowned_writes: AtomicU64,
    told: Mutex<HashSet<(u64, bool)>>,
    /// How loudly: kernels probe a PC's ports for what was there once, but nobody probes memory.
    level: Level,
}

impl<R: DeviceAddrRange, D: BaseDeviceOps<R> + ?Sized> Bus<R, D> {
    fn new(level: Level) -> Self {
        Self {
            devices: Vec::new(),
            unowned_reads: AtomicU64::new(0),
            unowned_writes: AtomicU64::new(0),
            told: Mutex::default(),
            level,
        }
    }

    fn add(&mut self, device: Arc<D>) -> Result<(), BusError> {
        let range = device.address_range();
        let at = self.devices.partition_point(|(other, _)| other.first() < range.first());
        let before = at.checked_sub(1).and_then(|i| self.devices.get(i));
        let clash = before
            .filter(|(other, _)| other.last() >= range.first())
            .or_else(|| self.devices.get(at).filter(|(other, _)| other.first() <= range.last()));
        if let Some((old_range, old)) = clash {
            return Err(BusError {
                new: device.name().to_owned(),
                new_range: range.to_string(),
                old: old.name().to_owned(),
                old_range: old_range.to_string(),
            });
        }
        self.devices.insert(at, (range, device));
        Ok(())
    }

    /// The device whose window holds all `len` units from `addr` on, and the offset inside it.
    fn find(&self, addr: R::Addr, len: usize) -> Option<(&D, u64)> {
        let at = self.devices.partition_point(|(range, _)| range.first() <= addr);
        let (range, device) = self.devices.get(at.checked_sub(1)?)?;
        let last = addr.number().checked_add(len as u64 - 1)?;
        (last <= range.last().number()).then(|| (&**device, addr.number() - range.first().number()))
    }

    fn read(&self, addr: R::Addr, len: usize, width: AccessWidth) -> u64 {
        let refused = match self.find(addr, len) {
            Some((device, offset)) => match device.handle_read(offset, width) {
                Ok(value) => return value & width.mask(),
                Err(access) => Some((device, access)),
            },
            None => None,
        };
        self.unowned_reads.fetch_add(1, Ordering::Relaxed);
        self.tell(addr, width, false, "read gives all ones", refused);
        width.mask()
    }

    fn write(&self, addr: R::Addr, len: usize, width: AccessWidth, val: u64) -> Effect {
        let refused = match self.find(addr, len) {
            Some((device, offset)) => {
                match device.handle_write(offset, width, val & width.mask()) {
                    Ok(effect) => return effect,
                    Err(access) => Some((device, access)),
                }
            }
            None => None,
        };
        self.unowned_writes.fetch_add(1, Ordering::Relaxed);
        self.tell(addr, width, true, "write dropped", refused);
        Effect::None
    }

    #[cold]
    fn tell(
        &self,
        addr: R::Addr,
        width: AccessWidth,
        is_write: bool,
        what: &str,
        by: Option<(&D, Access)>,
    ) {
        let mut told = self.told.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if told.len() > TOLD_ADDRESSES || !told.insert((addr.number(), is_write)) {
            return;
        }
        let bits = width.size() * 8;
        match by {
            Some((device, access)) => {
                log!(
                    self.level,
                    "{addr}: {} refuses a {bits}-bit access ({access:?}): {what}",
                    device.name()
                );
            }
            None => log!(self.level, "{addr}: nobody takes a {bits}-bit access here: {what}"),
        }
        if told.len() > TOLD_ADDRESSES {
            log!(self.level, "further addresses that nobody owns are counted, not told");
        }
    }

    fn counts(&self) -> UnownedCounts {
        UnownedCounts {
            reads: self.unowned_reads.load(Ordering::Relaxed),
            writes: self.unowned_writes.load(Ordering::Relaxed),
        }
    }
}

/// All devices of a VM, on their three buses, and what answers hypercalls.
pub struct AxVmDevices {
    mmio: Bus<GuestPhysAddrRange, dyn BaseMmioDeviceOps>,
    port: Bus<PortRange, dyn BasePortDeviceOps>,
    sys_reg: Bus<SysRegAddrRange, dyn BaseSysRegDeviceOps>,
    hypercalls: Vec<Arc<dyn HypercallOps>>,
    ivc_window: Option<Arc<IvcWindow>>,
}

impl AxVmDevices {
    /// No devices at all.
    pub fn new() -> Self {
        Self {
            mmio: Bus::new(Level::Warn),
            port: Bus::new(Level::Debug),
            sys_reg: Bus::new(Level::Warn),
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
        self.mmio.devices.iter().map(|(_, device)| device)
    }

    /// The devices at I/O ports, ascending.
    pub fn iter_port_dev(&self) -> impl Iterator<Item = &Arc<dyn BasePortDeviceOps>> {
        self.port.devices.iter().map(|(_, device)| device)
    }

    /// The devices behind system registers, ascending.
    pub fn iter_sys_reg_dev(&self) -> impl Iterator<Item = &Arc<dyn BaseSysRegDeviceOps>> {
        self.sys_reg.devices.iter().map(|(_, device)| device)
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

    /// Whether one device's window holds all of an access.
    pub fn has_mmio_dev(&self, addr: GuestPhysAddr, width: AccessWidth) -> bool {
        self.mmio.find(addr, width.size()).is_some()
    }

    /// Reads guest-physical memory that devices own; all ones where none does.
    pub fn handle_mmio_read(&self, addr: GuestPhysAddr, width: AccessWidth) -> u64 {
        self.mmio.read(addr, width.size(), width)
    }

    /// Writes guest-physical memory that devices own; nothing where none does.
    pub fn handle_mmio_write(&self, addr: GuestPhysAddr, width: AccessWidth, val: u64) -> Effect {
        self.mmio.write(addr, width.size(), width, val)
    }

    /// Reads a port; all ones where no device is.
    pub fn handle_port_read(&self, port: Port, width: AccessWidth) -> u64 {
        self.port.read(port, width.size(), width)
    }

    /// Writes a port; nothing where no device is.
    pub fn handle_port_write(&self, port: Port, width: AccessWidth, val: u64) -> Effect {
        self.port.write(port, width.size(), width, val)
    }

    /// Reads a system register; `None` where no device is, or it refuses: the guest then gets a
    /// fault, as of a register that is not there.
    pub fn handle_sys_reg_read(&self, addr: SysRegAddr) -> Option<u64> {
        let (device, offset) = self.sys_reg.find(addr, 1)?;
        match device.handle_read(offset, AccessWidth::Qword) {
            Ok(value) => Some(value),
            Err(access) => self.refuse_sys_reg(addr, false, device, access),
        }
    }

    /// Writes a system register; `None` where no device is, or it refuses.
    pub fn handle_sys_reg_write(&self, addr: SysRegAddr, val: u64) -> Option<Effect> {
        let (device, offset) = self.sys_reg.find(addr, 1)?;
        match device.handle_write(offset, AccessWidth::Qword, val) {
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
mod tests {
    use super::*;
    use crate::devices::EmuDeviceType;

    /// Answers a read with the offset; takes bytes and words only; powers off on 0xff.
    struct Probe<R> {
        name: &'static str,
        range: R,
    }

    impl<R: DeviceAddrRange> BaseDeviceOps<R> for Probe<R> {
        fn name(&self) -> &str {
            self.name
        }

        fn emu_type(&self) -> EmuDeviceType {
            EmuDeviceType::Dummy
        }

        fn address_range(&self) -> R {
            self.range
        }

        fn handle_read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
            match width {
                AccessWidth::Qword => Err(Access::BadWidth),
                _ => Ok(0xf00_0000_0000 | offset),
            }
        }

        fn handle_write(&self, _: u64, _: AccessWidth, val: u64) -> Result<Effect, Access> {
            Ok(if val == 0xff { Effect::PowerOff } else { Effect::None })
        }
    }

    fn mmio(name: &'static str, first: u64, last: u64) -> Arc<dyn BaseMmioDeviceOps> {
        let range =
            GuestPhysAddrRange::inclusive(GuestPhysAddr(first), GuestPhysAddr(last)).unwrap();
        Arc::new(Probe { name, range })
    }

    fn bus() -> AxVmDevices {
        let mut devices = AxVmDevices::new();
        for (name, first, last) in
            [("b", 0x2000, 0x2007), ("a", 0x1000, 0x1003), ("top", u64::MAX - 7, u64::MAX)]
        {
            devices.add_mmio_dev(mmio(name, first, last)).unwrap();
        }
        devices
    }

    #[test]
    fn a_device_sees_offsets_and_the_guest_sees_the_width() {
        let devices = bus();
        assert_eq!(devices.handle_mmio_read(GuestPhysAddr(0x2004), AccessWidth::Word), 4);
        assert_eq!(devices.handle_mmio_read(GuestPhysAddr(0x1003), AccessWidth::Byte), 3);
        assert_eq!(devices.handle_mmio_read(GuestPhysAddr(u64::MAX - 3), AccessWidth::Dword), 4);
        assert_eq!(
            devices.handle_mmio_write(GuestPhysAddr(0x2000), AccessWidth::Byte, 0xaff),
            Effect::PowerOff
        );
        assert_eq!(devices.unowned(), UnownedCounts::default());
    }

    #[test]
    fn nobody_there_reads_ones_of_the_width_and_drops_writes() {
        let devices = bus();
        for (addr, width, expect) in [
            (0x0, AccessWidth::Byte, 0xff),
            (0x0fff, AccessWidth::Word, 0xffff), // straddles the start of `a`
            (0x1003, AccessWidth::Word, 0xffff), // straddles its end
            (0x2000, AccessWidth::Qword, u64::MAX), // a width that `b` refuses
            (u64::MAX - 2, AccessWidth::Dword, 0xffff_ffff), // wraps
        ] {
            assert_eq!(devices.handle_mmio_read(GuestPhysAddr(addr), width), expect, "{addr:#x}");
        }
        assert_eq!(
            devices.handle_mmio_write(GuestPhysAddr(u64::MAX), AccessWidth::Qword, 0xff),
            Effect::None
        );
        assert_eq!(devices.handle_port_read(Port(0xffff), AccessWidth::Dword), 0xffff_ffff);
        assert_eq!(devices.unowned(), UnownedCounts { reads: 6, writes: 1 });
    }

    #[test]
    fn overlaps_are_refused_naming_both() {
        let mut devices = bus();
        for (first, last, old) in
            [(0x1003, 0x1003, "a"), (0xfff, 0x1000, "a"), (0x1fff, 0x3000, "b"), (0, u64::MAX, "a")]
        {
            let error = devices.add_mmio_dev(mmio("new", first, last)).unwrap_err();
            assert_eq!((error.new.as_str(), error.old.as_str()), ("new", old));
        }
        devices.add_mmio_dev(mmio("between", 0x1004, 0x1fff)).unwrap();
    }

    #[test]
    fn a_system_register_without_owner_is_told_from_one_that_reads_ones() {
        let devices = bus();
        assert_eq!(devices.handle_sys_reg_read(SysRegAddr(0x10)), None);
        assert_eq!(devices.handle_sys_reg_write(SysRegAddr(0x10), 1), None);
    }
}
