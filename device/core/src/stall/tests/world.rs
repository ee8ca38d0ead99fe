// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A vector on a virtual clock, with its detector.

use alloc::vec::Vec;
use core::time::Duration;

use crate::stall::{AT_ONCE, Detector, Evidence, Other, Seen, Verdict, Wish};
use crate::time::Instant;

pub(super) const AFTER_MS: u64 = 80;
pub(super) const AT_ONCE_MS: u64 = AFTER_MS / AT_ONCE as u64;

pub(super) fn at(ms: u64) -> Instant {
    Instant::from_ns(ms * 1_000_000)
}

/// A vector whose guest consumes one entry after the other and asks for an interrupt with the next.
pub(super) struct World {
    pub(super) detector: Detector,
    pub(super) seen: Seen,
    pub(super) other: Other,
    pub(super) now_ms: u64,
    /// When it was nudged.
    pub(super) nudges: Vec<u64>,
    pub(super) told: Vec<Evidence>,
    pub(super) disagreements: u32,
    pub(super) next: Option<Instant>,
}

impl World {
    pub(super) fn starting_at(receive: bool, index: u16) -> Self {
        let detector = Detector::new(Duration::from_millis(AFTER_MS));
        let mut seen = Seen { receive, published: index, ..Seen::default() };
        (seen.guest.available, seen.guest.asked) = (index.wrapping_add(64), index.into());
        let mut world = Self {
            detector,
            seen,
            other: Other::default(),
            now_ms: 1,
            nudges: Vec::new(),
            told: Vec::new(),
            disagreements: 0,
            next: None,
        };
        world.look();
        world
    }

    pub(super) fn receive() -> Self {
        Self::starting_at(true, 100)
    }

    pub(super) fn transmit() -> Self {
        Self::starting_at(false, 100)
    }

    /// Entries are published.
    pub(super) fn publish(&mut self, entries: u16) {
        self.seen.published = self.seen.published.wrapping_add(entries);
        self.seen.wish = Wish::Waits;
        self.look();
    }

    /// The guest consumes all of them and asks for the next, and the device looks then.
    pub(super) fn consume(&mut self) {
        self.consume_unseen();
        self.look();
    }

    /// The same when nothing makes the device look.
    pub(super) fn consume_unseen(&mut self) {
        self.seen.guest.asked = self.seen.published.into();
        self.seen.wish = Wish::CaughtUp;
    }

    pub(super) fn look(&mut self) {
        let look = self.detector.look(&self.seen, self.other, at(self.now_ms));
        if look.nudge {
            self.nudges.push(self.now_ms);
            self.seen.raised += 1;
        }
        self.told.extend(look.evidence);
        self.disagreements += u32::from(look.disagrees);
        self.next = look.next;
        assert!(look.next.is_none_or(|next| next > at(self.now_ms)), "it may sleep");
    }

    /// Looks whenever the detector asks for it, for so long.
    pub(super) fn pass(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while let Some(next) = self.next.filter(|next| *next <= at(end)) {
            self.now_ms = next.as_ns().div_ceil(1_000_000);
            self.look();
        }
        self.now_ms = end;
    }

    /// What was said, with whether a policy is to blame.
    pub(super) fn verdicts(&self) -> Vec<(Verdict, bool)> {
        self.told.iter().map(|it| (it.verdict, it.by_policy)).collect()
    }

    /// The guest does something with the other queue.
    pub(super) fn live_elsewhere(&mut self) {
        self.other.alive = Some(at(self.now_ms));
        self.look();
    }
}
