//! Which MSRs are devices of ours: accesses to them exit, all others stay KVM's (api.rst, 4.97 and
//! 7.21).

use kvm_bindings::{
    KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_FILTER, KVM_MSR_FILTER_MAX_BITMAP_SIZE,
    KVM_MSR_FILTER_MAX_RANGES, kvm_enable_cap,
};
use kvm_ioctls::{MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, VmFd};

use crate::{
    addr::{DeviceAddrRange, SysRegAddrRange},
    hal::{HalError, HalResult},
};

/// The MSRs of the local APIC in x2APIC mode, which KVM never lets go (api.rst, 4.97).
const X2APIC: std::ops::RangeInclusive<u64> = 0x800..=0x8ff;
/// How many MSRs a range of the filter may have.
const MOST_MSRS: u64 = KVM_MSR_FILTER_MAX_BITMAP_SIZE as u64 * 8;

/// A range of the filter: its first MSR, and a clear bit for each that exits.
#[derive(Debug, PartialEq, Eq)]
struct Trapped {
    first: u32,
    count: u32,
    bitmap: Vec<u8>,
}

/// Lets accesses to these MSRs exit; a fault in the guest stays one where no device answers.
pub fn set(vm: &VmFd, ranges: &[SysRegAddrRange]) -> HalResult {
    let trapped = plan(ranges)?;
    let exits = kvm_enable_cap {
        cap: KVM_CAP_X86_USER_SPACE_MSR,
        args: [KVM_MSR_EXIT_REASON_FILTER.into(), 0, 0, 0],
        ..Default::default()
    };
    vm.enable_cap(&exits).map_err(|errno| {
        HalError::host_cannot("hand MSRs to devices (KVM_CAP_X86_USER_SPACE_MSR)")
            .because(errno)
            .hint("Use Linux 5.10 or newer.")
    })?;
    let flags = MsrFilterRangeFlags::READ | MsrFilterRangeFlags::WRITE;
    let filter: Vec<_> = trapped
        .iter()
        .map(|Trapped { first, count, bitmap }| MsrFilterRange {
            flags,
            base: *first,
            msr_count: *count,
            bitmap,
        })
        .collect();
    vm.set_msr_filter(MsrFilterDefaultAction::ALLOW, &filter)
        .map_err(|errno| HalError::failed("hand MSRs to devices (KVM_X86_SET_MSR_FILTER)", errno))
}

/// The filter's ranges; neighbours are one.
fn plan(ranges: &[SysRegAddrRange]) -> HalResult<Vec<Trapped>> {
    let cannot = |what: String| Err(HalError::host_cannot(what));
    let mut sorted: Vec<(u64, u64)> =
        ranges.iter().map(|range| (range.first().0, range.last().0)).collect();
    sorted.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (first, last) in sorted {
        match merged.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    if merged.len() > KVM_MSR_FILTER_MAX_RANGES as usize {
        let most = KVM_MSR_FILTER_MAX_RANGES;
        return cannot(format!(
            "hand MSRs in {} separate ranges to devices: KVM has a filter of {most}; put them \
             beside each other",
            merged.len()
        ));
    }
    let mut trapped = Vec::new();
    for (first, last) in merged {
        let count = last - first + 1;
        let number = u32::try_from(first).ok().filter(|_| u32::try_from(last).is_ok());
        let Some(number) = number.filter(|_| count <= MOST_MSRS) else {
            return cannot(format!(
                "hand MSRs {first:#x}-{last:#x} to devices: numbers have 32 bits, and a range has \
                 at most {MOST_MSRS}"
            ));
        };
        if first <= *X2APIC.end() && last >= *X2APIC.start() {
            return cannot(format!(
                "hand MSRs {first:#x}-{last:#x} to devices: KVM keeps {:#x}-{:#x}, the local \
                 APIC's, to itself",
                X2APIC.start(),
                X2APIC.end()
            ));
        }
        let bitmap = vec![0; (count as usize).div_ceil(8)];
        trapped.push(Trapped { first: number, count: count as u32, bitmap });
    }
    Ok(trapped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::SysRegAddr;

    fn range(first: u64, last: u64) -> SysRegAddrRange {
        SysRegAddrRange::inclusive(SysRegAddr(first), SysRegAddr(last)).unwrap()
    }

    #[test]
    fn neighbours_are_one_range() {
        let planned = plan(&[range(0x20, 0x2f), range(0x10, 0x1f), range(0x40, 0x48)]).unwrap();
        let seen: Vec<_> = planned.iter().map(|t| (t.first, t.count, t.bitmap.len())).collect();
        assert_eq!(seen, [(0x10, 32, 4), (0x40, 9, 2)]);
        let many: Vec<_> = (0..100).map(|n| range(n, n)).collect();
        assert_eq!(plan(&many).unwrap().len(), 1);
    }

    #[test]
    fn what_kvm_cannot_is_said() {
        let apart: Vec<_> = (0..17).map(|n| range(n * 2, n * 2)).collect();
        for (ranges, says) in [
            (apart, "17 separate ranges"),
            (vec![range(0x8ff, 0x900)], "local APIC"),
            (vec![range(1 << 32, 1 << 32)], "32 bits"),
            (vec![range(u32::MAX.into(), u64::MAX)], "32 bits"),
            (vec![range(0x1_0000, 0x1_3000)], "at most 12288"),
        ] {
            let error = plan(&ranges).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
