//! ACPI tables (ACPI 6.5, chapter 5): a hardware-reduced machine, so that a kernel looks for no
//! power management timer, no legacy PICs and no SCI, and finds the few devices by name instead of
//! probing.
//!
//! All addresses come from the plan's devices: what is described exists, and as described.

mod dsdt;
mod pci;

use acpi_tables::{
    Aml,
    fadt::{FADTBuilder, Flags, PmProfile},
    gas::{AccessSize, AddressSpace, GAS},
    madt::{EnabledStatus, IoApic, ProcessorLocalApic},
    rsdp::Rsdp,
    sdt::Sdt,
    xsdt::XSDT,
};
use pci::Pci;

use super::{IOAPIC, LOCAL_APIC, port};
use crate::{
    addr::{DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange},
    devices::reset_control::RESET_VALUE,
    machine::{
        Error,
        parts::{DevicePlan, FirmwareTable, Model},
    },
};

const OEM_ID: [u8; 6] = *b"AXVMM ";
const OEM_TABLE_ID: [u8; 8] = *b"AXVMMPC ";
const OEM_REVISION: u32 = 1;

/// Whether a kernel is told of the clock at port 0x70. It costs about a hundred exits at boot, and
/// guests that know the host's clock page need it only for `/dev/rtc0`.
pub(super) const DESCRIBE_RTC: bool = true;
/// Whether a kernel is told of the keyboard. Ctrl-Alt-Del comes that way.
pub(super) const DESCRIBE_KEYBOARD: bool = true;

/// FADT, IAPC_BOOT_ARCH (ACPI 6.5, table 5.10).
mod boot_arch {
    pub const LEGACY_DEVICES: u16 = 1 << 0;
    pub const HAS_8042: u16 = 1 << 1;
    pub const VGA_NOT_PRESENT: u16 = 1 << 2;
    pub const CMOS_RTC_NOT_PRESENT: u16 = 1 << 5;
}

/// The tables with their addresses in `place`; the root pointer is the first.
pub fn tables(
    cpus: usize,
    devices: &[DevicePlan],
    place: GuestPhysAddrRange,
) -> Result<Vec<FirmwareTable>, Error> {
    let mut layout = Layout { next: place.first().0, tables: Vec::new() };
    // The root pointer comes first, but is known last.
    let rsdp_at = layout.skip(Rsdp::len());
    let dsdt = layout.put("DSDT", &dsdt::dsdt(devices));
    let fadt = layout.put("FADT", &fadt(devices, dsdt));
    let madt = layout.put("MADT", &madt(cpus));
    let mut xsdt = XSDT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    let mcfg = Pci::of(devices).map(|pci| layout.put("MCFG", &pci.mcfg()));
    [fadt, madt].into_iter().chain(mcfg).for_each(|table| xsdt.add_entry(table));
    let xsdt = layout.put("XSDT", &xsdt);
    let size = layout.next - place.first().0;
    if size > place.len() {
        return Err(Error::TablesTooLarge { cpus, size, room: place.len() });
    }
    let rsdp = bytes(&Rsdp::new(OEM_ID, xsdt));
    layout.tables.insert(0, FirmwareTable::new("RSDP", GuestPhysAddr(rsdp_at), rsdp));
    Ok(layout.tables)
}

/// One table after the other, each at a multiple of 16.
struct Layout {
    next: u64,
    tables: Vec<FirmwareTable>,
}

impl Layout {
    fn skip(&mut self, len: usize) -> u64 {
        let at = self.next;
        self.next = (at + len as u64).next_multiple_of(16);
        at
    }

    fn put(&mut self, name: &'static str, table: &dyn Aml) -> u64 {
        let bytes = bytes(table);
        let at = self.skip(bytes.len());
        self.tables.push(FirmwareTable::new(name, GuestPhysAddr(at), bytes));
        at
    }
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

/// The fixed description (5.2.9).
fn fadt(devices: &[DevicePlan], dsdt: u64) -> impl Aml {
    let mut fadt = FADTBuilder::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION)
        .preferred_pm_profile(PmProfile::Unspecified)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::Wbinvd)
        // Neither button is a fixed one.
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .dsdt_64(dsdt);
    fadt.dsdt = u32::try_from(dsdt).unwrap_or(0).into();
    let mut arch = boot_arch::LEGACY_DEVICES | boot_arch::VGA_NOT_PRESENT;
    if DESCRIBE_KEYBOARD && port(devices, Model::I8042Data).is_some() {
        arch |= boot_arch::HAS_8042;
    }
    match port(devices, Model::Cmos) {
        Some(_) if DESCRIBE_RTC => fadt.century = crate::devices::cmos::CENTURY,
        _ => arch |= boot_arch::CMOS_RTC_NOT_PRESENT,
    }
    fadt.iapc_boot_arch = arch.into();
    if let Some(at) = port(devices, Model::ResetControl) {
        fadt = fadt.flag(Flags::ResetRegSup);
        fadt.reset_reg = byte_port(at);
        fadt.reset_value = RESET_VALUE;
    }
    if let Some(at) = port(devices, Model::AcpiSleep) {
        fadt.sleep_control_reg = byte_port(at);
        fadt.sleep_status_reg = byte_port(at + 1);
    }
    fadt.hypervisor_vendor_identity = u64::from_le_bytes(*b"axvmm\0\0\0").into();
    fadt.finalize()
}

fn byte_port(port: u16) -> GAS {
    GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, port.into())
}

/// The interrupt controllers (5.2.12). No source overrides: each ISA interrupt is the IOAPIC input
/// of the same number, edge-triggered and active high, as an ISA bus has it. The 8259s are not
/// told of; a kernel that reads this has better ones.
fn madt(cpus: usize) -> Sdt {
    const ALL_PROCESSORS: u8 = 0xff;
    const ALL_PROCESSORS_X2: u32 = u32::MAX;
    const LINT1: u8 = 1;
    let mut body = Vec::new();
    body.extend((LOCAL_APIC as u32).to_le_bytes());
    body.extend(0_u32.to_le_bytes()); // flags: PCAT_COMPAT is 0
    for id in 0..cpus as u32 {
        match u8::try_from(id) {
            // APIC id 255 is everybody.
            Ok(id @ 0..=254) => {
                ProcessorLocalApic::new(id, id, EnabledStatus::Enabled).to_aml_bytes(&mut body);
            }
            _ => body.extend(local_x2apic(id)),
        }
    }
    IoApic::new(0, IOAPIC as u32, 0).to_aml_bytes(&mut body);
    // Local APIC NMI (5.2.12.7): type 4, LINT1 of all.
    body.extend([4, 6, ALL_PROCESSORS, 0, 0, LINT1]);
    if cpus > 255 {
        // Local x2APIC NMI (5.2.12.13): type 10.
        body.extend([10, 12, 0, 0]);
        body.extend(ALL_PROCESSORS_X2.to_le_bytes());
        body.extend([LINT1, 0, 0, 0]);
    }
    let mut madt = Sdt::new(*b"APIC", 36, 5, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    madt.append_slice(&body);
    madt
}

/// Processor local x2APIC (5.2.12.12): type 9.
fn local_x2apic(id: u32) -> Vec<u8> {
    const ENABLED: u32 = 1;
    [[9, 16, 0, 0], id.to_le_bytes(), ENABLED.to_le_bytes(), id.to_le_bytes()].concat()
}

#[cfg(test)]
mod tests;
