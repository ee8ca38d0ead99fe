// SPDX-License-Identifier: GPL-2.0-only
//! NAPI scheduling on the state word.
//!
//! Linux keeps a NAPI context's scheduling state in one word, `napi_struct::state`. Whoever sets its `SCHED` bit owns the
//! context until the bit is cleared; everybody else is turned away by `napi_schedule_prep()`. This crate is that
//! function as it was before Linux 4.11 ([`prefix`]), on an atomic word: the kernel's own, or a test's.
//!
//! It depends on nothing and never blocks, so it may be called in any context, hard interrupts included.
#![no_std]

use core::sync::atomic::{AtomicUsize, Ordering};

pub mod prefix;

/// Where a kernel keeps the state bits: bit *numbers*, not masks.
///
/// They are parameters because they moved: Linux 4.11 inserted `MISSED` as bit 1, where `DISABLE` had been. Take them from the
/// kernel that is being built (`NAPI_STATE_*`). Both must be less than `usize::BITS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits {
    /// `NAPI_STATE_SCHED`: somebody owns the context.
    pub sched: u32,
    /// `NAPI_STATE_DISABLE`: `napi_disable()` is waiting for the owner to go.
    pub disable: u32,
}

impl Bits {
    /// Somebody owns the context: `SCHED` is set. By the time the caller looks at the answer it may be out of date.
    #[inline]
    #[must_use]
    pub fn scheduled(self, state: &AtomicUsize) -> bool {
        state.load(Ordering::Relaxed) & self.sched_mask() != 0
    }

    const fn sched_mask(self) -> usize {
        1 << self.sched
    }

    const fn disable_mask(self) -> usize {
        1 << self.disable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheduled_is_the_sched_bit_and_no_other() {
        let bits = Bits { sched: 3, disable: 2 };
        assert!(bits.scheduled(&AtomicUsize::new(1 << 3)));
        assert!(!bits.scheduled(&AtomicUsize::new(!(1 << 3))));
    }
}
