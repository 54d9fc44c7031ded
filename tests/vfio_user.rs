//! Devices that are another process, in Python, on machines with no guest (`axvmm qtest`): no KVM is
//! needed.

mod common;

use std::{
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use common::{Running, axvmm, root, run, start, wait_until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

/// A device that does what a test wants of it.
const DEVICE: &str = r#"
import os
import time

from vfio_user_device import Device, Register, main


class Adder(Device):
    ID = Register(0x00, reset=0x61646472, read_only=True)
    SUM = Register(0x04)
    ADDRESS = Register(0x08, size=8)
    PID = Register(0x10, read_only=True)
    WAIT = Register(0x14)

    def read_PID(self):
        return os.getpid()

    def write_SUM(self, value):
        self.SUM += value
        if self.ADDRESS:
            old = int.from_bytes(self.dma.read(self.ADDRESS, 4), "little")
            self.dma.write(self.ADDRESS, (old + self.SUM).to_bytes(4, "little"))
        self.irq.trigger()

    def write_WAIT(self, value):
        time.sleep(value)


if __name__ == "__main__":
    main(Adder)
"#;

const FIXED: &str = "addr = 0xd0000000\nirq = 20\n";

/// A machine with such a device, and a client that asks it.
struct Machine {
    dir: TempDir,
    running: Running,
    asked: AtomicUsize,
}

/// Has programs find the package where it is.
fn with_package(command: &mut Command) -> &mut Command {
    command.env("PYTHONPATH", root().join("resources/python")).env("PYTHONDONTWRITEBYTECODE", "1")
}

fn config(keys: &str) -> String {
    let row = "[[devices.vfio_user]]\nname = \"adder\"\ncommand = [\"python3\", \"adder.py\"]\n";
    format!("[kernel]\nkernel_path = \"adder.py\"\n{row}{keys}")
}

fn qtest(dir: &Path) -> Command {
    let mut command = axvmm();
    with_package(&mut command);
    command.args(["qtest", "-m", "16M", "--arch", "x86_64", "--config"]);
    command.arg(dir.join("guest.toml")).env("RUST_LOG", "info").stdin(Stdio::piped());
    command
}

impl Machine {
    fn new(keys: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("adder.py"), DEVICE).unwrap();
        fs::write(dir.path().join("guest.toml"), config(keys)).unwrap();
        let running = start(&mut qtest(dir.path()));
        Self { dir, running, asked: AtomicUsize::new(0) }
    }

    /// What is answered to a command, interrupts left out.
    #[track_caller]
    fn ask(&mut self, command: &str) -> u64 {
        let before = self.asked.fetch_add(1, Ordering::Relaxed);
        self.running.type_in(&format!("{command}\n"));
        let answers = |printed: &str| -> Vec<String> {
            let whole = printed.rsplit_once('\n').map_or("", |(whole, _)| whole);
            whole.lines().filter(|line| !line.starts_with("IRQ")).map(str::to_owned).collect()
        };
        let answer = std::cell::Cell::new(0);
        self.running.wait_until(command, |printed| {
            let Some(line) = answers(printed).into_iter().nth(before) else { return false };
            assert!(line.starts_with("OK"), "{command}: {line}");
            let number = line.strip_prefix("OK 0x").unwrap_or("0");
            answer.set(u64::from_str_radix(number, 16).unwrap());
            true
        });
        answer.get()
    }

    #[track_caller]
    fn read(&mut self, offset: u64) -> u64 {
        self.ask(&format!("readl {:#x}", 0xd000_0000 + offset))
    }

    fn write(&mut self, offset: u64, value: u64) {
        self.ask(&format!("writel {:#x} {value:#x}", 0xd000_0000 + offset));
    }

    /// Waits until the device has this identity (again).
    #[track_caller]
    fn wait_for_id(&mut self, id: u64) {
        for _ in 0..600 {
            if self.read(0) == id {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("{id:#x} does not come");
    }

    fn has_printed(&self, wanted: &str) -> bool {
        let has = std::cell::Cell::new(false);
        self.running.wait_until("anything", |printed| {
            has.set(printed.contains(wanted));
            true
        });
        has.get()
    }

    fn edit(&self, from: &str, to: &str) {
        assert!(DEVICE.contains(from));
        fs::write(self.dir.path().join("adder.py"), DEVICE.replace(from, to)).unwrap();
    }

    fn end(self) -> common::Finished {
        let Self { dir: _dir, running, .. } = self;
        running.finish()
    }
}

const ID: u64 = 0x6164_6472;

/// Whether a process is there, and is none that only waits to be waited for.
fn is_there(pid: u64) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[test]
fn registers_memory_and_interrupts_are_the_process() {
    let mut machine = Machine::new(FIXED);
    machine.ask("irq_intercept_in ioapic");
    assert_eq!(machine.read(0), ID);
    machine.write(4, 5);
    machine.write(4, 6);
    assert_eq!(machine.read(4), 11);
    machine.ask("writel 0x1000 0x100");
    machine.ask("writeq 0xd0000008 0x1000");
    machine.write(4, 1);
    assert_eq!(machine.ask("readl 0x1000"), 0x10c);
    // Interrupts are shown with the answer to the next command.
    while !machine.has_printed("IRQ raise 20\nIRQ lower 20\n") {
        machine.read(0);
    }
    // A register that there is not, and one that there is with another width.
    assert_eq!(machine.read(0x40), 0xffff_ffff);
    assert_eq!(machine.ask("readw 0xd0000000"), 0xffff);
    let ended = machine.end();
    ended.assert(0, "IRQ raise 20\nIRQ lower 20\n");
    ended.assert_tells(&["adder refuses a 32-bit access"]);
}

#[test]
fn a_process_that_is_killed_is_started_again() {
    let mut machine = Machine::new(FIXED);
    let pid = machine.read(0x10);
    machine.write(4, 5);
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
    machine.wait_for_id(ID);
    assert_eq!(machine.read(4), 0, "the device is as after a reset");
    assert_ne!(machine.read(0x10), pid);
    // Its memory and interrupts are there again too.
    machine.ask("irq_intercept_in ioapic");
    machine.ask("writeq 0xd0000008 0x2000");
    machine.write(4, 3);
    assert_eq!(machine.ask("readl 0x2000"), 3);
    machine.running.wait_until_told("adder: its server is there again");
    let ended = machine.end();
    let told =
        "adder: its server has ended; it is started again, and the device is as after a reset";
    ended.assert(0, "").assert_tells(&[told]);
    assert_eq!(ended.stderr.matches("its server has ended").count(), 1, "{ended:#?}");
}

#[test]
fn a_program_that_is_edited_is_started_again() {
    let mut machine = Machine::new(FIXED);
    assert_eq!(machine.read(0), ID);
    machine.edit("0x61646472", "0x6e657721");
    machine.wait_for_id(0x6e65_7721);
    // What does not run is tried a few times, told, and mended by the next edit.
    machine.edit("import time", "import nothing_like_that");
    machine
        .running
        .wait_until_told("adder: its server has ended before it listened, with status 1");
    assert_eq!(machine.read(0), 0xffff_ffff);
    machine.edit("0x61646472", "0x6e657722");
    machine.wait_for_id(0x6e65_7722);
    let ended = machine.end();
    ended.assert(0, "").assert_tells(&["adder: its server has been edited"]);
    assert!(ended.stderr.matches("before it listened").count() < 3, "{ended:#?}");
}

#[test]
fn a_program_that_ends_at_once_is_not_started_in_a_spin() {
    let mut machine = Machine::new(FIXED);
    assert_eq!(machine.read(0), ID);
    let log = machine.dir.path().join("starts");
    let count = || fs::read_to_string(&log).unwrap_or_default().len();
    let ends = format!("open({log:?}, 'a').write('x')\nraise SystemExit(3)\nimport time");
    machine.edit("import time", &ends);
    wait_until("starts", || count() >= 4);
    let since = std::time::Instant::now();
    std::thread::sleep(std::time::Duration::from_secs(2));
    let most = 4 + since.elapsed().as_millis() as usize / 400;
    assert!(count() <= most, "{} starts", count());
    machine.end().assert(0, "");
}

#[test]
fn a_process_that_hangs_holds_nobody_for_long() {
    let mut machine = Machine::new(FIXED);
    let pid = machine.read(0x10);
    let since = std::time::Instant::now();
    machine.write(0x14, 1000);
    assert!(since.elapsed().as_secs() < 30);
    machine.wait_for_id(ID);
    assert!(!is_there(pid), "it is ended");
    // Nor does one that hangs hold the end.
    machine.running.type_in("writel 0xd0000014 1000\n");
    let ended = machine.end();
    ended.assert(0, "").assert_tells(&["its server does not answer within 3s (RegionWrite)"]);
}

#[test]
fn processes_end_with_their_machine_however_it_ends() {
    let mut machine = Machine::new(FIXED);
    let pid = machine.read(0x10);
    assert!(is_there(pid));
    machine.end().assert(0, "");
    assert!(!is_there(pid));
    let mut machine = Machine::new(FIXED);
    let pid = machine.read(0x10);
    machine.running.signal(Signal::SIGKILL);
    wait_until("its end", || !is_there(pid));
}

#[test]
fn a_reset_of_the_machine_is_one_of_the_device() {
    let mut machine = Machine::new(FIXED);
    let pid = machine.read(0x10);
    machine.write(4, 5);
    machine.ask("reset");
    assert_eq!((machine.read(4), machine.read(0x10)), (0, pid));
    machine.ask("writeq 0xd0000008 0x2000");
    machine.write(4, 3);
    assert_eq!(machine.ask("readl 0x2000"), 3);
    machine.end().assert(0, "");
}

#[test]
fn a_device_without_an_address_is_on_pci() {
    const CONFIG: u64 = 0xe000_8000;
    let mut machine = Machine::new("");
    let mut ask = |command: String| machine.ask(&command);
    assert_eq!(ask(format!("readl {CONFIG:#x}")), 0x0001_1234);
    let bar = ask(format!("readl {:#x}", CONFIG + 0x10));
    assert_ne!(bar, 0);
    assert_eq!(ask(format!("readl {bar:#x}")), 0xffff_ffff, "it does not answer yet");
    ask(format!("writew {:#x} 6", CONFIG + 4));
    assert_eq!(ask(format!("readl {bar:#x}")), ID);
    ask(format!("writel {:#x} 7", bar + 4));
    ask(format!("writeq {:#x} 0x3000", bar + 8));
    ask(format!("writel {:#x} 1", bar + 4));
    assert_eq!(ask("readl 0x3000".to_owned()), 8);
    // It goes where the guest puts it.
    ask(format!("writel {:#x} {:#x}", CONFIG + 0x10, bar + 0x10_0000));
    assert_eq!(ask(format!("readl {:#x}", bar + 0x10_0000)), ID);
    assert_eq!(ask(format!("readl {bar:#x}")), 0xffff_ffff);
    // MSI-X: enabled, in BAR 1, whose table is the VMM's.
    assert_eq!(ask(format!("readl {:#x}", CONFIG + 0x40)), 0x11);
    let table = ask(format!("readl {:#x}", CONFIG + 0x14));
    ask(format!("writel {table:#x} 0xfee00000"));
    assert_eq!(ask(format!("readl {table:#x}")), 0xfee0_0000);
    // It is the same after its server has ended.
    let pid = ask(format!("readl {:#x}", bar + 0x10_0010));
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
    let mut is_back = || ask(format!("readl {:#x}", bar + 0x10_0000)) == ID;
    while !is_back() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    machine.end().assert(0, "");
}

#[test]
fn what_cannot_be_a_device_is_told() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("adder.py"), DEVICE).unwrap();
    let tells = |row: &str, told: &[&str]| {
        let text = format!("[kernel]\nkernel_path = \"adder.py\"\n[[devices.vfio_user]]\n{row}");
        fs::write(dir.path().join("guest.toml"), text).unwrap();
        run(qtest(dir.path()).stdin(Stdio::null())).assert(35, "").assert_tells(told);
    };
    let at = "guest.toml:3:";
    tells("command = [\"/nonexistent/x\"]", &[at, "cannot be started: /nonexistent/x"]);
    tells("command = [\"false\"]", &[at, "has ended before it listened, with status 1"]);
    tells("socket = \"nobody\"", &[at, "cannot be connected to: ENOENT"]);
    fs::write(
        dir.path().join("adder.py"),
        DEVICE.replace("    ID =", "    size = 0x2000\n    ID ="),
    )
    .unwrap();
    tells("command = [\"python3\", \"adder.py\"]\naddr = 0xd0000000", &[at, "write size = 0x2000"]);
}

/// A server by itself.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The device, served by itself at a socket in `dir`.
fn serve(dir: &Path) -> (Served, PathBuf) {
    let (file, path) = (dir.join("adder.py"), dir.join("s"));
    fs::write(&file, DEVICE).unwrap();
    let mut command = Command::new("python3");
    with_package(command.arg(&file).arg("--socket").arg(&path));
    let served = Served(command.spawn().unwrap());
    wait_until("the socket", || UnixStream::connect(&path).is_ok());
    (served, path)
}

/// The Python package, by a client that others have written: the crate `vfio_user`'s.
#[test]
fn the_package_speaks_with_another_client() {
    use std::os::fd::AsRawFd;
    let dir = tempfile::tempdir().unwrap();
    let (_served, path) = serve(dir.path());
    let mut client = vfio_user::Client::new(&path).unwrap();
    assert_eq!(client.region(0).unwrap().size, 4096);
    assert_eq!(client.region(7).unwrap().size, 256);
    let mut word = [0; 4];
    client.region_read(7, 0, &mut word).unwrap();
    assert_eq!(word, [0x34, 0x12, 1, 0]);
    client.region_read(0, 0, &mut word).unwrap();
    assert_eq!(u32::from_le_bytes(word), ID as u32);
    let memory = tempfile::tempfile().unwrap();
    memory.set_len(0x4000).unwrap();
    client.dma_map(0x1000, 0x10_0000, 0x2000, memory.as_raw_fd()).unwrap();
    let irq = client.get_irq_info(2).unwrap();
    assert_eq!(irq.count, 1);
    let signal = vmm_sys_util::eventfd::EventFd::new(0).unwrap();
    client.set_irqs(2, 1 << 2 | 1 << 5, 0, 1, &[signal.as_raw_fd()]).unwrap();
    client.region_write(0, 8, &0x10_0010_u64.to_le_bytes()).unwrap();
    client.region_write(0, 4, &9_u32.to_le_bytes()).unwrap();
    assert_eq!(signal.read().unwrap(), 1);
    let mut bytes = [0; 4];
    std::os::unix::fs::FileExt::read_exact_at(&memory, &mut bytes, 0x1010).unwrap();
    assert_eq!(bytes, [9, 0, 0, 0]);
    client.dma_unmap(0x10_0000, 0x2000).unwrap();
    client.reset().unwrap();
    client.region_read(0, 4, &mut word).unwrap();
    assert_eq!(word, [0; 4]);
    client.shutdown().unwrap();
    // It is there for the next client too.
    drop(client);
    let mut client = vfio_user::Client::new(&path).unwrap();
    client.region_read(0, 0, &mut word).unwrap();
    assert_eq!(u32::from_le_bytes(word), ID as u32);
}

/// What it says that it can is what clients take: QEMU's (11.1) ends at more than 16 files a message.
#[test]
fn the_package_asks_for_no_more_than_clients_give() {
    use std::io::{Read, Write};
    let dir = tempfile::tempdir().unwrap();
    let (_served, path) = serve(dir.path());
    let mut client = UnixStream::connect(&path).unwrap();
    // Message 7, VERSION, 16 + 4 bytes, a command, no error; version 0.1.
    client.write_all(&[7, 0, 1, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]).unwrap();
    let mut head = [0; 16];
    client.read_exact(&mut head).unwrap();
    let mut body = vec![0; u32::from_le_bytes(head[4..8].try_into().unwrap()) as usize - 16];
    client.read_exact(&mut body).unwrap();
    let text: serde_json::Value = serde_json::from_slice(&body[4..body.len() - 1]).unwrap();
    let files = text["capabilities"]["max_msg_fds"].as_u64().unwrap();
    assert!((1..=16).contains(&files), "{text}");
}

const GUIDE: &str = include_str!("../resources/guide/devices-in-python.md");

/// What the guide has between fences of a language.
fn fenced(language: &str) -> String {
    let fence = format!("```{language}");
    let lines = GUIDE.lines().skip_while(|line| **line != *fence).skip(1);
    lines.take_while(|line| *line != "```").map(|line| line.to_owned() + "\n").collect()
}

#[test]
fn the_guides_device_in_python_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::os::unix::fs::symlink(common::guest("hello").canonicalize().unwrap(), at("vmlinuz"))
        .unwrap();
    fs::write(at("initrd"), "an initrd").unwrap();
    fs::write(at("adder.py"), fenced("python")).unwrap();
    fs::write(at("guest.toml"), fenced("toml")).unwrap();
    let export = GUIDE.lines().find_map(|line| line.strip_prefix("    export ")).unwrap();
    let (name, value) = export.split_once('=').unwrap();
    let value = value.replace("$PWD", root().to_str().unwrap());
    let commands: Vec<Vec<&str>> = GUIDE
        .lines()
        .filter_map(|line| line.strip_prefix("    axvmm "))
        .map(|line| line.split(' ').collect())
        .collect();
    let [check, qtest] = commands.as_slice() else { panic!("{commands:?}") };
    let in_dir = |arguments: &[&str]| {
        let mut command = axvmm();
        command.args(arguments).current_dir(&dir).env(name, &value);
        command.env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::piped());
        command
    };
    let shown = run(&mut in_dir(check));
    shown.assert(0, "adder: another process, example,adder, interrupt 20");
    let answers: Vec<(&str, &str)> = GUIDE
        .lines()
        .filter(|line| line.contains("# OK"))
        .map(|line| line.trim().split_once('#').unwrap())
        .collect();
    let (edited, before) = answers.split_last().unwrap();
    assert_eq!(before.len(), 5);
    let mut running = start(&mut in_dir(qtest));
    let lines = |times: usize| -> String {
        before.iter().take(times).map(|(_, answer)| format!("{}\n", answer.trim())).collect()
    };
    for (nth, (command, _)) in before.iter().enumerate() {
        running.type_in(&format!("{}\n", command.trim()));
        running.wait_for(&lines(nth + 1));
    }
    let number = edited.1.trim().strip_prefix("OK 0x00000000").unwrap();
    fs::write(at("adder.py"), fenced("python").replace("61646472", number)).unwrap();
    running.wait_until_told("adder: its server has been edited");
    let is_new = std::cell::Cell::new(false);
    while !is_new.get() {
        running.type_in(&format!("{}\n", edited.0.trim()));
        running.wait_until("anything", |printed| {
            is_new.set(printed.contains(edited.1.trim()));
            true
        });
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    running.finish().assert(0, "");
}
