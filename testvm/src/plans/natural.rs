// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A trial whose traffic is the natural run: what the driver loses is left to the stall detector.

use std::time::Duration;

use tsnic_protocol::plan::{Driver, Plan};
use tsnic_protocol::{NaturalSpec, Reply, Request};

use super::measured::{Measured, STALL_AFTER};
use crate::bench::Bench;
use crate::bench::failure::Failure;
use crate::report::Aim;
use crate::scenario::guest::Guest;
use crate::scenario::plan::Mode;

/// `net.core.gro_normal_batch`: the stack's share of a completion is long with it.
const BATCH: u32 = 64;
/// Datagrams of a burst, and from the arm before it to the burst, microseconds.
const BURST: (u32, u32) = (48, 300);
/// No progress for so long has the run given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the trials, with this driver loaded anew.
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
    guest.set_mode(if driver == Driver::TsnicV410 { Mode::V4_10 } else { Mode::V4_11 })?;
    guest.start_natural(BATCH)?;
    measured.begin(guest.vm().device_status()?);
    // A lost packet is the detector's for as long as that may take to nudge three times.
    let stuck_us = (8 * STALL_AFTER).as_micros() as u32;
    let request = Request::Natural(NaturalSpec {
        seed: plan.seed,
        trials: plan.run.requests,
        flow: guest.flow(),
        burst: BURST.0,
        burst_us: (BURST.1, BURST.1),
        straggler_us: Aim::SWEEP.straggler_us,
        interrupt_us: Aim::SWEEP.interrupt_us,
        stuck_us: (stuck_us, stuck_us),
        nudges: true,
    });
    let reply = guest.run(&request, PATIENCE, &mut |_, _| ())?;
    guest.stop_natural()?;
    measured.traffic_ended(guest.vm().device_status()?);
    match reply {
        Reply::Natural(report) => {
            measured.rpcs = report.trials.len() as u64;
            Ok(())
        }
        other => Err(Failure::Unmet(format!("The device answers {other:?}"))),
    }
}
