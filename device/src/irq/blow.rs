// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One blow at a rendezvous: from the publish, over the interrupt that finds the NAPI owned, to the guest's next arm.

use std::time::Duration;

use tsnic_abi::Counter;

use super::loss::Standing;
use super::run::{Actions, AreaView, Here, Published};
use crate::clock::Instant;

/// Between two looks at cells that change without a kick. Sleeping this long instead of spinning leaves the host's CPUs to
/// the guest, and so gets the interrupt there sooner.
pub(super) const LOOK: Duration = Duration::from_micros(30);

/// The guest is let go when its handler has not run by then. Less than the guest's own bound.
const HANDLED_WITHIN: Duration = Duration::from_millis(200);

/// How long an interrupt that is still under way, for earlier traffic, may keep a blow waiting: its handler could be taken
/// for that of the blow's own. Often nobody will ever handle it (the ring was empty when it came), so the wait is short.
const DRAIN: Duration = Duration::from_millis(1);

/// Waits, before a blow, for earlier interrupts to reach their handler.
#[derive(Debug, Default)]
pub(super) struct Drain {
    until: Option<Instant>,
}

impl Drain {
    /// True when the blow may be struck. Else look again soon.
    pub(super) fn is_done(&mut self, now: Instant, area: &AreaView, actions: &mut Actions) -> bool {
        let handled = area.progress.irq_seen == area.irq.interrupts().fired();
        let done = handled || now >= *self.until.get_or_insert(now.plus(DRAIN));
        if !done {
            actions.look_again(now, LOOK);
        }
        done
    }
}

/// How a blow came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Landed {
    /// The guest's arm covered the packet.
    Delivered,
    /// The guest's arm did not cover it: lost, unless another poll finds it.
    Missing,
    /// The blow did not land as it was meant to, and why.
    Inconclusive(String),
}

/// A blow under way.
#[derive(Debug)]
pub(super) struct Blow {
    here: Here,
    /// Interrupt number and arm number before the blow.
    fired_before: Counter,
    arm_before: Counter,
    /// How long the guest may take from the ack to the arm that tells.
    patience: Duration,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The worker has been told to publish and fire.
    Aimed,
    /// Published and fired; the guest spins until it is acknowledged.
    Struck(Published),
    /// Acknowledged.
    Acked(Published, Instant),
}

impl Blow {
    /// Aims at a guest that has come to `here`, the queue armed. The caller asks for the publish and the interrupt.
    pub(super) const fn aim(here: Here, area: &AreaView, patience: Duration) -> Self {
        let irq = area.irq.interrupts();
        Self { here, fired_before: irq.fired(), arm_before: irq.last_arm(), patience, stage: Stage::Aimed }
    }

    /// The packet has been published.
    pub(super) const fn published(&mut self, published: Published) {
        self.stage = Stage::Struck(published);
    }

    /// The handler found the NAPI owned, and the guest was let go.
    pub(super) const fn is_acked(&self) -> bool {
        matches!(self.stage, Stage::Acked(..))
    }

    /// The struck packet, once it has been published.
    pub(super) const fn packet(&self) -> Option<Published> {
        match self.stage {
            Stage::Aimed => None,
            Stage::Struck(packet) | Stage::Acked(packet, _) => Some(packet),
        }
    }

    /// One step; `Some` when it is over. A meeting that is not acknowledged then is the caller's to acknowledge.
    pub(super) fn step(
        &mut self,
        now: Instant,
        area: &AreaView,
        meeting: Option<Here>,
        actions: &mut Actions,
    ) -> Option<Landed> {
        match self.stage {
            Stage::Aimed => None,
            Stage::Struck(packet) => self.struck(packet, now, area, meeting, actions),
            Stage::Acked(packet, deadline) => {
                let irq = area.irq.interrupts();
                if irq.covered(packet.end) {
                    return Some(Landed::Delivered);
                }
                let standing = area.irq.standing(&area.progress);
                if irq.last_arm() != self.arm_before && matches!(standing, Standing::Lost | Standing::Polling) {
                    return Some(Landed::Missing);
                }
                if now >= deadline {
                    let waited = self.patience.as_millis();
                    let state = format!("{}; {}", area.irq, area.progress);
                    return Some(Landed::Inconclusive(format!(
                        "Neither delivered nor lost within {waited} ms: {state}"
                    )));
                }
                actions.wake_at(deadline);
                actions.look_again(now, Duration::from_millis(1));
                None
            }
        }
    }

    fn struck(
        &mut self,
        packet: Published,
        now: Instant,
        area: &AreaView,
        meeting: Option<Here>,
        actions: &mut Actions,
    ) -> Option<Landed> {
        let irq = area.irq.interrupts();
        let seen = area.progress;
        let failed = |why: &str| Some(Landed::Inconclusive(why.to_owned()));
        if irq.fired() == self.fired_before {
            return failed("The interrupt was not raised: the queue was not armed any more");
        }
        // A guest that spins at the rendezvous neither arms nor comes to another one.
        if meeting != Some(self.here) || irq.last_arm() != self.arm_before {
            return failed("The guest left the rendezvous before the interrupt was handled");
        }
        if seen.irq_seen == irq.fired() {
            if seen.irq_owned != irq.fired() {
                return failed("The interrupt found the NAPI free: the guest had left the rendezvous");
            }
            actions.ack = Some(self.here.here);
            let deadline = now.plus(self.patience);
            self.stage = Stage::Acked(packet, deadline);
            actions.look_again(now, LOOK);
            return None;
        }
        if now.since(packet.timestamp) >= HANDLED_WITHIN {
            return Some(Landed::Inconclusive(format!(
                "The interrupt was not handled within {} ms: {}; {seen}",
                HANDLED_WITHIN.as_millis(),
                area.irq
            )));
        }
        actions.look_again(now, LOOK);
        None
    }
}
