//! A tiny guest: how soon it speaks, what an exit costs, what memory its VMM has.

use crate::{
    Options, Result,
    contender::{Contender, Guest},
    memory::{self, Memory},
    process::{CpuTime, Running, settle},
    table::{median, print},
};

/// Starts for each one of the long runs.
const STARTS: usize = 4;
/// In MiB.
const RAM: u32 = 128;

/// The figures of one contender, one of each kind for each run.
#[derive(Default)]
struct Figures {
    /// From exec to the guest's first byte, in seconds.
    first_byte: Vec<f64>,
    /// CPU time of runs that make next to no exits.
    idle: Vec<CpuTime>,
    /// CPU time of runs that make all of them.
    busy: Vec<CpuTime>,
    /// Wall time for each read, in seconds.
    exit: Vec<f64>,
    private_dirty: Vec<f64>,
    guest: Vec<f64>,
}

pub fn measure(options: &Options) -> Result {
    let mut all: Vec<_> = options.contenders.iter().map(|_| Figures::default()).collect();
    for _ in 0..options.rounds {
        for _ in 0..STARTS {
            for (contender, figures) in options.contenders.iter().zip(&mut all) {
                let ((first, _), _, time) = run(options, contender, 1)?;
                figures.first_byte.push(first.as_secs_f64());
                figures.idle.push(time);
            }
        }
        for (contender, figures) in options.contenders.iter().zip(&mut all) {
            let ((_, start), (done, memory), time) = run(options, contender, options.reads)?;
            figures.exit.push((done - start).as_secs_f64() / f64::from(options.reads));
            figures.busy.push(time);
            figures.private_dirty.push(memory.private_dirty);
            figures.guest.push(memory.guest);
        }
    }
    let rows: Vec<_> = options
        .contenders
        .iter()
        .zip(&all)
        .map(|(contender, figures)| (contender.name(), row(figures, options.reads)))
        .collect();
    let title = format!(
        "Tiny guest, 1 vCPU, {RAM} MiB: {} runs with {} port reads each, {} starts",
        options.rounds,
        options.reads,
        options.rounds * STARTS
    );
    let columns = [
        ("exec to first byte, ms: median", 1),
        ("best", 1),
        ("us per exit: best", 2),
        ("CPU time per exit, us", 2),
        ("VMM's user time per exit, us", 2),
        ("private dirty without the guest's, KiB", 0),
        ("the guest's own, KiB", 0),
    ];
    print(&title, &columns, &rows);
    Ok(())
}

fn row(figures: &Figures, reads: u32) -> Vec<f64> {
    let best = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
    // The kernel splits CPU time by sampling: only the sum over all runs is exact enough.
    let mean = |times: &[CpuTime], of: fn(&CpuTime) -> f64| {
        times.iter().map(of).sum::<f64>() / times.len() as f64
    };
    let per_exit = |of| (mean(&figures.busy, of) - mean(&figures.idle, of)) / f64::from(reads);
    vec![
        median(&figures.first_byte) * 1e3,
        best(&figures.first_byte) * 1e3,
        best(&figures.exit) * 1e6,
        per_exit(|time| time.all) * 1e6,
        per_exit(|time| time.user) * 1e6,
        median(&figures.private_dirty),
        median(&figures.guest),
    ]
}

type Times = (std::time::Duration, std::time::Duration);

/// One run: when the first line began and ended; when the second one began, and the memory then;
/// and the CPU time of the whole run.
fn run(
    options: &Options,
    contender: &Contender,
    reads: u32,
) -> Result<(Times, (std::time::Duration, Memory), CpuTime)> {
    settle();
    // The guest halts at the end, so that the VMM is still there to be looked at.
    let cmdline = format!("{reads} halt");
    let guest = Guest { kernel: &options.kernel, initrd: None, cmdline: &cmdline, memory: RAM };
    let mut running = Running::start(contender, &guest)?;
    let first_line = running.wait_for("exits: start")?;
    let (done, _) = running.wait_for("exits: done")?;
    let memory = memory::of_process(running.pid(), u64::from(RAM) << 10)?;
    Ok((first_line, (done, memory), running.end()?))
}
