#![no_std]
#![no_main]

use kernel::{checksum, exit, println};

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    println!("Hello from a kernel in Rust, checksum {:#06x}", checksum(b"hello"));
    exit(true)
}
