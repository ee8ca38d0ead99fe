// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The natural run: packets and interrupts placed by time alone, with no rendezvous.
//!
//! `napi_complete_done()` hands what GRO has gathered to the stack before it clears `SCHED`, so the
//! window between a poll's last look at the ring and the release of `SCHED` is as long as the stack
//! takes for that batch. A trial makes the `gro_flush_timeout` watchdog own such a poll: one
//! segment that GRO holds starts it; a burst, with no interrupt, is what its poll finds; one more
//! packet, the straggler, and its interrupt are meant for the window.
//!
//! Whether they hit it is chance. Whether the straggler was lost is the loss detector's to say.

use alloc::borrow::ToOwned as _;
use alloc::boxed::Box;
use alloc::string::{String, ToString as _};
use core::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::injection::LOOK;
use super::loss::{LossState, Tally};
use super::run::{
    Actions, Finished, Generated, Observation, PageView, PortPolicy, Publish, Published,
    StartError, Ticker,
};
use crate::spec::{Flow, NaturalReport, NaturalSpec, Offsets, Outcome, Stimulus, Trial};
use crate::time::{Instant, ns};

#[cfg(test)]
mod tests;
mod watch;

use watch::Watch;

/// Most trials of a run: each is kept in memory.
const TRIALS_MAX: u32 = 100_000;
/// Most datagrams of a burst: with the segment before them, less than a poll's budget of 64. A poll
/// that uses its budget up does not complete.
const BURST_MAX: u32 = 62;
/// Longest offset, microseconds.
const OFFSET_MAX_US: u32 = 100_000;
/// Longest time that a lost packet is left alone, microseconds.
const STUCK_MAX_US: u32 = 10_000_000;
/// Bound of every wait for the guest.
const PATIENCE: Duration = Duration::from_secs(2);
/// A queue that does not become idle because of a packet nobody finds is sent another one this
/// often.
const NUDGE: Duration = Duration::from_millis(100);
/// So many inconclusive trials in a row end the run.
const IN_A_ROW_MAX: u32 = 10;

/// A natural run under way.
#[derive(Debug)]
pub(super) struct Natural {
    request: NaturalSpec,
    rng: Pcg64Mcg,
    report: NaturalReport,
    ticker: Ticker,
    generation: u32,
    started: Instant,
    /// The detector's tally when the run began, and when the trial did; `None` before the first
    /// step.
    tally: Option<(Tally, Tally)>,
    serial: u32,
    in_a_row: u32,
    trial: Trial,
    /// How long this trial's packet is left alone if it is lost.
    stuck: Duration,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Waiting for the queue to be idle, at least until `from`.
    Settle { from: Instant, deadline: Instant, nudge_at: Instant },
    /// The segment that GRO holds has been asked for, or is on its way.
    Segment { published: Option<Published>, deadline: Instant },
    /// GRO holds it, and the watchdog runs.
    Burst { due: Instant },
    /// The burst has been asked for.
    BurstAsked { watch: Watch },
    /// The burst is in the ring, with no interrupt.
    Straggler { watch: Watch, due: Instant },
    /// The straggler has been asked for.
    StragglerAsked { watch: Watch },
    /// The straggler is in the ring, too.
    Interrupt { watch: Watch, straggler: Published, due: Instant },
    /// The interrupt has been raised, or will be when the queue is armed.
    Verdict { watch: Watch, straggler: Published, deadline: Instant },
    /// Lost: left alone until `due`.
    Stuck { straggler: Published, due: Instant, deadline: Instant },
    /// The packet after it is asked for, or on its way.
    Next { straggler: Published, next: Option<Published>, deadline: Instant },
}

/// What a state wants after a step.
enum Then {
    /// Go on with the next state at once.
    Again,
    /// Wait for the next step.
    Wait,
}

impl Natural {
    pub(super) fn new(
        request: NaturalSpec,
        now: Instant,
        generation: u32,
    ) -> Result<Self, StartError> {
        let field =
            |field, value: String, expected| Err(StartError::Field { field, value, expected });
        if request.trials == 0 || request.trials > TRIALS_MAX {
            return field("trials", request.trials.to_string(), "between 1 and 100000");
        }
        if request.burst == 0 || request.burst > BURST_MAX {
            return field("burst", request.burst.to_string(), "between 1 and 62");
        }
        let offset = (OFFSET_MAX_US, "in ascending order and at most 100000");
        let stuck = (STUCK_MAX_US, "in ascending order and at most 10000000");
        for (name, (from, to), (most, expected)) in [
            ("burst_us", request.burst_us, offset),
            ("straggler_us", request.straggler_us, offset),
            ("interrupt_us", request.interrupt_us, offset),
            ("stuck_us", request.stuck_us, stuck),
        ] {
            if from > to || to > most {
                return field(name, format!("({from}, {to})"), expected);
            }
        }
        let mut natural = Self {
            rng: Pcg64Mcg::seed_from_u64(request.seed),
            request,
            report: NaturalReport::default(),
            ticker: Ticker::new(now),
            generation,
            started: now,
            tally: None,
            serial: 0,
            in_a_row: 0,
            trial: Trial::default(),
            stuck: Duration::ZERO,
            state: Self::settle(now),
        };
        natural.draw();
        Ok(natural)
    }

    pub(super) const fn flow(&self) -> Flow {
        self.request.flow
    }

    /// The stall detector may look on, and nudge the guest.
    pub(super) const fn allows_nudges(&self) -> bool {
        self.request.nudges && !self.holds()
    }

    /// Packets are published, and their interrupt is still to be placed.
    const fn holds(&self) -> bool {
        matches!(
            self.state,
            State::BurstAsked { .. }
                | State::Straggler { .. }
                | State::StragglerAsked { .. }
                | State::Interrupt { .. }
        )
    }

    const fn settle(now: Instant) -> State {
        State::Settle { from: now, deadline: now.plus(PATIENCE), nudge_at: now.plus(NUDGE) }
    }

    /// Draws the trial's choices, the same number of draws whatever becomes of a trial: the same
    /// seed gives the same offsets.
    fn draw(&mut self) {
        let mut draw = |(from, to)| self.rng.random_range(from..=to);
        let offsets = Offsets {
            burst_us: draw(self.request.burst_us),
            straggler_us: draw(self.request.straggler_us),
            interrupt_us: draw(self.request.interrupt_us),
        };
        self.stuck = Duration::from_micros(draw(self.request.stuck_us).into());
        self.trial = Trial { offsets, ..Trial::default() };
    }

    fn is_over(&self) -> bool {
        self.report.trials.len() == self.request.trials as usize
    }

    /// One step. The run wants no rendezvous.
    pub(super) fn step(&mut self, now: Instant, seen: &Observation) -> Actions {
        let mut actions = Actions { port: PortPolicy::Shut, ..Actions::default() };
        let page = seen.page.as_ref().filter(|page| page.generation == self.generation);
        let Some(page) = page else {
            let done = self.report.trials.len();
            actions.finished = Some(Box::new(Finished::Failed(format!(
                "The shared queue page was withdrawn or posted again after {done} trials"
            ))));
            return actions;
        };
        let tally = page.irq.detector().tally();
        let (at_start, _) = *self.tally.get_or_insert((tally, tally));
        while !self.is_over() && matches!(self.state(now, page, &mut actions), Then::Again) {}
        if self.is_over() {
            self.report.lost = (tally.lost - at_start.lost) as u32;
            self.report.rescued = (tally.rescued - at_start.rescued) as u32;
            self.report.elapsed_ns = ns(now.since(self.started));
            actions.finished = Some(Box::new(Finished::Natural(core::mem::take(&mut self.report))));
            return actions;
        }
        actions.hold = self.holds();
        if self.ticker.due(now) {
            actions.progress = Some((self.report.trials.len() as u32, self.request.trials));
        }
        actions
    }

    fn state(&mut self, now: Instant, page: &PageView, actions: &mut Actions) -> Then {
        match self.state {
            State::Settle { from, .. } if now < from => {
                actions.wake_at(from);
                Then::Wait
            }
            State::Settle { deadline, nudge_at, .. } => {
                self.settling(deadline, nudge_at, now, page, actions)
            }
            State::Segment { published, deadline } => {
                let Some(segment) = published else { return Then::Wait };
                if page.irq.loss_state(&page.progress) == LossState::Lost {
                    // So early, it needs nothing that is placed.
                    return self.leave_alone(segment, now);
                }
                if page.irq.interrupts().covered(segment.end) {
                    let armed = page.irq.armed_at().unwrap_or(now);
                    let due = armed.plus(us(self.trial.offsets.burst_us));
                    self.state = State::Burst { due };
                    return Then::Again;
                }
                if now >= deadline {
                    return self.no_end("The segment for GRO was not consumed", now, page);
                }
                actions.step_again(now, Duration::from_millis(1));
                Then::Wait
            }
            State::Burst { due } if now >= due => {
                let (segment, serial) = (self.serial.wrapping_sub(1), self.serial);
                let datagrams = self.request.burst;
                self.serial = serial.wrapping_add(datagrams);
                self.state = State::BurstAsked { watch: Watch::new(now, page) };
                actions.publish = Some(Publish::Burst { segment, serial, datagrams });
                Then::Wait
            }
            State::Burst { due } => {
                actions.wake_at(due);
                Then::Wait
            }
            State::Straggler { mut watch, due } => {
                watch.look(now, page, &mut self.trial);
                if now < due {
                    actions.step_again(now, LOOK);
                    actions.wake_at(due);
                    self.state = State::Straggler { watch, due };
                    return Then::Wait;
                }
                self.state = State::StragglerAsked { watch };
                self.publish(Generated::Straggler, actions);
                actions.fire = self.trial.offsets.interrupt_us == 0;
                Then::Wait
            }
            State::Interrupt { mut watch, straggler, due } => {
                watch.look(now, page, &mut self.trial);
                if now < due {
                    actions.step_again(now, LOOK);
                    actions.wake_at(due);
                    self.state = State::Interrupt { watch, straggler, due };
                    return Then::Wait;
                }
                watch.raised = Some(now);
                actions.fire = true;
                actions.step_again(now, LOOK);
                self.state = State::Verdict { watch, straggler, deadline: now.plus(PATIENCE) };
                Then::Wait
            }
            State::Verdict { mut watch, straggler, deadline } => {
                watch.look(now, page, &mut self.trial);
                self.trial.interrupt_ns = watch.raised.map(|it| ns(it.since(straggler.at)));
                self.state = State::Verdict { watch, straggler, deadline };
                self.verdict(straggler, deadline, now, page, actions)
            }
            State::Stuck { straggler, due, deadline } => {
                if page.irq.loss_state(&page.progress) != LossState::Lost {
                    // Another poll has found it, or is at it.
                    return self.verdict(straggler, deadline, now, page, actions);
                }
                if now < due {
                    actions.wake_at(due);
                    return Then::Wait;
                }
                let deadline = now.plus(PATIENCE);
                self.state = State::Next { straggler, next: None, deadline };
                self.publish(Generated::Next, actions);
                actions.fire = true;
                Then::Wait
            }
            State::Next { straggler, next, deadline } => {
                if next.is_some_and(|next| page.irq.interrupts().covered(next.end)) {
                    return self.conclude(straggler, now, page);
                }
                if now >= deadline {
                    return self.no_end("Not delivered after the next packet", now, page);
                }
                actions.step_again(now, Duration::from_millis(1));
                Then::Wait
            }
            // Both are left in `published` or `publish_failed`, before there is another step.
            State::BurstAsked { .. } | State::StragglerAsked { .. } => Then::Wait,
        }
    }

    fn settling(
        &mut self,
        deadline: Instant,
        nudge_at: Instant,
        now: Instant,
        page: &PageView,
        actions: &mut Actions,
    ) -> Then {
        if page.irq.is_idle(&page.progress) {
            if let Some((_, at_trial)) = &mut self.tally {
                *at_trial = page.irq.detector().tally();
            }
            self.state = State::Segment { published: None, deadline: now.plus(PATIENCE) };
            self.publish(Generated::Stimulus(Stimulus::GroHeld), actions);
            actions.fire = true;
            return Then::Wait;
        }
        if now >= deadline {
            return self.no_end("The queue was not idle", now, page);
        }
        if now >= nudge_at && page.irq.loss_state(&page.progress) != LossState::Clear {
            self.state = State::Settle { from: now, deadline, nudge_at: now.plus(NUDGE) };
            self.publish(Generated::Next, actions);
            actions.fire = true;
            return Then::Wait;
        }
        actions.step_again(now, LOOK);
        Then::Wait
    }

    fn verdict(
        &mut self,
        straggler: Published,
        deadline: Instant,
        now: Instant,
        page: &PageView,
        actions: &mut Actions,
    ) -> Then {
        if page.irq.interrupts().covered(straggler.end) && page.irq.is_idle(&page.progress) {
            return self.conclude(straggler, now, page);
        }
        if page.irq.loss_state(&page.progress) == LossState::Lost {
            return self.leave_alone(straggler, now);
        }
        if now >= deadline {
            return self.no_end("Neither delivered nor lost", now, page);
        }
        actions.step_again(now, LOOK);
        Then::Wait
    }

    fn leave_alone(&mut self, straggler: Published, now: Instant) -> Then {
        let due = now.plus(self.stuck);
        self.state = State::Stuck { straggler, due, deadline: due.plus(PATIENCE) };
        Then::Again
    }

    fn publish(&mut self, kind: Generated, actions: &mut Actions) {
        actions.publish = Some(Publish::Generated { kind, serial: self.serial });
        self.serial = self.serial.wrapping_add(1);
    }

    /// What was asked for last has been published.
    pub(super) fn published(&mut self, published: Published) {
        let offsets = self.trial.offsets;
        match &mut self.state {
            State::Segment { published: segment, .. } => *segment = Some(published),
            State::Next { next, .. } => *next = Some(published),
            State::BurstAsked { watch } => {
                let mut watch = *watch;
                watch.burst = published.at;
                let due = published.at.plus(us(offsets.straggler_us));
                self.state = State::Straggler { watch, due };
            }
            State::StragglerAsked { watch } => {
                let mut watch = *watch;
                self.trial.straggler_ns = Some(ns(published.at.since(watch.burst)));
                self.state = if offsets.interrupt_us == 0 {
                    watch.raised = Some(published.at);
                    let deadline = published.at.plus(PATIENCE);
                    State::Verdict { watch, straggler: published, deadline }
                } else {
                    let due = published.at.plus(us(offsets.interrupt_us));
                    State::Interrupt { watch, straggler: published, due }
                };
            }
            State::Settle { .. }
            | State::Burst { .. }
            | State::Straggler { .. }
            | State::Interrupt { .. }
            | State::Verdict { .. }
            | State::Stuck { .. } => {}
        }
    }

    /// What was asked for could not be published, or not all of it: as a rule the guest had no
    /// buffers. The trial is called off; the packet after a lost one is tried again.
    pub(super) fn publish_failed(&mut self, now: Instant) {
        match self.state {
            State::Next { straggler, deadline, .. } => {
                let due = now.plus(Duration::from_millis(1));
                self.state = State::Stuck { straggler, due, deadline };
            }
            State::Settle { .. } => {}
            _ => {
                let why = "Not everything was published, for want of receive buffers as a rule";
                self.inconclusive(why.to_owned(), now);
            }
        }
    }

    fn no_end(&mut self, what: &str, now: Instant, page: &PageView) -> Then {
        let (irq, progress) = (page.irq, page.progress);
        self.inconclusive(format!("{what} within {PATIENCE:?}: {irq}; {progress}"), now)
    }

    fn inconclusive(&mut self, reason: String, now: Instant) -> Then {
        self.in_a_row += 1;
        self.trial.reason = Some(reason);
        self.end_trial(now);
        if self.in_a_row == IN_A_ROW_MAX {
            self.give_up();
        }
        Then::Again
    }

    /// The straggler has been consumed, with the next packet or without.
    fn conclude(&mut self, straggler: Published, now: Instant, page: &PageView) -> Then {
        self.in_a_row = 0;
        let tally = page.irq.detector().tally();
        let before = self.tally.map_or(tally, |(_, at_trial)| at_trial);
        let age = ns(page.irq.armed_at().unwrap_or(now).since(straggler.at));
        (self.trial.outcome, self.trial.delivered_ns, self.trial.stuck_ns) =
            if tally.lost != before.lost {
                (Outcome::Lost, None, Some(age))
            } else if tally.rescued != before.rescued {
                (Outcome::Rescued, None, Some(age))
            } else {
                (Outcome::Delivered, Some(age), None)
            };
        self.end_trial(now);
        Then::Again
    }

    fn end_trial(&mut self, now: Instant) {
        self.report.trials.push(self.trial.clone());
        // The stall detector looks after this step: nothing may happen before that.
        let now = if self.request.nudges { now.plus(LOOK) } else { now };
        self.state = Self::settle(now);
        self.draw();
    }

    /// Marks the trials that are left as not tried.
    fn give_up(&mut self) {
        let why = format!("Not tried: {IN_A_ROW_MAX} trials in a row were inconclusive");
        let trial = Trial { reason: Some(why), ..Trial::default() };
        self.report.trials.resize(self.request.trials as usize, trial);
    }
}

fn us(us: u32) -> Duration {
    Duration::from_micros(us.into())
}
