// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How a round of an injection run ends.

use alloc::borrow::ToOwned as _;
use alloc::string::String;
use core::time::Duration;

use super::{FOLLOWS, InjectionRun, QUIET, State, Then};
use crate::spec::{Outcome, Round, Stimulus};
use crate::time::Instant;

/// So many inconclusive rounds in a row end the run.
const IN_A_ROW_MAX: u32 = 10;

impl InjectionRun {
    /// Ends the round that is on because of something outside it.
    pub(super) fn abandon(&mut self, reason: &str, now: Instant) {
        if matches!(self.state, State::Settle { .. }) {
            self.state = Self::settle(now, QUIET);
        } else {
            self.inconclusive(reason.to_owned(), now);
        }
    }

    pub(super) fn inconclusive(&mut self, reason: String, now: Instant) -> Then {
        self.in_a_row += 1;
        let took_effect = match &self.state {
            State::Settle { .. } | State::Meet { .. } => false,
            State::Injection(injection) => injection.is_released(),
            State::Stuck { .. } | State::Free { .. } => true,
        };
        let (outcome, reason) = (Outcome::Inconclusive, Some(reason));
        self.end_round(
            Round { outcome, reason, took_effect, delivered_ns: None, stuck_ns: None },
            now,
        );
        if self.in_a_row == IN_A_ROW_MAX {
            self.give_up(&format!("{IN_A_ROW_MAX} rounds in a row were inconclusive"));
        }
        // A guest that still spins is let go before anything else is done to it.
        Then::Wait
    }

    pub(super) fn conclude(
        &mut self,
        outcome: Outcome,
        delivered_ns: Option<u64>,
        stuck_ns: Option<u64>,
        now: Instant,
    ) -> Then {
        self.in_a_row = 0;
        self.end_round(
            Round { outcome, reason: None, took_effect: true, delivered_ns, stuck_ns },
            now,
        );
        self.state = match self.request.stimulus {
            Stimulus::Udp => Self::meet_at(now.plus(FOLLOWS), true),
            // No receiver sees this one.
            Stimulus::GroHeld => Self::settle(now, Duration::ZERO),
        };
        Then::Again
    }

    fn end_round(&mut self, round: Round, now: Instant) {
        self.report.rounds.push(round);
        self.unpublished = 0;
        self.state = Self::settle(now, QUIET);
        self.draw();
    }

    /// Marks the rounds that are left as not tried.
    pub(super) fn give_up(&mut self, why: &str) {
        let round = Round {
            outcome: Outcome::Inconclusive,
            reason: Some(format!("Not tried: {why}")),
            took_effect: false,
            delivered_ns: None,
            stuck_ns: None,
        };
        self.report.rounds.resize(self.request.rounds as usize, round);
    }
}
