//! Why KVM's device file is not there, or may not be opened.

use std::{
    env, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::unistd::{Gid, Group, User, getegid, geteuid, getgroups};

use super::finding::Finding;
use crate::kvm::DEVICE_VARIABLE;

/// Where KVM's device file is, if nobody says otherwise.
const DEVICE: &str = "/dev/kvm";

/// What the host tells about its virtualization.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The device file itself is there.
    pub node: bool,
    /// As `uname -m` has it.
    pub arch: &'static str,
    /// x86, riscv: the module for this processor's virtualization, if it has one.
    pub module: Option<&'static str>,
    /// This host is itself a virtual machine.
    pub in_vm: bool,
    pub in_container: bool,
    /// The kernel has KVM ready, whether there is a device file or not.
    pub registered: bool,
    /// KVM's module, or KVM itself, is in the kernel.
    pub loaded: bool,
}

impl Facts {
    /// Looks at `/proc`, `/sys` and `/run`; what cannot be read is taken as not so.
    pub fn gather(device: &Path) -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (module, in_vm) = read_cpuinfo(&text("/proc/cpuinfo"));
        let there = |path: &str| Path::new(path).exists();
        let marks = ["/.dockerenv", "/run/.containerenv", "/run/systemd/container"];
        Self {
            node: device.exists(),
            arch: env::consts::ARCH,
            module,
            in_vm,
            in_container: marks.into_iter().any(there) || env::var_os("container").is_some(),
            registered: text("/proc/misc").lines().any(|line| line.trim().ends_with(" kvm")),
            loaded: there("/sys/module/kvm"),
        }
    }
}

/// The module for the processor's virtualization, and whether a hypervisor shows itself.
fn read_cpuinfo(text: &str) -> (Option<&'static str>, bool) {
    if has_h_extension(text) {
        return (Some("kvm"), false);
    }
    let flags = text.lines().find_map(|line| line.strip_prefix("flags")).unwrap_or_default();
    let has = |flag| flags.split_whitespace().any(|word| word == flag);
    let module = if has("vmx") {
        Some("kvm_intel")
    } else if has("svm") {
        Some("kvm_amd")
    } else {
        None
    };
    (module, has("hypervisor"))
}

/// Whether a riscv processor has the hypervisor extension: an h among the single letters of its ISA
/// string, which stand before the first underscore and after `rv64`.
fn has_h_extension(cpuinfo: &str) -> bool {
    let field = |line: &str| Some(line.strip_prefix("isa")?.split_once(": rv64")?.1.to_owned());
    let isa = cpuinfo.lines().find_map(field).unwrap_or_default();
    isa.split('_').next().is_some_and(|letters| letters.contains('h'))
}

/// There is no device file.
pub fn missing(device: &Path, facts: &Facts) -> Finding {
    let what = match facts.node {
        true => format!("{} is there, and the kernel has nothing behind it", device.display()),
        false => format!("there is no {}", device.display()),
    };
    let (why, remedy) = if device != Path::new(DEVICE) {
        (
            format!("{DEVICE_VARIABLE} names it"),
            format!("Correct {DEVICE_VARIABLE}, or unset it to use {DEVICE}."),
        )
    } else if facts.in_container && !facts.node {
        (
            "this is a container that was not given it".to_owned(),
            format!("Start the container with the device: docker run --device {DEVICE} …"),
        )
    } else if facts.registered && !facts.node {
        (
            "the kernel has KVM, but nobody has made the device file".to_owned(),
            format!("Make it: sudo mknod {DEVICE} c 10 232"),
        )
    } else if facts.arch != "x86_64" {
        no_virtualization_elsewhere(facts)
    } else {
        no_virtualization_on_a_pc(facts)
    };
    Finding::fail("KVM", format!("{what}: {why}"), remedy)
}

fn no_virtualization_on_a_pc(facts: &Facts) -> (String, String) {
    match facts.module {
        Some(module) if facts.loaded => (
            format!("the processor has virtualization, but {module} has not taken it"),
            format!(
                "Run `sudo modprobe {module}`; if that fails, `sudo dmesg | grep -i kvm` tells \
                 why: often virtualization is off in the firmware's settings."
            ),
        ),
        Some(module) => (
            "the processor has virtualization, but KVM's module is not loaded".to_owned(),
            format!("Load it: sudo modprobe {module}"),
        ),
        None if facts.in_vm => (
            "this is a virtual machine, and its hypervisor offers no virtualization".to_owned(),
            "Enable nested virtualization for this machine in its hypervisor, or use another \
             host."
                .to_owned(),
        ),
        None => (
            "the processor shows no virtualization (vmx or svm in /proc/cpuinfo)".to_owned(),
            "Enable Intel VT-x or AMD-V (SVM) in the firmware's settings; a processor without it \
             cannot run guests."
                .to_owned(),
        ),
    }
}

fn no_virtualization_elsewhere(facts: &Facts) -> (String, String) {
    let arch = facts.arch;
    if let (Some(module), false) = (facts.module, facts.loaded) {
        return (
            "the processor has virtualization, but KVM's module is not loaded".to_owned(),
            format!("Load it: sudo modprobe {module}"),
        );
    }
    let needed = match arch {
        "aarch64" => "a processor whose EL2 the firmware leaves to Linux",
        "riscv64" => "a processor with the hypervisor extension (H)",
        _ => "virtualization that Linux knows",
    };
    (
        format!("Linux has found no virtualization on this {arch} host, or has no KVM"),
        format!("KVM needs {needed}, and CONFIG_KVM in the kernel; dmesg tells what it found."),
    )
}

/// Who may open the device, and who we are.
#[derive(Clone, Debug)]
pub struct Access {
    /// Permission bits.
    pub mode: u32,
    /// The group that owns the device, by name.
    pub group: String,
    pub user: String,
    /// The user is in the group, by the user database.
    pub joined: bool,
    /// This session is in the group.
    pub in_session: bool,
}

impl Access {
    /// `None`: the device cannot be looked at.
    pub fn gather(device: &Path) -> Option<Self> {
        let meta = fs::metadata(device).ok()?;
        let gid = Gid::from_raw(meta.gid());
        let group = Group::from_gid(gid).ok().flatten();
        let user = User::from_uid(geteuid()).ok().flatten();
        let name = user.as_ref().map_or_else(|| geteuid().to_string(), |user| user.name.clone());
        Some(Self {
            mode: meta.mode() & 0o777,
            joined: group.as_ref().is_some_and(|group| group.mem.contains(&name))
                || user.is_some_and(|user| user.gid == gid),
            group: group.map_or_else(|| gid.to_string(), |group| group.name),
            user: name,
            in_session: getegid() == gid || getgroups().is_ok_and(|ours| ours.contains(&gid)),
        })
    }
}

/// The device is there, and this user may not open it.
pub fn no_permission(device: &Path, access: Option<Access>) -> Finding {
    const READ_WRITE: u32 = 0o060;
    let name = device.display();
    let what = format!("no permission to open {name}");
    let Some(Access { mode, group, user, joined, in_session }) = access else {
        let directory = device.parent().map_or_else(PathBuf::new, Path::to_owned);
        let remedy = format!("Allow this user to enter {}.", directory.display());
        return Finding::fail("KVM", what, remedy);
    };
    let (why, remedy) = if mode & READ_WRITE != READ_WRITE {
        (
            format!("its mode {mode:03o} keeps even its group {group} out"),
            format!(
                "Give it to the group kvm and open it to that: sudo chgrp kvm {name} && sudo chmod \
                 660 {name}; then join the group: sudo usermod -aG kvm {user}"
            ),
        )
    } else if in_session {
        (
            format!("{user} is in its group {group}, so something else forbids it"),
            "In a container, allow the device (docker run --device); else look at SELinux or \
             AppArmor."
                .to_owned(),
        )
    } else if joined {
        (
            format!("{user} has joined its group {group}, but this session began before"),
            format!("Log in anew, or for this shell only: newgrp {group}"),
        )
    } else {
        (
            format!("{user} is not in its group {group}"),
            format!("Join it: sudo usermod -aG {group} {user}, then log in anew"),
        )
    };
    Finding::fail("KVM", format!("{what}: {why}"), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            node: false,
            arch: "x86_64",
            module: None,
            in_vm: false,
            in_container: false,
            registered: false,
            loaded: false,
        }
    }

    #[track_caller]
    fn check(finding: &Finding, what: &str, remedy: &str) {
        assert!(finding.what.contains(what), "{finding:?}");
        assert!(finding.remedy.as_deref().unwrap().contains(remedy), "{finding:?}");
    }

    #[test]
    fn each_reason_for_no_device_has_its_remedy() {
        let kvm = Path::new(DEVICE);
        let intel = Facts { module: Some("kvm_intel"), ..facts() };
        let amd = Facts { module: Some("kvm_amd"), loaded: true, ..facts() };
        check(&missing(kvm, &facts()), "shows no virtualization", "firmware");
        check(&missing(kvm, &Facts { in_vm: true, ..facts() }), "virtual machine", "nested");
        check(&missing(kvm, &intel), "not loaded", "modprobe kvm_intel");
        check(&missing(kvm, &amd), "kvm_amd has not taken it", "dmesg");
        check(
            &missing(kvm, &Facts { in_container: true, ..intel.clone() }),
            "container",
            "--device",
        );
        check(&missing(kvm, &Facts { registered: true, ..intel }), "device file", "mknod");
        let node = Facts { node: true, in_container: true, ..facts() };
        check(&missing(kvm, &node), "nothing behind it: the processor shows no", "firmware");
        check(&missing(kvm, &Facts { arch: "aarch64", ..facts() }), "aarch64", "EL2");
        check(&missing(kvm, &Facts { arch: "riscv64", ..facts() }), "riscv64", "hypervisor ext");
        let riscv = Facts { arch: "riscv64", module: Some("kvm"), ..facts() };
        check(&missing(kvm, &riscv), "not loaded", "modprobe kvm");
        check(&missing(Path::new("/dev/other"), &facts()), "/dev/other", "unset");
    }

    #[test]
    fn each_reason_for_no_permission_has_its_remedy() {
        let kvm = Path::new(DEVICE);
        let access = Access {
            mode: 0o660,
            group: "kvm".to_owned(),
            user: "ada".to_owned(),
            joined: false,
            in_session: false,
        };
        let told = |access| no_permission(kvm, Some(access));
        check(&told(access.clone()), "not in its group kvm", "usermod -aG kvm ada");
        check(&told(Access { joined: true, ..access.clone() }), "began before", "newgrp kvm");
        let both = Access { joined: true, in_session: true, ..access.clone() };
        check(&told(both), "something else", "--device");
        check(&told(Access { mode: 0o600, ..access }), "mode 600", "chmod 660");
        check(&no_permission(kvm, None), "no permission", "/dev");
    }

    #[test]
    fn the_processors_flags_tell_the_module() {
        let text = "processor\t: 0\nflags\t\t: fpu svm hypervisor\nbugs\t: vmx\n";
        assert_eq!(read_cpuinfo(text), (Some("kvm_amd"), true));
        assert_eq!(read_cpuinfo("flags\t\t: fpu vmx vmx_extra\n"), (Some("kvm_intel"), false));
        assert_eq!(read_cpuinfo("flags : vmxx\n"), (None, false));
        assert_eq!(read_cpuinfo(""), (None, false));
        let riscv =
            "processor\t: 0\nhart\t\t: 1\nisa\t\t: rv64imafdch_zicbom_zihpm\nmmu\t\t: sv57\n";
        assert_eq!(read_cpuinfo(riscv), (Some("kvm"), false));
        assert_eq!(read_cpuinfo("isa\t\t: rv64imafdc_zihpm\nmmu\t\t: sv57\n"), (None, false));
    }
}
