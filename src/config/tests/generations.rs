//! Files in the other languages that guests of AxVisor's are described in.

use super::*;

/// As the devices of 0.8 are told.
const RESOLVED: &str = include_str!("../../../tests/axvisor/resolved-0.8.toml");

#[test]
fn a_file_of_version_0_8_is_told_once_with_all_that_is_to_change() {
    let expected = [
        "guest.toml:4:1: this file is of axvmconfig 0.8, whose devices are not told as here: \
             axvmm reads files of 0.1 and 0.2",
        "  4 | guest_type = \"passthrough\"",
        "    | ^^^^^^^^^^",
        "  line 4: guest_type: leave it out: guests are always virtualized",
        "  line 12: boot_protocol: leave it out: the kernel's format is recognised",
        "  line 18: passthrough: write passthrough_devices = [[\"/soc/ethernet@1\"], \
             [\"/soc/gpu@2\"]]",
        "  line 19: disabled: write excluded_devices = [[\"/soc/wdt\"]]",
        "  line 22: virtual \"disk\" (\"virtio-blk\"): write a table [[devices.virtio]] with \
             kind = \"block\" and a path",
        "  line 29: virtual \"net\" (\"virtio-net\"): write a table [[devices.virtio]] with \
             kind = \"net\"",
        "  line 34: virtual \"to\\u{1b}[2Jhost\" (\"ivc-channel\"): write a row of emu_devices, \
             [name, base_gpa, length, irq_id, 0x0a, []], with addresses and an interrupt of your choice",
        "  line 38: virtual \"tty\" (\"serial\"): leave it out: every board has a serial port",
        "  line 42: virtual \"\" (\"\"): leave it out: no board has such a device",
    ];
    assert_eq!(problem(RESOLVED).lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_file_of_version_0_5_is_told_once_with_all_that_is_to_change() {
    let text = include_str!("../../../tests/axvisor/extended-0.5.toml");
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
    let text = include_str!("../../../tests/axvisor/flat.toml");
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
