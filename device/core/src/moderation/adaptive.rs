// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Adaptive moderation: limits that follow the traffic.
//!
//! After the idea of Linux's dynamic interrupt moderation (DIM, `lib/dim/net_dim.c`), with the
//! device in the driver's place: each sample ends with its 64th interrupt and is compared with the
//! one before. The search climbs to longer delays until that is worse, descends to the shortest one
//! that is as good, and settles until the traffic changes. DIM turns also when nothing changed; so
//! it does not find out what a delay of several packets brings when its first step is shorter than
//! the time between two.

use core::cmp::Ordering;

use super::Limits;
use crate::time::Instant;

#[cfg(test)]
mod tests;

/// Interrupts of a sample.
const SAMPLE: u32 = 64;

/// What it chooses from: from no delay to the longest, microseconds.
const LEVEL_USECS: [u32; 5] = [0, 8, 64, 128, 256];
/// Packets that none of them waits for.
const LEVEL_FRAMES: u32 = 64;

const TOP: usize = LEVEL_USECS.len() - 1;

/// Chooses the limits of one queue.
#[derive(Clone, Debug)]
pub struct Adaptive {
    level: usize,
    search: Search,
    /// Of the sample that the next one is compared with.
    before: Rates,
    sample: Sample,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Search {
    /// To longer delays.
    Climbing,
    /// To shorter delays.
    Descending,
    /// Descended by one level too many, and has gone back.
    Back,
    Settled,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    /// When it began; `None` before the first interrupt.
    start: Option<Instant>,
    packets: u64,
    bytes: u64,
    interrupts: u32,
}

/// By the second.
#[derive(Clone, Copy, Debug, Default)]
struct Rates {
    bytes: u64,
    packets: u64,
    interrupts: u64,
}

impl Default for Adaptive {
    fn default() -> Self {
        Self {
            level: 0,
            search: Search::Climbing,
            before: Rates::default(),
            sample: Sample::default(),
        }
    }
}

impl Adaptive {
    /// The limits in force.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        match LEVEL_USECS[self.level] {
            0 => Limits { usecs: 0, frames: 0 },
            usecs => Limits { usecs, frames: LEVEL_FRAMES },
        }
    }

    /// Packets have been published, of `bytes` together.
    pub const fn published(&mut self, packets: u32, bytes: u32) {
        self.sample.packets += packets as u64;
        self.sample.bytes += bytes as u64;
    }

    /// An interrupt has been let through.
    pub fn interrupted(&mut self, now: Instant) {
        let Some(start) = self.sample.start else {
            self.sample = Sample { start: Some(now), ..Sample::default() };
            return;
        };
        self.sample.interrupts += 1;
        if self.sample.interrupts == SAMPLE {
            let rates = self.sample.rates(start, now);
            self.sample = Sample { start: Some(now), ..Sample::default() };
            self.decide(rates);
        }
    }

    fn decide(&mut self, rates: Rates) {
        let change = rates.compare(&self.before);
        let settled = self.search == Search::Settled;
        self.search = match (self.search, change) {
            (Search::Back, _) | (Search::Settled, Ordering::Equal) => Search::Settled,
            (Search::Climbing, Ordering::Equal) if self.level == TOP => self.descend(),
            (Search::Climbing, Ordering::Equal | Ordering::Greater)
            | (Search::Settled, Ordering::Greater) => self.climb(),
            (Search::Descending, Ordering::Less) => {
                self.level += 1;
                Search::Back
            }
            (Search::Climbing | Search::Settled, Ordering::Less) | (Search::Descending, _) => {
                self.descend()
            }
        };
        // As long as it is settled, a slow change is compared with what it has settled at.
        if !settled || change != Ordering::Equal {
            self.before = rates;
        }
    }

    const fn climb(&mut self) -> Search {
        if self.level == TOP {
            return Search::Settled;
        }
        self.level += 1;
        Search::Climbing
    }

    const fn descend(&mut self) -> Search {
        if self.level == 0 {
            return Search::Settled;
        }
        self.level -= 1;
        Search::Descending
    }
}

impl Sample {
    fn rates(&self, start: Instant, now: Instant) -> Rates {
        let ns = now.since(start).as_nanos().max(1);
        let rate = |count: u64| {
            let rate = u128::from(count) * 1_000_000_000 / ns;
            u64::try_from(rate).unwrap_or(u64::MAX)
        };
        Rates {
            bytes: rate(self.bytes),
            packets: rate(self.packets),
            interrupts: rate(self.interrupts.into()),
        }
    }
}

impl Rates {
    /// Better or worse than `before`: by bytes, else by packets, else by interrupts.
    fn compare(&self, before: &Self) -> Ordering {
        compare(self.bytes, before.bytes)
            .then_with(|| compare(self.packets, before.packets))
            .then_with(|| compare(self.interrupts, before.interrupts).reverse())
    }
}

/// A difference of up to a tenth is none.
fn compare(now: u64, before: u64) -> Ordering {
    if u128::from(now.abs_diff(before)) * 10 <= u128::from(before) {
        Ordering::Equal
    } else {
        now.cmp(&before)
    }
}
