//! A Linux guest to its init: how long, and how many exits of all kinds, which the host's KVM
//! counts in debugfs. Nothing else may run guests on this host meanwhile.

use std::{fs, path::Path};

use crate::{
    Options, Result,
    contender::Guest,
    process::{Running, settle},
    table::{median, print},
};

const EXITS: &str = "/sys/kernel/debug/kvm/exits";
/// What `resources/debian-guest/init` says first.
const INIT: &str = "axvmm-guest: init";
/// In MiB.
const RAM: u32 = 256;

pub fn measure(options: &Options) -> Result {
    exits()?;
    let initrd: Option<&Path> = options.initrd.as_deref();
    let guest = Guest {
        kernel: &options.kernel,
        initrd,
        cmdline: "console=ttyS0 quiet loglevel=3 pci=off",
        memory: RAM,
    };
    let mut all: Vec<_> = options.contenders.iter().map(|_| (Vec::new(), Vec::new())).collect();
    for _ in 0..options.rounds {
        for (contender, (times, counts)) in options.contenders.iter().zip(&mut all) {
            contender.prepare();
            settle();
            let before = exits()?;
            let mut running = Running::start(contender, &guest)?;
            let (first, _) = running.wait_for(INIT)?;
            counts.push(exits()? - before);
            times.push(first.as_secs_f64());
        }
    }
    let rows: Vec<_> = options
        .contenders
        .iter()
        .zip(&all)
        .map(|(contender, (times, counts))| (contender.name(), vec![median(times), median(counts)]))
        .collect();
    options.contenders.iter().for_each(crate::contender::Contender::clean_up);
    let title =
        format!("Debian's kernel, 1 vCPU, {RAM} MiB, to init (median of {})", options.rounds);
    print(&title, &[("s", 2), ("KVM exits", 0)], &rows);
    Ok(())
}

/// All exits of the guests that are there.
fn exits() -> Result<f64> {
    let text = fs::read_to_string(EXITS).map_err(|error| format!("{EXITS}: {error}"))?;
    Ok(text.trim().parse()?)
}
