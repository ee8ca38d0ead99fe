// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The experiments in a booted guest. What is measured goes into the results as it comes, so
//! that a guest that dies takes nothing with it.

use super::error::Error;
use super::guest::Guest;
use super::placed::{Rendezvous, injected_rpcs, rendezvous};
use super::plan::{Boot, Measurement, Mode, Owner, RpcPlan};
use crate::progress::{Progress, Stage};
use crate::report::{Cell, Results, RpcRun};

/// Everything a boot asks for.
#[derive(Debug)]
pub struct Experiment<'a, 'vm> {
    /// The guest.
    pub guest: Guest<'vm>,
    /// Shows how far it has come.
    pub progress: &'a mut Progress,
    /// Takes what is measured.
    pub results: &'a mut Results,
    /// Rounds a cell.
    pub rounds: u32,
    /// Seed of every random choice.
    pub seed: u64,
    /// Virtual CPUs.
    pub vcpus: usize,
}

impl Experiment<'_, '_> {
    /// Runs the boot's plan.
    ///
    /// # Errors
    /// The first thing that could not be carried out; results so far are kept.
    pub fn run(&mut self, boot: &Boot) -> Result<(), Error> {
        for (mode, measurement) in boot.steps(self.seed) {
            self.guest.set_mode(mode)?;
            self.guest.set_rendezvous(measurement.needs_rendezvous())?;
            match measurement {
                Measurement::Cell(owner) => self.cell(mode, owner)?,
                Measurement::Sweep(sweep) => self.sweep(mode, sweep)?,
                Measurement::Natural(natural) => self.natural(mode, natural)?,
                Measurement::Rpc(rpc) => self.rpc(mode, rpc)?,
                Measurement::Ablation(plan) => self.ablation(mode, plan)?,
            }
        }
        Ok(())
    }

    fn cell(&mut self, mode: Mode, owner: Owner) -> Result<(), Error> {
        let cell = self.rounds(format!("{mode}, {owner}"), mode, owner)?;
        self.results.cells.push(cell);
        Ok(())
    }

    /// Rounds at the rendezvous beside one owner.
    pub(super) fn rounds(&mut self, name: String, mode: Mode, owner: Owner) -> Result<Cell, Error> {
        let mut stage = self.progress.stage(Stage::Run(name));
        let Rendezvous { report, misplaced } =
            rendezvous(&mut self.guest, owner, self.seed, self.rounds, &mut |done, total| {
                stage.at(done.into(), total.into());
            })?;
        // The first one after the interrupt was bound may still come to the old CPU.
        if self.vcpus > 1 && misplaced > 1 {
            self.results.problems.push(format!(
                "{owner}, {} vCPUs, {mode}: {misplaced} interrupts came to the CPU of the poll, not to the other one",
                self.vcpus
            ));
        }
        let cell = Cell::new(owner, self.vcpus, mode, &report);
        stage.done(format!("{} of {} lost", cell.lost, cell.rounds));
        Ok(cell)
    }

    fn rpc(&mut self, mode: Mode, plan: RpcPlan) -> Result<(), Error> {
        let RpcPlan { requests, inject_per_mille } = plan;
        let injected = if inject_per_mille == 0 { "unassisted " } else { "" };
        let mut stage = self.progress.stage(Stage::Run(format!("{mode}, {injected}RPC")));
        let (latencies, monitored) = injected_rpcs(
            &mut self.guest,
            requests,
            inject_per_mille,
            self.seed,
            &mut |done, total| stage.at(done.into(), total.into()),
        )?;
        let run = RpcRun::new(mode, self.vcpus, plan, &latencies, &monitored);
        stage.done(format!("{} of {} over 100 ms", run.over_100ms, run.requests));
        self.results.rpc.push(run);
        Ok(())
    }
}
