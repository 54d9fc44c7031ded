//! The host's KVM: opening it, and what it can do.

use std::{env, ffi::CString, io, os::unix::ffi::OsStringExt, path::PathBuf};

use kvm_ioctls::{Cap, Kvm};

use super::arch;
use crate::hal::{HalError, HalResult};

/// The environment variable that names another device file than `/dev/kvm`.
pub const DEVICE_VARIABLE: &str = "AXVMM_KVM_DEVICE";

/// The API version that has been the only one since Linux 2.6.22 (api.rst, 4.1).
const API_VERSION: i32 = 12;

/// KVM cannot be used, and why.
#[derive(Debug)]
#[allow(missing_docs, reason = "the messages say what each is")]
pub enum OpenError {
    /// There is no such device file.
    Missing { device: PathBuf },
    /// The file is there, and this user may not open it.
    Permission { device: PathBuf },
    /// The file is something else than KVM.
    NotKvm { device: PathBuf },
    /// KVM speaks another version of its API.
    ApiVersion { found: i32 },
    /// Any other failure to open it.
    Other { device: PathBuf, source: io::Error },
}

/// Where guests can run if not here.
const ELSEWHERE: &str = " Or take an emulated host: --host emulated";

impl From<OpenError> for HalError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Missing { device } => {
                HalError::host_cannot(format!("run guests: there is no {}", device.display()))
                    .hint(format!("{}; `axvmm doctor` tells more.{ELSEWHERE}", arch::TO_GET_KVM))
            }
            OpenError::Permission { device } => HalError::host_cannot(format!(
                "run guests: no permission to open {}",
                device.display()
            ))
            .hint(
                "Join the group that owns the file (usually `sudo usermod -aG kvm $USER`, then log \
                 in anew); `axvmm doctor` tells more.",
            ),
            OpenError::NotKvm { device } => HalError::host_cannot(format!(
                "run guests: {} is not the KVM device",
                device.display()
            ))
            .hint(format!("Is {DEVICE_VARIABLE} set by mistake?")),
            OpenError::ApiVersion { found } => HalError::host_cannot(format!(
                "run guests: its KVM speaks API version {found}, and axvmm needs {API_VERSION}"
            ))
            .hint("Use a host with Linux 4.20 or later."),
            OpenError::Other { device, source } => {
                HalError::host_cannot(format!("open {}", device.display())).because(source)
            }
        }
    }
}

/// Something that KVM may or may not have.
#[derive(Clone, Copy, Debug)]
pub struct Capability {
    /// KVM's own name, e.g. `KVM_CAP_IRQCHIP`.
    pub name: &'static str,
    /// The kernel that brought it.
    pub since: &'static str,
    cap: Cap,
}

impl Capability {
    pub(super) const fn new(name: &'static str, cap: Cap, since: &'static str) -> Self {
        Self { name, since, cap }
    }
}

/// What axvmm needs on every architecture.
const NEEDED: [Capability; 5] = [
    Capability::new("KVM_CAP_USER_MEMORY", Cap::UserMemory, "2.6.20"),
    Capability::new("KVM_CAP_DESTROY_MEMORY_REGION_WORKS", Cap::DestroyMemoryRegionWorks, "2.6.29"),
    Capability::new("KVM_CAP_MP_STATE", Cap::MpState, "2.6.26"),
    Capability::new("KVM_CAP_IOEVENTFD", Cap::Ioeventfd, "2.6.32"),
    Capability::new("KVM_CAP_IMMEDIATE_EXIT", Cap::ImmediateExit, "4.11"),
];

/// An open KVM.
#[derive(Debug)]
pub struct KvmHost {
    pub(super) kvm: Kvm,
}

impl KvmHost {
    /// Opens KVM and checks the version of its API.
    pub fn open() -> Result<Self, OpenError> {
        let device = device();
        let fail = |source: io::Error| match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => {
                OpenError::Missing { device: device.clone() }
            }
            Some(libc::EACCES | libc::EPERM) => OpenError::Permission { device: device.clone() },
            _ => OpenError::Other { device: device.clone(), source },
        };
        let path = CString::new(device.clone().into_os_string().into_vec())
            .map_err(|_| fail(io::ErrorKind::InvalidInput.into()))?;
        let kvm = Kvm::new_with_path(path).map_err(|errno| fail(errno.into()))?;
        match kvm.get_api_version() {
            API_VERSION => Ok(Self { kvm }),
            -1 => Err(OpenError::NotKvm { device }),
            found => Err(OpenError::ApiVersion { found }),
        }
    }

    /// The capabilities that axvmm needs and this KVM has not.
    pub fn missing_capabilities(&self) -> Vec<Capability> {
        let all = NEEDED.iter().chain(arch::NEEDED_CAPABILITIES);
        all.filter(|needed| !self.kvm.check_extension(needed.cap)).copied().collect()
    }

    /// The most vCPUs that a VM can have.
    pub fn max_vcpus(&self) -> usize {
        self.kvm.get_max_vcpus()
    }

    /// Refuses a host that lacks something.
    pub(super) fn check(&self) -> HalResult {
        let missing = self.missing_capabilities();
        if missing.is_empty() {
            return Ok(());
        }
        let names: Vec<_> =
            missing.iter().map(|cap| format!("{} (Linux {})", cap.name, cap.since)).collect();
        Err(HalError::host_cannot(format!("run guests: its KVM lacks {}", names.join(", ")))
            .hint("Use a newer host kernel; `axvmm doctor` tells more."))
    }
}

/// The device file to open.
fn device() -> PathBuf {
    env::var_os(DEVICE_VARIABLE).unwrap_or_else(|| "/dev/kvm".into()).into()
}
