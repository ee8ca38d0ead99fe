// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The loss detector: "Loss states" of `docs/interface.md`.
//!
//! Rule 5 says that nothing in the device will ever fire for a packet. The detector keeps apart
//! what looks like it (the interrupt is still under way, or its handler found the NAPI free or
//! owned by a later owner) from what is, and what another poll found after all.
//!
//! An arm carries `irq_seen` as the driver read it between its completion and the arm, as mlx4's
//! arm doorbell carries `sn`. When it is the number of the latest interrupt, the handler had run
//! before this owner armed, and an owner that the handler found is gone. When it is not, the
//! handler came later, and an owner that it found is a later one, whose poll is still to come.
//!
//! When a policy drops an interrupt, its packets are a candidate at once: the device, which has been
//! disarmed by it, will not fire for them.
//!
//! Three moments are not told apart:
//! - An owner takes the NAPI, and the handler finds it there, both between the completion and the
//!   driver's read of `irq_seen`. The packet looks lost until the poll of that owner arms: it is
//!   counted as rescued, or as lost if the next packet is due before that poll.
//! - The handler finds the owner that arms, and writes `irq_seen` only after that owner has read
//!   it. The packet counts as scheduled until there is another arm: a loss is missed, none is
//!   invented.
//! - An interrupt was dropped by a policy, or its packet forgotten by an `edge` device, and the
//!   handler of the interrupt before it has found the NAPI free and not started its poll yet. The
//!   packet looks lost until that poll arms. Devices that raise what is requested have no such
//!   moment.

use tsnic_abi::{Counter, phase};

use super::arming::{Interrupts, Way};
use super::progress::Progress;

#[cfg(test)]
mod tests;

/// What a loss candidate is, as far as can be told now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossState {
    /// No candidate: rule 5 does not hold.
    Clear,
    /// A policy holds the interrupt: it will be raised.
    Held,
    /// The interrupt has not reached its handler.
    InFlight,
    /// The handler took the NAPI, or found it taken by an owner later than the one that has armed:
    /// a poll will come.
    Scheduled,
    /// The handler found the NAPI owned, and a poll is running: it may be the one that finds the
    /// packet.
    Polling,
    /// The handler found the NAPI owned, the owner has armed since, and no poll is running.
    Lost,
    /// A policy has dropped the interrupt, and no poll is running: nobody can deliver the packet,
    /// and the driver is not to blame.
    Dropped,
}

/// What became of a loss candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The next packet is due and it is lost.
    Lost,
    /// The next packet is due, and the interrupt for this one had been dropped by a policy.
    Dropped,
    /// It was lost as far as could be told, then an arm covered it.
    Rescued,
    /// Something ended it before it could be told: covered while in flight, scheduled or polling,
    /// or the next packet came too early.
    NotLost,
}

/// Verdicts so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// [`Verdict::Lost`].
    pub lost: u64,
    /// [`Verdict::Rescued`].
    pub rescued: u64,
    /// [`Verdict::Dropped`].
    pub dropped: u64,
}

/// Keeps count of the losses of one receive queue.
#[derive(Clone, Debug, Default)]
pub struct LossDetector {
    candidate: Option<Candidate>,
    candidates: u64,
    tally: Tally,
    /// Completions before this number were at stake when a policy dropped their interrupt.
    dropped_end: Option<Counter>,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    /// Completions before this number are at stake.
    end: Counter,
    /// The latest `irq_seen` of an arm that did not cover them.
    arm_irq_seen: Counter,
    /// It has been seen in [`LossState::Lost`].
    seen_lost: bool,
}

impl LossDetector {
    /// An arm that carried `arm_irq_seen` has been processed. `progress` was read before the
    /// doorbell was.
    pub fn armed(
        &mut self,
        irq: &Interrupts,
        progress: &Progress,
        arm_irq_seen: Counter,
    ) -> Option<Verdict> {
        let ended = match self.candidate {
            Some(candidate) if irq.covered(candidate.end) => {
                self.candidate = None;
                Some(if candidate.seen_lost {
                    self.tally.rescued += 1;
                    Verdict::Rescued
                } else {
                    Verdict::NotLost
                })
            }
            _ => None,
        };
        if let Some(candidate) = &mut self.candidate {
            // Two polls may overlap after their completions, so an arm may come after that of a
            // later poll.
            candidate.arm_irq_seen = candidate.arm_irq_seen.latest(arm_irq_seen);
        } else if irq.loss_candidate() {
            self.candidate =
                Some(Candidate { end: irq.produced(), arm_irq_seen, seen_lost: false });
            self.candidates += 1;
        }
        self.look(irq, progress);
        ended
    }

    /// A policy has dropped the latest interrupt that was let through. The driver's last arm carried
    /// `arm_irq_seen`. Every call but the first after the drop changes nothing.
    pub fn dropped(&mut self, irq: &Interrupts, arm_irq_seen: Counter) {
        let end = irq.signaled();
        if self.dropped_end.replace(end) == Some(end)
            || self.candidate.is_some()
            || irq.covered(end)
        {
            return;
        }
        self.candidate = Some(Candidate { end, arm_irq_seen, seen_lost: false });
        self.candidates += 1;
    }

    /// Looks at the driver's progress and says what the open candidate is.
    pub fn look(&mut self, irq: &Interrupts, progress: &Progress) -> LossState {
        let loss_state = self.loss_state(irq, progress);
        if let Some(candidate) = &mut self.candidate {
            candidate.seen_lost |= loss_state == LossState::Lost;
        }
        loss_state
    }

    /// What the open candidate is.
    #[must_use]
    pub fn loss_state(&self, irq: &Interrupts, progress: &Progress) -> LossState {
        let Some(candidate) = &self.candidate else { return LossState::Clear };
        // Only an interrupt that was raised has a handler to tell of.
        let for_packet = irq.way() == Way::Raised && !irq.forgotten();
        if irq.way() == Way::Held {
            LossState::Held
        } else if progress.irq_seen != irq.fired() {
            LossState::InFlight
        } else if candidate.arm_irq_seen != irq.fired()
            || for_packet && progress.irq_owned != irq.fired()
        {
            LossState::Scheduled
        } else if progress.phase != phase::IDLE {
            LossState::Polling
        } else if irq.way() == Way::Dropped {
            LossState::Dropped
        } else {
            LossState::Lost
        }
    }

    /// The next packet is due: passes the verdict on the open candidate. Call it before the packet
    /// is published.
    pub fn judge(&mut self, irq: &Interrupts, progress: &Progress) -> Option<Verdict> {
        let loss_state = self.loss_state(irq, progress);
        self.candidate.take()?;
        Some(match loss_state {
            LossState::Lost => {
                self.tally.lost += 1;
                Verdict::Lost
            }
            LossState::Dropped => {
                self.tally.dropped += 1;
                Verdict::Dropped
            }
            _ => Verdict::NotLost,
        })
    }

    /// There is a candidate to be judged.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.candidate.is_some()
    }

    /// Candidates so far, the open one included.
    #[must_use]
    pub const fn candidates(&self) -> u64 {
        self.candidates
    }

    /// What was lost and rescued so far.
    #[must_use]
    pub const fn tally(&self) -> Tally {
        self.tally
    }
}
