// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Experiment 4: the protocol with one clause taken away.

use std::fmt::{self, Formatter};

use super::super::Report;
use super::super::ablation::{Ablation, Rate, Traffic};
use super::super::model::Model;
use super::{number, wrapped};
use crate::scenario::clause::Clause;
use crate::scenario::plan::Owner;

const HEADING: &str = "\
Experiment 4: the running kernel with one clause of NAPI's protocol taken away, for our receive
queue only, by ftrace; mode v4_11, 2 vCPUs. Lost of the rounds of experiment 1 beside each owner,
and what the models say (docs/napi-ablation.md). bent: times that MISSED was made another than it is
with the clause
";

const TRAFFIC: &str = "\
Real traffic: a TCP stream into the guest, two or three segments every 0-200 us, beside RPCs of a
busy-polling server; gro_flush_timeout 50 us; blocks of each clause in turn. For 1,000 packets, of
all blocks (and of the smallest and the largest one); polls: those that come to
napi_complete_done(), of a busy loop only the last; empty: those that had found nothing; lost?:
packets that looked lost, as few do in busy polling (docs/interface.md, \"Loss states\"). Reported,
not judged.
";

pub(super) fn write(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let Report { expected, results, .. } = report;
    if expected.ablation.is_none() {
        return Ok(());
    }
    writeln!(f, "{HEADING}")?;
    writeln!(
        f,
        "{:<23}  {:>9} {:>9} {:>9}  {:>6}   models",
        "without the clause", "driver", "busy-poll", "watchdog", "bent"
    )?;
    for clause in Clause::ALL {
        rounds(f, clause, &results.ablation)?;
    }
    writeln!(f)?;
    for trials in &results.ablation.trials {
        for (reason, times) in &trials.cell.inconclusive_reasons {
            let (clause, owner) = (trials.clause, trials.cell.owner);
            wrapped(f, &format!("inconclusive: {clause}, {owner}: {times} x {reason}"))?;
        }
    }
    writeln!(f, "{TRAFFIC}")?;
    writeln!(
        f,
        "{:<20} {:>6} {:>7}  {:<15}  {:<15}  {:<15}  {:>6} {:>5}",
        "without the clause", "blocks", "packets", "polls", "empty", "interrupts", "bent", "lost?"
    )?;
    for clause in Clause::COSTING {
        traffic(f, clause, results.ablation.traffic(clause).as_ref())?;
    }
    for clause in Clause::COSTING {
        if let Some(Model { row, cost: Some(cost), .. }) = Model::of(clause) {
            wrapped(f, &format!("models, {clause} (row {row}): {cost}, per 1,000 executions"))?;
        }
    }
    writeln!(f)
}

fn rounds(f: &mut Formatter<'_>, clause: Clause, ablation: &Ablation) -> fmt::Result {
    let lost = Owner::ALL.map(|owner| match ablation.find(clause, owner) {
        None => "-".to_owned(),
        Some(trials) => format!("{}/{}", trials.cell.lost, trials.cell.conclusive()),
    });
    let bent = Owner::ALL
        .iter()
        .map(|&owner| ablation.find(clause, owner).map(|it| it.bent))
        .sum::<Option<u32>>();
    let model = Model::of(clause)
        .map_or_else(|| "-".to_owned(), |model| format!("{} (row {})", model.verdict, model.row));
    let [driver, busy_poll, watchdog] = lost;
    let bent = super::count(bent);
    let clause = clause.to_string();
    writeln!(f, "{clause:<23}  {driver:>9} {busy_poll:>9} {watchdog:>9}  {bent:>6}   {model}")
}

fn traffic(f: &mut Formatter<'_>, clause: Clause, traffic: Option<&Traffic>) -> fmt::Result {
    let clause = clause.to_string();
    let Some(traffic) = traffic else { return writeln!(f, "{clause:<20} {:>6}", "-") };
    let Traffic { blocks, packets, lost, rescued, bent, .. } = traffic;
    let [polls, empty, interrupts] =
        [&traffic.polls, &traffic.empty_polls, &traffic.interrupts].map(rate);
    writeln!(
        f,
        "{clause:<20} {blocks:>6} {packets:>7}  {polls:<15}  {empty:<15}  {interrupts:<15}  {bent:>6} {:>5}",
        lost + rescued
    )
}

/// The rate of all blocks, and between which the blocks' own are.
fn rate(rate: &Rate) -> String {
    let all = number(rate.all);
    match rate.range() {
        None => all,
        Some((low, high)) => format!("{all} ({low:.0}-{high:.0})"),
    }
}
