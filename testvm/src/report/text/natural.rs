// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Experiment 3: the natural runs, and where a sweep has found the losses.

use std::fmt::{self, Formatter};

use super::super::Report;
use super::super::judge::{find_natural, find_sweep, power};
use super::super::natural::Natural;
use super::super::sweep::{Cell, Sweep, wilson};
use super::{count, number, wrapped};
use crate::scenario::plan::Mode;

const HEADING: &str = "\
Experiment 3: no rendezvous and no hook, 2 vCPUs; of our modules only the driver (and the livepatch)
is loaded. A trial: a segment that GRO holds, so that the gro_flush_timeout watchdog will poll; a
burst of 48 datagrams with no interrupt, which that poll takes; one more, the straggler, and an
interrupt, meant for the time in which napi_complete_done() hands the burst to the stack, before it
clears SCHED. Both are placed by time alone, where a sweep has lost most.
batch: net.core.gro_normal_batch; owned: the interrupt found SCHED owned; window: a poll's last look
to its arm; interrupt: until its handler has run; both as the device sees them, which looks every 30
us; stuck: lost packets to covering arm (the next packet is sent 1-2 ms later)
";

pub(super) fn write(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let Report { expected, results, .. } = report;
    if expected.natural.is_empty() {
        return Ok(());
    }
    writeln!(f, "{HEADING}")?;
    writeln!(f, "{:61}{:15}{:15}stuck, ms", "", "window, us", "interrupt, us")?;
    writeln!(
        f,
        "{:>5}  {:<9} {:>7} {:>6} {:>7} {:>5} {:>5} {:>6}  {:>6} {:>6}  {:>6} {:>6}  {:>9}",
        "batch",
        "mode",
        "trials",
        "lost",
        "lost/s",
        "resc.",
        "inc.",
        "owned",
        "p50",
        "p99",
        "p50",
        "p99",
        "p50"
    )?;
    for &(mode, vcpus, plan) in &expected.natural {
        row(f, plan.batch, mode, find_natural(results, mode, vcpus, plan.batch))?;
    }
    writeln!(f)?;
    for run in &results.natural {
        for (reason, times) in &run.inconclusive_reasons {
            let (batch, mode) = (run.batch, run.mode);
            wrapped(f, &format!("inconclusive: batch {batch}, {mode}: {times} x {reason}"))?;
        }
    }
    let mut batches: Vec<u32> = expected.natural.iter().map(|(_, _, plan)| plan.batch).collect();
    batches.dedup();
    for batch in batches {
        if let Some(text) = meaning(report, batch) {
            wrapped(f, &text)?;
        }
    }
    writeln!(f)?;
    // The other ones are in the report for machines.
    let first = expected.sweeps.first();
    match first.and_then(|&(mode, vcpus, plan)| find_sweep(results, mode, vcpus, plan.batch)) {
        Some(sweep) => heat_map(f, sweep),
        None => Ok(()),
    }
}

fn row(f: &mut Formatter<'_>, batch: u32, mode: Mode, run: Option<&Natural>) -> fmt::Result {
    let [trials, lost, rescued, inconclusive, owned] = [
        run.map(|run| run.trials),
        run.map(|run| run.lost),
        run.map(|run| run.rescued),
        run.map(|run| run.inconclusive),
        run.map(|run| run.owned),
    ]
    .map(count);
    let [rate, window_p50, window_p99, interrupt_p50, interrupt_p99, stuck] = [
        run.map(|run| run.lost_per_second),
        run.and_then(|run| run.window_us.p50),
        run.and_then(|run| run.window_us.p99),
        run.and_then(|run| run.interrupt_us.p50),
        run.and_then(|run| run.interrupt_us.p99),
        run.and_then(|run| run.stuck_ms.p50),
    ]
    .map(number);
    writeln!(
        f,
        "{batch:>5}  {mode:<9} {trials:>7} {lost:>6} {rate:>7} {rescued:>5} {inconclusive:>5} \
         {owned:>6}  {window_p50:>6} {window_p99:>6}  {interrupt_p50:>6} {interrupt_p99:>6}  \
         {stuck:>9}"
    )
}

/// What the zero of the mode that should lose nothing is worth.
fn meaning(report: &Report, batch: u32) -> Option<String> {
    let results = &report.results;
    let sound = results.natural.iter().find(|it| it.batch == batch && !it.mode.loses())?;
    let placed = format!(
        "batch {batch}: straggler {} us after the burst, interrupt {} us after it",
        range(sound.aim.straggler_us),
        range(sound.aim.interrupt_us)
    );
    if !power(results, batch) {
        return Some(format!(
            "{placed}: no power shown: no mode lost a packet there, so that {} lost none says \
             nothing.",
            sound.mode
        ));
    }
    let (_, high) = wilson(sound.lost + sound.rescued, sound.conclusive())?;
    let losing: Vec<String> = results
        .natural
        .iter()
        .filter(|it| it.batch == batch && it.mode.loses())
        .map(|it| format!("{} in {}", percent(it.lost, it.conclusive()), it.mode))
        .collect();
    Some(format!(
        "{placed}: lost {}, {} in {}, where at most {:.2} % would be with 95 % confidence.",
        losing.join(", "),
        percent(sound.lost, sound.conclusive()),
        sound.mode,
        high * 100.0
    ))
}

fn heat_map(f: &mut Formatter<'_>, sweep: &Sweep) -> fmt::Result {
    let Sweep { mode, batch, trials, .. } = sweep;
    writeln!(
        f,
        "Sweep, {mode}, batch {batch}, {trials} trials: losses in percent, and their 95 % interval\n"
    )?;
    writeln!(f, "straggler after     interrupt after the straggler, us")?;
    let columns = |cells: &[Cell], text: fn(&Cell) -> String| {
        cells.iter().fold(String::new(), |line, cell| line + &format!("{:<15}", text(cell)))
    };
    for (at, row) in sweep.rows().enumerate() {
        let Some(first) = row.first() else { continue };
        if at == 0 {
            let line = columns(row, |cell| range(cell.aim.interrupt_us));
            writeln!(f, "{}", format!("  the burst, us     {line}").trim_end())?;
        }
        let line = columns(row, heat);
        let label = range(first.aim.straggler_us);
        writeln!(f, "{}", format!("{label:>15}     {line}").trim_end())?;
    }
    writeln!(f)
}

/// Losses in percent, and their interval.
fn heat(cell: &Cell) -> String {
    match wilson(cell.lost, cell.trials) {
        None => "-".to_owned(),
        Some((low, high)) => {
            let estimate = f64::from(cell.lost) / f64::from(cell.trials);
            let [estimate, low, high] = [estimate, low, high].map(|it| it * 100.0);
            format!("{estimate:.0} ({low:.0}-{high:.0})")
        }
    }
}

fn percent(part: u32, whole: u32) -> String {
    match whole {
        0 => format!("{part}"),
        _ => format!("{part} ({:.1} %)", f64::from(part) * 100.0 / f64::from(whole)),
    }
}

fn range((from, to): (u32, u32)) -> String {
    if from == to { from.to_string() } else { format!("{from}-{to}") }
}
