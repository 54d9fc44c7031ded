//! axvmm beside other VMMs, in the same run on the same machine: every figure is a ratio.
//!
//!     side_by_side PART [--rounds N] [--reads N] [--guests N] --kernel FILE [--initrd FILE] VMM=PROGRAM…
//!
//! `benches/compare` gets the VMMs and calls this; it can also be called by hand. VMM is one of
//! those in `contender.rs`, and the first one is what the others are compared with. The machine is
//! shared and noisy, so all take turns, round by round; what is printed is the median, or the best
//! where it says so.

mod boot;
mod contender;
mod exits;
mod memory;
mod neighbours;
mod process;
mod table;

use std::{env, error::Error, path::PathBuf};

use contender::Contender;

const USAGE: &str = "\
usage: side_by_side PART [OPTION]… --kernel FILE VMM=PROGRAM… (see benches/compare)
parts: exits, neighbours, boot
options: --rounds N, --reads N, --guests N, --initrd FILE, --hello FILE
VMMs: axvmm, axvmm-guest, axvmm-cold, alioth, qemu, bare";

pub type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// What was asked for.
pub struct Options {
    pub rounds: usize,
    /// Port reads that the guest makes.
    pub reads: u32,
    /// VMs side by side.
    pub guests: usize,
    pub kernel: PathBuf,
    pub initrd: Option<PathBuf>,
    /// The tiny guest of `boot`.
    pub hello: Option<PathBuf>,
    pub contenders: Vec<Contender>,
}

fn main() -> Result {
    let args: Vec<_> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let Some((part, rest)) = args.split_first() else {
        println!("{USAGE}");
        return Ok(());
    };
    let options = parse(rest)?;
    match part.as_str() {
        "exits" => exits::measure(&options),
        "neighbours" => neighbours::measure(&options),
        "boot" => boot::measure(&options),
        _ => Err(USAGE.into()),
    }
}

fn parse(args: &[String]) -> Result<Options> {
    let mut options = Options {
        rounds: 10,
        reads: 100_000,
        guests: 50,
        kernel: PathBuf::new(),
        initrd: None,
        hello: None,
        contenders: Vec::new(),
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if let Some((vmm, program)) = arg.split_once('=').filter(|_| !arg.starts_with('-')) {
            options.contenders.push(Contender::new(vmm, program).ok_or(USAGE)?);
            continue;
        }
        let value = args.next().ok_or(USAGE)?;
        match arg.as_str() {
            "--rounds" => options.rounds = value.parse()?,
            "--reads" => options.reads = value.parse()?,
            "--guests" => options.guests = value.parse()?,
            "--kernel" => options.kernel = value.into(),
            "--initrd" => options.initrd = Some(value.into()),
            "--hello" => options.hello = Some(value.into()),
            _ => return Err(USAGE.into()),
        }
    }
    let enough = options.rounds > 0 && options.reads > 0 && options.guests > 0;
    if options.contenders.is_empty() || options.kernel.as_os_str().is_empty() || !enough {
        return Err(USAGE.into());
    }
    Ok(options)
}
