//! The images, and what goes with them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    addr::GuestPhysAddr,
    config::{
        keys::{ModuleConfig, VMKernelConfig},
        read,
        report::Report,
        source::{At, Place},
        values::Integer,
    },
    vm::config::{ImageFile, KernelConfig, Module},
};

pub(super) fn resolve(kernel: VMKernelConfig, report: &mut Report) -> Option<KernelConfig> {
    if let Some(disk) = &kernel.disk_path {
        report.note(disk.place, "disk_path is not used yet; the guest sees no disk");
    }
    let entry_point = kernel.entry_point.map(address);
    let image = image("kernel_path", kernel.kernel_path, kernel.kernel_load_addr, report);
    if image.is_none() && !report.has_problems() {
        report
            .whole("names no kernel: kernel_path is missing")
            .help("write [kernel] and below it kernel_path = \"path of the image\"");
    }
    Some(KernelConfig {
        entry_point,
        cmdline: kernel.cmdline.map(|cmdline| cmdline.value),
        ramdisk: self::image("ramdisk_path", kernel.ramdisk_path, kernel.ramdisk_load_addr, report),
        bios: self::image("bios_path", kernel.bios_path, kernel.bios_load_addr, report),
        dtb: self::image("dtb_path", kernel.dtb_path, kernel.dtb_load_addr, report),
        modules: modules(kernel.modules, report),
        unpack: kernel.unpack.map(|unpack| unpack.value.into()).unwrap_or_default(),
        image: image?,
    })
}

fn address(at: At<Integer>) -> GuestPhysAddr {
    GuestPhysAddr(at.value.0)
}

/// An image and its place. An address alone, which AxVisor's files often have, says nothing.
fn image(
    key: &str,
    path: Option<At<PathBuf>>,
    load_addr: Option<At<Integer>>,
    report: &mut Report,
) -> Option<ImageFile> {
    let Some(path) = path else {
        if let Some(addr) = load_addr {
            let text = format!("this address is not used, as there is no {key}");
            report.note(addr.place, text);
        }
        return None;
    };
    check_file(&format!("kernel.{key}"), &path.value, path.place, report);
    Some(ImageFile { path: path.value, load_addr: load_addr.map(address) })
}

fn modules(modules: Option<At<Vec<At<ModuleConfig>>>>, report: &mut Report) -> Vec<Module> {
    let modules = modules.map(|modules| modules.value).unwrap_or_default();
    for (index, module) in modules.iter().enumerate() {
        check_file(&format!("kernel.modules[{index}]"), &module.value.path, module.place, report);
    }
    let module = |At { value: ModuleConfig { path, cmdline }, .. }| Module { path, cmdline };
    modules.into_iter().map(module).collect()
}

/// Only a regular file can be an image: others have no end that is known, or never come.
fn check_file(key: &str, path: &Path, place: Place, report: &mut Report) {
    match fs::metadata(path) {
        Ok(metadata) => {
            if let Some(kind) = read::irregular(metadata.file_type()) {
                let message = format!("{} is {kind}, not a file", path.display());
                report.problem_of(key, place, message);
            }
        }
        Err(error) => {
            report.problem_of(key, place, format!("{}: {error}", path.display()));
        }
    }
}
