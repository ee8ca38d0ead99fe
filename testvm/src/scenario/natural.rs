// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Experiment 3: losses with no hook in the guest. Of our modules only the driver is loaded, in
//! mode livepatch that of the livepatch, too.

use tsnic_protocol::{NaturalReport, NaturalSpec, Reply, Request};

use super::error::Error;
use super::experiment::{Experiment, PATIENCE, reply};
use super::plan::{Mode, NaturalPlan, SweepPlan};
use crate::progress::Stage;
use crate::report::{Aim, Natural, Sweep};

/// Datagrams of a burst: with the two segments and the straggler less than the budget of a poll.
const BURST: u32 = 48;
/// From the arm that follows the segment for GRO to the burst, microseconds: before the watchdog's
/// poll, which comes 500 later.
const BURST_US: (u32, u32) = (300, 300);
/// A lost packet is left alone this long, microseconds: longer than the watchdog would take to
/// find it.
const STUCK_US: (u32, u32) = (1_000, 2_000);

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
        self.guest.start_natural(batch)?;
        let request = Request::Natural(NaturalSpec {
            seed: self.seed,
            trials,
            flow: self.guest.flow(),
            burst: BURST,
            burst_us: BURST_US,
            straggler_us: aim.straggler_us,
            interrupt_us: aim.interrupt_us,
            stuck_us: STUCK_US,
            nudges: false,
        });
        let report = match self
            .guest
            .run(&request, PATIENCE, &mut |done, total| stage.at(done.into(), total.into()))?
        {
            Reply::Natural(report) => report,
            other => return Err(reply("natural", &other)),
        };
        self.guest.stop_natural()?;
        stage.done(format!("{} of {} lost", report.lost, report.trials.len()));
        Ok(report)
    }
}
