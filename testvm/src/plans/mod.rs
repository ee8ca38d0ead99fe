// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `testvm plan`: what plans do to the drivers of a real guest.
//!
//! A guest is booted for each kind of device that the plans ask for. In it every plan is put to work
//! over the control socket, while RPCs and a flood go on, once for each driver it is for.

mod report;
mod trial;

use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context as _, bail};
use thiserror::Error;
use tsnic_protocol::plan::{self, Plan, PlanError, Rearm};

use crate::check::bench::Bench;
use crate::check::log::Log;
use crate::config::Machine;
use crate::interrupt;
use crate::lab::Lab;
use crate::output::outln;
use crate::progress::{Progress, Stage};
use crate::verdict::Verdict;

use report::{Report, Row};

/// A plan, and its file.
#[derive(Clone, Debug)]
pub struct NamedPlan {
    /// The file's name, without directory and extension.
    pub name: String,
    /// The plan.
    pub plan: Plan,
}

/// Why a file is no plan.
#[derive(Debug, Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("Cannot read the plan {}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It can be read, and is wrong.
    #[error("{}:{error}", .path.display())]
    Wrong {
        /// Which.
        path: PathBuf,
        /// Where, and what.
        error: PlanError,
    },
}

impl NamedPlan {
    /// Reads a file. What its policies may be, the device checks.
    ///
    /// # Errors
    /// When it cannot be read, or is no plan.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let text = fs::read_to_string(path)
            .map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
        let plan = plan::parse(&text)
            .map_err(|error| LoadError::Wrong { path: path.to_owned(), error })?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, plan })
    }
}

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
    let kind = serde_json::to_value(rearm)?;
    let args = match rearm {
        Rearm::OneShot => Vec::new(),
        _ => vec!["--rearm".to_owned(), kind.as_str().unwrap_or_default().to_owned()],
    };
    Ok(Bench::boot_with(lab, args, progress, Log::default())?)
}
