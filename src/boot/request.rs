//! What a loader is asked, and what it answers.

use std::{fmt, sync::Arc};

use crate::{addrspace::AddrSpace, hal::VCpuSetup, vm::config::KernelConfig};

use super::{
    BootPlan, FirmwareInfo, Format, Placed, Protocol, Unpacked,
    cache::Cache,
    error::{Error, Role},
    file::ImageSource,
};

/// Enough to find a multiboot header in, which may begin anywhere in the first 8 KiB.
const HEAD: usize = 8192;

/// All that the loaders need to know.
pub struct Request<'a> {
    pub config: &'a KernelConfig,
    pub source: ImageSource,
    /// The beginning of the file.
    pub head: Vec<u8>,
    pub cache: Option<&'a Cache>,
}

/// What a kernel other than Linux is given at most, in bytes without the NUL: there is no rule, and
/// room for this.
pub const CMDLINE_MAX_ELSEWHERE: usize = 65535;

impl<'a> Request<'a> {
    /// Opens the kernel.
    pub fn open(config: &'a KernelConfig, cache: Option<&'a Cache>) -> Result<Self, Error> {
        let source = ImageSource::open(Role::Kernel, &config.image.path)?;
        let head = source.head(HEAD)?;
        Ok(Self { config, source, head, cache })
    }
}

/// What the file turned out to be, and how it is entered; what goes where is in the draft.
pub struct Loaded {
    pub format: Format,
    pub protocol: Protocol,
    pub entry: u64,
    pub initrd: Option<Placed>,
    /// Room for the device tree, on machines that have one.
    pub dtb: Option<Placed>,
    pub unpacked: Option<Unpacked>,
    pub handover: Arc<dyn HandOver>,
}

/// The last step of loading, by protocol.
pub trait HandOver: fmt::Debug + Send + Sync {
    /// Writes what the protocol wants the guest to find beside its segments, and tells the state to
    /// begin in.
    fn write(
        &self,
        plan: &BootPlan,
        mem: &AddrSpace,
        firmware: &FirmwareInfo,
    ) -> Result<VCpuSetup, Error>;
}
