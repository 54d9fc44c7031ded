//! Files as memory: the guest's accesses reach the file with no copy between.

use std::{fs::File, io, sync::Arc};

use vm_memory::{FileOffset, MmapRegion};

use super::{AddrSpace, Area, Content, Error, host_memory, page_range};
use crate::addr::{GuestPhysAddr, MappingFlags};

/// What becomes of what the guest writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileMapping {
    /// It reaches the file, which must be as large as the area.
    Shared,
    /// It lasts as long as the area. Behind the file's end there are zeros.
    Private,
}

impl AddrSpace {
    /// Makes `file`, from its beginning on, part of the guest's memory: `size` bytes at `gpa`.
    ///
    /// Nobody may shorten the file as long as this area exists: what is not there any more the guest
    /// cannot touch and go on.
    ///
    /// # Errors
    /// As [`Self::map_alloc`], a file that cannot be mapped, and one that is too short.
    pub fn map_file(
        &self,
        gpa: GuestPhysAddr,
        size: u64,
        file: Arc<File>,
        mapping: FileMapping,
    ) -> Result<(), Error> {
        let range = page_range(gpa, size)?;
        let bytes = usize::try_from(size).map_err(|_| Error::BadRange { gpa, size })?;
        let failed = |source| Error::MapFile { size, source };
        let unmapped = |error| failed(host_memory::io_error(error));
        let len = file.metadata().map_err(failed)?.len().min(size);
        let region = match mapping {
            FileMapping::Shared if len < size => {
                return Err(failed(io::Error::other(format!("it ends after {len} bytes"))));
            }
            FileMapping::Shared => {
                MmapRegion::from_file(FileOffset::from_arc(file, 0), bytes).map_err(unmapped)?
            }
            FileMapping::Private => {
                let region = MmapRegion::new(bytes).map_err(unmapped)?;
                if len > 0 {
                    host_memory::map_private_file(&region, &file, len as usize).map_err(failed)?;
                }
                region
            }
        };
        let area = |region| Area::whole(range, MappingFlags::all(), region, Content::Kept);
        self.map_area(range, region, area)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::{Read, Seek, Write},
    };

    use super::*;
    use crate::addrspace::tests::{SIZE, space};

    const AT: GuestPhysAddr = GuestPhysAddr(0x1_0000_0000);

    fn file(len: u64) -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; len as usize]).unwrap();
        Arc::new(file)
    }

    fn contents(mut file: &File) -> Vec<u8> {
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn writes_reach_the_file_or_stay_as_it_is_asked_for() {
        for (mapping, reaches) in [(FileMapping::Shared, true), (FileMapping::Private, false)] {
            let ((space, _slots), file) = (space(), file(SIZE));
            space.map_file(AT, SIZE, file.clone(), mapping).unwrap();
            let mut byte = [0];
            space.read(GuestPhysAddr(AT.0 + SIZE - 1), &mut byte).unwrap();
            assert_eq!(byte, [7]);
            space.write(AT, &[9]).unwrap();
            space.read(AT, &mut byte).unwrap();
            assert_eq!(byte, [9]);
            assert_eq!(contents(&file)[0] == 9, reaches, "{mapping:?}");
        }
    }

    #[test]
    fn behind_the_end_of_a_private_file_there_are_zeros_to_write_to() {
        for len in [0, 1, 4095, 4096, 4097, SIZE - 1] {
            let ((space, _slots), file) = (space(), file(len));
            space.map_file(AT, SIZE, file.clone(), FileMapping::Private).unwrap();
            let mut bytes = vec![1; SIZE as usize];
            space.read(AT, &mut bytes).unwrap();
            let (inside, behind) = bytes.split_at(len as usize);
            assert!(inside.iter().all(|byte| *byte == 7) && behind.iter().all(|byte| *byte == 0));
            space.write(AT, &[9; SIZE as usize]).unwrap();
            assert_eq!(contents(&file), vec![7; len as usize]);
        }
    }

    #[test]
    fn files_that_cannot_be_mapped_are_errors() {
        let (space, _slots) = space();
        let error = space.map_file(AT, SIZE, file(SIZE - 1), FileMapping::Shared).unwrap_err();
        assert!(error.to_string().contains("1048576 bytes"), "{error}");
        let directory = Arc::new(File::open(std::env::temp_dir()).unwrap());
        let null = Arc::new(fs::File::options().write(true).open("/dev/null").unwrap());
        for file in [directory, null] {
            let result = space.map_file(AT, SIZE, file, FileMapping::Shared);
            assert!(matches!(result, Err(Error::MapFile { .. })), "{result:?}");
        }
        let unaligned = space.map_file(AT, SIZE + 1, file(2 * SIZE), FileMapping::Private);
        assert!(matches!(unaligned, Err(Error::BadRange { .. })));
        assert!(!space.contains(AT));
    }
}
