//! The `kvm_run` page of a vCPU: its unions, read and written where the exit reason says that they
//! are valid (api.rst, 5).

use kvm_bindings::{
    KVM_EXIT_IO_IN, KVM_INTERNAL_ERROR_EMULATION, kvm_run,
    kvm_run__bindgen_ty_1__bindgen_ty_4 as kvm_io,
};

use crate::{addr::AccessWidth, hal::StopCause};

/// A port access as `kvm_run` describes it.
#[derive(Clone, Copy)]
pub struct Io {
    pub port: u16,
    pub is_read: bool,
    /// Bytes of one element.
    pub size: u8,
    /// How many elements: more than 1 for string instructions.
    pub count: u32,
    /// Where the elements stand, from the start of the page.
    pub data_offset: u64,
}

/// Reads the port access. Only after `KVM_EXIT_IO`.
pub fn io(run: &kvm_run) -> Io {
    // SAFETY: plain numbers, for which every bit pattern is a value; the caller saw KVM_EXIT_IO,
    // which makes this the union's member.
    let io: kvm_io = unsafe { run.__bindgen_anon_1.io };
    Io {
        port: io.port,
        is_read: u32::from(io.direction) == KVM_EXIT_IO_IN,
        size: io.size,
        count: io.count,
        data_offset: io.data_offset,
    }
}

/// Reads one element of a port access.
pub fn io_element(run: &mut kvm_run, io: &Io, index: u32) -> u64 {
    let mut bytes = [0; 8];
    let size = usize::from(io.size).min(bytes.len());
    // SAFETY: KVM keeps `count` elements of `size` bytes at `data_offset` from the start of the
    // mapping that `run` is the beginning of (api.rst, KVM_EXIT_IO), and `index` is below `count`;
    // `bytes` has room for `size`.
    unsafe {
        let element = element(run, io, index);
        std::ptr::copy_nonoverlapping(element, bytes.as_mut_ptr(), size);
    }
    u64::from_le_bytes(bytes)
}

/// Answers one element of a port read.
pub fn set_io_element(run: &mut kvm_run, io: &Io, index: u32, value: u64) {
    let bytes = value.to_le_bytes();
    let size = usize::from(io.size).min(bytes.len());
    // SAFETY: as in `io_element`, in the other direction.
    unsafe {
        let element = element(run, io, index);
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), element, size);
    }
}

/// # Safety
/// `io` must come from this `run`'s last exit, and `index` must be below `io.count`.
unsafe fn element(run: &mut kvm_run, io: &Io, index: u32) -> *mut u8 {
    let offset = io.data_offset as usize + index as usize * usize::from(io.size);
    // SAFETY: by the caller's promise the element lies in the mapping.
    unsafe { std::ptr::from_mut(run).cast::<u8>().add(offset) }
}

/// Reads `width` bytes at `offset` of an MMIO write's data. Only after `KVM_EXIT_MMIO`.
pub fn mmio_data(run: &kvm_run, offset: usize, width: AccessWidth) -> u64 {
    // SAFETY: plain bytes; the caller saw KVM_EXIT_MMIO.
    let data = unsafe { run.__bindgen_anon_1.mmio.data };
    let bytes = data.get(offset..offset + width.size()).unwrap_or(&[]);
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Answers `width` bytes at `offset` of an MMIO read. Only after `KVM_EXIT_MMIO`.
pub fn set_mmio_data(run: &mut kvm_run, offset: usize, width: AccessWidth, value: u64) {
    // SAFETY: plain bytes; the caller saw KVM_EXIT_MMIO.
    let data = unsafe { &mut run.__bindgen_anon_1.mmio.data };
    if let Some(bytes) = data.get_mut(offset..offset + width.size()) {
        bytes.copy_from_slice(&value.to_le_bytes()[..width.size()]);
    }
}

/// The address, length and direction of an MMIO access. Only after `KVM_EXIT_MMIO`.
pub fn mmio(run: &kvm_run) -> (u64, usize, bool) {
    // SAFETY: plain numbers; the caller saw KVM_EXIT_MMIO.
    let mmio = unsafe { run.__bindgen_anon_1.mmio };
    (mmio.phys_addr, (mmio.len as usize).min(mmio.data.len()), mmio.is_write == 0)
}

/// What KVM says of an internal error. Only after `KVM_EXIT_INTERNAL_ERROR`.
pub fn internal_error(run: &kvm_run) -> StopCause {
    // SAFETY: plain numbers; the caller saw KVM_EXIT_INTERNAL_ERROR.
    let error = unsafe { run.__bindgen_anon_1.internal };
    let data = &error.data[..(error.ndata as usize).min(error.data.len())];
    let unemulated = error.suberror == KVM_INTERNAL_ERROR_EMULATION;
    let what = match error.suberror {
        KVM_INTERNAL_ERROR_EMULATION => "KVM could not emulate an instruction",
        2 => "exceptions arrived at the same time in a way KVM cannot deliver",
        3 => "an event could not be delivered",
        4 => "the hardware exited for a reason that KVM does not know",
        _ => "of a kind unknown here",
    };
    // With KVM_INTERNAL_ERROR_EMULATION the data may hold the instruction: flags (bit 0), then a
    // byte of length and 15 bytes.
    let instruction = match data {
        [flags, rest @ ..] if unemulated && flags & 1 == 1 => {
            let bytes: Vec<u8> = rest.iter().flat_map(|word| word.to_le_bytes()).collect();
            let size = usize::from(bytes.first().copied().unwrap_or(0)).min(15);
            bytes.get(1..1 + size).map(hex).map(|bytes| format!(": {bytes}")).unwrap_or_default()
        }
        _ => String::new(),
    };
    let text = format!("KVM internal error {}: {what}{instruction}", error.suberror);
    if unemulated { StopCause::Unemulated(text) } else { StopCause::Failure(text) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}
