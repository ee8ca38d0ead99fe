// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The injection run: stimulus, rendezvous, injection, verdict, and, when lost, the next packet.
//! Round after round.
//!
//! Every wait has a bound; a round whose bound is reached is inconclusive and says why. No time
//! decides between delivered and lost.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::string::ToString as _;
use core::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use tsnic_abi::{Counter, point};

use super::injection::{Drain, Injection, InjectionResult, LOOK};
use super::loss::{LossState, Tally};
use super::run::{
    Actions, Arrival, Finished, Generated, Observation, PageView, PortPolicy, Publish, Published,
    StartError, Ticker,
};
use crate::spec::{Flow, InjectionReport, InjectionSpec, Outcome, Stimulus};
use crate::time::{Instant, ns};

mod round;
#[cfg(test)]
mod tests;

/// Most rounds of a run.
const ROUNDS_MAX: u32 = 100_000;
/// A stimulus that has led to no injection is repeated after this. Too soon, and a receiver whose
/// CPU was busy elsewhere finds two of them: it comes back for the second and rescues the packet
/// that was injected meanwhile.
const STIMULUS_AGAIN: Duration = Duration::from_millis(50);
/// Stimuli of a round.
const STIMULI_MAX: u32 = 40;
/// Bound of every wait for the guest that has no tighter one.
const PATIENCE: Duration = Duration::from_secs(2);
/// A queue that does not become idle because of a packet nobody finds is sent another one this
/// often.
const NUDGE: Duration = Duration::from_millis(100);
/// The last datagram of a round is the next one's stimulus: a receiver that it has woken polls on,
/// a driver that has to refill has started its timer. When the guest has not come by then, longer
/// than a refill timer takes, it gets a stimulus of its own.
const FOLLOWS: Duration = Duration::from_millis(20);
/// A datagram is sent as a stimulus when no poll has begun for this long: a receiver that still
/// busy-polls would find it on its way out, come back at once, and rescue the packet that was
/// injected meanwhile. Longer than a busy host keeps a virtual CPU waiting, as a rule.
const QUIET: Duration = Duration::from_millis(5);
/// An injection run under way.
#[derive(Debug)]
pub(super) struct InjectionRun {
    request: InjectionSpec,
    rng: Pcg64Mcg,
    report: InjectionReport,
    ticker: Ticker,
    started: Instant,
    generation: u32,
    serial: u32,
    in_a_row: u32,
    unpublished: u32,
    /// How long this round's packet is left alone if it is lost.
    stuck: Duration,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Waiting for the queue to be idle and the guest quiet for `quiet`: `polls` polls had begun at
    /// `since`.
    Settle { deadline: Instant, nudge_at: Instant, quiet: Duration, polls: Counter, since: Instant },
    /// Waiting for the guest to come to the rendezvous, armed; with `follows` on account of the
    /// round before.
    Meet { follows: bool, stimuli: u32, stimulus_at: Instant, drain: Drain },
    /// An injection is under way.
    Injection(Injection),
    /// Missing: left alone until `due`.
    Stuck { packet: Published, due: Instant, deadline: Instant },
    /// The next packet is on its way. Until it was published the detector's tally was `before`.
    Free { packet: Published, before: Tally, deadline: Instant },
}

/// What a state wants after a step.
enum Then {
    /// Go on with the next state at once.
    Again,
    /// Wait for the next step.
    Wait,
}

impl InjectionRun {
    pub(super) fn new(
        request: InjectionSpec,
        now: Instant,
        generation: u32,
    ) -> Result<Self, StartError> {
        let field =
            |field, value: String, expected| Err(StartError::Field { field, value, expected });
        if request.rounds == 0 || request.rounds > ROUNDS_MAX {
            return field("rounds", request.rounds.to_string(), "between 1 and 100000");
        }
        let (from, to) = request.stuck_us;
        if from > to {
            return field("stuck_us", format!("({from}, {to})"), "in ascending order");
        }
        let rng = Pcg64Mcg::seed_from_u64(request.seed);
        let mut injection = Self {
            request,
            rng,
            report: InjectionReport::default(),
            ticker: Ticker::new(now),
            started: now,
            generation,
            serial: 0,
            in_a_row: 0,
            unpublished: 0,
            stuck: Duration::ZERO,
            state: Self::settle(now, QUIET),
        };
        injection.draw();
        Ok(injection)
    }

    pub(super) const fn flow(&self) -> Flow {
        self.request.flow
    }

    fn settle(now: Instant, quiet: Duration) -> State {
        State::Settle {
            deadline: now.plus(PATIENCE),
            nudge_at: now.plus(NUDGE),
            quiet,
            polls: Counter(0),
            since: now,
        }
    }

    fn meet_at(stimulus_at: Instant, follows: bool) -> State {
        State::Meet { follows, stimuli: 0, stimulus_at, drain: Drain::default() }
    }

    /// Draws the round's choices, one draw a round whatever its outcome: the same seed gives the
    /// same plan.
    fn draw(&mut self) {
        let (from, to) = self.request.stuck_us;
        self.stuck = Duration::from_micros(self.rng.random_range(from..=to).into());
    }

    fn is_over(&self) -> bool {
        self.report.rounds.len() == self.request.rounds as usize
    }

    /// One step. `rendezvous` is a rendezvous that has not been released.
    pub(super) fn step(
        &mut self,
        now: Instant,
        seen: &Observation,
        rendezvous: Option<Arrival>,
    ) -> Actions {
        let mut actions = Actions { port: PortPolicy::Shut, ..Actions::default() };
        match &seen.page {
            None => self.without_page(now, &mut actions),
            Some(page) => {
                if page.generation != self.generation {
                    self.generation = page.generation;
                    self.abandon("The guest posted its shared queue page again", now);
                }
                while !self.is_over()
                    && matches!(self.state(now, page, rendezvous, &mut actions), Then::Again)
                {
                }
                // No state but the rendezvous and the injection has a use for a guest that spins.
                if !matches!(self.state, State::Meet { .. } | State::Injection(_)) {
                    actions.release =
                        actions.release.or(rendezvous.map(|rendezvous| rendezvous.number));
                }
            }
        }
        // An owner who follows may be there before the arm has been heard of.
        if self.request.stimulus == Stimulus::Udp
            && match &self.state {
                State::Free { .. } => true,
                State::Injection(injection) => injection.is_released(),
                State::Settle { .. } | State::Meet { .. } | State::Stuck { .. } => false,
            }
        {
            actions.requested = point::BEFORE_COMPLETE;
        }
        if self.is_over() {
            self.report.elapsed_ns = ns(now.since(self.started));
            actions.finished =
                Some(Box::new(Finished::Injection(core::mem::take(&mut self.report))));
            return actions;
        }
        if actions.wake.is_none() && actions.publish.is_none() {
            actions.step_again(now, LOOK);
        }
        if self.ticker.due(now) {
            actions.progress = Some((self.report.rounds.len() as u32, self.request.rounds));
        }
        actions
    }

    fn without_page(&mut self, now: Instant, actions: &mut Actions) {
        if !matches!(self.state, State::Settle { .. }) {
            self.abandon("The shared queue page was withdrawn", now);
        }
        if let State::Settle { deadline, .. } = self.state
            && !self.is_over()
        {
            if now >= deadline {
                self.give_up(&format!("No shared queue page for {} ms", PATIENCE.as_millis()));
            } else {
                actions.wake_at(deadline);
            }
        }
    }

    fn state(
        &mut self,
        now: Instant,
        page: &PageView,
        rendezvous: Option<Arrival>,
        actions: &mut Actions,
    ) -> Then {
        match &mut self.state {
            State::Settle { .. } => self.settling(now, page, actions),
            State::Meet { .. } => self.meet(now, page, rendezvous, actions),
            State::Injection(injection) => match injection.step(now, page, rendezvous, actions) {
                None => Then::Wait,
                Some(took_effect) => {
                    let packet = injection.packet();
                    self.took_effect(took_effect, packet, now, page)
                }
            },
            State::Stuck { .. } => self.stuck(now, page, actions),
            State::Free { packet, before, deadline } => {
                let (packet, before, deadline) = (*packet, *before, *deadline);
                if page.irq.interrupts().covered(packet.end) {
                    let tally = page.irq.detector().tally();
                    let outcome = if tally.lost != before.lost {
                        Outcome::Lost
                    } else if tally.rescued != before.rescued {
                        // Since this step began.
                        Outcome::Rescued
                    } else {
                        let reason = "A poll had begun again when the next packet was published";
                        return self.inconclusive(reason.into(), now);
                    };
                    let stuck_ns = Some(age_ns(packet, now, page));
                    return self.conclude(outcome, None, stuck_ns, now);
                }
                if now >= deadline {
                    let state = format!("{}; {}", page.irq, page.progress);
                    return self.inconclusive(
                        format!("Not delivered {PATIENCE:?} after the next packet: {state}"),
                        now,
                    );
                }
                actions.wake_at(deadline);
                Then::Wait
            }
        }
    }

    fn settling(&mut self, now: Instant, page: &PageView, actions: &mut Actions) -> Then {
        let State::Settle { deadline, nudge_at, quiet, polls, since } = &mut self.state else {
            return Then::Again;
        };
        let idle = page.irq.is_idle(&page.progress);
        if page.progress.polls != *polls || !idle {
            (*polls, *since) = (page.progress.polls, now);
        }
        if idle && now.since(*since) >= *quiet {
            self.state = Self::meet_at(now, false);
            return Then::Again;
        }
        if now >= *deadline {
            let state = format!("{}; {}", page.irq, page.progress);
            return self
                .inconclusive(format!("The queue was not idle within {PATIENCE:?}: {state}"), now);
        }
        // Lost, or signaled by an interrupt that never comes: either way only another packet's
        // interrupt helps.
        if now >= *nudge_at && page.irq.loss_state(&page.progress) != LossState::Clear {
            *nudge_at = now.plus(NUDGE);
            self.publish(Generated::Next, actions);
        }
        actions.step_again(now, Duration::from_micros(100));
        Then::Wait
    }

    fn meet(
        &mut self,
        now: Instant,
        page: &PageView,
        rendezvous: Option<Arrival>,
        actions: &mut Actions,
    ) -> Then {
        let State::Meet { follows, stimuli, stimulus_at, drain } = &mut self.state else {
            return Then::Again;
        };
        let irq = page.irq.interrupts();
        if let Some(arrival) = rendezvous {
            // A poll that the interrupt itself started comes unarmed: nothing can be injected then.
            // One that has packets to report has an owner who will come back for more.
            let unsuited = arrival.point != point::BEFORE_COMPLETE
                || !irq.armed()
                || !irq.covered(irq.produced());
            if unsuited {
                actions.requested = point::BEFORE_COMPLETE;
                actions.release = Some(arrival.number);
                actions.step_again(now, LOOK);
                return Then::Wait;
            }
            if !drain.is_done(now, page, actions) {
                actions.requested = point::BEFORE_COMPLETE;
                return Then::Wait;
            }
            self.state = State::Injection(Injection::aim(arrival, page, PATIENCE));
            self.publish(Generated::Injected, actions);
            return Then::Wait;
        }
        *drain = Drain::default();
        if now >= *stimulus_at {
            if *follows {
                self.state = Self::settle(now, QUIET);
                return Then::Again;
            }
            if *stimuli == STIMULI_MAX {
                let waited = STIMULUS_AGAIN * STIMULI_MAX;
                let unpublished = self.unpublished;
                let reason = format!(
                    "The guest did not come to the rendezvous: {stimuli} stimuli in {waited:?}, {unpublished} of them \
                     not sent, for want of receive buffers as a rule"
                );
                return self.inconclusive(reason, now);
            }
            *stimuli += 1;
            *stimulus_at = now.plus(STIMULUS_AGAIN);
            self.report.stimuli += 1;
            let stimulus = self.request.stimulus;
            actions.wake_at(now.plus(STIMULUS_AGAIN));
            self.publish(Generated::Stimulus(stimulus), actions);
        } else {
            actions.wake_at(*stimulus_at);
        }
        actions.requested = point::BEFORE_COMPLETE;
        actions.step_again(now, Duration::from_millis(1));
        Then::Wait
    }

    fn took_effect(
        &mut self,
        took_effect: InjectionResult,
        packet: Option<Published>,
        now: Instant,
        page: &PageView,
    ) -> Then {
        match (took_effect, packet) {
            (InjectionResult::Delivered, Some(packet)) => {
                self.conclude(Outcome::Delivered, Some(age_ns(packet, now, page)), None, now)
            }
            (InjectionResult::Missing, Some(packet)) => {
                let due = now.plus(self.stuck);
                self.state = State::Stuck { packet, due, deadline: due.plus(PATIENCE) };
                Then::Again
            }
            (InjectionResult::Inconclusive(reason), _) => self.inconclusive(reason, now),
            (InjectionResult::Delivered | InjectionResult::Missing, None) => {
                self.inconclusive("No packet was injected".into(), now)
            }
        }
    }

    fn stuck(&mut self, now: Instant, page: &PageView, actions: &mut Actions) -> Then {
        let State::Stuck { packet, due, deadline } = self.state else { return Then::Again };
        if page.irq.interrupts().covered(packet.end) {
            let stuck_ns = Some(age_ns(packet, now, page));
            return self.conclude(Outcome::Rescued, None, stuck_ns, now);
        }
        if now < due {
            actions.wake_at(due);
            return Then::Wait;
        }
        let loss_state = page.irq.loss_state(&page.progress);
        if loss_state == LossState::Lost {
            let before = page.irq.detector().tally();
            self.state = State::Free { packet, before, deadline: now.plus(PATIENCE) };
            self.publish(Generated::Next, actions);
            return Then::Wait;
        }
        if now >= deadline {
            let state = format!("{loss_state:?}; {}; {}", page.irq, page.progress);
            return self
                .inconclusive(format!("Neither found nor lost after {PATIENCE:?}: {state}"), now);
        }
        actions.step_again(now, LOOK);
        Then::Wait
    }

    fn publish(&mut self, kind: Generated, actions: &mut Actions) {
        actions.publish = Some(Publish::Generated { kind, serial: self.serial });
        actions.fire = true;
        self.serial = self.serial.wrapping_add(1);
    }

    pub(super) const fn published(&mut self, published: Published) {
        if let State::Injection(injection) = &mut self.state {
            injection.published(published);
        }
    }

    /// The packet could not be published. As a rule the guest had no buffers; they may also have
    /// been too small for it, or the session's share of descriptors used up. A stimulus is repeated
    /// later anyway; an injection is called off, the next packet tried again.
    pub(super) fn publish_failed(&mut self, now: Instant) {
        self.unpublished += 1;
        match self.state {
            State::Injection(_) => {
                self.inconclusive(
                    "The injected packet could not be published, for want of receive buffers as a rule".into(),
                    now,
                );
            }
            State::Free { packet, deadline, .. } => {
                let due = now.plus(Duration::from_millis(1));
                self.state = State::Stuck { packet, due, deadline };
            }
            State::Meet { .. } => self.report.stimuli -= 1,
            State::Settle { .. } | State::Stuck { .. } => {}
        }
    }
}

/// From the packet's timestamp to the arm that covered it.
fn age_ns(packet: Published, now: Instant, page: &PageView) -> u64 {
    let covered = page.irq.armed_at().unwrap_or(now);
    ns(covered.since(packet.at))
}
