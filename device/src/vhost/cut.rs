// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ring addresses that are not aligned, past the daemon.
//!
//! They are the guest's choice, and its queue is what they break. But vhost 0.18 takes the `SET_VRING_ADDR` that has one for a
//! broken protocol and ends the connection: a guest could take its own link down, have the VMM connect again, and so on for ever. So
//! the relay cuts the bits that are too many out of the message, and whoever opens the ring puts them back and finds it broken.

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

/// The bits that were cut from the addresses of each queue's latest `SET_VRING_ADDR`. The relay writes them before it passes the
/// message on, so they are there when the daemon has the addresses.
#[derive(Debug)]
pub struct CutBits {
    queues: Box<[AtomicU8]>,
}

/// What was cut from the addresses of one queue, to be added again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// From the descriptor table's.
    pub descriptors: u64,
    /// From the available ring's.
    pub available: u64,
    /// From the used ring's.
    pub used: u64,
}

impl CutBits {
    /// Nothing cut from the addresses of this many queues.
    pub fn new(queues: usize) -> Self {
        Self { queues: (0..queues).map(|_| AtomicU8::new(0)).collect() }
    }

    /// Aligns the addresses in the payload of a `SET_VRING_ADDR` and remembers what they were. One that is none, or of a queue that
    /// there is not, is left to the daemon to complain of.
    pub fn cut(&self, payload: &mut [u8]) {
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
        }
        cell.store(bits, Ordering::Release);
    }

    /// What was cut from the addresses of a queue.
    pub fn of(&self, queue: usize) -> Cut {
        let bits = self.queues.get(queue).map_or(0, |cell| cell.load(Ordering::Acquire));
        let part = |Part { mask, shift, .. }: Part| u64::from(bits >> shift & mask);
        Cut { descriptors: part(DESCRIPTORS), available: part(AVAILABLE), used: part(USED) }
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
        bits.cut(&mut message);
        assert_eq!(message, payload(1, [0x1_0000_0010, 0x2_0000_00fc, 0x3_0000_0002, 0x4_0000_0007]));
        assert_eq!(bits.of(1), Cut { descriptors: 15, available: 1, used: 3 });
        let nothing = Cut { descriptors: 0, available: 0, used: 0 };
        assert_eq!((bits.of(0), bits.of(2)), (nothing, nothing));
        bits.cut(&mut payload(1, [0x10, 0x20, 0x30, 0]));
        assert_eq!(bits.of(1), nothing);
    }

    #[test]
    fn what_is_no_such_message_is_left_alone() {
        let bits = CutBits::new(2);
        for mut message in [payload(2, [1; 4]), payload(0, [1; 4])[..39].to_vec(), Vec::new()] {
            let before = message.clone();
            bits.cut(&mut message);
            assert_eq!(message, before);
        }
    }
}
