//! Many idle guests side by side: what memory each one more costs.

use crate::{
    Options, Result,
    contender::Guest,
    memory,
    process::{Running, settle},
    table::{median, print},
};

/// In MiB.
const RAM: u32 = 128;

pub fn measure(options: &Options) -> Result {
    let guest = Guest { kernel: &options.kernel, initrd: None, cmdline: "1 halt", memory: RAM };
    let mut rows = Vec::new();
    for contender in &options.contenders {
        settle();
        let mut all = Vec::new();
        for _ in 0..=options.guests {
            let mut running = Running::start(contender, &guest)?;
            running.wait_for("exits: done")?;
            all.push(running);
        }
        let memories = all
            .iter()
            .map(|running| memory::of_process(running.pid(), u64::from(RAM) << 10))
            .collect::<Result<Vec<_>>>()?;
        let figure =
            |of: fn(&memory::Memory) -> f64| median(&memories.iter().map(of).collect::<Vec<_>>());
        let row = vec![figure(|m| m.pss), figure(|m| m.private_dirty), figure(|m| m.guest)];
        rows.push((contender.name(), row));
    }
    let title = format!("Idle tiny guests, {RAM} MiB, each beside {} others", options.guests);
    let columns = [
        ("PSS without the guest's, KiB", 0),
        ("private dirty without the guest's, KiB", 0),
        ("the guest's own, KiB", 0),
    ];
    print(&title, &columns, &rows);
    Ok(())
}
