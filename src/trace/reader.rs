//! Reading a recording: all exits of all vCPUs, in the order of time.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use zerocopy::IntoBytes;

use super::{
    Error,
    format::{
        About, AboutVm, CHUNK, CHUNK_MAGIC, ChunkHeader, FileHeader, MAGIC, MOST_ABOUT, RECORDS,
        Record, VERSION,
    },
};

/// A recording that can be read, any number of times.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    file: File,
    about: About,
    /// Of each VM and vCPU, its chunks in their order.
    lanes: BTreeMap<(usize, usize), Vec<Chunk>>,
}

#[derive(Clone, Copy, Debug)]
struct Chunk {
    /// Where it begins in the file.
    at: u64,
    header: ChunkHeader,
}

/// An exit of some vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The VM's place in [`About::vms`].
    pub vm: usize,
    /// Its vCPU.
    pub vcpu: usize,
    /// The exit.
    pub record: Record,
}

impl Reader {
    /// Opens a recording; it may still be growing.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Io { path: path.to_owned(), source };
        let damaged = |what: String| Error::Damaged { path: path.to_owned(), what };
        let mut file = File::open(path).map_err(failed)?;
        let mut header = [0; size_of::<FileHeader>()];
        file.read_exact(&mut header).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::NoRecording { path: path.to_owned() },
            _ => failed(error),
        })?;
        let header: FileHeader = zerocopy::transmute!(header);
        if header.magic != MAGIC {
            return Err(Error::NoRecording { path: path.to_owned() });
        }
        let found = header.version.get();
        if found != VERSION {
            return Err(Error::Version { path: path.to_owned(), found });
        }
        let length = header.about.get() as usize;
        if length > MOST_ABOUT {
            return Err(damaged(format!("{length} bytes about its guests")));
        }
        let mut text = vec![0; length];
        file.read_exact(&mut text).map_err(failed)?;
        let about: About = serde_json::from_slice(&text).map_err(|it| damaged(it.to_string()))?;
        let first = (size_of::<FileHeader>() + length).next_multiple_of(CHUNK) as u64;
        let mut reader = Self { path: path.to_owned(), file, about, lanes: BTreeMap::new() };
        reader.find_chunks(first)?;
        Ok(reader)
    }

    fn find_chunks(&mut self, first: u64) -> Result<(), Error> {
        let mut found: BTreeMap<(usize, usize), BTreeMap<u64, Chunk>> = BTreeMap::new();
        for at in (first..).step_by(CHUNK) {
            let Some(header) = self.chunk_header(at)? else { break };
            // A place that was never filled.
            if header.magic != CHUNK_MAGIC {
                continue;
            }
            let (vm, vcpu) = (header.vm.get().into(), header.vcpu.get().into());
            let is_known = self.about.vms.get(vm).is_some_and(|it: &AboutVm| vcpu < it.vcpus);
            if !is_known || header.records.get() as usize > RECORDS {
                let what = format!("at {at:#x} there is no chunk of any vCPU's");
                return Err(Error::Damaged { path: self.path.clone(), what });
            }
            found
                .entry((vm, vcpu))
                .or_default()
                .insert(header.sequence.get(), Chunk { at, header });
        }
        let in_order = found.into_iter().map(|(lane, it)| (lane, it.into_values().collect()));
        self.lanes = in_order.collect();
        Ok(())
    }

    /// `None` behind the last one.
    fn chunk_header(&self, at: u64) -> Result<Option<ChunkHeader>, Error> {
        let mut header = [0; size_of::<ChunkHeader>()];
        match self.file.read_exact_at(&mut header, at) {
            Ok(()) => Ok(Some(zerocopy::transmute!(header))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(source) => Err(self.failed(source)),
        }
    }

    /// The records of a chunk; none if another has taken its place meanwhile.
    fn records(&self, chunk: Chunk) -> Result<VecDeque<Record>, Error> {
        let mut records = vec![Record::started(0); chunk.header.records.get() as usize];
        let first = chunk.at + size_of::<ChunkHeader>() as u64;
        let read = self.file.read_exact_at(records.as_mut_bytes(), first);
        read.map_err(|source| self.failed(source))?;
        let now = self.chunk_header(chunk.at)?;
        let is_same = now.is_some_and(|now| now.sequence == chunk.header.sequence);
        Ok(if is_same { records.into() } else { VecDeque::new() })
    }

    /// What the run was about.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// How many records the run had that are not in the file: they made room for later ones, or the
    /// file is cut.
    pub fn lost(&self) -> u64 {
        let chunks = || self.lanes.values().flatten();
        let begun = chunks().map(|it| it.header.sequence.get().saturating_add(1)).max();
        let missing = begun.unwrap_or(0).saturating_sub(chunks().count() as u64);
        missing.saturating_mul(RECORDS as u64)
    }

    /// All exits, in the order of time.
    pub fn events(&self) -> impl Iterator<Item = Result<Event, Error>> {
        let mut lanes: Vec<Lane> = self
            .lanes
            .iter()
            .map(|(&(vm, vcpu), chunks)| Lane {
                vm,
                vcpu,
                chunks: chunks.iter().copied().collect(),
                records: VecDeque::new(),
            })
            .collect();
        let mut heap = BinaryHeap::new();
        let mut trouble = VecDeque::new();
        let refill = move |lane: &mut Lane| -> Result<Option<u64>, Error> {
            while lane.records.is_empty() {
                let Some(chunk) = lane.chunks.pop_front() else { return Ok(None) };
                lane.records = self.records(chunk)?;
            }
            Ok(lane.records.front().map(Record::time))
        };
        for (number, lane) in lanes.iter_mut().enumerate() {
            match refill(lane) {
                Ok(first) => heap.extend(first.map(|time| Reverse((time, number)))),
                Err(error) => trouble.push_back(error),
            }
        }
        std::iter::from_fn(move || {
            if let Some(error) = trouble.pop_front() {
                heap.clear();
                return Some(Err(error));
            }
            let Reverse((_, number)) = heap.pop()?;
            let lane = &mut lanes[number];
            let record = lane.records.pop_front()?;
            let event = Event { vm: lane.vm, vcpu: lane.vcpu, record };
            match refill(lane) {
                Ok(next) => heap.extend(next.map(|time| Reverse((time, number)))),
                Err(error) => trouble.push_back(error),
            }
            Some(Ok(event))
        })
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Io { path: self.path.clone(), source }
    }
}

struct Lane {
    vm: usize,
    vcpu: usize,
    chunks: VecDeque<Chunk>,
    records: VecDeque<Record>,
}

impl Event {
    /// The device that took it, by name.
    pub fn device<'a>(&self, about: &'a About) -> Option<&'a str> {
        let window = about.vms.get(self.vm)?.windows.get(self.record.window()?)?;
        Some(&window.device)
    }
}
