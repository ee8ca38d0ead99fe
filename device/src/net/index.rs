// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ring arithmetic: the only file in which ring indices are added, subtracted, compared or turned
//! into slots.
//!
//! The indices of a split ring are free-running 16-bit counters; all that may be asked of two of
//! them is how far one is ahead of the other, modulo 2^16. Nothing here knows guest memory.

use std::fmt;

use tsnic_core::stall::Wish;

/// Entries of the largest ring this device serves.
pub const MAX_RING_SIZE: u16 = 1024;

/// The number of entries of a ring: a power of two from 1 to [`MAX_RING_SIZE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSize(u16);

impl RingSize {
    /// Checks a size that came from outside.
    #[must_use]
    pub const fn new(entries: u16) -> Option<Self> {
        if entries.is_power_of_two() && entries <= MAX_RING_SIZE {
            Some(Self(entries))
        } else {
            None
        }
    }

    /// Entries.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Entries, to count or index with.
    #[must_use]
    pub const fn entries(self) -> usize {
        self.0 as usize
    }
}

/// A free-running ring index. It has no order: see [`Index::since`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Index(pub u16);

impl Index {
    /// How far `self` is ahead of `earlier`, modulo 2^16.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u16 {
        self.0.wrapping_sub(earlier.0)
    }

    /// `self`, `by` entries on.
    #[must_use]
    pub const fn plus(self, by: u16) -> Self {
        Self(self.0.wrapping_add(by))
    }

    /// `self`, `by` entries back.
    #[must_use]
    pub const fn minus(self, by: u16) -> Self {
        Self(self.0.wrapping_sub(by))
    }

    /// The ring slot this index falls on: always less than `size`.
    #[must_use]
    pub const fn slot(self, size: RingSize) -> usize {
        (self.0 & (size.0 - 1)) as usize
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Entries the other side has made available: `theirs` is its index, `ours` how far we have taken.
/// `None` when it claims more than the ring holds, which no honest driver can.
#[must_use]
pub const fn pending(theirs: Index, ours: Index, size: RingSize) -> Option<u16> {
    let ahead = theirs.since(ours);
    if ahead <= size.0 { Some(ahead) } else { None }
}

/// The `VIRTIO_RING_F_EVENT_IDX` rule (virtio 1.x, 2.7.7.2): moving an index from `old` to `new` is
/// worth an event when the entry `event` is among those passed.
#[must_use]
pub const fn passes(event: Index, old: Index, new: Index) -> bool {
    new.since(event.plus(1)) < new.since(old)
}

/// What an event index says of the entries before `published`: a driver that consumes one after the
/// other asks for an interrupt with the next.
///
/// Index 0 may also be what Linux's ring code writes there when it asks for none.
#[must_use]
pub const fn interrupt_wish(event: Index, published: Index, size: RingSize) -> Wish {
    if event.0 == 0 {
        Wish::Unclear
    } else if event.0 == published.0 {
        Wish::CaughtUp
    } else if published.since(event) <= size.0 {
        Wish::Waits
    } else if event.since(published) <= size.0 {
        Wish::Later
    } else {
        Wish::Off
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn size() -> impl Strategy<Value = RingSize> {
        (0u32..=10).prop_map(|bits| RingSize::new(1 << bits).unwrap())
    }

    #[test]
    fn sizes_that_are_no_power_of_two_or_too_large_are_refused() {
        for bad in [0, 3, 255, 257, 1023, 2048, 0x8000, u16::MAX] {
            assert_eq!(RingSize::new(bad), None, "{bad}");
        }
        assert_eq!(RingSize::new(1024).map(RingSize::get), Some(1024));
    }

    /// Differences about which a comparison of 16-bit indices may turn.
    const TURNS: [u16; 11] =
        [0, 1, 2, 255, 1023, 1024, 1025, 0x7fff, 0x8000, u16::MAX - 1, u16::MAX];

    #[test]
    fn every_index_is_as_far_ahead_as_it_was_moved() {
        for start in (0..=u16::MAX).map(Index) {
            for by in TURNS {
                let moved = start.plus(by);
                assert_eq!(u32::from(moved.0), (u32::from(start.0) + u32::from(by)) % 0x1_0000);
                assert_eq!((moved.since(start), moved.minus(by)), (by, start));
            }
        }
    }

    #[test]
    fn every_index_has_the_slot_that_is_its_remainder() {
        for size in (0..=10).map(|bits| RingSize::new(1 << bits).unwrap()) {
            for index in 0..=u16::MAX {
                assert_eq!(Index(index).slot(size), usize::from(index) % size.entries());
            }
        }
    }

    #[test]
    fn from_every_index_a_ring_holds_its_size_and_no_more() {
        for size in [1, 2, 256, 1024].map(|entries| RingSize::new(entries).unwrap()) {
            for ours in (0..=u16::MAX).map(Index) {
                for ahead in TURNS.into_iter().chain([size.get() - 1, size.get(), size.get() + 1]) {
                    let expected = (ahead <= size.get()).then_some(ahead);
                    assert_eq!(pending(ours.plus(ahead), ours, size), expected, "{ours} {ahead}");
                }
            }
        }
    }

    /// The entries passed from `old` on are those at distance 0 to `moved - 1`.
    #[test]
    fn from_every_index_an_event_is_due_exactly_when_it_is_among_the_entries_passed() {
        for old in (0..=u16::MAX).map(Index) {
            for moved in TURNS {
                for at in TURNS.into_iter().chain([moved.wrapping_sub(1), moved.wrapping_add(1)]) {
                    let due = passes(old.plus(at), old, old.plus(moved));
                    assert_eq!(due, at < moved, "{old} moved by {moved}, event at {at}");
                }
            }
        }
    }

    /// `behind`: how far the event index is behind what was published. Beyond half a lap it is ahead.
    #[test]
    fn from_every_index_an_event_index_says_what_its_distance_says() {
        for size in [1, 2, 256, 1024].map(|entries| RingSize::new(entries).unwrap()) {
            let entries = size.get();
            for published in (0..=u16::MAX).map(Index) {
                for behind in TURNS.into_iter().chain([entries - 1, entries, entries + 1]) {
                    let event = published.minus(behind);
                    let expected = match (event, behind) {
                        (Index(0), _) => Wish::Unclear,
                        (_, 0) => Wish::CaughtUp,
                        (_, n) if n <= entries => Wish::Waits,
                        (_, n) if u32::from(n) >= 0x1_0000 - u32::from(entries) => Wish::Later,
                        _ => Wish::Off,
                    };
                    let wish = interrupt_wish(event, published, size);
                    assert_eq!(wish, expected, "{published}, {behind} behind, {entries} entries");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_difference_survives_the_wrap(start: u16, by: u16) {
            let start = Index(start);
            prop_assert_eq!(start.plus(by).since(start), by);
            prop_assert_eq!(start.plus(by).minus(by), start);
        }

        #[test]
        fn slots_stay_inside_and_follow_one_another(start: u16, size in size()) {
            let (here, next) = (Index(start).slot(size), Index(start).plus(1).slot(size));
            prop_assert!(here < size.entries());
            prop_assert_eq!(next, (here + 1) % size.entries());
        }

        #[test]
        fn no_more_than_the_ring_holds_is_ever_pending(theirs: u16, ours: u16, size in size()) {
            match pending(Index(theirs), Index(ours), size) {
                Some(n) => prop_assert!(n <= size.get() && Index(ours).plus(n) == Index(theirs)),
                None => prop_assert!(Index(theirs).since(Index(ours)) > size.get()),
            }
        }

        /// An event index that lies among the entries published is one that the guest waits with,
        /// wherever the indices wrap.
        #[test]
        fn who_waits_is_told_from_who_has_caught_up(
            published: u16,
            away in 0u16..3000,
            size in size(),
        ) {
            let published = Index(published);
            let wish = |event: Index| match interrupt_wish(event, published, size) {
                Wish::Unclear => { assert_eq!(event, Index(0)); None }
                wish => Some(wish),
            };
            let near = away <= size.get();
            let expected = |near_wish| if near { near_wish } else { Wish::Off };
            if away == 0 {
                prop_assert!(wish(published).is_none_or(|it| it == Wish::CaughtUp));
            } else {
                let behind = wish(published.minus(away));
                prop_assert!(behind.is_none_or(|it| it == expected(Wish::Waits)));
                let ahead = wish(published.plus(away));
                prop_assert!(ahead.is_none_or(|it| it == expected(Wish::Later)));
            }
        }

        /// "the device SHOULD send an interrupt when used_event is among the entries just
        /// published", entry by entry.
        #[test]
        fn an_event_is_due_exactly_when_its_entry_was_passed(old: u16, count in 0u16..=1024, event: u16) {
            let (old, event) = (Index(old), Index(event));
            let among = (0..count).any(|i| old.plus(i) == event);
            prop_assert_eq!(passes(event, old, old.plus(count)), among);
        }
    }
}
