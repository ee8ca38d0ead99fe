// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Shows the stall detector how the guest is doing, and nudges it when asked to.

use tsnic_abi::phase;
use tsnic_core::arming::Way;
use tsnic_core::path::Gate as _;
use tsnic_core::policy::decision::Cause;
use tsnic_core::stall::{Handler, Seen, Wish};

use super::Session;
use crate::clock::Clock;
use crate::net::pair::{RX, TX};
use crate::net::ring::Ring;
use crate::port::Port;

impl<P: Port, C: Clock> Session<'_, '_, P, C> {
    /// The end of a step. A run leaves packets lost on purpose, and has its own judge; some let
    /// the detector look on.
    pub(super) fn look_for_stalls(&mut self) {
        if self.pair.stalls.is_none() || !self.pair.allows_nudges() {
            return;
        }
        if self.cells.is_some() {
            // An arm that has come meanwhile asks for an interrupt, and no nudge.
            self.look(self.pair.now());
            self.interrupt(Cause::Completions);
        }
        let [rx, tx] = [(RX, &self.rx), (TX, &self.tx)]
            .map(|(queue, ring)| ring.as_ref().map(|ring| self.seen(queue, ring)));
        for (queue, seen) in [(RX, rx), (TX, tx)] {
            if let Some(seen) = seen {
                self.look_for_a_stall(queue, &seen);
            }
        }
    }

    fn look_for_a_stall(&mut self, queue: usize, seen: &Seen) {
        let now = self.pair.now();
        let Some(detectors) = &mut self.pair.stalls else { return };
        let other = detectors[1 - queue].as_other();
        let look = detectors[queue].look(seen, other, now);
        self.pair.note_stall(queue, &look);
        if look.nudge {
            self.nudge(queue);
        }
        self.wake_at(look.next);
    }

    fn seen(&self, queue: usize, ring: &Ring<'_>) -> Seen {
        let receive = queue == RX;
        let pair = &*self.pair;
        let path = &pair.paths[queue];
        let counters = &pair.counters;
        let seen = Seen {
            receive,
            published: ring.published().0,
            wish: ring.wish(),
            guest: self.guest_progress(queue, ring),
            due: ring.requested() || path.way() == Way::Held,
            dropped: path.way() == Way::Dropped,
            // A port that does not wait has lost its frame, and tries again with the next only.
            starved: receive && pair.starved && (pair.port.waits() || !ring.has_untaken()),
            unkicked: !receive && self.unkicked,
            raised: if receive { counters.rx_interrupts } else { counters.tx_interrupts },
            intents: path.intents(),
            ..Seen::default()
        };
        let (true, Some(cells), Some(page)) = (receive, &self.cells, &pair.page) else {
            return seen;
        };
        let irq = page.irq.interrupts();
        // Later than the doorbell was read: who has consumed because its handler ran says so.
        let progress = cells.progress();
        let handler = Handler {
            seen: progress.irq_seen == irq.fired(),
            owned: progress.irq_owned == irq.fired(),
        };
        // Nobody is to do anything about the ring.
        let down = progress.phase == phase::DOWN;
        let wish = if down || irq.ci() == irq.produced() {
            Wish::CaughtUp
        } else if irq.armed() || !handler.seen || seen.dropped {
            Wish::Waits
        } else {
            Wish::Off
        };
        Seen {
            wish,
            consumed: Some(irq.ci().0),
            handler: Some(handler),
            loss: Some(page.irq.loss_state(&self.progress)),
            due: irq.requested() || path.way() == Way::Held,
            starved: seen.starved && !down,
            ..seen
        }
    }
}
