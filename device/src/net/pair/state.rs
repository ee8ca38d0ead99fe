// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a pair says of itself.

use tsnic_core::counters::Counters;
use tsnic_core::path::Path;
use tsnic_core::stall::Detector;

use super::{PageState, Queue, RX, TX};
use crate::net::status::{PageStatus, PairStatus};
use crate::port::wire::Directions;

/// The state of a pair, from the parts of a [`Pair`] that make it up.
pub(in crate::net) fn status(
    (number, queues): (u16, &[Queue; 2]),
    paths: &[Path; 2],
    page: Option<&PageState>,
    port_detached: Option<&String>,
    wire: Option<Directions>,
    stalls: Option<&[Detector; 2]>,
    counters: &Counters,
) -> PairStatus {
    let mut counters = counters.clone();
    if let Some(page) = page {
        counters.add_losses(&page.irq);
    }
    PairStatus {
        number,
        running: queues
            .iter()
            .all(|queue| queue.running.as_ref().is_some_and(|running| !running.broken)),
        port_detached: port_detached.cloned(),
        wire,
        page: page.map(|page| PageStatus::new(page.generation, &page.irq)),
        moderation: [RX, TX].map(|queue| paths[queue].moderation_in_force()),
        stalls: stalls.map(|detectors| [RX, TX].map(|queue| *detectors[queue].tally())),
        counters,
    }
}
