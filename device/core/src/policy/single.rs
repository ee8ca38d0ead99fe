// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One policy of a stack, at work.

use core::time::Duration;

use rand_pcg::Pcg64Mcg;

use super::decision::{Decision, Hold, Intent, Until};
use super::distribution::{chance, delay, within};
use super::record::Record;
use super::spec::PolicySpec;
use crate::time::Instant;

/// A policy with its state.
#[derive(Debug)]
pub(super) struct Policy {
    spec: PolicySpec,
    /// It acts from then on.
    begin: Instant,
    /// And no more from then on.
    end: Option<Instant>,
    rng: Pcg64Mcg,
    /// Intents it was asked about.
    asked: u64,
    /// When it raises interrupts by itself next, or when what it has begun ends.
    at: Option<Instant>,
    /// Interrupts of the storm that are still to come.
    left: u16,
    record: Record,
}

const fn us(us: u32) -> Duration {
    Duration::from_micros(us as u64)
}

const fn ms(ms: u32) -> Duration {
    Duration::from_millis(ms as u64)
}

impl Policy {
    pub(super) fn new(spec: &PolicySpec, mut rng: Pcg64Mcg, now: Instant) -> Self {
        let (window, spec) = spec.split();
        let begin = now.plus(ms(window.after_ms));
        let end = window.for_ms.map(|for_ms| begin.plus(ms(for_ms)));
        let at = match spec {
            PolicySpec::Spurious { gap } => Some(begin.plus(within(*gap, &mut rng))),
            PolicySpec::Storm { every_us, .. } => Some(begin.plus(us(*every_us))),
            _ => None,
        };
        let mut record = Record::default();
        if let PolicySpec::Replay(entries) = spec {
            record = Record::new(entries);
            record.intent(None, now);
        }
        Self { spec: spec.clone(), begin, end, rng, asked: 0, at, left: 0, record }
    }

    fn is_over(&self, at: Instant) -> bool {
        self.end.is_some_and(|end| at >= end)
    }

    pub(super) fn decide(&mut self, intent: &Intent, decision: &mut Decision) {
        if intent.now < self.begin || self.is_over(intent.now) {
            return;
        }
        let number = self.asked;
        self.asked += 1;
        match &self.spec {
            PolicySpec::FixedDelay { delay_us } => decision.hold.delay += us(*delay_us),
            PolicySpec::Jitter(distribution) => {
                decision.hold.delay += delay(distribution, number, &mut self.rng);
            }
            PolicySpec::Sweep { span, step_us } => {
                let steps = u64::from((span.to_us - span.from_us) / step_us) + 1;
                let step = (number % steps) as u32;
                decision.hold.delay += us(span.from_us + step * step_us);
            }
            PolicySpec::OnProgress { until, after, latest_us } => {
                decision.hold.until = Some((*until, us(*latest_us)));
                decision.hold.delay += within(*after, &mut self.rng);
            }
            PolicySpec::MaskRace { after, latest_us } => {
                decision.copies = 1;
                decision.copies_after = Hold {
                    until: Some((Until::Handler, us(*latest_us))),
                    delay: within(*after, &mut self.rng),
                };
            }
            PolicySpec::Duplicate { copies, gap_us, per_mille } => {
                if chance(*per_mille, &mut self.rng) {
                    decision.copies = *copies;
                    decision.copies_after = Hold { until: None, delay: us(*gap_us) };
                }
            }
            PolicySpec::CoalesceLate { window_us } => {
                if self.at.is_some_and(|end| intent.now < end) {
                    decision.joins = true;
                } else {
                    self.at = Some(intent.now.plus(us(*window_us)));
                    decision.hold.delay += us(*window_us);
                }
            }
            PolicySpec::Drop { per_mille } => decision.dropped |= chance(*per_mille, &mut self.rng),
            PolicySpec::Replay(_) => {
                *decision = self.record.intent(Some(intent.number), intent.now);
            }
            PolicySpec::Spurious { .. } | PolicySpec::Storm { .. } | PolicySpec::During { .. } => {}
        }
    }

    /// Interrupts it raises now by itself. Those that could not be raised in time are not made up
    /// for.
    pub(super) fn stimuli(&mut self, now: Instant) -> u32 {
        if let PolicySpec::Replay(_) = self.spec {
            return self.record.take_due(now);
        }
        if self.is_over(now) {
            self.at = None;
        }
        if self.at.is_none_or(|at| at > now) {
            return 0;
        }
        let pause = match &self.spec {
            PolicySpec::Spurious { gap } => within(*gap, &mut self.rng),
            PolicySpec::Storm { lines, gap_us, every_us } => {
                self.left = if self.left == 0 { *lines } else { self.left } - 1;
                us(if self.left == 0 { *every_us } else { *gap_us })
            }
            _ => return 0,
        };
        self.at = Some(now.plus(pause));
        1
    }

    pub(super) fn due(&self) -> Option<Instant> {
        match self.spec {
            PolicySpec::Spurious { .. } | PolicySpec::Storm { .. } => {
                self.at.filter(|at| !self.is_over(*at))
            }
            PolicySpec::Replay(_) => self.record.due(),
            _ => None,
        }
    }
}
