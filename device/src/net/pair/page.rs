// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The shared queue page of a pair: taken into use, refused, forgotten.

use tracing::{info, warn};
use tsnic_abi::RX_RECORDS;

use super::{PageState, Pair, RX};
use crate::clock::Clock;
use crate::net::event::Event;
use crate::net::memory::GuestView;
use crate::net::queue_page::{QueuePage, Refusal};
use crate::port::Port;

impl<P: Port, C: Clock> Pair<P, C> {
    /// Uses this page from now on.
    pub(in crate::net) fn use_page(&mut self, page: PageState) {
        // However long the ring is, its driver has no more out than the page has records.
        self.paths[RX].reset(RX_RECORDS);
        self.reset_stalls(RX);
        self.counters.registrations += 1;
        self.tell(|| Event::PageAccepted(page.generation));
        if let Some(line) = self.limited.accepted.line(self.now()) {
            let (generation, ci) = (page.generation, page.irq.interrupts().ci().0);
            info!(
                pair = self.number,
                left_out = line.left_out,
                generation,
                ci,
                "Shared queue page taken into use"
            );
        }
        self.page = Some(page);
    }

    /// Stops using the page, if there is one, and says so in it, if it is still guest memory that
    /// may be written.
    pub(in crate::net) fn forget_page(&mut self, view: Option<&GuestView<'_>>, why: &'static str) {
        self.tell_losses();
        if let Some(page) = self.page.take() {
            if let Some(Ok(cells)) = view.map(|view| QueuePage::open(view, page.address)) {
                cells.forget(page.generation);
            }
            self.counters.add_losses(&page.irq);
            self.counters.pages_forgotten += 1;
            self.tell(|| Event::PageForgotten(page.generation, why));
            // What is unsignaled goes by the virtio gate from here on, which asks once more.
            if let Some(running) = &self.queues[RX].running {
                self.paths[RX].reset(running.config.entries.max(1));
            }
            self.reset_stalls(RX);
            if let Some(line) = self.limited.forgotten.line(self.now()) {
                let generation = page.generation;
                info!(
                    pair = self.number,
                    left_out = line.left_out,
                    generation,
                    why,
                    "Shared queue page forgotten"
                );
            }
        }
    }

    /// Tells of new verdicts of the loss detector.
    pub(in crate::net) fn tell_losses(&mut self) {
        let Some(page) = &mut self.page else { return };
        let tally = page.irq.detector().tally();
        let now = [tally.lost, tally.rescued];
        let before = std::mem::replace(&mut page.told, now);
        if now != before {
            self.tell(|| Event::Lost(now[0] - before[0], now[1] - before[1]));
        }
    }

    /// A registration was refused.
    pub(in crate::net) fn refused(&mut self, view: &GuestView<'_>, refusal: &Refusal) {
        self.counters.registrations_refused += 1;
        self.tell(|| Event::PageRefused(refusal.to_string()));
        if let Some(line) = self.limited.refused.line(self.now()) {
            let error = refusal as &dyn std::error::Error;
            warn!(pair = self.number, left_out = line.left_out, error, "Shared queue page refused");
        }
        self.forget_page(Some(view), "the driver posted another one");
    }
}
