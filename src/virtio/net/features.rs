//! Feature bits (virtio 1.2, 5.1.3), and the words that the host's kernel has for some of them.

use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, VIRTIO_NET_F_CTRL_MAC_ADDR,
    VIRTIO_NET_F_CTRL_RX, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_ECN,
    VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_UFO,
    VIRTIO_NET_F_GUEST_USO4, VIRTIO_NET_F_GUEST_USO6, VIRTIO_NET_F_HOST_ECN,
    VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_HOST_UFO, VIRTIO_NET_F_HOST_USO,
    VIRTIO_NET_F_MAC, VIRTIO_NET_F_MQ, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU,
    VIRTIO_NET_F_STATUS,
};

/// What every card has.
pub const ALWAYS: u64 = 1 << VIRTIO_NET_F_MAC
    | 1 << VIRTIO_NET_F_MTU
    | 1 << VIRTIO_NET_F_STATUS
    | 1 << VIRTIO_NET_F_MRG_RXBUF
    | 1 << VIRTIO_NET_F_CTRL_VQ
    | 1 << VIRTIO_NET_F_CTRL_RX
    | 1 << VIRTIO_NET_F_CTRL_MAC_ADDR;

/// What a card with several queue pairs has.
pub const PAIRS: u64 = 1 << VIRTIO_NET_F_MQ;

/// Checksums that the guest leaves to the host.
pub const CSUM: u64 = 1 << VIRTIO_NET_F_CSUM;
/// Those that the host leaves to the guest, or vouches for.
pub const GUEST_CSUM: u64 = 1 << VIRTIO_NET_F_GUEST_CSUM;
/// A driver may turn off what it has taken of [`GUEST`].
pub const GUEST_OFFLOADS: u64 = 1 << VIRTIO_NET_F_CTRL_GUEST_OFFLOADS;

/// Long packets that the guest leaves to the host to cut, on all hosts.
pub const SEGMENTS: u64 = 1 << VIRTIO_NET_F_HOST_TSO4
    | 1 << VIRTIO_NET_F_HOST_TSO6
    | 1 << VIRTIO_NET_F_HOST_ECN
    | 1 << VIRTIO_NET_F_HOST_UFO;
/// Those that the host may leave uncut, likewise.
pub const GUEST_SEGMENTS: u64 = 1 << VIRTIO_NET_F_GUEST_TSO4
    | 1 << VIRTIO_NET_F_GUEST_TSO6
    | 1 << VIRTIO_NET_F_GUEST_ECN
    | 1 << VIRTIO_NET_F_GUEST_UFO;
/// Both for UDP's segments, where the host has them (Linux 6.2).
pub const USO: u64 =
    1 << VIRTIO_NET_F_HOST_USO | 1 << VIRTIO_NET_F_GUEST_USO4 | 1 << VIRTIO_NET_F_GUEST_USO6;

/// All that is about what the guest receives.
pub const GUEST: u64 =
    GUEST_CSUM | GUEST_SEGMENTS | 1 << VIRTIO_NET_F_GUEST_USO4 | 1 << VIRTIO_NET_F_GUEST_USO6;

/// Whether a frame may take several buffers.
pub const fn frames_span(features: u64) -> bool {
    features & 1 << VIRTIO_NET_F_MRG_RXBUF != 0
}

/// Whether several queue pairs may be used.
pub const fn has_pairs(features: u64) -> bool {
    features & PAIRS != 0
}

/// What `TUNSETOFFLOAD` calls the features of [`GUEST`].
pub fn tun_flags(features: u64) -> libc::c_uint {
    let flags = [
        (VIRTIO_NET_F_GUEST_CSUM, libc::TUN_F_CSUM),
        (VIRTIO_NET_F_GUEST_TSO4, libc::TUN_F_TSO4),
        (VIRTIO_NET_F_GUEST_TSO6, libc::TUN_F_TSO6),
        (VIRTIO_NET_F_GUEST_ECN, libc::TUN_F_TSO_ECN),
        (VIRTIO_NET_F_GUEST_UFO, libc::TUN_F_UFO),
        (VIRTIO_NET_F_GUEST_USO4, libc::TUN_F_USO4),
        (VIRTIO_NET_F_GUEST_USO6, libc::TUN_F_USO6),
    ];
    let taken = flags.into_iter().filter(|(feature, _)| features & 1 << feature != 0);
    let mut all = taken.fold(0, |all, (_, flag)| all | flag);
    // What depends on something that is not there (5.1.3.1) is refused by the kernel, as are
    // segments of UDP over one of both IPs alone.
    if all & libc::TUN_F_CSUM == 0 {
        return 0;
    }
    if all & (libc::TUN_F_TSO4 | libc::TUN_F_TSO6) == 0 {
        all &= !libc::TUN_F_TSO_ECN;
    }
    let uso = libc::TUN_F_USO4 | libc::TUN_F_USO6;
    if all & uso == uso { all } else { all & !uso }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_asked_for_nothing_that_it_refuses() {
        assert_eq!(tun_flags(GUEST), 0x7f);
        assert_eq!(tun_flags(GUEST & !GUEST_CSUM), 0);
        assert_eq!(tun_flags(GUEST_CSUM | 1 << VIRTIO_NET_F_GUEST_ECN), libc::TUN_F_CSUM);
        assert_eq!(tun_flags(GUEST_CSUM | 1 << VIRTIO_NET_F_GUEST_USO4), libc::TUN_F_CSUM);
        assert_eq!(tun_flags(SEGMENTS | CSUM), 0, "what the guest sends is not asked for");
    }
}
