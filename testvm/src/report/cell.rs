// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A cell of the matrix of the deterministic experiment.

use std::collections::BTreeMap;

use tsnic_protocol::{InjectionReport, Outcome};

use super::distribution::{MedianMax, Quantiles, count, per_second};
use super::expected::CellKey;
use super::series::Series;
use crate::scenario::plan::{Mode, Owner};

/// One cell of the matrix: rounds at the rendezvous.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// Who owned `NAPI_STATE_SCHED`.
    pub owner: Owner,
    /// Virtual CPUs of the guest.
    pub vcpus: usize,
    /// How the interrupt took the NAPI.
    pub mode: Mode,
    /// Rounds run.
    pub rounds: u32,
    /// How many a second.
    pub rounds_per_second: f64,
    /// Of these: the injected packet was lost until the next one.
    pub lost: u32,
    /// It was lost, then found by a poll that no interrupt of the device started.
    pub rescued: u32,
    /// The injection did not come about, or its result was not seen.
    pub inconclusive: u32,
    /// Of these: after the injection took effect.
    pub inconclusive_injected: u32,
    /// Why, and how often.
    pub inconclusive_reasons: BTreeMap<String, u32>,
    /// Stimuli sent, repeats included: how often the guest had to be asked to come to the
    /// rendezvous.
    pub stimuli: u32,
    /// From the packet's timestamp to the arm that covers it, the rendezvous included, of the
    /// packets that were never lost, microseconds.
    pub delivered_us: Quantiles,
    /// How long the lost ones stayed stuck until the next packet, milliseconds.
    pub stuck_ms: MedianMax,
    /// What the two above are of.
    pub series: Series,
}

impl Cell {
    /// Counts the rounds of a cell.
    #[must_use]
    pub fn new(owner: Owner, vcpus: usize, mode: Mode, report: &InjectionReport) -> Self {
        let rounds = &report.rounds;
        let count = |outcome| count(rounds.iter().filter(|round| round.outcome == outcome));
        let mut inconclusive_reasons = BTreeMap::new();
        for round in rounds.iter().filter(|round| round.outcome == Outcome::Inconclusive) {
            let reason = round.reason.clone().unwrap_or_else(|| "no reason given".to_owned());
            *inconclusive_reasons.entry(reason).or_insert(0) += 1;
        }
        let of = |outcome| rounds.iter().filter(move |round| round.outcome == outcome);
        let series = Series {
            delivered_ns: of(Outcome::Delivered).filter_map(|round| round.delivered_ns).collect(),
            stuck_ns: of(Outcome::Lost).filter_map(|round| round.stuck_ns).collect(),
        };
        Self {
            owner,
            vcpus,
            mode,
            rounds: self::count(rounds.iter()),
            rounds_per_second: per_second(self::count(rounds.iter()), report.elapsed_ns),
            lost: count(Outcome::Lost),
            rescued: count(Outcome::Rescued),
            inconclusive: count(Outcome::Inconclusive),
            inconclusive_injected: self::count(
                of(Outcome::Inconclusive).filter(|round| round.took_effect),
            ),
            inconclusive_reasons,
            stimuli: report.stimuli,
            delivered_us: Quantiles::in_us(series.delivered_ns.iter().copied()),
            stuck_ms: MedianMax::in_ms(series.stuck_ns.iter().copied()),
            series,
        }
    }

    pub(super) fn key(&self) -> CellKey {
        CellKey { owner: self.owner, vcpus: self.vcpus, mode: self.mode }
    }

    /// Rounds with a result.
    #[must_use]
    pub fn conclusive(&self) -> u32 {
        self.rounds - self.inconclusive
    }
}
