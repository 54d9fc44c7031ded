//! The images, and what goes with them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    addr::GuestPhysAddr,
    config::{
        keys::{DtbPatchWord, ModuleConfig, VMKernelConfig},
        read,
        report::Report,
        source::{At, Place},
        values::Integer,
    },
    vm::config::{DtbPatch, ImageFile, KernelConfig, Module},
};

pub(super) fn resolve(kernel: VMKernelConfig, report: &mut Report) -> Option<KernelConfig> {
    let mut images = Images { of_axvisor: kernel.image_location.is_some(), report };
    let image = images.one("kernel_path", kernel.kernel_path, kernel.kernel_load_addr);
    let ramdisk = images.one("ramdisk_path", kernel.ramdisk_path, kernel.ramdisk_load_addr);
    let bios = images.one("bios_path", kernel.bios_path, kernel.bios_load_addr);
    let dtb = images.one("dtb_path", kernel.dtb_path, kernel.dtb_load_addr);
    let dtb_patch = dtb_patch(kernel.dtb_patch, dtb.is_some(), images.report);
    let modules = images.modules(kernel.modules);
    if image.is_none() && !report.has_problems() {
        report
            .whole("names no kernel: kernel_path is missing")
            .help("write [kernel] and below it kernel_path = \"path of the image\"");
    }
    Some(KernelConfig {
        image: image?,
        entry_point: kernel.entry_point.map(address),
        cmdline: kernel.cmdline.map(|cmdline| cmdline.value),
        ramdisk,
        bios,
        dtb,
        dtb_patch,
        modules,
        unpack: kernel.unpack.map(|unpack| unpack.value.into()).unwrap_or_default(),
    })
}

fn dtb_patch(
    words: Option<At<Vec<At<DtbPatchWord>>>>,
    has_dtb: bool,
    report: &mut Report,
) -> Vec<DtbPatch> {
    let Some(words) = words else { return Vec::new() };
    if !has_dtb && !words.value.is_empty() {
        report.note(words.place, "dtb_patch is not used, as there is no dtb_path");
    }
    words.value.into_iter().map(|word| word.value.into()).collect()
}

fn address(at: At<Integer>) -> GuestPhysAddr {
    GuestPhysAddr(at.value.0)
}

/// Looks at the images that a configuration names.
struct Images<'a> {
    /// Whether the configuration says where AxVisor is to look for them.
    of_axvisor: bool,
    report: &'a mut Report,
}

impl Images<'_> {
    /// An image and its place. An address alone, which AxVisor's files often have, says nothing.
    fn one(
        &mut self,
        key: &str,
        path: Option<At<PathBuf>>,
        load_addr: Option<At<Integer>>,
    ) -> Option<ImageFile> {
        let Some(path) = path else {
            if let Some(addr) = load_addr {
                let text = format!("this address is not used, as there is no {key}");
                self.report.note(addr.place, text);
            }
            return None;
        };
        self.check(&format!("kernel.{key}"), &path.value, path.place);
        Some(ImageFile { path: path.value, load_addr: load_addr.map(address) })
    }

    fn modules(&mut self, modules: Option<At<Vec<At<ModuleConfig>>>>) -> Vec<Module> {
        let modules = modules.map(|modules| modules.value).unwrap_or_default();
        for (index, module) in modules.iter().enumerate() {
            self.check(&format!("kernel.modules[{index}]"), &module.value.path, module.place);
        }
        let module = |At { value: ModuleConfig { path, cmdline }, .. }| Module { path, cmdline };
        modules.into_iter().map(module).collect()
    }

    /// Only a regular file can be an image: others have no end that is known, or never come.
    fn check(&mut self, key: &str, path: &Path, place: Place) {
        let problem = match fs::metadata(path) {
            Ok(metadata) => match read::irregular(metadata.file_type()) {
                Some(kind) => format!("{} is {kind}, not a file", path.display()),
                None => return,
            },
            Err(error) => format!("{}: {error}", path.display()),
        };
        let problem = self.report.problem_of(key, place, problem);
        if self.of_axvisor {
            problem
                .help("AxVisor looks in a file system of its own; here, name a file of the host");
        }
    }
}
