//! axvmm: the VMM for when the guest kernel, or the device, is what you are testing.
//!
//! A guest's way through the crate, from the top floor to the ground; a module uses those below it
//! and never one above:
//!
//! | module | subject |
//! |---|---|
//! | [`cli`] | the commands: `run`, `test`, `cargo-test`, `host`, `check`, `doctor`, `init`, `import`, `top`, `schema`, `trace`, `replay`, `qtest`, `device`, `completions`, `man` |
//! | [`emulated`] | emulated KVM hosts: bringing them up, and commands in them |
//! | [`import`] | what other VMMs are configured with, as a `guest.toml` |
//! | [`config`] | `guest.toml`: schema, located errors, resolving to [`vm::AxVMConfig`] |
//! | [`machine`] | the board: memory map, devices, firmware tables; first a plan, then a machine |
//! | [`trace`] | recordings of exits |
//! | [`gdb`] | a server for GDB |
//! | [`boot`] | kernel images: formats, command line, initrd, where each goes |
//! | [`vm`] | [`vm::AxVM`]: construction, the dispatch loop `run_vcpu`, lifecycle, vCPU threads |
//! | [`vcpu`] | [`vcpu::AxVCpu`] and its states; the architecture's vCPU by alias |
//! | [`kvm`] | KVM as the hardware |
//! | [`scripted`] | a script as the hardware |
//! | [`ivc`] | channels between the VMs of a process |
//! | [`vfio_user`] | devices that are another process |
//! | [`virtio`] | virtio: queues, transports, devices |
//! | [`pci`] | a PCI Express root complex: configuration space, BARs, MSI-X |
//! | [`devices`] | emulated devices and the buses they stand on |
//! | [`addrspace`] | guest memory |
//! | [`hal`] | all that a VM asks of what lies beneath it: traits, exit reasons |
//! | [`kept`] | what outlasts a device when its guest reboots |
//! | [`ratelimit`] | what a guest can cause to be logged, a few lines at a time |
//! | [`isa`] | what of instruction sets a debugger must know: page tables, jumps |
//! | [`addr`] | addresses, widths, flags |
//!
//! A program that is axvmm with more devices calls [`cli::main_with`]; how to write one is in
//! [`devices::custom`]. One that is no axvmm makes a [`machine::Plan`] of a configuration, builds a [`Machine`] from it,
//! with devices of its own if it likes, and runs that; `examples/own_device.rs` is one.
//!
//! [`Machine`]: machine::Machine::build_with

#![warn(missing_docs)]

pub mod addr;
pub mod addrspace;
pub mod boot;
pub mod cli;
pub mod config;
pub mod devices;
pub mod emulated;
pub mod gdb;
pub mod hal;
pub mod import;
pub mod isa;
pub mod ivc;
pub mod kept;
pub mod kvm;
pub mod machine;
pub mod pci;
pub mod ratelimit;
pub mod scripted;
pub mod trace;
pub mod vcpu;
pub mod vfio_user;
pub mod virtio;
pub mod vm;

pub use devices::{AxVmDevices, BaseDeviceOps};
pub use hal::{AxArchVCpu, AxVCpuExitReason, AxVCpuHal, AxVMHal};
pub use kvm::has_hardware_support;
pub use vcpu::{AxVCpu, VCpuState};
pub use vm::{AxVCpuRef, AxVM, AxVMConfig, AxVMRef, VMStatus};
