// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The strike run: starter, rendezvous, blow, verdict, and, when lost, the next packet. Round after round.
//!
//! Every wait has a bound; a round whose bound is reached is inconclusive and says why. No time decides between delivered
//! and lost.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use tsnic_abi::{Counter, point};

use super::blow::{Blow, Drain, LOOK, Landed};
use super::loss::{Standing, Tally};
use super::run::{
    Actions, AreaView, Finished, Generated, Here, Observation, Publish, Published, StartError, Ticker, Wire,
};
use crate::clock::Instant;
use crate::control::protocol::{Flow, Outcome, Round, StrikeReport, StrikeRun};

#[cfg(test)]
mod tests;

/// Most rounds of a run.
const ROUNDS_MAX: u32 = 100_000;
/// A starter that has led to no blow is repeated after this. Too soon, and a receiver whose CPU was busy elsewhere finds two of them:
/// it comes back for the second and rescues the packet that was struck meanwhile.
const STARTER_AGAIN: Duration = Duration::from_millis(50);
/// Starters of a round.
const STARTERS_MAX: u32 = 40;
/// Bound of every wait for the guest that has no tighter one.
const PATIENCE: Duration = Duration::from_secs(2);
/// A queue that does not become idle because of a packet nobody finds is sent another one this often.
const NUDGE: Duration = Duration::from_millis(100);
/// A round begins when no poll has begun for this long: a receiver that still busy-polls from the round before would find the
/// starter on its way out, come back at once, and rescue the packet that was struck meanwhile. Longer than a busy host keeps a
/// virtual CPU waiting, as a rule.
const QUIET: Duration = Duration::from_millis(5);
/// So many inconclusive rounds in a row end the run.
const IN_A_ROW_MAX: u32 = 10;

/// A strike run under way.
#[derive(Debug)]
pub(super) struct Strike {
    request: StrikeRun,
    rng: Pcg64Mcg,
    report: StrikeReport,
    ticker: Ticker,
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
    /// Waiting for the queue to be idle and the guest quiet: `polls` polls had begun at `since`.
    Settle { deadline: Instant, nudge_at: Instant, polls: Counter, since: Instant },
    /// Waiting for the guest to come to the rendezvous, armed.
    Meet { starters: u32, starter_at: Instant, drain: Drain },
    /// A blow is under way.
    Blow(Blow),
    /// Missing: left alone until `due`.
    Stuck { packet: Published, due: Instant, deadline: Instant },
    /// The next packet is on its way. Until it was published the ledger's tally was `before`.
    Free { packet: Published, before: Tally, deadline: Instant },
}

/// What a state wants after a step.
enum Then {
    /// Go on with the next state at once.
    Again,
    /// Wait for the next step.
    Wait,
}

impl Strike {
    pub(super) fn new(request: StrikeRun, now: Instant, generation: u32) -> Result<Self, StartError> {
        let field = |field, value: String, expected| Err(StartError::Field { field, value, expected });
        if request.rounds == 0 || request.rounds > ROUNDS_MAX {
            return field("rounds", request.rounds.to_string(), "between 1 and 100000");
        }
        let (from, to) = request.stuck_us;
        if from > to {
            return field("stuck_us", format!("({from}, {to})"), "in ascending order");
        }
        let rng = Pcg64Mcg::seed_from_u64(request.seed);
        let mut strike = Self {
            request,
            rng,
            report: StrikeReport::default(),
            ticker: Ticker::new(now),
            generation,
            serial: 0,
            in_a_row: 0,
            unpublished: 0,
            stuck: Duration::ZERO,
            state: Self::settle(now),
        };
        strike.draw();
        Ok(strike)
    }

    pub(super) const fn flow(&self) -> Flow {
        self.request.flow
    }

    fn settle(now: Instant) -> State {
        State::Settle { deadline: now.plus(PATIENCE), nudge_at: now.plus(NUDGE), polls: Counter(0), since: now }
    }

    /// Draws the round's choices, one draw a round whatever its outcome: the same seed gives the same plan.
    fn draw(&mut self) {
        let (from, to) = self.request.stuck_us;
        self.stuck = Duration::from_micros(self.rng.random_range(from..=to).into());
    }

    fn is_over(&self) -> bool {
        self.report.rounds.len() == self.request.rounds as usize
    }

    /// One step. `meeting` is a rendezvous that has not been acknowledged.
    pub(super) fn step(&mut self, now: Instant, seen: &Observation, meeting: Option<Here>) -> Actions {
        let mut actions = Actions { wire: Wire::Shut, ..Actions::default() };
        match &seen.area {
            None => self.without_area(now, &mut actions),
            Some(area) => {
                if area.generation != self.generation {
                    self.generation = area.generation;
                    self.abandon("The guest posted its queue area again", now);
                }
                while !self.is_over() && matches!(self.state(now, area, meeting, &mut actions), Then::Again) {}
                // No state but the meeting and the blow has a use for a guest that spins.
                if !matches!(self.state, State::Meet { .. } | State::Blow(_)) {
                    actions.ack = actions.ack.or(meeting.map(|meeting| meeting.here));
                }
            }
        }
        if self.is_over() {
            actions.finished = Some(Box::new(Finished::Strike(std::mem::take(&mut self.report))));
            return actions;
        }
        if actions.wake.is_none() && actions.publish.is_none() {
            actions.look_again(now, LOOK);
        }
        if self.ticker.due(now) {
            actions.progress = Some((self.report.rounds.len() as u32, self.request.rounds));
        }
        actions
    }

    fn without_area(&mut self, now: Instant, actions: &mut Actions) {
        if !matches!(self.state, State::Settle { .. }) {
            self.abandon("The queue area was withdrawn", now);
        }
        if let State::Settle { deadline, .. } = self.state
            && !self.is_over()
        {
            if now >= deadline {
                self.give_up(&format!("No queue area for {} ms", PATIENCE.as_millis()));
            } else {
                actions.wake_at(deadline);
            }
        }
    }

    fn state(&mut self, now: Instant, area: &AreaView, meeting: Option<Here>, actions: &mut Actions) -> Then {
        match &mut self.state {
            State::Settle { .. } => self.settling(now, area, actions),
            State::Meet { .. } => self.meet(now, area, meeting, actions),
            State::Blow(blow) => match blow.step(now, area, meeting, actions) {
                None => Then::Wait,
                Some(landed) => {
                    let packet = blow.packet();
                    self.landed(landed, packet, now, area)
                }
            },
            State::Stuck { .. } => self.stuck(now, area, actions),
            State::Free { packet, before, deadline } => {
                let (packet, before, deadline) = (*packet, *before, *deadline);
                if area.irq.interrupts().covered(packet.end) {
                    let tally = area.irq.ledger().tally();
                    let outcome = if tally.lost != before.lost {
                        Outcome::Lost
                    } else if tally.rescued != before.rescued {
                        // Since this step began.
                        Outcome::Rescued
                    } else {
                        let reason = "A poll had begun again when the next packet was published";
                        return self.inconclusive(reason.into(), now);
                    };
                    let stuck_ns = Some(age_ns(packet, now, area));
                    return self.conclude(outcome, None, stuck_ns, now);
                }
                if now >= deadline {
                    let state = format!("{}; {}", area.irq, area.progress);
                    return self
                        .inconclusive(format!("Not delivered {PATIENCE:?} after the next packet: {state}"), now);
                }
                actions.wake_at(deadline);
                Then::Wait
            }
        }
    }

    fn settling(&mut self, now: Instant, area: &AreaView, actions: &mut Actions) -> Then {
        let State::Settle { deadline, nudge_at, polls, since } = &mut self.state else { return Then::Again };
        if area.progress.polls != *polls || !area.irq.is_idle(&area.progress) {
            (*polls, *since) = (area.progress.polls, now);
        } else if now.since(*since) >= QUIET {
            self.state = State::Meet { starters: 0, starter_at: now, drain: Drain::default() };
            return Then::Again;
        }
        if now >= *deadline {
            let state = format!("{}; {}", area.irq, area.progress);
            return self.inconclusive(format!("The queue was not idle within {PATIENCE:?}: {state}"), now);
        }
        // Lost, or signaled by an interrupt that never comes: either way only another packet's interrupt helps.
        if now >= *nudge_at && area.irq.standing(&area.progress) != Standing::Clear {
            *nudge_at = now.plus(NUDGE);
            self.publish(Generated::Next, actions);
        }
        actions.look_again(now, Duration::from_micros(100));
        Then::Wait
    }

    fn meet(&mut self, now: Instant, area: &AreaView, meeting: Option<Here>, actions: &mut Actions) -> Then {
        let State::Meet { starters, starter_at, drain } = &mut self.state else { return Then::Again };
        let irq = area.irq.interrupts();
        if let Some(here) = meeting {
            // A poll that the interrupt itself started comes unarmed: nothing can be struck then. One that has packets to
            // report has an owner who will come back for more.
            let unsuited = here.point != point::BEFORE_COMPLETE || !irq.armed() || !irq.covered(irq.produced());
            if unsuited {
                actions.want = point::BEFORE_COMPLETE;
                actions.ack = Some(here.here);
                actions.look_again(now, LOOK);
                return Then::Wait;
            }
            if !drain.is_done(now, area, actions) {
                actions.want = point::BEFORE_COMPLETE;
                return Then::Wait;
            }
            self.state = State::Blow(Blow::aim(here, area, PATIENCE));
            self.publish(Generated::Struck, actions);
            return Then::Wait;
        }
        *drain = Drain::default();
        if now >= *starter_at {
            if *starters == STARTERS_MAX {
                let waited = STARTER_AGAIN * STARTERS_MAX;
                let unpublished = self.unpublished;
                let reason = format!(
                    "The guest did not come to the rendezvous: {starters} starters in {waited:?}, {unpublished} of them \
                     not sent, for want of receive buffers as a rule"
                );
                return self.inconclusive(reason, now);
            }
            *starters += 1;
            *starter_at = now.plus(STARTER_AGAIN);
            self.report.starters += 1;
            let starter = self.request.starter;
            actions.wake_at(now.plus(STARTER_AGAIN));
            self.publish(Generated::Starter(starter), actions);
        } else {
            actions.wake_at(*starter_at);
        }
        actions.want = point::BEFORE_COMPLETE;
        actions.look_again(now, Duration::from_millis(1));
        Then::Wait
    }

    fn landed(&mut self, landed: Landed, packet: Option<Published>, now: Instant, area: &AreaView) -> Then {
        match (landed, packet) {
            (Landed::Delivered, Some(packet)) => {
                self.conclude(Outcome::Delivered, Some(age_ns(packet, now, area)), None, now)
            }
            (Landed::Missing, Some(packet)) => {
                let due = now.plus(self.stuck);
                self.state = State::Stuck { packet, due, deadline: due.plus(PATIENCE) };
                Then::Again
            }
            (Landed::Inconclusive(reason), _) => self.inconclusive(reason, now),
            (Landed::Delivered | Landed::Missing, None) => self.inconclusive("No packet was struck".into(), now),
        }
    }

    fn stuck(&mut self, now: Instant, area: &AreaView, actions: &mut Actions) -> Then {
        let State::Stuck { packet, due, deadline } = self.state else { return Then::Again };
        if area.irq.interrupts().covered(packet.end) {
            let stuck_ns = Some(age_ns(packet, now, area));
            return self.conclude(Outcome::Rescued, None, stuck_ns, now);
        }
        if now < due {
            actions.wake_at(due);
            return Then::Wait;
        }
        let standing = area.irq.standing(&area.progress);
        if standing == Standing::Lost {
            let before = area.irq.ledger().tally();
            self.state = State::Free { packet, before, deadline: now.plus(PATIENCE) };
            self.publish(Generated::Next, actions);
            return Then::Wait;
        }
        if now >= deadline {
            let state = format!("{standing:?}; {}; {}", area.irq, area.progress);
            return self.inconclusive(format!("Neither found nor lost after {PATIENCE:?}: {state}"), now);
        }
        actions.look_again(now, LOOK);
        Then::Wait
    }

    fn publish(&mut self, kind: Generated, actions: &mut Actions) {
        actions.publish = Some(Publish::Generated { kind, serial: self.serial });
        actions.fire = true;
        self.serial = self.serial.wrapping_add(1);
    }

    pub(super) const fn published(&mut self, published: Published) {
        if let State::Blow(blow) = &mut self.state {
            blow.published(published);
        }
    }

    /// The packet could not be published. As a rule the guest had no buffers; they may also have been too small for it, or the
    /// session's share of descriptors used up. A starter is repeated later anyway; a blow is called off, the next packet tried again.
    pub(super) fn publish_failed(&mut self, now: Instant) {
        self.unpublished += 1;
        match self.state {
            State::Blow(_) => {
                self.inconclusive(
                    "The struck packet could not be published, for want of receive buffers as a rule".into(),
                    now,
                );
            }
            State::Free { packet, deadline, .. } => {
                let due = now.plus(Duration::from_millis(1));
                self.state = State::Stuck { packet, due, deadline };
            }
            State::Meet { .. } => self.report.starters -= 1,
            State::Settle { .. } | State::Stuck { .. } => {}
        }
    }

    /// Ends the round that is on because of something outside it.
    fn abandon(&mut self, reason: &str, now: Instant) {
        if matches!(self.state, State::Settle { .. }) {
            self.state = Self::settle(now);
        } else {
            self.inconclusive(reason.to_owned(), now);
        }
    }

    fn inconclusive(&mut self, reason: String, now: Instant) -> Then {
        self.in_a_row += 1;
        let landed = match &self.state {
            State::Settle { .. } | State::Meet { .. } => false,
            State::Blow(blow) => blow.is_acked(),
            State::Stuck { .. } | State::Free { .. } => true,
        };
        let (outcome, reason) = (Outcome::Inconclusive, Some(reason));
        self.end_round(Round { outcome, reason, landed, delivered_ns: None, stuck_ns: None }, now);
        if self.in_a_row == IN_A_ROW_MAX {
            self.give_up(&format!("{IN_A_ROW_MAX} rounds in a row were inconclusive"));
        }
        // A guest that still spins is let go before anything else is done to it.
        Then::Wait
    }

    fn conclude(&mut self, outcome: Outcome, delivered_ns: Option<u64>, stuck_ns: Option<u64>, now: Instant) -> Then {
        self.in_a_row = 0;
        self.end_round(Round { outcome, reason: None, landed: true, delivered_ns, stuck_ns }, now);
        Then::Again
    }

    fn end_round(&mut self, round: Round, now: Instant) {
        self.report.rounds.push(round);
        self.unpublished = 0;
        self.state = Self::settle(now);
        self.draw();
    }

    /// Marks the rounds that are left as not tried.
    fn give_up(&mut self, why: &str) {
        let round = Round {
            outcome: Outcome::Inconclusive,
            reason: Some(format!("Not tried: {why}")),
            landed: false,
            delivered_ns: None,
            stuck_ns: None,
        };
        self.report.rounds.resize(self.request.rounds as usize, round);
    }
}

/// From the packet's timestamp to the arm that covered it.
fn age_ns(packet: Published, now: Instant, area: &AreaView) -> u64 {
    let covered = area.irq.armed_at().unwrap_or(now);
    u64::try_from(covered.since(packet.timestamp).as_nanos()).unwrap_or(u64::MAX)
}
