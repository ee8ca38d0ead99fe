// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Experiment 3: losses with no hook in the guest. Of our modules only the driver is loaded, in
//! mode livepatch that of the livepatch, too.

use tsnic_protocol::NaturalReport;

use super::error::Error;
use super::experiment::Experiment;
use super::placed::{self, NaturalRun, STUCK_US};
use super::plan::{Mode, NaturalPlan, SweepPlan};
use crate::progress::Stage;
use crate::report::{Aim, Natural, Sweep};

impl Experiment<'_, '_> {
    /// Trials all over the grid.
    pub(super) fn sweep(&mut self, mode: Mode, plan: SweepPlan) -> Result<(), Error> {
        let SweepPlan { batch, trials } = plan;
        let name = format!("{mode}, sweep, batch {batch}");
        let report = self.trials(name, batch, trials, Aim::SWEEP)?;
        self.results.sweeps.push(Sweep::new(mode, self.vcpus, batch, &report));
        Ok(())
    }

    /// Trials where the sweep of the same batch has found most losses.
    pub(super) fn natural(&mut self, mode: Mode, plan: NaturalPlan) -> Result<(), Error> {
        let NaturalPlan { batch, .. } = plan;
        let sweep = self.results.sweeps.iter().find(|sweep| sweep.batch == batch);
        let aim = sweep.map_or(Aim::SWEEP, Sweep::aim);
        let name = format!("{mode}, natural, batch {batch}");
        let report = self.trials(name, batch, plan.trials(mode), aim)?;
        self.results.natural.push(Natural::new(mode, self.vcpus, batch, aim, &report));
        Ok(())
    }

    fn trials(
        &mut self,
        name: String,
        batch: u32,
        trials: u32,
        aim: Aim,
    ) -> Result<NaturalReport, Error> {
        let mut stage = self.progress.stage(Stage::Run(name));
        let run =
            NaturalRun { seed: self.seed, batch, trials, aim, stuck_us: STUCK_US, nudges: false };
        let report = placed::natural(&mut self.guest, run, &mut |done, total| {
            stage.at(done.into(), total.into());
        })?;
        stage.done(format!("{} of {} lost", report.lost, report.trials.len()));
        Ok(report)
    }
}
