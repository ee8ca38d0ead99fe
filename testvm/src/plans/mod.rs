// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `testvm plan`: what plans do to the drivers of a real guest.
//!
//! A guest is booted for each kind of device that the plans ask for. In it every plan is put to work
//! over the control socket, while RPCs and a flood go on, once for each driver it is for.

mod ddmin;
mod decisions;
mod file;
pub(crate) mod judge;
mod measured;
mod placed;
pub(crate) mod report;
pub mod shrink;
pub(crate) mod trial;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use tsnic_protocol::plan::Rearm;

use crate::bench::Bench;
use crate::bench::log::Log;
use crate::config::Machine;
use crate::interrupt;
use crate::lab::Lab;
use crate::output::outln;
use crate::progress::{Progress, Stage};
use crate::verdict::Verdict;

pub use file::NamedPlan;
use report::{Report, Row};

/// Puts the plans to work, and prints what came of each.
///
/// # Errors
/// The run could not be judged: no guest comes up, the device refuses a plan, or the user stopped
/// it.
pub fn run(machine: &Machine, plans: &[NamedPlan], json: Option<&Path>) -> anyhow::Result<Verdict> {
    let mut progress = Progress::new();
    let mut lab = Lab::prepare(machine, &mut progress)?;
    let mut report = Report::new(lab.kernel.release.clone());
    outln!("{}", report::HEAD);
    for rearm in [Rearm::OneShot, Rearm::Level, Rearm::Edge, Rearm::NoAutomask] {
        let plans: Vec<_> = plans.iter().filter(|named| named.plan.rearm == rearm).collect();
        let mut bench = None;
        for named in plans {
            for &driver in trial::drivers(&named.plan) {
                let bench_now = match &mut bench {
                    Some(bench) => bench,
                    none => none.insert(boot(&mut lab, rearm, &mut progress)?),
                };
                let stage =
                    progress.stage(Stage::Run(format!("{}, {}", named.name, report::name(driver))));
                let ended = trial::run(bench_now, &named.plan, driver);
                interrupt::check()?;
                let (usable, row) = Row::new(named, driver, ended, bench_now);
                stage.done(row.outcome.word());
                outln!("{row}");
                report.rows.push(row);
                if !usable {
                    bench = None;
                }
            }
        }
        if let Some(bench) = bench {
            bench.end()?;
        }
    }
    if report.rows.is_empty() {
        bail!("No plan was run");
    }
    outln!("{}", report.closing_line());
    if let Some(path) = json {
        fs::write(path, report.to_json())
            .with_context(|| format!("The report cannot be written to {}", path.display()))?;
    }
    Ok(report.verdict())
}

fn boot(lab: &mut Lab, rearm: Rearm, progress: &mut Progress) -> anyhow::Result<Bench> {
    let mut args = vec!["--stall-ms".to_owned(), measured::STALL_AFTER.as_millis().to_string()];
    if rearm != Rearm::OneShot {
        let kind = serde_json::to_value(rearm)?;
        args.extend(["--rearm".to_owned(), kind.as_str().unwrap_or_default().to_owned()]);
    }
    Ok(Bench::boot_with(lab, args, progress, Log::default())?)
}
