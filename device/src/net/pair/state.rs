// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a pair says of itself.

use tsnic_core::counters::Counters;
use tsnic_core::path::Path;
use tsnic_core::stall::Detector;
use tsnic_core::time::Now;

use super::{PageState, Queue, RX, TX};
use crate::net::lateness::Lateness;
use crate::net::status::{PageStatus, PairStatus};
use crate::port::wire::Directions;

/// The parts of a [`super::Pair`] that say so.
pub(in crate::net) struct Parts<'a> {
    pub number: u16,
    pub queues: &'a [Queue; 2],
    pub paths: &'a [Path; 2],
    pub lateness: &'a [Lateness; 2],
    pub page: Option<&'a PageState>,
    pub port_detached: Option<&'a String>,
    pub wire: Option<Directions>,
    pub stalls: Option<&'a [Detector; 2]>,
    /// With its rate.
    pub clock: (Now, i64),
    pub counters: &'a Counters,
}

impl Parts<'_> {
    /// The state of the pair.
    pub fn status(self) -> PairStatus {
        let mut counters = self.counters.clone();
        if let Some(page) = self.page {
            counters.add_losses(&page.irq);
        }
        let is_running =
            |queue: &Queue| queue.running.as_ref().is_some_and(|running| !running.broken);
        let page = self.page.map(|page| PageStatus::new(page.generation, &page.irq));
        PairStatus {
            number: self.number,
            running: self.queues.iter().all(is_running),
            port_detached: self.port_detached.cloned(),
            wire: self.wire,
            page,
            moderation: [RX, TX].map(|queue| self.paths[queue].moderation_in_force()),
            lateness: [RX, TX].map(|queue| self.lateness[queue].summary()),
            stalls: self.stalls.map(|detectors| [RX, TX].map(|queue| *detectors[queue].tally())),
            clock: self.clock,
            counters,
        }
    }
}
