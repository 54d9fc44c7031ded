//! The size of the terminal that a command runs in.

use std::{fmt, sync::Arc};

use parking_lot::{Condvar, Mutex, MutexGuard};
use serde::{Serialize, Serializer};

/// A terminal's size, for whoever has the terminal and for whoever is told of it.
#[derive(Clone)]
pub struct Window(Arc<(Mutex<State>, Condvar)>);

struct State {
    rows: u16,
    columns: u16,
    /// Nobody is to wait.
    hurry: bool,
}

impl Window {
    /// One of this size; 0: that is not known.
    pub fn new(rows: u16, columns: u16) -> Self {
        let state = State { rows, columns, hurry: false };
        Self(Arc::new((Mutex::new(state), Condvar::new())))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.0.lock()
    }

    /// Its rows and columns.
    pub fn size(&self) -> (u16, u16) {
        let state = self.lock();
        (state.rows, state.columns)
    }

    /// It has another size.
    pub fn resize(&self, rows: u16, columns: u16) {
        let mut state = self.lock();
        (state.rows, state.columns) = (rows, columns);
        self.0.1.notify_all();
    }

    /// Sends those away who wait, until it is taken back.
    pub(super) fn hurry(&self, on: bool) {
        self.lock().hurry = on;
        self.0.1.notify_all();
    }

    /// Waits until the size is another one than this. `None`: nobody is to wait.
    pub(super) fn size_after(&self, told: (u16, u16)) -> Option<(u16, u16)> {
        let is_same = |state: &mut State| !state.hurry && (state.rows, state.columns) == told;
        let mut state = self.lock();
        self.0.1.wait_while(&mut state, is_same);
        (!state.hurry).then_some((state.rows, state.columns))
    }
}

impl PartialEq for Window {
    fn eq(&self, other: &Self) -> bool {
        self.size() == other.size()
    }
}

impl Eq for Window {}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Window").field(&self.size()).finish()
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.size().serialize(serializer)
    }
}
