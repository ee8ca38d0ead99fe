// SPDX-License-Identifier: GPL-2.0-only
//! Where a kernel keeps its state bits.

use crate::Word;

/// Bit *numbers* of `NAPI_STATE_*`; `None` for a bit that a kernel does not have.
///
/// They are parameters because they moved: Linux 4.11 inserted `MISSED` as bit 1, where `DISABLE`
/// had been. Code that runs on a kernel's word takes them from the kernel it is built for. Each
/// must be less than `usize::BITS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits {
    /// `NAPI_STATE_SCHED`: somebody owns the instance.
    pub sched: u32,
    /// `NAPI_STATE_MISSED`: an interrupt came while somebody owned the instance, so there is one
    /// more poll to do.
    pub missed: Option<u32>,
    /// `NAPI_STATE_DISABLE`: `napi_disable()` is waiting for the owner to go.
    pub disable: u32,
    /// `NAPI_STATE_NPSVC`: netpoll is inside the instance, or it is disabled.
    pub npsvc: Option<u32>,
    /// `NAPI_STATE_IN_BUSY_POLL`: the owner polls in a loop and does not want the instance to
    /// complete.
    pub in_busy_poll: Option<u32>,
    /// `NAPI_STATE_PREFER_BUSY_POLL`: a busy poller found the instance owned and would like to have
    /// it.
    pub prefer_busy_poll: Option<u32>,
    /// `NAPI_STATE_THREADED`: a kernel thread polls, not the softirq.
    pub threaded: Option<u32>,
    /// `NAPI_STATE_SCHED_THREADED`: the thread is the owner.
    pub sched_threaded: Option<u32>,
}

macro_rules! masks {
    ($($name:ident of $field:ident: $doc:literal;)*) => {$(
        #[doc = $doc]
        #[must_use]
        pub const fn $name(self) -> usize {
            match self.$field {
                Some(bit) => 1 << bit,
                None => 0,
            }
        }
    )*};
}

impl Bits {
    /// Linux 4.10.0, the last without `MISSED`.
    pub const LINUX_4_10: Self = Self {
        sched: 0,
        missed: None,
        disable: 1,
        npsvc: Some(2),
        in_busy_poll: Some(5),
        prefer_busy_poll: None,
        threaded: None,
        sched_threaded: None,
    };

    /// Linux 4.11, the first with `MISSED`.
    pub const LINUX_4_11: Self = Self {
        missed: Some(1),
        disable: 2,
        npsvc: Some(3),
        in_busy_poll: Some(6),
        ..Self::LINUX_4_10
    };

    /// Linux 6.1, 6.12 and 7.3.
    pub const LINUX_6_1: Self = Self {
        prefer_busy_poll: Some(7),
        threaded: Some(8),
        sched_threaded: Some(9),
        ..Self::LINUX_4_11
    };

    /// As much as [`crate::v4_10::schedule_prep`] needs to know.
    #[inline]
    #[must_use]
    pub const fn for_v4_10_prep(sched: u32, disable: u32) -> Self {
        Self { sched, missed: None, disable, npsvc: None, in_busy_poll: None, ..Self::LINUX_4_10 }
    }

    /// Mask of `SCHED`.
    #[inline]
    #[must_use]
    pub const fn sched_mask(self) -> usize {
        1 << self.sched
    }

    /// Mask of `DISABLE`.
    #[inline]
    #[must_use]
    pub const fn disable_mask(self) -> usize {
        1 << self.disable
    }

    masks! {
        missed_mask of missed: "Mask of `MISSED`; 0 where there is none.";
        npsvc_mask of npsvc: "Mask of `NPSVC`.";
        in_busy_poll_mask of in_busy_poll: "Mask of `IN_BUSY_POLL`.";
        prefer_busy_poll_mask of prefer_busy_poll: "Mask of `PREFER_BUSY_POLL`; 0 where there is none.";
        threaded_mask of threaded: "Mask of `THREADED`; 0 where there is none.";
        sched_threaded_mask of sched_threaded: "Mask of `SCHED_THREADED`; 0 where there is none.";
    }

    /// `napi_disable_pending()`.
    #[inline]
    #[must_use]
    pub fn disable_pending(self, word: &impl Word) -> bool {
        word.read() & self.disable_mask() != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missed_took_the_place_of_disable() {
        assert_eq!(Bits::LINUX_4_10.disable_mask(), Bits::LINUX_4_11.missed_mask());
        assert_eq!(Bits::LINUX_4_10.missed_mask(), 0);
    }

    #[test]
    fn no_two_bits_are_in_one_place() {
        for bits in [Bits::LINUX_4_10, Bits::LINUX_4_11, Bits::LINUX_6_1] {
            let masks = [
                bits.sched_mask(),
                bits.missed_mask(),
                bits.disable_mask(),
                bits.npsvc_mask(),
                bits.in_busy_poll_mask(),
                bits.prefer_busy_poll_mask(),
                bits.threaded_mask(),
                bits.sched_threaded_mask(),
            ];
            let together = masks.iter().fold(0, |all, mask| all | mask);
            assert_eq!(masks.iter().sum::<usize>(), together, "{bits:?}");
        }
    }
}
