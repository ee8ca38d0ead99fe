// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `testvm napi`: the model of NAPI's protocol (`napi-state`) against the kernel that it models.
//!
//! The guest's agent does the work (`guest_agent::napi`), in slices, each with a seed of its own;
//! this adds them up. In the end the kernel is given the `napi_schedule_prep()` of 4.10.0 by a
//! livepatch, and the same comparison must find that.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use guest_protocol::{NapiReport, NapiRow, Reply, Request};

use crate::bench::log::Log;
use crate::config::Machine;
use crate::interrupt;
use crate::lab::Lab;
use crate::output::outln;
use crate::progress::{Progress, Stage};
use crate::scenario::guest::{insert, load_livepatch};
use crate::verdict::Verdict;
use crate::vm::{Vm, VmConfig};

/// Steps of a slice: about a second under emulation.
const SLICE: u32 = 50_000;
/// For a slice.
const LIMIT: Duration = Duration::from_secs(120);
/// Complaints of the kernel that are shown.
const SHOWN: usize = 10;

/// Boots a guest, compares its kernel with the model for `steps` random steps, and prints what was
/// covered.
///
/// # Errors
/// The run could not be judged: no guest, or its kernel is none that the module is made for.
pub fn run(machine: &Machine, steps: u32, seed: u64) -> anyhow::Result<Verdict> {
    let mut progress = Progress::new();
    let mut lab = Lab::prepare_for(machine, |kernel| suits(&kernel.release), &mut progress)?;
    let mut vm = lab.boot(&VmConfig { vcpus: 1, ..VmConfig::default() }, &mut progress)?;
    vm.command(&insert(&lab.initramfs.napicheck))?;
    let mut stage = progress.stage(Stage::Run("napi".to_owned()));
    let started = Instant::now();
    let mut total = Total::default();
    for (index, slice) in slices(steps).enumerate() {
        interrupt::check()?;
        let seed = seed.wrapping_add(index as u64);
        total.add(seed, compare(&mut vm, seed, slice)?);
        if total.mismatch.is_some() {
            break;
        }
        stage.at(total.steps, steps.into());
    }
    let took = started.elapsed();
    let control = match total.mismatch {
        None => {
            load_livepatch(&mut vm, &lab.initramfs.livepatch)?;
            Some(Control(compare(&mut vm, seed, SLICE)?.mismatch))
        }
        // What is different already needs no control.
        Some(_) => None,
    };
    let mut log = Log::default();
    log.add(&vm.text(&Request::KernelLog)?);
    ensure!(
        log.says("tsnic_napicheck: loading"),
        "The kernel's log does not mention tsnic_napicheck: it was not read"
    );
    let complaints = log.complaints();
    let verdict =
        total.verdict(control.as_ref().is_some_and(Control::is_good), complaints.is_empty());
    match verdict {
        Verdict::Fail => drop(stage),
        Verdict::Pass => stage.done("no mismatch"),
        Verdict::Undecided => stage.done("not enough to tell"),
    }
    outln!("{}", total.to_string().trim_end());
    if let Some(control) = control {
        outln!("{}", control.to_string().trim_end());
    }
    for line in complaints.iter().take(SHOWN) {
        outln!("The kernel complains: {line}");
    }
    outln!("seed {seed}, Linux {}, {:.1} s", vm.ready().kernel, took.as_secs_f64());
    vm.power_off()?;
    Ok(verdict)
}

/// The oldest kernel that `tsnic_napicheck` is made for, as major and minor number.
const OLDEST: (u32, u32) = (6, 1);

/// Whether a kernel of this release can be compared; if not, why.
fn suits(release: &str) -> Result<(), String> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= OLDEST => Ok(()),
        _ => Err("testvm napi is made for Linux 6.1 and later".to_owned()),
    }
}

fn compare(vm: &mut Vm, seed: u64, steps: u32) -> anyhow::Result<NapiReport> {
    match vm.ask_within(&Request::NapiCheck { seed, steps }, LIMIT)? {
        Reply::NapiCheck(report) => Ok(report),
        other => bail!("The agent answers a comparison by {other:?}"),
    }
}

/// What the comparison with the livepatched kernel has found.
#[derive(Debug)]
struct Control(Option<String>);

impl Control {
    /// It has found the function that was patched.
    fn is_good(&self) -> bool {
        self.step().is_some_and(|step| step.contains("napi_schedule"))
    }

    /// The step that differs: the last of the text.
    fn step(&self) -> Option<&str> {
        self.0.as_ref()?.lines().rfind(|line| line.starts_with("step "))
    }
}

impl std::fmt::Display for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = if self.is_good() { "control" } else { "CONTROL FAILED" };
        let found = self.step().unwrap_or("no difference");
        writeln!(f, "{word}: with the napi_schedule_prep of 4.10.0 in the kernel, found {found}")
    }
}

/// Sizes of the slices of `steps` steps.
fn slices(steps: u32) -> impl Iterator<Item = u32> {
    let rest = steps % SLICE;
    std::iter::repeat_n(SLICE, (steps / SLICE) as usize).chain((rest > 0).then_some(rest))
}

/// All slices together.
#[derive(Debug, Default)]
struct Total {
    steps: u64,
    busy_poll_stop: String,
    rows: Vec<NapiRow>,
    refused: u32,
    /// The seed of the slice, and what differed.
    mismatch: Option<(u64, String)>,
}

impl Total {
    fn add(&mut self, seed: u64, report: NapiReport) {
        self.steps += u64::from(report.steps);
        self.refused = report.refused;
        self.busy_poll_stop = report.busy_poll_stop;
        self.mismatch = report.mismatch.map(|text| (seed, text));
        if self.rows.is_empty() {
            self.rows = report.rows;
        } else {
            for (sum, row) in self.rows.iter_mut().zip(report.rows) {
                sum.count += row.count;
            }
        }
    }

    fn unmet(&self) -> usize {
        self.rows.iter().filter(|row| row.count == 0).count()
    }

    /// A row that was never met was not compared, and a comparison that misses a function that is
    /// known to be different shows nothing: neither is a pass.
    fn verdict(&self, control_is_good: bool, kernel_is_content: bool) -> Verdict {
        if self.mismatch.is_some() || !kernel_is_content {
            Verdict::Fail
        } else if !control_is_good || self.rows.is_empty() || self.unmet() > 0 {
            Verdict::Undecided
        } else {
            Verdict::Pass
        }
    }
}

impl std::fmt::Display for Total {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut function = "";
        for row in &self.rows {
            if row.function != function {
                function = &row.function;
                writeln!(f, "{function}")?;
            }
            let note = if row.count == 0 { "  NEVER MET" } else { "" };
            writeln!(f, "{:>10}  {}{note}", row.count, row.row)?;
        }
        writeln!(
            f,
            "a preferred busy loop with deferred interrupts ends by {}",
            self.busy_poll_stop
        )?;
        if let Some((seed, text)) = &self.mismatch {
            writeln!(f, "MISMATCH with seed {seed}:\n{text}")?;
        }
        writeln!(
            f,
            "{} steps agree, {} mismatches; {} of {} rows met; {} bad requests refused",
            self.steps,
            usize::from(self.mismatch.is_some()),
            self.rows.len() - self.unmet(),
            self.rows.len(),
            self.refused,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(counts: [u64; 2]) -> NapiReport {
        let rows = counts.map(|count| NapiRow { function: "f".into(), row: "r".into(), count });
        NapiReport {
            steps: 10,
            busy_poll_stop: String::new(),
            rows: rows.into(),
            refused: 3,
            mismatch: None,
        }
    }

    fn total(reports: impl IntoIterator<Item = NapiReport>) -> Total {
        let mut total = Total::default();
        for report in reports {
            total.add(7, report);
        }
        total
    }

    #[test]
    fn a_kernel_that_the_module_is_not_made_for_is_told_before_anything_is_built() {
        for release in ["6.1.0-56-cloud-amd64", "6.12.95+deb12", "7.0.1", "7.3.4+deb13-cloud-amd64"]
        {
            assert_eq!(suits(release), Ok(()), "{release}");
        }
        for release in ["6.0.12", "5.10.0-30-amd64", "6", "next-20260101"] {
            assert!(suits(release).is_err(), "{release}");
        }
    }

    #[test]
    fn slices_add_up() {
        for steps in [1, SLICE - 1, SLICE, SLICE + 1, 1_000_000] {
            assert_eq!(slices(steps).sum::<u32>(), steps);
            assert!(slices(steps).all(|slice| slice > 0));
        }
        let sum = total([report([1, 2]), report([3, 4])]);
        assert_eq!((sum.steps, sum.rows[0].count, sum.rows[1].count), (20, 4, 6));
    }

    #[test]
    fn only_a_comparison_that_has_met_every_row_is_a_pass() {
        assert_eq!(total([report([1, 0]), report([0, 1])]).verdict(true, true), Verdict::Pass);
        assert_eq!(total([report([1, 0])]).verdict(true, true), Verdict::Undecided);
        assert_eq!(total([]).verdict(true, true), Verdict::Undecided);
        let all_met = total([report([1, 1])]);
        assert_eq!(all_met.verdict(false, true), Verdict::Undecided, "the control found nothing");
    }

    #[test]
    fn the_control_must_find_the_function_that_was_patched() {
        let control = |text: &str| Control(Some(text.to_owned()));
        let found = control(
            "step 8: nothing\n    both    0x0\nstep 9: napi_schedule()\n    kernel  SCHED\n    model   SCHED",
        );
        assert!(found.is_good());
        assert!(found.to_string().ends_with("found step 9: napi_schedule()\n"), "{found}");
        assert!(
            !control(
                "step 8: napi_schedule()\n    both    0x0\nstep 9: napi_enable()\n    kernel  0x0"
            )
            .is_good()
        );
        assert!(Control(None).to_string().starts_with("CONTROL FAILED"));
    }

    #[test]
    fn a_mismatch_or_a_complaint_of_the_kernel_is_a_failure() {
        assert_eq!(total([report([1, 1])]).verdict(true, false), Verdict::Fail);
        let total = total([NapiReport { mismatch: Some("step 9".into()), ..report([1, 0]) }]);
        assert_eq!(total.verdict(true, true), Verdict::Fail);
        let text = total.to_string();
        assert!(
            text.contains("MISMATCH with seed 7:\nstep 9") && text.contains("1 mismatches"),
            "{text}"
        );
        assert!(text.contains("NEVER MET") && text.contains("1 of 2 rows"), "{text}");
    }
}
