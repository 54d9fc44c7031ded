//! This host's hardware, and what to plan for where it cannot be had.

use std::sync::Arc;

use super::Failure;
use crate::{
    hal::{Arch, AxVMHal, Platform},
    kvm::KvmHal,
};

/// A fresh VM, and what the host offers it.
pub fn open() -> Result<(Arc<KvmHal>, Platform), Failure> {
    let hal = KvmHal::new()?;
    let platform = hal.platform()?;
    Ok((hal, platform))
}

/// What hosts of this one's architecture usually offer.
pub fn usual() -> Result<Platform, Failure> {
    let arch =
        Arch::host().ok_or_else(|| Failure::usage("no guest is of this host's architecture"))?;
    Ok(Platform::usual(arch))
}
