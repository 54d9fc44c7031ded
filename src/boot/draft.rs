//! A plan in the making.

use std::sync::Arc;

use crate::addr::GuestPhysAddr;

use super::{
    Placed, Segment, Structure,
    error::{Error, SpaceError},
    file::ImageSource,
    space::Space,
};

/// What a loader puts together before it knows the whole plan.
#[derive(Clone, Debug)]
pub struct Draft {
    pub space: Space,
    pub segments: Vec<Segment>,
    pub structures: Vec<Structure>,
    pub notes: Vec<String>,
}

impl Draft {
    pub fn new(space: Space) -> Self {
        Self { space, segments: Vec::new(), structures: Vec::new(), notes: Vec::new() }
    }

    /// `size` bytes at `gpa`, the first `file_size` of them from `source` at `offset`: claims the
    /// memory.
    pub fn segment(
        &mut self,
        what: impl Into<String>,
        source: &ImageSource,
        (offset, file_size): (u64, u64),
        (gpa, size): (u64, u64),
    ) -> Result<(), Error> {
        let what = what.into();
        self.space.claim(&what, gpa, size).map_err(|error| space_error(source, error))?;
        self.claimed_segment(what, source, (offset, file_size), (gpa, size));
        Ok(())
    }

    /// The same in memory that was claimed before.
    pub fn claimed_segment(
        &mut self,
        what: impl Into<String>,
        source: &ImageSource,
        (offset, file_size): (u64, u64),
        (gpa, size): (u64, u64),
    ) {
        let file = Arc::clone(&source.file);
        let gpa = GuestPhysAddr(gpa);
        self.segments.push(Segment { what: what.into(), gpa, size, file_size, file, offset });
    }

    /// A whole file: at `load_addr` if that is given, else at the highest free pages of `window`.
    pub fn whole_file(
        &mut self,
        what: &str,
        source: &ImageSource,
        load_addr: Option<GuestPhysAddr>,
        window: (u64, u64),
    ) -> Result<Placed, Error> {
        let placed = match load_addr {
            Some(gpa) if gpa.0.saturating_add(source.len) > window.1 => {
                return Err(Error::Space {
                    role: source.role,
                    path: source.path.clone(),
                    source: SpaceError::TooHigh {
                        what: what.to_owned(),
                        gpa: gpa.0,
                        size: source.len,
                        below: window.1,
                    },
                });
            }
            Some(gpa) => self.space.claim(what, gpa.0, source.len).map(|()| gpa.0),
            None => self.space.take_high(what, source.len, 4096, window),
        };
        let gpa = placed.map_err(|error| space_error(source, error))?;
        self.claimed_segment(what, source, (0, source.len), (gpa, source.len));
        Ok(Placed { gpa: GuestPhysAddr(gpa), size: source.len })
    }

    /// Room for a structure that `load` writes, in the lowest place of `window`.
    pub fn structure(
        &mut self,
        what: &'static str,
        size: u64,
        align: u64,
        window: (u64, u64),
    ) -> Result<GuestPhysAddr, Error> {
        let gpa = self.space.take_low(what, size, align, window).map_err(Error::Structures)?;
        self.structures.push(Structure { what, gpa: GuestPhysAddr(gpa), size });
        Ok(GuestPhysAddr(gpa))
    }
}

pub fn space_error(of: &ImageSource, source: SpaceError) -> Error {
    Error::Space { role: of.role, path: of.path.clone(), source }
}
