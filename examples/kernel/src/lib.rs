//! What the kernel and its tests share: the way in, a console, an end with a status, and a list of
//! tests to be run.
#![no_std]

use core::{
    fmt::{self, Write},
    panic::PanicInfo,
};

#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
#[cfg_attr(target_arch = "riscv64", path = "riscv64.rs")]
mod arch;

/// The board's serial port.
pub struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(arch::send);
        Ok(())
    }
}

/// Prints a line.
#[macro_export]
macro_rules! println {
    ($($what:tt)*) => {{
        use core::fmt::Write;
        let _ = writeln!($crate::Console, $($what)*);
    }};
}

/// Ends the machine: `axvmm` ends with 0, or with another status.
pub fn exit(is_good: bool) -> ! {
    if is_good { arch::power_off() } else { arch::fail() }
}

#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    println!("{info}");
    exit(false)
}

/// Runs tests, and ends the machine. A test that fails panics, which is the end.
pub fn run_tests(tests: &[(&str, fn())]) -> ! {
    println!("running {} tests", tests.len());
    for (name, test) in tests {
        println!("test {name} ...");
        test();
        println!("test {name} ... ok");
    }
    exit(true)
}

/// Makes `main` of functions that are tests.
#[macro_export]
macro_rules! tests {
    ($($test:ident)*) => {
        #[unsafe(no_mangle)]
        extern "C" fn main() -> ! {
            $crate::run_tests(&[$((stringify!($test), $test)),*])
        }
    };
}

/// What is tested.
pub fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum: u16, byte| sum.rotate_left(1).wrapping_add(u16::from(*byte)))
}
