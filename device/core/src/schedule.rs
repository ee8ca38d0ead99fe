// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The schedule: what the policies of a path decided, by the number of the intent.

use alloc::vec::Vec;
use core::time::Duration;

use crate::policy::decision::Decision;

/// Most entries that are kept: less than a mebibyte when written out (`tsnic_protocol`'s tests).
pub const ENTRIES_MAX: usize = 4_096;

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// An intent's fate, when it was not: raised at once, and that is all.
    Decided {
        /// Its number.
        intent: u64,
        /// Its fate.
        decision: Decision,
    },
    /// Interrupts that nobody had requested, raised by a policy by itself.
    Spurious {
        /// Number of the next intent.
        before: u64,
        /// How long after the intent before that one, or after the policies were set.
        after: Duration,
        /// How many.
        lines: u32,
    },
}

/// What was decided, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    entries: Vec<Entry>,
    left_out: u64,
}

impl Schedule {
    /// An intent's fate has been decided.
    pub(crate) fn record(&mut self, intent: u64, decision: &Decision) {
        if *decision != Decision::default() {
            self.push(Entry::Decided { intent, decision: *decision });
        }
    }

    /// A policy has raised interrupts by itself.
    pub(crate) fn spurious(&mut self, before: u64, after: Duration, lines: u32) {
        self.push(Entry::Spurious { before, after, lines });
    }

    fn push(&mut self, entry: Entry) {
        if self.entries.len() < ENTRIES_MAX {
            self.entries.push(entry);
        } else {
            self.left_out += 1;
        }
    }

    /// The entries, in their order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Entries that came after there were [`ENTRIES_MAX`].
    #[must_use]
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }
}
