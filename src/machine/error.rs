//! What is wrong with a machine, and who has to act.

use std::{io, path::PathBuf};

use super::{
    device_tree::OwnTreeError,
    parts::{Model, Window},
    requests::RequestOutcome,
};
use crate::{
    addr::GuestPhysAddr,
    addrspace, boot,
    devices::BusError,
    hal::{HalError, HalErrorKind},
    virtio::MakeError,
    vm::{self, config::WrittenAt},
};

/// Why a machine cannot be planned or built. Sizes are in bytes; [`Self::blame`] says who has to
/// act.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what each is")]
pub enum Error {
    #[error(
        "{bytes} bytes of memory cannot be had: give a multiple of 4 KiB, more than 0, that ends \
         below 2^64"
    )]
    MemorySize { bytes: u64 },
    #[error(
        "The memory region at {gpa} of {size:#x} bytes must begin at a multiple of 4 KiB, have a \
         size that is one and more than 0, and end below 2^64; correct memory_regions"
    )]
    MemoryRegion { gpa: GuestPhysAddr, size: u64 },
    #[error("The guest has no memory: give it memory = \"512M\", or memory_regions")]
    NoMemory,
    #[error(
        "The memory at {gpa} of {size:#x} bytes ends above the {bits} bits that guest-physical \
         addresses have on this host: give the guest less, or lower"
    )]
    MemoryTooHigh { gpa: GuestPhysAddr, size: u64, bits: u8 },
    #[error("{cpus} vCPUs are more than {controller} can serve: set cpu_num to {max} or less")]
    TooManyCpus { cpus: usize, max: usize, controller: &'static str },
    #[error("The guest has no vCPU: cpu_num must be 1 or more")]
    NoCpu,
    #[error(transparent)]
    Overlap(#[from] BusError),
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Requests(Vec<RequestOutcome>),
    #[error("Emulated device {name:?} at {at}: {problem}")]
    Device { name: String, at: GuestPhysAddr, problem: String },
    #[error("{at}: {problem}")]
    Fault { at: WrittenAt, problem: String },
    #[error("{at}: device {name:?}: {problem}")]
    Custom { name: String, at: WrittenAt, problem: String },
    #[error("{at}: vfio-user device {name:?}: {problem}")]
    VfioUser { name: String, at: WrittenAt, problem: String },
    #[error("{at}: virtio device {name:?}: {problem}")]
    Virtio { name: String, at: WrittenAt, problem: String },
    #[error(transparent)]
    MakeVirtio(#[from] MakeError),
    #[error("The firmware tables for {cpus} vCPUs have {size} bytes, and {room} is all the room")]
    TablesTooLarge { cpus: usize, size: u64, room: u64 },
    #[error("The plan has no {model}, without which this board cannot be built")]
    NoDevice { model: Model },
    #[error("{name}: a device of this kind ({model}) cannot be made at {window}")]
    Misplaced { name: String, model: Model, window: Window },
    #[error("This host cannot give a device its file descriptor: {0}")]
    EventFd(io::Error),
    #[error("This host gives no random bytes for the device tree: {0}")]
    Entropy(io::Error),
    #[error("The device tree cannot be written: {0}")]
    DeviceTree(#[from] vm_fdt::Error),
    #[error("Device tree {path:?} cannot be used: {problem}")]
    OwnDeviceTree { path: PathBuf, problem: OwnTreeError },
    #[error("The kernel's loader has left no place for the device tree")]
    NoPlaceForDeviceTree,
    #[error("The device tree has {size} bytes, and there is room for {room}")]
    DeviceTreeTooLarge { size: u64, room: u64 },
    #[error(transparent)]
    Boot(#[from] boot::Error),
    #[error(transparent)]
    Memory(#[from] addrspace::Error),
    #[error(transparent)]
    Vm(#[from] vm::Error),
    #[error(transparent)]
    Hal(#[from] HalError),
}

/// Who has to act so that an error goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The configuration, or a file that it names.
    Configuration,
    /// The host lacks something.
    Host,
    /// A call failed that should not have.
    Failure,
}

impl Error {
    /// Who has to act.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Hal(error)
            | Self::Memory(addrspace::Error::Hal(error))
            | Self::Vm(
                vm::Error::Hal(error) | vm::Error::AddrSpace(addrspace::Error::Hal(error)),
            ) => match error.kind {
                HalErrorKind::HostCannot => Blame::Host,
                HalErrorKind::Failed => Blame::Failure,
            },
            Self::MakeVirtio(MakeError { is_of_host: true, .. })
            | Self::EventFd(_)
            | Self::Entropy(_)
            | Self::Memory(addrspace::Error::NoMemory { .. }) => Blame::Host,
            Self::Vm(vm::Error::Affinity { .. } | vm::Error::Overlap(_)) => Blame::Configuration,
            Self::Vm(_) | Self::Memory(_) => Blame::Failure,
            _ => Blame::Configuration,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_blame_who_has_to_act() {
        let lacking = || HalError::host_cannot("run this");
        let failing = || HalError::failed("run this", io::Error::other("no"));
        let no_memory = addrspace::Error::NoMemory {
            gpa: GuestPhysAddr(0),
            size: 4096,
            source: io::ErrorKind::OutOfMemory.into(),
        };
        let no_such_cpus = vm::Error::Affinity { vcpu_id: 0, mask: 4, allowed: 3 };
        for (error, blame) in [
            (Error::NoCpu, Blame::Configuration),
            (Error::MemorySize { bytes: 1 }, Blame::Configuration),
            (Error::Vm(no_such_cpus), Blame::Configuration),
            (Error::Memory(no_memory), Blame::Host),
            (Error::EventFd(io::ErrorKind::OutOfMemory.into()), Blame::Host),
            (Error::Hal(lacking()), Blame::Host),
            (Error::Vm(vm::Error::Hal(lacking())), Blame::Host),
            (Error::Memory(addrspace::Error::Hal(failing())), Blame::Failure),
        ] {
            assert_eq!(error.blame(), blame, "{error}");
        }
    }
}
