// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A trial in which the device places packets and interrupts itself, as in the experiments of
//! `testvm repro`.

use tsnic_protocol::Outcome;
use tsnic_protocol::plan::{Driver, Plan, Traffic};

use super::measured::{Measured, STALL_AFTER};
use crate::bench::Bench;
use crate::bench::failure::Failure;
use crate::report::Aim;
use crate::scenario::guest::Guest;
use crate::scenario::placed::{NaturalRun, injected_rpcs, natural, rendezvous};
use crate::scenario::plan::{Mode, NORMAL_BATCH_LARGE};

/// Runs it, with this driver loaded anew.
pub fn run(
    bench: &mut Bench,
    plan: &Plan,
    driver: Driver,
    measured: &mut Measured,
) -> Result<(), Failure> {
    let files = bench.files().clone();
    bench.baseline()?;
    bench.unload("tsnic")?;
    let mut guest = Guest::prepare(&mut bench.vm, &files)?;
    guest.set_mode(match driver {
        Driver::TsnicV410 => Mode::V4_10,
        Driver::Livepatch => Mode::Livepatch,
        Driver::TsnicV411 | Driver::VirtioNet => Mode::V4_11,
    })?;
    let hooked = plan.run.traffic != Traffic::Natural;
    guest.set_rendezvous(hooked)?;
    measured.begin(guest.vm().device_status()?);
    let ended = place(&mut guest, plan, measured);
    measured.traffic_ended(guest.vm().device_status()?);
    guest.set_rendezvous(false)?;
    // The kernel is as it was, for the trials after this one.
    guest.set_mode(Mode::V4_11)?;
    ended
}

fn place(guest: &mut Guest<'_>, plan: &Plan, measured: &mut Measured) -> Result<(), Failure> {
    let run = &plan.run;
    let shown = &mut |_, _| ();
    match (run.traffic, run.owner) {
        (Traffic::Rendezvous, Some(owner)) => {
            let rounds = rendezvous(guest, owner, plan.seed, run.requests, shown)?.report.rounds;
            measured.rpcs = rounds.len() as u64;
            injected(rounds.iter().filter(|round| round.outcome != Outcome::Inconclusive).count())
        }
        (Traffic::InjectedRpc, _) => {
            let per_mille = run.inject_per_mille.unwrap_or_default();
            let (latencies, monitored) =
                injected_rpcs(guest, run.requests, per_mille, plan.seed, shown)?;
            measured.rpcs = latencies.len() as u64;
            let conclusive = |outcome| outcome != Outcome::Inconclusive;
            let found = monitored.injected.iter().filter(|it| conclusive(it.outcome)).count();
            if per_mille == 0 { Ok(()) } else { injected(found) }
        }
        _ => {
            // A lost packet is the detector's for as long as that may take to nudge three times.
            let stuck_us = (8 * STALL_AFTER).as_micros() as u32;
            let natural_run = NaturalRun {
                seed: plan.seed,
                batch: NORMAL_BATCH_LARGE,
                trials: run.requests,
                aim: Aim::SWEEP,
                stuck_us: (stuck_us, stuck_us),
                nudges: true,
            };
            measured.rpcs = natural(guest, natural_run, shown)?.trials.len() as u64;
            Ok(())
        }
    }
}

/// A driver has survived injections only if there were some.
fn injected(conclusive: usize) -> Result<(), Failure> {
    if conclusive == 0 {
        return Err(Failure::NoSituation("No injection has come about".into()));
    }
    Ok(())
}
