// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One injection at a rendezvous: from the publish, over the interrupt that finds the NAPI owned,
//! to the guest's next arm.

use alloc::borrow::ToOwned as _;
use alloc::string::String;
use core::time::Duration;

use tsnic_abi::Counter;

use super::loss::LossState;
use super::run::{Actions, Arrival, PageView, Published};
use crate::time::Instant;

/// Between two looks at cells that change without a kick. Sleeping this long instead of spinning
/// leaves the host's CPUs to the guest, and so gets the interrupt there sooner.
pub(super) const LOOK: Duration = Duration::from_micros(30);

/// The guest is let go when its handler has not run by then. Less than the guest's own bound.
const HANDLED_WITHIN: Duration = Duration::from_millis(200);

/// How long an interrupt that is still under way, for earlier traffic, may keep an injection
/// waiting: its handler could be taken for that of the injection's own. Often nobody will ever
/// handle it (the ring was empty when it came), so the wait is short.
const DRAIN: Duration = Duration::from_millis(1);

/// Waits, before an injection, for earlier interrupts to reach their handler.
#[derive(Debug, Default)]
pub(super) struct Drain {
    until: Option<Instant>,
}

impl Drain {
    /// True when the packet may be injected; otherwise step again soon.
    pub(super) fn is_done(&mut self, now: Instant, page: &PageView, actions: &mut Actions) -> bool {
        let handled = page.progress.irq_seen == page.irq.interrupts().fired();
        let done = handled || now >= *self.until.get_or_insert(now.plus(DRAIN));
        if !done {
            actions.step_again(now, LOOK);
        }
        done
    }
}

/// How an injection came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum InjectionResult {
    /// The guest's arm covered the packet.
    Delivered,
    /// The guest's arm did not cover it: lost, unless another poll finds it.
    Missing,
    /// The injection did not land as it was meant to, and why.
    Inconclusive(String),
}

/// An injection under way.
#[derive(Debug)]
pub(super) struct Injection {
    arrival: Arrival,
    /// Interrupt number and arm number before the injection.
    fired_before: Counter,
    arm_before: Counter,
    /// How long the guest may take from the release to the arm that tells.
    patience: Duration,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The worker has been told to publish and fire.
    Aimed,
    /// Published and fired; the guest spins until it is released.
    Injected(Published),
    /// Released.
    Released(Published, Instant),
}

impl Injection {
    /// Aims at a guest that has come to `arrival`, the queue armed. The caller asks for the publish
    /// and the interrupt.
    pub(super) const fn aim(arrival: Arrival, page: &PageView, patience: Duration) -> Self {
        let irq = page.irq.interrupts();
        Self {
            arrival,
            fired_before: irq.fired(),
            arm_before: irq.last_arm(),
            patience,
            stage: Stage::Aimed,
        }
    }

    /// The packet has been published.
    pub(super) const fn published(&mut self, published: Published) {
        self.stage = Stage::Injected(published);
    }

    /// The handler found the NAPI owned, and the guest was let go.
    pub(super) const fn is_released(&self) -> bool {
        matches!(self.stage, Stage::Released(..))
    }

    /// The injected packet, once it has been published.
    pub(super) const fn packet(&self) -> Option<Published> {
        match self.stage {
            Stage::Aimed => None,
            Stage::Injected(packet) | Stage::Released(packet, _) => Some(packet),
        }
    }

    /// One step; `Some` when it is over. A rendezvous that is not released then is the caller's to
    /// release.
    pub(super) fn step(
        &mut self,
        now: Instant,
        page: &PageView,
        rendezvous: Option<Arrival>,
        actions: &mut Actions,
    ) -> Option<InjectionResult> {
        match self.stage {
            Stage::Aimed => None,
            Stage::Injected(packet) => self.injected(packet, now, page, rendezvous, actions),
            Stage::Released(packet, deadline) => {
                let irq = page.irq.interrupts();
                if irq.covered(packet.end) {
                    return Some(InjectionResult::Delivered);
                }
                let loss_state = page.irq.loss_state(&page.progress);
                if irq.last_arm() != self.arm_before
                    && matches!(loss_state, LossState::Lost | LossState::Polling)
                {
                    return Some(InjectionResult::Missing);
                }
                if now >= deadline {
                    let waited = self.patience.as_millis();
                    let state = format!("{}; {}", page.irq, page.progress);
                    return Some(InjectionResult::Inconclusive(format!(
                        "Neither delivered nor lost within {waited} ms: {state}"
                    )));
                }
                // Of the poll that consumes the packet, as a rule.
                actions.release = rendezvous.map(|arrival| arrival.number);
                actions.wake_at(deadline);
                actions.step_again(now, Duration::from_millis(1));
                None
            }
        }
    }

    fn injected(
        &mut self,
        packet: Published,
        now: Instant,
        page: &PageView,
        rendezvous: Option<Arrival>,
        actions: &mut Actions,
    ) -> Option<InjectionResult> {
        let irq = page.irq.interrupts();
        let seen = page.progress;
        let failed = |why: &str| Some(InjectionResult::Inconclusive(why.to_owned()));
        if irq.fired() == self.fired_before {
            return failed("The interrupt was not raised: the queue was not armed any more");
        }
        // A guest that spins at the rendezvous neither arms nor comes to another one.
        if rendezvous != Some(self.arrival) || irq.last_arm() != self.arm_before {
            return failed("The guest left the rendezvous before the interrupt was handled");
        }
        if seen.irq_seen == irq.fired() {
            if seen.irq_owned != irq.fired() {
                return failed(
                    "The interrupt found the NAPI free: the guest had left the rendezvous",
                );
            }
            actions.release = Some(self.arrival.number);
            let deadline = now.plus(self.patience);
            self.stage = Stage::Released(packet, deadline);
            actions.step_again(now, LOOK);
            return None;
        }
        if now.since(packet.at) >= HANDLED_WITHIN {
            return Some(InjectionResult::Inconclusive(format!(
                "The interrupt was not handled within {} ms: {}; {seen}",
                HANDLED_WITHIN.as_millis(),
                page.irq
            )));
        }
        actions.step_again(now, LOOK);
        None
    }
}
