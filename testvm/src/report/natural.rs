// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What came of trials with no rendezvous.

use std::collections::BTreeMap;

use tsnic_protocol::{NaturalReport, Outcome, Trial};

use super::distribution::{MedianMax, Quantiles, count, per_second};
use super::series::Series;
use super::sweep::Aim;
use crate::scenario::plan::Mode;

/// A run of trials at the offsets where a sweep has found most losses.
#[derive(Clone, Debug, PartialEq)]
pub struct Natural {
    /// How the interrupt took the NAPI.
    pub mode: Mode,
    /// Virtual CPUs of the guest.
    pub vcpus: usize,
    /// Frames that GRO gathers before it hands them to the stack (`net.core.gro_normal_batch`).
    pub batch: u32,
    /// Where straggler and interrupt were placed.
    pub aim: Aim,
    /// Trials run.
    pub trials: u32,
    /// Packets lost in the run until the next one.
    pub lost: u32,
    /// Packets lost, then found by another poll.
    pub rescued: u32,
    /// Trials without a result.
    pub inconclusive: u32,
    /// Why, and how often.
    pub inconclusive_reasons: BTreeMap<String, u32>,
    /// Trials whose interrupt found the NAPI owned.
    pub owned: u32,
    /// `lost` by the time that the run took.
    pub lost_per_second: f64,
    /// From the last look at the ring to the arm, of polls that another owner than the interrupt
    /// began, as the device sees it, microseconds.
    pub window_us: Quantiles,
    /// From the interrupt to the first look that saw that its handler had run, microseconds.
    pub interrupt_us: Quantiles,
    /// From the straggler's timestamp to the arm that covers it, of those never lost, microseconds.
    pub delivered_us: Quantiles,
    /// How long the lost ones stayed stuck until the next packet, milliseconds.
    pub stuck_ms: MedianMax,
    /// What the two above are of.
    pub series: Series,
}

impl Natural {
    /// Counts the trials.
    #[must_use]
    pub fn new(mode: Mode, vcpus: usize, batch: u32, aim: Aim, report: &NaturalReport) -> Self {
        let trials = &report.trials;
        let of = |outcome| trials.iter().filter(move |trial| trial.outcome == outcome);
        let mut inconclusive_reasons = BTreeMap::new();
        for trial in of(Outcome::Inconclusive) {
            let reason = trial.reason.clone().unwrap_or_else(|| "no reason given".to_owned());
            *inconclusive_reasons.entry(reason).or_insert(0) += 1;
        }
        let series = Series {
            delivered_ns: of(Outcome::Delivered).filter_map(|trial| trial.delivered_ns).collect(),
            stuck_ns: of(Outcome::Lost).filter_map(|trial| trial.stuck_ns).collect(),
        };
        let window =
            |trial: &Trial| Some(trial.window?.to_ns.saturating_sub(trial.window?.from_ns));
        Self {
            mode,
            vcpus,
            batch,
            aim,
            trials: count(trials.iter()),
            lost: report.lost,
            rescued: report.rescued,
            inconclusive: count(of(Outcome::Inconclusive)),
            inconclusive_reasons,
            owned: count(trials.iter().filter(|trial| trial.owned)),
            lost_per_second: per_second(report.lost, report.elapsed_ns),
            window_us: Quantiles::in_us(trials.iter().filter_map(window)),
            interrupt_us: Quantiles::in_us(trials.iter().filter_map(|trial| trial.handled_ns)),
            delivered_us: Quantiles::in_us(series.delivered_ns.iter().copied()),
            stuck_ms: MedianMax::in_ms(series.stuck_ns.iter().copied()),
            series,
        }
    }

    /// Trials with a result.
    #[must_use]
    pub fn conclusive(&self) -> u32 {
        self.trials - self.inconclusive
    }
}
