// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The verdict. It rests on what the device knows of its own state (docs/interface.md, rule 5),
//! never on a time.
//!
//! - *fail*: something expected was measured and is not so. It stands, whatever else is missing.
//! - *undecided*: something is missing, or too little of it was conclusive. Neither pass nor fail.
//! - *pass*: everything was measured, and all of it is as expected.

use super::cell::Cell;
use super::expected::{CellKey, Expected};
use super::model::Model;
use super::natural::Natural;
use super::results::Results;
use super::rpc::RpcRun;
use super::sweep::Sweep;
use crate::scenario::clause::Clause;
use crate::scenario::plan::{AblationPlan, Mode, NaturalPlan, Owner, RpcPlan};
use crate::verdict::Verdict;

/// Of a hundred conclusive rounds, how many must be lost where losses are expected.
const LOST_PERCENT_MIN: u32 = 95;
/// Of a hundred rounds, how many may be inconclusive.
const INCONCLUSIVE_PERCENT_MAX: u32 = 5;

/// A verdict and its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// What is not as expected, one sentence each.
    pub failures: Vec<String>,
    /// What could not be told, one sentence each.
    pub gaps: Vec<String>,
}

/// Judges what came of what was planned.
#[must_use]
pub fn judge(expected: &Expected, results: &Results) -> Judgement {
    let mut judge = Judge::default();
    for key in &expected.cells {
        judge.cell(*key, expected.rounds, find_cell(results, *key));
    }
    for &(mode, vcpus, plan) in &expected.sweeps {
        if find_sweep(results, mode, vcpus, plan.batch).is_none() {
            judge.not_run.push(format!("sweep, batch {}, {mode}", plan.batch));
        }
    }
    for &(mode, vcpus, plan) in &expected.natural {
        judge.natural(mode, plan, find_natural(results, mode, vcpus, plan.batch));
    }
    for &(mode, vcpus, plan) in &expected.rpc {
        judge.rpc(mode, plan, find_rpc(results, mode, vcpus, plan));
    }
    if let Some((_, plan)) = expected.ablation {
        judge.ablation(plan, expected.rounds, results);
    }
    if expected.cells.is_empty() && expected.natural.is_empty() && expected.rpc.is_empty() {
        judge.gap("The plan", "asks for nothing");
    }
    // Causes before their consequences.
    let not_run =
        (!judge.not_run.is_empty()).then(|| format!("not run: {}", judge.not_run.join("; ")));
    let gaps: Vec<String> =
        results.problems.iter().cloned().chain(not_run).chain(judge.gaps).collect();
    let verdict = match (judge.failures.is_empty(), gaps.is_empty()) {
        (false, _) => Verdict::Fail,
        (true, false) => Verdict::Undecided,
        (true, true) => Verdict::Pass,
    };
    Judgement { verdict, failures: judge.failures, gaps }
}

pub(super) fn find_cell(results: &Results, key: CellKey) -> Option<&Cell> {
    results.cells.iter().find(|cell| cell.key() == key)
}

pub(super) fn find_sweep(
    results: &Results,
    mode: Mode,
    vcpus: usize,
    batch: u32,
) -> Option<&Sweep> {
    results.sweeps.iter().find(|run| (run.mode, run.vcpus, run.batch) == (mode, vcpus, batch))
}

pub(super) fn find_natural(
    results: &Results,
    mode: Mode,
    vcpus: usize,
    batch: u32,
) -> Option<&Natural> {
    results.natural.iter().find(|run| (run.mode, run.vcpus, run.batch) == (mode, vcpus, batch))
}

/// A mode that loses packets has lost some in the natural runs of this batch, so those of the mode
/// that loses none say something.
pub(super) fn power(results: &Results, batch: u32) -> bool {
    let losing = |run: &&Natural| run.batch == batch && run.mode.loses();
    results.natural.iter().filter(losing).any(|run| run.lost > 0)
}

pub(super) fn find_rpc(
    results: &Results,
    mode: Mode,
    vcpus: usize,
    plan: RpcPlan,
) -> Option<&RpcRun> {
    let key = (mode, vcpus, plan.inject_per_mille);
    results.rpc.iter().find(|run| (run.mode, run.vcpus, run.inject_per_mille) == key)
}

#[derive(Default)]
struct Judge {
    failures: Vec<String>,
    gaps: Vec<String>,
    not_run: Vec<String>,
}

impl Judge {
    fn fail(&mut self, what: &str, why: impl AsRef<str>) {
        self.failures.push(format!("{what}: {}", why.as_ref()));
    }

    fn gap(&mut self, what: &str, why: impl AsRef<str>) {
        self.gaps.push(format!("{what}: {}", why.as_ref()));
    }

    fn cell(&mut self, key: CellKey, rounds: u32, cell: Option<&Cell>) {
        self.rounds(key.to_string(), key.mode.loses(), rounds, cell);
    }

    /// Rounds at the rendezvous, where packets are to be lost or not.
    fn rounds(&mut self, what: String, loses: bool, rounds: u32, cell: Option<&Cell>) {
        let Some(cell) = cell else { return self.not_run.push(what) };
        if cell.rounds != rounds {
            self.gap(&what, format!("{} rounds of {rounds} were run", cell.rounds));
        }
        // What must not be is judged on what there is, however little. What must be needs enough of
        // it.
        if !loses {
            self.none_lost(&what, cell.conclusive(), "packets", cell.lost, cell.rescued);
        }
        // With the fix there is nothing that a packet could still wait for once the guest has been
        // let go.
        let unexplained = !loses && cell.inconclusive_injected > 0;
        if unexplained || percent_above(cell.inconclusive, cell.rounds, INCONCLUSIVE_PERCENT_MAX) {
            let reasons: Vec<_> = cell
                .inconclusive_reasons
                .iter()
                .map(|(reason, times)| format!("{times} x {reason}"))
                .collect();
            let text = format!(
                "{} of {} rounds were inconclusive ({})",
                cell.inconclusive,
                cell.rounds,
                reasons.join("; ")
            );
            self.gap(&what, text);
        } else if loses {
            self.enough_lost(&what, cell.lost, cell.conclusive(), "rounds");
        }
    }

    /// The models say which clause loses packets, and the kernel must agree. A clause that was never
    /// in fact taken away has shown nothing.
    fn ablation(&mut self, plan: AblationPlan, rounds: u32, results: &Results) {
        let ablation = &results.ablation;
        for clause in Clause::ALL {
            let what = format!("without a clause, {clause}");
            let Some(model) = Model::of(clause) else {
                self.gap(&what, "the models have no row of it");
                continue;
            };
            for owner in Owner::ALL {
                let cell = ablation.find(clause, owner).map(|it| &it.cell);
                self.rounds(format!("{what}, {owner}"), model.loses(), rounds, cell);
            }
        }
        for clause in Clause::COSTING {
            let what = format!("without a clause, {clause}, traffic");
            let Some(traffic) = ablation.traffic(clause) else {
                self.not_run.push(what);
                continue;
            };
            if traffic.blocks != plan.blocks {
                self.gap(&what, format!("{} blocks of {} were run", traffic.blocks, plan.blocks));
            }
            // Its losses are no verdict: an owner that takes the NAPI just after each completion, as a
            // busy poller does, looks like a loss now and then (docs/interface.md, "Loss states").
            if traffic.packets == 0 {
                self.gap(&what, "no packet came");
            }
            if clause != Clause::None && traffic.bent == 0 {
                self.gap(&what, "MISSED was never another than with the clause: no power");
            }
        }
    }

    /// Losses where they are expected are a count: nature owes nobody one.
    fn natural(&mut self, mode: Mode, plan: NaturalPlan, run: Option<&Natural>) {
        let what = format!("natural, batch {}, {mode}", plan.batch);
        let Some(run) = run else { return self.not_run.push(what) };
        let planned = plan.trials(mode);
        if run.trials != planned {
            self.gap(&what, format!("{} trials of {planned} were run", run.trials));
        }
        if !mode.loses() {
            self.none_lost(&what, run.conclusive(), "packets", run.lost, run.rescued);
        }
        let unexplained = !mode.loses() && run.inconclusive > 0;
        if unexplained || percent_above(run.inconclusive, run.trials, INCONCLUSIVE_PERCENT_MAX) {
            let text =
                format!("the end of {} of {} trials was not seen", run.inconclusive, run.trials);
            self.gap(&what, text);
        }
    }

    fn rpc(&mut self, mode: Mode, plan: RpcPlan, run: Option<&RpcRun>) {
        let what = match plan.inject_per_mille {
            0 => format!("RPC, unassisted, {mode}"),
            _ => format!("RPC, {mode}"),
        };
        let Some(run) = run else { return self.not_run.push(what) };
        if run.requests != plan.requests {
            self.gap(
                &what,
                format!("{} requests of {} were answered", run.requests, plan.requests),
            );
        }
        if !mode.loses() {
            self.none_lost(&what, run.requests, "requests", run.lost, run.rescued);
            if run.injected.inconclusive > 0 {
                self.gap(
                    &what,
                    format!(
                        "the end of {} injected requests was not seen",
                        run.injected.inconclusive
                    ),
                );
            }
        }
        if plan.inject_per_mille == 0 {
            return;
        }
        let injected = &run.injected;
        let conclusive = injected.total - injected.inconclusive;
        let chosen = injected.total + run.not_met;
        let aimed_at = u64::from(plan.requests) * u64::from(plan.inject_per_mille) / 1000;
        // Chance decides how many are chosen, but most of those have to be injected in fact.
        if conclusive == 0
            || conclusive < chosen.div_ceil(2)
            || u64::from(conclusive) < aimed_at / 4
        {
            let text = format!(
                "only {conclusive} of {chosen} chosen requests were injected with a result, {aimed_at} were aimed at"
            );
            self.gap(&what, text);
        } else if mode.loses() {
            self.enough_lost(&what, injected.lost, conclusive, "injected requests");
        }
        if injected.total > 0 && injected.matched == 0 {
            self.gap(&what, "no injected request has the hardware timestamp of any request");
        }
    }

    fn none_lost<N: Into<u64>>(&mut self, what: &str, of: N, unit: &str, lost: N, rescued: N) {
        let (of, lost, rescued): (u64, u64, u64) = (of.into(), lost.into(), rescued.into());
        if lost > 0 {
            self.fail(what, format!("{lost} of {of} {unit} were lost, none should be"));
        }
        if rescued > 0 {
            self.fail(
                what,
                format!("{rescued} of {of} {unit} were lost until another poll found them, none should be"),
            );
        }
    }

    fn enough_lost(&mut self, what: &str, lost: u32, of: u32, unit: &str) {
        if of == 0 {
            self.gap(what, format!("no conclusive {unit}"));
        } else if u64::from(lost) * 100 < u64::from(of) * u64::from(LOST_PERCENT_MIN) {
            self.fail(
                what,
                format!("{lost} of {of} {unit} lost their packet, {LOST_PERCENT_MIN} % should"),
            );
        }
    }
}

fn percent_above(part: u32, whole: u32, percent: u32) -> bool {
    u64::from(part) * 100 > u64::from(whole) * u64::from(percent)
}

#[cfg(test)]
mod tests;
