//! GDB's `monitor` commands: what its own do not have, on devices.

use gdbstub::{
    outputln,
    target::ext::monitor_cmd::{ConsoleOutput, MonitorCmd},
};

use super::debuggee::{Debuggee, Lost};
use crate::{
    addr::{DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange, Port, PortRange},
    devices::AxVmDevices,
    hal::{AccessKind, AxVMHal},
    vm::{VMStatus, Watch, WatchedAddrs},
};

const HELP: &str = "\
devices                       the devices, and the addresses of each
watch DEVICE|ADDRESS [read|write|any]
                              stops right after an access to the device or register, such as
                              com1, 0x9000030, port:0x3f8; any access unless told otherwise
watch                         what is watched
unwatch [DEVICE|ADDRESS]      watches it no more, or nothing
why                           the access, or what else axvmm told last
help                          this";

impl<H: AxVMHal> MonitorCmd for Debuggee<H> {
    fn handle_monitor_cmd(
        &mut self,
        command: &[u8],
        mut out: ConsoleOutput<'_>,
    ) -> Result<(), Lost> {
        let command = String::from_utf8_lossy(command);
        let words: Vec<_> = command.split_whitespace().collect();
        let Some(vm) = self.vm.upgrade() else {
            outputln!(out, "the guest is being made anew");
            return Ok(());
        };
        let devices = vm.get_devices();
        let told = match words[..] {
            ["devices"] => Ok(listed(devices)),
            ["watch"] => Ok(self.watched()),
            ["watch" | "unwatch", ..] if vm.status() == VMStatus::Running => {
                Err("the guest runs: interrupt it first".to_owned())
            }
            ["watch", what] => self.watch(devices, what, AccessKind::Any),
            ["watch", what, kind] => access(kind).and_then(|kind| self.watch(devices, what, kind)),
            ["unwatch"] => Ok(format!("{} removed", self.watches.remove_monitored(None))),
            ["unwatch", what] => addresses(devices, what)
                .map(|at| format!("{} removed", self.watches.remove_monitored(Some(at)))),
            ["why"] => Ok(self.last.clone()),
            ["help"] | [] => Ok(HELP.to_owned()),
            _ => Err(format!("there is no {command:?}; monitor help lists what there is")),
        };
        let text = told.unwrap_or_else(|wrong| wrong);
        for line in text.lines() {
            outputln!(out, "{line}");
        }
        Ok(())
    }
}

impl<H: AxVMHal> Debuggee<H> {
    fn watch(
        &mut self,
        devices: &AxVmDevices,
        what: &str,
        on: AccessKind,
    ) -> Result<String, String> {
        let at = addresses(devices, what)?;
        let watch = Watch { at, on };
        match self.watches.add(None, watch) {
            true => Ok(line(&watch)),
            false => Err("that many cannot be watched: monitor unwatch".to_owned()),
        }
    }

    fn watched(&self) -> String {
        let lines: Vec<_> = self.watches.list().iter().map(line).collect();
        if lines.is_empty() { "nothing is watched".to_owned() } else { lines.join("\n") }
    }
}

fn line(watch: &Watch) -> String {
    let what = match watch.on {
        AccessKind::Read => "reads",
        AccessKind::Write => "writes",
        AccessKind::Any => "reads and writes",
    };
    match watch.at {
        WatchedAddrs::Mmio(range) => format!("{what} at {range}"),
        WatchedAddrs::Port(range) => format!("{what} at ports {range}"),
    }
}

fn listed(devices: &AxVmDevices) -> String {
    let mmio = devices.iter_mmio_dev().map(|it| (it.address_range().to_string(), it.name()));
    let ports =
        devices.iter_port_dev().map(|it| (format!("ports {}", it.address_range()), it.name()));
    let lines: Vec<_> = mmio.chain(ports).map(|(at, name)| format!("{at:<27} {name}")).collect();
    lines.join("\n")
}

fn access(word: &str) -> Result<AccessKind, String> {
    match word {
        "read" => Ok(AccessKind::Read),
        "write" => Ok(AccessKind::Write),
        "any" => Ok(AccessKind::Any),
        _ => Err(format!("{word:?} is no kind of access: read, write or any")),
    }
}

/// The addresses that a user means: a device's by its name, a register by its address.
fn addresses(devices: &AxVmDevices, what: &str) -> Result<WatchedAddrs, String> {
    let mmio = devices.iter_mmio_dev().find(|it| it.name() == what);
    if let Some(device) = mmio {
        return Ok(WatchedAddrs::Mmio(device.address_range()));
    }
    if let Some(device) = devices.iter_port_dev().find(|it| it.name() == what) {
        return Ok(WatchedAddrs::Port(device.address_range()));
    }
    let nowhere = || format!("no device is at {what}; monitor devices lists them");
    if let Some(port) = what.strip_prefix("port:") {
        let port = number(port).and_then(|port| u16::try_from(port).ok()).map(Port);
        let port = port.ok_or_else(|| format!("{what:?} is no port"))?;
        let is_there = devices.iter_port_dev().any(|it| it.address_range().contains(port));
        return is_there.then_some(WatchedAddrs::Port(PortRange::at(port))).ok_or_else(nowhere);
    }
    let addr = number(what).map(GuestPhysAddr).ok_or_else(|| {
        format!("{what:?} is neither a device nor an address; monitor devices lists the devices")
    })?;
    let is_there = devices.iter_mmio_dev().any(|it| it.address_range().contains(addr));
    is_there.then_some(WatchedAddrs::Mmio(GuestPhysAddrRange::at(addr))).ok_or_else(nowhere)
}

fn number(text: &str) -> Option<u64> {
    let digits = text.replace('_', "");
    match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => digits.parse().ok(),
    }
}
