// SPDX-License-Identifier: Apache-2.0 OR MIT

use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

use super::{Ring, RingConfig};
use crate::net::index::Index;
use crate::net::memory::GuestView;
use tsnic_core::path::Gate as _;

#[test]
fn no_more_is_staged_than_the_ring_has_entries() {
    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
    let view = GuestView::new(&memory);
    let config = RingConfig {
        entries: 4,
        descriptors: 0,
        available: 0x100,
        used: 0x200,
        event_idx: false,
        indirect: false,
    };
    let mut ring = Ring::start(&view, config, Index(0)).unwrap();
    let published = || memory.read_obj::<u16>(GuestAddress(0x202)).unwrap();
    // More than the count of staged entries could hold.
    for number in 0..=70_000_u32 {
        ring.put_used(0, number);
        // All of a ring's entries but not one more may wait.
        assert_eq!(published(), (number / 4 * 4) as u16, "entry {number}");
        assert_eq!(ring.state().next_used, Index(published()));
    }
    assert_eq!(ring.publish(), 1);
    assert_eq!((published(), ring.next_used()), (70_001_u32 as u16, Index(70_001_u32 as u16)));
}

/// Moderation may put off the question for so long that the used index comes round to where it was
/// asked last: a guest that polls consumes without an interrupt meanwhile.
#[test]
fn an_interrupt_is_asked_for_however_long_nobody_was_asked() {
    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
    let view = GuestView::new(&memory);
    let config = RingConfig {
        entries: 64,
        descriptors: 0,
        available: 0x400,
        used: 0x600,
        event_idx: true,
        indirect: false,
    };
    for batch in [1, 7, 64] {
        for distance in 65_530..=65_600_u32 {
            let mut ring = Ring::start(&view, config, Index(0)).unwrap();
            let wants_next = |ring: &Ring<'_>| {
                memory.write_obj(ring.published().0, GuestAddress(0x400 + 4 + 2 * 64)).unwrap();
            };
            wants_next(&ring);
            ring.put_used(0, 0);
            ring.publish();
            assert!(ring.requested() && ring.pass() && !ring.requested());
            for count in 1..=distance {
                if count == distance - 20 {
                    ring.publish();
                    wants_next(&ring);
                }
                ring.put_used(0, 0);
                if count % batch == 0 || count == distance {
                    ring.publish();
                }
            }
            assert!(ring.requested() && ring.pass(), "{distance} entries, {batch} at a time");
        }
    }
}
