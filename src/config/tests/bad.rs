//! What is refused, where it is shown, and what is said about it.

use super::*;

const KERNEL: &str = "[kernel]\nkernel_path = \"vmlinuz\"\n";

#[test]
fn an_unknown_key_is_shown_with_the_nearest_known_one() {
    let shown = problem("[kernel]\nkernel_path = \"vmlinuz\"\nmemroy = \"512M\" # much\n");
    let expected = "\
guest.toml:3:1: unknown key \"memroy\" in [kernel]
  3 | memroy = \"512M\" # much
    | ^^^^^^
  did you mean \"memory\"?";
    assert_eq!(shown, expected);
}

#[test]
fn all_problems_are_told_at_once_and_in_order() {
    let text =
        "[devices]\nx = 1\n[base]\ncpu_num = 0\nmemroy = 1\n[kernel]\nkernel_path = 3\n[y]\n";
    let error = read(text).unwrap_err();
    let lines: Vec<_> = error.problems().iter().map(|problem| problem.line.unwrap()).collect();
    assert_eq!(lines, [2, 4, 5, 7, 8]);
    assert_eq!(error.to_string().matches("guest.toml:").count(), 5);
}

#[test]
fn of_very_many_problems_the_rest_is_counted() {
    let keys: String = (0..250).map(|n| format!("x{n} = 1\n")).collect();
    let error = read(&keys).unwrap_err();
    assert_eq!(error.problems().len(), 100);
    assert!(error.to_string().ends_with("and 230 more"), "{error}");
}

/// As large as a file may be, and nothing but one kind of trouble, told about each line or element:
/// work that grows with the square of the size would take minutes.
#[test]
fn large_files_full_of_trouble_are_answered() {
    let times = 20_000;
    let files = [
        (0..times).map(|n| format!("a{n} = 1\n")).collect(),
        "a = 1\n".repeat(times),
        "=\n".repeat(times),
        format!("{KERNEL}memory_regions = [{}]", "5,".repeat(times)),
        format!("{KERNEL}memory_regions = [{}]", "[0, 4096],".repeat(times)),
        format!("{KERNEL}[devices]\npassthrough_devices = [{}]", "[\"\"],".repeat(times)),
        format!("{KERNEL}{}x = 5", "\n".repeat(times)),
    ];
    for text in files {
        assert!(!read(&text).unwrap_err().problems().is_empty());
    }
}

/// Each: the lines after the kernel's, where the problem is, and words of what is said.
#[test]
fn values_and_what_they_say_together() {
    let cases: &[(&str, &str, &str)] = &[
        // Syntax.
        ("cmdline = quiet", "3:11", "quoted"),
        ("cmdline = \"a\"\ncmdline = \"b\"", "4:1", "duplicate key \"cmdline\""),
        ("[kernel]", "3:2", "duplicate key \"kernel\""),
        ("[devices", "3:9", "unclosed table"),
        ("\r\r", "3:2", "carriage return"),
        ("entry_point = 0xzz", "3:", "invalid"),
        // Keys in the wrong place, or from elsewhere.
        ("cpu_num = 1", "3:1", "did you mean \"cpu_num\" in [base]?"),
        ("initrd = \"x\"", "3:1", "did you mean \"ramdisk_path\"?"),
        ("boot_protocol = \"direct\"", "3:1", "format is recognised"),
        ("[base]\nguest_type = \"virtualized\"", "4:1", "axvmconfig 0.8"),
        ("[[devices.virtual]]\nid = 1", "3:11", "axvmconfig 0.8"),
        ("[[devices.passthrough]]\npath = \"/x\"", "3:11", "write passthrough_devices = [["),
        ("[Base]", "3:2", "unknown table \"Base\""),
        ("qqqqqqqqq = 1", "3:1", "known here: entry_point, kernel_path"),
        // Kinds and ranges.
        ("cmdline = 1", "3:11", "kernel.cmdline: expected a string, found an integer"),
        ("cmdline = \"a\\u0000\"", "3:11", "NUL"),
        ("entry_point = -1", "3:15", "expected an integer, 0 or more, found -1"),
        ("entry_point = 1e3", "3:15", "found a float"),
        ("entry_point = 0x1_0000_0000_0000_0000", "3:15", "found 18446744073709551616"),
        ("[base]\ncpu_num = 0", "4:11", "from 1 to 512, found 0"),
        ("[base]\ncpu_num = 513", "4:11", "from 1 to 512, found 513"),
        ("[base]\ncpu_num = true", "4:11", "found a boolean"),
        ("[base]\nname = \"\"", "4:8", "at least one character"),
        ("[base]\nname = \"a\\u001b\"", "4:8", "printable"),
        ("[base]\nid = 99999999999999999999999999999999999999999999", "4:6", "beyond all bounds"),
        ("ramdisk_path = \"\"", "3:16", "an empty path"),
        ("ramdisk_path = \"none\"", "3:16", "none: No such file"),
        ("ramdisk_path = \"a\\u001b[2J\"", "3:16", "a\u{fffd}[2J: No such file"),
        ("ramdisk_path = \".\"", "3:16", "is a directory, not a file"),
        ("ramdisk_path = \"/dev/null\"", "3:16", "is a device, not a file"),
        ("image_location = \"net\"", "3:18", "\"fs\" or \"memory\""),
        (
            "image_location = \"fs\"\nramdisk_path = \"/guest/none\"",
            "4:16",
            "name a file of the host",
        ),
        ("unpack = \"gest\"", "3:10", "did you mean \"guest\"?"),
        ("x = \"\"\"", "4:1", "multi-line basic string"),
        ("modules = [\"mod\", \" x\"]", "3:19", "kernel.modules[1]: an empty path"),
        ("modules = [\"none a\"]", "3:12", "kernel.modules[0]: "),
        ("modules = [{ cmdline = \"x\" }]", "3:12", "no path"),
        ("[base]\nphys_cpu_ids = [0, 1]", "4:16", "2 elements, but cpu_num is 1"),
        ("[base]\nphys_cpu_sets = []", "4:17", "0 elements, but cpu_num is 1"),
        ("[base]\nphys_cpu_sets = [0]", "4:18", "no host CPU"),
        ("[base]\ncpu_num = 2\nphys_cpu_ids = [7, 7]", "5:20", "the same id as vCPU 0"),
        // Memory.
        ("memory = 0", "3:10", "no memory at all"),
        ("memory = -4096", "3:10", "not negative"),
        ("memory = \"1000\"", "3:10", "did you mean \"1000M\"?"),
        ("memory = \"512MB\"", "3:10", "\"MB\" is no unit"),
        ("memory = \"100T\"", "3:10", "more than 64T"),
        ("memory = 0xffff_ffff_ffff_f000", "3:10", "more than 64T"),
        ("memory = [1]", "3:10", "found a list"),
        ("memory = \"1G\"\n[base]\nmemory = \"1G\"", "5:10", "both say"),
        ("memory = \"1G\"\nmemory_regions = [[0, 0x1000]]", "4:18", "both say"),
        ("memory_regions = [[0x1000]]", "3:19", "[0]: this row has no size"),
        ("memory_regions = [[0, 0x1000, 7, 0, 5]]", "3:37", "5 elements in a row of at most 4"),
        (
            "memory_regions = [[0, 0x1000, 7, 3]]",
            "3:34",
            "[0].map_type: expected an integer from 0 to 2",
        ),
        ("memory_regions = [[0, 0x1000, 0]]", "3:31", "[0].flags"),
        ("memory_regions = [[0, 0]]", "3:23", "no memory at all"),
        ("memory_regions = [[0x800, 0x1000]]", "3:20", "0x800 is no multiple of 4096"),
        ("memory_regions = [[0xffff_ffff_ffff_f000, 0x1000]]", "3:19", "end above"),
        ("memory_regions = [[0xffff_ffff_ffff_f000, 0x2000]]", "3:19", "end above"),
        (
            "memory_regions = [[0x2000, 0x2000], [0, 0x3000]]",
            "3:37",
            "[1]: 0x0-0x2fff overlaps row [0]",
        ),
        ("memory_regions = [{ gpa = 0, sise = 1 }]", "3:30", "did you mean \"size\"?"),
        // Devices.
        ("[devices]\ninterrupt_mode = \"foo\"", "4:18", "\"no_irq\""),
        ("[devices]\nemu_devices = [[\"a\", 0, 1, 0]]", "4:16", "no emu_type"),
        (
            "[devices]\nemu_devices = [[\"a\", 0, 1, 0, 9, []]]",
            "4:31",
            "no kind of device with the number 0x9",
        ),
        (
            "[devices]\nemu_devices = [[\"a\", 0, 1, 0, 2, [\"x\"]]]",
            "4:35",
            "cfg_list[0]: expected an integer",
        ),
        ("[devices]\nemu_devices = [[\"a\", 0, 1, 0x1_0000_0000, 2]]", "4:28", "irq_id"),
        (
            "[devices]\nemu_devices = [[\"a\", 0, 9, 0, 2], [\"b\", 8, 1, 0, 2]]",
            "4:35",
            "the window of \"a\"",
        ),
        (
            "[devices]\nemu_devices = [[\"a\", 0, 1, 5, 2], [\"b\", 8, 1, 5, 2]]",
            "4:35",
            "interrupt 5",
        ),
        (
            "[devices]\nemu_devices = [[\"a\", 0xffff_ffff_ffff_ffff, 2, 5, 2]]",
            "4:16",
            "above 2^64",
        ),
        ("[devices]\nemu_devices = 1", "4:15", "a list of these: a row [name, base_gpa"),
        ("[devices]\npassthrough_devices = [[]]", "4:24", "no name"),
        (
            "[devices]\npassthrough_devices = [[\"uart\"]]",
            "4:24",
            "\"uart\" has no length, and is no",
        ),
        (
            "[devices]\npassthrough_devices = [[\"/\"], [\"uart\", 0x1000, 0x1000, 0, 5]]",
            "4:31",
            "passthrough_devices[1]: \"uart\" has no length",
        ),
        ("[devices]\npassthrough_devices = [[\"a\", 0, 0, \"1\"]]", "4:36", "[0].length: expected"),
        ("[devices]\npassthrough_devices = [[\"a\", -1, 0, 1]]", "4:30", "[0].base_gpa: expected"),
        (
            "[devices]\npassthrough_devices = [[\"a\", 0, 0, 1, 0x1_0000_0000]]",
            "4:39",
            "[0].irq_id: expected",
        ),
        (
            "[devices]\npassthrough_devices = [[\"a\", 0xffff_ffff_ffff_ffff, 0, 2]]",
            "4:24",
            "0x2 bytes at 0xffffffffffffffff end above 2^64",
        ),
        (
            "[devices]\npassthrough_devices = [[\"a\", 0, 0, 1, 0, 7]]",
            "4:42",
            "6 elements in a row",
        ),
        ("[devices]\npassthrough_devices = [{ nme = \"a\" }]", "4:26", "did you mean \"name\"?"),
        ("[devices]\npassthrough_devices = [\"/\"]", "4:24", "a row [name, base_gpa"),
        ("[devices]\npassthrough_addresses = [[0x1000]]", "4:26", "no length"),
        ("[devices]\npassthrough_addresses = [[0x1000, 0]]", "4:26", "the length is 0"),
        (
            "[devices]\npassthrough_addresses = [[2, 0xffff_ffff_ffff_ffff]]",
            "4:26",
            "end above 2^64",
        ),
        (
            "[devices]\nexcluded_devices = [[3]]",
            "4:22",
            "excluded_devices[0][0]: expected a string",
        ),
        ("[devices]\nexcluded_devices = [\"/x\"]", "4:21", "expected a list"),
        ("[devices]\ndebug_exit = 0xfffd", "4:14", "from 0 to 65532"),
        ("[devices]\ndebug_exit = [0xf4, 0xf6]", "4:21", "ports 0xf6-0xf9 overlap 0xf4-0xf7"),
        ("[devices]\ndebug_exit = \"0xf4\"", "4:14", "found a string"),
        ("[devices]\nhypercalls = 1", "4:14", "expected true or false"),
        (
            "[devices]\nhypercalls = false\nemu_devices = [[\"channel\", 0, 0, 0, 0x0a]]",
            "4:14",
            "channels need hypercalls",
        ),
        ("[[devices]]", "3:1", "devices: expected a table, found a list"),
    ];
    let mut wrong = Vec::new();
    for (lines, place, words) in cases {
        let shown = problem(&format!("{KERNEL}{lines}\n"));
        if !shown.starts_with(&format!("guest.toml:{place}")) || !shown.contains(words) {
            wrong.push(format!("expected {place} and {words:?} in:\n{shown}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn a_file_without_a_kernel_is_told_what_to_write() {
    for text in ["", "# nothing\n", "[base]\n", "[kernel]\ncmdline = \"\"\n", "kernel = {}"] {
        let shown = problem(text);
        assert!(shown.starts_with("guest.toml: names no kernel"), "{shown}");
        assert!(shown.contains("kernel_path = "), "{shown}");
    }
}

#[test]
fn nesting_ends_somewhere() {
    for text in ["[".repeat(100_000), "a.".repeat(100_000) + "b = 1", "a={a=".repeat(50_000)] {
        assert!(read(&format!("x = {text}")).is_err());
        assert!(read(&text).is_err());
    }
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let dir = files();
    let pipe = dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
    let large = dir.path().join("large.toml");
    fs::File::create(&large).unwrap().set_len(100 << 30).unwrap();
    let binary = dir.path().join("binary.toml");
    fs::write(&binary, b"[base]\nname = \"\xff\"\n").unwrap();
    let cases = [
        (dir.path().join("none.toml"), "none.toml: cannot read this file: No such file", "init"),
        (dir.path().to_owned(), ": is a directory, not a file", "guest.toml"),
        (pipe, "pipe: is a pipe, not a file", "guest.toml"),
        ("/dev/zero".into(), "/dev/zero: is a device, not a file", "guest.toml"),
        (large, "large.toml: is larger than 1 MiB", "image"),
        (binary, "binary.toml:2:9: this byte is not valid UTF-8", "UTF-8"),
    ];
    for (path, words, help) in cases {
        let error = load(&path, &[]).unwrap_err();
        assert_eq!(error.problems().len(), 1);
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.problems()[0].help.as_ref().unwrap().contains(help), "{error}");
    }
}
