//! What a start pays for a compressed kernel: unpacked on the host for the first time, found in the
//! cache, and left to the guest.
//!
//!     cargo bench --bench unpack -- VMLINUZ
//!
//! Each row is a process of its own with a cache directory of its own, as a start is. What the
//! guest's own unpacking takes is seen by running it (`unpack = "guest"`).

use std::{env, error::Error, path::PathBuf, process::Command, time::Instant};

use axvmm::{
    addr::{GuestPhysAddr, GuestPhysAddrRange},
    boot::BootPlan,
    hal::Arch,
    vm::config::{ImageFile, KernelConfig, Unpack},
};

/// Tells the child what to do.
const CHILD: &str = "AXVMM_BENCH_UNPACK";

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args_os().skip(1).filter(|arg| arg != "--bench");
    let Some(kernel) = args.next().map(PathBuf::from) else {
        println!("usage: cargo bench --bench unpack -- VMLINUZ");
        return Ok(());
    };
    if let Some(unpack) = env::var_os(CHILD) {
        return measure(kernel, if unpack == "guest" { Unpack::Guest } else { Unpack::Host });
    }
    let cache = tempfile::TempDir::new()?;
    println!("{:<24} {:>10} {:>10}", "", "prepare", "peak RSS");
    for (row, unpack) in [
        ("host, first time", "host"),
        ("host, from the cache", "host"),
        ("host, from the cache", "host"),
        ("left to the guest", "guest"),
    ] {
        let child = Command::new(env::current_exe()?)
            .arg(&kernel)
            .env(CHILD, unpack)
            .env("XDG_CACHE_HOME", cache.path())
            .output()?;
        let (out, err) =
            (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
        println!("{row:<24} {}{}", out.trim_end(), err.trim_end());
    }
    Ok(())
}

fn measure(path: PathBuf, unpack: Unpack) -> Result<(), Box<dyn Error>> {
    let kernel = KernelConfig {
        image: ImageFile { path, load_addr: None },
        entry_point: None,
        cmdline: None,
        ramdisk: None,
        bios: None,
        dtb: None,
        dtb_patch: vec![],
        modules: Vec::new(),
        unpack,
    };
    let ram = GuestPhysAddrRange::new(GuestPhysAddr(0), 512 << 20).ok_or("no RAM")?;
    let start = Instant::now();
    let plan = BootPlan::prepare(Arch::X86_64, &kernel, &[ram], 0)?;
    let took = start.elapsed();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("?").trim();
    let how = plan.unpacked.map_or_else(|| "not unpacked".into(), |u| u.compression.to_string());
    println!("{:>7.2} ms {peak:>10}  {how}, {}", took.as_secs_f64() * 1e3, plan.protocol);
    Ok(())
}
