//! What outlasts a device: another is made when the guest reboots, and finds here what its
//! predecessor has left.

use std::{fmt, sync::Arc};

use parking_lot::{Mutex, MutexGuard};

/// A place in a device's configuration for what the device leaves there. It says nothing of what the
/// device is: all of them are equal.
pub struct Kept<T>(Arc<Mutex<Option<Arc<T>>>>);

impl<T> Kept<T> {
    /// What is kept, if anything, which nobody else changes meanwhile.
    pub fn lock(&self) -> MutexGuard<'_, Option<Arc<T>>> {
        self.0.lock()
    }
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> PartialEq for Kept<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> Eq for Kept<T> {}

impl<T> fmt::Debug for Kept<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}
