//! Writing a recording while guests run.
//!
//! A vCPU's records are gathered in its own memory, and written when they fill a chunk or are asked
//! for; so an exit costs a lock that nobody else wants and 40 bytes.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Instant,
};

use parking_lot::Mutex;
use zerocopy::IntoBytes;

use super::{
    Error,
    format::{About, CHUNK, CHUNK_MAGIC, ChunkHeader, FileHeader, MAGIC, RECORDS, Record, VERSION},
};
use crate::vm::{ExitRecorder, HandledExit};

/// A file that is being recorded to.
pub struct Recorder {
    path: PathBuf,
    file: File,
    began: Instant,
    /// Where the chunks begin in the file, in bytes.
    chunks_at: u64,
    places: Mutex<Places>,
    /// It could not be written to once, and is let be: why.
    failure: OnceLock<String>,
}

/// Where chunks go.
struct Places {
    /// How many chunks there have been.
    begun: u64,
    /// The place to look at next.
    next: u64,
    /// How many places there are, if that is bounded.
    most: Option<u64>,
    /// Those with chunks that are not full yet.
    open: Vec<u64>,
}

/// What records the exits of one VM.
pub struct VmRecorder {
    recorder: Arc<Recorder>,
    vm: u16,
    lanes: Box<[Mutex<Lane>]>,
}

/// A vCPU's records.
#[derive(Default)]
struct Lane {
    records: Vec<Record>,
    /// How many of them are in the file already.
    written: usize,
    /// The chunk's place, and its number among all.
    chunk: Option<(u64, u64)>,
}

impl Recorder {
    /// Makes the file, which takes the place of what is there. Of a run whose records would take more
    /// than `most` bytes it has the latest.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path, about: &About, most: Option<u64>) -> Result<Arc<Self>, Error> {
        let failed = |source| Error::Io { path: path.to_owned(), source };
        let text = serde_json::to_vec(about).map_err(|error| failed(error.into()))?;
        let header = FileHeader {
            magic: MAGIC,
            version: VERSION.into(),
            about: u32::try_from(text.len())
                .map_err(|_| failed(io::ErrorKind::FileTooLarge.into()))?
                .into(),
        };
        let file = File::create(path).map_err(failed)?;
        let head = [header.as_bytes(), &text].concat();
        file.write_all_at(&head, 0).map_err(failed)?;
        // A vCPU that does little keeps its place while others go round.
        let lanes: usize = about.vms.iter().map(|vm| vm.vcpus).sum();
        let least = 2 * lanes as u64 + 1;
        Ok(Arc::new(Self {
            path: path.to_owned(),
            file,
            began: Instant::now(),
            chunks_at: head.len().next_multiple_of(CHUNK) as u64,
            places: Mutex::new(Places {
                begun: 0,
                next: 0,
                most: most.map(|most| (most / CHUNK as u64).max(least)),
                open: Vec::new(),
            }),
            failure: OnceLock::new(),
        }))
    }

    /// Why it could not be written to, if so: it has what came before.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// What records the VM at this place in [`About::vms`].
    pub fn for_vm(self: &Arc<Self>, vm: usize, vcpus: usize) -> VmRecorder {
        VmRecorder {
            recorder: self.clone(),
            vm: vm as u16,
            lanes: (0..vcpus).map(|_| Mutex::default()).collect(),
        }
    }

    fn begin_chunk(&self) -> (u64, u64) {
        let mut places = self.places.lock();
        let sequence = places.begun;
        places.begun += 1;
        let place = loop {
            let place = places.most.map_or(places.next, |most| places.next % most);
            places.next += 1;
            if !places.open.contains(&place) {
                break place;
            }
        };
        places.open.push(place);
        (place, sequence)
    }

    fn end_chunk(&self, place: u64) {
        self.places.lock().open.retain(|open| *open != place);
    }

    /// Brings a lane's records into the file.
    fn write(&self, lane: &mut Lane, vm: u16, vcpu: usize) -> io::Result<()> {
        if lane.written == lane.records.len() {
            return Ok(());
        }
        let (place, sequence) = *lane.chunk.get_or_insert_with(|| self.begin_chunk());
        let at = self.chunks_at + place * CHUNK as u64;
        let header = ChunkHeader {
            magic: CHUNK_MAGIC,
            vm: vm.into(),
            vcpu: (vcpu as u16).into(),
            sequence: sequence.into(),
            records: (lane.records.len() as u32).into(),
            unused: [0; 20],
        };
        let first = (size_of::<ChunkHeader>() + lane.written * size_of::<Record>()) as u64;
        // In this order, so that who reads meanwhile finds no records that are not there; but an older
        // chunk's header must be gone before.
        if lane.written == 0 {
            let none = ChunkHeader { records: 0.into(), ..header };
            self.file.write_all_at(none.as_bytes(), at)?;
        }
        self.file.write_all_at(lane.records[lane.written..].as_bytes(), at + first)?;
        self.file.write_all_at(header.as_bytes(), at)?;
        lane.written = lane.records.len();
        Ok(())
    }
}

impl VmRecorder {
    /// Adds a record.
    pub fn push(&self, vcpu: usize, record: Record) {
        let Some(lane) = self.lanes.get(vcpu) else { return };
        let mut lane = lane.lock();
        if lane.records.capacity() == 0 {
            lane.records.reserve_exact(RECORDS);
        }
        lane.records.push(record);
        if lane.records.len() == RECORDS {
            self.settle(&mut lane, vcpu);
            if let Some((place, _)) = lane.chunk.take() {
                self.recorder.end_chunk(place);
            }
            lane.records.clear();
            lane.written = 0;
        }
    }

    /// The machine begins to run.
    pub fn started(&self) {
        let time = self.recorder.began.elapsed().as_nanos() as u64;
        self.push(0, Record::started(time));
    }

    /// Brings all records into the file.
    pub fn flush(&self) {
        for (vcpu, lane) in self.lanes.iter().enumerate() {
            self.settle(&mut lane.lock(), vcpu);
        }
    }

    fn settle(&self, lane: &mut Lane, vcpu: usize) {
        let recorder = &*self.recorder;
        if recorder.failure.get().is_some() {
            return;
        }
        if let Err(error) = recorder.write(lane, self.vm, vcpu) {
            let failure = format!("{}: {error}; the recording ends here", recorder.path.display());
            if recorder.failure.set(failure.clone()).is_ok() {
                log::warn!("{failure}");
            }
        }
    }
}

impl ExitRecorder for VmRecorder {
    fn record(&self, exit: &HandledExit<'_>) {
        let time = exit.begun.saturating_duration_since(self.recorder.began).as_nanos() as u64;
        let took = exit.took.as_nanos() as u64;
        let record = Record::new(exit.reason, time, exit.pc, exit.answer, took, exit.window);
        self.push(exit.vcpu, record);
    }
}

impl Drop for VmRecorder {
    fn drop(&mut self) {
        self.flush();
    }
}
