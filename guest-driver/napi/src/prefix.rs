// SPDX-License-Identifier: GPL-2.0-only
//! Scheduling as it was before Linux 4.11.

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::Bits;

/// Tries to take the context; true when the caller now owns `SCHED` and must see to it that a poll runs.
///
/// | before | after | returns | |
/// |---|---|---|---|
/// | `DISABLE` | unchanged | false | whoever enables the context must schedule it once |
/// | neither | `SCHED` set | true | |
/// | `SCHED` | **unchanged** | false | **no trace is left: the race that 4.11 closed with `MISSED`** |
///
/// No other bit is read or written. `DISABLE` is tested first: the other order would leave `SCHED` set with nobody to clear it
/// when a disable is pending, and `napi_disable()` would wait for ever.
///
/// The test is a plain load and the taking a fully ordered read-modify-write, like `test_bit()` and `test_and_set_bit()`. Between the
/// two a disable may begin; `napi_disable()` copes, for it waits until `SCHED` is clear.
#[inline]
pub fn schedule_prep(state: &AtomicUsize, bits: Bits) -> bool {
    state.load(Ordering::Relaxed) & bits.disable_mask() == 0
        && state.fetch_or(bits.sched_mask(), Ordering::SeqCst) & bits.sched_mask() == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Linux 4.10; 4.11 and later.
    const LAYOUTS: [Bits; 2] = [Bits { sched: 0, disable: 1 }, Bits { sched: 0, disable: 2 }];

    /// Runs the function on every value of the low 12 bits (all that a kernel uses) and some high ones.
    fn check(row: impl Fn(usize, Bits) -> Option<(usize, bool)>) {
        for bits in LAYOUTS {
            let mut seen = 0;
            for before in (0..1 << 12).flat_map(|low| [low, low | 1 << 63]) {
                if let Some(expected) = row(before, bits) {
                    let state = AtomicUsize::new(before);
                    let taken = schedule_prep(&state, bits);
                    assert_eq!((state.into_inner(), taken), expected, "{bits:?} {before:#x}");
                    seen += 1;
                }
            }
            assert!(seen >= 2048, "{bits:?}: the row was met only {seen} times");
        }
    }

    #[test]
    fn disable_pending_changes_nothing_and_returns_false() {
        check(|before, bits| (before & bits.disable_mask() != 0).then_some((before, false)));
    }

    #[test]
    fn a_free_context_is_taken_and_no_other_bit_changes() {
        check(|before, bits| {
            (before & (bits.disable_mask() | bits.sched_mask()) == 0).then_some((before | bits.sched_mask(), true))
        });
    }

    #[test]
    fn an_owned_context_is_left_exactly_as_it_was() {
        check(|before, bits| {
            (before & bits.disable_mask() == 0 && before & bits.sched_mask() != 0).then_some((before, false))
        });
    }

    #[test]
    fn the_bit_numbers_are_the_callers() {
        // 4.11's MISSED is where 4.10 had DISABLE: a hardcoded number would refuse here.
        let state = AtomicUsize::new(0b10);
        assert!(schedule_prep(&state, Bits { sched: 0, disable: 2 }));
        let state = AtomicUsize::new(0b10);
        assert!(!schedule_prep(&state, Bits { sched: 0, disable: 1 }));
        let state = AtomicUsize::new(0);
        assert!(schedule_prep(&state, Bits { sched: 5, disable: 7 }));
        assert_eq!(state.into_inner(), 1 << 5);
    }
}
