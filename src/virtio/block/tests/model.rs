//! Any sequence of requests does what it would do to an array of bytes.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Write { sector: u64, sectors: usize, value: u8 },
    Read { sector: u64, sectors: usize },
    Zeroes { sector: u64, sectors: u32, unmap: bool },
    Flush,
    Reset,
}

/// Requests are this large at most, in sectors, and may go beyond the end.
const MOST: usize = 200;

fn step() -> impl Strategy<Value = Step> {
    let sector = 0..SIZE / 512 + 8;
    prop_oneof![
        4 => (sector.clone(), 1..MOST, any::<u8>())
            .prop_map(|(sector, sectors, value)| Step::Write { sector, sectors, value }),
        4 => (sector.clone(), 1..MOST).prop_map(|(sector, sectors)| Step::Read { sector, sectors }),
        2 => (sector, 1..MOST as u32, any::<bool>())
            .prop_map(|(sector, sectors, unmap)| Step::Zeroes { sector, sectors, unmap }),
        1 => Just(Step::Flush),
        1 => Just(Step::Reset),
    ]
}

fn check(way: Way, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut model = vec![0_u8; SIZE as usize];
    let mut driver = DiskDriver::new(Images::new().disk(way));
    let within = |sector: u64, sectors: usize| {
        let start = sector as usize * 512;
        let range = start..start + sectors * 512;
        (range.end <= SIZE as usize).then_some(range)
    };
    for step in steps {
        match *step {
            Step::Write { sector, sectors, value } => {
                let data: Vec<u8> = (0..sectors * 512).map(|i| value ^ (i / 512) as u8).collect();
                let place = within(sector, sectors);
                let expected = if place.is_some() { OK } else { IOERR };
                prop_assert_eq!(driver.write(sector, &data), expected);
                place.into_iter().for_each(|place| model[place].copy_from_slice(&data));
            }
            Step::Read { sector, sectors } => {
                let (data, status) = driver.read(sector, sectors as u32 * 512);
                match within(sector, sectors) {
                    Some(place) => prop_assert!(status == OK && data == model[place]),
                    None => prop_assert_eq!(status, IOERR),
                }
            }
            Step::Zeroes { sector, sectors, unmap } => {
                let place = within(sector, sectors as usize);
                let expected = if place.is_some() { OK } else { IOERR };
                let data = range(sector, sectors, unmap.into());
                prop_assert_eq!(driver.request(WRITE_ZEROES, 0, &data, 0).1, expected);
                place.into_iter().for_each(|place| model[place].fill(0));
            }
            Step::Flush => prop_assert_eq!(driver.flush(), OK),
            Step::Reset => driver.0.begin(0),
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn raw_by_io_uring(steps in prop::collection::vec(step(), 1..40)) {
        check(Way::Raw, &steps)?;
    }

    #[test]
    fn raw_by_threads(steps in prop::collection::vec(step(), 1..40)) {
        check(Way::RawByThreads, &steps)?;
    }

    #[test]
    fn qcow2(steps in prop::collection::vec(step(), 1..40)) {
        check(Way::Qcow2, &steps)?;
    }
}
