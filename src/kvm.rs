//! KVM as the hardware: the only place that opens `/dev/kvm`, decodes `kvm_run` or makes a KVM
//! ioctl. `Documentation/virt/kvm/api.rst` of the Linux source is the specification.

mod debug;
mod exits;
mod host;
mod kick;
mod messages;
#[cfg(any(target_arch = "aarch64", target_arch = "riscv64"))]
mod one_reg;
pub mod probe;
mod run_page;
mod vcpu;
mod vm;

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
use x86_64 as arch;

#[cfg(target_arch = "riscv64")]
mod riscv64;
#[cfg(target_arch = "riscv64")]
use riscv64 as arch;

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "aarch64")]
use aarch64 as arch;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
compile_error!("another architecture is a module beside kvm::x86_64 and its sisters");

pub use host::{Capability, DEVICE_VARIABLE, KvmHost, OpenError};
pub use vcpu::{KvmVCpu, KvmVCpuCreateConfig};
pub use vm::KvmHal;

/// Whether this host can run guests: KVM can be opened, speaks the API that this program knows, and
/// has every capability that it needs. The processor's own flags say nothing reliable about that.
pub fn has_hardware_support() -> bool {
    KvmHost::open().is_ok_and(|host| host.missing_capabilities().is_empty())
}
