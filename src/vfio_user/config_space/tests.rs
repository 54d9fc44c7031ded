use proptest::prelude::*;

use super::*;

/// A header with capabilities: PM, MSI, MSI-X in BAR 2, a vendor's.
fn bytes() -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    bytes[..4].copy_from_slice(&[0x34, 0x12, 1, 0]);
    bytes[0x0e] = 0x80;
    bytes[0x10] = 0;
    bytes[0x18] = 0x0c; // BAR 2: 64 bits, prefetchable
    bytes[0x20] = 1; // BAR 4: I/O
    bytes[0x34] = 0x40;
    bytes[0x3d] = 1;
    bytes[0x40..0x42].copy_from_slice(&[1, 0x50]);
    bytes[0x50..0x52].copy_from_slice(&[MSI, 0x60]);
    bytes[0x60..0x6c].copy_from_slice(&[MSIX, 0x70, 7, 0, 2, 0x10, 0, 0, 2, 0x20, 0, 0]);
    bytes[0x70..0x72].copy_from_slice(&[9, 0]);
    bytes
}

fn owned(bytes: &[u8; SIZE]) -> Owned {
    let region = |index| [0x100, 0, 0x3000, 0, 0x20, 0][index];
    Owned::new(bytes, region, 4, 64)
}

fn seen(owned: &Owned, at: usize, len: usize) -> Vec<u8> {
    let mut bytes = bytes()[at..at + len].to_vec();
    owned.read(at, &mut bytes);
    bytes
}

#[test]
fn what_cannot_be_had_is_not_seen() {
    let owned = owned(&bytes());
    assert_eq!(seen(&owned, 0, 4), [0x34, 0x12, 1, 0]);
    // One function, no line, no BAR in I/O.
    assert_eq!((seen(&owned, 0x0e, 1), seen(&owned, 0x3d, 1)), (vec![0], vec![0]));
    assert_eq!(seen(&owned, 0x20, 4), [0; 4]);
    // PM, MSI-X, the vendor's.
    assert_eq!(seen(&owned, 0x34, 1), [0x40]);
    assert_eq!(seen(&owned, 0x41, 1), [0x60]);
    assert_eq!(seen(&owned, 0x60, 4), [MSIX, 0x70, 3, 0]);
    assert_eq!(seen(&owned, 0x71, 1), [0]);
    let msix = owned.msix.unwrap();
    assert_eq!((msix.at, msix.vectors), (0x60, 4));
    assert_eq!(msix.table, InBar { bar: 2, offset: 0x1000 });
    assert_eq!(msix.pending, InBar { bar: 2, offset: 0x2000 });
}

#[test]
fn bars_say_their_size_and_go_where_they_are_put() {
    let mut owned = owned(&bytes());
    let [low, wide] = owned.bars.clone().try_into().unwrap();
    assert_eq!((low.index, low.size, wide.index, wide.size), (0, 0x100, 2, 0x4000));
    owned.write(0x10, &[0xff; 24]);
    assert_eq!(seen(&owned, 0x10, 4), 0xffff_ff00_u32.to_le_bytes());
    assert_eq!(seen(&owned, 0x18, 8), 0xffff_ffff_ffff_c00c_u64.to_le_bytes());
    assert_eq!(seen(&owned, 0x14, 4), [0; 4]);
    owned.set_place(&wide, 0x1_e000_0000);
    assert_eq!(owned.place(&wide), 0x1_e000_0000);
    assert_eq!(seen(&owned, 0x18, 8), 0x1_e000_000c_u64.to_le_bytes());
    owned.set_place(&low, 0xe000_0100);
    assert_eq!(owned.place(&low), 0xe000_0100);
    assert!(owned.is_for_server(0x04) && owned.is_for_server(0x44) && owned.is_for_server(0x62));
    assert!(!owned.is_for_server(0x10) && !owned.is_for_server(0x3c) && !owned.is_for_server(0x41));
    assert!(!owned.is_for_server(SIZE));
}

#[test]
fn a_list_that_comes_back_to_itself_has_an_end() {
    let mut bytes = bytes();
    bytes[0x71] = 0x40;
    let owned = owned(&bytes);
    let (mut at, mut count) = (seen(&owned, 0x34, 1)[0], 0);
    while at != 0 && count < 1000 {
        (at, count) = (seen(&owned, usize::from(at) + 1, 1)[0], count + 1);
    }
    assert!(count < 1000);
}

proptest! {
    #[test]
    fn any_server_and_any_guest_are_survived(
        random in proptest::collection::vec(any::<u8>(), SIZE),
        sizes in proptest::array::uniform6(any::<u64>()),
        writes in proptest::collection::vec((0..SIZE + 16, proptest::collection::vec(any::<u8>(), 1..8)), 0..40),
    ) {
        let bytes: [u8; SIZE] = random.try_into().unwrap();
        let mut owned = Owned::new(&bytes, |index| sizes[index], u32::MAX, 64);
        for (at, data) in writes {
            owned.write(at, &data);
            let mut back = data.clone();
            owned.read(at, &mut back);
            for bar in owned.bars.clone() {
                prop_assert!(bar.size.is_power_of_two());
                prop_assert_eq!(owned.place(&bar) % bar.size, 0);
            }
        }
    }
}
