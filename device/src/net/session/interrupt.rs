// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The end of the interrupt path: the only code that raises a line.

use tsnic_core::path::Raise;
use tsnic_core::policy::decision::{Cause, GuestProgress};

use super::Session;
use crate::clock::Clock;
use crate::net::pair::{RX, TX};
use crate::net::ring::Ring;
use crate::port::Port;

impl<P: Port, C: Clock> Session<'_, '_, P, C> {
    /// Raises the receive interrupt if one is due.
    pub(super) fn interrupt(&mut self, cause: Cause) {
        let Some(mut ring) = self.rx.take() else { return };
        let guest = self.policy_progress(RX, &ring);
        let now = self.pair.now();
        let path = &mut self.pair.paths[RX];
        let raise = match (&self.cells, &mut self.pair.page) {
            (Some(_), Some(page)) => {
                path.covered(page.irq.unsignaled());
                let raise = path.poll(&mut page.irq, cause, &guest, now);
                page.irq.set_way(path.way());
                ring.forget_signal_used();
                raise
            }
            _ => path.poll(&mut ring, cause, &guest, now),
        };
        self.rx = Some(ring);
        self.raise(RX, raise);
    }

    /// Raises the transmit interrupt if one is due.
    pub(super) fn interrupt_transmitted(&mut self, ring: &mut Ring<'_>) {
        let guest = self.policy_progress(TX, ring);
        let now = self.pair.now();
        let raise = self.pair.paths[TX].poll(ring, Cause::Completions, &guest, now);
        self.raise(TX, raise);
    }

    /// One spurious interrupt, to see whether the guest goes on because of it.
    pub(super) fn nudge(&mut self, queue: usize) {
        let path = &mut self.pair.paths[queue];
        path.nudged();
        if let (RX, Some(page)) = (queue, &mut self.pair.page) {
            // What is lost has been lost until now, as when the next packet is due.
            page.irq.due(&self.progress);
            page.irq.set_way(path.way());
        }
        self.raise(queue, Raise { count: 1, ..Raise::default() });
    }

    /// What the policies of a queue want to know of the guest: nothing when there are none.
    fn policy_progress(&self, queue: usize, ring: &Ring<'_>) -> GuestProgress {
        if self.pair.paths[queue].is_plain() {
            return GuestProgress::default();
        }
        self.guest_progress(queue, ring)
    }

    /// How far the guest is with a queue.
    pub(super) fn guest_progress(&self, queue: usize, ring: &Ring<'_>) -> GuestProgress {
        let (available, wish) = ring.guest_cells();
        let counters = &self.pair.counters;
        let (asked, handled) = match &self.pair.page {
            Some(page) if queue == RX && self.cells.is_some() => {
                (page.irq.interrupts().last_arm().0, self.progress.irq_seen.0)
            }
            _ => (wish.into(), wish.into()),
        };
        GuestProgress {
            kicks: self.pair.kicks[queue],
            available,
            asked,
            handled,
            other: if queue == RX { counters.tx_interrupts } else { counters.rx_interrupts },
        }
    }

    fn raise(&mut self, queue: usize, raise: Raise) {
        for _ in 0..raise.count {
            if queue == RX
                && let (Some(cells), Some(page)) = (&self.cells, &mut self.pair.page)
            {
                cells.set_fired(page.irq.raise());
            }
            let counters = &mut self.pair.counters;
            let raised =
                if queue == RX { &mut counters.rx_interrupts } else { &mut counters.tx_interrupts };
            *raised += 1;
            self.lines.raise(queue);
        }
        if let Some(due) = raise.due {
            let late = self.pair.now().since(due);
            self.pair.lateness[queue].record(late);
        }
        self.pair.count_policies(queue);
        self.wake_at(raise.next);
    }
}
