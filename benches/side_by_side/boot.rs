//! A Linux guest to its init: how long, and how many exits of all kinds, which the host's KVM
//! counts in debugfs, and how many of them accessed memory that is the VMM's; a tiny guest to its
//! first byte. Nothing else may run guests on this host meanwhile.

use std::{env, fs, path::Path};

use crate::{
    Options, Result,
    contender::{Contender, Guest},
    process::{Running, settle},
    table::{median, print},
};

/// Where the host counts; of all its guests.
const EXITS: &str = "/sys/kernel/debug/kvm/exits";
/// Those that the VMM answered; ports are memory here.
const TO_VMM: &[&str] = match env::consts::ARCH.as_bytes() {
    b"x86_64" => &["/sys/kernel/debug/kvm/mmio_exits", "/sys/kernel/debug/kvm/io_exits"],
    _ => &["/sys/kernel/debug/kvm/mmio_exit_user"],
};
/// What `resources/debian-guest/init` says first.
const INIT: &str = "axvmm-guest: init";
/// What `resources/guests/*/hello.S` says.
const HELLO: &str = "Hello";
/// In MiB.
const RAM: u32 = 256;

/// Words for Linux; on x86_64 there is no PCI bus to look for.
const CMDLINE: &str = match env::consts::ARCH.as_bytes() {
    b"x86_64" => "console=ttyS0 quiet loglevel=3 pci=off",
    b"aarch64" => "console=ttyAMA0 quiet loglevel=3",
    _ => "console=ttyS0 quiet loglevel=3",
};

pub fn measure(options: &Options) -> Result {
    count(&[EXITS])?;
    let initrd: Option<&Path> = options.initrd.as_deref();
    let guest = Guest { kernel: &options.kernel, initrd, cmdline: CMDLINE, memory: RAM };
    let mut columns = vec![("s", 2), ("KVM exits", 0), ("of them MMIO to the VMM", 0)];
    if options.hello.is_some() {
        columns.push(("a tiny guest's first byte, ms", 1));
    }
    // For each contender, for each column, a figure of each round.
    let mut all = vec![vec![Vec::new(); columns.len()]; options.contenders.len()];
    for _ in 0..options.rounds {
        for (contender, figures) in options.contenders.iter().zip(&mut all) {
            contender.prepare();
            settle();
            let (exits, to_vmm) = (count(&[EXITS])?, count(TO_VMM)?);
            let mut running = Running::start(contender, &guest)?;
            let (first, _) = running.wait_for(INIT)?;
            let mut round =
                vec![first.as_secs_f64(), count(&[EXITS])? - exits, count(TO_VMM)? - to_vmm];
            drop(running);
            if let Some(kernel) = &options.hello {
                settle();
                let hello = Guest { kernel, initrd: None, cmdline: "", memory: RAM };
                let (first, _) = Running::start(contender, &hello)?.wait_for(HELLO)?;
                round.push(first.as_secs_f64() * 1e3);
            }
            figures.iter_mut().zip(round).for_each(|(column, figure)| column.push(figure));
        }
    }
    let medians = |figures: &Vec<Vec<f64>>| figures.iter().map(|column| median(column)).collect();
    let names = options.contenders.iter().map(Contender::name);
    let rows: Vec<_> = names.zip(all.iter().map(medians)).collect();
    options.contenders.iter().for_each(Contender::clean_up);
    let title =
        format!("Debian's kernel, 1 vCPU, {RAM} MiB, to init (median of {})", options.rounds);
    print(&title, &columns, &rows);
    Ok(())
}

/// The sum of some of the host's counters.
fn count(files: &[&str]) -> Result<f64> {
    let mut sum = 0.0;
    for file in files {
        let text = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
        sum += text.trim().parse::<f64>()?;
    }
    Ok(sum)
}
