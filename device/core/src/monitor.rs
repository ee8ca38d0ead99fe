// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The traffic monitor: requests of a real TCP client pass by, and now and then one of them is held
//! back until the guest is at the rendezvous, and injected there.
//!
//! To inject request k+1 the traffic monitor waits until request k has been delivered, then asks
//! for a rendezvous and holds what comes in on the port. A request that has been held for a while
//! with no guest at the rendezvous is let go.

use alloc::boxed::Box;
use alloc::string::ToString as _;
use core::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use tsnic_abi::{Counter, point};

use super::injection::{Drain, Injection, InjectionResult};
use super::loss::Tally;
use super::run::{
    Actions, Arrival, Finished, HELD_FRAMES_MAX, HeldFrames, Observation, PageView, PortPolicy,
    Publish, Published, StartError,
};
use crate::spec::{Injected, MonitorReport, MonitorSpec, Outcome};
use crate::time::Instant;

#[cfg(test)]
mod tests;

/// Frames are not held longer than this with no guest at the rendezvous.
const HELD_MAX: Duration = Duration::from_millis(20);
/// A guest at the rendezvous is let go when no request has come by then. Less than its own bound.
const AT_POINT_MAX: Duration = Duration::from_millis(100);
/// From the release to the guest's arm: the port is shut for so long.
const ARM_WITHIN: Duration = Duration::from_millis(200);
/// How long the fate of an injected request may stay open, and how long when the traffic monitor is
/// to end.
const FATE_WITHIN: Duration = Duration::from_secs(10);
const FATE_WITHIN_AT_END: Duration = Duration::from_secs(1);

/// A traffic monitor under way.
#[derive(Debug)]
pub(super) struct Monitor {
    request: MonitorSpec,
    rng: Pcg64Mcg,
    report: MonitorReport,
    generation: u32,
    /// The detector's losses and rescues that were there before.
    baseline: Tally,
    /// The request after the one that ends here has been chosen.
    after: Option<Counter>,
    stopping: Option<Instant>,
    stop: bool,
    state: State,
    pending: Option<Pending>,
}

#[derive(Debug)]
enum State {
    /// Frames pass.
    Flow,
    /// A rendezvous is wanted and frames are held.
    Hold { held_since: Option<Instant>, point_since: Option<Instant>, drain: Drain },
    /// An injection is under way.
    Injection(Injection),
    /// The injected request is missing; frames pass. The detector's tally was `before` then.
    Missing { packet: Published, before: Tally, deadline: Instant },
}

/// A publish of held frames that was asked for.
#[derive(Clone, Copy, Debug)]
struct Pending {
    request: bool,
}

enum Then {
    Again,
    Wait,
}

impl Monitor {
    pub(super) fn new(request: MonitorSpec, page: &PageView) -> Result<Self, StartError> {
        let field = |field, value: u32, expected| {
            Err(StartError::Field { field, value: value.to_string(), expected })
        };
        if request.port == 0 {
            return field("port", 0, "a TCP port");
        }
        if request.inject_per_mille > 1000 {
            return field("inject_per_mille", request.inject_per_mille, "between 0 and 1000");
        }
        let rng = Pcg64Mcg::seed_from_u64(request.seed);
        Ok(Self {
            request,
            rng,
            report: MonitorReport::default(),
            generation: page.generation,
            baseline: page.irq.detector().tally(),
            after: None,
            stopping: None,
            stop: false,
            state: State::Flow,
            pending: None,
        })
    }

    pub(super) const fn port(&self) -> u16 {
        self.request.port
    }

    /// Asks the traffic monitor to end.
    pub(super) const fn stop(&mut self) {
        self.stop = true;
    }

    /// One step. `rendezvous` is a rendezvous that has not been released.
    pub(super) fn step(
        &mut self,
        now: Instant,
        seen: &Observation,
        rendezvous: Option<Arrival>,
    ) -> Actions {
        let mut actions = Actions::default();
        if self.stop && self.stopping.is_none() {
            self.stopping = Some(now);
        }
        if let Some(page) = &seen.page {
            if page.generation != self.generation {
                self.generation = page.generation;
                self.baseline = Tally::default();
                self.abandon();
            }
            while matches!(self.state(now, page, seen.held, rendezvous, &mut actions), Then::Again)
            {
            }
            // No state but these two has a use for a guest that spins.
            if !matches!(self.state, State::Hold { .. } | State::Injection(_)) {
                actions.release =
                    actions.release.or(rendezvous.map(|rendezvous| rendezvous.number));
            }
            self.count_losses(page);
        } else {
            self.abandon();
        }
        if self.stopping.is_some() && matches!(self.state, State::Flow) {
            actions.finished = Some(Box::new(Finished::Monitor(core::mem::take(&mut self.report))));
        }
        actions
    }

    fn state(
        &mut self,
        now: Instant,
        page: &PageView,
        held: HeldFrames,
        rendezvous: Option<Arrival>,
        actions: &mut Actions,
    ) -> Then {
        match &mut self.state {
            State::Flow => {
                let delivered = self.after.is_some_and(|end| page.irq.interrupts().covered(end));
                if delivered && self.stopping.is_none() {
                    self.after = None;
                    self.state = State::Hold {
                        held_since: None,
                        point_since: None,
                        drain: Drain::default(),
                    };
                    return Then::Again;
                }
                Then::Wait
            }
            State::Hold { .. } => self.hold(now, page, held, rendezvous, actions),
            State::Injection(injection) => {
                // Nothing must come between the injection and the guest's arm: it would rescue what
                // was lost.
                actions.port = PortPolicy::Shut;
                match injection.step(now, page, rendezvous, actions) {
                    None => Then::Wait,
                    Some(took_effect) => {
                        let packet = injection.packet();
                        self.took_effect(&took_effect, packet, now, page);
                        Then::Again
                    }
                }
            }
            State::Missing { packet, before, deadline } => {
                let (packet, before) = (*packet, *before);
                let deadline = self
                    .stopping
                    .map_or(*deadline, |since| since.plus(FATE_WITHIN_AT_END).min(*deadline));
                actions.port = PortPolicy::Open;
                let irq = page.irq.interrupts();
                if irq.covered(packet.end) {
                    let tally = page.irq.detector().tally();
                    let outcome = if tally.lost != before.lost {
                        Outcome::Lost
                    } else if tally.rescued != before.rescued || irq.produced() == packet.end {
                        Outcome::Rescued
                    } else {
                        // The next frame came before it could be told.
                        Outcome::Inconclusive
                    };
                    return self.fate(packet, outcome);
                }
                if now >= deadline {
                    return self.fate(packet, Outcome::Inconclusive);
                }
                actions.wake_at(deadline);
                Then::Wait
            }
        }
    }

    fn hold(
        &mut self,
        now: Instant,
        page: &PageView,
        held: HeldFrames,
        rendezvous: Option<Arrival>,
        actions: &mut Actions,
    ) -> Then {
        let State::Hold { held_since, point_since, drain } = &mut self.state else {
            return Then::Again;
        };
        if self.stopping.is_some() {
            self.state = State::Flow;
            return Then::Again;
        }
        actions.requested = point::BEFORE_COMPLETE;
        actions.port = PortPolicy::Hold;
        if held.count != 0 {
            held_since.get_or_insert(now);
        }
        let armed = page.irq.interrupts().armed();
        let at_point =
            rendezvous.filter(|arrival| arrival.point == point::BEFORE_COMPLETE && armed);
        if let Some(arrival) = at_point {
            let since = *point_since.get_or_insert(now);
            if held.request {
                if !drain.is_done(now, page, actions) {
                    return Then::Wait;
                }
                self.state = State::Injection(Injection::aim(arrival, page, ARM_WITHIN));
                actions.requested = 0;
                actions.port = PortPolicy::Shut;
                actions.publish = Some(Publish::Held);
                actions.fire = true;
                self.pending = Some(Pending { request: true });
                return Then::Wait;
            }
            let until = since.plus(AT_POINT_MAX);
            if now < until {
                actions.wake_at(until);
                return Then::Wait;
            }
            // No request comes: the client is idle. Let the guest go and wait for another choice.
            actions.requested = 0;
            actions.release = Some(arrival.number);
            actions.step_again(now, Duration::from_millis(1));
            self.state = State::Flow;
            return Then::Wait;
        }
        if let Some(arrival) = rendezvous {
            // Not armed: the interrupt itself started this poll.
            actions.release = Some(arrival.number);
        }
        (*point_since, *drain) = (None, Drain::default());
        let full = held.count >= HELD_FRAMES_MAX;
        if let Some(since) = *held_since {
            let until = since.plus(HELD_MAX);
            if now < until && !full {
                actions.wake_at(until);
                return Then::Wait;
            }
            *held_since = None;
            actions.publish = Some(Publish::Held);
            self.pending = Some(Pending { request: held.request });
            if held.request {
                self.report.not_met += 1;
                actions.requested = 0;
                self.state = State::Flow;
            }
        }
        Then::Wait
    }

    fn took_effect(
        &mut self,
        took_effect: &InjectionResult,
        packet: Option<Published>,
        now: Instant,
        page: &PageView,
    ) {
        let Some(packet) = packet else {
            self.state = State::Flow;
            return;
        };
        match took_effect {
            InjectionResult::Delivered => {
                self.fate(packet, Outcome::Delivered);
            }
            InjectionResult::Inconclusive(_) => {
                self.fate(packet, Outcome::Inconclusive);
            }
            InjectionResult::Missing => {
                let before = page.irq.detector().tally();
                self.state = State::Missing { packet, before, deadline: now.plus(FATE_WITHIN) };
            }
        }
    }

    fn fate(&mut self, packet: Published, outcome: Outcome) -> Then {
        self.report.injected.push(Injected { timestamp: packet.timestamp, outcome });
        self.state = State::Flow;
        Then::Again
    }

    /// The shared queue page is gone, or another one has come.
    fn abandon(&mut self) {
        self.after = None;
        let packet = match &self.state {
            State::Injection(injection) => injection.packet(),
            State::Missing { packet, .. } => Some(*packet),
            State::Flow | State::Hold { .. } => None,
        };
        if let Some(packet) = packet {
            self.fate(packet, Outcome::Inconclusive);
        }
        self.state = State::Flow;
    }

    fn count_losses(&mut self, page: &PageView) {
        let tally = page.irq.detector().tally();
        self.report.lost += tally.lost.saturating_sub(self.baseline.lost) as u32;
        self.report.rescued += tally.rescued.saturating_sub(self.baseline.rescued) as u32;
        self.baseline = tally;
    }

    /// A request has been published: counts it, and chooses whether the next one is to be injected.
    /// One draw a request: the same seed gives the same plan.
    pub(super) fn request_published(&mut self, published: Published) {
        self.report.requests += 1;
        if self.rng.random_ratio(self.request.inject_per_mille, 1000) {
            self.after = Some(published.end);
        }
    }

    pub(super) fn published(&mut self, published: Published) {
        if let State::Injection(injection) = &mut self.state {
            injection.published(published);
        }
        if self.pending.take().is_some_and(|pending| pending.request) {
            self.request_published(published);
        }
    }

    /// Not all of the held frames could be published: there were no buffers, or they were too
    /// small, or the session's share of descriptors was used up. Those that are left stay held, and
    /// go out when they can, for the port is open again. To hold on would be to ask for the same
    /// publish at once, for as long as it fails.
    pub(super) fn publish_failed(&mut self) {
        self.pending = None;
        if matches!(self.state, State::Hold { .. } | State::Injection(_)) {
            self.state = State::Flow;
        }
    }
}
