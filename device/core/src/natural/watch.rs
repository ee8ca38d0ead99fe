// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is seen of a trial in the guest's progress cells: the window, and the handler's run.

use tsnic_abi::{Counter, phase};

use crate::run::PageView;
use crate::spec::{Trial, Window};
use crate::time::{Instant, ns};

/// What is seen of the poll that finds the burst.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    /// When the burst was published.
    pub(super) burst: Instant,
    /// Polls, arms and interrupts before.
    polls: Counter,
    arm: Counter,
    fired: Counter,
    /// A poll began before the interrupt was raised: it had another owner.
    owned: bool,
    /// When the interrupt was raised, unless the queue was not armed.
    pub(super) raised: Option<Instant>,
    window_from: Option<Instant>,
}

impl Watch {
    pub(super) const fn new(now: Instant, page: &PageView) -> Self {
        let irq = page.irq.interrupts();
        Self {
            burst: now,
            polls: page.progress.polls,
            arm: irq.last_arm(),
            fired: irq.fired(),
            owned: false,
            raised: None,
            window_from: None,
        }
    }

    /// Looks at the guest's progress, and notes in the trial what there is to be seen.
    pub(super) fn look(&mut self, now: Instant, page: &PageView, trial: &mut Trial) {
        let (irq, progress) = (page.irq.interrupts(), page.progress);
        let begun = progress.polls != self.polls;
        if irq.fired() == self.fired {
            self.owned |= begun;
            self.raised = None;
        }
        let number = self.fired.plus(1);
        if let (Some(raised), None) = (self.raised, trial.handled_ns)
            && progress.irq_seen == number
        {
            trial.handled_ns = Some(ns(now.since(raised)));
            trial.owned = progress.irq_owned == number;
        }
        if trial.window.is_some() || !self.owned {
            return;
        }
        if irq.last_arm() != self.arm {
            // An arm that came before the poll's end was seen ends a window of unknown length.
            let from = self.window_from;
            let to = page.irq.armed_at();
            trial.window = from.zip(to).map(|(from, to)| Window {
                from_ns: ns(from.since(self.burst)),
                to_ns: ns(to.since(self.burst)),
            });
            self.owned = trial.window.is_some();
        } else if progress.phase == phase::IDLE {
            self.window_from.get_or_insert(now);
        }
    }
}
