//! Valid images with random damage: an answer, in bounded time, whatever it is.

use super::good_images::multiboot_header;
use crate::{boot::testing::*, vm::config::Unpack};

#[test]
fn damaged_images_are_loaded_or_refused() {
    let code = [multiboot_header(3, &[]), vec![0x90; 64]].concat();
    let addresses = [0x20_0000, 0x20_0000, 0, 0, 0x20_0020];
    let small = elf64(0x100_0000, &[Part::load(0x100_0000, &[0xcc; 3000], 64)]);
    let note = Part::note(xen_note(18, &0x10_0000u64.to_le_bytes()));
    let images = [
        (elf64(0x10_0000, &[Part::load(0x10_0000, &[0x90; 64], 64), note]), 256),
        (elf32(0x10_0010, 0x10_0000, &code), 128),
        (multiboot_header(1 << 16, &addresses), 32),
        (bzimage(b""), 0x270),
        (bzimage(&lz4(&small)), 0x270),
        (bzimage(&gzip(&small)), 0x270),
        (bzimage(&zstd(&small)), 0x270),
    ];
    let mut random = Random(0x5eed);
    let mut bench = Bench::new(b"x").cmdline("quiet").initrd(b"initrd");
    let (mut booted, mut refused) = (0, 0);
    for round in 0..2000 {
        let (image, headers) = &images[round % images.len()];
        let mut headers = *headers;
        let mut image = image.clone();
        if round % 3 == 0 && image.len() > 0x2000 {
            headers = image.len(); // the payload is damaged too
        }
        image = random.damage(&image, headers);
        let path = bench.file("kernel", &image);
        bench.config.image.path = path;
        bench.config.unpack = if round % 2 == 0 { Unpack::Host } else { Unpack::Auto };
        match bench.prepare() {
            Ok(plan) => {
                booted += 1;
                if round % 16 == 0 {
                    plan.load(&memory(), &firmware()).unwrap();
                }
            }
            Err(_) => refused += 1,
        }
    }
    assert!(booted > 100 && refused > 100, "{booted} booted, {refused} refused: no test");
}
