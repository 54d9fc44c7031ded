//! What is in a directory, of both layers.

use std::ffi::CString;

use super::{OWN, Scratch, Tree};
use crate::virtio::fs::filesystem::{FileSystem, NodeId, Result};

impl Scratch {
    /// All entries of a directory but `.` and `..`.
    pub(super) fn entries(&self, tree: &Tree, dir: NodeId) -> Result<Vec<(CString, u64, u32)>> {
        let mut all = Vec::new();
        let kept = tree.nodes.get(&dir);
        if dir & OWN == 0 {
            let handle = self.lower.open_dir(dir)?;
            let listed = self.lower.read_dir(handle, 0, usize::MAX, &mut |entry| {
                let changed = kept.is_some_and(|kept| kept.children.contains_key(entry.name));
                if !changed && ![c".", c".."].contains(&entry.name) {
                    all.push((entry.name.to_owned(), entry.ino, entry.kind));
                }
                true
            });
            self.lower.close_dir(handle);
            listed?;
        }
        for (name, node) in kept.iter().flat_map(|kept| &kept.children) {
            if let Some(node) = node {
                let it = self.view(tree, *node)?;
                all.push((name.clone(), it.ino, (it.mode & libc::S_IFMT) >> 12));
            }
        }
        Ok(all)
    }
}
