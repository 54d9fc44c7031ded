//! What the guest has open.

use std::{collections::HashMap, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use rustix::io::Errno;

use super::filesystem::{HandleId, Result};

/// Open things by number, as many as are allowed.
#[derive(Debug)]
pub struct Handles<T> {
    open: Mutex<Open<T>>,
    most: usize,
}

#[derive(Debug)]
struct Open<T> {
    next: HandleId,
    by_id: HashMap<HandleId, Arc<T>>,
}

impl<T> Handles<T> {
    /// With room for `most`.
    pub fn new(most: usize) -> Self {
        Self { open: Mutex::new(Open { next: 1, by_id: HashMap::new() }), most }
    }

    /// How many there may be.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Adds one. ENFILE: there are too many.
    pub fn add(&self, opened: T) -> Result<HandleId> {
        let mut open = self.lock();
        if open.by_id.len() >= self.most {
            return Err(Errno::NFILE);
        }
        let id = open.next;
        open.next += 1;
        open.by_id.insert(id, Arc::new(opened));
        Ok(id)
    }

    /// EBADF: there is none of this number.
    pub fn get(&self, id: HandleId) -> Result<Arc<T>> {
        self.lock().by_id.get(&id).cloned().ok_or(Errno::BADF)
    }

    /// It goes away once nobody works with it any more.
    pub fn remove(&self, id: HandleId) {
        let removed = self.lock().by_id.remove(&id);
        drop(removed);
    }

    /// All go.
    pub fn clear(&self) {
        let all = std::mem::take(&mut self.lock().by_id);
        drop(all);
    }

    fn lock(&self) -> MutexGuard<'_, Open<T>> {
        self.open.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_never_used_twice_and_there_are_only_so_many() {
        let handles = Handles::new(2);
        let first = handles.add('a').unwrap();
        let second = handles.add('b').unwrap();
        assert_eq!(handles.add('c'), Err(Errno::NFILE));
        handles.remove(first);
        assert_eq!(handles.get(first), Err(Errno::BADF));
        let third = handles.add('c').unwrap();
        assert!(third != first && third != second);
        assert_eq!(handles.get(third).as_deref(), Ok(&'c'));
        handles.clear();
        assert_eq!(handles.get(third), Err(Errno::BADF));
    }
}
