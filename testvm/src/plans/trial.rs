// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One plan with one driver.

use tsnic_protocol::plan::{Driver, Expectation, Plan};
use tsnic_protocol::{Counters, Reply, Request, ScheduleReport, Vector};

use crate::check::bench::Bench;
use crate::check::failure::{Failure, expect};

/// RPCs that must be answered once the policies have ended: nothing is stuck.
const AFTERWARDS: u64 = 20;

/// What was measured while a plan was at work.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// RPCs answered.
    pub rpcs: u64,
    /// The device's counters at the beginning.
    pub before: Counters,
    /// And at the end.
    pub after: Counters,
    /// What the policies decided for receive interrupts.
    pub rx: ScheduleReport,
    /// And for transmit interrupts.
    pub tx: ScheduleReport,
}

/// The drivers a plan is for: the one it names, or the stock driver and ours.
pub fn drivers(plan: &Plan) -> &'static [Driver] {
    match plan.run.driver {
        None => &[Driver::VirtioNet, Driver::TsnicV411],
        Some(Driver::VirtioNet) => &[Driver::VirtioNet],
        Some(Driver::TsnicV411) => &[Driver::TsnicV411],
        Some(Driver::TsnicV410) => &[Driver::TsnicV410],
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
    bench.use_driver(driver)?;
    let traffic = bench.start_traffic_of_any_driver()?;
    for moderation in &plan.moderation {
        done(bench, &Request::Moderation(*moderation))?;
    }
    done(bench, &Request::Policies(plan.policies()))?;
    measured.before = bench.status()?.counters;
    let first = traffic.replies().all();
    let wanted = first + u64::from(plan.run.requests);
    let reached = bench.replies(&traffic, |now| now.all() >= wanted);
    measured.rpcs = traffic.replies().all() - first;
    measured.after = bench.status()?.counters;
    measured.rx = schedule(bench, Vector::Rx)?;
    measured.tx = schedule(bench, Vector::Tx)?;
    // From here on nothing interferes, whatever comes of the rest.
    done(bench, &Request::Policies(tsnic_protocol::Policies::default()))?;
    for vector in [Vector::Rx, Vector::Tx] {
        let off = tsnic_protocol::Moderation { vector, usecs: 0, frames: 0 };
        done(bench, &Request::Moderation(off))?;
    }
    let lost = measured.after.lost - measured.before.lost;
    match plan.run.expect {
        Expectation::Survives => {
            reached?;
            expect(lost == 0, || format!("{lost} packets were lost"))?;
            let then = traffic.replies().all();
            bench.replies(&traffic, |now| now.all() >= then + AFTERWARDS)?;
            bench.end_traffic(traffic)?;
            Ok(())
        }
        Expectation::Stalls => {
            let stalls = lost + measured.after.lost_to_drops - measured.before.lost_to_drops;
            drop(traffic);
            expect(stalls > 0, || {
                format!(
                    "The device saw no stall in {} RPCs: this control has no power",
                    measured.rpcs
                )
            })
        }
    }
}

fn done(bench: &mut Bench, request: &Request) -> Result<(), Failure> {
    match bench.vm.device(request)? {
        Reply::Done => Ok(()),
        Reply::Error { message } => Err(Failure::Unmet(format!("The device refuses: {message}"))),
        other => Err(Failure::Unmet(format!("The device answers {other:?}"))),
    }
}

fn schedule(bench: &mut Bench, vector: Vector) -> Result<ScheduleReport, Failure> {
    match bench.vm.device(&Request::Schedule { vector })? {
        Reply::Schedule(schedule) => Ok(schedule),
        other => Err(Failure::Unmet(format!("The device answers {other:?}"))),
    }
}
