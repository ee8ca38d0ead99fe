// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The three runs in which the device places packets and interrupts itself. The experiments are
//! made of them, and so are the plans that say so.

use std::net::SocketAddrV4;
use std::time::Duration;

use tsnic_protocol::plan::Owner;
use tsnic_protocol::{
    InjectionReport, InjectionSpec, MonitorReport, MonitorSpec, NaturalReport, NaturalSpec, Reply,
    Request, Stimulus,
};

use super::error::Error;
use super::guest::{Guest, RPC_PORT};
use crate::report::Aim;
use crate::rpc::{ClientConfig, Latency, latencies, run as run_client};
use crate::vm::Vm;

/// A packet that is lost at the rendezvous or in a natural run is left alone this long,
/// microseconds: many times what a poll takes, longer than the watchdog would take to find it, and
/// never the same twice.
pub const STUCK_US: (u32, u32) = (1_000, 2_000);
/// Datagrams of a natural run's burst: with the two segments and the straggler less than the budget
/// of a poll.
const BURST: u32 = 48;
/// From the arm that follows the segment for GRO to the burst, microseconds: before the watchdog's
/// poll, which comes 500 later.
const BURST_US: (u32, u32) = (300, 300);
/// Time between a reply and the next request, microseconds.
const THINK_US: (u32, u32) = (0, 400);
/// The device reports progress many times a second; this long without a word is a hang.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time for one RPC on average: with every thirtieth injected and 200 ms late, still ten times what
/// is needed.
const RPC_LIMIT: Duration = Duration::from_millis(100);
/// Never less than this for an RPC run.
const RPC_RUN_LIMIT_MIN: Duration = Duration::from_secs(30);

/// A rendezvous run.
#[derive(Clone, Debug)]
pub struct Rendezvous {
    /// What the device has seen.
    pub report: InjectionReport,
    /// Receive interrupts that came to the CPU of the poll.
    pub misplaced: u64,
}

/// Rounds at the rendezvous beside `owner`. The guest has the rendezvous module.
///
/// # Errors
/// The guest or the device refuses, or is dead.
pub fn rendezvous(
    guest: &mut Guest<'_>,
    owner: Owner,
    seed: u64,
    rounds: u32,
    progress: &mut dyn FnMut(u32, u32),
) -> Result<Rendezvous, Error> {
    guest.start_owner(owner)?;
    let request = Request::Injection(InjectionSpec {
        seed,
        rounds,
        flow: guest.flow(),
        stimulus: if owner == Owner::Watchdog { Stimulus::GroHeld } else { Stimulus::Udp },
        stuck_us: STUCK_US,
    });
    let before = guest.owner_cpu_irqs()?;
    let report = match guest.run(&request, PATIENCE, progress)? {
        Reply::Injection(report) => report,
        other => return Err(unexpected("rendezvous", &other)),
    };
    let misplaced = guest.owner_cpu_irqs()?.saturating_sub(before);
    guest.stop_owner(owner)?;
    Ok(Rendezvous { report, misplaced })
}

/// RPCs over TCP, of which so many of a thousand are injected at the rendezvous; for that the guest
/// has the rendezvous module.
///
/// # Errors
/// The guest or the device refuses, or is dead, or the client comes to no end.
pub fn injected_rpcs(
    guest: &mut Guest<'_>,
    requests: u32,
    inject_per_mille: u32,
    seed: u64,
    progress: &mut dyn FnMut(u32, u32),
) -> Result<(Vec<Latency>, MonitorReport), Error> {
    guest.start_server()?;
    let monitor = MonitorSpec { seed, port: RPC_PORT, inject_per_mille };
    match guest.vm().device(&Request::MonitorStart(monitor))? {
        Reply::MonitorStarted => {}
        other => return Err(unexpected("monitor", &other)),
    }
    let client = ClientConfig {
        server: SocketAddrV4::new(guest.vm().link().guest_ip, RPC_PORT),
        requests,
        seed,
        think_us: THINK_US,
        limit: guest.vm().limit(RPC_RUN_LIMIT_MIN.max(RPC_LIMIT * requests)),
    };
    let exchanges = run_client(&client, |done| progress(done, requests));
    // The monitor ends whatever came of the client, or the device would go on injecting.
    let monitored = stop_monitor(guest.vm());
    guest.vm().check("the RPCs")?;
    let (exchanges, monitored) = (exchanges?, monitored?);
    guest.stop_server()?;
    Ok((latencies(&exchanges)?, monitored))
}

fn stop_monitor(vm: &mut Vm) -> Result<MonitorReport, Error> {
    match vm.device_run(&Request::MonitorStop, PATIENCE, &mut |_, _| ())? {
        Reply::Monitor(report) => Ok(report),
        other => Err(unexpected("monitor", &other)),
    }
}

/// What is asked for in a natural run.
#[derive(Clone, Copy, Debug)]
pub struct NaturalRun {
    /// Seed of every random choice.
    pub seed: u64,
    /// `net.core.gro_normal_batch`.
    pub batch: u32,
    /// Trials.
    pub trials: u32,
    /// Where straggler and interrupt are placed.
    pub aim: Aim,
    /// How long a lost packet is left alone, microseconds.
    pub stuck_us: (u32, u32),
    /// The stall detector nudges meanwhile.
    pub nudges: bool,
}

/// Trials of a natural run. Nothing is hooked in the guest.
///
/// # Errors
/// The guest or the device refuses, or is dead.
pub fn natural(
    guest: &mut Guest<'_>,
    run: NaturalRun,
    progress: &mut dyn FnMut(u32, u32),
) -> Result<NaturalReport, Error> {
    let NaturalRun { seed, batch, trials, aim, stuck_us, nudges } = run;
    guest.start_natural(batch)?;
    let request = Request::Natural(NaturalSpec {
        seed,
        trials,
        flow: guest.flow(),
        burst: BURST,
        burst_us: BURST_US,
        straggler_us: aim.straggler_us,
        interrupt_us: aim.interrupt_us,
        stuck_us,
        nudges,
    });
    let report = match guest.run(&request, PATIENCE, progress)? {
        Reply::Natural(report) => report,
        other => return Err(unexpected("natural", &other)),
    };
    guest.stop_natural()?;
    Ok(report)
}

fn unexpected(run: &'static str, reply: &Reply) -> Error {
    Error::Reply { run, reply: format!("{reply:?}") }
}
