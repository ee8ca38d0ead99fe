// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ring addresses that cannot be, past the daemon.
//!
//! They are the guest's choice, and its queue is what they break. But vhost 0.18 takes the
//! `SET_VRING_ADDR` that has one for a broken protocol and ends the connection: a guest could take
//! its own link down, have the VMM connect again, and so on for ever. So the shim makes addresses
//! of them that the daemon takes, and whoever opens the ring is told and finds it broken. There are
//! two kinds:
//! - not aligned: the bits that are too many are cut out of the message, and added again later;
//! - in no region of the memory table (a VMM does not share its guest's ROM, say): a region's start
//!   stands for it, and what it was is not needed again.

use std::sync::atomic::{AtomicU8, Ordering};

/// `struct vhost_vring_addr`: queue, flags, then the guest's addresses and one for a log.
const PAYLOAD_LEN: usize = 40;

/// One of the three parts of a ring.
struct Part {
    /// Offset of its address in the message.
    at: usize,
    /// Bits that are 0 in an aligned address.
    mask: u8,
    /// Where the cell of a queue has them.
    shift: u32,
}

const DESCRIPTORS: Part = Part { at: 8, mask: 0b1111, shift: 0 };
const USED: Part = Part { at: 16, mask: 0b11, shift: 4 };
const AVAILABLE: Part = Part { at: 24, mask: 0b1, shift: 6 };

/// In the cell of a queue: one of its addresses is in no region.
const NOWHERE: u8 = 1 << 7;

/// The regions of a memory table, in the VMM's addresses.
#[derive(Debug, Default)]
pub struct Regions(Vec<Region>);

#[derive(Debug)]
struct Region {
    start: u64,
    size: u64,
}

impl Regions {
    /// The regions in the payload of a `SET_MEM_TABLE`: their number, 4 bytes of nothing, then for
    /// each the guest's address, the size, the VMM's address and an offset. What is wrong with it
    /// is left to the daemon to complain of.
    pub fn of_table(payload: &[u8]) -> Self {
        let (regions, _) = payload.get(8..).unwrap_or_default().as_chunks::<32>();
        let region = |bytes: &[u8; 32]| Region { start: word(bytes, 16), size: word(bytes, 8) };
        Self(regions.iter().map(region).collect())
    }

    fn contain(&self, address: u64) -> bool {
        self.0.iter().any(|region| {
            address.checked_sub(region.start).is_some_and(|offset| offset < region.size)
        })
    }
}

/// A little-endian word of a message, which is long enough.
fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// What was wrong with the addresses in each queue's latest `SET_VRING_ADDR`. The shim writes it
/// before it passes the message on, so it is there when the daemon has the addresses.
#[derive(Debug)]
pub struct CutBits {
    queues: Box<[AtomicU8]>,
}

/// What was wrong with the addresses of one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// They lack these bits, which are to be added (not or-ed: the VMM's addresses and the guest's
    /// need not have the same low bits).
    Bits {
        /// The descriptor table's.
        descriptors: u64,
        /// The available ring's.
        available: u64,
        /// The used ring's.
        used: u64,
    },
    /// One of them was in no region of the guest's memory.
    Nowhere,
}

impl CutBits {
    /// Nothing wrong with the addresses of this many queues.
    pub fn new(queues: usize) -> Self {
        Self { queues: (0..queues).map(|_| AtomicU8::new(0)).collect() }
    }

    /// Nothing is known of a front end that has just come.
    pub fn clear(&self) {
        for cell in &self.queues {
            cell.store(0, Ordering::Release);
        }
    }

    /// Makes addresses that the daemon takes of those in the payload of a `SET_VRING_ADDR`, and
    /// remembers what was wrong with them. A payload that is none, or of a queue that there is not,
    /// is left to the daemon to complain of; so are all addresses when there is no region at all.
    pub fn cut(&self, payload: &mut [u8], regions: &Regions) {
        if payload.len() != PAYLOAD_LEN {
            return;
        }
        let queue = u32::from_le_bytes([payload[0], payload[1], payload[2], payload[3]]);
        let Some(cell) = self.queues.get(queue as usize) else { return };
        let mut bits = 0;
        for Part { at, mask, shift } in [DESCRIPTORS, USED, AVAILABLE] {
            // The lowest byte of a little-endian address.
            bits |= (payload[at] & mask) << shift;
            payload[at] &= !mask;
            if let Some(stand_in) = regions.0.first()
                && !regions.contain(word(payload, at))
            {
                bits |= NOWHERE;
                payload[at..at + 8].copy_from_slice(&stand_in.start.to_le_bytes());
            }
        }
        cell.store(bits, Ordering::Release);
    }

    /// What was wrong with the addresses of a queue.
    pub fn of(&self, queue: usize) -> Cut {
        let bits = self.queues.get(queue).map_or(0, |cell| cell.load(Ordering::Acquire));
        if bits & NOWHERE != 0 {
            return Cut::Nowhere;
        }
        let part = |Part { mask, shift, .. }: Part| u64::from(bits >> shift & mask);
        Cut::Bits { descriptors: part(DESCRIPTORS), available: part(AVAILABLE), used: part(USED) }
    }
}

impl Cut {
    /// The guest's addresses of a descriptor table, an available and a used ring, made of those
    /// that the daemon has.
    pub fn restore(self, [descriptors, available, used]: [u64; 3]) -> [u64; 3] {
        match self {
            Self::Bits { descriptors: more, available: more_available, used: more_used } => [
                descriptors.wrapping_add(more),
                available.wrapping_add(more_available),
                used.wrapping_add(more_used),
            ],
            // Where no ring can be, whatever the memory.
            Self::Nowhere => [u64::MAX; 3],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(queue: u32, addresses: [u64; 4]) -> Vec<u8> {
        let mut payload = [queue.to_le_bytes(), 1_u32.to_le_bytes()].concat();
        payload.extend(addresses.iter().flat_map(|address| address.to_le_bytes()));
        payload
    }

    #[test]
    fn bits_are_cut_out_and_kept_for_each_queue() {
        let bits = CutBits::new(2);
        // In the message the used ring comes before the available one.
        let mut message = payload(1, [0x1_0000_001f, 0x2_0000_00ff, 0x3_0000_0003, 0x4_0000_0007]);
        bits.cut(&mut message, &Regions::default());
        assert_eq!(
            message,
            payload(1, [0x1_0000_0010, 0x2_0000_00fc, 0x3_0000_0002, 0x4_0000_0007])
        );
        assert_eq!(bits.of(1), Cut::Bits { descriptors: 15, available: 1, used: 3 });
        let nothing = Cut::Bits { descriptors: 0, available: 0, used: 0 };
        assert_eq!((bits.of(0), bits.of(2)), (nothing, nothing));
        bits.cut(&mut payload(1, [0x10, 0x20, 0x30, 0]), &Regions::default());
        assert_eq!(bits.of(1), nothing);
    }

    #[test]
    fn what_is_no_such_message_is_left_alone() {
        let bits = CutBits::new(2);
        for mut message in [payload(2, [1; 4]), payload(0, [1; 4])[..39].to_vec(), Vec::new()] {
            let before = message.clone();
            bits.cut(&mut message, &Regions::default());
            assert_eq!(message, before);
        }
    }

    /// A table with regions of these VMM's addresses and sizes.
    fn table(regions: &[(u64, u64)]) -> Vec<u8> {
        let mut payload = [(regions.len() as u32).to_le_bytes(), [0; 4]].concat();
        for (start, size) in regions {
            payload.extend(
                [0x7777_0000, *size, *start, 0x5555_0000]
                    .iter()
                    .flat_map(|word| word.to_le_bytes()),
            );
        }
        payload
    }

    #[test]
    fn a_regions_start_stands_for_an_address_in_no_region() {
        let regions = Regions::of_table(&table(&[(0x10_0000, 0x1000), (0x30_0000, 0x2000)]));
        let good = [0x10_0000, 0x30_1ffc, 0x10_0ffe, 0];
        for (part, address) in
            [(0, 0x10_1000), (0, 0x0f_fff0), (1, 0x30_2000), (2, 0), (2, u64::MAX - 1)]
        {
            let bits = CutBits::new(2);
            let mut message = payload(1, good);
            bits.cut(&mut message, &regions);
            assert_eq!(message, payload(1, good));
            assert_eq!(bits.of(1).restore([8, 16, 32]), [8, 16, 32]);
            let mut addresses = good;
            addresses[part] = address;
            let mut message = payload(1, addresses);
            bits.cut(&mut message, &regions);
            addresses[part] = 0x10_0000;
            assert_eq!(message, payload(1, addresses));
            assert_eq!(
                (bits.of(1), bits.of(1).restore([8, 16, 32])),
                (Cut::Nowhere, [u64::MAX; 3])
            );
            bits.clear();
            assert_ne!(bits.of(1), Cut::Nowhere);
        }
    }

    #[test]
    fn bits_are_added_to_addresses_that_have_such_bits_themselves() {
        let cut = Cut::Bits { descriptors: 8, available: 1, used: 3 };
        assert_eq!(cut.restore([0x18, 0x21, u64::MAX]), [0x20, 0x22, 2]);
    }

    #[test]
    fn a_table_that_ends_early_has_the_regions_that_are_whole() {
        for len in 0..72 {
            let regions = Regions::of_table(&table(&[(1, 1), (2, 1)])[..len]);
            assert_eq!(regions.0.len(), len.saturating_sub(8) / 32);
        }
    }
}
