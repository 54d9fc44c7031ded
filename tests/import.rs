//! Guests of other VMMs: Firecracker's configuration file run as it is and made into a `guest.toml`,
//! and QEMU's command lines likewise. Tiny guests on this machine's KVM.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use common::{Finished, WORDS, axvmm, guest, run};

/// Firecracker's command line for tools that start it.
const FIRECRACKER: &str = include_str!("../resources/firecracker");

/// The guest that ends as the words on its command line say, wherever axvmm is run.
fn kernel() -> PathBuf {
    guest("stop").canonicalize().unwrap()
}

/// A directory with a file for each disk.
fn scratch() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for disk in ["root.ext4", "data.img", "old.qcow2"] {
        fs::write(dir.path().join(disk), vec![0; 1 << 20]).unwrap();
    }
    dir
}

fn axvmm_in(dir: &Path, args: &[&str]) -> Finished {
    run(axvmm().args(args).current_dir(dir))
}

/// Writes a file of Firecracker's, and gives its name.
fn vm_json(dir: &Path, config: &Value) -> &'static str {
    fs::write(dir.join("vm.json"), serde_json::to_string_pretty(config).unwrap()).unwrap();
    "vm.json"
}

/// A guest that does what the words on its command line say.
fn stops(words: &str) -> Value {
    json!({
        "boot-source": { "kernel_image_path": kernel(), "boot_args": words },
        "drives": [],
        "machine-config": { "vcpu_count": 1, "mem_size_mib": 64 },
    })
}

/// One with all that can be taken over, but for a network, for which the host would have to do
/// something.
fn whole() -> Value {
    json!({
        "boot-source": {
            "kernel_image_path": kernel(),
            "boot_args": format!("{} pci=off", WORDS.crash),
            "initrd_path": "data.img",
        },
        "drives": [
            { "drive_id": "data", "is_root_device": false, "is_read_only": true,
              "path_on_host": "data.img" },
            { "drive_id": "rootfs", "is_root_device": true, "is_read_only": false,
              "path_on_host": "root.ext4", "partuuid": null, "cache_type": "Writeback",
              "rate_limiter": {
                  "bandwidth": { "size": 1_000_000, "refill_time": 100 },
                  "ops": { "size": 50, "refill_time": 1000, "one_time_burst": null } } },
        ],
        "machine-config": { "vcpu_count": 2, "mem_size_mib": 96, "smt": false,
                            "track_dirty_pages": false, "huge_pages": "None" },
        "cpu-config": null,
        "balloon": { "amount_mib": 8, "deflate_on_oom": true, "stats_polling_interval_s": 5 },
        "network-interfaces": [],
        "vsock": { "vsock_id": "sock", "guest_cid": 5, "uds_path": "v.sock" },
        "entropy": {},
    })
}

#[test]
fn firecrackers_file_and_the_guest_toml_for_it_are_the_same_guest() {
    let dir = scratch();
    let config = vm_json(dir.path(), &whole());
    let crashes = |args: &[&str]| {
        let finished = axvmm_in(dir.path(), args);
        assert_eq!(finished.status, 33, "the command line has come to the guest: {finished:#?}");
    };
    crashes(&["run", "--firecracker-config", config]);
    axvmm_in(dir.path(), &["import", config, "-o", "guest.toml"]).assert(0, "Wrote guest.toml");
    crashes(&["run", "--config", "guest.toml"]);
    let plan = |args: &[&str]| {
        let finished = axvmm_in(dir.path(), &[&["check", "--json"], args].concat());
        serde_json::from_str::<Value>(&finished.assert(0, "").stdout).unwrap()
    };
    let there = plan(&["--firecracker-config", config]);
    assert_eq!(there, plan(&["--config", "guest.toml"]));
    assert_eq!(there["name"], "vm");
    let text = there.to_string();
    for part in ["root.ext4", "v.sock", "pci=off root=/dev/vda rw"] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

/// The tables of what `axvmm import` prints.
#[track_caller]
fn imported(dir: &Path, args: &[&str]) -> (toml::Table, Finished) {
    let finished = axvmm_in(dir, &[&["import"], args].concat());
    assert_eq!(finished.status, 0, "{finished:#?}");
    (finished.stdout.parse().expect(&finished.stdout), finished)
}

/// The `devices.virtio` of a kind.
#[track_caller]
fn devices<'a>(tables: &'a toml::Table, kind: &str) -> Vec<&'a toml::Value> {
    let rows = tables["devices"]["virtio"].as_array().unwrap().iter();
    rows.filter(|row| row["kind"].as_str() == Some(kind)).collect()
}

fn value(text: &str) -> toml::Value {
    format!("it = {text}").parse::<toml::Table>().unwrap().remove("it").unwrap()
}

#[test]
fn each_key_of_firecrackers_becomes_the_one_that_means_it() {
    let dir = scratch();
    let mut config = whole();
    config["network-interfaces"] = json!([
        { "iface_id": "eth0", "host_dev_name": "tap7", "guest_mac": "06:00:ac:10:00:02", "mtu": 1400,
          "rx_rate_limiter": { "bandwidth": { "size": 5, "refill_time": 1 } },
          "tx_rate_limiter": { "ops": { "size": 3, "refill_time": 1000 } } }
    ]);
    let config = vm_json(dir.path(), &config);
    let (tables, _) = imported(dir.path(), &[config]);
    assert_eq!(tables["base"], value("{ cpu_num = 2, memory = \"96M\", name = \"vm\" }"));
    assert_eq!(tables["kernel"]["ramdisk_path"].as_str(), Some("data.img"));
    let disks = devices(&tables, "block");
    let first = "{ kind = \"block\", name = \"rootfs\", path = \"root.ext4\", format = \"raw\", \
                 root = true, rate = { bandwidth = 10000000, operations = 50 }, transport = \"mmio\" }";
    let second = "{ kind = \"block\", name = \"data\", path = \"data.img\", format = \"raw\", \
                  readonly = true, transport = \"mmio\" }";
    assert_eq!(disks, [&value(first), &value(second)], "the root device is the first");
    let card = "{ kind = \"net\", name = \"eth0\", tap = \"tap7\", mac = \"06:00:ac:10:00:02\", \
                mtu = 1400, receive_rate = { bandwidth = 5000 }, transmit_rate = { operations = 3 }, \
                transport = \"mmio\" }";
    assert_eq!(devices(&tables, "net"), [&value(card)]);
    let socket = "{ kind = \"vsock\", name = \"sock\", cid = 5, path = \"v.sock\", \
                  transport = \"mmio\" }";
    assert_eq!(devices(&tables, "vsock"), [&value(socket)]);
    assert_eq!(devices(&tables, "rng").len(), 1);
    let balloon = "{ kind = \"balloon\", size = \"8M\", deflate_on_oom = true, \
                   statistics_interval = 5, free_page_reporting = false, transport = \"mmio\" }";
    assert_eq!(devices(&tables, "balloon"), [&value(balloon)]);
}

#[test]
fn what_firecrackers_file_leaves_out_is_as_there() {
    let dir = scratch();
    let mut config = stops("");
    config.as_object_mut().unwrap().remove("machine-config");
    config["boot-source"].as_object_mut().unwrap().remove("boot_args");
    config["drives"] = json!([{ "drive_id": "a", "is_root_device": true, "is_read_only": true,
        "path_on_host": "root.ext4", "partuuid": "0eaa91a0-01" }]);
    let (tables, _) = imported(dir.path(), &[vm_json(dir.path(), &config)]);
    assert_eq!(tables["base"]["memory"].as_str(), Some("128M"));
    assert_eq!(tables["base"]["cpu_num"].as_integer(), Some(1));
    let cmdline = tables["kernel"]["cmdline"].as_str().unwrap();
    assert!(cmdline.starts_with("reboot=k panic=1 "), "{cmdline}");
    assert!(cmdline.ends_with(" root=PARTUUID=0eaa91a0-01 ro"), "{cmdline}");
}

#[test]
fn paths_are_those_of_the_working_directory() {
    let dir = scratch();
    fs::create_dir(dir.path().join("below")).unwrap();
    let config = vm_json(&dir.path().join("below"), &whole());
    let config = format!("below/{config}");
    axvmm_in(dir.path(), &["check", "--firecracker-config", &config]).assert(0, "root.ext4");
    axvmm_in(dir.path(), &["import", &config, "-o", "below/guest.toml"]).assert(0, "");
    axvmm_in(&dir.path().join("below"), &["check", "--config", "guest.toml"])
        .assert(0, "root.ext4");
    let again = axvmm_in(dir.path(), &["import", &config, "-o", "below/guest.toml"]);
    again.assert(35, "").assert_tells(&["is there already", "--force"]);
    axvmm_in(dir.path(), &["import", &config, "-o", "below/guest.toml", "--force"]).assert(0, "");
}

#[test]
fn a_reset_is_the_end_of_a_guest_of_firecrackers() {
    let dir = scratch();
    let config = vm_json(dir.path(), &stops(WORDS.resets[0]));
    axvmm_in(dir.path(), &["run", "--firecracker-config", config]).assert(32, "");
    let told = axvmm_in(dir.path(), &["import", config]);
    told.assert(0, "axvmm run --no-reboot --config").assert_tells(&["--no-reboot"]);
}

#[test]
fn a_tool_that_starts_firecracker_can_start_axvmm() {
    let dir = scratch();
    let program = axvmm().get_program().to_owned();
    fs::write(dir.path().join("firecracker"), FIRECRACKER).unwrap();
    let firecracker = |args: &[&str]| {
        let mut command = Command::new("sh");
        command.arg("firecracker").args(args).env("AXVMM", &program).current_dir(dir.path());
        run(&mut command)
    };
    let config = vm_json(dir.path(), &stops(WORDS.resets[0]));
    firecracker(&["--no-api", "--config-file", config, "--no-seccomp"]).assert(0, "");
    fs::write(dir.path().join("vm.json"), stops(WORDS.crash).to_string()).unwrap();
    firecracker(&["--id", "a", "--no-api", "--config-file", config]).assert(33, "");
    firecracker(&["--api-sock", "x"]).assert(35, "").assert_tells(&["--config-file"]);
}

#[test]
fn nothing_of_firecrackers_is_dropped_silently() {
    let dir = scratch();
    let mut config = whole();
    let more = [
        ("logger", json!({ "log_path": "x" })),
        ("metrics", json!({ "metrics_path": "x" })),
        ("mmds-config", json!({ "network_interfaces": [] })),
        ("cpu-config", json!({})),
        ("memory-hotplug", json!({})),
        ("something-new", json!([[1]])),
    ];
    for (key, value) in more {
        config[key] = value;
    }
    let machine = [
        ("smt", json!(true)),
        ("cpu_template", json!("T2")),
        ("track_dirty_pages", json!(true)),
        ("huge_pages", json!("2M")),
    ];
    for (key, value) in machine {
        config["machine-config"][key] = value;
    }
    config["drives"][0]["io_engine"] = json!("Async");
    config["drives"][0]["cache_type"] = json!("Unsafe");
    config["drives"][0]["partuuid"] = json!("x");
    config["drives"][0]["rate_limiter"] =
        json!({ "ops": { "size": 1, "refill_time": 0, "one_time_burst": 9 } });
    config["entropy"] = json!({ "rate_limiter": {} });
    config["balloon"]["free_page_hinting"] = json!(true);
    config["network-interfaces"] =
        json!([{ "iface_id": "a", "host_dev_name": "", "allow_mmds_requests": true }]);
    let name = vm_json(dir.path(), &config);
    let (_, finished) = imported(dir.path(), &[name]);
    let text = fs::read_to_string(dir.path().join(name)).unwrap();
    let ran = axvmm_in(dir.path(), &["run", "--firecracker-config", name]);
    let mut keys = vec![
        "io_engine",
        "cache_type",
        "partuuid",
        "one_time_burst",
        "refill_time",
        "free_page_hinting",
        "host_dev_name",
        "allow_mmds_requests",
        "rate_limiter",
    ];
    keys.extend(["logger", "metrics", "mmds-config", "cpu-config", "memory-hotplug"]);
    keys.extend(["something-new", "smt", "cpu_template", "track_dirty_pages", "huge_pages"]);
    for key in keys {
        let told = |line: &&str| line.contains(key) && line.contains("vm.json:");
        assert!(finished.stderr.lines().any(|line| told(&line)), "no {key} in {finished:#?}");
        let comment = |line: &str| line.starts_with('#') && told(&line);
        assert!(finished.stdout.lines().any(comment), "no {key} in {finished:#?}");
        assert!(ran.stderr.lines().any(|line| told(&line)), "no {key} in {ran:#?}");
    }
    let line = text.lines().position(|line| line.contains("something-new")).unwrap() + 1;
    finished.assert_tells(&[&format!("vm.json:{line}: \"something-new\"")]);
}

#[test]
fn what_is_wrong_with_firecrackers_file_is_shown_where_it_stands() {
    let dir = scratch();
    let kernel = kernel();
    let kernel = kernel.to_str().unwrap();
    let boot = format!("\"boot-source\": {{ \"kernel_image_path\": \"{kernel}\" }}");
    // Behind the file's name: the place, and a part of what is said.
    let cases = [
        ("".to_owned(), "1:1: this is no JSON"),
        ("\n\n".to_owned(), "3:1: this is no JSON"),
        ("{".to_owned(), "1:1: this is no JSON"),
        ("{\n  \"drives\": [},\n".to_owned(), "2:14: this is no JSON: expected value"),
        ("[]".to_owned(), "1:1: expected an object, found a list"),
        ("{} x".to_owned(), "1:4: this is no JSON: trailing characters"),
        ("{}".to_owned(), "1:1: this file has no \"boot-source\""),
        ("{ \"boot-source\": null }".to_owned(), "1:1: this file has no \"boot-source\""),
        ("{ \"boot-source\": {} }".to_owned(), "1:18: boot-source has no \"kernel_image_path\""),
        (
            "{ \"boot-source\": { \"kernel_image_path\": 7 } }".to_owned(),
            "1:41: expected a string, found a number",
        ),
        (
            "{ \"boot-source\": {\n \"kernel_image_path\": \"nowhere\" } }".to_owned(),
            "2:23: nowhere: No such file",
        ),
        (format!("{{ {boot},\n{boot} }}"), "2:1: duplicate key \"boot-source\""),
        (format!("{{ {boot},\n\"drives\": {{}} }}"), "2:11: expected a list, found an object"),
        (
            format!("{{ {boot},\n\"drives\": [\ntrue] }}"),
            "3:1: expected an object, found a boolean",
        ),
        (format!("{{ {boot},\n\"drives\": [{{}}] }}"), "2:12: this drive has no \"path_on_host\""),
        (
            format!("{{ {boot},\n\"drives\": [{{ \"path_on_host\": \"no.img\" }}] }}"),
            "2:30: no.img: No such file",
        ),
        (
            format!(
                "{{ {boot},\n\"drives\": [{{ \"path_on_host\": \"root.ext4\",\n\"is_read_olny\": 1 }}] }}"
            ),
            "3:1: unknown key \"is_read_olny\" in this drive",
        ),
        (
            format!(
                "{{ {boot},\n\"drives\": [{{ \"path_on_host\": \"root.ext4\", \n\"cache_type\": \"x\" }}] }}"
            ),
            "3:15: expected \"Unsafe\" or \"Writeback\"",
        ),
        (
            format!("{{ {boot},\n\"machine-config\": {{ \"vcpu_count\": 1 }} }}"),
            "2:19: machine-config has no \"mem_size_mib\"",
        ),
        (machine(&boot, "0", "64"), "2:35: expected an integer from 1"),
        (machine(&boot, "100000", "64"), "2:35: expected an integer from 1"),
        (machine(&boot, "-1", "64"), "2:35: expected an integer, 0 or more"),
        (machine(&boot, "1.5", "64"), "2:35: expected an integer, 0 or more"),
        (machine(&boot, "\"2\"", "64"), "2:35: expected an integer, 0 or more, found a string"),
        (machine(&boot, "1", "0"), "2:54: no memory at all"),
        (machine(&boot, "1", "99999999999999999999999999"), "2:54: more than 64T"),
        (machine(&boot, "1", "1e9"), "2:54: expected an integer, 0 or more"),
        (
            format!("{{ {boot},\n\"vsock\": {{ \"guest_cid\": 2, \"uds_path\": \"v\" }} }}"),
            "2:25: expected an integer from 3",
        ),
        (
            format!("{{ {boot},\n\"vsock\": {{ \"guest_cid\": 3, \"uds_path\": \"no/v\" }} }}"),
            "2:40: there is no directory no",
        ),
        (
            format!(
                "{{ {boot},\n\"network-interfaces\": [{{ \"host_dev_name\": \"t\",\n\"guest_mac\": \"x\" }}] }}"
            ),
            "3:14: ",
        ),
        (format!("{{ {boot},\n\"balloon\": {{ \"a\\ud800\": 1 }} }}"), "2:14: this string has"),
    ];
    for (text, expected) in cases {
        fs::write(dir.path().join("vm.json"), &text).unwrap();
        for args in [
            &["run", "--firecracker-config", "vm.json"][..],
            &["check", "--firecracker-config", "vm.json"],
            &["import", "vm.json"],
        ] {
            let finished = axvmm_in(dir.path(), args);
            let told = format!("axvmm: vm.json:{expected}");
            let is_told =
                finished.stderr.replace("\n\nvm.json", "\naxvmm: vm.json").contains(&told);
            assert!(finished.status == 35 && is_told, "no {told:?} for {text:?} in {finished:#?}");
            assert_eq!(finished.stdout, "", "{text:?}");
        }
    }
}

fn machine(boot: &str, cpus: &str, memory: &str) -> String {
    let keys = format!("\"vcpu_count\": {cpus}, \"mem_size_mib\": {memory}");
    format!("{{ {boot},\n\"machine-config\": {{ {keys} }} }}")
}

#[test]
fn files_that_are_none_of_firecrackers_are_told() {
    let dir = scratch();
    let told = |name: &str, parts: &[&str]| {
        let finished = axvmm_in(dir.path(), &["run", "--firecracker-config", name]);
        finished.assert(35, "").assert_tells(parts);
    };
    told("nowhere.json", &["nowhere.json: cannot read this file: No such file"]);
    told(".", &[".: is a directory, not a file", "vm.json"]);
    told("/dev/zero", &["/dev/zero: is a device, not a file"]);
    fs::write(dir.path().join("large"), vec![b' '; (1 << 20) + 1]).unwrap();
    told("large", &["large: is larger than 1 MiB"]);
    fs::write(dir.path().join("bytes"), b"{\n \xff }").unwrap();
    told("bytes", &["bytes:2:2: this byte is not valid UTF-8", "JSON"]);
    fs::write(dir.path().join("deep"), "[".repeat(1 << 20)).unwrap();
    told("deep", &["this is no JSON"]);
    // Deep where nobody looks.
    let boot = json!({ "kernel_image_path": kernel(), "boot_args": WORDS.crash });
    let (open, close) = ("[".repeat(1 << 18), "]".repeat(1 << 18));
    let text = format!("{{ \"boot-source\": {boot}, \"odd\": {open}{close} }}");
    fs::write(dir.path().join("vm.json"), text).unwrap();
    axvmm_in(dir.path(), &["run", "--firecracker-config", "vm.json"]).assert(33, "");
}

/// `axvmm import --qemu -- qemu-system-x86_64 -kernel GUEST ARGS…`
fn qemu(dir: &Path, args: &[&str]) -> Finished {
    let kernel = kernel();
    let begins =
        ["import", "--qemu", "--", "qemu-system-x86_64", "-kernel", kernel.to_str().unwrap()];
    axvmm_in(dir, &[&begins, args].concat())
}

#[test]
fn a_command_line_of_qemus_becomes_a_guest_that_runs() {
    let dir = scratch();
    let kernel = kernel();
    let begins = ["import", "-o", "guest.toml", "--qemu", "--"];
    let line = [
        "qemu-system-x86_64",
        "-M",
        "q35,accel=kvm",
        "-cpu",
        "host",
        "-enable-kvm",
        "-m",
        "96",
        "-smp",
        "2",
        "-nographic",
        "-nodefaults",
        "-serial",
        "mon:stdio",
        "-name",
        "it,debug-threads=on",
        "-kernel",
        kernel.to_str().unwrap(),
        "-initrd",
        "data.img",
        "-append",
        WORDS.crash,
        "-drive",
        "file=root.ext4,format=raw,if=virtio",
        "-device",
        "virtio-rng-pci",
        "--no-reboot",
    ];
    let finished = axvmm_in(dir.path(), &[&begins[..], &line].concat());
    finished.assert(0, "axvmm run --no-reboot --config guest.toml");
    finished.assert_tells(&["warning: -no-reboot: no key: give --no-reboot"]);
    assert_eq!(finished.stderr.lines().count(), 1, "all else is as it was: {finished:#?}");
    axvmm_in(dir.path(), &["run", "--no-reboot", "--config", "guest.toml"]).assert(33, "");
    let text = fs::read_to_string(dir.path().join("guest.toml")).unwrap();
    let tables: toml::Table = text.parse().unwrap();
    assert_eq!(tables["base"], value("{ cpu_num = 2, memory = \"96M\", name = \"it\" }"));
}

#[test]
fn each_option_of_qemus_becomes_the_key_that_means_it() {
    let dir = scratch();
    fs::create_dir(dir.path().join("share")).unwrap();
    // The options, and the table that has come of them.
    let cases: &[(&[&str], &str, &str)] = &[
        (&["-m", "2G"], "base", "{ memory = \"2G\" }"),
        (&["-m", "size=1G,slots=2"], "base", "{ memory = \"1G\" }"),
        (&["-smp", "cores=2,sockets=3"], "base", "{ cpu_num = 6 }"),
        (&["-smp", "cpus=4,maxcpus=8"], "base", "{ cpu_num = 4 }"),
        (
            &[
                "-drive",
                "if=none,id=d,file=old.qcow2,format=qcow2,cache=none,readonly=on",
                "-device",
                "virtio-blk-device,drive=d,serial=S",
            ],
            "block",
            "{ path = \"old.qcow2\", format = \"qcow2\", backing = true, direct = true, \
             readonly = true, serial = \"S\", transport = \"mmio\" }",
        ),
        (
            &[
                "-blockdev",
                "driver=file,node-name=f,filename=old.qcow2,cache.direct=on",
                "-blockdev",
                "driver=qcow2,node-name=d,file=f,read-only=on",
                "-device",
                "virtio-blk-pci,drive=d",
            ],
            "block",
            "{ path = \"old.qcow2\", format = \"qcow2\", backing = true, direct = true, \
             readonly = true }",
        ),
        (
            &[
                "-blockdev",
                "raw,node-name=d,file.driver=file,file.filename=data.img",
                "-device",
                "virtio-blk-pci,drive=d",
            ],
            "block",
            "{ path = \"data.img\", format = \"raw\" }",
        ),
        (&["-hda", "data.img"], "block", "{ path = \"data.img\" }"),
        (&["data.img"], "block", "{ path = \"data.img\" }"),
        (&["-cdrom", "data.img"], "block", "{ path = \"data.img\", readonly = true }"),
        (
            &["-drive", "file=data.img,if=virtio,snapshot=on,throttling.iops-total=9"],
            "block",
            "{ path = \"data.img\", readonly = true, rate = { operations = 9 } }",
        ),
        (
            &[
                "-netdev",
                "user,id=n,hostfwd=tcp::8080-:80,hostfwd=udp:127.0.0.1:53-:53",
                "-device",
                "virtio-net-pci,netdev=n,mac=52:54:00:12:34:56",
            ],
            "net",
            "{ net = \"user\", ports = [\"8080:80\", \"udp:127.0.0.1/53:53\"], \
             mac = \"52:54:00:12:34:56\" }",
        ),
        (
            &[
                "-netdev",
                "tap,id=n,ifname=tap3,script=no,downscript=no,vhost=on",
                "-device",
                "virtio-net-device,netdev=n",
            ],
            "net",
            "{ tap = \"tap3\", vhost = true, transport = \"mmio\" }",
        ),
        (&["-nic", "user,model=virtio-net-pci"], "net", "{ net = \"user\" }"),
        (&["-device", "virtio-rng-device"], "rng", "{ transport = \"mmio\" }"),
        (
            &["-device", "vhost-vsock-pci,guest-cid=9"],
            "vsock",
            "{ cid = 9, path = \"vsock.sock\" }",
        ),
        (
            &["-device", "virtio-balloon,free-page-reporting=on"],
            "balloon",
            "{ free_page_reporting = true, deflate_on_oom = false }",
        ),
        (
            &["-virtfs", "local,path=share,mount_tag=t,security_model=none,readonly"],
            "fs",
            "{ path = \"share\", tag = \"t\", readonly = true }",
        ),
        (
            &[
                "-chardev",
                "socket,id=c,path=fs.sock",
                "-device",
                "vhost-user-fs-pci,chardev=c,tag=t",
            ],
            "fs",
            "{ socket = \"fs.sock\", tag = \"t\" }",
        ),
        (
            &["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"],
            "devices",
            "{ debug_exit = 0xf4 }",
        ),
    ];
    for (args, table, expected) in cases {
        let finished = qemu(dir.path(), args);
        assert_eq!(finished.status, 0, "{args:?}: {finished:#?}");
        let tables: toml::Table = finished.stdout.parse().unwrap();
        let mut expected = value(expected);
        let found = match tables.get(*table) {
            Some(found) => found,
            None => {
                let kind = toml::Value::from(*table);
                expected.as_table_mut().unwrap().insert("kind".into(), kind);
                devices(&tables, table)[0]
            }
        };
        assert_eq!(*found, expected, "{args:?}");
    }
}

#[test]
fn an_option_without_a_counterpart_is_a_comment_and_a_warning() {
    let dir = scratch();
    for (args, name) in [
        (&["-vnc", ":1"][..], "-vnc :1"),
        (&["-foo", "-bar", "x"], "-foo"),
        (&["-foo", "-bar", "x"], "-bar x"),
        (&["-cpu", "Haswell"], "-cpu Haswell"),
        (&["-accel", "tcg"], "-accel tcg"),
        (&["-M", "raspi3b"], "-M raspi3b"),
        (&["-machine", "virt,gic-version=3"], "gic-version=3"),
        (&["-serial", "file:x"], "-serial file:x"),
        (&["-device", "qemu-xhci"], "-device qemu-xhci"),
        (&["-device", "virtio-rng-pci,max-bytes=10"], "max-bytes=10"),
        (&["-drive", "if=none,id=x,file=data.img"], "-drive if=none,id=x,file=data.img"),
        (&["-device", "virtio-blk-pci,drive=x"], "-device virtio-blk-pci,drive=x"),
        (&["-device", "virtio-net-pci,netdev=x"], "-device virtio-net-pci,netdev=x"),
        (&["-device", "e1000,netdev=x", "-netdev", "user,id=x,restrict=on"], "restrict=on"),
        (&["-netdev", "vde,id=x", "-device", "e1000,netdev=x"], "-netdev vde,id=x"),
        (&["-blockdev", "{\"driver\":\"file\"}"], "-blockdev {"),
        (&["-blockdev", "file,node-name=x,filename=y"], "-blockdev file,node-name=x"),
        (&["-s", "-S"], "-S"),
        (&["-object", "tls-creds,id=x"], "-object tls-creds,id=x"),
        (&["-hda", "data.img"], "-hda data.img"),
        (&["-smp", "4,cores=2"], "-smp 4,cores=2"),
        (&["-drive", "if=pflash,file=x"], "-drive if=pflash,file=x"),
        (&["-bios", "x\u{7}y\nz = 1"], "-bios x"),
    ] {
        let finished = qemu(dir.path(), args);
        assert_eq!(finished.status, 0, "{args:?}: {finished:#?}");
        let warns = |line: &str| line.contains("warning: -") && line.contains(name);
        assert!(finished.stderr.lines().any(warns), "no {name} in {finished:#?}");
        let comments = |line: &str| line.starts_with("# - -") && line.contains(name);
        assert!(finished.stdout.lines().any(comments), "no {name} in {finished:#?}");
        finished.stdout.parse::<toml::Table>().unwrap();
    }
}

#[test]
fn what_is_wrong_with_a_command_line_of_qemus_is_told_with_its_option() {
    let dir = scratch();
    let line = |args: &[&str]| axvmm_in(dir.path(), &[&["import", "--qemu", "--"], args].concat());
    line(&["qemu-system-x86_64", "-m", "64"]).assert(35, "").assert_tells(&["there is no -kernel"]);
    line(&["-kernel", "nowhere"])
        .assert(35, "")
        .assert_tells(&["-kernel nowhere: nowhere: No such"]);
    line(&[]).assert(35, "");
    for (args, told) in [
        (&["-m"][..], "-m: there is nothing behind this option"),
        (&["-m", "lots"], "-m lots: \"lots\" is no size"),
        (&["-m", "0"], "-m 0: no memory at all"),
        (&["-m", "99999999999999999999"], "-m 99999999999999999999: more than 64T"),
        (&["-smp", "0"], "-smp 0: expected an integer from 1"),
        (&["-smp", "many"], "-smp many: cpus: \"many\" is no number"),
        (&["-smp", "cores=4294967296,sockets=4294967296"], "expected an integer from 1"),
        (
            &["-drive", "file=no.img,if=virtio"],
            "-drive file=no.img,if=virtio: no.img: No such file",
        ),
        (&["-drive", "file=root.ext4,if=virtio"], "may be of any format"),
        (&["-drive", "file=data.img,if=virtio,format=vdi"], "expected \"raw\" or \"qcow2\""),
        (&["-nic", "user,hostfwd=8080"], "hostfwd=8080 leads nowhere"),
        (&["-nic", "tap"], "-nic tap: this TAP interface has no ifname"),
        (&["-device", "isa-debug-exit,iobase=x"], "iobase is no number"),
    ] {
        qemu(dir.path(), args).assert(35, "").assert_tells(&[told]);
    }
}
