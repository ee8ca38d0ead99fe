// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The experiments in a booted guest. What is measured goes into the results as it comes, so
//! that a guest that dies takes nothing with it.

use std::net::SocketAddrV4;
use std::time::Duration;

use tsnic_protocol::{InjectionSpec, MonitorReport, MonitorSpec, Reply, Request, Stimulus};

use super::error::Error;
use super::guest::{Guest, RPC_PORT};
use super::plan::{Boot, Measurement, Mode, Owner, RpcPlan};
use crate::progress::{Progress, Stage};
use crate::report::{Cell, Results, RpcRun};
use crate::rpc::{ClientConfig, latencies, run as run_client};
use crate::vm::Vm;

/// A lost packet is left alone this long, microseconds: many times what a poll takes, and never the
/// same twice.
const STUCK_US: (u32, u32) = (1_000, 2_000);
/// Time between a reply and the next request, microseconds.
const THINK_US: (u32, u32) = (0, 400);
/// The device reports progress many times a second; this long without a word is a hang.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Time for one RPC on average: with every thirtieth injected and 200 ms late, still ten times what
/// is needed.
const RPC_LIMIT: Duration = Duration::from_millis(100);
/// Never less than this for an RPC run.
const RPC_RUN_LIMIT_MIN: Duration = Duration::from_secs(30);

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
        self.guest.start_owner(owner)?;
        let request = Request::Injection(InjectionSpec {
            seed: self.seed,
            rounds: self.rounds,
            flow: self.guest.flow(),
            stimulus: if owner == Owner::Watchdog { Stimulus::GroHeld } else { Stimulus::Udp },
            stuck_us: STUCK_US,
        });
        let before = self.guest.owner_cpu_irqs()?;
        let report = match self
            .guest
            .run(&request, PATIENCE, &mut |done, total| stage.at(done.into(), total.into()))?
        {
            Reply::Injection(report) => report,
            other => return Err(reply("injection", &other)),
        };
        let misplaced = self.guest.owner_cpu_irqs()?.saturating_sub(before);
        self.guest.stop_owner(owner)?;
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
        let injected = if plan.inject_per_mille == 0 { "unassisted " } else { "" };
        let mut stage = self.progress.stage(Stage::Run(format!("{mode}, {injected}RPC")));
        self.guest.start_server()?;
        let monitor = MonitorSpec {
            seed: self.seed,
            port: RPC_PORT,
            inject_per_mille: plan.inject_per_mille,
        };
        match self.guest.vm().device(&Request::MonitorStart(monitor))? {
            Reply::MonitorStarted => {}
            other => return Err(reply("monitor", &other)),
        }
        let client = ClientConfig {
            server: SocketAddrV4::new(self.guest.vm().link().guest_ip, RPC_PORT),
            requests: plan.requests,
            seed: self.seed,
            think_us: THINK_US,
            limit: self.guest.vm().limit(RPC_RUN_LIMIT_MIN.max(RPC_LIMIT * plan.requests)),
        };
        let exchanges = run_client(&client, |done| stage.at(done.into(), plan.requests.into()));
        // The monitor ends whatever came of the client, or the device would go on injecting.
        let monitored = stop_monitor(self.guest.vm());
        self.guest.vm().check("the RPCs")?;
        let (exchanges, monitored) = (exchanges?, monitored?);
        self.guest.stop_server()?;
        let run = RpcRun::new(mode, self.vcpus, plan, &latencies(&exchanges)?, &monitored);
        stage.done(format!("{} of {} over 100 ms", run.over_100ms, run.requests));
        self.results.rpc.push(run);
        Ok(())
    }
}

fn stop_monitor(vm: &mut Vm) -> Result<MonitorReport, Error> {
    match vm.device_run(&Request::MonitorStop, PATIENCE, &mut |_, _| ())? {
        Reply::Monitor(report) => Ok(report),
        other => Err(reply("monitor", &other)),
    }
}

pub(super) fn reply(run: &'static str, reply: &Reply) -> Error {
    Error::Reply { run, reply: format!("{reply:?}") }
}
