// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rings and descriptor chains of a hostile guest.
//!
//! Whatever the guest writes there: the device comes to an end, gives back no more than was made
//! available and that in order, claims no more bytes than a chain can hold, and leaves the
//! descriptors alone.

use bolero::{TypeGenerator, check};
use virtio_queue::desc::split::Descriptor;

use crate::MOMENT;
use crate::support::{Bench, MEMORY_LEN, Queue};

const BASES: [u64; 2] = [0x1_0000, 0x2_0000];
/// Where indirect tables are.
const TABLES: u64 = 0x3_0000;
/// Descriptors do not lead into what is before this, so that the rings stay as they are while they
/// are served.
const BUFFERS: u64 = 0x4_0000;

/// In how many parts the entries are made available.
const PARTS: usize = 3;

const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

#[derive(Clone, Debug, TypeGenerator)]
struct Guest {
    features: u64,
    queues: [Ring; 2],
    /// Indirect tables, one after the other.
    tables: Vec<Desc>,
    /// Lengths of the frames that come in, and pauses.
    frames: Vec<Option<u16>>,
}

#[derive(Clone, Debug, TypeGenerator)]
struct Ring {
    size_bits: u8,
    start: u16,
    descriptors: Vec<Desc>,
    heads: Vec<u16>,
    /// How far the available index is from the number of heads.
    lie: u8,
}

#[derive(Clone, Debug, TypeGenerator)]
struct Desc {
    address: u32,
    len: u16,
    /// Now and then a length of this size.
    huge: u32,
    kind: u8,
    next: u16,
}

impl Ring {
    fn queue(&self, base: u64) -> Queue {
        Queue { base, entries: 1 << (self.size_bits % 11), start: self.start }
    }

    fn ahead(&self, heads: usize) -> u16 {
        match self.lie {
            0..=239 => heads as u16,
            lie => (heads as u16).wrapping_add(u16::from(lie) << 4),
        }
    }
}

impl Desc {
    /// As a descriptor of a table of `size`.
    fn descriptor(&self, size: u16) -> Descriptor {
        let flags = u16::from(self.kind & 3);
        let next = if self.kind & 0x70 == 0x70 { self.next } else { self.next % size };
        if self.kind & 0x8c == 0x8c {
            // An indirect table, mostly in its place and of whole descriptors.
            let len = if self.kind & 0x10 == 0 { u32::from(self.len % 64) * 16 } else { self.huge };
            return Descriptor::new(
                TABLES + u64::from(self.address % 64) * 16,
                len,
                flags & !WRITE | INDIRECT,
                next,
            );
        }
        let len = if self.kind & 0x60 == 0x60 { self.huge } else { u32::from(self.len % 0x2000) };
        let beyond = MEMORY_LEN - BUFFERS + 0x1000;
        Descriptor::new(BUFFERS + u64::from(self.address) % beyond, len, flags, next)
    }
}

#[test]
fn rings() {
    check!().with_type::<Guest>().with_test_time(MOMENT).for_each(|guest| {
        let queues = [0, 1].map(|index| guest.queues[index].queue(BASES[index]));
        let mut bench = Bench::new(queues, guest.features, guest.frames.clone());
        for (index, descriptor) in guest.tables.iter().take(256).enumerate() {
            bench.write_descriptor(TABLES, index as u16, descriptor.descriptor(64));
        }
        let mut all_heads = [Vec::new(), Vec::new()];
        for (index, ring) in guest.queues.iter().enumerate() {
            let size = queues[index].entries;
            for (at, descriptor) in ring.descriptors.iter().take(size.into()).enumerate() {
                bench.write_descriptor(queues[index].base, at as u16, descriptor.descriptor(size));
            }
            // Now and then one that is out of range by one.
            let heads: Vec<u16> =
                ring.heads.iter().take(size.into()).map(|head| head % (size + 1)).collect();
            all_heads[index] = heads;
        }

        // Nobody but the guest writes here.
        let guests_own = |bench: &Bench| {
            [(BASES[0], 0x4000), (BASES[1], 0x4000), (TABLES, 0x1_0000)]
                .map(|(address, len)| bench.read(address, len))
        };
        let before = guests_own(&bench);
        // A part of the entries at a time: what a part has left undone shows in the next one.
        for part in 1..=PARTS {
            for (index, heads) in all_heads.iter().enumerate() {
                let heads = &heads[..heads.len() * part / PARTS];
                let ahead = if part == PARTS {
                    guest.queues[index].ahead(heads.len())
                } else {
                    heads.len() as u16
                };
                bench.make_available(index, heads, ahead);
            }
            bench.serve();
        }

        assert!(guests_own(&bench) == before, "the device has written into descriptors");
        for (index, heads) in all_heads.iter().enumerate() {
            let (count, used) = bench.used(index);
            let lied = usize::from(guest.queues[index].ahead(heads.len())) != heads.len();
            assert!(
                usize::from(count) <= heads.len() || lied,
                "more given back than made available"
            );
            if !lied {
                let heads: Vec<u32> =
                    heads.iter().map(|head| u32::from(*head)).take(count.into()).collect();
                assert_eq!(
                    used.iter().map(|entry| entry.0).collect::<Vec<_>>(),
                    heads,
                    "not in order"
                );
            }
            assert!(
                used.iter().all(|entry| u64::from(entry.1) <= MEMORY_LEN),
                "more bytes than there are"
            );
        }
    });
}
