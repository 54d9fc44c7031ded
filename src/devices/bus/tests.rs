use super::*;
use crate::{
    addr::DeviceAddrRange,
    devices::{BaseDeviceOps, EmuDeviceType},
};

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
    let range = GuestPhysAddrRange::inclusive(GuestPhysAddr(first), GuestPhysAddr(last)).unwrap();
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

/// Two halves of 4 bytes that are counted apart, behind 8 that are not.
struct Bridge;

impl BaseDeviceOps<GuestPhysAddrRange> for Bridge {
    fn name(&self) -> &str {
        "bridge"
    }

    fn address_range(&self) -> GuestPhysAddrRange {
        GuestPhysAddrRange::inclusive(GuestPhysAddr(0x1800), GuestPhysAddr(0x180f)).unwrap()
    }

    fn parts(&self) -> Vec<String> {
        ["low", "high"].map(str::to_owned).to_vec()
    }

    fn part_at(&self, offset: u64) -> Option<usize> {
        (offset / 4).checked_sub(2).map(|part| part as usize)
    }

    fn handle_read(&self, _: u64, _: AccessWidth) -> Result<u64, Access> {
        Ok(0)
    }

    fn handle_write(&self, _: u64, _: AccessWidth, _: u64) -> Result<Effect, Access> {
        Ok(Effect::None)
    }
}

#[test]
fn an_access_is_taken_by_the_window_that_it_is_counted_for() {
    let mut devices = bus();
    devices.add_mmio_dev(Arc::new(Bridge)).unwrap();
    let ports = PortRange::inclusive(Port(0x3f8), Port(0x3ff)).unwrap();
    devices.add_port_dev(Arc::new(Probe { name: "com", range: ports })).unwrap();
    let windows: Vec<_> = devices.windows().into_iter().map(|it| it.device).collect();
    assert_eq!(windows, ["a", "bridge", "low", "high", "b", "top", "com"]);
    assert_eq!(devices.window_count(), windows.len());
    let [bridge, low] = [1, 2].map(|at| devices.windows()[at].addresses.clone());
    assert_eq!(low, bridge, "parts come and go in it");

    let taker = |addr, width| {
        let addr = GuestPhysAddr(addr);
        let write = AxVCpuExitReason::MmioWrite { addr, width, data: 0 };
        let by = devices.taker(&write)?;
        Some((windows[by.window()].as_str(), by.offset()))
    };
    assert_eq!(taker(0x1003, AccessWidth::Byte), Some(("a", 3)));
    assert_eq!(taker(0x1003, AccessWidth::Word), None);
    assert_eq!(taker(0x1800, AccessWidth::Byte), Some(("bridge", 0)));
    assert_eq!(taker(0x180a, AccessWidth::Byte), Some(("low", 10)));
    assert_eq!(taker(0x180f, AccessWidth::Byte), Some(("high", 15)));
    assert_eq!(taker(0x2000, AccessWidth::Qword), Some(("b", 0)), "that it refuses it");
    let port = AxVCpuExitReason::IoRead { port: Port(0x3fd), width: AccessWidth::Byte };
    assert_eq!(devices.taker(&port).map(|it| (it.window(), it.offset())), Some((6, 5)));
    assert_eq!(devices.taker(&AxVCpuExitReason::Halt), None);
}
