//! A device of one's own in a process of its own, by the crate `vfio_user`: it adds up what is written
//! to it, to be used by
//!
//! ```toml
//! [[devices.vfio_user]]
//! command = ["./vfio_user_adder", "{socket}"]
//! ```
//!
//! `vfio_user_adder SOCKET` listens there, serves one guest, and ends with it. With a path of its own,
//! and `socket = "…"` instead of the command, it may be started by hand.

use std::{env, fs::File, io, path::Path, process::ExitCode};

use vfio_user::{DmaMapFlags, DmaUnmapFlags, IrqInfo, Server, ServerBackend, ServerRegion};

/// Registers: what it is, and the sum.
const ID: u64 = 0;
const SUM: u64 = 4;

/// Regions of a PCI device (linux/vfio.h): BAR 0 has the registers, BAR 1 MSI-X.
const BAR0: u32 = 0;
const BAR1: u32 = 1;
const CONFIG: u32 = 7;
const REGIONS: u32 = 9;
const MSIX: u32 = 2;
const IRQS: u32 = 5;

/// Bit 0 of a region's flags: it can be read; bit 1: written.
const READ_WRITE: u32 = 3;
/// Bit 0 of an interrupt's flags: it can be an eventfd.
const BY_EVENTFD: u32 = 1;

struct Adder {
    sum: u32,
    config: [u8; 256],
    interrupt: Option<File>,
}

impl Adder {
    fn new() -> Self {
        let mut config = [0; 256];
        let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x00, &[0x34, 0x12, 0x78, 0x56]);
        // There are capabilities; the class is none that has a name.
        put(0x06, &[0x10]);
        put(0x0b, &[0xff]);
        put(0x34, &[0x40]);
        // MSI-X with one vector, in BAR 1: the table, and the pending bits in its second half.
        put(0x40, &[0x11, 0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0]);
        Self { sum: 0, config, interrupt: None }
    }
}

impl ServerBackend for Adder {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        let register = match (region, offset) {
            (CONFIG, at) => {
                let bytes = self.config.iter().skip(at as usize).chain(std::iter::repeat(&0));
                data.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
                return Ok(());
            }
            (BAR0, ID) => 0x6164_6472_u32,
            (BAR0, SUM) => self.sum,
            _ => 0,
        };
        let bytes = register.to_le_bytes().into_iter().chain(std::iter::repeat(0));
        data.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        if let (BAR0, SUM, Ok(bytes)) = (region, offset, <[u8; 4]>::try_from(data)) {
            self.sum = self.sum.wrapping_add(u32::from_le_bytes(bytes));
            if let Some(interrupt) = &mut self.interrupt {
                io::Write::write_all(interrupt, &1_u64.to_ne_bytes())?;
            }
        }
        Ok(())
    }

    fn dma_map(
        &mut self,
        _: DmaMapFlags,
        _: u64,
        _: u64,
        _: u64,
        _: Option<File>,
    ) -> io::Result<()> {
        Ok(())
    }

    fn dma_unmap(&mut self, _: DmaUnmapFlags, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        self.sum = 0;
        Ok(())
    }

    fn set_irqs(&mut self, _: u32, _: u32, _: u32, _: u32, mut fds: Vec<File>) -> io::Result<()> {
        self.interrupt = fds.pop();
        Ok(())
    }
}

pub fn serve(path: &Path) -> Result<(), vfio_user::Error> {
    let irq = |index| IrqInfo { index, flags: BY_EVENTFD, count: u32::from(index == MSIX) };
    let region = |index| {
        let mut region = ServerRegion {
            region_info: Default::default(),
            sparse_areas: Vec::new(),
            mmap_fd: None,
        };
        region.region_info.argsz = 32;
        region.region_info.flags = READ_WRITE;
        region.region_info.index = index;
        region.region_info.size = match index {
            BAR0 | BAR1 => 4096,
            CONFIG => 256,
            _ => 0,
        };
        region
    };
    let (irqs, regions) = ((0..IRQS).map(irq), (0..REGIONS).map(region));
    Server::new(path, true, irqs.collect(), regions.collect())?.run(&mut Adder::new())
}

fn main() -> ExitCode {
    let Some(path) = env::args_os().nth(1) else {
        eprintln!("usage: vfio_user_adder SOCKET");
        return ExitCode::from(2);
    };
    match serve(Path::new(&path)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vfio_user_adder: {error}");
            ExitCode::FAILURE
        }
    }
}
