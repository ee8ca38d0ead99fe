// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An interrupt that is on its way: held until a time, or until the guest has come so far.

use core::time::Duration;

use crate::policy::decision::{GuestProgress, Hold, Until};
use crate::time::Instant;

/// Between two looks at how far the guest is: it tells nobody when it rewrites its memory.
const WATCH: Duration = Duration::from_micros(20);

/// One held interrupt.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeldInterrupt {
    state: State,
    /// Nobody has requested it.
    pub(super) spurious: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Until the guest moves on from `seen`, or `latest`; then for `delay`.
    Waiting { until: Until, seen: GuestProgress, latest: Instant, delay: Duration },
    /// Until then.
    Due(Instant),
}

impl HeldInterrupt {
    /// Held from `now`, when the guest was at `guest`.
    pub(super) fn new(hold: Hold, guest: &GuestProgress, now: Instant) -> Self {
        let state = match hold.until {
            Some((until, latest)) => {
                State::Waiting { until, seen: *guest, latest: now.plus(latest), delay: hold.delay }
            }
            None => State::Due(now.plus(hold.delay)),
        };
        Self { state, spurious: false }
    }

    /// The same, of an interrupt that nobody has requested.
    pub(super) fn spurious(hold: Hold, guest: &GuestProgress, now: Instant) -> Self {
        Self { spurious: true, ..Self::new(hold, guest, now) }
    }

    /// The time that it is held until, when that is for no other reason.
    pub(super) const fn placed(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { .. } => None,
            State::Due(due) => Some(due),
        }
    }

    /// It is held no longer.
    pub(super) const fn release(&mut self, now: Instant) {
        self.state = State::Due(now);
    }

    /// When to look again: `now` or earlier when it is to be raised.
    pub(super) fn due(&mut self, guest: &GuestProgress, now: Instant) -> Instant {
        if let State::Waiting { until, seen, latest, delay } = self.state {
            if until.has_come(&seen, guest) {
                self.state = State::Due(now.plus(delay));
            } else if now >= latest {
                self.state = State::Due(now);
            }
        }
        match self.state {
            State::Waiting { latest, .. } => latest.min(now.plus(WATCH)),
            State::Due(due) => due,
        }
    }
}
