// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `testvm soak`: drivers that do nothing wrong, under what happens to machines, for as long as one
//! likes. The device's detectors must have nothing to say of them, and in the end must find what
//! is wrong when interrupts are dropped.

mod disturbance;
mod report;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_pcg::Pcg64Mcg;
use tsnic_protocol::plan::{self, Driver};

use crate::bench::Bench;
use crate::bench::failure::Failure;
use crate::bench::log::Log;
use crate::config::Machine;
use crate::interrupt;
use crate::lab::{self, Lab};
use crate::output::outln;
use crate::plans::judge::Seen;
use crate::plans::report::name;
use crate::plans::trial;
use crate::progress::{Progress, Stage};
use crate::verdict::Verdict;

use disturbance::Disturbance;
use report::{Outcome, Report};

/// Interrupts that never come, receive and transmit: what the detectors must find.
const CONTROLS: [(&str, &str); 2] = [
    ("drop-rx", include_str!("../../../plans/drop-rx.toml")),
    ("drop-tx", include_str!("../../../plans/drop-tx.toml")),
];

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long, controls not included.
    pub time: Duration,
    /// The drivers, in turn.
    pub drivers: Vec<Driver>,
    /// `--stall-ms` of the device.
    pub stall_ms: u32,
    /// Also the kernel's own driver sleeps under traffic.
    pub sleep_under_traffic: bool,
    /// Seed of the order and the pauses.
    pub seed: u64,
    /// Where the machine-readable report goes.
    pub json: Option<PathBuf>,
}

/// Soaks.
///
/// # Errors
/// No guest comes up, or the user stopped it.
pub fn run(machine: &Machine, options: &Options) -> anyhow::Result<Verdict> {
    let mut progress = Progress::new();
    let mut lab = Lab::prepare(machine, &mut progress)?;
    let report = Report::new(lab.kernel.release.clone(), options);
    let mut soak = Soak { lab: &mut lab, options, bench: None, report };
    soak.disturb(&mut progress)?;
    soak.controls(&mut progress)?;
    soak.end_guest();
    outln!("{}", soak.report);
    if let Some(path) = &options.json {
        fs::write(path, soak.report.to_json())
            .with_context(|| format!("The report cannot be written to {}", path.display()))?;
    }
    Ok(soak.report.verdict())
}

struct Soak<'a> {
    lab: &'a mut Lab,
    options: &'a Options,
    bench: Option<Bench>,
    report: Report,
}

impl Soak<'_> {
    /// Every disturbance in some order, with each driver in turn, until the time is over.
    fn disturb(&mut self, progress: &mut Progress) -> anyhow::Result<()> {
        let mut rng = Pcg64Mcg::seed_from_u64(self.options.seed);
        let started = Instant::now();
        for &driver in self.options.drivers.iter().cycle() {
            let mut order = Disturbance::ALL;
            order.shuffle(&mut rng);
            let mut loaded = false;
            for disturbance in order {
                if started.elapsed() >= self.options.time {
                    self.report.seconds = started.elapsed().as_secs_f64();
                    return Ok(());
                }
                loaded &= self.bench.is_some();
                let bench = match &mut self.bench {
                    Some(bench) => bench,
                    none => none.insert(boot(self.lab, self.options, progress)?),
                };
                let title = format!("{}, {}", disturbance.name(), name(driver));
                let stage = progress.stage(Stage::Run(title.clone()));
                let prepared = if loaded { Ok(()) } else { bench.use_driver(driver) };
                let (seen, ended) = match prepared {
                    Ok(()) => happen(bench, self.options, disturbance, driver, &mut rng),
                    Err(failure) => (Seen::default(), Err(failure)),
                };
                interrupt::check()?;
                let outcome = Outcome::of(&seen, ended);
                stage.done(outcome.word());
                self.report.add(driver, disturbance, &seen, &outcome);
                loaded = true;
                let usable = bench.collect_log().is_ok();
                if outcome != Outcome::Passed {
                    outln!("{title}: {outcome}");
                }
                if !usable || !matches!(outcome, Outcome::Passed | Outcome::Skipped(_)) {
                    self.end_guest();
                }
            }
        }
        Ok(())
    }

    /// The device drops: the detectors are awake.
    fn controls(&mut self, progress: &mut Progress) -> anyhow::Result<()> {
        for &driver in &self.options.drivers {
            for (control, text) in CONTROLS {
                let plan = plan::parse(text).context("A control is no plan")?;
                let bench = match &mut self.bench {
                    Some(bench) => bench,
                    none => none.insert(boot(self.lab, self.options, progress)?),
                };
                let title = format!("{control}, {}", name(driver));
                let stage = progress.stage(Stage::Run(title.clone()));
                let (measured, ended) = trial::run(bench, &plan, driver);
                interrupt::check()?;
                let caught = ended.is_ok();
                stage.done(if caught { "caught" } else { "NOT CAUGHT" });
                if let Err(failure) = ended {
                    outln!("{title}: {}", failure.chain());
                }
                self.report.control(title, caught, measured.seen().stalls);
                if bench.collect_log().is_err() || bench.baseline().is_err() {
                    self.end_guest();
                }
            }
        }
        Ok(())
    }

    /// Kills the guest: one that has slept does not always power off. A complaint of its kernel is
    /// a failure, whichever disturbance it came of.
    fn end_guest(&mut self) {
        let Some(bench) = self.bench.take() else { return };
        let log = bench.into_log();
        self.report.complaints.extend(log.complaints().into_iter().map(str::to_owned));
    }
}

fn boot(lab: &mut Lab, options: &Options, progress: &mut Progress) -> Result<Bench, lab::Error> {
    let args = vec!["--stall-ms".to_owned(), options.stall_ms.to_string()];
    Bench::boot_with(lab, args, progress, Log::default())
}

/// One disturbance; what the detectors saw meanwhile.
fn happen(
    bench: &mut Bench,
    options: &Options,
    disturbance: Disturbance,
    driver: Driver,
    rng: &mut Pcg64Mcg,
) -> (Seen, Result<(), Failure>) {
    let before = match bench.status() {
        Ok(status) => status,
        Err(failure) => return (Seen::default(), Err(failure)),
    };
    let ended = disturbance.happen(bench, driver, options.sleep_under_traffic, rng);
    match bench.status() {
        Ok(after) => {
            let rpcs = *ended.as_ref().unwrap_or(&0);
            (Seen::between(&before, &after, rpcs), ended.map(drop))
        }
        Err(failure) => (Seen::default(), Err(ended.err().unwrap_or(failure))),
    }
}
