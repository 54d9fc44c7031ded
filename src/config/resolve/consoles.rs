//! Consoles, as far as the kernel is told of them.

use crate::{
    virtio::DeviceConfig,
    vm::config::{DevicesConfig, KernelConfig},
};

/// Tells the kernel of a virtio console on our own terminal, if its command line names no console.
pub(super) fn tell_console(kernel: &mut KernelConfig, devices: &DevicesConfig) {
    let mut consoles = devices.virtio.iter().filter_map(|device| match &device.device {
        DeviceConfig::Console(console) => Some(console),
        _ => None,
    });
    let Some(number) = consoles.position(|console| console.is_on_stdio()) else { return };
    let cmdline = kernel.cmdline.take().unwrap_or_default();
    let names_one = cmdline.split_whitespace().any(|word| word.starts_with("console="));
    kernel.cmdline = Some(match (names_one, cmdline.trim()) {
        (true, _) => cmdline,
        (false, "") => format!("console=hvc{number}"),
        (false, said) => format!("{said} console=hvc{number}"),
    });
}
