// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One plan with one driver.

use std::time::{Duration, Instant};

use tsnic_protocol::plan::{Driver, Expectation, Plan};
use tsnic_protocol::{Packets, Policies, Reply, Request, ScheduleReport, Vector};

use super::measured::Measured;
use super::{judge, placed};
use crate::bench::Bench;
use crate::bench::failure::Failure;
use crate::bench::traffic::ask_in_vain;

/// Without traffic, a stall has its verdict by then.
const QUIET: Duration = Duration::from_millis(1_300);
/// For a control to stall: many times what it takes.
const CONTROL_LIMIT: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(20);

/// The drivers a plan is for: the one it names, or the stock driver and ours.
pub fn drivers(plan: &Plan) -> &'static [Driver] {
    match plan.run.driver {
        None => &[Driver::VirtioNet, Driver::TsnicV411],
        Some(Driver::VirtioNet) => &[Driver::VirtioNet],
        Some(Driver::TsnicV411) => &[Driver::TsnicV411],
        Some(Driver::TsnicV410) => &[Driver::TsnicV410],
        Some(Driver::Livepatch) => &[Driver::Livepatch],
    }
}

/// Runs it. What was measured is given in any case; the other is why it did not go as expected.
pub fn run(bench: &mut Bench, plan: &Plan, driver: Driver) -> (Measured, Result<(), Failure>) {
    let mut measured = Measured::default();
    let ended = measure(bench, plan, driver, &mut measured);
    (measured, ended)
}

fn measure(
    bench: &mut Bench,
    plan: &Plan,
    driver: Driver,
    measured: &mut Measured,
) -> Result<(), Failure> {
    let ended = if plan.run.traffic.is_placed() {
        placed::run(bench, plan, driver, measured)
    } else {
        bench.use_driver(driver)?;
        measured.begin(bench.status()?);
        put_to_work(bench, plan, measured)
    };
    // From here on nothing interferes, whatever comes of the rest.
    if plan.run.behaviour.is_some() {
        bench.set_behaviour("right")?;
    }
    done(bench, &Request::Policies(Policies::default()))?;
    done(bench, &Request::Packets(Packets::default()))?;
    for vector in [Vector::Rx, Vector::Tx] {
        let off = tsnic_protocol::Moderation { vector, usecs: 0, frames: 0, adaptive: false };
        done(bench, &Request::Moderation(off))?;
    }
    let ended = ended.and_then(|()| match plan.run.expect {
        Expectation::Survives => {
            let traffic = bench.start_traffic_of_any_driver()?;
            bench.stop_traffic(traffic).map(drop)
        }
        Expectation::Stalls => Ok(()),
    });
    measured.end = bench.status()?;
    // A stall that has its verdict is more than RPCs that do not go on.
    judge::judge(plan, &measured.seen()).map_err(Failure::Unmet)?;
    ended
}

/// Traffic under the plan, then a pause: a driver that reclaims when it sends or receives shows
/// only then that a transmit interrupt was lost.
fn put_to_work(bench: &mut Bench, plan: &Plan, measured: &mut Measured) -> Result<(), Failure> {
    let traffic = bench.start_traffic_of_any_driver()?;
    for moderation in &plan.moderation {
        done(bench, &Request::Moderation(*moderation))?;
    }
    measured.begin(bench.status()?);
    done(bench, &Request::Policies(plan.policies()))?;
    done(bench, &Request::Packets(plan.packets()))?;
    if let Some(behaviour) = plan.run.behaviour {
        bench.set_behaviour(behaviour.name())?;
    }
    let first = traffic.replies().all();
    let wanted = first + u64::from(plan.run.requests);
    let reached = match plan.run.expect {
        Expectation::Survives => bench.replies(&traffic, |now| now.all() >= wanted).map(drop),
        // There may be no more replies.
        Expectation::Stalls => {
            let limit = bench.vm.limit(CONTROL_LIMIT);
            watch(bench, plan, measured, limit, || traffic.replies().all() >= wanted)
        }
    };
    measured.rpcs = traffic.replies().all() - first;
    measured.traffic_ended(bench.status()?);
    measured.rx = schedule(bench, Vector::Rx)?;
    measured.tx = schedule(bench, Vector::Tx)?;
    match plan.run.expect {
        Expectation::Survives => {
            reached?;
            bench.stop_traffic(traffic)?;
            ask_in_vain(bench.vm.link(), QUIET);
            watch(bench, plan, measured, QUIET, || false)
        }
        Expectation::Stalls => {
            reached?;
            drop(traffic);
            let deadline = Instant::now() + bench.vm.limit(CONTROL_LIMIT);
            while judge::judge(plan, &measured.seen()).is_err() && Instant::now() < deadline {
                ask_in_vain(bench.vm.link(), QUIET);
                watch(bench, plan, measured, 2 * QUIET, || false)?;
            }
            Ok(())
        }
    }
}

/// Looks at the device for so long, or until it is enough, or a control has stalled.
fn watch(
    bench: &mut Bench,
    plan: &Plan,
    measured: &mut Measured,
    time: Duration,
    enough: impl Fn() -> bool,
) -> Result<(), Failure> {
    let end = Instant::now() + time;
    while Instant::now() < end && !enough() {
        std::thread::sleep(LOOK);
        measured.end = bench.status()?;
        if plan.run.expect == Expectation::Stalls && judge::judge(plan, &measured.seen()).is_ok() {
            break;
        }
    }
    Ok(())
}

fn done(bench: &mut Bench, request: &Request) -> Result<(), Failure> {
    match bench.vm.device(request)? {
        Reply::Done => Ok(()),
        other => Err(Failure::Unmet(format!("The device answers {other:?}"))),
    }
}

fn schedule(bench: &mut Bench, vector: Vector) -> Result<ScheduleReport, Failure> {
    match bench.vm.device(&Request::Schedule { vector })? {
        Reply::Schedule(schedule) => Ok(schedule),
        other => Err(Failure::Unmet(format!("The device answers {other:?}"))),
    }
}
