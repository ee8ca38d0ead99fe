// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kicks of a ring that has never had an entry: the guest may have filled it in memory that the
//! device does not see.

use std::time::Duration;

use tsnic_core::time::Instant;

/// More kicks than a start alone explains. QEMU kicks a queue up to twice when it starts it (its
/// eventfd begins at 1, and it writes to it again), whatever is in the ring.
const KICKS: u32 = 3;

/// A kick as late as this is the guest's, not the start's. With the event index a guest kicks a
/// ring that nobody serves only once, so there may be no more than this one.
const LATE: Duration = Duration::from_millis(20);

/// Counts the kicks of a ring from its start for as long as it has never had an entry.
#[derive(Clone, Copy, Debug)]
pub struct EmptyKicks {
    started: Instant,
    kicks: u32,
    late: bool,
}

impl EmptyKicks {
    /// A ring is started.
    pub const fn new(started: Instant) -> Self {
        Self { started, kicks: 0, late: false }
    }

    /// It is kicked.
    pub fn kicked(&mut self, now: Instant) {
        self.kicks = self.kicks.saturating_add(1);
        self.late |= now >= self.started.plus(LATE);
    }

    /// The guest has kicked it. What for, if there is no entry?
    pub const fn are_the_guests(&self) -> bool {
        self.late || self.kicks >= KICKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kicks at these times, ms after the start.
    fn kicked(at_ms: &[u64]) -> bool {
        let started = Instant::from_ns(7);
        let mut kicks = EmptyKicks::new(started);
        for ms in at_ms {
            kicks.kicked(started.plus(Duration::from_millis(*ms)));
        }
        kicks.are_the_guests()
    }

    #[test]
    fn the_start_of_a_queue_by_qemu_says_nothing() {
        assert!(!kicked(&[]) && !kicked(&[0, 0]) && !kicked(&[0, 19]));
    }

    #[test]
    fn one_kick_after_the_start_is_the_guest_s() {
        assert!(kicked(&[20]) && kicked(&[0, 0, 5_000]));
    }

    #[test]
    fn so_are_more_kicks_than_a_start_makes() {
        assert!(kicked(&[0, 0, 1]));
    }
}
