use std::fs;

use super::{super::testing::*, *};
use crate::boot::{cache::Cache, error::Role};

#[test]
fn compressions_are_told_by_their_first_bytes() {
    for (head, expect) in [
        (&b"BZh9"[..], Some(Compression::Bzip2)),
        (&[0x1f, 0x8b, 8], Some(Compression::Gzip)),
        (&[2, 0x21, 0x4c, 0x18], Some(Compression::Lz4)),
        (&[0x5d, 0, 0, 0, 4], Some(Compression::Lzma)),
        (&[0x89, b'L', b'Z', b'O'], Some(Compression::Lzo)),
        (b"\xfd7zXZ\0", Some(Compression::Xz)),
        (&[0x28, 0xb5, 0x2f, 0xfd], Some(Compression::Zstd)),
        (b"", None),
        (b"\x7fELF", None),
    ] {
        assert_eq!(Compression::detect(head), expect, "{head:?}");
    }
}

/// "hello, kernel\n" 100 times, by `xz --check=crc32 --x86 --lzma2=dict=32MiB`, as Linux calls it.
const XZ: &[u8] = include_bytes!("hello.xz");
/// The same by `zstd --ultra -22 --long=27` from a pipe: its frame asks for a window of 128 MiB.
const ZSTD: &[u8] = include_bytes!("hello.zst");

#[test]
fn what_linux_packs_is_unpacked() {
    let text = b"hello, kernel\n".repeat(100);
    let sized = |packed: &[u8]| [packed, &(text.len() as u32).to_le_bytes()].concat();
    for (name, packed) in
        [("xz", sized(XZ)), ("zst", sized(ZSTD)), ("gz", gzip(&text)), ("lz4", lz4(&text))]
    {
        let bench = Bench::new(&packed);
        let source = ImageSource::open(Role::Kernel, &bench.config.image.path).unwrap();
        let payload =
            Payload { offset: 0, len: source.len, max_size: 1 << 20, length: Length::Behind };
        let done = unpack(&source, payload, None, Effort::Always);
        let (image, _) = done.unwrap_or_else(|e| panic!("{name}: {e}")).unwrap();
        assert_eq!(image.read(0, text.len(), "").unwrap(), text, "{name}");
    }
    assert_eq!(ZSTD[5] >> 3, 17, "the window is not what this test is about");
}

#[test]
fn a_cache_that_cannot_be_written_is_no_obstacle() {
    let bench = Bench::new(&lz4(b"bytes"));
    let source = ImageSource::open(Role::Kernel, &bench.config.image.path).unwrap();
    let payload = Payload { offset: 0, len: source.len, max_size: 1 << 20, length: Length::Behind };
    fs::write(bench.dir.path().join("file"), b"in the way").unwrap();
    let cache = Cache::at(&bench.dir.path().join("file/cache"));
    std::thread::sleep(std::time::Duration::from_millis(150)); // so that it could be cached
    let (image, unpacked) =
        unpack(&source, payload, Some(&cache), Effort::Always).unwrap().unwrap();
    assert_eq!((image.len, unpacked.cache), (5, None));
    assert_eq!(image.read(0, 5, "").unwrap(), b"bytes");
    assert!(unpack(&source, payload, Some(&cache), Effort::IfItPays).unwrap().is_none());
    assert!(unpack(&source, payload, None, Effort::IfItPays).unwrap().is_none());
}
