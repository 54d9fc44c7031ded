//! Files in the other languages that guests of AxVisor's are described in.

use super::*;

/// As the devices of 0.8 are told.
const RESOLVED: &str = r#"[base]
id = 1
name = "linux"
guest_type = "passthrough"
cpu_num = 2
phys_cpu_ids = [0, 1]

[kernel]
entry_point = 0x8020_0000
kernel_path = "vmlinuz"
kernel_load_addr = 0x8020_0000
boot_protocol = "direct"
image_location = "fs"
cmdline = "console=ttyS0"
memory_regions = [[0x8000_0000, 0x1000_0000, 0x7, 0]]

[devices]
passthrough = [{ path = "/soc/ethernet@1" }, { path = "/soc/gpu@2" }]
disabled = [{ path = "/soc/wdt" }]

[[devices.virtual]]
id = "disk"
model = "virtio-blk"
backend = "file"
path = "/guest/rootfs.img"
filesystem = "ext4"

[[devices.virtual]]
id = "net"
model = "virtio-net"
guest_mac = [2, 0, 0, 0, 0, 1]

[[devices.virtual]]
id = "to\u001b[2Jhost"
model = "ivc-channel"

[[devices.virtual]]
id = "tty"
model = "serial"

[[devices.virtual]]
model = 5
"#;

#[test]
fn a_file_of_version_0_8_is_told_once_with_all_that_is_to_change() {
    let expected = r#"guest.toml:4:1: this file is of axvmconfig 0.8, whose devices are not told as here: axvmm reads files of 0.1 and 0.2
  4 | guest_type = "passthrough"
    | ^^^^^^^^^^
  line 4: guest_type: leave it out: guests are always virtualized
  line 12: boot_protocol: leave it out: the kernel's format is recognised
  line 18: passthrough: write passthrough_devices = [["/soc/ethernet@1"], ["/soc/gpu@2"]]
  line 19: disabled: write excluded_devices = [["/soc/wdt"]]
  line 22: virtual "disk" ("virtio-blk"): no board has virtio devices yet: leave it out, and give the guest an initrd
  line 29: virtual "net" ("virtio-net"): no board has virtio devices yet: leave it out, and give the guest an initrd
  line 34: virtual "to\u{1b}[2Jhost" ("ivc-channel"): write a row of emu_devices, [name, base_gpa, length, irq_id, 0x0a, []], with addresses and an interrupt of your choice
  line 38: virtual "tty" ("serial"): leave it out: every board has a serial port
  line 42: virtual "" (""): leave it out: no board has such a device"#;
    assert_eq!(problem(RESOLVED), expected);
}

#[test]
fn a_file_of_version_0_5_is_told_once_with_all_that_is_to_change() {
    let text = r#"[base]
id = 1
name = "uefi"
vm_type = 1
cpu_num = 1
[kernel]
entry_point = 0xffff_fff0
image_location = "fs"
kernel_path = "vmlinuz"
kernel_load_addr = 0x20_0000
enable_bios = true
boot_protocol = "uefi"
uefi_firmware_path = "/guest/OVMF_CODE.fd"
bios_load_addr = 0xffc0_0000
memory_regions = [[0, 0x100_0000, 0x7, 0]]
[devices]
interrupt_mode = "passthrough"
address_space_policy = "virtualized"
emu_devices = [["x86-com1", 0x3f8, 0x8, 0x0, 0x2, []], ["x86-ioapic", 0xfec0_0000, 0x1000, 0, 0x23, []]]
passthrough_devices = []
passthrough_ports = [[0x6000, 0x80]]
"#;
    let shown = problem(text);
    assert!(shown.starts_with("guest.toml:11:1: this file is of axvmconfig 0.5"), "{shown}");
    for line in [
        "line 11: enable_bios: name the firmware in bios_path and bios_load_addr instead",
        "line 12: boot_protocol: leave it out, and name a kernel",
        "line 13: uefi_firmware_path: leave it out",
        "line 18: address_space_policy: leave it out",
        "line 21: passthrough_ports: leave it out",
    ] {
        assert!(shown.lines().any(|shown| shown.trim().starts_with(line)), "{line}:\n{shown}");
    }
}

#[test]
fn of_very_many_changes_the_rest_is_counted() {
    let text =
        format!("[kernel]\nkernel_path = \"vmlinuz\"\n{}", "[[devices.virtual]]\n".repeat(20_000));
    let shown = problem(&text);
    assert!(shown.ends_with("and 19960 more") && shown.lines().count() < 50, "{shown}");
}

#[test]
fn what_else_is_wrong_with_such_a_file_is_told_beside() {
    let text = RESOLVED.replace("cpu_num", "cpunum");
    let error = AxVMCrateConfig::from_toml(&text).unwrap_err();
    let lines: Vec<_> = error.problems().iter().map(|problem| problem.line.unwrap()).collect();
    assert_eq!(lines, [4, 5], "{error}");
}

#[test]
fn a_file_without_tables_is_told_where_its_keys_belong() {
    let text = r#"id = 1
name = "guest"
vm_type = 1
cpu_num = 1
phys_cpu_sets = [1]
entry_point = 0x4008_0000
kernel_path = "vmlinuz"
kernel_load_addr = 0x4008_0000
image_location = "fs"
memory_regions = [[0x4000_0000, 0x4000_0000, 0x7, 1]]
emu_devices = []
passthrough_devices = [["intc@8000000", 0x800_0000, 0x800_0000, 0x50_000, 0x1]]
"#;
    let shown = problem(text);
    assert!(shown.starts_with("guest.toml:1:1: this file has no tables"), "{shown}");
    for line in [
        "[base]  id, name, vm_type, cpu_num, phys_cpu_sets",
        "[kernel]  entry_point, kernel_path, kernel_load_addr, image_location, memory_regions",
        "[devices]  emu_devices, passthrough_devices",
    ] {
        assert!(shown.lines().any(|shown| shown.trim() == line), "{line}:\n{shown}");
    }
    // One key at the top is a slip, and so are many beside the tables.
    let one = problem("memory = \"1G\"\n[kernel]\nkernel_path = \"vmlinuz\"\n");
    assert!(one.contains("did you mean \"memory\" in [base]?"), "{one}");
}
