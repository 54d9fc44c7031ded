//! General, segment and control registers: the state that a guest begins in, and dumps.
//!
//! Layouts: Intel SDM vol. 3, 2.5 (control registers), 3.4.5 (segment descriptors).

use kvm_bindings::{
    KVM_SYNC_X86_REGS, kvm_dtable, kvm_lapic_state, kvm_regs, kvm_segment, kvm_sregs,
};
use kvm_ioctls::{SyncReg, VcpuFd};

use crate::{
    addr::GuestPhysAddr,
    hal::{DescriptorTable, EntryMode, HalError, HalResult, VCpuDump, VCpuSetup},
};

const CR0_PE: u64 = 1 << 0;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// Bit 1 of RFLAGS is always set.
const RFLAGS: u64 = 1 << 1;

/// Selectors as Linux' boot protocols want them: `__BOOT_CS` and `__BOOT_DS`.
const CODE_SELECTOR: u16 = 0x10;
const DATA_SELECTOR: u16 = 0x18;
const TSS_SELECTOR: u16 = 0x20;

/// Segment types: execute/read accessed, read/write accessed, busy 32-bit TSS.
const CODE: u8 = 0xb;
const DATA: u8 = 0x3;
const BUSY_TSS: u8 = 0xb;

/// Brings the boot processor to its entry.
pub fn enter_at(fd: &VcpuFd, entry: GuestPhysAddr, setup: &VCpuSetup) -> HalResult {
    let mut sregs = fd.get_sregs().map_err(failed("read segment registers (KVM_GET_SREGS)"))?;
    match setup.mode {
        EntryMode::Reset => real_mode(&mut sregs),
        EntryMode::Protected32 { gdt } => protected(&mut sregs, gdt),
        EntryMode::Long64 { gdt, page_table } => long(&mut sregs, gdt, page_table),
    }
    fd.set_sregs(&sregs).map_err(failed("set segment registers (KVM_SET_SREGS)"))?;
    let mut regs = kvm_regs { rip: entry.0, rflags: RFLAGS, ..Default::default() };
    for &(number, value) in &setup.gprs {
        if let Some(register) = gpr(&mut regs, number) {
            *register = value;
        }
    }
    fd.set_regs(&regs).map_err(failed("set registers (KVM_SET_REGS)"))
}

/// As after reset, but with all bases 0: `entry` counts from the bottom of memory.
fn real_mode(sregs: &mut kvm_sregs) {
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
}

fn protected(sregs: &mut kvm_sregs, gdt: DescriptorTable) {
    flat_segments(sregs, false);
    sregs.gdt = table(gdt);
    sregs.cr0 = CR0_PE | CR0_ET;
    sregs.cr4 = 0;
    sregs.efer = 0;
}

fn long(sregs: &mut kvm_sregs, gdt: DescriptorTable, page_table: GuestPhysAddr) {
    flat_segments(sregs, true);
    sregs.gdt = table(gdt);
    sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
    sregs.cr3 = page_table.0;
    sregs.cr4 = CR4_PAE;
    sregs.efer = EFER_LME | EFER_LMA;
}

fn table(table: DescriptorTable) -> kvm_dtable {
    kvm_dtable { base: table.base.0, limit: table.limit, ..Default::default() }
}

fn flat_segments(sregs: &mut kvm_sregs, long: bool) {
    let flat = |selector, type_| kvm_segment {
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        s: 1,
        g: 1,
        ..Default::default()
    };
    let code = flat(CODE_SELECTOR, CODE);
    sregs.cs = kvm_segment { l: long.into(), db: (!long).into(), ..code };
    let data = kvm_segment { db: 1, ..flat(DATA_SELECTOR, DATA) };
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    // The hardware wants a task register, even if nobody ever switches tasks.
    sregs.tr = kvm_segment {
        limit: 0x67,
        selector: TSS_SELECTOR,
        type_: BUSY_TSS,
        present: 1,
        ..Default::default()
    };
}

/// The local APIC's two pins as firmware leaves them: the 8259s on the boot processor's LINT0, NMI on
/// every LINT1 (Intel MultiProcessor Specification 1.4, 3.6.2.2, virtual wire mode).
///
/// Writing it has another effect: KVM looks again at who has which APIC id. When it last did so, at
/// `KVM_CREATE_VCPU`, the new vCPU was not counted yet, and INIT for the last one found nobody.
pub fn virtual_wire(fd: &VcpuFd, is_bsp: bool) -> HalResult {
    const LVT_LINT0: usize = 0x350;
    const LVT_LINT1: usize = 0x360;
    const DELIVER_NMI: u32 = 4 << 8;
    const DELIVER_EXTINT: u32 = 7 << 8;
    let mut lapic = fd.get_lapic().map_err(failed("read the local APIC (KVM_GET_LAPIC)"))?;
    if is_bsp {
        set_lapic_reg(&mut lapic, LVT_LINT0, DELIVER_EXTINT);
    }
    set_lapic_reg(&mut lapic, LVT_LINT1, DELIVER_NMI);
    fd.set_lapic(&lapic).map_err(failed("set the local APIC (KVM_SET_LAPIC)"))
}

fn set_lapic_reg(lapic: &mut kvm_lapic_state, offset: usize, value: u32) {
    for (byte, new) in lapic.regs[offset..].iter_mut().zip(value.to_le_bytes()) {
        *byte = new as _;
    }
}

/// Writes a general register, numbered as instructions encode it.
pub fn set_gpr(fd: &VcpuFd, number: usize, value: u64) -> HalResult {
    let mut regs = fd.get_regs().map_err(failed("read registers (KVM_GET_REGS)"))?;
    if let Some(register) = gpr(&mut regs, number) {
        *register = value;
        fd.set_regs(&regs).map_err(failed("set registers (KVM_SET_REGS)"))?;
    }
    Ok(())
}

fn gpr(regs: &mut kvm_regs, number: usize) -> Option<&mut u64> {
    Some(match number {
        0 => &mut regs.rax,
        1 => &mut regs.rcx,
        2 => &mut regs.rdx,
        3 => &mut regs.rbx,
        4 => &mut regs.rsp,
        5 => &mut regs.rbp,
        6 => &mut regs.rsi,
        7 => &mut regs.rdi,
        8 => &mut regs.r8,
        9 => &mut regs.r9,
        10 => &mut regs.r10,
        11 => &mut regs.r11,
        12 => &mut regs.r12,
        13 => &mut regs.r13,
        14 => &mut regs.r14,
        15 => &mut regs.r15,
        _ => return None,
    })
}

/// Where the guest is; 0 if that cannot be had. Asked for once, registers come with each exit from
/// then on where KVM can do that (`leaves_registers`), so that a call costs no system call.
pub fn pc(fd: &mut VcpuFd, leaves_registers: bool) -> u64 {
    if fd.get_kvm_run().kvm_valid_regs & u64::from(KVM_SYNC_X86_REGS) != 0 {
        return fd.sync_regs().regs.rip;
    }
    let Ok(regs) = fd.get_regs() else { return 0 };
    if leaves_registers {
        fd.set_sync_valid_reg(SyncReg::Register);
        // Until the next exit.
        fd.sync_regs_mut().regs = regs;
    }
    regs.rip
}

/// The registers, for a person.
pub fn dump(fd: &VcpuFd) -> VCpuDump {
    let mut dump = VCpuDump::default();
    let regs = fd.get_regs().ok();
    let sregs = fd.get_sregs().ok();
    if let Some(r) = &regs {
        dump.registers.extend([
            ("RIP", r.rip),
            ("RFLAGS", r.rflags),
            ("RSP", r.rsp),
            ("RBP", r.rbp),
            ("RAX", r.rax),
            ("RBX", r.rbx),
            ("RCX", r.rcx),
            ("RDX", r.rdx),
            ("RSI", r.rsi),
            ("RDI", r.rdi),
            ("R8", r.r8),
            ("R9", r.r9),
            ("R10", r.r10),
            ("R11", r.r11),
            ("R12", r.r12),
            ("R13", r.r13),
            ("R14", r.r14),
            ("R15", r.r15),
        ]);
    }
    if let Some(s) = &sregs {
        dump.registers.extend([
            ("CR0", s.cr0),
            ("CR2", s.cr2),
            ("CR3", s.cr3),
            ("CR4", s.cr4),
            ("EFER", s.efer),
            ("CS", s.cs.selector.into()),
            ("CSBASE", s.cs.base),
            ("SS", s.ss.selector.into()),
            ("GDT", s.gdt.base),
            ("IDT", s.idt.base),
        ]);
    }
    let base = sregs.map_or(0, |s| s.cs.base);
    dump.pc = base.wrapping_add(regs.map_or(0, |r| r.rip));
    dump.pc_gpa = fd
        .translate_gva(dump.pc)
        .ok()
        .filter(|translation| translation.valid != 0)
        .map(|translation| GuestPhysAddr(translation.physical_address));
    dump
}

fn failed(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> HalError {
    move |errno| HalError::failed(what, errno)
}
