//! Guest memory that comes at the first touch, and memory that a guest may only read.

mod common;

use std::{env::consts::ARCH, fs};

use common::{guest, result_of, run};

/// Where RAM begins.
const RAM: u64 = match ARCH.as_bytes() {
    b"aarch64" => 0x4000_0000,
    b"riscv64" => 0x8000_0000,
    _ => 0,
};

/// How many page faults a guest has that touches the first and the last words of `size` of RAM.
fn page_faults(size: &str, lazy: bool) -> u64 {
    let mut command = common::axvmm();
    command.args(["run", "-k"]).arg(guest("memory")).args(["-m", size]);
    command.arg("--set").arg(format!("base.lazy_memory={lazy}"));
    let (result, _) = result_of(&mut command, 0);
    result["exits"][0]["by_reason"]["NestedPageFault"].as_u64().unwrap_or(0)
}

#[test]
fn lazy_memory_comes_at_the_first_touch() {
    assert_eq!(page_faults("64M", false), 0);
    // The first piece comes with the kernel.
    assert_eq!(page_faults("64M", true), 1);
    // However large it is: one or two for each of its areas.
    let faults = page_faults("64G", true);
    assert!((1..=4).contains(&faults), "{faults}");
}

#[test]
fn memory_that_may_only_be_read_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("guest.toml");
    let kernel = fs::canonicalize(guest("memory")).unwrap();
    let rest = RAM + 0x100_0000;
    let text = format!(
        "[kernel]\nkernel_path = {kernel:?}\nmemory_regions = [\n  [{RAM:#x}, 0x100_0000, 0x7, 0],\n  \
         [{rest:#x}, 0x10_0000, 0x5, 0],\n]\n"
    );
    fs::write(&file, text).unwrap();
    let ended = run(common::axvmm().args(["run", "--config"]).arg(&file));
    ended.assert(33, "").assert_tells(&["access (-w-)", &format!("{rest:#x}"), "no memory allows"]);
}
