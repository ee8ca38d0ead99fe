// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What came of the plans, as text and as JSON.

use std::fmt;

use serde::Serialize;
use tsnic_protocol::plan::Driver;
use tsnic_protocol::{Lateness, ScheduleReport, Stalls};

use super::file::NamedPlan;
use super::measured::Measured;
use crate::bench::Bench;
use crate::bench::failure::Failure;
use crate::verdict::Verdict;

/// The head of the table.
pub const HEAD: &str = "\
plan                     driver       RPCs  rx irq  tx irq    held  spurious  dropped  held us med/max  late us p99  lost  stalls";

/// How a trial ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome", content = "why")]
pub enum Outcome {
    /// As the plan expects.
    AsExpected,
    /// Otherwise, and why.
    Failed(String),
    /// It could not be judged, and why.
    Undecided(String),
}

impl Outcome {
    /// In a word.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::AsExpected => "as expected",
            Self::Failed(_) => "FAILED",
            Self::Undecided(_) => "NO VERDICT",
        }
    }
}

/// One plan with one driver.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Name of the plan.
    pub plan: String,
    /// The driver.
    pub driver: &'static str,
    /// RPCs answered meanwhile.
    pub rpcs: u64,
    /// Receive interrupts raised.
    pub rx_interrupts: u64,
    /// Transmit interrupts raised.
    pub tx_interrupts: u64,
    /// Interrupts that policies held.
    pub held: u64,
    /// Interrupts that nobody had requested.
    pub spurious: u64,
    /// Interrupts that policies dropped.
    pub dropped: u64,
    /// For how long interrupts were held by time, microseconds: median and longest.
    pub held_us: (u64, u64),
    /// How late those were raised, by vector: by how much the device missed the time.
    pub lateness: Vec<Lateness>,
    /// Packets the device saw lost, those whose interrupt was dropped included.
    pub lost: u64,
    /// Verdicts of the stall detector, by vector.
    pub stalls: Stalls,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// The name of a driver.
pub const fn name(driver: Driver) -> &'static str {
    match driver {
        Driver::VirtioNet => "virtio_net",
        Driver::TsnicV411 => "tsnic v4_11",
        Driver::TsnicV410 => "tsnic v4_10",
        Driver::Livepatch => "livepatch",
    }
}

impl Row {
    /// What came of a trial, and whether its guest can be used for the next.
    pub fn new(
        plan: &NamedPlan,
        driver: Driver,
        (measured, ended): (Measured, Result<(), Failure>),
        bench: &mut Bench,
    ) -> (bool, Self) {
        let clean = leaves_guest_as_it_was(ended.is_ok(), plan.plan.run.traffic.is_placed());
        let outcome = match ended {
            Ok(()) => Outcome::AsExpected,
            Err(Failure::NoSituation(why)) => Outcome::Undecided(why),
            Err(failure) if failure.is_late() => Outcome::Undecided(failure.chain()),
            Err(failure) => Outcome::Failed(failure.chain()),
        };
        let usable = bench.collect_log().is_ok() && clean && bench.baseline().is_ok();
        let (seen, Measured { rpcs, before, after, rx, tx, .. }) = (measured.seen(), measured);
        let lateness = after.lateness.into_iter().filter(|it| it.count != 0).collect();
        let (before, after) = (before.counters, after.counters);
        let row = Self {
            plan: plan.name.clone(),
            driver: name(driver),
            rpcs,
            rx_interrupts: after.rx_interrupts - before.rx_interrupts,
            tx_interrupts: after.tx_interrupts - before.tx_interrupts,
            held: after.interrupts_held - before.interrupts_held,
            spurious: after.interrupts_spurious - before.interrupts_spurious,
            dropped: after.interrupts_dropped - before.interrupts_dropped,
            held_us: held_us([&rx, &tx]),
            lateness,
            lost: seen.lost + seen.lost_to_drops,
            stalls: seen.stalls,
            outcome,
        };
        (usable, row)
    }
}

/// What a placed trial that breaks off has set in its guest stays: sysctls, a livepatch.
const fn leaves_guest_as_it_was(ended_well: bool, placed: bool) -> bool {
    ended_well || !placed
}

/// Median and longest of the times that were decided on, microseconds.
fn held_us(schedules: [&ScheduleReport; 2]) -> (u64, u64) {
    let mut times: Vec<_> = schedules
        .iter()
        .flat_map(|schedule| &schedule.entries)
        .map(|entry| entry.hold.delay_ns / 1000)
        .filter(|us| *us != 0)
        .collect();
    times.sort_unstable();
    (times.get(times.len() / 2).copied().unwrap_or(0), times.last().copied().unwrap_or(0))
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plan, driver, rpcs, rx_interrupts, tx_interrupts, held, .. } = self;
        let (spurious, dropped, lost) = (self.spurious, self.dropped, self.lost);
        let stalls = self.stalls.count();
        let (median, longest) = self.held_us;
        let late = self.lateness.iter().map(|it| it.p99_ns / 1000).max();
        let late = late.map_or_else(|| "-".to_owned(), |us| us.to_string());
        let times = if longest == 0 { "-".into() } else { format!("{median}/{longest}") };
        write!(
            f,
            "{plan:<24} {driver:<11} {rpcs:>5} {rx_interrupts:>7} {tx_interrupts:>7} {held:>7} \
             {spurious:>9} {dropped:>8} {times:>16} {late:>12} {lost:>5} {stalls:>7}  {}",
            self.outcome.word()
        )?;
        match &self.outcome {
            Outcome::AsExpected => Ok(()),
            Outcome::Failed(why) | Outcome::Undecided(why) => write!(f, ": {why}"),
        }
    }
}

/// All of them.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The guest's kernel.
    kernel: String,
    /// One a plan and driver.
    pub rows: Vec<Row>,
}

impl Report {
    /// None yet.
    pub const fn new(kernel: String) -> Self {
        Self { kernel, rows: Vec::new() }
    }

    fn count(&self, wanted: fn(&Outcome) -> bool) -> usize {
        self.rows.iter().filter(|row| wanted(&row.outcome)).count()
    }

    /// One failure is a failed run, and a pass needs every row.
    pub fn verdict(&self) -> Verdict {
        if self.count(|outcome| matches!(outcome, Outcome::Failed(_))) != 0 {
            Verdict::Fail
        } else if self.count(|outcome| *outcome == Outcome::AsExpected) == self.rows.len() {
            Verdict::Pass
        } else {
            Verdict::Undecided
        }
    }

    /// How many ended how.
    pub fn closing_line(&self) -> String {
        format!(
            "Linux {}: {} as expected, {} failed, {} without a verdict",
            self.kernel,
            self.count(|outcome| *outcome == Outcome::AsExpected),
            self.count(|outcome| matches!(outcome, Outcome::Failed(_))),
            self.count(|outcome| matches!(outcome, Outcome::Undecided(_))),
        )
    }

    /// The machine-readable report.
    pub fn to_json(&self) -> String {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        value["verdict"] = self.verdict().word().into();
        format!("{value:#}\n")
    }
}

#[cfg(test)]
mod tests {
    use tsnic_protocol::Vector;
    use tsnic_protocol::policy::{Entry, Hold};

    use super::*;

    fn late(vector: Vector, p99_ns: u64) -> Lateness {
        Lateness { vector, count: 600, median_ns: 7, p99_ns, max_ns: 90_000 }
    }

    fn row(outcome: Outcome) -> Row {
        Row {
            plan: "jitter".into(),
            driver: "virtio_net",
            rpcs: 1000,
            rx_interrupts: 1210,
            tx_interrupts: 3,
            held: 1200,
            spurious: 0,
            dropped: 0,
            held_us: (150, 299),
            lateness: vec![late(Vector::Rx, 9_000), late(Vector::Tx, 31_999)],
            lost: 0,
            stalls: Stalls::default(),
            outcome,
        }
    }

    #[test]
    fn one_failure_is_a_failed_run_and_a_pass_needs_every_row() {
        let verdict = |outcomes: &[Outcome]| {
            let rows = outcomes.iter().cloned().map(row).collect();
            Report { kernel: "6.1".into(), rows }.verdict()
        };
        let (failed, late) = (Outcome::Failed("x".into()), Outcome::Undecided("x".into()));
        assert_eq!(verdict(&[Outcome::AsExpected, Outcome::AsExpected]), Verdict::Pass);
        assert_eq!(verdict(&[Outcome::AsExpected, late.clone()]), Verdict::Undecided);
        assert_eq!(verdict(&[late, failed, Outcome::AsExpected]), Verdict::Fail);
    }

    #[test]
    fn a_row_stands_under_its_head_and_says_why_it_failed() {
        let text = row(Outcome::Failed("3 packets were lost".into())).to_string();
        assert!(text.ends_with("0       0  FAILED: 3 packets were lost"), "{text}");
        for (name, value) in [("  late us p99", "31"), ("  lost", " 0"), ("  stalls", " 0")] {
            let end = HEAD.find(name).expect("a column") + name.len();
            assert_eq!(&text[end - 2..end], value, "{text}\n{HEAD}");
        }
        let report = Report { kernel: "6.1".into(), rows: vec![row(Outcome::AsExpected)] };
        let json: serde_json::Value = serde_json::from_str(&report.to_json()).expect("JSON");
        assert_eq!((&json["verdict"], &json["rows"][0]["held"]), (&"pass".into(), &1200.into()));
        assert_eq!(json["rows"][0]["stalls"]["tx"]["lost"], 0);
    }

    #[test]
    fn a_placed_trial_that_breaks_off_ends_its_guest() {
        for (ended_well, placed, clean) in
            [(true, true, true), (true, false, true), (false, false, true), (false, true, false)]
        {
            assert_eq!(leaves_guest_as_it_was(ended_well, placed), clean);
        }
    }

    #[test]
    fn the_times_are_those_that_were_decided() {
        let entries = [5_000, 0, 90_000, 7_000].map(|delay_ns| Entry {
            hold: Hold { delay_ns, ..Hold::default() },
            ..Entry::default()
        });
        let rx = ScheduleReport { entries: entries.to_vec(), left_out: 0 };
        assert_eq!(held_us([&rx, &ScheduleReport::default()]), (7, 90));
        assert_eq!(held_us([&ScheduleReport::default(), &ScheduleReport::default()]), (0, 0));
    }
}
