//! Modules: files that PVH and multiboot kernels are given, each with a string.

use crate::{
    addr::GuestPhysAddr,
    addrspace::AddrSpace,
    boot::{Error, Placed, draft::Draft, error::Role, file::ImageSource},
    vm::config,
};

use super::{layout, write_string};

/// A module in guest memory.
#[derive(Clone, Debug)]
pub struct Module {
    pub placed: Placed,
    /// Where its string is, and the string.
    pub string: Option<(GuestPhysAddr, String)>,
}

/// The initrd as the first module, then those of the configuration.
pub fn place(
    modules: &[config::Module],
    initrd: Option<Placed>,
    draft: &mut Draft,
) -> Result<Vec<Module>, Error> {
    let mut placed: Vec<_> =
        initrd.into_iter().map(|placed| Module { placed, string: None }).collect();
    let window = (layout::HIGH_MEMORY, layout::LIMIT_32BIT);
    for (i, config::Module { path, cmdline }) in modules.iter().enumerate() {
        let source = ImageSource::open(Role::Module, path)?;
        let module = draft.whole_file(&format!("module {i}"), &source, None, window)?;
        let size = cmdline.len() as u64 + 1;
        let at = draft.structure("module string", size, 1, layout::STRUCTURES)?;
        placed.push(Module { placed: module, string: Some((at, cmdline.clone())) });
    }
    Ok(placed)
}

pub fn write_strings(modules: &[Module], mem: &AddrSpace) -> Result<(), Error> {
    for (at, string) in modules.iter().filter_map(|module| module.string.as_ref()) {
        write_string(mem, *at, string)?;
    }
    Ok(())
}
