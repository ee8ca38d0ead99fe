// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The stall detector: says why a queue of any virtio driver does not go on (`docs/stalls.md`).
//!
//! It is shown each vector at each step of the worker. What it suspects is a state: work is
//! published, nothing is due to be raised, and the guest shows no progress. Time only says when to
//! look closer. The proof is a *nudge*, one spurious interrupt, which virtio always allows: a guest
//! that goes on at once, and from nothing else, had waited for an interrupt that it did not get.

use core::time::Duration;

use crate::loss::LossState;
use crate::time::Instant;

mod kicks;
mod seen;
mod stage;
#[cfg(test)]
mod tests;
mod verdict;

use kicks::Kicks;
pub use seen::{Handler, Other, Seen, Wish};
use stage::{Nudged, Stage, Stall, Trouble};
pub use verdict::{Evidence, Tally, Verdict};

/// Between two looks at a guest that has been nudged.
const WATCH: Duration = Duration::from_millis(1);

/// A guest goes on at once when that takes less than this part of the time in which it did not.
const AT_ONCE: u32 = 8;

/// Nudges that have to be in vain before that is said.
const NUDGES: u8 = 3;

/// What [`Detector::look`] answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Raise one interrupt.
    pub nudge: bool,
    /// What has been found out.
    pub evidence: Option<Evidence>,
    /// The loss detector had said otherwise.
    pub disagrees: bool,
    /// Look again at this time.
    pub next: Option<Instant>,
}

/// Watches one vector.
#[derive(Clone, Debug)]
pub struct Detector {
    /// How long there has to be no progress before it looks closer.
    after: Duration,
    latest: Option<Seen>,
    /// When the guest was last seen to do anything with this queue.
    alive: Option<Instant>,
    /// Used index: entries before it need no interrupt as far as can be told.
    settled: u16,
    stall: Option<Stall>,
    /// Nudges since the guest has last gone on.
    nudges: u8,
    kicks: Kicks,
    /// When to look though nothing has happened.
    regular: Instant,
    tally: Tally,
}

impl Detector {
    /// A detector that looks closer when there has been no progress for `after`.
    #[must_use]
    pub fn new(after: Duration) -> Self {
        Self {
            after,
            latest: None,
            alive: None,
            settled: 0,
            stall: None,
            nudges: 0,
            kicks: Kicks::default(),
            regular: Instant::default(),
            tally: Tally::default(),
        }
    }

    /// The queue starts, or the contract with its guest changes: nothing seen before counts.
    pub fn reset(&mut self) {
        *self = Self { tally: self.tally, ..Self::new(self.after) };
    }

    /// Verdicts and nudges so far.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What the other vector's detector is to know of this one.
    #[must_use]
    pub const fn as_other(&self) -> Other {
        let nudged = matches!(
            self.stall,
            Some(Stall { stage: Stage::Nudged(Nudged { in_vain: false, .. }), .. })
        );
        Other { alive: self.alive, nudged }
    }

    /// Looks at the vector. What it wants raised has to be raised before the next look.
    #[must_use = "a nudge must be raised"]
    pub fn look(&mut self, seen: &Seen, other: Other, now: Instant) -> Look {
        let mut look = Look::default();
        self.compare(&mut look, seen, now);
        if let Some(verdict) = self.watch(&mut look, seen, other, now)
            && let Some(stall) = &mut self.stall
        {
            let told = core::mem::replace(&mut stall.stage, Stage::Told);
            let since = stall.since;
            self.tell(&mut look, verdict, since, told.nudged(), seen, now);
        }
        if look.evidence.is_none()
            && let Some(since) = self.kicks.look(seen, self.alive.max(other.alive), self.after, now)
        {
            self.tell(&mut look, Verdict::KickLost, since, None, seen, now);
        }
        if !seen.receive {
            if self.regular <= now {
                self.regular = now.plus(self.after);
            }
            look.next = Some(look.next.map_or(self.regular, |next| next.min(self.regular)));
        }
        let raised = seen.raised + u64::from(look.nudge);
        self.latest = Some(Seen { raised, ..*seen });
        look
    }

    /// What has changed since the last look.
    fn compare(&mut self, look: &mut Look, seen: &Seen, now: Instant) {
        let Some(latest) = self.latest else {
            self.settled = seen.published;
            return;
        };
        if latest.life() != seen.life() {
            self.alive = Some(now);
        }
        let another = latest.raised != seen.raised;
        if latest.progress() != seen.progress() {
            if let Some(stall) = self.stall.take()
                && let Some(verdict) = self.went_on(&stall, seen, another)
            {
                self.tell(look, verdict, stall.since, stall.stage.nudged(), seen, now);
            }
            self.nudges = 0;
            // What was published since the last look may have come after the progress.
            self.settled = latest.published;
        } else if another && !self.is_told() {
            // The guest has its time, from this interrupt on.
            self.stall = None;
        }
    }

    const fn is_told(&self) -> bool {
        matches!(self.stall, Some(Stall { stage: Stage::Told, .. }))
    }

    /// The guest has gone on; `another` interrupt than a nudge has been raised meanwhile.
    fn went_on(&self, stall: &Stall, seen: &Seen, another: bool) -> Option<Verdict> {
        let nudged = match &stall.stage {
            // A guest tells nobody that it has gone on: it may have done so long before this look.
            Stage::New | Stage::Told => return None,
            Stage::Nudged(nudged) => nudged,
        };
        if another {
            return None;
        }
        let from_nudge = match (nudged.before.handler, seen.handler) {
            // The handler had nothing left to run for but the nudge.
            (Some(Handler { seen: true, .. }), Some(handler)) => {
                if !nudged.in_vain && (!handler.seen || handler.owned) {
                    // Somebody else was there first.
                    return None;
                }
                handler.seen && !handler.owned
            }
            _ => !nudged.in_vain && (seen.receive || !seen.sends_since(&nudged.before)),
        };
        Some(match stall.trouble {
            _ if !from_nudge || self.nudges > 1 => Verdict::Slow,
            Trouble::Off => Verdict::Suppressed,
            _ => Verdict::Lost,
        })
    }

    /// Looks at a guest that has not gone on.
    fn watch(
        &mut self,
        look: &mut Look,
        seen: &Seen,
        other: Other,
        now: Instant,
    ) -> Option<Verdict> {
        if self.is_told() {
            return None;
        }
        let trouble = Trouble::of(seen, self.settled)
            // A guest that has never posted any has not begun to receive.
            .filter(|trouble| *trouble != Trouble::NoBuffers || self.alive.is_some());
        let before = self.stall.take();
        let stall = match (before, trouble?) {
            (Some(stall), trouble) if stall.trouble == trouble => stall,
            (_, trouble) => Stall { trouble, since: now, stage: Stage::New },
        };
        let stall = self.stall.insert(stall);
        let due = match &mut stall.stage {
            Stage::Nudged(nudged) => {
                let at_once = nudged.latest.plus(self.after / AT_ONCE);
                nudged.in_vain |= now >= at_once;
                if !nudged.in_vain {
                    look.next = Some(at_once.min(now.plus(WATCH)));
                    return None;
                }
                if trouble == Some(Trouble::Unclear) {
                    // It had nothing to do, or nothing that shows.
                    self.settled = seen.published;
                    self.nudges = 0;
                    self.stall = None;
                    return self.watch(look, seen, other, now);
                }
                nudged.latest.plus(self.after)
            }
            _ => stall.since.plus(self.after),
        };
        if now < due {
            look.next = Some(due);
            return None;
        }
        let nudged = stall.stage.nudged();
        let alive = other.alive > Some(nudged.map_or(stall.since, |nudged| nudged.first));
        match stall.trouble {
            Trouble::NoBuffers => return Some(Verdict::NotRefilled),
            Trouble::Off if alive => return Some(Verdict::Suppressed),
            _ if self.nudges == NUDGES => {
                return Some(if alive { Verdict::Ignored } else { Verdict::Stopped });
            }
            _ if other.nudged => {
                look.next = Some(now.plus(WATCH));
                return None;
            }
            _ => {}
        }
        let (first, before) = nudged.map_or((now, *seen), |nudged| (nudged.first, nudged.before));
        stall.stage = Stage::Nudged(Nudged { first, latest: now, before, in_vain: false });
        self.nudges += 1;
        self.tally.nudges += 1;
        look.nudge = true;
        look.next = Some(now.plus(WATCH.min(self.after / AT_ONCE)));
        None
    }

    /// Keeps a verdict with its evidence.
    fn tell(
        &mut self,
        look: &mut Look,
        verdict: Verdict,
        since: Instant,
        nudged: Option<Nudged>,
        seen: &Seen,
        now: Instant,
    ) {
        let seen = nudged.map_or(*seen, |nudged| nudged.before);
        let of_interrupts = !matches!(verdict, Verdict::NotRefilled | Verdict::KickLost);
        let by_policy = of_interrupts && seen.dropped;
        let lost = |dropped| verdict == Verdict::Lost && by_policy == dropped;
        look.disagrees |= nudged.is_some()
            && match seen.loss {
                Some(LossState::Lost) => !lost(false),
                Some(LossState::Dropped) => !lost(true),
                _ => false,
            };
        let evidence = Evidence {
            verdict,
            by_policy,
            at: now,
            waited: now.since(since),
            answered: nudged.map(|nudged| now.since(nudged.first)),
            nudges: self.nudges,
            seen,
        };
        self.tally.add(evidence);
        look.evidence = Some(evidence);
    }
}
