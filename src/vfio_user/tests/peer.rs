//! Our client and a server that others have written: the crate `vfio_user`'s.

use std::{fs::File, io, os::unix::fs::FileExt};

use parking_lot::Mutex;
use vfio_user::{DmaMapFlags, DmaUnmapFlags, IrqInfo as PeerIrq, Server as Peer, ServerBackend};

use super::*;
use crate::{
    addr::{AccessWidth, GuestPhysAddr, MappingFlags},
    addrspace::testing,
    vfio_user::{
        Server,
        attached::{Attached, Signal},
        link::Link,
        relay::eventfd,
    },
};

/// What is written to its register comes back added up, and goes into memory, with an interrupt.
struct Adder {
    sum: u32,
    memory: Vec<(u64, u64, File)>,
    irqs: Vec<File>,
    resets: &'static Mutex<u32>,
}

impl ServerBackend for Adder {
    fn region_read(&mut self, _: u32, _: u64, data: &mut [u8]) -> io::Result<()> {
        data.copy_from_slice(&self.sum.to_le_bytes()[..data.len()]);
        Ok(())
    }

    fn region_write(&mut self, _: u32, _: u64, data: &[u8]) -> io::Result<()> {
        self.sum += u32::from_le_bytes(data.try_into().unwrap());
        let (_, offset, file) = &self.memory[0];
        file.write_all_at(&self.sum.to_le_bytes(), *offset)?;
        io::Write::write_all(&mut self.irqs[0], &1_u64.to_ne_bytes())
    }

    fn dma_map(
        &mut self,
        _: DmaMapFlags,
        offset: u64,
        address: u64,
        _: u64,
        fd: Option<File>,
    ) -> io::Result<()> {
        self.memory.push((address, offset, fd.unwrap()));
        Ok(())
    }

    fn dma_unmap(&mut self, _: DmaUnmapFlags, address: u64, _: u64) -> io::Result<()> {
        self.memory.retain(|(at, ..)| *at != address);
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        self.sum = 0;
        *self.resets.lock() += 1;
        Ok(())
    }

    fn set_irqs(&mut self, _: u32, _: u32, _: u32, _: u32, fds: Vec<File>) -> io::Result<()> {
        self.irqs = fds;
        Ok(())
    }
}

#[test]
fn a_server_of_the_crate_vfio_user_is_a_device() {
    static RESETS: Mutex<u32> = Mutex::new(0);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let irqs = (0..5).map(|index| PeerIrq { index, flags: 1, count: u32::from(index == 2) });
    let mut regions = Vec::new();
    for index in 0..9 {
        let mut region = vfio_user::ServerRegion {
            region_info: Default::default(),
            sparse_areas: Vec::new(),
            mmap_fd: None,
        };
        region.region_info.argsz = 32;
        region.region_info.index = index;
        region.region_info.size = if index == 0 { 4096 } else { 0 };
        regions.push(region);
    }
    let peer = Peer::new(&path, true, irqs.collect(), regions).unwrap();
    let server = thread::spawn(move || {
        let mut adder = Adder { sum: 0, memory: Vec::new(), irqs: Vec::new(), resets: &RESETS };
        let _ = peer.run(&mut adder);
        adder.memory.len()
    });
    let link = Link::new("adder", &Server::Socket(path)).unwrap();
    assert_eq!(link.description().region(0), 4096);
    let memory = std::sync::Arc::new(testing::empty());
    let all = MappingFlags::READ | MappingFlags::WRITE;
    memory.map_shared(GuestPhysAddr(0x10_0000), 0x4000, all).unwrap();
    let signal = std::sync::Arc::new(eventfd().unwrap());
    let irqs = Some((2, vec![signal.clone() as Signal]));
    let machine = link.attach(Attached { memory: memory.clone(), irqs, command: None });
    for (value, sum) in [(5, 5), (7, 12)] {
        link.write(0, 0, AccessWidth::Dword, value).unwrap();
        assert_eq!(signal.read(), Ok(1));
        assert_eq!(link.read(0, 0, AccessWidth::Dword), Ok(sum));
        assert_eq!(memory.read_obj::<u32>(GuestPhysAddr(0x10_0000)).unwrap(), sum as u32);
    }
    link.detach(machine);
    assert_eq!(link.read(0, 0, AccessWidth::Dword), Ok(0), "it has been reset");
    assert_eq!(*RESETS.lock(), 2);
    drop(link);
    assert_eq!(server.join().unwrap(), 0, "the memory has been taken back");
}
