//! `--record`: the file that the exits go to.

use std::{
    env::consts::ARCH,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    cli::Failure,
    kvm::KvmHal,
    machine::Machine,
    trace::{About, AboutVm, Recorder},
};

/// How often what vCPUs have gathered goes to the file.
pub const PERIOD: Duration = Duration::from_secs(1);

/// Begins the recording of machines that have not run yet.
pub fn begin(
    path: &Path,
    most: u64,
    machines: &[Machine<KvmHal>],
) -> Result<Arc<Recorder>, Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let vms = machines.iter().map(|machine| AboutVm {
        id: machine.vm.id(),
        name: machine.vm.name().to_owned(),
        vcpus: machine.vm.vcpu_num(),
        memory: machine.vm.address_space().memory_areas().iter().map(|area| area.size).sum(),
        windows: machine.vm.get_devices().windows(),
        registers: machine.vm.get_devices().registers(),
    });
    let about = About {
        axvmm: env!("CARGO_PKG_VERSION").to_owned(),
        arch: ARCH.to_owned(),
        began: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
        vms: vms.collect(),
    };
    Ok(Recorder::create(path, &about, Some(most))?)
}
