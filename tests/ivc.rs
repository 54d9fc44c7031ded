//! Two guests that send through an inter-VM channel, each told of news by an interrupt, every word
//! checked by the one that receives.

mod common;

use std::{env::consts::ARCH, process::Command, sync::Arc, thread};

use axvmm::{
    AxVMHal,
    devices::console::RecordingConsole,
    ivc::IvcHub,
    kvm::KvmHal,
    machine::{Machine, Plan},
};
use common::{axvmm, guest, root, run};

/// The two guests of the examples; `total` bytes through a channel of `size`.
fn exchange(size: u64, total: u64) -> Command {
    guest("ivc-send"); // has them built
    let mut command = axvmm();
    command.arg("run");
    for end in ["send", "receive"] {
        command.arg("--config").arg(root().join(format!("configs/ivc-{end}-{ARCH}.toml")));
    }
    command.args(["--set", &format!("kernel.cmdline=size={size:#x} total={total:#x}")]);
    command
}

#[test]
fn all_arrives_as_it_was_sent() {
    for (size, total) in [(0x101000, 0x20_0000), (0x2000, 0x1_0000), (0x100_0000, 0x10_0000)] {
        assert_arrives(size, total);
    }
}

/// Not on x86_64, where there are KVMs that let a guest without paging crawl; linux.rs does this in
/// the emulated host.
#[cfg(not(target_arch = "x86_64"))]
#[test]
fn a_gibibyte_arrives_as_it_was_sent() {
    assert_arrives(0x80_1000, 1 << 30);
}

#[track_caller]
fn assert_arrives(size: u64, total: u64) {
    let ended = run(&mut exchange(size, total));
    ended.assert(0, "").assert_tells(&[]);
    let sent = format!("ivc-send: sent {total:#x} bytes\r");
    let received = format!("ivc-receive: received {total:#x} bytes, all as sent\r");
    for (name, said) in [("send", sent), ("receive", received)] {
        assert!(printed_by(name, &ended.stdout).contains(&said), "no {said:?} in {ended:#?}");
    }
}

/// What one of several guests has printed. A line of it is in pieces where another guest printed
/// before its end came; the guest's own ends are `\r\n`.
fn printed_by(name: &str, stdout: &str) -> String {
    let prefix = format!("[{name}] ");
    stdout.split('\n').filter_map(|line| line.strip_prefix(&prefix)).collect()
}

/// The receiver has what it subscribed to when the sender is gone, and a sender alone waits.
#[test]
fn who_is_alone_waits() {
    guest("ivc-send");
    for end in ["send", "receive"] {
        let config = root().join(format!("configs/ivc-{end}-{ARCH}.toml"));
        let ended = run(axvmm().args(["run", "--timeout", "1s", "--config"]).arg(config));
        ended.assert(124, "");
    }
}

/// The same for a program that uses the library: what joins the VMs is the hub that they are built
/// with, and when they have ended, nothing is left in it.
#[test]
fn a_hub_joins_the_vms_of_a_program() {
    guest("ivc-send");
    let hub = Arc::new(IvcHub::default());
    let run = |end: &str| {
        let config = root().join(format!("configs/ivc-{end}-{ARCH}.toml"));
        let total = "kernel.cmdline=total=0x100000".to_owned();
        let config = axvmm::config::load(&config, &[total.into()]).unwrap();
        let hardware = KvmHal::new().unwrap();
        let plan = Plan::new(&config, &hardware.platform().unwrap()).unwrap();
        let console = Arc::new(RecordingConsole::default());
        let machine = Machine::build(&plan, hardware, console.clone(), &hub).unwrap();
        thread::spawn(move || (machine.run().unwrap().exit_status(), console.bytes()))
    };
    for thread in ["send", "receive"].map(run) {
        let (status, bytes) = thread.join().unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(status == 0 && text.contains("0x100000 bytes"), "{status} {text}");
    }
    assert!(hub.is_empty());
}
