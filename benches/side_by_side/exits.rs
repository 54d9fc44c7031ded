//! A tiny guest: how soon it speaks, what an exit costs, what memory its VMM has.

use crate::{
    Options, Result,
    contender::{Contender, Guest},
    memory::{self, Memory},
    process::{Running, settle},
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
    /// User time of a run that makes next to no exits, in seconds.
    idle_user: Vec<f64>,
    /// User time of a run that makes all of them.
    busy_user: Vec<f64>,
    /// For each read, in seconds.
    exit: Vec<f64>,
    private_dirty: Vec<f64>,
    guest: Vec<f64>,
}

pub fn measure(options: &Options) -> Result {
    let mut all: Vec<_> = options.contenders.iter().map(|_| Figures::default()).collect();
    for _ in 0..options.rounds {
        for _ in 0..STARTS {
            for (contender, figures) in options.contenders.iter().zip(&mut all) {
                let ((first, _), _, user) = run(options, contender, 1)?;
                figures.first_byte.push(first.as_secs_f64());
                figures.idle_user.push(user);
            }
        }
        for (contender, figures) in options.contenders.iter().zip(&mut all) {
            let ((_, start), (done, memory), user) = run(options, contender, options.reads)?;
            figures.exit.push((done - start).as_secs_f64() / f64::from(options.reads));
            figures.busy_user.push(user);
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
        "Tiny guest, 1 vCPU, {RAM} MiB, {} port reads (median of {} runs, of {} for the first byte)",
        options.reads,
        options.rounds,
        options.rounds * STARTS
    );
    let columns = [
        ("exec to first byte, ms", 1),
        ("us per exit", 2),
        ("VMM's user time per exit, us", 2),
        ("private dirty without the guest's, KiB", 0),
        ("the guest's own, KiB", 0),
    ];
    print(&title, &columns, &rows);
    Ok(())
}

fn row(figures: &Figures, reads: u32) -> Vec<f64> {
    // The kernel samples user time: only the sum over all runs is exact enough.
    let mean = |times: &[f64]| times.iter().sum::<f64>() / times.len() as f64;
    let user = mean(&figures.busy_user) - mean(&figures.idle_user);
    vec![
        median(&figures.first_byte) * 1e3,
        median(&figures.exit) * 1e6,
        user / f64::from(reads) * 1e6,
        median(&figures.private_dirty),
        median(&figures.guest),
    ]
}

type Times = (std::time::Duration, std::time::Duration);

/// One run: when the first line began and ended; when the second one began, and the memory then;
/// and the user time of the whole run.
fn run(
    options: &Options,
    contender: &Contender,
    reads: u32,
) -> Result<(Times, (std::time::Duration, Memory), f64)> {
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
