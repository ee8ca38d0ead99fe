// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Arming: rules 1 to 5 of "Interrupts on a queue with a page" in `docs/interface.md`.

use tsnic_abi::Counter;

#[cfg(test)]
mod tests;

/// How the device treats an arm, and what it does between two of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rearm {
    /// Rules 1 to 4: one interrupt for each arm, and none for a packet that one was raised for.
    #[default]
    OneShot,
    /// One interrupt for each arm, which looks at the ring and not at `signaled`: it is raised again
    /// for what the driver has not consumed.
    Level,
    /// One interrupt for each arm, and only for what is published after it: the device does not look
    /// back.
    Edge,
    /// Armed for good by the first arm: interrupts go on without waiting for the next one.
    NoAutomask,
}

/// What became of the latest interrupt that was requested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// It was raised, or there was none.
    #[default]
    Raised,
    /// A policy holds it.
    Held,
    /// A policy has dropped it.
    Dropped,
}

/// Interrupt state of one receive queue whose driver has registered a page.
///
/// Counters of completions are free-running and wrap at 2^32. The device publishes at most one ring
/// ahead of the driver, so any two of them are close together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupts {
    produced: Counter,
    signaled: Counter,
    ci: Counter,
    fired: Counter,
    arm: Counter,
    armed: bool,
    ci_errors: u64,
    rearm: Rearm,
    way: Way,
    forgotten: bool,
}

impl Interrupts {
    /// The state after a registration: nothing signaled beyond `ci`, not armed.
    ///
    /// `ci` and `arm` are the baselines of the registration header and `used_index` the receive
    /// ring's used index. `irq_seen` is that cell of the new page: interrupts are numbered on from
    /// it, so that a number left over from an earlier device is never taken for one of this one.
    /// The caller writes [`Self::fired`] to the page.
    #[must_use]
    pub const fn at_registration(
        ci: Counter,
        used_index: u16,
        arm: Counter,
        irq_seen: Counter,
    ) -> Self {
        Self {
            produced: ci.widen(used_index),
            signaled: ci,
            ci,
            fired: irq_seen,
            arm,
            armed: false,
            ci_errors: 0,
            rearm: Rearm::OneShot,
            way: Way::Raised,
            forgotten: false,
        }
    }

    /// The same for another kind of device.
    #[must_use]
    pub const fn with_rearm(mut self, rearm: Rearm) -> Self {
        self.rearm = rearm;
        self
    }

    /// Rule 1, second half: `completions` have been published by the used index, their records
    /// before it.
    pub fn publish(&mut self, completions: u32) {
        self.produced = self.produced.plus(completions);
    }

    /// Rule 2 without moderation: an interrupt is requested.
    #[must_use]
    pub const fn requested(&self) -> bool {
        self.armed && self.produced.is_after(self.signaled)
    }

    /// Rule 3, first half: lets an interrupt through, which is on its way from now on. False, and
    /// nothing changes, when none is requested.
    pub fn signal(&mut self) -> bool {
        if !self.requested() {
            return false;
        }
        self.signaled = self.produced;
        self.armed = self.rearm == Rearm::NoAutomask;
        true
    }

    /// Rule 3, second half: numbers an interrupt that is raised now, on request or as a spurious
    /// one.
    #[must_use = "the number must be written to the page and the interrupt raised"]
    pub fn raise(&mut self) -> Counter {
        self.fired = self.fired.plus(1);
        self.fired
    }

    /// Tells what became of the latest interrupt that was let through.
    pub const fn set_way(&mut self, way: Way) {
        self.way = way;
    }

    /// What became of the latest interrupt that was let through.
    #[must_use]
    pub const fn way(&self) -> Way {
        self.way
    }

    /// Rule 4: takes over the doorbell record. False, and nothing changes, when `arm` is the number
    /// already known.
    ///
    /// A `ci` that is ahead of `produced`, or behind an earlier one, is a driver error: it is
    /// counted ([`Self::ci_errors`]) and taken as `produced`, or as the earlier one.
    pub fn arm(&mut self, arm: Counter, ci: Counter) -> bool {
        if arm == self.arm {
            return false;
        }
        self.arm = arm;
        if ci.since(self.ci) <= self.produced.since(self.ci) {
            self.ci = ci;
        } else {
            self.ci_errors += 1;
            if ci.is_after(self.produced) {
                self.ci = self.produced;
            }
        }
        let signaled = self.signaled.latest(self.ci);
        self.signaled = match self.rearm {
            Rearm::OneShot | Rearm::NoAutomask => signaled,
            Rearm::Level => self.ci,
            Rearm::Edge => self.produced,
        };
        self.forgotten = self.signaled.is_after(signaled);
        self.armed = true;
        true
    }

    /// Rule 5: looks lost. Whether it is, [`super::loss`] decides.
    #[must_use]
    pub fn loss_candidate(&self) -> bool {
        self.armed && self.produced == self.signaled && self.produced.is_after(self.ci)
    }

    /// The last arm made an edge-triggered device forget packets that no interrupt was raised for.
    #[must_use]
    pub const fn forgotten(&self) -> bool {
        self.forgotten
    }

    /// Completions published.
    #[must_use]
    pub const fn produced(&self) -> Counter {
        self.produced
    }

    /// Completions covered by the last interrupt.
    #[must_use]
    pub const fn signaled(&self) -> Counter {
        self.signaled
    }

    /// Completions consumed, as of the last arm.
    #[must_use]
    pub const fn ci(&self) -> Counter {
        self.ci
    }

    /// Number of the latest interrupt.
    #[must_use]
    pub const fn fired(&self) -> Counter {
        self.fired
    }

    /// Sequence number of the last arm.
    #[must_use]
    pub const fn last_arm(&self) -> Counter {
        self.arm
    }

    /// The driver has asked for an interrupt and not got it yet.
    #[must_use]
    pub const fn armed(&self) -> bool {
        self.armed
    }

    /// Arms whose `ci` could not be true.
    #[must_use]
    pub const fn ci_errors(&self) -> u64 {
        self.ci_errors
    }

    /// The driver has consumed every completion before `end`.
    #[must_use]
    pub const fn covered(&self, end: Counter) -> bool {
        !end.is_after(self.ci)
    }
}
