// SPDX-License-Identifier: GPL-2.0-only
//! Verdicts on executions, and what many of them amount to.

use std::fmt;

use crate::trace::{Event, Who};

/// What must never be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// A packet is in the ring, `SCHED` is clear, and nothing is left that will fire.
    Lost,
    /// `SCHED` is set, and nobody is left to clear it.
    OwnedByNobody,
    /// `napi_disable()` waits for ever.
    DisableNeverReturns,
    /// `napi_disable()` returned, and the instance is free.
    NotDisabled,
    /// A poll used up its budget, and no other followed it.
    NotRescheduled,
    /// The device says that a packet is lost, and none is, or the other way round.
    DeviceWrong,
    /// The device called a packet lost that the owner of `SCHED` was still to find.
    CalledLost,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "packet lost",
            Self::OwnedByNobody => "SCHED left without an owner",
            Self::DisableNeverReturns => "napi_disable() never returns",
            Self::NotDisabled => "free although disabled",
            Self::NotRescheduled => "budget used up, and no poll follows",
            Self::DeviceWrong => "the device's verdict is wrong",
            Self::CalledLost => "called lost, and its owner finds it",
        })
    }
}

/// One execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// What happened.
    pub events: Vec<(Who, Event)>,
    /// What went wrong.
    pub violation: Option<Violation>,
}

impl Execution {
    /// With its verdict.
    #[must_use]
    pub const fn new(events: Vec<(Who, Event)>, violation: Option<Violation>) -> Self {
        Self { events, violation }
    }

    /// Looks for events in this order, others in between. The number of the first that is not
    /// there.
    ///
    /// # Errors
    /// That number, from 0.
    pub fn in_order(&self, steps: &[&dyn Fn(Who, Event) -> bool]) -> Result<(), usize> {
        let mut events = self.events.iter();
        let missing = steps.iter().position(|step| !events.any(|(who, event)| step(*who, *event)));
        missing.map_or(Ok(()), Err)
    }

    /// Column of the timeline: thread 1 is the first owner, or where there is none the first
    /// interrupt.
    #[must_use]
    pub fn column(&self, who: Who) -> usize {
        let owned = self.events.iter().any(|(who, _)| matches!(who, Who::Owner(_)));
        usize::from(who != if owned { Who::Owner(0) } else { Who::Interrupt(0) })
    }

    fn count(&self, wanted: impl Fn(&Event) -> bool) -> u64 {
        self.events.iter().filter(|(_, event)| wanted(event)).count() as u64
    }

    /// Polls.
    fn polls(&self) -> u64 {
        self.count(|event| matches!(event, Event::PollBegins { .. }))
    }

    /// Scheduled polls that found nothing.
    fn idle_polls(&self) -> u64 {
        let idle = |(at, (who, event)): (usize, &(Who, Event))| {
            *event == (Event::PollBegins { scheduled: true })
                && self.events[at + 1..]
                    .iter()
                    .find(|(other, _)| other == who)
                    .is_some_and(|(_, e)| *e == Event::Empty)
        };
        self.events.iter().enumerate().filter(|entry| idle(*entry)).count() as u64
    }

    /// How hard it is to read: changes of thread first, then events.
    fn length(&self) -> (usize, usize) {
        let changes = self
            .events
            .windows(2)
            .filter(|pair| self.column(pair[0].0) != self.column(pair[1].0))
            .count();
        (changes, self.events.len())
    }
}

/// A sum over executions, and the greatest term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Sum.
    pub total: u64,
    /// Most in one execution.
    pub most: u64,
}

impl Count {
    fn add(&mut self, n: u64) {
        self.total += n;
        self.most = self.most.max(n);
    }

    /// Per execution.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "for people; far below 2^52")]
    pub fn mean(self, executions: u64) -> f64 {
        self.total as f64 / executions.max(1) as f64
    }
}

/// Many executions of one model.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How many.
    pub executions: u64,
    /// Of them with a violation.
    pub broken: u64,
    /// Polls.
    pub polls: Count,
    /// Scheduled polls that found nothing.
    pub idle_polls: Count,
    /// Interrupts.
    pub interrupts: Count,
    /// Interrupts for packets that had all been consumed.
    pub idle_interrupts: Count,
    /// The violations met.
    pub violations: Vec<Violation>,
    /// The broken execution that is easiest to read.
    pub worst: Option<Execution>,
}

impl Tally {
    /// Takes an execution in.
    pub fn add(&mut self, execution: Execution) {
        self.executions += 1;
        self.polls.add(execution.polls());
        self.idle_polls.add(execution.idle_polls());
        self.interrupts.add(execution.count(|event| matches!(event, Event::Raised { .. })));
        self.idle_interrupts
            .add(execution.count(|event| matches!(event, Event::Raised { for_nothing: true, .. })));
        let Some(violation) = execution.violation else { return };
        self.broken += 1;
        if !self.violations.contains(&violation) {
            self.violations.push(violation);
            self.violations.sort_unstable();
        }
        if self.worst.as_ref().is_none_or(|worst| execution.length() < worst.length()) {
            self.worst = Some(execution);
        }
    }
}
