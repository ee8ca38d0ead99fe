// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine-readable report.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Report;
use super::ablation::{Ablation, Traffic, Trials};
use super::buckets::range_us;
use super::cell::Cell;
use super::distribution::{MedianMax, Quantiles};
use super::judge::{find_cell, find_natural, find_rpc, find_sweep, power};
use super::model::Model;
use super::natural::Natural;
use super::provenance::Provenance;
use super::rpc::RpcRun;
use super::series::{Series, on_one_line};
use super::sweep::{self, Aim, Sweep, wilson};
use crate::scenario::clause::Clause;
use crate::scenario::plan::{Mode, NaturalPlan, Owner, RpcPlan, SweepPlan};

/// Everything, in the order of the file. What was planned but not measured is there with `null`s.
#[derive(Serialize)]
pub(super) struct Document<'a> {
    verdict: &'static str,
    failures: &'a [String],
    gaps: &'a [String],
    cells: Vec<CellView<'a>>,
    rpc: Vec<RpcView<'a>>,
    natural: Vec<NaturalView<'a>>,
    sweeps: Vec<SweepView>,
    ablations: Vec<AblationView>,
    provenance: &'a Provenance,
}

#[derive(Serialize)]
struct CellView<'a> {
    owner: Owner,
    vcpus: usize,
    mode: Mode,
    rounds: Option<u32>,
    rounds_per_second: Option<f64>,
    lost: Option<u32>,
    rescued: Option<u32>,
    inconclusive: Option<u32>,
    inconclusive_reasons: Option<&'a BTreeMap<String, u32>>,
    stimuli: Option<u32>,
    delivered_us: Quantiles,
    stuck_ms: MedianMax,
    series: Option<&'a Series>,
}

#[derive(Serialize)]
struct RpcView<'a> {
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
    latency_ns: Option<Samples<'a>>,
}

/// Samples, on one line.
#[derive(Serialize)]
#[serde(transparent)]
struct Samples<'a>(#[serde(serialize_with = "on_one_line")] &'a [u64]);

#[derive(Serialize)]
struct NaturalView<'a> {
    mode: Mode,
    vcpus: usize,
    batch: u32,
    trials: Option<u32>,
    lost: Option<u32>,
    lost_per_second: Option<f64>,
    /// A mode that loses packets lost some at these offsets.
    power_shown: bool,
    rescued: Option<u32>,
    inconclusive: Option<u32>,
    inconclusive_reasons: Option<&'a BTreeMap<String, u32>>,
    owned: Option<u32>,
    aim: Option<Aim>,
    window_us: Quantiles,
    interrupt_us: Quantiles,
    delivered_us: Quantiles,
    stuck_ms: MedianMax,
    series: Option<&'a Series>,
}

#[derive(Serialize)]
struct SweepView {
    mode: Mode,
    vcpus: usize,
    batch: u32,
    trials: Option<u32>,
    cells: Vec<HeatView>,
}

#[derive(Serialize)]
struct HeatView {
    #[serde(flatten)]
    aim: Aim,
    trials: u32,
    lost: u32,
    /// Wilson's interval for 95 % of the probability of a loss.
    low: Option<f64>,
    high: Option<f64>,
}

#[derive(Serialize)]
struct AblationView {
    /// The clause that was taken away.
    clause: Clause,
    vcpus: usize,
    model: Option<Model>,
    rounds: Vec<TrialsView>,
    /// `null`: not run, or packets would be lost.
    traffic: Option<Traffic>,
}

#[derive(Serialize)]
struct TrialsView {
    owner: Owner,
    rounds: Option<u32>,
    lost: Option<u32>,
    rescued: Option<u32>,
    inconclusive: Option<u32>,
    /// Times that `MISSED` was made another than it would have been.
    bent: Option<u32>,
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
            verdict: judgement.verdict.word(),
            failures: &judgement.failures,
            gaps: &judgement.gaps,
            cells: expected
                .cells
                .iter()
                .map(|key| CellView::of(key.owner, key.vcpus, key.mode, find_cell(results, *key)))
                .collect(),
            rpc: expected
                .rpc
                .iter()
                .map(|&(mode, vcpus, plan)| {
                    RpcView::of(mode, vcpus, plan, find_rpc(results, mode, vcpus, plan))
                })
                .collect(),
            natural: expected
                .natural
                .iter()
                .map(|&(mode, vcpus, plan)| {
                    let run = find_natural(results, mode, vcpus, plan.batch);
                    NaturalView::of(mode, vcpus, plan, run, power(results, plan.batch))
                })
                .collect(),
            sweeps: expected
                .sweeps
                .iter()
                .map(|&(mode, vcpus, plan)| {
                    SweepView::of(mode, vcpus, plan, find_sweep(results, mode, vcpus, plan.batch))
                })
                .collect(),
            ablations: expected
                .ablation
                .iter()
                .flat_map(|&(vcpus, _)| {
                    Clause::ALL.map(|clause| AblationView::of(clause, vcpus, &results.ablation))
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
            rounds_per_second: cell.map(|c| c.rounds_per_second),
            lost: cell.map(|c| c.lost),
            rescued: cell.map(|c| c.rescued),
            inconclusive: cell.map(|c| c.inconclusive),
            inconclusive_reasons: cell.map(|c| &c.inconclusive_reasons),
            stimuli: cell.map(|c| c.stimuli),
            delivered_us: cell.map(|c| c.delivered_us).unwrap_or_default(),
            stuck_ms: cell.map(|c| c.stuck_ms).unwrap_or_default(),
            series: cell.map(|c| &c.series),
        }
    }
}

impl<'a> RpcView<'a> {
    fn of(mode: Mode, vcpus: usize, plan: RpcPlan, run: Option<&'a RpcRun>) -> Self {
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
            latency_ns: run.map(|r| Samples(&r.latency_ns)),
        }
    }
}

impl<'a> NaturalView<'a> {
    fn of(
        mode: Mode,
        vcpus: usize,
        plan: NaturalPlan,
        run: Option<&'a Natural>,
        power_shown: bool,
    ) -> Self {
        Self {
            mode,
            vcpus,
            batch: plan.batch,
            trials: run.map(|r| r.trials),
            lost: run.map(|r| r.lost),
            lost_per_second: run.map(|r| r.lost_per_second),
            power_shown,
            rescued: run.map(|r| r.rescued),
            inconclusive: run.map(|r| r.inconclusive),
            inconclusive_reasons: run.map(|r| &r.inconclusive_reasons),
            owned: run.map(|r| r.owned),
            aim: run.map(|r| r.aim),
            window_us: run.map(|r| r.window_us).unwrap_or_default(),
            interrupt_us: run.map(|r| r.interrupt_us).unwrap_or_default(),
            delivered_us: run.map(|r| r.delivered_us).unwrap_or_default(),
            stuck_ms: run.map(|r| r.stuck_ms).unwrap_or_default(),
            series: run.map(|r| &r.series),
        }
    }
}

impl SweepView {
    fn of(mode: Mode, vcpus: usize, plan: SweepPlan, sweep: Option<&Sweep>) -> Self {
        let cells = sweep.map(|sweep| sweep.cells.iter().map(HeatView::of).collect());
        Self {
            mode,
            vcpus,
            batch: plan.batch,
            trials: sweep.map(|s| s.trials),
            cells: cells.unwrap_or_default(),
        }
    }
}

impl HeatView {
    fn of(cell: &sweep::Cell) -> Self {
        let &sweep::Cell { aim, trials, lost } = cell;
        let short = |probability: f64| (probability * 1e4).round() / 1e4;
        let (low, high) = wilson(lost, trials).map(|(low, high)| (short(low), short(high))).unzip();
        Self { aim, trials, lost, low, high }
    }
}

impl AblationView {
    fn of(clause: Clause, vcpus: usize, ablation: &Ablation) -> Self {
        Self {
            clause,
            vcpus,
            model: Model::of(clause),
            rounds: Owner::ALL
                .map(|owner| TrialsView::of(owner, ablation.find(clause, owner)))
                .into(),
            traffic: ablation.traffic(clause),
        }
    }
}

impl TrialsView {
    fn of(owner: Owner, trials: Option<&Trials>) -> Self {
        let cell = trials.map(|it| &it.cell);
        Self {
            owner,
            rounds: cell.map(|it| it.rounds),
            lost: cell.map(|it| it.lost),
            rescued: cell.map(|it| it.rescued),
            inconclusive: cell.map(|it| it.inconclusive),
            bent: trials.map(|it| it.bent),
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
