//! The guest's memory for a server that does not map it: it asks by messages.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use zerocopy::{FromBytes, IntoBytes};

use super::wire::{Command, DmaAccess, MOST_DATA};
use crate::{
    addr::{GuestPhysAddr, MappingFlags},
    addrspace::AddrSpace,
};

/// The memory that can be asked for just now.
#[derive(Default)]
pub struct Dma(Mutex<Option<Arc<AddrSpace>>>);

impl Dma {
    /// From now on it is this memory; `None`: none.
    pub fn set(&self, memory: Option<Arc<AddrSpace>>) {
        *self.lock() = memory;
    }

    /// Does what a server asks for, and answers the reply's body.
    ///
    /// # Errors
    /// An errno, for the server.
    pub fn serve(&self, command: u16, body: &[u8]) -> Result<Vec<u8>, i32> {
        const READ: u16 = Command::DmaRead as u16;
        const WRITE: u16 = Command::DmaWrite as u16;
        let memory = self.lock().clone().ok_or(libc::EINVAL)?;
        let is_write = match command {
            READ => false,
            WRITE => true,
            _ => return Err(libc::ENOTSUP),
        };
        let (access, data) = DmaAccess::read_from_prefix(body).map_err(|_| libc::EINVAL)?;
        let DmaAccess { address, count } = access;
        let len = usize::try_from(count).ok().filter(|len| *len <= MOST_DATA);
        let (len, gpa) = (len.ok_or(libc::E2BIG)?, GuestPhysAddr(address));
        let needed = if is_write { MappingFlags::WRITE } else { MappingFlags::READ };
        if !memory.allows(gpa, count, needed) {
            return Err(libc::EFAULT);
        }
        let mut answer = access.as_bytes().to_vec();
        if is_write {
            if data.len() != len {
                return Err(libc::EINVAL);
            }
            memory.write(gpa, data).map_err(|_| libc::EFAULT)?;
        } else {
            let at = answer.len();
            answer.resize(at + len, 0);
            memory.read(gpa, &mut answer[at..]).map_err(|_| libc::EFAULT)?;
        }
        Ok(answer)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<AddrSpace>>> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addrspace::testing;

    fn asks(
        dma: &Dma,
        command: Command,
        address: u64,
        count: u64,
        data: &[u8],
    ) -> Result<Vec<u8>, i32> {
        let access = DmaAccess { address, count };
        dma.serve(command as u16, &[access.as_bytes(), data].concat())
    }

    #[test]
    fn a_server_gets_what_the_guest_has_and_no_more() {
        let dma = Dma::default();
        assert_eq!(asks(&dma, Command::DmaRead, 0, 4, &[]), Err(libc::EINVAL));
        let memory = Arc::new(testing::coherent());
        let (rw, ro) = (MappingFlags::READ | MappingFlags::WRITE, MappingFlags::READ);
        memory.map_alloc(GuestPhysAddr(0x1000), 0x2000, rw, true).unwrap();
        memory.map_alloc(GuestPhysAddr(0x3000), 0x1000, ro, true).unwrap();
        dma.set(Some(memory.clone()));
        let wrote = asks(&dma, Command::DmaWrite, 0x1ffe, 4, b"abcd").unwrap();
        assert_eq!(wrote.len(), 16);
        let read = asks(&dma, Command::DmaRead, 0x1ffd, 6, &[]).unwrap();
        assert_eq!(&read[16..], b"\0abcd\0");
        for (command, address, count, data, errno) in [
            (Command::DmaRead, 0xfff, 2, &b""[..], libc::EFAULT),
            (Command::DmaRead, 0x3fff, 2, b"", libc::EFAULT),
            (Command::DmaRead, u64::MAX, 2, b"", libc::EFAULT),
            (Command::DmaRead, 0x1000, u64::MAX, b"", libc::E2BIG),
            (Command::DmaRead, 0x1000, MOST_DATA as u64 + 1, b"", libc::E2BIG),
            (Command::DmaWrite, 0x1000, 4, b"abc", libc::EINVAL),
            (Command::DmaWrite, 0x3000, 1, b"a", libc::EFAULT),
            (Command::DmaWrite, 0x2fff, 2, b"ab", libc::EFAULT),
            (Command::DeviceReset, 0x1000, 1, b"", libc::ENOTSUP),
        ] {
            assert_eq!(
                asks(&dma, command, address, count, data),
                Err(errno),
                "{command:?} {address:#x}"
            );
        }
        assert_eq!(dma.serve(Command::DmaRead as u16, &[0; 15]), Err(libc::EINVAL));
    }
}
