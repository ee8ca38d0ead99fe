// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine-readable report.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Report;
use super::buckets::range_us;
use super::judge::{find_cell, find_rpc, find_unassisted};
use super::provenance::Provenance;
use super::results::{Cell, MedianMax, Quantiles, RpcRun, Unassisted};
use crate::scenario::plan::{Mode, Owner, RpcPlan};
use crate::verdict::Verdict;

/// Everything, in the order of the file. What was planned but not measured is there with `null`s.
#[derive(Serialize)]
pub(super) struct Document<'a> {
    verdict: &'static str,
    failures: &'a [String],
    gaps: &'a [String],
    cells: Vec<CellView<'a>>,
    unassisted: Vec<UnassistedView>,
    rpc: Vec<RpcView>,
    provenance: &'a Provenance,
}

#[derive(Serialize)]
struct CellView<'a> {
    owner: Owner,
    vcpus: usize,
    mode: Mode,
    rounds: Option<u32>,
    lost: Option<u32>,
    rescued: Option<u32>,
    inconclusive: Option<u32>,
    inconclusive_reasons: Option<&'a BTreeMap<String, u32>>,
    stimuli: Option<u32>,
    delivered_us: Quantiles,
    stuck_ms: MedianMax,
}

#[derive(Serialize)]
struct UnassistedView {
    mode: Mode,
    vcpus: usize,
    packets: Option<u32>,
    lost: Option<u32>,
    rescued: Option<u32>,
    inconclusive: Option<u32>,
    delivered_us: Quantiles,
    stuck_ms: MedianMax,
}

#[derive(Serialize)]
struct RpcView {
    mode: Mode,
    vcpus: usize,
    /// No request was to be injected.
    unassisted: bool,
    requests: Option<u32>,
    injected: Option<u32>,
    injected_lost: Option<u32>,
    injected_over_100ms: Option<u32>,
    injected_retransmitted: Option<u32>,
    injected_reply_repeated: Option<u32>,
    not_met: Option<u32>,
    lost: Option<u32>,
    rescued: Option<u32>,
    over_100ms: Option<u32>,
    latency_us: Quantiles,
    uncertainty_us: Quantiles,
    histogram: Vec<BucketView>,
}

#[derive(Serialize)]
struct BucketView {
    from_us: u64,
    /// `null`: no end.
    to_us: Option<u64>,
    requests: u32,
}

impl<'a> Document<'a> {
    pub(super) fn of(report: &'a Report) -> Self {
        let Report { expected, results, judgement, provenance } = report;
        Self {
            verdict: match judgement.verdict {
                Verdict::Pass => "pass",
                Verdict::Fail => "fail",
                Verdict::Undecided => "no-verdict",
            },
            failures: &judgement.failures,
            gaps: &judgement.gaps,
            cells: expected
                .cells
                .iter()
                .map(|key| CellView::of(key.owner, key.vcpus, key.mode, find_cell(results, *key)))
                .collect(),
            unassisted: expected
                .unassisted
                .iter()
                .map(|&(mode, vcpus, _)| {
                    UnassistedView::of(mode, vcpus, find_unassisted(results, mode, vcpus))
                })
                .collect(),
            rpc: expected
                .rpc
                .iter()
                .map(|&(mode, vcpus, plan)| {
                    RpcView::of(mode, vcpus, plan, find_rpc(results, mode, vcpus, plan))
                })
                .collect(),
            provenance,
        }
    }
}

impl<'a> CellView<'a> {
    fn of(owner: Owner, vcpus: usize, mode: Mode, cell: Option<&'a Cell>) -> Self {
        Self {
            owner,
            vcpus,
            mode,
            rounds: cell.map(|c| c.rounds),
            lost: cell.map(|c| c.lost),
            rescued: cell.map(|c| c.rescued),
            inconclusive: cell.map(|c| c.inconclusive),
            inconclusive_reasons: cell.map(|c| &c.inconclusive_reasons),
            stimuli: cell.map(|c| c.stimuli),
            delivered_us: cell.map(|c| c.delivered_us).unwrap_or_default(),
            stuck_ms: cell.map(|c| c.stuck_ms).unwrap_or_default(),
        }
    }
}

impl UnassistedView {
    fn of(mode: Mode, vcpus: usize, run: Option<&Unassisted>) -> Self {
        Self {
            mode,
            vcpus,
            packets: run.map(|r| r.packets),
            lost: run.map(|r| r.lost),
            rescued: run.map(|r| r.rescued),
            inconclusive: run.map(|r| r.inconclusive),
            delivered_us: run.map(|r| r.delivered_us).unwrap_or_default(),
            stuck_ms: run.map(|r| r.stuck_ms).unwrap_or_default(),
        }
    }
}

impl RpcView {
    fn of(mode: Mode, vcpus: usize, plan: RpcPlan, run: Option<&RpcRun>) -> Self {
        Self {
            mode,
            vcpus,
            unassisted: plan.inject_per_mille == 0,
            requests: run.map(|r| r.requests),
            injected: run.map(|r| r.injected.total),
            injected_lost: run.map(|r| r.injected.lost),
            injected_over_100ms: run.map(|r| r.injected.over_100ms),
            injected_retransmitted: run.map(|r| r.injected.retransmitted),
            injected_reply_repeated: run.map(|r| r.injected.reply_repeated),
            not_met: run.map(|r| r.not_met),
            lost: run.map(|r| r.lost),
            rescued: run.map(|r| r.rescued),
            over_100ms: run.map(|r| r.over_100ms),
            latency_us: run.map(|r| r.latency_us).unwrap_or_default(),
            uncertainty_us: run.map(|r| r.uncertainty_us).unwrap_or_default(),
            histogram: run.map(histogram).unwrap_or_default(),
        }
    }
}

fn histogram(run: &RpcRun) -> Vec<BucketView> {
    let view = |(index, &requests): (usize, &u32)| {
        let (from_us, to_us) = range_us(index);
        BucketView { from_us, to_us, requests }
    };
    run.buckets.counts.iter().enumerate().map(view).collect()
}
