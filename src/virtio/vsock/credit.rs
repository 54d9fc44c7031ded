//! Flow control (virtio 1.2, 5.10.6.3): neither end sends more than the other has room for. All
//! counters wrap.

/// Room for what the guest sends, in bytes, of each connection.
pub const OWN_ROOM: u32 = 256 << 10;

/// What the guest has room for.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeerRoom {
    buf_alloc: u32,
    fwd_cnt: u32,
    sent: u32,
}

impl PeerRoom {
    /// Each packet of the guest's says it anew.
    pub fn update(&mut self, buf_alloc: u32, fwd_cnt: u32) {
        (self.buf_alloc, self.fwd_cnt) = (buf_alloc, fwd_cnt);
    }

    /// How many bytes may be sent now; none to a guest that claims to have got more than was sent.
    pub fn free(&self) -> u32 {
        self.buf_alloc.saturating_sub(self.sent.wrapping_sub(self.fwd_cnt))
    }

    /// So many bytes have been sent.
    pub fn sent(&mut self, bytes: u32) {
        self.sent = self.sent.wrapping_add(bytes);
    }
}

/// What this end has room for.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnRoom {
    received: u32,
    forwarded: u32,
    /// What of `forwarded` the guest knows.
    told: u32,
}

impl OwnRoom {
    /// So many bytes have come from the guest. `None`: it has been told of no room for them.
    pub fn receive(&mut self, bytes: u32) -> Option<()> {
        let used = self.received.wrapping_sub(self.told);
        if bytes > OWN_ROOM.saturating_sub(used) {
            return None;
        }
        self.received = self.received.wrapping_add(bytes);
        Some(())
    }

    /// So many of them have been passed on.
    pub fn forward(&mut self, bytes: u32) {
        self.forwarded = self.forwarded.wrapping_add(bytes);
    }

    /// Whether the guest should know that there is room again: it has half of it left at most, as it
    /// knows.
    pub fn is_news(&self) -> bool {
        let used = self.received.wrapping_sub(self.told);
        used >= OWN_ROOM / 2 && self.forwarded != self.told
    }

    /// What a packet to the guest says.
    pub fn tell(&mut self) -> u32 {
        self.told = self.forwarded;
        self.forwarded
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the guest claims, no more is sent than the room it has named.
        #[test]
        fn no_claim_makes_room_that_is_not_there(
            claims in prop::collection::vec((any::<u32>(), any::<u32>(), any::<u32>()), 1..50)
        ) {
            let mut room = PeerRoom::default();
            for (buf_alloc, fwd_cnt, wanted) in claims {
                room.update(buf_alloc, fwd_cnt);
                prop_assert!(room.free() <= buf_alloc);
                let sent = wanted.min(room.free());
                let before = room.free();
                room.sent(sent);
                prop_assert_eq!(room.free(), before - sent);
            }
        }

        /// A guest that keeps to what it is told is never refused, wherever the counters stand; and
        /// what lies here is never more than there is room for.
        #[test]
        fn room_is_what_the_guest_knows_of(
            start in any::<u32>(),
            steps in prop::collection::vec((any::<u32>(), any::<u32>(), any::<bool>()), 1..100)
        ) {
            let mut own = OwnRoom { received: start, forwarded: start, told: start };
            // The guest's own view: what it has sent, and what it has last been told.
            let mut guest = PeerRoom { buf_alloc: OWN_ROOM, fwd_cnt: start, sent: start };
            for (send, forward, tell) in steps {
                let bytes = send % (guest.free() + 1);
                guest.sent(bytes);
                prop_assert!(own.receive(bytes).is_some());
                let held = own.received.wrapping_sub(own.forwarded);
                prop_assert!(held <= OWN_ROOM);
                own.forward(forward % (held + 1));
                if tell || own.is_news() {
                    guest.update(OWN_ROOM, own.tell());
                }
                prop_assert!(own.receive(guest.free() + 1).is_none());
            }
        }
    }

    #[test]
    fn a_guest_that_waits_for_room_is_told() {
        let mut own = OwnRoom::default();
        own.receive(OWN_ROOM).unwrap();
        assert!(!own.is_news());
        own.forward(1);
        assert!(own.is_news());
        assert_eq!(own.tell(), 1);
        assert!(!own.is_news());
    }
}
