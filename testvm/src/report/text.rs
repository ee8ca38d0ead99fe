// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The report for people, fit for a mail: at most 100 columns of plain ASCII.

mod ablation;
mod histogram;
mod natural;

use std::fmt::{self, Formatter};

use super::cell::Cell;
use super::distribution::{MedianMax, Quantiles};
use super::judge::{find_cell, find_rpc};
use super::provenance::Provenance;
use super::rpc::RpcRun;
use super::{Judgement, Report};
use crate::scenario::plan::Mode;
use crate::verdict::Verdict;

/// In the order of the report.
const MODES: [Mode; 3] = [Mode::V4_10, Mode::Livepatch, Mode::V4_11];
/// No line is longer.
const WIDTH: usize = 100;

pub(super) fn write(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    matrix(f, report)?;
    rpc(f, report)?;
    natural::write(f, report)?;
    ablation::write(f, report)?;
    provenance(f, &report.provenance)?;
    verdict(f, report)
}

fn matrix(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let Report { expected, results, .. } = report;
    if expected.cells.is_empty() {
        return Ok(());
    }
    writeln!(
        f,
        "Experiment 1: one packet a round, its interrupt fired at the entry of napi_complete_done(). A round"
    )?;
    writeln!(
        f,
        "waits until the guest comes there armed and with an empty ring. With 2 vCPUs the interrupt goes to"
    )?;
    writeln!(
        f,
        "one and the poll runs on the other (driver, watchdog: threaded NAPI bound to it)."
    )?;
    writeln!(
        f,
        "lost: armed again with the packet signaled but not consumed, so no interrupt will come for it;"
    )?;
    writeln!(
        f,
        "resc.: lost, then found by another poll; inc.: inconclusive; delivered: packet to covering arm,"
    )?;
    writeln!(
        f,
        "rendezvous included; stuck: lost packets to covering arm (the next packet is sent 1-2 ms later)\n"
    )?;
    heading(f)?;
    let mut owner = None;
    for key in &expected.cells {
        if owner.is_some_and(|last| last != key.owner) {
            writeln!(f)?;
        }
        owner = Some(key.owner);
        let cell = find_cell(results, *key);
        let row = cell.map_or_else(Row::default, Row::of_cell);
        row.write(f, &key.owner.to_string(), key.vcpus, key.mode)?;
    }
    for cell in &results.cells {
        for (reason, times) in &cell.inconclusive_reasons {
            wrapped(f, &format!("inconclusive: {}: {times} x {reason}", cell.key()))?;
        }
    }
    writeln!(f)
}

/// One row of the matrix.
#[derive(Default)]
struct Row {
    rounds: Option<u32>,
    rate: Option<f64>,
    lost: Option<u32>,
    rescued: Option<u32>,
    inconclusive: Option<u32>,
    delivered_us: Quantiles,
    stuck_ms: MedianMax,
}

fn heading(f: &mut Formatter<'_>) -> fmt::Result {
    writeln!(f, "{:65}{:14}   stuck, ms", "", "delivered, us")?;
    writeln!(
        f,
        "{:<9}  vCPUs  {:<9} {:>6} {:>5} {:>6} {:>5} {:>5}  {:>6} {:>6} {:>8}  {:>6} {:>6}",
        "owner", "mode", "rounds", "/s", "lost", "resc.", "inc.", "p50", "p99", "max", "p50", "max"
    )
}

impl Row {
    fn of_cell(cell: &Cell) -> Self {
        Self {
            rounds: Some(cell.rounds),
            rate: Some(cell.rounds_per_second),
            lost: Some(cell.lost),
            rescued: Some(cell.rescued),
            inconclusive: Some(cell.inconclusive),
            delivered_us: cell.delivered_us,
            stuck_ms: cell.stuck_ms,
        }
    }

    fn write(&self, f: &mut Formatter<'_>, who: &str, vcpus: usize, mode: Mode) -> fmt::Result {
        let [rounds, lost, rescued, inconclusive] =
            [self.rounds, self.lost, self.rescued, self.inconclusive].map(count);
        let rate = self.rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}"));
        let Quantiles { p50, p99, max } = self.delivered_us;
        let [p50, p99, max] = [p50, p99, max].map(number);
        let [stuck_p50, stuck_max] = [self.stuck_ms.p50, self.stuck_ms.max].map(number);
        writeln!(
            f,
            "{who:<9}  {vcpus:>5}  {mode:<9} {rounds:>6} {rate:>5} {lost:>6} {rescued:>5} \
             {inconclusive:>5}  {p50:>6} {p99:>6} {max:>8}  {stuck_p50:>6} {stuck_max:>6}"
        )
    }
}

fn rpc(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let Report { expected, results, .. } = report;
    if expected.rpc.is_empty() {
        return Ok(());
    }
    writeln!(
        f,
        "Experiment 2: RPCs over real TCP; latency of a request from the device (hardware timestamp) to the\napplication, known to +-\n"
    )?;
    writeln!(
        f,
        "{:<18} {:>8} {:>8} {:>7} {:>5} {:>7}   {:>8} {:>8} {:>8} {:>8}",
        "mode", "requests", "injected", "not met", "lost", ">100 ms", "p50", "p99", "max", "+-"
    )?;
    for &(mode, vcpus, plan) in &expected.rpc {
        let run = find_rpc(results, mode, vcpus, plan);
        let name = if plan.inject_per_mille == 0 {
            format!("{mode}, unassisted")
        } else {
            mode.to_string()
        };
        let [requests, injected, not_met, lost, late] = [
            run.map(|r| r.requests),
            run.map(|r| r.injected.total),
            run.map(|r| r.not_met),
            run.map(|r| r.lost),
            run.map(|r| r.over_100ms),
        ]
        .map(count);
        let Quantiles { p50, p99, max } = run.map(|r| r.latency_us).unwrap_or_default();
        let [p50, p99, max, uncertainty] =
            [p50, p99, max, run.and_then(|r| r.uncertainty_us.p50)].map(duration);
        writeln!(
            f,
            "{name:<18} {requests:>8} {injected:>8} {not_met:>7} {lost:>5} {late:>7}   \
             {p50:>8} {p99:>8} {max:>8} {uncertainty:>8}"
        )?;
    }
    writeln!(f)?;
    let injected: Vec<&RpcRun> = expected
        .rpc
        .iter()
        .filter(|(_, _, plan)| plan.inject_per_mille > 0)
        .filter_map(|&(mode, vcpus, plan)| find_rpc(results, mode, vcpus, plan))
        .collect();
    if injected.is_empty() {
        return Ok(());
    }
    histogram::write(f, &injected)?;
    writeln!(f)?;
    for run in injected {
        wrapped(f, &second_mode(run))?;
    }
    writeln!(f)
}

/// How many of the injected packets ended in the second mode, in a sentence.
fn second_mode(run: &RpcRun) -> String {
    let RpcRun { mode, injected, .. } = run;
    let (late, matched) = (injected.over_100ms, injected.matched);
    let longest = duration(injected.latency_us.max);
    let text = match (matched, late) {
        (0, _) => "no injected request was found among the requests.".to_owned(),
        (_, 0) => format!(
            "none of {matched} injected requests took more than 100 ms; the slowest took {longest}."
        ),
        _ => {
            let median = duration(injected.latency_us.p50);
            let ends = [
                (injected.retransmitted, "the peer's TCP had sent them"),
                (injected.reply_repeated, "the guest's TCP had sent its last reply"),
            ]
            .into_iter()
            .filter(|(times, _)| *times > 0)
            .map(|(times, what)| format!(", {times} after {what} again"));
            format!(
                "{late} of {matched} injected requests ended in the ~200 ms mode (median {median}){}.",
                ends.collect::<String>()
            )
        }
    };
    // A retransmission looks like a request to the device; TCP in the guest throws it away.
    let unseen = match injected.total - matched {
        0 => String::new(),
        n => {
            format!(" Also injected: {} that the application never saw (retransmitted).", frames(n))
        }
    };
    let by_itself = match run.lost.saturating_sub(injected.lost) {
        0 => String::new(),
        n => format!(", and {} without an injection", frames(n)),
    };
    format!(
        "{mode}: {text}{unseen} The device counts {} of {} injected lost{by_itself}.",
        injected.lost, injected.total
    )
}

fn frames(n: u32) -> String {
    format!("{n} frame{}", if n == 1 { "" } else { "s" })
}

fn provenance(f: &mut Formatter<'_>, from: &Provenance) -> fmt::Result {
    let or_dash = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let cpus = from.host_cpus.map_or_else(|| "-".to_owned(), |n| n.to_string());
    writeln!(f, "commit  {}   seed {}", or_dash(&from.commit), from.seed)?;
    writeln!(
        f,
        "guest   Linux {}, clock source {}",
        or_dash(&from.kernel),
        or_dash(&from.clocksource)
    )?;
    writeln!(
        f,
        "VM      QEMU {}, {}, {}",
        or_dash(&from.qemu),
        or_dash(&from.accelerator),
        or_dash(&from.interrupts)
    )?;
    writeln!(f, "host    Linux {}, {cpus} x {}", or_dash(&from.host_kernel), or_dash(&from.cpu))?;
    writeln!(f)
}

fn verdict(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let Judgement { verdict, failures, gaps } = &report.judgement;
    for failure in failures {
        wrapped(f, &format!("failed: {failure}"))?;
    }
    for gap in gaps {
        wrapped(f, &format!("unknown: {gap}"))?;
    }
    if !failures.is_empty() || !gaps.is_empty() {
        writeln!(f)?;
    }
    match verdict {
        Verdict::Pass => writeln!(f, "PASS: {}", evidence(report)),
        Verdict::Fail => {
            writeln!(
                f,
                "FAIL: {}",
                plural(failures.len(), "expectation was not met", "expectations were not met")
            )
        }
        Verdict::Undecided => {
            writeln!(
                f,
                "NO VERDICT: {}",
                plural(gaps.len(), "thing could not be told", "things could not be told")
            )
        }
    }
}

/// The positive evidence of a pass.
fn evidence(report: &Report) -> String {
    let Report { results, .. } = report;
    let mut parts = Vec::new();
    for mode in MODES {
        let (mut lost, mut of) = (0, 0);
        for cell in results.cells.iter().filter(|cell| cell.mode == mode) {
            lost += cell.lost;
            of += cell.conclusive();
        }
        for run in results.rpc.iter().filter(|run| run.mode == mode && !run.unassisted()) {
            lost += run.injected.lost;
            of += run.injected.total - run.injected.inconclusive;
        }
        if of > 0 {
            parts.push(format!("{mode} {lost}/{of}"));
        }
    }
    let natural: Vec<_> = MODES
        .into_iter()
        .map(|mode| results.natural.iter().filter(move |run| run.mode == mode))
        .filter(|runs| runs.clone().any(|run| run.conclusive() > 0))
        .map(|runs| runs.map(|run| run.lost).sum::<u32>().to_string())
        .collect();
    let natural = if natural.is_empty() {
        String::new()
    } else {
        format!("; natural {}", natural.join(", "))
    };
    format!("lost: injected {}{natural}", parts.join(", "))
}

/// A sentence in lines of at most [`WIDTH`] columns, all but the first indented.
fn wrapped(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    let mut column = 0;
    for word in text.split_whitespace() {
        if column > 0 && column + 1 + word.len() > WIDTH {
            write!(f, "\n    {word}")?;
            column = 4 + word.len();
        } else {
            let space = if column > 0 { " " } else { "" };
            write!(f, "{space}{word}")?;
            column += space.len() + word.len();
        }
    }
    writeln!(f)
}

fn plural(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

fn count(n: Option<u32>) -> String {
    n.map_or_else(|| "-".to_owned(), |n| n.to_string())
}

/// In the column's own unit.
fn number(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value < 99.95 => format!("{value:.1}"),
        Some(value) => format!("{value:.0}"),
    }
}

/// Microseconds as a duration with three digits and a unit.
fn duration(us: Option<f64>) -> String {
    let Some(us) = us else { return "-".to_owned() };
    let (value, unit) = match us {
        ..999.5 => (us, "us"),
        ..999_500.0 => (us / 1e3, "ms"),
        _ => (us / 1e6, "s"),
    };
    let digits = match value {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits() {
        let cases = [
            (0.0, "0.00 us"),
            (7.256, "7.26 us"),
            (62.34, "62.3 us"),
            (184.2, "184 us"),
            (999.7, "1.00 ms"),
            (1_240.0, "1.24 ms"),
            (203_900.0, "204 ms"),
            (1_530_000.0, "1.53 s"),
        ];
        for (us, text) in cases {
            assert_eq!(duration(Some(us)), text);
        }
        assert_eq!(duration(None), "-");
    }

    #[test]
    fn numbers_keep_their_columns() {
        assert_eq!(
            [0.04, 99.94, 99.96, 12_345.6].map(|v| number(Some(v))),
            ["0.0", "99.9", "100", "12346"]
        );
        assert_eq!(number(None), "-");
    }
}
