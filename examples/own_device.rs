//! A whole VMM, with a device of its own: `cargo run --example own_device GUEST`, where GUEST is
//! configs/guests/own-device-ARCH.elf as resources/guests/build makes it.

use std::{env, error, io, process::ExitCode, sync::Arc, sync::atomic};

use axvmm::addr::{AccessWidth, GuestPhysAddr, GuestPhysAddrRange};
use axvmm::devices::{Access, Effect, console::ConsoleOut};
use axvmm::machine::{Machine, Plan};
use axvmm::{AxVMHal, BaseDeviceOps, config, kvm::KvmHal, vm::StopReason};

/// One register: what is written there reads as the double of it.
#[derive(Default)]
struct Doubler(atomic::AtomicU32);

impl BaseDeviceOps<GuestPhysAddrRange> for Doubler {
    fn name(&self) -> &str {
        "doubler"
    }

    fn address_range(&self) -> GuestPhysAddrRange {
        GuestPhysAddrRange::new(GuestPhysAddr(0xd000_0000), 4).unwrap()
    }

    fn handle_read(&self, _: u64, _: AccessWidth) -> Result<u64, Access> {
        Ok(2 * u64::from(self.0.load(atomic::Ordering::Relaxed)))
    }

    fn handle_write(&self, _: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        if width != AccessWidth::Dword {
            return Err(Access::BadWidth);
        }
        self.0.store(val as u32, atomic::Ordering::Relaxed);
        Ok(Effect::None)
    }
}

pub fn run(guest: String, out: Arc<dyn ConsoleOut>) -> Result<StopReason, Box<dyn error::Error>> {
    let memory = Some("16M".to_owned());
    let guest = config::OneOff { kernel: guest, memory, ..config::OneOff::default() };
    let hardware = KvmHal::new()?;
    let plan = Plan::new(&config::from_args(&guest, &[])?, &hardware.platform()?)?;
    let channels = Arc::default();
    let machine = Machine::build_with(&plan, hardware, out, &channels, |devices, _board| {
        devices.add_mmio_dev(Arc::<Doubler>::default())
    })?;
    Ok(machine.run()?)
}

pub fn main() -> ExitCode {
    let Some(guest) = env::args().nth(1) else {
        eprintln!("usage: own_device GUEST");
        return ExitCode::from(35);
    };
    run(guest, Arc::new(io::stdout())).map(ExitCode::from).unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}
