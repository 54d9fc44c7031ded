//! What kind of device something is, in AxVisor's numbering.

use std::fmt;

use serde::Serialize;

/// AxVisor's kinds of emulated devices, by the number that `emu_type` has in its TOML files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[repr(u8)]
pub enum EmuDeviceType {
    /// A device that none of the other kinds covers.
    #[default]
    Dummy = 0x00,
    /// An interrupt controller.
    InterruptController = 0x01,
    /// A serial port or console.
    Console = 0x02,
    /// QEMU's fw_cfg.
    FwCfg = 0x03,
    /// A window for inter-VM channels.
    IVCChannel = 0x0a,
    /// A GICv3 redistributor of the host's, in part.
    GPPTRedistributor = 0x20,
    /// A GICv3 distributor of the host's, in part.
    GPPTDistributor = 0x21,
    /// A GICv3 ITS of the host's, in part.
    GPPTITS = 0x22,
    /// An I/O APIC.
    X86IoApic = 0x23,
    /// An 8254.
    X86Pit = 0x24,
    /// A PLIC of the host's, in part.
    PPPTGlobal = 0x30,
    /// A virtio block device.
    VirtioBlk = 0xe1,
    /// A virtio network card.
    VirtioNet = 0xe2,
    /// A virtio console.
    VirtioConsole = 0xe3,
}

impl EmuDeviceType {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 14] = [
        Self::Dummy,
        Self::InterruptController,
        Self::Console,
        Self::FwCfg,
        Self::IVCChannel,
        Self::GPPTRedistributor,
        Self::GPPTDistributor,
        Self::GPPTITS,
        Self::X86IoApic,
        Self::X86Pit,
        Self::PPPTGlobal,
        Self::VirtioBlk,
        Self::VirtioNet,
        Self::VirtioConsole,
    ];

    /// The kind with this number.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| u64::from(*kind as u8) == number)
    }
}

impl fmt::Display for EmuDeviceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dummy => "meta device",
            Self::InterruptController => "interrupt controller",
            Self::Console => "console",
            Self::FwCfg => "fw_cfg",
            Self::IVCChannel => "ivc channel",
            Self::GPPTRedistributor => "gic partial passthrough redistributor",
            Self::GPPTDistributor => "gic partial passthrough distributor",
            Self::GPPTITS => "gic partial passthrough its",
            Self::X86IoApic => "x86 io apic",
            Self::X86Pit => "x86 pit",
            Self::PPPTGlobal => "plic partial passthrough global",
            Self::VirtioBlk => "virtio block",
            Self::VirtioNet => "virtio net",
            Self::VirtioConsole => "virtio console",
        })
    }
}
