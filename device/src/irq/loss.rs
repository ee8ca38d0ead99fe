// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The loss detector: "In flight" of `docs/interface.md`.
//!
//! Rule 5 says that nothing in the device will ever fire for a packet. The detector keeps apart what looks like it (the
//! interrupt is still under way, or has found the NAPI free) from what is, and what another poll found after all.
//!
//! An owner that the handler found is gone when it has armed, so a loss needs an arm that was processed after the handler's
//! cells were seen. Two things it cannot see:
//! - A handler that came between the arm's being written and processed, and found a *later* owner, whose poll has not begun. Such a
//!   packet looks lost until that poll arms. Hence the verdict is passed only when the next packet is due; a run lets some time go by
//!   before that, a watch cannot.
//! - The cells are read before the doorbell. The handler may come, and the owner that it found may arm without the packet, between the
//!   two. That arm then counts as older than the handler, and the packet as scheduled until there is another arm: a loss is
//!   missed, none is invented.

use tsnic_abi::{Counter, phase};

use super::interrupts::Interrupts;
use super::run::Progress;

#[cfg(test)]
mod tests;

/// What a loss candidate is, as far as can be told now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossState {
    /// No candidate: rule 5 does not hold.
    Clear,
    /// The interrupt has not reached its handler.
    InFlight,
    /// The handler took the NAPI, or found it taken by an owner that has not been seen to arm since: a poll will come, as a rule.
    Scheduled,
    /// The handler found the NAPI owned, and a poll is running: it may be the one that finds the packet.
    Polling,
    /// The handler found the NAPI owned, an arm has been processed since, and no poll is running.
    Lost,
}

/// What became of a loss candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The next packet is due and it is lost.
    Lost,
    /// It was lost as far as could be told, then an arm covered it.
    Rescued,
    /// Something ended it before it could be told: covered while in flight, scheduled or polling, or the next packet came
    /// too early.
    NotLost,
}

/// Verdicts so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// [`Verdict::Lost`].
    pub lost: u64,
    /// [`Verdict::Rescued`].
    pub rescued: u64,
}

/// Keeps count of the losses of one receive queue.
#[derive(Clone, Debug, Default)]
pub struct LossDetector {
    candidate: Option<Candidate>,
    candidates: u64,
    tally: Tally,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    /// Completions before this number are at stake.
    end: Counter,
    /// The interrupt had not reached its handler when the cells were read, after which the latest arm was processed. So the owner that
    /// the handler found has, as far as can be told, not armed since.
    arm_before_handler: bool,
    /// It has been seen in [`LossState::Lost`].
    seen_lost: bool,
}

impl LossDetector {
    /// An arm has been processed. `progress` was read before the doorbell was.
    pub fn armed(&mut self, irq: &Interrupts, progress: &Progress) -> Option<Verdict> {
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
        let arm_before_handler = progress.irq_seen != irq.fired();
        if let Some(candidate) = &mut self.candidate {
            candidate.arm_before_handler = arm_before_handler;
        } else if irq.loss_candidate() {
            self.candidate = Some(Candidate { end: irq.produced(), arm_before_handler, seen_lost: false });
            self.candidates += 1;
        }
        self.look(irq, progress);
        ended
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
        if progress.irq_seen != irq.fired() {
            LossState::InFlight
        } else if progress.irq_owned != irq.fired() || candidate.arm_before_handler {
            LossState::Scheduled
        } else if progress.phase == phase::IDLE {
            LossState::Lost
        } else {
            LossState::Polling
        }
    }

    /// The next packet is due: passes the verdict on the open candidate. Call it before the packet is published.
    pub fn judge(&mut self, irq: &Interrupts, progress: &Progress) -> Option<Verdict> {
        let loss_state = self.loss_state(irq, progress);
        self.candidate.take()?;
        Some(if loss_state == LossState::Lost {
            self.tally.lost += 1;
            Verdict::Lost
        } else {
            Verdict::NotLost
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

    /// Verdicts [`Verdict::Lost`] so far.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.tally.lost
    }

    /// Verdicts [`Verdict::Rescued`] so far.
    #[must_use]
    pub const fn rescued(&self) -> u64 {
        self.tally.rescued
    }
}
