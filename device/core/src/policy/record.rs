// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A schedule that is followed again.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use super::decision::Decision;
use super::spec::MAX_COPIES;
use crate::schedule::Entry;
use crate::time::Instant;

/// A schedule by the number of the intent.
#[derive(Debug, Default)]
pub(super) struct Record {
    decided: BTreeMap<u64, Decision>,
    /// By the number of the intent that comes after them.
    spurious: BTreeMap<u64, Vec<(Duration, u32)>>,
    /// When the next of them are due, and how many.
    next: VecDeque<(Instant, u32)>,
}

impl Record {
    pub(super) fn new(entries: &[Entry]) -> Self {
        let mut record = Self::default();
        for entry in entries {
            match *entry {
                Entry::Decided { intent, decision } => {
                    record.decided.insert(intent, decision);
                }
                Entry::Spurious { before, after, lines } => {
                    record.spurious.entry(before).or_default().push((after, lines));
                }
            }
        }
        record
    }

    /// This intent has come, or the schedule begins: its fate. What was still to be raised before
    /// it is not.
    pub(super) fn intent(&mut self, number: Option<u64>, now: Instant) -> Decision {
        let next = number.map_or(0, |number| number + 1);
        let spurious = self.spurious.get(&next).into_iter().flatten();
        self.next = spurious.map(|(after, lines)| (now.plus(*after), *lines)).collect();
        number.and_then(|number| self.decided.get(&number).copied()).unwrap_or_default()
    }

    /// Interrupts that are nobody's and due now: no more at a time than a policy may raise.
    pub(super) fn take_due(&mut self, now: Instant) -> u32 {
        let most = u32::from(MAX_COPIES);
        let mut raise = 0;
        while let Some((_, lines)) = self.next.front_mut().filter(|(at, _)| *at <= now) {
            let taken = (*lines).min(most - raise);
            raise += taken;
            *lines -= taken;
            if *lines != 0 {
                break;
            }
            self.next.pop_front();
        }
        raise
    }

    /// When the next of them are due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.next.front().map(|(at, _)| *at)
    }
}
