// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What came of the protocol with one clause taken away.

use serde::Serialize;

use super::cell::Cell;
use super::distribution::count;
use crate::scenario::clause::Clause;
use crate::scenario::plan::Owner;

/// Everything about the clauses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ablation {
    /// Rounds at the rendezvous: one for each clause and owner.
    pub trials: Vec<Trials>,
    /// Blocks of real traffic, in the order in which they were run.
    pub blocks: Vec<Block>,
}

/// Rounds at the rendezvous without one clause.
#[derive(Clone, Debug, PartialEq)]
pub struct Trials {
    /// The clause.
    pub clause: Clause,
    /// Times that `MISSED` was made another than it would have been.
    pub bent: u32,
    /// What came of the rounds.
    pub cell: Cell,
}

/// A block of real traffic without one clause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The clause.
    pub clause: Clause,
    /// What was counted in it.
    pub tally: Tally,
}

/// Counts of the receive queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames that the device put into the ring.
    pub packets: u64,
    /// Interrupts that the device raised.
    pub interrupts: u64,
    /// Packets lost until the next one.
    pub lost: u64,
    /// Packets lost, then found by another poll.
    pub rescued: u64,
    /// Polls that came to `napi_complete_done()`, those of busy loops but the last one left out.
    /// Wraps.
    pub polls: u32,
    /// Of these: they had found nothing. Wraps.
    pub empty_polls: u32,
    /// Times that `MISSED` was made another than it would have been. Wraps.
    pub bent: u32,
}

impl Tally {
    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            packets: self.packets - earlier.packets,
            interrupts: self.interrupts - earlier.interrupts,
            lost: self.lost - earlier.lost,
            rescued: self.rescued - earlier.rescued,
            polls: self.polls.wrapping_sub(earlier.polls),
            empty_polls: self.empty_polls.wrapping_sub(earlier.empty_polls),
            bent: self.bent.wrapping_sub(earlier.bent),
        }
    }
}

/// What one clause's blocks come to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Traffic {
    /// Blocks.
    pub blocks: u32,
    /// Their packets.
    pub packets: u64,
    /// Packets lost until the next one.
    pub lost: u64,
    /// Packets lost, then found by another poll.
    pub rescued: u64,
    /// Times that `MISSED` was made another.
    pub bent: u64,
    /// Polls for 1,000 packets.
    pub polls: Rate,
    /// Polls that found nothing, for 1,000 packets.
    pub empty_polls: Rate,
    /// Interrupts for 1,000 packets.
    pub interrupts: Rate,
}

/// A number for each 1,000 packets.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Rate {
    /// Of all blocks together.
    pub all: Option<f64>,
    /// Of each block, in the order in which they were run.
    pub blocks: Vec<f64>,
}

impl Rate {
    fn of<'a>(
        tallies: impl Iterator<Item = &'a Tally> + Clone,
        counter: fn(&Tally) -> u64,
    ) -> Self {
        let per_thousand = |count: u64, packets: u64| {
            // Tenths, rounded.
            let tenths = (count * 10_000 + packets / 2).checked_div(packets)?;
            Some(f64::from(u32::try_from(tenths).ok()?) / 10.0)
        };
        let blocks =
            tallies.clone().filter_map(|it| per_thousand(counter(it), it.packets)).collect();
        let all = tallies.fold((0, 0), |sum, it| (sum.0 + counter(it), sum.1 + it.packets));
        Self { all: per_thousand(all.0, all.1), blocks }
    }

    /// The smallest and the largest of the blocks.
    pub fn range(&self) -> Option<(f64, f64)> {
        let first = *self.blocks.first()?;
        Some(
            self.blocks.iter().fold((first, first), |(low, high), &it| (low.min(it), high.max(it))),
        )
    }
}

impl Ablation {
    /// The rounds of this clause beside this owner.
    pub(super) fn find(&self, clause: Clause, owner: Owner) -> Option<&Trials> {
        self.trials.iter().find(|it| it.clause == clause && it.cell.owner == owner)
    }

    /// The blocks of this clause; none when none was run.
    pub(super) fn traffic(&self, clause: Clause) -> Option<Traffic> {
        let blocks = self.blocks.iter().filter(|block| block.clause == clause);
        let tallies = blocks.map(|block| &block.tally);
        let sum = |counter: fn(&Tally) -> u64| tallies.clone().map(counter).sum();
        let traffic = Traffic {
            blocks: count(tallies.clone()),
            packets: sum(|it| it.packets),
            lost: sum(|it| it.lost),
            rescued: sum(|it| it.rescued),
            bent: sum(|it| it.bent.into()),
            polls: Rate::of(tallies.clone(), |it| it.polls.into()),
            empty_polls: Rate::of(tallies.clone(), |it| it.empty_polls.into()),
            interrupts: Rate::of(tallies.clone(), |it| it.interrupts),
        };
        (traffic.blocks > 0).then_some(traffic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_the_module_wrap() {
        let earlier = Tally { polls: u32::MAX, packets: 7, ..Tally::default() };
        let now = Tally { polls: 4, packets: 10, ..Tally::default() };
        assert_eq!(now.since(&earlier), Tally { polls: 5, packets: 3, ..Tally::default() });
    }

    #[test]
    fn rates_are_for_a_thousand_packets_and_none_without_packets() {
        let block = |polls, packets| Block {
            clause: Clause::None,
            tally: Tally { packets, polls, ..Tally::default() },
        };
        let blocks = vec![block(1, 2_000), block(2, 1_000), block(3, 0)];
        let traffic = Ablation { trials: vec![], blocks }.traffic(Clause::None).expect("blocks");
        assert_eq!(traffic.polls, Rate { all: Some(2.0), blocks: vec![0.5, 2.0] });
        assert_eq!(traffic.polls.range(), Some((0.5, 2.0)));
        let nothing = Ablation { trials: vec![], blocks: vec![block(3, 0)] };
        let rate = nothing.traffic(Clause::None).expect("a block").polls;
        assert_eq!((rate.all, rate.range()), (None, None));
        assert_eq!(nothing.traffic(Clause::StopKeepsMissed), None);
    }
}
