// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The interrupt path of one vector: cause, gate, moderation, policies, line. Every interrupt of the
//! device goes this way, and nothing else raises one.
//!
//! A *cause* asks for an interrupt. The *gate* says whether the contract with the guest allows one.
//! *Moderation* says when. What comes through is an *intent*, with a number; the *policies* decide
//! its fate. What is left is raised on the *line*, which is the caller's.

use alloc::vec::Vec;

use tsnic_abi::Counter;

use crate::arming::Way;
use crate::moderation::{Moderation, Moment, Setting};
use crate::policy::Policies;
use crate::policy::decision::{Cause, Decision, GuestProgress, Intent};
use crate::schedule::Schedule;
use crate::time::Instant;

mod held;
#[cfg(test)]
mod tests;

use held::HeldInterrupt;

/// Most interrupts that are held at a time. Beyond these they are raised at once, and copies are left
/// out: a guest decides how many interrupts it asks for while one is held.
pub const HELD_MAX: usize = 1_024;

/// Whether the device may interrupt, by its contract with the guest.
pub trait Gate {
    /// Something has been published that no interrupt was let through for, and as far as is known
    /// without asking the guest it may be interrupted.
    fn requested(&self) -> bool;

    /// Lets an interrupt through for everything published, which is signaled from now on. False
    /// when the guest does not want one: then, too, it is not asked again for the same packets.
    fn pass(&mut self) -> bool;
}

/// What [`Path::poll`] wants done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Raise {
    /// Raise the line so often.
    pub count: u32,
    /// When the earliest of them that was held for a time was due.
    pub due: Option<Instant>,
    /// Poll again at this time.
    pub next: Option<Instant>,
}

/// The interrupt path of one vector. It outlives queues and pages.
#[derive(Debug)]
pub struct Path {
    moderation: Moderation,
    policies: Policies,
    /// Free-running number of the completions published.
    produced: Counter,
    /// Number of the next intent.
    intents: u64,
    /// When the one before it came, or the policies were set.
    latest_intent: Instant,
    held: Vec<HeldInterrupt>,
    way: Way,
    tally: Tally,
    schedule: Schedule,
}

/// What the policies of a path have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Interrupts held back.
    pub held: u64,
    /// Interrupts dropped.
    pub dropped: u64,
    /// Interrupts raised that nobody had requested.
    pub spurious: u64,
}

impl Path {
    /// A path with nothing published and no policies. [`Self::reset`] it when its queue starts.
    #[must_use]
    pub fn new(moderation: Setting) -> Self {
        Self {
            moderation: Moderation::new(moderation, 1),
            policies: Policies::default(),
            produced: Counter::default(),
            intents: 0,
            latest_intent: Instant::default(),
            held: Vec::new(),
            way: Way::Raised,
            tally: Tally::default(),
            schedule: Schedule::default(),
        }
    }

    /// The queue starts anew: nothing published before has to be signaled, and nothing is held. Its
    /// guest can have `outstanding` completions that it has not consumed (1 or more).
    pub fn reset(&mut self, outstanding: u16) {
        self.moderation = Moderation::new(self.moderation.setting(), outstanding);
        self.held.clear();
        self.way = Way::Raised;
    }

    /// Moderates so from now on.
    pub fn set_moderation(&mut self, setting: Setting) {
        self.moderation.set(setting);
    }

    /// How it moderates.
    #[must_use]
    pub const fn moderation(&self) -> Setting {
        self.moderation.setting()
    }

    /// The same, with the limits in force: those that adaptive moderation has chosen.
    #[must_use]
    pub fn moderation_in_force(&self) -> Setting {
        Setting { limits: self.moderation.limits(), ..self.moderation.setting() }
    }

    /// Other policies, from now on. Intents are numbered from 0 again, a new schedule begins, and
    /// what is held is raised at the next poll.
    pub fn set_policies(&mut self, policies: Policies, now: Instant) {
        for held in &mut self.held {
            held.release(now);
        }
        self.policies = policies;
        self.intents = 0;
        self.latest_intent = now;
        self.schedule = Schedule::default();
    }

    /// What was decided since the policies were set.
    #[must_use]
    pub const fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// No policy wants to know how far the guest is.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.policies.is_empty() && self.held.is_empty()
    }

    /// When the next interrupt that is held for a time is due.
    #[must_use]
    pub fn placed(&self) -> Option<Instant> {
        self.held.iter().filter_map(HeldInterrupt::placed).min()
    }

    /// A packet of `completions` and `bytes` has been published.
    pub fn published(&mut self, completions: u32, bytes: u32, now: Instant) {
        self.produced = self.produced.plus(completions);
        self.moderation.published(self.produced, bytes, now);
    }

    /// All but the latest `unsignaled` completions are covered, by an interrupt or by an arm.
    pub fn covered(&mut self, unsignaled: u32) {
        self.moderation.signaled(self.produced.minus(unsignaled));
    }

    /// What became of the latest intent.
    #[must_use]
    pub fn way(&self) -> Way {
        if self.held.is_empty() { self.way } else { Way::Held }
    }

    /// Intents of the present policies.
    #[must_use]
    pub const fn intents(&self) -> u64 {
        self.intents
    }

    /// An interrupt that was not asked of this path is raised: whatever became of the latest intent,
    /// the guest has had one.
    pub const fn nudged(&mut self) {
        self.way = Way::Raised;
    }

    /// What the policies have done since the last call.
    pub fn take_tally(&mut self) -> Tally {
        core::mem::take(&mut self.tally)
    }

    /// Looks whether an interrupt is to be raised.
    ///
    /// [`Cause::OutOfBuffers`] and [`Cause::Injection`] do not wait for moderation, and the second
    /// is not subject to policies: it is one.
    #[must_use = "what it says must be raised"]
    pub fn poll(
        &mut self,
        gate: &mut impl Gate,
        cause: Cause,
        guest: &GuestProgress,
        now: Instant,
    ) -> Raise {
        let mut raise = Raise::default();
        if gate.requested() {
            match self.moderation.moment(now) {
                Moment::At(due) if cause == Cause::Completions => raise.wake_at(due),
                _ => {
                    let passed = gate.pass();
                    self.covered(0);
                    if passed {
                        self.moderation.interrupted(now);
                        raise.count += self.intent(cause, guest, now);
                    }
                }
            }
        }
        if !self.is_plain() {
            self.stimuli(&mut raise, now);
            self.release(&mut raise, guest, now);
        }
        if raise.count != 0 {
            self.way = Way::Raised;
        }
        raise
    }

    /// An intent has come through the gate. Returns the interrupts to raise at once.
    fn intent(&mut self, cause: Cause, guest: &GuestProgress, now: Instant) -> u32 {
        if cause == Cause::Injection || self.policies.is_empty() {
            return 1;
        }
        let number = self.intents;
        self.intents += 1;
        self.latest_intent = now;
        let intent = Intent { number, cause, produced: self.produced, now };
        let decision = self.policies.decide(&intent);
        self.schedule.record(number, &decision);
        self.carry_out(&decision, guest, now)
    }

    fn carry_out(&mut self, decision: &Decision, guest: &GuestProgress, now: Instant) -> u32 {
        if decision.dropped {
            self.tally.dropped += 1;
            self.way = Way::Dropped;
            return 0;
        }
        let mut raise = 0;
        if decision.joins && !self.held.is_empty() {
            // The interrupt that is held is this one's as well.
            self.tally.held += 1;
        } else if decision.hold.is_none() || self.held.len() >= HELD_MAX {
            raise = 1;
        } else {
            self.tally.held += 1;
            self.held.push(HeldInterrupt::new(decision.hold, guest, now));
        }
        let mut copy = decision.copies_after;
        let room = HELD_MAX.saturating_sub(self.held.len());
        for _ in 0..room.min(decision.copies.into()) {
            self.held.push(HeldInterrupt::spurious(copy, guest, now));
            copy.delay = copy.delay.saturating_add(decision.copies_after.delay);
        }
        raise
    }

    /// What policies raise by themselves.
    fn stimuli(&mut self, raise: &mut Raise, now: Instant) {
        let count = self.policies.stimuli(now);
        if count != 0 {
            self.tally.spurious += u64::from(count);
            let after = now.since(self.latest_intent);
            self.schedule.spurious(self.intents, after, count);
            raise.count += count;
        }
        if let Some(due) = self.policies.due() {
            raise.wake_at(due);
        }
    }

    /// Held interrupts whose time has come.
    fn release(&mut self, raise: &mut Raise, guest: &GuestProgress, now: Instant) {
        self.held.retain_mut(|held| {
            let due = held.due(guest, now);
            if due <= now {
                raise.due = Some(raise.due.map_or(due, |earliest| earliest.min(due)));
                raise.count += 1;
                self.tally.spurious += u64::from(held.spurious);
                return false;
            }
            raise.wake_at(due);
            true
        });
    }
}

impl Raise {
    fn wake_at(&mut self, due: Instant) {
        self.next = Some(self.next.map_or(due, |next| next.min(due)));
    }
}
