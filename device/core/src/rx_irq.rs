// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The armed gate: arming and the loss detector of one receive queue with a page as one.

use core::fmt;

use tsnic_abi::{Counter, phase};

use super::arming::{Interrupts, Way};
use super::loss::{LossDetector, LossState, Verdict};
use super::path::Gate;
use super::progress::{Doorbell, Progress};
use crate::time::Instant;

#[cfg(test)]
mod tests;

/// Interrupts of one receive queue whose driver has registered a page: its gate on the interrupt
/// path ([`super::path`]). Made anew at each registration.
///
/// The worker drives it in this order, each time round:
/// 1. copy out of the page: the rendezvous and progress cells first, then the doorbell (`arm`,
///    `irq_seen`, `ci`). In this order an arm that was written before the guest came to a
///    rendezvous is never missed;
/// 2. [`Self::doorbell`];
/// 3. step the [`super::adversary::Adversary`] and do what it says;
/// 4. for each packet it publishes, from the port or made up: 1 and 2 again if the detector has an
///    open candidate, so that the verdict is of now and not of when the step began; [`Self::due`],
///    write the record and the used index, [`Self::published`];
/// 5. poll the path, tell what became of the interrupt ([`Self::set_way`]), and raise what it says,
///    each with its number ([`Self::raise`]).
#[derive(Clone, Debug)]
pub struct RxIrq {
    interrupts: Interrupts,
    detector: LossDetector,
    armed_at: Option<Instant>,
    /// What the last arm carried.
    arm_irq_seen: Counter,
}

impl fmt::Display for RxIrq {
    /// The state in one line, for messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let irq = &self.interrupts;
        let armed = if irq.armed() { "armed" } else { "not armed" };
        let (produced, signaled, ci, fired) =
            (irq.produced().0, irq.signaled().0, irq.ci().0, irq.fired().0);
        write!(f, "{armed}, produced {produced}, signaled {signaled}, ci {ci}, fired {fired}")
    }
}

impl RxIrq {
    /// The state after a registration, `interrupts` being that of [`Interrupts::at_registration`].
    /// Write [`Interrupts::fired`] to the page.
    #[must_use]
    pub fn new(interrupts: Interrupts) -> Self {
        let arm_irq_seen = interrupts.fired();
        Self { interrupts, detector: LossDetector::default(), armed_at: None, arm_irq_seen }
    }

    /// Takes over the doorbell record. True when it was an arm. Also has the detector look at
    /// `progress`, which must have been read before the doorbell.
    pub fn doorbell(&mut self, doorbell: Doorbell, progress: &Progress, now: Instant) -> bool {
        let armed = self.interrupts.arm(doorbell.arm, doorbell.ci);
        if armed {
            self.armed_at = Some(now);
            self.arm_irq_seen = doorbell.irq_seen;
            self.detector.armed(&self.interrupts, progress, doorbell.irq_seen);
        } else {
            self.detector.look(&self.interrupts, progress);
        }
        armed
    }

    /// A packet is about to be published, or the guest to be nudged: judges an open loss candidate.
    /// Cheap when there is none. Call it only when the packet is sure to be published: the guest has
    /// posted buffers for it.
    ///
    /// `progress` is the copy that was given to [`Self::doorbell`] last.
    pub fn due(&mut self, progress: &Progress) -> Option<Verdict> {
        if self.detector.is_open() { self.detector.judge(&self.interrupts, progress) } else { None }
    }

    /// A packet of `completions` (1 or more, with mergeable buffers) has been published.
    pub fn published(&mut self, completions: u32) {
        self.interrupts.publish(completions);
    }

    /// Numbers an interrupt that is raised now: write the number to the page's `fired` cell
    /// (release), then write the call eventfd.
    #[must_use = "the number must be written to the page and the interrupt raised"]
    pub fn raise(&mut self) -> Counter {
        self.interrupts.raise()
    }

    /// Tells what became of the latest interrupt that went through.
    pub fn set_way(&mut self, way: Way) {
        self.interrupts.set_way(way);
        if way == Way::Dropped {
            self.detector.dropped(&self.interrupts, self.arm_irq_seen);
        }
    }

    /// Completions that no interrupt and no arm has covered.
    #[must_use]
    pub const fn unsignaled(&self) -> u32 {
        self.interrupts.produced().since(self.interrupts.signaled())
    }

    /// The counters.
    #[must_use]
    pub const fn interrupts(&self) -> &Interrupts {
        &self.interrupts
    }

    /// The detector.
    #[must_use]
    pub const fn detector(&self) -> &LossDetector {
        &self.detector
    }

    /// What the open loss candidate is.
    #[must_use]
    pub fn loss_state(&self, progress: &Progress) -> LossState {
        self.detector.loss_state(&self.interrupts, progress)
    }

    /// Nothing is going on: armed, everything published consumed, no poll running.
    #[must_use]
    pub fn is_idle(&self, progress: &Progress) -> bool {
        let irq = &self.interrupts;
        irq.armed() && irq.ci() == irq.produced() && progress.phase == phase::IDLE
    }

    /// When the last arm was taken over; `None` before the first.
    #[must_use]
    pub const fn armed_at(&self) -> Option<Instant> {
        self.armed_at
    }
}

impl Gate for RxIrq {
    fn requested(&self) -> bool {
        self.interrupts.requested()
    }

    fn pass(&mut self) -> bool {
        self.interrupts.signal()
    }
}
