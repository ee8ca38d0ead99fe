// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The stall detectors of a pair.

use std::time::Duration;

use tracing::warn;
use tsnic_core::stall::{Detector, Look};

use super::{Pair, RX, TX};
use crate::clock::Clock;
use crate::net::event::Event;
use crate::port::Port;

impl<P: Port, C: Clock> Pair<P, C> {
    /// Finds out why a queue does not go on from now on: looks closer when its guest shows no
    /// progress for `after`, at least a microsecond.
    pub fn watch_for_stalls(&mut self, after: Duration) {
        self.stalls = Some([RX, TX].map(|_| Detector::new(after)));
    }

    /// The stall detector may look on, and nudge.
    pub(in crate::net) const fn allows_nudges(&self) -> bool {
        self.adversary.allows_nudges()
    }

    /// The stall detector of a queue has found something out.
    pub(in crate::net) fn note_stall(&mut self, queue: usize, look: &Look) {
        self.counters.nudges += u64::from(look.nudge);
        self.counters.detector_disagreements += u64::from(look.disagrees);
        let Some(evidence) = look.evidence else { return };
        self.counters.stalls += 1;
        self.tell(|| Event::Stalled(queue, evidence));
        if let Some(line) = self.limited.stalls.line(self.now()) {
            let guest = &evidence.seen.guest;
            warn!(
                pair = self.number,
                left_out = line.left_out,
                by_policy = evidence.by_policy,
                waited = ?evidence.waited,
                answered = ?evidence.answered,
                nudges = evidence.nudges,
                published = evidence.seen.published,
                available = guest.available,
                asked = guest.asked,
                kicks = guest.kicks,
                raised = evidence.seen.raised,
                "The {} queue stalled: {}",
                if queue == RX { "receive" } else { "transmit" },
                evidence.verdict
            );
        }
    }
}
