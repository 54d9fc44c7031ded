//! From a tree to a blob.

use vm_fdt::{Error, FdtReserveEntry, FdtWriter};

use super::{Node, Tree};

impl Tree {
    /// The tree as a blob; fails for names that a tree cannot have.
    pub fn to_blob(&self) -> Result<Vec<u8>, Error> {
        let reserved: Result<Vec<_>, _> =
            self.reserved.iter().map(|(at, size)| FdtReserveEntry::new(*at, *size)).collect();
        let mut writer = FdtWriter::new_with_mem_reserv(&reserved?)?;
        writer.set_boot_cpuid_phys(self.boot_cpu);
        self.root.write(&mut writer)?;
        writer.finish()
    }
}

impl Node {
    fn write(&self, writer: &mut FdtWriter) -> Result<(), Error> {
        let node = writer.begin_node(&self.name)?;
        for (name, value) in &self.properties {
            writer.property(name, value)?;
        }
        self.children.iter().try_for_each(|child| child.write(writer))?;
        writer.end_node(node)
    }
}
