//! The loop on x86_64, with a guest by the PVH protocol.

use std::{env, error::Error, fs::File, io::Write, sync::Arc};

use kvm_bindings::{kvm_regs, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use linux_loader::loader::{
    KernelLoader,
    elf::start_info::hvm_start_info,
    elf::{Elf, PvhBootCapability},
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

const MEMORY: usize = 128 << 20;
const START_INFO: GuestAddress = GuestAddress(0x6000);
const CMDLINE: GuestAddress = GuestAddress(0x7000);
const COM1: u16 = 0x3f8;
/// Transmitter empty, and nothing received.
const LINE_STATUS: u8 = 0x60;

pub fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<_> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [kernel, cmdline] = &args[..] else {
        println!("usage: bare_loop KERNEL CMDLINE (see benches/compare)");
        return Ok(());
    };
    let memory: Arc<GuestMemoryMmap> =
        Arc::new(GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)])?);
    let loaded = Elf::load(&*memory, None, &mut File::open(kernel)?, None)?;
    let PvhBootCapability::PvhEntryPresent(entry) = loaded.pvh_boot_cap else {
        return Err(format!("{kernel} has no PVH entry").into());
    };
    memory.write_slice(&[cmdline.as_bytes(), b"\0"].concat(), CMDLINE)?;
    let start =
        hvm_start_info { magic: 0x336e_c578, cmdline_paddr: CMDLINE.0, ..Default::default() };
    memory.write_obj(start, START_INFO)?;

    let vm = Kvm::new()?.create_vm()?;
    give_memory(&vm, &memory)?;
    // In the host kernel, as in the VMMs beside it: a halt stays there.
    vm.create_irq_chip()?;
    let mut vcpu = vm.create_vcpu(0)?;
    enter_at(&vcpu, entry.0)?;
    run(&mut vcpu)
}

fn give_memory(vm: &VmFd, memory: &GuestMemoryMmap) -> Result<(), Box<dyn Error>> {
    for (slot, region) in (0..).zip(memory.iter()) {
        let region = kvm_userspace_memory_region {
            slot,
            guest_phys_addr: region.start_addr().0,
            memory_size: region.len(),
            userspace_addr: region.as_ptr() as u64,
            flags: 0,
        };
        // SAFETY: the mapping is there until the process ends, and nobody refers to its bytes.
        unsafe { vm.set_user_memory_region(region)? };
    }
    Ok(())
}

/// Flat 32-bit segments, as PVH wants them.
fn enter_at(vcpu: &VcpuFd, entry: u64) -> Result<(), kvm_ioctls::Error> {
    let flat = |selector, type_| kvm_segment {
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        s: 1,
        db: 1,
        g: 1,
        ..Default::default()
    };
    let mut sregs = vcpu.get_sregs()?;
    sregs.cs = flat(0x10, 0xb);
    let data = flat(0x18, 0x3);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = kvm_segment { limit: 0x67, s: 0, db: 0, g: 0, ..flat(0x20, 0xb) };
    sregs.cr0 = 0x11;
    vcpu.set_sregs(&sregs)?;
    vcpu.set_regs(&kvm_regs { rip: entry, rbx: START_INFO.0, rflags: 2, ..Default::default() })
}

fn run(vcpu: &mut VcpuFd) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout();
    loop {
        match vcpu.run()? {
            VcpuExit::IoIn(_, data) => data.fill(LINE_STATUS),
            VcpuExit::IoOut(COM1, data) => {
                out.write_all(data)?;
                out.flush()?;
            }
            VcpuExit::IoOut(..) => {}
            other => return Err(format!("not what this guest does: {other:?}").into()),
        }
    }
}
