//! What `Ctrl-A d` presses on each board, with guests of a few instructions on a KVM.

mod common;

use std::{fs, io::Write};

use common::{Running, axvmm, start};
use nix::pty::openpty;

const CTRL_A: &str = "\x01";

/// Prints R, and does nothing any more.
#[cfg(target_arch = "x86_64")]
const IDLE: &[u8] = &[
    0xb0, b'R', 0xe6, 0xe9, // mov al, 'R'; out 0xe9, al
    0xeb, 0xfe, // jmp back to itself
];
#[cfg(target_arch = "aarch64")]
const IDLE: &[u32] = &[
    0xd2a1_2001, // mov x1, UART
    0x5280_0a43, // mov w3, 'R'
    0xb900_0023, // str w3, [x1]
    0x1400_0000, // b back to itself
];
#[cfg(target_arch = "riscv64")]
const IDLE: &[u32] = &[
    0x1000_02b7, // lui t0, UART
    0x0520_0313, // li t1, 'R'
    0x0062_8023, // sb t1, (t0)
    0x0000_006f, // j back to itself
];

/// Where flat code goes, and what is told of a button that nobody waits for.
#[cfg(target_arch = "x86_64")]
const BOARD: (u64, &str) = (0x8000, "no Ctrl-Alt-Del");
#[cfg(target_arch = "aarch64")]
const BOARD: (u64, &str) = (0x4020_0000, "no power button");
#[cfg(target_arch = "riscv64")]
const BOARD: (u64, &str) = (0x8020_0000, "this board has no button");

/// Waits until the power button is pressed, and powers off.
#[cfg(target_arch = "aarch64")]
const WAITS: &[u32] = &[
    0xd2a1_2001, // mov x1, UART
    0xd2a1_2062, // mov x2, GPIO
    0x5280_0103, // mov w3, 1 << 3
    0xb904_1043, // str w3, [x2, GPIOIE]
    0x5280_0a43, // mov w3, 'R'
    0xb900_0023, // str w3, [x1]
    0xb940_2043, // ldr w3, [x2, GPIODATA of line 3]
    0x34ff_ffe3, // cbz w3, back to that
    0xd2b0_8000, // mov x0, SYSTEM_OFF
    0xf280_0100,
    0xd400_0002, // hvc
    0x1400_0000, // b back to itself
];

/// A guest whose stdin is a terminal, and what types on that.
struct OnTerminal {
    running: Running,
    keyboard: fs::File,
    _dir: tempfile::TempDir,
}

impl OnTerminal {
    fn start(code: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("code.bin"), code).unwrap();
        let file = dir.path().join("code.toml");
        let at = BOARD.0;
        let text = format!(
            "[kernel]\nmemory = \"16M\"\nkernel_path = \"code.bin\"\nkernel_load_addr = {at:#x}\n\
             entry_point = {at:#x}\n"
        );
        fs::write(&file, text).unwrap();
        let pty = openpty(None, None).unwrap();
        let mut command = axvmm();
        command.args(["run", "--config"]).arg(&file).stdin(pty.slave);
        let on = Self { running: start(&mut command), keyboard: pty.master.into(), _dir: dir };
        on.running.wait_for("R");
        on
    }

    fn type_in(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn bytes(code: &[u32]) -> Vec<u8> {
    code.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[cfg(target_arch = "x86_64")]
fn bytes(code: &[u8]) -> Vec<u8> {
    code.to_vec()
}

#[test]
fn a_button_that_nobody_waits_for_is_told_of() {
    let mut on = OnTerminal::start(&bytes(IDLE));
    on.type_in(&format!("{CTRL_A}d{CTRL_A}x"));
    on.running.finish().assert(130, "R").assert_tells(&[BOARD.1]);
}

#[cfg(target_arch = "aarch64")]
#[test]
fn the_power_button_is_pressed() {
    let mut on = OnTerminal::start(&bytes(WAITS));
    on.type_in(&format!("{CTRL_A}d"));
    on.running.finish().assert(0, "R");
}
