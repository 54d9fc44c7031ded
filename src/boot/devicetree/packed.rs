//! Kernels that are compressed as a whole (`Image.gz` and its like), and those that unpack
//! themselves when EFI firmware starts them (Linux' `drivers/firmware/efi/libstub/zboot-header.S`).
//! There is no firmware here, so that the host unpacks both.

use crate::{
    addr::GuestPhysAddrRange,
    boot::{
        Error, Fault, Unpacked,
        file::ImageSource,
        identify::Found,
        request::Request,
        unpack::{self, Effort, Length, Payload},
    },
    vm::config::Unpack,
};

/// Of the zboot header: where the payload is, and how large, both 32 bits wide.
const PAYLOAD_OFFSET: usize = 8;
const PAYLOAD_SIZE: usize = 12;

/// Unpacks what `found` says that the kernel's file is; it may come to as much as RAM has.
pub fn unpack(
    request: &Request<'_>,
    found: Found,
    ram: GuestPhysAddrRange,
) -> Result<(ImageSource, Unpacked), Error> {
    let source = &request.source;
    if request.config.unpack == Unpack::Guest {
        let problem = "kernel.unpack = \"guest\" cannot be had: this format is unpacked by firmware, \
                       hence by the host here";
        return Err(Error::Config { path: source.path.clone(), problem: problem.into() });
    }
    let payload = match found {
        Found::Zboot(_) => zboot_payload(request, ram.len())?,
        _ => Payload { offset: 0, len: source.len, max_size: ram.len(), length: Length::AsItSays },
    };
    unpack::unpack(source, payload, request.cache, Effort::Always)
        .and_then(|unpacked| {
            unpacked.ok_or_else(|| Fault::new("the payload", "it was not unpacked"))
        })
        .map_err(|fault| source.fault(fault))
}

fn zboot_payload(request: &Request<'_>, max_size: u64) -> Result<Payload, Error> {
    let Request { source, head, .. } = request;
    let word = |at: usize, field: &'static str| {
        let bytes = head.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(u32::from_le_bytes)
            .map(u64::from)
            .ok_or_else(|| source.fault(Fault::new(field, "the file ends inside the header")))
    };
    let offset = word(PAYLOAD_OFFSET, "payload_offset")?;
    let len = word(PAYLOAD_SIZE, "payload_size")?;
    if offset.checked_add(len).is_none_or(|end| end > source.len) {
        let file = source.len;
        let problem = format!(
            "{len:#x} bytes at {offset:#x} exceed the file's {file:#x} bytes; was it cut short?"
        );
        return Err(source.fault(Fault::new("payload_size", problem)));
    }
    Ok(Payload { offset, len, max_size, length: Length::AsItSays })
}
