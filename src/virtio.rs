//! virtio (the OASIS specification, version 1.2): devices, and what carries them.
//!
//! A device ([`VirtioDevice`]) has queues ([`Virtqueue`]), on which it works by itself once its
//! driver is ready, and a configuration space. A transport makes registers and interrupts of that.
//!
//! - `device`: what a device is, and what it gets.
//! - `queue`, `chain`: what a driver asks for, checked.
//! - `control`: what all transports do: status, features, setting up queues, activation, reset.
//! - `mmio`: the transport for boards without PCI; `pci`: the other one.
//! - `worker`: a device's thread.
//! - `config`: what a user may say of devices, and making them.
//! - `file_lock`: one writer of a file.
//! - `rate_limit`: so many bytes and operations in a time.
//! - one file a device: `balloon`, `block`, `console`, `fs`, `net`, `pmem`, `rng`, `vsock`, and
//!   `vhost_user` for any; `vring` is what vhost is told of a queue.

pub mod balloon;
pub mod block;
mod chain;
mod config;
pub mod console;
mod control;
mod device;
mod file_lock;
pub mod fs;
pub mod mmio;
pub mod net;
pub mod pci;
pub mod pmem;
#[cfg(test)]
mod probe;
mod queue;
pub mod rate_limit;
pub mod rng;
mod setup;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod vhost_user;
mod vring;
pub mod vsock;
mod worker;

pub use chain::{Chain, Malformed};
pub use config::{DeviceConfig, MakeError, Surroundings, TransportKind};
pub use control::{Control, Notify};
pub use device::{Activation, DeviceType, Interrupt, VirtioDevice};
pub use queue::Virtqueue;
pub use setup::QueueSetup;
pub use worker::Worker;

use crate::devices::EmuDeviceType;

/// What AxVisor's files would call it.
pub(crate) const fn emu_type(device: DeviceType) -> EmuDeviceType {
    match device {
        DeviceType::BLOCK => EmuDeviceType::VirtioBlk,
        DeviceType::NET => EmuDeviceType::VirtioNet,
        DeviceType::CONSOLE => EmuDeviceType::VirtioConsole,
        _ => EmuDeviceType::Dummy,
    }
}
