//! `axvmm qtest`: machines with no guest, driven by the commands of QEMU's qtest. No KVM is needed.

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixListener,
    process::{Command, Stdio},
};

use common::{Finished, axvmm, run, start};

/// A machine with 16 MiB.
fn qtest(arch: &str) -> Command {
    let mut command = axvmm();
    command.args(["qtest", "-m", "16M", "--arch", arch]).stdin(Stdio::piped());
    command
}

/// What a machine of `arch` has answered to these lines.
fn session(arch: &str, lines: &str) -> Finished {
    let mut running = start(&mut qtest(arch));
    running.type_in(lines);
    running.finish()
}

/// Commands, and behind each what QEMU 10.0 answers them (`qemu-system-x86_64 -machine q35 -accel tcg
/// -S -qtest stdio -nodefaults -serial null`).
const AS_QEMU: &str = "\
> endianness
OK little
> irq_intercept_in ioapic
OK
> inb 0x3fd
OK 0x0060
> outb 0x3fc 0x0b
OK
> outb 0x3f9 0x02
IRQ raise 4
OK
> outb 0x3f9 0
IRQ lower 4
OK
> outb 0x3ff 0x5a
OK
> inb 0x3ff
OK 0x005a
> inw 0x3fd
OK 0xb060
> writeq 0x10000 0x1122334455667788
OK
> readl 0x10000
OK 0x0000000055667788
> readb 0x10007
OK 0x0000000000000011
> write 0x10010 4 0xdeadbe
OK
> read 0x10010 4
OK 0xdeadbe00
> b64read 0x10010 4
OK 3q2+AA==
> memset 0x10020 3 0xa5
OK
> read 0x1001f 5
OK 0x00a5a5a500
> b64write 0x10030 3 QUJD
OK
> read 0x10030 3
OK 0x414243
> outb 0x70 0x0a
OK
> inb 0x71
OK 0x0026
> outb 0x70 0x40
OK
> outb 0x71 0x77
OK
> inb 0x71
OK 0x0077
> foo
FAIL Unknown command 'foo'
";

#[test]
fn it_answers_as_qemu_does() {
    let commands: String = AS_QEMU
        .lines()
        .filter_map(|line| line.strip_prefix("> "))
        .map(|it| it.to_owned() + "\n")
        .collect();
    let answers: String = AS_QEMU
        .lines()
        .filter(|line| !line.starts_with('>'))
        .map(|it| it.to_owned() + "\n")
        .collect();
    let ended = session("x86_64", &commands);
    ended.assert(0, "").assert_tells(&[]);
    assert_eq!(ended.stdout, answers);
}

#[test]
fn time_passes_as_it_is_told_and_alarms_come_in_it() {
    // A PL031: an alarm in 2 seconds, which is masked until IMSC is written.
    let seconds =
        |answer: &str| u64::from_str_radix(answer.trim_start_matches("OK 0x"), 16).unwrap();
    let now = seconds(session("aarch64", "readl 0x9010000\n").stdout.trim_end());
    let alarm = now + 100;
    let lines = format!(
        "irq_intercept_in gic\nwritel 0x9010004 {alarm}\nwritel 0x9010010 1\nclock_step 1000000000\n\
         clock_step\nreadl 0x9010000\nwritel 0x901001c 1\nclock_set 1\n"
    );
    let ended = session("aarch64", &lines);
    let answers: Vec<_> = ended.assert(0, "").stdout.lines().collect();
    assert_eq!(answers[..4], ["OK", "OK", "OK", "OK 1000000000"], "{ended:#?}");
    assert_eq!(answers[4], "IRQ raise 34", "{ended:#?}");
    assert_eq!(seconds(answers[6]), alarm, "{ended:#?}");
    assert_eq!(answers[7..9], ["IRQ lower 34", "OK"], "{ended:#?}");
    assert_eq!(answers[5], answers[9], "time does not go back: {ended:#?}");

    // Goldfish's clock counts nanoseconds; the alarm is armed by its low half.
    let lines = "irq_intercept_in plic\nreadl 0x101000\nwritel 0x10100c 0x7fffffff\nwritel 0x101010 1\n\
        writel 0x101008 0\nreadl 0x101018\nclock_step\nreadl 0x101018\n";
    let ended = session("riscv64", lines);
    let answers: Vec<_> = ended.assert(0, "").stdout.lines().collect();
    assert_eq!(answers[5], "OK 0x0000000000000001", "{ended:#?}");
    assert_eq!((answers[6], answers[8]), ("IRQ raise 11", "OK 0x0000000000000000"), "{ended:#?}");
}

#[test]
fn what_only_one_machine_can_have_is_there_again_after_a_reset() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk.raw");
    fs::write(&disk, [0; 4096]).unwrap();
    let row = format!("devices.virtio+={{kind = \"block\", path = {disk:?}}}");
    let mut running = start(qtest("x86_64").args(["--set", &row]));
    running.type_in("reset\nreset\nwritel 0x10000 1\n");
    running.wait_for("OK\nOK\nOK\n");
    fs::remove_file(&disk).unwrap();
    running.type_in("reset\nreadl 0x10000\n");
    let ended = running.finish();
    ended.assert(35, "").assert_tells(&["the machine cannot be reset: ", "disk.raw"]);
    assert_eq!(ended.stdout, "OK\nOK\nOK\n");
}

#[test]
fn what_a_guest_would_end_by_ends_it_and_a_reset_begins_anew() {
    let ended = session(
        "x86_64",
        "writel 0x10000 1\nreset\nreadl 0x10000\nwritel 0x10000 1\noutb 0xcf9 6\nreadl 0x10000\noutb 0xf4 21\nendianness\n",
    );
    ended.assert(43, "");
    assert_eq!(ended.stdout, "OK\nOK\nOK 0x0000000000000000\nOK\nOK\nOK 0x0000000000000000\nOK\n");
    session("riscv64", "writel 0x100000 0x5555\n").assert(0, "OK\n");
}

#[test]
fn what_is_wrong_is_an_answer() {
    let wrong = [
        "outb",
        "outb 1",
        "outb 0x10000 1",
        "outb 1 x",
        "inq 1",
        "inb -1",
        "readl",
        "readx 0",
        "read 0",
        "read 0 0xffffffffffffffff",
        "write 0 1 ab",
        "b64write 0 1 !",
        "memset 0 99999999999 1",
        "irq_intercept_in",
        "set_irq_in ioapic x y z",
        "clock_step x",
        "clock_set 0x",
        "clock_set 09",
        "rtas",
        "\u{1f600}",
        "module_load a b",
    ];
    let ended = session("x86_64", &(wrong.join("\n") + "\n\n\nread 0xfffffffffffffff0 32\n"));
    let answers: Vec<_> = ended.assert(0, "").stdout.lines().collect();
    assert_eq!(answers.len(), wrong.len() + 1, "{ended:#?}");
    for (line, answer) in wrong.iter().zip(&answers) {
        assert!(answer.starts_with("FAIL "), "{line}: {answer}");
    }
}

#[test]
fn a_client_may_have_a_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qtest");
    let listener = UnixListener::bind(&path).unwrap();
    let running = start(qtest("x86_64").arg("--connect").arg(&path));
    let (mut client, _) = listener.accept().unwrap();
    let mut answers = BufReader::new(client.try_clone().unwrap());
    let mut ask = |line: &str| {
        writeln!(client, "{line}").unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        answer
    };
    assert_eq!(ask("inb 0x3fd"), "OK 0x0060\n");
    // What is printed goes to stdout.
    assert_eq!(ask("outb 0x3f8 0x41"), "OK\n");
    drop((client, answers));
    running.finish().assert(0, "A");
    let nobody = dir.path().join("nobody");
    run(qtest("x86_64").arg("--connect").arg(&nobody)).assert(35, "").assert_tells(&["nobody: "]);
}
