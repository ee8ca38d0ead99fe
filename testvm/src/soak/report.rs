// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What came of a soak, as text and as JSON.

use std::fmt;

use serde::Serialize;
use tsnic_protocol::Stalls;
use tsnic_protocol::plan::Driver;

use super::Options;
use super::disturbance::Disturbance;
use crate::bench::failure::Failure;
use crate::plans::judge::Seen;
use crate::plans::report::name;
use crate::verdict::Verdict;

/// How a disturbance ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest came through it, and the detectors said nothing.
    Passed,
    /// They said something, or something else was wrong.
    Failed(String),
    /// It cannot be judged: nothing was accused, and something did not come in time.
    Undecided(String),
    /// It cannot be done here.
    Skipped(String),
}

impl Outcome {
    /// Of what the detectors have seen and how it ended.
    pub fn of(seen: &Seen, ended: Result<(), Failure>) -> Self {
        let Seen { lost, lost_to_drops, disagreements, stalls, .. } = seen;
        let ended = match ended {
            Ok(()) => Self::Passed,
            Err(Failure::Skip(why)) => Self::Skipped(why),
            Err(failure) if failure.is_late() => Self::Undecided(failure.chain()),
            Err(failure) => Self::Failed(failure.chain()),
        };
        if !seen.accuses() {
            return ended;
        }
        let mut why = format!(
            "{lost} packets lost, {lost_to_drops} more to drops, {disagreements} disagreements of \
             the detectors; {stalls}"
        );
        if let Self::Failed(text) | Self::Undecided(text) = ended {
            why = format!("{why}; {text}");
        }
        Self::Failed(why)
    }

    /// In a word.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed(_) => "FAILED",
            Self::Undecided(_) => "NO VERDICT",
            Self::Skipped(_) => "SKIPPED",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        match self {
            Self::Passed => Ok(()),
            Self::Failed(why) | Self::Undecided(why) | Self::Skipped(why) => write!(f, ": {why}"),
        }
    }
}

/// One disturbance with one driver, all times that it happened.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    driver: &'static str,
    disturbance: Disturbance,
    passed: u64,
    failed: u64,
    undecided: u64,
    skipped: u64,
    rpcs: u64,
    /// Interrupts that nobody had requested, raised to see whether the guest goes on.
    nudges: u64,
    /// Verdicts that the guest went on late, and by itself: no fault.
    slow: u64,
    why: Vec<String>,
}

/// A device that drops, and whether that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Control {
    name: String,
    caught: bool,
    stalls: Stalls,
}

/// All of it.
#[derive(Debug, Serialize)]
pub struct Report {
    kernel: String,
    seed: u64,
    stall_ms: u32,
    /// Also the kernel's own driver slept under traffic.
    sleep_under_traffic: bool,
    /// How long it went on.
    pub seconds: f64,
    rows: Vec<Row>,
    controls: Vec<Control>,
    /// Lines of the kernel's log that say that something is wrong.
    pub complaints: Vec<String>,
}

impl Report {
    /// Nothing yet.
    pub fn new(kernel: String, options: &Options) -> Self {
        let Options { seed, stall_ms, sleep_under_traffic, drivers, .. } = options;
        let mut rows = Vec::new();
        for driver in drivers.iter().map(|driver| name(*driver)) {
            rows.extend(Disturbance::ALL.map(|disturbance| Row {
                driver,
                disturbance,
                passed: 0,
                failed: 0,
                undecided: 0,
                skipped: 0,
                rpcs: 0,
                nudges: 0,
                slow: 0,
                why: Vec::new(),
            }));
        }
        Self {
            kernel,
            seed: *seed,
            stall_ms: *stall_ms,
            sleep_under_traffic: *sleep_under_traffic,
            seconds: 0.0,
            rows,
            controls: Vec::new(),
            complaints: Vec::new(),
        }
    }

    /// One more time.
    pub fn add(
        &mut self,
        driver: Driver,
        disturbance: Disturbance,
        seen: &Seen,
        outcome: &Outcome,
    ) {
        let driver = name(driver);
        let mut rows = self.rows.iter_mut();
        let Some(row) = rows.find(|row| row.driver == driver && row.disturbance == disturbance)
        else {
            return;
        };
        row.rpcs += seen.rpcs;
        row.nudges += seen.stalls.rx.nudges + seen.stalls.tx.nudges;
        row.slow += seen.stalls.rx.slow + seen.stalls.tx.slow;
        let (count, why) = match outcome {
            Outcome::Passed => (&mut row.passed, None),
            Outcome::Failed(why) => (&mut row.failed, Some(why)),
            Outcome::Undecided(why) => (&mut row.undecided, Some(why)),
            Outcome::Skipped(why) => (&mut row.skipped, Some(why)),
        };
        *count += 1;
        row.why.extend(why.cloned());
    }

    /// A control.
    pub fn control(&mut self, name: String, caught: bool, stalls: Stalls) {
        self.controls.push(Control { name, caught, stalls });
    }

    /// Fail: a detector accused a driver, or something else was wrong. A pass needs every
    /// disturbance to have come about and every control to have been caught.
    pub fn verdict(&self) -> Verdict {
        let count = |of: fn(&Row) -> u64| self.rows.iter().map(of).sum::<u64>();
        if count(|row| row.failed) != 0 || !self.complaints.is_empty() {
            return Verdict::Fail;
        }
        let all = self.rows.iter().all(|row| row.passed != 0 && row.undecided + row.skipped == 0);
        let caught = !self.controls.is_empty() && self.controls.iter().all(|it| it.caught);
        if all && caught { Verdict::Pass } else { Verdict::Undecided }
    }

    /// For `--json`.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Whole<'a> {
            verdict: &'static str,
            #[serde(flatten)]
            report: &'a Report,
        }
        let whole = Whole { verdict: self.verdict().word(), report: self };
        let mut text = serde_json::to_string_pretty(&whole).unwrap_or_default();
        text.push('\n');
        text
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "driver       disturbance  passed  failed  no verdict  skipped      RPCs  nudges  slow"
        )?;
        for row in &self.rows {
            let Row { driver, disturbance, passed, failed, undecided, skipped, .. } = row;
            let (name, Row { rpcs, nudges, slow, .. }) = (disturbance.name(), row);
            writeln!(
                f,
                "{driver:<12} {name:<11} {passed:>7} {failed:>7} {undecided:>11} {skipped:>8} \
                 {rpcs:>9} {nudges:>7} {slow:>5}"
            )?;
        }
        for Control { name, caught, stalls } in &self.controls {
            let word = if *caught { "caught" } else { "NOT CAUGHT" };
            writeln!(f, "control {name}: {word} ({stalls})")?;
        }
        for complaint in &self.complaints {
            writeln!(f, "the kernel says: {complaint}")?;
        }
        let Self { kernel, seconds, seed, stall_ms, .. } = self;
        write!(
            f,
            "Linux {kernel}, {:.1} min, --stall-ms {stall_ms}, seed {seed}: {}",
            seconds / 60.0,
            self.verdict().word()
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tsnic_protocol::stall::VectorStalls;

    use super::*;

    fn report() -> Report {
        let options = Options {
            time: Duration::from_secs(1),
            drivers: vec![Driver::VirtioNet],
            stall_ms: 200,
            sleep_under_traffic: false,
            seed: 7,
            json: None,
        };
        Report::new("6.1.0".into(), &options)
    }

    fn all(outcome: &Outcome) -> Report {
        let mut report = report();
        for disturbance in Disturbance::ALL {
            let seen = Seen { rpcs: 5, ..Seen::default() };
            report.add(Driver::VirtioNet, disturbance, &seen, outcome);
        }
        report
    }

    #[test]
    fn a_pass_needs_every_disturbance_and_every_control() {
        assert_eq!(report().verdict(), Verdict::Undecided, "nothing happened");
        let mut it = all(&Outcome::Passed);
        assert_eq!(it.verdict(), Verdict::Undecided, "there was no control");
        it.control("drop-rx".into(), true, Stalls::default());
        assert_eq!(it.verdict(), Verdict::Pass);
        it.control("drop-tx".into(), false, Stalls::default());
        assert_eq!(it.verdict(), Verdict::Undecided, "a control was not caught");
        for less in [Outcome::Undecided("late".into()), Outcome::Skipped("no S3".into())] {
            let mut it = all(&Outcome::Passed);
            it.control("drop-rx".into(), true, Stalls::default());
            it.add(Driver::VirtioNet, Disturbance::Suspend, &Seen::default(), &less);
            assert_eq!(it.verdict(), Verdict::Undecided, "{less}");
        }
    }

    #[test]
    fn one_accusation_or_complaint_is_a_failure() {
        let lost = VectorStalls { lost: 1, ..VectorStalls::default() };
        let seen = Seen { stalls: Stalls { rx: lost, ..Stalls::default() }, ..Seen::default() };
        let outcome = Outcome::of(&seen, Ok(()));
        assert!(outcome.to_string().contains("rx: 1 lost"), "{outcome}");
        let mut it = all(&Outcome::Passed);
        it.add(Driver::VirtioNet, Disturbance::Link, &seen, &outcome);
        assert_eq!(it.verdict(), Verdict::Fail);

        let mut it = all(&Outcome::Passed);
        it.complaints.push("BUG: it".into());
        assert_eq!(it.verdict(), Verdict::Fail);
    }

    #[test]
    fn lateness_alone_is_no_failure_and_slow_is_none_either() {
        let slow = VectorStalls { slow: 3, nudges: 1, ..VectorStalls::default() };
        let seen = Seen { stalls: Stalls { tx: slow, ..Stalls::default() }, ..Seen::default() };
        assert_eq!(Outcome::of(&seen, Ok(())), Outcome::Passed);
        let late = Outcome::of(&seen, Err(Failure::Late("RPCs".into())));
        assert_eq!(late.word(), "NO VERDICT");
        let disagree = Seen { disagreements: 1, ..Seen::default() };
        assert_eq!(Outcome::of(&disagree, Ok(())).word(), "FAILED");
    }

    #[test]
    fn the_report_is_one_object_with_its_verdict() {
        let json: serde_json::Value =
            serde_json::from_str(&all(&Outcome::Passed).to_json()).expect("JSON");
        assert_eq!(json["verdict"], "no-verdict");
        assert_eq!(json["rows"][0]["disturbance"], "streams");
        assert_eq!((&json["rows"][7]["passed"], &json["rows"][7]["rpcs"]), (&1.into(), &5.into()));
    }
}
